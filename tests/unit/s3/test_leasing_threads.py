"""The keeper of leases: its thread, its clock (which a test moves), forks, and a store that goes away."""

from __future__ import annotations

import ast
import hashlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import pytest

from nectar import errors, process_table
from nectar.address import Address
from nectar.stores.s3.holding import LeaseKeeper, S3Lease
from nectar.stores.s3.leasing import Claim, Owner, place_of
from nectar.stores.s3.messages import Absent, Answer, Delete, Deleted, Found, Put, Refused, Request, Stored

PATIENCE_S = 30.0
SECONDS = 30.0
ADDRESS = Address("chains/etl/daily_chain/LoadTask", "0" * 32)
PLACE = place_of(ADDRESS)


def addresses(count: int) -> list[Address]:
    return [Address(ADDRESS.prefix, f"{number:032x}") for number in range(count)]


class World:
    """A server that many threads ask, and the time of one process."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.now = 1000.0
        self.objects: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.askers: set[str] = set()  #: names of the threads that asked
        self.away: Callable[[Request], bool] = lambda request: False
        self.gate = threading.Event()  #: while it is not set, renewals wait before they are carried out
        self.gate.set()
        self.at_gate = 0
        self.settled = 0  #: how often protocols were carried out together
        self.looks = 0  #: of the keepers' threads at the clock
        self.keepers: list[LeaseKeeper] = []

    def keeper(self, **options: Any) -> LeaseKeeper:
        keeper = LeaseKeeper(self.settle_all, seconds=SECONDS, clock=self.clock, **options)
        self.keepers.append(keeper)
        return keeper

    def clock(self) -> float:
        if threading.current_thread().name == "nectar-leases":
            with self.changed:
                self.looks += 1
                self.changed.notify_all()
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for keeper in self.keepers:
            keeper.wake()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so; it is looked at whenever the server has answered."""
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE_S)

    def renewals(self, address: Address = ADDRESS) -> int:
        return sum(isinstance(one, Put) and one.key == place_of(address) and bool(one.if_etag) for one in self.requests)

    def claim(self, address: Address = ADDRESS) -> Claim:
        return Claim.parse(self.objects[place_of(address)], SECONDS)

    def settle_all(self, protocols: Sequence[Generator[list[Request], list[Answer], Any]]) -> list[Any]:
        with self.changed:
            self.settled += 1
        return [self.end_of(protocol) for protocol in protocols]

    def end_of(self, protocol: Generator[list[Request], list[Answer], Any]) -> Any:
        try:
            return self.drive(protocol)
        except errors.StoreUnreachable as error:
            return error

    def drive(self, protocol: Generator[list[Request], list[Answer], Any]) -> Any:
        answers: list[Answer] | None = None
        while True:
            try:
                requests = protocol.send(answers) if answers is not None else next(protocol)
            except StopIteration as end:
                with self.changed:
                    self.changed.notify_all()
                return end.value
            answers = [self.answer(request) for request in requests]

    def answer(self, request: Request) -> Answer:
        if isinstance(request, Put) and request.if_etag and not self.gate.is_set():
            with self.changed:
                self.at_gate += 1
                self.changed.notify_all()
            assert self.gate.wait(PATIENCE_S)
        with self.changed:
            self.requests.append(request)
            self.askers.add(threading.current_thread().name)
            self.changed.notify_all()
            if self.away(request):
                raise errors.StoreUnreachable("the store `s3://test` cannot be reached", hint="wait")
            raw = self.objects.get(request.key)
            there = None if raw is None else hashlib.md5(raw).hexdigest()
            if isinstance(request, Put):
                if there != request.if_etag:
                    return Refused()
                self.objects[request.key] = request.content.raw
                return Stored(hashlib.md5(request.content.raw).hexdigest())
            if isinstance(request, Delete):
                if request.if_etag == there:
                    self.objects.pop(request.key, None)
                return Deleted()
            return Absent() if raw is None or there is None else Found(there, len(raw), {}, raw)


def threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "nectar-leases"]


def the_thread() -> threading.Thread | None:
    found = threads()
    assert len(found) <= 1
    return found[0] if found else None


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.gate.set()
    world.away = lambda request: True
    world.advance(10 * SECONDS)  # what a test still holds is lost, and the threads end
    for thread in threads():
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def taken(keeper: LeaseKeeper, address: Address = ADDRESS) -> S3Lease:
    lease = keeper.lease(address)
    assert lease is not None
    return lease


def renewed(world: World, lease: S3Lease) -> Callable[[], bool]:
    return lambda: lease.held.since == world.now


def wait_until(world: World, lease: S3Lease, so: Callable[[], bool]) -> None:
    """Wait for what the thread notes after the server's answer: it tells whoever waits for the keeper."""
    with lease._keeper._changed:
        assert lease._keeper._changed.wait_for(so, PATIENCE_S)


def test_a_short_task_costs_two_requests_and_leaves_nothing(world: World) -> None:
    lease = taken(world.keeper())
    world.advance(5)
    lease.release()
    assert [type(one) for one in world.requests] == [Put, Delete]
    assert world.objects == {}
    assert not lease.lost


def test_a_lease_is_renewed_at_a_third_of_its_time_by_one_thread_that_ends(world: World) -> None:
    keeper = world.keeper()
    lease = taken(keeper)
    thread = the_thread()
    assert thread is not None and thread.daemon
    world.advance(9)
    assert world.renewals() == 0
    for count in range(1, 13):
        world.advance(10)
        world.wait_for(lambda count=count: world.renewals() == count)  # type: ignore[misc]
        wait_until(world, lease, renewed(world, lease))
    assert not lease.lost
    assert world.claim().epoch == 1
    lease.release()
    world.advance(10)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert world.objects == {}
    assert world.askers == {"MainThread", "nectar-leases"}


def test_tasks_that_follow_each_other_share_the_thread_and_a_later_one_gets_another(world: World) -> None:
    keeper = world.keeper()
    taken(keeper).release()
    first = the_thread()
    looks = world.looks
    keeper.wake()
    world.wait_for(lambda: world.looks > looks)  # it sees that nothing is held
    taken(keeper).release()
    assert first is not None
    assert the_thread() is first
    world.advance(SECONDS)
    first.join(PATIENCE_S)
    lease = taken(keeper)
    assert the_thread() not in (None, first)
    world.advance(10)
    wait_until(world, lease, renewed(world, lease))
    lease.release()


def test_one_address_is_leased_once_in_a_process_and_between_processes(world: World) -> None:
    keeper, other = world.keeper(), world.keeper()
    lease = taken(keeper)
    assert keeper.lease(ADDRESS) is None
    assert len(world.requests) == 1
    assert other.lease(ADDRESS) is None
    lease.release()
    again = taken(other)
    assert keeper.lease(ADDRESS) is None
    again.release()


def test_of_many_threads_one_gets_the_lease(world: World) -> None:
    keeper = world.keeper()
    start = threading.Barrier(16)
    got: list[S3Lease | None] = []

    def want() -> None:
        start.wait()
        got.append(keeper.lease(ADDRESS))

    wanting = [threading.Thread(target=want) for _ in range(16)]
    for thread in wanting:
        thread.start()
    for thread in wanting:
        thread.join()
    (lease,) = [one for one in got if one is not None]
    lease.release()
    assert len(got) == 16


def test_many_leases_are_taken_together_renewed_together_and_given_back_together(world: World) -> None:
    keeper = world.keeper()
    leases = keeper.lease_all(addresses(200))
    assert (world.settled, len(world.requests)) == (1, 200)
    world.advance(10)
    for lease in leases:
        assert lease is not None
        wait_until(world, lease, renewed(world, lease))
    keeper.give_back([one for one in leases if one is not None])
    assert world.settled == 3
    assert world.objects == {}


def test_of_many_those_that_another_has_or_the_server_does_not_answer_for_are_not_got(world: World) -> None:
    keeper, other = world.keeper(), world.keeper()
    own, theirs, away, free = addresses(4)
    held = [taken(keeper, own), taken(other, theirs)]
    world.away = lambda request: request.key == place_of(away)
    got = keeper.lease_all([own, theirs, away, free])
    assert [one is not None for one in got] == [False, False, False, True]
    world.away = lambda request: False
    keeper.give_back([*held[:1], *(one for one in got if one is not None), taken(keeper, away)])
    other.give_back(held[1:])
    assert world.objects == {}


def test_what_a_process_that_was_killed_held_is_taken_over_at_once_on_its_machine(world: World) -> None:
    far, near = os.pipe()
    child = os.fork()
    if not child:
        try:
            world.keeper().lease_all(addresses(3))
            os.write(near, repr(world.objects).encode())
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(near)
    with open(far, "rb") as said:
        world.objects = ast.literal_eval(said.read().decode())
    keeper = world.keeper()
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # it has died, and nobody has waited for it yet
    leases = [one for one in keeper.lease_all(addresses(3)) if one is not None]
    assert [one.taken_over for one in leases] == [True] * 3
    os.waitpid(child, 0)
    keeper.give_back(leases)
    assert world.objects == {}


@pytest.mark.parametrize("stopped", [False, True])
def test_what_a_living_process_of_this_machine_holds_is_not_taken_from_it(world: World, stopped: bool) -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        if stopped:
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        claim = Claim(Owner().text, 1, 1, SECONDS, process_table.name_of(process.pid))
        world.objects[PLACE] = claim.content().raw
        assert claim.process
        assert world.keeper().lease(ADDRESS) is None
        process.kill()


def test_many_leases_are_renewed_together(world: World) -> None:
    keeper = world.keeper()
    leases = [taken(keeper, address) for address in addresses(200)]
    world.advance(10)
    for lease in leases:
        wait_until(world, lease, renewed(world, lease))
    assert [world.renewals(address) for address in addresses(200)] == [1] * 200
    assert world.settled == 200 + 1
    for lease in leases:
        lease.release()
    assert world.objects == {}


def test_a_lease_that_another_took_over_is_lost_and_its_release_leaves_the_others_alone(world: World) -> None:
    keeper = world.keeper()
    lease = taken(keeper)
    theirs = world.objects[PLACE] = Claim("elsewhere:1:0123", 2, 1, SECONDS).content().raw
    assert not lease.lost  # nobody can know yet
    world.advance(10)
    wait_until(world, lease, lambda: lease.lost)
    lease.release()
    assert world.objects == {PLACE: theirs}
    assert not any(isinstance(one, Delete) for one in world.requests)


def test_a_stopped_owner_that_wakes_finds_out_that_it_lost(world: World) -> None:
    stopped, other = world.keeper(), world.keeper()
    lease = taken(stopped)
    assert other.lease(ADDRESS) is None
    world.now += SECONDS * 1.1 + 1
    theirs = taken(other)
    assert lease.lost and not theirs.lost
    world.advance(0)
    wait_until(world, lease, lambda: lease.gone)
    lease.release()
    assert world.claim().owner == theirs.held.claim.owner
    theirs.release()
    assert world.objects == {}


def test_a_stopped_owner_whose_lease_nobody_took_goes_on(world: World) -> None:
    lease = taken(world.keeper())
    world.now += 2 * SECONDS
    assert lease.lost
    world.advance(0)
    wait_until(world, lease, renewed(world, lease))
    assert not lease.lost
    lease.release()
    assert world.objects == {}


def test_a_renewal_is_tried_again_while_the_store_is_away(world: World) -> None:
    lease = taken(world.keeper())
    world.away = lambda request: True
    world.advance(10)
    world.wait_for(lambda: world.renewals() == 1)
    wait_until(world, lease, lambda: lease.due > world.now)
    assert not lease.lost
    world.away = lambda request: False
    world.advance(3)
    wait_until(world, lease, renewed(world, lease))
    lease.release()
    assert world.objects == {}


def test_a_lease_is_lost_when_the_store_stays_away_for_its_time(world: World) -> None:
    keeper = world.keeper()
    lease = taken(keeper)
    world.away = lambda request: True
    tries = 0
    for _ in range(40):
        if lease.gone:
            break
        world.advance(1)
        wait_until(world, lease, lambda: lease.gone or (lease.due > world.now and not lease.renewing))
        tries = world.renewals()
    assert world.now == 1000 + SECONDS
    assert lease.lost
    assert 5 <= tries <= 9
    world.away = lambda request: False
    assert keeper.lease(ADDRESS) is None  # its task is still at work here
    lease.release()
    assert PLACE in world.objects  # it was left to its end
    again = taken(keeper)  # what this process itself left there
    assert again.held.claim.epoch == 2
    again.release()


def test_one_lease_that_the_server_does_not_answer_for_does_not_cost_the_others(world: World) -> None:
    keeper = world.keeper()
    leases = [taken(keeper, address) for address in addresses(5)]
    world.away = lambda request: request.key == PLACE
    world.advance(10)
    for lease in leases[1:]:
        wait_until(world, lease, renewed(world, lease))
    assert leases[0].held.since == 1000
    world.away = lambda request: False
    for lease in leases:
        lease.release()


def test_a_store_that_cannot_be_written_is_an_error_and_not_a_holder(world: World) -> None:
    keeper = world.keeper()
    world.away = lambda request: True
    with pytest.raises(errors.StoreUnreachable):
        keeper.lease(ADDRESS)
    world.away = lambda request: False
    taken(keeper).release()


def test_a_lease_that_cannot_be_given_back_is_left_to_its_end(world: World, caplog: pytest.LogCaptureFixture) -> None:
    keeper = world.keeper()
    lease = taken(keeper)
    world.away = lambda request: True
    lease.release()
    lease.release()
    assert [one.message for one in caplog.records] == ["lease not given back, it ends by itself"]
    world.away = lambda request: False
    taken(keeper).release()
    assert world.objects == {}


@pytest.mark.parametrize(("conditional", "left"), [(True, 0), (False, 1)])
def test_without_conditional_deletes_a_lease_is_given_back_in_its_first_half_only(
    world: World, conditional: bool, left: int
) -> None:
    keeper = world.keeper(conditional_deletes=conditional)
    lease = taken(keeper)
    world.away = lambda request: isinstance(request, Put)
    world.advance(16)
    world.wait_for(lambda: world.renewals() == 1)
    lease.release()
    assert len(world.objects) == left


def test_a_release_waits_for_the_renewal_that_is_on_its_way(world: World) -> None:
    lease = taken(world.keeper())
    world.gate.clear()
    world.advance(10)
    world.wait_for(lambda: world.at_gate == 1)
    releasing = threading.Thread(target=lease.release)
    releasing.start()
    assert not any(isinstance(one, Delete) for one in world.requests)
    world.gate.set()
    releasing.join(PATIENCE_S)
    assert not releasing.is_alive()
    assert [type(one) for one in world.requests] == [Put, Put, Delete]
    assert world.objects == {}


def in_child(do: Callable[[], bool]) -> bool:
    """Say whether `do` returns True in a forked child."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            code = 0 if do() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_holds_nothing_and_gives_nothing_back(world: World) -> None:
    keeper = world.keeper()
    lease = taken(keeper)
    owner = lease.held.claim.owner

    def look() -> bool:
        before = len(world.requests)
        lease.release()
        if not lease.lost or len(world.requests) != before or the_thread() is not None:
            return False
        if keeper.lease(ADDRESS) is not None:  # its parent has it, as the server says
            return False
        own = taken(keeper, addresses(2)[1])
        its_thread = the_thread()
        own.release()
        return own.held.claim.owner != owner and its_thread is not None and world.objects.keys() == {PLACE}

    assert in_child(look)
    assert not lease.lost
    world.advance(10)
    wait_until(world, lease, renewed(world, lease))
    lease.release()
    assert world.objects == {}


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_child_that_is_forked_during_a_renewal_is_not_stuck(world: World) -> None:
    keeper = world.keeper()
    lease = taken(keeper)
    world.gate.clear()
    world.advance(10)
    world.wait_for(lambda: world.at_gate == 1)
    with keeper._changed:  # a thread of the parent is in the middle of something

        def look() -> bool:
            lease.release()
            return keeper.lease(ADDRESS) is None

        assert in_child(look)
    world.gate.set()
    wait_until(world, lease, renewed(world, lease))
    lease.release()
    assert world.objects == {}


@pytest.mark.parametrize("seconds", [0.0, -1.0, 3601.0, float("nan")])
def test_a_lease_lasts_for_some_time_up_to_an_hour(seconds: float) -> None:
    with pytest.raises(errors.SettingsInvalid):
        LeaseKeeper(World().drive, seconds=seconds)
