"""Commit attempts together: one sync of the disk for many targets.

An engine opens a group around several tasks that do not need each other. Each task is sealed when it ends and
published when the group is, so that its `run()` returning does not mean yet that its target is there.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from nectar import errors
from nectar.recording.attempt import Attempt, Outcome
from nectar.stores import Commitment, Finished, State, Store


@dataclass(frozen=True, slots=True)
class _Waiting:
    attempt: Attempt
    finished: Finished
    published: Callable[[Commitment], None]
    lost: Callable[[Outcome], None]


@dataclass(slots=True)
class Group:
    """Attempts that wait to be published together."""

    _waiting: list[_Waiting] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(
        self,
        attempt: Attempt,
        finished: Finished,
        published: Callable[[Commitment], None],
        lost: Callable[[Outcome], None],
    ) -> None:
        """Let an attempt wait; `published` hears of its commit, `lost` how it ended when the store failed."""
        self._waiting.append(_Waiting(attempt, finished, published, lost))

    def commit(self) -> dict[str, errors.StoreError]:
        """Publish all that waits; return the error of each attempt that could not be, by attempt.

        A store that fails in the middle may have published some, which stay.
        """
        waiting, self._waiting = self._waiting, []
        by_store: dict[int, tuple[Store, list[_Waiting]]] = {}
        for one in waiting:
            store = one.attempt.work.store
            by_store.setdefault(id(store), (store, []))[1].append(one)
        failed: dict[str, errors.StoreError] = {}
        for store, members in by_store.values():
            try:
                commitments = store.commit([one.finished for one in members])
            except errors.StoreError as error:
                failed.update(_sort_out(store, members, error))
            else:
                for one, commitment in zip(members, commitments, strict=True):
                    one.published(commitment)
        return failed


def _sort_out(store: Store, members: list[_Waiting], error: errors.StoreError) -> dict[str, errors.StoreError]:
    failed = {}
    for one in members:
        name = one.finished.staging.attempt
        try:
            found = store.inspect(one.finished.staging.address, leftovers=False)
        except errors.StoreError as second:
            failed[name] = second
            continue
        if found.state is State.COMPLETE and found.record is not None and found.record.attempt == name:
            # It is there, but nobody knows whether it would outlive a power loss: the next run finds it.
            one.lost(Outcome(name, True, f"{one.finished.staging.address}/log", str(error)))
        else:
            one.lost(_failed(one.attempt, name, error))
        failed[name] = error
    return failed


def _failed(attempt: Attempt, name: str, error: errors.StoreError) -> Outcome:
    try:
        return attempt.fail(error)
    except errors.StoreError:  # the disk that cannot publish may not keep logs either
        return Outcome(name, False, None, str(error))


_of_thread = threading.local()


def group_at_work() -> Group | None:
    """Return the group that tasks of this thread end in, None where each commits by itself."""
    return getattr(_of_thread, "group", None)


@contextlib.contextmanager
def grouped(group: Group | None) -> Iterator[None]:
    """Let the tasks that end meanwhile wait in `group`; None: let each commit by itself."""
    before = group_at_work()
    _of_thread.group = group
    try:
        yield
    finally:
        _of_thread.group = before
