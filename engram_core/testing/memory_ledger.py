"""A ledger in plain dictionaries, under the same contract as the real ones. Nothing outlives the object."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import takewhile
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.audit import AuditEntry
from engram_core.domain.errors import Conflict, InvalidInput
from engram_core.domain.fact import Fact, Slot, Status
from engram_core.domain.message import Episode
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.scope import Scope
from engram_core.floor import chain
from engram_core.measure import usefulness
from engram_core.ports import (
    Asked,
    Batch,
    Collection,
    ContextWrite,
    Decision,
    FactUsage,
    Features,
    ForgetScore,
    FreshVectors,
    Generation,
    Indexed,
    Judged,
    Link,
    Night,
    Outset,
    Parked,
    PolicyVersion,
    RecallRow,
    ScopeState,
    Standing,
    StoredCount,
    Tail,
    Tally,
    UsageRow,
    Write,
)
from engram_core.testing.memory_books import MemoryAccessBook, MemoryAuditBook
from engram_core.testing.memory_diary import MemoryDiary
from engram_core.testing.memory_erasures import MemoryErasures
from engram_core.testing.memory_lab_books import MemoryDesigns, MemoryProposals
from engram_core.testing.memory_screening import MemoryScreening

T = TypeVar("T")


@dataclass(slots=True)
class _Kept:
    fact: Fact
    features: Features
    seq: int
    born: int


@dataclass(slots=True)
class _Episode:
    episode: Episode
    extraction: str
    seq: int


@dataclass(slots=True)
class _State:
    """Everything, so that a commit can work on a copy and swap it in."""

    seq: int = 0
    scopes: dict[Scope, int] = field(default_factory=dict)
    scope_seq: dict[Scope, int] = field(default_factory=dict)
    facts: dict[str, _Kept] = field(default_factory=dict)
    episodes: dict[str, _Episode] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    parked: list[Parked] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)


class MemoryLedger:
    """The Ledger port over dictionaries; see `engram_core.ports.Ledger`. Thread-safe; nothing outlives the object."""

    url = ":memory:"

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.proposals = MemoryProposals(self._lock)
        self.designs = MemoryDesigns(self._lock)
        self.audit = MemoryAuditBook(self._lock)
        self.access = MemoryAccessBook(self.audit, self._lock)
        self._state = _State()
        self.erasures = MemoryErasures(self)
        self._recalls: dict[str, RecallRow] = {}
        self._unshown: dict[str, set[str]] = {}
        """Facts that a recall showed and that were erased since: they count as shown by none."""
        self._usage: list[UsageRow] = []
        self._judgements: list[tuple[int, UsageRow]] = []
        self._counted: dict[str, tuple[int, UsageRow]] = {}
        self._tallies: dict[Scope, dict[str, Tally]] = {}
        self._judged: Counter[Scope] = Counter()
        self._policies: list[PolicyVersion] = []
        self._settings: dict[str, str] = {}
        self._nights: dict[str, Night] = {}
        self._scope_nights: dict[tuple[str, Scope], dict[str, Any]] = {}
        self._generations: dict[str, Generation] = {}
        self._collections: dict[tuple[str, int], Collection] = {}
        self._leases: dict[str, tuple[str, float]] = {}
        self.diary = MemoryDiary(self._lock, self._diary_episodes, self._diary_asked)

    def _diary_episodes(self, scope: Scope) -> list[tuple[int, Episode]]:
        kept = (item for item in self._state.episodes.values() if item.episode.scope == scope)
        return sorted(((item.seq, replace(item.episode, kept=())) for item in kept), key=lambda pair: pair[0])

    def _diary_asked(self, scope: Scope) -> list[Asked]:
        verdicts = {row.recall_id: row for row in self._usage}
        asked = [Asked(row, verdicts.get(row.id)) for row in self._recalls.values() if row.scope == scope]
        return sorted(asked, key=lambda item: (item.recall.at, item.recall.id))

    def close(self) -> None:
        """Nothing to release."""

    @property
    def screening(self) -> MemoryScreening:
        """What screening asks."""
        return MemoryScreening(self._with_keys, self._cover)

    def _cover(self, scopes: Sequence[Scope] | None, clean: Callable[[str], str], dry_run: bool) -> dict[str, int]:
        def is_inside(one: Scope) -> bool:
            return scopes is None or one in scopes

        with self._lock:
            state = self._state
            episodes = {
                id_: replace(item, episode=_cleaned_episode(item.episode, clean))
                if is_inside(item.episode.scope)
                else item
                for id_, item in state.episodes.items()
            }
            decisions = [_cleaned_decision(d, clean) if is_inside(d.scope) else d for d in state.decisions]
            parked = [
                replace(p, error=clean(p.error), payload=_cleaned(p.payload, clean)) if is_inside(p.scope) else p
                for p in state.parked
            ]
            recalls = {
                id_: replace(row, query=clean(row.query)) if is_inside(row.scope) else row
                for id_, row in self._recalls.items()
            }
            usage = [replace(row, response=clean(row.response)) if is_inside(row.scope) else row for row in self._usage]
            counts = {
                "episodes": sum(new != state.episodes[id_] for id_, new in episodes.items()),
                "decisions": sum(a != b for a, b in zip(decisions, state.decisions, strict=True)),
                "parked": sum(a != b for a, b in zip(parked, state.parked, strict=True)),
                "recalls": sum(new != self._recalls[id_] for id_, new in recalls.items()),
                "usage": sum(a != b for a, b in zip(usage, self._usage, strict=True)),
            }
            if not dry_run:
                self._state = replace(state, episodes=episodes, decisions=decisions, parked=parked)
                self._recalls, self._usage = recalls, usage
        return {name: count for name, count in counts.items() if count}

    def _with_keys(self) -> list[tuple[Fact, str]]:
        with self._lock:
            kept = sorted(self._state.facts.values(), key=lambda item: item.born)
            return [(item.fact, item.features.key) for item in kept]

    # --- scopes and facts ---

    def scopes(self, paths: Sequence[Scope] | None = None, *, at_least: int = 0) -> list[ScopeState]:
        with self._lock:
            wanted = sorted(self._state.scopes) if paths is None else [s for s in paths if s in self._state.scopes]
            states = [self._scope_state(scope) for scope in wanted]
            return [state for state in states if paths is not None or state.live + state.held >= at_least]

    def _scope_state(self, scope: Scope) -> ScopeState:
        kept = [item for item in self._of(scope) if item.fact.is_recallable]
        return ScopeState(
            id=self._state.scopes[scope],
            scope=scope,
            seq=self._state.scope_seq.get(scope, 0),
            live=sum(item.fact.status is Status.LIVE for item in kept),
            recallable=len(kept),
            body_words=sum(len(item.features.body_stems) for item in kept),
            context_words=sum(len(item.features.context_stems) for item in kept),
            speakers=Counter(item.fact.speaker for item in kept if item.fact.speaker),
            judged=self._judged[scope],
            held=sum(len(item.fact.consolidated_from) for item in kept if item.fact.form == "merged"),
            collection=self._collections.get((self._live_generation(), self._state.scopes[scope])),
        )

    def _live_generation(self) -> str:
        return min((item.id for item in self._generations.values() if item.state == "live"), default="")

    def outset(self, scope: Scope) -> Outset:
        with self._lock:
            return Outset(self.access.number(), self.policy(scope), self.scopes(scope.lineage))

    def _of(self, scope: Scope) -> list[_Kept]:
        return [item for item in self._state.facts.values() if item.fact.scope == scope]

    def _recallable(self, scope_id: int) -> list[_Kept]:
        return [
            item
            for item in self._state.facts.values()
            if item.fact.is_recallable and self._state.scopes[item.fact.scope] == scope_id
        ]

    def facts(self, ids: Sequence[str]) -> list[Fact]:
        with self._lock:
            return [self._state.facts[id_].fact for id_ in ids if id_ in self._state.facts]

    def listing(
        self,
        scope: Scope,
        *,
        kind: str | None = None,
        statuses: Sequence[Status] = (),
        limit: int = 100,
        after: str | None = None,
    ) -> list[Fact]:
        with self._lock:
            start = self._state.facts[after].born if after in self._state.facts else (-1 if after is None else 1 << 62)
            found = [
                item.fact
                for item in self._of(scope)
                if item.born > start
                and (kind is None or item.fact.kind == kind)
                and (not statuses or item.fact.status in statuses)
            ]
            return found[:limit]

    def twins(self, scope: Scope, keys: Sequence[str]) -> dict[str, Fact]:
        wanted = {key for key in keys if key}
        found: dict[str, Fact] = {}
        with self._lock:
            for item in self._of(scope):
                if item.features.key in wanted and item.fact.is_recallable:
                    found.setdefault(item.features.key, item.fact)
        return found

    def holders(self, scope: Scope, slots: Sequence[Slot]) -> list[Fact]:
        with self._lock:
            return [i.fact for i in self._of(scope) if i.fact.slot in slots and i.fact.is_recallable]

    def predecessors(self, ids: Sequence[str]) -> list[Fact]:
        with self._lock:
            return [item.fact for item in self._state.facts.values() if item.fact.superseded_by in ids]

    def derived(self, ids: Sequence[str]) -> list[Fact]:
        with self._lock:
            return [item.fact for item in self._state.facts.values() if not set(ids).isdisjoint(item.fact.sources)]

    def links(self, ids: Sequence[str]) -> list[Link]:
        with self._lock:
            return [link for link in self._state.links if link.newer in ids or link.older in ids]

    def links_unjudged(self, limit: int) -> list[Link]:
        with self._lock:
            words = Counter((link.newer, link.older) for link in self._state.links)
            open_ = [i for i in self._state.links if i.verdict == "update" and i.probability < 1]
            due = [i for i in open_ if words[i.newer, i.older] == 1]
        return due[:limit]

    def tail(self, scope: Scope, session: str) -> Tail | None:
        with self._lock:
            said = [i for i in self._of(scope) if i.fact.origin.session == session and i.fact.is_recallable]
            if not said:
                return None
            last = said[-1]
            previous = self._state.facts.get(last.features.previous or "")
            return Tail(last.fact.id, last.fact.text, last.fact.version, previous.fact.text if previous else None)

    def commit(self, batch: Batch) -> int:
        with self._lock:
            seq = self._state.scope_seq.get(batch.scope, 0)
            if batch.expect is not None and batch.expect != seq:
                raise Conflict(f"The scope moved from {batch.expect} to {seq} while the change was planned.")
            self._check(batch)
            entry = chain.entry_of(batch)
            if entry is not None:
                self.audit.append([entry])
            return self._apply(batch)

    def _check(self, batch: Batch) -> None:
        for write in batch.writes:
            kept = self._state.facts.get(write.fact.id)
            if write.replaces is None and kept is not None:
                raise InvalidInput(f"The source of ids gave one that is in use: {write.fact.id}")
            if write.replaces is not None and (
                kept is None or kept.fact.version != write.replaces or kept.fact.scope != batch.scope
            ):
                raise Conflict(f"Fact {write.fact.id} changed while its edit was planned.")
        for move in batch.contexts:
            kept = self._state.facts.get(move.fact_id)
            if kept is None or kept.fact.scope != batch.scope:
                raise Conflict(f"Fact {move.fact_id} disappeared while its neighbour was added.")

    def _apply(self, batch: Batch) -> int:
        state = self._state
        state.scopes.setdefault(batch.scope, len(state.scopes) + 1)
        if batch.episode is not None:
            known = state.episodes.get(batch.episode.id)
            episode = known.episode if known else batch.episode
            state.episodes[batch.episode.id] = _Episode(
                replace(episode, kept=()), batch.extraction, known.seq if known else state.seq + 1
            )
        for write in batch.writes:
            self._write(write)
        for move in batch.contexts:
            self._move(move)
        state.seq += 1
        if batch.writes or batch.contexts:
            state.scope_seq[batch.scope] = state.seq
        if batch.erasure is not None:
            self.erasures.blank(batch.scope, batch.erasure)
        state.decisions += [replace(decision, seq=state.seq) for decision in batch.decisions]
        state.links += batch.links
        for item in batch.parked:
            self.park(item)
        return state.seq

    def _write(self, write: Write) -> None:
        self._state.seq += 1
        seq = self._state.seq
        kept = self._state.facts.get(write.fact.id)
        born = kept.born if kept else seq
        fact = replace(write.fact, metadata=_copied(write.fact.metadata)) if write.fact.metadata else write.fact
        self._state.facts[write.fact.id] = _Kept(fact, write.features, seq, born)

    def _move(self, move: ContextWrite) -> None:
        self._state.seq += 1
        kept = self._state.facts[move.fact_id]
        context = kept.features.context if move.context is None else move.context
        kept.features = replace(
            kept.features, following=move.following, context_stems=move.context_stems, context=context
        )
        kept.seq = self._state.seq

    # --- what recall reads ---

    def indexed(self, ids: Sequence[str]) -> list[Indexed]:
        with self._lock:
            return [self._indexed(self._state.facts[id_]) for id_ in ids if id_ in self._state.facts]

    def _indexed(self, item: _Kept) -> Indexed:
        fact, features = item.fact, item.features
        return Indexed(
            id=fact.id,
            scope_id=self._state.scopes[fact.scope],
            seq=item.seq,
            version=fact.version,
            status=fact.status.value,
            said_at=fact.said_at.timestamp(),
            speaker=fact.speaker,
            session=fact.origin.session,
            previous=features.previous,
            following=features.following,
            kind=fact.kind,
            importance=fact.importance,
            trust=fact.trust,
            valid_from=fact.valid_from.timestamp() if fact.valid_from else None,
            valid_until=fact.valid_until.timestamp() if fact.valid_until else None,
            body_stems="".join(f" {stem} " for stem in features.body_stems),
            context_stems="".join(f" {stem} " for stem in features.context_stems),
            body_length=len(features.body_stems),
            context_length=len(features.context_stems),
            time_words=features.time_words,
            asks=int(features.asks),
            content=None if features.content is None else features.content.tobytes(),
            context=None if features.context is None else features.context.tobytes(),
            members=json.dumps(fact.consolidated_from) if fact.form == "merged" else "[]",
            into=fact.consolidated_into,
            key=item.born,
        )

    def changes(self, scope_id: int, after: int, limit: int, *, vectors: bool = True) -> list[Indexed]:
        with self._lock:
            changed = [
                item
                for item in self._state.facts.values()
                if self._state.scopes[item.fact.scope] == scope_id and item.seq > after
            ]
            changed.sort(key=lambda item: item.seq)
            rows = [self._indexed(item) for item in changed[:limit]]
        return rows if vectors else [row._replace(content=None, body_stems="", context_stems="") for row in rows]

    def contexts(self, scope_id: int, after: int, limit: int) -> list[tuple[str, int, str, bytes | None]]:
        return [(row.id, row.seq, row.status, row.context) for row in self.changes(scope_id, after, limit)]

    def heaviest(self, scope_id: int, weights: Mapping[str, float], limit: int) -> list[int]:
        ids = self.matching(scope_id, weights, limit)
        with self._lock:
            return [self._state.facts[id_].born for id_ in ids]

    def matching(self, scope_id: int, weights: Mapping[str, float], limit: int, *, together: bool = False) -> list[str]:
        found = []
        with self._lock:
            for item in self._recallable(scope_id):
                words = item.features.context_stems
                if together:
                    held = list(takewhile(lambda stem: stem in words, weights))  # noqa: B023 - used up at once
                else:
                    held = [stem for stem in weights if stem in words]
                if len(held) > together:
                    found.append((-sum(weights[stem] for stem in held), item.born, item.fact.id))
        return [id_ for _, _, id_ in sorted(found)[:limit]]

    def sharing(self, scope_id: int, asked: Sequence[Mapping[str, float]], limit: int) -> list[list[str]]:
        return [self.matching(scope_id, weights, limit) for weights in asked]

    def holding(self, scope_id: int, stem: str) -> NDArray[np.int64]:
        with self._lock:
            held = [item.born for item in self._recallable(scope_id) if stem in item.features.context_stems]
        return np.array(held, dtype=np.int64)

    def ids_at(self, keys: Sequence[int]) -> dict[int, str]:
        wanted = set(keys)
        with self._lock:
            return {item.born: id_ for id_, item in self._state.facts.items() if item.born in wanted}

    def said_between(self, scope_id: int, ranges: Sequence[tuple[float, float]], limit: int) -> list[str]:
        found: list[str] = []
        with self._lock:
            for start, end in ranges:
                inside = [i for i in self._recallable(scope_id) if start <= i.fact.said_at.timestamp() <= end]
                inside.sort(key=lambda item: item.fact.said_at)
                found += [item.fact.id for item in inside[:limit]]
        return found

    def weightiest(self, scope_id: int, limit: int) -> list[str]:
        def weight(item: _Kept) -> tuple[bool, float, datetime, int]:
            return item.fact.pinned, item.fact.importance, item.fact.said_at, item.born

        with self._lock:
            found = sorted(self._recallable(scope_id), key=weight, reverse=True)
        return [item.fact.id for item in found[:limit]]

    def newest(self, scope_id: int, limit: int) -> list[str]:
        with self._lock:
            found = sorted(self._recallable(scope_id), key=lambda item: (item.fact.said_at, item.born), reverse=True)
        return [item.fact.id for item in found[:limit]]

    def frequencies(self, scope_id: int, stems: Sequence[str]) -> dict[str, tuple[int, int]]:
        body: Counter[str] = Counter()
        context: Counter[str] = Counter()
        with self._lock:
            for item in self._recallable(scope_id):
                body.update(set(item.features.body_stems))
                context.update(set(item.features.context_stems))
        return {stem: (body[stem], context[stem]) for stem in stems if body[stem] or context[stem]}

    def pending(self, limit: int) -> list[Fact]:
        with self._lock:
            waiting = [i.fact for i in self._state.facts.values() if i.fact.status is Status.PENDING]
        return waiting[:limit]

    # --- what happened ---

    def history(self, fact_id: str) -> list[Decision]:
        with self._lock:
            return [decision for decision in self._state.decisions if decision.fact_id == fact_id]

    def decisions(self, scope: Scope, *, limit: int = 100) -> list[Decision]:
        with self._lock:
            return [decision for decision in reversed(self._state.decisions) if decision.scope == scope][:limit]

    def episode(self, episode_id: str) -> Episode | None:
        with self._lock:
            found = self._state.episodes.get(episode_id)
            return self._with_kept(found.episode) if found else None

    def episodes_due(self, limit: int) -> list[Episode]:
        with self._lock:
            due = [item.episode for item in self._state.episodes.values() if item.extraction == "due"]
            return [self._with_kept(episode) for episode in due[:limit]]

    def _with_kept(self, episode: Episode) -> Episode:
        kept = (d.fact_id for d in self._state.decisions if d.episode_id == episode.id and d.fact_id and not d.refused)
        return replace(episode, kept=tuple(dict.fromkeys(kept)))

    def record_recall(self, row: RecallRow) -> None:
        with self._lock:
            self._state.scopes.setdefault(row.scope, len(self._state.scopes) + 1)
            self._recalls[row.id] = _plain(row)

    def recall(self, recall_id: str) -> RecallRow | None:
        return self._recalls.get(recall_id)

    def recalls_of(self, fact_id: str, limit: int) -> list[RecallRow]:
        with self._lock:
            found = [row for row in self._recalls.values() if self._is_shown(row, fact_id)]
        return sorted(found, key=lambda row: row.at, reverse=True)[:limit]

    def _is_shown(self, row: RecallRow, fact_id: str) -> bool:
        return fact_id in row.shown and fact_id not in self._unshown.get(row.id, ())

    def record_usage(self, row: UsageRow) -> None:
        with self._lock:
            self._state.scopes.setdefault(row.scope, len(self._state.scopes) + 1)
            self._usage.append(row)
            given = usefulness.credited(row.verdicts)
            if given:
                self._judged[row.scope] += 1
                tick = self._judged[row.scope]
                since, earlier = self._counted.get(row.recall_id, (tick, None))
                withdrawn = usefulness.credited(earlier.verdicts) if earlier else {}
                tallies = self._tallies.setdefault(row.scope, {})
                changed = usefulness.tallied(tallies, tick, given, withdrawn, since)
                tallies |= {tally.fact_id: tally for tally in changed}
                self._counted[row.recall_id] = (since, row)
                self._judgements.append((since, row))

    def usage(self, recall_id: str) -> list[UsageRow]:
        with self._lock:
            return [row for row in self._usage if row.recall_id == recall_id]

    def tallies(self, scope_id: int, after: int) -> list[Tally]:
        with self._lock:
            scope = next((scope for scope, id_ in self._state.scopes.items() if id_ == scope_id), None)
            return [tally for tally in self._tallies.get(scope, {}).values() if tally.tick > after] if scope else []

    def judged(self, scope_id: int, after: int, limit: int) -> list[Judged]:
        with self._lock:
            return [
                Judged(number, row.recall_id, tick, row.question, row.verdicts)
                for number, (tick, row) in enumerate(self._judgements, 1)
                if number > after and self._state.scopes[row.scope] == scope_id
            ][-limit:]

    def worth(self, scope_id: int) -> dict[str, tuple[float, float]]:
        with self._lock:
            weights = usefulness.summed(
                (tally, self._judged[scope])
                for scope, tallies in self._tallies.items()
                for tally in tallies.values()
                if tally.fact_id in self._state.facts
                and self._state.scopes[self._state.facts[tally.fact_id].fact.scope] == scope_id
            )
            into = {id_: self._state.facts[id_].fact.consolidated_into for id_ in weights}
            return usefulness.inherited(weights, into)

    def stored_counts(self, scope: Scope | None, *, below: bool) -> list[StoredCount]:
        with self._lock:
            counts = Counter((fact.scope, fact.kind) for fact in self._inside(scope, below=below))
        return [StoredCount(*key, count) for key, count in counts.items()]

    def fact_usages(self, scope: Scope | None, *, below: bool) -> list[FactUsage]:
        with self._lock:
            found = map(self._fact_usage, self._inside(scope, below=below))
            return [usage for usage in found if usage.shown]

    def fact_usage(self, fact_id: str) -> FactUsage | None:
        with self._lock:
            kept = self._state.facts.get(fact_id)
            usage = self._fact_usage(kept.fact) if kept is not None else None
            return usage if usage is not None and usage.shown else None

    def _fact_usage(self, fact: Fact) -> FactUsage:
        shown = sum(self._is_shown(row, fact.id) for row in self._recalls.values())
        tallies = [(held[fact.id], self._judged[by]) for by, held in self._tallies.items() if fact.id in held]
        weights = usefulness.summed(tallies).get(fact.id, (0.0, 0.0))
        judged, used = (sum(getattr(tally, name) for tally, _ in tallies) for name in ("judged", "times_used"))
        return FactUsage(fact.id, fact.scope, fact.kind, shown, judged, used, *weights)

    def never_recalled(self, scope: Scope | None, limit: int, *, below: bool) -> list[str]:
        with self._lock:
            shown = {id_ for row in self._recalls.values() for id_ in row.shown}
            idle = [fact for fact in self._inside(scope, below=below) if fact.id not in shown]
            idle.sort(key=lambda fact: (-fact.importance, self._state.facts[fact.id].born))
            return [fact.id for fact in idle[:limit]]

    def usage_since(self, scope: Scope | None, since: datetime, *, below: bool) -> list[UsageRow]:
        with self._lock:
            return [row for row in self._usage if row.at >= since and _is_inside(row.scope, scope, below=below)]

    def _inside(self, scope: Scope | None, *, below: bool) -> list[Fact]:
        facts = (item.fact for item in self._state.facts.values())
        return [fact for fact in facts if fact.is_recallable and _is_inside(fact.scope, scope, below=below)]

    def parked(self, limit: int = 100) -> list[Parked]:
        with self._lock:
            return list(reversed(self._state.parked))[:limit]

    def park(self, item: Parked) -> None:
        with self._lock:
            self._state.scopes.setdefault(item.scope, len(self._state.scopes) + 1)
            self._state.parked.append(replace(item, id=len(self._state.parked) + 1))

    # --- what forgetting reads and writes ---

    def standings(self, scope_id: int) -> list[Standing]:
        with self._lock:
            return [self._standing(item) for item in sorted(self._recallable(scope_id), key=lambda item: item.born)]

    def _standing(self, item: _Kept) -> Standing:
        fact, key = item.fact, item.features.key
        return Standing(
            id=fact.id,
            kind=fact.kind,
            importance=fact.importance,
            trust=fact.trust,
            pinned=int(fact.pinned),
            created_at=fact.created_at.timestamp(),
            said_at=fact.said_at.timestamp(),
            restored_at=fact.restored_at.timestamp() if fact.restored_at else None,
            valid_until=fact.valid_until.timestamp() if fact.valid_until else None,
            superseded_by=fact.superseded_by,
            session=fact.origin.session,
            twin=f"{key} {fact.origin.channel} {fact.origin.principal}" if key else "",
            length=len(fact.text),
            forget_score=fact.forget_score,
        )

    def session_starts(self, scope_id: int) -> dict[str, float]:
        starts: dict[str, float] = {}
        with self._lock:
            for item in self._state.facts.values():
                session, at = item.fact.origin.session, item.fact.said_at.timestamp()
                if session is not None and self._state.scopes[item.fact.scope] == scope_id:
                    starts[session] = min(at, starts.get(session, at))
        return starts

    def save_scores(self, scores: Sequence[ForgetScore]) -> None:
        with self._lock:
            for item in scores:
                kept = self._state.facts.get(item.fact_id)
                if kept is not None:
                    kept.fact = replace(kept.fact, forget_score=item.score, forget_terms=dict(item.terms))

    # --- settings ---

    def policy(self, scope: Scope) -> PolicyVersion:
        with self._lock:
            for level in scope.lineage:
                versions = [version for version in self._policies if version.scope == level]
                if versions:
                    return versions[-1]
        return PolicyVersion(None, 0, MemoryPolicy.preset("default"))

    def set_policy(
        self, scope: Scope, policy: MemoryPolicy, principal: str, at: datetime, audit: AuditEntry | None = None
    ) -> PolicyVersion:
        with self._lock:
            self.audit.append([audit or AuditEntry(at, principal, "curate", "set_policy", scope, by=chain.STORE)])
            self._state.scopes.setdefault(scope, len(self._state.scopes) + 1)
            version = 1 + sum(item.scope == scope for item in self._policies)
            self._policies.append(PolicyVersion(scope, version, policy, principal, at))
            return self._policies[-1]

    def policy_versions(self, scopes: Sequence[Scope]) -> list[PolicyVersion]:
        with self._lock:
            return [version for version in self._policies if version.scope in scopes]

    def setting(self, name: str) -> str | None:
        return self._settings.get(name)

    def set_setting(self, name: str, value: str, *, only_if_absent: bool = False) -> str:
        with self._lock:
            if not (only_if_absent and name in self._settings):
                self._settings[name] = value
            return self._settings[name]

    def replace_vectors(self, fresh: Iterable[FreshVectors], embedder: str) -> None:
        with self._lock:
            for item in list(fresh):
                kept = self._state.facts[item.fact_id]
                kept.features = replace(kept.features, content=item.content, context=item.context)
                if kept.fact.status is Status.PENDING:
                    kept.fact = replace(kept.fact, status=Status.LIVE)
                self._state.seq += 1
                kept.seq = self._state.scope_seq[kept.fact.scope] = self._state.seq
            self._judgements = [(tick, replace(row, question=None)) for tick, row in self._judgements]
            self._settings["embedder"] = embedder

    # --- nights ---

    def save_night(self, night: Night) -> None:
        with self._lock:
            self._nights[night.id] = night

    def nights(self, limit: int) -> list[Night]:
        with self._lock:
            return sorted(self._nights.values(), key=lambda night: (night.at, night.id), reverse=True)[:limit]

    def save_scope_night(self, night_id: str, scope: Scope, report: Mapping[str, Any]) -> None:
        with self._lock:
            self._scope_nights[night_id, scope] = _copied(dict(report))

    def scope_nights(self, night_id: str) -> list[dict[str, Any]]:
        with self._lock:
            found = sorted((key[1], report) for key, report in self._scope_nights.items() if key[0] == night_id)
            return [_copied(report) for _, report in found]

    # --- the index's books ---

    def generations(self) -> list[Generation]:
        with self._lock:
            return sorted(self._generations.values(), key=lambda generation: generation.id)

    def save_generation(self, generation: Generation) -> None:
        with self._lock:
            self._generations[generation.id] = generation

    def swap_generation(self, live: str) -> None:
        with self._lock:
            for id_, generation in self._generations.items():
                self._generations[id_] = replace(generation, state="live" if id_ == live else "retired")

    def drop_generation(self, generation_id: str) -> None:
        with self._lock:
            self._generations.pop(generation_id, None)
            self._collections = {key: item for key, item in self._collections.items() if key[0] != generation_id}

    def collections(self, generation_id: str) -> list[Collection]:
        with self._lock:
            return [item for key, item in self._collections.items() if key[0] == generation_id]

    def save_collections(self, collections: Sequence[Collection]) -> None:
        with self._lock:
            if any(item.generation not in self._generations for item in collections):
                raise Conflict("Another process replaced this generation of the index.")
            for item in collections:
                self._collections[item.generation, item.scope_id] = item

    def drop_collection(self, collection: Collection) -> None:
        with self._lock:
            self._collections.pop((collection.generation, collection.scope_id), None)

    def lease(self, name: str, holder: str, seconds: float) -> bool:
        now = time.time()
        with self._lock:
            current, until = self._leases.get(name, (holder, 0.0))
            if current != holder and until >= now:
                return False
            self._leases[name] = (holder, now + seconds)
            return True


def _cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {key: _cleaned(item, clean) for key, item in value.items()}
    return [_cleaned(item, clean) for item in value] if isinstance(value, list | tuple) else value


def _cleaned_episode(episode: Episode, clean: Callable[[str], str]) -> Episode:
    return episode.with_messages([message.with_content(clean(message.content)) for message in episode.messages])


def _cleaned_decision(decision: Decision, clean: Callable[[str], str]) -> Decision:
    reason = replace(decision.reason, line=clean(decision.reason.line))
    before, after = _cleaned(decision.before, clean), _cleaned(decision.after, clean)
    return replace(decision, reason=reason, before=before, after=after)


def _is_inside(one: Scope, scope: Scope | None, *, below: bool) -> bool:
    return scope is None or one == scope or (below and scope.contains(one))


def _plain(row: RecallRow) -> RecallRow:
    """The row as JSON would give it back, so that a caller's later changes do not reach the record."""
    return replace(row, facts=_copied(list(row.facts)), dropped=_copied(list(row.dropped)), stages=dict(row.stages))


def _copied(value: T) -> T:
    copy: T = json.loads(json.dumps(value))
    return copy
