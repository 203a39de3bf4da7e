"""Ledger contract, part six: the diary: episodes and recalls in order, and the gaps found in them. Clauses only."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from engram_core.domain.gap import Gap, GapState, Lapse
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.ports import Batch, Ledger, Reflected, UsageRow
from engram_core.testing import samples
from engram_core.testing.ledger_commits import ALICE, LedgerFixtures

_BELOW = Scope("acme/support/alice/notes")
_BESIDE = Scope("acme/support/alice_2")


def _gap(scope: Scope, question: str, *, state: GapState = "open", hours: int = 0) -> Gap:
    at = samples.START + timedelta(hours=hours)
    lapse = Lapse("unknown", question, "I don't know \ud83d.", at, "Ana", samples.new_id(), None, "m1")
    return Gap(samples.new_id(), scope, question, (lapse,), state, Reason("no_evidence", "None."), at, None, ("m1",))


class DiaryClauses(LedgerFixtures):
    """The diary."""

    def test_episodes_come_back_in_the_order_they_were_kept(self, ledger: Ledger, another: Ledger) -> None:
        told = [samples.episode(scope, text) for scope, text in ((ALICE, "one"), (_BELOW, "no"), (ALICE, "two"))]
        for episode in told:
            ledger.commit(Batch(episode.scope, episode=episode))
        found = another.diary.episodes(ALICE, 0, 10)
        assert [episode for _, episode in found] == [told[0], told[2]]
        assert [episode for _, episode in another.diary.episodes(ALICE, found[0][0], 10)] == [told[2]]
        assert another.diary.episodes(ALICE, 0, 1) == found[:1]

    def test_recalls_come_with_the_last_verdict(self, ledger: Ledger, another: Ledger) -> None:
        rows = [samples.recall_row(ALICE, at=samples.START + timedelta(hours=hour)) for hour in (1, 0, 2)]
        for row in (*rows, samples.recall_row(_BELOW)):
            ledger.record_recall(row)
        for answer in ("first", "last"):
            ledger.record_usage(UsageRow(rows[0].id, ALICE, samples.START, answer, ()))
        found = another.diary.asked(ALICE, None, 10)
        assert [item.recall for item in found] == [rows[1], rows[0], rows[2]]
        assert [item.usage.response if item.usage else None for item in found] == [None, "last", None]
        assert another.diary.asked(ALICE, rows[0].at, 1) == found[1:2]

    def test_a_reflection_is_kept_whole(self, ledger: Ledger, another: Ledger) -> None:
        assert ledger.diary.reflected(ALICE) == Reflected()
        gaps = [_gap(ALICE, "Where?"), _gap(ALICE, "When?", hours=1)]
        ledger.diary.save_reflection(ALICE, gaps, Reflected(7, samples.START))
        assert another.diary.reflected(ALICE) == Reflected(7, samples.START)
        assert another.diary.gaps(ALICE, below=False) == [gaps[1], gaps[0]]
        filled = replace(gaps[0], state="filled", fact_id="f", evidence=("a", "b"), updated_at=samples.START)
        ledger.diary.save_reflection(ALICE, [filled], Reflected(9, None))
        assert another.diary.gap(filled.id) == filled
        assert another.diary.reflected(ALICE) == Reflected(9, None)
        assert another.diary.gap(samples.new_id()) is None

    def test_gaps_are_found_by_place_and_state(self, ledger: Ledger) -> None:
        own, below, beside = (_gap(scope, "Where?") for scope in (ALICE, _BELOW, _BESIDE))
        closed = _gap(ALICE, "When?", state="closed", hours=-1)
        for gap in (own, below, beside, closed):
            ledger.diary.save_reflection(gap.scope, [gap], Reflected())

        def ids(*found: Gap) -> set[str]:
            return {gap.id for gap in found}

        diary = ledger.diary
        assert ids(*diary.gaps(ALICE, below=False)) == ids(own, closed)
        assert ids(*diary.gaps(ALICE, below=True)) == ids(own, closed, below)
        assert ids(*diary.gaps(None, below=True)) == ids(own, closed, below, beside)
        assert ids(*diary.gaps(ALICE, below=True, states=("open",))) == ids(own, below)
        assert len(diary.gaps(None, below=True, limit=2)) == 2
