"""Dates: time words in statements and dates named in questions. English; pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

MONTHS: Final = "january february march april may june july august september october november december".split()
_MONTH_NUMBER: Final = {name: number for number, name in enumerate(MONTHS, 1)}
_WHEN = re.compile(
    r"\bwhen\b|\bhow long\b|\bwhat (?:date|day|month|year)\b|\bwhich (?:day|month|year)\b", re.IGNORECASE
)
_WEEKDAYS: Final = "monday tuesday wednesday thursday friday saturday sunday".split()
_TIME_WORDS: Final = frozenset(
    [
        *"yesterday today tonight tomorrow last next ago week weekend month year since recently just".split(),
        *_WEEKDAYS,
        *MONTHS,
    ]
)
_TIME_TOKEN = re.compile(r"\b(?:20\d\d|\d{1,2}(?:st|nd|rd|th)|[a-z]+)\b")
RELATIVE_TIME = re.compile(
    r"\b(?:yesterday|today|tonight|tomorrow|this (?:morning|afternoon|evening|week|weekend|month|year)|"
    r"(?:last|next|past) (?:night|week|weekend|month|year|spring|summer|fall|autumn|winter|"
    + "|".join(_WEEKDAYS)
    + r")|\w+ (?:days?|weeks?|months?|years?) ago|just now|earlier today|the other day)\b",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"(?:(?P<before>\b\d{1,2})(?:st|nd|rd|th)?(?: of)? )?\b(?P<month>" + "|".join(MONTHS) + r")\b"
    r"(?:,? (?P<after>\d{1,2})(?:st|nd|rd|th)?\b(?!\d))?(?:,? (?:of )?(?P<year>20\d\d)\b)?"
)
_MAY_LEAD = re.compile(r"\b(?:in|during|since|by|last|of)\s+$")
_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class NamedDate:
    """A date a question names: a month, with a day and a year if they were stated."""

    month: int
    day: int | None
    year: int | None


def asks_when(question: str) -> bool:
    """Whether the question asks for a time ("when", "how long", "which year")."""
    return _WHEN.search(question) is not None


def time_words(text: str) -> float:
    """0, 0.5 or 1: how many distinct time words a statement holds, at most two counted."""
    found = {word for word in _TIME_TOKEN.findall(text.lower()) if word in _TIME_WORDS or word[0].isdigit()}
    return min(len(found), 2) / 2


def named_dates(question: str) -> list[NamedDate]:
    """The dates a question names. "may" counts only beside a number or after in/during/since/by/last/of."""
    lowered = question.lower()
    found = []
    for match in _DATE.finditer(lowered):
        day = int(match["before"] or match["after"] or 0) or None
        year = int(match["year"]) if match["year"] else None
        is_date = day or year or match["month"] != "may" or _MAY_LEAD.search(lowered[: match.start("month")])
        if is_date:
            found.append(NamedDate(_MONTH_NUMBER[match["month"]], day if day and day <= 31 else None, year))
    return found


def windows(dates: Sequence[NamedDate], years: Sequence[int]) -> list[tuple[float, float]]:
    """Epoch-second ranges in which statements about `dates` may have been made, for each year in `years`."""
    ranges = []
    for date in dates:
        for year in [date.year] if date.year else years:
            start = datetime(year, date.month, 1, tzinfo=UTC)
            if date.day:
                start = _safe_day(year, date.month, date.day) or start
                ranges.append(((start - timedelta(days=2)).timestamp(), (start + timedelta(days=25)).timestamp()))
            else:
                ranges.append((start.timestamp(), (start + timedelta(days=46)).timestamp()))
    return ranges


def match_dates(dates: Sequence[NamedDate], said_at: NDArray[np.float64]) -> NDArray[np.float32]:
    """0, 0.5 or 1 for each statement: how well its time fits the best of the question's dates.

    Args:
        dates: What `named_dates` found.
        said_at: Epoch seconds (UTC), shape (n,).

    Returns:
        Shape (n,). Things are told after they happen, so the windows are lopsided: from half a day before to ten
        days after a named day counts 1, up to 25 days 0.5; a named month counts 1, the first fourteen days of the
        next month 0.5. A stated year must match; for December the following year passes too.
    """
    best = np.zeros(len(said_at), dtype=np.float32)
    if not dates or not len(said_at):
        return best
    moments = said_at.astype("datetime64[s]")
    years = moments.astype("datetime64[Y]").astype(int) + 1970
    months = moments.astype("datetime64[M]").astype(int) % 12 + 1
    days = (moments.astype("datetime64[D]") - moments.astype("datetime64[M]").astype("datetime64[D]")).astype(int) + 1
    for date in dates:
        fits = _day_fit(date, said_at, years) if date.day else _month_fit(date, months, days)
        if date.year:
            same = (years == date.year) | ((years == date.year + 1) if date.month == 12 else False)
            fits = np.where(same, fits, 0.0)
        best = np.maximum(best, fits.astype(np.float32))
    return best


def _day_fit(date: NamedDate, said_at: NDArray[np.float64], years: NDArray[np.int64]) -> NDArray[np.float64]:
    fits = np.zeros(len(said_at))
    for year in [date.year] if date.year else np.unique(years):
        target = _safe_day(int(year), date.month, date.day or 1)
        if target is None:
            continue
        apart = (said_at - target.timestamp()) / _DAY
        fit = np.where((apart >= -0.5) & (apart <= 10), 1.0, np.where((apart > -2) & (apart < 25), 0.5, 0.0))
        fits = np.maximum(fits, np.where(years == year, fit, 0.0) if date.year is None else fit)
    return fits


def _month_fit(date: NamedDate, months: NDArray[np.int64], days: NDArray[np.int64]) -> NDArray[np.float64]:
    following = date.month % 12 + 1
    return np.where(months == date.month, 1.0, np.where((months == following) & (days <= 14), 0.5, 0.0))


def _safe_day(year: int, month: int, day: int) -> datetime | None:
    try:
        return datetime(year, month, day, tzinfo=UTC)
    except ValueError:
        return None
