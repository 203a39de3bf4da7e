"""Fence: the markers that enclose recalled text in a prompt, and what keeps stored text from forging them. Pure."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from typing import Final

from engram_core.domain.errors import InvalidInput

FENCE: Final = re.compile(r"<memory-([0-9a-f]{8})\b[^>]*>.*?</memory-\1>", re.DOTALL)
"""One whole recall as it stands in a prompt. To cut recalls out of untrusted text use `without_fences`."""

_MARKER = re.compile(r"[0-9a-f]{8}")
_OPEN = re.compile(r"<memory-([0-9a-f]{8})\b")
_CLOSE = re.compile(r"</memory-([0-9a-f]{8})>")
# Also wide brackets, and spaces or joiners in between: a reader of the text could take them for the real thing.
_FORGERY = re.compile(r"[<\uff1c﹤\u2039](?=[\s/\uff0f\u200c\u200d]*memory-)", re.IGNORECASE)
_HARMLESS: Final = "&lt;"


def open_fence(marker: str) -> str:
    """The line that begins a recall. `marker` is 8 random lower-case hexadecimal digits, new for every recall."""
    return f"<memory-{_checked(marker)}>"


def close_fence(marker: str) -> str:
    """The line that ends the recall begun with the same `marker`."""
    return f"</memory-{_checked(marker)}>"


def defused(text: str) -> str:
    """`text` with every "<" that begins something like a fence replaced by "&lt;"; other text is unchanged."""
    return _FORGERY.sub(_HARMLESS, text)


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
