"""EngramRetriever and EngramMemoryBlock, driven by LlamaIndex's own query engines and Memory."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.memory import Memory
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode
from llamaindex_support import ANSWER, FACT, QUESTION, SCOPE, ScriptedLLM, Watched, calls, says, user

from engram_core import Engram, InvalidInput, InvalidScope
from engram_llamaindex import EngramMemory, EngramMemoryBlock, EngramRetriever


def retriever_of(store: Watched, **options: Any) -> EngramRetriever:
    return EngramRetriever(SCOPE, engram=store, **options)  # type: ignore[arg-type]


# --- retriever -------------------------------------------------------------------------------------------------------


def test_facts_become_nodes(store: Watched) -> None:
    (found,) = retriever_of(store).retrieve(QUESTION)
    (recall,) = store.recalls
    fact = recall.facts[0]
    assert found.node.node_id == fact.fact.id
    assert found.score == fact.score
    assert found.node.get_content() == fact.fact.display
    assert found.node.metadata["engram_recall_id"] == recall.id
    assert found.node.metadata["engram_scope"] == SCOPE


def test_ids_are_not_shown_to_the_model(store: Watched) -> None:
    (found,) = retriever_of(store).retrieve(QUESTION)
    shown = found.node.get_content(MetadataMode.LLM) + found.node.get_content(MetadataMode.EMBED)
    assert FACT in shown
    assert "said_at" in shown
    for hidden in (found.node.metadata["engram_recall_id"], SCOPE, "engram_"):
        assert hidden not in shown


def test_k_and_min_score_reach_the_recall(store: Watched) -> None:
    for number in range(4):
        store.engram.memory(SCOPE).add(f"In Lisbon I visited museum number {number}.")
    assert len(retriever_of(store, k=2).retrieve("Lisbon")) == 2
    assert retriever_of(store, min_score=99.0).retrieve("Lisbon") == []
    tight = store.recalls[0].tokens - 1
    assert len(retriever_of(store, k=2, max_tokens=tight).retrieve("Lisbon")) == 1


async def test_aretrieve_does_not_stall_the_event_loop(store: Watched) -> None:
    class Slow(Watched):
        def memory(self, *arguments: Any, **named: Any) -> Any:
            time.sleep(0.3)
            return super().memory(*arguments, **named)

    retriever = retriever_of(Slow(store.engram))
    longest = 0.0
    done = asyncio.create_task(retriever.aretrieve(QUESTION))
    while not done.done():
        before = time.perf_counter()
        await asyncio.sleep(0.005)
        longest = max(longest, time.perf_counter() - before)
    assert len(done.result()) == 1
    assert longest < 0.2


async def test_works_in_a_query_engine(store: Watched) -> None:
    llm = ScriptedLLM()
    engine = RetrieverQueryEngine.from_args(retriever_of(store), llm=llm)
    assert str(engine.query(QUESTION)) == str(await engine.aquery(QUESTION)) == ANSWER
    assert "two cats" in str(llm.seen[0])


def test_a_broken_memory_retrieves_nothing(store: Watched, caplog: Any) -> None:
    store.engram.close()
    with caplog.at_level(logging.WARNING, "engram"):
        assert retriever_of(store).retrieve(QUESTION) == []
    assert "recall failed" in caplog.text
    with pytest.raises(Exception, match="closed"):
        retriever_of(store, fail_open=False).retrieve(QUESTION)


def test_blank_questions_retrieve_nothing(store: Watched) -> None:
    assert retriever_of(store).retrieve("  ") == []


def test_shares_a_memorys_store_and_says_so_when_given_two(store: Watched, memory: EngramMemory) -> None:
    assert EngramRetriever(memory).binding is memory.binding
    with pytest.raises(InvalidInput, match="already knows its store"):
        EngramRetriever(memory, url="./elsewhere")
    with pytest.raises(InvalidScope):
        EngramRetriever("Not A Scope")


# --- memory block ----------------------------------------------------------------------------------------------------


@pytest.fixture
def queues() -> Iterator[list[Memory]]:
    """LlamaIndex's Memory leaves its SQL connections to the garbage collector, which warns; close those listed here."""
    opened: list[Memory] = []
    yield opened
    for memory in opened:
        engine = memory.sql_store._async_engine
        if engine is not None:
            asyncio.run(engine.dispose())


def block_of(store: Watched, **options: Any) -> EngramMemoryBlock:
    return EngramMemoryBlock(SCOPE, engram=store, **options)  # type: ignore[arg-type]


def test_a_block_puts_what_is_known_into_llamaindexs_memory(store: Watched, queues: list[Memory]) -> None:
    llm = ScriptedLLM()
    memory = Memory.from_defaults(session_id="s1", memory_blocks=[block_of(store)])
    queues.append(memory)
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=memory)
    assert str(engine.chat(QUESTION)) == ANSWER
    assert "two cats" in str(llm.seen[0][0].content)
    assert [recall.query for recall in store.recalls] == [QUESTION]


def test_a_block_with_nothing_to_say_says_nothing(engram: Engram, queues: list[Memory]) -> None:
    llm = ScriptedLLM()
    memory = Memory.from_defaults(memory_blocks=[EngramMemoryBlock("acme/nobody", engram=engram)])
    queues.append(memory)
    SimpleChatEngine.from_defaults(llm=llm, memory=memory).chat(QUESTION)
    assert len(llm.seen[0]) == 1


async def test_a_block_recalls_once_per_turn(store: Watched) -> None:
    block = block_of(store)
    turn: list[ChatMessage] = [user("hi"), says("hello"), user(QUESTION)]
    first = await block.aget(turn, session_id="s")
    assert "two cats" in first
    # Agents read again with the question as `input`, which Memory appends to the history, and after the answer.
    assert await block.aget([*turn, user(QUESTION)], session_id="s") == first
    assert await block.aget([*turn, calls("look"), says(ANSWER)], session_id="s") == first
    assert len(store.recalls) == 1
    await block.aget([*turn, says(ANSWER), user(QUESTION)], session_id="s")
    assert len(store.recalls) == 2
    await block.aget(turn, session_id="another conversation")
    assert len(store.recalls) == 3


async def test_a_block_only_reads(store: Watched) -> None:
    before = len(store.engram.memory(SCOPE).list())
    await block_of(store).aput([user("My dog is called Rex.")], from_short_term_memory=True)
    assert len(store.engram.memory(SCOPE).list()) == before
    assert await block_of(store).aget([]) == ""
    assert await block_of(store).aget(None) == ""


async def test_a_broken_memory_does_not_break_a_block(store: Watched) -> None:
    store.engram.close()
    assert await block_of(store).aget([user(QUESTION)]) == ""
