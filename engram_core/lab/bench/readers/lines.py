"""Lines: reads the bench's own JSON Lines: turns, questions about what changed, labels to forget by. It only reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from engram_core.domain.errors import InvalidInput
from engram_core.domain.message import Message, aware
from engram_core.lab.bench.data import Conversation, Dataset, Label, Question
from engram_core.lab.bench.readers.broken import part

LABELS: Final[tuple[Label, ...]] = ("keep", "forget")
_START: Final = datetime(2024, 1, 1, 9, tzinfo=UTC)


def fits(text: str) -> bool:
    """Whether the first line is an object with `turn` or `question`."""
    first = text.lstrip().partition("\n")[0].strip()
    try:
        item = json.loads(first)
    except json.JSONDecodeError:
        return False
    return isinstance(item, dict) and ("turn" in item or ("question" in item and "current" in item))


def read(name: str, text: str) -> Dataset:
    """Conversations from lines of turns and questions, in the order they stand.

    Raises:
        InvalidInput: A line is no object, has neither `turn` nor `question`, repeats an id or names an unknown one.
    """
    turns: dict[str, dict[str, Message]] = {}
    questions: dict[str, list[Question]] = {}
    labels: dict[str, list[tuple[str, Label]]] = {}
    for number, item in _objects(name, text):
        with part(name, f"line {number}"):
            own = str(item.get("conversation", "1"))
            said = turns.setdefault(own, {})
            if "turn" in item:
                message = _turn(item, len(said))
                if message.id in said:
                    raise InvalidInput(f"the turn {message.id!r} stands there twice; ids are unique per conversation.")
                said[str(message.id)] = message
                if "label" in item:
                    labels.setdefault(own, []).append((str(message.id), _label(item["label"])))
            elif "question" in item:
                asked = questions.setdefault(own, [])
                asked.append(_question(item, len(asked) + 1, set(said)))
            else:
                raise InvalidInput("a line is a turn (`turn`: its id) or a question (`question`: its text).")
    if not turns:
        raise InvalidInput(f"{name} has no lines; each is a turn or a question.")
    found = tuple(_conversation(own, said, questions, labels) for own, said in turns.items())
    return Dataset(name, "lines", found)


def _objects(name: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            with part(name, f"line {number}"):
                item = json.loads(line)
                if not isinstance(item, dict):
                    raise TypeError(f"this is a {type(item).__name__}, not an object")
                yield number, item


def _turn(item: dict[str, Any], place: int) -> Message:
    at = aware(datetime.fromisoformat(item["at"])) if "at" in item else _START + timedelta(minutes=place)
    return Message(
        item.get("role", "user"),
        item["text"],
        speaker=item.get("speaker"),
        at=at,
        session=str(item.get("session", "1")),
        id=str(item["turn"]),
    )


def _question(item: dict[str, Any], number: int, known: set[str]) -> Question:
    current, stale = (tuple(map(str, item.get(key, ()))) for key in ("current", "stale"))
    unknown = sorted({*current, *stale} - known)
    if unknown:
        raise InvalidInput(f"no turn before this question is called {', '.join(unknown)}.")
    return Question(
        item["question"],
        str(item.get("answer", "")),
        str(item.get("category", "all questions")),
        current,
        asked_at=aware(datetime.fromisoformat(item["at"])) if "at" in item else None,
        stale=stale,
        id=str(item.get("id", f"q{number}")),
    )


def _label(value: Any) -> Label:
    if value not in LABELS:
        raise InvalidInput(f"a label is keep or forget, not {value!r}.")
    return "keep" if value == "keep" else "forget"


def _conversation(
    own: str,
    said: dict[str, Message],
    questions: dict[str, list[Question]],
    labels: dict[str, list[tuple[str, Label]]],
) -> Conversation:
    sessions: dict[str | None, list[Message]] = {}
    for message in said.values():
        sessions.setdefault(message.session, []).append(message)
    speakers = tuple(dict.fromkeys(message.speaker for message in said.values() if message.speaker))
    return Conversation(
        own,
        speakers,
        tuple(tuple(messages) for messages in sessions.values()),
        tuple(questions.get(own, ())),
        tuple(labels.get(own, ())),
    )
