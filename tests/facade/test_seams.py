"""Where features meet: what was consolidated is superseded, forgotten, restored, corrected or asked for at another time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from support_stores import PLACES_FULL, place

from engram_core import ChangeRefused, Engram, Memory, Message
from engram_core.domain.fact import Fact
from engram_core.testing.fakes import WordHashEmbedder

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
DAY = timedelta(days=1)
NIGHT = START + 30 * DAY
TEA = (
    "I drink green tea every morning.",
    "Green tea with jasmine is my favourite drink.",
    "I bought 3 kinds of green tea.",
    "My green tea pot broke in May.",
    "I prefer green tea to black tea.",
)
PERMIT = (
    "My parking permit is valid until 1 March 2026.",
    "My parking permit hangs in the car until 1 March 2026.",
    "The parking permit costs 3 euros until 1 March 2026.",
)
BOAT = "The boat is moored in Faro beside the old mill."


@pytest.fixture(params=PLACES_FULL)
def memory(request, tmp_path):
    with Engram.open(**{"index": "exact"} | place(request, tmp_path), embedder=WordHashEmbedder()) as engram:
        memory = engram.memory("acme/ana")
        memory.set_policy(cluster_size=3, cluster_similarity=0.6)
        yield memory


def said(memory: Memory, *texts: str, start: datetime = START, supersedes: Sequence[str] = ()) -> list[Fact]:
    """One add a day; the stored facts."""
    kept: list[Fact] = []
    for number, text in enumerate(texts):
        at = start + number * DAY
        kept += memory.add(Message("user", text, speaker="Ana", at=at), supersedes=supersedes, now=at).facts
    return kept


def merged(memory: Memory, at: datetime = NIGHT) -> Fact:
    """The one consolidated fact after a night."""
    memory.consolidate(now=at)
    (found,) = [fact for fact in memory.list() if fact.is_consolidated]
    return found


def shown(memory: Memory, query: str = "Which green tea do I drink?", **options) -> set[str]:
    return {fact.fact.text for fact in memory.recall(query, now=NIGHT + 20 * DAY, **options).facts}


# --- another time ---


def test_another_time_shows_no_original_of_what_a_person_forgot(memory):
    said(memory, *TEA)
    memory.forget(merged(memory).id, now=NIGHT + DAY)
    assert shown(memory, as_of=NIGHT) == shown(memory) == set()


def test_the_archive_shows_a_forgotten_merged_fact_once_and_says_archived(memory):
    said(memory, *TEA)
    held = merged(memory)
    memory.forget(held.id, now=NIGHT + DAY)
    found = memory.recall("Which green tea do I drink?", include_archived=True, now=NIGHT + 2 * DAY)
    assert [item.fact.id for item in found.facts] == [held.id]
    assert found.facts[0].text.startswith("[archived] ")
    then = memory.recall("Which green tea do I drink?", include_archived=True, as_of=NIGHT, now=NIGHT + 2 * DAY)
    assert {item.fact.text for item in then.facts} == set(TEA)
    assert all(item.text.startswith("[archived] ") for item in then.facts)


@pytest.mark.parametrize("days", [20, 200])
def test_the_archive_holds_no_original_twice(memory, days):
    said(memory, *TEA, *(f"Green tea number {number} was bought in a shop." for number in range(12)))
    memory.consolidate(now=NIGHT)
    found = memory.recall("Which green tea did I buy?", k=2, include_archived=True, now=NIGHT + days * DAY)
    shown = [id_ for item in found.facts for id_ in item.members or [item.fact.id]]
    every = [*shown, *(item.fact_id for item in found.dropped)]
    assert len(set(every)) == len(every)
    assert all(item.fact.is_recallable for item in found.facts)
    assert any(item.members for item in found.facts)


def test_originals_hold_as_long_as_what_stands_for_them(memory):
    said(memory, *TEA)
    held = merged(memory)
    said(memory, "I gave up hot drinks.", start=NIGHT + 5 * DAY, supersedes=[held.id])
    assert shown(memory, as_of=NIGHT + DAY) == set(TEA)
    assert shown(memory, as_of=NIGHT + 10 * DAY) == {"I gave up hot drinks."}


def test_originals_hold_no_longer_than_they_said(memory):
    said(memory, *PERMIT)
    merged(memory, START + 4 * DAY)
    assert shown(memory, "Is there a parking permit?", as_of=START + 20 * DAY) == set(PERMIT)
    assert shown(memory, "Is there a parking permit?", as_of=START + 90 * DAY) == set()


def test_at_another_time_a_newer_original_stands_above_the_older_fact(memory):
    said(memory, *TEA[:2])
    (older,) = said(memory, BOAT)
    (newer,) = said(memory, TEA[3], start=START + 3 * DAY, supersedes=[older.id])
    memory.restore(older.id, now=START + 4 * DAY)
    assert newer.id in merged(memory).consolidated_from
    assert {BOAT, TEA[3]} <= shown(memory, as_of=NIGHT)


# --- withdrawing ---


def test_forgetting_a_merged_fact_withdraws_what_its_originals_had_replaced(memory):
    (older,) = said(memory, BOAT)
    said(memory, *TEA[:3])
    said(memory, TEA[3], start=START + 5 * DAY, supersedes=[older.id])
    held = merged(memory)
    assert memory.get(older.id).status == "archived"
    memory.forget(held.id, now=NIGHT + DAY)
    back = memory.get(older.id)
    assert (back.status, back.superseded_by) == ("live", None)
    assert memory.history(older.id)[-1].reason.rule == "successor_withdrawn"


def test_what_a_person_forgot_stays_forgotten_when_its_successor_goes(memory):
    (older,) = said(memory, "I live in Lisbon.")
    (newer,) = said(memory, "From next month I live in Porto.", start=START + DAY, supersedes=[older.id])
    assert memory.get(older.id).is_recallable
    memory.forget(older.id, now=START + 2 * DAY)
    assert "I live in Lisbon." not in shown(memory, "Where do I live?", as_of=START + 2 * DAY)
    memory.forget(newer.id, now=START + 3 * DAY)
    assert memory.get(older.id).status == "archived"
    assert memory.restore(older.id, now=START + 4 * DAY).superseded_by is None


def test_no_fact_ends_up_as_the_successor_of_its_own_successor(memory):
    (lisbon,) = said(memory, "I live in Lisbon.")
    (porto,) = said(memory, "From next month I live in Porto.", start=START + DAY, supersedes=[lisbon.id])
    assert said(memory, "I live in Lisbon.", start=START + 2 * DAY, supersedes=[porto.id]) == []
    stays, gone = memory.get(lisbon.id), memory.get(porto.id)
    assert (stays.status, stays.superseded_by, stays.valid_until) == ("live", None, None)
    assert (gone.status, gone.superseded_by) == ("archived", lisbon.id)
    assert [item["id"] for item in memory.explain(lisbon.id).chain] == [lisbon.id, porto.id]
    assert shown(memory, "Where do I live?") == {"I live in Lisbon."}


def test_what_is_about_to_be_replaced_is_not_consolidated(memory):
    facts = said(memory, *TEA)
    (newer,) = said(memory, "From next month I drink coffee.", start=START + 6 * DAY, supersedes=[f.id for f in facts])
    planned = memory.consolidate(now=START + 7 * DAY)
    assert planned.clusters == ()
    memory.forget(newer.id, now=START + 8 * DAY)
    assert merged(memory).consolidated_from == tuple(fact.id for fact in facts)


# --- coming back and correcting ---


def test_originals_that_a_person_restored_are_left_alone_by_the_night(memory):
    facts = said(memory, *TEA)
    held = merged(memory)
    assert memory.restore(facts[0].id, now=NIGHT + DAY).restored_at == NIGHT + DAY
    assert {fact.restored_at for fact in memory.split(held.id, now=NIGHT + DAY)} == {NIGHT + DAY}
    memory.set_policy(max_facts=1, auto_forget=True, protect_days=0.0)
    memory.engram.sleep(now=NIGHT + 3 * DAY)
    assert len(memory.list()) == len(TEA)


def test_originals_are_retained_as_long_as_what_stood_for_them(memory):
    facts = said(memory, *TEA)
    held = merged(memory)
    memory.forget(held.id, now=NIGHT + 100 * DAY)
    for refused in (memory.restore, memory.split):
        with pytest.raises(ChangeRefused, match="retention_over"):
            refused(facts[0].id if refused == memory.restore else held.id, now=NIGHT + 200 * DAY)
    assert memory.restore(facts[0].id, now=NIGHT + 150 * DAY).is_recallable


def test_an_original_is_not_corrected_behind_the_back_of_what_stands_for_it(memory):
    facts = said(memory, *TEA)
    merged(memory)
    with pytest.raises(ChangeRefused, match="made_of_originals"):
        memory.update(facts[0].id, text="I drink coffee every morning.", now=NIGHT)
    memory.restore(facts[0].id, now=NIGHT)
    assert memory.update(facts[0].id, text="I drink coffee every morning.", now=NIGHT).text.startswith("I drink coffee")


def test_pruning_drops_no_fact_that_stands_for_others(memory):
    said(memory, *TEA)
    memory.set_policy(cluster_size=3, cluster_similarity=0.6, compression_strategy="summarize", protect_days=0.0)
    held = merged(memory)
    said(memory, f"{held.text} And more.", start=NIGHT + DAY)
    memory.set_policy(cluster_size=2, cluster_similarity=0.6, compression_strategy="prune", protect_days=0.0)
    memory.consolidate(now=NIGHT + 10 * DAY)
    assert memory.get(held.id).is_recallable


# --- usefulness ---


def test_the_use_of_originals_keeps_what_stands_for_them(memory):
    said(memory, *TEA)
    for _ in range(8):
        found = memory.recall("What happened to my pot?", k=2, now=START + 6 * DAY)
        assert memory.observe(found.id, "Your green tea pot broke in May.", now=START + 6 * DAY).used
    held = merged(memory)
    others = said(memory, BOAT, "Bea plays the viola.", start=START)
    memory.set_policy(cluster_size=3, max_facts=1, auto_forget=True, protect_days=0.0, retention_floor=1.0)
    memory.engram.sleep(now=NIGHT + 20 * DAY)
    assert [fact.id for fact in memory.list()] == [held.id]
    assert {memory.get(fact.id).status for fact in others} == {"archived"}


def test_what_recalls_made_of_an_original_is_told_of_it(memory):
    said(memory, *TEA)
    held = merged(memory)
    found = memory.recall("What happened to my tea pot?", k=1, now=NIGHT)
    memory.observe(found.id, "Your green tea pot broke in May.", now=NIGHT)
    (best, *_) = found.facts[0].members
    told = memory.explain(best)
    assert (told.recalls[0]["rank"], told.recalls[0]["verdict"]) == (1, "used")
    assert (told.usage["shown"], told.usage["used"]) == (1, 1)
    memory.split(held.id, now=NIGHT)
    assert best not in {item["id"] for item in memory.usage(now=NIGHT).never_recalled}


# --- the warm start ---


def test_a_brief_obeys_the_pin_and_the_validity_of_a_merged_fact(memory):
    said(memory, *TEA)
    held = merged(memory)
    said(memory, *(f"{BOAT} It was built in {year} by a very able carpenter." for year in range(1950, 1990)))
    memory.update(held.id, pinned=True, now=NIGHT)
    assert set(TEA) <= {fact.text for fact in memory.brief(max_tokens=120, now=NIGHT).facts}
    memory.update(held.id, valid_until=NIGHT + DAY, now=NIGHT)
    assert not set(TEA) & {fact.text for fact in memory.brief(now=NIGHT + 2 * DAY).facts}
