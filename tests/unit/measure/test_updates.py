"""The ranker of possible updates: what it looks at in a text, and which of two pairs it finds likelier."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_core.measure.updates import (
    FEATURES,
    OWN,
    analysed,
    are_two_things,
    features,
    judged,
    may_update,
    rankers_of,
    strength,
)

PLAIN: dict[str, float] = defaultdict(lambda: 1.0)


def pair(old: str, new: str, cosine: float = 0.6) -> dict[str, float]:
    return dict(zip(FEATURES, features(analysed(old), analysed(new), cosine, PLAIN), strict=True))


def test_numbers_have_units_and_context() -> None:
    found = analysed("My budget is $1,200 for twelve chairs, 15% less than in 2019.")
    assert [(number.value, number.unit) for number in found.numbers] == [("1200", "$"), ("12", "chair"), ("15", "%")]
    assert found.dates == {("year", "2019")}
    assert "budget" in found.numbers[0].context


def test_days_are_dates_not_numbers() -> None:
    found = analysed("The exam moved from May 3 to 4 June.")
    assert found.numbers == ()
    assert found.dates == {("may", "3"), ("june", "4")}
    assert found.strong


def test_a_series_is_not_a_history() -> None:
    first, second = analysed("Row 7 of the garden has 3 tulips"), analysed("Row 8 of the garden has 5 tulips")
    assert first.labels == {("row", "7")}
    assert are_two_things(first, second)
    assert not are_two_things(first, analysed("Row 7 of the garden now has 5 tulips"))
    assert analysed("s9n0p0 is a name").numbers == ()
    assert not may_update("red cat s9n0p0")


def test_what_a_text_leaves_is_known() -> None:
    assert {"blue", "harbor"} <= analysed("I switched from Blue Harbor to Oakline").left
    assert analysed("I like Oakline").left == frozenset()


@pytest.mark.parametrize(
    ("text", "may"),
    [
        ("I've recently changed my plan", True),
        ("My deck has 300 cards", True),
        ("I bought two tickets for the match", False),
        ("I bought two more tickets instead of one", True),
        ("Sounds lovely", False),
    ],
)
def test_what_can_be_an_update(text: str, may: bool) -> None:  # noqa: FBT001 - a table
    assert may_update(text) is may


def test_a_changed_number_in_the_same_context() -> None:
    found = pair("My Italian deck has 300 cards.", "My Italian deck has grown to 420 cards now.")
    assert found["numchg"] == 1
    assert found["unitctx"] > 0
    assert found["strong"] == 1
    assert pair("My deck has 300 cards.", "My deck still has 300 cards.")["numchg"] == 0


def test_an_update_is_likelier_than_its_neighbours() -> None:
    old = "My Italian deck has 300 cards and I review it daily."
    update = pair(old, "My Italian deck has grown to 420 cards now.")
    other = pair(old, "My rent has grown to 900 euros now.")
    same = pair(old, "I still review my Italian deck of 300 cards daily.")
    for ranker in rankers_of("wordllama"):
        likely, *rest = [ranker.probability(tuple(found.values())) for found in (update, other, same)]
        assert likely > max(rest)
    assert OWN.probability(tuple(update.values())) >= OWN.threshold


def test_published_rankers_serve_their_embedder_only() -> None:
    assert [ranker.name for ranker in rankers_of("wordllama-l2-256")] == ["own", "published"]
    assert rankers_of("sentence-transformers/all-MiniLM-L6-v2")[1] != rankers_of("wordllama")[1]
    assert rankers_of("acme-embed-3") == (OWN,)
    found = judged(rankers_of("wordllama"), [0.0] * len(FEATURES))
    assert strength(rankers_of("wordllama"), found) < 1


@settings(deadline=None)
@given(st.text(max_size=200), st.text(max_size=200), st.floats(-1, 1))
def test_any_pair_has_finite_features(old: str, new: str, cosine: float) -> None:
    values = pair(old, new, cosine).values()
    assert all(math.isfinite(value) for value in values)
    assert all(0.0 <= ranker.probability(tuple(values)) <= 1.0 for ranker in rankers_of("minilm"))
