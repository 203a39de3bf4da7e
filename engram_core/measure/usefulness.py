"""Usefulness: what verdicts say about a fact, as a decayed Beta posterior of use. Pure arithmetic; it stores nothing.

Recall counts are no evidence here, only verdicts are: a fact that was shown and not used loses, a fact that was never
shown stays exactly neutral. The same posterior is taken twice: over all questions, and over questions like the present
one, where each verdict counts as much as its question resembles it (docs/algorithms.md section 4 has the measurements).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engram_core.ports import Tally

DECAY: Final = 0.99
"""What is left of older evidence after each further judged recall of the scope; half of it after 69."""
PRIOR_USED: Final = 1.0
PRIOR_RECALLED: Final = 5.0
"""Beta(1, 4): before any verdict a shown fact is expected to be used one time in five."""
NEUTRAL: Final = PRIOR_USED / PRIOR_RECALLED
ALIKE_PRIOR_USED: Final = 0.2
ALIKE_PRIOR_RECALLED: Final = 0.5
"""Beta(0.2, 0.3): a verdict on the very question weighs more than one on any question, so the prior is weaker."""
ALIKE_NEUTRAL: Final = ALIKE_PRIOR_USED / ALIKE_PRIOR_RECALLED
SHARPNESS: Final = 4
"""Exponent of the likeness of two questions."""
_USUAL_COSINE: Final = 0.3
_USUAL_WEIGHT: Final = 8
_MOST_USUAL_COSINE: Final = 0.9


class Credit(NamedTuple):
    """What one verdict adds to a fact: its weight, 0 to 1, and whether it is reported as used."""

    weight: float
    is_used: bool

    @property
    def is_evidence(self) -> bool:
        """Whether it counts: a fact that was probably used, but not surely, speaks neither for nor against itself."""
        return not self.is_used or self.weight > 0.0


def credited(verdicts: Iterable[Mapping[str, Any]]) -> dict[str, Credit]:
    """What recorded verdicts add, by fact id. `unknown` adds nothing at all.

    Args:
        verdicts: Each with `id`, `verdict` and `terms`; the term `weight` is the share of a use that it counts for, by
            default all of one for `used` and none for `unused`.
    """
    counted = {}
    for verdict in verdicts:
        if verdict.get("verdict") in ("used", "unused"):
            is_used = verdict["verdict"] == "used"
            weight = float(verdict.get("terms", {}).get("weight", is_used))
            counted[str(verdict["id"])] = Credit(min(max(weight, 0.0), 1.0), is_used)
    return counted


def decayed(tally: Tally, tick: int) -> Tally:
    """The same evidence as of a later tick."""
    left = DECAY ** (tick - tally.tick)
    return tally._replace(recalled=tally.recalled * left, used=tally.used * left, tick=tick)


def tallied(
    before: Mapping[str, Tally],
    tick: int,
    given: Mapping[str, Credit],
    withdrawn: Mapping[str, Credit] | None = None,
    withdrawn_tick: int = 0,
) -> list[Tally]:
    """The tallies after a verdict, or after a verdict that replaces an earlier one on the same recall.

    Args:
        before: Tallies of the facts concerned; a missing one is empty.
        tick: Judged recalls of the scope, this change included.
        given: What the verdict adds.
        withdrawn: What the earlier verdict had added at `withdrawn_tick`; the new one then counts from that time.
        withdrawn_tick: See `withdrawn`.

    Returns:
        One tally for each fact of `given` and `withdrawn`, as of `tick`.
    """
    taken = withdrawn or {}
    left = DECAY ** (tick - withdrawn_tick) if taken else 1.0
    changed = []
    for fact_id in {**given, **taken}:
        tally = decayed(before.get(fact_id, Tally(fact_id, tick=tick)), tick)
        for credit, sign in ((taken.get(fact_id), -1), (given.get(fact_id), +1)):
            if credit is not None:
                tally = tally._replace(
                    recalled=max(tally.recalled + sign * left * credit.is_evidence, 0.0),
                    used=max(tally.used + sign * left * credit.weight, 0.0),
                    judged=max(tally.judged + sign, 0),
                    times_used=max(tally.times_used + sign * credit.is_used, 0),
                )
        changed.append(tally)
    return changed


def posterior(recalled: float, used: float) -> float:
    """The mean of the posterior of use, `(1 + u) / (5 + r)`, 0 to 1; 0.2 for a fact without verdicts."""
    return (PRIOR_USED + used) / (PRIOR_RECALLED + recalled)


def summed(tallies: Iterable[tuple[Tally, int]]) -> dict[str, tuple[float, float]]:
    """Recalled and used weights by fact, over the tallies of several scopes, each with its scope's present tick."""
    sums: dict[str, tuple[float, float]] = {}
    for tally, tick in tallies:
        now = decayed(tally, tick)
        recalled, used = sums.get(tally.fact_id, (0.0, 0.0))
        sums[tally.fact_id] = (recalled + now.recalled, used + now.used)
    return sums


def inherited(
    weights: Mapping[str, tuple[float, float]], into: Mapping[str, str | None]
) -> dict[str, tuple[float, float]]:
    """The weights, where a fact that stands for others is as useful as the most useful of them and itself.

    Args:
        weights: Recalled and used weights by fact.
        into: What stands for a fact, by its id; None if nothing does.
    """
    best = dict(weights)
    for fact_id, own in weights.items():
        stands = into.get(fact_id)
        while stands is not None:
            best[stands] = max(best.get(stands, own), own, key=lambda pair: posterior(*pair))
            stands = into.get(stands)
    return best


def centred(recalled: NDArray[np.float64], used: NDArray[np.float64], age: NDArray[np.int64]) -> NDArray[np.float32]:
    """How much more often than an unknown fact each one is used.

    Args:
        recalled, used: Evidence of n facts as it stood `age` judged recalls of the scope ago, shape (n,).
        age: See there, shape (n,).

    Returns:
        `posterior - 0.2` of the decayed evidence, shape (n,): exactly 0 without any, at least -0.2, less than 0.8.
    """
    left = DECAY**age
    values = (PRIOR_USED + used * left) / (PRIOR_RECALLED + recalled * left) - NEUTRAL
    return values.astype(np.float32)


def likeness(cosines: NDArray[np.float32], distinct: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How much earlier questions resemble the present one, whatever the embedder's cosines usually are.

    Args:
        cosines: Between the present question and each earlier one, shape (m,).
        distinct: False where the same question stands among the earlier ones already, shape (m,).

    Returns:
        `((cos - usual) / (1 - usual))^4`, from 0 to 1, shape (m,). Usual is the mean cosine over the distinct earlier
        questions, together with eight imagined ones at 0.3, and at most 0.9.
    """
    known = cosines[distinct]
    usual = (float(known.sum()) + _USUAL_WEIGHT * _USUAL_COSINE) / (len(known) + _USUAL_WEIGHT)
    usual = min(usual, _MOST_USUAL_COSINE)
    alike: NDArray[np.float32] = np.clip((cosines - usual) / (1.0 - usual), 0.0, 1.0) ** SHARPNESS
    return alike


def centred_alike(
    counts: NDArray[np.float32], rows: NDArray[np.int64], weights: NDArray[np.float32], facts: int
) -> NDArray[np.float32]:
    """How much more often than an unknown fact each one is used for questions like the present one.

    Args:
        counts: What each verdict counts, its question's likeness times its decay, shape (v,).
        rows: The fact of each verdict, 0 to `facts` - 1, shape (v,).
        weights: The share of a use in each verdict, shape (v,).
        facts: n.

    Returns:
        `(0.2 + sum of used) / (0.5 + sum of counted) - 0.4`, shape (n,): 0 without likeness, -0.4 to 0.6.
    """
    recalled = np.bincount(rows, weights=counts, minlength=facts)
    used = np.bincount(rows, weights=counts * weights, minlength=facts)
    values = (ALIKE_PRIOR_USED + used) / (ALIKE_PRIOR_RECALLED + recalled) - ALIKE_NEUTRAL
    return values.astype(np.float32)
