"""Residue: searches files for what was erased. It reads; it changes nothing and knows no backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from engram_core.measure.residue import Needles

BLOCK: Final = 4 << 20
"""Bytes read at a time."""
_SQLITE: Final = b"SQLite format 3\0"
_LEDGER: Final = "engram.db"

Verdict = Literal["REMOVED", "FOUND", "NOT COMPUTABLE"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Residue:
    """What a search found.

    Attributes:
        verdict: `REMOVED`: no pattern is in any file. `FOUND`: some are. `NOT COMPUTABLE`: a file could not be read or
            is not what its name says, such as an encrypted ledger, so that nothing can be said.
        places: The needles found in each file, by their number: texts first, then vectors.
        files, size: How much was searched, `size` in bytes.
        unreadable: Files that could not be judged, and why.
    """

    verdict: Verdict
    places: dict[str, tuple[int, ...]]
    files: int
    size: int
    unreadable: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; names files, never what was looked for."""
        return {
            "verdict": self.verdict,
            "found": {path: len(places) for path, places in self.places.items()},
            "files": self.files,
            "bytes": self.size,
            "unreadable": dict(self.unreadable),
        }


def search(
    paths: Iterable[str | Path],
    texts: Sequence[str],
    vectors: Sequence[NDArray[np.floating]] = (),
    *,
    progress: Progress | None = None,
) -> Residue:
    """Search files, and every file below directories, for texts and vectors.

    Args:
        paths: Files and directories. One that does not exist holds nothing: whoever calls knows what must be there.
        texts: Of at least four characters each; found in UTF-8, UTF-16, JSON's escapes and base64.
        vectors: Of at least eight numbers each; found as float16 and float32.
        progress: Called with (files done, files in all).
    """
    needles = Needles(texts, vectors)
    files = sorted(set(_files(paths)))
    places: dict[str, tuple[int, ...]] = {}
    unreadable: dict[str, str] = {}
    size = 0
    for number, path in enumerate(files, 1):
        try:
            found, read = _search(path, needles)
        except OSError as error:
            unreadable[str(path)] = str(error)
        else:
            size += read
            if found:
                places[str(path)] = tuple(sorted(found))
            if path.name == _LEDGER and read and not _is_sqlite(path):
                unreadable[str(path)] = "It is no plain SQLite file: encrypted, or damaged at its beginning."
        if progress is not None:
            progress(number, len(files))
    verdict: Verdict = "FOUND" if places else "NOT COMPUTABLE" if unreadable else "REMOVED"
    return Residue(verdict, places, len(files), size, unreadable)


def _files(paths: Iterable[str | Path]) -> Iterator[Path]:
    for given in paths:
        path = Path(given)
        if path.is_dir():
            yield from (item for item in path.rglob("*") if item.is_file())
        elif path.exists():
            yield path


def _search(path: Path, needles: Needles) -> tuple[set[int], int]:
    found: set[int] = set()
    size, tail = 0, b""
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            size += len(block)
            found |= needles.found(tail + block)
            # What lies across two blocks is whole in the next one; a multiple of 4 keeps floats aligned.
            tail = (tail + block)[-(needles.longest + 4) :]
    return found, size


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE
