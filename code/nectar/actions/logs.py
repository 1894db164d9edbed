"""Find the logs of a target, or of an attempt that failed or is at work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nectar import errors
from nectar.actions.targets import Place
from nectar.records import STDERR_NAME, STDOUT_NAME


@dataclass(frozen=True, slots=True)
class Logs:
    """What one attempt printed."""

    attempt: str
    path: str  #: of the attempt or target, relative to the store
    state: str  #: `published`, `failed` or `at work`
    stdout: str
    stderr: str

    def to_json(self) -> dict[str, Any]:
        """Return the logs as a JSON value."""
        return {
            "attempt": self.attempt,
            "path": self.path,
            "state": self.state,
            "stdout": self.stdout,
            "stderr": self.stderr,
        }


def logs(place: Place, attempt: str | None = None) -> Logs:
    """Return the logs of the newest attempt, or of the one whose name begins with `attempt`.

    Bytes that are not UTF-8 are shown as escapes.

    Raises:
        TargetNotFound: when there is no such attempt.
        StoreUnreachable: when the store cannot be read.
    """
    store, address = place.store, place.address
    candidates = [
        (one.attempt, one.path, "at work" if one.running else "failed") for one in store.reader(address).attempts()
    ]
    record = store.inspect(address, leftovers=False).record
    if record is not None:
        candidates.append((record.attempt, address.path, "published"))
    matching = sorted(one for one in candidates if attempt is None or one[0].startswith(attempt))
    if not matching:
        what = f"no attempt `{attempt}`" if attempt else "no attempt"
        raise errors.TargetNotFound(f"{what} at `{address}` in `{store.url}`", hint="`nectar show` lists the attempts")
    name, path, state = matching[-1]
    reader = store.reader(address, None if state == "published" else name)
    texts = {}
    for log in (STDOUT_NAME, STDERR_NAME):
        try:
            with reader.open(log) as file:
                texts[log] = file.read().decode("utf-8", "backslashreplace")
        except FileNotFoundError:
            texts[log] = ""  # it ended before anything could be printed
    return Logs(name, path, state, texts[STDOUT_NAME], texts[STDERR_NAME])
