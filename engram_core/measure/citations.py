"""Citations: the markers that lines of context carry, and what answers do with them. Pure text; it judges nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

CITE_INSTRUCTION: Final = "Cite what you use: end the statement with the marker of the line behind it."
"""What a citing recall asks of the model. It shows no marker, so that repeating it cites nothing."""

_OPENS: Final = r"\[［【"
_DIGITS: Final = r"\d{1,4}(?!\d)"
_JOINED: Final = r"\s{0,3}(?:(?:,|;|&|and|-|–)\s{0,3})?"
"""Unambiguous about blanks, or a hostile text could take exponential time."""
_MARKER: Final = rf"[{_OPENS}]\s{{0,3}}m{_DIGITS}(?:{_JOINED}m?{_DIGITS}){{0,50}}\s{{0,3}}[\]］】]"
_FLAGS: Final = re.IGNORECASE | re.MULTILINE
_CITATION: Final = re.compile(_MARKER, _FLAGS)
# With the blanks before it; at the beginning of a line, with those after it.
_CITED_PLACE: Final = re.compile(rf"(?:^[ \t]{{0,20}}(?:{_MARKER}[ \t]{{0,20}})+)|[ \t]{{0,20}}{_MARKER}", _FLAGS)
_BEHIND_STOP: Final = re.compile(rf"([.!?]{{1,3}}[\"')”]?)((?:[ \t]{{0,20}}{_MARKER})+)", re.IGNORECASE)
_NUMBERS: Final = re.compile(r"([-–]?)\s{0,3}m?(\d{1,4})", re.IGNORECASE)
_LONGEST_RANGE: Final = 50
# Also with joiners or letters of other widths in between: whoever normalises the text could take it for the real thing.
_FORGERY: Final = re.compile(rf"[{_OPENS}](?=[\s\u200b-\u200d\u2060\ufeff]{{0,20}}[mMｍＭ]\d)")
_HARMLESS: Final = "("


def marker(number: int) -> str:
    """The marker of the line with that number, from 1: `m1`, `m2` and so on."""
    return f"m{number}"


def marked(text: str, name: str) -> str:
    """A line with its marker in front: `[m1] text`."""
    return f"[{name}] {text}"


def unforged(text: str) -> str:
    """`text` with every bracket that begins something like a marker replaced by "("; other text is unchanged."""
    return _FORGERY.sub(_HARMLESS, text)


def cited(text: str) -> frozenset[str]:
    """The markers that a text cites, lower-case: `[m1]`, `[m1, m2]`, `[m1][m2]`, `[m1-m3]`, 【m1】."""
    return frozenset(marker(number) for found in _CITATION.findall(text) for number in _numbers(found))


def strip_citations(text: str) -> str:
    """An answer without citation markers such as `[m1]` and `[m2, m3]`, for showing it to people.

    A marker goes together with the blanks in front of it (at the beginning of a line, with those behind it); all other
    text stays as it is. It works on whole answers: a piece of a stream may end in the middle of a marker.

    Args:
        text: What the model said after a recall with `cite=True`.

    Returns:
        The same text without markers.
    """
    return _CITED_PLACE.sub("", text)


def before_stops(text: str) -> str:
    """A text in which citations that stand behind a sentence's full stop stand before it, where they belong."""
    return _BEHIND_STOP.sub(r"\2\1", text)


def spaced(text: str) -> str:
    """A text with a blank in the place of each citation, for reading its words."""
    return _CITATION.sub(" ", text)


def _numbers(found: str) -> Iterator[int]:
    last: int | None = None
    for dash, digits in _NUMBERS.findall(found):
        number = int(digits)
        if dash and last is not None and last < number <= last + _LONGEST_RANGE:
            yield from range(last + 1, number)
        yield number
        last = number
