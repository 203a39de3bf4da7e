"""Succession at recall: a newer fact stands above the older one it may replace. Pure; it moves, and hides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from engram_core.domain.recall import Scored

TERM: Final = "newer"
"""Name of the score term that lifts a newer fact over the older one."""
_STEP: Final = 1e-4
_DIGITS: Final = 6


def placed(ranking: Sequence[Scored], newer_of: Mapping[str, str]) -> list[Scored]:
    """The ranking with each linked newer fact above its older one.

    Args:
        ranking: Best first.
        newer_of: The newer fact of an older one, by id; chains are followed, and cycles cannot arise because a link
            goes from what was said later to what was said earlier.

    Returns:
        Best first. A lifted fact has the term `newer`, as large as it needs; one that was no candidate has no other
        term. Facts are lifted to just above the older one, so that a lift moves nothing else.
    """
    terms = {item.fact_id: dict(item.terms) for item in ranking}
    order = list(terms)
    for older in list(order):
        level, seen = older, {older}
        while (newer := newer_of.get(level)) is not None and newer not in seen:
            seen.add(newer)
            _lift(terms, newer, level)
            level = newer
    place = {id_: number for number, id_ in enumerate(terms)}
    scored = [Scored(id_, found) for id_, found in terms.items()]
    return sorted(scored, key=lambda item: (-item.score, place[item.fact_id]))


def _lift(terms: dict[str, dict[str, float]], newer: str, older: str) -> None:
    own = terms.setdefault(newer, {})
    missing = sum(terms[older].values()) - sum(own.values())
    if missing >= 0:
        own[TERM] = round(own.get(TERM, 0.0) + missing + _STEP, _DIGITS)
