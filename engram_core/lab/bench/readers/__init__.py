"""Readers: finds out which format a path holds and reads it. They repair what is malformed; they measure nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from engram_core.domain.errors import InvalidInput
from engram_core.lab.bench.data import Dataset
from engram_core.lab.bench.readers import beam, lines, locomo, longmemeval


class _Format(NamedTuple):
    name: str
    fits: Callable[[Any], bool]
    read: Callable[[str, Any], Dataset]


_FORMATS: Final = (
    _Format("LoCoMo as published (locomo10.json)", locomo.is_original, locomo.read_original),
    _Format("LoCoMo by session, with labelled questions", locomo.is_by_session, locomo.read_by_session),
    _Format("LongMemEval", longmemeval.fits, longmemeval.read),
    _Format("BEAM in one file", beam.fits, beam.read),
)


def load(path: Path) -> Dataset:
    """The labelled conversations at `path`; the format is told from what is there.

    Args:
        path: A JSON file (LoCoMo, LongMemEval, BEAM), a JSON Lines file of updates or of labels to forget by, or a
            folder of BEAM chats; docs/benchmarks.md describes them.

    Returns:
        Conversations whose messages have ids and whose evidence exists.

    Raises:
        InvalidInput: There is nothing at `path`, it is in no known format, or something in it is missing; says where.
    """
    if path.is_dir():
        return beam.read_folder(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The data at {path} cannot be read: {error}.") from error
    if path.suffix == ".jsonl" or lines.fits(text):
        return lines.read(path.name, text)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{path} is neither JSON nor JSON Lines: {error}.") from error
    items = value if isinstance(value, list) else [value]
    for known in _FORMATS:
        if items and isinstance(items[0], dict) and known.fits(items[0]):
            return known.read(path.name, items)
    shown = ", ".join(sorted(items[0])[:8]) if items and isinstance(items[0], dict) else type(value).__name__
    raise InvalidInput(
        f"{path} is in no format the bench reads (its first record has: {shown or 'nothing'}). It reads "
        f"{'; '.join(known.name for known in _FORMATS)}; a folder of BEAM chats; JSON Lines of turns and questions."
    )


def pick(found: Dataset, limit: int | None) -> Dataset:
    """The first `limit` conversations; all of them for None.

    Raises:
        InvalidInput: `limit` is less than 1.
    """
    if limit is None:
        return found
    if limit < 1:
        raise InvalidInput(f"A limit of {limit} conversations leaves nothing to measure; give 1 or more.")
    return Dataset(found.name, found.format, found.conversations[:limit], found.apart)
