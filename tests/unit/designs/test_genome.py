"""Genomes: the default pipeline as one gives the very same results; what is no genome is refused by name."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engram_core import Engram, InvalidDesign, InvalidPolicy, Message
from engram_core.designs.genome import Gene, Genome, Operator, Registry, compiled, registry
from engram_core.designs.genome.references import REFERENCES
from engram_core.domain.spec import DesignSpec
from engram_core.testing.fakes import SequentialIds

ROOT = Path(__file__).resolve().parents[3]
LOCOMO = ROOT.parent / "shared" / "data" / "locomo-dev.json"
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def talk() -> tuple[list[Message], list[str]]:
    """A conversation and questions: a recorded one where the data is there, else the demo's."""
    if LOCOMO.exists():
        from benchmarks.locomo import load

        chat = load(LOCOMO)[1]
        return list(chat.messages)[:200], [question.text for question in chat.questions[:40]]
    told = json.loads((ROOT / "examples" / "conversation.json").read_text())
    messages = [Message(item["role"], item["content"], speaker=item.get("speaker")) for item in told["messages"]]
    return messages, [message.content for message in messages[:20]]


def everything(design: str | Genome) -> list[Any]:
    """All that a store decides with a design: facts, decisions, rankings with terms, contexts, the night."""
    messages, questions = talk()
    found: list[Any] = []
    with Engram.open(":memory:", ids=SequentialIds(), clock=lambda: NOW) as store:
        memory = store.memory("acme/alice")
        name = design if isinstance(design, str) else keep(store, design)
        memory.set_policy(design=name)
        for start in range(0, len(messages), 50):
            memory.add(messages[start : start + 50], now=NOW + timedelta(minutes=start))
        for place, question in enumerate(questions):
            recall = memory.recall(question, now=NOW + timedelta(days=1))
            found.append([(item.fact.id, item.score, item.terms) for item in recall.facts])
            found.append([(item.fact_id, item.score, item.terms, item.reason) for item in recall.dropped])
            found.append((recall.tokens, [item.text for item in recall.facts]))
            if place % 3 == 0:
                memory.observe(recall.id, recall.facts[0].text if recall.facts else "", now=NOW + timedelta(days=1))
        found.append([(scope.design, scope.live) for scope in store.sleep(now=NOW + timedelta(days=400)).scopes])
        found += [memory.history(fact.id) for fact in memory.list(limit=1_000, status="all")]
    return found


def keep(store: Engram, genome: Genome) -> str:
    """Put a genome into the store's archive, and return its id."""
    spec = DesignSpec("genome", genome.complete(registry()).source, NOW)
    store.context.ledger.designs.add(spec)
    return spec.id


def test_the_default_pipeline_as_a_genome_decides_everything_alike() -> None:
    """Byte for byte: facts, changes, reasons, rankings, terms, contexts, with learning under way."""
    assert everything("pipeline") == everything(REFERENCES["pipeline"][0])


def test_every_reference_genome_is_complete_and_has_an_id_of_its_own() -> None:
    ids = {compiled(genome).name for genome, _ in REFERENCES.values()}
    assert len(ids) == len(REFERENCES)
    assert all(id_.startswith("genome:") and len(id_) == 71 for id_ in ids)


def test_equal_designs_have_equal_ids_however_they_are_spelled() -> None:
    """Defaults spelled out or not, keys in any order."""
    one = Genome.of(update=["statements"], retrieve=["relevance", ("fresh", {"weight": 0.1})])
    two = Genome.parsed(
        '{"retrieve": [{"op": "relevance"}, {"params": {"half_life_days": 30.0}, "op": "fresh"}], "update": '
        '[{"version": 1, "op": "statements"}]}',
        registry(),
    )
    assert compiled(one).name == compiled(two).name == two.id
    assert Genome.parsed(two.source, registry()).source == two.source


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "no genome"),
        ("[" * 60_000, "no genome"),
        ("[]", "no genome"),
        ('{"format": 2}', "format"),
        ('{"update": [{"op": "import os"}]}', "no operator 'import os' for update"),
        ('{"update": [{"op": "relevance"}]}', "no operator 'relevance' for update"),
        ('{"retrieve": [{"op": "top"}]}', "a source belongs"),
        ('{"retrieve": [{"op": "nearest"}, {"op": "newest"}]}', "a refine belongs"),
        ('{"retrieve": [{"op": "nearest", "version": 9}]}', "version 9"),
        ('{"retrieve": [{"op": "relevance", "params": {"dense": 7}}]}', "dense"),
        ('{"retrieve": [{"op": "relevance", "params": {"dense": "0.4"}}]}', "dense"),
        ('{"retrieve": [{"op": "relevance", "params": {"dense": NaN}}]}', "dense"),
        ('{"retrieve": [{"op": "relevance", "params": {"nope": 1}}]}', "nope"),
        ('{"retrieve": [{"op": "nearest"}' + ', {"op": "top"}' * 12 + "]}", "retrieve"),
        ('{"surprise": 1}', "surprise"),
        ('{"update": "' + "x" * 70_000 + '"}', "bytes"),
    ],
)
def test_what_is_no_genome_is_refused_by_name(source: str, words: str) -> None:
    with pytest.raises(InvalidDesign, match=words):
        Genome.parsed(source, registry())


def test_a_scope_uses_the_genome_its_policy_names_and_only_if_the_archive_holds_it() -> None:
    with Engram.open(":memory:") as store:
        memory = store.memory("acme/alice")
        other = store.memory("acme/bob")
        with pytest.raises(InvalidPolicy):
            memory.set_policy(design="genome:" + "0" * 64)
        memory.set_policy(
            design=keep(store, Genome.of(update=["verbatim"], retrieve=["newest", ("top", {"facts": 1})]))
        )
        for each in (memory, other):
            for hour, text in enumerate(("The cat is called Momo.", "Thanks!", "The dog is called Rex.")):
                each.add(text, now=NOW + timedelta(hours=hour))
        assert [item.fact.text for item in memory.recall("What is the cat called?").facts] == ["The dog is called Rex."]
        assert other.recall("What is the cat called?").facts[0].fact.text == "The cat is called Momo."
        assert len(memory.list()) == 3
        assert len(other.list()) == 2


def test_an_agents_run_becomes_one_fact_and_the_newer_run_replaces_the_older() -> None:
    """The commands without the loop; the same goal supersedes, another goal does not."""

    def run(goal: str, *steps: tuple[str, str]) -> list[Message]:
        said = [Message("user", goal), Message("tool", "-= Hall =-\nA hall.", channel="tool")]
        for command, seen in steps:
            said += [Message("assistant", f"> {command}", channel="assistant"), Message("tool", seen, channel="tool")]
        return said

    with Engram.open(":memory:") as store:
        memory = store.memory("games/house")
        memory.set_policy(design=keep(store, REFERENCES["supersede"][0]), quarantine_channels=())
        east = ("go east", "-= Kitchen =-\nPans.")
        memory.add(
            run(
                "Find the key.",
                east,
                ("go west", "-= Hall =-\n"),
                east,
                ("take key", "You win."),
            )
        )
        memory.add(run("Find the lamp.", ("go up", "-= Attic =-"), ("take lamp", "You win.")))
        assert [fact.text for fact in memory.list()] == [
            "Find the key.\n> go east\n> take key", "Find the lamp.\n> go up\n> take lamp",
        ]  # fmt: skip
        memory.add(run("Find the key.", ("go down", "-= Cellar =-"), ("take key", "You win.")))
        assert [fact.text for fact in memory.list()] == [
            "Find the lamp.\n> go up\n> take lamp", "Find the key.\n> go down\n> take key",
        ]  # fmt: skip
        (old,) = memory.list(status="archived")
        assert old.superseded_by is not None


def test_others_may_register_operators_and_break_no_rule() -> None:
    """Two of one name, and a parameter without a range, are refused; a good one works."""
    shout = Operator("loud", "retrieve", "source", "Nothing, loudly.", lambda params: lambda query, view: [])
    assert compiled(Genome(retrieve=(Gene(op="loud"),)), Registry([shout])).genome.retrieve[0].op == "loud"
    with pytest.raises(InvalidDesign, match="loud"):
        Registry([shout, shout])


def test_every_operator_and_parameter_stands_in_the_documentation() -> None:
    page = (ROOT / "docs" / "designs.md").read_text()
    for part in registry().parts:
        assert f"| `{part.name}` | {part.stage}" in page
        if part.name != "relevance":
            assert [knob.name for knob in part.knobs if f"`{knob.name}`" not in page and knob.name != "weight"] == [], (
                part.name
            )
