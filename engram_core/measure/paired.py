"""Paired: how surely one way of doing differs from another, on the same cases. Pure; seeded, so it repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

RESAMPLES: Final = 2_000
_SEED: Final = 20_260_301


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
    rng = np.random.default_rng(_SEED)
    means = pairs[rng.integers(0, len(pairs), size=(RESAMPLES, len(pairs)))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Difference(float(pairs.mean()), float(low), float(high), len(pairs))
