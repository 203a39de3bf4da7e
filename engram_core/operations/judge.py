"""Judge: lets a language model decide which facts a response used where words leave it open. It records nothing else.

Cited and strict verdicts stand, a refusal is never overruled, and an unusable answer changes no verdict.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from engram_core.domain.errors import ModelFailed
from engram_core.measure.attribution import Shown, Verdict, sentences
from engram_core.operations.context import Context
from engram_core.ports import Parked, RecallRow

logger = logging.getLogger("engram")

_SETTLED = frozenset({"cited", "strict"})


def judged(
    context: Context, row: RecallRow, response: str, shown: Sequence[Shown], verdicts: Sequence[Verdict], now: datetime
) -> list[Verdict]:
    """The verdicts after a judge decided the open ones; as they were if the model fails, which is parked."""
    assert context.model is not None
    open_ids = {verdict.fact_id for verdict in verdicts if verdict.band not in _SETTLED}
    open_facts = [fact for fact in shown if fact.fact_id in open_ids]
    if not open_facts or not sentences(response):
        return list(verdicts)
    lines = [(fact.text, fact.said_at) for fact in open_facts]
    try:
        used = context.judge(row.query, lines, response, context.model)
    except ModelFailed as error:
        payload = {"recall": row.id, "facts": len(open_facts)}
        context.ledger.park(Parked("judgement", row.scope, now, str(error)[:2000], payload))
        logger.warning("engram: a judge's answer was unusable and is parked; the verdict is by words: %s", error)
        return list(verdicts)
    decided = {fact.fact_id: is_used for fact, is_used in zip(open_facts, used, strict=True)}
    return [verdict.judged(decided[verdict.fact_id]) if verdict.fact_id in decided else verdict for verdict in verdicts]
