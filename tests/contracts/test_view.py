"""The real view against the plain one: the same candidates, columns and statistics, however they were found."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from engram_core import Engram, Message
from engram_core.design import Ask, Candidates
from engram_core.domain.fact import Slot
from engram_core.domain.scope import Scope
from engram_core.measure import words
from engram_core.operations.add import view_of
from engram_core.testing import samples
from engram_core.testing.fakes import WordHashEmbedder
from engram_core.testing.plain_view import PlainView

OWN = Scope("acme/support/alice")
NOW = samples.START + timedelta(days=30)
TEXTS = (
    "I moved to Lisbon in May",
    "the red cat sat on the mat",
    "Did the cat sleep?",
    "a green dog ran home",
    "it rained all winter",
    "the cat came back in July 2026",
    "my sister plays the phone game",
)
COLUMNS = (
    "content", "context", "body_counts", "context_counts", "body_length", "context_length", "said_at", "time_words",
    "asks", "importance", "usefulness",
)  # fmt: skip


@pytest.fixture(params=["scanned", "searched"])
def engram(request: pytest.FixtureRequest) -> Iterator[Engram]:
    """A store with facts in three scopes, small enough to scan or, by its limit, large enough to be searched."""
    limit = 1_000 if request.param == "scanned" else 0
    with Engram.open(":memory:", embedder=WordHashEmbedder(), exact_limit=limit) as engram:
        for place, scope in enumerate((*OWN.lineage, Scope("acme-corp"), Scope("acme/support/bob"))):
            messages = [
                Message(
                    "user",
                    f"{text} {scope.levels[-1]}",
                    speaker="Alice" if number % 2 else "Bob",
                    session=f"s{number // 3}",
                )
                for number, text in enumerate(TEXTS)
            ]
            facts = engram.memory(scope).add(messages, now=samples.START + timedelta(days=place)).facts
            engram.memory(scope).forget(facts[3].id)
        for path in (OWN.path, "acme/support/bob", "acme"):
            for answer in ("the red cat sat", "a green dog ran home", None):
                observed = engram.memory(path).recall("What did the animals do?", k=6)
                engram.memory(path).observe(observed.id, answer)
        yield engram


def ask(question: str, **options: Any) -> Ask:
    vector = WordHashEmbedder().embed([question])[0]
    return Ask(vector=vector, words=tuple(words.stems(question)), **options)


def views(engram: Engram) -> tuple[Any, PlainView]:
    real, _ = view_of(engram.context, OWN, NOW, readable=OWN.lineage)
    return real, PlainView(engram.context.ledger, OWN, NOW, OWN.lineage, embedder=WordHashEmbedder())


def rows(found: Candidates) -> dict[str, dict[str, Any]]:
    """Every column by fact id, with links as ids."""
    by_id = {}
    for row, id_ in enumerate(found.ids):
        values = {name: np.round(getattr(found, name)[row], 5).tolist() for name in COLUMNS}
        values |= {"speaker": found.speakers[row], "kind": found.kinds[row]}
        for name in ("previous", "following"):
            link = int(getattr(found, name)[row])
            values[name] = found.ids[link] if link >= 0 else None
        by_id[id_] = values
    assert len(by_id) == len(found)
    return by_id


@pytest.mark.parametrize("question", ["the red cat", "Where did Alice move in July?", "nothing of the kind xyzzy"])
def test_candidates_equal_the_plain_view(engram: Engram, question: str) -> None:
    real, plain = views(engram)
    found, wanted = real.candidates(ask(question)), plain.candidates(ask(question))
    assert rows(found) == rows(wanted)
    assert len(found) == 3 * (len(TEXTS) - 1)
    assert len(set(found.usefulness.tolist())) > 2
    for name in ("facts", "body_words", "context_words"):
        assert getattr(found.statistics, name) == getattr(wanted.statistics, name)
    for name in ("body_df", "context_df"):
        assert getattr(found.statistics, name).tolist() == getattr(wanted.statistics, name).tolist()


def test_sessions_are_told_apart_by_scope(engram: Engram) -> None:
    real, plain = views(engram)

    def groups(found: Candidates) -> set[frozenset[str]]:
        codes = {int(code) for code in found.session if code >= 0}
        return {
            frozenset(id_ for id_, code in zip(found.ids, found.session, strict=True) if code == one) for one in codes
        }

    assert groups(real.candidates(ask("the red cat"))) == groups(plain.candidates(ask("the red cat")))
    assert len(groups(plain.candidates(ask("the red cat")))) == 9


def test_people_and_facts_equal_the_plain_view(engram: Engram) -> None:
    real, plain = views(engram)
    assert real.speakers() == plain.speakers() == {"Alice", "Bob"}
    every = [fact.id for path in engram.scopes() for fact in engram.memory(path).list(status="all")]
    assert {fact.id for fact in real.facts(every)} == {fact.id for fact in plain.facts(every)}
    assert {fact.scope for fact in real.facts(every)} == set(OWN.lineage)
    assert real.model is None
    assert np.allclose(real.embed(["the red cat"]), plain.embed(["the red cat"]), atol=1e-6)


def test_a_narrow_ask_finds_the_nearest(engram: Engram) -> None:
    real, plain = views(engram)
    found = real.candidates(ask("the red cat sat on the mat alice", breadth=1))
    wanted = plain.candidates(ask("the red cat sat on the mat alice"))
    vector = WordHashEmbedder().embed(["the red cat sat on the mat alice"])[0]
    best = wanted.ids[int(np.argmax(wanted.context @ vector))]
    assert best in found.ids
    if found.complete:
        assert len(found) == len(wanted)


def test_alike_facts_are_of_this_very_scope_and_share_rare_words(engram: Engram) -> None:
    real, plain = views(engram)
    texts = [TEXTS[0], TEXTS[1], "nothing of the kind xyzzy"]
    found, wanted = real.alike(texts, 3, ["one more"]), plain.alike(texts, 3, ["one more"])
    assert found.vectors.shape == wanted.vectors.shape
    assert np.allclose(found.vectors, wanted.vectors, atol=1e-3)
    assert (found.facts, found.df) == (wanted.facts, wanted.df)
    for near in found.found:
        assert len(near) <= 3
        assert all(fact.scope == OWN and fact.is_recallable for fact, _ in near)
    assert found.found[0][0].cosine > 0.8
    assert list(found.found[2]) == []


def test_holders_equal_the_plain_view(engram: Engram) -> None:
    engram.memory(OWN).add(Message("user", "I live in Lisbon.", speaker="Alice"))
    real, plain = views(engram)
    slot = Slot("alice", "location")
    assert [fact.text for fact in real.holders([slot])] == ["I live in Lisbon."]
    assert real.holders([slot]) == plain.holders([slot])
