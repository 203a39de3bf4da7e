"""Clusters: which vectors lie so close together that one fact could stand for them. Pure numpy; it reads no text.

A leader pass: each vector joins the most similar earlier leader or becomes one, so no vector is further from its
leader than the threshold. Connected components would chain (docs/algorithms.md section 7). Vectors are compared with
leaders only, never all with all; a large group's leaders are looked up by cell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

EXACT: Final = 8_192
"""Vectors up to which every leader is compared with; above it, those in the nearest cells."""
PROBES: Final = 16
"""Cells looked into."""
_BLOCK: Final = 1_024
_ROUNDS: Final = 4
_SAMPLE_PER_CELL: Final = 40


@dataclass(frozen=True, slots=True)
class Clusters:
    """What belongs together.

    Attributes:
        groups: Rows of each new cluster, ascending; clusters in the order of their first row.
        joined: Row to the seed it joins.
    """

    groups: tuple[tuple[int, ...], ...]
    joined: Mapping[int, int]


def clusters(vectors: Floats, least: float, size: int, seeds: Floats | None = None) -> Clusters:
    """Cluster unit vectors.

    Args:
        vectors: Shape (n, d), unit length, in the order in which they may become leaders.
        least: Cosine from which two belong together, -1 to 1.
        size: Members a new cluster needs, at least 2.
        seeds: Unit means of clusters that exist already, shape (m, d); a vector near one joins it.

    Returns:
        Deterministic. A vector left over by the leader pass joins the nearest new cluster whose mean is near enough.
    """
    joined: dict[int, int] = {}
    rest = np.arange(len(vectors))
    if seeds is not None and len(seeds) and len(vectors):
        best, who = _nearest(vectors, seeds)
        near = best >= least
        joined = dict(zip(rest[near].tolist(), who[near].tolist(), strict=True))
        rest = rest[~near]
    leader = leaders(vectors[rest], least)
    heads, counts = np.unique(leader, return_counts=True)
    kept = heads[counts >= size]
    if len(kept):
        leader = _with_stragglers(vectors[rest], leader, kept, least)
    order = np.argsort(leader, kind="stable")
    starts = np.searchsorted(leader[order], kept)
    ends = np.searchsorted(leader[order], kept, side="right")
    groups = [
        tuple(sorted(rest[order[start:end]].tolist())) for start, end in zip(starts, ends, strict=True) if end > start
    ]
    return Clusters(tuple(sorted(groups)), joined)


def leaders(vectors: Floats, least: float) -> Ints:
    """The row of each vector's leader, its own for a leader; shape (n,)."""
    leader = np.arange(len(vectors))
    if not len(vectors):
        return leader
    probes, cells = _cells(vectors)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        best, who = _best_known(block, probes[start : start + _BLOCK], cells)
        new = _settle(block, best, who, least, start)
        leader[start : start + len(block)] = who
        for row in new:
            cells[probes[row, 0]].add(row, vectors[row])
    return leader


def unit(vectors: NDArray[np.floating]) -> Floats:
    """Rows scaled to length 1; a zero row stays zero."""
    values = np.asarray(vectors, dtype=np.float32)
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    scaled: Floats = values / np.maximum(length, np.float32(1e-12))
    return scaled


def _settle(block: Floats, best: Floats, who: Ints, least: float, start: int) -> list[int]:
    """Go through a block in order, letting its own new leaders compete; fill `who` and return the new leaders."""
    within = block @ block.T
    new = np.empty(len(block), dtype=np.int64)
    count = 0
    for row in range(len(block)):
        if count:
            among = within[row, new[:count]]
            place = int(among.argmax())
            if among[place] > best[row]:
                best[row], who[row] = among[place], start + new[place]
        if best[row] < least:
            who[row] = start + row
            new[count] = row
            count += 1
    return [int(start + row) for row in new[:count]]


class _Cell:
    """The leaders of one cell, in a growing matrix."""

    def __init__(self, dimension: int) -> None:
        self._rows = np.empty(16, dtype=np.int64)
        self._vectors = np.empty((16, dimension), dtype=np.float32)
        self._count = 0

    def add(self, row: int, vector: Floats) -> None:
        if self._count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
        self._rows[self._count], self._vectors[self._count] = row, vector
        self._count += 1

    def best(self, vectors: Floats) -> tuple[Floats, Ints] | None:
        """Similarity and row of the most similar leader of each vector; None for an empty cell."""
        if not self._count:
            return None
        similar = vectors @ self._vectors[: self._count].T
        place = similar.argmax(axis=1)
        return similar[np.arange(len(vectors)), place], self._rows[place]


def _best_known(block: Floats, probes: Ints, cells: list[_Cell]) -> tuple[Floats, Ints]:
    best = np.full(len(block), -np.inf, dtype=np.float32)
    who = np.full(len(block), -1, dtype=np.int64)
    flat = probes.ravel()
    order = np.argsort(flat, kind="stable")
    names, starts = np.unique(flat[order], return_index=True)
    for name, rows in zip(names, np.split(order // probes.shape[1], starts[1:]), strict=True):
        found = cells[name].best(block[rows])
        if found is None:
            continue
        better = found[0] > best[rows]
        best[rows[better]], who[rows[better]] = found[0][better], found[1][better]
    return best, who


def _cells(vectors: Floats) -> tuple[Ints, list[_Cell]]:
    """The cells each vector looks into, nearest first, (n, probes), and the empty cells; one cell for a small group."""
    dimension = vectors.shape[1]
    if len(vectors) <= EXACT:
        return np.zeros((len(vectors), 1), dtype=np.int64), [_Cell(dimension)]
    count = math.isqrt(len(vectors))
    sample = vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), count * _SAMPLE_PER_CELL)).astype(np.int64)]
    centres = sample[np.linspace(0, len(sample) - 1, count).astype(np.int64)].copy()
    for _ in range(_ROUNDS):
        _, cell = _nearest(sample, centres)
        sums = np.zeros_like(centres)
        np.add.at(sums, cell, sample)
        held = np.bincount(cell, minlength=count) > 0
        centres[held] = unit(sums[held])
    probes = np.empty((len(vectors), PROBES), dtype=np.int64)
    for start in range(0, len(vectors), _BLOCK):
        similar = vectors[start : start + _BLOCK] @ centres.T
        top = np.argpartition(-similar, PROBES - 1, axis=1)[:, :PROBES]
        order = np.argsort(-np.take_along_axis(similar, top, axis=1), axis=1, kind="stable")
        probes[start : start + _BLOCK] = np.take_along_axis(top, order, axis=1)
    return probes, [_Cell(dimension) for _ in range(count)]


def _with_stragglers(vectors: Floats, leader: Ints, kept: Ints, least: float) -> Ints:
    place = np.searchsorted(kept, leader)
    is_kept = kept[np.minimum(place, len(kept) - 1)] == leader
    sums = np.zeros((len(kept), vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, place[is_kept], vectors[is_kept])
    left = np.flatnonzero(~is_kept)
    best, who = _nearest(vectors[left], unit(sums))
    near = best >= least
    result = leader.copy()
    result[left[near]] = kept[who[near]]
    return result


def _nearest(vectors: Floats, centres: Floats) -> tuple[Floats, Ints]:
    """Similarity and number of the nearest centre of each vector, block by block."""
    best = np.full(len(vectors), -np.inf, dtype=np.float32)
    who = np.zeros(len(vectors), dtype=np.int64)
    for start in range(0, len(vectors), _BLOCK):
        similar = vectors[start : start + _BLOCK] @ centres.T
        who[start : start + _BLOCK] = similar.argmax(axis=1)
        best[start : start + _BLOCK] = similar.max(axis=1)
    return best, who
