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
from engram_core.lab.evaluate import evaluate
from engram_core.lab.tasks.base import Suite
from engram_core.lab.tasks.guards import LeakTask
from engram_core.operations import proposals
from engram_core.testing.design_contract import DesignContract

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="code designs run on Linux only"
)
NOW = datetime(2026, 3, 1, tzinfo=UTC)

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
