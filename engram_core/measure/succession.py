"""Succession at recall: a newer fact stands above the older one it may replace. Pure; it moves, and hides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from engram_core.domain.recall import Scored

TERM: Final = "newer"
"""Name of the score term that lifts a newer fact over the older one."""
RELEVANT: Final = 0.7
"""A newer fact is lifted if it alone scores this share of the older one's score; less is about something else."""
SURE: Final = 0.8
"""Probability of a link from which it is lifted whatever it scores."""
_STEP: Final = 1e-4
_DIGITS: Final = 6


class Newer(NamedTuple):
    """The fact that may replace another, and how likely, 0 to 1."""

    id: str
    probability: float


def placed(ranking: Sequence[Scored], newer_of: Mapping[str, Newer]) -> list[Scored]:
    """The ranking with each linked newer fact above its older one.

    Args:
        ranking: Best first.
        newer_of: The newer fact of an older one, by id. Chains are followed.

    Returns:
        Best first. A lifted fact has the term `newer`, as large as it needs to stand just above the older one; one that
        was no candidate is pulled in and has no other term. A link that is less than sure lifts only what is about the
        question itself: a fact that scores `RELEVANT` of the older one's score. One that was no candidate scores at
        most what the last candidate does.
    """
    own = {item.fact_id: item.score for item in ranking}
    terms = {item.fact_id: dict(item.terms) for item in ranking}
    last = ranking[-1].score if ranking else 0.0
    for older in own:
        level, seen = older, {older}
        while (newer := newer_of.get(level)) is not None and newer.id not in seen:
            is_about_it = own.get(newer.id, last) >= RELEVANT * own.get(level, last)
            if newer.probability < SURE and not is_about_it:
                break
            seen.add(newer.id)
            _lift(terms, newer.id, level)
            level = newer.id
    place = {id_: number for number, id_ in enumerate(terms)}
    scored = [Scored(id_, found) for id_, found in terms.items()]
    return sorted(scored, key=lambda item: (-item.score, place[item.fact_id]))


def _lift(terms: dict[str, dict[str, float]], newer: str, older: str) -> None:
    own = terms.setdefault(newer, {})
    missing = sum(terms[older].values()) - sum(own.values())
    if missing >= 0:
        own[TERM] = round(own.get(TERM, 0.0) + missing + _STEP, _DIGITS)
