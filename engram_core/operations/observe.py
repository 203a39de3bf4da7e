"""Observe: (recall, response) → attribution → usage rows. It judges what was shown; it changes no fact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.errors import EmbedderMismatch, EmbeddingFailed, InvalidInput, RecallNotFound
from engram_core.domain.recall import Usage
from engram_core.domain.scope import Scope
from engram_core.measure.attribution import Shown, Verdict, attribute, sentences
from engram_core.measure.citations import strip_citations
from engram_core.measure.columns import vectors
from engram_core.measure.content import lexical_stems
from engram_core.operations import gate, warden
from engram_core.operations.context import Context
from engram_core.operations.judge import judged
from engram_core.ports import RecallRow, ScopeState, UsageRow

MAX_RESPONSE_BYTES = 64 * 1024


def observe(
    context: Context,
    scope: Scope,
    principal: str,
    recall_id: str,
    response: str | None,
    now: datetime,
    *,
    judge: bool = False,
) -> Usage:
    """Record which facts of a recall appear in a response; see `Memory.observe`."""
    if judge and context.model is None:
        raise InvalidInput("observe(judge=True) needs a language model; open the store with Engram.open(model=...).")
    if response is not None and not isinstance(response, str):
        raise InvalidInput(f"observe() takes the response's text or None, not {type(response).__name__}.")
    sight = warden.sight(context, principal, scope, now, "observe")
    row = context.ledger.recall(recall_id)
    if row is None or row.scope != scope or principal not in (row.principal, context.owner):
        raise RecallNotFound(f"No recall {recall_id!r} was made in scope {scope}.")
    verdicts = _verdicts(context, row, response, now if judge else None, sight)
    warden.seen(context, sight, [verdict["id"] for verdict in verdicts])
    # Judged as it was given; recorded without its secrets.
    recorded = gate.clean_text(response or "", context.ledger.policy(scope).policy)
    kept = recorded.encode("utf-8", "replace")[:MAX_RESPONSE_BYTES].decode("utf-8", "ignore")
    question = _question(context, row) if any(verdict["verdict"] != "unknown" for verdict in verdicts) else None
    context.ledger.record_usage(UsageRow(recall_id, scope, now, kept, verdicts, question))
    is_cited = any("markers" in fact for fact in row.facts)
    return usage_of(recall_id, verdicts, strip_citations(response or "") if is_cited else response or "")


def _question(context: Context, row: RecallRow) -> NDArray[np.float16] | None:
    """The question's vector, for comparison with later ones; without it the verdict still counts in general."""
    try:
        vector: NDArray[np.float16] = context.embedder.embed_queries([row.query])[0].astype(np.float16)
    except EmbeddingFailed:
        return None
    return vector


def _verdicts(
    context: Context, row: RecallRow, response: str | None, judge_at: datetime | None, sight: warden.Sight
) -> list[dict[str, Any]]:
    ids = [fact["id"] for fact in row.facts]
    if response is None or not response.strip():
        # No answer, or none that anybody saw to the end: that says nothing about any fact.
        return [{"id": id_, "verdict": "unknown", "terms": {}} for id_ in ids]
    # Of a merged fact the originals that were rendered are judged, each for itself: they are what later recalls rank.
    members = {fact["id"]: list(fact.get("members", ())) for fact in row.facts}
    rendered = [id_ for fact in row.facts for id_ in members[fact["id"]] or [fact["id"]]]
    names = [name for fact in row.facts for name in fact.get("markers") or [None] * len(members[fact["id"]] or [None])]
    marker_of = dict(zip(rendered, names, strict=True))
    shown = [
        Shown(fact.id, fact.display, fact.said_at, marker_of[fact.id], fact.speaker)
        for fact in warden.checked(context, sight, context.ledger.facts(rendered), alarm=False)
    ]
    verdicts = attributed(context, row.scope if row.scope in sight.scopes else None, row.query, response, shown)
    if judge_at is not None:
        verdicts = judged(context, row, response, shown, verdicts, judge_at)
    by_fact = {verdict.fact_id: verdict for verdict in verdicts}
    return [told for id_ in ids for told in _told(id_, members[id_], by_fact)]


def attributed(
    context: Context, scope: Scope | None, question: str, response: str, shown: Sequence[Shown]
) -> list[Verdict]:
    """What a response used of the facts shown, told by the words and vectors of the store.

    Args:
        scope: Whose word statistics count; None where they may not be looked at.
    """
    states = context.ledger.scopes([scope] if scope is not None else [])
    size = states[0].recallable if states else len(shown)
    counts = frequencies(context, states, [response, question, *(item.text for item in shown)])
    alike = similarity(context, question, response, [item.fact_id for item in shown])
    return list(attribute(response, question, shown, size, counts, alike))


def _told(fact_id: str, members: Sequence[str], by_fact: Mapping[str, Verdict]) -> Iterator[dict[str, Any]]:
    """A fact's verdict; a merged fact's is that of its best rendered original, and theirs follow, marked `of` it."""
    found = [by_fact[id_] for id_ in members or [fact_id] if id_ in by_fact]
    best = max(found, key=lambda verdict: (verdict.weight, verdict.used, verdict.probability), default=None)
    yield _verdict(fact_id, best)
    for id_ in members:
        yield _verdict(id_, by_fact.get(id_)) | {"of": fact_id}


def rendered_texts(context: Context, row: RecallRow) -> dict[str, str]:
    """What a recall rendered of each merged fact it showed, by the fact's id; other facts were rendered whole."""
    members = {item["id"]: item["members"] for item in row.facts if item.get("members")}
    facts = {fact.id: fact for fact in context.ledger.facts([id_ for ids in members.values() for id_ in ids])}
    return {id_: "\n".join(facts[member].display for member in ids if member in facts) for id_, ids in members.items()}


def similarity(context: Context, question: str, response: str, ids: Sequence[str]) -> dict[str, float]:
    """Cosine of each embedded fact and the response's nearest sentence; empty if there are no vectors to compare."""
    asked = [f"{question} {sentence}" for sentence in sentences(response)]
    rows = [row for row in context.ledger.indexed(ids) if row.content is not None]
    if not asked or not rows:
        return {}
    try:
        said = context.embedder.embed(asked)
    except (EmbeddingFailed, EmbedderMismatch):
        return {}
    known = vectors([row.content for row in rows], said.shape[1])
    return dict(zip((row.id for row in rows), (known @ said.T).max(axis=1).tolist(), strict=True))


def frequencies(context: Context, states: Sequence[ScopeState], texts: Sequence[str]) -> dict[str, int]:
    """In how many facts of the scope each content token occurs, as the ledger counts stems."""
    stems = lexical_stems(texts)
    known: dict[str, tuple[int, int]] = {}
    for state in states:
        known = context.ledger.frequencies(state.id, sorted(set(stems.values())))
    return {token: known[stem][0] for token, stem in stems.items() if stem in known}


def _verdict(fact_id: str, judged: Verdict | None) -> dict[str, Any]:
    if judged is None:
        return {"id": fact_id, "verdict": "unknown", "terms": {}}
    verdict = "used" if judged.used else "unused"
    return {"id": fact_id, "verdict": verdict, "band": judged.band, "terms": judged.terms}


def usage_of(recall_id: str, verdicts: Any, text: str = "") -> Usage:
    """Verdict rows as a Usage; `text` is what the user may see of the response."""
    by: dict[str, list[str]] = {"used": [], "unused": [], "unknown": []}
    told = [verdict for verdict in verdicts if "of" not in verdict]
    for verdict in told:
        by[verdict["verdict"]].append(verdict["id"])
    return Usage(
        recall_id=recall_id,
        used=tuple(by["used"]),
        unused=tuple(by["unused"]),
        unknown=tuple(by["unknown"]),
        terms={verdict["id"]: verdict["terms"] for verdict in told},
        text=text,
    )
