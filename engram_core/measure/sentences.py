"""Sentences: where one thought ends and the next begins. It cuts; it judges nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

# The look-behind lets a match begin only where a run of dots begins: linear on hostile input.
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]+[\"'”\u2019)\]]*(?=\s)|[。\uff01\uff1f]+[」』”\u2019]*|\n")
_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|approx|No|Nr|Fig|Corp|Inc|Ltd|Co|[A-Z])|\be\.g|\bi\.e|\bcf)\.$"
)


def spans(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Bounds of the sentences within `text[start:end]`, without the white space round them; a line break ends one."""
    for found in _SENTENCE_END.finditer(text, start, end):
        # A title or an initial ("Dr. Smith") ends in a dot but not in a thought; a look back of 12 covers the longest.
        if found[0] == "." and _ABBREVIATION.search(text[max(start, found.end() - 12) : found.end()]):
            continue
        yield from _trimmed(text, start, found.end())
        start = found.end()
    yield from _trimmed(text, start, end)


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    if left < len(piece):
        yield start + left, start + len(piece.rstrip())


def sentences(text: str) -> list[str]:
    """The sentences of `text`; a line break ends a sentence too."""
    return [text[start:end] for start, end in spans(text, 0, len(text))]
