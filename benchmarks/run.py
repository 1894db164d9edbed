"""Measure Nectar beside its peers, in one run: `make bench`, or `python benchmarks/run.py --help`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import report
from cases import Group, groups
from measuring import HERE, PEERS, Bench, can_import, machine

PAGE = HERE.parent / "docs" / "performance.md"
BUDGET_S = 210.0  #: for the rounds of the default benchmark; a first round is always finished


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the tables."""
    given = _parser().parse_args(arguments)
    if given.from_json:
        _publish(json.loads(given.from_json.read_bytes()), given)
        return 0
    parent = given.folder or HERE.parent / ".nectar"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    try:
        _publish(_measure(given, folder), given)
    finally:
        if not given.keep:
            _say("deleting what was written, which may take a while; new files may be slow for some minutes after")
            shutil.rmtree(folder)
    return 0


def _publish(measured: dict[str, Any], given: argparse.Namespace) -> None:
    if given.json:
        given.json.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    if given.write:
        report.write_into(PAGE, measured)
    print(report.text(measured), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true", help="also what takes minutes: luigi's 5,000, and 100,000 tasks")
    parser.add_argument("--rounds", type=int, help="at most so many rounds (default 5; 3 with --long)")
    parser.add_argument(
        "--seconds",
        type=float,
        help=f"begin no round that would end later (default {BUDGET_S:.0f}; no limit with --long)",
    )
    parser.add_argument("--only", metavar="TEXT", help="only groups whose title has this text")
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter that has benchmarks/requirements.txt")
    parser.add_argument("--folder", type=Path, help="where to write; its disk is what is measured (default: .nectar/)")
    parser.add_argument("--keep", action="store_true", help="leave what was written there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every sample")
    parser.add_argument("--from-json", type=Path, metavar="FILE", help="measure nothing, show what --json wrote")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.relative_to(HERE.parent)}")
    return parser


def _measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    peers = _peers(given.peers)
    chosen = [group for group in groups(long=given.long, peers=peers is not None) if _is_wanted(group, given.only)]
    if not chosen:
        raise SystemExit(f"error: no group of benchmarks has `{given.only}` in its title")
    facts = {"date": f"{datetime.now(timezone.utc):%Y-%m-%d}"} | machine(folder, peers)
    started = time.monotonic()
    bench = Bench(folder, peers, _say)
    bench.warm_up(chosen)
    bench.prepare(chosen)
    budget_s = given.seconds or (float("inf") if given.long else BUDGET_S)
    facts["rounds"] = bench.measure(chosen, given.rounds or (3 if given.long else 5), budget_s)
    facts["seconds"] = time.monotonic() - started
    facts["load_average_after"] = list(os.getloadavg())
    return report.document(chosen, bench.samples, facts)


def _is_wanted(group: Group, text: str | None) -> bool:
    return text is None or text.lower() in group.title.lower()


def _peers(python: str | None) -> str | None:
    """Return the interpreter that has the peers, None where there is none and nobody asked for them."""
    if can_import(python or sys.executable, PEERS):
        return python or sys.executable
    if python is not None:
        raise SystemExit(f"error: `{python}` has not what benchmarks/requirements.txt lists")
    _say("without doit and gokart: see benchmarks/requirements.txt")
    return None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
