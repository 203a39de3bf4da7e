"""Marks: what a statement holds besides its words (a name, a number, a title), and which of it a question wants.

English; pure functions. A mark is kept among a statement's stems, where it costs no column of its own; it begins with a
character that no stem holds, and it is neither counted as a word nor searched for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

NAME: Final = "=name"
NUMBER: Final = "=number"
TITLE: Final = "=title"
MARKS: Final = (NAME, NUMBER, TITLE)

_WORD = re.compile(r"[^\W\d_][\w'’]*")
_I = re.compile(r"I(?:['’]\w+)?")
_SENTENCE_START = frozenset(".!?:\n")
_OPENING_MARKS: Final = " \t\"'“‘(["
_NUMBER = re.compile(
    r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|first|second|third|once|twice|couple|few)\b",
    re.IGNORECASE,
)
_TITLE = re.compile(r"[\"“][^\"”]{2,60}[\"”]")

_WANTS_NAME = re.compile(
    r"\b(?:who|whom|whose|names?|named|called|where|which|"
    r"what (?:city|country|state|place|game|book|movie|company|band|song|artist|team|brand))\b",
    re.IGNORECASE,
)
_WANTS_NUMBER = re.compile(r"\bhow (?:many|much|often|long|old)\b", re.IGNORECASE)
_WANTS_TITLE = re.compile(
    r"\b(?:books?|movies?|songs?|series|games?|read|watch|watched|film|show|play|authors?|title|sign|poster|say|quote)\b",
    re.IGNORECASE,
)

_MANY = re.compile(r"\b(?:how many|both|in common)\b")
_OPENING = re.compile(
    r"(?:in )?(?:what|which)(?: are)?(?: (?:the|some|all|of|kinds?|types?|other|different|new|similar))*"
    r"((?: [a-z’'+-]+){1,3})"
)
_VERBS: Final = frozenset("is was did does do has have had are were would might could can to".split())
_SINGULAR_S: Final = frozenset("this his is was does has yes us always as".split())
_HABIT = re.compile(r"(?:what|where|who|which)\b.* (?:has|have|do|does) \w+ ")
_ONE_TIME = re.compile(r"\bwhen\b|\d{4}|\blast\b|\byesterday\b")


def is_mark(stem: str) -> bool:
    """Whether it is a mark and no word."""
    return stem.startswith("=")


def count_words(stems: Iterable[str]) -> int:
    """How many of the stems are words."""
    return sum(not is_mark(stem) for stem in stems)


def of_statement(text: str) -> list[str]:
    """The marks of a statement: a capitalised word inside a sentence, a number, something in quotation marks."""
    found = ((NAME, _names_somebody(text)), (NUMBER, _NUMBER.search(text)), (TITLE, _TITLE.search(text)))
    return [mark for mark, is_there in found if is_there]


def wanted(question: str) -> tuple[str, ...]:
    """The marks an answer is likely to have: names for who, where and which, numbers for how many, titles for books."""
    patterns = ((NAME, _WANTS_NAME), (NUMBER, _WANTS_NUMBER), (TITLE, _WANTS_TITLE))
    return tuple(mark for mark, pattern in patterns if pattern.search(question))


def wants_many(question: str) -> float:
    """How far a question asks for things told on several occasions.

    Returns:
        1 for "which books", "how many", "both"; 0.5 for "what has Ana cooked", which may have one answer or several;
        0 for anything else.
    """
    asked = question.lower()
    if _MANY.search(asked):
        return 1.0
    opening = _OPENING.match(asked)
    if opening is not None and any(_is_plural(word) for word in _before_verb(opening[1].split())):
        return 1.0
    return 0.5 if _HABIT.match(asked) and not _ONE_TIME.search(asked) else 0.0


def _before_verb(words: Iterable[str]) -> Iterator[str]:
    for word in words:
        if word in _VERBS:
            return
        yield word


def _is_plural(word: str) -> bool:
    return word.endswith("s") and not word.endswith(("ss", "'s", "’s")) and word not in _SINGULAR_S


def _names_somebody(text: str) -> bool:
    """Whether a capitalised word stands inside a sentence."""
    return any(
        found[0][0].isupper() and not _I.fullmatch(found[0]) and not _begins_sentence(text, found.start())
        for found in _WORD.finditer(text)
    )


def _begins_sentence(text: str, place: int) -> bool:
    while place and text[place - 1] in _OPENING_MARKS:
        place -= 1
    return not place or text[place - 1] in _SENTENCE_START
