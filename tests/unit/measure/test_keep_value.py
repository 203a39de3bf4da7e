"""The keep value and the choice under a cap: sums, bounds, directions and what is out of reach."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_core.domain.policy import MemoryPolicy
from engram_core.measure import forgetting
from engram_core.measure.forgetting import Held, Scores, judge, select

DAY = 86_400.0
NOW = 1_000 * DAY
KINDS = ("observation", "decision", "error")
PLAIN = MemoryPolicy(auto_forget=True, protect_days=0)


def held(*rows: dict[str, Any]) -> Held:
    """Facts with the given fields; the rest is neutral and old."""
    plain: dict[str, Any] = {
        "kind": "observation", "importance": 0.5, "trust": 1.0, "pinned": False, "created_at": 0.0, "said_at": 0.0,
        "restored_at": -np.inf, "session_start": np.nan, "expired": False, "superseded": False, "redundant": 0.0,
        "recalls": 0.0, "uses": 0.0,
    }  # fmt: skip
    full = [plain | row for row in rows]
    columns = {name: np.array([row[name] for row in full]) for name in plain if name != "kind"}
    return Held(ids=[f"f{place}" for place in range(len(rows))], kinds=[row["kind"] for row in full], **columns)


def scores(facts: Held, policy: MemoryPolicy = PLAIN, starts: tuple[float, ...] = ()) -> Scores:
    return judge(facts, policy, np.array(starts, dtype=np.float64), NOW)


def archived(facts: Held, policy: MemoryPolicy = PLAIN, now: float = NOW) -> list[str]:
    chosen = select(facts, scores(facts, policy), policy, now)
    return [facts.ids[row] for row in (*chosen.by_score, *chosen.by_cap)]


_share = st.floats(0, 1)
_fact = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "importance": _share,
        "trust": _share,
        "pinned": st.booleans(),
        "created_at": st.floats(0, NOW),
        "said_at": st.floats(0, NOW),
        "session_start": st.one_of(st.just(np.nan), st.floats(0, NOW)),
        "expired": st.booleans(),
        "superseded": st.booleans(),
        "redundant": _share,
        "recalls": st.floats(0, 1_000),
        "uses": st.floats(0, 1_000),
    }
)
_policy = st.builds(
    MemoryPolicy,
    decay_rate=_share,
    trust_floor=_share,
    retention_floor=_share,
    forget_threshold=_share,
    prioritize_types=st.lists(st.sampled_from(KINDS), unique=True).map(tuple),
    protect_days=st.sampled_from([0.0, 7.0, 500.0]),
    max_facts=st.integers(1, 12),
    auto_forget=st.just(True),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(_fact, min_size=1, max_size=12), _policy, st.lists(st.floats(0, NOW), max_size=5))
def test_terms_sum_to_a_score_between_0_and_1(
    rows: list[dict[str, Any]], policy: MemoryPolicy, starts: list[float]
) -> None:
    facts = held(*rows)
    found = scores(facts, policy, tuple(sorted(starts)))
    for row, score in enumerate(found.score.tolist()):
        terms = found.terms_of(row)
        assert sum(terms.values()) == score
        assert sum(reversed(terms.values())) == score
        assert 0.0 <= score <= 1.0
        assert 0.0 <= found.worth[row] <= 1.0


@settings(deadline=None, max_examples=200)
@given(st.lists(_fact, min_size=1, max_size=12), _policy)
def test_what_is_protected_is_never_chosen(rows: list[dict[str, Any]], policy: MemoryPolicy) -> None:
    facts = held(*rows)
    found = scores(facts, policy)
    chosen = select(facts, found, policy, NOW)
    going = [*chosen.by_score.tolist(), *chosen.by_cap.tolist()]
    assert len(set(going)) == len(going)
    for row in going:
        assert not facts.pinned[row]
        assert NOW - facts.created_at[row] >= policy.protect_days * DAY
        assert found.worth[row] <= policy.retention_floor
    left = len(rows) - len(going)
    assert chosen.over == max(0, left - policy.max_facts)
    if chosen.over:
        assert left == sum(chosen.protected.values())
    assert not (len(chosen.by_cap) and left < policy.max_facts), "the cap takes no more than it must"


@settings(deadline=None, max_examples=100)
@given(_fact, st.floats(0, 50), st.floats(0, 50), _share)
def test_more_use_and_more_importance_never_raise_the_score(
    row: dict[str, Any], recalls: float, more: float, importance: float
) -> None:
    base = row | {"recalls": recalls, "uses": recalls / 2}
    used = row | {"recalls": recalls + more, "uses": recalls / 2 + more}
    heavier = base | {"importance": max(importance, row["importance"])}
    before, after, heavy = scores(held(base, used, heavier)).score
    assert after <= before + 1e-3
    assert heavy <= before + 1e-3


def test_the_formula_is_the_documented_one() -> None:
    """1 - (importance + .3 exp(-.15 sessions) + U) / 2.3, at the default decay_rate."""
    starts = tuple(float(day) * DAY for day in range(10))
    facts = held(
        {"importance": 0.2, "session_start": 9 * DAY},
        {"importance": 0.2, "session_start": 4 * DAY, "recalls": 4.0, "uses": 2.0},
    )
    new, old = scores(facts, starts=starts).score
    assert new == pytest.approx(1 - (0.2 + 0.3 + 0.2) / 2.3, abs=1e-3)
    usefulness = 3.0 / (7.0 + 0.2)
    assert old == pytest.approx(1 - (0.2 + 0.3 * np.exp(-0.15 * 5) + usefulness) / 2.3, abs=2e-3)


def test_a_fact_without_a_session_ages_by_days_and_one_with_by_sessions() -> None:
    facts = held({"said_at": NOW - 15 * DAY}, {"session_start": 0.0}, {"session_start": DAY})
    ages = forgetting.age_in_days(facts, np.array([0.0, DAY]), NOW)
    assert ages.tolist() == [15.0, 15.0, 0.0]


def test_a_never_recalled_fact_has_a_usefulness_of_a_fifth_and_showing_counts_a_tenth() -> None:
    zero, shown, used = forgetting.usefulness(np.array([0.0, 10.0, 10.0]), np.array([0.0, 0.0, 10.0]))
    assert zero == pytest.approx(0.2)
    assert shown == pytest.approx(1 / 6)
    assert used == pytest.approx(11 / 15)


@pytest.mark.parametrize("flag", ["superseded", "expired", "redundant"])
def test_what_no_longer_holds_or_is_said_elsewhere_scores_1(flag: str) -> None:
    found = scores(held({flag: True, "importance": 0.9}))
    assert found.score[0] == 1.0
    assert found.terms_of(0)[flag] > 0
    assert archived(held({flag: True})) == ["f0"]


def test_pins_and_prioritised_kinds_score_0_and_say_so() -> None:
    policy = PLAIN.changed(prioritize_types=["error"])
    found = scores(held({"pinned": True}, {"kind": "error"}, {"kind": "error", "pinned": True}), policy)
    assert found.score.tolist() == [0.0, 0.0, 0.0]
    assert set(found.terms_of(0)) == {"low_importance", "decayed", "unused", "pinned"}
    assert set(found.terms_of(1)) == {"low_importance", "decayed", "unused", "priority"}
    assert "priority" not in found.terms_of(2)


def test_an_untrusted_fact_loses_half_of_what_is_left() -> None:
    plain, untrusted = scores(held({}, {"trust": 0.3}), PLAIN.changed(trust_floor=0.5)).score
    assert untrusted == pytest.approx(plain + (1 - plain) / 2, abs=1e-3)


def test_the_cap_takes_redundant_then_unused_then_prioritised() -> None:
    facts = held(
        {"kind": "error", "importance": 0.1},
        {"recalls": 3.0, "uses": 3.0},
        {},
        {"importance": 0.9, "redundant": 0.4},
        {"kind": "error"},
    )
    policy = PLAIN.changed(prioritize_types=["error"], forget_threshold=1)
    order = ["f3", "f2", "f1", "f0", "f4"]
    for cap in (4, 3, 2, 1):
        assert archived(facts, policy.changed(max_facts=cap)) == order[: 5 - cap]


def test_of_equals_the_one_said_first_goes() -> None:
    facts = held({"session_start": 0.0, "said_at": 5.0}, {"session_start": 0.0, "said_at": 2.0})
    assert archived(facts, PLAIN.changed(max_facts=1)) == ["f1"]


def test_protection_is_absolute_and_the_excess_is_told() -> None:
    facts = held({"pinned": True}, {"created_at": NOW - DAY}, {"importance": 1.0, "recalls": 30.0, "uses": 30.0}, {})
    policy = PLAIN.changed(max_facts=1, protect_days=7)
    chosen = select(facts, scores(facts, policy), policy, NOW)
    assert chosen.by_cap.tolist() == [3]
    assert chosen.protected == {"pinned": 1, "protect_days": 1, "retention_floor": 1}
    assert chosen.over == 2


def test_a_restored_fact_is_left_alone_for_a_week_even_without_protect_days() -> None:
    for days, going in ((6.0, []), (8.0, ["f0"])):
        facts = held({"restored_at": NOW - days * DAY, "superseded": True})
        assert archived(facts, PLAIN) == going


def test_a_young_store_is_not_emptied_by_the_default_threshold() -> None:
    """The default archives by score only what is expired, superseded or redundant, or very old and worth nothing."""
    facts = held(*({"importance": importance, "said_at": NOW} for importance in np.linspace(0, 1, 21)))
    assert archived(facts, PLAIN) == []
    assert archived(held({"importance": 0.0}, {"importance": 0.2}), PLAIN) == ["f0"]


def test_of_twins_the_best_kept_stays() -> None:
    keys = ["a", "b", "a", "", "", "a"]
    pinned = np.array([False, False, False, False, False, True])
    redundant = forgetting.twins(keys, pinned, np.array([0.9, 0.5, 0.5, 0.5, 0.5, 0.1]), np.zeros(6))
    assert redundant.tolist() == [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    same = replace(held({}, {}), redundant=forgetting.twins(["a", "a"], pinned[:2], np.array([0.5, 0.5]), np.zeros(2)))
    assert archived(same, PLAIN) == ["f1"]


def test_an_empty_scope_has_nothing_to_forget() -> None:
    nothing = replace(held({}), ids=[], kinds=[])
    empty = Held(**{name: getattr(nothing, name)[:0] for name in nothing.__slots__})
    assert archived(empty, PLAIN) == []
