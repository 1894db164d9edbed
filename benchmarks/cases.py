"""Say what is measured: the cases that are run, the ratios and figures made of them, and what each must reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One thing that a process of its own does under the clock, once in each round."""

    name: str
    side: str  #: the file in `sides/`; `command`: the process itself is what is measured
    action: str
    tasks: int = 1
    workers: int = 1
    durability: str = "none"  #: of Nectar's commits
    shared: str | None = None  #: a folder that all rounds and cases of this name use; None: a fresh one each time
    arguments: tuple[str, ...] = ()  #: of a command, after the interpreter
    passes: int = 1  #: how often in each round
    s3: str = ""  #: where targets lie in S3: `far`, at 25 ms a request, or `near`, without them; `shared` is a prefix


@dataclass(frozen=True)
class Ratio:
    """The time of one case divided by that of another, of the same round."""

    work: str
    subject: str
    against: str
    reach: float | None = None  #: at most
    stretch: float | None = None  #: at most
    each: bool = False  #: what is compared is the time of one task, where the cases have not as many


@dataclass(frozen=True)
class Figure:
    """One number of Nectar's own."""

    work: str
    kind: str  #: one of `report.UNITS`
    cases: tuple[str, ...]
    reach: float | None = None  #: at most; of a rate at least
    stretch: float | None = None  #: at most; of a rate at least


@dataclass(frozen=True)
class Group:
    """What is shown together, and run one after the other."""

    title: str
    cases: tuple[Case, ...]
    ratios: tuple[Ratio, ...] = ()
    figures: tuple[Figure, ...] = ()
    prepared_by: tuple[Case, ...] = ()  #: run once, before all rounds, for shared folders


def groups(*, long: bool, peers: bool) -> list[Group]:
    """Return everything that is measured; `long` adds what takes minutes, `peers` doit, gokart and a la mode."""
    return [
        _instances(),
        _start(),
        _wide(long=long, peers=peers),
        _sink(peers=peers),
        _screen(),
        _deep(long=long),
        _layered(long=long),
        _described(peers=peers),
        _pictured(),
        _piped(),
    ]


def _instances() -> Group:
    n = 10_000

    def pair(action: str, shared: bool = False) -> Iterator[Case]:
        for side in ("nectar", "luigi"):
            yield Case(f"{side} {action}", side, action, n, shared=f"{side}-leaves" if shared else None)

    return Group(
        f"{n:,} tasks",
        (
            *pair("instantiate"),
            Case("nectar identify", "nectar", "identify", n),
            *pair("instantiate-again"),
            *pair("complete", shared=True),
            *pair("absent", shared=True),
        ),
        (
            Ratio("instantiate, luigi's own instantiation", "nectar instantiate", "luigi instantiate"),
            Ratio("instantiate and identify, luigi's own instantiation", "nectar identify", "luigi instantiate"),
            Ratio("instantiate again", "nectar instantiate-again", "luigi instantiate-again"),
            Ratio("complete() of targets that are there, LocalTarget", "nectar complete", "luigi complete"),
            Ratio("complete() of targets that are not, LocalTarget", "nectar absent", "luigi absent"),
        ),
        (
            Figure("instantiate and identify", "us", ("nectar identify",)),
            Figure("complete() of targets that are there", "us", ("nectar complete",)),
            Figure("the same, luigi's LocalTarget", "us", ("luigi complete",)),
        ),
        _leaves(n),
    )


def _leaves(n: int) -> tuple[Case, ...]:
    """Return what makes the targets that several groups find complete."""
    return (
        Case("nectar leaves", "nectar", "wide", n, shared="nectar-leaves"),
        Case("luigi leaves", "luigi", "make-leaves", n, shared="luigi-leaves"),
    )


def _start() -> Group:
    one = ("load/shapes_chain", "OneTask")
    luigi_one = ("--module", "chains.load.shapes_chain", "OneTask", "--local-scheduler")

    def command(name: str, *arguments: str) -> Case:
        return Case(name, "command", name, arguments=arguments, shared="one", passes=3)

    return Group(
        "Starting, whole processes",
        (
            command("import luigi", "-c", "import luigi"),
            command("nectar --help", "-m", "nectar.cli", "--help"),
            command("nectar plan", "-m", "nectar.cli", "plan", *one),
            command("nectar run", "-m", "nectar.cli", "run", *one),
            command("luigi run", "-m", "luigi", *luigi_one),
        ),
        (
            Ratio("nectar --help, import luigi", "nectar --help", "import luigi", 1.5, 1.1),
            Ratio("nectar plan of one task, import luigi", "nectar plan", "import luigi", 1.5, 1.1),
            Ratio("nectar run of one complete task, import luigi", "nectar run", "import luigi"),
            Ratio("nectar run of one complete task, luigi's command on it", "nectar run", "luigi run"),
        ),
        (),
        (command("nectar one", "-m", "nectar.cli", "run", *one),),
    )


def _wide(*, long: bool, peers: bool) -> Group:
    cases, ratios = [], []
    for n in (1_000, 5_000):
        cases += [
            Case(f"nectar wide {n}", "nectar", "wide", n, durability="group"),
            Case(f"bare wide-durable {n}", "bare", "wide-durable", n),
            Case(f"nectar wide none {n}", "nectar", "wide", n),
            Case(f"bare wide {n}", "bare", "wide", n),
            Case(f"nectar wide 2 {n}", "nectar", "wide", n, workers=2, durability="group"),
        ]
        if n == 1_000 or long:
            cases.append(Case(f"luigi wide {n}", "luigi", "wide", n))
            ratios.append(
                Ratio(
                    f"{n:,} cold, luigi (one file, no durability)",
                    f"nectar wide {n}",
                    f"luigi wide {n}",
                    1 / 20 if n == 5_000 else None,
                )
            )
        ratios += [
            Ratio(f"{n:,} cold, the bare loop", f"nectar wide {n}", f"bare wide-durable {n}", 2.5),
            Ratio(f"{n:,} cold, no durability, the bare loop so", f"nectar wide none {n}", f"bare wide {n}"),
        ]
        if peers:
            cases.append(Case(f"doit wide {n}", "doit", "wide", n))
            stretch = 1.0 if n == 5_000 else None
            ratios.append(
                Ratio(
                    f"{n:,} cold, doit (one file, no durability)", f"nectar wide {n}", f"doit wide {n}", None, stretch
                )
            )
        ratios.append(
            Ratio(f"{n:,} cold, 2 processes, 1 worker", f"nectar wide 2 {n}", f"nectar wide {n}", 1.0, 1 / 1.6)
        )
    if peers and long:
        cases.append(Case("gokart wide 1000", "gokart", "wide", 1_000))
        ratios.append(Ratio("1,000 cold, gokart (hashed targets)", "nectar wide 1000", "gokart wide 1000"))
    cases.append(Case("luigi wide 500", "luigi", "wide", 500))
    luigi_sizes = ("luigi wide 500", "luigi wide 1000", *(("luigi wide 5000",) if long else ()))
    sizes = ["nectar wide 1000", "nectar wide 5000"]
    figures = [Figure("5,000 cold", "us", ("nectar wide 5000",))]
    cases.append(Case("nectar unrecorded 5000", "nectar", "wide-unrecorded", 5_000, durability="group"))
    ratios.append(
        Ratio("5,000 cold, recording the run, not recording it", "nectar wide 5000", "nectar unrecorded 5000", 1.1)
    )
    if long:
        cases.append(Case("nectar wide 100000", "nectar", "wide", 100_000, durability="group"))
        sizes.append("nectar wide 100000")
        figures.append(Figure("100,000 planned and run", "MB", ("nectar wide 100000",), 500, 300))
    figures += [
        Figure("growth from size to size", "exponent", tuple(sizes), 1.1),
        Figure("the same, luigi", "exponent", luigi_sizes),
        Figure("5,000 planned and run", "MB", ("nectar wide 5000",)),
    ]
    return Group(
        "Wide: tasks that write a line each, and a sink that requires all", tuple(cases), tuple(ratios), tuple(figures)
    )


def _sink(*, peers: bool) -> Group:
    n = 10_000
    cases = [
        Case("nectar sink", "nectar", "wide", n, shared="nectar-leaves", durability="group"),
        Case("luigi sink", "luigi", "wide", n, shared="luigi-leaves"),
    ]
    ratios = [Ratio("all leaves complete, luigi", "nectar sink", "luigi sink", 1 / 3)]
    prepared = _leaves(n)
    if peers:
        cases.append(Case("doit sink", "doit", "wide", n, shared="doit-leaves"))
        ratios.append(Ratio("all leaves complete, doit", "nectar sink", "doit sink", None, 0.5))
        prepared += (Case("doit leaves", "doit", "wide", n, shared="doit-leaves"),)
    figures = (Figure("all leaves complete, the sink made", "us", ("nectar sink",)),)
    return Group(f"Wide, {n:,}, the sink alone", tuple(cases), tuple(ratios), figures, prepared)


def _screen() -> Group:
    n = 2_000
    ways = {"wide": "quiet", "lines": "lines", "json": "json", "live": "live"}
    return Group(
        f"Showing a run of {n:,} while it runs, whole processes",
        tuple(Case(f"screen {name}", "screen", action, n, durability="group") for action, name in ways.items()),
        (
            Ratio("live on a terminal, `--quiet`", "screen live", "screen quiet", 1.05),
            Ratio("a line for each word, `--quiet`", "screen lines", "screen quiet", 1.05),
            Ratio("`--json`, `--quiet`", "screen json", "screen quiet", 1.05),
        ),
    )


def _deep(*, long: bool) -> Group:
    cases = [
        Case("nectar deep 1000", "nectar", "deep", 1_000, durability="group"),
        Case("luigi deep 1000", "luigi", "deep", 1_000),
        Case("nectar deep none 1000", "nectar", "deep", 1_000),
        Case("nectar deep-plan 1000", "nectar", "deep-plan", 1_000),
        Case("nectar deep-plan 10000", "nectar", "deep-plan", 10_000),
    ]
    figures = [
        Figure("a plan 10,000 deep", "us", ("nectar deep-plan 10000",)),
        Figure(
            "growth of the plan, 1,000 to 10,000", "exponent", ("nectar deep-plan 1000", "nectar deep-plan 10000"), 1.1
        ),
    ]
    if long:
        cases.append(Case("nectar deep 10000", "nectar", "deep", 10_000, durability="group"))
        figures.append(
            Figure("growth of the run, 1,000 to 10,000", "exponent", ("nectar deep 1000", "nectar deep 10000"), 1.1)
        )
    ratios = (
        Ratio("1,000 cold, luigi (no durability)", "nectar deep 1000", "luigi deep 1000"),
        Ratio("1,000 cold, no durability, luigi", "nectar deep none 1000", "luigi deep 1000"),
    )
    return Group("Deep: each task requires the one before it", tuple(cases), ratios, tuple(figures))


def _layered(*, long: bool) -> Group:
    n = 10_000
    cases = [
        Case("nectar layered-plan 1000", "nectar", "layered-plan", 1_000),
        Case(f"nectar layered-plan {n}", "nectar", "layered-plan", n),
        Case(f"luigi layered-plan {n}", "luigi", "layered-plan", n),
    ]
    sizes = ["nectar layered-plan 1000", f"nectar layered-plan {n}"]
    figures = [Figure(f"a plan of {n:,}, nothing complete", "us", (sizes[1],), 150, 80)]
    if long:
        cases += [
            Case("nectar layered-plan 100000", "nectar", "layered-plan", 100_000),
            Case("nectar layered 10000", "nectar", "layered", 10_000, durability="group"),
            Case("nectar layered 100000", "nectar", "layered", 100_000, durability="group"),
        ]
        sizes.append("nectar layered-plan 100000")
        figures += [
            Figure("growth of the run", "exponent", ("nectar layered 10000", "nectar layered 100000"), 1.1),
            Figure("100,000 planned and run", "MB", ("nectar layered 100000",), 500, 300),
        ]
    figures += [
        Figure("growth of the plan", "exponent", tuple(sizes), 1.1),
        Figure(f"a plan of {n:,}", "MB", (f"nectar layered-plan {n}",)),
    ]
    ratio = Ratio(f"a plan of {n:,}, luigi's walk and exists", f"nectar layered-plan {n}", f"luigi layered-plan {n}")
    return Group("Layered: ten layers, ten requirements a task", tuple(cases), (ratio,), tuple(figures))


def _pictured() -> Group:
    cases = (
        Case("listing of 10,000 steps", "pictures", "wide", 10_000),
        Case("listing of 10,000 tasks", "pictures", "tasks", 10_000),
        Case("layout of 1,000", "pictures", "layout", 1_000),
        Case("folded 10,000", "pictures", "folded", 10_000),
    )
    figures = (
        Figure("an execution plan of 10,000 steps", "s", ("listing of 10,000 steps",), 1),
        Figure("`nectar plan --style steps` of 10,000 tasks, nothing complete", "s", ("listing of 10,000 tasks",)),
        Figure("a layout of 1,000 boxes, 2,000 arrows", "s", ("layout of 1,000",), 2),
        Figure("a picture of 10,000 tasks, folded by family", "s", ("folded 10,000",)),
    )
    return Group("Listings and pictures", cases, (), figures)


def _piped() -> Group:
    lines, items = 1_000, 5_000
    cases = (
        Case("pipeline shell", "pipeline", "shell", lines, durability="group"),
        Case("pipeline shell none", "pipeline", "shell", lines),
        Case("sh", "pipeline", "sh", lines),
        Case("pipeline map", "pipeline", "map", items, durability="group"),
        Case("nectar of the map", "nectar", "wide", items, durability="group"),
    )
    ratios = (Ratio(f"a map over {items:,}, as many tasks of a class", "pipeline map", "nectar of the map"),)
    figures = (
        Figure(f"{lines:,} shell steps, more than `sh` on the same lines", "more_ms", ("pipeline shell", "sh"), 3),
        Figure("the same, no durability", "more_ms", ("pipeline shell none", "sh")),
        Figure("`sh` on the same lines", "us", ("sh",)),
        Figure(f"a map over {items:,}", "us", ("pipeline map",)),
    )
    return Group("Pipelines: steps in a row, and a map", cases, ratios, figures)


def _described(*, peers: bool) -> Group:
    sizes, few = (1_000, 10_000), 200
    shapes = {"chain": "deep", "fan": "wide"}
    cases = [
        Case(f"nectar {shape} {n}", "description", action, n) for shape, action in shapes.items() for n in (few, *sizes)
    ]
    cases += [Case(f"nectar {shape} both", "description", f"{shapes[shape]}-both-ways", sizes[-1]) for shape in shapes]
    ratios = []
    if peers:
        cases += [Case(f"a la mode {shape} {few}", "a_la_mode", action, few) for shape, action in shapes.items()]
        ratios += [
            Ratio(f"encode and hash a {shape} of {few}, a la mode", f"nectar {shape} {few}", f"a la mode {shape} {few}")
            for shape in shapes
        ]
    figures = []
    for shape in shapes:
        names = tuple(f"nectar {shape} {n}" for n in sizes)
        figures += [
            Figure(f"encode and hash a {shape} of 10,000", "us", names[-1:]),
            Figure("growth, 1,000 to 10,000", "exponent", names, 1.1),
            Figure("read its bencode, check all ids, write it again", "us", (f"nectar {shape} both",)),
        ]
    return Group("Descriptions: tasks with specs and ids, nothing run", tuple(cases), tuple(ratios), tuple(figures))
