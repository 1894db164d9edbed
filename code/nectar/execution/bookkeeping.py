"""Write down in a run's journal what its execution tells, from the plan to the end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import luigi

from nectar import errors, settings
from nectar.execution.choice import Options
from nectar.execution.outcome import Event, EventKind, Listener, Runner, RunResult, StepStatus
from nectar.recording.run import Run
from nectar.records import utc_now
from nectar.runs import Journal, NewRun, RunState
from nectar.task.history import root_of

BEAT_S = 5.0  #: between signs of life
LOOK_S = 0.5  #: a step that has not ended for so long is written down as running


def options_told(options: Options) -> dict[str, Any]:
    """Return what the history says of how a run was wanted, beside its executor and tags."""
    told: dict[str, Any] = {"force": options.force.value, "fail_fast": options.fail_fast}
    chosen = {"select": options.select, "preset": options.preset}
    return told | {name: text for name, text in chosen.items() if text is not None}


class Bookkeeper:
    """Keeps the journal of one run, and passes on to a listener all that it is told."""

    def __init__(self, run: Run, listener: Listener, options: Options) -> None:
        self._run, self._listener, self._options = run, listener, options
        self._journal = Journal(settings.current().journals_dir, run.id)
        self._begun: dict[str, Event] = {}  # by ref: of steps that are not written down yet
        self._guard = threading.Lock()

    def open(self, roots: Sequence[luigi.Task], *, planned: bool) -> None:
        """Begin the history of the run; the keys of the roots are told where the plan has found them."""
        if self._options.run_id is not None:  # whoever gave the id has said what it was asked for
            return
        new = NewRun(
            id=self._run.id,
            created_at=utc_now(),
            roots=tuple(root_of(one, identified=planned) for one in roots),
            tags=self._run.tags,
            source=self._options.source,
            executor=self._options.executor,
            workers=self._options.workers,
            options=options_told(self._options),
            parent_id=self._options.parent_id,
            root_id=self._options.root_id,
        )
        self._journal.create(new)

    def listen(self, event: Event) -> None:
        """Write an event down, and pass it on."""
        self._write(event)
        self._listener(event)

    def _write(self, event: Event) -> None:
        if event.kind is EventKind.RUN_STARTED:
            self._journal.state(RunState.RUNNING, at=event.at)
            self._journal.event(event.kind.value, detail={"planned": event.planned}, at=event.at)
        elif event.kind is EventKind.STEP_STARTED and event.ref is not None and event.task is not None:
            with self._guard:
                self._begun[event.ref] = event
        elif event.kind is EventKind.ATTEMPT_FAILED and event.step is not None:
            step = event.step
            self._journal.attempt(
                step.ref, step.attempts, task=step.task, outcome="failed", error=step.error, logs=step.logs, at=event.at
            )
        elif event.kind is EventKind.STEP_ENDED and event.step is not None:
            step = event.step
            with self._guard:
                self._begun.pop(step.ref, None)  # it ended before anybody had to know that it had begun
            self._journal.step(
                step.ref,
                step.task,
                step.status.value,
                path=step.path,
                attempts=step.attempts,
                seconds=step.seconds,
                error=step.error,
                code=step.code,
                hint=step.hint,
                logs=step.logs,
                at=event.at,
            )
        elif event.kind in (EventKind.STEP_MESSAGE, EventKind.STEP_PROGRESS):
            self._journal.event(event.kind.value, task=event.task, detail=event.detail, at=event.at)

    def keep(self, runner: Runner) -> Runner:
        """Return the run, which writes down how it ends."""
        return _Kept(self, runner)

    def failed(self, error: BaseException) -> None:
        """Write down that the run ended with an error of its own."""
        text = error.message.splitlines()[0] if isinstance(error, errors.NectarError) else str(error)
        interrupted = isinstance(error, KeyboardInterrupt)
        self._journal.state(RunState.CANCELED if interrupted else RunState.FAILURE, error=text or type(error).__name__)
        self._journal.close()

    def ended(self, result: RunResult) -> None:
        """Write down how the run ended, with what was complete before."""
        skipped = ((one.ref, one.task, one.path) for one in result.steps if one.status is StepStatus.SKIPPED)
        self._journal.steps(skipped, StepStatus.SKIPPED.value)  # of which no event tells
        if result.interrupted:
            self._journal.state(RunState.CANCELED, error="it was interrupted")
        elif result.success:
            self._journal.state(RunState.SUCCESS)
        else:
            bad = next(step for step in result.steps if step.status in (StepStatus.FAILED, StepStatus.BLOCKED))
            self._journal.state(RunState.FAILURE, error=f"{bad.task}: {bad.error}")
        self._journal.close()

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Give signs of life, and write down which steps are at work, for a while.

        Under luigi there is no thread for it: luigi forks, and a child of a process with threads may hang.
        """
        if self._options.executor == "luigi":
            yield
            return
        done = threading.Event()
        thread = threading.Thread(target=self._beat, args=(done,), name="nectar-journal", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _beat(self, done: threading.Event) -> None:
        waited = 0.0
        while not done.wait(LOOK_S):
            now = utc_now()
            with self._guard:
                late = [ref for ref, one in self._begun.items() if (now - one.at).total_seconds() > LOOK_S]
                for ref in late:
                    one = self._begun.pop(ref)
                    self._journal.step(ref, one.task or ref, "running", path=one.path, at=one.at)
            waited += LOOK_S
            if waited >= BEAT_S:
                waited = 0.0
                self._journal.beat()


class _Kept:
    """A run that writes down how it ends. See `nectar.execution.outcome.Runner`."""

    def __init__(self, book: Bookkeeper, runner: Runner) -> None:
        self._book, self._runner = book, runner

    def drain(self) -> None:
        self._runner.drain()

    def execute(self) -> RunResult:
        try:
            with self._book.beating():
                result = self._runner.execute()
        except BaseException as error:
            self._book.failed(error)
            raise
        self._book.ended(result)
        return result
