"""Echo: whether an assistant's words are its own or those of a page or a tool it read. Pure.

An assistant that repeats a web page must not lend it its trust: authority comes from the origin of words, and saying
them again is no origin.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from engram_core.domain.fact import TRUST_BY_CHANNEL
from engram_core.domain.message import Channel
from engram_core.measure.words import stems

SECOND_HAND: Final[frozenset[str]] = frozenset({"tool", "web", "import"})
"""Channels whose words nobody in the conversation said."""
SHARE: Final = 0.8
"""Share of a statement's own words that must stand in one source for it to be an echo of that."""
LEAST_WORDS: Final = 3


@dataclass(frozen=True, slots=True)
class Heard:
    """What came by a second-hand channel: its words, and whether it waits in quarantine."""

    channel: Channel
    words: frozenset[str]
    is_quarantined: bool

    @classmethod
    def of(cls, text: str, channel: Channel, *, is_quarantined: bool) -> Heard:
        """From a text."""
        return cls(channel, frozenset(stems(text)), is_quarantined)


def source_of(text: str, heard: Sequence[Heard], said: Iterable[str]) -> Heard | None:
    """What an assistant's statement only repeats; of several the least trusted. None if the words are its own.

    Args:
        text: The statement.
        heard: What the scope lately got from tools, the web and imports.
        said: What users said in the same exchange; their words are theirs wherever else they stand.
    """
    own = set(stems(text)).difference(*(stems(one) for one in said)) if heard else set()
    if len(own) < LEAST_WORDS:
        return None
    found = [one for one in heard if len(own & one.words) >= SHARE * len(own)]
    return min(found, key=lambda one: (TRUST_BY_CHANNEL[one.channel], not one.is_quarantined), default=None)
