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


DECK = (
    "My Italian deck has 300 flash cards and I review it daily.",
    "My Italian deck has grown to 420 flash cards now.",
)


def judging(answer):
    def complete(prompt: str) -> str:
        return answer if "Which holds?" in prompt else "[]"

    return complete


def judged_deck(tmp_path, answer):
    with Engram.open(tmp_path / "s", model=judging(answer)) as store:
        memory = store.memory("a")
        for number, text in enumerate(DECK):
            memory.add(Message("user", text, speaker="Ana", id=f"m{number}"))
        assert store.flush(30)
        assert store.context.ledger.links_unjudged(10) == []
        facts = memory.list(status="all")
        return facts, memory.explain(facts[0].id).links[-1], memory.recall("How many cards has my deck?").text


def test_a_model_may_say_that_a_possible_update_is_one(tmp_path):
    (old, new), link, text = judged_deck(tmp_path, '{"verdict": "update"}')
    assert (old.status, old.superseded_by) == ("archived", new.id)
    assert old.archived_reason.startswith("judged")
    assert (link["verdict"], link["probability"], link["rule"]) == ("update", 1.0, "judged")
    assert "300" not in text


def test_a_model_may_say_that_both_are_true_and_nonsense_says_so_too(tmp_path):
    for number, answer in enumerate(('{"verdict": "both"}', "who knows", '{"verdict": "update"} {"verdict": "same"}')):
        (old, _), link, text = judged_deck(tmp_path / str(number), answer)
        assert old.status == "live"
        assert link["verdict"] == "both"
        assert "[earlier]" not in text


def test_a_model_that_fails_leaves_the_link(tmp_path):
    def broken(prompt: str) -> str:
        if "Which holds?" in prompt:
            raise OSError("no route to the model")
        return "[]"

    with Engram.open(tmp_path / "s", model=broken) as store:
        memory = store.memory("a")
        for text in DECK:
            memory.add(Message("user", text, speaker="Ana"))
        assert store.flush(30)
        links = memory.explain(memory.list()[0].id).links
        assert [(link["rule"], link["verdict"]) for link in links] == [
            ("possible_update", "update"),
            ("judge_failed", "update"),
        ]
        assert "[earlier]" in memory.recall("How many cards has my deck?").text


def test_what_was_derived_from_a_superseded_fact_goes_and_comes_back_with_it(tmp_path):
    stated = json.dumps([{"text": "Ana's home is Lisbon.", "kind": "profile", "importance": 0.5, "message": 1}])
    with Engram.open(tmp_path / "s", model=scripted(stated, "[]")) as store:
        memory = store.memory("a")
        old = memory.add(Message("user", "I live in Lisbon.", speaker="Ana")).facts[0]
        assert store.flush(30)
        new = memory.add(Message("user", "I moved to Porto.", speaker="Ana")).facts[0]
        assert store.flush(30)
        (derived,) = memory.explain(old.id).derived
        assert derived["status"] == "archived"
        assert derived["archived_reason"].startswith("source_superseded")
        assert [fact.text for fact in memory.list()] == ["I moved to Porto."]
        memory.forget(new.id)
        assert [fact.text for fact in memory.list()] == ["I live in Lisbon.", "Ana's home is Lisbon."]
