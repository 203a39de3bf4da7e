"""Consolidate: facts of one scope that belong together become one; the originals are archived with a link to it.

A plan first, then one transaction per cluster: all of it or nothing. It judges likeness with `measure`, may do what
`floor.legality` allows, and forgets nothing on its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, NamedTuple

import numpy as np

from engram_core.domain.change import Absorb, Consolidate
from engram_core.domain.errors import Conflict, ModelFailed
from engram_core.domain.fact import Fact, Form, Origin, Status
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.floor import legality
from engram_core.measure import clusters, gathering, likeness, sameness, words
from engram_core.measure.columns import vectors
from engram_core.operations.commit import Plan, features_again
from engram_core.operations.context import Context
from engram_core.ports import Features, Hit, Indexed, ScopeState

NEIGHBOURS: Final = 32
"""Facts looked up around each new one."""
WHOLE_FROM: Final = 0.25
"""Share of a scope that may be new before the scope is read whole instead."""
DUPLICATE: Final = 0.87
"""Nominal similarity from which two facts may be duplicates; `sameness.contradiction` has the last word."""
_PAGE: Final = 5_000
_ATTEMPTS: Final = 8
_LIVE: Final = Status.LIVE.value

Progress = Callable[[int, int], None]

MEASURED_LOSS: Final[Mapping[str, str]] = {
    "merge": "Merging changed evidence recall at 400 tokens by 0.0 points.",
    "summarize": "Summaries of half the length cost up to 34 points of evidence recall at 400 tokens where they stand.",
    "prune": "Pruning duplicates changed answer words at 400 tokens by +0.1 points, and at 200 by -2.9.",
}
"""What each strategy costs on labelled conversations (docs/benchmarks.md); a night says so before it starts."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster of a plan: a proposal, and what it is good for.

    Attributes:
        change: What would be done; its reason names the numbers behind it.
        vectors_saved: Live vectors fewer.
        tokens_before, tokens_after: Of the live texts it concerns.
        refusal: Why the floor refuses it; None for one that will be done.
    """

    change: Consolidate | Absorb
    vectors_saved: int
    tokens_before: int
    tokens_after: int
    refusal: Reason | None = None

    @property
    def fact_ids(self) -> tuple[str, ...]:
        """The facts that would be archived."""
        return self.change.fact_ids if isinstance(self.change, Consolidate) else self.change.twin_ids


@dataclass(frozen=True, slots=True)
class Consolidation:
    """What a night would consolidate in one scope.

    Attributes:
        seq: The scope's sequence number the plan was made from.
        strategy: `merge`, `summarize` or `prune`.
        looked_at: Facts that were new since the last night, or all.
        cosine: Raw similarity asked for.
        mark: What the plan depended on besides the facts; remembered with `seq` once it is carried out.
        again: Sequence number after which the next night has to look again, because facts were too young; or None.
    """

    scope: Scope
    seq: int
    strategy: str
    looked_at: int = 0
    cosine: float = 0.0
    clusters: tuple[Cluster, ...] = ()
    mark: str = ""
    again: int | None = None

    @property
    def due(self) -> tuple[Cluster, ...]:
        """The clusters that the floor does not refuse."""
        return tuple(cluster for cluster in self.clusters if cluster.refusal is None)

    @property
    def vectors_saved(self) -> int:
        """Live vectors fewer, all clusters together."""
        return sum(cluster.vectors_saved for cluster in self.due)

    @property
    def tokens_saved(self) -> int:
        """Tokens of live text fewer, all clusters together."""
        return sum(cluster.tokens_before - cluster.tokens_after for cluster in self.due)

    @property
    def cost(self) -> str:
        """What the strategy costs, as measured."""
        return MEASURED_LOSS[self.strategy]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: the plan with each cluster's facts, text, reason and savings."""
        return {
            "scope": self.scope.path,
            "strategy": self.strategy,
            "looked_at": self.looked_at,
            "cosine": self.cosine,
            "vectors_saved": self.vectors_saved,
            "tokens_saved": self.tokens_saved,
            "cost": self.cost,
            "clusters": [_told(cluster) for cluster in self.clusters],
        }


@dataclass(frozen=True, slots=True)
class Consolidated:
    """What was consolidated: ids of the facts that now stand for others, and how many originals were archived."""

    fact_ids: tuple[str, ...] = ()
    archived: int = 0
    refused: int = 0
    moved: int = 0
    """Clusters given up because their facts changed meanwhile; the next night sees them again."""


def plan(
    context: Context,
    scope: Scope,
    now: datetime,
    *,
    policy: MemoryPolicy | None = None,
    anew: bool = False,
    without: Collection[str] = (),
) -> Consolidation:
    """What to consolidate in one scope; it writes nothing.

    Args:
        context: The store.
        scope: This very scope.
        now: Time of the judgement.
        policy: Default the scope's.
        anew: Look at every fact, not only at those changed since the last night.
        without: Ids of facts to leave out: those that would be archived before, in a rehearsal.

    Returns:
        Deterministic for a given state. What was looked at last time is not looked at again, unless the policy's
        strategy, similarity or size changed. Facts that are pinned, have a slot or wait for an embedding are left out;
        facts of different speakers, validity or trust never meet.

    Raises:
        StoreUnavailable, EmbeddingFailed.
    """
    policy = policy or context.ledger.policy(scope).policy
    states = context.ledger.scopes([scope])
    if not states:
        return Consolidation(scope, 0, policy.compression_strategy)
    state = states[0]
    least = likeness.raw(_nominal(policy), _related(context))
    mark = _mark(context, policy, least)
    pool = _pool(context, state, 0 if anew else _seen(context, state.id, mark)).less(frozenset(without))
    planner = _Planner(context, scope, now, policy, least)
    found = tuple(planner.clusters(pool))
    again = _again(pool, found)
    return Consolidation(scope, state.seq, policy.compression_strategy, len(pool.fresh), least, found, mark, again)


def apply(
    context: Context,
    planned: Consolidation,
    principal: str,
    now: datetime,
    *,
    run_id: str | None = None,
    progress: Progress | None = None,
) -> Consolidated:
    """Do what a plan says, cluster by cluster, each in one transaction; judged again on the facts as they are then.

    Args:
        context: The store.
        planned: From `plan`.
        principal: Who acts.
        now: Time of the change.
        run_id: Noted with every decision.
        progress: Called with (clusters done, clusters in all).

    Returns:
        What was done. A killed run leaves whole clusters only; the next plan finds the rest.
    """
    hand = _Hand(context, planned.scope, principal, now, run_id, planned.seq)
    for number, cluster in enumerate(planned.due, 1):
        hand.take(cluster.change)
        if progress is not None:
            progress(number, len(planned.due))
    if planned.mark:
        seen = hand.seen if planned.again is None else min(hand.seen, planned.again)
        _remember(context, planned.scope, planned.mark, seen)
    return Consolidated(tuple(hand.made), hand.archived, hand.refused, hand.moved)


# --- what was looked at ----------------------------------------------------------------------------------------------


def _nominal(policy: MemoryPolicy) -> float:
    wanted = policy.cluster_similarity
    return max(wanted, DUPLICATE) if policy.compression_strategy == "prune" else wanted


def _related(context: Context) -> float:
    """The raw cosine of nominal 0.8: measured on conversations, else once per store on our own sentences."""
    known = likeness.measured(context.embedder.name)
    if known is not None:
        return known
    name = f"likeness/{context.embedder.name}"[:100]
    kept = context.ledger.setting(name)
    if kept is None:
        kept = context.ledger.set_setting(name, f"{likeness.related(context.embedder.embed(likeness.SENTENCES)):.4f}")
    return float(kept)


def _mark(context: Context, policy: MemoryPolicy, least: float) -> str:
    """What a night's looking depends on: with another one everything has to be looked at again."""
    return f"{policy.compression_strategy} {least:.4f} {policy.cluster_size} {context.embedder.name}"


def _setting(scope_id: int) -> str:
    return f"consolidated/{scope_id}"


def _seen(context: Context, scope_id: int, mark: str) -> int:
    """The sequence number up to which the scope was looked at."""
    kept = context.ledger.setting(_setting(scope_id))
    if kept is None:
        return 0
    seq, _, same = kept.partition(" ")
    return int(seq) if same == mark else 0


def _remember(context: Context, scope: Scope, mark: str, seq: int) -> None:
    for state in context.ledger.scopes([scope]):
        context.ledger.set_setting(_setting(state.id), f"{seq} {mark}")


class _Row(NamedTuple):
    """What clustering needs of a fact."""

    id: str
    seq: int
    group: tuple[object, ...]
    length: int
    is_merged: bool
    content: bytes
    context: bytes


def _row(row: Indexed, *, with_context: bool = True) -> _Row | None:
    """None for what cannot be clustered: not live, or without vectors."""
    if row.status != _LIVE or row.content is None or row.context is None:
        return None
    group = (row.speaker, row.trust, row.valid_from, row.valid_until)
    return _Row(
        row.id, row.seq, group, row.body_length, row.members != "[]", row.content, row.context if with_context else b""
    )


def _changed(context: Context, scope_id: int, after: int) -> Iterator[_Row]:
    """The rows that changed after a sequence number, page by page, so that only what is needed stays in memory."""
    latest: dict[str, _Row | None] = {}
    last = after
    while page := context.ledger.changes(scope_id, last, _PAGE):
        # Neighbours are looked up by context vectors, and only around what is new.
        latest |= {row.id: _row(row, with_context=after > 0) for row in page}
        last = page[-1].seq
    return (row for row in latest.values() if row is not None)


@dataclass(frozen=True, slots=True)
class _Pool:
    """Rows to cluster, oldest first; a cluster needs one that nobody has looked at, which are the `fresh` ones."""

    fresh: frozenset[str]
    rows: Sequence[_Row]

    def less(self, ids: frozenset[str]) -> _Pool:
        """The pool without some facts."""
        return _Pool(self.fresh - ids, [row for row in self.rows if row.id not in ids]) if ids else self


def _pool(context: Context, state: ScopeState, after: int) -> _Pool:
    """What is new since `after` with what lies near it, or everything."""
    rows = {row.id: row for row in _changed(context, state.id, after)}
    fresh = frozenset(row.id for row in rows.values() if not row.is_merged)
    if after and len(fresh) > WHOLE_FROM * state.live:
        rows = {row.id: row for row in _changed(context, state.id, 0)}
    elif after:
        near = {hit.id for id_ in fresh for hit in _near(context, state, rows[id_])} - rows.keys()
        found = map(_row, context.ledger.indexed(sorted(near)))
        rows |= {row.id: row for row in found if row is not None}
    return _Pool(fresh, sorted(rows.values(), key=lambda row: row.id))


def _again(pool: _Pool, found: Sequence[Cluster]) -> int | None:
    """The number before the first fact that was only too young today."""
    young = {
        id_ for cluster in found if cluster.refusal and cluster.refusal.rule == "protected" for id_ in cluster.fact_ids
    }
    return min((row.seq - 1 for row in pool.rows if row.id in young), default=None)


def _near(context: Context, state: ScopeState, row: _Row) -> list[Hit]:
    vector = np.frombuffer(row.context, dtype="<f2").astype(np.float32)
    return context.finder.nearest(state, vector, NEIGHBOURS).hits


# --- planning --------------------------------------------------------------------------------------------------------


class _Planner:
    """Turns rows that lie close together into proposals, and lets the floor judge them."""

    def __init__(self, context: Context, scope: Scope, now: datetime, policy: MemoryPolicy, least: float) -> None:
        self._context = context
        self._scope = scope
        self._now = now
        self._policy = policy
        self._least = least
        self._is_pruning = policy.compression_strategy == "prune"
        self._size = 2 if self._is_pruning else policy.cluster_size

    def clusters(self, pool: _Pool) -> Iterator[Cluster]:
        """Proposals for each group of facts that may meet."""
        groups: defaultdict[tuple[object, ...], list[_Row]] = defaultdict(list)
        for row in pool.rows:
            groups[row.group].append(row)
        for rows in groups.values():
            if any(row.id in pool.fresh for row in rows):
                yield from self._group(rows, pool.fresh)

    def _group(self, rows: Sequence[_Row], fresh: frozenset[str]) -> Iterator[Cluster]:
        alone = [row for row in rows if not row.is_merged]
        seeds = [row for row in rows if row.is_merged]
        if self._is_pruning:
            # The longest leads: what stands for the others should say the most.
            alone.sort(key=lambda row: (-row.length, row.id))
            seeds = []
        found = clusters.clusters(_matrix(alone), self._least, self._size, _matrix(seeds) if seeds else None)
        joining: defaultdict[int, list[str]] = defaultdict(list)
        for place, seed in found.joined.items():
            joining[seed].append(alone[place].id)
        for seed, ids in sorted(joining.items()):
            yield from self._joined(seeds[seed].id, ids)
        for group in found.groups:
            ids = [alone[place].id for place in group]
            if fresh.intersection(ids):
                yield from self._pruned([alone[place] for place in group]) if self._is_pruning else self._new(ids)

    def _eligible(self, ids: Sequence[str]) -> list[Fact]:
        """The facts that may be taken in; a slot's value must stay findable as that, and pins say "leave it"."""
        facts = self._context.ledger.facts(ids)
        return [fact for fact in facts if fact.status is Status.LIVE and not fact.pinned and _may_meet(fact)]

    def _expendable(self, ids: Sequence[str]) -> set[str]:
        """The facts that may go as duplicates; one that stands for others would take them out of reach."""
        return {fact.id for fact in self._eligible(ids) if not fact.consolidated_from}

    def _new(self, ids: Sequence[str]) -> Iterator[Cluster]:
        facts = sorted(self._eligible(ids), key=_when)
        if len(facts) < self._size:
            return
        for run in gathering.runs(_said(facts)):
            part = [facts[place] for place in run]
            if len(part) > 1:
                yield self._proposal(part)

    def _proposal(self, facts: Sequence[Fact]) -> Cluster:
        if self._policy.compression_strategy == "summarize":
            for text in self._summaries(facts):
                cluster = self._judged(facts, Consolidate(_ids(facts), text, "summary", self._reason(facts)))
                if cluster.refusal is None:
                    return cluster
        return self._judged(
            facts, Consolidate(_ids(facts), gathering.merged(_said(facts)), "merged", self._reason(facts))
        )

    def _summaries(self, facts: Sequence[Fact]) -> Iterator[str]:
        """A model's summary, then an extractive one. A merge is what is left when the floor refuses both."""
        if self._context.model is not None:
            from engram_core.models.summary import summarize  # noqa: PLC0415 - only where there is a model

            with suppress(ModelFailed):
                yield summarize(facts, self._context.model)
        yield gathering.summary(_said(facts))

    def _joined(self, into: str, ids: Sequence[str]) -> Iterator[Cluster]:
        held = self._context.ledger.facts([into])
        facts = sorted(self._eligible(ids), key=_when)
        if not held or held[0].status is not Status.LIVE or held[0].pinned or held[0].superseded_by or not facts:
            return
        leaves = self._context.ledger.facts(held[0].consolidated_from)
        everybody = sorted([*leaves, *facts], key=_when)
        if len(gathering.runs(_said(everybody))) > 1:
            # Full: newcomers wait until they are a cluster of their own.
            yield from self._new(_ids(facts))
            return
        change = Consolidate(_ids(facts), gathering.merged(_said(everybody)), "merged", self._reason(facts), into)
        yield self._judged(facts, change, held[0])

    def _pruned(self, rows: Sequence[_Row]) -> Iterator[Cluster]:
        """Each fact goes to the first that says more, is near enough and contradicts it in nothing."""
        facts = {fact.id: fact for fact in self._context.ledger.facts([row.id for row in rows])}
        matrix = {row.id: vector for row, vector in zip(rows, _matrix(rows), strict=True)}
        may_go = self._expendable(list(facts))
        kept: dict[str, list[Fact]] = {}
        for fact in sorted(facts.values(), key=lambda fact: (not fact.pinned, *_weight(fact))):
            near = (
                id_
                for id_ in kept
                if fact.id in may_go
                and float(matrix[id_] @ matrix[fact.id]) >= self._least
                and sameness.contradiction(facts[id_].text, fact.text) is None
            )
            same = next(near, None)
            if same is None:
                kept[fact.id] = []
            else:
                kept[same].append(fact)
        for id_, twins in kept.items():
            if twins:
                terms = {"facts": float(len(twins) + 1), "cosine": self._least}
                reason = Reason("near_duplicate", f"{len(twins)} facts say the same with fewer words.", terms)
                yield self._judged(twins, Absorb(id_, _ids(twins), reason), facts[id_])

    def _reason(self, facts: Sequence[Fact]) -> Reason:
        terms = {
            "facts": float(len(facts)),
            "cosine": round(self._least, 4),
            "nominal": self._policy.cluster_similarity,
        }
        return Reason("related", f"{len(facts)} facts are at least {self._least:.2f} similar to one of them.", terms)

    def _judged(self, facts: Sequence[Fact], change: Consolidate | Absorb, other: Fact | None = None) -> Cluster:
        known = {fact.id: fact for fact in ([*facts, other] if other else facts)}
        refusal = legality.judge(
            change, scope=self._scope, facts=known, by_person=False, policy=self._policy, now=self._now
        )
        count = self._context.counter.count
        before = sum(count(fact.display) for fact in known.values())
        after = count(change.text) if isinstance(change, Consolidate) else count(known[change.fact_id].display)
        saved = len(facts) - (isinstance(change, Consolidate) and other is None)
        return Cluster(change, saved, before, after, refusal)


def _matrix(rows: Sequence[_Row]) -> clusters.Floats:
    dimension = len(rows[0].content) // 2 if rows else 1
    return clusters.unit(vectors([row.content for row in rows], dimension))


def _may_meet(fact: Fact) -> bool:
    return fact.slot is None and fact.form != "apart" and fact.superseded_by is None


def _when(fact: Fact) -> tuple[datetime, str]:
    return fact.said_at, fact.id


def _weight(fact: Fact) -> tuple[int, int, str]:
    """Sorts the fact that says most first; of equal ones the older."""
    return -len(set(words.stems(fact.text))), -len(fact.text), fact.id


def _said(facts: Sequence[Fact]) -> list[gathering.Said]:
    return [gathering.Said(fact.text, fact.said_at, fact.speaker) for fact in facts]


def _ids(facts: Sequence[Fact]) -> tuple[str, ...]:
    return tuple(fact.id for fact in facts)


def _told(cluster: Cluster) -> dict[str, Any]:
    change = cluster.change
    return {
        "fact_ids": list(cluster.fact_ids),
        "into": change.into if isinstance(change, Consolidate) else change.fact_id,
        "form": change.form if isinstance(change, Consolidate) else "duplicate",
        "text": change.text if isinstance(change, Consolidate) else None,
        "rule": change.reason.rule,
        "line": change.reason.line,
        "vectors_saved": cluster.vectors_saved,
        "tokens_before": cluster.tokens_before,
        "tokens_after": cluster.tokens_after,
        "refused": str(cluster.refusal) if cluster.refusal else None,
    }


# --- doing -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Hand:
    """Writes clusters, each in one transaction, from the facts as they are at that moment.

    Attributes:
        last: The scope's sequence number after our latest write.
        strange: The number before the first write that was not ours; what came after it is looked at next time.
    """

    context: Context
    scope: Scope
    principal: str
    now: datetime
    run_id: str | None
    last: int
    strange: int | None = None
    made: list[str] = field(default_factory=list)
    archived: int = 0
    refused: int = 0
    moved: int = 0

    @property
    def seen(self) -> int:
        """Up to where the scope was looked at."""
        return self.last if self.strange is None else self.strange

    def take(self, change: Consolidate | Absorb) -> None:
        """Do one change; if others keep writing to the scope, leave it to the next night."""
        with self.context.turnstiles.of(self.scope):
            for _ in range(_ATTEMPTS):
                seq = self.context.ledger.scopes([self.scope])[0].seq
                if seq != self.last and self.strange is None:
                    self.strange = self.last
                try:
                    self.last = self._write(change, seq)
                except Conflict:
                    continue
                return
        self.moved += 1

    def _write(self, change: Consolidate | Absorb, expect: int) -> int:
        """Commit one change; return the scope's sequence number then. Raises Conflict."""
        ledger = self.context.ledger
        into = change.into if isinstance(change, Consolidate) else change.fact_id
        ids = change.fact_ids if isinstance(change, Consolidate) else change.twin_ids
        facts = {fact.id: fact for fact in ledger.facts([*ids, *([into] if into else [])])}
        policy = ledger.policy(self.scope).policy
        refusal = legality.judge(change, scope=self.scope, facts=facts, by_person=False, policy=policy, now=self.now)
        done = Plan(self.context, self.scope, self.principal, self.now)
        if refusal is not None:
            gone = refusal.rule in {"unknown_fact", "not_live", "erased"}
            self.moved, self.refused = self.moved + gone, self.refused + (not gone)
            done.decide("consolidate", refusal, fact_id=into or ids[0], refused=True)
            ledger.commit(done.seal(None)[0])
            return expect
        reason = self._noted(change.reason)
        if isinstance(change, Consolidate):
            fact = consolidated(done, change, [facts[id_] for id_ in ids], facts.get(into or ""), reason)
        else:
            fact = absorbed(done, facts[change.fact_id], [facts[id_] for id_ in ids], reason)
        last = ledger.commit(done.seal(expect)[0])
        self.context.finder.wake()
        self.made.append(fact.id)
        self.archived += len(ids)
        return last

    def _noted(self, reason: Reason) -> Reason:
        return replace(reason, line=f"{reason.line} Night {self.run_id}.") if self.run_id else reason


def consolidated(plan_: Plan, change: Consolidate, facts: Sequence[Fact], into: Fact | None, reason: Reason) -> Fact:
    """Plan the fact that stands for others and their archiving, and return it.

    Facts that stand for others themselves hand their originals on: links lead to the leaves, never to a link.
    """
    context = plan_.context
    leaves = {fact.id: fact for fact in facts if not fact.consolidated_from}
    inner = [fact for fact in facts if fact.consolidated_from]
    handed = [id_ for fact in [*inner, *([into] if into else [])] for id_ in fact.consolidated_from]
    leaves |= {fact.id: fact for fact in context.ledger.facts(handed)}
    originals = sorted(leaves.values(), key=_when)
    rows = {row.id: row for row in context.ledger.indexed(_ids([*originals, *inner]))}
    # A merge is made of the originals as they are now; a summary was judged with them.
    text = gathering.merged(_said(originals)) if change.form == "merged" else change.text
    fact = standing_for(plan_, originals, text, into, change.form)
    features = features_of(fact, [rows[item.id] for item in originals if item.id in rows])
    if into is None:
        told = {"text": text, "form": change.form, "consolidated_from": list(fact.consolidated_from)}
        plan_.insert(fact, features, reason, "consolidate", told)
    else:
        plan_.replace(into, fact, reason, "consolidate", features)
    why = Reason(reason.rule, f"Its words are in {fact.id}.", reason.terms)
    for original in originals:
        if original.consolidated_into != fact.id:
            _retire(plan_, original, rows[original.id], fact.id, why)
    for link in inner:
        _retire(plan_, replace(link, consolidated_from=()), rows[link.id], fact.id, why)
    return fact


def absorbed(plan_: Plan, kept: Fact, twins: Sequence[Fact], reason: Reason) -> Fact:
    """Plan the archiving of duplicates; the kept fact inherits their messages, and the highest importance."""
    rows = {row.id: row for row in plan_.context.ledger.indexed(_ids([kept, *twins]))}
    messages = dict.fromkeys(id_ for fact in [kept, *twins] for id_ in fact.origin.message_ids)
    after = replace(
        kept,
        origin=replace(kept.origin, message_ids=tuple(messages)),
        importance=max(fact.importance for fact in [kept, *twins]),
        version=kept.version + 1,
    )
    plan_.replace(kept, after, reason, "consolidate", features_again(plan_.context, after, rows[kept.id]))
    why = Reason(reason.rule, f"{kept.id} says the same.", reason.terms)
    for twin in twins:
        _retire(plan_, twin, rows[twin.id], kept.id, why)
    return after


def _retire(plan_: Plan, fact: Fact, row: Indexed, into: str, why: Reason) -> None:
    at = fact.archived_at or plan_.now
    after = replace(fact, status=Status.ARCHIVED, archived_at=at, archived_reason=str(why), consolidated_into=into)
    plan_.replace(fact, after, why, "consolidate", features_again(plan_.context, after, row))


def rebuilt(plan_: Plan, fact: Fact, originals: Sequence[Fact], reason: Reason) -> None:
    """Plan a merged fact anew from fewer originals."""
    ordered = sorted(originals, key=_when)
    rows = {row.id: row for row in plan_.context.ledger.indexed(_ids(ordered))}
    after = standing_for(plan_, ordered, gathering.merged(_said(ordered)), fact)
    after = replace(after, status=fact.status)
    plan_.replace(fact, after, reason, "consolidate", features_of(after, [rows[item.id] for item in ordered]))


def standing_for(plan_: Plan, originals: Sequence[Fact], text: str, into: Fact | None, form: Form = "merged") -> Fact:
    """The fact that stands for `originals`: their highest importance, their lowest trust and confidence."""
    speakers = {fact.speaker for fact in originals}
    least = min(originals, key=lambda fact: fact.trust)
    # A label such as [web] must not be lost on the way.
    channel = least.origin.channel if least.origin.channel in {"tool", "web", "import"} else "derived"
    base = into or Fact(
        id=plan_.context.new_id(),
        scope=plan_.scope,
        text=text,
        origin=Origin(plan_.principal, channel),
        created_at=plan_.now,
        said_at=plan_.now,
        version=0,
    )
    messages = dict.fromkeys(id_ for fact in originals for id_ in fact.origin.message_ids)
    return replace(
        base,
        text=text,
        form=form,
        origin=replace(base.origin, channel=channel, message_ids=tuple(messages)),
        said_at=max(fact.said_at for fact in originals),
        version=base.version + 1,
        speaker=next(iter(speakers)) if len(speakers) == 1 else None,
        kind=Counter(fact.kind for fact in originals).most_common(1)[0][0],
        importance=max([base.importance if into else 0.0, *(fact.importance for fact in originals)]),
        confidence=min(fact.confidence for fact in originals),
        trust=least.trust,
        valid_from=originals[0].valid_from,
        valid_until=originals[0].valid_until,
        consolidated_from=_ids(originals),
        is_consolidated=True,
        subjects=tuple(dict.fromkeys(name for fact in originals for name in fact.subjects)),
    )


def features_of(fact: Fact, rows: Sequence[Indexed]) -> Features:
    """Found by every word of its originals and their contexts, and by the mean of their vectors."""
    body = tuple(words.stems(fact.text))
    around = dict.fromkeys(stem for row in rows for stem in row.context_stems.split())
    return Features(
        key=sameness.key(fact.text, fact.speaker, fact.said_at),
        body_stems=body,
        context_stems=(*body, *(stem for stem in around if stem not in set(body))),
        content=_mean([row.content for row in rows]),
        context=_mean([row.context for row in rows]),
        time_words=max((row.time_words for row in rows), default=0.0),
        asks=False,
    )


def _mean(blobs: Sequence[bytes | None]) -> Any:
    held = [blob for blob in blobs if blob is not None]
    if not held:
        return None
    return clusters.unit(vectors(held, len(held[0]) // 2).mean(axis=0)).astype(np.float16)
