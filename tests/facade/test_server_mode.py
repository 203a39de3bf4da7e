"""One walk through everything a store does, on a directory and on PostgreSQL with a Chroma server: the same answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support_stores import ChromaServer, place

from engram_core import AccessDenied, Engram, FactNotFound, Message
from engram_core.storage import chroma

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ALICE = "acme/support/alice"
PLACES = ["sqlite", "server"]
FACTS = [
    "I live in Lisbon, near the river.",
    "My sister Clara visits me on 3 June.",
    "I adopted a cat called Miso.",
    "I prefer green tea to coffee.",
    "The billing portal of Acme moved to a new address.",
    "I play chess with Ben every Thursday evening.",
]


class Walk:
    """A store in use, and what it answered. Every recall is answered by the index, never by exact search."""

    def __init__(self, engram: Engram) -> None:
        self.engram = engram
        self.memory = engram.memory(ALICE)
        self.told: list[Any] = []

    def asks(self, question: str, memory: Any = None, **options: Any) -> Any:
        assert self.engram.flush(30)
        recall = (memory or self.memory).recall(question, k=4, now=NOW + DAY, **options)
        assert not recall.degraded
        shown = [(item.fact.text, item.fact.scope.path, round(item.score, 4)) for item in recall.facts]
        self.told.append((question, shown, sorted(item.reason.rule for item in recall.dropped)))
        return recall

    def remembers(self) -> None:
        messages = [
            Message("user", text, speaker="Alice", session="s", id=f"m{n}", at=NOW + timedelta(minutes=n))
            for n, text in enumerate(FACTS)
        ]
        self.told.append(self.memory.add([*messages, messages[0]], now=NOW).counts)
        self.engram.memory("acme/support").add("Support answers within a day.", now=NOW)
        self.asks("Where does Alice live?")
        self.asks("How fast does support answer?")

    def observes(self) -> None:
        recall = self.asks("What is the cat called?")
        usage = self.memory.observe(recall.id, "Your cat is called Miso.", now=NOW + DAY)
        self.told.append([len(part) for part in (usage.used, usage.unused, usage.unknown)])
        self.asks("What is the cat called?")

    def supersedes(self) -> None:
        self.memory.add(Message("user", "I moved to Porto last week.", speaker="Alice", id="m9"), now=NOW + DAY)
        self.asks("Where does Alice live?")
        self.asks("Where does Alice live?", as_of=NOW + timedelta(hours=1))
        self.told.append(sorted((fact.text, fact.status.value) for fact in self.memory.list(status="all")))

    def forgets_and_restores(self) -> None:
        (tea,) = [fact for fact in self.memory.list() if "tea" in fact.text]
        self.memory.forget(tea.id, reason="asked", now=NOW + DAY)
        assert tea.id not in {item.fact.id for item in self.asks("green tea or coffee?").facts}
        self.memory.restore(tea.id, reason="asked again", now=NOW + DAY)
        assert self.asks("green tea or coffee?").facts[0].fact.id == tea.id
        self.told.append([decision.action for decision in self.memory.history(tea.id)])

    def obeys_a_policy(self) -> None:
        self.memory.set_policy(max_facts=4, auto_forget=True, protect_days=0, now=NOW + DAY)
        plan = self.engram.sleep(scope=ALICE, now=NOW + 60 * DAY, dry_run=True)
        night = self.engram.sleep(scope=ALICE, now=NOW + 60 * DAY)
        self.told.append((dict(plan.totals), dict(night.totals)))
        self.asks("What about chess and Ben?")

    def asks_who_it_is(self) -> None:
        stranger = self.engram.memory(ALICE, principal="agent:other")
        with pytest.raises(AccessDenied):
            stranger.recall("Where does Alice live?")
        self.engram.grant("agent:other", "read", ALICE)
        self.asks("Where does Alice live?", stranger)
        with pytest.raises(AccessDenied):
            stranger.add("I may not.")

    def erases(self) -> None:
        (cat,) = [fact for fact in self.memory.list(status="all") if "Miso" in fact.text]
        report = self.memory.erase(cat.id)
        self.told.append((report.state, {kind: len(ids) for kind, ids in report.facts.items()}))
        with pytest.raises(FactNotFound):
            self.memory.get(cat.id)
        self.asks("What is the cat called?")
        again = Message("user", "I adopted a cat called Miso.", speaker="Alice", id="m10")
        self.told.append([outcome.reason.rule for outcome in self.memory.add(again, now=NOW + DAY).outcomes])
        self.told.append(self.engram.doctor()["problems"])
        self.told.append(self.engram.verify().to_dict()["problems"])


def walked(where: dict[str, Any]) -> list[Any]:
    """What a store there answers, from its first fact to an erasure, closed and opened again on the way."""
    steps = [
        Walk.remembers, Walk.observes, Walk.supersedes, Walk.forgets_and_restores, Walk.obeys_a_policy,
        Walk.asks_who_it_is, Walk.erases,
    ]  # fmt: skip
    told: list[Any] = []
    for half in (steps[:3], steps[3:]):
        with Engram.open(**where) as engram:
            walk = Walk(engram)
            for step in half:
                step(walk)
            told += walk.told
    return told


def test_a_walk_on_servers_gives_the_same_answers(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    answers = {}
    for name in PLACES:
        request.param = name
        answers[name] = walked({"exact_limit": 0} | place(request, tmp_path))
    assert answers["server"] == answers["sqlite"]


def test_an_erased_fact_is_in_no_collection_and_no_row(
    postgres_url: str, chroma_server: ChromaServer, tmp_path: Path
) -> None:
    import psycopg

    with Engram.open(postgres_url, index=chroma_server.url, exact_limit=0) as engram:
        memory = engram.memory(ALICE)
        (fact, *_) = memory.add(["The quartzfish sleeps.", *FACTS], now=NOW).facts
        recall = memory.recall("Where is the quartzfish?")
        memory.observe(recall.id, "The quartzfish sleeps.")
        assert engram.flush(30)
        assert fact.id in held_by(chroma_server)
        assert memory.erase(fact.id).state == "done"
        assert fact.id not in held_by(chroma_server)
    with psycopg.connect(postgres_url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            rows = connection.execute(f'SELECT CAST(t.* AS TEXT) FROM "{table}" t').fetchall()  # type: ignore[arg-type]
            assert not [row for (row,) in rows if "quartzfish" in row.lower()], table


def held_by(server: ChromaServer) -> set[str]:
    """Every id in every collection."""
    index = chroma.server(server.url)
    try:
        return {id_ for name in index.names() for id_ in index.ids(name)}
    finally:
        index.close()
