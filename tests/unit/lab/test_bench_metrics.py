"""The bench's metrics against values computed by hand, and what must hold for any ranking."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_core import InvalidInput
from engram_core.lab.bench import metrics
from engram_core.lab.bench.metrics import Hit, Interval

IDS = [f"t{number}" for number in range(12)]


def hit(*covers: str, tokens: int = 9, text: str = "") -> Hit:
    return Hit(frozenset(covers), tokens, text)


def of(*covers: str) -> frozenset[str]:
    return frozenset(covers)


RANKED = [hit("x"), hit("a", tokens=300), hit("a", "b", tokens=99), hit("y"), hit("c", tokens=200)]


def test_a_ranking_by_hand() -> None:
    found = metrics.of_ranking(RANKED, of("a", "b", "c", "d"))
    assert found["R@1"] == 0
    assert found["R@5"] == found["R@10"] == 3 / 4
    assert found["All@10"] == 0
    assert found["MRR"] == 1 / 2
    # New evidence at ranks 2, 3 and 5; the ideal has four ranks full.
    ideal = 1 + 1 / math.log2(3) + 1 / 2 + 1 / math.log2(5)
    assert found["NDCG@10"] == pytest.approx((1 / math.log2(3) + 1 / 2 + 1 / math.log2(6)) / ideal)
    # 256 tokens: x (10), not a (301), a+b (100) and y (10); c (201) is over. 512: x, a (301), a+b, y; not c.
    assert found["R@256t"] == 2 / 4
    assert found["R@512t"] == 2 / 4
    assert found["R@1024t"] == 3 / 4
    assert metrics.all_at(RANKED, of("a", "b"), 3) == 1


def test_what_does_not_fit_is_skipped_and_the_next_is_tried() -> None:
    kept = metrics.fitting([hit("a", tokens=5), hit("b", tokens=50), hit("c", tokens=3)], 10)
    assert [sorted(one.covers) for one in kept] == [["a"], ["c"]]


def test_answer_words_are_stemmed_content_words() -> None:
    assert metrics.answer_words(["She was repairing bicycles in Porto."], "repaired the bicycle in Lisbon") == 2 / 3
    assert metrics.answer_words(["anything"], "the") is None
    row = metrics.of_ranking([hit("a", text="a yellow kayak", tokens=300)], of("a"), "the kayak")
    assert (row["A@256t"], row["A@512t"]) == (0, 1)
    assert "A@256t" not in metrics.of_ranking([hit("a")], of("a"))


def test_updates_by_hand() -> None:
    current, stale = of("new"), of("old", "older")
    old_first = [hit("x"), hit("old"), hit("new")]
    assert metrics.of_update(old_first, current, stale) == {"stale@5": 1, "stale@10": 1, "latest first": 0}
    merged = [hit("old", "new"), hit("x")]
    assert metrics.of_update(merged, current, stale) == {"stale@5": 0, "stale@10": 0, "latest first": 1}
    late = [hit("new"), *[hit("x")] * 5, hit("older")]
    assert metrics.of_update(late, current, stale) == {"stale@5": 0, "stale@10": 1, "latest first": 1}
    assert metrics.of_update([hit("x")], current, stale)["latest first"] == 0


def test_forgetting_by_hand() -> None:
    forget, keep = of("a", "b", "c"), of("d", "e")
    assert metrics.of_forgetting(["a", "b", "d", "unlabelled"], forget, keep) == (2 / 3, 2 / 3, 1 / 2, 3)
    assert metrics.of_forgetting([], forget, keep) == (1, 0, 1, 0)


rankings = st.lists(st.builds(Hit, st.frozensets(st.sampled_from(IDS), max_size=3), st.integers(0, 700)), max_size=30)
evidences = st.frozensets(st.sampled_from(IDS), min_size=1)


@settings(deadline=None)
@given(rankings, evidences)
def test_every_metric_is_a_share_and_grows_with_what_it_may_see(hits: list[Hit], evidence: frozenset[str]) -> None:
    found = metrics.of_ranking(hits, evidence)
    assert all(0 <= value <= 1 + 1e-12 for value in found.values())
    assert found["R@1"] <= found["R@5"] <= found["R@10"] <= found["R@20"]
    assert (found["R@10"] == 1) == (found["All@10"] == 1)
    assert (found["NDCG@10"] > 0) == (found["R@10"] > 0)
    assert (found["MRR"] == 1) == (found["R@1"] > 0)


@settings(deadline=None)
@given(rankings, evidences, st.integers(0, 2_000))
def test_what_fits_never_exceeds_the_budget_and_keeps_the_order(
    hits: list[Hit], evidence: frozenset[str], budget: int
) -> None:
    kept = metrics.fitting(hits, budget)
    assert sum(one.tokens + 1 for one in kept) <= budget
    places = iter(hits)
    assert all(any(one is other for other in places) for one in kept)
    assert metrics.recall_in(hits, evidence, 10**6) == len(metrics.covered(hits) & evidence) / len(evidence)


@settings(deadline=None)
@given(st.permutations(IDS), evidences)
def test_an_ideal_ranking_scores_one_and_no_order_beats_it(order: list[str], evidence: frozenset[str]) -> None:
    ideal = [hit(id_) for id_ in sorted(evidence)] + [hit(id_) for id_ in IDS if id_ not in evidence]
    assert metrics.ndcg_at(ideal, evidence) == pytest.approx(1)
    assert metrics.ndcg_at([hit(id_) for id_ in order], evidence) <= 1 + 1e-12


@settings(deadline=None)
@given(st.frozensets(st.sampled_from(IDS)), st.frozensets(st.sampled_from(IDS)))
def test_forgetting_counts_every_label_once(gone: frozenset[str], forget: frozenset[str]) -> None:
    keep = frozenset(IDS) - forget
    found = metrics.of_forgetting(gone, forget, keep)
    if gone:
        assert found.precision * found.forgotten == pytest.approx(len(gone & forget))
    if forget:
        assert found.recall * len(forget) == pytest.approx(len(gone & forget))
    if keep:
        assert (1 - found.kept) * len(keep) == pytest.approx(len(gone & keep))


def test_an_interval_is_repeatable_holds_its_mean_and_has_the_width_of_theory() -> None:
    rng = np.random.default_rng(4)
    ours, theirs = rng.normal(0.1, 1, 400), np.zeros(400)
    found = metrics.paired_interval(ours, theirs)
    assert found == metrics.paired_interval(ours, theirs)
    assert found != metrics.paired_interval(ours, theirs, seed=1)
    assert found.mean == pytest.approx(ours.mean())
    assert found.low < found.mean < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * ours.std() / 20, rel=0.08)
    assert metrics.paired_interval([1.0, 1.0], [0.5, 0.5]) == Interval(0.5, 0.5, 0.5)
    assert not Interval(0.1, -0.1, 0.3).is_clear
    assert Interval(0.1, 0.02, 0.3).is_clear


def test_unpaired_values_are_refused() -> None:
    with pytest.raises(InvalidInput, match="one shape"):
        metrics.paired_interval([1.0], [1.0, 2.0])
    with pytest.raises(InvalidInput, match="at least one question"):
        metrics.paired_interval([], [])
