"""Ledger contract, part four: what forgetting reads and writes, and the versions of policies."""

from __future__ import annotations

from datetime import timedelta

from engram_core.domain.fact import Status
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.scope import Scope
from engram_core.ports import ForgetScore, Ledger
from engram_core.testing import samples
from engram_core.testing.ledger_commits import ALICE, LedgerFixtures


class ForgettingClauses(LedgerFixtures):
    """Standings, scores and policy versions."""

    def test_standings_are_the_recallable_facts_as_they_are(self, ledger: Ledger) -> None:
        later = samples.START + timedelta(days=3)
        plain, gone, odd = (
            samples.fact(ALICE, "the cat sleeps", session="s1", importance=0.25, trust=0.5),
            samples.fact(ALICE, "the dog barks", session="s2"),
            samples.fact(
                ALICE, "héllo 漢字", kind="event", pinned=True, valid_until=later, restored_at=later,
                superseded_by=samples.new_id(), status=Status.PENDING,
            ),
        )  # fmt: skip
        ledger.commit(samples.batch(plain, gone, odd))
        ledger.commit(samples.archived(gone)[1])
        samples.add(ledger, "acme/other", ["not here"])
        first, second = ledger.standings(samples.state(ledger, ALICE).id)
        assert (first.id, first.kind, first.importance, first.trust, first.pinned) == (
            plain.id, "observation", 0.25, 0.5, 0,
        )  # fmt: skip
        assert first.created_at == first.said_at == plain.said_at.timestamp()
        assert (first.session, first.length, first.forget_score) == ("s1", len(plain.text), None)
        assert (first.restored_at, first.valid_until, first.superseded_by) == (None, None, None)
        assert (second.id, second.kind, second.pinned, second.session) == (odd.id, "event", 1, None)
        assert second.length == len(odd.text)
        assert second.restored_at == second.valid_until == later.timestamp()
        assert second.superseded_by == odd.superseded_by

    def test_a_restoring_is_kept_with_the_fact(self, ledger: Ledger) -> None:
        (said,) = samples.add(ledger, ALICE, ["the cat sleeps"])
        after, batch = samples.changed(said, restored_at=samples.START)
        ledger.commit(batch)
        assert ledger.facts([said.id]) == [after]
        assert ledger.facts([said.id])[0].restored_at == samples.START

    def test_twins_said_the_same_and_came_the_same_way(self, ledger: Ledger) -> None:
        own = samples.add(ledger, ALICE, ["The cat sleeps", "the cat sleeps.", "the dog sleeps", "..."])
        twins = [row.twin for row in ledger.standings(samples.state(ledger, ALICE).id)]
        assert len(own) == len(twins)
        assert twins[0] == twins[1]
        assert twins[0] != twins[2]
        assert twins[3] == ""

    def test_sessions_start_with_their_first_statement_archived_or_not(self, ledger: Ledger) -> None:
        times = [samples.START + timedelta(hours=hours) for hours in (5, 2, 9, 1)]
        facts = [
            samples.fact(ALICE, f"statement {number}", session=session, said_at=at)
            for number, (session, at) in enumerate(zip(("s1", "s1", "s2", None), times, strict=True))
        ]
        ledger.commit(samples.batch(*facts))
        for said in (facts[1], facts[2]):
            ledger.commit(samples.archived(said)[1])
        starts = ledger.session_starts(samples.state(ledger, ALICE).id)
        assert starts == {"s1": times[1].timestamp(), "s2": times[2].timestamp()}

    def test_a_score_changes_nothing_else(self, ledger: Ledger, another: Ledger) -> None:
        facts = samples.add(ledger, ALICE, [f"statement number {number}" for number in range(700)])
        before = samples.state(ledger, ALICE)
        rows = samples.outbox(ledger, before.id)
        terms = {"low_importance": 0.25, "unused": 0.375}
        ledger.save_scores([])
        ledger.save_scores([ForgetScore(said.id, 0.625, terms) for said in facts] + [ForgetScore("unknown", 1.0, {})])
        assert samples.state(another, ALICE) == before
        assert samples.outbox(another, before.id) == rows
        (found,) = another.facts([facts[600].id])
        assert (found.forget_score, found.forget_terms, found.version) == (0.625, terms, 1)
        assert {row.forget_score for row in another.standings(before.id)} == {0.625}
        assert [item.action for item in ledger.history(facts[0].id)] == ["add"]

    def test_policy_versions_come_in_the_order_they_were_set(self, ledger: Ledger, another: Ledger) -> None:
        acme, other = Scope("acme"), Scope("other")
        set_ = [(acme, 100), (ALICE, 200), (other, 300), (acme, 400)]
        for own, (scope, budget) in zip((ledger, another) * 2, set_, strict=True):
            own.set_policy(scope, MemoryPolicy(token_budget=budget), "user:ann", samples.START)
        found = another.policy_versions([ALICE, acme, Scope("unknown")])
        assert [(item.scope, item.version, item.policy.token_budget) for item in found] == [
            (acme, 1, 100), (ALICE, 1, 200), (acme, 2, 400),
        ]  # fmt: skip
        assert {(item.principal, item.at) for item in found} == {("user:ann", samples.START)}
        assert ledger.policy_versions([]) == []
