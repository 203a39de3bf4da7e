"""Ledger contract, part six: erasures, tombstones and holds. What is gone is gone from every answer of the ledger."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from engram_core.domain.errors import Conflict
from engram_core.domain.fact import Fact, Origin, Status
from engram_core.domain.scope import Scope
from engram_core.keeping import Erasure, Hold, Tombstone
from engram_core.ports import Batch, Features, Ledger, Link, Night, Parked, UsageRow, Write
from engram_core.testing import samples
from engram_core.testing.ledger_commits import ALICE, LedgerFixtures

SENTINEL = "Quartzfish-77 swims at noon"
"""What is erased below; nothing else says it."""
BLANK = Features("", (), (), None, None, 0.0, asks=False)
_BELOW = Scope("acme/support/alice/notes")
_STRANGER = Scope("acme/support/bob")


def stub(fact: Fact) -> Fact:
    """What is left of an erased fact: its id, its scope and its times."""
    return Fact(
        id=fact.id,
        scope=fact.scope,
        text="",
        origin=Origin("", fact.origin.channel),
        created_at=fact.created_at,
        said_at=fact.said_at,
        version=fact.version + 1,
        status=Status.ERASED,
        importance=0.0,
        trust=0.0,
    )


def erasing(*facts: Fact, **fields: object) -> Batch:
    """The batch that erases facts of one scope."""
    order = Erasure(samples.new_id(), samples.PRINCIPAL, samples.START, tuple(fact.id for fact in facts))
    writes = tuple(Write(stub(fact), BLANK, replaces=fact.version) for fact in facts)
    done = tuple(samples.decision("erase", fact) for fact in facts)
    return Batch(facts[0].scope, writes=writes, decisions=done, erasure=replace(order, **fields))  # type: ignore[arg-type]


def everything(ledger: Ledger, *scopes: Scope) -> str:
    """All that the ledger tells of some scopes, as one text."""
    told: list[object] = [*ledger.parked(1_000)]
    for scope in scopes:
        for state in ledger.scopes([scope]):
            told += [sorted(state.speakers.items()), state, *ledger.changes(state.id, 0, 1_000)]
        told += ledger.decisions(scope, limit=1_000)
        for fact in ledger.listing(scope, statuses=tuple(Status), limit=1_000):
            told += [fact, *ledger.links([fact.id])]
            for recall in ledger.recalls_of(fact.id, 100):
                told += [recall, *ledger.usage(recall.id)]
    for night in ledger.nights(100):
        told += ledger.scope_nights(night.id)
    return "\n".join(map(repr, told))


class ErasureClauses(LedgerFixtures):
    """Erasures."""

    def test_an_erased_fact_is_a_stub_that_nothing_finds(self, ledger: Ledger) -> None:
        gone, kept = samples.add(ledger, ALICE, [SENTINEL, "the dog barks"], session="s1")
        before = samples.state(ledger, ALICE)
        ledger.commit(erasing(gone, words=(SENTINEL,)))
        state = samples.state(ledger, ALICE)
        assert (state.live, state.recallable, state.seq > before.seq) == (1, 1, True)
        assert ledger.facts([gone.id, kept.id]) == [stub(gone), kept]
        assert ledger.matching(state.id, {"quartzfish": 1.0, "swim": 1.0}, 10) == []
        assert ledger.frequencies(state.id, ["quartzfish", "swim", "dog"]) == {"dog": (1, 1)}
        row = next(row for row in samples.outbox(ledger, state.id) if row.id == gone.id)
        assert (row.status, row.content, row.context, row.body_stems) == ("erased", None, None, "")
        assert ledger.tail(ALICE, "s1") is not None
        assert "uartzfish" not in everything(ledger, ALICE)

    def test_what_is_said_about_it_goes_with_it(self, ledger: Ledger) -> None:
        told = samples.episode(ALICE, SENTINEL, "the dog barks")
        origin = Origin(samples.PRINCIPAL, "user", told.id, "s1", (told.messages[0].id or "",))
        gone, kept = samples.fact(ALICE, SENTINEL, origin=origin), samples.fact(ALICE, "the dog barks")
        ledger.commit(
            replace(
                samples.batch(gone, kept, episode=told, extraction="due"),
                links=(Link(kept.id, gone.id, 0.5, samples.decision("x", gone).reason, samples.START),),
                parked=(Parked("extraction", ALICE, samples.START, SENTINEL, {"model": SENTINEL}, told.id),),
            )
        )
        edited, batch = samples.changed(gone, metadata={"note": SENTINEL})
        ledger.commit(batch)
        shown = samples.recall_row(ALICE, edited, kept, query="where does it swim?")
        other = samples.recall_row(ALICE, kept, query=f"is it true that {SENTINEL.upper()}?", session="s9")
        below = samples.recall_row(_BELOW, kept, query=json.dumps(SENTINEL))
        for row in (shown, other, below):
            ledger.record_recall(row)
            verdicts = [{"id": kept.id, "verdict": "used", "band": "high", "terms": {"overlap": 1.0}}]
            vector = np.ones(4, dtype=np.float16)
            ledger.record_usage(UsageRow(row.id, row.scope, samples.START, f"Yes: {SENTINEL}.", verdicts, vector))
        ledger.save_night(Night("n1", ALICE, samples.PRINCIPAL, samples.START))
        report = {
            "proposals": [{"id": gone.id, "line": "it swims"}, {"id": kept.id, "line": "stays"}],
            "text": SENTINEL,
        }
        ledger.save_scope_night("n1", ALICE, report)

        ledger.commit(erasing(edited, words=(SENTINEL,), message_ids=origin.message_ids, sessions=("s9",)))

        assert SENTINEL.lower() not in everything(ledger, ALICE, _BELOW).lower()
        (now,) = [row for row in (ledger.episode(told.id),) if row]
        assert [message.content for message in now.messages] == ["", "the dog barks"]
        found = {row.id: row for row in (ledger.recall(row.id) for row in (shown, other, below)) if row}
        assert found[shown.id].query == ""
        assert found[other.id].query == "is it true that [erased]?"
        assert found[other.id].session is None
        assert "[erased]" in found[below.id].query
        assert [row.response for row in ledger.usage(shown.id)] == [""]
        assert [row.response for row in ledger.usage(other.id)] == ["Yes: [erased]."]
        assert ledger.scope_nights("n1") == [
            {"proposals": [{"id": gone.id, "line": ""}, {"id": kept.id, "line": "stays"}], "text": "[erased]"}
        ]
        assert ledger.links([kept.id]) == []
        assert [item.action for item in ledger.history(gone.id)] == ["add", "edit", "erase"]
        assert ledger.history(gone.id)[-1].reason.line, "who erased it and why stays"
        assert ledger.fact_usage(gone.id) is None
        assert ledger.history(kept.id)[0].after == {"text": "the dog barks"}

    def test_a_whole_scope_goes_and_its_neighbour_stays(self, ledger: Ledger) -> None:
        told = samples.episode(ALICE, SENTINEL)
        gone = samples.fact(ALICE, SENTINEL)
        ledger.commit(samples.batch(gone, episode=told))
        (near,) = samples.add(ledger, _STRANGER, ["the cat sleeps"])
        ledger.record_recall(samples.recall_row(ALICE, gone, query="something else entirely", session="s1"))
        ledger.park(Parked("adapter", ALICE, samples.START, "odd", {"where": "x"}))
        before = ledger.decisions(_STRANGER)
        ledger.commit(erasing(gone, is_whole=True))
        left = everything(ledger, ALICE)
        for word in (SENTINEL, "something else", "odd", "A test did add"):
            assert word not in left
        assert ledger.recalls_of(gone.id, 10) == []
        (now,) = [row for row in (ledger.episode(told.id),) if row]
        assert now.messages == ()
        assert ledger.facts([near.id]) == [near]
        assert ledger.decisions(_STRANGER) == before

    def test_an_erasure_is_all_or_nothing(self, ledger: Ledger) -> None:
        gone, moved = samples.add(ledger, ALICE, [SENTINEL, "the dog barks"])
        ledger.commit(samples.changed(moved, importance=0.9)[1])
        before = everything(ledger, ALICE)
        with pytest.raises(Conflict):
            ledger.commit(erasing(gone, moved, words=(SENTINEL,)))
        assert everything(ledger, ALICE) == before
        assert ledger.erasures.receipts() == []

    def test_tombstones_are_kept_found_and_lifted(self, ledger: Ledger, another: Ledger) -> None:
        first, second = ("a" * 64, "b" * 64)
        stones = (
            Tombstone(first, "fact", "e1", samples.START),
            Tombstone(second, "text", "e2", samples.START + timedelta(days=1)),
        )
        (gone,) = samples.add(ledger, ALICE, [SENTINEL])
        ledger.commit(erasing(gone, tombstones=stones[:1]))
        assert ledger.erasures.bury(stones) == 1
        assert ledger.erasures.bury(stones) == 0
        assert another.erasures.tombstones() == list(stones)
        assert another.erasures.tombstoned([second, "c" * 64, first]) == {first, second}
        assert ledger.erasures.lift("e1") == 1
        assert ledger.erasures.tombstoned([first, second]) == {second}

    def test_receipts_are_kept_newest_first(self, ledger: Ledger) -> None:
        for number, said in enumerate(samples.add(ledger, ALICE, ["one fish", "two fish"])):
            ledger.commit(erasing(said, id=f"e{number}", at=samples.START + timedelta(days=number)))
        assert [(item["id"], item["state"]) for item in ledger.erasures.receipts()] == [
            ("e1", "begun"),
            ("e0", "begun"),
        ]
        ledger.erasures.save_receipt("e0", {"id": "e0", "at": samples.START.isoformat(), "state": "done", "facts": 1})
        assert ledger.erasures.receipts()[1]["facts"] == 1
        assert [item["id"] for item in ledger.erasures.receipts(1)] == ["e1"]

    def test_facts_about_a_subject(self, ledger: Ledger) -> None:
        named = samples.fact(ALICE, "the cat sleeps", subjects=("Rex %_", "bob"))
        spoken = samples.fact(_STRANGER, "the dog barks", speaker="Rex %_")
        sent = samples.fact(_STRANGER, "it rains", origin=Origin("user:carol", "user"))
        gone = samples.fact(ALICE, "the fish swims", subjects=("bob",))
        for said in (named, spoken, sent, gone):
            ledger.commit(samples.batch(said))
        ledger.commit(erasing(gone))
        assert ledger.facts([named.id])[0].subjects == ("Rex %_", "bob")
        about = ledger.erasures.about
        assert about("Rex %_", None) == [named.id, spoken.id]
        assert about("Rex %", None) == []
        assert about("Rex %_", _STRANGER) == [spoken.id]
        assert about("carol", None) == about("user:carol", None) == [sent.id]
        assert about("bob", None) == [named.id, spoken.id, sent.id], "the user's own scope, and what names them"
        assert about("bob", Scope("acme")) == [named.id, spoken.id, sent.id]
        assert about("alice", ALICE) == [named.id]

    def test_what_a_fact_stands_for_and_what_is_still_said(self, ledger: Ledger) -> None:
        (one,) = samples.add(ledger, ALICE, ["the dog barks loudly"])
        part = samples.fact(ALICE, "barks", status=Status.ARCHIVED, consolidated_into=one.id)
        ledger.commit(samples.batch(part))
        assert ledger.erasures.replaced_by([one.id]) == [part]
        assert ledger.erasures.still_said(["DOG barks", SENTINEL]) == {"DOG barks"}

    def test_old_recalls_are_blanked_by_the_clock(self, ledger: Ledger) -> None:
        told = samples.episode(ALICE, "the dog barks")
        said = samples.fact(ALICE, "the dog barks")
        ledger.commit(samples.batch(said, episode=told))
        row = samples.recall_row(ALICE, said, query="who barks?")
        ledger.record_recall(row)
        ledger.record_usage(UsageRow(row.id, ALICE, samples.START, "The dog.", []))
        later = samples.START + timedelta(days=1)
        assert ledger.erasures.blank_before(ALICE, samples.START) == 0
        assert ledger.erasures.blank_before(ALICE, later) == 1
        assert ledger.erasures.blank_before(ALICE, later) == 0
        assert ledger.audit.verify().ok
        (now,) = [item for item in (ledger.recall(row.id),) if item]
        assert (now.query, now.shown) == ("", [said.id])
        assert [item.response for item in ledger.usage(row.id)] == [""]
        assert ledger.facts([said.id]) == [said]

    def test_holds_are_kept_until_they_are_released(self, ledger: Ledger, another: Ledger) -> None:
        (said,) = samples.add(ledger, _BELOW, ["the dog barks"])
        whole = Hold("h1", ALICE, "case 7", samples.PRINCIPAL, samples.START)
        one = Hold("h2", _BELOW, "case 8", samples.PRINCIPAL, samples.START + timedelta(days=1), fact_id=said.id)
        ledger.erasures.place_hold(one)
        ledger.erasures.place_hold(whole)
        assert another.erasures.holds() == [whole, one]
        assert whole.covers(said)
        assert one.covers(said)
        assert not whole.covers(samples.fact(_STRANGER, "elsewhere"))
        assert ledger.erasures.release_hold("h1", "user:judge", samples.START)
        assert not ledger.erasures.release_hold("h1", "user:judge", samples.START)
        assert another.erasures.holds() == [one]
        (past, _) = another.erasures.holds(released=True)
        assert (past.id, past.released_by, past.covers(said)) == ("h1", "user:judge", False)

    def test_scrubbing_says_what_it_did(self, ledger: Ledger) -> None:
        (gone,) = samples.add(ledger, ALICE, [SENTINEL])
        ledger.commit(erasing(gone))
        done = ledger.erasures.scrub()
        assert all(isinstance(line, str) and line for line in done.values())
        assert ledger.erasures.scrub(thorough=True)
        needle = b"uartzfish"
        for path in ledger.erasures.files():
            assert needle not in Path(path).read_bytes(), path
