"""Several processes on one store: nothing is lost, nothing doubled, and the history is one serial order."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_remote import SCOPE, Remote, RemoteDied

from engram_core import Engram
from engram_core.domain.scope import Scope
from engram_core.testing.fakes import WordHashEmbedder
from engram_core.testing.samples import outbox, state

PROCESSES = 4
ADDS = 9


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    found: str = request.getfixturevalue("postgres_url") if request.param == "postgresql" else str(tmp_path / "store")
    return found


def test_writers_in_one_scope_lose_nothing(url: str) -> None:
    remotes = [Remote() for _ in range(PROCESSES)]
    acknowledged: list[str] = []
    try:
        for other in remotes:
            other.send("open", url=url, exact_limit=20)
        for other in remotes:
            assert other.answer()
        for number in range(ADDS):
            for who, other in enumerate(remotes):
                other.send("add", texts=[f"process {who} says number {number} of the red cat"], session="shared")
        for _ in range(ADDS):
            for other in remotes:
                acknowledged += other.answer()
        answers = [other.ask("recall", query="number 7 of the red cat", k=20)["facts"] for other in remotes]
        assert all(found == answers[0] for found in answers)
        assert len(answers[0]) == 20
        for other in remotes:
            assert other.ask("close")
    except RemoteDied as death:
        pytest.fail(f"a process died: {death}")
    finally:
        for other in remotes:
            other.__exit__(None, None, None)

    assert len(set(acknowledged)) == len(acknowledged) == PROCESSES * ADDS
    with Engram.open(url, index="exact", embedder=WordHashEmbedder()) as engram:
        facts = engram.memory(SCOPE).list(limit=1_000)
        assert {fact.id for fact in facts} == set(acknowledged)
        assert len({fact.text for fact in facts}) == len(facts)
        assert all([item.action for item in engram.memory(SCOPE).history(fact.id)] == ["add"] for fact in facts)
        rows = {row.id: row for row in outbox(engram.context.ledger, state(engram.context.ledger, Scope(SCOPE)).id)}
    # Every statement was planned on the one before it: the session is one chain, without forks and gaps.
    (first,) = [row for row in rows.values() if row.previous is None]
    chain = [first.id]
    while rows[chain[-1]].following is not None:
        following = rows[chain[-1]].following
        assert rows[following].previous == chain[-1]  # type: ignore[index]
        chain.append(following)  # type: ignore[arg-type]
    assert len(chain) == len(set(chain)) == len(rows)
