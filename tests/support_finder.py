"""A finder over a real ledger and a real index, without the facade; and the truth to compare it with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.fact import Fact
from engram_core.domain.scope import Scope
from engram_core.ports import Hit, Ledger, Nearest
from engram_core.storage.finder import LedgerFinder
from engram_core.testing import samples

ALICE = Scope("acme/support/alice")
LIMIT = 20
WORDS = "red green blue cat dog house lisbon train coffee rain tea music book garden winter phone".split()


def opened(ledger: Ledger, place: Path | str | None, *, exact_limit: int = LIMIT) -> LedgerFinder:
    return LedgerFinder(
        ledger,
        place=None if place is None else str(place),
        dimension=lambda: samples.DIMENSION,
        fingerprint=lambda: "samples/16/0",
        exact_limit=exact_limit,
    )


def texts(count: int, *, start: int = 0) -> list[str]:
    """Different texts with overlapping words."""
    rng = np.random.default_rng(start)
    return [" ".join([*rng.choice(WORDS, 4), f"n{number}"]) for number in range(start, start + count)]


def add(ledger: Ledger, count: int, *, start: int = 0, scope: Scope = ALICE) -> list[Fact]:
    return samples.add(ledger, scope, texts(count, start=start))


def archive(ledger: Ledger, facts: Sequence[Fact]) -> None:
    for fact in facts:
        ledger.commit(samples.archived(fact)[1])


def query(text: str) -> NDArray[np.float32]:
    return samples.vector(text).astype(np.float32)


def truth(ledger: Ledger, vector: NDArray[np.float32], n: int, scope: Scope = ALICE) -> list[Hit]:
    """Exact search, written as plainly as possible."""
    rows = samples.outbox(ledger, samples.state(ledger, scope).id)
    live = [row for row in rows if row.status == "live" and row.context is not None]
    hits = [
        Hit(row.id, float(np.frombuffer(row.context or b"", dtype="<f2").astype(np.float32) @ vector)) for row in live
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))[:n]


def same(found: Nearest | Sequence[Hit], wanted: Sequence[Hit]) -> None:
    """The same scores in the same order, and the same ids wherever the scores tell them apart."""
    hits = found.hits if isinstance(found, Nearest) else list(found)
    assert len(hits) == len(wanted)
    scores = [hit.score for hit in wanted]
    assert np.allclose([hit.score for hit in hits], scores, atol=2e-3)
    last = min(scores, default=0.0)
    clear = {hit.id for hit in wanted if hit.score > last + 4e-3}
    assert clear <= {hit.id for hit in hits}
