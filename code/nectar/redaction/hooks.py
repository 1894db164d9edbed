"""Mask values where Python itself writes about what happens: log messages, and errors that nobody catches."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from types import TracebackType
from typing import Any

from nectar.redaction import known

_installed = threading.Event()


def install() -> None:
    """Let all log messages and tracebacks of this process be masked, whoever writes them; once."""
    if _installed.is_set():
        return
    _installed.set()
    before = logging.getLogRecordFactory()

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        return _masked(before(*args, **kwargs))

    logging.setLogRecordFactory(make)
    show = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        known.cleanse(error)
        show(type(error), error, trace)

    sys.excepthook = tell


def _masked(message: logging.LogRecord) -> logging.LogRecord:
    try:
        text = message.getMessage()
    except Exception:  # arguments that do not fit: logging itself says so, with them
        message.msg, message.args = known.redacted(str(message.msg)), known.redacted_tree(message.args)
    else:
        if (masked := known.redacted(text)) != text:
            message.msg, message.args = masked, ()
    info = message.exc_info
    if info and info[0] is not None:
        shown = "".join(traceback.format_exception(*info)).rstrip("\n")
        if (masked := known.redacted(shown)) != shown:
            message.exc_info, message.exc_text = None, masked
    if message.stack_info:
        message.stack_info = known.redacted(message.stack_info)
    return message
