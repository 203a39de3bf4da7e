"""Erasing through the facade: sentinels in every field, gone from every file and every answer; and what must stay."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engram_core import Engram, InvalidInput, Message, OnHold
from engram_core.domain.errors import FactNotFound
from engram_core.domain.fact import Status
from engram_core.operations.residue import search
from engram_core.ports import Parked

ALICE = "acme/support/alice"
BOB = "acme/support/bob"
START = datetime(2026, 3, 1, 9, tzinfo=UTC)


class Sentinels:
    """Words that occur nowhere else, numbered; each is planted in one field."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.all: list[str] = []

    def __call__(self, field: str) -> str:
        word = f"Xq{self.name}{field}{len(self.all)}zv"
        self.all.append(word)
        return word


class Extractor:
    """A language model that states what it is told to, for the next episode only."""

    name = "scripted"

    def __init__(self) -> None:
        self.says = ""

    def complete(self, prompt: str) -> str:
        says, self.says = self.says, ""
        if says and "facts" in prompt:
            return says
        return json.dumps({"facts": []})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Callable[..., Engram]]:
    """Opens the store of this test; every scope is in Chroma."""
    opened: list[Engram] = []

    def open_store(**options: Any) -> Engram:
        opened.append(Engram.open(tmp_path / "store", **({"exact_limit": 0} | options)))
        return opened[-1]

    yield open_store
    for engram in opened:
        engram.close()


def plant(engram: Engram, scope: str, s: Sentinels) -> str:
    """A fact with a sentinel in every field and in everything that is recorded about it; its id."""
    memory = engram.memory(scope)
    said = Message(
        "user",
        f"My {s('text')} is called {s('name')} since last week.",
        speaker=s("speaker"),
        session=s("session"),
        id=s("message"),
        at=START,
    )
    metadata = {s("key"): s("value"), "deep": [{"x": s("nested")}]}
    added = memory.add(said, metadata=metadata, subjects=[s("subject")], now=START)
    (fact, *_) = added.facts
    memory.update(fact.id, text=f"My thing is {s('version')} now.", now=START)
    memory.update(fact.id, text=f"My thing is {s('latest')}.", metadata={s("key"): s("value")}, now=START)
    recall = memory.recall(f"what is {s('query')}?", session=s("recall"), now=START)
    assert fact.id in [item.fact.id for item in recall.facts]
    memory.observe(recall.id, f"It is {s('response')}, as {s('quote')} said.", now=START)
    memory.forget(fact.id, reason=s("forgotten"), now=START)
    memory.restore(fact.id, reason=s("restored"), now=START)
    engram.context.ledger.park(
        Parked("extraction", memory.scope, START, f"failed on {s.all[0]}", {"text": s.all[0]}, fact.origin.episode_id)
    )
    return fact.id


def residue(paths: list[Path], s: Sentinels) -> dict[str, list[str]]:
    """Sentinels found in files, by file."""
    found = search(paths, s.all)
    assert not found.unreadable
    return {path: [s.all[place] for place in places] for path, places in found.places.items()}


def test_a_planted_sentinel_is_found_and_an_unplanted_one_is_not(store: Callable[..., Engram], tmp_path: Path) -> None:
    s, none = Sentinels("ctl"), Sentinels("none")
    with store() as engram:
        plant(engram, ALICE, s)
        engram.flush()
        found = {word for words in residue([tmp_path], s).values() for word in words}
        assert found == set(s.all), "the search sees every field"
        none("nowhere")
        assert residue([tmp_path], none) == {}


@pytest.mark.parametrize("by", ["id", "subject", "scope"])
def test_nothing_is_left_in_any_file(by: str, store: Callable[..., Engram], tmp_path: Path) -> None:
    s = Sentinels({"id": "one", "subject": "two", "scope": "three"}[by])
    with store() as engram:
        memory = engram.memory(ALICE)
        memory.add([f"filler number {number} about cats" for number in range(30)], session="other", now=START)
        kept = memory.add("The dog barks at night.", session="plain", now=START).facts[0]
        stranger = engram.memory(BOB).add("The dog sleeps.", now=START).facts[0]
        id_ = plant(engram, ALICE, s)
        memory.add("A last remark about the weather.", session="plain", now=START)
        engram.flush()
        assert residue([tmp_path], s)
        subject = next(word for word in s.all if "subject" in word)
        ask: dict[str, Callable[[bool], Any]] = {
            "id": lambda dry: memory.erase(id_, dry_run=dry),
            "subject": lambda dry: engram.erase(subject=subject, dry_run=dry),
            "scope": lambda dry: engram.erase(ALICE, dry_run=dry),
        }
        plan = ask[by](True)
        assert (plan.dry_run, plan.state) == (True, "planned")
        assert memory.get(id_).text, "a rehearsal erases nothing"
        done = ask[by](False)
        assert (done.facts, done.messages) == (plan.facts, plan.messages)
        assert done.state == "done"
        assert done.residue["verdict"] == "REMOVED", done.residue
        assert residue([tmp_path], s) == {}, "with the store open"
        assert engram.erasures()[0] == done.to_dict()
        json.dumps(done.to_dict())
        with pytest.raises(FactNotFound):
            memory.get(id_)
        assert [fact.id for fact in engram.memory(BOB).list()] == [stranger.id]
        if by != "scope":
            assert memory.get(kept.id).text == "The dog barks at night."
            assert kept.id in [item.fact.id for item in memory.recall("does the dog bark?").facts]
        else:
            assert memory.list(status="all") == []
    assert residue([tmp_path], s) == {}, "with the store closed"
    with store() as engram:
        engram.flush()
        assert engram.doctor()["problems"] == []
        assert engram.memory(ALICE).recall("what is called so?").facts == () or by != "scope"
        assert residue([tmp_path], s) == {}, "opened again"


def test_what_came_of_it_goes_too(store: Callable[..., Engram], tmp_path: Path) -> None:
    s, model = Sentinels("lin"), Extractor()
    with store(model=model) as engram:
        memory = engram.memory(ALICE)
        text = f"I moved to {s('town')} in May."
        model.says = json.dumps({"facts": [{"text": f"Alice lives in {s('stated')}.", "source": 1}]})
        (first,) = memory.add(Message("user", text, id="m1"), now=START).facts
        engram.flush()
        (second,) = memory.add("I moved again, to Porto.", supersedes=first.id, now=START).facts
        memory.add("Something else entirely.", now=START)
        plan = memory.erase(second.id, dry_run=True)
        assert first.id in plan.facts["version"]
        memory.erase(second.id)
        assert [fact.text for fact in memory.list(status="all")] == ["Something else entirely."]
        assert residue([tmp_path], s) == {}


def test_a_merged_fact_is_made_anew_from_the_rest(store: Callable[..., Engram], tmp_path: Path) -> None:
    s = Sentinels("mrg")
    with store() as engram:
        memory = engram.memory(ALICE)
        memory.set_policy(cluster_size=2, protect_days=0, cluster_similarity=0.3)
        texts = [
            "I drink green tea every morning.",
            f"I prefer green tea to {s('drink')}.",
            "My green tea is from Japan.",
        ]
        facts = [memory.add(Message("user", text, speaker="Ana"), now=START).facts[0] for text in texts]
        night = engram.sleep(now=START + timedelta(days=30))
        assert night.totals["clusters"] == 1
        (merged,) = [fact for fact in memory.list() if fact.is_consolidated]
        assert s.all[0] in merged.text
        report = memory.erase(facts[1].id)
        assert report.rebuilt == (merged.id,)
        after = memory.get(merged.id)
        assert after.consolidated_from == (facts[0].id, facts[2].id)
        assert s.all[0] not in after.text
        assert "every morning" in after.text
        assert "Japan" in after.text
        assert residue([tmp_path], s) == {}
        memory.erase(facts[0].id)
        assert [fact.text for fact in memory.list()] == [texts[2]], "the last one stands for itself again"
        assert engram.nights()[0]["scopes"], "the night's report stays, without the words"


def test_told_again_it_does_not_come_back(store: Callable[..., Engram], tmp_path: Path) -> None:
    s = Sentinels("bar")
    text = f"My locker code is {s('code')}."
    with store() as engram:
        memory = engram.memory(ALICE)
        (fact,) = memory.add(Message("user", text, id="m1"), now=START).facts
        engram.memory(BOB).add("My locker code is plain.", now=START)
        done = memory.erase(fact.id)
        for message in (
            Message("user", text.upper()),
            Message("user", "other words", id="m1"),
            Message("assistant", text),
        ):
            (outcome,) = memory.add(message).outcomes
            assert (outcome.action, outcome.reason.rule) == ("ignored", "erased")
        longer = memory.add(f"By the way, it rains. {text} And it is cold today.")
        assert s.all[0] not in " ".join(fact.text for fact in longer.facts)
        assert residue([tmp_path], s) == {}
        assert engram.memory(BOB).add(text).facts, "another scope may be told so"
        assert engram.lift_tombstones(done.id) > 0
        assert memory.add(text).facts
        again = memory.erase(memory.list()[-1].id)
        assert memory.add(text, allow_erased=True).facts
        assert again.residue["shared"], "what others say is no residue"


def test_a_hold_forbids_it_until_it_is_released(store: Callable[..., Engram]) -> None:
    with store() as engram:
        memory = engram.memory(ALICE)
        (fact,) = memory.add("The invoice was paid in March.", now=START).facts
        held = memory.hold(fact.id, reason="case 7")
        whole = engram.hold("acme", reason="case 8")
        for ask in (lambda: memory.erase(fact.id), lambda: engram.erase("acme"), lambda: engram.erase(subject="alice")):
            with pytest.raises(OnHold, match="case"):
                ask()
        with pytest.raises(OnHold, match="case 7"):
            memory.forget(fact.id)
        assert memory.recall("was the invoice paid?").facts, "a hold forbids no reading"
        engram.release_hold(held.id)
        engram.release_hold(whole.id)
        with pytest.raises(InvalidInput):
            engram.release_hold(held.id)
        assert engram.holds() == []
        assert [item.id for item in engram.holds(released=True)] == [held.id, whole.id]
        assert memory.erase(fact.id).count == 1


def test_an_older_copy_of_the_ledger_does_not_bring_it_back(store: Callable[..., Engram], tmp_path: Path) -> None:
    s = Sentinels("old")
    with store() as engram:
        memory = engram.memory(ALICE)
        memory.erase(memory.add("An earlier thing to be erased.", now=START).facts[0].id)
        (fact,) = memory.add(f"My badge number is {s('badge')}.", now=START).facts
    copy = (tmp_path / "store" / "engram.db").read_bytes()
    with store() as engram:
        engram.memory(ALICE).erase(fact.id)
    (tmp_path / "store" / "engram.db").write_bytes(copy)
    assert residue([tmp_path / "store"], s)
    with store() as engram:
        assert engram.memory(ALICE).list(status="all") == []
        assert engram.memory(ALICE).recall("what is my badge number?").facts == ()
    assert residue([tmp_path / "store"], s) == {}


def test_an_interrupted_erasure_is_finished_at_the_next_opening(store: Callable[..., Engram], tmp_path: Path) -> None:
    s = Sentinels("cut")
    with store() as engram:
        memory = engram.memory(ALICE)
        (fact,) = memory.add(f"My plate number is {s('plate')}.", now=START).facts
        memory.add("Something else to index.", now=START)
        engram.flush()
        vector = engram.context.ledger.indexed([fact.id])[0].context
        ledger = engram.context.ledger

        class Cut(Exception):
            """A stop between the transaction and what follows it."""

        def cut() -> str:
            raise Cut

        finder = engram.context.finder
        object.__setattr__(engram, "_context", replace(engram.context, finder=_Broken(finder, cut)))
        with pytest.raises(Cut):
            engram.memory(ALICE).erase(fact.id)
        assert ledger.facts([fact.id])[0].status is Status.ERASED
        assert ledger.erasures.receipts()[0]["state"] == "begun"
        object.__setattr__(engram, "_context", replace(engram.context, finder=finder))
    with store() as engram:
        assert engram.erasures()[0]["state"] == "done"
    assert residue([tmp_path], s) == {}
    assert vector is not None


class _Broken:
    """A finder whose `purge` fails; everything else is the real one's."""

    def __init__(self, finder: Any, purge: Callable[[], str]) -> None:
        self._finder = finder
        self.purge = purge

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def test_what_makes_no_sense_is_refused(store: Callable[..., Engram]) -> None:
    with store() as engram:
        memory = engram.memory(ALICE)
        (fact,) = memory.add("The dog barks at night.", now=START).facts
        (other,) = engram.memory(BOB).add("The cat sleeps.", now=START).facts
        for ask in (
            lambda: memory.erase(),
            lambda: memory.erase(fact.id, subject="alice"),
            lambda: memory.erase(subject=" "),
            lambda: engram.erase(),
            lambda: engram.find_residue(["abc"]),
            lambda: memory.add("x y z", subjects="alice"),
            lambda: memory.hold(reason=""),
        ):
            with pytest.raises(InvalidInput):
                ask()
        for ids in ([fact.id, other.id], [fact.id, "nobody"]):
            with pytest.raises(FactNotFound):
                memory.erase(ids=ids)
        assert memory.get(fact.id).text, "nothing was erased"
        assert engram.erase("acme/nowhere").count == 0
        memory.erase(fact.id)
        assert memory.erase(fact.id).count == 0, "again it converges"


def test_recalls_beside_an_erasure_never_show_half_of_it(store: Callable[..., Engram]) -> None:
    with store() as engram:
        memory = engram.memory(ALICE)
        facts = memory.add([f"Quarterly figure number {n} is secret." for n in range(60)], now=START).facts
        engram.flush()
        stopped, shown = threading.Event(), []

        def ask() -> None:
            while not stopped.is_set():
                shown.append(len(memory.recall("which figure is secret?", k=50).facts))

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            memory.erase(ids=[fact.id for fact in facts])
        finally:
            stopped.set()
            thread.join()
        assert memory.recall("which figure is secret?").facts == ()
        assert set(shown) <= {0, max(shown)}
