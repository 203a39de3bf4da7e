"""Lapses: reads a scope's diary and finds where memory was missed. It reads; it fills nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from engram_core.domain.gap import Lapse
from engram_core.domain.message import Episode, Message
from engram_core.measure import content, lapses
from engram_core.ports import Asked

_RECENT: Final = 6
"""Messages of a session that are looked back at."""
_SPAN: Final = 500
"""Characters kept of what was asked and said."""
_CONTAINED: Final = 0.8
"""Share of a question's words in a message from which they are one and the same asking."""


@dataclass(frozen=True, slots=True)
class _Said:
    message: Message
    episode: Episode
    at: datetime


@dataclass(slots=True)
class Listener:
    """Hears a scope's messages in order and notes the lapses in them.

    Attributes:
        names: Speakers of the scope.
    """

    names: frozenset[str]
    _recent: dict[str | None, deque[_Said]] = field(default_factory=dict)

    def hear(self, episode: Episode) -> Iterator[Lapse]:
        """The lapses that an episode shows, given what came before it."""
        for message in episode.messages:
            if message.channel == "derived" or message.role not in {"user", "assistant"}:
                continue
            said = _Said(message, episode, message.at or episode.at)
            recent = self._recent.setdefault(message.session, deque(maxlen=_RECENT))
            yield from self._refused(said, recent) if message.role == "assistant" else self._corrected(said, recent)
            recent.append(said)

    def _refused(self, said: _Said, recent: Sequence[_Said]) -> Iterator[Lapse]:
        asked = _last_question(recent)
        span = lapses.refusal(said.message.content)
        if span is not None and asked is not None:
            question, asker = asked
            yield _lapse("unknown", question, span, said, asker)
        for question in lapses.asks_back(said.message.content):
            # Whether it had been told is for the evidence to say; without any, this is only a question.
            yield _lapse("asked_again", question, question, said, None)

    def _corrected(self, said: _Said, recent: Sequence[_Said]) -> Iterator[Lapse]:
        span = lapses.correction(said.message.content)
        if span is None or not recent or recent[-1].message.role != "assistant":
            return
        asked = _last_question(list(recent)[:-1])
        claim = recent[-1].message
        question = asked[0] if asked is not None else lapses.question(claim.content) or claim.content
        yield _lapse("corrected", question, span, said, said.message.speaker)


def of_recall(asked: Asked, names: frozenset[str]) -> Lapse | None:
    """The lapse that a recall and the answer to it show; None if memory was not missed, or that cannot be told."""
    row, usage = asked.recall, asked.usage
    question = lapses.question(row.query)
    if question is None:
        return None
    response = usage.response if usage is not None else ""
    span = lapses.refusal(response) if response else None
    if span is not None:
        return Lapse("unknown", question[:_SPAN], span[:_SPAN], row.at, recall_id=row.id)
    if not lapses.is_personal(question, names):
        return None
    if not row.shown:
        return Lapse("nothing_recalled", question[:_SPAN], "The recall found nothing.", row.at, recall_id=row.id)
    verdicts = [item.get("verdict") for item in usage.verdicts] if usage is not None else []
    if response and verdicts and set(verdicts) == {"unused"}:
        return Lapse("nothing_used", question[:_SPAN], response[:_SPAN], row.at, recall_id=row.id)
    return None


def heard_twice(lapse: Lapse, others: Iterable[Lapse]) -> bool:
    """Whether a recall's lapse is one that its conversation shows as well."""
    own = content.token_set(lapse.question)
    return any(
        other.message_id is not None and other.kind in {"unknown", "corrected"} and _is_contained(own, other.question)
        for other in others
    )


def _is_contained(own: frozenset[str], question: str) -> bool:
    tokens = content.token_set(question)
    return len(own & tokens) >= _CONTAINED * max(len(own | tokens), 1)


def _last_question(recent: Sequence[_Said]) -> tuple[str, str | None] | None:
    """What the user asked last, and who; None if the last thing said by the user asks nothing."""
    for said in reversed(recent):
        if said.message.role == "user":
            question = lapses.question(said.message.content)
            return (question, said.message.speaker) if question is not None else None
    return None


def _lapse(kind: str, question: str, span: str, said: _Said, asker: str | None) -> Lapse:
    return Lapse(
        kind,  # type: ignore[arg-type]
        words_of(question),
        words_of(span),
        said.at,
        asker,
        episode_id=said.episode.id,
        message_id=said.message.id,
    )


def words_of(text: str) -> str:
    """A text on one line, cut to what a gap keeps."""
    return " ".join(text.split())[:_SPAN]
