"""Data: labelled conversations as the bench reads them, whatever their format. Records only; readers fill them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from engram_core.domain.message import Message

Label = Literal["keep", "forget"]


@dataclass(frozen=True, slots=True)
class Question:
    """One labelled question.

    Attributes:
        text: As asked.
        answer: The gold answer; "" if there is none.
        category: As the data set names it, such as `multi-hop`.
        evidence: Ids of the messages that hold the answer, or of whole sessions where the data set labels no messages;
            all exist in the conversation. Empty for a question that cannot be scored.
        asked_at: When it is asked; None: after everything.
        stale: Ids of messages that say what was true before; empty unless the question is about something that changed.
        id: Unique in the conversation.
    """

    text: str
    answer: str
    category: str
    evidence: tuple[str, ...]
    asked_at: datetime | None = None
    stale: tuple[str, ...] = ()
    id: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One long chat, kept apart from all others: its messages in order, session by session, and its questions.

    Attributes:
        labels: Message id → whether it should be kept or forgotten; empty unless the data is about forgetting.
    """

    id: str
    speakers: tuple[str, ...]
    sessions: tuple[tuple[Message, ...], ...]
    questions: tuple[Question, ...]
    labels: tuple[tuple[str, Label], ...] = ()

    @property
    def messages(self) -> Iterator[Message]:
        """Every message in order. Each has an id and a session."""
        for session in self.sessions:
            yield from session

    def labelled(self, label: Label) -> frozenset[str]:
        """Ids of the messages with this label."""
        return frozenset(id_ for id_, given in self.labels if given == label)


@dataclass(frozen=True, slots=True)
class Dataset:
    """What one path held.

    Attributes:
        name: The file's or folder's name.
        format: Which reader read it, such as `locomo`.
        apart: Categories that are reported on their own and left out of "all", such as `adversarial`.
    """

    name: str
    format: str
    conversations: tuple[Conversation, ...]
    apart: frozenset[str] = frozenset()

    @property
    def size(self) -> dict[str, int]:
        """How many conversations, messages, questions, and questions that can be scored."""
        asked = [question for conversation in self.conversations for question in conversation.questions]
        return {
            "conversations": len(self.conversations),
            "messages": sum(len(session) for each in self.conversations for session in each.sessions),
            "questions": len(asked),
            "scored": sum(bool(question.evidence) for question in asked),
        }


def display(message: Message) -> str:
    """A message as one line: `Speaker: words`. What every memory without a notion of speakers is given."""
    return f"{message.speaker or message.role.capitalize()}: {message.content}"
