"""Observe: (recall, response) → attribution → usage rows. It judges what was shown; it changes no fact."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from engram_core.domain.errors import InvalidInput, RecallNotFound
from engram_core.domain.recall import Usage
from engram_core.domain.scope import Scope
from engram_core.measure.attribution import Shown, Verdict, attribute
from engram_core.measure.citations import strip_citations
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
    context.ledger.record_usage(UsageRow(recall_id, scope, now, kept, verdicts))
    is_cited = any("marker" in fact for fact in row.facts)
    return usage_of(recall_id, verdicts, strip_citations(response or "") if is_cited else response or "")


def _verdicts(context: Context, row: RecallRow, response: str | None) -> list[dict[str, Any]]:
    ids = [fact["id"] for fact in row.facts]
    if response is None or not response.strip():
        # No answer, or none that anybody saw to the end: that says nothing about any fact.
        return [{"id": id_, "verdict": "unknown", "terms": {}} for id_ in ids]
    markers = {fact["id"]: fact.get("marker") for fact in row.facts}
    shown = [Shown(fact.id, fact.display, fact.said_at, markers[fact.id]) for fact in context.ledger.facts(ids)]
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


def usage_of(recall_id: str, verdicts: Any, text: str = "") -> Usage:
    """Verdict rows as a Usage; `text` is what the user may see of the response."""
    by: dict[str, list[str]] = {"used": [], "unused": [], "unknown": []}
    for verdict in verdicts:
        by[verdict["verdict"]].append(verdict["id"])
    return Usage(
        recall_id=recall_id,
        used=tuple(by["used"]),
        unused=tuple(by["unused"]),
        unknown=tuple(by["unknown"]),
        terms={verdict["id"]: verdict["terms"] for verdict in verdicts},
        text=text,
    )
