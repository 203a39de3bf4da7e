"""Random histories of a scope: whatever is derived, merged, repeated and consolidated, trust never rises unasked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from engram_core import Add, Draft, Engram, Fact, Memory, Merge, Message, Reason, Supersede
from engram_core.domain.message import Episode
from engram_core.operations.add import Wishes, remember

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TRUST = {"user": 1.0, "assistant": 0.7, "import": 0.6, "tool": 0.5, "web": 0.3, "derived": 0.7}
SUBJECTS = "gate pump valve relay motor sensor turbine boiler".split()
STATES = "open shut broken clean rusty painted leaking spare".split()
WHY = Reason("test", "A design wants it so.")


class _Scheming:
    """A design that proposes what it likes: drafts from other facts, merges and replacements across origins."""

    name = "scheming"

    def __init__(self, changes: Sequence[object]) -> None:
        self._changes = changes

    def update(self, episode, view):
        return self._changes

    def retrieve(self, query, view):
        return ()

    def sleep(self, view):
        return ()


def ceilings(facts: Sequence[Fact]) -> dict[str, float]:
    """The most each fact may be trusted: the least of its own channel and of everything it comes from."""
    by_id = {fact.id: fact for fact in facts}

    def most(id_: str, seen: frozenset[str]) -> float:
        fact = by_id[id_]
        above = [*fact.sources, *fact.consolidated_from]
        own = min(1.0, TRUST[fact.origin.channel]) if fact.origin.channel != "derived" else 1.0
        return min([own, *(most(one, seen | {id_}) for one in above if one in by_id and one not in seen)])

    return {fact.id: most(fact.id, frozenset()) for fact in facts}


def step(rng: random.Random, memory: Memory, at: datetime) -> None:
    facts = memory.list(status="all", limit=1_000)
    context = memory.engram.context
    text = f"The {rng.choice(SUBJECTS)} in hall {rng.randint(1, 3)} is {rng.choice(STATES)} today."
    channel = rng.choice(["user", "assistant", "tool", "web", "import"])
    message = Message(
        channel if channel in {"user", "assistant"} else "tool", text, channel=channel, id=context.new_id(), at=at
    )
    kind = rng.randrange(6)
    if kind <= 1 or not facts:
        memory.add(message, now=at)
    elif kind == 2:
        sources = tuple(fact.id for fact in rng.sample(facts, min(len(facts), rng.randint(1, 3))))
        changes = [Add(Draft(text, (message,), sources=sources), WHY)]
        remember(context, Episode(context.new_id(), memory.scope, (message,), at, memory.principal), Wishes(), at,
                 design=_Scheming(changes))  # fmt: skip
    elif kind == 3:
        target = rng.choice(facts)
        change = rng.choice([Merge, Supersede])(target.id, Draft(text, (message,)), WHY)
        remember(context, Episode(context.new_id(), memory.scope, (message,), at, memory.principal), Wishes(), at,
                 design=_Scheming([change]))  # fmt: skip
    elif kind == 4:
        repeated = Message("assistant", rng.choice(facts).text, channel="assistant")
        memory.add(repeated, now=at)
    else:
        memory.consolidate(now=at)


@pytest.mark.parametrize("graphs", [25, pytest.param(2_000, marks=pytest.mark.full)])
def test_no_trust_rises(graphs: int) -> None:
    raised, facts_seen = [], 0
    for seed in range(graphs):
        rng = random.Random(seed)
        with Engram.open(":memory:", rng=random.Random(seed)) as engram:
            memory = engram.memory("plant/hall")
            policy = {"quarantine_channels": rng.choice([[], ["web"], ["tool", "web"]]), "protect_days": 0.0}
            memory.set_policy(cluster_size=2, cluster_similarity=0.3, **policy)
            trusted: dict[str, float] = {}
            for number in range(rng.randint(4, 10)):
                step(rng, memory, NOW + timedelta(days=number))
                facts = memory.list(status="all", limit=1_000)
                most = ceilings(facts)
                raised += [fact for fact in facts if fact.trust > most[fact.id] + 1e-9]
                raised += [fact for fact in facts if fact.trust > trusted.get(fact.id, 1.0) + 1e-9]
                trusted = {fact.id: fact.trust for fact in facts}
            facts_seen += len(trusted)
    assert raised == []
    assert facts_seen > 2 * graphs
