"""Probe: opens an index that was not closed cleanly, in a process of its own, because it may crash whoever opens it.

Run as `python -m engram_core.storage.probe DIRECTORY` with the checks as JSON on standard input; exit code 0 means
healthy.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.errors import IndexUnavailable
from engram_core.ports import VectorIndex

TIMEOUT_S = 120.0
CLOSE_ENOUGH = 0.999
"""Cosine of a stored vector with itself after two float16 roundings, with room to spare."""
_SCORE_ERROR = 0.01
_UNREACHABLE = 0.002
"""Share of the vectors that a healthy graph may not reach, with room to spare (storage.md: 2 of 20,000)."""


@dataclass(frozen=True, slots=True)
class Check:
    """One collection to look at.

    Attributes:
        name: Of the collection.
        at_least: How many vectors it must hold.
        samples: Ids and vectors that must find themselves.
        walk: A vector to search everything for: the search visits every vector and every link between them.
        scores: What each id must score for `walk`.
    """

    name: str
    at_least: int
    samples: tuple[tuple[str, tuple[float, ...]], ...] = ()
    walk: tuple[float, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, ids: Sequence[str], vectors: NDArray[np.float32], samples: Sequence[int]) -> Check:
        """The check of a collection that must hold `vectors` under `ids`; the rows in `samples` find themselves."""
        picked = tuple((ids[row], tuple(vectors[row].tolist())) for row in samples)
        if not len(ids):
            return cls(name, 0)
        # Not one of the vectors themselves: a direction in which no two of them are likely to score the same.
        direction = np.random.default_rng(0).standard_normal((vectors.shape[1],))
        walk = (direction / np.linalg.norm(direction)).astype(np.float32)
        scores = dict(zip(ids, (vectors @ walk).tolist(), strict=True))
        return cls(name, len(ids), picked, tuple(walk.tolist()), scores)


def is_healthy(directory: str, checks: Sequence[Check], *, timeout: float = TIMEOUT_S) -> bool:
    """Whether another process can open the index and every check holds. A crash or a hang counts as no."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "engram_core.storage.probe", directory],
            input=json.dumps([asdict(check) for check in checks]),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError):
        return False
    return done.returncode == 0


def main(directory: str, checks: Sequence[Check]) -> int:
    """Run the checks in this process; 0 when all hold."""
    from engram_core.storage.chroma import embedded  # noqa: PLC0415 - only the child opens Chroma

    try:
        index = embedded(directory)
        found = max((_failure(index, check) for check in checks), default=0)
        index.close()
    except IndexUnavailable:
        return 4
    return found


def _failure(index: VectorIndex, check: Check) -> int:
    count = index.count(check.name)
    if count < check.at_least:
        return 2
    for id_, values in check.samples:
        hits = index.search(check.name, np.array(values, dtype=np.float32), 1)
        if not hits or (hits[0].id != id_ and hits[0].score < CLOSE_ENOUGH):
            return 3
    if not check.scores:
        return 0
    scores = dict(index.search(check.name, np.array(check.walk, dtype=np.float32), count))
    errors = [abs(scores[id_] - score) for id_, score in check.scores.items() if id_ in scores]
    is_reached = len(check.scores) - len(errors) <= _UNREACHABLE * len(check.scores)
    # Written so that a NaN counts as an error.
    return 0 if is_reached and all(error <= _SCORE_ERROR for error in errors) else 5


def read(text: str) -> list[Check]:
    """The checks in JSON."""
    return [
        Check(
            item["name"],
            item["at_least"],
            tuple((id_, tuple(values)) for id_, values in item["samples"]),
            tuple(item["walk"]),
            item["scores"],
        )
        for item in json.loads(text)
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], read(sys.stdin.read())))
