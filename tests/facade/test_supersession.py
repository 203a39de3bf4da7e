"""Supersession through the facade: what is archived, what comes back, what other times show, and whatever order it is in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support_stores import PLACES, place

from engram_core import ChangeRefused, Engram, FactNotFound, InvalidInput, Message

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
LATER = START + timedelta(days=60)


@pytest.fixture(params=PLACES)
def memory(request, tmp_path):
    with Engram.open(**place(request, tmp_path)) as engram:
        yield engram.memory("acme/ana")


def said(memory, *texts, speaker="Ana", start=START):
    """One add a day; the stored facts."""
    kept = []
    for number, text in enumerate(texts):
        at = start + timedelta(days=number)
        kept += memory.add(Message("user", text, speaker=speaker, at=at), now=at).facts
    return kept


def texts(memory, status=None):
    return [fact.text for fact in memory.list(status=status)]


def test_a_new_value_archives_the_old_fact_and_links_both(memory):
    old, new = said(memory, "I live in Lisbon.", "I just moved to Porto.")
    gone = memory.get(old.id)
    assert (gone.status, gone.superseded_by, gone.valid_until) == ("archived", new.id, new.said_at)
    assert gone.archived_reason.startswith("new_value: ana/location")
    assert "I live in Lisbon" in gone.archived_reason
    assert [item["id"] for item in memory.explain(new.id).chain] == [old.id, new.id]
    assert memory.explain(new.id).links[0]["which"] == "older"
    assert texts(memory) == ["I just moved to Porto."]
    assert "Lisbon" not in memory.recall("Where does Ana live?", now=LATER).text


def test_one_add_is_like_many(memory):
    lines = ["I live in Lisbon.", "My budget is $500", "I moved to Porto.", "I live in Lisbon.", "My budget is $650"]
    memory.add([Message("user", line, at=START + timedelta(days=n)) for n, line in enumerate(lines)])
    assert texts(memory) == ["I live in Lisbon.", "My budget is $650"]
    first, _, porto, home, _ = memory.list(status="all")
    assert (first.superseded_by, porto.superseded_by) == (porto.id, home.id)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Bob lives in Oslo.", "Alice lives in Lisbon."),
        ("I live in Lisbon.", "I live in Lisbon, Portugal."),
        ("I live in Lisbon. I have two dogs.", "I moved to Porto."),
        ("I live in Lisbon.", "I might move to Porto one day."),
        ("I live in Lisbon.", "Do I live in Porto?"),
        ("I love sushi.", "I love olives."),
    ],
)
def test_what_stays_true_stays(memory, old, new):
    said(memory, old, new)
    assert texts(memory) == [old, new]


def test_other_people_other_scopes_and_pins_are_left_alone(memory):
    (pinned,) = said(memory, "My budget is $500")
    memory.update(pinned.id, pinned=True)
    said(memory, "I live in Lisbon.")
    said(memory, "I live in Porto.", speaker="Ben", start=LATER)
    said(memory, "My budget is $650", start=LATER)
    below = memory.engram.memory("acme/ana/private")
    said(below, "I live in Faro.", start=LATER)
    assert len(memory.list()) == 4
    nobody = memory.engram.memory("acme/shared")
    nobody.add("I live in Lisbon.", now=START)
    memory.engram.grant("user:ben", "contributor", "acme/shared")
    memory.engram.memory("acme/shared", principal="user:ben").add("I live in Porto.", now=LATER)
    assert len(nobody.list()) == 2


def test_an_assistant_or_a_page_replaces_nothing(memory):
    memory.set_policy(quarantine_channels=[])
    said(memory, "I live in Lisbon.")
    memory.add(Message("assistant", "I live in Porto.", speaker="Ana"), now=LATER)
    memory.add(Message("user", "I live in Faro.", speaker="Ana", channel="web"), now=LATER)
    assert len(memory.list()) == 3


def test_what_was_said_earlier_but_arrives_later_is_history(memory):
    (new,) = said(memory, "I live in Porto.", start=LATER)
    (old,) = said(memory, "I live in Lisbon.", start=START)
    assert (old.status, old.superseded_by) == ("archived", new.id)
    assert texts(memory) == ["I live in Porto."]
    assert "Lisbon" in memory.recall("Where do I live?", as_of=START + timedelta(days=3), now=LATER).text


def test_an_announced_value_holds_from_its_day(memory):
    old, new = said(memory, "My rent is 900 euros.", "Starting 1 June my rent is 950 euros.")
    assert new.valid_from == datetime(2026, 6, 1, tzinfo=UTC)
    if new.slot is not None and memory.get(old.id).superseded_by:
        assert memory.get(old.id).status == "live"
    before = memory.recall("What is my rent?", now=START + timedelta(days=9)).text
    assert "900" in before
    assert "950" in before


def test_an_expired_fact_is_not_recalled(memory):
    (fact,) = said(memory, "I'm in Berlin until February.")
    assert fact.valid_until == datetime(2026, 2, 1, tzinfo=UTC)
    assert memory.recall("Where am I?", now=START + timedelta(days=2)).facts
    late = memory.recall("Where am I?", now=LATER)
    assert [item.reason.rule for item in late.dropped] == ["expired"]


def test_withdrawing_the_successor_brings_the_fact_back(memory):
    first, second, third = said(memory, "I live in Lisbon.", "I moved to Porto.", "I live in Faro.")
    memory.forget(third.id, now=LATER)
    assert texts(memory) == ["I moved to Porto."]
    back = memory.get(second.id)
    assert (back.superseded_by, back.valid_until, back.archived_reason) == (None, None, None)
    assert memory.history(second.id)[-1].reason.rule == "successor_withdrawn"
    memory.forget(second.id, now=LATER)
    assert texts(memory) == ["I live in Lisbon."]
    assert memory.get(first.id).status == "live"


def test_restoring_a_superseded_fact_keeps_both_and_marks_neither(memory):
    old, _ = said(memory, "I live in Lisbon.", "I moved to Porto.")
    back = memory.restore(old.id, now=LATER)
    assert (back.status, back.superseded_by) == ("live", None)
    recall = memory.recall("Where does Ana live?", now=LATER)
    assert len(recall.facts) == 2
    assert "[earlier]" not in recall.text
    assert memory.explain(old.id).links[-1]["verdict"] == "both"


def test_a_successor_that_comes_back_stands_above(memory):
    old, new = said(memory, "I live in Lisbon.", "I moved to Porto.")
    memory.forget(new.id, now=LATER)
    memory.restore(new.id, now=LATER)
    recall = memory.recall("Where does Ana live?", now=LATER)
    assert [item.fact.id for item in recall.facts] == [new.id, old.id]
    assert "[earlier] Ana: I live in Lisbon." in recall.text


def test_supersedes_by_name(memory):
    old, other = said(memory, "The door code is hidden under the mat.", "The key is at Ben's.")
    new = memory.add("The door has no code any more.", supersedes=[old.id, other.id], now=LATER).facts[0]
    assert {memory.get(id_).superseded_by for id_ in (old.id, other.id)} == {new.id}
    assert memory.history(old.id)[-1].reason.rule == "superseded_by_name"
    with pytest.raises(ChangeRefused):
        memory.add("Once more.", supersedes=old.id, now=LATER)
    with pytest.raises(FactNotFound):
        memory.add("Once more.", supersedes="nobody", now=LATER)
    with pytest.raises(ChangeRefused):
        memory.add("Hi!", supersedes=new.id, now=LATER)
    assert texts(memory) == ["The door has no code any more."]


def test_a_person_may_supersede_what_is_pinned(memory):
    (old,) = said(memory, "The door code is hidden.")
    memory.update(old.id, pinned=True)
    memory.add("The door has no code.", supersedes=old.id, now=LATER)
    assert memory.get(old.id).status == "archived"


def test_an_edit_tells_the_slot_anew(memory):
    (fact,) = said(memory, "I live in Lisbon.")
    memory.update(fact.id, text="I have two dogs.", now=LATER)
    assert memory.get(fact.id).slot is None
    said(memory, "I moved to Porto.", start=LATER)
    assert texts(memory) == ["I have two dogs.", "I moved to Porto."]


def test_a_possible_update_is_linked_lifted_and_marked(memory):
    said(
        memory,
        "My Italian deck has 300 flash cards and I review it before work.",
        "I repaired the bicycle with my sister.",
        "With the new chapter my Italian deck has grown to 420 flash cards.",
    )
    old, _, new = memory.list()
    (link,) = memory.explain(old.id).links
    assert (link["id"], link["rule"], link["which"]) == (new.id, "possible_update", "newer")
    recall = memory.recall("How many flash cards are in my Italian deck?", now=LATER)
    assert [item.fact.id for item in recall.facts[:2]] == [new.id, old.id]
    assert "[earlier] Ana: My Italian deck has 300" in recall.text
    for item in recall.facts:
        assert item.score == pytest.approx(sum(item.terms.values()))
    memory.forget(new.id, now=LATER)
    assert "[earlier]" not in memory.recall("How many flash cards are in my Italian deck?", now=LATER).text


def test_other_times_and_the_archive(memory):
    _, _, last = said(memory, "I live in Lisbon.", "I moved to Porto.", "I live in Faro.")
    question = "Where does Ana live?"

    def shown(**options):
        return {item.fact.text for item in memory.recall(question, now=LATER, **options).facts}

    assert shown(as_of=START + timedelta(hours=1)) == {"I live in Lisbon."}
    assert shown(as_of=START + timedelta(days=1, hours=1)) == {"I moved to Porto."}
    assert shown(as_of=START - timedelta(days=1)) == set()
    assert shown(as_of=LATER) == shown() == {"I live in Faro."}
    assert shown(include_archived=True) == {"I live in Lisbon.", "I moved to Porto.", "I live in Faro."}
    text = memory.recall(question, include_archived=True, now=LATER).text
    assert "[archived] Ana: I live in Lisbon." in text
    assert "[archived] Ana: I live in Faro." not in text
    memory.forget(last.id, now=LATER)
    assert shown(as_of=LATER) == {"I moved to Porto."}
    days = memory.policy.retain_archived_days
    much_later = START + timedelta(days=days + 30)
    kept = memory.recall(question, include_archived=True, now=much_later).facts
    assert {item.fact.text for item in kept} == {"I moved to Porto.", "I live in Faro."}


def test_a_large_scope_is_read_exactly_too(tmp_path):
    with Engram.open(tmp_path / "store", exact_limit=0) as engram:
        memory = engram.memory("acme/ana")
        said(
            memory, "I live in Lisbon.", *(f"Row {n} of the garden has tulips." for n in range(30)), "I moved to Porto."
        )
        found = memory.recall("Where does Ana live?", as_of=START + timedelta(days=2), k=1, now=LATER)
        assert [item.fact.text for item in found.facts] == ["I live in Lisbon."]
        assert [item.fact.text for item in memory.recall("Did Ana move to Porto?", k=1, now=LATER).facts] == [
            "I moved to Porto."
        ]


PLACES = ("Lisbon", "Porto", "Faro", "Braga")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(PLACES), st.integers(0, 40)),
        st.tuples(st.just("batch"), st.lists(st.sampled_from(PLACES), min_size=1, max_size=4), st.integers(0, 40)),
        st.tuples(st.just("forget"), st.integers(0, 9)),
        st.tuples(st.just("restore"), st.integers(0, 9)),
        st.tuples(st.just("name"), st.integers(0, 9)),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps)
def test_chains_stay_sound_whatever_happens(sequence):
    with Engram.open(":memory:") as engram:
        memory = engram.memory("acme/ana")
        for number, step in enumerate(sequence):
            _take(memory, step, number)
            _check(memory)


def _take(memory, step, number):
    facts = memory.list(status="all")
    now = LATER + timedelta(days=number)
    try:
        match step:
            case ("add", place, day):
                memory.add(Message("user", f"I live in {place}.", at=START + timedelta(days=day)), now=now)
            case ("batch", places, day):
                at = START + timedelta(days=day)
                memory.add([Message("user", f"I live in {place}.", at=at) for place in places], now=now)
            case ("name", place):
                memory.add(f"Note {number}", supersedes=facts[place % len(facts)].id if facts else (), now=now)
            case ("forget", place) if facts:
                memory.forget(facts[place % len(facts)].id, now=now)
            case ("restore", place) if facts:
                memory.restore(facts[place % len(facts)].id, now=now)
    except ChangeRefused:
        pass


def _check(memory):
    facts = {fact.id: fact for fact in memory.list(status="all")}
    for fact in facts.values():
        seen = set()
        level = fact
        while level.superseded_by is not None:
            assert level.id not in seen, "a cycle"
            seen.add(level.id)
            assert level.status == "archived"
            assert level.valid_until is not None
            level = facts[level.superseded_by]
        assert fact.status == "live" or fact.archived_reason


def test_history_begins_with_the_addition_even_within_one_add(memory):
    memory.add(["I live in Lisbon.", "I live in Porto now."], now=START)
    old = memory.list(status="archived")[0]
    history = memory.history(old.id)
    assert [(item.action, (item.after or {}).get("status")) for item in history] == [
        ("add", "live"),
        ("supersede", "archived"),
    ]


def test_an_explanation_says_what_a_fact_replaced_and_what_replaced_it(memory):
    first, second, third = said(memory, "I live in Lisbon.", "I moved to Porto.", "I live in Faro.")
    lines = str(memory.explain(second.id)).splitlines()
    assert f"  replaced: {first.id} archived: Ana: I live in Lisbon." in lines
    assert f"  replaced by: {third.id} live: Ana: I live in Faro." in lines
    assert not [line for line in lines if "linked" in line]


def test_an_argument_of_a_wrong_type_is_named(memory):
    with pytest.raises(InvalidInput, match="as_of must be a datetime"):
        memory.recall("Where do I live?", as_of="2024-05-01")
    with pytest.raises(InvalidInput, match="min_score must be a number"):
        memory.recall("Where do I live?", min_score="high")
    with pytest.raises(InvalidInput, match="supersedes takes the id"):
        memory.add("I live in Porto.", supersedes=5)
