"""Explain: folds what the ledger recorded into an answer to "why?". It adds no reasoning of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from engram_core.domain.errors import FactNotFound, RecallNotFound
from engram_core.domain.fact import Fact
from engram_core.domain.message import Episode
from engram_core.domain.scope import Scope
from engram_core.measure.usage import final_verdicts
from engram_core.measure.usefulness import NEUTRAL, posterior
from engram_core.operations import warden
from engram_core.operations.context import Context
from engram_core.operations.edit import find
from engram_core.operations.observe import rendered_texts
from engram_core.ports import Decision, RecallRow

_RECALLS_SHOWN = 20
_RECALLS_SEARCHED = 1_000


@dataclass(frozen=True, slots=True)
class RecallExplanation:
    """Why a recall showed what it showed.

    Attributes:
        shown: Best first: id, text, score, terms (they sum to the score), verdict of the response if observed.
        dropped: Every other ranked candidate: id, text, score, terms, rule, line.
        absent: Filled by `explain(recall, about=fact)` when the fact was neither shown nor ranked.
    """

    id: str
    scope: str
    principal: str
    at: datetime
    query: str
    degraded: bool
    tokens: int
    token_counter: str
    policy_version: int
    stages: Mapping[str, float]
    shown: tuple[Mapping[str, Any], ...]
    dropped: tuple[Mapping[str, Any], ...]
    absent: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "at": self.at.isoformat()}

    def __str__(self) -> str:
        lines = [f"Recall {self.id} in {self.scope} by {self.principal}: {self.query!r}"]
        if self.degraded:
            lines.append(
                "  degraded: the vector index or the embedder could not be asked; exact or word search answered"
            )
        lines.append(f"  {self.tokens} tokens ({self.token_counter}), policy version {self.policy_version}")
        for item in self.shown:
            verdict = f" [{item['verdict']}]" if item.get("verdict") else ""
            lines.append(f"  + {item['score']:.3f}{verdict} {item['text']}")
            lines.append(f"      {_terms(item['terms'])}")
        for item in self.dropped:
            lines.append(f"  - {item['score']:.3f} {item['text']}")
            lines.append(f"      {item['rule']}: {item['line']}")
        if self.absent:
            lines.append(f"  ? {self.absent}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class FactExplanation:
    """Where a fact came from and what happened to it.

    Attributes:
        sources: The messages it was made of, as handed over.
        history: Every decision, oldest first.
        recalls: The latest recalls that showed it, newest first, with rank, score and verdict.
        chain: Every fact of its chain of succession, oldest first, itself included: id, text, status, superseded_by.
            Empty when nothing replaced it and it replaced nothing.
        links: Facts that may be older or newer states of it: id, text, which (`older` or `newer`), verdict,
            probability, rule and line, in the order they were linked.
        derived: Facts derived from it: id, text, status, archived_reason.
        usage: All of them in numbers: how often it was shown, judged and used, and how useful that makes it, 0 to 1.
        originals: What a consolidated fact stands for, oldest first: id, text, said_at, status, and messages' ids.
        stands_in: The fact that stands for this one, with its id, text, form and status; None if none does.
    """

    fact: Fact
    sources: tuple[Mapping[str, Any], ...]
    history: tuple[Decision, ...]
    recalls: tuple[Mapping[str, Any], ...]
    usage: Mapping[str, float]
    originals: tuple[Mapping[str, Any], ...] = ()
    stands_in: Mapping[str, Any] | None = None
    chain: tuple[Mapping[str, Any], ...] = ()
    links: tuple[Mapping[str, Any], ...] = ()
    derived: tuple[Mapping[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "fact": fact_dict(self.fact),
            "sources": list(self.sources),
            "history": [decision_dict(decision) for decision in self.history],
            "recalls": list(self.recalls),
            "chain": list(self.chain),
            "links": list(self.links),
            "derived": list(self.derived),
            "usage": dict(self.usage),
            "originals": [dict(item) for item in self.originals],
            "stands_in": dict(self.stands_in) if self.stands_in is not None else None,
        }

    def __str__(self) -> str:
        fact = self.fact
        lines = [
            f"Fact {fact.id} in {fact.scope}: {fact.display}",
            f"  {fact.status.value}, kind {fact.kind}, importance {fact.importance:.2f}, trust {fact.trust:.2f}, "
            f"version {fact.version}",
            f"  said {fact.said_at:%Y-%m-%d %H:%M}, stored {fact.created_at:%Y-%m-%d %H:%M} by {fact.origin.principal} "
            f"from {fact.origin.channel}",
        ]
        if fact.forget_score is not None:
            lines.append(f"  forget score {fact.forget_score:.3f}: {_terms(fact.forget_terms)}")
        lines += [f"  from message {item['id']}: {item['content']}" for item in self.sources]
        lines += family(self.to_dict())
        for decision in self.history:
            refused = " (refused)" if decision.refused else ""
            lines.append(f"  {decision.at:%Y-%m-%d %H:%M} {decision.action}{refused}: {decision.reason}")
        lines += [f"  {line}" for line in succession_lines(self.to_dict())]
        if self.usage["shown"]:
            lines.append(
                f"  shown {self.usage['shown']}, judged {self.usage['judged']}, used {self.usage['used']}: "
                f"usefulness {self.usage['usefulness']:.2f} ({NEUTRAL:.2f} without verdicts)"
            )
        for item in self.recalls:
            lines.append(f"  recalled {item['at'][:16]} at rank {item['rank']}, {item['verdict']}: {item['query']!r}")
        return "\n".join(lines)


def family(told: Mapping[str, Any]) -> list[str]:
    """The tree of a consolidated fact, or the way to the fact that stands for this one, as lines of text."""
    lines = []
    if told["originals"]:
        lines.append(f"  {told['fact']['form']} of {len(told['originals'])} originals:")
        for place, item in enumerate(told["originals"], 1):
            branch = "└─" if place == len(told["originals"]) else "├─"
            lines.append(f"    {branch} {item['said_at'][:10]} {item['text']} ({item['id']}, {item['status']})")
    if told["stands_in"] is not None:
        held = told["stands_in"]
        lines.append(f"  {held['id']} ({held['form']}, {held['status']}) stands for it: {held['text'][:200]}")
    return lines


def explain(
    context: Context, scope: Scope, principal: str, id_: str, now: datetime, *, about: str | None = None
) -> RecallExplanation | FactExplanation:
    """Explain a recall or a fact by its id; see `Memory.explain`."""
    sight = warden.sight(context, principal, scope, now, "explain")
    told = _explained(context, sight, id_, about)
    shown = [told.fact.id] if isinstance(told, FactExplanation) else [item["id"] for item in told.shown]
    warden.seen(context, sight, shown)
    return told


def _explained(
    context: Context, sight: warden.Sight, id_: str, about: str | None
) -> RecallExplanation | FactExplanation:
    row = context.ledger.recall(id_) if isinstance(id_, str) else None
    scope = sight.scope
    if row is not None and row.scope == scope and _is_own(context, sight, row):
        return _explain_recall(context, row, sight, about)
    if about is not None:
        raise RecallNotFound(f"No recall {id_!r} was made in scope {scope}.")
    try:
        return _explain_fact(context, find(context, sight, id_), sight)
    except FactNotFound:
        raise FactNotFound(f"{id_!r} is neither a recall made in scope {scope} nor a fact visible from it.") from None


def _is_own(context: Context, sight: warden.Sight, row: RecallRow) -> bool:
    """Whether a recall may be told of: what others asked is theirs, and the owner's."""
    return sight.principal in (row.principal, context.owner)


def _explain_recall(context: Context, row: RecallRow, sight: warden.Sight, about: str | None) -> RecallExplanation:
    every = context.ledger.facts([item["id"] for item in (*row.facts, *row.dropped)])
    facts = {fact.id: fact for fact in every if fact in sight}
    hidden = {fact.id for fact in every if fact not in sight}
    rendered = rendered_texts(context, row)
    verdicts = final_verdicts(context.ledger.usage(row.id))

    def told(item: Mapping[str, Any]) -> dict[str, Any]:
        fact = facts.get(item["id"])
        text = "" if fact is None or item.get("rule") == "unknown_fact" else rendered.get(fact.id, fact.display)
        return {**item, "text": text, "verdict": verdicts.get(item["id"])}

    return RecallExplanation(
        id=row.id,
        scope=row.scope.path,
        principal=row.principal,
        at=row.at,
        query=row.query,
        degraded=row.degraded,
        tokens=row.text_tokens,
        token_counter=row.token_counter,
        policy_version=row.policy_version,
        stages=row.stages,
        # What may not be read any more is not told of any more.
        shown=tuple(told(item) for item in row.facts if item["id"] not in hidden),
        dropped=tuple(told(item) for item in row.dropped if item["id"] not in hidden),
        absent=_absent(context, row, sight, about) if about is not None else None,
    )


def _absent(context: Context, row: RecallRow, sight: warden.Sight, fact_id: str) -> str | None:
    fact = find(context, sight, fact_id)
    if any(item["id"] == fact_id for item in (*row.facts, *row.dropped)):
        return None
    told = {id_ for item in (*row.facts, *row.dropped) for id_ in (item["id"], *item.get("members", ()))}
    if told.intersection((fact_id, *fact.consolidated_from)):
        return None  # it was there as what stands for it, or as the originals it stands for
    if fact.created_at > row.at:
        return f"Fact {fact_id} was stored after this recall."
    if not fact.is_recallable:
        return f"Fact {fact_id} is {fact.status.value} ({fact.archived_reason or 'no reason recorded'})."
    ranked = len(row.facts) + len(row.dropped)
    least = min((item["score"] for item in (*row.facts, *row.dropped)), default=0.0)
    return f"Fact {fact_id} was not among the {ranked} best candidates; the last of them scored {least:.3f}."


def _explain_fact(context: Context, fact: Fact, sight: warden.Sight) -> FactExplanation:
    may_see_all = sight.principal == context.owner and not context.rules.current().rules.private
    recalls = context.ledger.recalls_of(fact.id, _RECALLS_SHOWN if may_see_all else _RECALLS_SEARCHED)
    if not may_see_all:
        recalls = [row for row in recalls if row.scope in sight.scopes and _is_own(context, sight, row)]
        recalls = recalls[:_RECALLS_SHOWN]

    def visible(facts: Iterable[Fact]) -> list[Fact]:
        # A copy that was shared elsewhere, or what was derived there, is for those who may read there.
        return [item for item in facts if item in sight or may_see_all]

    return FactExplanation(
        fact=fact,
        sources=tuple(_sources(context, fact)),
        history=tuple(context.ledger.history(fact.id)),
        recalls=tuple(_recalled(context, row, fact.id) for row in recalls),
        usage=_usage(context, fact.id),
        originals=tuple(_original(item) for item in visible(context.ledger.facts(fact.consolidated_from))),
        stands_in=next(map(_standing, visible(context.ledger.facts([fact.consolidated_into or ""]))), None),
        chain=tuple({**_named(item), "superseded_by": item.superseded_by} for item in visible(_chain(context, fact))),
        links=tuple(_linked(context, fact, visible)),
        derived=tuple(
            {**_named(item), "archived_reason": item.archived_reason}
            for item in visible(context.ledger.derived([fact.id]))
        ),
    )


def _original(fact: Fact) -> dict[str, Any]:
    return {
        "id": fact.id,
        "text": fact.display,
        "said_at": fact.said_at.isoformat(),
        "status": fact.status.value,
        "message_ids": list(fact.origin.message_ids),
    }


def _standing(fact: Fact) -> dict[str, Any]:
    return {"id": fact.id, "text": fact.display, "form": fact.form, "status": fact.status.value}


def _named(fact: Fact) -> dict[str, Any]:
    return {"id": fact.id, "text": fact.display, "status": fact.status.value, "said_at": fact.said_at.isoformat()}


def succession_lines(view: Mapping[str, Any]) -> list[str]:
    """A fact's chain, links and derived facts as lines of text; `view` is `FactExplanation.to_dict()`."""
    ids = [item["id"] for item in view["chain"]]
    own = ids.index(view["fact"]["id"]) if ids else 0
    lines = [
        f"{'replaced' if place < own else 'replaced by'}: {item['id']} {item['status']}: {item['text']}"
        for place, item in enumerate(view["chain"])
        if place != own
    ]
    # A certain link to a fact of the chain says what the chain says.
    links = [link for link in view["links"] if link["id"] not in ids or link["probability"] != 1]
    lines += [f"linked ({_relation(item)}): {item['id']}: {item['text']}" for item in links]
    return lines + [f"derived: {item['id']} {item['status']}: {item['text']}" for item in view["derived"]]


def _relation(link: Mapping[str, Any]) -> str:
    if link["verdict"] != "update":
        return {"both": "both are true", "same": "the same"}[link["verdict"]]
    sure = link["probability"] == 1
    return link["which"] if sure else f"possibly {link['which']}, p {link['probability']:.2f}"


def _chain(context: Context, fact: Fact) -> list[Fact]:
    """The facts it replaced and the facts that replaced it, with itself, oldest first; alone it is no chain."""
    found = {fact.id: fact}
    newer = fact
    while newer.superseded_by is not None and newer.superseded_by not in found:
        after = context.ledger.facts([newer.superseded_by])
        if not after:
            break
        newer = after[0]
        found[newer.id] = newer
    waiting = list(found)
    while waiting:
        older = [item for item in context.ledger.predecessors(waiting) if item.id not in found]
        found |= {item.id: item for item in older}
        waiting = [item.id for item in older]
    return sorted(found.values(), key=lambda item: (item.said_at, item.id)) if len(found) > 1 else []


def _linked(context: Context, fact: Fact, visible: Callable[[Iterable[Fact]], list[Fact]]) -> Iterator[dict[str, Any]]:
    links = context.ledger.links([fact.id])
    others = {link.older if link.newer == fact.id else link.newer for link in links}
    facts = {item.id: item for item in visible(context.ledger.facts(sorted(others)))}
    for link in links:
        other = link.older if link.newer == fact.id else link.newer
        if other in facts:
            yield {
                "id": other,
                "text": facts[other].display,
                "which": "newer" if link.newer == other else "older",
                "verdict": link.verdict,
                "probability": link.probability,
                "rule": link.reason.rule,
                "line": link.reason.line,
                "at": link.at.isoformat(),
            }


def _usage(context: Context, fact_id: str) -> dict[str, float]:
    row = context.ledger.fact_usage(fact_id)
    if row is None:
        return {"shown": 0, "judged": 0, "used": 0, "usefulness": NEUTRAL}
    useful = round(posterior(row.recalled, row.used), 4)
    return {"shown": row.shown, "judged": row.judged, "used": row.times_used, "usefulness": useful}


def _sources(context: Context, fact: Fact) -> list[dict[str, Any]]:
    episodes = {decision.episode_id for decision in context.ledger.history(fact.id) if decision.episode_id}
    wanted = set(fact.origin.message_ids)
    found: dict[str, dict[str, Any]] = {}
    for episode_id in sorted(episodes):
        for message in _messages(context.ledger.episode(episode_id)):
            if message["id"] in wanted:
                found[message["id"]] = message
    return [found[id_] for id_ in fact.origin.message_ids if id_ in found]


def _messages(episode: Episode | None) -> list[dict[str, Any]]:
    return [
        {
            "id": message.id,
            "role": message.role,
            "speaker": message.speaker,
            "at": message.at.isoformat() if message.at else None,
            "session": message.session,
            "content": message.content,
        }
        for message in (episode.messages if episode else ())
    ]


def _recalled(context: Context, row: RecallRow, fact_id: str) -> dict[str, Any]:
    ranks = (place for place, item in enumerate(row.facts, 1) if fact_id in (item["id"], *item.get("members", ())))
    rank = next(ranks)
    return {
        "id": row.id,
        "at": row.at.isoformat(),
        "query": row.query,
        "rank": rank,
        "score": row.facts[rank - 1]["score"],
        "verdict": final_verdicts(context.ledger.usage(row.id)).get(fact_id, "not observed"),
    }


def _terms(terms: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:+.3f}" for name, value in sorted(terms.items(), key=lambda item: -abs(item[1])))


def fact_dict(fact: Fact) -> dict[str, Any]:
    """A fact as JSON-able values."""
    return {
        "id": fact.id,
        "scope": fact.scope.path,
        "text": fact.text,
        "speaker": fact.speaker,
        "kind": fact.kind,
        "slot": str(fact.slot) if fact.slot else None,
        "status": fact.status.value,
        "version": fact.version,
        "importance": fact.importance,
        "confidence": fact.confidence,
        "trust": fact.trust,
        "pinned": fact.pinned,
        "said_at": fact.said_at.isoformat(),
        "created_at": fact.created_at.isoformat(),
        "valid_from": fact.valid_from.isoformat() if fact.valid_from else None,
        "valid_until": fact.valid_until.isoformat() if fact.valid_until else None,
        "archived_at": fact.archived_at.isoformat() if fact.archived_at else None,
        "archived_reason": fact.archived_reason,
        "restored_at": fact.restored_at.isoformat() if fact.restored_at else None,
        "forget_score": fact.forget_score,
        "forget_terms": dict(fact.forget_terms),
        "superseded_by": fact.superseded_by,
        "form": fact.form,
        "is_consolidated": fact.is_consolidated,
        "consolidated_from": list(fact.consolidated_from),
        "consolidated_into": fact.consolidated_into,
        "sources": list(fact.sources),
        "origin": asdict(fact.origin),
        "metadata": dict(fact.metadata),
    }


def decision_dict(decision: Decision) -> dict[str, Any]:
    """A decision as JSON-able values."""
    return {
        "action": decision.action,
        "at": decision.at.isoformat(),
        "principal": decision.principal,
        "fact_id": decision.fact_id,
        "rule": decision.reason.rule,
        "line": decision.reason.line,
        "terms": dict(decision.reason.terms),
        "before": decision.before,
        "after": decision.after,
        "refused": decision.refused,
    }
