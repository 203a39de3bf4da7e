"""Reflection through the facade: lapses become gaps, gaps with evidence become facts, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from engram_core import Engram, FactNotFound, InvalidInput, Memory, Message
from engram_core.ports import Passage

START = datetime(2026, 3, 1, 9, tzinfo=UTC)
SCOPE = "acme/support/ana"


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    url = ":memory:" if request.param == "memory" else str(tmp_path / "store")
    with Engram.open(url, index="exact", clock=lambda: START + timedelta(days=90)) as engram:
        yield engram


def turn(memory: Memory, day: int, *said: str) -> list[str]:
    """A turn, user first and then by turns; returns the messages' ids."""
    messages = []
    for place, text in enumerate(said):
        role = ("user", "assistant")[place % 2]
        at = START + timedelta(days=day, minutes=place)
        id_ = f"{memory.scope.path}-d{day}-{place}"
        messages.append(Message(role, text, at=at, session=f"d{day}", id=id_, channel=role))
    memory.add(messages, now=START + timedelta(days=day, minutes=len(said)))
    return [message.id or "" for message in messages]


def test_a_lapse_is_filled_with_what_was_said_before(store):
    memory = store.memory(SCOPE)
    (said, _) = turn(memory, 0, "Long day. My parking space is B17.", "Noted.")
    turn(memory, 5, "What's my parking space?", "I'm sorry, I don't have that information.")
    planned = memory.reflect(dry_run=True)
    assert planned.line == "found 1, filled 1, 0 open"
    assert memory.gaps() == []
    done = memory.reflect()
    (gap,) = done.gaps
    assert (gap.state, [lapse.kind for lapse in gap.lapses]) == ("filled", ["unknown"])
    fact = memory.get(gap.fact_id or "")
    assert "B17" in fact.text
    assert fact.origin.channel == "derived"
    assert fact.origin.message_ids == (said,)
    (source,) = fact.sources
    assert source in gap.evidence
    assert said in gap.evidence
    assert fact.trust <= memory.get(source).trust
    assert memory.gaps() == [gap]
    assert fact.id in [item.fact.id for item in memory.recall("What's my parking space?").facts]
    assert [item.reason.rule for item in memory.history(fact.id)] == ["gap_filled"]
    again = memory.reflect()
    assert (again.found, again.gaps) == ((), ())
    assert len(memory.list()) == len({item.text for item in memory.list()})
    json.dumps(done.to_dict())


def test_what_nobody_said_stays_open_until_somebody_says_it(store):
    memory = store.memory(SCOPE)
    turn(memory, 0, "I live in Lisbon.", "Noted.")
    turn(memory, 5, "What is my blood type?", "You haven't told me that yet.")
    (gap,) = memory.reflect().gaps
    assert (gap.state, gap.reason.rule, gap.fact_id) == ("open", "no_evidence", None)
    facts = {fact.id for fact in memory.list()}
    assert memory.reflect().gaps == (gap,)
    turn(memory, 9, "By the way, my blood type is O negative.", "Noted.")
    (closed,) = memory.reflect().gaps
    assert (closed.id, closed.state, closed.reason.rule) == (gap.id, "closed", "answered_later")
    assert memory.get(closed.fact_id or "").text == "By the way, my blood type is O negative."
    assert not [fact for fact in memory.list() if fact.id not in facts and fact.origin.channel == "derived"]
    assert [item.id for item in memory.gaps(state="open")] == []
    assert [item.id for item in store.gaps("acme", state="closed")] == [gap.id]


def test_a_question_is_a_lapse_only_if_it_had_been_answered(store):
    memory = store.memory(SCOPE)
    turn(memory, 0, "My dog Biscuit loves the beach.", "Lovely. What's your cat's name?")
    turn(memory, 5, "Book a vet for my dog.", "Sure. What's your dog's name? Would you like a reminder?")
    (gap,) = memory.reflect().gaps
    assert [lapse.kind for lapse in gap.lapses] == ["asked_again"]
    assert "Biscuit" in memory.get(gap.fact_id or "").text


def test_what_the_user_set_right_is_the_answer(store):
    memory = store.memory(SCOPE)
    turn(memory, 0, "What's the name of my sister?", "Your sister is called Maria.", "No, it's Clara. I told you!")
    (gap,) = memory.reflect().gaps
    assert [lapse.kind for lapse in gap.lapses] == ["corrected"]
    fact = memory.get(gap.fact_id or "")
    assert "Clara" in fact.text
    assert "sister" in fact.text
    assert "told" not in fact.text


def test_recalls_show_lapses_too(store):
    memory = store.memory(SCOPE)
    empty = memory.recall("What's my parking space?", now=START)
    memory.observe(empty.id, "It is A1.", now=START)
    memory.recall("What is the capital of France?", now=START)  # nobody's own matter
    turn(memory, 1, "My office is blue.", "Noted.")
    asked = memory.recall("When is my flight?", now=START + timedelta(days=2))
    memory.observe(asked.id, "I don't know when your flight is.", now=START + timedelta(days=2))
    useless = memory.recall("What did my doctor say about my knee?", now=START + timedelta(days=3))
    memory.observe(useless.id, "Rest it for two weeks.", now=START + timedelta(days=3))
    kinds = {gap.question: gap.lapses[0].kind for gap in memory.reflect().gaps}
    assert kinds == {
        "What's my parking space?": "nothing_recalled",
        "When is my flight?": "unknown",
        "What did my doctor say about my knee?": "nothing_used",
    }


def test_the_same_question_is_one_gap(store):
    memory = store.memory(SCOPE)
    turn(memory, 0, "What is my blood type?", "I don't know.")
    turn(memory, 1, "What's my blood type?", "I have no record of that.")
    asked = memory.recall("What is my blood type?", now=START + timedelta(days=1))
    memory.observe(asked.id, "I have no record of that.", now=START + timedelta(days=1))
    (gap,) = memory.reflect().gaps
    assert len(gap.lapses) == 2
    turn(memory, 2, "What is my blood type?", "I don't know.")
    (again,) = memory.reflect().gaps
    assert (again.id, len(again.lapses)) == (gap.id, 3)


def test_a_forgotten_fact_comes_back_only_if_no_person_took_it_away(store):
    memory = store.memory(SCOPE)
    memory.set_policy(max_facts=1, auto_forget=True, protect_days=0)
    turn(memory, 0, "My parking space is B17.", "Noted.")
    turn(memory, 1, "The meeting room is upstairs, and lunch is at noon.", "Good.")
    for fact in memory.list():
        if "B17" not in fact.text:
            memory.update(fact.id, pinned=True)
    store.sleep(now=START + timedelta(days=40))
    gone = [fact for fact in memory.list(status="archived") if "B17" in fact.text]
    assert gone
    turn(memory, 41, "What's my parking space?", "I don't know.")
    turn(memory, 41, "What's my plan?", "Rest.")
    filled = memory.reflect(now=START + timedelta(days=42)).gaps[0]
    assert filled.state == "filled"
    assert gone[0].id in filled.evidence

    other = store.memory("acme/support/tom")
    turn(other, 0, "My parking space is C99.", "Noted.")
    for fact in other.list():
        other.forget(fact.id)
    turn(other, 5, "What's my parking space?", "I don't know.")
    (gap,) = other.reflect().gaps
    assert (gap.state, gap.reason.rule) == ("open", "evidence_withheld")
    assert not [fact for fact in other.list() if "C99" in fact.text]


def test_an_outdated_answer_is_none(store):
    memory = store.memory(SCOPE)
    turn(memory, 0, "I live in Porto.", "Noted.")
    turn(memory, 5, "I live in Lisbon.", "Noted.")
    turn(memory, 9, "Where do I live?", "I don't know.")
    (gap,) = memory.reflect().gaps
    assert gap.state == "filled"
    assert "Lisbon" in memory.get(gap.fact_id or "").text


def test_other_scopes_answer_nothing(store):
    turn(store.memory("acme/support/tom"), 0, "My parking space is C99.", "Noted.")
    memory = store.memory(SCOPE)
    turn(memory, 5, "What's my parking space?", "I don't know.")
    (gap,) = memory.reflect().gaps
    assert gap.state == "open"


def test_a_policy_may_leave_filling_to_people(store):
    memory = store.memory(SCOPE)
    memory.set_policy(fill_gaps=False)
    turn(memory, 0, "My parking space is B17.", "Noted.")
    turn(memory, 5, "What's my parking space?", "I don't know.")
    (gap,) = memory.reflect().gaps
    assert (gap.state, gap.reason.rule) == ("open", "fill_gaps_off")
    assert gap.evidence


def test_a_dismissed_gap_stays_dismissed(store):
    memory = store.memory(SCOPE)
    turn(memory, 0, "What is my blood type?", "I don't know.")
    (gap,) = memory.reflect().gaps
    dismissed = memory.dismiss_gap(gap.id, reason="none of its business")
    assert dismissed.state == "dismissed"
    turn(memory, 1, "What is my blood type?", "I don't know.")
    assert memory.reflect().gaps == ()
    with pytest.raises(FactNotFound):
        store.memory("acme/support/tom").dismiss_gap(gap.id)
    with pytest.raises(InvalidInput):
        memory.gaps(state="lost")
    with pytest.raises(InvalidInput):
        store.gaps(limit=0)


def test_the_night_reflects(store):
    memory = store.memory(SCOPE)
    turn(memory, 0, "My parking space is B17.", "Noted.")
    turn(memory, 5, "What's my parking space?", "I don't know.")
    turn(memory, 6, "What is my blood type?", "I don't know.")
    planned = store.sleep(dry_run=True)
    assert {name: planned.totals[name] for name in ("gaps_found", "gaps_filled", "gaps_open")} == {
        "gaps_found": 2,
        "gaps_filled": 1,
        "gaps_open": 1,
    }
    night = store.sleep()
    assert night.totals == planned.totals
    assert night.scopes[0].reflect["line"] == "found 2, filled 1, 1 open"
    assert store.nights(1)[0]["scopes"][0]["reflect"]["filled"] == 1


def _source(*texts: str) -> Callable[[str], list[str]]:
    def notes(question: str) -> list[str]:
        return list(texts)

    return notes


def test_sources_answer_for_their_scopes_only(tmp_path):
    notes = tmp_path / "notes.md"
    notes.write_text("# Notes\n\nMy blood type is O negative.\n", encoding="utf-8")

    def broken(question: str) -> list[Passage]:
        raise OSError("no such share")

    sources = {SCOPE: [broken, notes], "acme/other": _source("My blood type is A positive.")}
    with Engram.open(":memory:", sources=sources) as store:
        memory = store.memory(SCOPE)
        turn(memory, 0, "What is my blood type?", "I don't know.")
        done = memory.reflect()
        (gap,) = done.gaps
        assert gap.state == "filled"
        assert gap.evidence == (f"{notes}: notes.md:3",)
        fact = memory.get(gap.fact_id or "")
        assert "O negative" in fact.text
        assert (fact.origin.channel, fact.trust) == ("import", 0.6)
        assert "no such share" in done.trouble[0]
    with pytest.raises(InvalidInput, match="source"):
        Engram.open(":memory:", sources=[42])


def test_a_model_reads_what_rules_cannot(tmp_path):
    def model(prompt: str) -> str:
        if "Answer a question" not in prompt:
            return "[]"
        for line in prompt.splitlines():
            if line.startswith("{") and "turned 34" in line:
                number = json.loads(line)["fact"]
                return json.dumps([{"answer": "The user turned 34 in March 2026.", "facts": [number]}])
        return json.dumps([{"answer": "The user is 99 years old.", "facts": [1]}])

    with Engram.open(":memory:", model=model) as store:
        memory = store.memory(SCOPE)
        turn(memory, 0, "I turned 34 yesterday, can you believe it?", "Happy birthday!")
        turn(memory, 5, "Tell me how old I am?", "I don't know.")
        store.flush()
        (gap,) = memory.reflect().gaps
        assert gap.state == "filled"
        assert memory.get(gap.fact_id or "").text.startswith("The user turned 34")

        other = store.memory("acme/support/tom")
        turn(other, 0, "The meeting room is upstairs.", "Noted.")
        turn(other, 5, "How old am I?", "I don't know.")
        done = other.reflect()
        assert done.gaps[0].state == "open"
        assert "99" in done.trouble[0]


def test_of_an_open_gap_only_what_is_new_is_read(store):
    """The past was looked through in vain once; what was withheld then may count later, and is looked for again."""
    from engram_core.domain.scope import Scope
    from engram_core.operations import evidence, reflect

    def pages() -> int:
        """Pages of episodes that a reflection's search reads."""
        seen = []
        reflect.reflect(
            store.context, Scope(SCOPE), "user:owner", START, progress=lambda done, total: seen.append((done, total))
        )
        return seen.count((0, 1)) - 1  # the last one says that the gaps themselves begin

    memory = store.memory(SCOPE)
    for number in range(evidence.PAGE + 20):
        memory.add(Message("user", f"Lamp number {number} is lit.", session=f"s{number}"), now=START)
    turn(memory, 5, "What's my parking space?", "I'm sorry, I don't have that information.")
    assert pages() == 2
    assert pages() == 1
    turn(memory, 6, "My parking space is B17.", "Noted.")
    assert memory.reflect().line == "found 0, filled 0, closed 1, 0 open"


def test_what_was_withheld_is_looked_for_again(store):
    memory = store.memory(SCOPE)
    turn(memory, 0, "My parking space is B17.", "Noted.")
    (fact,) = (item for item in memory.list() if "B17" in item.text)
    memory.forget(fact.id)
    for day in range(1, 15):
        turn(memory, day, f"The lamp on floor {day} is lit.", "Good.")
    turn(memory, 20, "What's my parking space?", "I'm sorry, I don't have that information.")
    (gap,) = memory.reflect().gaps
    assert (gap.state, gap.reason.rule) == ("open", "evidence_withheld")
    memory.restore(fact.id)
    (gap,) = memory.reflect().gaps
    assert gap.state in ("filled", "closed")
