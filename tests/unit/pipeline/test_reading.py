"""Files are read strictly: nothing hides another, everything refused has its line, and texts stay texts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nectar import errors
from nectar.errors import FileFault
from nectar.pipeline import yaml_text
from nectar.pipeline.faults import Faults
from nectar.pipeline.model import DEFAULTS, Service, Services
from nectar.pipeline.reading import MOST_BYTES, document_in, pipeline_in, read_parameters, read_pipeline, read_variables
from nectar.pipeline.services import merge, read_services
from nectar.pipeline.values import part_of

AS_TEXT = "no yes on off n y 12:30:45 0755 007 0o17 0x1f 1_000 2024-01-31 1.2.3 = - 1e +.5x .e1 tRUE nUll".split()


def read_with(text: str | bytes, variables: Mapping[str, str] | None = None) -> tuple[Any, tuple[FileFault, ...]]:
    faults = Faults("f.yaml")
    raw = text if isinstance(text, bytes) else text.encode()
    document = document_in(raw, faults, variables)
    return (document.value if document is not None else None), faults.listed()


def value_of(text: str, variables: Mapping[str, str] | None = None) -> Any:
    value, faults = read_with(text, variables)
    assert not faults
    return value


@pytest.fixture(params=["C", "Python"])
def any_parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both parsers that PyYAML may have."""
    if request.param == "C":
        monkeypatch.setattr(yaml_text, "_LOADER", getattr(yaml, "CSafeLoader", None) or pytest.skip("no libyaml"))
    else:
        monkeypatch.setattr(yaml_text, "_LOADER", yaml.SafeLoader)


@pytest.mark.parametrize("text", AS_TEXT)
def test_what_only_other_yamls_take_for_a_value_stays_text(text: str) -> None:
    assert value_of(f"a: [{text}]" if text != "-" else "a: ['-']") == {"a": [text]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, None) for text in ("null", "~", "")),
        *((text, True) for text in ("true", "True", "TRUE")),
        *((text, False) for text in ("false", "False", "FALSE")),
        *(("0", 0), ("-12", -12), ("+3", 3), ("1.5", 1.5), ("1e3", 1000.0), ("-.5", -0.5), ("5.", 5.0)),
    ],
)
def test_plain_scalars_are_those_of_the_core_schema(text: str, value: object) -> None:
    found = value_of(f"a: {text}")["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["true", "3", "~", "", "1.5"])
def test_what_is_quoted_is_text(text: str) -> None:
    assert value_of(f"a: '{text}'\nb: \"{text}\"\nc: |-\n  {text}") == dict.fromkeys("abc", text)


REFUSED = {
    "python tag": ("a: 1\nb: !!python/object/apply:os.system [id]", 2, "tag"),
    "plain tag": ("a: 1\nb: !!str 2", 2, "tag"),
    "own tag on a key": ("!x a: 1", 1, "tag"),
    "non-specific tag": ("a: ! 1", 1, "tag"),
    "anchor": ("a: &x 1", 1, "anchor"),
    "alias": ("a: &x 1\nb: *x", 2, "alias"),
    "merge key": ("a: 1\nb:\n  <<: {c: 1}", 3, "merge key"),
    "two documents": ("a: 1\n---\nb: 1", 2, "second document"),
    "another YAML": ("%YAML 1.1\n---\na: 1", 1, "another YAML"),
    "duplicate key": ("a: 1\nb: 2\na: 3", 3, "twice, first in line 1"),
    "number as key": ("a: 1\n1: b", 2, "is no text"),
    "truth value as key": ("true: b", 1, "is no text"),
    "nothing as key": ("~: b", 1, "is no text"),
    "list as key": ("a: 1\n? [b]\n: 1", 2, "no text but a list"),
    "infinity": ("a: 1\nb: -.inf", 2, "no number that JSON knows"),
    "no number": ("a: .NaN", 1, "no number that JSON knows"),
    "too large": ("a: 1e999", 1, "too large"),
    "many digits": ("a: " + "9" * 5000, 1, "digits"),
    "levels": ("a: 1\nb: " + "[" * 5000 + "]" * 5000, 2, "more than 64 levels"),
    "levels that do not end": ("{a: " * 5000, 1, "more than 64 levels"),
    "NUL": ("a: 1\nb: \0", 2, "NUL"),
    "escaped NUL": ('a: 1\nb: "\\0"', 2, "NUL"),
    "control character": ("a: 1\nb: \x07", 2, "U+0007"),
    "not UTF-8": (b"a: 1\nb: \xff\xfe", 2, "no UTF-8"),
    "UTF-16": ("a: 1".encode("utf-16"), 1, "no UTF-8"),
    "no YAML": ("a: 1\nb: [}", 2, "no YAML"),
    "colon in a text": ("a: 1\nb: lambda x: 1", 2, "no YAML"),
}


@pytest.mark.parametrize(("text", "line", "fragment"), REFUSED.values(), ids=REFUSED)
@pytest.mark.usefixtures("any_parser")
def test_what_is_refused_is_told_with_its_line(text: str | bytes, line: int, fragment: str) -> None:
    _, faults = read_with(text)
    assert any(fault.line == line and fragment in fault.message for fault in faults), faults


@pytest.mark.usefixtures("any_parser")
def test_half_a_character_is_refused() -> None:
    _, [fault] = read_with('a: 1\nb: "\\ud800"')
    assert fault.line == 2


def test_a_file_is_read_up_to_one_mebibyte(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(b"a: 1 #".ljust(MOST_BYTES, b"x"))
    assert read_parameters(path) == {"a": 1}
    path.write_bytes(b"a: 1 #".ljust(MOST_BYTES + 1, b"x"))
    with pytest.raises(errors.FileInvalid, match="more than 1,048,576"):
        read_parameters(path)


def test_all_that_is_wrong_is_told_at_once_by_line() -> None:
    _, faults = read_with("a: &x 1\nb: *x\nc: !t 1\nc: 2\n1: .inf\n<<: 1\n")
    assert [fault.line for fault in faults] == [1, 2, 3, 4, 5, 5, 6]


def test_faults_of_reading_and_of_meaning_are_told_together() -> None:
    text = "dag:\n  start_at: &x a\n  start: b\n  steps:\n    a: {type: success}\n    b: {type: fail}\n"
    with pytest.raises(errors.PipelineInvalid) as caught:
        pipeline_in(text.encode(), "p.yaml")
    assert [fault.line for fault in caught.value.faults] == [2, 3]
    assert caught.value.message.splitlines()[1].startswith("p.yaml:2: here is the anchor `&x`; ")


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_whatever_ends_them(line_end: str) -> None:
    assert [fault.line for fault in read_with(line_end.join(["a: 1", "b: 2", "b: 3"]))[1]] == [3]


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert value_of("\ufeffa: 1") == {"a": 1}


@given(st.binary(max_size=60) | st.text(alphabet="ab:-[]{}?&*!|>'\"%@#, \n\t\\0~<", max_size=60).map(str.encode))
def test_whatever_bytes_a_file_has_they_are_a_pipeline_or_faults(raw: bytes) -> None:
    with contextlib.suppress(errors.PipelineInvalid):
        pipeline_in(raw, "p.yaml")


words = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_json_of_printable_texts_is_yaml_and_comes_back_as_it_was(value: object) -> None:
    assert value_of(json.dumps({"a": value}, ensure_ascii=False)) == {"a": value}


# Variables.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${n}", 3),
        ("'${n}'", "3"),
        ("${n}0", 30),
        ("${HOME} $$ ${n}", "${HOME} $$ 3"),
        ("$${n}", "$3"),
        ("$n ${} ${ n }", "$n ${} ${ n }"),
        ("${again}", "${n}"),
        ("${nothing}", None),
        ("'${text}'", "a: b # c"),
    ],
)
def test_variables_are_replaced_once_where_they_are_known(text: str, value: object) -> None:
    variables = {"n": "3", "again": "${n}", "nothing": "", "text": "a: b # c"}
    assert value_of(f"a: {text}", variables) == {"a": value}


def test_keys_are_not_replaced() -> None:
    assert value_of("${n}: ${n}", {"n": "3"}) == {"${n}": 3}


def test_variables_cannot_make_a_small_file_a_huge_one() -> None:
    _, [fault] = read_with("a: 1\nb: [" + "'${n}'," * 1000 + "]", {"n": "x" * 100_000})
    assert fault.line == 2 and "characters" in fault.message


def test_variables_are_the_texts_that_stand_in_their_file(tmp_path: Path) -> None:
    path = tmp_path / "v.yaml"
    path.write_text("a: 03\nb: 'true'\nc:\nd: 1.50\nsome name: x\n", "utf-8")
    assert read_variables(path) == {"a": "03", "b": "true", "c": "", "d": "1.50", "some name": "x"}


def test_every_variable_that_is_none_is_told(tmp_path: Path) -> None:
    path = tmp_path / "v.yaml"
    path.write_text("a: [1]\nb: x\n'${c}': 1\nb: 2\n", "utf-8")
    with pytest.raises(errors.FileInvalid) as caught:
        read_variables(path)
    assert [fault.line for fault in caught.value.faults] == [1, 3, 4]


def test_a_variable_gives_a_pipeline_its_number(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "dag:\n  start_at: a\n  steps:\n    a:\n      type: task\n      command: x.y\n      retry: ${r}\n"
        "      next: b\n    b: {type: success}\n    c: {type: fail}\n",
        "utf-8",
    )
    with pytest.raises(errors.PipelineInvalid):
        read_pipeline(path)
    assert read_pipeline(path, {"r": "5"}).dag.nodes["a"].retry == 5


# Parameters.


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_parameters_keep_the_types_that_the_file_gives_them(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"parameters{suffix}"
    path.write_text('{"a": 1, "b": [1.5, null, true], "c": {"x y": "3"}}', "utf-8")
    assert read_parameters(path) == {"a": 1, "b": [1.5, None, True], "c": {"x y": "3"}}


@pytest.mark.parametrize(
    ("name", "text", "fragments"),
    [
        ("p.yaml", "a b: 1\n3x: 2\nc: .nan", [":1: `a b` is no name", ":2: `3x` is no name", ":3: `.nan`"]),
        ("p.yaml", "[a]", [":1: the file is no mapping"]),
        ("p.json", '{"a b": 1, "a": NaN, "a": 2}', ["`a b` is no name", "twice", "no number"]),
        ("p.json", '{"a": 1e999}', ["infinity"]),
        ("p.json", '{"a": "\\ud800", "b": "\\u0000"}', ["`a` has a text", "`b` has a text"]),
        ("p.json", '{"a":\n [}', [":2: this is no JSON"]),
        ("p.json", '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", ["levels"]),
        ("p.json", '{"a": ' + "[" * 100 + "]" * 100 + "}", ["levels"]),
        ("p.json", '{"a": ' + "9" * 5000 + "}", ["JSON"]),
        ("p.json", "null", []),
    ],
)
def test_every_fault_of_a_file_of_parameters_is_told(
    tmp_path: Path, name: str, text: str, fragments: list[str]
) -> None:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    if not fragments:
        assert read_parameters(path) == {}
        return
    with pytest.raises(errors.FileInvalid) as caught:
        read_parameters(path)
    for fragment in fragments:
        assert fragment in caught.value.message


def test_a_file_that_is_not_there_is_an_error_with_its_name(tmp_path: Path) -> None:
    for read in (read_pipeline, read_variables, read_parameters):
        with pytest.raises(errors.UsageError, match=r"none.yaml` cannot be read: no such file"):
            read(tmp_path / "none.yaml")


# Services.

CONFIGURED = Services(catalog=Service("store", {"folder": "x", "n": [1, 2]}), secrets=Service("dotenv"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.yaml", "catalog:\n  type: store\n  config: {folder: x, n: [1, 2]}\nsecrets: {type: dotenv}\n"),
        ("c.yml", "{catalog: {type: store, config: {folder: x, n: [1, 2]}}, secrets: {type: dotenv, config: {}}}"),
        ("c.toml", "[catalog]\ntype='store'\nconfig={folder='x', n=[1, 2]}\n[secrets]\ntype='dotenv'"),
    ],
)
def test_services_are_read_from_yaml_and_toml(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    assert read_services(path) == CONFIGURED


@pytest.mark.parametrize(
    ("name", "text", "fragments"),
    [
        ("c.yaml", "catalogue: {type: store}\nsecrets: {type: dotEnv}", ["did you mean `catalog`", "mean `dotenv`"]),
        ("c.yaml", "executor: local\nsecrets: {config: 3}", [":1: `executor` is a text", "no `type`", ":2: `config`"]),
        ("c.toml", "[catalog]\ntipe='store'\n", ["did you mean `type`?"]),
        ("c.toml", "[catalog]\ntype='store'\nconfig={since=2024-01-31, a=nan}\n", ["`since` has a date", "`a` has"]),
        ("c.toml", "a = [", ["no TOML"]),
        ("c.toml", "a = " + "[" * 100_000, ["TOML", "levels"]),
        ("c.json", "{}", ["neither YAML nor TOML"]),
    ],
)
def test_every_fault_of_a_configuration_is_told(tmp_path: Path, name: str, text: str, fragments: list[str]) -> None:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    with pytest.raises(errors.UsageError) as caught:
        read_services(path)
    assert [one for one in fragments if one in str(caught.value)] == fragments or "levels" in str(caught.value)


def test_whose_configuration_says_something_first_wins_and_the_default_is_last() -> None:
    first = Services(catalog=Service("do-nothing"))
    assert merge(first, CONFIGURED) == Services(
        DEFAULTS.executor, DEFAULTS.run_log_store, Service("do-nothing"), Service("dotenv")
    )
    assert merge() == DEFAULTS


@given(json_values)
def test_values_of_other_readers_become_documents_with_all_that_they_hold(value: object) -> None:
    faults = Faults("f")
    part = part_of({"a": value}, faults)
    assert part.value == {"a": value} and part.members["a"].value == value
