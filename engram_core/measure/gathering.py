"""Gathering: one text for several statements, and which statements to show first. It judges words; it stores nothing.

Merging drops nothing. A summary must keep every number, name and date, or it is refused (`lost`). A digest covers the
most words that matter per token.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from engram_core.domain.fact import MAX_TEXT_BYTES
from engram_core.measure import content, sameness, words
from engram_core.measure.dates import MONTHS, RELATIVE_TIME

BETWEEN: Final = "; "
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_WEEKDAYS: Final = frozenset("monday tuesday wednesday thursday friday saturday sunday".split())
_DATE_WORDS: Final = _WEEKDAYS | frozenset(MONTHS)


@dataclass(frozen=True, slots=True)
class Said:
    """A statement to gather.

    Attributes:
        said_at: Resolves its relative dates.
    """

    text: str
    said_at: datetime
    speaker: str | None = None


def merged(statements: Sequence[Said]) -> str:
    """All statements in one text: joined by "; ", equal ones once, a repeated subject or speaker at the front once.

    Speakers are named only where they change, so a text by one speaker names none. A one-word subject is left out of
    a statement when the one before begins with it too; that it is left out shows in the small letter that follows.
    """
    distinct = list(dict.fromkeys((item.speaker, item.text.strip()) for item in statements))
    parts: list[str] = []
    voices = {speaker for speaker, _ in distinct}
    voice: str | None = None
    subject = ""
    for speaker, text in distinct:
        names_voice = len(voices) > 1 and speaker is not None and (speaker != voice or not parts)
        front, rest = _subject(text)
        if front and front == subject and not names_voice:
            shown = rest
        else:
            shown = f"{speaker}: {text}" if names_voice else text
        parts.append(shown.rstrip(".; ") or shown)
        voice, subject = speaker, front
    return BETWEEN.join(parts)


def _subject(text: str) -> tuple[str, str]:
    """A name that a statement begins with and the rest, if the rest goes on in small letters; else ("", text)."""
    front, _, rest = text.partition(" ")
    is_name = front[:1].isupper() and front.isalpha() and len(front) > 1 and bool(content.tokens(front))
    return (front, rest) if is_name and rest[:1].islower() else ("", text)


def runs(statements: Sequence[Said], limit: int = MAX_TEXT_BYTES) -> list[list[int]]:
    """Statements' places in runs whose merged text fits into `limit` bytes of UTF-8, in order; few and even ones."""
    sizes = [len(f"{item.speaker}: {item.text}{BETWEEN}".encode("utf-8", "replace")) for item in statements]
    wanted = sum(sizes) // limit + 1
    share = sum(sizes) / wanted
    found: list[list[int]] = [[]]
    held = 0
    for place, size in enumerate(sizes):
        if found[-1] and (held + size > limit or (held >= share and len(found) < wanted)):
            found.append([])
            held = 0
        found[-1].append(place)
        held += size
    return found


def summary(statements: Sequence[Said], share: float = 0.5) -> str:
    """Whole sentences, in order, that cover the most idf weight per character, up to `share` of the merged length."""
    sentences = [
        Said(part.strip(), item.said_at, item.speaker)
        for item in statements
        for part in _SENTENCE.split(item.text)
        if part.strip()
    ]
    tokens = [content.token_set(item.text) for item in sentences]
    costs = [len(item.text) for item in sentences]
    budget = int(share * len(merged(statements)))
    kept = digest(tokens, costs, weights(tokens), budget)
    return merged([sentences[place] for place in sorted(kept)])


def lost(statements: Sequence[Said], text: str) -> list[str]:
    """The numbers, names and dates of the statements that `text` does not keep, sorted; empty if all are there.

    A relative date ("yesterday") survives as it was said, or as the date it meant on the day it was said.
    """
    held = frozenset(words.tokens(text)) | frozenset(content.tokens(text))
    flat = " ".join(words.folded(text).split())
    missing: set[str] = set()
    for item in statements:
        spoken = words.tokens(item.text)
        wanted = sameness.numbers(item.text) | sameness.names(item.text)
        # A letter glued to a symbol may look like a name and be no word of its own even where it was said.
        own = frozenset(spoken) | frozenset(content.tokens(item.text))
        missing |= {token for token in wanted if _is_held(token, own) and not _is_held(token, held)}
        missing |= {word for word in spoken if word in _DATE_WORDS and word != "may" and word not in held}
        for match in RELATIVE_TIME.finditer(" ".join(words.folded(item.text).split())):
            resolved = content.date_tokens(match[0], item.said_at)
            if match[0] not in flat and not (resolved and resolved <= held):
                missing.add(match[0])
    return sorted(missing)


def dropped(statements: Sequence[Said], text: str) -> list[str]:
    """The words of the statements that `text` does not hold, sorted: what a merge must never have."""
    held = frozenset(words.tokens(text))
    return sorted({word for item in statements for word in words.tokens(item.text)} - held)


def _is_held(token: str, held: frozenset[str]) -> bool:
    return token in held or all(part in held for part in words.tokens(token))


def weights(tokens: Sequence[frozenset[str]]) -> dict[str, float]:
    """The idf of each content token over the statements themselves."""
    df = Counter(token for found in tokens for token in found)
    return {token: content.idf(count, len(tokens)) for token, count in df.items()}


def digest(
    tokens: Sequence[frozenset[str]],
    costs: Sequence[float],
    weight: Mapping[str, float],
    budget: float,
    worth: Sequence[float] | None = None,
) -> list[int]:
    """Statements that together cover the most weight: greedily the one with most uncovered weight per cost.

    Args:
        tokens: Content tokens of each statement.
        costs: Of showing each, above 0.
        weight: Of each token; see `weights`.
        budget: Sum of costs at most. A statement that does not fit is skipped and the next is tried.
        worth: Factor on each one's gain, above 0; default 1.

    Returns:
        Places in the order chosen; ties go to the earlier place. Statements that add nothing are left out.
    """
    factor = worth or [1.0] * len(tokens)

    def rate(place: int) -> float:
        return factor[place] * sum(weight.get(token, 0.0) for token in tokens[place] - covered) / costs[place]

    covered: set[str] = set()
    # A rate only falls as words are covered, so a stale top that still leads after counting anew is the best.
    heap = [(-rate(place), place) for place in range(len(tokens))]
    heapq.heapify(heap)
    chosen: list[int] = []
    left = budget
    while heap:
        _, place = heapq.heappop(heap)
        now = rate(place)
        if now <= 0 or costs[place] > left:
            continue
        if heap and now < -heap[0][0]:
            heapq.heappush(heap, (-now, place))
            continue
        chosen.append(place)
        left -= costs[place]
        covered |= tokens[place]
    return chosen
