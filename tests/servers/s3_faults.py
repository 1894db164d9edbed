"""What a fault proxy may do to a request of S3, and plans of who is hit: by rules, by chance with a seed, as JSON."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import parse_qs


class Kind(str, Enum):
    """What a request is about."""

    SERVICE = "service"  #: the list of buckets
    BUCKET = "bucket"  #: a bucket itself, or one of its settings
    LIST = "list"  #: the objects of a bucket
    DELETE_MANY = "delete-many"
    KEY = "key"  #: one object
    KEY_SETTING = "key-setting"  #: its tags, its ACL, its attributes
    LIST_UPLOADS = "list-uploads"
    MULTIPART_CREATE = "multipart-create"
    MULTIPART_PART = "multipart-part"
    MULTIPART_COMPLETE = "multipart-complete"
    MULTIPART_ABORT = "multipart-abort"
    MULTIPART_LIST = "multipart-list"


_OF_UPLOAD = {
    "PUT": Kind.MULTIPART_PART,
    "POST": Kind.MULTIPART_COMPLETE,
    "DELETE": Kind.MULTIPART_ABORT,
    "GET": Kind.MULTIPART_LIST,
}
_ABOUT_A_KEY = {"tagging", "acl", "attributes", "retention", "legal-hold", "torrent", "restore", "select"}
#: parameters of a listing; any other one asks for a setting of the bucket
_OF_LISTS = {"list-type", "prefix", "delimiter", "marker", "max-keys", "start-after", "continuation-token",
             "encoding-type", "fetch-owner", "allow-unordered", "x-id"}  # fmt: skip


def kind_of(method: str, path: str) -> Kind:
    """Return what a request in path style is about."""
    place, _, asked = path.partition("?")
    query = set(parse_qs(asked, keep_blank_values=True))
    bucket, _, key = place[1:].partition("/")
    if not bucket:
        return Kind.SERVICE
    if not key:
        if "delete" in query:
            return Kind.DELETE_MANY
        if "uploads" in query:
            return Kind.LIST_UPLOADS
        is_list = method == "GET" and all(name in _OF_LISTS or name.lower().startswith("x-amz-") for name in query)
        return Kind.LIST if is_list else Kind.BUCKET
    if "uploads" in query:
        return Kind.MULTIPART_CREATE
    if "uploadId" in query:
        return _OF_UPLOAD.get(method, Kind.KEY_SETTING)
    return Kind.KEY_SETTING if query & _ABOUT_A_KEY else Kind.KEY


class Action(str, Enum):
    """What becomes of a request or of its answer."""

    ANSWER = "answer"  #: answered by the proxy, with `status` and `code`
    RESET = "reset"  #: the connection is reset
    HANG = "hang"  #: no answer, for as long as the client waits
    TRUNCATE = "truncate"  #: the connection ends after `at` bytes of the answer's body
    FLIP = "flip"  #: the lowest bit of byte `at` of the answer's body is the other one
    UNCONDITIONAL = "unconditional"  #: If-Match and If-None-Match do not arrive, as at a server that ignores them
    SKEW = "skew"  #: the Date of the answer is off by `skew_s`


#: what a server is like, rather than what befalls a request: these are joined with each other and with one more
TRAITS = (Action.UNCONDITIONAL, Action.SKEW)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that befalls a request."""

    action: Action
    applied: bool = False  #: for ANSWER, RESET and HANG: the server has carried the request out before
    status: int = 500
    code: str = "InternalError"  #: S3's name of the error
    at: int | None = None  #: offset in bytes, the middle if none is given (the first byte where no length is)
    skew_s: float = 0.0


SLOW_DOWN = Fault(Action.ANSWER, status=503, code="SlowDown")
FORBIDDEN = Fault(Action.ANSWER, status=403, code="AccessDenied")
TOO_SKEWED = Fault(Action.ANSWER, status=403, code="RequestTimeTooSkewed")
EXPIRED_TOKEN = Fault(Action.ANSWER, status=400, code="ExpiredToken")
RESET = Fault(Action.RESET)
LOST = Fault(Action.RESET, applied=True)  #: applied, then lost
FAILED_AFTER = Fault(Action.ANSWER, applied=True)  #: applied, then 500
ERROR_IN_200 = Fault(Action.ANSWER, status=200)  #: what CompleteMultipartUpload and CopyObject may answer
HANG = Fault(Action.HANG)
TRUNCATED = Fault(Action.TRUNCATE)
FLIPPED = Fault(Action.FLIP)
UNCONDITIONAL = Fault(Action.UNCONDITIONAL)


def skewed(seconds: float) -> Fault:
    """Return the fault of a server whose clock is ahead by so many seconds."""
    return Fault(Action.SKEW, skew_s=seconds)


@dataclass(frozen=True, slots=True)
class Request:
    """What a fault is chosen by."""

    number: int  #: from 0, in the order in which heads came in
    method: str
    path: str  #: with the query, as it was sent
    kind: Kind
    headers: dict[str, str]  #: names in lower case


#: called from the proxy's thread, for each request
Faults = Callable[[Request], "Fault | Iterable[Fault] | None"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Which requests a fault befalls: those that meet every condition."""

    fault: Fault
    methods: tuple[str, ...] = ()  #: none: all
    kinds: tuple[Kind, ...] = ()  #: none: all
    path: str = ""  #: a regular expression, found anywhere in the path
    chance: float = 1.0
    after: int = 0  #: so many matching requests are spared first
    times: int | None = None  #: then so many are hit; None: all

    def fits(self, request: Request) -> bool:
        """Return whether a request is meant, chance and counts left aside."""
        return (
            (not self.methods or request.method in self.methods)
            and (not self.kinds or request.kind in self.kinds)
            and re.search(self.path, request.path) is not None
        )


@dataclass
class Plan:
    """Rules in order, and a seed for their chances. All traits that fit befall a request, and the first other fault.

    The same requests in the same order meet the same faults.
    """

    rules: tuple[Rule, ...] = ()
    seed: int = 0
    _fitting: list[int] = field(init=False, repr=False)
    _hit: list[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._fitting, self._hit = [0] * len(self.rules), [0] * len(self.rules)
        self._chance = random.Random(self.seed)
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> list[Fault]:
        """Return what befalls a request."""
        with self._lock:
            chosen: list[Fault] = []
            for number, rule in enumerate(self.rules):
                spoken_for = rule.fault.action not in TRAITS and any(one.action not in TRAITS for one in chosen)
                if not spoken_for and rule.fits(request) and self._turn(number, rule):
                    chosen.append(rule.fault)
            return chosen

    def _turn(self, number: int, rule: Rule) -> bool:
        self._fitting[number] += 1
        if self._fitting[number] <= rule.after or (rule.times is not None and self._hit[number] >= rule.times):
            return False
        if rule.chance < 1 and self._chance.random() >= rule.chance:
            return False
        self._hit[number] += 1
        return True

    def to_json(self) -> str:
        """Return a text that `from_json` reads."""
        return json.dumps({"seed": self.seed, "rules": [asdict(rule) for rule in self.rules]})

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Return the plan of `{"seed": 1, "rules": [{"fault": {"action": "reset"}, "methods": ["PUT"]}]}`.

        A field that is not given has its default. Raises: ValueError, TypeError: it is no plan.
        """
        raw = json.loads(text)
        return cls(tuple(_rule(one) for one in raw.get("rules", ())), raw.get("seed", 0))


def _rule(raw: dict[str, Any]) -> Rule:
    fault = Fault(**(raw["fault"] | {"action": Action(raw["fault"]["action"])}))
    lists = {"methods": tuple(raw.get("methods", ())), "kinds": tuple(Kind(one) for one in raw.get("kinds", ()))}
    return Rule(**(raw | lists | {"fault": fault}))


def chosen_by(faults: Faults | None, request: Request) -> tuple[list[Fault], Fault | None]:
    """Return the traits and the one other fault that befall a request."""
    found = faults(request) if faults is not None else None
    every = [] if found is None else [found] if isinstance(found, Fault) else list(found)
    others = [one for one in every if one.action not in TRAITS]
    return [one for one in every if one.action in TRAITS], others[0] if others else None
