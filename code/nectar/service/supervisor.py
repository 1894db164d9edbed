"""Take runs from the queue, start a process for each, and see to it that every run comes to an end in the books.

Runs outlive the server that started them: another one that comes up finds them in the books, and goes on watching.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from nectar import errors
from nectar.actions.cancel import cancel
from nectar.actions.history import note_the_dead
from nectar.records import utc_now
from nectar.runs import NO_LIMITS, Filter, Limits, Process, Run, RunState, RunStore, is_alive, this_process
from nectar.settings import Settings

LOOK_S = 0.2  #: between two looks at the queue, the journals and the processes
DEAD_S = 3.0  #: between two looks for runs that died without anybody seeing it
TAIL = 500  #: characters of what a process printed before it died that are told

_PACKAGES = Path(__file__).resolve().parents[2]  # the folder from which `nectar` was imported

log = logging.getLogger(__name__)


class Supervisor:
    """The part of a server that carries runs out, in a thread of its own; any thread may call its methods."""

    def __init__(self, settings: Settings, books: RunStore, *, at_once: int, limits: Limits = NO_LIMITS) -> None:
        """Name what it works with; `at_once` is how many runs it starts before one of them has to end."""
        self._settings, self._books, self._at_once, self._limits = settings, books, at_once, limits
        self._name = str(this_process())
        self._children: dict[str, subprocess.Popen[bytes]] = {}  # by run id
        self._canceling: dict[str, Future[Run]] = {}  # by run id
        self._pool = ThreadPoolExecutor(4, "nectar-cancel")
        self._news = threading.Event()
        self._draining = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="nectar-supervisor", daemon=True)
        self._looked_for_dead_at = float("-inf")
        self._adopted = 0  # runs at work that a server started which is there no more
        self._quiet_since = True  # nothing went wrong at the last look

    def start(self) -> None:
        """Begin: what an earlier server left behind is put right first."""
        self._thread.start()

    def wake(self) -> None:
        """Look at once: there is something new in the queue, or to cancel."""
        self._news.set()

    @property
    def draining(self) -> bool:
        """True when no more runs are started."""
        return self._draining.is_set()

    @property
    def at_work(self) -> int:
        """How many runs this server started that have not ended."""
        return len(self._children)

    def drain(self, patience_s: float) -> None:
        """Start no more runs, and wait for those at work; what has not ended after `patience_s` seconds is canceled.

        What waits in the queue stays there, for the next server.
        """
        self._draining.set()
        deadline = time.monotonic() + patience_s
        while self._children and time.monotonic() < deadline:
            self._done.wait(LOOK_S)
        for run_id in list(self._children):
            with contextlib.suppress(errors.NectarError):  # it has ended meanwhile
                self._books.advance(run_id, RunState.CANCELING, at=utc_now())
        self.wake()
        while self._children and self._thread.is_alive():
            self._done.wait(LOOK_S)

    def stop(self) -> None:
        """End the thread; runs that are at work go on."""
        self._draining.set()
        self._done.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _work(self) -> None:
        while not self._done.is_set():
            try:
                self._look()
                self._quiet_since = True
            except errors.RunStoreError as error:  # runs go on without the books, and are taken in when they are back
                if self._quiet_since:
                    log.warning("the runs cannot be looked after, which is tried again: %s", error.message)
                self._quiet_since = False
            except Exception:
                log.exception("the runs could not be looked after")
            self._news.wait(LOOK_S)
            self._news.clear()

    def _look(self) -> None:
        self._books.take_in(self._settings.journals_dir)
        if time.monotonic() - self._looked_for_dead_at > DEAD_S:
            self._looked_for_dead_at = time.monotonic()
            note_the_dead(self._books, self._settings)
            self._adopted = sum(map(_is_orphan, self._books.stale(utc_now(), timedelta(0))))
        self._reap()
        self._cancel()
        while not self.draining and len(self._children) + self._adopted < self._at_once:
            run = self._books.claim(self._name, self._limits, now=utc_now())
            if run is None:
                return
            self._begin(run)

    def _begin(self, run: Run) -> None:
        """Start the process of a run; where that cannot be, the run has crashed."""
        place = self._output_of(run.id)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with open(place, "wb") as output, open(os.memfd_create("run"), "w+b", buffering=0) as told:
                told.write(json.dumps(run.new.to_json()).encode("ascii"))
                told.seek(0)
                child = subprocess.Popen(
                    [sys.executable, "-m", "nectar.service.carrier", run.id],
                    stdin=told,
                    stdout=output,
                    stderr=output,
                    cwd=_PACKAGES,  # this very `nectar`, installed or not; the process goes to the root by itself
                    env={**os.environ, "NECTAR_PROJECT": str(self._settings.root)},
                    start_new_session=True,
                )
        except OSError as error:
            reason = f"its process cannot be started: {error.strerror or error}"
            self._books.advance(run.id, RunState.CRASHED, at=utc_now(), error=reason)
            return
        self._children[run.id] = child
        log.info("run %s started, process %d: %r", run.id, child.pid, [root.task for root in run.roots])

    def _reap(self) -> None:
        """Note how processes ended."""
        ended = [run_id for run_id, child in self._children.items() if child.poll() is not None]
        if not ended:
            return
        self._books.take_in(self._settings.journals_dir)
        for run_id in ended:
            run = self._books.run(run_id)
            if run.state is RunState.CANCELING:
                run = self._books.advance(run_id, RunState.CANCELED, at=utc_now(), error="it was canceled")
            elif not run.state.final:
                error = self._ending(run_id, self._children[run_id].returncode)
                run = self._books.advance(run_id, RunState.CRASHED, at=utc_now(), error=error)
            log.info("run %s ended: %s %r", run_id, run.state.value, run.error or "")
            del self._children[run_id]
            self._output_of(run_id).unlink(missing_ok=True)

    def _ending(self, run_id: str, code: int) -> str:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        try:
            with open(self._output_of(run_id), "rb") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - 4 * TAIL, 0))
                printed = file.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            printed = []
        return f"its process {how} without a word" + (f"; the last it printed: {printed[-1][:TAIL]}" if printed else "")

    def _cancel(self) -> None:
        """End the processes of this host that belong to runs which are to be canceled."""
        for run_id in [run_id for run_id, one in self._canceling.items() if one.done()]:
            error = self._canceling.pop(run_id).exception()
            if error is not None and not isinstance(error, errors.RunStateConflict):  # it had ended by itself
                log.warning("a run could not be canceled, which is tried again: %s", error, extra={"run_id": run_id})
        for run in self._books.list(Filter(states=(RunState.CANCELING,)), 1000).rows:
            if run.id in self._canceling:
                continue
            if run.process is not None and run.process.host == socket.gethostname() and is_alive(run.process):
                self._canceling[run.id] = self._pool.submit(cancel, self._books, self._settings, run.id)
            elif run.process is None and run.id in self._children:
                self._children[run.id].kill()  # it has not begun with anything

    def _output_of(self, run_id: str) -> Path:
        """Return the file of what a run's process prints beside its tasks: it is told where the process dies."""
        return self._settings.runs_dir / "output" / f"{run_id}.log"


def _is_orphan(run: Run) -> bool:
    """Say whether a run is carried out on this host, and the server that started it is gone."""
    server = Process.read(run.server)
    return server is not None and server.host == socket.gethostname() and is_alive(server) is False
