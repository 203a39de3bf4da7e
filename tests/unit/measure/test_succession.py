"""Succession at recall: the newer stands above the older, terms sum up, and nothing else moves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engram_core.domain.recall import Scored
from engram_core.measure.succession import TERM, Newer, placed

RANKING = [Scored("a", {"dense": 0.9}), Scored("b", {"dense": 0.8}), Scored("c", {"dense": 0.7})]


def order(ranking: list[Scored]) -> list[str]:
    return [item.fact_id for item in ranking]


def test_the_newer_is_lifted_just_above_the_older() -> None:
    found = placed(RANKING, {"a": Newer("c", 0.2)})
    assert order(found) == ["c", "a", "b"]
    assert set(found[0].terms) == {"dense", TERM}
    assert found[0].score > 0.9
    assert found[1:] == RANKING[:2]


def test_a_newer_one_that_leads_already_stays() -> None:
    assert placed(RANKING, {"c": Newer("a", 0.9)}) == RANKING


def test_a_newer_one_about_something_else_is_not_lifted_unless_it_is_sure() -> None:
    far = [*RANKING, Scored("d", {"dense": 0.1})]
    assert order(placed(far, {"a": Newer("d", 0.5)})) == ["a", "b", "c", "d"]
    assert order(placed(far, {"a": Newer("d", 0.9)})) == ["d", "a", "b", "c"]


def test_a_newer_one_that_was_no_candidate_is_pulled_in() -> None:
    found = placed(RANKING, {"b": Newer("z", 1.0)})
    assert order(found) == ["a", "z", "b", "c"]
    assert set(found[1].terms) == {TERM}


def test_chains_are_followed() -> None:
    assert order(placed(RANKING, {"a": Newer("b", 1.0), "b": Newer("c", 1.0)})) == ["c", "b", "a"]


@given(
    st.lists(st.floats(-1, 2), min_size=1, max_size=8),
    st.dictionaries(st.integers(0, 9), st.tuples(st.integers(0, 9), st.floats(0, 1)), max_size=8),
)
def test_any_links_leave_a_ranking(scores: list[float], links: dict[int, tuple[int, float]]) -> None:
    ranking = [Scored(str(n), {"dense": score}) for n, score in enumerate(sorted(scores, reverse=True))]
    found = placed(ranking, {str(old): Newer(str(new), p) for old, (new, p) in links.items()})
    assert {item.fact_id for item in ranking} <= set(order(found))
    assert len(set(order(found))) == len(found)
    assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)
