"""Clauses of the ledger contract about screening: statements with the same words, and what waits in quarantine."""

from __future__ import annotations

from dataclasses import replace

from engram_core.domain.fact import Origin, Status
from engram_core.domain.scope import Scope
from engram_core.ports import Ledger, Waiting
from engram_core.testing import samples

ALICE = Scope("acme/alice")
CORP = Scope("acme-corp/alice")
ACME = Scope("acme")


class ScreeningClauses:
    """What `ScreeningBook` finds; see `engram_core.testing.ledger_contract`."""

    def test_same_words_finds_what_says_the_same_here_and_can_be_heard(self, ledger: Ledger) -> None:
        said = samples.fact(ALICE, "the red cat sleeps")
        waiting = samples.fact(ALICE, "the red cat sleeps", status=Status.QUARANTINED)
        other = samples.fact(ALICE, "the blue dog runs")
        elsewhere = samples.fact(CORP, "the red cat sleeps")
        gone = samples.fact(ALICE, "the red cat sleeps")
        ledger.commit(samples.batch(said, waiting, other, gone))
        ledger.commit(samples.batch(elsewhere))
        ledger.commit(samples.archived(gone)[1])
        key = samples.features(said).key
        assert ledger.screening.same_words(ALICE, [key, "no such key", ""]) == {key: [said, waiting]}
        assert ledger.screening.same_words(ACME, [key]) == {}
        assert ledger.screening.same_words(ALICE, []) == {}

    def test_what_waits_is_listed_by_scope_oldest_first(self, ledger: Ledger) -> None:
        facts = [
            samples.fact(scope, f"planted {number}", status=Status.QUARANTINED)
            for number, scope in enumerate((ALICE, CORP, ALICE, ACME))
        ]
        for fact in facts:
            ledger.commit(samples.batch(fact))
        ledger.commit(samples.batch(samples.fact(ALICE, "a live one")))
        book = ledger.screening
        assert book.quarantined(None, below=True) == facts
        assert book.quarantined(ALICE, below=True) == [facts[0], facts[2]]
        assert book.quarantined(ACME, below=True) == [facts[0], facts[2], facts[3]]
        assert book.quarantined(ACME, below=False) == [facts[3]]
        assert book.quarantined(ALICE, below=True, after=facts[0].id) == [facts[2]]
        assert book.quarantined(None, below=True, limit=1) == facts[:1]
        assert book.quarantined(ALICE, below=True, after="no such id") == []

    def test_texts_are_covered_in_their_scopes_and_nowhere_else(self, ledger: Ledger) -> None:
        for scope in (ALICE, CORP):
            fact = samples.fact(scope, "the red cat sleeps")
            episode = samples.episode(scope, "the red cat sleeps", "nothing here")
            ledger.commit(replace(samples.batch(fact), episode=episode))
            ledger.record_recall(samples.recall_row(scope, fact, query="where is the red cat?"))
        (alice,) = ledger.screening.stored(ALICE, limit=10)
        assert [fact.scope for fact in ledger.screening.stored(None, limit=10)] == [ALICE, CORP]
        assert ledger.screening.stored(ALICE, limit=10, after=alice.id) == []

        def clean(text: str) -> str:
            return text.replace("red cat", "[covered]")

        dry = ledger.screening.cover([ALICE], clean, dry_run=True)
        assert {"episodes": 1, "recalls": 1}.items() <= dry.items()
        assert ledger.screening.cover([ALICE], clean, dry_run=False) == dry
        assert ledger.screening.cover([ALICE], clean, dry_run=False) == {}
        (row,) = ledger.recalls_of(alice.id, 5)
        assert row.query == "where is the [covered]?"
        assert ledger.facts([alice.id])[0].text == "the red cat sleeps"
        assert ledger.screening.cover(None, clean, dry_run=True)["recalls"] == 1

    def test_what_waits_is_counted_by_origin(self, ledger: Ledger) -> None:
        by_agent = Origin("agent:x", "web")
        facts = [
            samples.fact(ALICE, f"page {number}", origin=by_agent, status=Status.QUARANTINED) for number in range(2)
        ]
        own = samples.fact(ALICE, "mine", status=Status.QUARANTINED)
        ledger.commit(samples.batch(*facts, own, samples.fact(ALICE, "live", origin=by_agent)))
        assert ledger.screening.waiting() == [
            Waiting(ALICE, "agent:x", "web", 2),
            Waiting(ALICE, samples.PRINCIPAL, "user", 1),
        ]
        after = replace(own, status=Status.LIVE)
        ledger.commit(samples.changed(own, status=after.status)[1])
        assert [item.facts for item in ledger.screening.waiting()] == [2]
