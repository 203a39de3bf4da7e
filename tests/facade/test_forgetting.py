"""Forgetting one scope: what the plan says, what applying does, and what a person's word is worth against it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from support_stores import PLACES, place

from engram_core import ChangeRefused, Engram, Message
from engram_core.operations import forget
from engram_core.testing.fakes import WordHashEmbedder

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=30)
NIGHT = "service:night"


@pytest.fixture(params=PLACES)
def store(request, tmp_path):
    with Engram.open(**place(request, tmp_path), embedder=WordHashEmbedder()) as engram:
        engram.grant(NIGHT, "curate", "acme")
        yield engram


def filled(engram, texts, *, cap=3, scope="acme/alice", now=NOW, **fields):
    memory = engram.memory(scope)
    memory.set_policy(**{"max_facts": cap, "auto_forget": True, "protect_days": 0} | fields)
    return memory, list(memory.add(list(texts), now=now).facts)


def planned(memory, now=LATER, **options):
    return forget.plan(memory.engram.context, memory.scope, now, **options)


def night(memory, now=LATER, **options):
    return forget.apply(memory.engram.context, planned(memory, now, **options), principal=NIGHT)


TEXTS = [f"Statement number {number} about thing {number * 7}." for number in range(8)]


def test_a_plan_changes_nothing_and_tells_everything(store):
    memory, facts = filled(store, TEXTS)
    plan = planned(memory)
    assert (plan.facts, plan.over, plan.counts) == (8, 0, {"max_facts": 5})
    assert 0 < plan.tokens_saved < plan.tokens
    assert [fact.forget_score for fact in memory.list()] == [None] * 8
    for change in plan.archive:
        assert change.reason.rule == "max_facts"
        assert sum(change.reason.terms.values()) == plan.score(change.fact_id).score
    assert {item.fact_id for item in plan.rescored} | {change.fact_id for change in plan.archive} == {
        fact.id for fact in facts
    }
    view = plan.to_dict(limit=2)
    assert (view["archive"], len(view["proposals"]), view["by_rule"]) == (5, 2, {"max_facts": 5})


def test_applying_archives_down_to_the_cap_with_score_reason_and_history(store):
    memory, _ = filled(store, TEXTS)
    plan = planned(memory)
    done = forget.apply(store.context, plan, principal=NIGHT)
    assert len(done.archived) == 5
    assert done.refused == {}
    assert {fact.id for fact in memory.list()} == {item.fact_id for item in plan.rescored}
    for fact in memory.list(status="archived"):
        assert fact.archived_at == LATER
        assert fact.archived_reason.startswith("max_facts: ")
        assert sum(fact.forget_terms.values()) == fact.forget_score == plan.score(fact.id).score
        last = memory.history(fact.id)[-1]
        assert (last.action, last.principal, last.reason.rule) == ("archive", NIGHT, "max_facts")
    for fact in memory.list():
        assert sum(fact.forget_terms.values()) == fact.forget_score
    explained = memory.explain(memory.list()[0].id)
    assert "forget score" in str(explained)
    assert explained.to_dict()["fact"]["forget_terms"]
    assert all(item.fact.status == "live" for item in memory.recall("statement thing", k=20))


def test_a_second_night_finds_nothing_to_do_and_scores_nothing_anew(store):
    memory, _ = filled(store, TEXTS)
    night(memory)
    plan = planned(memory)
    assert (plan.archive, plan.rescored, plan.facts) == ((), (), 3)
    before = store.context.ledger.scopes([memory.scope])
    assert forget.apply(store.context, plan, principal=NIGHT).archived == ()
    assert store.context.ledger.scopes([memory.scope]) == before


def test_only_what_moved_is_scored_anew(store):
    memory, facts = filled(store, TEXTS, cap=100)
    night(memory)
    seq = store.context.ledger.scopes([memory.scope])[0].seq
    memory.update(facts[2].id, importance=0.05)
    fresh = memory.add("One more thing entirely.", now=LATER).facts
    plan = planned(memory, LATER + timedelta(hours=1), usefulness={facts[4].id: (3.0, 2.5)})
    assert {item.fact_id for item in plan.rescored} == {facts[2].id, facts[4].id, fresh[0].id}
    seq = store.context.ledger.scopes([memory.scope])[0].seq
    forget.apply(store.context, plan, principal=NIGHT)
    assert store.context.ledger.scopes([memory.scope])[0].seq == seq, "a score is no change"
    assert planned(memory, LATER + timedelta(days=40)).rescored != ()


def test_stopped_half_way_it_is_whole_and_the_next_run_finishes(store, monkeypatch):
    monkeypatch.setattr(forget, "FACTS_PER_COMMIT", 2)
    memory, _ = filled(store, TEXTS)

    def stop(done: int, of: int) -> None:
        assert of == 5
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        forget.apply(store.context, planned(memory), principal=NIGHT, progress=stop)
    assert len(memory.list()) == 4
    assert len(night(memory).archived) == 1
    assert len(memory.list()) == 3


def test_the_same_plan_twice_is_refused_the_second_time_without_harm(store):
    memory, _ = filled(store, TEXTS)
    plan = planned(memory)
    forget.apply(store.context, plan, principal=NIGHT)
    again = forget.apply(store.context, plan, principal=NIGHT)
    assert again.archived == ()
    assert Counter(reason.rule for reason in again.refused.values()) == {"not_live": 5}


def test_what_a_person_does_between_plan_and_night_counts(store):
    memory, _ = filled(store, TEXTS)
    plan = planned(memory)
    pinned, forgotten = plan.archive[0].fact_id, plan.archive[1].fact_id
    memory.update(pinned, pinned=True)
    memory.forget(forgotten, reason="I said so")
    done = forget.apply(store.context, plan, principal=NIGHT)
    assert {id_: reason.rule for id_, reason in done.refused.items()} == {pinned: "pinned", forgotten: "not_live"}
    assert memory.get(forgotten).archived_reason == "forgotten: I said so"
    memory.set_policy(auto_forget=False)
    off = forget.apply(store.context, plan, principal=NIGHT)
    assert set(off.refused) == {change.fact_id for change in plan.archive}
    assert off.refused[pinned].rule == "auto_forget_off"


def test_without_auto_forget_the_night_scores_and_proposes_nothing(store):
    memory, _ = filled(store, TEXTS, auto_forget=False)
    plan = planned(memory)
    assert (plan.archive, plan.over, len(plan.rescored)) == ((), 5, 8)
    night(memory)
    assert all(fact.forget_score is not None for fact in memory.list())


def test_protect_days_stands_above_the_cap_and_the_plan_says_so(store):
    memory, facts = filled(store, TEXTS, protect_days=7)
    memory.update(facts[0].id, pinned=True)
    plan = planned(memory, NOW + timedelta(days=2))
    assert (plan.archive, plan.over) == ((), 5)
    assert plan.protected == {"pinned": 1, "protect_days": 7, "retention_floor": 0}
    assert len(night(memory, NOW + timedelta(days=8)).archived) == 5
    assert memory.get(facts[0].id).status == "live"


def test_expired_facts_go_whatever_the_cap_and_young_stores_stay(store):
    memory, facts = filled(store, TEXTS, cap=100)
    memory.update(facts[3].id, valid_until=LATER - timedelta(days=1))
    done = night(memory)
    assert done.archived == (facts[3].id,)
    assert memory.get(facts[3].id).archived_reason.startswith(
        "forget_score: Its forget score 1.00 is above 0.9 (expired"
    )


def test_a_restored_fact_is_not_archived_again_the_next_night(store):
    memory, _ = filled(store, TEXTS)
    night(memory)
    gone = memory.list(status="archived")[0]
    back = memory.restore(gone.id, now=LATER)
    assert back.restored_at == LATER
    done = night(memory, LATER + timedelta(days=1))
    assert gone.id not in done.archived
    assert len(done.archived) == 1, "another one makes room"
    assert gone.id in night(memory, LATER + timedelta(days=9), usefulness=_used(memory, but=gone.id)).archived or (
        planned(memory, LATER + timedelta(days=9)).over == 0
    )


def _used(memory, *, but):
    return {fact.id: (5.0, 5.0) for fact in memory.list() if fact.id != but}


def test_what_was_archived_too_long_ago_is_not_restorable(store):
    memory, _ = filled(store, TEXTS, retain_archived_days=30)
    (id_, *_) = night(memory).archived
    with pytest.raises(ChangeRefused, match=r"retention_over: .* was archived 31 days ago; .* for 30\."):
        memory.restore(id_, now=LATER + timedelta(days=31))
    assert memory.history(id_)[-1].refused
    memory.set_policy(retain_archived_days=60)
    assert memory.restore(id_, now=LATER + timedelta(days=31)).status == "live"


def test_use_decides_between_equals_and_prioritised_kinds_go_last(store):
    memory, facts = filled(store, TEXTS, cap=4, prioritize_types=["decision"])
    for fact in facts:
        memory.update(fact.id, importance=0.5)
    memory.update(facts[0].id, kind="decision", importance=0.0)
    used = {facts[1].id: (4.0, 3.0), facts[2].id: (4.0, 3.5)}
    night(memory, usefulness=used)
    left = {fact.id for fact in memory.list()}
    assert {facts[0].id, facts[1].id, facts[2].id} <= left
    assert memory.get(facts[0].id).forget_score == 0.0


def test_what_others_say_is_redundant_goes_first_and_what_they_leave_stays(store):
    memory, facts = filled(store, TEXTS, cap=5, forget_threshold=1)
    memory.update(facts[6].id, importance=1.0)
    plan = planned(memory, redundant={facts[6].id: 0.5}, leave=[facts[0].id])
    assert plan.archive[0].fact_id == facts[6].id
    assert facts[0].id not in {change.fact_id for change in plan.archive}


def test_the_same_words_by_two_principals_are_not_twins(store):
    memory, _ = filled(store, ["I like tea."], cap=100)
    store.grant("user:bob", "contributor", memory.scope)
    store.memory(memory.scope, principal="user:bob").add("I like tea.", now=NOW)
    assert planned(memory).archive == ()


def test_sessions_age_facts_and_idle_time_does_not(store):
    memory, facts = filled(store, [Message("user", TEXTS[0], session="s0")], cap=100)
    young = planned(memory, LATER).score(facts[0].id)
    assert "decayed" not in young.terms
    for number in range(1, 6):
        memory.add(TEXTS[number], session=f"s{number}", now=NOW + timedelta(days=number))
    old = planned(memory, LATER).score(facts[0].id)
    assert old.terms["decayed"] == pytest.approx(0.3 * (1 - 0.99 ** (15 * 5)) / 2.3, abs=1e-3)


def test_an_unknown_scope_has_an_empty_plan(store):
    plan = forget.plan(store.context, store.memory("nobody/here").scope, NOW)
    assert (plan.facts, plan.archive, plan.tokens) == (0, (), 0)
    assert forget.apply(store.context, plan, principal=NIGHT).archived == ()


def test_the_archive_is_searched_on_request_until_its_time_is_over(store):
    memory, facts = filled(store, TEXTS, cap=100, retain_archived_days=30)
    memory.forget(facts[3].id, now=LATER)
    question = f"What about thing {3 * 7}?"
    assert facts[3].id not in {item.fact.id for item in memory.recall(question, k=20, now=LATER)}
    found = memory.recall(question, k=20, include_archived=True, now=LATER + timedelta(days=29))
    shown = {item.fact.id: item.fact.status for item in found}
    assert shown[facts[3].id] == "archived"
    assert set(shown) == {fact.id for fact in facts}
    gone = memory.recall(question, k=20, include_archived=True, now=LATER + timedelta(days=31))
    assert facts[3].id not in {item.fact.id for item in gone}


def test_a_scope_with_nothing_but_an_archive_is_searched_too(store):
    memory, (only,) = filled(store, TEXTS[:1], cap=100)
    memory.forget(only.id, now=LATER)
    assert len(memory.recall("statement", now=LATER).facts) == 0
    assert [item.fact.id for item in memory.recall("statement", include_archived=True, now=LATER)] == [only.id]


def test_the_night_reads_what_verdicts_taught(store):
    memory, facts = filled(
        store,
        [f"Ana keeps {animal} in the {place}." for animal, place in (("bees", "garden"), ("goats", "shed"))],
        cap=1,
    )
    for fact in facts:
        memory.update(fact.id, importance=0.5)
    for _ in range(4):
        recall = memory.recall("What does Ana keep in the garden?", now=LATER)
        assert facts[0].id in memory.observe(recall.id, "Ana keeps bees in the garden.", now=LATER).used
    assert night(memory).archived == (facts[1].id,)
    assert memory.get(facts[1].id).forget_terms["unused"] > planned(memory).score(facts[0].id).terms["unused"]
