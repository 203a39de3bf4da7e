"""Update: turns the messages of an episode into proposals, offline. Statements stay verbatim; it writes nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from engram_core.design import View
from engram_core.designs.pipeline import kinds
from engram_core.designs.pipeline.importance import EXPLICIT, NEUTRAL, distinct_stems, importance_of
from engram_core.designs.pipeline.slots import Told, told_by
from engram_core.designs.pipeline.smalltalk import is_small_talk
from engram_core.designs.pipeline.statements import split
from engram_core.designs.pipeline.succession import ANYONE, Newer, Said, Slots, Target, with_updates
from engram_core.domain.change import Add, Change, Draft, Ignore, Merge, Supersede, Update
from engram_core.domain.fact import Fact, Slot
from engram_core.domain.message import Episode, Message
from engram_core.domain.reason import Reason
from engram_core.measure import sameness, validity
from engram_core.measure.slots import Keyed, is_new_value

_SYSTEM = Reason("system_message", "Instructions to the model are not memories.")
_EMPTY = Reason("empty", "The message has no words.")
_NOTHING = Reason("empty", "The tool returned nothing.")
_SMALL_TALK = Reason("small_talk", "It says nothing beyond greetings, thanks or acknowledgements.")
_VERBATIM = Reason("verbatim", "Kept word for word.")
_DUPLICATE = Reason("duplicate", "The same speaker said the same before.")
_NO_OUTPUT = re.compile(
    r"[\W_]{0,20}(?:(?:null|none|nil|undefined|true|false|ok|okay|done|success)[\W_]{0,20})?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Statement:
    """A draft with its duplicate key ("" for none) and the reason it would be added for."""

    draft: Draft
    key: str
    reason: Reason
    told: Told
    at: datetime

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
        view: Asked for speakers, for facts that say the same or that a new value replaces, and for what is known.

    Returns:
        In the order of the messages: Ignore for small talk, system messages and empty ones; Merge for statements
        already known; Supersede where a slot has a new value; Add for the rest. A statement repeated within the
        episode is one change with several messages.
    """
    people = view.speakers() | {message.speaker for message in episode.messages if message.speaker}
    planned: dict[object, Ignore | _Statement] = {}
    turns = _Turns()
    for place, message in enumerate(episode.messages):
        reason = _ignored(message, people)
        if reason is not None:
            planned[place] = Ignore(message, reason)
            continue
        for number, statement in enumerate(_statements(message, episode, people)):
            name = (statement.voice, turns.of(statement)) if statement.key else (place, number)
            before = planned.get(name)
            planned[name] = before.heard_again(message) if isinstance(before, _Statement) else statement
    return list(_changes(list(planned.values()), episode, view))


class _Turns:
    """How often each slot changed its value within an episode: "I live in Rome" after "... in Oslo" is news again."""

    def __init__(self) -> None:
        self._last: dict[tuple[str | None, Slot], Keyed] = {}
        self._count: Counter[tuple[str | None, Slot]] = Counter()

    def of(self, statement: _Statement) -> int:
        turn = 0
        for keyed in statement.told.keyed:
            slot = (statement.draft.speaker, keyed.slot)
            last = self._last.get(slot)
            if last is not None and is_new_value(last, keyed):
                self._count[slot] += 1
            self._last[slot] = keyed
            turn += self._count[slot]
        return turn


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


def _changes(planned: list[Ignore | _Statement], episode: Episode, view: View) -> Iterator[Change]:
    weighed = _weighed([item for item in planned if isinstance(item, _Statement)], view)
    told = [item if isinstance(item, Ignore) else next(weighed) for item in planned]
    statements = [item for item in told if isinstance(item, _Statement)]
    keys = [item.key for item in statements if item.key]
    twins = view.twins(keys) if keys else {}
    said = [Said(item.draft, item.told, item.at) for item in statements]
    is_news = any(not _is_twin(item, twins.get(item.key), episode) for item in statements)
    succession = _Succession(
        Slots.read(said, episode, view), with_updates(said, episode, view) if is_news else [None] * len(said)
    )
    for item in told:
        if isinstance(item, Ignore):
            yield item
        else:
            yield from succession.changes(item, twins.get(item.key), episode)


class _Succession:
    """Turns statements into changes, in order, so that each can name what earlier ones became."""

    def __init__(self, slots: Slots, links: list[Newer | None]) -> None:
        self._slots = slots
        self._links = links
        self._became: list[str | Draft] = []

    def changes(self, item: _Statement, twin: Fact | None, episode: Episode) -> Iterator[Change]:
        number = len(self._became)
        if twin is not None and _is_twin(item, twin, episode) and twin.id not in self._slots.gone:
            self._became.append(twin.id)
            yield Merge(twin.id, item.draft, _DUPLICATE)
            return
        verdict = self._slots.take(number, Said(item.draft, item.told, item.at))
        link = self._links[number]
        gone = {target for target, _ in verdict.replaces}
        draft = item.draft
        if link is not None and link.target not in gone and verdict.replaced_by is None:
            older = self._now(link.target)
            draft = replace(draft, updates=(Update(older, link.probability, link.reason),))
        self._became.append(draft)
        if verdict.replaced_by is not None:
            target, reason = verdict.replaced_by
            yield Add(draft, reason, superseded_by=self._now(target))
        elif not verdict.replaces:
            yield Add(draft, item.reason)
        for target, reason in verdict.replaces:
            yield Supersede(self._now(target), draft, reason)

    def _now(self, target: Target) -> str | Draft:
        return self._became[target] if isinstance(target, int) else target


def _is_twin(item: _Statement, twin: Fact | None, episode: Episode) -> bool:
    """Whether a known fact says the same and came the same way.

    Words from the web must not gain or lose trust by meeting the same words of the user, and without a name
    "I" is whoever acts, so another principal's statement is another statement.
    """
    if twin is None or not item.key or not twin.is_recallable:
        return False
    message = item.draft.messages[0]
    is_named = (message.speaker or "user").lower() not in ANYONE
    is_same_person = is_named or twin.origin.principal == episode.principal
    return twin.origin.channel == message.channel and is_same_person


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
    # Only a person's own words tell about that person and may give orders; the rest is observed.
    told = [
        told_by(part, message.speaker, _others(message, people)) if message.role == "user" else Told() for part in parts
    ]
    return [
        _Statement(
            draft=_draft(part, message, told[number - 1], said_at),
            key=sameness.key(part, message.speaker, said_at),
            reason=_VERBATIM if len(parts) == 1 else _split_reason(number, len(parts)),
            told=told[number - 1],
            at=said_at,
        )
        for number, part in enumerate(parts, 1)
    ]


def _split_reason(number: int, of: int) -> Reason:
    return Reason("split", f"Part {number} of {of} of a long message.", {"part": number, "parts": of})


def _draft(text: str, message: Message, told: Told, said_at: datetime) -> Draft:
    if message.role != "user":
        return Draft(text, (message,), speaker=message.speaker)
    holds = validity.told(text, said_at)
    return Draft(
        text,
        (message,),
        kind=kinds.kind_of(text, told.slot),
        slot=told.slot,
        speaker=message.speaker,
        valid_from=holds.valid_from,
        valid_until=holds.valid_until,
    )


def _body(message: Message) -> str:
    """The words without the speaker's name in front: recalls put it there again."""
    text = message.content.strip()
    return text.removeprefix(f"{message.speaker}:").strip() if message.speaker else text


def _others(message: Message, people: Collection[str]) -> list[str]:
    return [name for name in people if name != message.speaker]
