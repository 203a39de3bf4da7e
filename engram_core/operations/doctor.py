"""Doctor: gathers a store's health from its ports. It reports; it repairs nothing."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any, Final

from engram_core.operations.context import Context

_PARKED_SHOWN = 20
PLANTING: Final = 10
"""Statements of one origin waiting in one scope, from which it is named: nobody released them, and more come."""
_RECENT = timedelta(days=7)
"""How long a failure counts as a problem; after that it stays on record."""


def doctor(context: Context) -> dict[str, Any]:
    """JSON-able: store, facts by status, index, embedder, token counter, work waiting, failures, and `problems`."""
    ledger = context.ledger
    states = ledger.scopes()
    parked = ledger.parked(_PARKED_SHOWN)
    index = dict(context.finder.health())
    pending = sum(state.recallable - state.live for state in states)
    report: dict[str, Any] = {
        "owner": context.owner,
        "scopes": len(states),
        "live": sum(state.live for state in states),
        "pending": pending,
        "index": index,
        "embedder": ledger.setting("embedder"),
        "token_counter": context.counter.name,
        "model": context.model.name if context.model is not None else None,
        "extractions_due": len(ledger.episodes_due(1_000)),
        "parked": dict(Counter(item.kind for item in parked if item.at >= context.clock() - _RECENT)),
        "failures": [
            {
                "kind": item.kind,
                "scope": item.scope.path,
                "at": item.at.isoformat(),
                "error": item.error,
                "episode": item.episode_id,
            }
            for item in parked
        ],
    }
    report |= _quarantine(context)
    report["problems"] = _problems(report)
    return report


def _quarantine(context: Context) -> dict[str, Any]:
    """How much waits for a curator, and which origins have so much waiting that they look like planting."""
    waiting = context.ledger.screening.waiting()
    planting = [item for item in waiting if item.facts >= PLANTING]
    return {
        "quarantined": sum(item.facts for item in waiting),
        "planting": [
            {"scope": item.scope.path, "principal": item.principal, "channel": item.channel, "facts": item.facts}
            for item in planting[:_PARKED_SHOWN]
        ],
    }


def _problems(report: dict[str, Any]) -> list[str]:
    problems = []
    if report["pending"]:
        problems.append(
            f"{report['pending']} facts are not embedded yet; they are found by words and retried. "
            "If this stays, check the embedder."
        )
    if report["index"].get("problem"):
        problems.append(str(report["index"]["problem"]))
    if report["planting"]:
        worst = report["planting"][0]
        problems.append(
            f"{worst['facts']} statements by {worst['principal']} from the channel {worst['channel']} wait in "
            f"quarantine in {worst['scope']}; see `engram quarantine list`, and release or reject them."
        )
    if report["parked"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report["parked"].items()))
        problems.append(f"Failures are recorded ({kinds}); nothing was lost, see `failures`.")
    return problems
