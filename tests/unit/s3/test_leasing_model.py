"""The lease protocol against three workers, a server and a network that do whatever they may do, in virtual time.

Each worker has a monotonic clock of its own; they run at one rate and began at moments that have nothing to do with
each other. The machine checks after every step what a lease promises. The last tests take one precaution after the
other out of the protocol, and see that the machine finds out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from nectar.address import Address
from nectar.stores.s3 import leasing
from nectar.stores.s3.leasing import MARGIN, Claim, Held, Memory, Owner
from nectar.stores.s3.messages import (
    Absent,
    Answer,
    Delete,
    Deleted,
    Found,
    Get,
    Head,
    Protocol,
    Put,
    Refused,
    Request,
    Stored,
)

SECONDS = 30.0
PLACE = leasing.place_of(Address("chains/etl/daily_chain/LoadTask", "0" * 32))
ANY = "any"  # a condition that only a mutant sends: write over whatever is there
POLL_S = 0.5
WHICH = st.integers(0, 2)  # of those who can


class Server:
    """Objects with the MD5 of their bytes for an ETag, as S3 gives them: equal bytes, equal ETag."""

    def __init__(self, *, conditional_deletes: bool = True) -> None:
        self.conditional_deletes = conditional_deletes
        self.objects: dict[str, bytes] = {}
        self.requests: list[Request] = []

    def etag(self, key: str) -> str | None:
        raw = self.objects.get(key)
        return None if raw is None else hashlib.md5(raw).hexdigest()

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        there = self.etag(request.key)
        if isinstance(request, Put):
            if request.if_etag != there and request.if_etag != ANY:
                return Refused()
            self.objects[request.key] = request.content.raw
            return Stored(hashlib.md5(request.content.raw).hexdigest())
        if isinstance(request, Delete):
            if request.if_etag in (None, there) or not self.conditional_deletes:
                self.objects.pop(request.key, None)
            return Deleted()
        if there is None:
            return Absent()
        raw = self.objects[request.key]
        return Found(there, len(raw), {}, None if isinstance(request, Head) else raw)

    def drive(self, protocol: Generator[list[Request], list[Answer], Any]) -> Any:
        answers: list[Answer] | None = None
        try:
            while True:
                requests = protocol.send(answers) if answers is not None else next(protocol)
                answers = [self.answer(request) for request in requests]
        except StopIteration as end:
            return end.value


@dataclass
class Worker:
    """A process that wants the lease now and then."""

    origin: float
    owner: Owner = field(default_factory=Owner)
    memory: Memory = field(default_factory=Memory)
    held: Held | None = None
    paused: bool = False
    fenced: int = 0  # the last beat of which another had the lease afterwards
    doing: str = ""
    protocol: Protocol[Any] | None = None
    request: Request | None = None  # sent, and not answered
    reply: Answer | None = None  # on its way
    begun: float = 0.0


class Broken(AssertionError):
    """A lease did not keep a promise."""


class Leases(RuleBasedStateMachine):
    """Three workers, one place. Subclasses take a precaution out."""

    conditional_deletes = True
    must_be_taken_over = True

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.server = Server(conditional_deletes=self.conditional_deletes)
        self.workers: list[Worker] = []
        self.late: list[tuple[str, Request]] = []  # given up by their senders, and still on their way
        self.writer: str = ""  # who sent what is there

    # What a worker does: overridden by mutants.

    def acquire(self, worker: Worker) -> Protocol[Held | None]:
        return leasing.acquire(PLACE, worker.owner, SECONDS, worker.memory, self.clock(worker), self.is_dead)

    def is_dead(self, claim: Claim) -> bool:
        """Whether everybody knows that the owner has died."""
        return False

    def renew(self, worker: Worker) -> Protocol[Held | None]:
        assert worker.held is not None
        return leasing.renew(worker.held, worker.owner, self.clock(worker))

    def release(self, worker: Worker) -> Protocol[None]:
        assert worker.held is not None
        return leasing.release(worker.held, self.clock(worker), conditional=self.conditional_deletes)

    def new_memory(self) -> Memory:
        return Memory()

    def ended(self, worker: Worker, held: Held | None) -> Held | None:
        """The lease, as it came out of a protocol."""
        return held

    # How the world works.

    def clock(self, worker: Worker) -> Callable[[], float]:
        return lambda: worker.origin + self.time

    def believes(self, worker: Worker) -> bool:
        return worker.held is not None and worker.origin + self.time < worker.held.expires

    def idle(self) -> list[Worker]:
        return [one for one in self.workers if not one.paused and one.protocol is None]

    def free(self) -> list[Worker]:
        return [one for one in self.idle() if one.held is None]

    def holding(self) -> list[Worker]:
        return [one for one in self.idle() if one.held is not None]

    def asking(self) -> list[Worker]:
        return [one for one in self.workers if not one.paused and one.request is not None]

    def begin(self, worker: Worker, doing: str) -> None:
        worker.doing, worker.begun = doing, self.time
        worker.protocol = {"acquire": self.acquire, "renew": self.renew, "release": self.release}[doing](worker)
        if doing == "release":
            worker.held = None
        self.go_on(worker, None)

    def go_on(self, worker: Worker, answer: Answer | None) -> None:
        assert worker.protocol is not None
        try:
            requests = next(worker.protocol) if answer is None else worker.protocol.send([answer])
            (worker.request,) = requests
        except StopIteration as end:
            worker.protocol = worker.request = None
            if worker.doing != "release":
                worker.held = self.ended(worker, end.value)
                if worker.held is not None and worker.held.claim.beat <= worker.fenced and self.believes(worker):
                    raise Broken("a worker whose lease another has had believes that it kept it") from None

    def answer_now(self, worker: Worker) -> None:
        assert worker.request is not None
        answer = worker.reply or self.carry_out(worker.owner.text, worker.request)
        worker.reply = None
        self.go_on(worker, answer)

    def carry_out(self, sender: str, request: Request) -> Answer:
        """Let the server answer, and see that nobody's lease is taken away while it lasts."""
        before, writer = self.server.objects.get(PLACE), self.writer
        answer = self.server.answer(request)
        after = self.server.objects.get(PLACE)
        if after == before:
            return answer
        if after is not None:
            self.writer = sender
            old, new = Claim.parse(before, 0), Claim.parse(after, 0)
            if before is not None and not new.epoch >= old.epoch + (new.owner != old.owner):
                raise Broken("the epoch did not grow")
        if before is not None and writer != sender:
            for one in self.workers:
                if one.owner.text == writer:
                    if self.believes(one):
                        raise Broken("a lease was taken away while it lasted")
                    one.fenced = Claim.parse(before, 0).beat
        return answer

    @initialize(origins=st.lists(st.sampled_from([-5000.0, -20.0, 0.0, 40.0, 9e6]), min_size=3, max_size=3))
    def start(self, origins: list[float]) -> None:
        self.workers = [Worker(origin, memory=self.new_memory()) for origin in origins]

    @rule(seconds=st.sampled_from([5.0, 11.0, 16.0, 29.0, 34.0]))
    def let_time_pass(self, seconds: float) -> None:
        if not self.conditional_deletes:  # the race that is accepted: a delete that takes half of the lease's time
            for one in self.workers:
                if isinstance(one.request, Delete):
                    seconds = min(seconds, one.begun + SECONDS / 2 - self.time)
        self.time += seconds

    @precondition(lambda self: self.free())
    @rule(pick=WHICH)
    def look(self, pick: int) -> None:
        """A worker wants the lease, and nothing is in its way."""
        worker = self.free()[pick % len(self.free())]
        self.begin(worker, "acquire")
        while worker.request is not None:
            self.answer_now(worker)

    @precondition(lambda self: self.free())
    @rule(pick=WHICH, step=st.sampled_from([6.0, 12.0]))
    def look_for_a_while(self, pick: int, step: float) -> None:
        worker = self.free()[pick % len(self.free())]
        for _ in range(int(40 / step)):
            self.begin(worker, "acquire")
            while worker.request is not None:
                self.answer_now(worker)
            if worker.held is not None:
                return
            self.let_time_pass(step)

    @precondition(lambda self: self.free())
    @rule(pick=WHICH)
    def begin_to_acquire(self, pick: int) -> None:
        self.begin(self.free()[pick % len(self.free())], "acquire")

    @precondition(lambda self: self.holding())
    @rule(pick=WHICH)
    def begin_to_renew(self, pick: int) -> None:
        self.begin(self.holding()[pick % len(self.holding())], "renew")

    @precondition(lambda self: self.holding())
    @rule(pick=WHICH)
    def begin_to_release(self, pick: int) -> None:
        self.begin(self.holding()[pick % len(self.holding())], "release")

    @precondition(lambda self: self.asking())
    @rule(pick=WHICH)
    def answer(self, pick: int) -> None:
        self.answer_now(self.asking()[pick % len(self.asking())])

    @precondition(lambda self: self.asking())
    @rule(pick=WHICH, fate=st.sampled_from(["slow answer", "sent again", "busy", "away", "late", "for nothing"]))
    def trouble(self, pick: int, fate: str) -> None:
        """The network, or the server, does what it may do to a request.

        A delete without a condition is not repeated: it could take away what was made since.
        """
        worker = self.asking()[pick % len(self.asking())]
        request = worker.request
        assert request is not None and worker.protocol is not None
        unsafe = isinstance(request, Delete) and not self.conditional_deletes
        if fate == "slow answer" and worker.reply is None:
            worker.reply = self.carry_out(worker.owner.text, request)
        elif fate == "sent again" and not unsafe:  # the answer is lost, and the client sends the request again
            worker.reply = None
            self.carry_out(worker.owner.text, request)
        elif fate == "busy" and isinstance(request, Put):
            worker.reply = Refused()
        elif fate in ("away", "late", "for nothing"):  # the protocol is over, and the lease is what it was
            worker.protocol.close()
            replied = worker.reply is not None
            worker.protocol = worker.request = worker.reply = None
            if fate == "away" and not (unsafe and replied):
                self.carry_out(worker.owner.text, request)
            elif fate == "late" and not unsafe:
                self.late.append((worker.owner.text, request))

    @precondition(lambda self: self.late)
    @rule(pick=st.integers(0, 9))
    def deliver_late(self, pick: int) -> None:
        self.carry_out(*self.late.pop(pick % len(self.late)))

    @rule(number=st.integers(0, 2), fate=st.sampled_from(["stop or wake", "stop or wake", "crash"]))
    def strike(self, number: int, fate: str) -> None:
        """A process is stopped, or wakes; or it dies, and another begins on a machine that was just started."""
        worker = self.workers[number]
        unsafe = isinstance(worker.request, Delete) and not self.conditional_deletes
        if fate == "crash":
            if worker.request is not None and not unsafe:
                self.late.append((worker.owner.text, worker.request))
            self.workers[number] = Worker(-self.time, memory=self.new_memory())
        elif not unsafe:
            worker.paused = not worker.paused

    @invariant()
    def nobody_else_believes_to_hold_it(self) -> None:
        if sum(map(self.believes, self.workers)) > 1:
            raise Broken("two workers believe to hold one lease")

    def teardown(self) -> None:
        """Whatever happened: where all others died, one that looks regularly gets the lease in bounded time."""
        if not self.must_be_taken_over:
            return
        observer = Worker(123.0, memory=self.new_memory())
        began = self.time
        while (held := self.server.drive(self.acquire(observer))) is None:
            self.time += POLL_S
            if self.time - began > SECONDS * (1 + MARGIN) + 2 * POLL_S:
                raise Broken("a dead worker's lease was not taken over")
        if held.place != PLACE or held.claim.owner != observer.owner.text:
            raise Broken("a lease in another's name")


class LeasesWhereDeletesHaveNoCondition(Leases):
    conditional_deletes = False


class LeasesOfNeighbours(Leases):
    """All workers are on one machine, and see who of them is not there any more."""

    def is_dead(self, claim: Claim) -> bool:
        return bool(claim.owner) and claim.owner not in {one.owner.text for one in self.workers}

    def teardown(self) -> None:
        """Where all others died, one gets the lease at its first look."""
        self.workers = []
        observer = Worker(123.0)
        held = self.server.drive(self.acquire(observer))
        if held is None or held.claim.owner != observer.owner.text:
            raise Broken("a dead worker's lease was not taken over")


SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
THOROUGH = settings(stateful_step_count=40, suppress_health_check=SLOW_IS_FINE)
TEETH = settings(
    THOROUGH, max_examples=4000, phases=[Phase.generate], derandomize=True, database=None, report_multiple_bugs=False
)


@pytest.mark.parametrize("machine", [Leases, LeasesWhereDeletesHaveNoCondition, LeasesOfNeighbours])
def test_one_worker_at_a_time_believes_to_hold_the_lease_and_a_dead_ones_is_taken_over(machine: type[Leases]) -> None:
    run_state_machine_as_test(machine, settings=THOROUGH)


# Mutants: each leaves one precaution out.


class WallClock(Leases):
    """The observer subtracts the holder's time of writing from its own time of day."""

    must_be_taken_over = False  # a clock that is late never would: here it is about one that is early

    def new_memory(self) -> Memory:
        machine = self

        class Stamps(Memory):
            def age(self, place: str, etag: str, now: float) -> float:
                return now - machine.written.get(etag, now)

        return Stamps()

    def __init__(self) -> None:
        super().__init__()
        self.written: dict[str, float] = {}

    def carry_out(self, sender: str, request: Request) -> Answer:
        answer = super().carry_out(sender, request)
        writers = [one for one in self.workers if one.owner.text == sender]
        if isinstance(answer, Stored) and writers:
            self.written[answer.etag] = writers[0].origin + self.time
        return answer


def _unconditional(protocol: Protocol[Held | None]) -> Protocol[Held | None]:
    answers: list[Answer] | None = None
    while True:
        try:
            requests = next(protocol) if answers is None else protocol.send(answers)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        answers = yield [replace(one, if_etag=ANY) if isinstance(one, Put) and one.if_etag else one for one in requests]


class TakeOverWithoutIfMatch(Leases):
    def acquire(self, worker: Worker) -> Protocol[Held | None]:
        return _unconditional(super().acquire(worker))


class RenewalWithoutIfMatch(Leases):
    def renew(self, worker: Worker) -> Protocol[Held | None]:
        return _unconditional(super().renew(worker))


class ReleaseWithoutCheck(Leases):
    def release(self, worker: Worker) -> Protocol[None]:
        yield [Delete(PLACE)]


class ReleaseUntilTheLastMoment(LeasesWhereDeletesHaveNoCondition):
    """The server deletes without a condition, and is asked to until the lease's time is over."""

    def release(self, worker: Worker) -> Protocol[None]:
        assert worker.held is not None
        return leasing.release(worker.held, self.clock(worker), conditional=True)


class RenewalsThatLookAlike(Leases):
    """A renewal is sent again with the bytes of the one before, and counts from when it was sent the last time."""

    def renew(self, worker: Worker) -> Protocol[Held | None]:
        assert worker.held is not None
        held, since = worker.held, self.clock(worker)()
        claim = replace(held.claim, beat=held.claim.beat + 1)
        (answer,) = yield [Put(PLACE, claim.content(), if_etag=held.etag)]
        if isinstance(answer, Stored):
            return Held(PLACE, claim, answer.etag, since)
        (found,) = yield [Get(PLACE)]
        if isinstance(found, Found) and Claim.parse(found.raw, SECONDS) == claim:
            return Held(PLACE, claim, found.etag, since)
        return None


class SeenBeforeItWasThere(Leases):
    """An observation is dated by when the observer began, not by when it was answered."""

    def acquire(self, worker: Worker) -> Protocol[Held | None]:
        now = self.clock(worker)()
        return leasing.acquire(PLACE, worker.owner, SECONDS, worker.memory, lambda: now)


class HeldFromTheAnswerOn(Leases):
    """A lease counts from when its owner heard of it, not from when it asked."""

    def ended(self, worker: Worker, held: Held | None) -> Held | None:
        return None if held is None else replace(held, since=self.clock(worker)())


class TakenFromTheLiving(Leases):
    """A process that only this observer does not see is taken for dead."""

    must_be_taken_over = False

    def is_dead(self, claim: Claim) -> bool:
        return True


class NeverTakenOver(Leases):
    def new_memory(self) -> Memory:
        class Forgetful(Memory):
            def age(self, place: str, etag: str, now: float) -> float:
                return 0.0

        return Forgetful()


# For each the shortest history that shows what it is for.


def play(machine: Leases, *steps: tuple[Any, ...]) -> None:
    """Carry steps out, and see after each whether the promises hold."""
    machine.start([0.0, 5000.0, 40.0])
    for verb, *rest in steps:
        if verb == "pass":
            machine.let_time_pass(rest[0])
            continue
        worker = machine.workers[rest[0]]
        if verb in ("acquire", "renew", "release"):
            machine.begin(worker, verb)
            if "step by step" not in rest:
                answer_all(machine, worker)
        elif verb == "answer":
            for _ in range(rest[1]) if len(rest) > 1 else ():
                machine.answer_now(worker)
            if len(rest) == 1:
                answer_all(machine, worker)
        elif verb == "carry out" and worker.request is not None:
            worker.reply = machine.carry_out(worker.owner.text, worker.request)
        elif verb == "away" and worker.request is not None:
            machine.carry_out(worker.owner.text, worker.request)
            worker.protocol = worker.request = worker.reply = None
        elif verb == "die":
            machine.workers[rest[0]] = Worker(0.0)
        machine.nobody_else_believes_to_hold_it()
    machine.teardown()


def answer_all(machine: Leases, worker: Worker) -> None:
    while worker.request is not None:
        machine.answer_now(worker)


A, B, C = 0, 1, 2
SLOWLY = "step by step"
TAKEN_OVER = (("acquire", A), ("acquire", B), ("pass", 34), ("acquire", B))
HISTORIES: dict[type[Leases], tuple[tuple[Any, ...], ...]] = {
    WallClock: (("acquire", A), ("acquire", B)),
    TakeOverWithoutIfMatch: (
        *(("acquire", A), ("acquire", B), ("acquire", C), ("pass", 34)),
        *(("acquire", B, SLOWLY), ("answer", B, 1), ("acquire", C), ("answer", B)),
    ),
    RenewalWithoutIfMatch: (*TAKEN_OVER, ("renew", A)),
    ReleaseWithoutCheck: (*TAKEN_OVER, ("release", A)),
    ReleaseUntilTheLastMoment: (
        *(("acquire", A), ("acquire", B), ("pass", 29), ("release", A, SLOWLY)),
        *(("pass", 5), ("acquire", B), ("answer", A)),
    ),
    RenewalsThatLookAlike: (
        *(("acquire", A), ("pass", 9), ("renew", A, SLOWLY), ("away", A), ("acquire", B)),
        *(("pass", 14), ("renew", A), ("pass", 21), ("acquire", B)),
    ),
    SeenBeforeItWasThere: (
        *(("acquire", A), ("acquire", B, SLOWLY), ("answer", B, 1), ("pass", 29), ("renew", A), ("answer", B)),
        *(("pass", 5), ("acquire", B)),
    ),
    HeldFromTheAnswerOn: (
        *(("acquire", A, SLOWLY), ("carry out", A), ("acquire", B), ("pass", 34), ("acquire", B), ("answer", A)),
    ),
    TakenFromTheLiving: (("acquire", A), ("acquire", B)),
    NeverTakenOver: (("acquire", A), ("die", A)),
}


@pytest.mark.parametrize("mutant", HISTORIES)
def test_each_precaution_is_needed_in_some_history(mutant: type[Leases]) -> None:
    play(LeasesWhereDeletesHaveNoCondition() if not mutant.conditional_deletes else Leases(), *HISTORIES[mutant])
    with pytest.raises(Broken):
        play(mutant(), *HISTORIES[mutant])


@pytest.mark.stress
@pytest.mark.parametrize("mutant", HISTORIES)
def test_the_model_finds_such_a_history_by_itself(mutant: type[Leases]) -> None:
    with pytest.raises(Broken):
        run_state_machine_as_test(mutant, settings=TEETH)


@pytest.mark.stress
@pytest.mark.parametrize("machine", [Leases, LeasesWhereDeletesHaveNoCondition, LeasesOfNeighbours])
def test_no_history_breaks_a_promise(machine: type[Leases]) -> None:
    run_state_machine_as_test(machine, settings=settings(THOROUGH, max_examples=10_000))


# The protocol, request by request.


def test_a_short_task_costs_two_requests() -> None:
    server, owner = Server(), Owner()
    held = server.drive(leasing.acquire(PLACE, owner, SECONDS, Memory(), lambda: 0.0))
    server.drive(leasing.release(held, lambda: 5.0, conditional=True))
    assert [type(one) for one in server.requests] == [Put, Delete]
    assert server.objects == {}


def test_a_renewal_costs_one_request_and_a_look_at_a_known_holder_one() -> None:
    server, owner, observer, memory = Server(), Owner(), Owner(), Memory()
    held = server.drive(leasing.acquire(PLACE, owner, SECONDS, Memory(), lambda: 0.0))
    assert server.drive(leasing.acquire(PLACE, observer, SECONDS, memory, lambda: 0.0)) is None
    server.requests.clear()
    assert server.drive(leasing.renew(held, owner, lambda: 10.0)).since == 10.0
    assert server.drive(leasing.acquire(PLACE, observer, SECONDS, memory, lambda: 34.0)) is None
    assert [type(one) for one in server.requests] == [Put, Get]


def test_the_object_says_for_people_who_holds_the_lease() -> None:
    server, owner = Server(), Owner()
    server.drive(leasing.acquire(PLACE, owner, SECONDS, Memory(), lambda: 0.0))
    said = json.loads(server.objects[PLACE])
    assert said == {
        "schema": 1,
        "owner": f"{owner.host}:{owner.pid}:{owner.text.rsplit(':', 1)[1]}",
        "epoch": 1,
        "beat": 1,
        "seconds": SECONDS,
        "host": owner.host,
        "pid": owner.pid,
        "process": owner.process,
    }
    assert PLACE == "chains/etl/daily_chain/LoadTask/.leases/" + "0" * 32


def test_a_lease_that_is_released_and_taken_anew_is_not_the_one_that_was_seen_before() -> None:
    """Without a beat that grows over leases too, equal bytes would be an old lease to whoever saw the first."""
    server, owner, observer, memory = Server(), Owner(), Owner(), Memory()
    held = server.drive(leasing.acquire(PLACE, owner, SECONDS, Memory(), lambda: 0.0))
    assert server.drive(leasing.acquire(PLACE, observer, SECONDS, memory, lambda: 0.0)) is None
    server.drive(leasing.release(held, lambda: 1.0, conditional=True))
    server.drive(leasing.acquire(PLACE, owner, SECONDS, Memory(), lambda: 40.0))
    assert server.drive(leasing.acquire(PLACE, observer, SECONDS, memory, lambda: 41.0)) is None


def test_what_a_process_left_behind_itself_it_takes_over_at_once() -> None:
    server, owner, memory = Server(), Owner(), Memory()
    server.drive(leasing.acquire(PLACE, owner, SECONDS, memory, lambda: 0.0))
    assert server.drive(leasing.acquire(PLACE, owner, SECONDS, memory, lambda: 1.0)).claim.epoch == 2


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\x00",
        b"[" * 100_000,
        b"[1]",
        b'{"schema": 2}',
        b'{"schema": 1, "owner": 7, "epoch": true, "beat": -1, "seconds": NaN}',
        b'{"schema": 1, "owner": "", "epoch": 1e999, "beat": null, "seconds": 1e9}',
    ],
)
def test_what_cannot_be_read_is_a_lease_that_ends_like_any_other(raw: bytes) -> None:
    server, owner, memory = Server(), Owner(), Memory()
    server.objects[PLACE] = raw
    for seconds in (0.0, SECONDS, SECONDS * (1 + MARGIN)):
        assert server.drive(leasing.acquire(PLACE, owner, SECONDS, memory, lambda now=seconds: now)) is None
    assert server.drive(leasing.acquire(PLACE, owner, SECONDS, memory, lambda: SECONDS * 1.2)).claim.epoch == 1


def test_a_lease_lasts_as_long_as_it_says_whatever_the_observer_would_take() -> None:
    server, memory = Server(), Memory()
    server.drive(leasing.acquire(PLACE, Owner(), 600.0, Memory(), lambda: 0.0))
    observer = Owner()
    for seconds in (0.0, 300.0, 660.0):
        assert server.drive(leasing.acquire(PLACE, observer, SECONDS, memory, lambda now=seconds: now)) is None
    assert server.drive(leasing.acquire(PLACE, observer, SECONDS, memory, lambda: 661.0)) is not None


def test_an_observer_forgets_what_it_looked_at_longest_ago() -> None:
    memory = Memory(limit=2)
    memory.age("a", "1", 0.0)
    memory.age("b", "1", 0.0)
    assert memory.age("a", "1", 5.0) == 5.0
    memory.age("c", "1", 5.0)
    assert [name for name in "abc" if memory.knows(name)] == ["a", "c"]


def test_what_the_dead_left_is_taken_over_at_the_first_look_in_three_requests() -> None:
    server, dead = Server(), Owner()
    left = server.drive(leasing.acquire(PLACE, dead, SECONDS, Memory(), lambda: 0.0))
    server.requests.clear()
    taken = leasing.acquire(PLACE, Owner(), SECONDS, Memory(), lambda: 7.0, lambda claim: claim.owner == dead.text)
    assert server.drive(taken).claim.epoch == left.claim.epoch + 1
    assert [type(one) for one in server.requests] == [Put, Get, Put]


def test_a_renewal_that_the_dead_had_sent_finds_the_lease_taken() -> None:
    server, dead = Server(), Owner()
    left = server.drive(leasing.acquire(PLACE, dead, SECONDS, Memory(), lambda: 0.0))
    late = next(leasing.renew(left, dead, lambda: 6.0))
    owner = Owner()
    server.drive(leasing.acquire(PLACE, owner, SECONDS, Memory(), lambda: 7.0, lambda claim: True))
    assert [server.answer(one) for one in late] == [Refused()]
    assert Claim.parse(server.objects[PLACE], SECONDS).owner == owner.text
