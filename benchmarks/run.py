"""Measure Nectar beside its peers, in one run: `make bench`, or `python benchmarks/run.py --help`."""

from __future__ import annotations

import argparse
import contextlib
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
from http_cases import http_groups
from measuring import HERE, PEERS, Bench, can_import, machine, peers_have_boto3
from s3_cases import s3_groups
from s3_server import s3_server, server_name

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
    parser.add_argument(
        "--long", action="store_true", help="also what takes minutes: luigi's 5,000, 100,000 tasks, S3, HTTP"
    )
    parser.add_argument("--rounds", type=int, help="at most so many rounds (default 5; 3 with --long)")
    parser.add_argument(
        "--seconds",
        type=float,
        help=f"begin no round that would end later (default {BUDGET_S:.0f}; no limit with --long)",
    )
    parser.add_argument(
        "--only", metavar="TEXT", help="only groups whose title has this text; S3, HTTP: those of these"
    )
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter that has benchmarks/requirements.txt")
    parser.add_argument("--folder", type=Path, help="where to write; its disk is what is measured (default: .nectar/)")
    parser.add_argument("--keep", action="store_true", help="leave what was written there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every sample")
    parser.add_argument("--from-json", type=Path, metavar="FILE", help="measure nothing, show what --json wrote")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.relative_to(HERE.parent)}")
    return parser


def _measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    peers = _peers(given.peers)
    every = [*groups(long=given.long, peers=peers is not None), *_s3_groups(given, peers), *_http_groups(given)]
    chosen = [group for group in every if _is_wanted(group, given.only)]
    if not chosen:
        raise SystemExit(f"error: no group of benchmarks has `{given.only}` in its title")
    facts = {"date": f"{datetime.now(timezone.utc):%Y-%m-%d}"} | machine(folder, peers)
    with contextlib.ExitStack() as stack:
        server = None
        if any(case.s3 for group in chosen for case in group.cases):
            server = stack.enter_context(s3_server(server_name() or ""))
            facts["versions"][server.name] = server.version
        started = time.monotonic()
        bench = Bench(folder, peers, _say, server)
        bench.warm_up(chosen)
        bench.prepare(chosen)
        budget_s = given.seconds or (float("inf") if given.long else BUDGET_S)
        facts["rounds"] = bench.measure(chosen, given.rounds or (3 if given.long else 5), budget_s)
        facts["seconds"] = time.monotonic() - started
    facts["load_average_after"] = list(os.getloadavg())
    return report.document(chosen, bench.samples, facts)


def _s3_groups(given: argparse.Namespace, peers: str | None) -> list[Group]:
    """Return what is measured of S3: with `--long`, or where somebody asked for it by name, if there is a server."""
    if not given.long and not (given.only or "").lower().startswith("s3"):
        return []
    server = server_name()
    if server is None:
        _say('without S3: install radosgw, or `pip install "moto[s3]" flask-cors`')
        return []
    with_boto3 = peers_have_boto3(peers)
    if not with_boto3:
        _say("without gokart in S3: the peers' interpreter has no boto3")
    return s3_groups(server, peers=with_boto3)


def _http_groups(given: argparse.Namespace) -> list[Group]:
    """Return what is measured over HTTP: with `--long`, or where somebody asked for it by name."""
    return http_groups() if given.long or (given.only or "").lower().startswith("http") else []


def _is_wanted(group: Group, text: str | None) -> bool:
    return text is None or text.lower() in group.title.lower()


def _peers(python: str | None) -> str | None:
    """Return the interpreter that has the peers, None where there is none and nobody asked for them."""
    if can_import(python or sys.executable, PEERS):
        return python or sys.executable
    if python is not None:
        raise SystemExit(f"error: `{python}` has not what benchmarks/requirements.txt lists")
    _say("without doit, gokart and a la mode: see benchmarks/requirements.txt")
    return None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
