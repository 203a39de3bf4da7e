"""Statements: cuts a long message into parts that can each be a fact. It decides where to cut, never what to keep.

Every part is a slice of the text, in order, and only whitespace lies between two parts: nothing is ever lost.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from engram_core.domain.fact import MAX_TEXT_BYTES
from engram_core.measure.sentences import spans
from engram_core.measure.words import LONG_BODY_WORDS

PART_WORDS: Final = 120

_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_FENCE_LINE = re.compile(r"\s{0,3}(```|~~~)")
_BULLET = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)]|[a-z][.)])\s")
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class _Span:
    """A slice `text[start:end]` that neither begins nor ends with whitespace."""

    start: int
    end: int


def words_in(text: str) -> float:
    """Words of `text`; in scripts written without spaces a character counts half a word.

    Halves are not rounded, so that parts never weigh more than the sum of their pieces.
    """
    return len(text.split()) + len(_CJK.findall(text)) / 2


def split(text: str) -> list[str]:
    """Cut `text` into statements.

    Args:
        text: A message body.

    Returns:
        The stripped text itself when it has at most 150 words and 8 KiB; else parts of at most 120 words and 8 KiB,
        cut between paragraphs, then list items and code lines, then sentences, then words. Empty for blank text.
    """
    body = text.strip()
    if not body:
        return []
    if words_in(body) <= LONG_BODY_WORDS and _size(body) <= MAX_TEXT_BYTES:
        return [body]
    atoms = [atom for block in _blocks(body) for atom in _atoms(body, block)]
    return [body[part.start : part.end] for part in _packed(body, atoms)]


def _packed(text: str, atoms: list[_Span]) -> Iterator[_Span]:
    """Join neighbouring atoms into parts of about equal length, so that no scrap is left at the end."""
    weights = [words_in(text[atom.start : atom.end]) for atom in atoms]
    target = sum(weights) / max(1, math.ceil(sum(weights) / PART_WORDS))
    start, end, weight, size = atoms[0].start, atoms[0].end, weights[0], _size(text[atoms[0].start : atoms[0].end])
    for atom, more in zip(atoms[1:], weights[1:], strict=True):
        grown = size + _size(text[end : atom.end])
        if weight >= target or weight + more > PART_WORDS or grown > MAX_TEXT_BYTES:
            yield _Span(start, end)
            start, weight, grown = atom.start, 0.0, _size(text[atom.start : atom.end])
        end, weight, size = atom.end, weight + more, grown
    yield _Span(start, end)


def _atoms(text: str, block: _Span) -> Iterator[_Span]:
    """The pieces of a block that may not be cut further: the whole block if it fits, else ever smaller units."""
    if _fits(text, block):
        yield block
        return
    is_lines = _FENCE_LINE.match(text, block.start) or _BULLET.match(text, block.start)
    for unit in _lines(text, block) if is_lines else _sentences(text, block):
        if _fits(text, unit):
            yield unit
        else:
            for word in _words(text, unit):
                yield from _slices(text, word)


def _fits(text: str, span: _Span) -> bool:
    piece = text[span.start : span.end]
    return words_in(piece) <= PART_WORDS and _size(piece) <= MAX_TEXT_BYTES


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _trimmed(text: str, start: int, end: int) -> _Span | None:
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    return _Span(start + left, start + len(piece.rstrip())) if left < len(piece) else None


def _blocks(text: str) -> Iterator[_Span]:
    """Paragraphs, lists and fenced code blocks, in order."""
    opened, fence, kind = 0, "", ""
    for start, end in _line_bounds(text):
        line = text[start:end]
        mark = _FENCE_LINE.match(line)
        now = _line_kind(line, kind)
        if not fence and (now != kind or mark):
            if span := _trimmed(text, opened, start):
                yield span
            opened, kind = start, now
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1] == fence:
            fence, kind = "", "after code"
    if span := _trimmed(text, opened, len(text)):
        yield span


def _line_kind(line: str, before: str) -> str:
    if not line.strip():
        return "blank"
    if _BULLET.match(line) or (before == "list" and line[0].isspace()):
        return "list"
    return "prose"


def _line_bounds(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(text):
        found = text.find("\n", start)
        end = len(text) if found < 0 else found + 1
        yield start, end
        start = end


def _lines(text: str, block: _Span) -> Iterator[_Span]:
    for start, end in _line_bounds(text[block.start : block.end]):
        if span := _trimmed(text, block.start + start, block.start + end):
            yield span


def _sentences(text: str, block: _Span) -> Iterator[_Span]:
    return (_Span(*bounds) for bounds in spans(text, block.start, block.end))


def _words(text: str, unit: _Span) -> Iterator[_Span]:
    for found in _WORD.finditer(text, unit.start, unit.end):
        yield _Span(*found.span())


def _slices(text: str, word: _Span) -> Iterator[_Span]:
    """A word that fits, or a run without spaces (base64, Chinese) cut into slices that fit."""
    if _fits(text, word):
        yield word
        return
    step = PART_WORDS if _CJK.search(text, word.start, word.end) else MAX_TEXT_BYTES // 4
    for start in range(word.start, word.end, step):
        yield _Span(start, min(start + step, word.end))
