"""Observe through the facade: meaning from the store's own vectors, a judge on request, and nothing lost when they fail."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from engram_core import Engram, InvalidInput, Memory, Message
from engram_core.domain.errors import EmbeddingFailed

TURNS = [
    Message("user", "We adopted a beagle called Pepper.", speaker="Bob", id="m1"),
    Message("user", "I rent a flat near the river in Lisbon.", speaker="Alice", id="m2"),
    Message("user", "My sister Clara teaches the violin.", speaker="Alice", id="m3"),
    Message("user", "The dentist costs 85 euros.", speaker="Alice", id="m4"),
]
STRICT_ANSWER = "A flat near the river in Lisbon."
PARAPHRASE = "She dwells on the bank of the Tagus."


class Switchable:
    """An embedder that can be switched off."""

    name = "switchable"
    dimension = 8

    def __init__(self) -> None:
        self.is_on = True

    def embed(self, texts):
        if not self.is_on:
            raise EmbeddingFailed("switched off")
        rows = np.array(
            [np.bincount([ord(char) % 8 for char in text], minlength=8) for text in texts], dtype=np.float32
        )
        return rows + 1


class Judge:
    """A model that names the facts whose text holds a word as used, and keeps its prompts."""

    name = "judge"

    def __init__(self, word: str) -> None:
        self.word = word
        self.prompts: list[str] = []

    def complete(self, prompt: str) -> str:
        self.prompts.append(prompt)
        facts = [json.loads(line) for line in prompt.splitlines() if re.match(r'\{"fact": \d', line)]
        return json.dumps([{"fact": fact["fact"], "used": self.word in fact["text"]} for fact in facts])


def filled(store: Engram) -> Memory:
    memory = store.memory("acme/alice")
    memory.add(TURNS)
    return memory


def texts(memory: Memory, ids: tuple[str, ...]) -> list[str]:
    return [memory.get(id_).text for id_ in ids]


def test_verdicts_add_up_from_named_evidence():
    with Engram.open(":memory:") as store:
        memory = filled(store)
        usage = memory.observe(memory.recall("Where does Alice live?").id, STRICT_ANSWER)
        assert texts(memory, usage.used) == [TURNS[1].content]
        terms = dict(usage.terms[usage.used[0]])
        weight, likely = terms.pop("weight"), terms.pop("probability")
        assert likely == pytest.approx(1 / (1 + np.exp(-sum(terms.values()))))
        assert weight == likely


def test_a_response_without_words_uses_nothing():
    with Engram.open(":memory:") as store:
        memory = filled(store)
        for response in ("\U0001f600 \U0001f600", "?!", "I don't know.", "Nothing comes to mind about Alice."):
            usage = memory.observe(memory.recall("Where does Alice live?").id, response)
            assert usage.used == ()
            assert {terms["weight"] for terms in usage.terms.values()} == {0.0}


def test_a_megabyte_is_judged():
    with Engram.open(":memory:") as store:
        memory = filled(store)
        usage = memory.observe(memory.recall("Where does Alice live?").id, STRICT_ANSWER + " zzz" * 250_000)
        assert TURNS[1].content in texts(memory, usage.used)


def test_without_an_embedder_words_decide():
    embedder = Switchable()
    with Engram.open(":memory:", embedder=embedder) as store:
        memory = filled(store)
        recall = memory.recall("Where does Alice live?")
        embedder.is_on = False
        usage = memory.observe(recall.id, STRICT_ANSWER)
        assert texts(memory, usage.used) == [TURNS[1].content]
        meanings = {terms["meaning"] for terms in usage.terms.values() if "meaning" in terms}
        assert len(meanings) == 1


def test_pending_facts_are_judged_by_words():
    embedder = Switchable()
    with Engram.open(":memory:", embedder=embedder) as store:
        filled(store)
        embedder.is_on = False
        memory = filled(store)
        memory.add("Alice plays chess on Sundays.")
        recall = memory.recall("What does Alice play?")
        embedder.is_on = True
        usage = memory.observe(recall.id, "Chess on Sundays.")
        assert texts(memory, usage.used) == ["Alice plays chess on Sundays."]


def test_a_judge_needs_a_model():
    with Engram.open(":memory:") as store:
        memory = filled(store)
        recall = memory.recall("Where does Alice live?")
        with pytest.raises(InvalidInput, match="model="):
            memory.observe(recall.id, STRICT_ANSWER, judge=True)


def test_a_judge_decides_what_words_leave_open():
    judge = Judge("flat near the river")
    with Engram.open(":memory:", model=judge) as store:
        memory = filled(store)
        store.flush(30)
        judge.prompts.clear()
        recall = memory.recall("Where does Alice live?")
        assert memory.observe(recall.id, PARAPHRASE).used == ()
        assert judge.prompts == []
        usage = memory.observe(recall.id, PARAPHRASE, judge=True)
        assert texts(memory, usage.used) == [TURNS[1].content]
        assert len(judge.prompts) == 1
        assert usage.terms[usage.used[0]]["judge"] == 1.0
        assert usage.terms[usage.used[0]]["weight"] == 0.7
        assert {usage.terms[id_]["judge"] for id_ in usage.unused} == {0.0}
        assert store.doctor()["parked"].get("judgement") is None


def test_a_judge_is_not_asked_about_what_is_plain():
    judge = Judge("nothing at all")
    with Engram.open(":memory:", model=judge) as store:
        memory = filled(store)
        store.flush(30)
        recall = memory.recall("Where does Alice live?")
        judge.prompts.clear()
        usage = memory.observe(recall.id, STRICT_ANSWER, judge=True)
        assert texts(memory, usage.used) == [TURNS[1].content]
        assert "judge" not in usage.terms[usage.used[0]]
        assert TURNS[1].content not in judge.prompts[0].split("===")[-2].replace(STRICT_ANSWER, "")


def test_a_judge_cannot_overrule_a_refusal_or_speak_of_no_answer():
    judge = Judge("")
    with Engram.open(":memory:", model=judge) as store:
        memory = filled(store)
        store.flush(30)
        recall = memory.recall("Where does Alice live?")
        judge.prompts.clear()
        assert memory.observe(recall.id, "I don't know where Alice lives.", judge=True).used == ()
        assert len(memory.observe(recall.id, None, judge=True).unknown) == len(recall.facts)
        assert judge.prompts == []


def test_an_unusable_judge_leaves_the_verdict_and_shows_in_doctor():
    with Engram.open(":memory:", model=lambda _: "Who knows?") as store:
        memory = filled(store)
        recall = memory.recall("Where does Alice live?")
        by_words = memory.observe(recall.id, STRICT_ANSWER)
        usage = memory.observe(recall.id, STRICT_ANSWER, judge=True)
        assert usage.used == by_words.used
        assert usage.terms == by_words.terms
        report = store.doctor()
        assert report["parked"]["judgement"] == 1
        assert any("judgement" in problem for problem in report["problems"])
        assert any(failure["kind"] == "judgement" for failure in report["failures"])


def test_a_judges_failure_is_parked_in_a_database(tmp_path: Path):
    with Engram.open(tmp_path / "store", model=lambda _: "no") as store:
        memory = filled(store)
        memory.observe(memory.recall("Where does Alice live?").id, PARAPHRASE, judge=True)
        assert store.doctor()["parked"]["judgement"] == 1


async def test_a_judge_off_the_event_loop():
    judge = Judge("flat near the river")
    with Engram.open(":memory:", model=judge) as store:
        memory = filled(store)
        recall = await memory.arecall("Where does Alice live?")
        usage = await memory.aobserve(recall.id, PARAPHRASE, judge=True)
        assert usage.terms[usage.used[0]]["judge"] == 1.0


def test_a_scope_of_a_handful_of_facts_is_judged_as_well() -> None:
    """Where there are two facts every word is common; an answer still uses what it says."""
    with Engram.open(":memory:") as store:
        memory = store.memory("acme/new")
        memory.add([Message("user", "I'm allergic to peanuts."), Message("assistant", "Noted: allergic to peanuts.")])
        recall = memory.recall("What am I allergic to?")
        assert len(recall.facts) == 2
        assert memory.observe(recall.id, "You are allergic to peanuts.").used
        assert not memory.observe(recall.id, "I don't know what you are allergic to.").used
