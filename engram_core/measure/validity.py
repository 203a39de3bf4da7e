"""Validity: from when and until when a statement holds, told from its words against the day it was said. English; pure.

A wrong end hides a true fact, so only plain wording counts ("until March 5", "through Friday", "starting next week"),
only in statements about the present or future, and only where nothing in the sentence turns it round.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from engram_core.measure.dates import MONTHS
from engram_core.measure.sentences import sentences

_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTH: Final = "|".join(MONTHS)
_COUNTS: Final = {
    "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "twelve": 12, "couple of": 2,
}  # fmt: skip
_COUNT: Final = r"\d{1,3}|" + "|".join(sorted(_COUNTS, key=len, reverse=True))
_WHEN: Final = (
    rf"(?:(?:the )?(?:end of (?P<end>next (?:week|month|year)|this (?:week|month|year)|the (?:week|"
    rf"month|year)|{_MONTH})|"
    rf"(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<month>{_MONTH})\b(?:,? (?P<year>20\d\d))?|"
    rf"(?P<month2>{_MONTH})(?: (?P<day2>\d{{1,2}})(?:st|nd|rd|th)?\b(?!:))?(?:,? (?P<year2>20\d\d))?|"
    r"(?P<iso>20\d\d-\d\d-\d\d)|"
    r"(?P<next>next (?:week|month|year|"
    + "|".join(_WEEKDAYS)
    + r"))|(?:this )?(?P<weekday>"
    + "|".join(_WEEKDAYS)
    + r")|"
    r"(?P<tomorrow>tomorrow)|(?P<today>today|tonight)|(?P<only_year>20\d\d)\b))"
)
_UNTIL: Final = re.compile(rf"\b(?P<how>until|till|til|through|thru|up to and including)(?: about| around)? {_WHEN}\b")
_FOR: Final = re.compile(rf"\bfor the (?:next|coming) (?:(?P<count>{_COUNT}) )?(?P<unit>day|week|month|year)s?\b")
_FROM: Final = re.compile(
    rf"\b(?P<how>starting|beginning|effective|as of|from|since)(?: (?:on|from|in))? {_WHEN}\b(?! to \d)"
)
_IN_FROM: Final = re.compile(rf"\bstarting in (?P<count>{_COUNT}) (?P<unit>day|week|month)s?\b")
# What was, what only may be, what is asked, and what waits for its end ("can't wait until Friday", "not until March").
_TURNED: Final = re.compile(
    r"\b(?:not|n't|never|wait|waiting|waited|counting|countdown|only|if|unless|when|would|could|might|may be|maybe|"
    r"perhaps|was|were|had|did|used to|lasted|stayed|worked|lived|went|ran|took|spent|stopped|"
    r"deadline|due|days? (?:left|to go)|"
    r"left|yesterday|last (?:week|month|year|night)|ago|each|every|daily|usually|always|from \w+ "
    r"(?:to|until|through))\b|n't\b"
)
_TO: Final = re.compile(r",? (?:to|until|till|through|thru|-) ")
_OPENS: Final = re.compile(r"(?:^|, |\b(?:i|we|'ll|will|be|am|are|is|office|home|off|away|available|on) )$")
# An hour is no day: "until 5 pm on Friday" ends there, "from Monday to Friday" names a habit.
_HOUR: Final = re.compile(r"^(?:,? (?:at )?\d{1,2}(?::\d\d)?(?: ?[ap]m\b)|:\d\d)")


class Validity(NamedTuple):
    """When a statement holds; None is open-ended."""

    valid_from: datetime | None
    valid_until: datetime | None


def told(text: str, said_at: datetime) -> Validity:
    """When a statement holds, by its own words.

    Args:
        text: The statement. A statement of several sentences has an end only if every one of them shares it, which
            cannot be told; so only single sentences get one.
        said_at: When it was said, aware; days are counted in its time zone.

    Returns:
        `valid_from`: midnight at the start of the first day. `valid_until`: midnight after the last day on which it
        holds. "Until 5 March" and "through 5 March" both hold on that day, so that nothing is hidden a day early;
        "until March" ends where March begins, "through March" where it ends.
    """
    lowered = text.lower().replace("\u2019", "'")
    if not any(word in lowered for word in _HINTS) or len(sentences(text)) != 1 or lowered.rstrip().endswith("?"):
        return Validity(None, None)
    day = said_at.replace(hour=0, minute=0, second=0, microsecond=0)
    until = None if _TURNED.search(lowered) else _until(lowered, day)
    start = _start(lowered, day)
    if start is not None and until is not None and until <= start:
        return Validity(None, None)
    return Validity(start, until)


_HINTS: Final = (
    "until",
    "till",
    "til ",
    "through",
    "thru",
    "for the ",
    "from ",
    "starting",
    "beginning",
    "effective",
    "since ",
    "as of",
    "up to and",
)


def says_from(text: str, said_at: datetime, valid_from: datetime) -> bool:
    """Whether the words themselves name `valid_from`, so that whoever reads them knows that it lies ahead."""
    return told(text, said_at).valid_from == valid_from


def _until(lowered: str, day: datetime) -> datetime | None:
    found = _UNTIL.search(lowered)
    if found is not None and not _HOUR.match(lowered[found.end() :]):
        span = _days(found, day)
        if span is None or span[1] <= day:
            return None
        # "until March" ends where March begins; "until Friday" and "through March" include what they name.
        is_before = found["how"] in {"until", "till", "til"} and span[1] - span[0] > timedelta(days=1)
        return span[0] if is_before and span[0] > day else span[1]
    spell = _FOR.search(lowered)
    if spell is None:
        return None
    return _later(day, _number(spell["count"] or "a"), spell["unit"]) + timedelta(days=1)


def _start(lowered: str, day: datetime) -> datetime | None:
    ahead = _IN_FROM.search(lowered)
    if ahead is not None:
        return _later(day, _number(ahead["count"]), ahead["unit"])
    found = _FROM.search(lowered)
    if found is None:
        return None
    if found["how"] == "from":
        is_span = _TO.match(lowered[found.end() :]) is not None
        # "a letter from March" names no start, and "from Monday to Friday" a habit.
        if (is_span and found["weekday"]) or not (is_span or _OPENS.search(lowered[: found.start()])):
            return None
    span = _days(found, day, past=found["how"] == "since")
    if span is None or (found["how"] == "since" and span[0] > day) or (found["how"] != "since" and span[0] < day):
        return None
    return span[0]


def _number(word: str) -> int:
    return _COUNTS[word] if word in _COUNTS else int(word)


def _later(day: datetime, count: int, unit: str) -> datetime:
    if unit in {"day", "week"}:
        return day + timedelta(days=count * (7 if unit == "week" else 1))
    months = day.year * 12 + day.month - 1 + count * (12 if unit == "year" else 1)
    year, month = divmod(months, 12)
    return day.replace(year=year, month=month + 1, day=min(day.day, monthrange(year, month + 1)[1]))


def _days(found: re.Match[str], day: datetime, *, past: bool = False) -> tuple[datetime, datetime] | None:
    """The first midnight of what is named and the first one after it; None for a day that does not exist."""
    try:
        return _named(found, day, past=past)
    except (ValueError, OverflowError):
        return None


def _named(found: re.Match[str], day: datetime, *, past: bool) -> tuple[datetime, datetime]:
    one = timedelta(days=1)
    if found["end"]:
        return _end_of(found["end"], day)
    if found["today"] or found["tomorrow"]:
        start = day + (one if found["tomorrow"] else timedelta())
        return start, start + one
    if found["iso"]:
        start = datetime.strptime(found["iso"], "%Y-%m-%d").replace(tzinfo=day.tzinfo or UTC)
        return start, start + one
    if found["only_year"]:
        year = int(found["only_year"])
        return day.replace(year=year, month=1, day=1), day.replace(year=year + 1, month=1, day=1)
    if found["next"]:
        return _next(found["next"].split()[1], day)
    if found["weekday"]:
        start = _weekday(found["weekday"], day, past=past)
        return start, start + one
    return _dated(found, day, past=past)


def _dated(found: re.Match[str], day: datetime, *, past: bool) -> tuple[datetime, datetime]:
    month = MONTHS.index(found["month"] or found["month2"]) + 1
    number = int(found["day"] or found["day2"] or 0)
    stated = found["year"] or found["year2"]
    year = int(stated) if stated else day.year
    start = day.replace(year=year, month=month, day=number or 1)
    after = start + timedelta(days=1) if number else _later(start, 1, "month")
    if not stated and past and start > day:
        start, after = start.replace(year=year - 1), after.replace(year=after.year - 1)
    elif not stated and not past and after <= day:
        start, after = start.replace(year=year + 1), after.replace(year=after.year + 1)
    return start, after


def _end_of(what: str, day: datetime) -> tuple[datetime, datetime]:
    if what in MONTHS:
        month = MONTHS.index(what) + 1
        year = day.year if month >= day.month else day.year + 1
        after = _later(day.replace(year=year, month=month, day=1), 1, "month")
        return after - timedelta(days=1), after
    which, unit = what.split()
    start, _ = _next(unit, day)
    after = start if which != "next" else _later(start, 1, unit)
    return after - timedelta(days=1), after


def _next(what: str, day: datetime) -> tuple[datetime, datetime]:
    if what == "week":
        start = day + timedelta(days=7 - day.weekday())
        return start, start + timedelta(days=7)
    if what == "month":
        start = _later(day.replace(day=1), 1, "month")
        return start, _later(start, 1, "month")
    if what == "year":
        return day.replace(year=day.year + 1, month=1, day=1), day.replace(year=day.year + 2, month=1, day=1)
    start = day + timedelta(days=(_WEEKDAYS.index(what) - day.weekday()) % 7 or 7)
    return start, start + timedelta(days=1)


def _weekday(name: str, day: datetime, *, past: bool) -> datetime:
    ahead = (_WEEKDAYS.index(name) - day.weekday()) % 7
    return day + timedelta(days=ahead - 7 if past else ahead or 7)
