"""A server of S3 that is a value, and every way in which some clients can meet at it.

The state of the world is a few numbers: one for what the server holds, one for what each client was told so far. The
clients are the protocols themselves: a generator that was told the same is at the same point, so what was told is its
state, and it is run again from its start where a new point is reached. A client that died is one that no step is taken
of any more, so each state stands for every choice of clients that died there; what a dead client had asked for may
still be carried out. All states are looked at once; the number of ways through them is counted.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from nectar import errors, records
from nectar.address import Address
from nectar.records import Record
from nectar.stores.s3.messages import (
    ATTEMPT,
    REPLACED,
    Absent,
    Answer,
    Content,
    Delete,
    Deleted,
    Found,
    Get,
    Put,
    Refused,
    Stored,
)

TARGET = Address("chains/etl/model_chain/ModelTask", "0123456789abcdef" * 2)
RECORD = f"{TARGET.path}/record.json"


@dataclass(frozen=True)
class Overwrite:
    """What no protocol may ask for: a Put without a condition."""

    put: Put


@dataclass(frozen=True)
class Server:
    """What the server does not heed, and how often it may be unkind."""

    ignores_create_only: Callable[[str], bool] = lambda key: False  #: by key
    lost: tuple[int, ...] = ()  #: by client: answers it may lose; the request is carried out, and made again
    busy: tuple[int, ...] = ()  #: by client: refusals (409) without a reason
    echoes: int = 0  #: requests that are carried out a second time, at any later moment; over all clients
    echoed: tuple[type, ...] = (Put, Delete, Overwrite)  #: which requests these may be


@dataclass(frozen=True)
class Thing:
    """An object. The ETag is that of the bytes, as in S3: equal bytes have equal ETags."""

    sha256: str
    size: int
    attempt: str
    raw: bytes = field(repr=False)
    replaced: str = ""

    @property
    def etag(self) -> str:
        return f"etag-{self.sha256[:12]}"


@dataclass(frozen=True)
class Reign:
    """A record that came into force, or with no attempt: the moment at which there was none again."""

    attempt: str | None
    over: str | None = None  #: the ETag of the record that it replaced


@dataclass(frozen=True)
class World:
    """What the server holds, and the records that were in force so far."""

    things: frozenset[tuple[str, Thing]]
    reigns: tuple[Reign, ...] = ()

    def get(self, key: str) -> Thing | None:
        return next((thing for name, thing in self.things if name == key), None)

    def put(self, key: str, thing: Thing | None) -> World:
        rest = frozenset(one for one in self.things if one[0] != key)
        old = self.get(key)
        reigns = self.reigns
        if key == RECORD and thing != old:
            reign = Reign(None) if thing is None else Reign(thing.attempt, old.etag if old else None)
            reigns += (reign,)
        return World(rest if thing is None else rest | {(key, thing)}, reigns)


def thing(raw: bytes, attempt: str = "") -> Thing:
    return Thing(hashlib.sha256(raw).hexdigest(), len(raw), attempt, raw)


def content(raw: bytes) -> Content:
    return Content(len(raw), hashlib.sha256(raw).hexdigest(), raw=raw)


def carry_out(server: Server, world: World, request: Any) -> tuple[World, Answer, str | None]:
    """Return the world after a request, its answer, and what must not have happened."""
    if isinstance(request, Overwrite):
        put = request.put
        key, old, allowed = put.key, world.get(put.key), True
    elif isinstance(request, Put):
        put = request
        key, old = put.key, world.get(put.key)
        if put.if_etag is not None:
            allowed = old is not None and old.etag == put.if_etag
        else:
            allowed = old is None or server.ignores_create_only(key)
    elif isinstance(request, Delete):
        old = world.get(request.key)
        if old is None or request.if_etag not in (None, old.etag):
            return world, Deleted(), None
        return world.put(request.key, None), Deleted(), None
    else:
        old = world.get(request.key)
        if old is None:
            return world, Absent(), None
        raw = old.raw if isinstance(request, Get) else None
        about = {ATTEMPT: old.attempt} | ({REPLACED: old.replaced} if old.replaced else {})
        return world, Found(old.etag, old.size, about, raw), None
    if not allowed:
        return world, Refused(), None
    about = put.metadata
    new = Thing(put.content.sha256, put.content.size, about.get(ATTEMPT, ""), put.content.raw, about.get(REPLACED, ""))
    wrong = None
    if old is not None and old != new and not (key == RECORD and put.if_etag is not None):
        wrong = f"overwritten: {key}"
    return world.put(key, new), Stored(new.etag), wrong


def record_in_force(world: World) -> Record | None:
    """Return the record that is in force, None where there is none or it cannot be read."""
    found = world.get(RECORD)
    try:
        return None if found is None else records.parse(found.raw, TARGET)
    except errors.RecordInvalid:
        return None


def what_is_torn(world: World) -> str | None:
    """Return how the record in force is wrong about the bytes, None if it is right (or there is none)."""
    record = record_in_force(world)
    if record is None:
        return None
    things = dict(world.things)
    wanted = [(entry.object, entry) for entry in record.files] + [(place, None) for place in record.places.values()]
    if "params.txt" not in record.places:
        wanted.append(("params.txt", None))
    for place, entry in wanted:
        found = things.get(f"{TARGET.path}/{place}")
        if found is None:
            return f"torn: `{place}` of {record.attempt} is missing"
        if found.attempt != record.attempt:
            return f"torn: `{place}` of {record.attempt} is of {found.attempt}"
        if entry is not None and (found.sha256, found.size, found.etag) != (entry.sha256, entry.size, entry.etag):
            return f"torn: `{place}` of {record.attempt} has other bytes"
    return None


@dataclass(frozen=True)
class Failed:
    """What a client ends with that raised."""

    error: Exception


_OPEN, _AGAIN = -1, -2  # in the place of an answer: none yet; none yet, and one was lost

Start = Callable[[], Generator[list[Any], list[Answer], Any]]
Judge = Callable[[World, int, Any], "str | None"]  #: what is wrong with how a client ended, told at that moment


@dataclass(slots=True)
class _Point:
    """A client's generator that was told a certain history."""

    client: int
    told: tuple[tuple[int, ...], ...]  #: the answers of each round, by number
    requests: list[Any]
    ended: bool = False
    outcome: Any = None


@dataclass
class Explored:
    """What was looked at, and what was found wrong: the first way to each kind of violation."""

    states: int = 0
    steps: int = 0
    ways: int = 0
    ends: int = 0
    violations: dict[str, list[str]] = field(default_factory=dict)
    outcomes: set[tuple[str, ...]] = field(default_factory=set)  #: how the clients ended together

    @property
    def kinds(self) -> set[str]:
        return {text.split(":")[0] for text in self.violations}


class Model:
    """Clients at one server. All values are told apart by numbers, and every step is worked out once."""

    def __init__(self, clients: Sequence[Start], server: Server, world: World, judge: Judge) -> None:
        self.clients, self.server, self.judge = clients, server, judge
        self.explored = Explored()
        self._worlds: dict[World, int] = {}
        self._world_list: list[World] = []
        self._wrong_worlds: list[str | None] = []
        self._answers: dict[Any, int] = {}
        self._answer_list: list[Answer] = []
        self._requests: dict[str, int] = {}
        self._request_list: list[Any] = []
        self._points: dict[tuple[int, tuple[tuple[int, ...], ...]], int] = {}
        self._point_list: list[_Point] = []
        self._point_requests: list[tuple[int, ...]] = []
        self._sides: dict[tuple[Any, ...], int] = {}
        self._side_list: list[tuple[int, tuple[int, ...], int, int]] = []
        self._carried: dict[tuple[int, int], tuple[int, int, str | None]] = {}
        self._told: dict[tuple[int, int, int], int] = {}
        self._judged: dict[tuple[int, int], str | None] = {}
        self._refused = self._number_of_answer(Refused())
        self._refused_again = self._number_of_answer(Refused(repeated=True))
        sides = tuple(
            self._side(self._point(n, ()), _of(server.lost, n), _of(server.busy, n)) for n in range(len(clients))
        )
        self.first = (self._world(world), sides, (), server.echoes)

    @property
    def worlds(self) -> list[World]:
        """Every state of the server that was reached."""
        return self._world_list

    # Numbers for values

    def _world(self, world: World) -> int:
        number = self._worlds.get(world)
        if number is None:
            number = self._worlds[world] = len(self._world_list)
            self._world_list.append(world)
            self._wrong_worlds.append(what_is_torn(world))
        return number

    def _number_of_answer(self, answer: Answer) -> int:
        sign = (type(answer), repr(answer))
        if sign not in self._answers:
            self._answers[sign] = len(self._answer_list)
            self._answer_list.append(answer)
        return self._answers[sign]

    def _request(self, request: Any) -> int:
        sign = repr(request)
        if sign not in self._requests:
            self._requests[sign] = len(self._request_list)
            self._request_list.append(request)
        return self._requests[sign]

    def _point(self, client: int, told: tuple[tuple[int, ...], ...]) -> int:
        number = self._points.get((client, told))
        if number is None:
            number = self._points[client, told] = len(self._point_list)
            point = self._run(client, told)
            self._point_list.append(point)
            self._point_requests.append(tuple(self._request(one) for one in point.requests))
        return number

    def _run(self, client: int, told: tuple[tuple[int, ...], ...]) -> _Point:
        """Run a client's generator from its start up to the point at which it was told all this."""
        protocol = self.clients[client]()
        try:
            requests = next(protocol)
            for answers in told:
                requests = protocol.send([self._answer_list[number] for number in answers])
        except StopIteration as end:
            return _Point(client, told, [], True, end.value)
        except errors.NectarError as error:
            return _Point(client, told, [], True, Failed(error))
        protocol.close()
        assert requests, "a protocol that yields no request waits for nothing"
        return _Point(client, told, list(requests))

    def _side(self, point: int, lost: int, busy: int, answers: tuple[int, ...] | None = None) -> int:
        if answers is None:
            answers = (_OPEN,) * len(self._point_requests[point])
        value = (point, answers, lost, busy)
        if value not in self._sides:
            self._sides[value] = len(self._side_list)
            self._side_list.append(value)
        return self._sides[value]

    # Steps

    def _carry_out(self, world: int, request: int) -> tuple[int, int, str | None]:
        known = self._carried.get((world, request))
        if known is None:
            after, answer, wrong = carry_out(self.server, self._world_list[world], self._request_list[request])
            number = self._world(after)
            torn = self._wrong_worlds[number] if number != world else None
            known = number, self._number_of_answer(answer), torn or wrong
            self._carried[world, request] = known
        return known

    def _tell(self, side: int, slot: int, answer: int) -> int:
        known = self._told.get((side, slot, answer))
        if known is None:
            point, answers, lost, busy = self._side_list[side]
            answers = (*answers[:slot], answer, *answers[slot + 1 :])
            if min(answers) < 0:
                known = self._side(point, lost, busy, answers)
            else:
                old = self._point_list[point]
                known = self._side(self._point(old.client, (*old.told, answers)), lost, busy)
            self._told[side, slot, answer] = known
        return known

    def _judge(self, world: int, side: int) -> str | None:
        point = self._side_list[side][0]
        if (world, point) not in self._judged:
            at = self._point_list[point]
            verdict = self.judge(self._world_list[world], at.client, at.outcome) if at.ended else None
            self._judged[world, point] = verdict
        return self._judged[world, point]

    def steps(self, state: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], str | None, tuple[Any, ...]]]:
        """Yield every state that can come next, what is wrong with the step, and what it was."""
        world, sides, echoes, may_echo = state
        for client, side in enumerate(sides):
            point, answers, lost, busy = self._side_list[side]
            for slot, request in enumerate(self._point_requests[point]):
                if answers[slot] >= 0:
                    continue
                after, answer, wrong = self._carry_out(world, request)
                if answers[slot] == _AGAIN and answer == self._refused:
                    answer = self._refused_again
                new = self._tell(side, slot, answer)
                told = (*sides[:client], new, *sides[client + 1 :])
                changes = isinstance(self._request_list[request], (Put, Delete, Overwrite))
                verdict = wrong or self._judge(after, new)
                yield (after, told, echoes, may_echo), verdict, (client, request, answer, "")
                if not changes:
                    continue
                if may_echo and isinstance(self._request_list[request], self.server.echoed):
                    again = tuple(sorted((*echoes, request)))
                    yield (after, told, again, may_echo - 1), verdict, (client, request, answer, "will come twice")
                if lost:
                    spent = self._side(point, lost - 1, busy, (*answers[:slot], _AGAIN, *answers[slot + 1 :]))
                    told = (*sides[:client], spent, *sides[client + 1 :])
                    yield (after, told, echoes, may_echo), wrong, (client, request, answer, "answer lost")
                if busy and isinstance(self._request_list[request], Put):
                    refused = self._refused_again if answers[slot] == _AGAIN else self._refused
                    told = self._tell(self._side(point, lost, busy - 1, answers), slot, refused)
                    verdict = self._judge(world, told)
                    told = (*sides[:client], told, *sides[client + 1 :])
                    yield (world, told, echoes, may_echo), verdict, (client, request, refused, "busy")
        for position, request in enumerate(echoes):
            after, answer, wrong = self._carry_out(world, request)
            left = (*echoes[:position], *echoes[position + 1 :])
            yield (after, sides, left, may_echo), wrong, (None, request, answer, "comes a second time")

    def explore(self, *, stop_at: int = 3_000_000) -> Explored:
        """Look at every state that can be reached; `stop_at` is a guard against a model that is too large."""
        explored = self.explored
        ways: dict[tuple[Any, ...], int] = {}
        path: list[tuple[Any, ...]] = []
        stack = [[self.first, self.steps(self.first), 0, False]]
        while stack:
            frame = stack[-1]
            for after, wrong, step in frame[1]:  # goes on where it was left
                explored.steps += 1
                frame[3] = True
                if wrong is not None and wrong not in explored.violations:
                    explored.violations[wrong] = [*map(self.describe, path), self.describe(step)]
                known = ways.get(after)
                if known is None:
                    path.append(step)
                    stack.append([after, self.steps(after), 0, False])
                    break
                frame[2] += known
            else:
                if not frame[3]:
                    frame[2] = 1
                    explored.ends += 1
                    explored.outcomes.add(self.outcomes(frame[0]))
                ways[frame[0]] = frame[2]
                if len(ways) > stop_at:
                    raise AssertionError(f"more than {stop_at} states")
                stack.pop()
                if stack:
                    path.pop()
                    stack[-1][2] += frame[2]
        explored.states, explored.ways = len(ways), ways[self.first]
        return explored

    def walk(self, dice: random.Random) -> Explored:
        """Take one way at random to its end."""
        explored, state, path = self.explored, self.first, []
        while choices := list(self.steps(state)):
            state, wrong, step = dice.choice(choices)
            path.append(step)
            explored.steps += 1
            if wrong is not None and wrong not in explored.violations:
                explored.violations[wrong] = [self.describe(one) for one in path]
        explored.ways += 1
        explored.outcomes.add(self.outcomes(state))
        return explored

    def outcomes(self, state: tuple[Any, ...]) -> tuple[str, ...]:
        """Return how each client ended, in a word."""
        return tuple(word_of(self._point_list[self._side_list[side][0]].outcome) for side in state[1])

    def describe(self, step: tuple[Any, ...]) -> str:
        client, request, answer, note = step
        asked = self._request_list[request]
        put = asked.put if isinstance(asked, Overwrite) else asked
        key = put.key.removeprefix(f"{TARGET.path}/")
        who = "the network" if client is None else f"client {client}"
        said = type(self._answer_list[answer]).__name__
        return f"{who}: {type(asked).__name__} {key} -> {said} {note}".rstrip()


def drive(server: Server, world: World, protocol: Generator[list[Any], list[Answer], Any]) -> tuple[World, Any]:
    """Let one client alone run to its end; return the world then, and what it ended with."""
    try:
        requests = next(protocol)
        while True:
            answers = []
            for request in requests:
                world, answer, _ = carry_out(server, world, request)
                answers.append(answer)
            requests = protocol.send(answers)
    except StopIteration as end:
        return world, end.value
    except errors.NectarError as error:
        return world, Failed(error)


def _of(numbers: tuple[int, ...], client: int) -> int:
    return numbers[client] if client < len(numbers) else 0


def word_of(outcome: Any) -> str:
    if isinstance(outcome, Failed):
        return type(outcome.error).__name__
    return str(getattr(outcome, "word", outcome))
