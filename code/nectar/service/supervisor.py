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
import threading
import time
from datetime import timedelta
from pathlib import Path

from nectar import errors
from nectar.actions.cancel import cancel
from nectar.actions.history import note_the_dead
from nectar.chain.isolation import start_module
from nectar.records import utc_now
from nectar.runs import NO_LIMITS, Filter, Journal, Limits, Process, Run, RunState, RunStore, is_alive, this_process
from nectar.service.carrier import BEGUN_BEFORE
from nectar.settings import Settings

LOOK_S = 0.2  #: between two looks at the queue, the journals and the processes
DEAD_S = 3.0  #: between two looks for runs that died without anybody seeing it
CANCELS = 16  #: runs that are ended at the same time
CANCELED_S = 20.0  #: within which the runs of a server that ends have to be canceled
AT_ONCE_S = 2.0  #: for what a server is just doing, when it is to end at once
TAIL = 500  #: characters of what a process printed before it died that are told

log = logging.getLogger(__name__)


class Supervisor:
    """The part of a server that carries runs out, in a thread of its own; any thread may call its methods."""

    def __init__(self, settings: Settings, books: RunStore, *, at_once: int, limits: Limits = NO_LIMITS) -> None:
        """Name what it works with; `at_once` is how many runs it starts before one of them has to end."""
        self._settings, self._books, self._at_once, self._limits = settings, books, at_once, limits
        self._name = str(this_process())
        self._children: dict[str, subprocess.Popen[bytes]] = {}  # by run id
        self._canceling: dict[str, threading.Thread] = {}  # by run id
        self._news = threading.Event()
        self._draining = threading.Event()
        self._taking = threading.Lock()  # held while a run is taken from the queue and started
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="nectar-supervisor", daemon=True)
        self._looked_for_dead_at = float("-inf")
        self._orphans: list[Run] = []  # on this host, taken by servers that are there no more
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
        deadline = time.monotonic() + patience_s
        self._draining.set()
        if self._taking.acquire(timeout=patience_s):  # what is just being started is at work as well
            self._taking.release()
        while self._children and time.monotonic() < deadline:
            self._done.wait(LOOK_S)
        for run_id in list(self._children):
            with contextlib.suppress(errors.NectarError):  # it has ended meanwhile
                self._books.advance(run_id, RunState.CANCELING, at=utc_now())
        self.wake()
        deadline = time.monotonic() + CANCELED_S
        while self._children and self._thread.is_alive() and time.monotonic() < deadline:
            self._done.wait(LOOK_S)
        if self._children:
            log.warning("%d runs could not be canceled, and go on", len(self._children))

    def stop(self) -> None:
        """End the thread; runs that are at work go on, and the next server ends those that are to be canceled."""
        self._draining.set()
        self._done.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join(AT_ONCE_S)  # it may wait for the books

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
        self._reap()  # before others are asked about: how a child ended nobody else knows
        if time.monotonic() - self._looked_for_dead_at > DEAD_S:
            self._looked_for_dead_at = time.monotonic()
            note_the_dead(self._books, self._settings)
            self._orphans = [run for run in self._books.stale(utc_now(), timedelta(0)) if _is_orphan(run)]
        self._cancel()
        with self._taking:
            while not self.draining and self._has_room():
                run = self._left_to_begin() or self._books.claim(self._name, self._limits, now=utc_now())
                if run is None:
                    return
                self._begin(run)

    def _has_room(self) -> bool:
        self._orphans = [run for run in self._orphans if run.process is None or is_alive(run.process)]
        adopted = [run for run in self._orphans if run.process is not None and run.id not in self._children]
        return len(self._children) + len(adopted) < self._at_once

    def _left_to_begin(self) -> Run | None:
        """Return a run whose server did not live to start its process.

        Should it have done so a moment before it died, or another server do so now, then only the first process that
        makes the run's journal carries it out.
        """
        while waiting := [run for run in self._orphans if run.process is None and run.id not in self._children]:
            self._orphans.remove(waiting[0])
            run = self._books.run(waiting[0].id)
            begun = run.state is not RunState.STARTING or run.process is not None
            if not begun and not Journal(self._settings.journals_dir, run.id).path.exists():
                return run
        return None

    def _begin(self, run: Run) -> None:
        """Start the process of a run; where that cannot be, the run has crashed."""
        place = self._output_of(run.id)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with open(place, "wb") as output, open(os.memfd_create("run"), "w+b", buffering=0) as told:
                told.write(json.dumps(run.new.to_json()).encode("ascii"))
                told.seek(0)
                root, carrier = str(self._settings.root), "nectar.service.carrier"
                child = start_module(carrier, run.id, root=root, stdin=told, stdout=output, stderr=output)
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
            code = self._children[run_id].returncode
            if run.state is RunState.CANCELING:
                run = self._books.advance(run_id, RunState.CANCELED, at=utc_now(), error="it was canceled")
            elif not run.state.final and code != BEGUN_BEFORE:
                run = self._books.advance(run_id, RunState.CRASHED, at=utc_now(), error=self._ending(run_id, code))
            if run.state.final:
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
        self._canceling = {run_id: thread for run_id, thread in self._canceling.items() if thread.is_alive()}
        for run in self._books.list(Filter(states=(RunState.CANCELING,)), 1000).rows:
            if run.id in self._canceling or len(self._canceling) >= CANCELS:
                continue
            if run.id not in self._children and _has_server(run):
                continue  # which ends it
            if run.process is not None and run.process.host == socket.gethostname() and is_alive(run.process):
                # A daemon: where the server ends at once, the next one goes on with it.
                thread = threading.Thread(target=self._end, args=(run.id,), name="nectar-cancel", daemon=True)
                self._canceling[run.id] = thread
                thread.start()
            elif run.process is None and run.id in self._children:
                self._children[run.id].kill()  # it has not begun with anything
            elif run.process is None and _is_orphan(run) and Journal(self._settings.journals_dir, run.id).claim():
                # From now on no process can begin with it.
                self._books.advance(run.id, RunState.CANCELED, at=utc_now(), error="it was canceled before it began")

    def _end(self, run_id: str) -> None:
        try:
            cancel(self._books, self._settings, run_id)
        except errors.RunStateConflict:
            pass  # it had ended by itself
        except Exception:  # at the border of a thread, and tried again
            log.exception("the run %s could not be canceled, which is tried again", run_id)

    def _output_of(self, run_id: str) -> Path:
        """Return the file of what a run's process prints beside its tasks: it is told where the process dies."""
        return self._settings.runs_dir / "output" / f"{run_id}.log"


def _is_orphan(run: Run) -> bool:
    """Say whether a run was taken by a server of this host that is gone."""
    server = Process.read(run.server)
    return server is not None and is_alive(server) is False


def _has_server(run: Run) -> bool:
    """Say whether the server that took a run is there, as far as this host can know."""
    server = Process.read(run.server)
    return server is not None and is_alive(server) is not False
