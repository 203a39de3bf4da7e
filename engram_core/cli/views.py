"""Views: what a command has to say, as plain JSON-able values. One view serves both `--json` and the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from engram_core.domain.fact import Fact
from engram_core.domain.message import Message
from engram_core.domain.recall import AddResult, Dropped, Outcome, Recall, ScoredFact
from engram_core.operations.brief import Brief
from engram_core.operations.explain import FactExplanation, RecallExplanation, decision_dict, fact_dict
from engram_core.ports import Decision

View = dict[str, Any]


def added(scope: str, results: Sequence[AddResult]) -> View:
    """What became of each message."""
    outcomes = [outcome for result in results for outcome in result.outcomes]
    return {
        "scope": scope,
        "counts": dict(Counter(outcome.action for outcome in outcomes)),
        "pending": sum(result.pending for result in results),
        "outcomes": [_outcome(outcome) for outcome in outcomes],
    }


def _outcome(outcome: Outcome) -> View:
    return {
        "action": outcome.action,
        "rule": outcome.reason.rule,
        "line": outcome.reason.line,
        "terms": dict(outcome.reason.terms),
        "facts": list(outcome.fact_ids),
        "message": _message(outcome.message),
    }


def _message(message: Message) -> View:
    return {
        "id": message.id,
        "role": message.role,
        "speaker": message.speaker,
        "session": message.session,
        "at": message.at.isoformat() if message.at else None,
        "content": message.content,
    }


def recalled(scope: str, recall: Recall, *, with_dropped: bool) -> View:
    """What a recall showed, and on demand what it dropped."""
    view = {
        "id": recall.id,
        "scope": scope,
        "query": recall.query,
        "text": recall.text,
        "tokens": recall.tokens,
        "token_counter": recall.token_counter,
        "degraded": recall.degraded,
        "stages": dict(recall.stages),
        "facts": [_scored(rank, item) for rank, item in enumerate(recall.facts, 1)],
        "dropped_by_rule": by_rule([item.reason.rule for item in recall.dropped]),
    }
    if with_dropped:
        view["dropped"] = [_dropped(item) for item in recall.dropped]
    return view


def _scored(rank: int, item: ScoredFact) -> View:
    fact = item.fact
    return {
        "rank": rank,
        "id": fact.id,
        "score": item.score,
        "terms": dict(item.terms),
        "text": item.text,
        "tokens": item.tokens,
        "marker": item.marker,
        "scope": fact.scope.path,
        "members": list(item.members),
        "kind": fact.kind,
        "said_at": fact.said_at.isoformat(),
    }


def _dropped(item: Dropped) -> View:
    return {
        "id": item.fact_id,
        "score": item.score,
        "terms": dict(item.terms),
        "text": item.text,
        "rule": item.reason.rule,
        "line": item.reason.line,
    }


def by_rule(rules: Sequence[str]) -> dict[str, int]:
    """How often each rule dropped something, most often first."""
    return dict(Counter(rules).most_common())


def briefed(scope: str, brief: Brief) -> View:
    """A warm start: its text, and the facts in it."""
    return {
        "scope": scope,
        "text": brief.text,
        "tokens": brief.tokens,
        "token_counter": brief.token_counter,
        "facts": [fact_dict(fact) for fact in brief.facts],
    }


def listed(scope: str, facts: Sequence[Fact], limit: int) -> View:
    """Facts of a scope; `next` is the `--after` of the next page, if there may be one."""
    return {
        "scope": scope,
        "facts": [fact_dict(fact) for fact in facts],
        "next": facts[-1].id if len(facts) == limit else None,
    }


def explained(explanation: RecallExplanation | FactExplanation) -> View:
    """An explanation; `about` says of what."""
    about = "recall" if isinstance(explanation, RecallExplanation) else "fact"
    return {"about": about, **explanation.to_dict()}


def history(fact: Fact, decisions: Sequence[Decision]) -> View:
    """Every decision about a fact, oldest first."""
    return {"fact": fact_dict(fact), "history": [decision_dict(decision) for decision in decisions]}


def changed(fact: Fact, *, dry_run: bool = False) -> View:
    """A fact after a change, or as it is when nothing was changed."""
    return {"fact": fact_dict(fact), "dry_run": dry_run}


def diagnosed(store: str, report: Mapping[str, Any]) -> View:
    """The doctor's report of a store, with what to do about its problems."""
    return {"store": store, "healthy": not report["problems"], **report, "advice": _advice(report)}


def _advice(report: Mapping[str, Any]) -> list[str]:
    advice = []
    if report["index"].get("problem"):
        advice.append(
            "Run `engram reindex`: it builds the index anew from the ledger. Until then recall searches exactly."
        )
    if report["pending"]:
        advice.append("Keep a process open on the store, it embeds them; if they stay, run `engram reindex --embed`.")
    if report["parked"]:
        advice.append("Read the failures above and mend their cause; they are a record and stay listed.")
    return advice
