"""Residue: the byte patterns by which a text or vector is found in a file, and the search for them. Pure.

A text may lie in a file as UTF-8, UTF-16, escaped in JSON, or in base64 at three alignments; a vector as float16 or
float32, the latter also normalised by an index, so floats are compared by value.
"""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

PIECE: Final = 24
"""Characters of a piece: a longer text is looked for by its beginning, its middle and its end."""
_SHORTEST: Final = 4
"""Characters below which a text stands in everything."""
_PREFIX: Final = 8
_RUN: Final = 8
"""Neighbouring numbers that must agree before a vector counts as found."""
_CLOSE: Final = 1e-4
"""Relative difference that float16 rounding and normalising leave, with room to spare."""

Floats = NDArray[np.float32]


def spellings(text: str) -> frozenset[bytes]:
    """Every way in which a file may hold a text; empty for one that is too short to be told from others."""
    found: set[bytes] = set()
    for piece in _pieces(text):
        for form in dict.fromkeys((piece, piece.lower(), piece.upper())):
            escaped = {json.dumps(form)[1:-1], json.dumps(form, ensure_ascii=False)[1:-1], form}
            found |= {one.encode("utf-8", "surrogatepass") for one in escaped}
            found |= {form.encode(name, "surrogatepass") for name in ("utf-16-le", "utf-16-be")}
            found |= set(_base64(form.encode("utf-8", "surrogatepass")))
    return frozenset(found)


def _pieces(text: str) -> Iterator[str]:
    whole = text.strip()
    if len(whole) < _SHORTEST:
        return
    if len(whole) <= PIECE:
        yield whole
        return
    middle = (len(whole) - PIECE) // 2
    yield from (whole[:PIECE], whole[middle : middle + PIECE], whole[-PIECE:])


def _base64(raw: bytes) -> Iterator[bytes]:
    """The part of a base64 text that does not depend on what stands around it, for each of three alignments."""
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        start, end = (0, 2, 3)[shift], len(encoded) - (0, 4, 4)[(shift + len(raw)) % 3]
        if end - start >= _PREFIX:
            yield encoded[start:end]
            yield encoded[start:end].replace(b"+", b"-").replace(b"/", b"_")


class Needles:
    """Patterns to look for.

    Args:
        texts: Looked for in every spelling; found ones are named by their place in this sequence.
        vectors: Each of shape (d,), d >= 8, looked for as float16 and float32.
    """

    def __init__(self, texts: Sequence[str], vectors: Sequence[NDArray[np.floating]] = ()) -> None:
        self.count = len(texts) + len(vectors)
        self._by_prefix: defaultdict[int, list[tuple[bytes, int]]] = defaultdict(list)
        self._short: list[tuple[bytes, int]] = []
        self.longest = 0
        for place, text in enumerate(texts):
            for pattern in spellings(text):
                self._take(pattern, place)
        self._vectors = [(len(texts) + place, np.asarray(one, dtype=np.float32)) for place, one in enumerate(vectors)]
        for place, vector in self._vectors:
            if len(vector) >= _RUN:
                for start in {0, len(vector) // 2}:
                    self._take(vector[start : start + 2 * _RUN].astype("<f2").tobytes(), place)
        self.longest = max(self.longest, 4 * _RUN + 4)
        self._prefixes = np.array(sorted(self._by_prefix), dtype=np.uint64)
        self._table = np.zeros(1 << 16, dtype=np.bool_)
        self._table[(self._prefixes & np.uint64(0xFFFF)).astype(np.int64)] = True

    def _take(self, pattern: bytes, place: int) -> None:
        self.longest = max(self.longest, len(pattern))
        if len(pattern) < _PREFIX:
            self._short.append((pattern, place))
        else:
            self._by_prefix[int.from_bytes(pattern[:_PREFIX], "little")].append((pattern, place))

    def found(self, block: bytes) -> set[int]:
        """Places of the needles in a block of bytes."""
        hits = {place for pattern, place in self._short if pattern in block}
        if len(self._prefixes):
            hits |= set(self._with_prefix(block))
        return hits | set(self._floats(block))

    def _with_prefix(self, block: bytes) -> Iterator[int]:
        for offset in range(_PREFIX):
            count = (len(block) - offset) // _PREFIX
            if count <= 0:
                return
            words = np.frombuffer(block, dtype="<u8", count=count, offset=offset)
            near = np.flatnonzero(self._table[(words & np.uint64(0xFFFF)).astype(np.int64)])
            likely = near[np.isin(words[near], self._prefixes)]
            for place in likely.tolist():
                start = offset + place * _PREFIX
                for pattern, needle in self._by_prefix[int(words[place])]:
                    if block.startswith(pattern, start):
                        yield needle

    def _floats(self, block: bytes) -> Iterator[int]:
        """Vectors whose first numbers follow one another in the block, at any alignment."""
        if not self._vectors:
            return
        for offset in range(4):
            count = (len(block) - offset) // 4
            if count < _RUN:
                return
            values = np.frombuffer(block, dtype="<f4", count=count, offset=offset)
            for place, vector in self._vectors:
                if len(vector) >= _RUN and _holds(values, vector[:_RUN]):
                    yield place


def _holds(values: Floats, run: Floats) -> bool:
    slack = np.abs(run) * _CLOSE + 1e-7
    with np.errstate(all="ignore"):
        starts = np.flatnonzero(np.abs(values[: len(values) - _RUN + 1] - run[0]) <= slack[0])
        for place in range(1, _RUN):
            if not len(starts):
                return False
            starts = starts[np.abs(values[starts + place] - run[place]) <= slack[place]]
    return bool(len(starts))


def looked_for(texts: Iterable[str]) -> list[str]:
    """Those of the texts that can be looked for at all, without repeats."""
    return [text for text in dict.fromkeys(texts) if len(text.strip()) >= _SHORTEST]
