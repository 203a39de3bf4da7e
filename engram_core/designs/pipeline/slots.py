"""Slots of a whole message: which of its sentences tell something. The patterns are `measure.slots`'."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from engram_core.designs.pipeline.smalltalk import is_small_talk
from engram_core.domain.fact import Slot
from engram_core.measure.sentences import sentences
from engram_core.measure.slots import Keyed, keyed


@dataclass(frozen=True, slots=True)
class Told:
    """What the sentences of a statement tell.

    Attributes:
        keyed: Every sentence with a slot, in order.
        alone: The only telling sentence, if it has a slot: the statement is about nothing else.
    """

    keyed: tuple[Keyed, ...] = ()
    alone: Keyed | None = None

    @property
    def slot(self) -> Slot | None:
        """The statement's slot: a turn that also says something else has none."""
        return self.alone.slot if self.alone is not None else None

    @property
    def replaceable(self) -> Keyed | None:
        """What a newer value may replace: nothing is lost with the rest of the statement, for there is none."""
        return self.alone if self.alone is not None and self.alone.is_alone else None


def told_by(text: str, speaker: str | None, others: Collection[str] = ()) -> Told:
    """What a person's statement tells.

    Args:
        text: A statement made by a person (not a tool, not an assistant).
        speaker: Who said it; first-person slots belong to "user" if None.
        others: Names the statement may address, so that "Hi Mel! I live in Lisbon." counts as one sentence.
    """
    said = [(sentence, keyed(sentence, speaker)) for sentence in sentences(text)]
    found = tuple(one for _, one in said if one is not None)
    if not found:
        return Told()
    # A pure question tells nothing; one that follows a statement in the same sentence does not hide it.
    telling = [
        one
        for sentence, one in said
        if one is not None or not (sentence.endswith("?") or is_small_talk(sentence, others))
    ]
    return Told(found, telling[0] if len(telling) == 1 else None)


def slot_of(text: str, speaker: str | None, others: Collection[str] = ()) -> Slot | None:
    """The slot of a statement, or None; see `told_by`."""
    return told_by(text, speaker, others).slot
