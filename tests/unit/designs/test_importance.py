"""Importance at write: a documented logistic sum of what the words tell and what was known before."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_core.designs.pipeline.importance import COEFFICIENTS, importance_of
from engram_core.measure import words


def logit(importance: float) -> float:
    return math.log(importance / (1 - importance))


def seen(text: str) -> frozenset[str]:
    return frozenset(words.stems(text))


def test_the_sum_is_the_documented_one() -> None:
    text = "I adopted a puppy called Rex yesterday"
    known = frozenset(["adopt", "rex"])
    stems = seen(text)
    new = sum(stem not in known for stem in stems) / len(stems)
    expected = sum(
        COEFFICIENTS[name] * value
        for name, value in {
            "constant": 1, "length": math.log(6), "new": new, "time": 1, "names": 1, "verb": 1, "answers": 1,
            "before": math.log(1 + len(seen("What happened to your dog?"))),
        }.items()
    )  # fmt: skip
    assert logit(importance_of(text, seen=known, previous="What happened to your dog?")) == pytest.approx(
        expected, abs=0.01
    )


@pytest.mark.parametrize(
    ("more", "less"),
    [
        ("I moved to Lisbon last year", "I moved to Lisbon"),
        ("The rent is 900 a month", "The rent is high a month"),
        ("The rent is nine hundred", "The rent is many hundred"),
        ("We drove with Nora and Ben", "We drove with her and him"),
        ("I love the sea", "They love the sea"),
        ("I'm allergic to nuts", "He's allergic to nuts"),
        ("The sea is calm", "The sea is calm?"),
    ],
)
def test_what_makes_a_statement_matter_more(more: str, less: str) -> None:
    known = seen(f"{more} {less}")
    assert importance_of(more, seen=known) > importance_of(less, seen=known)


def test_a_known_statement_matters_less_and_an_answer_more() -> None:
    text = "The garden needs water"
    assert importance_of(text, seen=seen(text)) < importance_of(text)
    assert importance_of(text, previous="What is new?") > importance_of(text, previous="Something is new.")


def test_a_name_at_the_start_of_a_sentence_may_be_any_word() -> None:
    known = seen("Rome is old. Rome is old")
    assert importance_of("Rome is old", seen=known) == importance_of("rome is old", seen=known)
    assert importance_of('He said. "Rome is old"', seen=known) < importance_of("He said that Rome is old", seen=known)


@settings(deadline=None)
@given(st.text(max_size=300), st.one_of(st.none(), st.text(max_size=100)))
def test_any_text_has_an_importance(text: str, previous: str | None) -> None:
    assert 0.0 <= importance_of(text, previous=previous) <= 1.0
