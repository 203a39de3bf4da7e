"""Splitting long messages: where it cuts, and that it loses nothing."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_core.designs.pipeline.statements import PART_WORDS, split, words_in
from engram_core.domain.fact import MAX_TEXT_BYTES
from engram_core.measure.sentences import sentences

pieces = st.sampled_from(
    [
        "word",
        "Two words.",
        "Why?",
        "\n",
        "\n\n",
        "  ",
        "\t",
        "- item",
        "1. first",
        "```",
        "```\ncode  x\n```",
        "漢字。",
        "é",
        "…",
    ]
)
any_text = st.one_of(
    st.text(max_size=300),
    st.lists(pieces, max_size=400).map(" ".join),
    st.tuples(st.text(min_size=1, max_size=20), st.integers(1, 3000)).map(lambda both: both[0] * both[1]),
)


def gaps(text: str, parts: list[str]) -> list[str]:
    """What lies before, between and after the parts; fails if a part is not in the text in order."""
    found, at = [], 0
    for part in parts:
        start = text.index(part, at)
        found.append(text[at:start])
        at = start + len(part)
    return [*found, text[at:]]


@settings(deadline=None)
@given(any_text)
def test_split_loses_nothing_but_whitespace(text: str) -> None:
    parts = split(text)
    assert not "".join(gaps(text, parts)).strip()
    assert re.sub(r"\s", "", "".join(parts)) == re.sub(r"\s", "", text)


@settings(deadline=None)
@given(any_text)
def test_parts_keep_the_limits(text: str) -> None:
    parts = split(text)
    for part in parts:
        assert part == part.strip() != ""
        assert len(part.encode("utf-8", "surrogatepass")) <= MAX_TEXT_BYTES
        assert words_in(part) <= (PART_WORDS if len(parts) > 1 else 150)


def test_short_messages_stay_whole() -> None:
    text = "  One sentence. Another one!\n\nAnd a paragraph.  "
    assert split(text) == [text.strip()]
    assert split("word " * 150) == [("word " * 150).strip()]
    assert split(" \n ") == []


def test_long_messages_are_cut_between_sentences() -> None:
    text = " ".join(f"Sentence number {n} has exactly seven words." for n in range(40))
    parts = split(text)
    assert len(parts) == 3
    assert all(part.endswith("words.") and part.startswith("Sentence") for part in parts)


def test_the_last_part_is_no_scrap() -> None:
    parts = split(" ".join(f"Sentence {n} has five words." for n in range(31)))
    assert min(words_in(part) for part in parts) > 50


def test_titles_and_initials_end_no_sentence() -> None:
    assert sentences("I saw Dr. Smith today. He knows J. Doe, e.g. from work.") == [
        "I saw Dr. Smith today.",
        "He knows J. Doe, e.g. from work.",
    ]


def test_code_blocks_and_lists_stay_together_when_they_fit() -> None:
    prose = "This paragraph talks about nothing in particular. " * 18
    code = "```python\nfor x in range(3):\n\n    print(x)  # it works. Really.\n```"
    bullets = "\n".join(f"- item {n} of the list. With a second sentence." for n in range(9))
    parts = split(f"{prose}\n\n{code}\n{prose}\n\n{bullets}")
    assert sum(code in part for part in parts) == 1
    assert sum(bullets in part for part in parts) == 1


def test_long_lists_are_cut_between_items() -> None:
    parts = split("\n".join(f"- step {n}: do this. Then do that as well." for n in range(40)))
    assert len(parts) > 1
    assert all(part.startswith("- step") for part in parts)


def test_scripts_without_spaces_are_cut_at_their_sentences() -> None:
    parts = split("我住在里斯本。" * 80)
    assert len(parts) > 1
    assert all(part.endswith("。") for part in parts)
    assert "".join(parts) == "我住在里斯本。" * 80


def test_half_words_add_up() -> None:
    assert all(words_in(part) <= PART_WORDS for part in split("㐀 " * 101))


def test_one_endless_word_is_cut_by_size() -> None:
    parts = split("é" * 10_000)
    assert "".join(parts) == "é" * 10_000
    assert len(parts) == 3


@pytest.mark.parametrize("unit", [".", "a", "\n- ", '."', "```\n", "a. ", " "])
def test_hostile_text_takes_linear_time(unit: str) -> None:
    started = time.perf_counter()
    split("x" + unit * (200_000 // len(unit)) + "x")
    assert time.perf_counter() - started < 5
