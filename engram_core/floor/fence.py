"""Fence: the markers that enclose recalled text in a prompt, and what keeps stored text from forging them. Pure."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from typing import Final

from engram_core.domain.errors import InvalidInput

FENCE: Final = re.compile(r"<memory-([0-9a-f]{8})\b[^>]*>.*?</memory-\1>", re.DOTALL)
"""One whole recall as it stands in a prompt. To cut recalls out of untrusted text use `without_fences`."""

_MARKER = re.compile(r"[0-9a-f]{8}")
_OPEN = re.compile(r"<memory-([0-9a-f]{8})\b")
_CLOSE = re.compile(r"</memory-([0-9a-f]{8})>")
# Also brackets that look alike, and spaces or joiners in between: a reader could take them for the real thing.
_BRACKETS: Final = "<\uff1c﹤\u2039\u27e8\u3008\u2329\u276c\u276e\u29fc\u300a\u00ab\u02c2\u1438\u16b2"
_BRACKET: Final = re.compile(f"[{_BRACKETS}]|&(?:lt|#0*60|#x0*3c);", re.IGNORECASE)
_FORGERY: Final = re.compile(
    f"(?:[{_BRACKETS}]|&(?:lt|#0*60|#x0*3c);)(?=[\\s/\\\\\uff0f\u2044\u2215\u29f8\u200c\u200d]*m[\\s\u200c\u200d]*e[\\s\u200c\u200d]*m[\\s\u200c\u200d]*o[\\s\u200c\u200d]*r[\\s\u200c\u200d]*y[\\s\u200c\u200d]*[\u2010-\u2015\u2212_-])",
    re.IGNORECASE,
)
# One character for one: a place in the folded text is a place in the text.
_LOOK_ALIKES: Final = str.maketrans("еєοоօуүγмгʀ", "eeoooyyymrr")
_HARMLESS: Final = "&lt;"


def open_fence(marker: str) -> str:
    """The line that begins a recall. `marker` is 8 random lower-case hexadecimal digits, new for every recall."""
    return f"<memory-{_checked(marker)}>"


def close_fence(marker: str) -> str:
    """The line that ends the recall begun with the same `marker`."""
    return f"</memory-{_checked(marker)}>"


def defused(text: str) -> str:
    """`text` with every bracket that begins something like a fence replaced by "&lt;"; other text is unchanged.

    Something like a fence is the word memory behind a bracket of any shape, also written with letters that look alike, in
    mathematical or full-width letters, spaced, or with the bracket as an HTML entity.
    """
    if _BRACKET.search(text) is None:
        return text
    plain = text if text.isascii() else "".join(map(_plain, text))
    parts, done = [], 0
    for found in _FORGERY.finditer(plain):
        # An entity that is defused already must stay as it is, or doing it twice would change the text again.
        if text[found.start() : found.end()] == _HARMLESS:
            continue
        parts += [text[done : found.start()], _HARMLESS]
        done = found.end()
    return "".join([*parts, text[done:]]) if parts else text


def _plain(character: str) -> str:
    """The Latin letter a character is taken for, or itself."""
    if character.isascii():
        return character
    folded = unicodedata.normalize("NFKC", character)
    return (folded if len(folded) == 1 else character).translate(_LOOK_ALIKES)


def without_fences(text: str) -> tuple[str, bool]:
    """Cut out what `FENCE` matches, in linear time (the pattern itself is quadratic on hostile text).

    Returns:
        The rest, each recall replaced by a line break, and whether there was any.
    """
    closes: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for close in _CLOSE.finditer(text):
        closes[close[1]].append(close.span())
    kept: list[str] = []
    done, bracket = 0, 0
    for start in _OPEN.finditer(text):
        if start.start() < done or start[1] not in closes:
            continue
        bracket = text.find(">", start.end()) if bracket < start.end() else bracket
        ends = closes[start[1]]
        place = bisect_left(ends, (bracket + 1, 0))
        if bracket < 0 or place == len(ends):
            continue
        kept.append(text[done : start.start()])
        done = ends[place][1]
    if not kept:
        return text, False
    return "\n".join([*kept, text[done:]]), True


def _checked(marker: str) -> str:
    if not _MARKER.fullmatch(marker):
        raise InvalidInput(f"A fence marker is 8 lower-case hexadecimal digits, not {marker!r}.")
    return marker
