"""Ages and sizes are read as people write them, and nothing else is."""

from __future__ import annotations

from datetime import timedelta

import pytest

from nectar import errors
from nectar.cli.quantities import age_text, parse_age, parse_size


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("45m", timedelta(minutes=45)),
        ("0m", timedelta()),
        (" 7 d ", timedelta(days=7)),
    ],
)
def test_an_age_is_days_hours_or_minutes(text: str, age: timedelta) -> None:
    assert parse_age(text) == age


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5d", "1w", "1D", "1d2h", "9999999d", "٣d", "1d\n1d"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(errors.UsageError, match="no age"):
        parse_age(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("100", 100),
        ("100B", 100),
        ("10MB", 10_000_000),
        ("10mb", 10_000_000),
        ("10 M", 10_000_000),
        ("512KiB", 524_288),
        ("2GB", 2_000_000_000),
        ("1TiB", 1 << 40),
        ("1.5kB", 1500),
        ("0.5KiB", 512),
        ("999999999999999TB", 999_999_999_999_999 * 10**12),
    ],
)
def test_a_size_is_bytes_with_or_without_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "1e9", "nan", "inf", "1PB", "1iB", "1,5MB", ".5MB", "٣MB", "1MBB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(errors.UsageError, match="no size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(), "0 min"),
        (timedelta(minutes=-5), "0 min"),
        (timedelta(seconds=59), "0 min"),
        (timedelta(minutes=90), "90 min"),
        (timedelta(hours=47), "47 h"),
        (timedelta(days=40, hours=5), "40 d"),
    ],
)
def test_an_age_is_written_in_the_largest_unit_that_says_enough(age: timedelta, text: str) -> None:
    assert age_text(age) == text
