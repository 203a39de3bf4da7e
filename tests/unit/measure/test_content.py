"""Content tokens: what counts in a text, and what its relative dates mean."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_core.measure import content, words

MONDAY = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("I don't know, you're really great!", []),
        ("Anna's cats studied running", ["anna", "cat", "study", "run"]),
        ("twenty cats, twice, and the first one", ["20", "cat", "2", "1", "1"]),
        ("3.5% of $1,200 at 7:30 on 1/2/2023.", ["3.5", "%", "$", "1200", "7:30", "1/2/2023"]),
        ("Café O\u2019Brien", ["cafe", "obrien"]),
        ("the 3rd of May", ["3", "may"]),
        ("oh wow, thanks", []),
        ("", []),
    ],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    assert content.tokens(text) == tokens


@pytest.mark.parametrize(
    ("word", "stem"),
    [
        ("classes", "class"),
        ("cities", "city"),
        ("tried", "try"),
        ("hopping", "hop"),
        ("planned", "plan"),
        ("falling", "fall"),
        ("kissed", "kiss"),
        ("repeatedly", "repeat"),
        ("quickly", "quick"),
        ("boxes", "box"),
        ("uses", "use"),
        ("class", "class"),
        ("sing", "sing"),
        ("bed", "bed"),
        ("store", "stor"),
        ("like", "like"),
        ("was", "was"),
        ("2023s", "2023s"),
    ],
)
def test_stems(word: str, stem: str) -> None:
    assert content.stem(word) == stem


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("I ran yesterday", {"2023", "may", "7"}),
        ("Last night was fun", {"2023", "may", "7"}),
        ("I start today", {"2023", "may", "8"}),
        ("this morning I ran", {"2023", "may", "8"}),
        ("we leave tomorrow", {"2023", "may", "9"}),
        ("last Friday", {"2023", "may", "5", "friday"}),
        ("last monday", {"2023", "may", "1", "monday"}),
        ("this Monday", {"2023", "may", "8", "monday"}),
        ("next Monday", {"2023", "may", "15", "monday"}),
        ("next Tuesday", {"2023", "may", "9", "tuesday"}),
        ("two days ago", {"2023", "may", "6"}),
        ("10 days ago", {"2023", "april", "28"}),
        ("a week ago", {"2023", "may"}),
        ("a couple of weeks ago", {"2023", "april"}),
        ("last week", {"2023", "may", "week"}),
        ("last weekend", {"2023", "may"}),
        ("last month", {"2023", "april"}),
        ("next month", {"2023", "june"}),
        ("a few months ago", {"2023", "february"}),
        ("this year", {"2023"}),
        ("three years ago", {"2020"}),
        ("yesterday and tomorrow", {"2023", "may", "7", "9"}),
        ("recently, the other day", set()),
        ("1.5 years ago", set()),
        ("yesterdays", set()),
    ],
)
def test_relative_dates(text: str, tokens: set[str]) -> None:
    assert content.date_tokens(text, MONDAY) == tokens


def test_a_date_out_of_range_is_left_out() -> None:
    assert content.date_tokens("9 years ago, and today", datetime(3, 1, 5, tzinfo=UTC)) == {"3", "january", "5"}


def test_token_set_adds_dates_only_when_the_day_is_known() -> None:
    assert content.token_set("I ran yesterday") == {"ran", "yesterday"}
    assert content.token_set("I ran yesterday", MONDAY) == {"ran", "yesterday", "2023", "may", "7"}


def test_a_resolved_date_matches_the_date_written_out() -> None:
    assert content.token_set("on 7 May 2023") <= content.token_set("We met yesterday", MONDAY)


@pytest.mark.parametrize("month", range(1, 13))
def test_every_month_matches_its_written_name(month: int) -> None:
    moment = datetime(2022, month, 20, tzinfo=UTC)
    assert content.date_tokens("today", moment) == content.token_set(f"20 {moment.strftime('%B')} 2022")


def test_idf() -> None:
    assert content.idf(0, 100) == pytest.approx(math.log(101))
    assert content.idf(1, 100) == pytest.approx(math.log(1 + 99.5 / 1.5))
    assert content.idf(100, 100) == pytest.approx(math.log(1 + 0.5 / 100.5))
    assert content.idf(150, 100) == pytest.approx(math.log(1 + 0.5 / 150.5))
    assert content.idf(0, 0) == 0


def test_lexical_stems_lead_from_content_tokens_to_search_stems() -> None:
    found = content.lexical_stems(["the cities moved", "5% in may"])
    assert found == {"city": "citi", "mov": "move", "5": "5", "may": "may"}
    assert set(found.values()) <= set(words.stems("the cities moved 5% in may"))


@given(st.text())
def test_any_text_has_bounded_tokens_without_stop_words(text: str) -> None:
    for token in content.tokens(text):
        assert 0 < len(token) <= 64
    content.token_set(text, MONDAY)


def test_a_very_long_word_is_cut() -> None:
    assert content.tokens("x" * 1_000_000) == ["x" * 64]
