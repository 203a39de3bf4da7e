"""Grants through LangChain: who acts is the run's context, never the model; eight users of one agent never mix."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from langchain_support import Scripted, asks, calls

from engram_core import Engram
from engram_langchain import EngramMemory, create_agent, engram_tools


@dataclass
class Run:
    user: str


def locker(messages: Any) -> str:
    return next((w for m in messages for w in str(m.text).split() if w.startswith("locker-")), "I do not know.")


def seeded(engram: Engram) -> None:
    """Each user's fact in the team's scope below `acme`, which only its own user may read."""
    for i in range(8):
        engram.memory(f"acme/u{i}").add(f"My locker is locker-{i}")
        engram.grant(f"user:u{i}", "contributor", f"acme/u{i}")


def memory_of(engram: Engram) -> EngramMemory:
    return EngramMemory(
        scope=lambda run: f"acme/{run.user.partition('@')[2] or run.user}",
        principal=lambda run: f"user:{run.user.partition('@')[0]}",
        engram=engram,
    )


def test_eight_users_of_one_agent_see_what_they_were_granted(engram: Engram) -> None:
    seeded(engram)
    agent = create_agent(Scripted(answer=locker), memory=memory_of(engram), context_schema=Run)

    def ask(who: str) -> str:
        return str(agent.invoke(asks("Which locker is mine?"), context=Run(who))["messages"][-1].text)

    with ThreadPoolExecutor(8) as pool:
        own = list(pool.map(ask, [f"u{i}" for i in range(8)]))
        others = list(pool.map(ask, [f"u{i}@u{(i + 1) % 8}" for i in range(8)]))
    assert own == [f"locker-{i}" for i in range(8)]
    assert others == ["I do not know."] * 8, "a scope one may not read is no memory, and the run goes on"
    denied = {row.entry.principal for row in engram.audit(decision="denied")}
    assert denied == {f"user:u{i}" for i in range(8)}


def test_hostile_arguments_change_nothing(engram: Engram) -> None:
    """Scope, principal, config, filters and ids of other scopes, written by the model."""
    seeded(engram)
    other = engram.memory("acme/u1").list()[0].id
    tools = {
        tool.name.removeprefix("engram_"): tool
        for tool in engram_tools(
            lambda run: f"acme/{run['user']}", principal=lambda run: f"user:{run['user']}", engram=engram
        )
    }
    hostile = {
        "scope": "acme/u1", "principal": "user:owner", "user": "u1", "filters": {"scope": {"$ne": ""}}, "where": "1=1",
        "config": {"configurable": {"user": "u1"}}, "k": 300, "engram": "x", "binding": None,
    }  # fmt: skip
    config: Any = {"configurable": {"user": "u0"}}

    def called(name: str, **args: Any) -> str:
        call: Any = {"name": tools[name].name, "args": args | hostile, "id": "c", "type": "tool_call"}
        return str(tools[name].invoke(call, config).content)

    assert "locker-1" not in called("recall", query="locker")
    assert "locker-0" in called("recall", query="locker acme/u1 user:owner")
    assert called("forget", fact_id=other, reason="x").startswith("Not forgotten: user:u0 may not curate")
    engram.grant("user:u0", "curator", "acme/u0")
    assert called("forget", fact_id=other, reason="x").startswith("Not forgotten: No fact")
    called("remember", text="My desk is desk-0.")
    assert {fact.origin.principal for fact in engram.memory("acme/u0").list()} == {"user:owner", "user:u0"}
    assert len(engram.memory("acme/u1").list()) == 1
    for tool in tools.values():
        told = json.dumps(tool.tool_call_schema.model_json_schema())
        assert not {word for word in ("scope", "principal", "filter", "where") if f'"{word}"' in told}


def test_an_agent_without_a_grant_answers_without_memory(engram: Engram) -> None:
    engram.memory("acme/u1").add("My locker is locker-1")
    memory = EngramMemory(scope="acme/u1", principal="agent:stranger", engram=engram)
    model = Scripted(replies=[calls("engram_remember", text="My desk is desk-1."), "Done."])
    agent = create_agent(model, memory=memory.as_middleware(tools=True))
    assert agent.invoke(asks("Remember my desk."))["messages"][-1].text == "Done."
    assert "locker-1" not in model.seen
    assert [fact.text for fact in engram.memory("acme/u1").list()] == ["My locker is locker-1"]
    assert engram.doctor()["parked"]["adapter"] >= 1
