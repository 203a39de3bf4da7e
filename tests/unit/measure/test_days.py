"""Days: what dates and relative times mean as ranges, and when an answer's date fits a statement."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_core.measure import days, words

FRIDAY = date(2023, 6, 9)


def span(first: str, last: str = "") -> days.Span:
    return days.Span(date.fromisoformat(first).toordinal(), date.fromisoformat(last or first).toordinal())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("On 7 May 2023.", span("2023-05-07")),
        ("May 7th, 2023", span("2023-05-07")),
        ("2023-05-07", span("2023-05-07")),
        ("the 7th of May, 2023", span("2023-05-07")),
        ("in May 2023", span("2023-05-01", "2023-05-31")),
        ("since 2022", span("2022-01-01", "2022-12-31")),
        ("summer 2022", span("2022-06-01", "2022-08-31")),
        ("winter of 2022", span("2022-12-01", "2023-02-28")),
        ("The week before 9 June 2023", span("2023-05-27", "2023-06-08")),
        ("two days after 9 June 2023", span("2023-06-11")),
        ("the Friday before 9 June 2023", span("2023-06-02", "2023-06-08")),
        ("the evening of 9 June 2023", span("2023-06-09")),
    ],
)
def test_dates_that_name_their_year(text: str, expected: days.Span) -> None:
    [found] = days.named(words.folded(text))
    assert found.span == expected


@pytest.mark.parametrize(
    ("text", "month", "day"), [("7 May", 5, 7), ("in March", 3, None), ("on the 3rd of April", 4, 3)]
)
def test_dates_without_a_year(text: str, month: int, day: int | None) -> None:
    [found] = days.named(words.folded(text))
    assert (found.span, found.month, found.day) == (None, month, day)


@pytest.mark.parametrize(
    "text", ["You may go", "31 February 2023", "it cost 2,023 euros", "12.2023 points", "", "20233"]
)
def test_what_is_no_date(text: str) -> None:
    assert days.named(words.folded(text)) == []


def test_the_place_of_a_date_includes_what_leads_to_it() -> None:
    text = "it was the week before 9 june 2023, or so"
    [found] = days.named(text)
    assert text[found.start : found.end] == "week before 9 june 2023"
    assert found.text == "9 june 2023"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yesterday", span("2023-06-08")),
        ("tonight", span("2023-06-09")),
        ("tomorrow", span("2023-06-10")),
        ("last week", span("2023-05-29", "2023-06-08")),
        ("this week", span("2023-06-05", "2023-06-11")),
        ("next week", span("2023-06-10", "2023-06-18")),
        ("last weekend", span("2023-06-03", "2023-06-04")),
        ("last Tues", span("2023-06-06")),
        ("next Friday", span("2023-06-16")),
        ("on Monday", span("2023-06-05")),
        ("last month", span("2023-05-01", "2023-05-31")),
        ("next year", span("2024-01-01", "2024-12-31")),
        ("last summer", span("2022-06-01", "2022-08-31")),
        ("last August", span("2022-08-01", "2022-08-31")),
        ("two weeks ago", span("2023-05-23", "2023-05-29")),
        ("a couple of days ago", span("2023-06-07")),
        ("3 years ago", span("2020-01-01", "2020-12-31")),
        ("in two months", span("2023-08-01", "2023-08-31")),
        ("on 15 December", span("2022-12-15")),
        ("on 1 July", span("2023-07-01")),
    ],
)
def test_what_a_statement_of_a_friday_in_june_means(text: str, expected: days.Span) -> None:
    assert expected in days.spoken(words.folded(text), FRIDAY)


def test_without_a_day_only_full_dates_are_understood() -> None:
    assert days.spoken("yesterday, on 3 may, and on 4 may 2021", None) == (span("2021-05-04"),)


@pytest.mark.parametrize(
    ("answer", "statement", "expected"),
    [
        ("8 June 2023", "It was yesterday.", 1.0),
        ("the week before 9 June 2023", "We met last week.", 1.0),
        ("6 June 2023", "We met last week.", 0.7),
        ("8 June 2023", "We met this month.", 0.35),
        ("8 June 2023", "We met this year.", 0.1),
        ("June 2023", "We met yesterday.", 1.0),
        ("2022", "We met last year.", 1.0),
        ("9 June 2023", "We won!", 0.7),
        ("June 2023", "We won!", 0.5),
        ("8 June", "It was yesterday.", 1.0),
        ("8 June 2021", "It was yesterday.", 0.0),
        ("1999", "We won!", 0.0),
    ],
)
def test_how_an_answers_date_fits_a_statement_of_9_june_2023(answer: str, statement: str, expected: float) -> None:
    [found] = days.named(words.folded(answer))
    assert days.fit(found, days.spoken(words.folded(statement), FRIDAY), FRIDAY) == pytest.approx(expected)


def test_a_date_holds_the_dates_within_it() -> None:
    day, month, year, bare = (days.named(text)[0] for text in ("7 may 2023", "may 2023", "2023", "7 may"))
    assert year.holds(month)
    assert month.holds(day)
    assert bare.holds(day)
    assert not day.holds(month)
    assert not day.holds(days.named("8 may 2023")[0])


def test_a_text_is_cut_at_its_dates() -> None:
    text = "from 2021 to 2023."
    assert [piece for piece, _ in days.cut(text, days.named(text))] == ["from ", "2021", " to ", "2023", "."]


@settings(deadline=None)
@given(st.text(max_size=200), st.dates())
def test_any_text_gives_sane_ranges(text: str, said_on: date) -> None:
    folded = words.folded(text)
    for one in days.spoken(folded, said_on):
        assert 1 <= one.first <= one.last
    for found in days.named(folded):
        assert 0 <= days.fit(found, days.spoken(folded, said_on), said_on) <= 1
