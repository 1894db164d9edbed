"""What this process knows is masked in texts, errors, log messages, parameters and metrics."""

from __future__ import annotations

import builtins
import io
import json
import logging
import subprocess
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import luigi
import pytest

import nectar
from nectar import errors
from nectar.recording.metrics import reporting
from nectar.redaction import hooks, known

SECRET = "hunter2-of-the-test"


@pytest.fixture(autouse=True)
def learned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A value that is known for as long as a test."""
    factory = logging.getLogRecordFactory()
    monkeypatch.setattr(known, "_sieve", None)
    monkeypatch.setattr(known, "_values", set())
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    hooks._installed.clear()
    known.learn(SECRET)
    yield
    logging.setLogRecordFactory(factory)
    hooks._installed.clear()


class OddError(Exception):
    def __init__(self, value: str) -> None:
        self._parts = (object(), [value])

    def __str__(self) -> str:
        return f"odd: {self._parts[1][0]}"


class StrangeError(Exception):
    exceptions = ("not", "errors")

    @property
    def name(self) -> str:
        raise RuntimeError("asked too early")


class StubbornError(Exception):
    def __str__(self) -> str:
        return f"stubborn {SECRET}"


def raised(error: BaseException) -> BaseException:
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


ERRORS = {
    "arguments": lambda: RuntimeError("x", {"a": [SECRET]}, SECRET.encode()),
    "a key": lambda: KeyError(SECRET),
    "a file's name": lambda: FileNotFoundError(2, "no such file", f"/tmp/{SECRET}"),
    "a command": lambda: subprocess.CalledProcessError(1, ["psql", SECRET], output=SECRET),
    "a syntax error": lambda: SyntaxError("bad", ("f.py", 1, 1, f"x = {SECRET!r}")),
    "an exit": lambda: SystemExit(SECRET),
    "a module": lambda: ImportError(SECRET, name=SECRET, path=SECRET),
    "an attribute that is no error": lambda: StrangeError(SECRET),
    "attributes": lambda: OddError(SECRET),
    "words of its own": StubbornError,
    "Nectar's own": lambda: errors.UsageError(f"bad {SECRET}", hint=f"use {SECRET}"),
    "a bad parameter": lambda: errors.InvalidParameters("no", problems=[errors.ParameterProblem("a", SECRET, SECRET)]),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_tells_no_secret_and_stays_of_its_class(kind: str) -> None:
    error = raised(ERRORS[kind]())
    error.__dict__.setdefault("__notes__", []).append(f"note {SECRET}")
    wanted = type(error)
    known.cleanse(error)
    told = "".join(traceback.format_exception(type(error), error, error.__traceback__)) + repr(error) + str(error.args)
    told = told.replace('f"stubborn {SECRET}"', "")
    assert SECRET not in told and "******" in told
    assert isinstance(error, wanted) and type(error).__name__ == wanted.__name__


def test_what_caused_an_error_tells_none_either() -> None:
    def fail() -> None:
        try:
            raise ValueError(SECRET)
        except ValueError:
            raise RuntimeError("later") from KeyError(SECRET)

    with pytest.raises(RuntimeError) as caught:
        fail()
    known.cleanse(caught.value)
    told = "".join(traceback.format_exception(type(caught.value), caught.value, caught.value.__traceback__))
    assert SECRET not in told
    assert SECRET not in str(caught.value.__context__)


def test_an_error_without_a_secret_is_left_as_it_is() -> None:
    error = RuntimeError("plain", ["list"])
    before = error.args
    known.cleanse(error)
    assert error.args is before or error.args == before
    assert error.args[1] is before[1]


def test_log_messages_tell_no_secret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shown = io.StringIO()
    handler = logging.StreamHandler(shown)
    log = logging.getLogger("test of secrets")
    monkeypatch.setattr(log, "propagate", False)  # what does not fit raises in the handlers of pytest
    log.addHandler(handler)
    try:
        log.warning("value %s", SECRET)
        log.warning(*("one %s too few %s", SECRET))
        try:
            raise ValueError(SECRET)
        except ValueError:
            log.exception("it failed")
        log.warning("plain %s", "text")
    finally:
        log.removeHandler(handler)
    assert "Logging error" in (wrong := capsys.readouterr().err)
    assert SECRET not in wrong
    assert SECRET not in shown.getvalue()
    assert "value ******" in shown.getvalue() and "ValueError: ******" in shown.getvalue()
    assert "plain text" in shown.getvalue()


def test_a_task_is_not_given_the_value_of_a_secret_as_a_plain_parameter() -> None:
    class LoginTask(nectar.Task):
        password = luigi.Parameter()
        options = luigi.DictParameter(default={})
        hidden = luigi.Parameter(default="", visibility=luigi.parameter.ParameterVisibility.PRIVATE)

    with pytest.raises(errors.IdentityError, match=r"as its parameter `password`, `options`") as caught:
        LoginTask(password=SECRET, options={"url": f"https://{SECRET}@host"})
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(LoginTask(password="p", hidden=SECRET))


def test_a_metric_holds_no_secret() -> None:
    kept: dict[str, Any] = {}
    with reporting(kept):
        nectar.track_this(value={SECRET: [SECRET]}, **{SECRET: 1})
    assert SECRET not in json.dumps(kept)


def test_a_short_text_in_a_parameter_is_no_secret_because_a_short_secret_is_a_part_of_it() -> None:
    known.learn("test")
    assert known.holds_secret("test") and not known.holds_secret("latest")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no groups of errors")
def test_the_errors_of_a_group_tell_none() -> None:
    group = vars(builtins)["ExceptionGroup"](f"several {SECRET}", [ValueError(SECRET), KeyError("plain")])
    known.cleanse(group)
    assert SECRET not in "".join(traceback.format_exception(type(group), group, None))
