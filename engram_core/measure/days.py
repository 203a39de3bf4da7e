"""Days: which days a text speaks of, as ranges, and how well they fit a date an answer names. English; pure functions.

An answer's "the week before 9 June 2023" and a statement's "last week", made on 9 June, share no word. As ranges of
days they agree (docs/algorithms.md section 3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final, NamedTuple

from engram_core.measure.dates import MONTHS

DAY_WEIGHT: Final = 2.0
"""What a date with a day and a year weighs as evidence, in words that are as rare as can be."""
_DAY_OF_YEAR_WEIGHT: Final = 1.7
_MONTH_WEIGHT: Final = 1.4
_YEAR_WEIGHT: Final = 1.0
_MONTH_ALONE_WEIGHT: Final = 0.9
_SAID_ON_ANCHOR: Final = 0.7
_SAID_WITHIN: Final = 0.5
_A_WEEK_WIDE: Final = 0.7
_A_MONTH_WIDE: Final = 0.35
_WIDER: Final = 0.1
_PARTLY: Final = 0.6
_FORTNIGHT: Final = 14
_MONTH: Final = 32

_MONTH_NUMBERS: Final = (
    {name: number for number, name in enumerate(MONTHS, 1)}
    | {name[:3]: number for number, name in enumerate(MONTHS, 1)}
    | {"sept": 9}
)
_WEEKDAY_NAMES: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WEEKDAYS: Final = (
    {name: place for place, name in enumerate(_WEEKDAY_NAMES)}
    | {name[:3]: place for place, name in enumerate(_WEEKDAY_NAMES)}
    | {"tues": 1, "thur": 3, "thurs": 3}
)
_COUNTS: Final = {
    name: number
    for number, name in enumerate("zero one two three four five six seven eight nine ten eleven twelve".split())
} | {"a": 1, "an": 1, "couple": 2, "few": 3}
_SEASONS: Final = {"spring": (3, 5), "summer": (6, 8), "fall": (9, 11), "autumn": (9, 11), "winter": (12, 2)}


def _any(names: Iterable[str]) -> str:
    """One of some words, as a pattern; the longest that fits."""
    return "|".join(sorted(names, key=len, reverse=True))


_MONTH_RE: Final = rf"(?:{_any(_MONTH_NUMBERS)})\b\.?"
_YEAR_RE: Final = r"(?:19|20)\d\d"
_DATE: Final = re.compile(
    rf"\b(?P<y0>{_YEAR_RE})-(?P<m0>\d\d)-(?P<d0>\d\d)\b"
    rf"|\b(?P<d1>\d{{1,2}})(?:st|nd|rd|th)?(?: of)?,? ?(?P<m1>{_MONTH_RE})(?:,? (?:of )?(?P<y1>{_YEAR_RE})\b)?"
    rf"|\b(?P<m2>{_MONTH_RE}),? (?P<d2>\d{{1,2}})(?:st|nd|rd|th)?\b(?!\d)(?:,? (?P<y2>{_YEAR_RE})\b)?"
    rf"|\b(?P<m3>{_MONTH_RE}),? (?:of )?(?P<y3>{_YEAR_RE})\b"
    # "may" alone is a verb more often than a month.
    rf"|\b(?P<m4>{_any(name for name in MONTHS if name != 'may')})\b"
    rf"|(?<![\d$.,])\b(?P<y4>{_YEAR_RE})\b(?![.,]?\d)"
)
_LEADING: Final = re.compile(
    rf"(?:(?P<what>weekend|week|month|day|night|evening|{_any(_WEEKDAYS)})"
    rf"|(?P<count>\d{{1,2}}|{_any(_COUNTS)})(?: of)? (?P<unit>day|week|weekend|month)s?"
    rf"|(?P<season>{_any(_SEASONS)}))"
    r" ?(?P<side>before|prior to|after|following|of|in|)[ ,]*(?:the )?$"
)
_LOOK_BACK: Final = 40
_RELATIVE: Final = re.compile(
    r"\b(?:(?P<today>today|tonight|this (?:morning|afternoon|evening)|just now)|(?P<yesterday>yesterday|last night)"
    r"|(?P<tomorrow>tomorrow)"
    r"|(?P<which>last|past|this past|this|next|coming) "
    rf"(?P<what>weekend|week|month|year|{_any(_SEASONS)}|{_any(_MONTH_NUMBERS)}|{_any(_WEEKDAYS)})\b"
    rf"|on (?P<weekday>{_any(_WEEKDAYS)})\b"
    rf"|(?P<count>(?<![.,])\d{{1,3}}|{_any(_COUNTS)})(?: of)? (?P<unit>day|week|weekend|month|year)s? (?:ago|back)\b"
    rf"|in (?P<ahead>\d{{1,2}}|{_any(_COUNTS)})(?: of)? (?P<ahead_unit>day|week|month)s?\b"
    r"|(?P<lately>the other day|recently|lately|few days))"
)


class Span(NamedTuple):
    """A range of days as proleptic ordinals, both ends included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Named:
    """A date a text names outright.

    Attributes:
        start, end: Its place in the text, "the week before" included.
        text: The date as written, without "the week before".
        span: The days meant; None when no year is given.
        month, day: Of a date without a year; None otherwise, `day` also for a month alone.
        anchor: The day it is reckoned from, as an ordinal: 9 June in "the week before 9 June 2023".
        weight: How much it tells, 0.9 for a month alone to 2.0 for a day.
    """

    start: int = field(compare=False)
    end: int = field(compare=False)
    text: str = field(compare=False)
    span: Span | None
    weight: float
    month: int | None = None
    day: int | None = None
    anchor: int | None = None

    def holds(self, other: Named) -> bool:
        """Whether `other` lies within it, so that naming this date says nothing beyond naming the other."""
        if self.span is not None and other.span is not None:
            return self.span.first <= other.span.first and other.span.last <= self.span.last
        mine, its = self._month_and_day(), other._month_and_day()
        return mine is not None and its is not None and mine[0] == its[0] and mine[1] in (None, its[1])

    def _month_and_day(self) -> tuple[int, int | None] | None:
        if self.span is None:
            return (self.month or 0, self.day)
        first, last = date.fromordinal(self.span.first), date.fromordinal(self.span.last)
        if (first.year, first.month) != (last.year, last.month):
            return None
        return (first.month, first.day if first == last else None)


def named(text: str) -> list[Named]:
    """The dates a text names outright, in order, without overlaps: "7 May 2023", "the Friday before 1 June", "2022".

    Args:
        text: Folded (`words.folded`).
    """
    found: list[Named] = []
    for match in _DATE.finditer(text):
        try:
            one = _named(match, text)
        except (ValueError, OverflowError):
            continue
        if not found or one.start >= found[-1].end:
            found.append(one)
    return found


def spoken(text: str, said_on: date | None) -> tuple[Span, ...]:
    """The days a statement speaks of: those it names, and "yesterday", "last week", "two years ago" as of its day.

    Args:
        text: Folded (`words.folded`).
        said_on: The day it was said; None leaves out whatever is relative to it.
    """
    spans: list[Span | None] = []
    for match in _DATE.finditer(text):
        try:
            spans.append(_meant(match, said_on))
        except (ValueError, OverflowError):  # 31 February
            continue
    if said_on is not None:
        for match in _RELATIVE.finditer(text):
            try:
                spans.append(_relative(match, said_on))
            except (ValueError, OverflowError):  # before the year 1
                continue
    return tuple(span for span in spans if span is not None)


def fit(date_named: Named, spans: tuple[Span, ...], said_on: date | None) -> float:
    """How well a statement fits a date an answer names.

    Args:
        date_named: From the answer.
        spans: What the statement speaks of.
        said_on: The day of the statement; None if unknown.

    Returns:
        1 if the statement speaks of that time, or of one as narrow that overlaps; down to 0.1 if of a wider one;
        0.7 or 0.5 if it was merely made then, since that is when its news is from; else 0.
    """
    if date_named.span is None:
        return _fit_of_year(date_named, spans, said_on)
    best = max((_overlap(date_named.span, span) for span in spans), default=0.0)
    if said_on is None:
        return best
    today = said_on.toordinal()
    if date_named.anchor == today:
        return max(best, _SAID_ON_ANCHOR)
    return max(best, _SAID_WITHIN) if date_named.span.first <= today <= date_named.span.last else best


def cut(text: str, dates: Sequence[Named]) -> Iterator[tuple[str, Named | None]]:
    """`text` in pieces: the stretches between its dates, and the dates."""
    place = 0
    for one in dates:
        yield text[place : one.start], None
        yield text[one.start : one.end], one
        place = one.end
    yield text[place:], None


def _overlap(wanted: Span, span: Span) -> float:
    if span.first > wanted.last or span.last < wanted.first:
        return 0.0
    if wanted.first <= span.first and span.last <= wanted.last:
        return 1.0
    asked, spoken_of = wanted.last - wanted.first + 1, span.last - span.first + 1
    if asked > _FORTNIGHT:
        return min(1.0, _PARTLY * asked / spoken_of)
    if spoken_of <= asked:
        return 1.0
    return _A_WEEK_WIDE if spoken_of <= _FORTNIGHT else _A_MONTH_WIDE if spoken_of < _MONTH else _WIDER


def _fit_of_year(wanted: Named, spans: tuple[Span, ...], said_on: date | None) -> float:
    def is_then(first: date, last: date) -> bool:
        if wanted.day is None:
            return first.month == last.month == wanted.month and (last - first).days < _MONTH
        return first.month == wanted.month and first.day == wanted.day and (last - first).days <= 1

    if any(is_then(date.fromordinal(span.first), date.fromordinal(span.last)) for span in spans):
        return 1.0
    return _SAID_WITHIN if said_on is not None and is_then(said_on, said_on) else 0.0


def _parts(match: re.Match[str]) -> tuple[int | None, int | None, int | None]:
    """Year, month and day as far as they are given."""
    groups = match.groupdict()
    years, days = (groups["y0"], groups["y1"], groups["y2"], groups["y3"], groups["y4"]), ("d0", "d1", "d2")
    month = next((groups[name] for name in ("m1", "m2", "m3", "m4") if groups[name]), None)
    return (
        next((int(year) for year in years if year), None),
        int(groups["m0"]) if groups["m0"] else _MONTH_NUMBERS[month.rstrip(".")] if month else None,
        next((int(groups[name]) for name in days if groups[name]), None),
    )


def _named(match: re.Match[str], text: str) -> Named:
    year, month, day = _parts(match)
    start, end = match.span()
    if year is None:
        weight = _MONTH_ALONE_WEIGHT if day is None else _DAY_OF_YEAR_WEIGHT
        return Named(start, end, match[0], None, weight, month=month, day=day)
    before = text[max(0, start - _LOOK_BACK) : start]
    leading = _LEADING.search(before)
    if month is None:
        if leading is not None and leading["season"]:
            return Named(start, end, match[0], _season(leading["season"], year), _MONTH_WEIGHT)
        return Named(start, end, match[0], _year(year), _YEAR_WEIGHT)
    if day is None:
        return Named(start, end, match[0], _month(year, month), _MONTH_WEIGHT)
    anchor = date(year, month, day).toordinal()
    side = leading["side"] if leading is not None else ""
    if leading is None or side in ("of", "in", "") or leading["season"]:
        return Named(start, end, match[0], Span(anchor, anchor), DAY_WEIGHT, anchor=anchor)
    span = _beside(anchor, -1 if side in ("before", "prior to") else 1, leading)
    start -= len(before) - leading.start()
    return Named(start, end, match[0], span, DAY_WEIGHT, anchor=anchor)


def _beside(anchor: int, sign: int, leading: re.Match[str]) -> Span:
    """The days "the week before", "two days after" and the like mean, on one side of a day."""
    count = _count(leading["count"]) if leading["count"] else 1
    what = leading["unit"] or leading["what"]
    near, far = {
        "day": (count, count),
        "night": (1, 1),
        "evening": (1, 1),
        "week": (max(1, 7 * (count - 1)), 7 * count + 6),
        "weekend": (1, 9 * count),
        "month": (20 * count, 31 * (count + 1)),
    }.get(what, (1, 7))
    ends = (anchor + sign * near, anchor + sign * far)
    return Span(min(ends), max(ends))


def _meant(match: re.Match[str], said_on: date | None) -> Span | None:
    """The days a date in a statement means; without a year the nearest one, rather past than half a year ahead."""
    year, month, day = _parts(match)
    if year is None:
        if said_on is None or month is None:
            return None
        is_ahead = day is not None and (month, day) > (said_on.month, said_on.day) and month - said_on.month >= 6
        year = said_on.year - is_ahead
    if month is None:
        return _year(year)
    if day is None:
        return _month(year, month)
    moment = date(year, month, day).toordinal()
    return Span(moment, moment)


def _relative(match: re.Match[str], said_at: date) -> Span:
    today = said_at.toordinal()
    if match["today"]:
        return Span(today, today)
    if match["yesterday"]:
        return Span(today - 1, today - 1)
    if match["tomorrow"]:
        return Span(today + 1, today + 1)
    if match["weekday"]:
        back = (said_at.weekday() - _WEEKDAYS[match["weekday"]]) % 7 or 7
        return Span(today - back, today - back)
    if match["lately"]:
        return Span(today - 7, today)
    if match["unit"]:
        return _away(-_count(match["count"]), match["unit"], said_at)
    if match["ahead_unit"]:
        return _away(_count(match["ahead"]), match["ahead_unit"], said_at)
    return _which(match["which"], match["what"], said_at)


def _count(text: str) -> int:
    return _COUNTS[text] if text in _COUNTS else int(text)


def _away(count: int, unit: str, said_at: date) -> Span:
    """`count` units from a day; weeks are three days wide on either side."""
    if unit == "month":
        months = said_at.year * 12 + said_at.month - 1 + count
        return _month(months // 12, months % 12 + 1)
    if unit == "year":
        return _year(said_at.year + count)
    middle = (said_at + timedelta(days=count if unit == "day" else 7 * count)).toordinal()
    around = 0 if unit == "day" else 3
    return Span(middle - around, middle + around)


def _which(which: str, what: str, said_at: date) -> Span:
    """The days that last, this or next week, month, summer, Friday and so on mean."""
    today, weekday = said_at.toordinal(), said_at.weekday()
    step = -1 if which in ("last", "past", "this past") else 0 if which == "this" else 1
    if what in _WEEKDAYS:
        ahead = (_WEEKDAYS[what] - weekday) % 7
        day = today + (ahead - 7 if step < 0 else ahead if step == 0 else ahead or 7)
        return Span(day, day)
    if what == "week":
        monday = today - weekday + 7 * step
        # Said on a Sunday, "last week" may be the week that ends; said on a Monday, "next week" the one that begins.
        return Span(monday, today - 1) if step < 0 else Span(today + 1 if step else monday, monday + 6)
    if what == "weekend":
        saturday = today + 5 - weekday - (7 if step < 0 else 0)
        return Span(saturday, saturday + 1)
    if what == "month":
        return _away(step, "month", said_at)
    if what == "year":
        return _year(said_at.year + step)
    first, last = _SEASONS.get(what) or (_MONTH_NUMBERS[what],) * 2
    year = said_at.year
    if step < 0 and said_at.month <= last:
        year -= 1
    elif step > 0 and said_at.month >= first:
        year += 1
    return _season(what, year) if what in _SEASONS else _month(year, first)


def _month(year: int, month: int) -> Span:
    first = date(year, month, 1)
    following = date(year + month // 12, month % 12 + 1, 1)
    return Span(first.toordinal(), following.toordinal() - 1)


def _season(name: str, year: int) -> Span:
    first, last = _SEASONS[name]
    return Span(_month(year, first).first, _month(year if first <= last else year + 1, last).last)


def _year(year: int) -> Span:
    return Span(date(year, 1, 1).toordinal(), date(year, 12, 31).toordinal())
