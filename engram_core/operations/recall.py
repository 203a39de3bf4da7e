"""Recall: query → access → design → budget → a fenced context, recorded. Read-only for designs; never calls a model."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from engram_core.design import Design, View
from engram_core.domain.errors import InvalidInput, StoreUnavailable
from engram_core.domain.fact import Fact
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.reason import Reason
from engram_core.domain.recall import Dropped, Query, Recall, Scored, ScoredFact
from engram_core.domain.scope import Scope
from engram_core.floor import budget
from engram_core.measure import dates, succession
from engram_core.measure.citations import strip_citations
from engram_core.operations import gate, standby, warden
from engram_core.operations.add import view_of, view_on
from engram_core.operations.context import Context
from engram_core.operations.past import PastView, Time, stand_ins
from engram_core.operations.rerank import RERANKED, reranked
from engram_core.ports import PolicyVersion, RecallRow

logger = logging.getLogger("engram")

MAX_K = 300
MAX_QUERY_BYTES = 32 * 1024
_MARKER_DIGITS = 8
"""Decimal ones: they cost half the tokens of hexadecimal ones, and stored text cannot write a fence anyway."""
_LONGEST_CHAIN = 3
"""Links followed from a ranked fact to newer ones: each step is one more read of the ledger."""
_READ_FIRST = 6
"""Facts read beyond what is asked for, before it is known how many of them the rules drop."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A caller's recall, validated.

    Raises:
        InvalidInput: A blank or oversized query, or a number out of range.
    """

    text: str
    k: int
    max_tokens: int | None
    min_score: float | None
    kinds: frozenset[str]
    session: str | None
    as_of: datetime | None = None
    include_archived: bool = False
    is_cited: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise InvalidInput("recall() needs a question or some words to look for; it got none.")
        if len(self.text.encode("utf-8", "replace")) > MAX_QUERY_BYTES:
            raise InvalidInput(f"The query is larger than {MAX_QUERY_BYTES // 1024} KiB; send the question only.")
        if not isinstance(self.k, int) or not 1 <= self.k <= MAX_K:
            raise InvalidInput(f"k must be a whole number from 1 to {MAX_K}, not {self.k!r}.")
        if self.max_tokens is not None and (not isinstance(self.max_tokens, int) or self.max_tokens < 1):
            raise InvalidInput(f"max_tokens must be a whole number of at least 1, not {self.max_tokens!r}.")
        if self.min_score is not None and not isinstance(self.min_score, int | float):
            raise InvalidInput(f"min_score must be a number, not {self.min_score!r}.")


class _Stopwatch:
    """Milliseconds per stage; a stage met twice adds up."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, stage: str, inner: Mapping[str, float] | None = None) -> None:
        """Book the time since the last lap on `stage`, less what `inner` stages took of it."""
        now = time.perf_counter()
        spent = (now - self._since) * 1000
        for name, part in (inner or {}).items():
            self.stages[name] = round(self.stages.get(name, 0.0) + part, 3)
            spent -= part
        self.stages[stage] = round(self.stages.get(stage, 0.0) + spent, 3)
        self._since = now


@dataclass(frozen=True, slots=True)
class _Choice:
    """Candidates, and what the floor made of the ones whose facts were read."""

    scored: Sequence[Scored]
    ranked: Sequence[budget.Ranked]
    packed: budget.Packed
    gone: Sequence[Dropped]
    unread: Sequence[Scored]


def recall(
    context: Context, scope: Scope, principal: str, asked: Asked, now: datetime, *, rehearsed: Design | None = None
) -> Recall:
    """Retrieve for a query; see `Memory.recall`. With `rehearsed`, as that design would: nothing is recorded."""
    watch = _Stopwatch()
    outset = context.ledger.outset(scope)
    policy = outset.policy
    sight = warden.sight(context, principal, scope, now, "recall", rules=outset.rules)
    time = Time(asked.as_of, asked.include_archived, now, policy.policy)
    states = [state for state in outset.states if state.scope in sight.scopes]
    view = view_on(context, scope, time.moment, states, policy.policy)
    if not time.is_now:
        view = PastView.over(view, context.ledger.scopes(list(sight.scopes)), time.admits)
    view.question = asked.text
    watch.lap("ledger")
    ranking, failed = _ranked(context, scope, policy.policy.design, view, asked, time, now, rehearsed)
    watch.lap("score", view.spent)
    newer_of = _newer_of(context, [item.fact_id for item in ranking], time)
    ranking, note = _reranked(context, ranking, frozenset(sight.scopes), asked, policy.policy)
    watch.lap("rerank" if context.reranker is not None else "score")
    ranking = succession.placed(ranking, newer_of) if newer_of else ranking
    notes = tuple(line for line in (failed, note) if line is not None)
    choice = _chosen(context, list(ranking), sight, asked, policy.policy, time, watch, newer_of)
    packed = choice.packed
    result = Recall(
        id=context.new_id(),
        query=asked.text,
        text=packed.text,
        tokens=packed.tokens,
        facts=_shown(choice),
        dropped=tuple(_losers(choice, asked)),
        degraded=view.degraded or bool(notes),
        token_counter=context.counter.name,
        stages=watch.stages,
        notes=notes,
    )
    watch.lap("render")
    if rehearsed is not None:
        return result
    _record(context, result, scope, principal, asked, now, policy)
    watch.lap("record")
    warden.seen(context, sight, [item.fact.id for item in result.facts])
    context.injected.note(scope, principal, _injected(choice))
    return result


def _ranked(
    context: Context,
    scope: Scope,
    name: str,
    view: View,
    asked: Asked,
    time: Time,
    now: datetime,
    rehearsed: Design | None,
) -> tuple[Sequence[Scored], str | None]:
    """The ranking of the design in force, or of the one that is tried; and why the built-in one made it if it did."""
    query = Query(asked.text, asked.k, time.moment, asked.kinds)
    if rehearsed is not None:
        return rehearsed.retrieve(query, view), None
    ranking, failed = standby.ask(context, scope, name, lambda design: list(design.retrieve(query, view)), now)
    return ranking, failed.line if failed is not None else None


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What a recall would have shown under some policy: facts as rendered, best first, and the tokens of the text."""

    facts: tuple[Fact, ...]
    tokens: int


def rehearse(
    context: Context,
    scope: Scope,
    sight: warden.Sight,
    asked: Asked,
    policy: MemoryPolicy,
    at: datetime,
) -> Rehearsed:
    """Answer a past recall again under another policy, from what was known then and is still there; record nothing.

    Args:
        scope, sight: Where it was asked, and where it may look.
        asked: What was asked.
        policy: The one to try.
        at: When it was asked; facts stored later are left out.
    """
    time = Time(None, False, at, policy)
    view, _ = view_of(context, scope, at, readable=sight.scopes, policy=policy)
    view.question = asked.text
    query = Query(asked.text, asked.k, at, asked.kinds)
    ranking, _ = standby.ask(
        context, scope, policy.design, lambda design: list(design.retrieve(query, view)), at, is_live=False
    )
    newer_of = _newer_of(context, [item.fact_id for item in ranking], time)
    ranking = list(succession.placed(ranking, newer_of)) if newer_of else ranking
    reach = 3 * (asked.k + _READ_FIRST)
    named = frozenset(item.fact_id for item in ranking)
    _, ranked, _ = _hydrated(context, ranking[:reach], {}, named, sight, time, newer_of)
    known = [item for item in ranked if item.fact.created_at <= at]
    packed = budget.pack(known, _limits(asked, policy, time), policy, "0" * _MARKER_DIGITS, context.counter.count)
    return Rehearsed(tuple(known[line.place].fact for line in packed.lines), packed.tokens)


def _limits(asked: Asked, policy: MemoryPolicy, time: Time) -> budget.Limits:
    is_about_time = dates.asks_when(asked.text) or bool(dates.named_dates(asked.text))
    budgeted = asked.max_tokens or policy.token_budget
    return budget.Limits(
        asked.k, budgeted, asked.min_score, time.moment, asked.kinds, is_about_time, asked.text, asked.is_cited
    )


def _injected(choice: _Choice) -> list[str]:
    """What a prompt now holds: the lines, and their days in the ways an answer may spell them."""
    lines = choice.packed.lines
    days = {choice.ranked[line.place].fact.said_at.date() for line in lines}
    return [*(_unmarked(line) for line in lines), *(f"{day.day} {day:%b %B %Y}" for day in sorted(days))]


def _unmarked(line: budget.Line) -> str:
    return line.text if line.marker is None else strip_citations(line.text)


def _chosen(
    context: Context,
    ranking: Sequence[Scored],
    sight: warden.Sight,
    asked: Asked,
    policy: MemoryPolicy,
    time: Time,
    watch: _Stopwatch,
    newer_of: Mapping[str, succession.Newer],
) -> _Choice:
    """Read the best candidates' facts and pack them; read on only while there is room for more."""
    limits = _limits(asked, policy, time)
    marker = f"{context.rng.randrange(10**_MARKER_DIGITS):0{_MARKER_DIGITS}d}"
    reach = asked.k + _READ_FIRST
    named = frozenset(item.fact_id for item in ranking)
    facts: dict[str, Fact] = {}
    while True:
        scored, ranked, gone = _hydrated(context, ranking[:reach], facts, named, sight, time, newer_of)
        watch.lap("ledger")
        packed = budget.pack(ranked, limits, policy, marker, context.counter.count)
        watch.lap("render")
        if reach >= len(ranking) or packed.is_full:
            return _Choice(scored, ranked, packed, gone, ranking[reach:])
        reach = len(ranking)


def _reranked(
    context: Context, ranking: Sequence[Scored], readable: frozenset[Scope], asked: Asked, policy: MemoryPolicy
) -> tuple[Sequence[Scored], str | None]:
    """The ranking after the store's reranker, if it has one; and what went wrong with it."""
    if context.reranker is None or not policy.rerank_weight:
        return ranking, None
    facts = {fact.id: fact for fact in context.ledger.facts([item.fact_id for item in ranking[:RERANKED]])}
    return reranked(ranking, facts, readable, asked.text, context.reranker, policy.rerank_weight)


def _newer_of(context: Context, ids: Sequence[str], time: Time) -> dict[str, succession.Newer]:
    """For each ranked fact the newest one that may replace it, by the last word on each pair; and for those again."""
    found: dict[str, succession.Newer] = {}
    wanted = list(ids)
    for _ in range(_LONGEST_CHAIN):
        if not wanted:
            break
        here = set(wanted)
        words = {(link.newer, link.older): link for link in context.ledger.links(wanted) if link.older in here}
        said = [link for link in words.values() if link.verdict == "update"]
        if not said:
            break
        shown = _showable(context, [link.newer for link in said], time)
        fresh = {
            link.older: succession.Newer(link.newer, link.probability)
            for link in said
            if link.newer in shown and link.older not in found
        }
        found |= fresh
        wanted = [newer.id for newer in fresh.values() if newer.id not in found]
    return found


def _showable(context: Context, ids: Sequence[str], time: Time) -> set[str]:
    """Those of the facts that may be shown, for themselves or as originals of a merged fact that may."""
    facts = {fact.id: fact for fact in context.ledger.facts(ids)}
    if not time.is_now:
        stands = stand_ins(context.ledger, facts.values())
        return {id_ for id_, fact in facts.items() if time.admits(fact, stands.get(id_))}
    into = {fact.consolidated_into for fact in facts.values() if fact.consolidated_into} - facts.keys()
    facts |= {fact.id: fact for fact in context.ledger.facts(sorted(filter(None, into)))} if into else {}
    return {id_ for id_ in ids if id_ in facts and time.admits(_parent(facts[id_], facts) or facts[id_])}


def _losers(choice: _Choice, asked: Asked) -> Iterator[Dropped]:
    for place, reason in choice.packed.dropped:
        yield _dropped(choice.scored[place], choice.ranked[place], reason)
    outranked = Reason("rank", f"{asked.k} better facts are shown already.")
    for item in choice.unread:
        yield Dropped(item.fact_id, "", item.score, dict(item.terms), outranked)
    yield from choice.gone


def _hydrated(
    context: Context,
    scored: Sequence[Scored],
    facts: dict[str, Fact],
    named: frozenset[str],
    sight: warden.Sight,
    time: Time,
    newer_of: Mapping[str, succession.Newer],
) -> tuple[list[Scored], list[budget.Ranked], list[Dropped]]:
    """Load what the design ranked into `facts` and check every row again: scope, status and existence."""
    unread = [item.fact_id for item in scored if item.fact_id not in facts]
    facts |= {fact.id: fact for fact in warden.checked(context, sight, context.ledger.facts(unread))}
    scored = _opened(context, scored, facts, named, sight)
    stands = {} if time.is_now else stand_ins(context.ledger, facts.values())
    kept: list[Scored] = []
    ranked: list[budget.Ranked] = []
    gone: list[Dropped] = []
    for item in scored:
        fact = facts.get(item.fact_id)
        # Of another time the originals are shown themselves: what stands for them now need not have been there.
        parent = _parent(fact, facts) if time.as_of is None else None
        reason = _refusal(parent or fact, time, stands.get(item.fact_id) if parent is None else None)
        if reason is None and fact is not None:
            kept.append(item)
            newer = newer_of.get(item.fact_id)
            newer_id = newer.id if newer is not None else None
            ranked.append(budget.Ranked(fact, item.score, parent, newer_id, stands.get(item.fact_id)))
        elif reason is not None and fact is not None:
            gone.append(Dropped(fact.id, fact.text, item.score, dict(item.terms), reason))
        elif reason is not None:
            # There is none, or none that this principal may know of: both look the same.
            gone.append(Dropped(item.fact_id, "", item.score, dict(item.terms), reason))
    return kept, ranked, gone


def _opened(
    context: Context, scored: Sequence[Scored], facts: dict[str, Fact], named: frozenset[str], sight: warden.Sight
) -> Sequence[Scored]:
    """Add to `facts` what merged facts need, and put originals in the place of a merged fact that a design named."""
    whole = {fact.id: fact for fact in facts.values() if fact.form == "merged" and fact.is_recallable}
    into = {fact.consolidated_into for fact in facts.values() if fact.consolidated_into} - facts.keys()
    wanted = [*filter(None, into), *(id_ for fact in whole.values() for id_ in fact.consolidated_from)]
    if not wanted:
        return scored
    unread = [id_ for id_ in wanted if id_ not in facts]
    if unread:
        facts |= {fact.id: fact for fact in warden.checked(context, sight, context.ledger.facts(unread))}
    opened: list[Scored] = []
    for item in scored:
        held = [id_ for id_ in whole[item.fact_id].consolidated_from if id_ in facts] if item.fact_id in whole else []
        opened += [replace(item, fact_id=id_) for id_ in held if id_ not in named] if held else [item]
    return opened


def _parent(fact: Fact | None, facts: Mapping[str, Fact]) -> Fact | None:
    """The live merged fact that `fact` is an original of."""
    parent = facts.get(fact.consolidated_into or "") if fact is not None and not fact.is_recallable else None
    if parent is None or fact is None or parent.form != "merged" or fact.id not in parent.consolidated_from:
        return None
    return parent if parent.is_recallable and parent.scope == fact.scope else None


def _refusal(fact: Fact | None, time: Time, stands: Fact | None) -> Reason | None:
    if fact is None:
        return Reason("unknown_fact", "The design named a fact that does not exist.")
    if not time.admits(fact, stands):
        return Reason("status", f"It is {fact.status.value}.")
    return None


def _shown(choice: _Choice) -> tuple[ScoredFact, ...]:
    """The facts shown, best first; the lines of a merged fact's originals come together."""
    lines: dict[str, list[budget.Line]] = {}
    for line in choice.packed.lines:
        lines.setdefault(choice.ranked[line.place].shown_as.id, []).append(line)
    return tuple(_scored_fact(choice, held) for held in lines.values())


def _scored_fact(choice: _Choice, lines: Sequence[budget.Line]) -> ScoredFact:
    best, ranked = choice.scored[lines[0].place], [choice.ranked[line.place] for line in lines]
    is_merged = ranked[0].parent is not None
    return ScoredFact(
        fact=ranked[0].shown_as,
        score=best.score,
        terms=dict(best.terms),
        text="\n".join(line.text for line in lines),
        tokens=sum(line.tokens for line in lines),
        members=tuple(item.fact.id for item in ranked) if is_merged else (),
        markers=tuple(line.marker for line in lines if line.marker is not None),
        message_ids=tuple(dict.fromkeys(id_ for item in ranked for id_ in item.fact.origin.message_ids)),
    )


def _dropped(item: Scored, ranked: budget.Ranked, reason: Reason) -> Dropped:
    return Dropped(item.fact_id, ranked.fact.display, item.score, dict(item.terms), reason)


def _told(item: ScoredFact) -> dict[str, Any]:
    told = {"id": item.fact.id, "version": item.fact.version, "score": item.score, "terms": item.terms}
    # Of a merged fact, what was rendered: the examiner must not judge words that no model saw.
    lines = {"members": list(item.members), "markers": list(item.markers)}
    return told | {name: values for name, values in lines.items() if values}


def _record(
    context: Context, result: Recall, scope: Scope, principal: str, asked: Asked, now: datetime, policy: PolicyVersion
) -> None:
    row = RecallRow(
        id=result.id,
        scope=scope,
        principal=principal,
        session=asked.session,
        at=now,
        query=gate.clean_text(asked.text, policy.policy),
        text_tokens=result.tokens,
        token_counter=result.token_counter,
        degraded=result.degraded,
        policy_version=policy.version,
        facts=[_told(item) for item in result.facts],
        dropped=[
            {
                "id": item.fact_id,
                "score": item.score,
                "terms": item.terms,
                "rule": item.reason.rule,
                "line": item.reason.line,
            }
            for item in result.dropped
        ],
        stages=result.stages,
    )
    try:
        context.ledger.record_recall(row)
    except StoreUnavailable as error:
        # A full disk must not take memory away: the answer was read, only the note of it could not be written.
        logger.warning("engram: a recall was answered and could not be recorded, so it cannot be judged: %s", error)
