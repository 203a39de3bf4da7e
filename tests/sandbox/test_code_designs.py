"""A code design behind the same seam: the same contract, and off unless a store and a person allow it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engram_core import ChangeRefused, Design, Engram, SandboxUnavailable, workshop
from engram_core.designs.code import CodeDesign, Limits
from engram_core.domain.scope import Scope
from engram_core.lab.evaluate import evaluate
from engram_core.lab.tasks.base import Suite
from engram_core.lab.tasks.guards import LeakTask
from engram_core.operations import proposals
from engram_core.testing.design_contract import DesignContract

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="code designs run on Linux only"
)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
SCOPE = Scope("acme/alice")

SHORTEST_FIRST = '''
"""Keeps what users say, and shows the shortest of what fits."""
import math

def update(episode, view):
    kept = [m for m in episode["messages"] if m["content"].strip() and len(m["content"].encode("utf-8", "replace")) <= 8000]
    return [{"add": m["content"], "messages": [m["index"]], "reason": "Kept."} for m in kept]

def retrieve(query, view):
    return [
        [fact["id"], {"default": fact["score"], "short": -0.05 * math.log1p(len(fact["text"].split()))}]
        for fact in view["candidates"]
    ]

def sleep(view):
    return [{"archive": f["id"], "reason": "It is a greeting."} for f in view["facts"] if f["text"].startswith("Hi there") and not f["pinned"]]
'''


class TestShortestFirst(DesignContract):
    @pytest.fixture
    def design(self) -> Iterator[Design]:
        made = CodeDesign(SHORTEST_FIRST, Limits(seconds=20.0, cpu_seconds=60))
        yield made
        made.close()


def test_code_is_off_unless_the_store_allows_it(tmp_path: Path) -> None:
    spec = workshop.spec_of("code", SHORTEST_FIRST, NOW, by="user:me")
    with Engram.open(tmp_path / "store", index="exact") as store:
        store.context.ledger.designs.add(spec)
        with pytest.raises(SandboxUnavailable, match="allow_code_designs"):
            store.memory("acme/alice").set_policy(design=spec.id)
        assert store.memory("acme/alice").policy.design == "pipeline"
    with Engram.open(tmp_path / "store", index="exact", allow_code_designs=True) as store:
        memory = store.memory("acme/alice")
        memory.set_policy(design=spec.id)
        memory.add(["Hi there, my friend from Oslo.", "Kim lives in Oslo, near the old harbour, since May."])
        shown = memory.recall("Oslo?").facts
        assert {term for item in shown for term in item.terms} == {"default", "short"}
        assert len(shown) == 2


def test_code_takes_the_approval_of_a_person(tmp_path: Path) -> None:
    with Engram.open(tmp_path / "store", index="exact", allow_code_designs=True) as store:
        spec = workshop.spec_of("code", SHORTEST_FIRST, NOW, by="user:me")
        store.context.ledger.designs.add(spec)
        scope = store.memory("acme/alice").scope
        made = proposals.propose(
            store.context,
            scope,
            {"design": spec.id},
            NOW,
            kind="design",
            evidence={},
            prediction={},
            rationale="Short.",
        )
        store.grant("agent:curator", "curate", "acme")
        with pytest.raises(ChangeRefused, match="a person"):
            store.approve(made.id, principal="agent:curator")
        assert store.approve(made.id, shadow=0).status == "applied"


def test_the_lab_tries_code_in_its_sandbox_and_keeps_what_breaks() -> None:
    suite = Suite((LeakTask(),))
    good = workshop.spec_of("code", SHORTEST_FIRST, NOW, by="user:me")
    bad = workshop.spec_of("code", SHORTEST_FIRST.replace('"candidates"', '"nothing"'), NOW, by="user:me")
    trial = evaluate(good, suite, "smoke", workshop.StoreRunner(allow_code=True), at=NOW)
    assert (trial.status, trial.error) == ("evaluated", "")
    trial = evaluate(bad, suite, "smoke", workshop.StoreRunner(allow_code=True), at=NOW)
    assert trial.status == "quarantined"
    assert "KeyError" in trial.error
    trial = evaluate(good, suite, "smoke", workshop.StoreRunner(), at=NOW)
    assert "allow_code_designs" in trial.error


def in_force(store: Engram, source: str) -> str:
    """Propose a code design for a scope, approve it, and put it in force at once; its proposal's id."""
    spec = workshop.spec_of("code", source, NOW, by="user:me")
    store.context.ledger.designs.add(spec)
    made = proposals.propose(
        store.context, SCOPE, {"design": spec.id}, NOW, kind="design", evidence={}, prediction={}, rationale="Try."
    )
    assert store.approve(made.id, shadow=0).status == "applied"
    return made.id


def test_where_a_design_in_force_fails_the_built_in_one_stands_in(tmp_path: Path) -> None:
    broken = SHORTEST_FIRST.replace('view["candidates"]', 'view["Kim lives in Oslo"]').replace(
        "kept = [", 'kept = [] if episode["messages"][0]["content"] != "boom" else [1 / 0 for _ in "x"] or ['
    )
    with Engram.open(tmp_path / "store", index="exact", allow_code_designs=True) as store:
        memory = store.memory("acme/alice")
        memory.add(["Kim lives in Oslo, near the old harbour, since May."])
        made = in_force(store, broken)
        for number in range(3):
            found = memory.recall("Where does Kim live?")
            assert [item.fact.text for item in found.facts] == ["Kim lives in Oslo, near the old harbour, since May."]
            assert found.degraded
            assert len(found.notes) == 1
            assert "raised KeyError. The built-in design stood in." in found.notes[0]
            assert ("It was rolled back." in found.notes[0]) == (number == 2)
        assert memory.policy.design == "pipeline"
        assert not memory.recall("Where does Kim live?").degraded
        done = next(item for item in store.proposals() if item.id == made)
        assert (done.status, done.steps[-1].by) == ("rolled_back", "engram")
        assert done.reason == "It failed 3 of its last 3 times."
        assert done.steps[-1].figures["failures"] == 3
        assert "Oslo" not in str(done.to_dict())


def test_nothing_is_lost_when_a_design_fails_at_adding_and_at_night(tmp_path: Path) -> None:
    broken = SHORTEST_FIRST.replace("def update(episode, view):", "def update(episode, view):\n    1 / 0").replace(
        "def sleep(view):", "def sleep(view):\n    1 / 0"
    )
    with Engram.open(tmp_path / "store", index="exact", allow_code_designs=True) as store:
        memory = store.memory("acme/alice")
        made = in_force(store, broken)
        added = memory.add(["Kim lives in Oslo.", "The ferry leaves at nine."])
        assert [outcome.action for outcome in added.outcomes] == ["stored", "stored"]
        told = [item for item in store.context.ledger.decisions(SCOPE) if item.action == "stand_in"]
        assert [item.reason.rule for item in told] == ["design_failed"]
        (night,) = store.sleep().scopes
        assert night.state == "done"
        assert [item["change"] for item in night.design] == ["stand_in"]
        memory.recall("Kim?")  # it works at that: failures in a row are counted anew
        for text in ("The shop opens at ten.", "The bakery opens at six.", "The bar opens at eight."):
            assert memory.add(text).facts
        assert memory.policy.design == "pipeline"
        assert next(item for item in store.proposals() if item.id == made).status == "rolled_back"
        assert len(memory.list()) == 5


def test_a_failing_design_that_nobody_proposed_is_proposed_to_go(tmp_path: Path) -> None:
    with Engram.open(tmp_path / "store", index="exact", allow_code_designs=True) as store:
        spec = workshop.spec_of("code", SHORTEST_FIRST.replace('"candidates"', '"nothing"'), NOW, by="user:me")
        store.context.ledger.designs.add(spec)
        store.memory("acme").set_policy(design=spec.id)
        memory = store.memory("acme/alice")
        memory.add("Kim lives in Oslo.")
        for _ in range(7):
            assert memory.recall("Kim?").facts
        (proposal,) = store.proposals()
        assert (proposal.scope.path, proposal.status) == ("acme", "pending")
        assert proposal.diff["design"]["after"] == "pipeline"
        assert memory.policy.design == spec.id
        store.approve(proposal.id, shadow=0)
        assert not memory.recall("Kim?").degraded
    # Where it may not run it stands aside, and nobody holds that against it.
    with Engram.open(tmp_path / "store", index="exact") as store:
        memory = store.memory("acme/bob")
        store.context.ledger.set_policy(memory.scope, memory.policy.changed(design=spec.id), "user:me", NOW)
        for _ in range(4):
            memory.add("Ann lives in Rome.")
            assert "allow_code_designs" in memory.recall("Ann?").notes[0]
        assert memory.policy.design == spec.id
        assert len(store.proposals()) == 1
