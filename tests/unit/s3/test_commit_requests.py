"""What a commit in S3 asks for, one request after the other, and how it ends in cases that the model has not."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the helper modules beside this file
pytest.register_assert_rewrite("commit_model", "commit_actors")

import commit_actors as actors  # noqa: E402
from commit_actors import INVALID, NEWER, NOTHING, OUTPUTS, world_with, writer  # noqa: E402
from commit_model import RECORD, TARGET, Failed, Server, World, content, drive, thing  # noqa: E402

from nectar import errors, records  # noqa: E402
from nectar.stores.s3 import commit as protocol  # noqa: E402
from nectar.stores.s3.commit import Upload, commit  # noqa: E402
from nectar.stores.s3.messages import ATTEMPT, Absent, Delete, Found, Get, Head, Put, Refused, Stored  # noqa: E402


def requests_of(generator: Any, *answers: list[Any]) -> list[Any]:
    """Return what a commit asks for after these answers."""
    requests = next(generator)
    for one in answers:
        requests = generator.send(one)
    return list(requests)


def begin(
    *, raw: bytes = b"out", size: int | None = None, seen: str | None = None, outputs: tuple[str, ...] = OUTPUTS
) -> Any:
    record = actors.record_of("alpha", {"out.txt": raw})
    uploads = actors.uploads_of({"out.txt": raw}, {"params.txt": b"{}", "log/stdout.log": b""})
    if size is not None:
        uploads[0] = Upload("out.txt", replace(uploads[0].content, size=size))
    return commit(TARGET, "alpha", record, uploads, seen=seen, own_names=False, outputs=outputs)


def names_of(requests: list[Any]) -> list[str]:
    return [request.key.removeprefix(f"{TARGET.path}/") for request in requests]


def added(before: World, after: World) -> set[str]:
    """Return the names of what was put between two moments; nothing else may have changed."""
    assert before.things <= after.things
    return {key.removeprefix(f"{TARGET.path}/") for key, _ in after.things - before.things}


def test_all_files_of_a_target_go_out_at_once_and_so_do_those_that_need_other_names():
    first = requests_of(begin())
    assert names_of(first) == ["out.txt", "params.txt", "log/stdout.log"]
    assert all(isinstance(put, Put) and put.if_etag is None and put.metadata == {ATTEMPT: "alpha"} for put in first)
    heads = [Absent(), Found("e", 2, {ATTEMPT: "other"})]
    second = requests_of(begin(), [Refused(), Refused(), Stored("e")], heads)
    assert names_of(second) == [".attempts/alpha/out.txt", ".attempts/alpha/params.txt"]


def test_a_large_file_has_its_own_name_at_once_and_a_repair_gives_it_to_all():
    large = requests_of(begin(size=protocol.MULTIPART_ABOVE + 1))
    assert names_of(large) == [".attempts/alpha/out.txt", "params.txt", "log/stdout.log"]
    assert names_of(requests_of(begin(seen="e"))) == [
        ".attempts/alpha/out.txt",
        ".attempts/alpha/params.txt",
        ".attempts/alpha/log/stdout.log",
    ]


def test_the_record_says_where_outputs_parameters_and_logs_lie_and_is_read_again():
    world = world_with({"params.txt": thing(b"{}", "dead"), "log/stdout.log": thing(b"", "dead")})
    world, won = drive(Server(), world, begin())
    assert won.won and won.record.places == {
        "params.txt": ".attempts/alpha/params.txt",
        "log/stdout.log": ".attempts/alpha/log/stdout.log",
    }
    (entry,) = won.record.files
    assert (entry.object, entry.etag) == ("out.txt", thing(b"out").etag)
    found = world.get(RECORD)
    assert found is not None and records.parse(found.raw, TARGET) == won.record and won.stamp == found.etag


def test_a_record_whose_files_all_lie_under_plain_names_is_the_same_document_as_ever():
    _, won = drive(Server(), NOTHING, begin())
    assert won.record.places == {} and b"places" not in won.record.to_bytes()


@pytest.mark.parametrize("place", ["../x", "/etc/passwd", "", "a\0b"])
def test_a_record_whose_places_lead_out_of_the_target_is_invalid(place):
    record = replace(actors.record_of("alpha", {"out.txt": b"out"}), places={"params.txt": place})
    with pytest.raises(errors.RecordInvalid):
        records.parse(record.to_bytes(), TARGET)


def test_a_record_that_lacks_an_output_of_this_task_is_invalid_for_it():
    world, ended = drive(Server(), actors.made_before(), begin(outputs=("out.txt", "extra.txt")))
    assert isinstance(ended, Failed) and "does not name the output `extra.txt`" in str(ended.error)
    assert added(actors.made_before(), world) == {"log/stdout.log"}  # its plain name was free


def test_a_record_in_force_of_which_a_file_is_gone_is_no_target_to_lose_against():
    _, rival = writer("force", forced=True)
    whole, _ = drive(Server(), NOTHING, rival())
    spoilt = whole.put(f"{TARGET.path}/.attempts/force/out.txt", None)
    world, ended = drive(Server(), spoilt, begin())
    assert isinstance(ended, Failed) and "the file `out.txt` is missing" in str(ended.error)
    assert added(spoilt, world) == {"out.txt", "params.txt", "log/stdout.log"}


def test_a_newer_record_that_appears_is_an_error_and_what_lies_under_own_names_goes():
    before = world_with({"out.txt": thing(b"dead", "dead"), "record.json": NEWER})
    world, ended = drive(Server(), before, begin())
    assert isinstance(ended, Failed) and type(ended.error) is errors.RecordNewer
    assert added(before, world) == {"params.txt", "log/stdout.log"}


def test_an_object_that_the_record_in_force_names_is_kept_even_by_the_loser_who_made_it():
    place = ".attempts/alpha/out.txt"
    record = actors.record_of("adopter", {"out.txt": b"out"})
    raw = replace(record, files=(replace(record.files[0], object=place),), adopted=True).to_bytes()
    running = begin(seen="e")
    requests = next(running)
    assert running.send([Stored(thing(put.content.raw).etag) for put in requests])[0].key == RECORD
    assert running.send([Refused()]) == [Get(RECORD)]
    assert running.send([Found("record", len(raw), {}, raw)]) == [Head(f"{TARGET.path}/{place}")]
    requests = running.send([Found(thing(b"out").etag, 3, {ATTEMPT: "alpha"})])
    assert all(isinstance(one, Delete) for one in requests)
    assert names_of(requests) == [".attempts/alpha/params.txt", ".attempts/alpha/log/stdout.log"]


def test_a_server_that_goes_on_refusing_is_an_error_after_a_few_tries_that_removes_nothing():
    asked: list[Any] = []

    def refusing():
        running = begin()
        requests = next(running)
        while True:
            asked.extend(requests)
            requests = running.send([Refused() if isinstance(one, Put) else Absent() for one in requests])

    with pytest.raises(errors.StoreUnreachable, match="refused 5 times"):
        refusing()
    assert not [one for one in asked if isinstance(one, Delete)] and len(asked) < 50


@pytest.mark.parametrize("rounds", range(4))
def test_a_transport_error_ends_a_commit_without_another_request(rounds):
    running = begin()
    requests = next(running)
    for _ in range(rounds):
        requests = running.send([Refused() if isinstance(one, Put) else Absent() for one in requests])
    with pytest.raises(errors.StoreUnreachable, match="cable"):
        running.throw(errors.StoreUnreachable("the cable is cut"))
    with pytest.raises(StopIteration):
        next(running)


def test_a_record_that_names_what_is_not_uploaded_is_refused_before_any_request():
    record = actors.record_of("alpha", {"out.txt": b"out"})
    with pytest.raises(ValueError, match=r"out\.txt"):
        next(commit(TARGET, "alpha", record, [], seen=None, own_names=False, outputs=OUTPUTS))


def test_its_own_name_taken_by_other_bytes_is_an_error():
    world = world_with({".attempts/alpha/out.txt": thing(b"other", "alpha"), "record.json": INVALID})
    _, ended = drive(Server(), world, begin(seen=INVALID.etag))
    assert isinstance(ended, Failed) and "is not what this attempt wrote" in str(ended.error)


def test_a_commit_made_again_by_the_same_attempt_finds_that_it_had_won():
    world, first = drive(Server(), NOTHING, begin())
    again, second = drive(Server(), world, begin())
    assert second == first and again == world
    assert content(first.record.to_bytes()).sha256 == dict(world.things)[RECORD].sha256
