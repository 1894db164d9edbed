"""`.url` is an address that other programs read: pandas with s3fs, as docs/s3.md says."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "servers")]
pytest.importorskip("pandas", reason="pandas is not here: pip install pandas")
pytest.importorskip("s3fs", reason="s3fs is not here: pip install 's3fs>=2025'")
pytest_plugins = ["s3_fixtures"]
pytest.register_assert_rewrite("s3_cloud")

from s3_chains import TABLE  # noqa: E402
from s3_cloud import machine_with_bucket  # noqa: E402

READ = """
import pandas
from nectar import settings
from nectar.chain.project import bind

bind(settings.current().root)
from chains.etl.table_chain import TableTask

url = TableTask().output().url
print(url)
print(pandas.read_csv(url{more})["rows"].sum())
"""


@pytest.fixture
def cloud(project, moto, monkeypatch):
    """A project whose targets go to a bucket on moto, and nothing of this machine's own account."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    project.chain("etl/table_chain", TABLE)
    return machine_with_bucket(project, moto)


def read(cloud, options="", **variables):
    url, rows = cloud.python(READ.format(more=options), **variables).split()
    return url, int(rows)


def test_pandas_reads_a_target_by_its_url(cloud):
    cloud.end("etl/table_chain", "TableTask", ROWS="12")
    url, rows = read(cloud)
    assert (url, rows) == (f"s3://{cloud.bucket}/{cloud.only_target('TableTask')}/table.csv", 42)
    options = f", storage_options={{'endpoint_url': {cloud.endpoint!r}}}"
    assert read(cloud, options, NECTAR_S3_ENDPOINT=cloud.endpoint, AWS_ENDPOINT_URL_S3="http://[::1]:1") == (url, 42)


def test_the_url_of_a_file_that_has_an_attempts_own_name_is_that_name(cloud):
    cloud.end("etl/table_chain", "TableTask", ROWS="12")
    cloud.end("--force", "etl/table_chain", "TableTask", ROWS="20")
    url, rows = read(cloud)
    assert (url.startswith(f"s3://{cloud.bucket}/{cloud.only_target('TableTask')}/.attempts/"), rows) == (True, 50)
