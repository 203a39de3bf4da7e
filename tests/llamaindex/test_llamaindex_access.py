"""Grants through LlamaIndex: who acts comes from the constructor or the tags, never from the model."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from llama_index_instrumentation.dispatcher import instrument_tags

from engram_core import Engram
from engram_llamaindex import EngramMemory, EngramRetriever, engram_tools


def seeded(engram: Engram) -> None:
    for i in range(8):
        engram.memory(f"acme/u{i}").add(f"My locker is locker-{i}")
        engram.grant(f"user:u{i}", "contributor", f"acme/u{i}")


def test_a_memory_shows_what_its_principal_was_granted(engram: Engram) -> None:
    seeded(engram)
    own = EngramMemory("acme/u1", engram=engram, principal="user:u1")
    foreign = EngramMemory("acme/u1", engram=engram, principal="user:u2")
    assert any("locker-1" in str(message.content) for message in own.get("Which locker is mine?"))
    assert not any("locker" in str(message.content) for message in foreign.get("Which one is mine?"))
    assert engram.audit(decision="denied")[0].entry.principal == "user:u2"


async def test_eight_users_of_one_set_of_tools_never_mix(engram: Engram) -> None:
    seeded(engram)
    scope, principal = (lambda tags: f"acme/{tags['user']}"), (lambda tags: f"user:{tags['by']}")
    (recall, remember, forget) = engram_tools(scope, principal=principal, engram=engram)
    hostile: dict[str, Any] = {"scope": "acme/u1", "principal": "user:owner", "filters": {"user": "u1"}}

    async def ask(user: str, by: str) -> str:
        with instrument_tags({"user": user, "by": by}):
            answer = await recall.acall(query="Which locker is mine?")
            with contextlib.suppress(TypeError):  # refused whole: no tool takes such an argument
                await recall.acall(query="locker", **hostile)
            return str(answer.content)

    own = await asyncio.gather(*(ask(f"u{i}", f"u{i}") for i in range(8)))
    others = await asyncio.gather(*(ask(f"u{i}", f"u{(i + 1) % 8}") for i in range(8)))
    assert [[f"locker-{n}" in text for n in range(8)] for text in own] == [[n == i for n in range(8)] for i in range(8)]
    assert not any("locker-" in text for text in others)
    for tool in (recall, remember, forget):
        assert not {"scope", "principal"} & set(tool.metadata.get_parameters_dict()["properties"])


def test_a_retriever_keeps_to_its_principal(engram: Engram) -> None:
    seeded(engram)
    with instrument_tags({"user": "u3"}):
        own = EngramRetriever(lambda tags: f"acme/{tags['user']}", principal="user:u3", engram=engram)
        assert [node.text for node in own.retrieve("locker")] == ["My locker is locker-3"]
        other = EngramRetriever(lambda tags: f"acme/{tags['user']}", principal="user:u4", engram=engram)
        assert other.retrieve("locker") == []
