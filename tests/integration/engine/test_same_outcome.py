"""Who carries a plan out changes nothing in keys, records and logs."""

from __future__ import annotations

import json

import pytest

CHAIN = """
    class LayerTask(nectar.Task):
        layer = luigi.IntParameter()
        n = luigi.IntParameter()
        note = luigi.Parameter(default="hidden", significant=False)

        def requires(self):
            if self.layer == 0:
                return {}
            return {f"p{d}": LayerTask(self.layer - 1, (self.n * 7 + d * 3) % 30) for d in range(3)}

        def run(self):
            print("out", self.layer, self.n)
            print("err", self.layer, self.n, file=sys.stderr)
            parts = [self.input()[name].load() for name in sorted(self.input())]
            if self.n % 10 == 5:
                extra = yield ExtraTask(n=self.n)
                parts.append(extra.load())
            import hashlib
            self.dump(hashlib.sha256("".join([str(self.layer), str(self.n), *parts]).encode()).hexdigest())


    class ExtraTask(nectar.Task):
        n = luigi.IntParameter()
        outputs = ["a.txt", "b.json"]

        def output(self):
            return self.target("a.txt")

        def run(self):
            self.dump(f"extra {self.n}")


    class BadTask(nectar.Task):
        def requires(self):
            return LayerTask(3, 3)

        def run(self):
            print("about to fail")
            raise ValueError("bad\\nvery bad")


    class StandsOnBadTask(nectar.Task):
        def requires(self):
            return BadTask()

        def run(self):
            self.dump("never")


    class GraphTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [StandsOnBadTask(), *(LayerTask(9, n) for n in range(30))]
"""

WAYS = {
    "inline": {},
    "processes, 3": {"workers": 3},
    "processes, 3, again": {"workers": 3, "env": {"PYTHONHASHSEED": "7", "NECTAR_DURABILITY": "group"}},
}
#: of a record: what tells one making from another
CHANGES = {"attempt", "run_id", "started_at", "ended_at", "seconds", "process", "peak_memory_bytes"}


def without_times(document):
    if isinstance(document, dict):
        return {key: without_times(value) for key, value in document.items() if key not in CHANGES}
    if isinstance(document, list):
        return [without_times(value) for value in document]
    return document


def picture(project):
    """Return all that a store holds but for times and ids, by the path of its target."""
    found = {}
    for target in project.targets():
        record = json.loads((target / "record.json").read_text())
        files = {
            str(one.relative_to(target)): one.read_bytes()
            for one in target.rglob("*")
            if one.is_file() and one.name != "record.json"
        }
        found[str(target.relative_to(project.store))] = (without_times(record), record["attempt"]["number"], files)
    return found


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, new_project):
    found = {}
    for name, options in WAYS.items():
        project = new_project(tmp_path_factory.mktemp("same") / "project")
        project.chain(CHAIN)
        options = dict(options)
        ended = project.run("GraphTask", **options)
        steps = {
            task: (step["status"], step["path"], step["error"], step["code"]) for task, step in ended.steps.items()
        }
        logs = [(place / "log/stdout.log").read_text() for place in project.failures()]
        errors = [(place / "log/stderr.log").read_text() for place in project.failures()]
        errors = [text.replace(str(project.root), "") for text in errors]
        found[name] = (ended.code, steps, picture(project), logs, errors)
        project.nothing_runs()
    return found


@pytest.mark.parametrize("way", list(WAYS)[1:])
def test_three_hundred_tasks_come_out_alike(outcomes, way):
    code, steps, made, logs, errors = outcomes["inline"]
    assert code == 1
    assert len(made) == 303 and logs == ["about to fail\n"]
    assert steps["StandsOnBadTask()"][0] == "not run" and steps["BadTask()"][0] == "failed"
    other = outcomes[way]
    assert other[0] == code
    assert other[1] == steps
    assert other[2].keys() == made.keys()
    for path, facts in made.items():
        assert other[2][path] == facts, path
    assert other[3:] == (logs, errors)
