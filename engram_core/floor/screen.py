"""Screen: what may enter. It removes what no reader can see, and what recall itself put into the text. Pure.

It decides nothing about worth: that is the design's business. See trust.md section 3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from engram_core.domain.errors import InvalidInput
from engram_core.domain.message import Message
from engram_core.domain.reason import Reason
from engram_core.floor.fence import without_fences
from engram_core.floor.unseen import visible
from engram_core.measure.words import folded, stems

MAX_MESSAGE_BYTES: Final = 1024 * 1024

_NOT_IN_AN_ID = re.compile("[\x00\ud800-\udfff]")
_NEGATION = re.compile(r"\b(?:no|not|never|none|nothing|nobody|without|cannot|neither|nor)\b|n't\b")
_ECHOING_ROLES: Final = frozenset({"assistant", "tool"})

_EMPTY = Reason("empty", "The message has no words.")
_FENCED = Reason("recall_loop", "It holds only recalled memories, which are known already.")
_ECHO = Reason("recall_loop", "It only repeats what was recalled for it, which is known already.")


@dataclass(frozen=True, slots=True)
class Screened:
    """A message as it may enter, or None and the reason why it may not."""

    message: Message | None
    reason: Reason | None


def screen(messages: Sequence[Message], injected: Sequence[str]) -> list[Screened]:
    """Clean messages and stop those that would teach memory its own words.

    Args:
        messages: Of one turn, in order.
        injected: Texts recently injected by recalls and the turn's question. Without any, the second guard is off.

    Returns:
        One verdict per message, in order. Recalled text between fences is cut out of every message; an assistant's
        or tool's message whose words all stand in `injected` is refused.

    Raises:
        InvalidInput: A message is longer than 1 MiB of UTF-8, or its id or session holds a NUL or lone surrogate.
    """
    for message in messages:
        check(message)
    known = frozenset(stem for text in injected for stem in stems(text))
    is_negated = any(_is_negated(text) for text in injected)
    return [_screened(message, known, is_negated) for message in messages]


def _screened(message: Message, known: frozenset[str], is_negated: bool) -> Screened:
    content, was_fenced = without_fences(visible(message.content))
    if not content.strip():
        return Screened(None, _FENCED if was_fenced else _EMPTY)
    if message.role in _ECHOING_ROLES and known and _is_echo(content, known, is_negated):
        return Screened(None, _ECHO)
    speaker = " ".join(visible(message.speaker).split()) or None if message.speaker else None
    if content == message.content and speaker == message.speaker:
        return Screened(message, None)
    cleaned = Message(
        message.role,
        content,
        speaker=speaker,
        at=message.at,
        session=message.session,
        id=message.id,
        channel=message.channel,
    )
    return Screened(cleaned, None)


def _is_echo(content: str, known: frozenset[str], is_negated: bool) -> bool:
    """Whether all content words are known. Stems hold no negation, so a newly negated text is news."""
    said = stems(content)
    return bool(said) and known.issuperset(said) and (is_negated or not _is_negated(content))


def _is_negated(text: str) -> bool:
    return _NEGATION.search(folded(text)) is not None


def check(message: Message) -> None:
    """Raise InvalidInput when a message is too long or its id cannot be stored; see `screen`."""
    # A character takes at most four bytes, so most messages need no encoding to be measured.
    length = len(message.content)
    size = length if length * 4 <= MAX_MESSAGE_BYTES else len(message.content.encode("utf-8", "surrogatepass"))
    if size > MAX_MESSAGE_BYTES:
        raise InvalidInput(
            f"A message has {size:,} bytes; at most {MAX_MESSAGE_BYTES:,} (1 MiB) are accepted. Store it in parts."
        )
    for name, value in (("id", message.id), ("session", message.session)):
        if value is not None and _NOT_IN_AN_ID.search(value):
            raise InvalidInput(f"Message {name} holds a NUL character or a lone surrogate; databases cannot store it.")
