"""Shadow: tries an approved design on live recalls beside the one in force, off their path, and decides by figures.

A person approved it; what is decided here is only whether it holds in service what it promised: no failure, and ranking
within the policy's latency. Then it is put in force, and watched: when answers use less of what is recalled than
before, it is rolled back by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np

from engram_core.domain.errors import ChangeRefused, EngramError
from engram_core.domain.proposal import Proposal
from engram_core.domain.recall import Recall
from engram_core.domain.scope import Scope
from engram_core.domain.spec import Shadow
from engram_core.measure.paired import apart
from engram_core.operations import proposals
from engram_core.operations.context import Context
from engram_core.operations.recall import recall
from engram_core.operations.shadowing import Seen
from engram_core.ports import UsageRow

SHADOWED: Final = 20
"""Recalls that an approved design answers beside the one in force before it takes its place."""
FEWEST: Final = 20
"""Answers before and after that a rollback or a keeping needs."""
PERIOD: Final = timedelta(days=30)

logger = logging.getLogger("engram")


def work(context: Context, *, stop: Callable[[], bool]) -> int:
    """Answer what waits, and put a design in force or turn it down once it has seen enough. Returns how many."""
    done = 0
    while not stop() and (seen := context.shadowing.take()) is not None:
        _answer(context, seen)
        done += 1
        decide(context, seen.proposal.id, context.clock())
    return done


def _answer(context: Context, seen: Seen) -> None:
    name = str(seen.proposal.diff["design"]["after"])
    figures: dict[str, float] = {"tokens_now": float(seen.recall.tokens), "ms_now": _ranking_ms(seen.recall)}
    try:
        found = recall(context, seen.scope, seen.principal, seen.asked, seen.at, rehearsed=context.design(name))
        figures |= {
            "failed": 0.0,
            "tokens": float(found.tokens),
            "ms": _ranking_ms(found),
            "agreement": agreement(seen.recall, found),
        }
    except Exception as error:  # noqa: BLE001 - the candidate's trouble is a figure, and nobody's recall
        logger.info("engram: the design on trial failed: %s", error)
        figures["failed"] = 1.0
    context.ledger.proposals.note_shadow(Shadow(seen.proposal.id, seen.recall.id, seen.at, figures))


def agreement(one: Recall, other: Recall) -> float:
    """Share of the facts that either shows which both show, 0 to 1; 1 if neither shows any."""
    left, right = ({item.fact.id for item in found.facts} for found in (one, other))
    return len(left & right) / len(left | right) if left | right else 1.0


def _ranking_ms(found: Recall) -> float:
    """Milliseconds without rendering and recording, which are the same for every design."""
    return round(sum(ms for stage, ms in found.stages.items() if stage not in ("record", "render")), 3)


def decide(context: Context, proposal_id: str, now: datetime) -> Proposal | None:
    """Put an approved design in force, or turn it down, once it has seen enough recalls. None: not yet."""
    proposal = proposals.found(context, proposal_id)
    step = proposal.step("approved")
    if proposal.status != "approved" or step is None or proposal.kind != "design":
        return None
    wanted = int(step.figures.get("shadow", SHADOWED))
    rows = context.ledger.proposals.shadows(proposal.id)
    if len(rows) < wanted:
        return None
    figures = summary(rows)
    limit = context.ledger.policy(proposal.scope).policy.latency_ms
    try:
        if figures["failed"]:
            line = f"It failed at {figures['failed']:.0f} of {len(rows)} live recalls."
        elif figures["p95_ms"] > max(limit, 0.0):
            line = f"It ranked in {figures['p95_ms']:.0f} ms (p95) beside live recalls; the policy allows {limit:g}."
        else:
            line = f"It answered {len(rows)} live recalls beside the design in force."
            return proposals.apply(context, proposal.id, proposals.RULE, now, reason=line, figures=figures)
        return proposals.turn_down(context, proposal.id, now, reason=line, figures=figures)
    except ChangeRefused as error:
        # The policy moved on, or another process was first: nothing is forced.
        logger.info("engram: a design on trial was not put in force: %s", error)
        return None
    finally:
        context.shadowing.look(context)


def summary(rows: Sequence[Shadow]) -> dict[str, float]:
    """Shadowed recalls in figures: how many, failures, mean agreement and tokens, p95 of the ranking."""
    told = [row.figures for row in rows]
    sound = [figures for figures in told if not figures.get("failed")]

    def mean(name: str) -> float:
        return round(float(np.mean([figures[name] for figures in sound])), 3) if sound else 0.0

    p95 = float(np.percentile([figures["ms"] for figures in sound], 95)) if sound else 0.0
    return {
        "shadowed": float(len(rows)),
        "failed": float(len(told) - len(sound)),
        "agreement": mean("agreement"),
        "tokens": mean("tokens"),
        "tokens_now": mean("tokens_now"),
        "p95_ms": round(p95, 3),
    }


# --- what came of it ---


def watch(context: Context, scope: Scope | None, now: datetime) -> list[Proposal]:
    """Compare answers before and after each design that was put in force; keep it or roll it back. Returns the changed.

    What counts is the share of the judged facts of a recall that its answer used. A design is rolled back when the 95 %
    interval of the difference of the means lies below zero, and kept after 30 days, or 200 answers, otherwise.
    """
    done = []
    for proposal in context.ledger.proposals.listing(scope, kind="design", statuses=("applied",)):
        step = proposal.step("applied")
        if step is None:
            continue
        rows = context.ledger.usage_since(proposal.scope, step.at - PERIOD, below=True)
        before = used_shares([row for row in rows if row.at < step.at])
        after = used_shares([row for row in rows if row.at >= step.at])
        figures: dict[str, Any] = {"answers_before": len(before), "answers_after": len(after)}
        is_over = now - step.at >= PERIOD or len(after) >= 200
        if min(len(before), len(after)) >= FEWEST:
            found = apart(before, after)
            figures |= {"used": round(found.mean, 4), "low": round(found.low, 4), "high": round(found.high, 4)}
            if found.is_loss:
                line = f"Answers use less of what is recalled: {found}."
                done += _tried(lambda p=proposal, why=line, f=figures: proposals.rollback(  # type: ignore[misc]
                    context, p.id, proposals.RULE, now, reason=why, figures=f
                ))  # fmt: skip
                continue
        if is_over:
            line = "Answers use as much of what is recalled as before, or more; or too few were judged to tell."
            done += _tried(lambda p=proposal, why=line, f=figures: proposals.keep(  # type: ignore[misc]
                context, p.id, now, reason=why, figures=f
            ))  # fmt: skip
    return done


def _tried(act: Callable[[], Proposal]) -> list[Proposal]:
    try:
        return [act()]
    except EngramError as error:
        logger.warning("engram: a design in force could not be settled: %s", error)
        return []


def used_shares(rows: Sequence[UsageRow]) -> list[float]:
    """For each recall's last verdict the share of its judged facts that were used; recalls without any are left out."""
    last: dict[str, Sequence[Mapping[str, Any]]] = {row.recall_id: row.verdicts for row in rows}
    shares = []
    for verdicts in last.values():
        judged = [verdict["verdict"] for verdict in verdicts if verdict.get("verdict") in ("used", "unused")]
        if judged:
            shares.append(judged.count("used") / len(judged))
    return shares
