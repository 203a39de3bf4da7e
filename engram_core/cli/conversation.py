"""Conversation: messages from files, pipes and the shipped example. It reads and refuses; it stores nothing.

The format is in docs/cli.md: a JSON list of messages, an object with `messages`, or one message per line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from engram_core.domain.errors import InvalidInput
from engram_core.domain.message import Message

# A link to examples/conversation.json in a clone; in a wheel the file itself.
_EXAMPLE = Path(__file__).resolve().with_name("conversation.json")
_FIELDS = ("role", "content", "speaker", "at", "session", "id", "channel")
_OWN_CHANNELS = ("assistant", "tool")


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a conversation, its answer, and the ids of the messages that hold it; none if nobody said it."""

    text: str
    answer: str
    category: str = ""
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in the order they were said, and questions about them."""

    id: str
    messages: tuple[Message, ...]
    questions: tuple[Question, ...] = ()


def example() -> Conversation:
    """The conversation that ships with Engram."""
    return load(_EXAMPLE)


def load(path: Path) -> Conversation:
    """Read a file. Raises InvalidInput, with the place of what is wrong."""
    try:
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}.") from error


def parse(data: bytes, name: str) -> Conversation:
    """Read JSON or JSON Lines. `name` says in errors where the data came from."""
    text = decoded(data, name)
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        document = _lines(text, name, error)
    if isinstance(document, Mapping) and "messages" not in document:
        document = [document]
    if isinstance(document, list):
        document = {"messages": document}
    if not isinstance(document, Mapping) or not isinstance(document["messages"], list):
        raise InvalidInput(f"{name} must hold a list of messages, or an object with a list `messages`.")
    messages = tuple(_message(item, f"{name}, message {n}") for n, item in enumerate(document["messages"], 1))
    questions = tuple(_question(item, f"{name}, question {n}") for n, item in enumerate(_questions(document, name), 1))
    return Conversation(str(document.get("id", name)), messages, questions)


def decoded(data: bytes, name: str) -> str:
    """Bytes as UTF-8 text. Raises InvalidInput."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} is not UTF-8 text (byte {error.start}).") from error


def _lines(text: str, name: str, whole: json.JSONDecodeError) -> list[object]:
    """One JSON value per line; `whole` is why the text is not one document."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            # If not even the first line is a message, it was meant to be one document.
            place = f"line {number}: {error.msg}" if found else f"line {whole.lineno}: {whole.msg}"
            raise InvalidInput(f"{name} is neither JSON nor JSON Lines ({place}).") from error
    return found


def _message(item: object, place: str) -> Message:
    if not isinstance(item, Mapping):
        raise InvalidInput(f'{place} must be an object such as {{"role": "user", "content": "…"}}.')
    if "content" not in item:
        raise InvalidInput(f"{place} has no `content`.")
    unknown = sorted(str(key) for key in item if key not in _FIELDS)
    if unknown:
        raise InvalidInput(f"{place} has unknown fields ({', '.join(unknown)}); known are {', '.join(_FIELDS)}.")
    fields: dict[str, Any] = {key: value for key, value in item.items() if value is not None}
    role = fields.pop("role", "user")
    if "at" in fields:
        fields["at"] = _moment(fields["at"], place)
    # Who speaks decides how far words are trusted, unless the file knows better.
    fields.setdefault("channel", role if role in _OWN_CHANNELS else "user")
    try:
        return Message(role, fields.pop("content", None), **fields)
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error}") from error


def _moment(value: object, place: str) -> datetime:
    try:
        return datetime.fromisoformat(str(value))
    except ValueError as error:
        raise InvalidInput(f"{place}: `at` must be a time such as 2025-01-14T18:05:00Z, not {value!r}.") from error


def _questions(document: Mapping[str, Any], name: str) -> list[object]:
    questions = document.get("questions", [])
    if not isinstance(questions, list):
        raise InvalidInput(f"{name}: `questions` must be a list.")
    return questions


def _question(item: object, place: str) -> Question:
    if not isinstance(item, Mapping) or not isinstance(item.get("question"), str):
        raise InvalidInput(f"{place} must be an object with a `question`.")
    evidence = tuple(str(id_) for id_ in item.get("evidence", ()))
    return Question(item["question"], str(item.get("answer", "")), str(item.get("category", "")), evidence)
