"""The night through the facade: what it does to a scope, what it leaves alone, and that it says so."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from support_remote import Remote
from support_stores import PLACES_FULL, place

from engram_core import Engram, InvalidInput, InvalidScope, Message, StoreClosed
from engram_core.design import View
from engram_core.designs.pipeline import Pipeline
from engram_core.domain.change import Archive, Change, Restore, Reweigh
from engram_core.domain.reason import Reason
from engram_core.operations import schedule as scheduling
from engram_core.operations import sleep as sleeping
from engram_core.testing.fakes import FailingEmbedder, WordHashEmbedder

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
NIGHT = START + timedelta(days=60)
SCOPE = "acme/support/alice"
TEA = (
    "I drink green tea every morning.",
    "Green tea with jasmine is my favourite drink.",
    "I bought 3 kinds of green tea.",
    "My green tea pot broke in May.",
    "I prefer green tea to black tea.",
)
OTHER = (
    "My train leaves at nine.",
    "Bea plays the cello.",
    "The ledger uses PostgreSQL.",
    "We sold the boat for 900 euros.",
)


@pytest.fixture(params=PLACES_FULL)
def store(request, tmp_path):
    with Engram.open(**{"index": "exact"} | place(request, tmp_path)) as engram:
        yield engram


def told(store: Engram, scope: str = SCOPE, texts: Sequence[str] = (*TEA, *OTHER)):
    memory = store.memory(scope)
    messages = [
        Message("user", text, speaker="Ana", at=START + timedelta(days=n), session=f"s{n // 3}", id=f"m{n}")
        for n, text in enumerate(texts)
    ]
    memory.add(messages, now=START + timedelta(days=len(texts)))
    return memory


def state(store: Engram, scope: str = SCOPE) -> dict[str, tuple[str, str]]:
    return {fact.id: (fact.status.value, fact.text) for fact in store.memory(scope).list(status="all", limit=10_000)}


def test_a_night_forgets_then_consolidates_and_reports_both(store):
    memory = told(store)
    memory.set_policy(max_facts=8, auto_forget=True, forget_threshold=1.0)
    report = store.sleep(now=NIGHT)
    (night,) = report.scopes
    assert (night.scope, night.state, night.live[0]) == (SCOPE, "done", 9)
    assert night.forget["archive"] == 1
    assert night.forget["by_rule"] == {"max_facts": 1}
    assert night.consolidate["done"] == len([fact for fact in memory.list() if fact.is_consolidated])
    assert night.live[1] == len(memory.list())
    assert report.totals["vectors_saved"] == night.live[0] - night.live[1]
    assert night.brief["before"]["tokens"] >= night.brief["after"]["tokens"] > 0
    json.dumps(report.to_dict())
    archived = memory.list(status="archived", limit=100)
    assert archived
    for fact in archived:
        assert report.id in memory.history(fact.id)[-1].reason.line
        assert memory.restore(fact.id, now=NIGHT).status.value == "live"
    assert all(fact.forget_score is not None for fact in archived if fact.consolidated_into is None)


def test_a_rehearsal_plans_the_same_and_writes_nothing(store):
    memory = told(store)
    memory.set_policy(max_facts=6, auto_forget=True, forget_threshold=1.0)
    before = state(store)
    plan = store.sleep(dry_run=True, now=NIGHT)
    assert plan.dry_run
    assert state(store) == before
    assert store.nights() == []
    assert all(fact.forget_score is None for fact in memory.list())
    proposals = plan.scopes[0].forget["proposals"]
    assert len(proposals) == 3
    assert all(item["line"] and item["terms"] for item in proposals)
    done = store.sleep(now=NIGHT)
    assert done.scopes[0].forget["proposals"] == proposals
    assert {item["id"] for item in proposals} <= {
        id_ for id_, (status, _) in state(store).items() if status == "archived"
    }


def test_a_plan_does_not_count_a_fact_twice(store):
    """What would be forgotten is not there to be consolidated afterwards."""
    memory = told(store)
    memory.set_policy(max_facts=6, auto_forget=True, cluster_size=2)
    (planned,) = store.sleep(dry_run=True, now=NIGHT).scopes
    forgotten = {row["id"] for row in planned.forget["proposals"]}
    assert len(forgotten) == 3
    assert not forgotten.intersection(id_ for row in planned.consolidate["clusters"] for id_ in row["fact_ids"])
    (done,) = store.sleep(now=NIGHT).scopes
    assert planned.live == done.live
    assert planned.consolidate["done"] == done.consolidate["done"]


def test_without_auto_forget_facts_are_scored_and_stay(store):
    memory = told(store, texts=OTHER)
    store.sleep(now=NIGHT)
    assert [fact.text for fact in memory.list()] == list(OTHER)
    for fact in memory.list():
        assert fact.forget_score == pytest.approx(sum(fact.forget_terms.values()))
    assert "forget score" in str(memory.explain(memory.list()[0].id))


def test_a_second_night_finds_nothing_left(store):
    told(store)
    store.sleep(now=NIGHT)
    before = state(store)
    again = store.sleep(now=NIGHT + timedelta(hours=1))
    assert state(store) == before
    assert again.totals["forgotten"] == again.totals["clusters"] == 0
    assert not again.scopes[0].is_eventful


def test_a_night_may_be_asked_for_one_scope_and_what_lies_below(store):
    scopes = ("acme", "acme/support", "acme/support/bob", "acme-corp")
    for scope in scopes:
        told(store, scope)
    report = store.sleep("acme/support", now=NIGHT)
    assert [night.scope for night in report.scopes] == ["acme/support", "acme/support/bob"]
    touched = {scope for scope in scopes if any(status == "archived" for status, _ in state(store, scope).values())}
    assert touched == {"acme/support", "acme/support/bob"}


def test_nights_stay_on_record_newest_first(store):
    told(store)
    told(store, "acme/quiet", texts=OTHER[:1])
    first = store.sleep(now=NIGHT)
    second = store.sleep("acme/quiet", now=NIGHT + timedelta(days=1))
    kept = store.nights()
    assert [night["id"] for night in kept] == [second.id, first.id]
    assert [night["totals"] for night in kept] == [second.totals, first.totals]
    assert [night["scope"] for night in kept] == ["acme/quiet", None]
    assert [night["scope"] for night in kept[1]["scopes"]] == [SCOPE], "a scope without events is only counted"
    assert kept[0]["scopes"] == []
    assert store.nights(1) == kept[:1]
    json.dumps(kept)


def test_usefulness_decides_what_the_night_keeps(tmp_path):
    """The same facts, the same cap: what answers used survives, whatever its importance."""
    with Engram.open(tmp_path, index="exact", embedder=WordHashEmbedder()) as store:
        memory = store.memory(SCOPE)
        lines = [f"The red kayak number {n} lies in hall {n * 7}." for n in range(12)]
        memory.add(
            [Message("user", line, at=START + timedelta(days=n)) for n, line in enumerate(lines)],
            now=START,
            importance=0.5,
        )
        for _ in range(3):
            recall = memory.recall("Where is red kayak number 0?", k=12, now=START)
            memory.observe(recall.id, "Red kayak number 0 lies in hall 0.", now=START)
        memory.set_policy(max_facts=3, auto_forget=True, cluster_similarity=1.0)
        store.sleep(now=NIGHT)
        assert lines[0] in {fact.text for fact in memory.list()}
        assert len(memory.list()) == 3


@dataclass(frozen=True)
class Restless:
    """The default design, with something to propose at night."""

    changes: tuple[Change, ...]
    name: str = "pipeline"

    def __getattr__(self, name: str):
        return getattr(Pipeline(), name)

    def sleep(self, view: View) -> Sequence[Change]:
        return self.changes


def test_a_design_may_archive_and_reweigh_within_the_floor_s_rules(tmp_path):
    with Engram.open(tmp_path, index="exact") as store:
        memory = told(store, texts=OTHER)
        one, two, three, four = memory.list()
        memory.update(three.id, pinned=True)
        why = Reason("moody", "The design felt like it.")
        changes = (
            Archive(one.id, why),
            Reweigh(two.id, 0.9, why),
            Archive(three.id, why),
            Restore(four.id, why),
            Archive("nobody", why),
        )
        context = replace(store.context, designs=lambda name: Restless(changes))
        plan = sleeping.sleep(context, None, store.owner, NIGHT, dry_run=True).scopes[0].design
        assert [item["refused"] and item["refused"].split(":")[0] for item in plan] == [
            None, None, "pinned", "not_at_night", "unknown_fact",
        ]  # fmt: skip
        assert [fact.id for fact in memory.list()] == [one.id, two.id, three.id, four.id]
        report = sleeping.sleep(context, None, store.owner, NIGHT)
        assert report.scopes[0].design == plan
        assert [fact.id for fact in memory.list()] == [two.id, three.id, four.id]
        assert memory.get(two.id).importance == 0.9
        assert report.id in memory.history(one.id)[-1].reason.line


def test_trouble_with_one_scope_does_not_end_the_night(tmp_path):
    """An embedder that fails costs the scopes that need it their night, and the report says so."""
    embedder = FailingEmbedder(is_failing=False)
    with Engram.open(tmp_path, index="exact", embedder=embedder) as store:
        told(store, "acme/one")
        told(store, "acme/two", texts=OTHER)
        embedder.is_failing = True
        report = store.sleep(now=NIGHT)
        states = {night.scope: night.state for night in report.scopes}
        assert set(states.values()) <= {"done", "failed"}
        for night in report.scopes:
            assert (night.state == "failed") == (night.error is not None)
        assert report.totals["failed"] == list(states.values()).count("failed")


def test_a_scope_that_another_night_holds_is_left_alone(tmp_path, request):
    with Engram.open(tmp_path, index="exact") as store:
        told(store)
        scope_id = store.context.ledger.scopes()[0].id
        stop = threading.Event()

        def hold() -> None:
            while not stop.is_set():
                store.context.ledger.lease(f"sleep/{scope_id}", "another night", sleeping.LEASE_S)
                time.sleep(0.1)

        holder = threading.Thread(target=hold)
        holder.start()
        time.sleep(0.3)
        try:
            before = state(store)
            report = store.sleep(now=NIGHT)
        finally:
            stop.set()
            holder.join()
        assert [night.state for night in report.scopes] == ["busy"]
        assert report.totals["busy"] == 1
        assert state(store) == before


def test_two_nights_at_once_do_what_one_does(tmp_path):
    with Engram.open(tmp_path / "a", index="exact") as store, Remote() as other:
        for n in range(6):
            told(store, f"acme/user{n}")
            store.memory(f"acme/user{n}").set_policy(max_facts=7, auto_forget=True)
        texts = {f"acme/user{n}": {text for _, text in state(store, f"acme/user{n}").values()} for n in range(6)}
        other.ask("open_plain", url=str(tmp_path / "a"))
        other.send("sleep", now=NIGHT.isoformat())
        report = store.sleep(now=NIGHT)
        theirs = other.answer()
        assert report.totals["failed"] == theirs["failed"] == 0
        for scope, held in texts.items():
            facts = store.memory(scope).list(status="all", limit=100)
            assert {fact.text for fact in facts if not fact.is_consolidated} == held
            live = [fact for fact in facts if fact.is_recallable]
            merged = [id_ for fact in live for id_ in fact.consolidated_from]
            assert len(merged) == len(set(merged)), "no original stands in two facts"
            assert sum(len(fact.consolidated_from) or 1 for fact in live) == 7


def test_progress_moves_through_the_steps(store):
    memory = told(store)
    memory.set_policy(max_facts=6, auto_forget=True)
    seen: list[tuple[str, int, int]] = []
    store.sleep(now=NIGHT, progress=lambda *step: seen.append(step))
    assert {label.split()[0] for label, _, _ in seen} == {"forget", "consolidate"}
    assert all(0 <= done <= total for _, done, total in seen)


async def test_the_night_has_async_twins(store):
    told(store)
    plan = await store.asleep(dry_run=True, now=NIGHT)
    assert plan.scopes[0].state == "done"
    assert await store.anights() == []


@pytest.mark.parametrize(("wrong", "error"), [({"scope": "a//b"}, InvalidScope), ({"now": 3}, InvalidInput)])
def test_a_night_refuses_nonsense(store, wrong, error):
    with pytest.raises(error):
        store.sleep(**wrong)
    with pytest.raises(InvalidInput):
        store.nights(0)


def test_a_schedule_sleeps_and_ends_with_the_store(tmp_path):
    with Engram.open(tmp_path, index="exact") as store:
        told(store)
        schedule = store.schedule_sleep("* * * * *", scope="acme")
        due = schedule.next_at - datetime.now(UTC)
        assert timedelta(0) <= due <= timedelta(seconds=61)
        schedule.run()
        assert len(store.nights()) == 1
        other = store.schedule_sleep()
        other.stop()
        other.stop()
        assert other.next_at is None
        assert schedule.next_at is not None
        with pytest.raises(InvalidInput, match="cron"):
            store.schedule_sleep("every night")
    assert schedule.next_at is None
    with pytest.raises(StoreClosed):
        store.schedule_sleep()
    schedule.run()  # after the store was closed it fails, is logged, and does not raise


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("0", "Sun"),
        ("7", "Sun"),
        ("1", "Mon"),
        ("sun", "Sun"),
        ("1-5", "Mon Tue Wed Thu Fri"),
        ("5-7", "Fri Sat Sun"),
        ("*/3", "Sun Wed Sat"),
        ("0,3", "Sun Wed"),
        ("mon-wed", "Mon Tue Wed"),
        ("*", "Mon Tue Wed Thu Fri Sat Sun"),
    ],
)
def test_weekdays_count_as_in_cron(field, days):
    """A cron line that moves in here must not run a day later."""
    week = [datetime(2026, 1, 5 + day).astimezone() for day in range(7)]  # local midnights
    trigger = scheduling.trigger(f"0 3 * * {field}")
    found = {day for day in week for at in [trigger.get_next_fire_time(None, day)] if at.date() == day.date()}
    assert {day.strftime("%a") for day in found} == set(days.split())


@pytest.mark.parametrize("wrong", ["0 3 * * 8", "0 3 * * 5-2", "0 3 * * */0", "0 3 * *", "", 5])
def test_what_is_no_cron_expression_is_refused(store, wrong):
    with pytest.raises(InvalidInput, match="is no cron expression"):
        store.schedule_sleep(wrong)
