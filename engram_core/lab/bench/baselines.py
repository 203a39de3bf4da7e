"""Baselines: what any memory should beat, always run beside it. They share word stems with Engram, no more."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engram_core.lab.bench.subject import Embed, Found, Item, System
from engram_core.measure.words import stems

K1: Final = 0.9
B: Final = 0.75
_EMPTY: Final = 512
"""Rows the vectors' matrix starts with; it doubles."""


class _Listed:
    """What the baselines share: a list of everything said."""

    def __init__(self, embed: Embed, folder: Path) -> None:
        self._embed = embed
        self._items: list[Item] = []

    def add(self, items: Sequence[Item]) -> None:
        """Append."""
        self._items += items

    def close(self) -> None:
        """Nothing to let go."""

    def _found(self, rows: Sequence[int]) -> list[Found]:
        return [((self._items[row]["id"],), self._items[row]["text"]) for row in rows]


class Vectors(_Listed):
    """Exact cosine search over `Speaker: words`."""

    def __init__(self, embed: Embed, folder: Path) -> None:
        super().__init__(embed, folder)
        self._matrix: NDArray[np.float32] | None = None

    def add(self, items: Sequence[Item]) -> None:
        """Append to the matrix."""
        if not items:
            return
        vectors = np.asarray(self._embed([one["text"] for one in items]), dtype=np.float32)
        start, end = len(self._items), len(self._items) + len(items)
        super().add(items)
        if self._matrix is None or end > len(self._matrix):
            grown = np.zeros((max(_EMPTY, 2 * end), vectors.shape[1]), dtype=np.float32)
            if self._matrix is not None:
                grown[:start] = self._matrix[:start]
            self._matrix = grown
        self._matrix[start:end] = vectors

    def search(self, question: str, k: int) -> Sequence[Found]:
        """The k nearest; the older of two equal ones first."""
        if self._matrix is None:
            return []
        asked = np.asarray(self._embed([question])[0], dtype=np.float32)
        scores = self._matrix[: len(self._items)] @ asked
        return self._found([int(row) for row in np.argsort(-scores, kind="stable")[:k]])


class Bm25(_Listed):
    """BM25 over stemmed words, k1 0.9, b 0.75; what shares no word with the question comes last, oldest first."""

    def __init__(self, embed: Embed, folder: Path) -> None:
        super().__init__(embed, folder)
        self._postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._lengths: list[int] = []

    def add(self, items: Sequence[Item]) -> None:
        """Append to the postings."""
        for row, one in enumerate(items, len(self._items)):
            words = stems(one["text"])
            self._lengths.append(len(words))
            for word, times in Counter(words).items():
                self._postings[word].append((row, times))
        super().add(items)

    def search(self, question: str, k: int) -> Sequence[Found]:
        """The k best; the older of two equal ones first."""
        count = len(self._items)
        if not count:
            return []
        lengths = np.array(self._lengths, dtype=np.float64)
        norm = K1 * (1 - B + B * lengths / max(lengths.mean(), 1e-9))
        scores = np.zeros(count)
        for word, asked in Counter(stems(question)).items():
            found = self._postings.get(word)
            if found:
                rows, times = np.array(found).T
                idf = math.log(1 + (count - len(found) + 0.5) / (len(found) + 0.5))
                scores[rows] += asked * idf * times / (times + norm[rows])
        return self._found([int(row) for row in np.argsort(-scores, kind="stable")[:k]])


class Newest(_Listed):
    """The whole conversation from its end: a context that keeps the newest. It forgets first in, first out."""

    def search(self, question: str, k: int) -> Sequence[Found]:
        """The last k, the last one first."""
        return self._found(range(len(self._items) - 1, -1, -1)[:k])

    def forget(self, keep: int) -> None:
        """Drop the oldest."""
        self._items = self._items[max(len(self._items) - keep, 0) :]

    def kept(self) -> set[str]:
        """Ids of what is left."""
        return {one["id"] for one in self._items}


class Oldest(_Listed):
    """The whole conversation from its beginning: a context that is filled once."""

    def search(self, question: str, k: int) -> Sequence[Found]:
        """The first k."""
        return self._found(range(len(self._items))[:k])


BASELINES: Final = (
    System("BM25", Bm25),
    System("vectors alone", Vectors),
    System("full context, newest", Newest),
    System("full context, oldest", Oldest),
)
