"""An exact VectorIndex in memory: the oracle for every other index. It approximates nothing and keeps nothing."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.errors import IndexUnavailable
from engram_core.ports import Hit, Point


class ExactIndex:
    """The VectorIndex port over dictionaries; see `engram_core.ports.VectorIndex`. Thread-safe."""

    def __init__(self) -> None:
        self._collections: dict[str, dict[str, NDArray[np.float32]]] = {}
        self._lock = threading.Lock()
        self._is_closed = False

    def create(self, name: str, dimension: int) -> None:
        with self._lock:
            self._check()
            self._collections[name] = {}

    def fit(self, name: str, size: int) -> bool:
        """See `engram_core.ports.VectorIndex`. Arrays fit any number."""
        return False

    def put(self, name: str, points: Sequence[Point]) -> None:
        with self._lock:
            collection = self._collection(name)
            for point in points:
                vector = np.array(point.vector, dtype=np.float32)
                collection[point.id] = vector / np.linalg.norm(vector)

    def remove(self, name: str, ids: Sequence[str]) -> None:
        with self._lock:
            collection = self._collection(name)
            for id_ in ids:
                collection.pop(id_, None)

    def search(self, name: str, vector: NDArray[np.float32], n: int) -> list[Hit]:
        with self._lock:
            collection = dict(self._collection(name))
        if not collection:
            return []
        scores = np.stack(list(collection.values())) @ (vector / np.linalg.norm(vector))
        hits = [Hit(id_, float(score)) for id_, score in zip(collection, scores, strict=True)]
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))[:n]

    def count(self, name: str) -> int:
        with self._lock:
            return len(self._collection(name))

    def ids(self, name: str) -> set[str]:
        with self._lock:
            return set(self._collection(name))

    def names(self) -> list[str]:
        with self._lock:
            self._check()
            return sorted(self._collections)

    def drop(self, name: str) -> None:
        with self._lock:
            self._check()
            self._collections.pop(name, None)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True

    def _check(self) -> None:
        if self._is_closed:
            raise IndexUnavailable("This index was closed.")

    def _collection(self, name: str) -> dict[str, NDArray[np.float32]]:
        self._check()
        if name not in self._collections:
            raise IndexUnavailable(f"There is no collection {name!r}.")
        return self._collections[name]
