"""Carry one run of the queue out, in the process that was started for it; see `nectar.service.carrier`."""

from __future__ import annotations

import signal
from types import FrameType

from nectar import errors, settings
from nectar.actions.history import opened
from nectar.actions.rerun import Again, again, task_of_root
from nectar.actions.run import Options, runner_for
from nectar.errors import ExitCode
from nectar.execution.outcome import Event, Runner
from nectar.recording.capture import Echo
from nectar.runs import Journal, NewRun, RunState
from nectar.service.carrier import BEGUN_BEFORE


def carry_out(new: NewRun) -> int:
    """Carry a run out, and return its exit code, which is that of `nectar run`, or BEGUN_BEFORE.

    What happens is written to the run's journal, this process first: so it can be seen whether it is there.
    """
    stop = _Stop()
    signal.signal(signal.SIGTERM, stop)
    journal = Journal(settings.current().journals_dir, new.id)
    if not journal.claim():
        return BEGUN_BEFORE
    journal.state(RunState.STARTING)
    try:
        asked = _asked(new)
    except (errors.NectarError, KeyboardInterrupt) as error:
        stopped = isinstance(error, KeyboardInterrupt)
        journal.state(
            RunState.CANCELED if stopped else RunState.FAILURE,
            error="it was interrupted" if stopped else str(error).splitlines()[0],
        )
        return int(ExitCode.INTERRUPTED if stopped else type(error).exit_code)  # type: ignore[union-attr]
    finally:
        journal.close()
    options = Options(
        executor=new.executor,
        workers=new.workers or 1,
        tags=new.tags,
        echo=Echo.NO,
        source=new.source,
        run_id=new.id,
        parent_id=new.parent_id,
        root_id=new.root_id,
        select=asked.select,
        only=asked.only,
    )
    try:
        return int(stop.watched(runner_for(asked.tasks, _nobody, options)).execute().exit_code)
    except errors.NectarError as error:  # it is in the journal
        return int(type(error).exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)


def _asked(new: NewRun) -> Again:
    if new.options.get("failed") and new.parent_id is not None:
        with opened(settings.current()) as books:
            return again(settings.current(), books, books.run(new.parent_id), failed=True)
    return Again(tuple(task_of_root(settings.current(), new, root) for root in new.roots), new.select)


class _Stop:
    """What SIGTERM does: it interrupts what is at work, once, and lets nothing more begin.

    A task may swallow the interruption, as may a `requires()`; and whoever asks twice must not interrupt how the first
    one is answered.
    """

    def __init__(self) -> None:
        self._asked = False
        self._runner: Runner | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        again, self._asked = self._asked, True
        if self._runner is not None:
            self._runner.drain()
        if not again:
            raise KeyboardInterrupt

    def watched(self, runner: Runner) -> Runner:
        """Return the run that is not to go on once somebody has asked."""
        self._runner = runner
        if self._asked:
            runner.drain()
        return runner


def _nobody(event: Event) -> None:
    """Listen to nothing: the journal has it."""
