"""Say what is measured of targets in S3, as `cases` does of all else."""

from __future__ import annotations

from cases import Case, Figure, Group, Ratio

TARGETS = 10_000  #: in the shared bucket, five objects each
PAGES = TARGETS * 5 // 1_000
ASKED_BY_LUIGI, MISSED_BY_LUIGI = 500, 100  #: luigi's are measured on so many, and compared by the target
SMALL, SMALL_OF_LUIGI, SMALL_OF_GOKART = 1_000, 200, 100
LEAVES, MADE, BIG = "s3-leaves", "s3-made", "s3-big"


def s3_groups(server: str, *, peers: bool) -> list[Group]:
    """Return what is measured of targets in S3; `peers` adds gokart."""
    return [_plans(server, peers), _commits(server, peers), _big(server)]


def _plans(server: str, peers: bool) -> Group:
    filled = Case("s3 leaves", "filling", "fill", TARGETS, shared=LEAVES, s3="near")
    cases = [
        Case("nectar s3 plan", "nectar_s3", "plan", TARGETS, shared=LEAVES, s3="far"),
        Case("nectar s3 present", "nectar_s3", "present", TARGETS, shared=LEAVES, s3="far"),
        Case("nectar s3 few of many", "nectar_s3", "few-of-many", 10, shared=LEAVES, s3="far"),
        Case("nectar s3 plan of nothing", "nectar_s3", "plan", TARGETS, s3="far"),
        Case("luigi s3 exists", "luigi_s3", "exists", ASKED_BY_LUIGI, shared=LEAVES, s3="far"),
        Case("luigi s3 misses", "luigi_s3", "misses", MISSED_BY_LUIGI, shared=LEAVES, s3="far"),
    ]
    ratios = [
        Ratio("a target that is there, luigi's exists()", "nectar s3 plan", "luigi s3 exists", each=True),
        Ratio("a target that is not, luigi's exists()", "nectar s3 plan of nothing", "luigi s3 misses", each=True),
    ]
    if peers:
        cases.append(Case("gokart s3 complete", "gokart_s3", "complete", SMALL_OF_GOKART, s3="far"))
        ratios.append(
            Ratio("a target that is there, gokart's complete()", "nectar s3 plan", "gokart s3 complete", each=True)
        )
    figures = (
        Figure("a plan of 10,000 that are there", "s", ("nectar s3 plan",), 1.5, 0.5),
        Figure("of that, asking the store", "s", ("nectar s3 present",)),
        Figure(f"requests for it; there are {PAGES} pages", "requests", ("nectar s3 plan",), 1.15 * PAGES),
        Figure("requests at the same time, the most", "most", ("nectar s3 plan",)),
        Figure("a plan of 10,000 of which none is there", "requests", ("nectar s3 plan of nothing",)),
        Figure("10 in a prefix with 10,000 others", "requests", ("nectar s3 few of many",), 10),
        Figure("luigi, that are there", "each", ("luigi s3 exists",)),
        Figure("luigi, that are not", "each", ("luigi s3 misses",)),
    )
    title = f"S3 at 25 ms a request ({server}): plans"
    return Group(title, tuple(cases), tuple(ratios), figures, (filled,))


def _commits(server: str, peers: bool) -> Group:
    cases = [
        Case("nectar s3 small 2", "nectar_s3", "small", SMALL, workers=2, s3="far"),
        Case("nectar s3 small 1", "nectar_s3", "small", SMALL_OF_LUIGI, s3="far"),
        Case("nectar s3 again", "nectar_s3", "small-again", SMALL_OF_LUIGI, shared=MADE, s3="far"),
        Case("luigi s3 small 2", "luigi_s3", "small", SMALL_OF_LUIGI, workers=2, s3="far"),
    ]
    ratios = [
        Ratio("a target, 2 processes, luigi's S3Target with 2", "nectar s3 small 2", "luigi s3 small 2", each=True),
        Ratio("a target, 2 processes, 1 worker", "nectar s3 small 2", "nectar s3 small 1", each=True),
    ]
    if peers:
        cases.append(Case("gokart s3 small", "gokart_s3", "small", SMALL_OF_GOKART, s3="far"))
        ratios.append(
            Ratio("a target, 1 worker, gokart (which has no more)", "nectar s3 small 1", "gokart s3 small", each=True)
        )
    figures = [
        Figure("1,000 small targets, 2 processes", "s", ("nectar s3 small 2",)),
        Figure("1,000 small targets, 2 processes", "each", ("nectar s3 small 2",)),
        Figure("1,000 small targets, 2 processes", "flight", ("nectar s3 small 2",)),
        Figure("1,000 small targets, 2 processes", "most", ("nectar s3 small 2",)),
        Figure("200 small targets, 1 worker", "cpu", ("nectar s3 small 1",)),
        Figure("200 small targets, 1 worker", "flight", ("nectar s3 small 1",)),
        Figure("a second run of 200, which finds its root", "s", ("nectar s3 again",)),
        Figure("a second run of 200, which finds its root", "requests", ("nectar s3 again",)),
        Figure("luigi, 2 processes", "each", ("luigi s3 small 2",)),
        Figure("luigi, 2 processes", "flight", ("luigi s3 small 2",)),
    ]
    prepared = Case("s3 made", "nectar_s3", "small", SMALL_OF_LUIGI, workers=2, shared=MADE, s3="near")
    title = f"S3 at 25 ms a request ({server}): small targets"
    return Group(title, tuple(cases), tuple(ratios), tuple(figures), (prepared,))


def _big(server: str) -> Group:
    size = "1 GiB" if server == "radosgw" else "256 MiB"  # moto keeps what it has in memory
    mib = 1024 if server == "radosgw" else 256
    prepared = Case("s3 big", "nectar_s3", "write", mib, shared=BIG, s3="near")
    return Group(
        f"S3 without latency ({server}): a target of {size}",
        (
            Case("nectar s3 write", "nectar_s3", "write", mib, s3="near"),
            Case("boto3 upload", "boto3", "upload", mib, s3="near"),
            Case("nectar s3 read", "nectar_s3", "read", mib, shared=BIG, s3="near"),
            Case("boto3 download", "boto3", "download", mib, shared=BIG, s3="near"),
        ),
        (
            Ratio("written: hashed, sent, committed; boto3's upload_file", "nectar s3 write", "boto3 upload", 1.0),
            Ratio("read, and its sha256 checked; boto3's download_file", "nectar s3 read", "boto3 download", 1.0),
        ),
        (
            Figure("written", "MB", ("nectar s3 write",), 200),
            Figure("boto3's upload_file", "MB", ("boto3 upload",)),
            Figure("read", "MB", ("nectar s3 read",), 200),
            Figure("boto3's download_file", "MB", ("boto3 download",)),
        ),
        (prepared,),
    )
