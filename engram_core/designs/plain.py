"""Designs to compare with: null remembers nothing, similarity ranks by vectors alone, recency by time alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engram_core.design import Ask, View
from engram_core.domain.change import Add, Change, Draft, Ignore
from engram_core.domain.errors import EmbeddingFailed
from engram_core.domain.fact import MAX_TEXT_BYTES
from engram_core.domain.message import Episode, Message
from engram_core.domain.reason import Reason
from engram_core.domain.recall import Query, Scored

_VERBATIM = Reason("verbatim", "This design keeps every message as it is.")


@dataclass(frozen=True, slots=True)
class Null:
    """Remembers nothing and recalls nothing: the level any memory has to beat."""

    name: str = "null"

    def update(self, episode: Episode, view: View) -> Sequence[Change]:
        """Ignore every message."""
        reason = Reason("null_design", "The null design remembers nothing.")
        return [Ignore(message, reason) for message in episode.messages]

    def retrieve(self, query: Query, view: View) -> Sequence[Scored]:
        """Nothing."""
        return []

    def sleep(self, view: View) -> Sequence[Change]:
        """Nothing."""
        return []


@dataclass(frozen=True, slots=True)
class Similarity:
    """Keeps messages verbatim and ranks by the cosine of body and question: what most vector memories do."""

    name: str = "similarity"

    def update(self, episode: Episode, view: View) -> Sequence[Change]:
        """Add every message."""
        return [_verbatim(message) for message in episode.messages]

    def retrieve(self, query: Query, view: View) -> Sequence[Scored]:
        """Nearest first."""
        try:
            vector = view.embed([query.text])[0]
        except EmbeddingFailed:
            return []  # there is nothing else to rank by; the view marks the recall as degraded
        found = view.candidates(Ask(vector=vector, breadth=max(64, 4 * query.k)))
        scores = found.content @ vector
        order = np.lexsort((found.said_at, -scores))[: max(64, 4 * query.k)]
        return [Scored(found.ids[row], {"dense": float(scores[row])}) for row in order]

    def sleep(self, view: View) -> Sequence[Change]:
        """Nothing."""
        return []


@dataclass(frozen=True, slots=True)
class Recency:
    """Keeps messages verbatim and recalls the newest: a sliding window."""

    name: str = "recency"

    def update(self, episode: Episode, view: View) -> Sequence[Change]:
        """Add every message."""
        return [_verbatim(message) for message in episode.messages]

    def retrieve(self, query: Query, view: View) -> Sequence[Scored]:
        """Newest first; the score falls from 1 by the fact's age in days."""
        found = view.candidates(Ask(newest=max(64, 4 * query.k)))
        ages = np.maximum(view.now.timestamp() - found.said_at, 0.0) / 86_400.0
        order = np.argsort(ages, kind="stable")[: max(64, 4 * query.k)]
        return [Scored(found.ids[row], {"recency": float(1.0 / (1.0 + ages[row]))}) for row in order]

    def sleep(self, view: View) -> Sequence[Change]:
        """Nothing."""
        return []


def _verbatim(message: Message) -> Change:
    if not message.content.strip():
        return Ignore(message, Reason("empty", "The message has no words."))
    if len(message.content.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        return Ignore(message, Reason("text_too_long", "The message is longer than a fact may be."))
    return Add(Draft(message.content, (message,), speaker=message.speaker), _VERBATIM)
