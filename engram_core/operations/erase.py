"""Erase: the one verb that cannot be undone: a fact with all that came from it, down to the bytes; and a receipt.

What goes is told by lineage, never guessed; what a consolidated fact holds of others is rebuilt from them. Every scope
is one transaction. Killed at any point, the next opening or the same call finishes what was begun.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import numpy as np

from engram_core.domain.errors import Conflict, EmbedderMismatch, EmbeddingFailed, EngramError, StoreUnavailable
from engram_core.domain.fact import Fact, Origin, Status
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.floor import tombstones
from engram_core.keeping import Erasure, Tombstone
from engram_core.measure import gathering, redaction, words
from engram_core.measure.residue import looked_for
from engram_core.operations import consolidate, holding, residue, warden
from engram_core.operations.commit import Plan, features_again
from engram_core.operations.context import Context
from engram_core.ports import Features, Indexed, Write

SAMPLE: Final = 1_000
"""Texts that a receipt's search for residue looks for at most, evenly spread over all."""
TOMBSTONES: Final = "tombstones"
"""Selector of an erasure that repeats, in an older copy of a store, what was erased in the newer."""
_VECTORS: Final = 32
_PAGE: Final = 1_000
_ATTEMPTS: Final = 8
_BLANK: Final = Features("", (), (), None, None, 0.0, asks=False)
_ANY: Final = tuple(Status)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What an erasure did, or with `dry_run` would do: the receipt.

    Attributes:
        id: UUIDv7; tombstones name it. Empty for a rehearsal.
        state: `planned` (a rehearsal), `done`, `begun` when bytes are left that the next opening removes, or `nothing`
            where nothing of it is there: then no receipt is kept.
        facts: Ids of the facts that become stubs, by why they go: `asked`, `version` (what one superseded), `derived`
            (rests on one), `same` (stands for one, or one for it), `ended` (a consolidated fact without its originals).
        rebuilt: Ids of consolidated facts that are made anew from their other originals.
        restored: Ids of originals that stand for themselves again.
        messages: How many messages lose their words: every message an erased fact came from, whole.
        other_facts: Ids of facts that stay and came from one of these messages too.
        scopes: Paths of the scopes concerned.
        layers: What was done to each layer of storage, in words.
        residue: What a search of every file for the erased texts and vectors found; see `Residue.to_dict`.
    """

    id: str
    state: str
    at: datetime
    principal: str
    reason: str
    selector: str
    facts: Mapping[str, tuple[str, ...]]
    rebuilt: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    messages: int = 0
    other_facts: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    policies: Mapping[str, int] = field(default_factory=dict)
    layers: Mapping[str, str] = field(default_factory=dict)
    residue: Mapping[str, Any] = field(default_factory=dict)
    dry_run: bool = False

    @property
    def count(self) -> int:
        """How many facts become stubs."""
        return sum(map(len, self.facts.values()))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: ids, numbers and words about storage; nothing of what was erased."""
        return {
            "id": self.id,
            "state": self.state,
            "at": self.at.isoformat(),
            "principal": self.principal,
            "reason": self.reason,
            "selector": self.selector,
            "count": self.count,
            "facts": {why: list(ids) for why, ids in self.facts.items()},
            "rebuilt": list(self.rebuilt),
            "restored": list(self.restored),
            "messages": self.messages,
            "other_facts": list(self.other_facts),
            "scopes": list(self.scopes),
            "policies": dict(self.policies),
            "layers": dict(self.layers),
            "residue": dict(self.residue),
            "dry_run": self.dry_run,
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asked to erase.

    Attributes:
        ids: Fact ids.
        whole: Scopes of which everything goes.
        selector: How it was asked for, without naming anybody: `ids`, `subject` or `scope`.
    """

    ids: tuple[str, ...]
    selector: str
    whole: tuple[Scope, ...] = ()


def erase(
    context: Context,
    wanted: Wanted,
    principal: str,
    now: datetime,
    *,
    reason: str | None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ErasureReport:
    """Erase facts with all that came from them; see `Memory.erase`.

    Raises:
        OnHold: Something of it is under a legal hold; nothing was erased.
        AccessDenied: The principal may not administer a scope concerned; nothing was erased.
        StoreUnavailable: The ledger is out of order, or others kept writing; what was erased so far stays erased.
    """
    why = reason or f"{principal} asked to erase it."
    tell = progress or (lambda _label, _done, _total: None)
    for _ in range(_ATTEMPTS):
        reach = _reach(context, wanted, tell)
        parts = _parts(context, reach)
        # Who may not erase learns nothing of holds either.
        for place in dict.fromkeys([*wanted.whole, *(part.scope for part in parts)]):
            warden.require(context, principal, "admin", place, now, "erase")
        if not parts:
            return replace(_report(context, reach, parts, "", principal, now, why, wanted.selector), state="nothing")
        held = holding.covering(context, [*reach.facts.values(), *reach.parents.values()], wanted.whole)
        # What was erased in a later life of this store is gone there; a hold of this copy's time brings nothing back.
        if held is not None and wanted.selector != TOMBSTONES:
            raise holding.refusal(held, "erased")
        erasure_id = "" if dry_run else context.new_id()
        report = _report(context, reach, parts, erasure_id, principal, now, why, wanted.selector)
        if dry_run:
            return replace(report, dry_run=True)
        found = _Found.of(context, reach, parts)
        try:
            for number, part in enumerate(parts, 1):
                _commit(context, part, erasure_id, principal, now, why, found)
                tell("erase", number, len(parts))
        except Conflict:
            continue
        return finish(context, report, found, tell)
    raise StoreUnavailable("Others kept writing to what is to be erased; try again.")


# --- what goes -------------------------------------------------------------------------------------------------------


def taken(context: Context, ids: Sequence[str]) -> list[Fact]:
    """Every fact that erasing these would take or make anew."""
    reach = _reach(context, Wanted(tuple(ids), "ids"), lambda _label, _done, _total: None)
    return [*reach.facts.values(), *reach.parents.values()]


@dataclass(slots=True)
class _Reach:
    """Everything an erasure takes, by fact id; `why` says by which relation."""

    facts: dict[str, Fact] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    parents: dict[str, Fact] = field(default_factory=dict)
    """Consolidated facts that lose an original and are made anew, or end."""
    whole: tuple[Scope, ...] = ()

    def take(self, facts: Iterable[Fact], why: str) -> list[Fact]:
        """Add facts; return those that are new."""
        fresh = [fact for fact in facts if fact.id not in self.facts]
        for fact in fresh:
            self.facts[fact.id], self.why[fact.id] = fact, why
        return fresh


def _reach(context: Context, wanted: Wanted, tell: Progress) -> _Reach:
    ledger, reach = context.ledger, _Reach(whole=wanted.whole)
    asked = ledger.facts(wanted.ids)
    for scope in wanted.whole:
        asked += _all_of(context, scope)
    waiting = reach.take(asked, "asked")
    while waiting:
        tell("look up lineage", len(reach.facts), len(reach.facts) + len(waiting))
        ids = [fact.id for fact in waiting]
        fresh = reach.take(ledger.derived(ids), "derived")
        fresh += reach.take(ledger.predecessors(ids), "version")
        # What an erased fact stands for says the same: duplicates, and the originals of a consolidated one.
        fresh += reach.take(ledger.erasures.replaced_by(ids), "same")
        fresh += _standing_for(context, reach, waiting)
        waiting = fresh
    for id_, parent in list(reach.parents.items()):
        if id_ in reach.facts:
            del reach.parents[id_]
        else:
            # Earlier consolidated facts that went into this one, and duplicates of it, still hold the words.
            held = set(parent.consolidated_from)
            inner = [fact for fact in ledger.erasures.replaced_by([id_]) if fact.id not in held]
            reach.take(inner, "same")
    return reach


def _all_of(context: Context, scope: Scope) -> list[Fact]:
    found: list[Fact] = []
    while page := context.ledger.listing(scope, statuses=_ANY, limit=_PAGE, after=found[-1].id if found else None):
        found += page
    return found


def _standing_for(context: Context, reach: _Reach, facts: Sequence[Fact]) -> list[Fact]:
    """What stands for one of the facts: it says the same and goes too, unless it holds others and can be made anew."""
    ledger = context.ledger
    into: dict[str, list[str]] = {}
    for fact in facts:
        for id_ in _ever_into(context, fact):
            into.setdefault(id_, []).append(fact.id)
    fresh = []
    for parent in ledger.facts(list(into)):
        if parent.id in reach.facts or parent.status is Status.ERASED:
            continue
        held = set(parent.consolidated_from)
        if held.isdisjoint(into[parent.id]) and (parent.is_consolidated and not held):
            fresh += reach.take([parent], "same")  # split before: its text still says it
        elif not held:
            fresh += reach.take([parent], "same")  # it absorbed a duplicate
        else:
            reach.parents[parent.id] = parent
    return fresh


def _ever_into(context: Context, fact: Fact) -> list[str]:
    """Ids of the facts that ever stood for this one, the present one first."""
    found = dict.fromkeys([fact.consolidated_into] if fact.consolidated_into else [])
    if fact.consolidated_into or fact.restored_at or fact.form == "apart":
        for decision in context.ledger.history(fact.id):
            for side in (decision.before, decision.after):
                id_ = (side or {}).get("consolidated_into")
                if isinstance(id_, str):
                    found[id_] = None
    return list(found)


# --- one scope's part ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Part:
    """What happens in one scope."""

    scope: Scope
    expect: int
    gone: list[Fact]
    is_whole: bool
    parents: list[Fact] = field(default_factory=list)
    ended: list[Fact] = field(default_factory=list)
    rebuilt: list[tuple[Fact, list[Fact]]] = field(default_factory=list)
    restored: list[Fact] = field(default_factory=list)
    around: list[str] = field(default_factory=list)
    """Facts that stay and whose context holds words of erased ones."""


def _parts(context: Context, reach: _Reach) -> list[_Part]:
    """One part per scope, those whose facts were derived elsewhere first: what rests on others goes before them."""
    ledger = context.ledger
    by_scope: dict[Scope, list[Fact]] = {scope: [] for scope in reach.whole}
    for fact in reach.facts.values():
        by_scope.setdefault(fact.scope, []).append(fact)
    for parent in reach.parents.values():
        by_scope.setdefault(parent.scope, [])
    states = {state.scope: state for state in ledger.scopes(list(by_scope))}
    order = sorted(by_scope, key=lambda scope: (not any(fact.sources for fact in by_scope[scope]), scope))
    parts = []
    for scope in order:
        seq = states[scope].seq if scope in states else 0
        part = _Part(scope, seq, by_scope[scope], scope in reach.whole)
        if not part.is_whole:
            for parent in (item for item in reach.parents.values() if item.scope == scope):
                _split_up(context, part, parent, reach)
            part.around = _around(context, part, reach)
        parts.append(part)
    return parts


def _split_up(context: Context, part: _Part, parent: Fact, reach: _Reach) -> None:
    rest = [fact for fact in context.ledger.facts(parent.consolidated_from) if fact.id not in reach.facts]
    if parent.form == "merged" and len(rest) > 1:
        part.rebuilt.append((parent, rest))
    else:
        part.ended.append(parent)
        part.restored += rest


def _around(context: Context, part: _Part, reach: _Reach) -> list[str]:
    out = {fact.id for fact in [*part.gone, *part.ended]}
    ids: dict[str, None] = {}
    for start in range(0, len(part.gone), _PAGE):
        for row in context.ledger.indexed([fact.id for fact in part.gone[start : start + _PAGE]]):
            ids |= dict.fromkeys(id_ for id_ in (row.previous, row.following) if id_)
    return [fact.id for fact in context.ledger.facts(list(ids)) if fact.id not in out and fact.scope == part.scope]


@dataclass(frozen=True, slots=True)
class _Found:
    """What the erased facts said, held until the search for residue is over.

    Attributes:
        texts: Statements in every version, and the messages they came from.
        words: What gives them away elsewhere: whole statements, and names and numbers that nothing else holds.
        messages: Ids of the messages by scope.
        sessions: Sessions that end with them, by scope.
        vectors: Some of their vectors.
    """

    texts: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    messages: Mapping[Scope, tuple[str, ...]] = field(default_factory=dict)
    sessions: Mapping[Scope, tuple[str, ...]] = field(default_factory=dict)
    vectors: tuple[np.ndarray[Any, Any], ...] = ()
    linked: Mapping[Scope, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, context: Context, reach: _Reach, parts: Sequence[_Part]) -> _Found:
        texts: dict[str, None] = {}
        names: dict[str, None] = {}
        messages, sessions, linked = {}, {}, {}
        vectors: list[np.ndarray[Any, Any]] = []
        for part in parts:
            ids = _message_ids(part.gone)
            messages[part.scope] = tuple(ids)
            said = _said(context, part, set(ids))
            texts |= said
            names |= _only_here(context, part, said)
            sessions[part.scope] = _sessions(context, part)
            linked[part.scope] = _linked(context, part, reach)
            rows = context.ledger.indexed([fact.id for fact in part.gone[:_VECTORS]])
            vectors += [
                np.frombuffer(blob, dtype="<f2").astype(np.float32)
                for row in rows
                for blob in (row.content, row.context)
                if blob is not None
            ]
        known = redaction.whole(texts) | names
        return cls(tuple(texts), tuple(known), messages, sessions, tuple(vectors[: 2 * _VECTORS]), linked)


def _message_ids(gone: Iterable[Fact]) -> dict[str, None]:
    return {id_: None for fact in gone for id_ in fact.origin.message_ids}


def _said(context: Context, part: _Part, message_ids: set[str]) -> dict[str, None]:
    """Every version of the statements, their own metadata, and the messages they came from."""
    texts: dict[str, None] = {}
    episodes: dict[str, None] = {}
    for fact in part.gone:
        texts[fact.text] = None
        texts |= dict.fromkeys(_strings(fact.metadata))
        episodes |= dict.fromkeys([fact.origin.episode_id] if fact.origin.episode_id else [])
        for decision in context.ledger.history(fact.id):
            for side in (decision.before, decision.after):
                texts |= dict.fromkeys(_strings({key: (side or {}).get(key) for key in ("text", "metadata")}))
            episodes |= dict.fromkeys([decision.episode_id] if decision.episode_id else [])
    for id_ in episodes:
        episode = context.ledger.episode(id_)
        if episode is not None:
            texts |= {message.content: None for message in episode.messages if message.id in message_ids}
    return {text: None for text in texts if text.strip()}


def _strings(value: Any) -> list[str]:
    match value:
        case str():
            return [value]
        case Mapping():
            return [text for item in value.values() for text in _strings(item)]
        case list() | tuple():
            return [text for item in value for text in _strings(item)]
        case _:
            return []


def _only_here(context: Context, part: _Part, said: Mapping[str, None]) -> dict[str, None]:
    """Names and numbers of the erased texts that no fact that stays holds."""
    names = redaction.telling(list(said))
    states = context.ledger.scopes([part.scope])
    if not names or not states or part.is_whole:
        return names if part.is_whole else {}
    stems = {name: set(words.stems(name)) for name in names}
    every = sorted({stem for found in stems.values() for stem in found})
    known: dict[str, tuple[int, int]] = {}
    for start in range(0, len(every), _PAGE):
        known |= context.ledger.frequencies(states[0].id, every[start : start + _PAGE])
    going: dict[str, int] = {}
    for fact in part.gone:
        if fact.is_recallable:
            for stem in set(words.stems(fact.text)):
                going[stem] = going.get(stem, 0) + 1
    left = {stem for stem, (bodies, _) in known.items() if bodies > going.get(stem, 0)}
    return {name: None for name in names if stems[name] and not stems[name] <= left}


def _sessions(context: Context, part: _Part) -> tuple[str, ...]:
    ending = {fact.origin.session for fact in part.gone if fact.origin.session}
    if part.is_whole or not ending:
        return tuple(sorted(ending))
    gone = {fact.id for fact in part.gone}
    for fact in _all_of(context, part.scope):
        if fact.id not in gone and fact.origin.session in ending:
            ending.discard(fact.origin.session)
    return tuple(sorted(ending))


def _linked(context: Context, part: _Part, reach: _Reach) -> tuple[str, ...]:
    """Facts that stay and were compared with erased ones: the reasons quote both."""
    ids = [fact.id for fact in part.gone]
    near = {id_ for link in context.ledger.links(ids) for id_ in (link.newer, link.older)}
    near |= {fact.superseded_by for fact in part.gone if fact.superseded_by}
    return tuple(sorted(near - reach.facts.keys()))


# --- writing ---------------------------------------------------------------------------------------------------------


def stub(fact: Fact) -> Fact:
    """What is left of an erased fact: its id, its scope, its channel and its times."""
    return Fact(
        id=fact.id,
        scope=fact.scope,
        text="",
        origin=Origin("", fact.origin.channel),
        created_at=fact.created_at,
        said_at=fact.said_at,
        version=fact.version + 1,
        importance=0.0,
        trust=0.0,
        status=Status.ERASED,
    )


def _commit(
    context: Context, part: _Part, erasure_id: str, principal: str, now: datetime, why: str, found: _Found
) -> None:
    gone = [fact for fact in [*part.gone, *part.ended] if fact.status is not Status.ERASED]
    plan = Plan(context, part.scope, principal, now, operation="erase", needs="admin")
    for fact in gone:
        plan.decide("erase", Reason("erased", why), fact_id=fact.id)
    writes = [Write(stub(fact), _BLANK, replaces=fact.version) for fact in gone]
    rows = _relinked(context, part)
    writes += _others(context, part, rows, plan, now)
    batch, _ = plan.seal(part.expect or None)
    order = Erasure(
        id=erasure_id,
        principal=principal,
        at=now,
        fact_ids=tuple(fact.id for fact in [*part.gone, *part.ended]),
        touched_ids=tuple(parent.id for parent, _ in part.rebuilt),
        linked_ids=found.linked.get(part.scope, ()),
        message_ids=found.messages.get(part.scope, ()),
        sessions=found.sessions.get(part.scope, ()),
        words=found.words,
        is_whole=part.is_whole,
        tombstones=tuple(_tombstones(context, part, erasure_id, now, found)),
    )
    context.ledger.commit(replace(batch, writes=(*batch.writes, *writes), erasure=order))
    context.finder.wake()


def _relinked(context: Context, part: _Part) -> dict[str, tuple[Fact, Features]]:
    """The facts beside erased ones: their new neighbours, and a context without erased words."""
    if not part.around:
        return {}
    ledger = context.ledger
    out = {fact.id for fact in part.gone}
    rows = {row.id: row for row in ledger.indexed([*part.around, *out])}

    def beyond(id_: str | None, side: str) -> str | None:
        while id_ in out:
            id_ = getattr(rows[id_], side) if id_ in rows else None
        return id_

    found = {}
    for fact in ledger.facts(part.around):
        row = rows[fact.id]
        row = row._replace(previous=beyond(row.previous, "previous"), following=beyond(row.following, "following"))
        found[fact.id] = fact, _contextual(context, fact, row)
    return found


def _contextual(context: Context, fact: Fact, row: Indexed) -> Features:
    if row.content is not None:
        try:
            return features_again(context, fact, row, text_changed=True)
        except (EmbeddingFailed, EmbedderMismatch):
            pass  # the embedder is out of order: the statement's own vector stands for its context till it is edited
    bare = features_again(context, fact, row, text_changed=True, embed=False)
    own = None if row.content is None else np.frombuffer(row.content, dtype="<f2")
    return replace(bare, content=own, context=own)


def _others(
    context: Context, part: _Part, around: dict[str, tuple[Fact, Features]], plan: Plan, now: datetime
) -> list[Write]:
    """New states of facts that stay: neighbours, what was consolidated with erased ones, and what stands for those."""
    writes: dict[str, Write] = {}
    for fact, features in around.values():
        writes[fact.id] = Write(fact, features, replaces=fact.version)
    for fact in part.restored:
        after = _free(fact, part, now)
        features = around[fact.id][1] if fact.id in around else _as_stored(context, fact)
        if after.status is Status.LIVE and features.content is None:
            after = replace(after, status=Status.PENDING)
        writes[fact.id] = Write(after, features, replaces=fact.version)
        plan.decide("restore", Reason("rest_restored", "What stood for it was erased with another."), fact_id=fact.id)
    for parent, rest in [*part.rebuilt, *_over(context, part, around)]:
        rows = [_row(context, fact, around) for fact in rest]
        text = gathering.merged([gathering.Said(fact.text, fact.said_at, fact.speaker) for fact in rest])
        after = consolidate.standing_for(plan, rest, text, parent)
        after = replace(after, status=parent.status)
        writes[parent.id] = Write(after, consolidate.features_of(after, rows), replaces=parent.version)
        plan.decide("consolidate", Reason("rest_rebuilt", "One of its originals was erased."), fact_id=parent.id)
    return list(writes.values())


def _over(context: Context, part: _Part, around: Mapping[str, tuple[Fact, Features]]) -> list[tuple[Fact, list[Fact]]]:
    """Merged facts that hold a neighbour of an erased one: they are found by its context too."""
    known = {parent.id for parent, _ in part.rebuilt} | {fact.id for fact in part.ended}
    ids = {fact.consolidated_into for fact, _ in around.values() if fact.consolidated_into} - known
    parents = [fact for fact in context.ledger.facts(sorted(ids)) if fact.form == "merged" and fact.consolidated_from]
    return [(parent, context.ledger.facts(parent.consolidated_from)) for parent in parents]


def _row(context: Context, fact: Fact, around: Mapping[str, tuple[Fact, Features]]) -> Indexed:
    row = context.ledger.indexed([fact.id])[0]
    if fact.id not in around:
        return row
    features = around[fact.id][1]
    return row._replace(
        context_stems="".join(f" {stem} " for stem in features.context_stems),
        context=None if features.context is None else np.asarray(features.context, dtype="<f2").tobytes(),
    )


def _as_stored(context: Context, fact: Fact) -> Features:
    return features_again(context, fact, context.ledger.indexed([fact.id])[0])


def _free(fact: Fact, part: _Part, now: datetime) -> Fact:
    """An original on its own again: live, unless what stood for it was forgotten."""
    parent = next(item for item in part.ended if item.id == fact.consolidated_into or fact.id in item.consolidated_from)
    if not parent.is_recallable:
        return replace(
            fact, consolidated_into=None, archived_at=parent.archived_at, archived_reason=parent.archived_reason
        )
    return replace(
        fact, status=Status.LIVE, archived_at=None, archived_reason=None, consolidated_into=None, restored_at=now
    )


def key_of(context: Context) -> str:
    """The store's key for tombstones, made now if there is none."""
    known = context.ledger.setting(tombstones.KEY_SETTING)
    return known or context.ledger.set_setting(tombstones.KEY_SETTING, secrets.token_hex(32), only_if_absent=True)


def _tombstones(context: Context, part: _Part, erasure_id: str, now: datetime, found: _Found) -> Iterable[Tombstone]:
    key = key_of(context)
    for fact in [*part.gone, *part.ended]:
        yield Tombstone(tombstones.of_fact(key, fact.id), "fact", erasure_id, now)
    for id_ in found.messages.get(part.scope, ()):
        yield Tombstone(tombstones.of_message(key, part.scope, id_), "message", erasure_id, now)
    marks = (tombstones.of_text(key, part.scope, text) for text in found.texts)
    for mark in dict.fromkeys(mark for mark in marks if mark is not None):
        yield Tombstone(mark, "text", erasure_id, now)


# --- bytes and receipt -----------------------------------------------------------------------------------------------


def finish(
    context: Context, report: ErasureReport, found: _Found | None = None, tell: Progress | None = None
) -> ErasureReport:
    """Let every layer forget the bytes, look whether any are left, and record the receipt."""
    tell = tell or (lambda _label, _done, _total: None)
    found = found or _Found()
    context.injected.forget()
    context.second_hand.forget()
    context.learned.forget()
    layers = {"memory": "caches of this process emptied; others read the ledger anew at their next recall"}
    state = "done"
    try:
        layers["index"] = context.finder.purge()
    except EngramError as error:
        layers["index"], state = f"to be built anew when it can be opened: {error}", "begun"
    context.ledger.erasures.set_aside(key_of(context))
    layers |= context.ledger.erasures.scrub()
    seen = _look(context, found, tell)
    if seen.get("verdict") == "FOUND" and context.ledger.erasures.files():
        layers |= context.ledger.erasures.scrub(thorough=True)
        seen = _look(context, found, tell)
    done = replace(report, state=state, layers=layers, residue=seen)
    context.ledger.erasures.save_receipt(done.id, done.to_dict())
    return done


def _look(context: Context, found: _Found, tell: Progress) -> dict[str, Any]:
    files = [*context.ledger.erasures.files(), *context.finder.files()]
    texts = looked_for(found.texts)
    step = max(1, -(-len(texts) // SAMPLE))
    sample = texts[::step]
    if not context.ledger.erasures.files():
        return {"verdict": "NOT COMPUTABLE", "why": "The ledger's files are not this machine's, or there are none."}
    if not sample and not found.vectors:
        return {"verdict": "NOT COMPUTABLE", "why": "What was erased is not known any more."}
    seen = residue.search(files, sample, found.vectors, progress=lambda done, total: tell("search files", done, total))
    # What others say with the same words is no residue.
    suspects = {place for places in seen.places.values() for place in places if place < len(sample)}
    shared = context.ledger.erasures.still_said([sample[place] for place in sorted(suspects)])
    if shared:
        mine = [text for text in sample if text not in shared]
        vectors = found.vectors if len(shared) < len(suspects) or len(found.texts) > 1 else ()
        seen = residue.search(files, mine, vectors if not shared else ())
    counts = {"texts": len(sample), "of": len(texts), "vectors": len(found.vectors), "shared": len(shared)}
    return seen.to_dict() | counts


def _report(
    context: Context,
    reach: _Reach,
    parts: Sequence[_Part],
    erasure_id: str,
    principal: str,
    now: datetime,
    why: str,
    selector: str,
) -> ErasureReport:
    by_why: dict[str, list[str]] = {}
    for id_, word in reach.why.items():
        if reach.facts[id_].status is not Status.ERASED:
            by_why.setdefault(word, []).append(id_)
    ended = [fact.id for part in parts for fact in part.ended]
    if ended:
        by_why["ended"] = ended
    policies = {part.scope.path: context.ledger.policy(part.scope).version for part in parts}
    gone = reach.facts.keys() | set(ended)
    ids = {scope: set(_message_ids(part.gone)) for part in parts for scope in [part.scope]}
    others = [
        fact.id
        for part in parts
        if not part.is_whole and ids[part.scope]
        for fact in _all_of(context, part.scope)
        if fact.id not in gone and not ids[part.scope].isdisjoint(fact.origin.message_ids)
    ]
    return ErasureReport(
        id=erasure_id,
        state="planned" if not erasure_id else "begun",
        at=now,
        principal=principal,
        reason=why,
        selector=selector,
        facts={word: tuple(found) for word, found in by_why.items()},
        rebuilt=tuple(parent.id for part in parts for parent, _ in part.rebuilt),
        restored=tuple(fact.id for part in parts for fact in part.restored),
        messages=sum(map(len, ids.values())),
        other_facts=tuple(others),
        scopes=tuple(part.scope.path for part in parts),
        policies=policies,
    )


def catch_up(context: Context) -> int:
    """Before a store serves: finish interrupted erasures, and erase again what an older copy brought back.

    Returns:
        How many facts were erased again.
    """
    for item in context.ledger.erasures.receipts(1_000, begun=True):
        report = ErasureReport(
            id=item["id"],
            state="begun",
            at=datetime.fromisoformat(item["at"]),
            principal=item["principal"],
            reason=item.get("reason", "Interrupted; finished at the next opening."),
            selector=item.get("selector", "unknown"),
            facts={word: tuple(ids) for word, ids in item.get("facts", {}).items()},
        )
        finish(context, report)
    kept = context.ledger.erasures.aside()
    return reapply(context, kept.key, kept.tombstones) if kept is not None and kept.is_news else 0


def reapply(context: Context, key: str, stones: Sequence[Tombstone]) -> int:
    """Erase again the facts that the tombstones of another copy of this store know; return how many there were.

    Args:
        context: The store.
        key: What the marks were made with.
        stones: The tombstones; they become this store's, unless it has its own key and so its own past.
    """
    own = context.ledger.setting(tombstones.KEY_SETTING)
    if own is None or not context.ledger.erasures.tombstones():
        own = context.ledger.set_setting(tombstones.KEY_SETTING, key)
    if own == key:
        context.ledger.erasures.bury(stones)
    marks = {stone.mark for stone in stones if stone.kind == "fact"}
    found = [
        fact.id
        for state in context.ledger.scopes()
        for fact in _all_of(context, state.scope)
        if fact.status is not Status.ERASED and tombstones.of_fact(key, fact.id) in marks
    ]
    if found:
        why = "It had been erased before this copy of the ledger was put in place."
        erase(context, Wanted(tuple(found), TOMBSTONES), context.owner, context.clock(), reason=why)
    context.ledger.erasures.set_aside(own)
    return len(found)


def lift(context: Context, erasure_id: str) -> int:
    """Remove an erasure's tombstones; see `Engram.lift_tombstones`."""
    lifted = context.ledger.erasures.lift(erasure_id)
    if lifted:
        warden.by_owner(context, "admin", "lift_tombstones", about=erasure_id)
        context.ledger.erasures.set_aside(key_of(context))
    return lifted
