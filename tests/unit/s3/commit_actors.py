"""Who meets at the server in the model of a commit, what each is told in the end, and whether that is true."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from commit_model import (
    RECORD,
    TARGET,
    Failed,
    Judge,
    Model,
    Overwrite,
    Server,
    Start,
    Thing,
    World,
    content,
    record_in_force,
    thing,
)

from nectar import errors, records
from nectar.records import FileEntry, Record
from nectar.stores.base import Commitment
from nectar.stores.s3.commit import Upload, commit
from nectar.stores.s3.messages import ATTEMPT, Answer, Delete, Found, Get, Head, Protocol, Put, Refused

MOMENT = datetime(2025, 1, 2, tzinfo=timezone.utc)
OUTPUTS = ("out.txt",)
INVALID = thing(b"{", "nobody")
NEWER = thing(b'{"schema": 99}', "later")

Asking = Generator[list[Any], list[Answer], list[Answer]]
Ask = Callable[[list[Any]], Asking]  #: how a mutated client carries out a list of requests


@dataclass(frozen=True)
class Ended:
    """What a writer ends with."""

    word: str  #: won, lost, skipped
    seen: str | None = None
    commitment: Commitment | None = None


@dataclass(frozen=True)
class HasRead:
    """What a reader ends with."""

    word: str  #: nothing, all, missed
    etag: str | None = None  #: of the record that was read
    wrong: str | None = None  #: a file that was not what the record says


def record_of(attempt: str, files: Mapping[str, bytes], outputs: tuple[str, ...] = OUTPUTS) -> Record:
    """Return the record of an attempt as the store gets it: objects are plain, there are no ETags."""
    entries = tuple(FileEntry(name, name, len(raw), content(raw).sha256) for name, raw in files.items())
    return Record(TARGET, "0" * 64, {}, entries, MOMENT, MOMENT, attempt, outputs=outputs)


def uploads_of(outputs: Mapping[str, bytes], beside: Mapping[str, bytes]) -> list[Upload]:
    return [Upload(name, content(raw)) for name, raw in (*outputs.items(), *beside.items())]


def writer(
    attempt: str,
    *,
    raw: bytes | None = None,
    forced: bool = False,
    log: bool = False,
    mutant: Ask | None = None,
    tidies: bool = False,
) -> tuple[str, Start]:
    """A client that looks for a record, runs, and publishes its output: bytes of its own, unless told others.

    A mutant `tidies`: it removes what it put under plain names when it has lost.
    """
    outputs, beside = {"out.txt": raw or f"of {attempt}".encode()}, {"params.txt": b"{}"}
    if log:
        beside["log/stdout.log"] = attempt.encode()
    uploads = uploads_of(outputs, beside)
    record = record_of(attempt, outputs)

    def start() -> Generator[list[Any], list[Answer], Ended]:
        seen = None
        (found,) = yield [Get(RECORD)]
        if isinstance(found, Found):
            try:
                done = records.parse(found.raw or b"", TARGET).file("out.txt") is not None
            except errors.RecordNewer:
                return Ended("skipped")
            except errors.RecordInvalid:
                done = False
            if done and not forced:
                return Ended("skipped")
            seen = found.etag
        protocol = commit(TARGET, attempt, record, uploads, seen=seen, own_names=forced, outputs=OUTPUTS)
        commitment = yield from (protocol if mutant is None else altered(protocol, mutant))
        if tidies and not commitment.won:
            yield from _tidied(attempt)
        return Ended("won" if commitment.won else "lost", seen, commitment)

    return attempt, start


def altered(protocol: Protocol[Commitment], ask: Ask) -> Generator[list[Any], list[Answer], Commitment]:
    """Drive a protocol with other requests than it makes."""
    try:
        requests: list[Any] = list(next(protocol))
        while True:
            answers = yield from ask(requests)
            requests = list(protocol.send(answers))
    except StopIteration as end:
        return end.value


def _tidied(attempt: str) -> Generator[list[Any], list[Answer], None]:
    """Remove with all care what an attempt put under plain names: what is known to be its own, and on condition."""
    heads = yield [Head(f"{TARGET.path}/{name}") for name in ("out.txt", "params.txt")]
    own = [
        Delete(f"{TARGET.path}/{name}", head.etag)
        for name, head in zip(("out.txt", "params.txt"), heads, strict=True)
        if isinstance(head, Found) and head.metadata[ATTEMPT] == attempt
    ]
    if own:
        yield own


def reader() -> Generator[list[Any], list[Answer], HasRead]:
    """A client that reads the record, and then each file with the ETag that the record names."""
    (found,) = yield [Get(RECORD)]
    try:
        record = records.parse(found.raw or b"", TARGET) if isinstance(found, Found) else None
    except errors.RecordInvalid:
        record = None
    if record is None or not isinstance(found, Found):
        return HasRead("nothing")
    answers = yield [Get(f"{TARGET.path}/{entry.object}") for entry in record.files]
    missed = False
    for entry, answer in zip(record.files, answers, strict=True):
        if not isinstance(answer, Found) or answer.etag != entry.etag:
            missed = True
        elif content(answer.raw or b"").sha256 != entry.sha256:
            return HasRead("missed", found.etag, f"wrong bytes read: `{entry.name}` of {record.attempt}")
    return HasRead("missed" if missed else "all", found.etag)


def vandal() -> Generator[list[Any], list[Answer], Ended]:
    """Somebody who puts an invalid record where there is none."""
    yield [Put(RECORD, content(INVALID.raw), None, {ATTEMPT: INVALID.attempt})]
    return Ended("done")


def taken_away() -> Generator[list[Any], list[Answer], Ended]:
    """Somebody who takes a record out of force by deleting it."""
    (found,) = yield [Get(RECORD)]
    if isinstance(found, Found):
        yield [Delete(RECORD, found.etag)]
    return Ended("done")


def set_aside() -> Generator[list[Any], list[Answer], Ended]:
    """Somebody who takes a record out of force by putting another in its place that is none, and is like no other."""
    (found,) = yield [Get(RECORD)]
    if isinstance(found, Found):
        yield [Put(RECORD, content(b"set aside"), found.etag, {ATTEMPT: "nobody"})]
    return Ended("done")


def roll_forward() -> Generator[list[Any], list[Answer], Ended]:
    """A mutant: it finishes the work of `alpha`, whose files all lie there under its own names, in its name."""
    (found,) = yield [Get(RECORD)]
    places = {name: f".attempts/alpha/{name}" for name in ("out.txt", "params.txt")}
    files = yield [Get(f"{TARGET.path}/{place}") for place in places.values()]
    out = files[0]
    if not isinstance(out, Found) or not all(isinstance(file, Found) for file in files):
        return Ended("done")
    raw = out.raw or b""
    entry = FileEntry("out.txt", places.pop("out.txt"), len(raw), content(raw).sha256, out.etag)
    record = Record(TARGET, "0" * 64, {}, (entry,), MOMENT, MOMENT, "alpha", outputs=OUTPUTS, places=places)
    seen = None
    if isinstance(found, Found):
        if found.raw != INVALID.raw:
            return Ended("done")
        seen = found.etag
    yield [Put(RECORD, content(record.to_bytes()), seen, {ATTEMPT: "alpha"})]
    return Ended("done")


# Mutants of the protocol: each is one thing that a writer might do, and must not.


def _is_plain(request: Any) -> bool:
    return isinstance(request, Put) and request.key != RECORD and "/.attempts/" not in request.key


def overwrites_leftovers(requests: list[Any]) -> Asking:
    answers = list((yield requests))
    for n, (request, answer) in enumerate(zip(requests, answers, strict=True)):
        if _is_plain(request) and isinstance(answer, Refused):
            (answers[n],) = yield [Overwrite(request)]
    return answers


def replaces_leftovers_by_if_match(requests: list[Any]) -> Asking:
    answers = list((yield requests))
    for n, (request, answer) in enumerate(zip(requests, answers, strict=True)):
        if _is_plain(request) and isinstance(answer, Refused):
            (head,) = yield [Head(request.key)]
            if isinstance(head, Found):
                (answers[n],) = yield [Put(request.key, request.content, head.etag, request.metadata)]
    return answers


def deletes_plain_names(requests: list[Any]) -> Asking:
    more = [Delete(f"{TARGET.path}/{name}") for name in ("out.txt", "params.txt")]
    asked = [*requests, *more] if isinstance(requests[0], Delete) else requests
    return (yield asked)[: len(requests)]


def believes_that_what_lies_there_is_its_own(attempt: str) -> Ask:
    def ask(requests: list[Any]) -> Asking:
        answers = list((yield requests))
        for n, (request, answer) in enumerate(zip(requests, answers, strict=True)):
            if isinstance(request, Head) and isinstance(answer, Found):
                answers[n] = Found(answer.etag, answer.size, {ATTEMPT: attempt})
        return answers

    return ask


def takes_its_own_record_for_another(attempt: str) -> Ask:
    own = f'"id": "{attempt}"'.encode()

    def ask(requests: list[Any]) -> Asking:
        answers = yield requests
        return [
            Found(answer.etag, answer.size, {}, answer.raw.replace(own, b'"id": "somebody"'))
            if isinstance(answer, Found) and answer.raw is not None
            else answer
            for answer in answers
        ]

    return ask


def replaces_whatever_record_is_there(requests: list[Any]) -> Asking:
    if not (isinstance(requests[0], Put) and requests[0].key == RECORD):
        return (yield requests)
    (head,) = yield [Head(RECORD)]
    put = requests[0]
    seen = head.etag if isinstance(head, Found) else None
    return (yield [Put(RECORD, put.content, seen, put.metadata)])


def puts_its_record_without_a_condition(requests: list[Any]) -> Asking:
    if isinstance(requests[0], Put) and requests[0].key == RECORD:
        return (yield [Overwrite(requests[0])])
    return (yield requests)


# Judging


def meet(
    *clients: tuple[str, Start],
    world: World | None = None,
    server: Server | None = None,
    may_fail: tuple[str, ...] = (),
) -> Model:
    """Return the model of clients, each with the name of its attempt, that meet at a server."""
    server = server or Server()
    echoed = server.echoes > 0 and Put in server.echoed
    leaves = tuple(echoed or any(server.lost[client : client + 1]) for client in range(len(clients)))
    judge = _judge(tuple(name for name, _ in clients), may_fail, leaves)
    return Model([start for _, start in clients], server, NOTHING if world is None else world, judge)


def _judge(attempts: tuple[str, ...], may_fail: tuple[str, ...], leaves: tuple[bool, ...]) -> Judge:
    """Return what judges how clients end.

    `leaves` says of each whether something may be left when it loses: what it removed may come back, as an echo of a
    request; and who did not hear an answer does not know whether its record was in force for a moment.
    """

    def of(world: World, client: int, outcome: Any) -> str | None:
        own = attempts[client]
        if isinstance(outcome, HasRead):
            in_force = world.get(RECORD)
            if outcome.wrong is None and outcome.word == "missed" and in_force and in_force.etag == outcome.etag:
                return "missed: the record in force names a file that a reader did not find"
            return outcome.wrong
        if isinstance(outcome, Failed):
            word = type(outcome.error).__name__
            return _left(world, own, leaves[client]) if word in may_fail else f"failed: {outcome.error}"
        if outcome.word == "won":
            return _judge_won(world, own, outcome)
        if outcome.word == "lost":
            return _judge_lost(world, own, outcome) or _left(world, own, leaves[client]) or _removed(world, own)
        return None

    return of


def _judge_won(world: World, own: str, outcome: Ended) -> str | None:
    assert outcome.commitment is not None
    if outcome.commitment.stamp != thing(outcome.commitment.record.to_bytes()).etag:
        return "untrue: the stamp is not that of the record"
    mine = [reign for reign in world.reigns if reign.attempt == own]
    if not mine or outcome.commitment.record.attempt != own:
        return f"untrue: {own} was told that it won"
    gaps = sum(reign.attempt is None for reign in world.reigns)
    if sum(reign.attempt is not None and reign.over is None for reign in world.reigns) > 1 + gaps:
        return "two winners: a record was created where one was"
    for reign in mine:
        if reign.over is not None and reign.over != outcome.seen:
            return f"replaced another: {own} replaced a record that it had not seen"
    return None


def _judge_lost(world: World, own: str, outcome: Ended) -> str | None:
    assert outcome.commitment is not None
    winner = outcome.commitment.record.attempt
    in_force = world.get(RECORD)
    if winner == own or (in_force is not None and in_force.attempt == own):
        return f"untrue: {own} was told that it lost"
    if winner not in {reign.attempt for reign in world.reigns} | {"old"}:
        return f"untrue: {own} was told that it lost to {winner}"
    return None


def _left(world: World, own: str, leaves: bool) -> str | None:
    """Say what is wrong with what a loser left: anything under its own names, or a thing that a record names."""
    left = sorted(key for key, _ in world.things if key.startswith(f"{TARGET.path}/.attempts/{own}/"))
    if left and not leaves:
        return f"left: {own} lost and left {left}"
    record = record_in_force(world)
    places = [entry.object for entry in record.files] + list(record.places.values()) if record is not None else []
    of_own = {key for key, one in world.things if one.attempt == own}
    named = sorted(of_own.intersection(f"{TARGET.path}/{place}" for place in places))
    return f"named: {own} lost, and a record names of it {named}" if named else None


def _removed(world: World, own: str) -> str | None:
    """Say whether a loser took away what a record names that was in force before, and is kept."""
    if own not in {reign.attempt for reign in world.reigns}:
        return None
    there = {key.rpartition("/")[2] for key, one in world.things if one.attempt == own}
    gone = {"out.txt", "params.txt"} - there
    return f"removed: {own} was in force for a moment, and its {sorted(gone)} are gone" if gone else None


# Where it begins


def world_with(files: Mapping[str, Thing]) -> World:
    return World(frozenset((f"{TARGET.path}/{name}", one) for name, one in files.items()))


NOTHING = world_with({})
LEFTOVER = world_with({"out.txt": thing(b"dead", "dead")})
SPOILT = world_with({"out.txt": thing(b"dead", "dead"), "record.json": INVALID})


def made_before() -> World:
    """A complete target of the attempt `old`."""
    out, params = thing(b"old", "old"), thing(b"{}", "old")
    record = record_of("old", {"out.txt": b"old"})
    entry = FileEntry("out.txt", "out.txt", 3, out.sha256, out.etag)
    raw = Record(TARGET, record.output_id, {}, (entry,), MOMENT, MOMENT, "old", outputs=OUTPUTS).to_bytes()
    return world_with({"out.txt": out, "params.txt": params, "record.json": thing(raw, "old")})
