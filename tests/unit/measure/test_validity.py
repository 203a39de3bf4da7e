"""Validity: plain wording is resolved against the day it was said, and everything else holds for ever."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_core.measure.validity import Validity, says_from, told

WEDNESDAY = datetime(2024, 2, 14, 15, 30, tzinfo=UTC)


def day(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("I'm in Berlin until March", None, "2024-03-01"),
        ("I'm in Berlin until February", None, "2024-03-01"),
        ("The code is valid until March 5, 2025", None, "2025-03-06"),
        ("The code is valid until 2024-03-05.", None, "2024-03-06"),
        ("The office is closed through Friday", None, "2024-02-17"),
        ("The sale runs through March", None, "2024-04-01"),
        ("My pass is good through the end of April", None, "2024-05-01"),
        ("I'm staying at my sister's until the end of the month", None, "2024-03-01"),
        ("I'm away until tomorrow", None, "2024-02-16"),
        ("I am studying until 2026", None, "2026-01-01"),
        ("I'm on vacation for the next two weeks", None, "2024-02-29"),
        ("I'm on call for the next month", None, "2024-03-15"),
        ("From next week I work from home", "2024-02-19", None),
        ("Starting 1 June my rent is 900 euros", "2024-06-01", None),
        ("I'll be a manager starting next month", "2024-03-01", None),
        ("Starting in two weeks I will be a manager", "2024-02-28", None),
        ("I've been at Oakline since 2019", "2019-01-01", None),
        ("I've been at Oakline since March", "2023-03-01", None),
        ("I'll be in Rome from 3 March until 10 March", "2024-03-03", "2024-03-11"),
    ],
)
def test_told(text: str, start: str | None, end: str | None) -> None:
    assert told(text, WEDNESDAY) == Validity(day(start), day(end))


@pytest.mark.parametrize(
    "text",
    [
        "I can't wait until Friday",
        "I worked there until March",
        "I lived in Rome until 2019",
        "We are open until 5 pm",
        "We are open until Friday 5 pm",
        "I'm not available until Monday",
        "I didn't know it until yesterday",
        "From Monday to Friday I work",
        "I got a letter from March",
        "Are you away until March?",
        "I'm away until March. I adopted a cat.",
        "Use the old key until 31 February",
        "Walk through the park",
        "We talked until late",
        "The deadline runs through Friday",
    ],
)
def test_nothing_is_told(text: str) -> None:
    assert told(text, WEDNESDAY) == Validity(None, None)


def test_words_that_name_their_own_start() -> None:
    said = "Starting 1 June my rent is 900 euros"
    start = datetime(2024, 6, 1, tzinfo=UTC)
    assert says_from(said, WEDNESDAY, start)
    assert not says_from("My rent is 900 euros", WEDNESDAY, start)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from("until through from starting since the next end of march 31 february 2099 week 0".split()))
)
def test_any_wording_is_read(words: list[str]) -> None:
    found = told(" ".join(words), WEDNESDAY)
    assert found.valid_until is None or found.valid_until > WEDNESDAY.replace(hour=0, minute=0)
    assert found.valid_from is None or found.valid_until is None or found.valid_from < found.valid_until
