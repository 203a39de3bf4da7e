"""Learning through the facade: what responses teach the next recall, and what they must not."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support_remote import Remote

from engram_core import Engram, InvalidInput, Message, RecallNotFound
from engram_core.testing.fakes import FailingEmbedder, WordHashEmbedder

SCOPE = "acme/support/alice"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CITIES = ("Lisbon", "Porto", "Madrid", "Berlin", "Oslo", "Turin", "Athens", "Dublin")
LINES = [f"The red kayak from {city} is a good one." for city in CITIES]
QUESTION = "Which of the red kayaks is the best one?"
TERMS = ("usefulness", "useful_alike")


@pytest.fixture(params=["scanned", "searched"])
def store(request, tmp_path):
    limit = 10_000 if request.param == "scanned" else 0
    with Engram.open(tmp_path / "store", index="exact", embedder=WordHashEmbedder(), exact_limit=limit) as engram:
        messages = [Message("user", line, at=NOW + timedelta(minutes=n)) for n, line in enumerate(LINES)]
        engram.memory(SCOPE).add(messages)
        yield engram


def city_of(text: str) -> str:
    (city,) = [city for city in CITIES if city in text]
    return city


def shown(recall) -> list[str]:
    return [city_of(item.text) for item in recall.facts]


def terms(recall) -> dict[str, tuple[float, ...]]:
    return {city_of(item.text): tuple(item.terms.get(name, 0.0) for name in TERMS) for item in recall.facts}


def test_what_helped_rises_and_what_did_not_sinks(store):
    memory = store.memory(SCOPE)
    before = shown(memory.recall(QUESTION, k=8))
    assert sorted(before) == sorted(CITIES)
    last = before[-1]
    for _ in range(3):
        usage = memory.observe(memory.recall(QUESTION, k=8).id, f"Take the one from {last}.")
        assert len(usage.used) == 1
    recall = memory.recall(QUESTION, k=8)
    assert shown(recall)[0] == last
    assert min(terms(recall)[last]) > 0 > max(terms(recall)[before[0]])
    for item in recall.facts:
        assert item.score == pytest.approx(sum(item.terms.values()))


def test_a_fact_that_was_never_shown_stays_neutral(store):
    memory = store.memory(SCOPE)
    tried = set()
    for _ in range(2):
        recall = memory.recall(QUESTION, k=2)
        tried.update(shown(recall))
        memory.observe(recall.id, "The paint shop closes at noon on Saturdays.")
    assert {city for city, values in terms(memory.recall(QUESTION, k=8)).items() if any(values)} == tried
    assert len(tried) < len(CITIES)


def test_what_is_shown_in_vain_makes_room(store):
    """Nothing is explored by chance: facts that do not help sink below those that were not tried."""
    memory = store.memory(SCOPE)
    seen = set()
    for _ in range(14):
        recall = memory.recall(QUESTION, k=2)
        seen.update(shown(recall))
        memory.observe(recall.id, "The paint shop closes at noon on Saturdays.")
    assert len(seen) == len(CITIES)


def test_unknown_teaches_nothing(store):
    memory = store.memory(SCOPE)
    for answer in (None, "", "   "):
        usage = memory.observe(memory.recall(QUESTION, k=8).id, answer)
        assert (len(usage.used), len(usage.unused), len(usage.unknown)) == (0, 0, 8)
    assert not any(any(values) for values in terms(memory.recall(QUESTION, k=8)).values())


def test_a_later_verdict_replaces_the_earlier_one(store):
    memory = store.memory(SCOPE)
    first = memory.recall(QUESTION, k=8)
    for answer in ("The one from Oslo.", "No, the one from Turin.", None):
        memory.observe(first.id, answer)
    recall = memory.recall(QUESTION, k=8)
    assert shown(recall)[0] == "Turin"
    assert max(terms(recall)["Oslo"]) < 0
    verdicts = {city_of(item["text"]): item["verdict"] for item in memory.explain(first.id).shown}
    assert verdicts == dict.fromkeys(CITIES, "unused") | {"Turin": "used"}


def test_a_question_of_another_kind_is_moved_by_general_use_only(store):
    memory = store.memory(SCOPE)
    for _ in range(4):
        memory.observe(memory.recall(QUESTION, k=8).id, "Take the one from Dublin.")
    alike = terms(memory.recall(QUESTION, k=8))["Dublin"]
    other = terms(memory.recall("Where does the weather come from in Dublin?", k=8))["Dublin"]
    assert other[0] == alike[0] > 0
    assert abs(other[1]) < alike[1] / 20


def test_a_policy_can_switch_it_off(store):
    memory = store.memory(SCOPE)
    before = shown(memory.recall(QUESTION, k=8))
    memory.set_policy(usefulness_weight=0.0)
    for _ in range(3):
        memory.observe(memory.recall(QUESTION, k=8).id, f"Take the one from {before[-1]}.")
    recall = memory.recall(QUESTION, k=8)
    assert shown(recall) == before
    assert not any(any(values) for values in terms(recall).values())


def test_no_scope_learns_from_another_scopes_recalls(tmp_path):
    """Not even about a fact that both may read."""
    with Engram.open(tmp_path, index="exact", embedder=WordHashEmbedder()) as store:
        store.memory("acme").add(LINES)
        alice, bob = store.memory("acme/alice"), store.memory("acme/bob")
        before = [item.score for item in bob.recall(QUESTION, k=8, now=NOW).facts]
        for _ in range(3):
            alice.observe(alice.recall(QUESTION, k=8).id, "Take the one from Turin.")
        assert shown(alice.recall(QUESTION, k=8, now=NOW))[0] == "Turin"
        assert [item.score for item in bob.recall(QUESTION, k=8, now=NOW).facts] == before
        with pytest.raises(RecallNotFound):
            bob.observe(alice.recall(QUESTION).id, "The one from Oslo.")


def test_every_process_learns(tmp_path):
    with Engram.open(tmp_path / "store", embedder=WordHashEmbedder()) as store, Remote() as other:
        memory = store.memory(SCOPE)
        memory.add(LINES)
        other.ask("open", url=str(tmp_path / "store"))
        last = other.ask("recall", query=QUESTION)["facts"][-1][0]
        for _ in range(2):
            memory.observe(memory.recall(QUESTION, k=8).id, f"Take the one from {city_of(last)}.")
        assert other.ask("recall", query=QUESTION)["facts"][0][0] == last


def test_an_embedder_that_fails_costs_the_likeness_only(tmp_path):
    with Engram.open(tmp_path, index="exact", embedder=WordHashEmbedder()) as store:
        store.memory(SCOPE).add(LINES)
        recall = store.memory(SCOPE).recall(QUESTION, k=8)
    with Engram.open(tmp_path, index="exact", embedder=FailingEmbedder()) as store:
        assert len(store.memory(SCOPE).observe(recall.id, "Take the one from Dublin.").used) == 1
    with Engram.open(tmp_path, index="exact", embedder=WordHashEmbedder()) as store:
        memory = store.memory(SCOPE)
        general, alike = terms(memory.recall(QUESTION, k=8))["Dublin"]
        assert general > 0 == alike


def test_a_replay_is_exact(tmp_path):
    def played(place: Path) -> list[tuple[list[str], list[float]]]:
        ids = (f"{n:036d}" for n in range(10_000))
        options = {"ids": lambda: next(ids), "rng": random.Random(3), "clock": lambda: NOW}
        with Engram.open(place, index="exact", embedder=WordHashEmbedder(), **options) as store:
            memory = store.memory(SCOPE)
            memory.add(LINES, now=NOW)
            rounds = []
            for number in range(6):
                recall = memory.recall(QUESTION, k=3, now=NOW)
                memory.observe(recall.id, f"The one from {CITIES[number]}.", now=NOW)
                rounds.append(([item.text for item in recall.facts], [item.score for item in recall.facts]))
            return rounds

    assert played(tmp_path / "one") == played(tmp_path / "two")


def test_the_report_counts_what_became_of_every_fact(store):
    memory = store.memory(SCOPE)
    for number in range(3):
        now = NOW + timedelta(days=7 * number)
        recall = memory.recall(QUESTION, k=3, now=now)
        memory.observe(recall.id, f"Take the one from {shown(recall)[0]}.", now=now)
    memory.observe(memory.recall(QUESTION, k=1, now=NOW).id, None, now=NOW)
    report = memory.usage(now=NOW + timedelta(days=30))
    (group,) = report.groups
    assert group["scope"] == SCOPE
    assert group["stored"] == 8 == group["recalled"] + group["never_recalled"]
    assert report.totals["used"] == len(report.most_useful) >= 1
    assert report.totals["never_used"] == len(report.never_used)
    assert report.totals["never_recalled"] == len(report.never_recalled)
    assert {item["id"] for item in report.never_recalled}.isdisjoint(item["id"] for item in report.never_used)
    verdicts = [tuple(week[name] for name in ("start", "used", "unused", "unknown")) for week in report.weeks]
    assert verdicts == [("2026-02-23", 1, 2, 1), ("2026-03-02", 1, 2, 0), ("2026-03-09", 1, 2, 0)]
    assert store.usage(now=report.at).to_dict() == report.to_dict() | {"scope": None}
    assert store.usage("acme", now=report.at).totals == report.totals
    assert store.usage("acme/supp", now=report.at).totals["stored"] == 0
    assert all(len(memory.usage(top=1).to_dict()[name]) <= 1 for name in ("most_useful", "never_recalled"))
    explained = memory.explain(report.most_useful[0]["id"])
    assert "used" in {item["verdict"] for item in explained.recalls}
    assert explained.usage["used"] == report.most_useful[0]["used"] >= 1
    assert f"used {explained.usage['used']}: usefulness 0." in str(explained)
    unseen = memory.explain(report.never_recalled[0]["id"])
    assert unseen.to_dict()["usage"] == {"shown": 0, "judged": 0, "used": 0, "usefulness": 0.2}


async def test_the_report_has_an_async_twin(store):
    memory = store.memory(SCOPE)
    assert (await memory.ausage(now=NOW)).to_dict() == memory.usage(now=NOW).to_dict()
    assert (await store.ausage(now=NOW)).to_dict() == store.usage(now=NOW).to_dict()


@pytest.mark.parametrize("wrong", [{"top": -1}, {"top": 1.5}, {"days": -1}, {"days": "x"}, {"now": "today"}])
def test_a_report_refuses_nonsense(store, wrong):
    with pytest.raises(InvalidInput):
        store.usage(**wrong)
