"""Everything that is done leaves an entry, and what changes something leaves it before its call returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engram_core import Engram, Message

WHO = "user:curator"
SCOPE = "acme/a"
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Engram]:
    """A store with facts, a gap, a proposal, an erasure, and a curator who may do everything."""
    with Engram.open(tmp_path / "store", index="exact") as engram:
        engram.grant(WHO, "owner", "acme")
        memory = engram.memory(SCOPE)
        memory.add(["I like green tea.", "I am allergic to peanuts."], now=NOW)
        asked = Message("user", "What's my parking space?", session="q")
        answer = Message("assistant", "I'm sorry, I don't have that information.", session="q", channel="assistant")
        memory.add([asked, answer], now=NOW)
        memory.reflect()
        memory.erase(memory.list()[0].id)
        yield engram


VERBS: dict[str, tuple[str, Callable[[Engram, Any, Path], object]]] = {
    "policy": ("read", lambda e, m, p: m.policy),
    "policy_history": ("read", lambda e, m, p: m.policy_history()),
    "propose": ("curate", lambda e, m, p: m.propose(max_facts=400)),
    "approve": ("curate", lambda e, m, p: e.approve(m.propose(max_facts=400).id, principal=WHO)),
    "reject": ("curate", lambda e, m, p: e.reject(m.propose(max_facts=400).id, principal=WHO)),
    "roll_back": (
        "curate",
        lambda e, m, p: e.rollback(e.approve(m.propose(max_facts=400).id, principal=WHO).id, principal=WHO),
    ),
    "gaps": ("read", lambda e, m, p: m.gaps()),
    "dismiss_gap": ("curate", lambda e, m, p: m.dismiss_gap(m.gaps()[0].id)),
    "reflect": ("curate", lambda e, m, p: m.reflect()),
    "evolve": ("curate", lambda e, m, p: m.evolve()),
    "consolidate": ("curate", lambda e, m, p: m.consolidate()),
    "sleep": ("curate", lambda e, m, p: e.sleep(SCOPE, principal=WHO)),
    "scan": ("curate", lambda e, m, p: e.scan(SCOPE, principal=WHO)),
    "hold": ("admin", lambda e, m, p: m.hold(reason="case 7")),
    "release_hold": ("admin", lambda e, m, p: m.release_hold(m.hold(reason="case 7").id)),
}
OWNERS: dict[str, tuple[str, Callable[[Engram, Any, Path], object]]] = {
    "gaps": ("read", lambda e, m, p: e.gaps()),
    "quarantined": ("read", lambda e, m, p: e.quarantined()),
    "backup": ("read", lambda e, m, p: e.backup(p / "b")),
    "scan": ("curate", lambda e, m, p: e.scan()),
    "sleep": ("curate", lambda e, m, p: e.sleep()),
    "lift_tombstones": ("admin", lambda e, m, p: e.lift_tombstones(e.erasures()[0]["id"])),
}
CASES = [
    *(pytest.param(WHO, name, *case, id=name) for name, case in VERBS.items()),
    *(pytest.param("user:owner", name, *case, id=f"store-{name}") for name, case in OWNERS.items()),
]


@pytest.mark.parametrize(("who", "operation", "verb", "act"), CASES)
def test_it_is_noted(
    store: Engram, tmp_path: Path, who: str, operation: str, verb: str, act: Callable[[Engram, Any, Path], object]
) -> None:
    start = store.audit_head().number
    act(store, store.memory(SCOPE, principal=WHO), tmp_path)
    if verb == "read":
        store.flush()
    found = [row.entry for row in store.audit(limit=100) if row.number > start and row.entry.operation == operation]
    assert [(entry.principal, entry.verb, entry.decision) for entry in found] == [(who, verb, "allowed")]
    assert store.verify().ok


def test_without_notes_of_reads_there_are_those_of_what_was_done(tmp_path: Path) -> None:
    with Engram.open(tmp_path / "store", index="exact", audit="off") as store:
        memory = store.memory(SCOPE)
        memory.add("I like green tea.")
        memory.recall("tea?")
        memory.hold(reason="case 7")
        assert [row.entry.operation for row in store.audit()][:2] == ["hold", "add"]
