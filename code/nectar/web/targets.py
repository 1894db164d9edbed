"""The targets: record, files, a look at the first rows, and the runs that had to do with one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO
from urllib.parse import quote

from flask import Blueprint, Flask, Response, url_for
from werkzeug.routing import BaseConverter, ValidationError

from nectar import errors
from nectar.actions.show import show
from nectar.actions.targets import Place
from nectar.address import Address
from nectar.previews import preview as look
from nectar.records import PARAMS_NAME, RECORD_NAME, STDERR_NAME, STDOUT_NAME
from nectar.service.whole import Service
from nectar.stores import Inspection, Reader, State, stores_to_ask
from nectar.web import values
from nectar.web.envelope import answer, run_document

ROWS = 20  #: of a preview, unless more are asked for
_BLOCK = 1 << 16
_TYPES = {  # by suffix: what a browser may show; all else it stores
    "txt": "text/plain; charset=utf-8",
    "log": "text/plain; charset=utf-8",
    "md": "text/plain; charset=utf-8",
    "csv": "text/plain; charset=utf-8",
    "tsv": "text/plain; charset=utf-8",
    "jsonl": "text/plain; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
}


class _TargetConverter(BaseConverter):
    """The address of a target in a path."""

    part_isolating = False
    regex = r"[^/].*?/[0-9a-f]{32}"

    def to_python(self, value: str) -> Address:
        address = Address.read(value)
        if address is None or address.path != value:
            raise ValidationError
        return address

    def to_url(self, value: Any) -> str:
        return quote(str(value))


def install(app: Flask) -> None:
    """Let routes of an application name targets."""
    app.url_map.converters["target"] = _TargetConverter


def blueprint(service: Service) -> Blueprint:
    """Return the routes under `/api/targets`."""
    routes = Blueprint("targets", __name__)

    @routes.get("/api/targets/<target:address>")
    def one(address: Address) -> Response:
        values.options(())
        place, _ = _look(address)
        shown = show(place)
        record = shown.inspection.record
        files = [
            {"name": one.name, "url": url_for("targets.download", address=address, name=one.name, _external=True)}
            for one in (record.files if record is not None else ())
        ]
        return answer(shown.to_json() | {"files": files})

    @routes.get("/api/targets/<target:address>/files/<path:name>")
    def download(address: Address, name: str) -> Response:
        values.options(())
        reader, size = _file(address, name)
        suffix = name.rpartition(".")[2].lower()
        file = _opened(reader, address, name)
        response = Response(_blocks(file), content_type=_TYPES.get(suffix, _OTHER))
        response.call_on_close(file.close)  # also where nobody reads it, as after a HEAD
        if size is not None:
            response.content_length = size
        kind = "inline" if suffix in _TYPES else "attachment"
        response.headers.set("Content-Disposition", kind, filename=name.rpartition("/")[2])
        return response

    @routes.get("/api/targets/<target:address>/preview/<path:name>")
    def preview(address: Address, name: str) -> Response:
        rows = values.number(values.options(("rows",)), "rows", ROWS, least=1, most=1000)
        reader, _ = _file(address, name)
        with _opened(reader, address, name) as file:
            return answer({"target": address.path, "name": name} | look(name, file, rows).to_json())

    @routes.get("/api/targets/<target:address>/history")
    def history(address: Address) -> Response:
        given = values.options(("limit",))
        found = service.books.of_target(address.path, values.number(given, "limit", 100, least=1, most=1000))
        return answer({"target": address.path, "runs": list(map(run_document, found))})

    return routes


_OTHER = "application/octet-stream"
_BESIDE = (PARAMS_NAME, RECORD_NAME, STDOUT_NAME, STDERR_NAME)


def _look(address: Address) -> tuple[Place, Inspection]:
    """Return the first store of the settings that has a complete target there, else the one that comes first."""
    first: tuple[Place, Inspection] | None = None
    for store in stores_to_ask():
        found = Place(store, address), store.inspect(address)
        if found[1].complete:
            return found
        first = first or found
    assert first is not None, "there is always a store"
    return first


def _file(address: Address, name: str) -> tuple[Reader, int | None]:
    """Return the files of a target that is complete, and the size of one of them where its record tells it.

    Raises:
        TargetNotFound: when it is not complete, or has no such file.
    """
    place, found = _look(address)
    if not found.complete or found.record is None:
        state = "is not there" if found.state is State.MISSING else f"is {found.state.value}"
        raise errors.TargetNotFound(f"the target `{address}` {state}", hint="POST to its task to have it made")
    sizes = {entry.name: entry.size for entry in found.record.files}
    if name not in sizes and name not in _BESIDE:
        listed = ", ".join(f"`{one}`" for one in (*sizes, *_BESIDE))
        raise errors.TargetNotFound(f"`{address}` has no file `{name[:100]}`", hint=f"there is {listed}")
    return place.store.reader(address), sizes.get(name)


def _opened(reader: Reader, address: Address, name: str) -> BinaryIO:
    try:
        return reader.open(name)
    except FileNotFoundError as error:
        raise errors.TargetNotFound(f"`{address}` has no file `{name}`", hint="another tool made the target") from error


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block
