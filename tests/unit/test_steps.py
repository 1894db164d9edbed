"""Steps wired in a notebook: the pasta recipe as it was written, and what can go wrong with it."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nectar import Context, Step, errors
from nectar.listing import in_order

LEGEND = """\
Execution plan. Result availability: [*] available - [ ] n/a - [x] no context.
Scheduled execution: (H) head - (>) scheduled run on materialize - ( ) no run required.
"""

FIRST = """
[x] (>) BrownOnions
[x] (>) CutTomatoes
[x] (>) BoilWater
[x] (>) Salt
[x] (>) PickBasil
[x] (>) PourTomatoes
[x] (>) PourPasta
[x] (H) PanFry
"""


def without_margins(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines() if line.strip()]


class Kitchen:
    """The recipe's steps, and who has worked."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def step(self, kind: str, depends_on: Any = None, **options: Any) -> Step:
        done = self.done

        def run(self: Step, *given: str) -> str:
            done.append(self.name)
            return f"{self.name}({', '.join(given)})"

        made: Step = type(kind, (Step,), {"run": run})(depends_on=depends_on, **options)
        return made

    def recipe(self, ctx: Context | None = None) -> Step:
        water = self.step("BoilWater")
        brown_onions = self.step("BrownOnions")
        cut_tomatoes = self.step("CutTomatoes", brown_onions)
        pour_tomatoes = self.step("PourTomatoes", [cut_tomatoes, brown_onions], ctx=ctx)
        salt = self.step("Salt", water)
        pasta = self.step("PourPasta", salt)
        basil = self.step("PickBasil")
        return self.step("PanFry", [pasta, pour_tomatoes, basil])


@pytest.fixture
def kitchen() -> Kitchen:
    return Kitchen()


def test_the_recipe_is_listed_as_it_was_printed(kitchen: Kitchen, capsys: pytest.CaptureFixture[str]) -> None:
    listed = kitchen.recipe().execution_plan()
    assert without_margins(listed) == without_margins(LEGEND + FIRST)
    assert without_margins(capsys.readouterr().out) == without_margins(LEGEND + FIRST)
    assert repr(listed) == "<execution plan of 8 steps>"


def test_with_a_context_the_second_and_the_third_listing_are_as_they_were_printed(kitchen: Kitchen) -> None:
    merge = kitchen.recipe(Context())
    second = FIRST.replace("[x] (>) PourTomatoes", "[ ] (>) PourTomatoes")
    assert without_margins(merge.execution_plan()) == without_margins(LEGEND + second)
    merge.materialize()
    third = second.replace("[ ] (>) PourTomatoes", "[*] ( ) PourTomatoes")
    third = third.replace("(>) BrownOnions", "( ) BrownOnions").replace("(>) CutTomatoes", "( ) CutTomatoes")
    assert without_margins(merge.execution_plan()) == without_margins(LEGEND + third)


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_results_come_in_the_order_of_depends_on_and_shared_steps_run_once(kitchen: Kitchen, executor: str) -> None:
    lunch = kitchen.recipe().materialize(executor=executor)
    assert lunch == (
        "PanFry(PourPasta(Salt(BoilWater())), PourTomatoes(CutTomatoes(BrownOnions()), BrownOnions()), PickBasil())"
    )
    assert sorted(kitchen.done) == sorted(set(kitchen.done)) and len(kitchen.done) == 8


def test_what_a_context_has_is_not_done_again_nor_what_only_that_needs(kitchen: Kitchen) -> None:
    merge = kitchen.recipe(Context())
    first = merge.materialize()
    kitchen.done.clear()
    assert merge.materialize() == first
    assert sorted(kitchen.done) == ["BoilWater", "PanFry", "PickBasil", "PourPasta", "Salt"]


def test_a_result_of_none_counts_as_a_result() -> None:
    ran = []
    ctx = Context()
    step = Step.from_function(lambda: ran.append(1), name_alias="nothing", ctx=ctx)
    assert step.materialize() is None and step.materialize() is None
    assert ran == [1] and "nothing" in ctx


def test_a_step_may_come_twice_under_an_alias(kitchen: Kitchen) -> None:
    water = kitchen.step("BoilWater")
    salt = type(kitchen.step("Salt"))
    salted = salt(depends_on=water, name_alias="SaltWater")
    twice = kitchen.step("Pot", [salted, salt(depends_on=salted, name_alias="SaltTomatoes")])
    assert twice.materialize() == "Pot(SaltWater(BoilWater()), SaltTomatoes(SaltWater(BoilWater())))"


def test_two_steps_of_one_name_are_an_error_that_names_it(kitchen: Kitchen) -> None:
    head = kitchen.step("Pot", [kitchen.step("Salt"), kitchen.step("Salt")])
    for use in (head.materialize, head.execution_plan):
        with pytest.raises(errors.UsageError, match="`Salt`") as caught:
            use()
        assert "name_alias" in str(caught.value.hint)


def test_a_circle_is_drawn(kitchen: Kitchen) -> None:
    first, second = kitchen.step("First"), kitchen.step("Second")
    first.depends_on, second.depends_on = (second,), (first,)
    with pytest.raises(errors.CycleFound, match="First -> Second -> First"):
        first.materialize()


def test_what_is_no_step_cannot_be_depended_on() -> None:
    with pytest.raises(errors.UsageError, match="`Pot` depends on `3`"):
        Step(depends_on=[3], name_alias="Pot")  # type: ignore[list-item]


def test_a_value_is_a_step_and_so_is_a_function() -> None:
    numbers = Step.from_data([1, 2, 3], name_alias="numbers")

    def total(values: list[int]) -> int:
        return sum(values)

    assert Step.from_function(total, depends_on=numbers).materialize() == 6
    assert Step.from_function(total, depends_on=numbers).name == "total"


def test_a_step_that_raises_ends_with_what_it_raised_and_nothing_more_begins(kitchen: Kitchen) -> None:
    def burn() -> None:
        raise ZeroDivisionError("burnt")

    head = kitchen.step("Serve", [Step.from_function(burn)])
    with pytest.raises(ZeroDivisionError, match="burnt"):
        head.materialize()
    assert kitchen.done == []


def test_steps_that_do_not_need_each_other_run_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=30)
    waiting = [Step.from_function(together.wait, name_alias=f"part{number}") for number in range(3)]
    head = Step.from_function(lambda *parts: sorted(parts), waiting, name_alias="all")
    assert head.materialize(executor="threads", workers=3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"executor": "processes"}, "memory of this process"),
        ({"executor": "thread"}, "did you mean `threads`"),
        ({"executor": "inline", "workers": 2}, 'executor="threads"'),
        ({"workers": 0}, "use 1 or more"),
    ],
)
def test_an_executor_that_cannot_be_is_refused(options: dict[str, Any], fragment: str) -> None:
    with pytest.raises(errors.UsageError) as caught:
        Step.from_data(1, name_alias="one").materialize(**options)
    assert fragment in str(caught.value)


def test_a_chain_of_many_steps_needs_no_recursion() -> None:
    step = Step.from_data(0, name_alias="s0")
    for number in range(1, 3000):
        step = Step.from_function(lambda before: before + 1, step, name_alias=f"s{number}")
    assert step.materialize() == 2999
    assert len(step.execution_plan().splitlines()) == 3002


def test_results_are_let_go_when_nobody_needs_them_any_more() -> None:
    class Big:
        alive = 0

        def __init__(self, before: Big | None = None) -> None:
            Big.alive += 1
            Big.most = max(Big.most, Big.alive)

        def __del__(self) -> None:
            Big.alive -= 1

        most = 0

    step = Step.from_function(Big, name_alias="b0")
    for number in range(1, 20):
        step = Step.from_function(Big, step, name_alias=f"b{number}")
    step.materialize()
    assert Big.most <= 3


@given(st.data())
def test_the_order_of_a_listing_is_the_one_that_was_defined(data: st.DataObject) -> None:
    number = data.draw(st.integers(1, 7))
    below = {
        str(one): [str(two) for two in data.draw(st.permutations(range(one)))[: data.draw(st.integers(0, one))]]
        for one in range(number)
    }

    def expanded(name: str) -> list[str]:
        return below[name] + [one for two in below[name] for one in expanded(two)]

    head = str(number - 1)
    expected = list(dict.fromkeys([head, *expanded(head)]))[::-1]
    assert in_order(head, below.__getitem__) == expected


# Contexts


def kept(**values: Any) -> Context:
    ctx = Context()
    for name, value in values.items():
        Step.from_data(value, name_alias=name, ctx=ctx).materialize()
    return ctx


def test_a_context_is_stored_and_loaded_with_the_values_that_it_had(tmp_path: Path) -> None:
    values = {
        "plain": [None, True, 1, -2.5, "ü", {"a": [1]}],
        "typed": (1, {2, 3}, frozenset({"x"}), b"\0\xff", {1: "one", "$": 2}),
        "numbers": [float("inf"), 2**80, 0.1 + 0.2],
        "times": [datetime.date(2026, 2, 28), datetime.timedelta(days=-1, microseconds=3), datetime.time(1, 2)],
        "moment": datetime.datetime(2026, 11, 20, 1, 2, 3, 4, tzinfo=datetime.timezone.utc),
    }
    kept(**values).store(tmp_path / "ctx")
    found = Context.load(tmp_path / "ctx")
    assert dict(found) == values
    assert type(found["typed"]) is tuple and type(found["typed"][2]) is frozenset
    own = Context()
    assert own.load(tmp_path / "ctx") is own and own["plain"] == values["plain"]


def test_tables_and_arrays_are_kept_wherever_they_lie_in_a_value(tmp_path: Path) -> None:
    numpy, pandas = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": [1, 2], "y": ["a", None]})
    ctx = kept(split=(frame, {"matrix": numpy.eye(2)}), series=pandas.Series([1.5], name="s"), one=numpy.int64(3))
    ctx.store(tmp_path / "ctx")
    found = Context.load(tmp_path / "ctx")
    assert found["split"][0].equals(frame) and (found["split"][1]["matrix"] == numpy.eye(2)).all()
    assert found["series"].equals(ctx["series"]) and found["series"].name == "s"
    assert found["one"] == 3 and type(found["one"]) is numpy.int64
    assert not [place for place in (tmp_path / "ctx").iterdir() if place.suffix not in (".json", ".npy", ".parquet")]


def test_a_path_where_something_is_already_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "folder", "link"):
        with pytest.raises(errors.UsageError, match="already"):
            kept(a=1).store(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine" and not list((tmp_path / "folder").iterdir())
    assert sorted(place.name for place in tmp_path.iterdir()) == ["file", "folder", "link"]


def test_what_has_no_safe_form_is_refused_with_every_reason_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(errors.NoFormat) as caught:
        kept(good=1, model=object(), nested=[1, {"f": len}], text="\ud800").store(tmp_path / "ctx")
    message = caught.value.message
    assert "`model`" in message and "`nested`" in message and "[1]['f']" in message and "`text`" in message
    assert "`good`" not in message and not list(tmp_path.iterdir())


def test_a_changed_or_foreign_folder_is_refused(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    kept(a=numpy.arange(3), b=1).store(tmp_path / "ctx")
    [array] = (tmp_path / "ctx").glob("*.npy")
    raw = bytearray(array.read_bytes())
    raw[-1] ^= 1
    array.write_bytes(raw)
    with pytest.raises(errors.UsageError, match="is not what was stored"):
        Context.load(tmp_path / "ctx")
    with pytest.raises(errors.UsageError, match="holds no context"):
        Context.load(tmp_path / "nowhere")
    index = tmp_path / "ctx" / "context.json"
    for text in (
        "",
        "[]",
        "{",
        json.dumps({"format": 1, "results": [{"step": "a", "value": {"$": "os"}}], "files": {}}),
    ):
        index.write_text(text)
        with pytest.raises(errors.UsageError):
            Context.load(tmp_path / "ctx")
    index.write_text(json.dumps({"format": 99}))
    with pytest.raises(errors.UsageError, match="another version"):
        Context.load(tmp_path / "ctx")


def test_a_step_that_one_process_stored_is_found_by_the_next(tmp_path: Path, kitchen: Kitchen) -> None:
    script = (
        "from nectar import Context, Step\n"
        "ctx = Context()\n"
        "class PourTomatoes(Step):\n"
        "    def run(self): return ['tomatoes']\n"
        "PourTomatoes(ctx=ctx).materialize()\n"
        f"ctx.store({str(tmp_path / 'ctx')!r})\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
    tomatoes = kitchen.step("PourTomatoes", ctx=Context.load(tmp_path / "ctx"))
    assert tomatoes.materialize() == ["tomatoes"] and kitchen.done == []


def test_a_result_of_other_code_is_used_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chains").mkdir()
    monkeypatch.chdir(tmp_path)
    program = "from nectar import Context, Step\nclass One(Step):\n    def run(self): return {value}\n{rest}\n"
    stored = "ctx = Context(); One(ctx=ctx).materialize(); ctx.store('ctx')"
    loaded = "import warnings\nwarnings.filterwarnings('error', 'the result of')\n"
    loaded += "print(One(ctx=Context.load('ctx')).materialize())"

    def run(value: int, rest: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "wired.py").write_text(program.format(value=value, rest=rest))
        return subprocess.run([sys.executable, "wired.py"], text=True, capture_output=True)

    assert run(1, stored).returncode == 0
    assert run(1, loaded).stdout == "1\n"
    changed = run(2, loaded)
    assert changed.returncode == 1 and "made by other code" in changed.stderr


def test_a_result_can_be_forgotten(kitchen: Kitchen) -> None:
    ctx = Context()
    step = kitchen.step("Salt", ctx=ctx)
    step.materialize()
    ctx.remove("Salt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step.materialize()
    assert kitchen.done == ["Salt", "Salt"]
    with pytest.raises(errors.UsageError, match="did you mean `Salt`"):
        ctx.remove("Slat")
