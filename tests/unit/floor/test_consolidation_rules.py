"""What the floor says to consolidating: whoever proposes it, nothing may be lost, mixed up or taken from a person."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from engram_core.domain.change import Absorb, Change, Consolidate, Edit, Restore, Split
from engram_core.domain.fact import Fact, Status
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.floor import legality
from engram_core.testing import samples

HERE = Scope("acme/ana")
WHY = Reason("related", "A test.")
NOW = datetime(2026, 6, 1, tzinfo=UTC)
OLD = NOW - timedelta(days=30)


def fact(text: str, **fields: object) -> Fact:
    return replace(samples.fact(HERE, text), **{"created_at": OLD, **fields})  # type: ignore[arg-type]


def judged(change: Change, *facts: Fact, by_person: bool = False) -> str | None:
    known = {item.id: item for item in facts}
    refusal = legality.judge(change, scope=HERE, facts=known, by_person=by_person, policy=MemoryPolicy(), now=NOW)
    return refusal.rule if refusal else None


def both(one: Fact, other: Fact, text: str = "Ana has 2 cats; Ana has a dog", form: str = "merged") -> Consolidate:
    return Consolidate((one.id, other.id), text, form, WHY)  # type: ignore[arg-type]


def test_a_merge_that_keeps_every_word_is_legal() -> None:
    one, other = fact("Ana has 2 cats."), fact("Ana has a dog.")
    assert judged(both(one, other), one, other) is None
    assert judged(both(one, other, "Ana has cats and a dog"), one, other) == "loses_words"


def test_a_summary_must_keep_numbers_names_and_dates() -> None:
    one, other = fact("Ana has 2 cats."), fact("Ana has a dog.")
    assert judged(both(one, other, "Ana: 2 pets", "summary"), one, other) is None
    assert judged(both(one, other, "Ana has pets", "summary"), one, other) == "loses_facts"


@pytest.mark.parametrize(
    ("fields", "form", "rule"),
    [
        ({"pinned": True}, "merged", "pinned"),
        ({"status": Status.ARCHIVED}, "merged", "not_live"),
        ({"status": Status.PENDING}, "merged", "not_live"),
        ({"status": Status.ERASED}, "merged", "erased"),
        ({"scope": Scope("acme/ben")}, "merged", "other_scope"),
        ({"valid_until": NOW}, "merged", "validity_differs"),
        ({"form": "apart"}, "merged", "apart"),
        ({"created_at": NOW}, "merged", None),
        ({"created_at": NOW}, "summary", "protected"),
    ],
)
def test_what_may_not_be_taken_in(fields: dict[str, object], form: str, rule: str | None) -> None:
    one, other = fact("Ana has 2 cats."), fact("Ana has a dog.", **fields)
    assert judged(both(one, other, form=form), one, other) == rule


def test_it_takes_two_different_facts_that_exist() -> None:
    one, other = fact("Ana has 2 cats."), fact("Ana has a dog.")
    assert judged(Consolidate((one.id,), one.text, "merged", WHY), one) == "too_few"
    assert judged(Consolidate((one.id, one.id), one.text, "merged", WHY), one) == "too_few"
    assert judged(Absorb(one.id, (), WHY), one) == "too_few"
    assert judged(Absorb(one.id, (one.id,), WHY), one) == "too_few"
    assert judged(both(one, other), one) == "unknown_fact"


def test_only_a_merged_fact_can_be_joined() -> None:
    one, other = fact("Ana has 2 cats."), fact("Ana has a dog.")
    joined = replace(both(one, other), fact_ids=(one.id,), into=other.id)
    assert judged(joined, one, other) == "not_consolidated"
    assert judged(joined, one, replace(other, form="merged")) is None


def test_a_duplicate_may_go_only_if_nothing_contradicts_and_trust_stays() -> None:
    one, other = fact("Ana has 2 cats."), fact("Ana has two cats")
    assert judged(Absorb(one.id, (other.id,), WHY), one, other) is None
    assert judged(Absorb(one.id, (other.id,), WHY), one, replace(other, text="Ana has 3 cats")) == "not_the_same"
    assert judged(Absorb(one.id, (other.id,), WHY), replace(one, trust=0.3), other) == "less_trusted"
    assert judged(Absorb(one.id, (other.id,), WHY), replace(one, status=Status.ARCHIVED), other) == "not_live"
    assert judged(Absorb(one.id, (other.id,), WHY), one, replace(other, created_at=NOW)) == "protected"
    assert judged(Absorb(one.id, (other.id,), WHY), one, replace(other, valid_until=NOW)) == "validity_differs"


def test_only_people_split_and_only_what_holds_originals() -> None:
    whole = fact("Both.", form="merged", is_consolidated=True, consolidated_from=("a", "b"))
    assert judged(Split(whole.id, WHY), whole, by_person=True) is None
    assert judged(Split(whole.id, WHY), whole) == "split_by_design"
    assert judged(Split(whole.id, WHY), fact("x", id=whole.id), by_person=True) == "not_consolidated"
    ended = replace(whole, consolidated_from=(), status=Status.ARCHIVED)
    assert judged(Restore(whole.id, WHY), ended, by_person=True) == "originals_gone"
    assert judged(Edit(replace(whole, text="New."), WHY), whole, by_person=True) == "made_of_originals"
    assert judged(Edit(replace(whole, pinned=True), WHY), whole, by_person=True) is None
