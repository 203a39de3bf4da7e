"""Update: turns the messages of an episode into proposals, offline. Statements stay verbatim; it writes nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from engram_core.design import View
from engram_core.designs.pipeline import kinds
from engram_core.designs.pipeline.importance import EXPLICIT, NEUTRAL, distinct_stems, importance_of
from engram_core.designs.pipeline.slots import slot_of
from engram_core.designs.pipeline.smalltalk import is_small_talk
from engram_core.designs.pipeline.statements import split
from engram_core.domain.change import Add, Change, Draft, Ignore, Merge
from engram_core.domain.fact import Fact
from engram_core.domain.message import Episode, Message
from engram_core.domain.reason import Reason
from engram_core.measure import sameness

_SYSTEM = Reason("system_message", "Instructions to the model are not memories.")
_EMPTY = Reason("empty", "The message has no words.")
_NOTHING = Reason("empty", "The tool returned nothing.")
_SMALL_TALK = Reason("small_talk", "It says nothing beyond greetings, thanks or acknowledgements.")
_VERBATIM = Reason("verbatim", "Kept word for word.")
_DUPLICATE = Reason("duplicate", "The same speaker said the same before.")
_NO_OUTPUT = re.compile(
    r"[\W_]{0,20}(?:(?:null|none|nil|undefined|true|false|ok|okay|done|success)[\W_]{0,20})?", re.IGNORECASE
)
# The names that callers give to people they cannot name.
_ANYONE: Final = frozenset({"user", "human", "assistant", "ai"})


@dataclass(frozen=True, slots=True)
class _Statement:
    """A draft with its duplicate key ("" for none) and the reason it would be added for."""

    draft: Draft
    key: str
    reason: Reason

    @property
    def voice(self) -> tuple[str, str, str]:
        """Statements of one episode with the same voice are the same: equal key, role and channel."""
        message = self.draft.messages[0]
        return self.key, message.role, message.channel

    def heard_again(self, message: Message) -> _Statement:
        """The same statement, said by `message` as well."""
        if message in self.draft.messages:
            return self
        return replace(self, draft=replace(self.draft, messages=(*self.draft.messages, message)))


def update(episode: Episode, view: View) -> list[Change]:
    """What to remember of an episode.

    Args:
        episode: Screened messages of one turn.
        view: Asked for speakers, for facts that say the same already, and for what is known so far.

    Returns:
        In the order of the messages: Ignore for small talk, system messages and empty ones; Merge for statements
        already known; Add for the rest. A statement repeated within the episode is one change with several messages.
    """
    people = view.speakers() | {message.speaker for message in episode.messages if message.speaker}
    planned: dict[object, Ignore | _Statement] = {}
    for place, message in enumerate(episode.messages):
        reason = _ignored(message, people)
        if reason is not None:
            planned[place] = Ignore(message, reason)
            continue
        for number, statement in enumerate(_statements(message, episode, people)):
            name = statement.voice if statement.key else (place, number)
            before = planned.get(name)
            planned[name] = before.heard_again(message) if isinstance(before, _Statement) else statement
    said = [item for item in planned.values() if isinstance(item, _Statement)]
    keys = [item.key for item in said if item.key]
    twins = view.twins(keys) if keys else {}
    weighed = _weighed(said, view)
    return [item if isinstance(item, Ignore) else _change(next(weighed), twins, episode) for item in planned.values()]


def _weighed(said: Sequence[_Statement], view: View) -> Iterator[_Statement]:
    """The statements with their importance, each told from what was known before it."""
    stems = [distinct_stems(item.draft.text) for item in said]
    seen = set(view.known_words(frozenset().union(*stems))) if said else set()
    before: dict[str, str | None] = {}
    for item, own in zip(said, stems, strict=True):
        draft, message = item.draft, item.draft.messages[0]
        previous = None
        if message.session is not None:
            previous = before.get(message.session) or view.last_said(message.session)
            before[message.session] = draft.text
        yield replace(item, draft=replace(draft, importance=_importance(draft, message, seen, previous)))
        seen |= own


def _importance(draft: Draft, message: Message, seen: Collection[str], previous: str | None) -> float:
    if message.role == "tool":
        return NEUTRAL
    told = importance_of(draft.text, seen=seen, previous=previous)
    return max(told, EXPLICIT) if message.role == "user" and kinds.is_explicit(draft.text) else told


def _change(item: Ignore | _Statement, twins: Mapping[str, Fact], episode: Episode) -> Change:
    if isinstance(item, Ignore):
        return item
    twin = twins.get(item.key) if item.key else None
    if twin is not None and _is_same_voice(twin, item.draft.messages[0], episode):
        return Merge(twin.id, item.draft, _DUPLICATE)
    return Add(item.draft, item.reason)


def _is_same_voice(twin: Fact, message: Message, episode: Episode) -> bool:
    """Whether a known fact came the same way.

    Words from the web must not gain or lose trust by meeting the same words of the user, and without a name
    "I" is whoever acts, so another principal's statement is another statement.
    """
    is_named = (message.speaker or "user").lower() not in _ANYONE
    is_same_person = is_named or twin.origin.principal == episode.principal
    return twin.is_recallable and twin.origin.channel == message.channel and is_same_person


def _ignored(message: Message, people: Collection[str]) -> Reason | None:
    text = _body(message)
    if not text:
        return _EMPTY
    if message.role == "system":
        return _SYSTEM
    if message.role == "tool":
        return _NOTHING if _NO_OUTPUT.fullmatch(text) else None
    return _SMALL_TALK if is_small_talk(text, _others(message, people)) else None


def _statements(message: Message, episode: Episode, people: Collection[str]) -> list[_Statement]:
    parts = split(_body(message))
    said_at = message.at or episode.at
    return [
        _Statement(
            draft=_draft(part, message, people),
            key=sameness.key(part, message.speaker, said_at),
            reason=_VERBATIM if len(parts) == 1 else _split_reason(number, len(parts)),
        )
        for number, part in enumerate(parts, 1)
    ]


def _split_reason(number: int, of: int) -> Reason:
    return Reason("split", f"Part {number} of {of} of a long message.", {"part": number, "parts": of})


def _draft(text: str, message: Message, people: Collection[str]) -> Draft:
    # Only a person's own words tell about that person and may give orders; the rest is observed.
    if message.role != "user":
        return Draft(text, (message,), speaker=message.speaker)
    slot = slot_of(text, message.speaker, _others(message, people))
    return Draft(
        text,
        (message,),
        kind=kinds.kind_of(text, slot),
        slot=slot,
        speaker=message.speaker,
    )


def _body(message: Message) -> str:
    """The words without the speaker's name in front: recalls put it there again."""
    text = message.content.strip()
    return text.removeprefix(f"{message.speaker}:").strip() if message.speaker else text


def _others(message: Message, people: Collection[str]) -> list[str]:
    return [name for name in people if name != message.speaker]
