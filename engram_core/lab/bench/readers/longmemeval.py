"""LongMemEval: reads one haystack of sessions per question. Evidence is turns, or sessions where none is labelled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from engram_core.domain.message import Message
from engram_core.lab.bench.data import Conversation, Dataset, Question
from engram_core.lab.bench.readers.broken import part

_DATE: Final = re.compile(r"(\d{4})/(\d{2})/(\d{2}) \(\w+\) (\d{2}):(\d{2})")
_UNANSWERABLE: Final = "_abs"
"""How the ids of questions without an answer end; they are kept and cannot be scored."""


def fits(item: dict[str, Any]) -> bool:
    """Whether this is an instance of LongMemEval."""
    return "haystack_sessions" in item and "question" in item


def read(name: str, items: Sequence[dict[str, Any]]) -> Dataset:
    """One conversation per instance; its question is asked at `question_date`."""
    return Dataset(name, "longmemeval", tuple(_instance(name, place, item) for place, item in enumerate(items, 1)))


def _instance(name: str, place: int, item: dict[str, Any]) -> Conversation:
    with part(name, f"question {place}"):
        own = str(item["question_id"])
        sessions: list[tuple[Message, ...]] = []
        labelled: list[str | None] = []
        ids: dict[str, str] = {}
        given = zip(item["haystack_session_ids"], item["haystack_dates"], item["haystack_sessions"], strict=True)
        for number, (session, date, turns) in enumerate(given):
            # A session may stand in a haystack twice; message ids must not.
            unique = session if session not in ids.values() else f"{session}~{number}"
            ids[unique] = session
            messages = _session(unique, moment(date), turns)
            sessions.append(messages)
            labelled += [m.id for m, turn in zip(messages, _said(turns), strict=True) if turn.get("has_answer")]
        wanted = set(item.get("answer_session_ids") or ())
        evidence = labelled or [unique for unique, session in ids.items() if session in wanted]
        question = Question(
            item["question"],
            str(item.get("answer", "")),
            item["question_type"],
            () if own.endswith(_UNANSWERABLE) else tuple(id_ for id_ in evidence if id_),
            asked_at=moment(item["question_date"]) if item.get("question_date") else None,
            id=own,
        )
        return Conversation(own, ("User", "Assistant"), tuple(sessions), (question,))


def moment(text: str) -> datetime:
    """A date such as `2023/05/20 (Sat) 02:21`, UTC."""
    found = _DATE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"the date {text!r} is not written like 2023/05/20 (Sat) 02:21")
    return datetime(*map(int, found.groups()), tzinfo=UTC)  # type: ignore[arg-type, misc]  # five numbers


def _said(turns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [turn for turn in turns if turn["content"].strip()]


def _session(session: str, start: datetime, turns: Sequence[dict[str, Any]]) -> tuple[Message, ...]:
    return tuple(
        Message(
            turn["role"],
            turn["content"],
            at=start + timedelta(minutes=place),
            session=session,
            id=f"{session}#{place}",
            channel=turn["role"],
        )
        for place, turn in enumerate(_said(turns))
    )
