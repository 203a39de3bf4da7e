"""Redaction: finds and covers words in records, and says which words give an erased statement away. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

COVER: Final = "[erased]"
_TOKEN: Final = re.compile(r"\S+")
_EDGE: Final = "\"'“”‘’«»()[]{}<>.,;:!?…"
_SHORTEST: Final = 4
_WHOLE_FROM: Final = 12
"""Characters from which a text is looked for inside others; a shorter one ("Yes.") stands in everything."""


class Redaction:
    """Covers texts wherever they stand, whatever their case, also as JSON spells them.

    Args:
        texts: What to cover; empty ones are ignored.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        spellings: dict[str, None] = {}
        for text in texts:
            if text.strip():
                for spelled in (text, _escaped(text, ascii_only=False), _escaped(text, ascii_only=True)):
                    spellings[spelled] = None
        # The longest first: a shorter text may be part of a longer one.
        ordered = sorted(spellings, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered)), re.IGNORECASE) if ordered else None

    def holds(self, text: str | None) -> bool:
        """Whether one of the texts stands in it."""
        return bool(text) and self._pattern is not None and self._pattern.search(text or "") is not None

    def covered(self, text: str) -> str:
        """The text with `[erased]` in the place of each; JSON stays JSON."""
        return text if self._pattern is None else self._pattern.sub(COVER, text)

    def covered_values(self, value: Any) -> Any:
        """The same for every string in a JSON value."""
        match value:
            case str():
                return self.covered(value)
            case Mapping():
                return {key: self.covered_values(item) for key, item in value.items()}
            case list() | tuple():
                return [self.covered_values(item) for item in value]
            case _:
                return value


def _escaped(text: str, *, ascii_only: bool) -> str:
    return json.dumps(text, ensure_ascii=ascii_only)[1:-1]


def telling(texts: Sequence[str]) -> dict[str, None]:
    """Words that name something: with a digit, a sign inside, or a capital that no sentence begins with.

    Returns:
        The words as written, without marks around them, in order; at least four characters each.
    """
    found: dict[str, None] = {}
    for text in texts:
        starts_sentence = True
        for match in _TOKEN.finditer(text):
            word = match[0].strip(_EDGE)
            if len(word) >= _SHORTEST and _names(word, starts_sentence=starts_sentence):
                found[word] = None
            starts_sentence = match[0].rstrip("\"'”’)")[-1:] in {".", "!", "?"}
    return found


def _names(word: str, *, starts_sentence: bool) -> bool:
    if any(char.isdigit() or char in "@/_-" for char in word):
        return True
    return any(char.isupper() for char in (word[1:] if starts_sentence else word))


def whole(texts: Iterable[str]) -> dict[str, None]:
    """The texts that may be looked for inside others: without the marks at their ends, and not too short."""
    trimmed = (text.strip().strip(_EDGE).strip() for text in texts)
    return {text: None for text in trimmed if len(text) >= _WHOLE_FROM}


def without_words(report: Any, ids: frozenset[str]) -> Any:
    """A JSON report without the sentences about some facts: what stands beside one of the ids loses its strings.

    Ids, numbers and the names of rules and forms stay.
    """
    match report:
        case Mapping():
            is_about = any(_mentions(value, ids) for value in report.values())
            return {
                key: "" if is_about and isinstance(value, str) and key in _SENTENCES else without_words(value, ids)
                for key, value in report.items()
            }
        case list() | tuple():
            return [without_words(item, ids) for item in report]
        case _:
            return report


_SENTENCES: Final = frozenset({"text", "line", "reason", "refused", "error"})


def _mentions(value: Any, ids: frozenset[str]) -> bool:
    """Whether a value is one of the ids or a flat list with one."""
    if isinstance(value, str):
        return value in ids
    return isinstance(value, list | tuple) and any(isinstance(item, str) and item in ids for item in value)
