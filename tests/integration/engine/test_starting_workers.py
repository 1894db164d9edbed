"""What workers need to know is found out while they start, and once."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

CHAIN = """
    class PartTask(nectar.Task):
        n = luigi.IntParameter()

        def run(self):
            (pathlib.Path("began") / str(os.getpid())).touch()
            until = time.monotonic() + 30
            while len(os.listdir("began")) < 2 and time.monotonic() < until:
                time.sleep(0.01)  # both workers have a part
            self.dump(str(self.n))


    class PartsTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [PartTask(n=n) for n in range(8)]
"""

RUN = """
    import os
    import nectar
    from chains.etl.engine_chain import PartsTask
    from nectar import settings
    from nectar.recording.provenance import git_state

    git_state(settings.current().root, os.getpid())  # git has answered before the workers have started
    assert nectar.run(PartsTask(), workers=2, echo=False).success
"""


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_workers_do_not_ask_git_what_the_engine_knows(project, tmp_path, monkeypatch):
    project.chain(CHAIN)
    (project.root / "began").mkdir()
    in_project = ["git", "-C", str(project.root), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*in_project, "init", "-q"], check=True)
    subprocess.run([*in_project, "commit", "-q", "--allow-empty", "-m", "a"], check=True)
    commit = subprocess.check_output([*in_project, "rev-parse", "HEAD"], text=True).strip()
    asked, git = tmp_path / "asked", tmp_path / "bin/git"
    git.parent.mkdir()
    git.write_text(f'#!/bin/sh\necho "$*" >> {asked}\nexec {shutil.which("git")} "$@"\n')
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}:{os.environ['PATH']}")
    project.python(RUN).ok()
    found = [project.record("PartTask", n=n)["provenance"] for n in range(8)]
    assert {one["git"]["commit"] for one in found} == {commit}
    assert len({one["process"] for one in found}) == 2
    assert sum("rev-parse" in line for line in asked.read_text().splitlines()) == 1
