"""Probe: opens an index that was not closed cleanly, in a process of its own, because it may crash whoever opens it.

Run as `python -m engram_core.storage.probe DIRECTORY` with the checks as JSON on standard input; 0 means healthy.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from engram_core.domain.errors import IndexUnavailable

TIMEOUT_S = 120.0
_CLOSE_ENOUGH = 0.999
"""Cosine of a stored vector with itself after two float16 roundings, with room to spare."""


@dataclass(frozen=True, slots=True)
class Check:
    """One collection to look at: how many vectors it must hold at least, and some that must find themselves."""

    name: str
    at_least: int
    samples: tuple[tuple[str, tuple[float, ...]], ...]


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
        for check in checks:
            if index.count(check.name) < check.at_least:
                return 2
            for id_, values in check.samples:
                vector = np.array(values, dtype=np.float32)
                hits = index.search(check.name, vector, 1)
                if not hits or (hits[0].id != id_ and hits[0].score < _CLOSE_ENOUGH):
                    return 3
        index.close()
    except IndexUnavailable:
        return 4
    return 0


if __name__ == "__main__":
    raw = json.load(sys.stdin)
    wanted = [Check(item["name"], item["at_least"], tuple((i, tuple(v)) for i, v in item["samples"])) for item in raw]
    sys.exit(main(sys.argv[1], wanted))
