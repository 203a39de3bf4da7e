"""Brief: what to know before anybody asked: the facts of the readable scopes that say the most per token. Read-only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from engram_core.domain.errors import InvalidInput
from engram_core.domain.fact import Fact
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.scope import Scope
from engram_core.floor import budget, digest
from engram_core.measure import content, gathering
from engram_core.operations import warden
from engram_core.operations.context import Context
from engram_core.ports import ScopeState

POOL: Final = 2_000
"""Facts of one scope that are looked at; a larger scope is asked for its weightiest and its newest."""


@dataclass(frozen=True, slots=True)
class Brief:
    """A warm start.

    Attributes:
        text: Fenced, facts under headings of their kind; empty when nothing is known.
        tokens: Of `text`, fence and headings included, by `token_counter`.
        facts: What is shown, the most telling first; originals of merged facts for themselves.
    """

    text: str
    tokens: int
    facts: tuple[Fact, ...]
    token_counter: str = ""


def brief(context: Context, scope: Scope, principal: str, max_tokens: int, now: datetime) -> Brief:
    """The most telling current facts within a budget; see `Memory.brief`."""
    if not isinstance(max_tokens, int) or max_tokens < 1:
        raise InvalidInput(f"max_tokens must be a whole number of at least 1, not {max_tokens!r}.")
    sight = warden.sight(context, principal, scope, now, "brief")
    found = drawn(context, sight, max_tokens)
    warden.seen(context, sight, [fact.id for fact in found.facts])
    return found


def drawn(context: Context, sight: warden.Sight, max_tokens: int) -> Brief:
    """The brief of what a sight takes in, whoever's it is; notes nothing."""
    scope, now = sight.scope, sight.at
    policy = context.ledger.policy(scope).policy
    states = context.ledger.scopes(list(sight.scopes))
    facts = [item for state in states for item in _pool(context, state)]
    shown_ids = {fact.id for fact in warden.checked(context, sight, [item.fact for item in facts])}
    facts = [item for item in facts if item.fact.id in shown_ids]
    current = _once(_allowed(facts, policy, now))
    order = _order(current, policy, context.counter.count, max_tokens)
    marker = f"{context.rng.randrange(10**8):08d}"
    text, tokens, kept = digest.fitted([current[place] for place in order], max_tokens, marker, context.counter.count)
    shown = tuple(current[order[place]] for place in kept)
    return Brief(text, tokens, shown, context.counter.name)


def _pool(context: Context, state: ScopeState) -> list[budget.Ranked]:
    """The facts of a scope to choose from: all, or half by weight and half by age where there are too many."""
    ledger = context.ledger
    ids = ledger.weightiest(state.id, POOL if state.recallable <= POOL else POOL // 2)
    if state.recallable > POOL:
        ids = list(dict.fromkeys([*ids, *ledger.newest(state.id, POOL // 2)]))
    facts = ledger.facts(ids)
    members = ledger.facts([id_ for fact in facts if fact.form == "merged" for id_ in fact.consolidated_from][:POOL])
    opened = {fact.consolidated_into for fact in members}
    held = {fact.id: fact for fact in facts if fact.id in opened}
    alone = [budget.Ranked(fact, 0.0) for fact in facts if fact.id not in opened]
    return [*alone, *(budget.Ranked(fact, 0.0, held.get(fact.consolidated_into or "")) for fact in members)]


def _allowed(facts: Sequence[budget.Ranked], policy: MemoryPolicy, now: datetime) -> list[Fact]:
    """The facts that hold now; originals of a pinned fact count as pinned."""
    limits = budget.Limits(k=1, max_tokens=1, min_score=None, now=now)
    allowed = [item for item in facts if budget.ruled_out(item, limits, policy) is None]
    return [replace(item.fact, pinned=item.shown_as.pinned) for item in allowed]


def _once(facts: Sequence[Fact]) -> list[Fact]:
    """Each statement once, the newest time it was said; in the order of their ids."""
    by_key = {_bare(fact): fact for fact in sorted(facts, key=lambda fact: (fact.said_at, fact.id))}
    return sorted(by_key.values(), key=lambda fact: fact.id)


def _bare(fact: Fact) -> str:
    return " ".join(fact.display.lower().split()).strip(" .!?")


def _order(facts: Sequence[Fact], policy: MemoryPolicy, count: budget.Count, max_tokens: int) -> list[int]:
    """Places, pinned facts first, then by how much weight of words each adds per token, worth more if important."""
    tokens = [content.token_set(fact.text) for fact in facts]
    costs = [float(count(budget.line_of(fact)) + 1) for fact in facts]
    worth = [_worth(fact, policy) for fact in facts]
    pinned = [place for place, fact in enumerate(facts) if fact.pinned]
    chosen = gathering.digest(tokens, costs, gathering.weights(tokens), float(max_tokens), worth)
    held = set(pinned)
    return [*pinned, *(place for place in chosen if place not in held)]


def _worth(fact: Fact, policy: MemoryPolicy) -> float:
    """0.5 to 3: twice the importance, half as much again for a prioritised kind."""
    return max(0.5, 2 * fact.importance) * (1.5 if fact.kind in policy.prioritize_types else 1.0)
