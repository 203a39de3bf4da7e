"""Proposals from being made to their end, over a real store: nothing is in force before a person says so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engram_core import (
    AccessDenied,
    ChangeRefused,
    Engram,
    InvalidInput,
    InvalidPolicy,
    Proposal,
    ProposalNotFound,
    Scope,
)
from engram_core.operations import proposals

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ALICE = Scope("acme/alice")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Engram]:
    with Engram.open(tmp_path / "store", index="exact") as opened:
        yield opened


def made(store: Engram, **fields: object) -> Proposal:
    return proposals.propose(
        store.context, ALICE, fields or {"max_facts": 500}, NOW,
        evidence={"recalls": 12}, prediction={"tokens": -20.0}, rationale="Most of it was never recalled.",
    )  # fmt: skip


def test_a_proposal_changes_nothing_until_it_is_approved_and_applied(store: Engram) -> None:
    context, memory = store.context, store.memory(ALICE)
    one = made(store)
    assert one.diff == {"max_facts": {"before": 10_000, "after": 500}}
    assert memory.policy.max_facts == 10_000
    with pytest.raises(ChangeRefused, match="is pending"):
        proposals.apply(context, one.id, store.owner, NOW)
    proposals.approve(context, one.id, store.owner, NOW, reason="Fine.")
    assert memory.policy.max_facts == 10_000
    done = proposals.apply(context, one.id, store.owner, NOW)
    assert [step.status for step in done.steps] == ["pending", "approved", "applied"]
    assert memory.policy.max_facts == 500
    with pytest.raises(ChangeRefused, match="is applied"):
        proposals.apply(context, one.id, store.owner, NOW)
    assert memory.policy_source.version == 1


def test_a_rollback_restores_what_the_proposal_changed_and_nothing_else(store: Engram) -> None:
    context, memory = store.context, store.memory(ALICE)
    one = made(store, max_facts=500, token_budget=300)
    proposals.approve(context, one.id, store.owner, NOW)
    proposals.apply(context, one.id, store.owner, NOW)
    memory.set_policy(token_budget=400, auto_forget=True)
    proposals.keep(context, one.id, NOW, reason="As predicted.", figures={"tokens": -18.0})
    done = proposals.rollback(context, one.id, store.owner, NOW + timedelta(days=1), reason="It forgot too much.")
    assert (memory.policy.max_facts, memory.policy.token_budget, memory.policy.auto_forget) == (10_000, 400, True)
    assert done.status == "rolled_back"
    with pytest.raises(ChangeRefused):
        proposals.rollback(context, one.id, store.owner, NOW)


def test_a_policy_that_moved_on_is_not_overwritten(store: Engram) -> None:
    one = made(store)
    proposals.approve(store.context, one.id, store.owner, NOW)
    store.memory("acme").set_policy(max_facts=50)
    with pytest.raises(ChangeRefused, match="max_facts is 50"):
        proposals.apply(store.context, one.id, store.owner, NOW)
    assert store.memory(ALICE).policy.max_facts == 50
    assert proposals.reject(store.context, one.id, store.owner, NOW, reason="Outdated.").reason == "Outdated."


def test_only_who_may_curate_decides(store: Engram) -> None:
    one = made(store)
    for decide in (proposals.approve, proposals.reject):
        with pytest.raises(AccessDenied):
            decide(store.context, one.id, "agent:helpdesk", NOW)
    assert proposals.found(store.context, one.id).status == "pending"
    store.grant("agent:helpdesk", "curate", "acme")
    assert store.approve(one.id, principal="agent:helpdesk").status == "applied"
    with pytest.raises(AccessDenied):
        store.rollback(one.id, principal="agent:other")


def test_what_makes_no_sense_is_refused(store: Engram) -> None:
    with pytest.raises(InvalidInput, match="already"):
        made(store, max_facts=10_000)
    with pytest.raises(InvalidPolicy):
        made(store, max_facts=-1)
    with pytest.raises(InvalidPolicy):
        made(store, design="not-installed")
    with pytest.raises(InvalidInput, match="design"):
        made(store, design="recency")
    with pytest.raises(ProposalNotFound):
        proposals.approve(store.context, "nothing", store.owner, NOW)
    assert proposals.listing(store.context, None) == []
