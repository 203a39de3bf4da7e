"""Corroborate: two principals that do not know it from each other state the same, so both statements are trusted more.

This and a person's word are the only ways in which trust rises. It plans; it commits nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from engram_core.domain.change import Draft
from engram_core.domain.fact import TRUST_BY_CHANNEL, Fact, Status
from engram_core.domain.reason import Reason
from engram_core.measure import sameness
from engram_core.operations.commit import Plan, difference
from engram_core.operations.context import Context

MOST: Final = 0.9
"""Less than a person's own word."""
_STATED: Final = frozenset({"user", "assistant"})
"""Channels on which somebody states something; a page or a tool that two agents read is one source, not two."""
_RECALLS: Final = 200
"""Recalls of a fact that are looked through for the other principal; one shown more often counts as known."""


def raised(context: Context, plan: Plan, new: Sequence[Fact], busy: Collection[str]) -> dict[str, Fact]:
    """Plan what corroboration raises.

    Args:
        context: The store.
        plan: Of an `add`; new facts are amended in it, and the decisions about old ones noted.
        new: The facts it adds.
        busy: Ids of stored facts that it changes already; they stay as they are.

    Returns:
        The stored facts whose trust rises, as they will be, by id.
    """
    changed: dict[str, Fact] = {}
    stated = [fact for fact in new if fact.trust < MOST and _is_stated(fact)]
    keys = {fact.id: sameness.key(fact.text, fact.speaker, fact.said_at) for fact in stated}
    wanted = [key for key in dict.fromkeys(keys.values()) if key]
    known = context.ledger.screening.same_words(plan.scope, wanted) if wanted else {}
    for fact in stated:
        others = [changed.get(other.id, other) for other in known.get(keys[fact.id], ()) if other.id not in busy]
        other = next((other for other in others if _is_independent(context, fact, other)), None)
        if other is None:
            continue
        trust = min(MOST, 1.0 - (1.0 - fact.trust) * (1.0 - other.trust))
        terms = {"of_one": fact.trust, "of_the_other": other.trust, "together": trust}
        line = (
            f"{fact.origin.principal} and {other.origin.principal} state the same, and neither has it from the other."
        )
        reason = Reason("corroborated", line, terms)
        if trust > fact.trust:
            plan.amend(replace(fact, trust=trust), reason, "corroborate")
        if trust > other.trust:
            after = replace(other, trust=trust)
            before, told = difference(other, after)
            plan.decide("corroborate", reason, fact_id=other.id, before=before, after=told)
            changed[other.id] = after
    return changed


def twin_of(context: Context, plan: Plan, draft: Draft, is_quarantined: bool) -> Fact | None:
    """A stored fact that says the same, of the same origin, and waits in quarantine if the draft is to."""
    first = draft.messages[0]
    key = sameness.key(draft.text, draft.speaker, first.at or plan.now)
    same = context.ledger.screening.same_words(plan.scope, [key]).get(key, ()) if key else ()
    for fact in same:
        is_here = (fact.status is Status.QUARANTINED) == is_quarantined
        if is_here and fact.origin.channel == first.channel and fact.origin.principal == plan.principal:
            return fact
    return None


def _is_stated(fact: Fact) -> bool:
    is_own = not fact.sources and fact.form == "statement" and not fact.consolidated_from
    # What is trusted less than its channel is an echo, or came under a ceiling: nobody's own word.
    is_full = fact.trust >= TRUST_BY_CHANNEL[fact.origin.channel]
    return fact.is_recallable and is_own and is_full and fact.origin.channel in _STATED


def _is_independent(context: Context, fact: Fact, other: Fact) -> bool:
    """Whether neither principal can have it from the other, as far as the ledger knows."""
    one, two = fact.origin, other.origin
    if one.principal == two.principal or not _is_stated(other):
        return False
    if one.session is not None and one.session == two.session:
        return False
    shown = context.ledger.recalls_of(other.id, _RECALLS)
    return len(shown) < _RECALLS and all(row.principal != one.principal for row in shown)
