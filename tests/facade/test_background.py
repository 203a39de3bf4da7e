"""Extraction with a model, in the background: facts beside turns, and nothing lost when the model talks nonsense."""

from __future__ import annotations

import json

from engram_core import Engram, Message

TURN = [Message("user", "I switched from tea to espresso since my trip to Rome.", speaker="Ana", id="m1")]


def scripted(*answers: str):
    left = list(answers)

    def complete(prompt: str) -> str:
        return left.pop(0) if len(left) > 1 else left[0]

    return complete


GOOD = json.dumps([{"text": "Ana drinks espresso.", "kind": "preference", "importance": 0.6, "message": 1}])


def test_a_model_adds_facts_beside_the_turn_they_came_from(tmp_path):
    with Engram.open(tmp_path / "s", model=scripted(GOOD)) as store:
        memory = store.memory("a")
        turn = memory.add(TURN).facts[0]
        assert store.flush(30)
        facts = memory.list()
        assert [fact.text for fact in facts] == [TURN[0].content, "Ana drinks espresso."]
        stated = facts[1]
        assert stated.sources == (turn.id,)
        assert stated.origin.channel == "derived"
        assert stated.trust <= turn.trust
        assert stated.origin.message_ids == ("m1",)
        assert {item.fact.id for item in memory.recall("What does Ana drink?").facts} >= {stated.id}
        assert [item.action for item in memory.history(stated.id)] == ["add"]


def test_nonsense_is_repaired_once(tmp_path):
    with Engram.open(tmp_path / "s", model=scripted("I think that", GOOD)) as store:
        store.memory("a").add(TURN)
        assert store.flush(30)
        assert len(store.memory("a").list()) == 2
        assert store.doctor()["parked"] == {}


def test_nonsense_twice_is_parked_and_the_turn_is_kept(tmp_path):
    with Engram.open(tmp_path / "s", model=scripted("no", "still no")) as store:
        memory = store.memory("a")
        memory.add(TURN)
        assert store.flush(30)
        assert [fact.text for fact in memory.list()] == [TURN[0].content]
        report = store.doctor()
        assert report["parked"] == {"extraction": 1}
        assert report["extractions_due"] == 0
        assert any("extraction" in line for line in report["problems"])


def test_what_a_killed_process_left_due_is_done_by_the_next(tmp_path):
    def broken(prompt: str) -> str:
        raise KeyboardInterrupt  # the process stops in the middle of the model's answer

    store = Engram.open(tmp_path / "s", model=broken)
    store._worker._stopped.set()  # the background thread never gets to it
    store.memory("a").add(TURN)
    assert len(store.context.ledger.episodes_due(10)) == 1
    store.close()
    with Engram.open(tmp_path / "s", model=scripted(GOOD)) as store:
        assert store.flush(30)
        assert len(store.memory("a").list()) == 2


def test_recall_never_calls_the_model(tmp_path):
    calls = []

    def counting(prompt: str) -> str:
        calls.append(prompt)
        return GOOD

    with Engram.open(tmp_path / "s", model=counting) as store:
        memory = store.memory("a")
        memory.add(TURN)
        store.flush(30)
        before = len(calls)
        memory.recall("What does Ana drink?")
        assert len(calls) == before == 1
