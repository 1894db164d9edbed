"""The floor: a loop that writes the files of a target, and does nothing else that Nectar does.

`wide` writes the same five files as Nectar into a folder of their own and renames it; `wide-durable` also makes them
outlive a power loss, as Nectar's `durability = "group"` does: one `syncfs`, the renames, then the names.
"""

from __future__ import annotations

import ctypes
import os

from timed import Action, Order, answer, expect

GROUP = 100  #: folders that are made durable together
RECORD = b"{\n" + b' "this line is as long as one of a record": "and there are thirty of them"\n' * 20 + b"}\n"

_libc = ctypes.CDLL(None, use_errno=True)


def _wide(order: Order) -> Action:
    return lambda: _write_all(order, durable=False)


def _wide_durable(order: Order) -> Action:
    return lambda: _write_all(order, durable=True)


def _write_all(order: Order, durable: bool) -> None:
    staging = f"{order.folder}/.staging"
    os.makedirs(staging)
    for first in range(0, order.tasks + 1, GROUP):  # one more: the sink
        names = [f"{number:032x}" for number in range(first, min(first + GROUP, order.tasks + 1))]
        for name in names:
            _write_target(f"{staging}/{name}")
        if durable:
            _sync_file_system(staging)
        for name in names:
            os.rename(f"{staging}/{name}", f"{order.folder}/{name}")
        if durable:
            _sync_names(order.folder)


def _write_target(folder: str) -> None:
    os.mkdir(folder)
    os.mkdir(f"{folder}/log")
    for name, content in (
        ("params.txt", b'{\n "number": 1\n}\n'),
        ("log/stdout.log", b""),
        ("log/stderr.log", b""),
        ("out.txt", b"1\n"),
        ("record.json", RECORD),
    ):
        with open(f"{folder}/{name}", "wb") as file:
            file.write(content)


def _sync_file_system(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    expect(_libc.syncfs(descriptor) == 0, "syncfs failed")
    os.close(descriptor)


def _sync_names(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


if __name__ == "__main__":
    answer({"wide": _wide, "wide-durable": _wide_durable})
