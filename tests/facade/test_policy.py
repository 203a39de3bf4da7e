"""Policies through the facade: what is in force, how it came about, going back, and complaints that help."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from support_remote import Remote
from support_stores import place

from engram_core import Engram, InvalidPolicy, MemoryPolicy, Scope
from engram_core.domain.policy import PRESETS
from engram_core.testing.fakes import WordHashEmbedder

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["memory", "server"])
def store(request, tmp_path):
    with Engram.open(**place(request, tmp_path), embedder=WordHashEmbedder()) as engram:
        yield engram


def test_the_source_is_the_nearest_scope_with_a_policy(store):
    memory = store.memory("acme/support/alice")
    assert (memory.policy_source.scope, memory.policy_source.version) == (None, 0)
    store.grant("user:ann", "curate", "acme")
    store.memory("acme", principal="user:ann").set_policy(max_facts=500, now=NOW)
    source = memory.policy_source
    assert (source.scope, source.version, source.principal, source.at) == (Scope("acme"), 1, "user:ann", NOW)
    assert source.policy == memory.policy
    memory.set_policy(token_budget=64)
    assert memory.policy_source.scope == memory.scope


def test_history_tells_what_was_in_force_here_and_nothing_else(store):
    store.grant("user:ann", "curator", "acme")
    store.grant("user:bob", "curator", "acme/alice")
    top, memory = store.memory("acme", principal="user:ann"), store.memory("acme/alice", principal="user:bob")
    assert memory.policy_history() == []
    top.set_policy("support", now=NOW)
    memory.set_policy(max_facts=50, now=NOW + timedelta(days=1))
    top.set_policy(max_facts=900, now=NOW + timedelta(days=2))
    memory.set_policy("default", now=NOW + timedelta(days=3))
    history = memory.policy_history()
    assert [(item.scope.path, item.version, item.principal, item.at.day) for item in history] == [
        ("acme", 1, "user:ann", 1), ("acme/alice", 1, "user:bob", 2), ("acme/alice", 2, "user:bob", 4),
    ]  # fmt: skip
    assert history[0].changes == MemoryPolicy().diff(PRESETS["support"])
    assert history[1].changes == {"max_facts": (10_000, 50)}
    assert history[2].changes["max_facts"] == (50, 10_000)
    assert history[-1].policy == memory.policy
    assert [item.changes for item in top.policy_history()][1] == {"max_facts": (10_000, 900)}
    assert history[0].to_dict()["changes"]["prioritize_types"] == {
        "before": [], "after": ["profile", "preference", "task"],
    }  # fmt: skip


def test_going_back_is_a_new_version(store):
    memory = store.memory("acme/alice")
    memory.set_policy(max_facts=50)
    memory.set_policy(max_facts=70, auto_forget=True)
    assert memory.set_policy(version=1).max_facts == 50
    assert memory.policy_source.version == 3
    assert memory.set_policy(version=2, token_budget=99).auto_forget
    assert memory.set_policy(version=0) == MemoryPolicy()
    assert len(memory.policy_history()) == 5
    with pytest.raises(InvalidPolicy, match="its versions are 1 to 5"):
        memory.set_policy(version=6)
    with pytest.raises(InvalidPolicy, match="none of its own"):
        store.memory("acme/bob").set_policy(version=1)
    with pytest.raises(InvalidPolicy, match="not from both"):
        memory.set_policy("coding", version=1)


def test_a_refused_policy_leaves_no_version(store):
    memory = store.memory("acme")
    with pytest.raises(InvalidPolicy):
        memory.set_policy(max_facts=0)
    assert memory.policy_history() == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_facts": 0}, "max_facts must be a whole number from 1 to 100000000 (facts), not 0."),
        ({"max_facts": 1.5}, "max_facts must be a whole number"),
        ({"trust_floor": 2}, "trust_floor must be a number from 0 to 1 (trust), not 2."),
        ({"decay_rate": float("nan")}, "decay_rate must be a number from 0 to 1 (share per day), not nan."),
        ({"max_fact": 3}, "There is no field 'max_fact'; did you mean max_facts?"),
        ({"qqq": 3}, "the fields are max_facts,"),
        ({"prioritize_types": "error"}, "such as ['error', 'decision']"),
        ({"prioritize_types": ["An Error"]}, "[a-z][a-z0-9_-]{0,31}, not 'An Error'."),
        ({"auto_forget": "perhaps"}, "auto_forget must be true or false, not 'perhaps'."),
        ({"compression_strategy": "zip"}, "must be summarize, prune or merge, not 'zip'."),
        ({"design": ""}, "must be the name of an installed design"),
    ],
)
def test_a_complaint_says_what_would_do(fields, words):
    with pytest.raises(InvalidPolicy) as raised:
        MemoryPolicy().changed(**fields)
    assert words in str(raised.value)


def test_diff_is_in_the_order_of_the_fields():
    changed = MemoryPolicy().changed(design="null", max_facts=3)
    assert MemoryPolicy().diff(changed) == {"max_facts": (10_000, 3), "design": ("pipeline", "null")}
    assert changed.diff(changed) == {}


def test_every_field_describes_itself():
    for name in MemoryPolicy.model_fields:
        told = MemoryPolicy.describe(name)
        assert told["unit"]
        assert told["changes"].endswith(".")
        assert told["range"] or isinstance(told["default"], bool)
    with pytest.raises(InvalidPolicy, match="did you mean"):
        MemoryPolicy.describe("max_factz")


async def test_async_twins(store):
    memory = store.memory("acme")
    await memory.aset_policy("coding", now=NOW)
    assert await memory.apolicy() == memory.policy == PRESETS["coding"]
    assert await memory.apolicy_source() == memory.policy_source
    assert await memory.apolicy_history() == memory.policy_history()


def test_a_change_is_obeyed_by_another_process_at_once(tmp_path):
    with Remote() as other, Engram.open(tmp_path / "store", embedder=WordHashEmbedder()) as engram:
        memory = engram.memory("acme/support/alice")
        memory.add([f"The red cat sat on mat number {number}." for number in range(6)])
        other.ask("open", url=str(tmp_path / "store"))
        assert len(other.ask("recall", query="red cat")["facts"]) == 6
        memory.set_policy(trust_floor=1.0)
        memory.add("The red cat was on television.", now=NOW)
        assert len(other.ask("recall", query="red cat")["facts"]) == 7
        engram.memory("acme").set_policy(design="null")
        assert len(other.ask("recall", query="red cat")["facts"]) == 7, "the nearer policy holds"
        memory.set_policy(design="null")
        assert other.ask("recall", query="red cat")["facts"] == []
        assert other.ask("add", texts=["Nobody remembers this."]) == []
        memory.set_policy(version=1)
        assert len(other.ask("recall", query="red cat")["facts"]) == 7
        other.ask("close")
