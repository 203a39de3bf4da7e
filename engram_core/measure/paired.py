"""Paired: how surely one way of doing differs from another, by bootstrap over cases. Pure; seeded, so it repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

RESAMPLES: Final = 5_000
_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean paired difference with its 95 % bootstrap interval over the cases.

    Attributes:
        mean: Of the differences, in the unit of the cases; 0 without any.
        low, high: Percentiles 2.5 and 97.5 of the mean over resampled cases.
        cases: How many there are.
    """

    mean: float
    low: float
    high: float
    cases: int

    @property
    def is_loss(self) -> bool:
        """Whether the interval lies below zero."""
        return self.high < 0.0

    def to_dict(self) -> dict[str, float | int]:
        """JSON-able, rounded."""
        return {
            "mean": round(self.mean, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
            "cases": self.cases,
        }

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def difference(before: Sequence[float], after: Sequence[float]) -> Difference:
    """`after` minus `before`, case by case. Both have one value per case, in the same order."""
    if not before:
        return Difference(0.0, 0.0, 0.0, 0)
    pairs = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    low, high = bounds(resampled(pairs[:, None]))
    return Difference(float(pairs.mean()), float(low[0]), float(high[0]), len(pairs))


def apart(before: Sequence[float], after: Sequence[float]) -> Difference:
    """Mean of `after` less that of `before`, of other cases each: each side is resampled by itself; none is empty."""
    sides = [np.asarray(side, dtype=np.float64) for side in (before, after)]
    means = [resampled(side[:, None], seed=seed) for seed, side in enumerate(sides)]
    low, high = bounds(means[1] - means[0])
    return Difference(float(sides[1].mean() - sides[0].mean()), float(low[0]), float(high[0]), sum(map(len, sides)))


def resampled(values: NDArray[np.float64], *, seed: int = 0, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Means of cases drawn anew with replacement, as many as there are; all columns of a drawing are of the same cases.

    Args:
        values: Shape (cases, columns), one case at least.
        seed: The same seed gives the same drawings.
        resamples: How often they are drawn.

    Returns:
        Shape (resamples, columns).
    """
    count = len(values)
    rng = np.random.default_rng(seed)
    means = []
    for start in range(0, resamples, _CHUNK):
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=min(_CHUNK, resamples - start))
        means.append(drawn @ values / count)
    return np.concatenate(means)


def bounds(means: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The 95 % percentile interval of resampled means, one of each column."""
    low, high = np.quantile(means, (0.025, 0.975), axis=0)
    return low, high
