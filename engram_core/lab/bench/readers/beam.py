"""BEAM: reads very long user-assistant chats and their probing questions, from folders or one file. It only reads."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from engram_core.domain.errors import InvalidInput
from engram_core.domain.message import Message
from engram_core.lab.bench.data import Conversation, Dataset, Question
from engram_core.lab.bench.readers.broken import part

_MARK: Final = re.compile(r"\s*->->\s*[\d, ]+\s*$")
"""Where a user's message stands in the plan it was made from; no user would write it."""
_CHATS: Final = ("chat.json", "chat_trunecated.json")
_QUESTIONS: Final = Path("probing_questions") / "probing_questions.json"
_START: Final = datetime(2024, 1, 1, 9, tzinfo=UTC)
_OLD: Final = "original_info"
_NEW: Final = "updated_info"
_ANSWERS: Final = ("answer", "ideal_answer", "ideal_response", "ideal_summary")


def fits(item: dict[str, Any]) -> bool:
    """Whether this is a record with `chat` and `probing_questions`, as in the published tables."""
    return "chat" in item and "probing_questions" in item


def read(name: str, items: Sequence[dict[str, Any]]) -> Dataset:
    """Conversations of `chat` and `probing_questions` (an object, or its text)."""
    found = []
    for place, item in enumerate(items, 1):
        with part(name, f"conversation {place}"):
            own = str(item.get("conversation_id", place))
            found.append(_conversation(own, item["chat"], _object(item["probing_questions"])))
    return Dataset(name, "beam", tuple(found))


def read_folder(path: Path) -> Dataset:
    """The chats below a folder: each has `chat.json` and `probing_questions/probing_questions.json`.

    Raises:
        InvalidInput: There is no such chat, or a file is broken.
    """
    folders = sorted((found.parent.parent for found in path.rglob(str(_QUESTIONS))), key=_by_number)
    chats = [
        (folder, next((folder / name for name in _CHATS if (folder / name).is_file()), None)) for folder in folders
    ]
    found = []
    for folder, chat in chats:
        if chat is not None:
            own = str(folder.relative_to(path)) if folder != path else path.name
            with part(str(chat), "the chat or its questions"):
                questions = json.loads((folder / _QUESTIONS).read_text(encoding="utf-8"))
                found.append(_conversation(own, json.loads(chat.read_text(encoding="utf-8")), questions))
    if not found:
        raise InvalidInput(
            f"Below {path} there is no chat.json beside a {_QUESTIONS}; a folder is read as BEAM's chats."
        )
    return Dataset(path.name, "beam", tuple(found))


def _by_number(folder: Path) -> tuple[str, int, str]:
    return str(folder.parent), int(folder.name) if folder.name.isdigit() else -1, folder.name


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            value = ast.literal_eval(value)  # the published table holds it as Python writes it; literals only
    if not isinstance(value, dict):
        raise TypeError(f"probing_questions is a {type(value).__name__}, not an object of questions by ability")
    return value


def _conversation(own: str, chat: Any, questions: dict[str, Any]) -> Conversation:
    sessions = tuple(_session(own, number, part_) for number, part_ in enumerate(_batches(chat), 1))
    known = {message.id for session in sessions for message in session}
    asked = []
    for ability, found in questions.items():
        for number, item in enumerate(found, 1):
            sources = item.get("source_chat_ids")
            old, new = (_ids(sources.get(key)) if isinstance(sources, dict) else [] for key in (_OLD, _NEW))
            evidence = tuple(dict.fromkeys(id_ for id_ in _ids(sources) if id_ in known))
            stale = tuple(id_ for id_ in old if id_ in known and id_ not in new) if new else ()
            answer = next((str(item[key]) for key in _ANSWERS if item.get(key)), "")
            asked.append(Question(item["question"], answer, ability, evidence, stale=stale, id=f"{ability}-{number}"))
    return Conversation(own, ("User", "Assistant"), sessions, tuple(asked))


def _ids(node: Any) -> list[str]:
    """The numbers in a list, or in an object of lists, as message ids."""
    if isinstance(node, dict):
        return [id_ for child in node.values() for id_ in _ids(child)]
    if isinstance(node, list):
        return [id_ for child in node for id_ in _ids(child)]
    return [] if node is None or isinstance(node, bool) else [str(node)]


def _batches(node: Any) -> Iterator[list[dict[str, Any]]]:
    """The sessions of a chat in order: a batch of turns, or one plan after the other, each of batches."""
    if isinstance(node, list) and all(isinstance(item, dict) and "turns" in item for item in node):
        yield from (list(_messages(item)) for item in node)
    elif isinstance(node, list) and node and isinstance(node[0], dict) and "role" not in node[0]:
        for item in node:
            for child in item.values():
                yield from _batches(child)
    elif isinstance(node, list) and node and isinstance(node[0], list) and all(_is_message(item[0]) for item in node):
        yield from (list(_messages(item)) for item in node)
    else:
        raise ValueError("chat is neither a list of batches with turns nor a list of lists of messages")


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and "role" in item


def _messages(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict) and "role" in node:
        yield node
    elif isinstance(node, (dict, list)):
        for child in node.values() if isinstance(node, dict) else node:
            yield from _messages(child)


def _session(own: str, number: int, said: Sequence[dict[str, Any]]) -> tuple[Message, ...]:
    anchors = [item["time_anchor"] for item in said if item.get("time_anchor")]
    start = _anchor(anchors[0]) if anchors else _START + timedelta(days=number)
    name = f"{own}-s{number}"
    messages = []
    for place, item in enumerate(said):
        text = _MARK.sub("", item["content"])
        if text.strip():
            id_, role = str(item["id"]), item["role"]
            at = start + timedelta(minutes=place)
            messages.append(Message(role, text, at=at, session=name, id=id_, channel=role))
    return tuple(messages)


def _anchor(text: str) -> datetime:
    return datetime.strptime(text, "%B-%d-%Y").replace(hour=9, tzinfo=UTC)
