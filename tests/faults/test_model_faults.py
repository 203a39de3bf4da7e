"""A chat model that answers with anything at all: no word is lost, no other scope is touched, every failure is counted."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engram_core import Engram, Message
from engram_core.domain.errors import ModelFailed
from engram_core.models.extraction import extract
from engram_core.testing import samples
from engram_core.testing.fakes import ScriptedModel, WordHashEmbedder

VICTIM = "acme/support/bob"
SCOPES = ("acme/support/alice", "acme/support", "acme/support/carol")
HOSTILE = (
    "\ud800",
    "\udfff\ud800",
    "\x00",
    "\u202e",
    "'; DROP TABLE facts; --",
    "</memory>",
    "🙂" * 9,
    "",
    " ",
    VICTIM,
)


class Liar:
    """Answers like a model that has gone wrong in one of many ways, and keeps what it answered, two tries an episode."""

    name = "liar"

    def __init__(self, seed: int, others: list[str]) -> None:
        self.chance = random.Random(seed)
        self.others = others
        self.pairs: list[list[str]] = []
        self._lock = threading.Lock()

    def complete(self, prompt: str) -> str:
        """Nonsense."""
        with self._lock:
            if '"number"' not in prompt:
                return self.chance.choice(("update", "both", "", "\ud800", '{"verdict": "update"}'))
            answer = self.chance.choice(KINDS)(self)
            if "previous answer was not usable" in prompt:
                self.pairs[-1].append(answer)
            else:
                self.pairs.append([answer])
            if answer == RAISE:
                raise ConnectionError("the model is away")
            return answer

    def items(self) -> list[dict[str, Any]]:
        """What a model should say, near enough, with ids of facts of another scope where ids have no business."""
        count = self.chance.choice((0, 1, 2, 5))
        return [self._item(number) for number in range(count)]

    def _item(self, number: int) -> dict[str, Any]:
        item: dict[str, Any] = {
            "text": f"Fact {len(self.pairs)} {number} {self.chance.choice(HOSTILE)} was stated.",
            "message": 1,
            "kind": self.chance.choice(("preference", "profile", "event")),
            "importance": self.chance.random(),
        }
        for key in ("id", "scope", "supersedes", "sources", "trust", "origin", "subject", "attribute", "pinned"):
            if self.chance.random() < 0.3:
                item[key] = self.chance.choice((*self.others, VICTIM, 1.0, True, None, [self.others[0]], {"x": 1}))
        return item


RAISE = "(raises)"


def _good(liar: Liar) -> str:
    return json.dumps(liar.items())


def _wrapped(liar: Liar) -> str:
    return f"Sure! Here is the list:\n```json\n{_good(liar)}\n```\nAnything else, {liar.chance.choice(HOSTILE)}?"


def _truncated(liar: Liar) -> str:
    text = json.dumps([liar._item(0)])
    return text[: liar.chance.randrange(len(text))]


def _flipped(liar: Liar) -> str:
    text = list(json.dumps([liar._item(0)]))
    for _ in range(liar.chance.choice((1, 3, 20))):
        text[liar.chance.randrange(len(text))] = liar.chance.choice('"[]{}:,\\\ud800x9')
    return "".join(text)


def _wrong_number(liar: Liar) -> str:
    return json.dumps([{**liar._item(0), "message": liar.chance.choice((0, 2, -1, 10**30, "1", None, 1.5))}])


def _huge(liar: Liar) -> str:
    return liar.chance.choice(("x", "[", '{"facts":', "\ud800")) * 2_000_000


def _away(liar: Liar) -> str:
    return RAISE


KINDS: tuple[Callable[[Liar], str], ...] = (
    *(_good, _wrapped) * 2, *(_truncated, _flipped, _wrong_number) * 3, _away, _huge,
)  # fmt: skip


def fails(pair: list[str]) -> bool:
    """Whether two answers hold no list of facts, asked of the extraction alone."""
    answers: list[str | Exception] = [ConnectionError("away") if answer == RAISE else answer for answer in pair]
    try:
        extract(samples.episode(samples.Scope("a"), "one message"), ScriptedModel(answers))
    except ModelFailed:
        return True
    return False


def campaign(place: Path, episodes: int, seed: int) -> Liar:
    """Add under a lying model; check what must hold; the model."""
    with Engram.open(place / "store", index="exact", embedder=WordHashEmbedder()) as engram:
        victim = engram.memory(VICTIM)
        victim.add([f"Bob's secret number {number} is {4711 + number}." for number in range(5)])
        others = [fact.id for fact in victim.list()]
    liar = Liar(seed, others)
    with Engram.open(place / "store", index="exact", embedder=WordHashEmbedder(), model=liar) as engram:
        victim = engram.memory(VICTIM)
        before = victim.list(status="all"), [victim.history(id_) for id_ in others]
        said: dict[str, str] = {}
        for number in range(episodes):
            memory = engram.memory(SCOPES[number % len(SCOPES)])
            text = f"Turn {number}: the red cat sat in house {number * 7} with {liar.chance.choice(HOSTILE[4:])}."
            (fact, *_) = memory.add(Message("user", text, session=f"s{number % 5}")).facts
            said[fact.id] = text
        assert engram.flush(300)
        assert engram.context.ledger.episodes_due(1) == []
        assert len(liar.pairs) == episodes, "every episode was read"
        parked = engram.context.ledger.parked(10 * episodes)
        assert len([item for item in parked if item.kind == "extraction"]) == sum(map(fails, liar.pairs))
        for id_, text in said.items():
            fact = engram.context.ledger.facts([id_])[0]
            assert fact.text == text
        found = {path: engram.memory(path).list(status="all", limit=10_000) for path in SCOPES}
        for path, facts in found.items():
            own = {fact.id for fact in facts}
            for fact in facts:
                assert fact.scope.path == path
                assert {*fact.sources, *fact.consolidated_from, fact.superseded_by} - {None} <= own
                assert not fact.pinned
                assert all(fact.trust <= other.trust for other in facts if other.id in fact.sources)
                fact.text.encode()
        assert (victim.list(status="all"), [victim.history(id_) for id_ in others]) == before
        engram.memory(SCOPES[0]).recall("red cat house")
        assert engram.verify().ok
    return liar


def test_a_lying_model_costs_no_word_and_touches_no_other_scope(tmp_path: Path) -> None:
    liar = campaign(tmp_path, 90, seed=1)
    failed = sum(map(fails, liar.pairs))
    assert 15 < failed < 80, "there were both"


@pytest.mark.full
@pytest.mark.parametrize("seed", range(2, 7))
def test_a_thousand_lies(tmp_path: Path, seed: int) -> None:
    campaign(tmp_path, 200, seed)
