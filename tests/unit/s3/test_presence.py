"""Presence is answered rightly whatever lies in the bucket, and in few requests."""

from __future__ import annotations

import random
import threading
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nectar import errors
from nectar.address import Address
from nectar.stores.s3.presence import present

PREFIX = "chains/etl/flights_chain/LoadTask"
FIVE = ("log/stderr.log", "log/stdout.log", "out.txt", "params.txt", "record.json")
MORE = ("a.csv", "b.csv", "c.csv", "d.csv")
KEYS = 16**32

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Page:
    """A page as the real client gives it."""

    objects: Sequence[tuple[str, int, str]]
    prefixes: Sequence[str]
    more: bool


class Requests:
    """What every simulated bucket shares: it counts what is asked, and by which prefix."""

    def __init__(self) -> None:
        self.pages: Counter[str] = Counter()
        self.heads: Counter[str] = Counter()
        self.rounds = 0  #: how often somebody waited for answers
        self._guard = threading.Lock()

    @property
    def sum(self) -> int:
        return self.pages.total() + self.heads.total()

    def objects_from(self, prefix: str, after: str) -> Iterator[str]:
        raise NotImplementedError

    def has(self, key: str) -> bool:
        raise NotImplementedError

    def list_page(self, prefix: str, /, *, after: str, delimiter: str = "", most: int = 1000) -> Page:
        with self._guard:
            self.pages[prefix.rstrip("/")] += 1
        objects: list[tuple[str, int, str]] = []
        for key in self.objects_from(prefix, after):
            if len(objects) == most:
                return Page(objects, (), True)
            objects.append((key, 1, etag_of(key)))
        return Page(objects, (), False)

    def head_all(self, keys: list[str], /) -> list[str | None]:
        self.rounds += 1
        self.heads.update(key.rsplit("/", 2)[0] for key in keys)
        return [etag_of(key) if self.has(key) else None for key in keys]

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item], /) -> list[_Result]:
        self.rounds += 1
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(function, items))


class Bucket(Requests):
    """A bucket with these objects."""

    def __init__(self, objects: Iterable[str]) -> None:
        super().__init__()
        self.objects = sorted(objects)

    def objects_from(self, prefix: str, after: str) -> Iterator[str]:
        for index in range(
            max(bisect_left(self.objects, prefix), bisect_right(self.objects, after)), len(self.objects)
        ):
            if not self.objects[index].startswith(prefix):
                return
            yield self.objects[index]

    def has(self, key: str) -> bool:
        index = bisect_left(self.objects, key)
        return index < len(self.objects) and self.objects[index] == key


class SomeShort(Bucket):
    """A server that fills most of its pages, but not all, as one does that keeps the names in several places."""

    def __init__(self, objects: Iterable[str]) -> None:
        super().__init__(objects)
        self.source = random.Random(1)

    def list_page(self, prefix: str, /, *, after: str, delimiter: str = "", most: int = 1000) -> Page:
        with self._guard:
            most -= self.source.choice([0, 0, 0, 0, 0, 0, self.source.randrange(25, 150)])
        return super().list_page(prefix, after=after, delimiter=delimiter, most=most)

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item], /) -> list[_Result]:
        self.rounds += 1
        return list(map(function, items))  # one after the other: which pages are short is no chance


class HugeBucket(Requests):
    """A bucket with five objects in each of many targets, none of which is made before it is asked for."""

    def __init__(self, targets: int) -> None:
        super().__init__()
        self.targets = targets

    def key(self, number: int) -> str:
        spread = (number * 0x9E3779B97F4A7C15F39CC0605CEDC835) % (KEYS // self.targets)
        return f"{number * KEYS // self.targets + spread:032x}"

    def objects_from(self, prefix: str, after: str) -> Iterator[str]:
        start = max(0, int(after[len(prefix) :][:32], 16) * self.targets // KEYS - 1)
        for number in range(start, self.targets):
            target = f"{prefix}{self.key(number)}"
            yield from (object_ for name in FIVE if (object_ := f"{target}/{name}") > after)

    def has(self, key: str) -> bool:
        digits = key.split("/")[-2]
        return self.key(int(digits, 16) * self.targets // KEYS) == digits


def etag_of(key: str) -> str:
    return f"etag of {key}"


def keys(count: int, seed: int = 1) -> list[str]:
    source = random.Random(seed)
    return [f"{source.getrandbits(128):032x}" for _ in range(count)]


def addresses(some: Iterable[str], prefix: str = PREFIX) -> list[Address]:
    return [Address(prefix, key) for key in some]


def objects(some: Iterable[str], names: Iterable[str] = FIVE, prefix: str = PREFIX) -> list[str]:
    names = tuple(names)
    return [f"{prefix}/{key}/{name}" for key in some for name in names]


def naive(wanted: Iterable[Address], bucket: Requests) -> dict[Address, str]:
    records = {address: f"{address.path}/record.json" for address in wanted}
    return {address: etag_of(record) for address, record in records.items() if bucket.has(record)}


def test_ten_thousand_targets_take_about_a_request_a_thousand_objects():
    there = keys(10_000)
    bucket = Bucket(objects(there))
    assert present(addresses(there), bucket) == naive(addresses(there), bucket)
    assert bucket.sum <= 53
    assert bucket.rounds <= 5


def test_targets_of_several_sizes_take_about_a_request_a_thousand_objects_all_the_same():
    there, source = keys(10_000), random.Random(3)
    bucket = Bucket(there_is for key in there for there_is in objects([key], [*MORE[source.randrange(5) :], *FIVE]))
    assert present(addresses(there), bucket) == naive(addresses(there), bucket)
    assert bucket.sum <= 1.08 * len(bucket.objects) / 1000
    assert bucket.rounds <= 6


def test_a_server_that_does_not_fill_each_page_is_asked_in_few_more():
    there = keys(10_000)
    bucket = SomeShort(objects(there))
    assert present(addresses(there), bucket) == naive(addresses(there), bucket)
    assert bucket.sum <= 58
    assert bucket.rounds <= 7


def test_ten_thousand_targets_of_which_none_is_there_take_one_request():
    bucket = Bucket([])
    assert present(addresses(keys(10_000)), bucket) == {}
    assert bucket.sum == 1


def test_targets_without_a_record_are_listed_as_those_with_one():
    there = keys(10_000)
    bucket = Bucket(objects(there, FIVE[:-1]))
    assert present(addresses(there), bucket) == {}
    assert bucket.sum <= 43


def test_ten_targets_in_a_prefix_of_a_million_take_ten_requests():
    bucket = HugeBucket(1_000_000)
    wanted = addresses([bucket.key(number) for number in range(0, 1_000_000, 200_000)] + keys(5))
    assert present(wanted, bucket) == naive(wanted, bucket)
    assert len(naive(wanted, bucket)) == 5
    assert bucket.sum <= 10
    assert bucket.rounds <= 4


def test_a_thousand_targets_in_a_thousand_pages_are_listed_where_a_page_answers_two():
    bucket = HugeBucket(200_000)
    wanted = addresses([bucket.key(number) for number in random.Random(2).sample(range(200_000), 500)] + keys(500))
    assert present(wanted, bucket) == naive(wanted, bucket)
    assert bucket.sum <= 560  # 1,000 one by one, 1,000 pages


def test_few_targets_are_asked_for_at_once():
    bucket = Bucket(objects(keys(10_000)))
    wanted = [address for number in range(20) for address in addresses(keys(4), f"{PREFIX}{number}")]
    assert present(wanted, bucket) == {}
    assert (bucket.pages.total(), bucket.heads.total(), bucket.rounds) == (0, 80, 1)


def test_each_of_many_prefixes_takes_what_is_fewer_keys_or_pages():
    source = random.Random(1)
    wanted, there, full_pages = [], [], {}
    for number in range(200):
        prefix = f"{PREFIX}{number}"
        some = keys(source.choice([0, 25, 50, 190, 400, 2_000, 4_000]), number)
        there += objects(some, prefix=prefix)
        wanted += addresses((some[:25] + keys(50, 1_000 + number))[:50], prefix)
        full_pages[prefix] = len(some) * 5 // 1000
    bucket = Bucket(there)
    assert present(wanted, bucket) == naive(wanted, bucket)
    for prefix, pages in full_pages.items():
        assert bucket.pages[prefix] + bucket.heads[prefix] <= min(50, pages + 1)
    assert bucket.rounds <= 25


@pytest.mark.parametrize("part", ["a", "z"])  # before the record, and behind it
def test_large_targets_are_jumped_over(part: str):
    some = keys(300)
    bucket = Bucket(objects(some, [*(f"{part}{number:04}.csv" for number in range(1_500)), "record.json"]))
    assert len(present(addresses(some), bucket)) == 300
    assert bucket.sum <= 300
    assert bucket.pages.total() <= 15


def test_one_large_target_does_not_make_the_others_be_asked_for():
    some = keys(2_000)
    bucket = Bucket(objects(some) + objects([min(some)], [f"z{number:05}" for number in range(10_000)]))
    assert len(present(addresses(some), bucket)) == 2_000
    assert bucket.sum <= 30


def test_keys_that_are_not_spread_evenly_are_listed_all_the_same():
    some = [f"000{key[3:]}" for key in keys(10_000)] + keys(10_000, 2)
    bucket = Bucket(objects(some))
    assert len(present(addresses(some), bucket)) == 20_000
    assert bucket.sum <= 110


def test_keys_that_differ_in_their_last_digits_only_are_listed():
    some = [f"{'0' * 20}{key[20:]}" for key in keys(5_000)]
    bucket = Bucket(objects(some))
    assert len(present(addresses(some), bucket)) == 5_000
    assert bucket.sum <= 30


def test_foreign_objects_are_jumped_over():
    some = keys(2_000)
    foreign = [f"{PREFIX}/5{number:06}/x" for number in range(100_000)] + [f"{PREFIX}/A{n:05}" for n in range(20_000)]
    dotted = [f"{PREFIX}/.attempts/{key}/1/log/stdout.log" for key in keys(20_000, 3)]
    bucket = Bucket(objects(some) + foreign + dotted)
    assert len(present(addresses(some), bucket)) == 2_000
    assert bucket.sum <= 25


def test_a_neighbour_whose_name_begins_alike_is_another_prefix():
    some = keys(100)
    bucket = Bucket(objects(some, prefix=f"{PREFIX}s"))
    assert present(addresses(some), bucket) == {}
    assert len(present(addresses(some, f"{PREFIX}s"), bucket)) == 100


def test_the_answer_is_in_the_order_of_the_question_and_names_nothing_twice():
    some = keys(50)
    wanted = addresses(some + some)
    assert list(present(iter(wanted), Bucket(objects(some)))) == addresses(some)
    assert present([], Bucket([])) == {}


@dataclass(frozen=True)
class Case:
    """A bucket and what is asked of it."""

    objects: list[str]
    wanted: list[Address]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    digits = st.text("09af", min_size=1, max_size=3)
    there: list[str] = []
    wanted: list[Address] = []
    for prefix in draw(st.lists(st.sampled_from(["a/T", "a/T1", "a/U"]), max_size=3, unique=True)):
        spread = draw(st.sampled_from([0, 6, 30]))  # how many digits are alike
        some = [f"{'0' * spread}{key[spread:]}" for key in keys(draw(st.integers(0, 40)), draw(st.integers(0, 99)))]
        some += [text.ljust(32, "0") for text in draw(st.lists(digits, max_size=5, unique=True))]
        for key in some:
            names = draw(st.sampled_from([FIVE, FIVE[:4], (), ("record.json",), ("record.jso", "record.jsom", "z/1")]))
            there += objects([key], names, prefix)
        there += [f"{prefix}/{name}" for name in draw(st.lists(st.text("./09Aafg~", min_size=1, max_size=6)))]
        wanted += addresses(draw(st.lists(st.sampled_from(some), max_size=60)) if some else [], prefix)
        wanted += addresses(keys(draw(st.integers(0, 9)), 1), prefix)
    return Case(list(dict.fromkeys(there)), wanted)


class SmallPages(Bucket):
    """A bucket with pages of few objects, so that small cases have many."""

    def __init__(self, objects: Iterable[str], most: int) -> None:
        super().__init__(objects)
        self.most = most

    def list_page(self, prefix: str, /, *, after: str, delimiter: str = "", most: int = 1000) -> Page:
        return super().list_page(prefix, after=after, delimiter=delimiter, most=min(most, self.most))

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item], /) -> list[_Result]:
        return list(map(function, items))  # threads would take most of the time


@given(cases(), st.integers(1, 30))
def test_whatever_lies_in_the_bucket_the_answer_is_the_naive_one_in_no_more_requests(case: Case, most: int):
    bucket = SmallPages(case.objects, most)
    assert present(case.wanted, bucket) == naive(case.wanted, bucket)
    # A page that shows nothing but objects which sort right before a record answers nothing.
    spoiled = sum("record.jso" in key.rsplit("/", 1)[-1] and not key.endswith(".json") for key in case.objects)
    assert bucket.sum <= len(set(case.wanted)) + spoiled


class Shuffled(Bucket):
    """A server that lists in no order."""

    def list_page(self, prefix: str, /, *, after: str, delimiter: str = "", most: int = 1000) -> Page:
        page = super().list_page(prefix, after="", most=100_000)
        some = list(page.objects)
        random.Random(1).shuffle(some)
        return Page(some[:most], (), len(some) > most)


class FromTheBeginning(Bucket):
    """A server that does not know `start-after`."""

    def list_page(self, prefix: str, /, *, after: str, delimiter: str = "", most: int = 1000) -> Page:
        return super().list_page(prefix, after="", most=most)


class Empty(Bucket):
    """A server that may answer with no object, though there are more."""

    def list_page(self, prefix: str, /, *, after: str, delimiter: str = "", most: int = 1000) -> Page:
        super().list_page(prefix, after=after, most=most)
        return Page((), (), True)


@pytest.mark.parametrize("server", [Shuffled, FromTheBeginning, Empty])
def test_a_server_that_does_not_list_as_it_should_is_asked_one_by_one(server: type[Bucket]):
    some = keys(500)
    bucket = server(objects(some))
    assert len(present(addresses(some + keys(10, 2)), bucket)) == 500
    assert bucket.sum <= 511


class Failing(Bucket):
    """A server that fails at one request."""

    def __init__(self, objects: Iterable[str], failing: int) -> None:
        super().__init__(objects)
        self.failing = failing

    def list_page(self, prefix: str, /, *, after: str, delimiter: str = "", most: int = 1000) -> Page:
        page = super().list_page(prefix, after=after, most=most)
        self.fail_at_last()
        return page

    def head_all(self, keys: list[str], /) -> list[str | None]:
        answers = super().head_all(keys)
        self.fail_at_last()
        return answers

    def fail_at_last(self) -> None:
        if self.sum >= self.failing:
            raise errors.StoreUnreachable("the server does not answer")


@pytest.mark.parametrize("failing", [1, 2, 5, 20, 25])
def test_a_request_that_fails_is_raised_and_never_taken_for_missing(failing: int):
    some = keys(5_000)
    with pytest.raises(errors.StoreUnreachable):
        present(addresses(some), Failing(objects(some), failing))
    with pytest.raises(errors.StoreUnreachable):
        present(addresses(keys(3)), Failing([], 1))
