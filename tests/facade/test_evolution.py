"""Evolution through the facade: a bad policy is found out, a person decides, the effect decides again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from engram_core import ChangeRefused, Engram, InvalidInput, InvalidPolicy, Memory, Message, ProposalNotFound

START = datetime(2026, 1, 1, 9, tzinfo=UTC)
ASKED = START + timedelta(days=60)
THINGS = "bicycle guitar tent boat camera laptop sofa piano drone kettle ladder carpet violin canoe".split()
PLACES = "Lisbon Porto Faro Braga Evora Coimbra Sintra Tomar Aveiro Guarda Beja Leiria Viseu Lagos".split()
BAD = {"prioritize_types": ("task",), "priority_weight": 1.0}


@pytest.fixture
def store() -> Iterator[Engram]:
    with Engram.open(":memory:") as opened:
        yield opened


@pytest.fixture(params=["memory", "sqlite"])
def any_store(request, tmp_path) -> Iterator[Engram]:
    url = ":memory:" if request.param == "memory" else str(tmp_path / "store")
    with Engram.open(url, index="exact") as opened:
        yield opened


def told(store: Engram, **policy: object) -> Memory:
    """Fourteen facts worth asking for, then forty of no interest, a day apart."""
    memory = store.memory("acme/support/ana")
    remember(memory)
    if policy:
        memory.set_policy(now=START, **policy)
    return memory


def remember(memory: Memory) -> None:
    """What was bought where, and tasks that share words with the questions."""
    bought = [f"I bought the {thing} in {place}." for thing, place in zip(THINGS, PLACES, strict=True)]
    tasks = [f"Where I buy things: number {number * 7}, in the shop." for number in range(40)]
    for kind, first, texts in ((None, 0, bought), ("task", len(bought), tasks)):
        messages = [
            Message("user", text, at=START + timedelta(days=day), session=f"s{day}", id=f"m{day}")
            for day, text in enumerate(texts, first)
        ]
        memory.add(messages, kind=kind, now=START + timedelta(days=55))


def ask(memory: Memory, start: datetime, *, rounds: int = 2) -> None:
    """Somebody asks for the old facts and is answered rightly, whatever the recall showed."""
    for number in range(rounds * len(THINGS)):
        thing, place = THINGS[number % len(THINGS)], PLACES[number % len(THINGS)]
        at = start + timedelta(minutes=number)
        recall = memory.recall(f"Where did I buy the {thing}?", k=3, now=at)
        memory.observe(recall.id, f"You bought the {thing} in {place}.", now=at)


def test_a_bad_policy_is_found_out_and_replaced_only_when_a_person_says_so(any_store):
    store = any_store
    memory = told(store, **BAD)
    ask(memory, ASKED)
    planned = memory.evolve(dry_run=True, now=ASKED + timedelta(days=1))
    assert (planned.state, store.proposals()) == ("proposed", [])
    done = memory.evolve(now=ASKED + timedelta(days=1))
    assert done.diff == planned.diff
    assert set(done.diff) <= {"prioritize_types", "priority_weight"}
    (proposal,) = store.proposals("acme")
    assert proposal.id == done.proposal
    assert proposal.status == "pending"
    assert proposal.evidence["gain"]["low"] > 0
    assert proposal.evidence["recalls"] >= 10
    assert memory.policy.priority_weight == 1.0
    assert memory.evolve(now=ASKED + timedelta(days=2)).state == "waiting"
    applied = store.approve(proposal.id, reason="plain enough", now=ASKED + timedelta(days=3))
    assert applied.status == "applied"
    assert {name: getattr(memory.policy, name) for name in done.diff} == {
        name: change["after"] for name, change in done.diff.items()
    }
    shown = memory.recall("Where did I buy the guitar?", k=3, now=ASKED + timedelta(days=3)).text
    assert "Porto" in shown
    json.dumps([item.to_dict() for item in store.proposals()])
    json.dumps(done.to_dict())


def test_what_helped_is_kept_and_what_did_harm_is_taken_back(store):
    memory = told(store, **BAD)
    ask(memory, ASKED)
    first = memory.evolve(now=ASKED + timedelta(days=1))
    store.approve(first.proposal or "", now=ASKED + timedelta(days=2))
    assert memory.evolve(now=ASKED + timedelta(days=3)).state == "waiting"
    ask(memory, ASKED + timedelta(days=4))
    settled = memory.evolve(now=ASKED + timedelta(days=5))
    assert (settled.state, store.proposals()[0].status) == ("settled", "kept")
    assert store.proposals()[0].step("kept").figures["gain"]["mean"] > -0.01

    other = store.memory("acme/support/tom")
    harmful = other.propose(reason="a planted one", now=ASKED, **BAD)
    assert harmful.status == "pending", "nothing is known against it where nothing was asked"
    store.approve(harmful.id, now=ASKED)
    remember(other)
    ask(other, ASKED + timedelta(days=1))
    verdict = other.evolve(now=ASKED + timedelta(days=2))
    assert verdict.line.startswith("Rolled back")
    assert store.proposals("acme/support/tom")[0].status == "rolled_back"
    assert other.policy.priority_weight == 0.05


def test_a_harmful_proposal_is_refused_by_the_gate(store):
    memory = told(store)
    ask(memory, ASKED)
    refused = memory.propose(reason="newest first!", now=ASKED + timedelta(days=1), **BAD)
    assert refused.status == "rejected"
    assert "past recalls" in refused.reason
    with pytest.raises(ChangeRefused):
        store.approve(refused.id)
    assert memory.policy.priority_weight == 0.05
    forgetful = memory.propose(
        auto_forget=True, forget_threshold=0.0, protect_days=0, retention_floor=1.0, now=ASKED + timedelta(days=1)
    )
    assert forgetful.status == "rejected"
    assert "archive" in forgetful.reason


def test_a_rejected_change_is_not_proposed_again(store):
    memory = told(store, **BAD)
    ask(memory, ASKED)
    seen = []
    for day in range(1, 5):
        done = memory.evolve(now=ASKED + timedelta(days=day))
        if done.state != "proposed":
            break
        assert done.diff not in seen
        seen.append(done.diff)
        store.reject(done.proposal or "", reason="no", now=ASKED + timedelta(days=day))
    assert len(seen) >= 2


def test_what_an_operator_locked_stays(store):
    memory = told(store, **BAD, locked=("prioritize_types", "priority_weight"))
    ask(memory, ASKED)
    done = memory.evolve(now=ASKED + timedelta(days=1))
    assert not {"prioritize_types", "priority_weight", "max_facts", "trust_floor"} & set(done.diff)
    with pytest.raises(InvalidPolicy, match="locked"):
        memory.set_policy(locked=("no_such_field",))


def test_little_evidence_proposes_nothing(store):
    memory = told(store, **BAD)
    ask(memory, ASKED, rounds=1)
    assert memory.evolve(now=ASKED + timedelta(days=1)).state == "too_little"
    fine = store.memory("acme/new")
    assert fine.evolve().state == "too_little"


def test_the_night_looks_monthly(store):
    memory = told(store, **BAD, cluster_size=1_000)
    ask(memory, ASKED)
    assert store.sleep(now=ASKED + timedelta(days=2)).totals["proposed"] == 0
    planned = store.sleep(dry_run=True, now=ASKED + timedelta(days=31))
    assert planned.totals["proposed"] == 1
    report = store.sleep(now=ASKED + timedelta(days=31))
    assert report.totals["proposed"] == 1
    assert report.scopes[0].evolve["state"] == "proposed"
    memory.set_policy(evolve_days=0.0)
    quiet = store.memory("acme/quiet")
    quiet.set_policy(evolve_days=0.0)
    assert quiet.evolve().state == "too_little"


def test_a_person_may_take_it_back_at_any_time(store):
    memory = told(store)
    made = memory.propose(token_budget=512, reason="shorter prompts", now=ASKED)
    assert made.status == "pending"
    store.approve(made.id, now=ASKED)
    assert memory.policy.token_budget == 512
    back = store.rollback(made.id, reason="too short", now=ASKED + timedelta(days=1))
    assert back.status == "rolled_back"
    assert memory.policy.token_budget == 1_024
    for act in (store.approve, store.reject, store.rollback):
        with pytest.raises(ProposalNotFound):
            act("nothing")
        with pytest.raises(ChangeRefused):
            act(made.id)
    with pytest.raises(InvalidInput):
        store.proposals(status="lost")
    with pytest.raises(InvalidInput, match="already"):
        memory.propose(token_budget=1_024)
