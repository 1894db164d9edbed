"""What is put into the catalog of a folder is what its digest says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from nectar import errors
from nectar.pipeline.catalog import FileSystem, Surroundings, put_all
from nectar.pipeline.standing import Entry


class WrittenTo(FileSystem):
    """A catalog while whose first puts somebody writes to the file."""

    left = 0

    def put(self, file: Path, name: str, sha256: str) -> Entry:
        if self.left:
            self.left -= 1
            with file.open("a") as more:
                more.write("more")
        return super().put(file, name, sha256)


@pytest.fixture
def catalog(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("begun")
    return WrittenTo({}, Surroundings(str(tmp_path), "R", "target", str(tmp_path / "staging")))


def test_a_file_that_is_written_to_while_it_is_put_is_put_again(catalog, tmp_path):
    catalog.left = 2
    [entry] = put_all(catalog, tmp_path / "data", "*", {}, "step")
    kept = (tmp_path / entry.location / entry.path).read_bytes()
    assert kept == b"begunmoremore"
    assert entry.sha256 == hashlib.sha256(kept).hexdigest()


def test_a_file_that_is_written_to_all_the_time_is_not_put(catalog, tmp_path):
    catalog.left = 1000
    with pytest.raises(errors.CommandFailed, match="`step` puts `x` into the catalog, and something writes to it"):
        put_all(catalog, tmp_path / "data", "*", {}, "step")


def test_a_file_whose_name_is_no_text_is_refused_with_its_name(catalog, tmp_path):
    (tmp_path / "data" / "a\udcff").touch()
    with pytest.raises(errors.CommandFailed, match=r"'a\\udcff' into the catalog, a name that is no UTF-8"):
        put_all(catalog, tmp_path / "data", "a*", {}, "step")
