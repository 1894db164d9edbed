"""What is needed is what can be reached from what is kept, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nectar import errors, settings
from nectar.actions.keeping import needed
from nectar.address import Address
from nectar.records import InputEntry, Record, utc_now

MOST = 12


def address(number: int) -> Address:
    return Address("chains/etl/x_chain/XTask", f"{number:032x}")


def entry(path: str | None) -> InputEntry:
    return InputEntry("XTask()", path, None, None)


def record(number: int, inputs: Sequence[int], dynamic: Sequence[int]) -> Record:
    now = utc_now()
    return Record(
        address=address(number),
        output_id="",
        identity={},
        files=(),
        started_at=now,
        ended_at=now,
        attempt="",
        inputs={str(place): entry(address(one).path) for place, one in enumerate(inputs)},
        dynamic=tuple(entry(address(one).path) for one in dynamic),
    )


numbers = st.integers(0, MOST - 1)
several = st.lists(numbers, max_size=4)
graphs = st.dictionaries(numbers, st.tuples(several, several))


def reachable(roots: Sequence[int], graph: Mapping[int, tuple[list[int], list[int]]]) -> set[int]:
    """Return what can be reached, by brute force: paths of every length."""
    found = set(roots)
    for _ in range(MOST):
        for one in list(found):
            found.update(*graph.get(one, ((), ())))
    return found


@given(roots=several, graph=graphs)
def test_needed_is_what_can_be_reached_from_the_roots(
    roots: list[int], graph: dict[int, tuple[list[int], list[int]]]
) -> None:
    made = {address(number): record(number, *edges) for number, edges in graph.items()}
    asked: list[Address] = []

    def read(addresses: Sequence[Address]) -> Mapping[Address, Record]:
        asked.extend(addresses)
        return {one: made[one] for one in addresses if one in made}

    assert needed(map(address, roots), read) == {address(one) for one in reachable(roots, graph)}
    assert len(asked) == len(set(asked)), "a record was asked for twice"


def test_a_chain_of_ten_thousand_is_followed_without_recursion() -> None:
    count = 10_000

    def read(addresses: Sequence[Address]) -> Mapping[Address, Record]:
        return {one: record(int(one.key, 16), [int(one.key, 16) + 1], []) for one in addresses}

    def read_to_the_end(addresses: Sequence[Address]) -> Mapping[Address, Record]:
        return read([one for one in addresses if int(one.key, 16) < count])

    assert len(needed([address(0)], read_to_the_end)) == count + 1


@pytest.mark.parametrize("path", [None, "", "../../etc", "/etc/passwd", "chains/etl", 7, ["x"]])
def test_an_input_without_a_place_in_the_store_leads_nowhere(path: object) -> None:
    odd = replace(record(0, [], []), inputs={"0": InputEntry("X", path, None, None)})  # type: ignore[arg-type]
    assert needed([address(0)], lambda addresses: {address(0): odd}) == {address(0)}


# The setting


def configured(tmp_path: Path, text: str) -> Path:
    for folder in ("chains", "configuration"):
        (tmp_path / folder).mkdir()
    (tmp_path / "configuration" / "nectar.toml").write_text(text, encoding="utf-8")
    return tmp_path


def test_what_is_kept_is_a_list_of_texts(tmp_path: Path) -> None:
    place = configured(tmp_path, '[gc]\nkeep = ["etl/a_chain", " ds/b_chain/BTask "]\n')
    assert settings.load({}, place).keep == ("etl/a_chain", "ds/b_chain/BTask")
    assert settings.load({"NECTAR_KEEP": "etl/c_chain, abcd,"}, place).keep == ("etl/c_chain", "abcd")


@pytest.mark.parametrize("value", ["7", "[7]", '[""]', '{ a = "b" }', '["etl/a_chain", []]'])
def test_what_is_no_list_of_texts_is_refused_with_all_other_faults(tmp_path: Path, value: str) -> None:
    place = configured(tmp_path, f'[gc]\nkeep = {value}\n[task]\ndrift = "perhaps"\n')
    with pytest.raises(errors.SettingsInvalid, match=r"`drift` .*`keep` |`keep` .*`drift` "):
        settings.load({}, place)
