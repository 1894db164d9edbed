"""Find out which of many targets have a record, in few requests: list where a page answers several, ask otherwise.

Every page begins right before the record of a target that is wanted and not known yet. So each page answers at least
that one, jumps over whatever lies between (other targets, the thousand files of a large one, the dot-folders), and
listing never needs more requests than asking one by one, whatever else the prefix holds.

Which of the two comes next is estimated: keys are hexadecimal digits of a digest, so a page covers about as much of
the key space as the pages before it did. Where that reaches a second wanted key, a page is listed.

Long ranges are listed in several places at once. Where the wanted records lie as evenly as those of a whole plan do, so
many objects from each to the next, a range is cut where pages end, and what is left free there costs one request in
twenty-five. Elsewhere each cut costs half a page, as the last page reaches into the next range.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from nectar.address import Address
from nectar.records import RECORD_NAME

PAGE = 1000  #: objects; the most that S3 lists in one answer
_FEW = 4  #: as many targets of a prefix are asked for without a look at the prefix
_AT_ONCE = 32  #: no prefix is divided where so many ranges are being listed
_LONG = 7  #: pages; what takes less than twice as many is not divided, unless it is known where pages end
_SHORT = 3  #: pages; what is cut where pages end has at least so many, lest much is left free in each
#: Of such a stretch so much is left free at its end at least, as some servers do not fill every page, and at most, lest
#: more pages are needed than without the cut.
_LEAST_FREE, _MOST_FREE = 0.04, 0.05
_ENOUGH_GAPS = 32  #: tell how evenly records lie
#: As many targets in a row are asked for because of an estimate, then a page is listed to correct it; four times as
#: many, up to a bound, after each page that answered only one target, as that confirms the estimate.
_TRUST, _MOST_TRUST = 8, 256

_DIGITS = "0123456789abcdef"
_PRECISION = 12  #: hex digits: as many tell positions apart, and a float holds them exactly
_LEADING_DIGITS = re.compile(rf"[{_DIGITS}]{{0,{_PRECISION}}}")

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Page(Protocol):
    """One answer to a request for a listing."""

    @property
    def objects(self) -> Sequence[tuple[str, int, str]]:
        """Key, size in bytes and ETag without quotes of each object; keys ascend."""

    @property
    def prefixes(self) -> Sequence[str]:
        """With a delimiter: the folders."""

    @property
    def more(self) -> bool:
        """True where the listing goes on."""


class Asking(Protocol):
    """What is asked of a server. Each method raises whatever keeps it from answering: an error is never "missing"."""

    def list_page(self, prefix: str, /, *, after: str, delimiter: str = "", most: int = PAGE) -> Page:
        """Return the objects whose keys begin with `prefix` and are greater than `after`, at most `most` of them."""

    def head_all(self, keys: list[str], /) -> list[str | None]:
        """Return the ETag of each object in the order of the keys, None where there is none; many requests at once."""

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item], /) -> Iterable[_Result]:
        """Return the results in the order of the items, calling the function many times at once."""


def present(addresses: Iterable[Address], ask: Asking) -> dict[Address, str]:
    """Return the ETag of the record of each address that has one, in the order of the addresses.

    Never more requests than addresses (one more a range if the server does not list in order), and about one for 1000
    objects of the prefixes where they lie denser.

    Raises: whatever `ask` raises.
    """
    records = {address: f"{address.path}/{RECORD_NAME}" for address in addresses}
    by_prefix: dict[str, list[str]] = {}
    for address, record in records.items():
        by_prefix.setdefault(address.prefix, []).append(record)
    single: list[str] = []  # to be asked for one by one
    ranges: list[_Range] = []
    for prefix, wanted in by_prefix.items():
        if len(wanted) <= _FEW:
            single += wanted
        else:
            ranges.append(_Range(_Wanted(f"{prefix}/", sorted(wanted)), 0, len(wanted)))
    found: dict[str, str] = {}
    while ranges:
        ranges = [part.beginning_with_a_page(single) for part in _divided(ranges)]
        ranges = [part for part in ranges if part]
        seen = ask.map(functools.partial(_list_one_page, ask), ranges)
        left = [part.seen(page, found, single) for part, page in zip(ranges, seen, strict=True)]
        ranges = [part for part in left if part]
    if single:
        etags = ask.head_all(single)
        found.update((record, etag) for record, etag in zip(single, etags, strict=True) if etag is not None)
    return {address: found[record] for address, record in records.items() if record in found}


@dataclass(slots=True)
class _Wanted:
    """The records wanted of one prefix."""

    prefix: str  #: with its slash
    records: list[str]  #: keys of objects, ascending
    positions: list[float] = field(init=False)  #: of each in the key space
    known: frozenset[str] = field(init=False)
    gaps: int = 0  #: from one record to the next one, seen so far
    objects: int = 0  #: in these gaps
    squares: int = 0  #: the sum over these gaps of their objects, squared

    def __post_init__(self) -> None:
        self.positions = [self.position(record) for record in self.records]
        self.known = frozenset(self.records)

    def note(self, gaps: Sequence[int]) -> None:
        """Take in how many objects lie from one record to the next one."""
        self.gaps += len(gaps)
        self.objects += sum(gaps)
        self.squares += sum(gap * gap for gap in gaps)

    def on_whole_pages(self, records: int, pieces: int) -> int | None:
        """Return how many records in a row nearly fill whole pages, so that `records` make at most so many pieces.

        None where they lie too unevenly to know. What is left free is twice the deviation to be expected of the sum of
        so many gaps, whose mean is known from those that were seen.
        """
        if self.gaps < _ENOUGH_GAPS:
            return None
        mean = self.objects / self.gaps
        variance = max(0.0, self.squares / self.gaps - mean * mean)
        least = max(_SHORT, math.ceil(records * mean / PAGE / pieces))
        for pages in range(least, max(least + 1, _LONG)):
            room = pages * PAGE
            free = max(_LEAST_FREE * room, 2 * math.sqrt(room / mean * variance * (1 + room / self.objects)))
            if free <= _MOST_FREE * room:
                return int((room - free) / mean)
        return None

    def position(self, key: str) -> float:
        """Return where an object lies in the key space, a whole number below 16 ** 12; never descending."""
        digits = _LEADING_DIGITS.match(key, len(self.prefix))
        assert digits is not None  # as no digit will do
        value = int(digits[0].ljust(_PRECISION, "0"), 16)
        if len(digits[0]) < _PRECISION and digits.end() < len(key):  # a foreign object
            smaller = sum(digit < key[digits.end()] for digit in _DIGITS)
            value += smaller * 16 ** (_PRECISION - len(digits[0]) - 1)
        return float(value)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one page told of a range."""

    etags: dict[str, str]  #: by the record's key
    first: int  #: the first record of the range that the page did not reach
    covered: float  #: how much of the key space the page covers
    gaps: Sequence[int] = ()  #: objects from one of the range's records to the next one


@dataclass(frozen=True, slots=True)
class _Range:
    """Wanted records of one prefix that nothing is known of yet."""

    wanted: _Wanted
    first: int
    end: int
    width: float | None = None  #: how much of the key space a page probably covers; None: no page was seen
    trust: int = _TRUST // 4
    due: bool = True  #: True where a page is to be listed before anything else is concluded

    def __bool__(self) -> bool:
        return self.first < self.end

    def pages(self) -> Iterator[int]:
        """Yield the records at which the pages probably begin; those that no page covers are cheaper asked for."""
        positions, index, width, trust = self.wanted.positions, self.first, self.width or 0.0, self.trust
        asked = trust if self.due else 0
        while index < self.end:
            after = bisect_right(positions, positions[index] + width, index, self.end)
            if after - index > 1:
                yield index
                asked, trust = 0, _TRUST
            elif asked == trust:
                yield index
                asked, trust = 0, min(4 * trust, _MOST_TRUST)
            else:
                asked += 1
            index = after
            if self.width is None:
                return

    def long(self, pages: int) -> float:
        """Return how many pages are worth a range; fewer where they lie apart, as none reaches into the next range."""
        positions = self.wanted.positions
        space = positions[self.end - 1] - positions[self.first]
        return max(1.0, _LONG * min(1.0, pages * (self.width or 0.0) / space)) if space else _LONG

    def divided(self, pieces: int, begins: Sequence[int]) -> list[_Range]:
        """Return some ranges, at most so many: cut where pages end, otherwise of equally many pages."""
        if pieces < 2:
            return [self]
        stretch = self.wanted.on_whole_pages(self.end - self.first, pieces)
        if stretch is not None:
            return self.cut(range(self.first + stretch, self.end, stretch))
        pieces = min(pieces, int(len(begins) / self.long(len(begins))))
        return self.cut([begins[len(begins) * piece // pieces] for piece in range(1, pieces)])

    def cut(self, cuts: Iterable[int]) -> list[_Range]:
        """Return the ranges between some records."""
        bounds = itertools.pairwise([self.first, *cuts, self.end])
        return [replace(self, first=first, end=end, due=self.due or first > self.first) for first, end in bounds]

    def beginning_with_a_page(self, single: list[str]) -> _Range:
        """Return the range without the records at its beginning that are cheaper asked for: they go to `single`."""
        index = next(self.pages(), self.end)
        single += self.wanted.records[self.first : index]
        return replace(self, first=index)

    def seen(self, page: _Seen | None, found: dict[str, str], single: list[str]) -> _Range:
        """Return what is left of the range after a page; all of it goes to `single` where the page tells nothing."""
        if page is None:
            single += self.wanted.records[self.first : self.end]
            return replace(self, first=self.end)
        found.update(page.etags)
        self.wanted.note(page.gaps)
        width = page.covered if self.width is None else (self.width + page.covered) / 2
        trust = min(4 * self.trust, _MOST_TRUST) if page.first == self.first + 1 else _TRUST
        return replace(self, first=page.first, width=width, trust=trust, due=False)


def _divided(ranges: Sequence[_Range]) -> list[_Range]:
    """Return the ranges, long ones divided so that about `_AT_ONCE` are listed at the same time."""
    ranges = [part for part in ranges if part]
    if len(ranges) >= _AT_ONCE:
        return ranges
    begins = [list(part.pages()) for part in ranges]
    expected = max(1, sum(map(len, begins)))
    divided = []
    for part, pages in zip(ranges, begins, strict=True):
        divided += part.divided(_AT_ONCE * len(pages) // expected, pages)
    return divided


def _list_one_page(ask: Asking, part: _Range) -> _Seen | None:
    """Return what the page that begins with the first record of a range says; None where nothing follows from it."""
    records = part.wanted.records
    after = records[part.first][:-1]  # a little less than the record, and more than what lies before it
    page = ask.list_page(part.wanted.prefix, after=after, most=PAGE)
    keys = [key for key, _, _ in page.objects]
    # Some servers list in no order, or do not know where to begin: what their page lacks may be there all the same.
    if not all(map(operator.lt, itertools.chain([after], keys), keys)):
        return None
    etags = {key: etag for key, _, etag in page.objects if key in part.wanted.known}
    if not page.more:
        return _Seen(etags, part.end, 0.0)
    reached = bisect_right(records, keys[-1], part.first, part.end) if keys else part.first
    if reached == part.first:
        return None
    covered = part.wanted.position(_last_answered(keys, part)) - part.wanted.positions[part.first]
    places = [bisect_left(keys, record) for record in records[part.first : reached]]
    return _Seen(etags, reached, covered, list(map(operator.sub, places[1:], places)))


def _last_answered(keys: Sequence[str], part: _Range) -> str:
    """Return the last of the keys in a folder whose record would lie on the page, the range's first record if none."""
    records, prefix = part.wanted.records, part.wanted.prefix
    name, slash, _ = keys[-1][len(prefix) :].partition("/")
    folder = f"{prefix}{name}/"
    if not slash or keys[-1] >= folder + RECORD_NAME:
        return keys[-1]
    before = bisect_left(keys, folder)
    return keys[before - 1] if before else records[part.first]
