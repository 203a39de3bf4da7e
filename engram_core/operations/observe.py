"""Observe: (recall, response) → attribution → usage rows. It judges what was shown; it changes no fact."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.errors import EmbeddingFailed, InvalidInput, RecallNotFound
from engram_core.domain.recall import Usage
from engram_core.domain.scope import Scope
from engram_core.measure.attribution import Shown, Verdict, attribute
from engram_core.measure.content import lexical_stems
from engram_core.operations.context import Context
from engram_core.ports import RecallRow, ScopeState, UsageRow

MAX_RESPONSE_BYTES = 64 * 1024


def observe(context: Context, scope: Scope, recall_id: str, response: str | None, now: datetime) -> Usage:
    """Record which facts of a recall appear in a response; see `Memory.observe`."""
    if response is not None and not isinstance(response, str):
        raise InvalidInput(f"observe() takes the response's text or None, not {type(response).__name__}.")
    row = context.ledger.recall(recall_id)
    if row is None or row.scope != scope:
        raise RecallNotFound(f"No recall {recall_id!r} was made in scope {scope}.")
    verdicts = _verdicts(context, row, response)
    kept = (response or "").encode("utf-8", "replace")[:MAX_RESPONSE_BYTES].decode("utf-8", "ignore")
    question = _question(context, row) if any(verdict["verdict"] != "unknown" for verdict in verdicts) else None
    context.ledger.record_usage(UsageRow(recall_id, scope, now, kept, verdicts, question))
    return usage_of(recall_id, verdicts)


def _question(context: Context, row: RecallRow) -> NDArray[np.float16] | None:
    """The question's vector, for comparison with later ones; without it the verdict still counts in general."""
    try:
        vector: NDArray[np.float16] = context.embedder.embed_queries([row.query])[0].astype(np.float16)
    except EmbeddingFailed:
        return None
    return vector


def _verdicts(context: Context, row: RecallRow, response: str | None) -> list[dict[str, Any]]:
    ids = [fact["id"] for fact in row.facts]
    if response is None or not response.strip():
        # No answer, or none that anybody saw to the end: that says nothing about any fact.
        return [{"id": id_, "verdict": "unknown", "terms": {}} for id_ in ids]
    shown = [Shown(fact.id, fact.display, fact.said_at) for fact in context.ledger.facts(ids)]
    states = context.ledger.scopes([row.scope])
    facts = states[0].recallable if states else len(shown)
    frequencies = _frequencies(context, states, [response, *(item.text for item in shown)])
    judged = {verdict.fact_id: verdict for verdict in attribute(response, row.query, shown, facts, frequencies)}
    return [_verdict(id_, judged.get(id_)) for id_ in ids]


def _frequencies(context: Context, states: Sequence[ScopeState], texts: Sequence[str]) -> dict[str, int]:
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


def usage_of(recall_id: str, verdicts: Any) -> Usage:
    """Verdict rows as a Usage."""
    by: dict[str, list[str]] = {"used": [], "unused": [], "unknown": []}
    for verdict in verdicts:
        by[verdict["verdict"]].append(verdict["id"])
    return Usage(
        recall_id=recall_id,
        used=tuple(by["used"]),
        unused=tuple(by["unused"]),
        unknown=tuple(by["unknown"]),
        terms={verdict["id"]: verdict["terms"] for verdict in verdicts},
    )
