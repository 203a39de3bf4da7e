"""Finder: small scopes whole from memory, large ones through the index, and exactly when the index cannot answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.errors import InvalidInput
from engram_core.domain.server import ChromaServer
from engram_core.ports import Gathered, Ledger, Nearest, ScopeState
from engram_core.storage.decks import Decks
from engram_core.storage.forks import on_fork
from engram_core.storage.matrices import Matrices
from engram_core.storage.projector import Projector
from engram_core.storage.snapshots import ScopeSnapshot, Snapshots


class LedgerFinder:
    """The Finder port over a ledger and, if `place` names one, a Chroma index.

    Args:
        ledger: The record.
        place: Directory or Chroma server of the index; None for exact search only.
        dimension, fingerprint: Of the embedder, asked late.
        exact_limit: Facts up to which a scope is scanned whole; a larger one gets a collection.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        place: str | ChromaServer | None,
        dimension: Callable[[], int],
        fingerprint: Callable[[], str],
        exact_limit: int,
    ) -> None:
        self._ledger = ledger
        self._dimension = dimension
        self._exact_limit = exact_limit
        self._start_caches()
        on_fork(in_child=self._start_caches)
        self._projector = (
            Projector(ledger, place, fingerprint=fingerprint, dimension=dimension, exact_limit=exact_limit)
            if place is not None
            else None
        )

    def _start_caches(self) -> None:
        """Empty caches; in a forked child because a thread that is not there may hold the old ones' locks."""
        self._snapshots = Snapshots(self._ledger, self._dimension, limit=self._exact_limit)
        self._decks = Decks(self._ledger, self._dimension)
        self._matrices = Matrices(self._ledger, self._dimension)

    def snapshot(self, state: ScopeState) -> ScopeSnapshot | None:
        """See `engram_core.ports.Finder`."""
        return self._snapshots.get(state)

    def nearest(self, state: ScopeState, vector: NDArray[np.float32], n: int) -> Nearest:
        """See `engram_core.ports.Finder`."""
        if self._projector is None:
            return Nearest(self._matrices.nearest(state, vector, n), degraded=False)
        hits = self._projector.search(state, vector, n)
        if hits is None:
            return Nearest(self._matrices.nearest(state, vector, n), degraded=True)
        self._matrices.release(state.id)
        return Nearest(hits, degraded=False)

    def frequencies(self, state: ScopeState, stems: Sequence[str]) -> dict[str, tuple[int, int]]:
        """See `engram_core.ports.Finder`."""
        return self._decks.frequencies(state, stems)

    def matching(self, state: ScopeState, weights: Mapping[str, float], limit: int, *, together: bool) -> list[str]:
        """See `engram_core.ports.Finder`."""
        return self._decks.matching(state, weights, limit, together=together)

    def gather(
        self, state: ScopeState, found: Sequence[Sequence[str]], stems: Sequence[str], with_neighbours: int
    ) -> Gathered:
        """See `engram_core.ports.Finder`."""
        return self._decks.gather(state, found, stems, with_neighbours)

    def wake(self) -> None:
        """See `engram_core.ports.Finder`."""
        if self._projector is not None:
            self._projector.wake()

    def flush(self, timeout: float) -> bool:
        """See `engram_core.ports.Finder`."""
        return self._projector is None or self._projector.flush(timeout)

    def rebuild(self, progress: Callable[[int, int], None] | None = None, *, patience: float = 0.0) -> int:
        """See `engram_core.ports.Finder` and `Projector.rebuild`. Raises InvalidInput where there is no index."""
        if self._projector is None:
            raise InvalidInput("This store searches exactly and has no index to rebuild.")
        return self._projector.rebuild(progress, patience=patience)

    def purge(self) -> str:
        """See `engram_core.ports.Finder`."""
        self._start_caches()
        return "there is none" if self._projector is None else self._projector.purge()

    def files(self) -> list[str]:
        """See `engram_core.ports.Finder`."""
        return self._projector.files() if self._projector is not None else []

    def health(self) -> Mapping[str, Any]:
        """See `engram_core.ports.Finder`."""
        if self._projector is None:
            return {"kind": "exact", "state": "ready", "problem": None}
        return self._projector.health()

    def close(self) -> None:
        """See `engram_core.ports.Finder`."""
        self._decks.close()
        if self._projector is not None:
            self._projector.close()
