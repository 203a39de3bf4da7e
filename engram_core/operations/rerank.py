"""Rerank: a second opinion on the best candidates, as one more term of their scores. It may fail; recalls go on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from engram_core.domain.errors import ModelFailed
from engram_core.domain.fact import Fact, Status
from engram_core.domain.recall import Scored
from engram_core.domain.scope import Scope
from engram_core.ports import Reranker

TERM: Final = "rerank"
RERANKED: Final = 40
"""Best candidates whose texts a reranker reads."""
_DIGITS: Final = 6
_log = logging.getLogger(__name__)


def reranked(
    ranking: Sequence[Scored],
    facts: Mapping[str, Fact],
    readable: frozenset[Scope],
    question: str,
    reranker: Reranker,
    weight: float,
) -> tuple[list[Scored], str | None]:
    """The ranking with a reranker's opinion on its best facts.

    Args:
        ranking: Best first.
        facts: The facts of its first `RERANKED`, by id. Only those of `readable` scopes that are neither erased nor
            quarantined are shown to the reranker.
        readable: Scopes that the caller may read.
        question: As asked.
        reranker: Its scores may be on any scale: the lowest becomes 0, the highest `weight`.
        weight: Score that the best one gains.

    Returns:
        Best first, and None; or the ranking as it was, and what went wrong.
    """
    hidden = (Status.ERASED, Status.QUARANTINED)
    shown = [
        item.fact_id
        for item in ranking[:RERANKED]
        if (fact := facts.get(item.fact_id)) is not None and fact.scope in readable and fact.status not in hidden
    ]
    if len(shown) < 2 or not weight:
        return list(ranking), None
    try:
        scores = reranker.rerank(question, [facts[id_].display for id_ in shown])
    except ModelFailed as error:
        _log.warning("Recall went on without the reranker: %s", error)
        return list(ranking), str(error)
    low, high = min(scores), max(scores)
    if high <= low:
        return list(ranking), None
    gains = {
        id_: round(weight * (score - low) / (high - low), _DIGITS) for id_, score in zip(shown, scores, strict=True)
    }
    lifted = [
        Scored(item.fact_id, {**item.terms, TERM: gains[item.fact_id]}) if gains.get(item.fact_id) else item
        for item in ranking
    ]
    return sorted(lifted, key=lambda item: -item.score), None
