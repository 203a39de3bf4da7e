"""Importance at write: how likely a statement is to be asked for, told from its words. It looks at the past only.

A logistic sum of ten features, fitted on development conversations (docs/algorithms.md section 5 has the figures).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Final

from engram_core.measure import content, words
from engram_core.measure.dates import RELATIVE_TIME

NEUTRAL: Final = 0.5
"""Importance of what cannot be judged by its words, such as a tool's output: that is long and new by nature."""
EXPLICIT: Final = 0.9
"""Least importance of what the user asked in so many words to be remembered or always done."""
MAX_NAMES: Final = 5
COEFFICIENTS: Final[Mapping[str, float]] = {
    "constant": -1.7,
    "length": 0.65,
    "new": 1.64,
    "number": 0.42,
    "time": 1.12,
    "names": 0.24,
    "verb": 0.28,
    "asks": -0.36,
    "answers": 0.85,
    "before": -0.28,
}
"""Log-odds per unit: 0.7 of the fitted ones, and a constant that puts an average chat turn at the neutral 0.5."""

_TIME = re.compile(RELATIVE_TIME.pattern + r"|\b(?:recently|lately)\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|first|second|third|once|twice)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_][\w'’]*")
_I = re.compile(r"I(?:['’]\w+)?")
_SENTENCE_START = frozenset(".!?:\n")
_OPENING_MARKS: Final = " \t\"'“‘(["
_STATES = re.compile(
    r"\bI(?:['’](?:m|ve)\b|(?:['’](?:d|ll))? (?:(?:just|also|really|recently|finally) )?"
    r"(?:am|was|have|had|go|went|gone|going|get|got|start|buy|bought|make|made|love|like|prefer|work|live|move|want|"
    r"need|plan|hope|take|took|do|did|sign|join|find|found|meet|met|see|saw|seen|read|watch|play|learn|visit|try|tried|"
    r"decide|quit|lose|lost|win|won|adopt|volunteer|study|studied)(?:e?d|n?ing)?\b)"
)


@lru_cache(maxsize=1024)  # asked for once for itself, once for what is new in it, once as what went before
def distinct_stems(text: str) -> frozenset[str]:
    """The distinct search stems of a statement."""
    return frozenset(words.stems(text))


def importance_of(text: str, *, seen: Collection[str] = (), previous: str | None = None) -> float:
    """How much a statement matters, before anybody asked for it.

    Args:
        text: The statement.
        seen: Search stems (`measure.words`) that occurred in the scope before.
        previous: The statement before it in the same session, if there was one.

    Returns:
        0 to 1, the logistic function of the weighted features: ln(1 + content tokens); share of its distinct stems not
        in `seen`; whether it has a number; a relative time; names (capitalised words inside a sentence, at most five);
        "I" with a statement verb; whether it asks; whether `previous` asked; ln(1 + distinct stems of `previous`).
    """
    stems = distinct_stems(text)
    features = {
        "constant": 1.0,
        "length": math.log1p(len(content.tokens(text))),
        "new": sum(stem not in seen for stem in stems) / len(stems) if stems else 0.0,
        "number": float(_NUMBER.search(text) is not None),
        "time": float(_TIME.search(text) is not None),
        "names": float(min(len(_names(text)), MAX_NAMES)),
        "verb": float(_STATES.search(text) is not None),
        "asks": float("?" in text),
        "answers": float(previous is not None and "?" in previous),
        "before": math.log1p(len(distinct_stems(previous))) if previous is not None else 0.0,
    }
    logit = sum(COEFFICIENTS[name] * value for name, value in features.items())
    return round(1.0 / (1.0 + math.exp(-logit)), 4)


def _names(text: str) -> set[str]:
    """Distinct capitalised words that do not begin a sentence."""
    return {
        found[0]
        for found in _WORD.finditer(text)
        if found[0][0].isupper() and not _I.fullmatch(found[0]) and not _begins(text, found.start())
    }


def _begins(text: str, place: int) -> bool:
    while place and text[place - 1] in _OPENING_MARKS:
        place -= 1
    return not place or text[place - 1] in _SENTENCE_START
