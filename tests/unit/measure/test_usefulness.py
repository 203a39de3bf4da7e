"""Usefulness: the arithmetic of verdicts, and what it may and may not do to a fact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_core.measure.usefulness import (
    DECAY,
    NEUTRAL,
    Credit,
    centred,
    credited,
    decayed,
    posterior,
    summed,
    tallied,
)
from engram_core.ports import Tally

weights = st.floats(0, 1)
outcome = st.tuples(weights, st.booleans()).map(lambda pair: Credit(*pair))


def after(outcomes: list[Credit | None]) -> Tally:
    """The tally of fact `f` after recalls that showed it (a credit) or did not (None)."""
    tally = Tally("f")
    for tick, credit in enumerate(outcomes, 1):
        if credit is not None:
            (tally,) = tallied({"f": tally}, tick, {"f": credit})
    return decayed(tally, len(outcomes))


def gain(tally: Tally, tick: int) -> float:
    recalled, used, age = (np.array([value]) for value in (tally.recalled, tally.used, tick - tally.tick))
    return float(centred(recalled, used, age)[0])


def test_only_used_and_unused_count() -> None:
    verdicts = [
        {"id": "a", "verdict": "used", "terms": {"weight": 0.9}},
        {"id": "b", "verdict": "unused", "terms": {"weight": 0.0}},
        {"id": "c", "verdict": "unknown", "terms": {}},
        {"id": "d", "verdict": "used", "terms": {}},
        {"id": "e", "verdict": "unused", "terms": {"weight": 7.0}},
        {"id": "f"},
    ]
    assert credited(verdicts) == {
        "a": Credit(0.9, is_used=True),
        "b": Credit(0.0, is_used=False),
        "d": Credit(1.0, is_used=True),
        "e": Credit(1.0, is_used=False),
    }


def test_a_fact_without_verdicts_is_exactly_neutral() -> None:
    assert centred(np.zeros(2), np.zeros(2), np.array([0, 90])).tolist() == [0.0, 0.0]
    assert posterior(0, 0) == NEUTRAL


def test_a_probable_use_speaks_neither_for_nor_against() -> None:
    (tally,) = tallied({}, 1, {"f": Credit(0.0, is_used=True)})
    assert tally == ("f", 0.0, 0.0, 1, 1, 1)
    assert gain(tally, 1) == 0.0


@given(st.lists(st.none() | outcome, max_size=40))
def test_the_effect_is_bounded_and_evidence_is_no_more_than_was_given(outcomes: list[Credit | None]) -> None:
    tally = after(outcomes)
    assert 0.0 <= tally.used <= tally.recalled + 1e-9
    assert tally.judged == sum(credit is not None for credit in outcomes)
    value = gain(tally, len(outcomes))
    assert -NEUTRAL <= value < 1 - NEUTRAL


@given(st.lists(st.none() | outcome, max_size=20), weights)
def test_use_raises_and_disuse_lowers(outcomes: list[Credit | None], weight: float) -> None:
    unused, used = (after([*outcomes, credit]) for credit in (Credit(0.0, is_used=False), Credit(weight, is_used=True)))
    tick = len(outcomes) + 1
    low, high = gain(unused, tick), gain(used, tick)
    assert low <= high
    if not any(credit and credit.weight for credit in outcomes):
        assert low <= 0.0


@pytest.mark.parametrize("shown", [1, 5, 40, 400])
def test_a_fact_that_sank_comes_back_by_itself(shown: int) -> None:
    """However often it was shown in vain: 410 later recalls of the scope leave a quarter of the greatest penalty."""
    tally = after([Credit(0.0, is_used=False)] * shown)
    sunk = gain(tally, shown)
    later = gain(tally, shown + 410)
    assert -NEUTRAL < sunk < later < 0.0
    assert later >= -NEUTRAL / 4


@pytest.mark.parametrize(("every", "sign"), [(2, 1), (5, 0), (20, -1)])
def test_a_fact_used_one_time_in_five_stays_where_it_is(every: int, sign: int) -> None:
    outcomes = [Credit(float(number % every == 0), number % every == 0) for number in range(60)]
    value = gain(after(outcomes), len(outcomes))
    assert int(value > 0.02) - int(value < -0.02) == sign


@given(st.lists(outcome, min_size=1, max_size=8), outcome, st.data())
def test_a_correction_is_as_if_it_had_been_said_the_first_time(
    outcomes: list[Credit], right: Credit, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(outcomes) - 1))
    wrong = outcomes[place]
    tick = len(outcomes) + 1
    (corrected,) = tallied({"f": after(outcomes)}, tick, {"f": right}, {"f": wrong}, place + 1)
    wanted = decayed(after([*outcomes[:place], right, *outcomes[place + 1 :]]), tick)
    assert corrected[1:5] == pytest.approx(wanted[1:5], abs=1e-9)


def test_sums_decay_by_each_scope_of_its_own() -> None:
    found = summed([(Tally("f", 2.0, 1.0, tick=4), 4), (Tally("f", 1.0, 1.0, tick=0), 10), (Tally("g", 1.0), 0)])
    assert found == {"f": pytest.approx((2 + DECAY**10, 1 + DECAY**10)), "g": (1.0, 0.0)}
