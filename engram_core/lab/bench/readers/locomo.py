"""LoCoMo: reads long chats of two people, as published and by session, and repairs evidence ids. It only reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from engram_core.domain.message import Message
from engram_core.lab.bench.data import Conversation, Dataset, Question
from engram_core.lab.bench.readers.broken import part

CATEGORIES: Final = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
APART: Final = frozenset({"adversarial"})
"""These have no right answer, so they are reported on their own."""
_ID: Final = re.compile(r"D(\d+):(\d+)")
_SESSION: Final = re.compile(r"session_(\d+)")
_DATE: Final = "%I:%M %p on %d %B, %Y"


def is_by_session(item: dict[str, Any]) -> bool:
    """Whether this is a conversation with `sessions[].turns[]` and `questions[].evidence`."""
    return "sessions" in item and "questions" in item


def is_original(item: dict[str, Any]) -> bool:
    """Whether this is a conversation of `locomo10.json`."""
    return "conversation" in item and "qa" in item


def read_by_session(name: str, items: Sequence[dict[str, Any]]) -> Dataset:
    """Conversations of `id`, `speakers`, `sessions[]` (`date`, `turns[]`), `questions[]`; turns are a minute apart."""
    return Dataset(name, "locomo", tuple(_by_session(name, place, item) for place, item in enumerate(items, 1)), APART)


def read_original(name: str, items: Sequence[dict[str, Any]]) -> Dataset:
    """Conversations of `sample_id`, `conversation` (`session_1`, `session_1_date_time`, …) and `qa[]`."""
    return Dataset(name, "locomo", tuple(_original(name, place, item) for place, item in enumerate(items, 1)), APART)


def turn_ids(evidence: Sequence[str]) -> tuple[str, ...]:
    """The turn ids in evidence strings, some of which hold several, or leading zeros."""
    return tuple(dict.fromkeys(f"D{int(a)}:{int(b)}" for a, b in _ID.findall(" ".join(evidence))))


def _by_session(name: str, place: int, item: dict[str, Any]) -> Conversation:
    with part(name, f"conversation {place}"):
        own = str(item["id"])
        sessions = tuple(
            _session(own, number, session["date"], session["turns"], "id", "picture_caption")
            for number, session in enumerate(item["sessions"], 1)
        )
        asked = [
            (question["question"], question.get("answer", ""), question["category"], question["evidence"])
            for question in item["questions"]
        ]
        return Conversation(own, tuple(item["speakers"]), sessions, _questions(asked, sessions))


def _original(name: str, place: int, item: dict[str, Any]) -> Conversation:
    with part(name, f"conversation {place}"):
        own = str(item.get("sample_id", place))
        told = item["conversation"]
        numbers = sorted(int(found[1]) for key in told if (found := _SESSION.fullmatch(key)))
        sessions = tuple(
            _session(
                own, number, told[f"session_{number}_date_time"], told[f"session_{number}"], "dia_id", "blip_caption"
            )
            for number in numbers
            if told[f"session_{number}"]
        )
        asked = [
            (
                question["question"],
                question.get("answer", question.get("adversarial_answer", "")),
                CATEGORIES[question["category"]],
                question.get("evidence", ()),
            )
            for question in item["qa"]
        ]
        return Conversation(own, (told["speaker_a"], told["speaker_b"]), sessions, _questions(asked, sessions))


def _questions(asked: Sequence[tuple[Any, ...]], sessions: Sequence[Sequence[Message]]) -> tuple[Question, ...]:
    known = {message.id for session in sessions for message in session}
    return tuple(
        Question(
            text, str(answer), category, tuple(turn for turn in turn_ids(evidence) if turn in known), id=f"q{number}"
        )
        for number, (text, answer, category, evidence) in enumerate(asked, 1)
    )


def _session(
    conversation: str, number: int, date: str, turns: Sequence[dict[str, Any]], id_: str, caption: str
) -> tuple[Message, ...]:
    start = datetime.strptime(date, _DATE).replace(tzinfo=UTC)
    messages = []
    for place, turn in enumerate(turns):
        shown = turn.get(caption)
        text = f"{turn['text']} [shares {shown}]" if shown else turn["text"]
        at = start + timedelta(minutes=place)
        name = f"{conversation}-s{number}"
        messages.append(Message("user", text, speaker=turn["speaker"], at=at, session=name, id=turn[id_]))
    return tuple(messages)
