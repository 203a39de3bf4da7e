"""Every format the bench reads, from examples of our own writing, and what it says about files it cannot read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import pytest

from engram_core import InvalidInput
from engram_core.lab.bench.data import Conversation, Dataset, display
from engram_core.lab.bench.readers import load, pick

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples" / "bench"
BUILT_IN = ROOT / "engram_core" / "lab" / "bench" / "updates.jsonl"
PATHS = ["locomo.json", "locomo10.json", "longmemeval.json", "beam", str(BUILT_IN), "forgetting.jsonl"]


def only(name: str) -> Conversation:
    (conversation,) = load(EXAMPLES / name).conversations
    return conversation


@pytest.mark.parametrize("name", PATHS)
def test_messages_have_ids_times_and_sessions_and_evidence_exists(name: str) -> None:
    for conversation in load(EXAMPLES / name).conversations:
        messages = list(conversation.messages)
        ids = [message.id for message in messages]
        assert len(set(ids)) == len(ids)
        assert all(message.session and message.at and message.at.tzinfo for message in messages)
        known = {*ids, *(message.session for message in messages)}
        for question in conversation.questions:
            assert known >= {*question.evidence, *question.stale}
        assert len({question.id for question in conversation.questions}) == len(conversation.questions)


def test_locomo_by_session_repairs_evidence_and_shows_pictures() -> None:
    found = load(EXAMPLES / "locomo.json")
    (conversation,) = found.conversations
    assert found.apart == {"adversarial"}
    assert [question.evidence for question in conversation.questions] == [
        ("D1:1",), ("D2:1",), ("D1:3", "D2:2"), ("D1:4",), ()
    ]  # fmt: skip
    said = list(conversation.messages)
    assert display(said[3]).endswith("greenhouse roof. [shares a greenhouse with a new pane of glass]")
    assert display(said[0]).startswith("Mira: ")
    assert said[1].at == datetime(2024, 3, 3, 18, 11, tzinfo=UTC)
    assert found.size == {"conversations": 1, "messages": 7, "questions": 5, "scored": 4}


def test_locomo_as_published_is_the_same_in_other_words() -> None:
    conversation = only("locomo10.json")
    assert conversation.speakers == ("Ines", "Karl")
    assert [len(session) for session in conversation.sessions] == [2, 1]
    assert [question.category for question in conversation.questions] == ["single-hop", "temporal", "adversarial"]
    assert "[shares a yellow kayak on a car roof]" in list(conversation.messages)[1].content
    assert conversation.questions[2].answer == "a kayak"


def test_longmemeval_takes_turns_as_evidence_and_sessions_where_no_turn_is_labelled() -> None:
    train, dogs, cat = load(EXAMPLES / "longmemeval.json").conversations
    assert train.questions[0].evidence == ("s-commute#0",)
    assert train.questions[0].asked_at == datetime(2024, 5, 30, 10, tzinfo=UTC)
    assert dogs.questions[0].evidence == ("s-dog", "s-dog~2"), "a session that stands there twice is two"
    assert dogs.questions[0].answer == "2"
    assert cat.questions[0].evidence == (), "what cannot be answered has no evidence"
    assert [message.channel for message in train.sessions[0]] == ["user", "assistant"]


def test_beam_reads_folders_and_tables_alike(tmp_path: Path) -> None:
    folder = EXAMPLES / "beam" / "1"
    chat = json.loads((folder / "chat.json").read_text())
    asked = json.loads((folder / "probing_questions" / "probing_questions.json").read_text())
    (conversation,) = load(EXAMPLES / "beam").conversations
    by_id = {question.id: question for question in conversation.questions}
    assert by_id["knowledge_update-1"].evidence == ("0", "2")
    assert by_id["knowledge_update-1"].stale == ("0",)
    assert by_id["contradiction_resolution-1"].evidence == ("0", "2"), "what is not there is left out"
    assert by_id["abstention-1"].evidence == ()
    first = next(conversation.messages)
    assert first.content.endswith("by April 10."), "the plan's marks are no words of the user"
    assert first.at == datetime(2024, 3, 15, 9, tzinfo=UTC)
    turns = [batch["turns"] for batch in chat]
    for number, told in enumerate((chat, [{"plan-1": chat[:1]}, {"plan-2": chat[1:]}], [[*chain(*t)] for t in turns])):
        table = tmp_path / f"{number}.json"
        table.write_text(json.dumps([{"conversation_id": "1", "chat": told, "probing_questions": str(asked)}]))
        (same,) = load(table).conversations
        assert [m.content for m in same.messages] == [m.content for m in conversation.messages]
        assert same.questions == conversation.questions


def test_lines_hold_updates_and_labels() -> None:
    updates = only(str(BUILT_IN))
    assert [(question.evidence, question.stale) for question in updates.questions] == [
        (("u4",), ("u1",)), (("u5",), ("u2",)), (("u6",), ())
    ]  # fmt: skip
    assert updates.speakers == ("Ana",)
    labelled = only("forgetting.jsonl")
    assert labelled.labelled("forget") == {"f2", "f4", "f6", "f8"}
    assert labelled.labelled("keep") == {"f1", "f3", "f5", "f7"}


def test_a_limit_takes_the_first_conversations() -> None:
    whole = load(EXAMPLES / "longmemeval.json")
    assert pick(whole, 2) == Dataset(whole.name, whole.format, whole.conversations[:2], whole.apart)
    assert pick(whole, None) == whole
    with pytest.raises(InvalidInput, match="1 or more"):
        pick(whole, 0)


TURN = '{"turn": "a", "text": "I live in Porto."}\n'
BROKEN = [
    ("x.json", "[{]", "neither JSON nor JSON Lines"),
    ("x.json", "[]", "no format the bench reads"),
    ("x.json", '[{"rows": 1, "cells": 2}]', r"no format the bench reads \(its first record has: cells, rows\)"),
    ("x.json", '[{"id": 1, "sessions": [], "questions": [], "speakers": 3}]', "x.json, conversation 1"),
    ("x.json", '[{"conversation": {}, "qa": []}]', "x.json, conversation 1: the field 'speaker_a' is missing"),
    (
        "x.json",
        '[{"haystack_sessions": [], "question": "?"}]',
        "x.json, question 1: the field 'question_id' is missing",
    ),
    ("x.json", '[{"chat": [3], "probing_questions": "{}"}]', "neither a list of batches"),
    ("x.json", '[{"chat": [], "probing_questions": "[]"}]', "probing_questions is a list"),
    ("x.jsonl", "", "has no lines"),
    ("x.jsonl", TURN + "{]", "x.jsonl, line 2"),
    ("x.jsonl", TURN + "3", "line 2: this is a int, not an object"),
    ("x.jsonl", TURN + TURN, "line 2: the turn 'a' stands there twice"),
    ("x.jsonl", TURN + '{"question": "?", "current": ["b"]}', "line 2: no turn before this question is called b"),
    ("x.jsonl", '{"turn": "a", "text": "t", "label": "drop"}', "line 1: a label is keep or forget, not 'drop'"),
    ("x.jsonl", '{"said": "a"}', "line 1: a line is a turn"),
]


@pytest.mark.parametrize(("name", "text", "message"), BROKEN)
def test_what_cannot_be_read_says_where_and_why(name: str, text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InvalidInput, match=message):
        load(path)


def test_what_is_not_there_or_no_chat_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        load(tmp_path / "missing.json")
    with pytest.raises(InvalidInput, match=r"no chat\.json beside"):
        load(tmp_path)
