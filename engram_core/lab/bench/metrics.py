"""Metrics: how good a ranking, an update or an act of forgetting was, by labels alone. Pure; no judge is asked.

A question has a set of evidence ids. A hit *covers* the source ids whose content it shows. Every function asks for
non-empty evidence: a question without any is left out by whoever asks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engram_core.domain.errors import InvalidInput
from engram_core.measure import content
from engram_core.measure.paired import RESAMPLES, bounds, resampled

CUTS: Final = (1, 5, 10, 20)
BUDGETS: Final = (256, 512, 1024, 2048)
DEPTH: Final = 120
"""Hits asked for: what R@bt and MRR look at."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One place of a ranking.

    Attributes:
        covers: Source ids whose content it shows.
        tokens: Tokens of `text`, without the line's end.
        text: As it would stand in a prompt.
    """

    covers: frozenset[str]
    tokens: int
    text: str = ""


# --- one ranking -----------------------------------------------------------------------------------------------------


def covered(hits: Iterable[Hit]) -> frozenset[str]:
    """All source ids that some hit covers."""
    return frozenset().union(*(hit.covers for hit in hits))


def recall_at(hits: Sequence[Hit], evidence: frozenset[str], k: int) -> float:
    """R@k: the share of the evidence that the first k hits cover, 0 to 1."""
    return len(covered(hits[:k]) & evidence) / len(evidence)


def all_at(hits: Sequence[Hit], evidence: frozenset[str], k: int) -> float:
    """All@k: 1 if the first k hits cover all of the evidence, else 0."""
    return float(evidence <= covered(hits[:k]))


def ndcg_at(hits: Sequence[Hit], evidence: frozenset[str], k: int = 10) -> float:
    """NDCG@k, 0 to 1: 1 / log2(rank + 1) for each of the first k hits that covers evidence no hit before it covered.

    The ideal it is divided by has the first min(number of evidence ids, k) ranks filled so. One hit that covers several
    ids is one gain: a memory that merges its evidence into few hits cannot reach 1 by it, and loses nothing in R@k.
    """
    gain, seen = 0.0, frozenset[str]()
    for rank, hit in enumerate(hits[:k], 1):
        new = (hit.covers & evidence) - seen
        if new:
            gain += 1 / math.log2(rank + 1)
            seen |= new
    return gain / sum(1 / math.log2(rank + 1) for rank in range(1, min(len(evidence), k) + 1))


def reciprocal_rank(hits: Sequence[Hit], evidence: frozenset[str]) -> float:
    """MRR of one question: 1 / rank of the first hit that covers any evidence; 0 if none does."""
    return next((1 / rank for rank, hit in enumerate(hits, 1) if hit.covers & evidence), 0.0)


def fitting(hits: Sequence[Hit], budget: int) -> list[Hit]:
    """The hits that fit in `budget` tokens: in order, each costing its tokens + 1; one that does not fit is skipped."""
    kept, left = [], budget
    for hit in hits:
        if hit.tokens + 1 <= left:
            left -= hit.tokens + 1
            kept.append(hit)
    return kept


def recall_in(hits: Sequence[Hit], evidence: frozenset[str], budget: int) -> float:
    """R@bt: the share of the evidence covered by what fits in `budget` tokens, 0 to 1. See `fitting`."""
    return len(covered(fitting(hits, budget)) & evidence) / len(evidence)


def answer_words(texts: Iterable[str], answer: str) -> float | None:
    """The share of the gold answer's content words that stand in `texts`, 0 to 1; None for an answer without any.

    Words as attribution reads them (engram_core.measure.content): stemmed, stop words dropped, numbers normalised.
    """
    wanted = _words(answer)
    if not wanted:
        return None
    return len(wanted & frozenset().union(*map(_words, texts))) / len(wanted)


@lru_cache(maxsize=65_536)
def _words(text: str) -> frozenset[str]:
    return content.token_set(text)


def of_ranking(hits: Sequence[Hit], evidence: frozenset[str], answer: str = "") -> dict[str, float]:
    """Every metric of one ranking by its name in reports.

    Returns:
        `R@1` … `R@20`, `All@10`, `NDCG@10`, `MRR`, `R@256t` … `R@2048t`; and, if the answer has content words,
        `A@256t` … : 1 if all of them stand in what fits in so many tokens.
    """
    values = {f"R@{k}": recall_at(hits, evidence, k) for k in CUTS}
    values |= {"All@10": all_at(hits, evidence, 10), "NDCG@10": ndcg_at(hits, evidence)}
    values["MRR"] = reciprocal_rank(hits, evidence)
    for budget in BUDGETS:
        kept = fitting(hits, budget)
        values[f"R@{budget}t"] = len(covered(kept) & evidence) / len(evidence)
        said = answer_words((hit.text for hit in kept), answer)
        if said is not None:
            values[f"A@{budget}t"] = float(said == 1)
    return values


# --- updates ---------------------------------------------------------------------------------------------------------


def stale_at(hits: Sequence[Hit], current: frozenset[str], stale: frozenset[str], k: int = 5) -> float:
    """1 if one of the first k hits shows a value that is out of date without the current one beside it, else 0."""
    return float(any(hit.covers & stale and not hit.covers & current for hit in hits[:k]))


def latest_first(hits: Sequence[Hit], current: frozenset[str], stale: frozenset[str]) -> float:
    """1 if the current value is found, and above every value that is out of date, else 0."""
    for hit in hits:
        if hit.covers & current:
            return 1.0
        if hit.covers & stale:
            return 0.0
    return 0.0


def of_update(hits: Sequence[Hit], current: frozenset[str], stale: frozenset[str]) -> dict[str, float]:
    """`stale@5`, `stale@10` (lower is better) and `latest first` of one question about something that changed."""
    return {f"stale@{k}": stale_at(hits, current, stale, k) for k in (5, 10)} | {
        "latest first": latest_first(hits, current, stale)
    }


# --- forgetting ------------------------------------------------------------------------------------------------------


class Forgot(NamedTuple):
    """How well was forgotten what should have been.

    Attributes:
        precision: Of what was forgotten, the share labelled `forget`; 1 if nothing was.
        recall: Of what is labelled `forget`, the share that was; 1 if nothing is.
        kept: Of what is labelled `keep`, the share that is still there; 1 if nothing is.
        forgotten: How many labelled items were forgotten.
    """

    precision: float
    recall: float
    kept: float
    forgotten: int


def of_forgetting(gone: Iterable[str], forget: frozenset[str], keep: frozenset[str]) -> Forgot:
    """Judge an act of forgetting; ids without a label do not count.

    Args:
        gone: Source ids that the memory no longer recalls.
        forget, keep: The labels; disjoint.
    """
    labelled = frozenset(gone) & (forget | keep)
    right = len(labelled & forget)

    def share(part: int, whole: int) -> float:
        return part / whole if whole else 1.0

    return Forgot(
        share(right, len(labelled)), share(right, len(forget)), share(len(keep - labelled), len(keep)), len(labelled)
    )


# --- differences -----------------------------------------------------------------------------------------------------


class Interval(NamedTuple):
    """A mean paired difference and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def paired_interval(ours: ArrayLike, theirs: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Mean of `ours − theirs` over the same questions, with the 95 % percentile bootstrap interval.

    Args:
        ours, theirs: One value per question, in the same order, shape (questions,).
        seed: Of the resampling; the same seed gives the same interval.
        resamples: How often the questions are drawn anew, with replacement.

    Raises:
        InvalidInput: The shapes differ, or there is no question.
    """
    mine, other = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if mine.shape != other.shape or mine.ndim != 1:
        raise InvalidInput(f"Paired values need one shape (questions,); got {mine.shape} and {other.shape}.")
    return paired_intervals((mine - other)[:, None], seed=seed, resamples=resamples)[0]


def paired_intervals(differences: NDArray[np.float64], *, seed: int = 0, resamples: int = RESAMPLES) -> list[Interval]:
    """`paired_interval` of many columns at once, all resampled alike.

    Args:
        differences: Shape (questions, columns).
        seed, resamples: As for `paired_interval`.

    Returns:
        One interval per column. They treat questions as independent, although several come from one conversation: read
        them as too narrow.

    Raises:
        InvalidInput: There is no question.
    """
    if not len(differences):
        raise InvalidInput("An interval needs at least one question.")
    low, high = bounds(resampled(differences, seed=seed, resamples=resamples))
    centre = differences.mean(axis=0)
    return [Interval(float(m), float(a), float(b)) for m, a, b in zip(centre, low, high, strict=True)]
