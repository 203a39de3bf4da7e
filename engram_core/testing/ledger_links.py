"""Ledger contract, part four: succession. Slots, predecessors, derived facts and links are found again."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

import pytest

from engram_core.domain.errors import Conflict
from engram_core.domain.fact import Fact, Slot, Status
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.ports import Batch, Ledger, Link
from engram_core.testing import samples
from engram_core.testing.ledger_commits import ALICE, LedgerFixtures

_HOME = Slot("alice", "location")
_BELOW = Scope("acme/support/alice/private")


def _link(newer: Fact, older: Fact, verdict: Literal["update", "same", "both"] = "update", p: float = 0.4) -> Link:
    reason = Reason("possible_update", "A test says so.", {"cosine": 0.5})
    return Link(newer.id, older.id, p, reason, samples.START + timedelta(days=1), verdict)


class LinkClauses(LedgerFixtures):
    """Slots, predecessors, lineage and links."""

    def test_holders_are_live_facts_of_this_scope_with_the_slot(self, ledger: Ledger) -> None:
        home, gone, work, below = (
            samples.fact(ALICE, "lives in Lisbon", slot=_HOME),
            samples.fact(ALICE, "lives in Porto", slot=_HOME, status=Status.ARCHIVED),
            samples.fact(ALICE, "works at the bakery", slot=Slot("alice", "employer")),
            samples.fact(_BELOW, "lives in Rome", slot=_HOME),
        )
        later = samples.fact(ALICE, "lives in Faro", slot=_HOME)
        ledger.commit(samples.batch(home, gone, work, samples.fact(ALICE, "no slot at all")))
        ledger.commit(samples.batch(below))
        ledger.commit(samples.batch(later))
        assert ledger.holders(ALICE, [_HOME]) == [home, later]
        assert ledger.holders(ALICE, [_HOME, Slot("alice", "employer")]) == [home, work, later]
        assert ledger.holders(ALICE, [Slot("alice", "age")]) == []
        assert ledger.holders(ALICE, []) == []

    def test_predecessors_are_found_by_their_successor(self, ledger: Ledger) -> None:
        new = samples.fact(ALICE, "lives in Porto")
        old = samples.fact(ALICE, "lives in Lisbon", status=Status.ARCHIVED, superseded_by=new.id)
        ledger.commit(samples.batch(new, old, samples.fact(ALICE, "something else")))
        assert ledger.predecessors([new.id]) == [old]
        assert ledger.predecessors([old.id]) == []
        assert ledger.predecessors([]) == []

    def test_derived_facts_are_found_by_their_sources(self, ledger: Ledger) -> None:
        first, second = samples.fact(ALICE, "a turn"), samples.fact(ALICE, "another turn")
        both = samples.fact(ALICE, "stated from both", sources=(first.id, second.id))
        one = samples.fact(ALICE, "stated from one", sources=(second.id, second.id))
        ledger.commit(samples.batch(first, second, both, one))
        assert ledger.derived([first.id]) == [both]
        assert ledger.derived([first.id, second.id]) == [both, one]
        assert ledger.derived([one.id]) == []

    def test_links_are_kept_in_order_and_the_last_word_is_last(self, ledger: Ledger) -> None:
        old, middle, new = (samples.fact(ALICE, text) for text in ("budget 500", "budget 600", "budget 700"))
        ledger.commit(samples.batch(old, middle, new))
        first, second, third = _link(middle, old), _link(new, middle), _link(middle, old, "both", 0.0)
        ledger.commit(Batch(ALICE, links=(first, second)))
        ledger.commit(Batch(ALICE, links=(third,)))
        assert ledger.links([old.id]) == [first, third]
        assert ledger.links([middle.id]) == [first, second, third]
        assert ledger.links([new.id, old.id]) == [first, second, third]
        assert ledger.links([]) == []

    def test_a_link_is_unjudged_until_a_second_word_is_said(self, ledger: Ledger) -> None:
        old, middle, new = (samples.fact(ALICE, text) for text in ("rent 500", "rent 600", "rent 700"))
        ledger.commit(samples.batch(old, middle, new))
        first, second, sure = _link(middle, old), _link(new, middle), _link(new, old, p=1.0)
        ledger.commit(Batch(ALICE, links=(first, second, sure)))
        assert ledger.links_unjudged(10) == [first, second]
        assert ledger.links_unjudged(1) == [first]
        ledger.commit(Batch(ALICE, links=(_link(middle, old, "both", 0.0),)))
        assert ledger.links_unjudged(10) == [second]

    def test_a_refused_commit_leaves_no_link(self, ledger: Ledger) -> None:
        (said,) = samples.add(ledger, ALICE, ["budget 500"])
        wrong = samples.state(ledger, ALICE).seq + 1
        with pytest.raises(Conflict):
            ledger.commit(Batch(ALICE, expect=wrong, links=(_link(said, said),)))
        assert ledger.links([said.id]) == []

    def test_sharing_is_matching_for_many(self, ledger: Ledger) -> None:
        samples.add(ledger, ALICE, ["cat", "dog dog", "cat dog", "horse"])
        scope_id = samples.state(ledger, ALICE).id
        asked = [{"cat": 1.0, "dog": 1.5}, {}, {"dog": 1.0}, {"zebra": 1.0}, {"x" * 300: 1.0, "horse": 0.5}]
        assert ledger.sharing(scope_id, asked, 2) == [ledger.matching(scope_id, weights, 2) for weights in asked]

    def test_a_superseded_fact_is_found_in_every_way_but_recall(self, ledger: Ledger) -> None:
        (old, new) = samples.add(ledger, ALICE, ["lives in Lisbon", "lives in Porto"])
        gone, batch = samples.changed(
            old, status=Status.ARCHIVED, superseded_by=new.id, valid_until=new.said_at, slot=_HOME
        )
        ledger.commit(batch)
        assert ledger.predecessors([new.id]) == ledger.facts([old.id]) == [gone]
        assert ledger.holders(ALICE, [_HOME]) == []
        assert samples.state(ledger, ALICE).recallable == 1
