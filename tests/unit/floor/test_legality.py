"""Legality: what nobody may propose, what only a person may, and what is fine."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_core.domain.change import Add, Archive, Change, Draft, Edit, Ignore, Merge, Restore, Reweigh, Supersede
from engram_core.domain.fact import Fact, Origin, Status
from engram_core.domain.message import Message
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.floor.legality import judge

NOW = datetime(2024, 5, 6, 12, tzinfo=UTC)
OLD = NOW - timedelta(days=100)
SCOPE = Scope("acme/alice")
WHY = Reason("test", "A test asks for it.")
MESSAGE = Message("user", "I like tea", id="m1")
DRAFT = Draft("I like tea", (MESSAGE,))
BASE = Fact("f", SCOPE, "I like tea", Origin("user:alice", "user"), OLD, OLD, trust=0.7)
FACTS = {
    fact.id: fact
    for fact in (
        replace(BASE, id="live"),
        replace(BASE, id="pending", status=Status.PENDING),
        replace(BASE, id="young", created_at=NOW - timedelta(days=6.9)),
        replace(BASE, id="pinned", pinned=True),
        replace(BASE, id="quarantined", status=Status.QUARANTINED),
        replace(BASE, id="archived", status=Status.ARCHIVED),
        replace(BASE, id="erased", status=Status.ERASED),
        replace(BASE, id="foreign", scope=Scope("acme/alice/work")),
        replace(BASE, id="beside", scope=Scope("acme/alice-2")),
    )
}


def refusal(change: Change, *, by_person: bool = False, **more: Any) -> str | None:
    given_facts: Mapping[str, Fact] = FACTS
    found = judge(
        change, scope=SCOPE, facts=given_facts, by_person=by_person, policy=MemoryPolicy.validated({}), now=NOW, **more
    )
    return found.rule if found else None


def on(fact_id: str) -> list[Change]:
    """Every change that names a fact."""
    return [
        Merge(fact_id, DRAFT, WHY),
        Supersede(fact_id, DRAFT, WHY),
        Archive(fact_id, WHY),
        Restore(fact_id, WHY),
        Reweigh(fact_id, 0.5, WHY),
        Add(replace(DRAFT, sources=(fact_id,)), WHY),
    ]


@pytest.mark.parametrize(
    "change",
    [
        Add(DRAFT, WHY),
        Add(replace(DRAFT, sources=("live", "archived")), WHY),
        Merge("live", DRAFT, WHY),
        Merge("pending", DRAFT, WHY),
        Supersede("young", DRAFT, WHY),
        Archive("live", WHY),
        Archive("quarantined", WHY),
        Restore("archived", WHY),
        Reweigh("pinned", 1.0, WHY),
        Ignore(MESSAGE, WHY),
    ],
)
@pytest.mark.parametrize("by_person", [True, False])
def test_legal(change: Change, by_person: bool) -> None:
    assert refusal(change, by_person=by_person) is None


@pytest.mark.parametrize("by_person", [True, False])
@pytest.mark.parametrize(
    ("fact_id", "rule"),
    [("nowhere", "unknown_fact"), ("foreign", "other_scope"), ("beside", "other_scope"), ("erased", "erased")],
)
def test_facts_out_of_reach(fact_id: str, rule: str, by_person: bool) -> None:
    assert [refusal(change, by_person=by_person) for change in on(fact_id)] == [rule] * 6


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (Archive("pinned", WHY), "pinned"),
        (Supersede("pinned", DRAFT, WHY), "pinned"),
        (Archive("young", WHY), "protected"),
        (Edit(replace(FACTS["live"], text="x"), WHY), "edit_by_design"),
    ],
)
def test_what_only_a_person_may(change: Change, rule: str) -> None:
    assert refusal(change) == rule
    assert refusal(change, by_person=True) is None


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (Restore("live", WHY), "not_archived"),
        (Restore("quarantined", WHY), "not_archived"),
        (Merge("archived", DRAFT, WHY), "not_live"),
        (Merge("quarantined", DRAFT, WHY), "not_live"),
        (Archive("archived", WHY), "not_live"),
        (Supersede("archived", DRAFT, WHY), "not_live"),
        (Reweigh("live", math.nan, WHY), "out_of_range"),
        (Reweigh("live", 1.01, WHY), "out_of_range"),
        (Add(replace(DRAFT, messages=()), WHY), "no_provenance"),
    ],
)
@pytest.mark.parametrize("by_person", [True, False])
def test_what_nobody_may(change: Change, rule: str, by_person: bool) -> None:
    assert refusal(change, by_person=by_person) == rule


deep: Any = "x"
for _ in range(40):
    deep = [deep]
CONTENT: list[tuple[dict[str, Any], str]] = [
    ({"text": ""}, "empty"),
    ({"text": " \n"}, "empty"),
    ({"text": "é" * 4097}, "text_too_long"),
    ({"text": "a\ud800"}, "text_invalid"),
    ({"text": "a\x00"}, "text_invalid"),
    ({"kind": "Preference"}, "kind_invalid"),
    ({"kind": "a" * 33}, "kind_invalid"),
    ({"kind": "a\n"}, "kind_invalid"),
    ({"kind": ""}, "kind_invalid"),
    ({"kind": 5}, "kind_invalid"),
    ({"text": None}, "empty"),
    ({"importance": "high"}, "out_of_range"),
    ({"metadata": ["x"]}, "metadata_not_json"),
    ({"importance": -0.1}, "out_of_range"),
    ({"importance": math.nan}, "out_of_range"),
    ({"confidence": math.inf}, "out_of_range"),
    ({"metadata": {str(n): n for n in range(65)}}, "metadata_too_large"),
    ({"metadata": {"scope": "x"}}, "metadata_reserved"),
    ({"metadata": {"origin": 1}}, "metadata_reserved"),
    ({"metadata": {"x": math.nan}}, "metadata_not_json"),
    ({"metadata": {"x": object()}}, "metadata_not_json"),
    ({"metadata": {"x": b"y"}}, "metadata_not_json"),
    ({"metadata": {"x": {1: 2}}}, "metadata_not_json"),
    ({"metadata": {"x": "\ud800"}}, "metadata_not_json"),
    ({"metadata": {"x": deep}}, "metadata_not_json"),
    ({"metadata": {1: "x"}}, "metadata_not_json"),
]


@pytest.mark.parametrize(("fields", "rule"), CONTENT)
def test_content(fields: dict[str, Any], rule: str) -> None:
    draft = replace(DRAFT, **fields)
    for change in (Add(draft, WHY), Merge("live", draft, WHY), Supersede("live", draft, WHY)):
        assert refusal(change) == rule
    assert refusal(Edit(replace(FACTS["live"], **fields), WHY), by_person=True) == rule


def test_content_at_the_limits() -> None:
    metadata = {str(n): [n, None, True, {"x": 1.5}] for n in range(64)}
    draft = replace(DRAFT, text="é" * 4096, kind="a" * 32, importance=0, confidence=1.0, metadata=metadata)
    assert refusal(Add(draft, WHY)) is None


def test_drafts_rest_on_messages_of_the_episode() -> None:
    assert refusal(Add(DRAFT, WHY), messages={"m1"}) is None
    assert refusal(Add(DRAFT, WHY), messages={"m2"}) == "unknown_message"
    assert refusal(Add(replace(DRAFT, messages=(Message("user", "x"),)), WHY), messages={"m1"}) == "unknown_message"


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"trust": 0.71}, "raised_trust"),
        ({"trust": math.nan}, "raised_trust"),
        ({"trust": -1.0}, "out_of_range"),
        ({"scope": Scope("acme")}, "other_scope"),
        ({"origin": Origin("user:bob", "user")}, "origin_fixed"),
        ({"created_at": NOW}, "origin_fixed"),
    ],
)
def test_edits_cannot(fields: dict[str, Any], rule: str) -> None:
    assert refusal(Edit(replace(FACTS["live"], **fields), WHY), by_person=True) == rule


@pytest.mark.parametrize("fields", [{"trust": 0.2}, {"pinned": True}, {"text": "I like coffee"}, {"importance": 1.0}])
def test_edits_can(fields: dict[str, Any]) -> None:
    assert refusal(Edit(replace(FACTS["live"], **fields), WHY), by_person=True) is None


def test_protection_follows_the_policy() -> None:
    def rule(protect_days: float) -> str | None:
        policy = MemoryPolicy.validated({"protect_days": protect_days})
        found = judge(Archive("young", WHY), scope=SCOPE, facts=FACTS, by_person=False, policy=policy, now=NOW)
        return found.rule if found else None

    assert rule(7) == "protected"
    assert rule(6) is None
    assert rule(0) is None


@pytest.mark.parametrize(("days", "rule"), [(1, "protected"), (6.9, "protected"), (7, None)])
def test_what_a_person_restored_is_protected_even_without_protect_days(days: float, rule: str | None) -> None:
    back = replace(FACTS["live"], restored_at=NOW - timedelta(days=days))
    policy = MemoryPolicy(protect_days=0)
    found = judge(Archive("live", WHY), scope=SCOPE, facts={"live": back}, by_person=False, policy=policy, now=NOW)
    assert (found.rule if found else None) == rule
    assert (
        judge(Archive("live", WHY), scope=SCOPE, facts={"live": back}, by_person=True, policy=policy, now=NOW) is None
    )


@pytest.mark.parametrize(("days", "rule"), [(29, None), (30, None), (30.1, "retention_over")])
def test_what_was_archived_too_long_ago_is_not_restored(days: float, rule: str | None) -> None:
    gone = replace(FACTS["archived"], archived_at=NOW - timedelta(days=days))
    policy = MemoryPolicy(retain_archived_days=30)
    for by_person in (True, False):
        change = Restore("archived", WHY)
        found = judge(change, scope=SCOPE, facts={"archived": gone}, by_person=by_person, policy=policy, now=NOW)
        assert (found.rule if found else None) == rule


numbers = st.floats(allow_nan=True, allow_infinity=True)


@settings(deadline=None)
@given(numbers, numbers, st.text(max_size=40), st.sampled_from(sorted(FACTS)), st.booleans())
def test_nothing_out_of_range_passes(
    importance: float, confidence: float, kind: str, fact_id: str, by_person: bool
) -> None:
    draft = replace(DRAFT, importance=importance, confidence=confidence, kind=kind)
    for change in (Add(draft, WHY), Supersede(fact_id, draft, WHY), Merge(fact_id, draft, WHY)):
        if refusal(change, by_person=by_person) is None:
            assert 0 <= importance <= 1
            assert 0 <= confidence <= 1
            assert kind.isascii()
            assert kind[0].islower()
            assert len(kind) <= 32


@settings(deadline=None)
@given(
    st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()), st.lists, max_leaves=10)
)
def test_accepted_metadata_survives_json(value: Any) -> None:
    if refusal(Add(replace(DRAFT, metadata={"x": value}), WHY)) is None:
        stored = json.dumps({"x": value}, allow_nan=False, ensure_ascii=False).encode()
        assert json.loads(stored) == {"x": value}
