"""Reads LoCoMo-style conversations for benchmarks and the demo. It loads and repairs; it measures nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from engram_core import Message

DEFAULT = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "locomo-dev.json"
_ID = re.compile(r"D(\d+):(\d+)")


@dataclass(frozen=True)
class Question:
    """One labelled question; `evidence` holds ids of turns that exist."""

    text: str
    answer: str
    category: str
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class Conversation:
    """One long chat: its messages in order, session by session, and its questions."""

    id: str
    speakers: tuple[str, ...]
    sessions: tuple[tuple[Message, ...], ...]
    questions: tuple[Question, ...]

    @property
    def messages(self) -> Iterator[Message]:
        """Every message in order."""
        for session in self.sessions:
            yield from session


def load(path: Path = DEFAULT) -> list[Conversation]:
    """The conversations of a file in the format of ../shared/data. Turns of a session are a minute apart."""
    return [_conversation(item) for item in json.loads(path.read_text())]


def turn_ids(evidence: Sequence[str]) -> tuple[str, ...]:
    """The turn ids in evidence strings, some of which hold several, or leading zeros."""
    return tuple(dict.fromkeys(f"D{int(a)}:{int(b)}" for a, b in _ID.findall(" ".join(evidence))))


def _conversation(item: dict[str, Any]) -> Conversation:
    sessions = tuple(_session(item["id"], number, session) for number, session in enumerate(item["sessions"], 1))
    known = {message.id for session in sessions for message in session}
    questions = []
    for question in item["questions"]:
        evidence = tuple(turn for turn in turn_ids(question["evidence"]) if turn in known)
        answer = str(question.get("answer", ""))
        questions.append(Question(question["question"], answer, question["category"], evidence))
    return Conversation(item["id"], tuple(item["speakers"]), sessions, tuple(questions))


def _session(conversation: str, number: int, session: dict[str, Any]) -> tuple[Message, ...]:
    start = datetime.strptime(session["date"], "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
    messages = []
    for place, turn in enumerate(session["turns"]):
        caption = turn.get("picture_caption")
        text = f"{turn['text']} [shares {caption}]" if caption else turn["text"]
        at = start + timedelta(minutes=place)
        name = f"{conversation}-s{number}"
        messages.append(Message("user", text, speaker=turn["speaker"], at=at, session=name, id=turn["id"]))
    return tuple(messages)
