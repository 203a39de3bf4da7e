"""Legality: which proposed changes are refused, whoever proposed them. Pure; it judges and never changes anything.

A design can rank badly or propose archiving; deleting, reaching into another scope, touching what is pinned or young,
and raising trust are beyond it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, assert_never

from engram_core.domain.change import (
    Absorb,
    Add,
    Archive,
    Change,
    Consolidate,
    Draft,
    Edit,
    Ignore,
    Merge,
    Release,
    Restore,
    Reweigh,
    Split,
    Supersede,
    Vouch,
)
from engram_core.domain.fact import (
    MAX_METADATA_KEYS,
    MAX_TEXT_BYTES,
    TRUST_BY_CHANNEL,
    Fact,
    Slot,
    Status,
)
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.measure import gathering, sameness
from engram_core.measure.forgetting import RESTORED_DAYS

RESERVED_KEYS: Final = frozenset({"scope", "origin"})
MAX_NESTING: Final = 32
MAX_SLOT_BYTES: Final = 1_000
"""Both halves of a slot stand in one index entry, and PostgreSQL takes 2.7 kB of them."""

_KIND = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class _Court:
    """Everything a judgement may look at; see `judge` for the fields."""

    scope: Scope
    facts: Mapping[str, Fact]
    by_person: bool
    policy: MemoryPolicy
    now: datetime
    messages: Collection[str] | None


def judge(
    change: Change,
    *,
    scope: Scope,
    facts: Mapping[str, Fact],
    by_person: bool,
    policy: MemoryPolicy,
    now: datetime,
    messages: Collection[str] | None = None,
) -> Reason | None:
    """Judge one change.

    Args:
        change: The proposal.
        scope: Where it would be written.
        facts: The facts it may refer to, by id, as they are now. An id that is not here is unknown.
        by_person: Whether a person asked for it; a design may do less.
        policy: The scope's policy.
        now: Time of the judgement.
        messages: Ids of the messages a draft may rest on. None skips this one check.

    Returns:
        None if it is legal, else the refusal.
    """
    court = _Court(scope, facts, by_person, policy, now, messages)
    match change:
        case Ignore():
            return None
        case Add():
            return _history(change.superseded_by, court) or _draft(change.draft, court)
        case Merge():
            return _merge(change, court)
        case Supersede():
            refusal = _replaced(change.fact_id, court) or _outranked(change.fact_id, change.draft, court)
            return refusal or _draft(change.draft, court)
        case Archive():
            return _removal(change.fact_id, court, is_forgetting=True)
        case Reweigh():
            return _known(change.fact_id, court) or _share("importance", change.importance)
        case Restore():
            return _restore(change, court)
        case Edit():
            return _edit(change.after, court)
        case Consolidate():
            return _consolidate(change, court)
        case Absorb():
            return _absorb(change, court)
        case Split():
            return _split(change, court)
        case Release():
            return _release(change, court)
        case Vouch():
            return _vouch(change, court)
        case _:
            assert_never(change)


def replacement(
    fact_id: str, *, trust: float, scope: Scope, facts: Mapping[str, Fact], policy: MemoryPolicy, now: datetime
) -> Reason | None:
    """Judge that a stored fact of some trust replaces another, as `Supersede` is judged; see `judge` for the rest."""
    court = _Court(scope, facts, by_person=False, policy=policy, now=now, messages=None)
    return _removal(fact_id, court, is_forgetting=False) or less_trusted(facts[fact_id], trust)


def less_trusted(fact: Fact, trust: float) -> Reason | None:
    """Why something trusted `trust` may not replace a fact or be shown as newer than it; None if it may."""
    if trust >= fact.trust:
        return None
    terms = {"trust": trust, "of_the_fact": fact.trust}
    return Reason("less_trusted", f"Fact {fact.id} is trusted more than what would stand for it.", terms)


def trust_of(draft: Draft, facts: Mapping[str, Fact]) -> float:
    """The trust a draft starts from: the least of its messages' channels and of its sources."""
    channels = [TRUST_BY_CHANNEL[message.channel] for message in draft.messages]
    return min([1.0, *channels, *(facts[id_].trust for id_ in draft.sources if id_ in facts)])


def _known(fact_id: str, court: _Court) -> Reason | None:
    fact = court.facts.get(fact_id)
    if fact is None:
        return Reason("unknown_fact", f"There is no fact {fact_id} here.")
    if fact.scope != court.scope:
        return Reason("other_scope", f"Fact {fact_id} belongs to another scope.")
    if fact.status is Status.ERASED:
        return Reason("erased", f"Fact {fact_id} was erased; nothing can be done to it.")
    return None


def _replaced(target: str | Draft, court: _Court) -> Reason | None:
    # An earlier draft of the same proposal is judged by itself; it is nobody's fact yet.
    return _removal(target, court, is_forgetting=False) if isinstance(target, str) else None


def _outranked(target: str | Draft, draft: Draft, court: _Court) -> Reason | None:
    """The words of a web page must not take the place of a user's."""
    if not isinstance(target, str) or court.by_person:
        return None
    return less_trusted(court.facts[target], trust_of(draft, court.facts))


def _history(successor: str | Draft | None, court: _Court) -> Reason | None:
    """Only what is in recall itself can have replaced something."""
    if not isinstance(successor, str):
        return None
    refusal = _known(successor, court)
    if refusal is None and not court.facts[successor].is_recallable:
        refusal = Reason("not_live", f"Fact {successor} is {court.facts[successor].status}; it replaces nothing.")
    return refusal


def _merge(change: Merge, court: _Court) -> Reason | None:
    refusal = _known(change.fact_id, court)
    if refusal is None and not court.facts[change.fact_id].is_recallable:
        status = court.facts[change.fact_id].status
        refusal = Reason("not_live", f"Fact {change.fact_id} is {status}; only a live or pending fact takes a merge.")
    return refusal or _other_origin(change, court) or _draft(change.twin, court)


def _other_origin(change: Merge, court: _Court) -> Reason | None:
    """The same words from elsewhere are another statement: one must neither lend the other its trust nor take it."""
    fact = court.facts[change.fact_id]
    if all(message.channel == fact.origin.channel for message in change.twin.messages):
        return None
    line = f"Fact {fact.id} came by another channel ({fact.origin.channel}); the statement is kept for itself."
    return Reason("other_origin", line)


def _removal(fact_id: str, court: _Court, *, is_forgetting: bool) -> Reason | None:
    """Archiving or superseding. A newer word may replace a young fact; only forgetting has to wait."""
    refusal = _known(fact_id, court)
    if refusal is not None:
        return refusal
    fact = court.facts[fact_id]
    if fact.status is Status.ARCHIVED:
        return Reason("not_live", f"Fact {fact_id} is archived already.")
    if fact.status is Status.QUARANTINED and not is_forgetting:
        return Reason("quarantined", f"Fact {fact_id} is in quarantine; it replaces nothing and nothing replaces it.")
    if court.by_person:
        return None
    if fact.pinned:
        return Reason("pinned", f"Fact {fact_id} is pinned; only a person may take it out of recall.")
    return _protected(fact, court) if is_forgetting else None


def _protected(fact: Fact, court: _Court) -> Reason | None:
    """Whether a fact is too young to be forgotten, or too lately brought back by a person."""
    protect = timedelta(days=court.policy.protect_days)
    age = court.now - fact.created_at
    if age < protect:
        terms = {"age_days": age / timedelta(days=1), "protect_days": court.policy.protect_days}
        return Reason("protected", f"Fact {fact.id} is younger than the policy's protect_days.", terms)
    back = court.now - fact.restored_at if fact.restored_at is not None else None
    if back is not None and back < max(protect, timedelta(days=RESTORED_DAYS)):
        terms = {"days_since_restored": back / timedelta(days=1), "protect_days": court.policy.protect_days}
        return Reason("protected", f"Fact {fact.id} was restored by a person lately.", terms)
    return None


def _restore(change: Restore, court: _Court) -> Reason | None:
    refusal = _known(change.fact_id, court)
    if refusal is not None:
        return refusal
    status = court.facts[change.fact_id].status
    if status is not Status.ARCHIVED:
        return Reason("not_archived", f"Fact {change.fact_id} is {status}; only an archived fact can be restored.")
    fact = court.facts[change.fact_id]
    if fact.is_consolidated and not fact.consolidated_from:
        return Reason("originals_gone", f"Fact {change.fact_id} was split; its originals stand for themselves again.")
    return _retention(fact, court)


def _retention(fact: Fact, court: _Court) -> Reason | None:
    """What a live consolidated fact stands for was never forgotten; it was when that fact was."""
    while fact.consolidated_into is not None and fact.consolidated_into in court.facts:
        fact = court.facts[fact.consolidated_into]
    archived_at, kept = fact.archived_at, court.policy.retain_archived_days
    if archived_at is None or fact.consolidated_into is not None or court.now - archived_at <= timedelta(days=kept):
        return None
    days = (court.now - archived_at) / timedelta(days=1)
    line = f"Fact {fact.id} was archived {days:.0f} days ago; the policy keeps what is archived for {kept:g}."
    return Reason("retention_over", line, {"days": days, "retain_archived_days": kept})


def _consolidate(change: Consolidate, court: _Court) -> Reason | None:
    ids = (*([change.into] if change.into else ()), *change.fact_ids)
    if len(set(ids)) < 2 or len(set(ids)) != len(ids):
        return Reason("too_few", "It takes two different facts to consolidate.")
    # A merge loses nothing, so a young fact may join one; a summary is a way of forgetting.
    refusal = next((found for id_ in ids if (found := _gathered(id_, court, change.form == "summary"))), None)
    if refusal is not None:
        return refusal
    facts = [court.facts[id_] for id_ in ids]
    if change.into is not None and (facts[0].form != "merged" or change.form != "merged"):
        return Reason("not_consolidated", f"Fact {change.into} is no merged fact; nothing can join it.")
    if len({(fact.valid_from, fact.valid_until) for fact in facts}) > 1:
        return Reason("validity_differs", "The facts do not hold for the same time.")
    said = [gathering.Said(fact.text, fact.said_at, fact.speaker) for fact in facts]
    return _lossy(change, said) or _text(change.text)


def _lossy(change: Consolidate, said: Sequence[gathering.Said]) -> Reason | None:
    if change.form == "merged":
        missing = gathering.dropped(said, change.text)
        return Reason("loses_words", _would_lose(missing), {"lost": len(missing)}) if missing else None
    missing = gathering.lost(said, change.text)
    return Reason("loses_facts", _would_lose(missing), {"lost": len(missing)}) if missing else None


def _would_lose(missing: Sequence[str]) -> str:
    return f"The text would lose {', '.join(missing[:5])}{' and more' if len(missing) > 5 else ''}."


def _gathered(fact_id: str, court: _Court, is_forgetting: bool) -> Reason | None:
    refusal = _removal(fact_id, court, is_forgetting=is_forgetting)
    if refusal is None and court.facts[fact_id].status is not Status.LIVE:
        status = court.facts[fact_id].status
        refusal = Reason("not_live", f"Fact {fact_id} is {status}; only live facts are consolidated.")
    if refusal is None and court.facts[fact_id].superseded_by is not None:
        refusal = Reason("superseded", f"Fact {fact_id} is about to be replaced; it ends by itself.")
    if refusal is None and court.facts[fact_id].form == "apart" and not court.by_person:
        refusal = Reason("apart", f"Fact {fact_id} was taken out of a consolidated fact by a person.")
    return refusal


def _absorb(change: Absorb, court: _Court) -> Reason | None:
    if not change.twin_ids or change.fact_id in change.twin_ids:
        return Reason("too_few", "It takes two different facts to consolidate.")
    refusal = _known(change.fact_id, court)
    if refusal is None and court.facts[change.fact_id].status is not Status.LIVE:
        refusal = Reason("not_live", f"Fact {change.fact_id} is not live; a duplicate must stay findable.")
    if refusal is not None:
        return refusal
    kept = court.facts[change.fact_id]
    for id_ in change.twin_ids:
        refusal = _gathered(id_, court, is_forgetting=True)
        if refusal is not None:
            return refusal
        twin = court.facts[id_]
        if (twin.valid_from, twin.valid_until) != (kept.valid_from, kept.valid_until):
            return Reason("validity_differs", "The facts do not hold for the same time.")
        differs = sameness.contradiction(kept.text, twin.text)
        if differs is not None:
            return Reason("not_the_same", f"Facts {kept.id} and {id_} differ in {differs}.")
        if kept.trust < twin.trust:
            return Reason("less_trusted", f"Fact {id_} is trusted more than the one that would stand for it.")
    return None


def _split(change: Split, court: _Court) -> Reason | None:
    if not court.by_person:
        return Reason("split_by_design", "Only a person may split a consolidated fact.")
    refusal = _known(change.fact_id, court)
    if refusal is None and not court.facts[change.fact_id].consolidated_from:
        refusal = Reason("not_consolidated", f"Fact {change.fact_id} holds no originals that could come back.")
    return refusal or _retention(court.facts[change.fact_id], court)


def _release(change: Release, court: _Court) -> Reason | None:
    if not court.by_person:
        return Reason("release_by_design", "Only a person may release a fact from quarantine.")
    refusal = _known(change.fact_id, court)
    if refusal is None and court.facts[change.fact_id].status is not Status.QUARANTINED:
        refusal = Reason("not_quarantined", f"Fact {change.fact_id} is {court.facts[change.fact_id].status}.")
    return refusal


def _vouch(change: Vouch, court: _Court) -> Reason | None:
    if not court.by_person:
        return Reason("vouch_by_design", "Only a person may vouch for a fact.")
    refusal = _known(change.fact_id, court)
    if refusal is not None:
        return refusal
    fact = court.facts[change.fact_id]
    if fact.status is Status.QUARANTINED:
        return Reason("quarantined", f"Fact {fact.id} is in quarantine; release it first.")
    if fact.consolidated_from:
        return Reason("made_of_originals", "It is trusted as its originals are; vouch for them.")
    if change.trust < fact.trust:
        terms = {"before": fact.trust, "after": change.trust}
        return Reason("lowered_trust", "To vouch cannot lower trust; forget the fact instead.", terms)
    return _share("trust", change.trust)


def _edit(after: Fact, court: _Court) -> Reason | None:
    if not court.by_person:
        return Reason("edit_by_design", "Only a person may edit a fact.")
    refusal = _known(after.id, court)
    if refusal is not None:
        return refusal
    before = court.facts[after.id]
    if before.consolidated_from and after.text != before.text:
        return Reason("made_of_originals", "Its text is made of its originals; split it to correct one.")
    if before.consolidated_into is not None and after.text != before.text:
        line = f"Fact {before.consolidated_into} says its words; restore it first to correct it."
        return Reason("made_of_originals", line)
    if after.scope != before.scope:
        return Reason("other_scope", "An edit cannot move a fact to another scope.")
    if after.origin != before.origin or after.created_at != before.created_at:
        return Reason("origin_fixed", "Where a fact came from is fixed when it is written.")
    if not after.trust <= before.trust:
        terms = {"before": before.trust, "after": after.trust}
        return Reason("raised_trust", "An edit cannot raise trust; it follows from the origin.", terms)
    return _share("trust", after.trust) or _content(after)


def _draft(draft: Draft, court: _Court) -> Reason | None:
    return _provenance(draft, court) or _content(draft) or _slot(draft.slot)


def _slot(slot: Slot | None) -> Reason | None:
    if slot is None or max(len(slot.subject.encode()), len(slot.attribute.encode())) <= MAX_SLOT_BYTES:
        return None
    return Reason("slot_too_long", f"A slot's subject and attribute have at most {MAX_SLOT_BYTES} bytes each.")


def _provenance(draft: Draft, court: _Court) -> Reason | None:
    if not draft.messages:
        return Reason("no_provenance", "A statement must name the messages it rests on.")
    if court.messages is not None:
        strange = [message.id for message in draft.messages if message.id is None or message.id not in court.messages]
        if strange:
            return Reason("unknown_message", f"Message {strange[0]} is not part of this episode.")
    named = (*draft.sources, *(update.older for update in draft.updates if isinstance(update.older, str)))
    refusals = (_known(source, court) for source in named)
    return next((refusal for refusal in refusals if refusal is not None), None)


def _content(said: Draft | Fact) -> Reason | None:
    """The rules for what a fact says. Callers' values arrive here unchecked, so types are judged as well."""
    return (
        _text(said.text)
        or unfit_kind(said.kind)
        or _share("importance", said.importance)
        or _share("confidence", said.confidence)
        or unfit_metadata(said.metadata)
    )


def _text(text: str) -> Reason | None:
    if not isinstance(text, str) or not text.strip():
        return Reason("empty", "A fact needs text.")
    if _SURROGATE.search(text) or "\x00" in text:
        return Reason("text_invalid", "The text holds a NUL character or a lone surrogate.")
    size = len(text.encode("utf-8"))
    if size > MAX_TEXT_BYTES:
        terms = {"bytes": size, "limit": MAX_TEXT_BYTES}
        return Reason("text_too_long", f"The text has {size:,} bytes; at most {MAX_TEXT_BYTES:,} are allowed.", terms)
    return None


def unfit_kind(kind: str) -> Reason | None:
    """Why `kind` is no kind, or None."""
    if isinstance(kind, str) and _KIND.fullmatch(kind):
        return None
    return Reason("kind_invalid", f"Kind {str(kind)[:40]!r} must match [a-z][a-z0-9_-]{{0,31}}.")


def _share(name: str, value: float) -> Reason | None:
    # NaN compares false with everything, so it is refused here as well.
    if isinstance(value, int | float) and 0.0 <= value <= 1.0:
        return None
    return Reason("out_of_range", f"The {name} must be a number between 0 and 1, not {value!r}.")


def unfit_metadata(metadata: Mapping[str, object]) -> Reason | None:
    """Why `metadata` may not be kept with a fact, or None."""
    if not isinstance(metadata, Mapping):
        return Reason("metadata_not_json", "Metadata must be a mapping.")
    if len(metadata) > MAX_METADATA_KEYS:
        terms = {"keys": len(metadata), "limit": MAX_METADATA_KEYS}
        return Reason("metadata_too_large", f"Metadata has more than {MAX_METADATA_KEYS} keys.", terms)
    reserved = sorted(RESERVED_KEYS.intersection(metadata))
    if reserved:
        return Reason("metadata_reserved", f"The metadata key {reserved[0]!r} is reserved.")
    if not _is_json(metadata, MAX_NESTING):
        return Reason("metadata_not_json", "Metadata may hold JSON values only, with text keys.")
    return None


def _is_json(value: object, depth: int) -> bool:
    """Whether every database and every JSON reader can hold `value`: finite numbers, no NUL, no lone surrogate."""
    match value:
        case None | bool() | int():
            return True
        case float():
            return math.isfinite(value)
        case str():
            return "\x00" not in value and not _SURROGATE.search(value)
        case list() | tuple():
            return depth > 0 and all(_is_json(item, depth - 1) for item in value)
        case Mapping():
            return depth > 0 and all(
                isinstance(name, str) and _is_json(name, 0) and _is_json(item, depth - 1)
                for name, item in value.items()
            )
        case _:
            return False
