"""Recall: query → access → design → budget → a fenced context, recorded. Read-only for designs; never calls a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from engram_core.domain.errors import InvalidInput
from engram_core.domain.fact import Fact
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.reason import Reason
from engram_core.domain.recall import Dropped, Query, Recall, Scored, ScoredFact
from engram_core.domain.scope import Scope
from engram_core.floor import access, budget
from engram_core.measure import dates, succession
from engram_core.operations.add import view_of
from engram_core.operations.context import Context
from engram_core.operations.past import PastView, Time
from engram_core.ports import RecallRow

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

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise InvalidInput("recall() needs a question or some words to look for; it got none.")
        if len(self.text.encode("utf-8", "replace")) > MAX_QUERY_BYTES:
            raise InvalidInput(f"The query is larger than {MAX_QUERY_BYTES // 1024} KiB; send the question only.")
        if not isinstance(self.k, int) or not 1 <= self.k <= MAX_K:
            raise InvalidInput(f"k must be a whole number from 1 to {MAX_K}, not {self.k!r}.")
        if self.max_tokens is not None and (not isinstance(self.max_tokens, int) or self.max_tokens < 1):
            raise InvalidInput(f"max_tokens must be a whole number of at least 1, not {self.max_tokens!r}.")


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


def recall(context: Context, scope: Scope, principal: str, asked: Asked, now: datetime) -> Recall:
    """Retrieve for a query; see `Memory.recall`."""
    watch = _Stopwatch()
    policy = context.ledger.policy(scope)
    readable = access.readable(scope, principal, context.owner)
    time = Time(asked.as_of, asked.include_archived, now, policy.policy)
    view, _ = view_of(context, scope, time.moment, readable=readable, policy=policy.policy)
    if not time.is_now:
        view = PastView.over(view, context.ledger.scopes(list(readable)), time.admits)
    view.question = asked.text
    watch.lap("ledger")
    ranking = context.design(policy.policy.design).retrieve(Query(asked.text, asked.k, time.moment, asked.kinds), view)
    watch.lap("score", view.spent)
    newer_of = _newer_of(context, [item.fact_id for item in ranking], time.admits)
    ranking = succession.placed(ranking, newer_of) if newer_of else ranking
    choice = _chosen(context, list(ranking), frozenset(readable), asked, policy.policy, time, watch, newer_of)
    packed = choice.packed
    result = Recall(
        id=context.new_id(),
        query=asked.text,
        text=packed.text,
        tokens=packed.tokens,
        facts=tuple(_shown(choice.scored[line.place], choice.ranked[line.place], line) for line in packed.lines),
        dropped=tuple(_losers(choice, asked)),
        degraded=view.degraded,
        token_counter=context.counter.name,
        stages=watch.stages,
    )
    watch.lap("render")
    _record(context, result, scope, principal, asked, now, policy.version)
    watch.lap("record")
    context.injected.note(scope, _injected(result))
    return result


def _injected(result: Recall) -> list[str]:
    """What a prompt now holds: the lines, and their days in the ways an answer may spell them."""
    days = {item.fact.said_at.date() for item in result.facts}
    return [*(item.text for item in result.facts), *(f"{day.day} {day:%b %B %Y}" for day in sorted(days))]


def _chosen(
    context: Context,
    ranking: Sequence[Scored],
    readable: frozenset[Scope],
    asked: Asked,
    policy: MemoryPolicy,
    time: Time,
    watch: _Stopwatch,
    newer_of: Mapping[str, succession.Newer],
) -> _Choice:
    """Read the best candidates' facts and pack them; read on only while there is room for more."""
    is_about_time = dates.asks_when(asked.text) or bool(dates.named_dates(asked.text))
    budgeted = asked.max_tokens or policy.token_budget
    limits = budget.Limits(asked.k, budgeted, asked.min_score, time.moment, asked.kinds, is_about_time, asked.text)
    marker = f"{context.rng.randrange(10**_MARKER_DIGITS):0{_MARKER_DIGITS}d}"
    reach = asked.k + _READ_FIRST
    while True:
        scored, facts, gone = _hydrated(context, ranking[:reach], readable, time.admits)
        watch.lap("ledger")
        newer = {older: link.id for older, link in newer_of.items()}
        ranked = [budget.Ranked(facts[item.fact_id], item.score, newer.get(item.fact_id)) for item in scored]
        packed = budget.pack(ranked, limits, policy, marker, context.counter.count)
        watch.lap("render")
        if reach >= len(ranking) or len(packed.lines) >= asked.k:
            return _Choice(scored, ranked, packed, gone, ranking[reach:])
        reach = len(ranking)


def _newer_of(context: Context, ids: Sequence[str], admits: Callable[[Fact], bool]) -> dict[str, succession.Newer]:
    """For each ranked fact the newest one that may replace it, by the last word on each pair; and for those again."""
    found: dict[str, succession.Newer] = {}
    wanted = list(ids)
    for _ in range(_LONGEST_CHAIN):
        if not wanted:
            break
        here = set(wanted)
        words = {(link.newer, link.older): link for link in context.ledger.links(wanted) if link.older in here}
        said = [link for link in words.values() if link.verdict == "update"]
        shown = {fact.id for fact in context.ledger.facts([link.newer for link in said]) if admits(fact)}
        fresh = {
            link.older: succession.Newer(link.newer, link.probability)
            for link in said
            if link.newer in shown and link.older not in found
        }
        found |= fresh
        wanted = [newer.id for newer in fresh.values() if newer.id not in found]
    return found


def _losers(choice: _Choice, asked: Asked) -> Iterator[Dropped]:
    for place, reason in choice.packed.dropped:
        yield _dropped(choice.scored[place], choice.ranked[place], reason)
    outranked = Reason("rank", f"{asked.k} better facts are shown already.")
    for item in choice.unread:
        yield Dropped(item.fact_id, "", item.score, dict(item.terms), outranked)
    yield from choice.gone


def _hydrated(
    context: Context, scored: Sequence[Scored], readable: frozenset[Scope], admits: Callable[[Fact], bool]
) -> tuple[list[Scored], dict[str, Fact], list[Dropped]]:
    """Load what the design ranked and check every row again: scope, status and existence."""
    facts = {fact.id: fact for fact in context.ledger.facts([item.fact_id for item in scored])}
    kept, gone = [], []
    for item in scored:
        fact = facts.get(item.fact_id)
        reason = _refusal(fact, readable, admits)
        if reason is None:
            kept.append(item)
        elif fact is not None and fact.scope in readable:
            gone.append(Dropped(fact.id, fact.text, item.score, dict(item.terms), reason))
        else:
            # Not readable or unknown: its text is nobody's business here.
            gone.append(Dropped(item.fact_id, "", item.score, dict(item.terms), reason))
    return kept, facts, gone


def _refusal(fact: Fact | None, readable: frozenset[Scope], admits: Callable[[Fact], bool]) -> Reason | None:
    if fact is None:
        return Reason("unknown_fact", "The design named a fact that does not exist.")
    if fact.scope not in readable:
        return Reason("not_readable", "It lies outside the scopes this principal may read.")
    if not admits(fact):
        return Reason("status", f"It is {fact.status.value}.")
    return None


def _shown(item: Scored, ranked: budget.Ranked, line: budget.Line) -> ScoredFact:
    return ScoredFact(ranked.fact, item.score, dict(item.terms), line.text, line.tokens)


def _dropped(item: Scored, ranked: budget.Ranked, reason: Reason) -> Dropped:
    return Dropped(item.fact_id, ranked.fact.display, item.score, dict(item.terms), reason)


def _record(
    context: Context, result: Recall, scope: Scope, principal: str, asked: Asked, now: datetime, policy_version: int
) -> None:
    context.ledger.record_recall(
        RecallRow(
            id=result.id,
            scope=scope,
            principal=principal,
            session=asked.session,
            at=now,
            query=asked.text,
            text_tokens=result.tokens,
            token_counter=result.token_counter,
            degraded=result.degraded,
            policy_version=policy_version,
            facts=[
                {"id": item.fact.id, "version": item.fact.version, "score": item.score, "terms": item.terms}
                for item in result.facts
            ],
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
    )
