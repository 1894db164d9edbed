"""Each store gives what belongs to a name, and says what it lacks without telling a value."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import luigi
import pytest

import nectar
from nectar import errors, settings
from nectar.actions import doctor
from nectar.redaction import known
from nectar.secrets import fetching
from nectar.settings import SecretsSettings, Settings

DOTENV = """
# a comment
export EXPORTED=exported-value

PLAIN=plain-value
EQUALS=K=a=b
HASH=a#b
COMMENT=value # said of it
DOUBLE="a \\"b\\" c"
SINGLE='x y # z'
EMPTY=
NO_VALUE
"""


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what one test fetches be unknown to the next."""
    monkeypatch.setattr(known, "_sieve", None)
    monkeypatch.setattr(known, "_values", set())


@pytest.fixture
def using(tmp_path: Path) -> Iterator[Callable[..., Settings]]:
    """Make a kind of secret store that of the settings."""
    before = settings.current()

    def use(kind: str, **config: Any) -> Settings:
        made = Settings(tmp_path, tmp_path.as_uri(), secrets=SecretsSettings(kind, config))
        settings.adopt(made)
        return made

    yield use
    settings.adopt(before)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PLAIN", "plain-value"),
        ("EXPORTED", "exported-value"),
        ("EQUALS", "K=a=b"),
        ("HASH", "a#b"),
        ("COMMENT", "value"),
        ("DOUBLE", 'a "b" c'),
        ("SINGLE", "x y # z"),
        ("EMPTY", ""),
    ],
)
def test_a_dotenv_file_is_read_as_python_dotenv_reads_it(using: Any, tmp_path: Path, name: str, value: str) -> None:
    (tmp_path / ".env").write_text(DOTENV)
    using("dotenv")
    assert nectar.get_secret(name) == value


def test_a_dotenv_file_may_lie_elsewhere_and_is_read_anew_each_time(using: Any, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere" / "secrets.env"
    place.parent.mkdir()
    for location in ("elsewhere/secrets.env", str(place)):
        using("dotenv", location=location)
        for value in ("first-value", "second-value"):
            place.write_text(f"A={value}\n")
            assert nectar.get_secret("A") == value


@pytest.mark.parametrize("name", ["PLAIM", "NO_VALUE", "value # said of it"])
def test_what_a_dotenv_file_lacks_is_named_with_the_file_and_no_value(using: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / ".env").write_text(DOTENV)
    using("dotenv")
    with pytest.raises(errors.SecretNotFound) as caught:
        nectar.get_secret(name)
    told = str(caught.value)
    assert f"`{name}`" in told and "`.env`" in told
    assert "plain-value" not in told and "exported-value" not in told


def test_a_dotenv_file_that_is_not_there_or_cannot_be_read_is_said_to_be(using: Any, tmp_path: Path) -> None:
    using("dotenv")
    with pytest.raises(errors.SecretNotFound, match=r"no secret `A`: there is no file `.env`"):
        nectar.get_secret("A")
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe")
    with pytest.raises(errors.SecretStoreUnreachable, match="it is no UTF-8") as caught:
        nectar.get_secret("A")
    assert caught.value.__cause__ is None
    (tmp_path / ".env").unlink()
    (tmp_path / ".env").mkdir()
    with pytest.raises(errors.SecretStoreUnreachable, match="is a directory"):
        nectar.get_secret("A")


def test_environment_variables_are_found_behind_their_prefix(using: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_TOKEN", "token-of-app")
    using("environment", prefix="APP_")
    assert nectar.get_secret("TOKEN") == "token-of-app"
    with pytest.raises(errors.SecretNotFound, match="no secret `token`: the environment variable `APP_token` is not"):
        nectar.get_secret("token")


def test_nothing_is_set_up_by_default_and_each_name_has_the_empty_text(tmp_path: Path) -> None:
    with settings.overridden(secrets=settings.load({}, tmp_path).secrets):
        assert nectar.get_secret("anything") == ""


def test_one_secret_has_to_be_asked_for_by_a_name() -> None:
    for wrong in ("", None, 3):
        with pytest.raises(errors.UsageError):
            nectar.get_secret(wrong)  # type: ignore[arg-type]


# Settings


def load(folder: Path, text: str, **environ: str) -> SecretsSettings:
    (folder / "chains").mkdir(exist_ok=True)
    (folder / "configuration").mkdir(exist_ok=True)
    (folder / "configuration" / "nectar.toml").write_text(text)
    return settings.load(environ, folder).secrets


def test_the_section_secrets_has_a_type_and_the_stores_own_settings(tmp_path: Path) -> None:
    text = '[secrets]\ntype = "dotenv"\nlocation = "x.env"\n'
    assert load(tmp_path, text) == SecretsSettings("dotenv", {"location": "x.env"})
    assert load(tmp_path, text, NECTAR_SECRETS_TYPE="environment") == SecretsSettings("environment", {})
    assert load(tmp_path, text, NECTAR_SECRETS_TYPE="dotenv") == SecretsSettings("dotenv", {"location": "x.env"})
    for wrong in ("[secrets]\ntype = 3\n", 'secrets = "x"\n'):
        with pytest.raises(errors.SettingsInvalid):
            load(tmp_path, wrong)


def test_a_type_that_nobody_has_is_refused_with_what_was_meant(using: Any) -> None:
    using("dotevn")
    with pytest.raises(errors.SettingsInvalid, match="no secret store `dotevn`") as e:
        nectar.get_secret("A")
    assert e.value.hint == "did you mean `dotenv`?"


def test_all_faults_of_a_store_are_told_at_once_and_no_value_is(using: Any) -> None:
    wanted = using("aws-secrets-manager", secretid="the-value-of-a", region=3, endpoint="http://localhost")
    with pytest.raises(errors.SettingsInvalid) as caught:
        nectar.get_secret("A")
    told = str(caught.value)
    assert "has no setting `secretid`, did you mean `secret_id`?; `region` is a whole number, not a text" in told
    assert "the-value-of-a" not in told and "localhost" not in told
    checks = {check.name: check for check in doctor.examine(wanted)}
    assert checks["secrets"].ok is False and checks["secrets"].exit_code == 2
    assert "secret_id" in checks["secrets"].detail


# Stores of others

FOREIGN = """
class VaultSecrets:
    options = {"address": str, "broken": bool}

    def __init__(self, root, address="nowhere", broken=False):
        self.address, self.broken = address, broken

    def get(self, name):
        if self.broken:
            raise RuntimeError("the-value-of-a-secret is odd")
        return 3 if name == "number" else f"{name} at {self.address}"


not_a_kind = 3
"""


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[None]:
    """A package of somebody else, installed as pip leaves it."""
    folder = tmp_path / "site"
    info = folder / "vault_secrets-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "vault_secrets.py").write_text(FOREIGN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vault-secrets\nVersion: 1.0\n")
    points = "vault = vault_secrets:VaultSecrets\nodd = vault_secrets:not_a_kind\ngone = vault_secrets_gone:Nothing\n"
    (info / "entry_points.txt").write_text(f"[{fetching.GROUP}]\n{points}")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    sys.modules.pop("vault_secrets", None)


@pytest.mark.usefixtures("installed")
def test_a_store_of_an_installed_package_is_found_by_its_name(using: Any) -> None:
    using("vault", address="https://vault")
    assert nectar.get_secret("A") == "A at https://vault"
    assert known.redacted("it is A at https://vault") == "it is ******"
    using("vault", adress="x", broken="yes")
    with pytest.raises(
        errors.SettingsInvalid, match=r"did you mean `address`.*`broken` is a text, not `true` or `false`"
    ):
        nectar.get_secret("A")


@pytest.mark.usefixtures("installed")
def test_what_is_wrong_with_a_store_of_others_is_said_without_a_value(using: Any) -> None:
    using("vault", broken=True)
    with pytest.raises(
        errors.SecretStoreUnreachable, match="`A` cannot be had, the store `vault` raised RuntimeError"
    ) as e:
        nectar.get_secret("A")
    assert "the-value" not in str(e.value)
    using("vault")
    with pytest.raises(errors.SecretError, match="gave what is no text for the secret `number`: `int`"):
        nectar.get_secret("number")
    for kind, words in (("odd", "is no class with `options`"), ("gone", "cannot be imported: ModuleNotFoundError")):
        using(kind)
        with pytest.raises(errors.SettingsInvalid, match=words):
            nectar.get_secret("A")


# The parameter


class LoginTask(nectar.Task):
    password = nectar.SecretParameter(default="db_password")
    user = luigi.Parameter(default="anna")


def test_a_secret_parameter_is_its_reference_wherever_it_is_shown(using: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("db_password", "value-of-it")
    using("environment")
    task = LoginTask()
    assert task.password.reveal() == nectar.get_secret(task.password) == "value-of-it"
    assert task.shown_params() == {"password": "db_password", "user": "anna"}
    assert task.identity_document({})["params"] == {"password": "db_password", "user": "anna"}
    shown = repr(task) + task.task_id + json.dumps(task.to_str_params()) + repr(task.password) + f"{task.password}"
    assert "value-of-it" not in shown and "db_password" in shown
    assert LoginTask(password="db_password") is task
    assert LoginTask(password="other").key != task.key
    key = task.key
    monkeypatch.setenv("db_password", "another-value")
    assert task.password.reveal() == "another-value" and LoginTask().key == key


def test_a_secret_parameter_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="the name of a secret is not empty"):
        LoginTask(password="")


def test_the_settings_of_secrets_travel_to_workers_as_they_are() -> None:
    import pickle

    made = Settings(Path("/x"), "memory://x", secrets=SecretsSettings("dotenv", {"location": "y"}))
    assert pickle.loads(pickle.dumps(made)) == made
    assert hash(made) == hash(pickle.loads(pickle.dumps(made)))


def test_a_process_that_was_forked_opens_a_store_of_its_own(using: Any, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(DOTENV)
    wanted = using("dotenv")
    here = fetching.opened(wanted)
    assert fetching.opened(wanted) is here
    child = os.fork()
    if child == 0:
        os._exit(7 if fetching.opened(wanted) is not here else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
