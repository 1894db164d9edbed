"""Keep the descriptions of chains between processes, for as long as nothing that they came from has changed.

One JSON document a chain in `<state_dir>/chains/`; deleting them at any time loses nothing but seconds.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import secrets
import sys
from datetime import date
from pathlib import Path

from nectar.chain.description import ChainDescription
from nectar.chain.finder import ChainName
from nectar.chain.isolation import Imported
from nectar.settings import Settings

FORMAT = 2  #: of the document; another one is not read

log = logging.getLogger(__name__)


def load(settings: Settings, chain: ChainName) -> ChainDescription | None:
    """Return the description that was kept; None where there is none or it may no longer be true.

    It is true while Python, Nectar and luigi have the same versions and each file of the project that the import
    loaded has the same time and size, and for a day: a default may be the day of the import. A file that is no such
    document counts as none.
    """
    try:
        document = json.loads(_place(settings, chain).read_bytes())
        if document["made_by"] != _made_by() or document["chain"] != chain.path:
            return None
        if chain.file_in(settings.root) not in document["files"]:
            return None
        if document["day"] != _day():
            return None
        for file, stamp in document["files"].items():
            status = os.stat(os.path.join(settings.root, file))
            if [status.st_mtime_ns, status.st_size] != stamp:
                return None
        return ChainDescription.from_json(document["description"])
    # Absent, unreadable, or garbage of any shape: what it should say is found out again.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def save(settings: Settings, chain: ChainName, imported: Imported) -> None:
    """Keep a description, whole or not at all; not one whose files were written while they were imported.

    Where nothing can be written (a project on a read-only disk) nothing is kept, and a line of the log says so.
    """
    if not imported.is_settled:
        return
    document = {
        "made_by": _made_by(),
        "chain": chain.path,
        "day": _day(),
        "files": {file: list(stamp) for file, stamp in imported.files.items()},
        "description": imported.description.to_json(),
    }
    try:
        _write(_place(settings, chain), json.dumps(document))
    except OSError as error:
        log.info("chain description not kept", extra={"chain": chain.path, "reason": str(error)})


def _place(settings: Settings, chain: ChainName) -> Path:
    return settings.state_dir / "chains" / f"{chain.type}.{chain.name}.json"


def _write(place: Path, text: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f".{place.name}.{secrets.token_hex(8)}")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, place)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def _day() -> str:
    return date.today().isoformat()  # noqa: DTZ011  as a chain's `date.today()` says it


@functools.cache
def _made_by() -> dict[str, object]:
    return {
        "format": FORMAT,
        "python": sys.version,
        "nectar": _version("nectar-chains"),
        "luigi": _version("luigi"),
    }


def _version(distribution: str) -> str | None:
    from importlib import metadata  # late: it takes longer to import than all of this package

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # imported from a source tree
        return None
