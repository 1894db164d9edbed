"""The shipped JSON schema takes and refuses what the validator does, as far as a schema can tell."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from nectar import errors
from nectar.actions.check import schema
from nectar.pipeline import vocabulary
from nectar.pipeline.faults import Faults
from nectar.pipeline.model import CommandType, NodeType
from nectar.pipeline.reading import document_in, pipeline_in

A = "    a: {type: task, command: m.f, next: ok}\n"
OK = "    ok: {type: success}\n"
BAD = "    bad: {type: fail}\n"
HEAD = "dag:\n  start_at: a\n  steps:\n"

#: what no schema can tell: how steps follow each other, and what only Python or a walk over the whole file knows
UNTOLD = re.compile(
    r"names `.*no step has this name|follow each other in a circle|no way leads|no step is of the type|are both of the"
    r"|is no Python|is no lambda|no dotted name|DAGs lie in each other"
)

told = Draft202012Validator(json.loads(schema()))


def faults_of(document: Any) -> list[str]:
    """Return what the validator says of a document, as text of a file."""
    try:
        pipeline_in(json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass"), "p.yaml")
    except errors.PipelineInvalid as error:
        return [fault.message for fault in error.faults]
    return []


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(json.loads(schema()))


def test_schema_and_vocabulary_have_the_same_keys() -> None:
    document = json.loads(schema())
    kinds = {one["$ref"].rpartition("/")[2] for one in document["$defs"]["step"]["oneOf"]}
    steps = {document["$defs"][kind]["properties"]["type"]["const"]: document["$defs"][kind] for kind in kinds}
    assert set(steps) == {kind.value for kind in NodeType}
    for kind, keys in vocabulary.STEPS.items():
        assert set(steps[kind.value]["properties"]) == set(keys)
        assert set(steps[kind.value]["required"]) == {"type", *vocabulary.REQUIRED[kind]}
    assert set(document["properties"]) == set(vocabulary.FILE)
    assert set(document["$defs"]["dag"]["properties"]) == set(vocabulary.DAG)
    assert set(document["$defs"]["catalog"]["properties"]) == set(vocabulary.CATALOG)
    for name, types in vocabulary.SERVICES.items():
        assert document["properties"][name]["properties"]["type"]["enum"] == list(types)
    commands = document["$defs"]["task"]["properties"]["command_type"]["enum"]
    assert commands == [kind.value for kind in CommandType]


def test_everything_that_a_person_writes_is_described() -> None:
    document = json.loads(schema())
    waiting = [document, *document["$defs"].values()]
    while waiting:
        for name, one in waiting.pop().get("properties", {}).items():
            described = {**document["$defs"].get(one.get("$ref", "").rpartition("/")[2], {}), **one}
            assert described.get("description"), name
            waiting.append(one)


TEXTS = ["", "x", "m.f", "lambda x: 1", "n.ipynb", "../x", "/x"]
COMMANDS = ["m.f", "a.b.c", "f", "lambda: 1", "(lambda x: x)", "lambda x:", "a/b.ipynb", ".ipynb"]
ENDS = {"ok": {"type": "success"}, "bad": {"type": "fail"}}

names = st.sampled_from([*["a", "b", "x y", "größe"] * 4, "ok", "p.q", "r%", "", " ", "l\n"])
scraps = st.sampled_from([None, True, 0, 1, 3, 1.5, *TEXTS, [], {}, ["x"], [1]])
keys = st.sampled_from(sorted({*vocabulary.FILE, *vocabulary.DAG, *sum(vocabulary.STEPS.values(), ()), "nxt"}))


def mostly(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return values as they usually are, of which one in thirty is anything."""
    return st.integers(0, 29).flatmap(lambda n: scraps if n == 29 else usual)


def mapping(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return mappings with these keys, some of which lack one or have one more."""
    whole = st.fixed_dictionaries(required, optional=optional)

    def spoilt(document: dict[str, Any], without: str | None, more: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in document.items() if key != without} | more

    lack = st.integers(0, 29).flatmap(lambda n: st.sampled_from(sorted(required)) if n == 29 else st.none())
    more = st.integers(0, 29).flatmap(lambda n: st.dictionaries(keys, scraps, max_size=1) if n == 29 else st.just({}))
    return st.builds(spoilt, whole, lack, more)


def steps_of(dags: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    free = mostly(st.dictionaries(names, scraps, max_size=2))
    paths = mostly(st.lists(st.sampled_from(["*", "a/b.csv", "a/../b", "..", "/etc", "..a", "a/.."]), max_size=2))
    catalog = mapping({"put": paths}, {"get": paths, "compute_data_folder": mostly(st.just("data"))})
    every = {"on_failure": mostly(st.sampled_from(["ok", "bad"])), "mode_config": free}
    branches = mostly(st.dictionaries(names, dags, max_size=2))
    iterate = mostly(st.sampled_from(["xs", "größe", "3x", "a-b", "_"]))
    commands = mostly(st.sampled_from(COMMANDS))
    task = {"catalog": mostly(catalog), "retry": mostly(st.integers(-1, 3)), "command_config": free}
    kinds = mostly(st.sampled_from([kind.value for kind in CommandType]))
    following = {"next": mostly(st.just("ok"))}
    return st.one_of(
        mapping({"type": st.just("task"), "command": commands, **following}, {**every, **task, "command_type": kinds}),
        mapping({"type": st.sampled_from(["success", "fail", "tasks"])}, {"mode_config": free}),
        mapping({"type": st.just("parallel"), "branches": branches, **following}, every),
        mapping({"type": st.just("dag"), "dag_definition": mostly(dags), **following}, every),
        mapping(
            {"type": st.just("map"), "iterate_on": iterate, "iterate_as": iterate, "branch": mostly(dags), **following},
            every,
        ),
        mapping({"type": st.just("as-is"), **following}, {**every, "render_string": scraps, "command": scraps}),
    )


def dags_of(steps: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    optional = {"max_time": mostly(st.integers(0, 2)), "description": mostly(st.text(max_size=2)), "schedule": scraps}

    def begun(name: str, step: Any) -> st.SearchStrategy[Any]:
        return mapping({"start_at": mostly(st.just(name)), "steps": mostly(st.just({name: step} | ENDS))}, optional)

    return st.tuples(names, steps).flatmap(lambda drawn: begun(*drawn))


plain_dags = dags_of(steps_of(st.just({"start_at": "ok", "steps": ENDS})))
service = mapping({"type": mostly(st.sampled_from(sorted(sum(vocabulary.SERVICES.values(), ()))))}, {"config": scraps})
documents = mapping({"dag": mostly(dags_of(steps_of(plain_dags)))}, dict.fromkeys(vocabulary.SERVICES, service))


@given(documents)
@example({"dag": {"start_at": "ok", "steps": ENDS}})
def test_what_the_validator_takes_the_schema_takes_and_it_refuses_what_it_can_tell(document: dict[str, Any]) -> None:
    found = faults_of(document)
    if told.is_valid(document):
        assert [message for message in found if not UNTOLD.search(message)] == []
    else:
        assert found


TOLD = {
    "m.f": True,
    "'lambda x: x.y', command_type: python": False,
    "f": False,
    "'lambda x: 1', command_type: python-lambda": True,
    "m.f, command_type: python-lambda": False,
    "a/b.ipynb, command_type: notebook": True,
    "a.py, command_type: notebook": False,
    "'a | b', command_type: shell": True,
    "m.f, retry: 0": False,
    "m.f, retry: true": False,
    "m.f, catalog: {put: ['*']}": True,
    "m.f, catalog: {put: ['../x']}": False,
    "m.f, catalog: {putt: ['x']}": False,
    "m.f, mode_config: {x: 1}": True,
    "m.f, nxt: x": False,
}


@pytest.mark.parametrize(("inner", "right"), TOLD.items(), ids=TOLD)
def test_an_editor_tells_what_the_check_tells(inner: str, right: bool) -> None:
    text = HEAD + f"    a: {{type: task, next: ok, command: {inner}}}\n" + OK + BAD
    part = document_in(text.encode(), Faults("p.yaml"))
    assert part is not None
    assert told.is_valid(part.value) is right
    assert (not faults_of(part.value)) is right


@pytest.mark.parametrize("end", [OK, BAD])
def test_that_an_end_is_missing_no_schema_can_tell(end: str) -> None:
    part = document_in((HEAD + A + OK + BAD).replace(end, "").encode(), Faults("p.yaml"))
    assert part is not None
    assert told.is_valid(part.value) and faults_of(part.value)
