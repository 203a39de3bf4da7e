"""A design from the gate to service over a real store: proposed, approved, shadowed, in force, rolled back by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engram_core import Change, Design, DesignSpec, Engram, Episode, Proposal, Query, Scored, View, workshop
from engram_core.designs.genome import Genome, registry
from engram_core.lab.tasks.base import Suite
from engram_core.lab.tasks.errands import ErrandTask
from engram_core.lab.tasks.guards import LeakTask, OrderTask
from engram_core.measure.paired import apart
from engram_core.operations import proposals

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SAID = [
    "Kim has a parrot.",
    "Kim works as a welder.",
    "Kim lives in Oslo.",
    "The gate code is 4471.",
    "Tea is served at five.",
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Engram]:
    with Engram.open(tmp_path / "store", index="exact", clock=lambda: NOW) as opened:
        opened.memory("acme/alice").add(SAID, now=NOW - timedelta(days=90))
        yield opened


def spec(**stages: list[object]) -> DesignSpec:
    return DesignSpec("genome", Genome.of(**stages).complete(registry()).source, NOW)  # type: ignore[arg-type]


def proposed(store: Engram, made: DesignSpec) -> Proposal:
    store.context.ledger.designs.add(made)
    return proposals.propose(
        store.context, store.memory("acme/alice").scope, {"design": made.id}, NOW,
        kind="design", evidence={}, prediction={}, rationale="It shows one fact.",
    )  # fmt: skip


ONE = {"update": ["statements"], "retrieve": ["relevance", ("top", {"facts": 1})]}


def test_an_approved_design_answers_live_recalls_unseen_and_then_takes_over(store: Engram) -> None:
    memory = store.memory("acme/alice")
    made = proposed(store, spec(**ONE))
    store.approve(made.id, shadow=3, reason="Try it.")
    shown = [memory.recall("Where does Kim live?", now=NOW) for _ in range(2)]
    assert all(len(recall.facts) == len(SAID) for recall in shown)
    assert store.flush()
    (found,) = store.proposals()
    assert found.status == "approved"
    memory.recall("What is the gate code?", now=NOW)
    store.memory("acme/bob").recall("What is the gate code?", now=NOW)
    assert store.flush()
    (found,) = store.proposals("acme", status="applied")
    figures = found.steps[-1].figures
    assert (figures["shadowed"], figures["failed"]) == (3, 0)
    assert figures["agreement"] == pytest.approx(1 / len(SAID), abs=0.01)
    assert figures["tokens"] < figures["tokens_now"]
    assert found.steps[-1].by == "engram"
    assert [item.fact.text for item in memory.recall("Where does Kim live?", now=NOW).facts] == ["Kim lives in Oslo."]
    assert memory.explain(shown[0].id)
    store.rollback(made.id, reason="I want to see more.")
    assert len(memory.recall("Where does Kim live?", now=NOW).facts) == len(SAID)


@dataclass(frozen=True)
class Breaks:
    """A design that raises when it ranks."""

    name: str = "breaks"

    def update(self, episode: Episode, view: View) -> list[Change]:
        return []

    def retrieve(self, query: Query, view: View) -> list[Scored]:
        raise RuntimeError("no")

    def sleep(self, view: View) -> list[Change]:
        return []


def test_a_design_that_fails_or_is_slow_beside_live_recalls_never_takes_over(store: Engram) -> None:
    """Nobody's recall notices."""
    memory = store.memory("acme/alice")
    known = store.context.designs

    def designs(name: str) -> Design | None:
        return Breaks() if name == broken.diff["design"]["after"] else known(name)

    broken = proposed(store, spec(**ONE))
    object.__setattr__(store.context, "designs", designs)
    store.approve(broken.id, shadow=1)
    assert memory.recall("Where does Kim live?", now=NOW).facts
    assert store.flush()
    (found,) = store.proposals(status="rejected")
    assert "failed at 1 of 1" in found.reason
    slow = proposed(store, spec(update=["statements"], retrieve=["nearest"]))
    store.approve(slow.id, shadow=1)
    memory.set_policy(latency_ms=1.0)
    object.__setattr__(
        store.context, "designs", lambda name: Slow(known(name)) if name.startswith("genome:") else known(name)
    )
    memory.recall("Where does Kim live?", now=NOW)
    assert store.flush()
    assert "the policy allows 1" in store.proposals(status="rejected")[0].reason
    assert memory.policy.design == "pipeline"


@dataclass(frozen=True)
class Slow:
    """A design that takes its time."""

    inner: Design | None
    name: str = "slow"

    def retrieve(self, query: Query, view: View) -> list[Scored]:
        assert self.inner is not None
        ranking = list(self.inner.retrieve(query, view))
        for _ in range(300):
            self.inner.retrieve(query, view)
        return ranking


def answers(store: Engram, days: int, *, used: bool) -> None:
    """Thirty recalls with verdicts, a little apart."""
    memory = store.memory("acme/alice")
    for number in range(30):
        at = NOW + timedelta(days=days, minutes=number)
        recall = memory.recall("Where does Kim live?", k=1, now=at)
        memory.observe(
            recall.id, recall.facts[0].fact.text if used else "I cannot say, sorry about that, my friend.", now=at
        )


def test_a_design_whose_recalls_are_used_less_is_rolled_back_by_the_night(store: Engram) -> None:
    made = proposed(store, spec(update=["statements"], retrieve=["newest"]))
    answers(store, -5, used=True)
    store.approve(made.id, shadow=0)
    assert store.memory("acme/alice").policy.design == made.diff["design"]["after"]
    answers(store, 3, used=False)
    store.sleep(now=NOW + timedelta(days=4), dry_run=True)
    assert store.proposals()[0].status == "applied"
    store.sleep(now=NOW + timedelta(days=4))
    (found,) = store.proposals()
    assert (found.status, found.steps[-1].by) == ("rolled_back", "engram")
    assert found.steps[-1].figures["high"] < 0
    assert store.memory("acme/alice").policy.design == "pipeline"


def test_a_design_that_serves_as_well_is_kept_after_its_month(store: Engram) -> None:
    made = proposed(store, spec(update=["statements"], retrieve=["nearest"]))
    answers(store, -5, used=True)
    store.approve(made.id, shadow=0)
    answers(store, 3, used=True)
    store.sleep(now=NOW + timedelta(days=10))
    assert store.proposals()[0].status == "applied"
    store.sleep(now=NOW + timedelta(days=31))
    assert store.proposals()[0].status == "kept"


def test_the_difference_of_two_periods_has_an_honest_interval() -> None:
    """It covers the truth about as often as it says, over 200 drawn pairs of periods."""
    import numpy as np

    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        before, after = (rng.random(40) < share for share in (0.6, 0.5))
        found = apart(before.astype(float), after.astype(float))
        inside += found.low <= -0.1 <= found.high
        assert found.low <= found.mean <= found.high
    assert 0.9 <= inside / 200 <= 0.99


def test_the_gate_lets_a_better_design_pass_and_turns_a_worse_one_down(store: Engram) -> None:
    """On errands: recorded houses, real stores. What passes becomes a pending proposal and nothing else."""
    suite = Suite((ErrandTask(runs=1), LeakTask(), OrderTask()), {"leak": 0.0, "order": 0.0})
    good = spec(update=["commands", "supersede_slot"], retrieve=["relevance", ("top", {"facts": 1})])
    for made in (good, spec()):
        store.context.ledger.designs.add(made)
    view = workshop.promote(store, good, "acme/alice", suite)
    assert view["passed"], view["checks"]
    (pending,) = store.proposals(status="pending")
    assert pending.id == view["proposal"]
    assert pending.evidence["gate"]["errands"]["the design in force"]["low"] > 0
    assert pending.prediction["errands.score"] > 0.3
    assert "It archives older facts with the same slot as new ones come in." in pending.evidence["risks"]
    assert store.memory("acme/alice").policy.design == "pipeline"
    worse = workshop.promote(store, spec(), "acme/alice", suite)
    assert not worse["passed"]
    assert [check["name"] for check in worse["checks"] if not check["passed"]] == ["better"]
    assert len(store.proposals()) == 1
