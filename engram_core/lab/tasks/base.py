"""Task: one thing a memory should be good at, with a dev and a gate split. What a task is and gives; no task itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from engram_core.domain.spec import canonical
from engram_core.lab.workbench import Workbench

Split = Literal["smoke", "dev", "gate"]
SPLITS: tuple[Split, ...] = ("smoke", "dev", "gate")
"""`smoke` is a handful of dev questions: does it run at all; `gate` is looked at once, by the gate."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one task found.

    Attributes:
        metrics: Name to value. `score` is the main one, 0 to 1, the mean of `rows`; `tokens` the mean of a recall.
        rows: The main metric question by question, always in the same order.
        broken: Hard limits that were broken, in words. Anything here is the end of a design.
        traces: A few questions that went wrong and what was shown. They may hold words of the data: they are kept
            nowhere, and a model is shown them redacted, of the dev split only (`lab.writing`).
    """

    metrics: Mapping[str, float]
    rows: tuple[float, ...]
    broken: tuple[str, ...] = ()
    traces: tuple[str, ...] = ()


class Task(Protocol):
    """Collects, probes and scores outside of the design. The same split gives the same questions every time."""

    @property
    def name(self) -> str: ...
    @property
    def family(self) -> str:
        """Tasks of one family measure one thing; a design is promoted for one."""
        ...

    @property
    def fingerprint(self) -> str:
        """Equal for equal data and settings."""
        ...

    def run(self, bench: Workbench, split: Split) -> Result: ...


@dataclass(frozen=True)
class Suite:
    """Tasks that are tried together.

    Attributes:
        weights: Of the families in the fitness; 1 where none is given, 0 leaves one out.
    """

    tasks: tuple[Task, ...]
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Of tasks, data and weights, 16 hex digits."""
        told = [[task.name, task.fingerprint] for task in self.tasks]
        return hashlib.sha256(canonical([told, dict(self.weights)]).encode()).hexdigest()[:16]

    def weight(self, family: str) -> float:
        """See `weights`."""
        return self.weights.get(family, 1.0)


TOKEN_PRICE = 0.0005
"""Fitness a token of context costs: 100 tokens must be worth five points of a hundred."""


def fitness(suite: Suite, results: Mapping[str, Result]) -> float:
    """Mean over the tasks, weighted by family, of score minus `TOKEN_PRICE` times mean tokens; rounded to 6 digits."""
    weighed = [(suite.weight(task.family), results[task.name].metrics) for task in suite.tasks if task.name in results]
    total = sum(weight for weight, _ in weighed)
    if not total:
        return 0.0
    value = sum(w * (metrics["score"] - TOKEN_PRICE * metrics.get("tokens", 0.0)) for w, metrics in weighed)
    return round(value / total, 6)


def scored(rows: Sequence[float], tokens: Sequence[int], **more: float) -> dict[str, float]:
    """The metrics every task gives, and its own, rounded to 6 digits."""
    told = {"score": _mean(rows), "tokens": _mean(tokens), **more}
    return {name: round(float(value), 6) for name, value in told.items()}


def _mean(values: Sequence[float] | Sequence[int]) -> float:
    return sum(values) / len(values) if values else 0.0
