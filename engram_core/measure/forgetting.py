"""Forgetting: what a fact is worth keeping, as named terms, and which facts a scope can best do without. Pure numpy.

The keep value is the one of docs/algorithms.md section 6: importance, mild recency and use. It judges columns of
facts; it reads nothing and archives nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.policy import MemoryPolicy

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

RECENCY: Final = 0.3
"""Most that being new adds to the keep value."""
MOST_KEEP: Final = 1.0 + RECENCY + 1.0
"""The keep value of a fact of importance 1, brand-new and always used."""
DAYS_PER_SESSION: Final = 15.0
"""A session counts as so many days: at the default `decay_rate` of 0.01 that is the measured exp(-0.15) a session."""
UNTRUSTED: Final = 0.5
"""Share of what is left to 1 that a fact below the policy's trust floor loses: no recall shows it."""
GRAIN: Final = 4096
"""Terms are rounded to this fraction of 1, a power of two, so that they add up to the score exactly, in any order."""
RESTORED_DAYS: Final = 7.0
"""Least days a restored fact is protected, counted from its restoring, even when `protect_days` is less."""
_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Held:
    """The recallable facts of one scope as columns, each of shape (n,); row i belongs to `ids[i]`.

    Attributes:
        kinds: Kind of each fact.
        importance, trust: 0 to 1.
        pinned: Whether a person pinned it.
        created_at, said_at: Epoch seconds.
        restored_at: Epoch seconds a person brought it back last; -inf if never.
        session_start: Epoch seconds its session began; NaN for a fact without a session.
        expired, superseded: Whether it no longer holds.
        redundant: 0 to 1: how surely another fact of the scope, which stays, says the same.
        recalls, uses: Judged recalls and soft uses so far; see `usefulness`.
    """

    ids: Sequence[str]
    kinds: Sequence[str]
    importance: Floats
    trust: Floats
    pinned: Flags
    created_at: Floats
    said_at: Floats
    restored_at: Floats
    session_start: Floats
    expired: Flags
    superseded: Flags
    redundant: Floats
    recalls: Floats
    uses: Floats

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Scores:
    """What `judge` found; every array is (n,).

    Attributes:
        terms: Term name to its share of the score; a fact's terms sum to its score exactly.
        score: The forget score, 0 keep to 1 safe to forget.
        worth: The keep value as a share of the highest one, 0 to 1, before any protection: what `retention_floor` and
            the choice under a cap look at.
    """

    terms: Mapping[str, Floats]
    score: Floats
    worth: Floats

    def terms_of(self, row: int) -> dict[str, float]:
        """The terms of one fact that are not 0."""
        return {name: value for name, values in self.terms.items() if (value := float(values[row]))}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which facts the night should archive, by row, and what it may not touch.

    Attributes:
        by_score: Rows whose score is above `forget_threshold`, highest first.
        by_cap: Rows to archive besides so that `max_facts` is met, least missed first.
        protected: How many facts are out of reach, by the first rule that says so: `pinned`, `protect_days`,
            `retention_floor`.
        over: Facts above `max_facts` that remain because everything else is protected.
    """

    by_score: NDArray[np.int64]
    by_cap: NDArray[np.int64]
    protected: Mapping[str, int]
    over: int


def usefulness(recalls: Floats, uses: Floats) -> Floats:
    """How useful each fact has been, `(1 + u) / (5 + u + .1 (r - u))`: 0.2 for a fact that was never recalled.

    Being shown without being used is weak evidence and counts a tenth (docs/algorithms.md section 6).

    Args:
        recalls: r, recalls with a verdict, (n,).
        uses: u, the summed probabilities of use, at most r, (n,).

    Returns:
        0 to 1, (n,).
    """
    used = np.clip(uses, 0.0, recalls)
    return (1.0 + used) / (5.0 + used + 0.1 * (recalls - used))


def age_in_days(held: Held, starts: Floats, now: float) -> Floats:
    """How old each fact is for the keep value.

    A fact said in a session ages by the sessions begun in its scope since, each counted as `DAYS_PER_SESSION`: a scope
    nobody talks in forgets nothing. A fact without a session ages by days since it was said.

    Args:
        held: n facts.
        starts: When each session of the scope began, epoch seconds, ascending; archived facts' sessions count too.
        now: Epoch seconds.
    """
    since = len(starts) - np.searchsorted(starts, held.session_start, side="right")
    days = np.maximum(now - held.said_at, 0.0) / _DAY
    return np.where(np.isnan(held.session_start), days, since * DAYS_PER_SESSION)


def judge(held: Held, policy: MemoryPolicy, starts: Floats, now: float) -> Scores:
    """Score every fact of a scope.

    Args:
        held: n facts.
        policy: `decay_rate` sets how fast recency fades, `prioritize_types` and `trust_floor` whom to protect or not.
        starts: See `age_in_days`.
        now: Epoch seconds.

    Returns:
        `1 - keep / 2.3`, with `keep = importance + .3 (1 - decay_rate)^days + usefulness`, as the terms
        `low_importance`, `decayed` and `unused`; raised to 1 by `superseded`, `expired` or `redundant` (the first that
        applies), half-way by `low_trust`; lowered to 0 by `pinned` or `priority`.
    """
    fresh = (1.0 - policy.decay_rate) ** age_in_days(held, starts, now)
    terms = {
        "low_importance": _grained((1.0 - held.importance) / MOST_KEEP),
        "decayed": _grained(RECENCY * (1.0 - fresh) / MOST_KEEP),
        "unused": _grained((1.0 - usefulness(held.recalls, held.uses)) / MOST_KEEP),
    }
    score = _clipped(terms)
    is_untrusted = held.trust < policy.trust_floor
    for name, share in (
        ("superseded", held.superseded.astype(np.float64)),
        ("expired", held.expired.astype(np.float64)),
        ("redundant", np.clip(held.redundant, 0.0, 1.0)),
        ("low_trust", UNTRUSTED * is_untrusted),
    ):
        terms[name] = _grained((1.0 - score) * share)
        score = score + terms[name]
    worth = 1.0 - score
    is_preferred = _is_preferred(held, policy)
    terms["pinned"] = -score * held.pinned
    terms["priority"] = -score * (is_preferred & ~held.pinned)
    return Scores(terms, score + terms["pinned"] + terms["priority"], worth)


def _grained(values: Floats) -> Floats:
    return np.round(values * GRAIN) / GRAIN


def _clipped(terms: dict[str, Floats]) -> Floats:
    """The sum of the terms, at most 1: what rounding put above is taken off the first term."""
    total: Floats = np.sum(list(terms.values()), axis=0)
    above = np.maximum(total - 1.0, 0.0)
    terms["low_importance"] = terms["low_importance"] - above
    return total - above


def _is_preferred(held: Held, policy: MemoryPolicy) -> Flags:
    preferred = frozenset(policy.prioritize_types)
    return np.fromiter((kind in preferred for kind in held.kinds), dtype=np.bool_, count=len(held))


def select(held: Held, scores: Scores, policy: MemoryPolicy, now: float) -> Selection:
    """Which facts to archive under a policy with `auto_forget`.

    Absolute are pins, `protect_days` (and `RESTORED_DAYS` after a restoring), and a worth above `retention_floor`. Of
    the rest everything above `forget_threshold` goes; then, down to `max_facts`, first what no longer holds or is said
    elsewhere, then ordinary kinds, then those of `prioritize_types`; within each the least worth, and of equals the
    one said first. So redundant goes before unique, and of facts that matter alike the unused before the used.

    Args:
        held: n facts.
        scores: Of the same facts.
        policy: See above.
        now: Epoch seconds.
    """
    young = now - held.created_at < policy.protect_days * _DAY
    back = now - held.restored_at < max(policy.protect_days, RESTORED_DAYS) * _DAY
    reasons = {
        "pinned": held.pinned,
        "protect_days": young | back,
        "retention_floor": scores.worth > policy.retention_floor,
    }
    free = np.ones(len(held), dtype=np.bool_)
    protected = {}
    for name, flags in reasons.items():
        protected[name] = int(np.count_nonzero(free & flags))
        free &= ~flags
    above = free & (scores.score > policy.forget_threshold)
    by_score = np.flatnonzero(above)
    by_score = by_score[np.argsort(-scores.score[by_score], kind="stable")]
    excess = len(held) - len(by_score) - policy.max_facts
    candidates = np.flatnonzero(free & ~above)
    gone = held.superseded | held.expired | (held.redundant > 0)
    rank = np.where(gone, 0, np.where(_is_preferred(held, policy), 2, 1))
    order = np.lexsort((held.said_at[candidates], scores.worth[candidates], rank[candidates]))
    by_cap = candidates[order[: max(excess, 0)]]
    return Selection(by_score, by_cap, protected, max(excess - len(by_cap), 0))


def twins(keys: Sequence[str], pinned: Flags, importance: Floats, uses: Floats) -> Floats:
    """1 for each fact whose key another one shares that is better kept, else 0.

    Args:
        keys: Equal for facts that say the same, came the same way and belong together; empty for none. (n,)
        pinned, importance, uses: What makes one better kept than another, in this order; then the earlier row. (n,)
    """
    order = np.lexsort((np.arange(len(keys)), -uses, -importance, ~pinned))
    redundant = np.zeros(len(keys))
    seen: set[str] = set()
    for row in order.tolist():
        if not keys[row]:
            continue
        redundant[row] = keys[row] in seen
        seen.add(keys[row])
    return redundant
