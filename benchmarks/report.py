"""Turn what was measured into tables, for a terminal, for a page, and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cases import Case, Figure, Group, Ratio
from measuring import Samples, exponent, median_seconds, ratios_by_round

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
RATIO_HEADINGS = ("work, against", ">Nectar", ">other", ">ratio", ">spread", ">of CPU time", ">reach", ">stretch", "")
FIGURE_HEADINGS = ("work", ">Nectar", "unit", ">reach", ">stretch", "")
UNITS = {
    "us": "µs a task",
    "s": "s",
    "more_ms": "ms a step",
    "exponent": "exponent",
    "MB": "MB, peak",
    "cpu": "of the time is CPU time",
    "requests": "requests",
    "each": "requests a target",
    "flight": "requests in flight, mean",
    "most": "requests in flight, most",
    "p50": "ms, of the median request",
    "p99": "ms, 99 % of the requests",
    "rate": "requests a second",
    "cpu_ms": "ms of the server's CPU time a request",
}
MORE_IS_BETTER = frozenset({"rate"})  #: what has to reach its goals from below

Row = tuple[str, ...]

#: what the sample of a case with so many tasks says
_OF_A_SAMPLE: Mapping[str, Callable[[Mapping[str, float], int], float]] = {
    "s": lambda sample, tasks: sample["seconds"],
    "cpu": lambda sample, tasks: sample["cpu_s"] / sample["seconds"],
    "requests": lambda sample, tasks: sample["requests"],
    "each": lambda sample, tasks: sample["requests"] / tasks,
    "flight": lambda sample, tasks: sample["waited_s"] / sample["seconds"],
    "p50": lambda sample, tasks: sample["p50_s"] * 1e3,
    "p99": lambda sample, tasks: sample["p99_s"] * 1e3,
    "rate": lambda sample, tasks: tasks / sample["seconds"],
    "cpu_ms": lambda sample, tasks: sample["cpu_s"] / tasks * 1e3,
}


def document(groups: Sequence[Group], samples: Samples, facts: dict[str, Any]) -> dict[str, Any]:
    """Return all that was measured as one JSON value."""
    cases = {case.name: case for group in groups for case in group.cases}
    return facts | {
        "groups": [
            {
                "title": group.title,
                "ratios": [_ratio(one, samples, cases) for one in group.ratios],
                "figures": [_figure(one, samples, cases) for one in group.figures],
            }
            for group in groups
        ],
        "samples": samples,
    }


def _ratio(one: Ratio, samples: Samples, cases: Mapping[str, Case]) -> dict[str, Any]:
    # The CPU time of worker processes is not their parent's to know.
    alone = cases[one.subject].workers == cases[one.against].workers == 1
    tasks = [cases[case].tasks if one.each else 1 for case in (one.subject, one.against)]
    scale = tasks[1] / tasks[0]
    found = [ratio * scale for ratio in ratios_by_round(samples, one.subject, one.against)]
    of_cpu = ratios_by_round(samples, one.subject, one.against, "cpu_s") if alone else []
    return {
        "work": one.work,
        "seconds": median_seconds(samples, one.subject) / tasks[0],
        "other_seconds": median_seconds(samples, one.against) / tasks[1],
        "ratio": statistics.median(found),
        "least": min(found),
        "most": max(found),
        "cpu_ratio": statistics.median(of_cpu) * scale if of_cpu else None,
        "reach": one.reach,
        "stretch": one.stretch,
    }


def _figure(one: Figure, samples: Samples, cases: Mapping[str, Case]) -> dict[str, Any]:
    first = one.cases[0]
    if one.kind == "us":
        value = median_seconds(samples, first) / cases[first].tasks * 1e6
    elif one.kind == "more_ms":
        pairs = zip(samples[first], samples[one.cases[1]], strict=True)  # of one round each
        value = statistics.median(mine["seconds"] - other["seconds"] for mine, other in pairs)
        value = value / cases[first].tasks * 1e3
    elif one.kind == "MB":
        value = max(sample["peak_bytes"] for sample in samples[first]) / 1e6
    elif one.kind == "most":
        value = max(sample["most_at_once"] for sample in samples[first])
    elif one.kind in _OF_A_SAMPLE:
        value = statistics.median(_OF_A_SAMPLE[one.kind](sample, cases[first].tasks) for sample in samples[first])
    else:
        value = exponent(
            [cases[case].tasks for case in one.cases], [median_seconds(samples, case) for case in one.cases]
        )
    return {"work": one.work, "kind": one.kind, "value": value, "reach": one.reach, "stretch": one.stretch}


def text(measured: dict[str, Any]) -> str:
    """Return the tables as a terminal shows them."""
    lines = [_facts(measured), ""]
    for group in measured["groups"]:
        lines += [group["title"], *_aligned([RATIO_HEADINGS, *map(_ratio_row, group["ratios"])])]
        if group["figures"]:
            lines += ["", *_aligned([FIGURE_HEADINGS, *map(_figure_row, group["figures"])])]
        lines.append("")
    return "\n".join(lines)


def markdown(measured: dict[str, Any]) -> str:
    """Return the tables as a page shows them."""
    lines = [_facts(measured), ""]
    for group in measured["groups"]:
        lines += [f"### {group['title']}", "", *_ruled([RATIO_HEADINGS, *map(_ratio_row, group["ratios"])]), ""]
        if group["figures"]:
            lines += [*_ruled([FIGURE_HEADINGS, *map(_figure_row, group["figures"])]), ""]
    return "\n".join(lines)


def write_into(page: Path, measured: dict[str, Any]) -> None:
    """Put the tables between the two marks of a page.

    Raises:
        SystemExit: when the page lacks the marks.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"error: `{page}` has no lines `{BEGIN}` and `{END}`")
    page.write_text(f"{before}{BEGIN}\n\n{markdown(measured)}\n{END}{after}", encoding="utf-8")


def _facts(measured: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in measured["versions"].items())
    loads = measured["load_average"][0], measured["load_average_after"][0]
    return (
        f"{measured['date']}; {measured['processors']} processors ({measured['processor']}), "
        f"{measured['file_system']}, Linux {measured['kernel']}, Python {measured['python']}; {versions}; "
        f"rounds: {measured['rounds']}, in {measured['seconds']:.0f} s; "
        f"load average {loads[0]:.1f} before and {loads[1]:.1f} after."
    )


def _ratio_row(one: dict[str, Any]) -> Row:
    return (
        one["work"],
        _time(one["seconds"]),
        _time(one["other_seconds"]),
        _number(one["ratio"]),
        f"{_number(one['least'])} to {_number(one['most'])}" if one["least"] < one["most"] else "",
        _number(one["cpu_ratio"]),
        _number(one["reach"]),
        _number(one["stretch"]),
        _verdict(one["ratio"], one["reach"], one["stretch"]),
    )


def _figure_row(one: dict[str, Any]) -> Row:
    value, reach, stretch = one["value"], one["reach"], one["stretch"]
    return (
        one["work"],
        _number(value),
        UNITS[one["kind"]],
        _number(reach),
        _number(stretch),
        _verdict(value, reach, stretch, more=one["kind"] in MORE_IS_BETTER),
    )


def _verdict(value: float, reach: float | None, stretch: float | None, *, more: bool = False) -> str:
    if more:
        value, reach, stretch = -value, None if reach is None else -reach, None if stretch is None else -stretch
    if stretch is not None and value <= stretch:
        return "stretched"
    if reach is not None:
        return "reached" if value <= reach else "not yet"
    return "" if stretch is None else "not yet"


def _time(seconds: float) -> str:
    if seconds < 2e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _aligned(rows: Iterable[Row]) -> list[str]:
    listed = list(rows)
    right = [heading.startswith(">") for heading in listed[0]]
    plain = [tuple(cell.removeprefix(">") for cell in row) for row in listed]
    widths = [max(map(len, column)) for column in zip(*plain, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in plain
    ]


def _ruled(rows: Sequence[Row]) -> list[str]:
    headings = [heading.removeprefix(">") for heading in rows[0]]
    rules = ["---:" if heading.startswith(">") else "---" for heading in rows[0]]
    return [f"| {' | '.join(row)} |" for row in (headings, rules, *rows[1:])]
