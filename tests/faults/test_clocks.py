"""Clocks that jump, stand still and change the hour: order comes from the store, and no score leaves its range."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from engram_core import Engram
from engram_core.testing.fakes import WordHashEmbedder
from engram_core.testing.samples import outbox, state

SCOPE = "acme/support/alice"
START = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
"""Half an hour before the clocks of Berlin go forward."""
BERLIN = ZoneInfo("Europe/Berlin")


def jumped(now: datetime, chance: random.Random) -> datetime:
    """The next reading of a clock that nobody should trust."""
    match chance.randrange(6):
        case 0:
            return now  # two events, one stamp
        case 1:
            return now + timedelta(days=chance.choice((-366, 366)))
        case 2:
            # The hour that autumn has twice, told by a local clock: first or second time.
            fold = chance.randrange(2)
            return datetime(2026, 10, 25, 2, chance.randrange(60), tzinfo=BERLIN, fold=fold)
        case 3:
            return datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN)  # a time that spring does not have
        case 4:
            return now - timedelta(seconds=chance.random())
        case _:
            return now + timedelta(hours=chance.random() * 30)


def campaign(place: Path, jumps: int, seed: int) -> None:
    """Add, recall, observe and sleep by such a clock; check order and scores at every step."""
    chance = random.Random(seed)
    now = START
    order: list[str] = []
    with Engram.open(place / "store", index="exact", embedder=WordHashEmbedder()) as engram:
        memory = engram.memory(SCOPE)
        memory.set_policy(recency_weight=0.3, decay_rate=0.05, now=now)
        for number in range(jumps):
            now = jumped(now, chance)
            (fact,) = memory.add(f"the red cat number {number} sat in house {number * 13}", session="s", now=now).facts
            order.append(fact.id)
            assert fact.created_at == now.astimezone(UTC)
            recall = memory.recall(f"Where did the red cat number {number} sit?", k=5, now=jumped(now, chance))
            for item in recall.facts:
                assert math.isclose(item.score, sum(item.terms.values()), abs_tol=1e-6)
                assert 0.0 <= item.terms.get("recency", 0.0) <= 0.3 + 1e-9, "what is of the future is new, not newer"
            if number % 5 == 0:
                memory.observe(recall.id, f"It sat in house {number * 13}.", now=jumped(now, chance))
            if number % 20 == 19:
                assert engram.sleep(now=jumped(now, chance), dry_run=True).totals["failed"] == 0
        rows = {row.id: row for row in outbox(engram.context.ledger, state(engram.context.ledger, SCOPE).id)}
        assert [rows[id_].previous for id_ in order] == [None, *order[:-1]], "the store's order is that of the calls"
        for _ in range(4):
            assert engram.sleep(now=jumped(now, chance)).totals["failed"] == 0
            facts = {fact.id: fact for fact in memory.list(status="all", limit=10_000)}
            assert facts.keys() >= set(order)
            assert all(0.0 <= fact.forget_score <= 1.0 for fact in facts.values() if fact.forget_score is not None)
            assert any(fact.forget_score is not None for fact in facts.values())
        assert engram.verify().ok


def test_jumping_clocks(tmp_path: Path) -> None:
    campaign(tmp_path, 40, seed=1)


@pytest.mark.full
def test_many_jumps(tmp_path: Path) -> None:
    campaign(tmp_path, 400, seed=2)
