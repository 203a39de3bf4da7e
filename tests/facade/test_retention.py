"""Retention clocks: what the policy says goes for good at night, and what stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from engram_core import Engram

ALICE = "acme/support/alice"
START = datetime(2026, 3, 1, 9, tzinfo=UTC)
LATER = START + timedelta(days=100)


def test_the_night_erases_what_was_archived_too_long_ago(tmp_path: Path) -> None:
    with Engram.open(tmp_path) as engram:
        memory = engram.memory(ALICE)
        texts = ("The dog barks at night.", "My badge is Xqret7zv.", "The invoice was paid.", "I live in Lisbon.")
        kept, gone, held, old = (memory.add(text, now=START).facts[0] for text in texts)
        memory.add("I live in Porto now.", supersedes=old.id, now=START)
        for fact in (gone, held):
            memory.forget(fact.id, now=START)
        memory.hold(held.id, reason="case 7")
        recall = memory.recall("who barks?", now=START)
        memory.observe(recall.id, "The dog.", now=START)
        engram.sleep(now=LATER)
        assert memory.get(gone.id).text, "nothing goes unless the policy says so"
        memory.set_policy(erase_archived=True, retain_archived_days=90)
        assert engram.sleep(now=START + timedelta(days=80)).scopes[0].retention["erased"] == []
        plan = engram.sleep(now=LATER, dry_run=True).scopes[0].retention
        assert set(plan["erased"]) == {gone.id, old.id}
        assert plan["kept"] == {held.id: "held"}
        assert memory.get(gone.id).text, "a rehearsal erases nothing"
        done = engram.sleep(now=LATER).scopes[0]
        assert set(done.retention["erased"]) == {gone.id, old.id}
        assert done.is_eventful
        assert {fact.id for fact in memory.list(status="all")} >= {kept.id, held.id}
        assert gone.id not in {fact.id for fact in memory.list(status="all")}
        assert b"Xqret7zv" not in (tmp_path / "engram.db").read_bytes()
        row = engram.context.ledger.recall(recall.id)
        assert row is not None
        assert row.query == "who barks?"
        memory.set_policy(retain_recalls_days=30)
        engram.release_hold(engram.holds()[0].id)
        assert engram.sleep(now=LATER).scopes[0].retention["recalls"] == 1
        row = engram.context.ledger.recall(recall.id)
        assert row is not None
        assert row.query == ""
