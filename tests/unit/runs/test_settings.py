"""Where the run store is, as the settings say."""

from __future__ import annotations

from pathlib import Path

import pytest

from nectar import errors, settings


def load(root: Path, **environ: str) -> settings.Settings:
    (root / "chains").mkdir(exist_ok=True)
    return settings.load(environ, root)


def test_by_default_the_run_store_is_a_file_of_the_project(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert loaded.run_store_url == f"sqlite:///{tmp_path}/.nectar/runs/runs.db"
    assert loaded.journals_dir == tmp_path / ".nectar" / "runs" / "journals"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("sqlite:///state/runs.db", "sqlite:///{root}/state/runs.db"),
        ("sqlite:////var/runs.db", "sqlite:////var/runs.db"),
        ("postgresql://me:pw@host/db?sslmode=require", "postgresql://me:pw@host/db?sslmode=require"),
        ("postgresql+psycopg://host/db", "postgresql+psycopg://host/db"),
    ],
)
def test_an_address_may_be_relative_to_the_project(tmp_path: Path, given: str, url: str) -> None:
    assert load(tmp_path, NECTAR_RUNS=given).run_store_url == url.format(root=tmp_path)
    (tmp_path / "configuration").mkdir()
    (tmp_path / "configuration" / "nectar.toml").write_text(f'[runs]\nurl = "{given}"\n', encoding="utf-8")
    assert load(tmp_path).run_store_url == url.format(root=tmp_path)


@pytest.mark.parametrize("given", ["runs.db", "sqlite://", "sqlite:///", "sqlite://x", "mysql://me:sesame@host/db"])
def test_another_address_is_a_bad_setting_and_its_password_is_not_told(tmp_path: Path, given: str) -> None:
    with pytest.raises(errors.SettingsInvalid) as refused:
        load(tmp_path, NECTAR_RUNS=given)
    assert "run store" in refused.value.message and "sesame" not in refused.value.message
