"""EngramMemory inside every chat engine, sync, async and streaming, driven by LlamaIndex itself."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.chat_engine.types import BaseChatEngine
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import TextNode
from llamaindex_support import ANSWER, FACT, QUESTION, SCOPE, ScriptedLLM, Watched, says, texts, user

from engram_core import Engram
from engram_llamaindex import EngramMemory, EngramRetriever

ENGINES = ["simple", "context", "condense_plus_context", "condense_question"]
WAYS = ["chat", "achat", "stream_chat", "astream_chat"]


def engine_of(kind: str, llm: ScriptedLLM, memory: EngramMemory) -> BaseChatEngine:
    # The engine's own documents live in another scope, so that what it retrieves is not what the memory recalls.
    documents = EngramRetriever("acme/documents", engram=memory.binding.engram)
    match kind:
        case "simple":
            return SimpleChatEngine.from_defaults(llm=llm, memory=memory)
        case "context":
            return ContextChatEngine.from_defaults(retriever=documents, llm=llm, memory=memory)
        case "condense_plus_context":
            return CondensePlusContextChatEngine.from_defaults(retriever=documents, llm=llm, memory=memory)
        case _:
            query_engine = RetrieverQueryEngine.from_args(documents, llm=llm)
            return CondenseQuestionChatEngine.from_defaults(query_engine=query_engine, llm=llm, memory=memory)


async def say(engine: BaseChatEngine, way: str, message: str) -> str:
    """One turn, read to its end, with the writer thread or task done."""
    if way == "chat":
        return str((await asyncio.to_thread(engine.chat, message)).response)
    if way == "achat":
        return str((await engine.achat(message)).response)
    if way == "stream_chat":
        return await asyncio.to_thread(lambda: "".join(engine.stream_chat(message).response_gen))
    response = await engine.astream_chat(message)
    return "".join([delta async for delta in response.async_response_gen()])


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "nothing happened within 5 s"
        await asyncio.sleep(0.01)


@pytest.fixture
def documented(store: Watched) -> Watched:
    store.engram.memory("acme/documents").add("The office closes at six on Fridays.")
    return store


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ENGINES)
async def test_every_engine_sees_remembers_and_judges(kind: str, way: str, documented: Watched) -> None:
    memory = EngramMemory(SCOPE, engram=documented)  # type: ignore[arg-type]
    llm = ScriptedLLM()
    engine = engine_of(kind, llm, memory)

    assert (await say(engine, way, QUESTION)).strip() == ANSWER

    assert any("Lisbon with two cats" in str(message.content) for sent in llm.seen for message in sent)
    mine = [recall for recall in documented.recalls if recall.query == QUESTION and "Lisbon" in recall.text]
    assert len(mine) == 1, "one recall per turn"
    assert [response for recall_id, response in documented.observed if recall_id == mine[0].id] == [ANSWER]
    assert documented.usages[mine[0].id].used == (mine[0].facts[0].fact.id,)
    assert texts(memory.get_all()) == [f"user: {QUESTION}", f"assistant: {ANSWER}"]

    await say(engine, way, "Thank you. Is my tram late today?")
    assert len(engine.chat_history) == 4
    assert "Is my tram late today?" in " ".join(fact.text for fact in documented.engram.memory(SCOPE).list())


@pytest.mark.parametrize("kind", ENGINES)
async def test_nothing_known_means_no_extra_message(kind: str, engram: Engram) -> None:
    engram.memory("acme/documents").add("The office closes at six on Fridays.")
    llm = ScriptedLLM()
    engine = engine_of(kind, llm, EngramMemory("acme/nobody", engram=engram))
    await say(engine, "chat", QUESTION)
    # A first message in the history would also cost condense engines a model call.
    assert len(llm.seen) == 1
    assert not any("known" in str(message.content) or "Lisbon" in str(message.content) for message in llm.seen[0])


def test_a_new_conversation_knows_what_an_old_one_said(engram: Engram) -> None:
    llm = ScriptedLLM("Noted, I will keep that in mind.")
    SimpleChatEngine.from_defaults(llm=llm, memory=EngramMemory(SCOPE, engram=engram)).chat(FACT)
    later = ScriptedLLM()
    SimpleChatEngine.from_defaults(llm=later, memory=EngramMemory(SCOPE, engram=engram)).chat(QUESTION)
    assert "two cats" in str(later.seen[0][0].content)


def test_chat_history_replaces_the_conversation(memory: EngramMemory, store: Watched) -> None:
    llm = ScriptedLLM()
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=memory)
    engine.chat("hello")
    engine.chat(QUESTION, chat_history=[user("hi"), says("good day")])
    assert texts(llm.seen[-1][1:]) == ["user: hi", "assistant: good day", f"user: {QUESTION}"]
    assert store.verdicts(QUESTION) == [ANSWER]
    engine.reset()
    assert engine.chat_history == []


def test_condense_question_with_its_own_history_does_not_blame_facts(documented: Watched) -> None:
    memory = EngramMemory(SCOPE, engram=documented)  # type: ignore[arg-type]
    engine = engine_of("condense_question", ScriptedLLM("No idea."), memory)
    engine.chat(QUESTION, chat_history=[user("hi"), says("good day")])
    mine = next(recall for recall in documented.recalls if "two cats" in recall.text)
    assert (mine.id, None) in documented.observed


def test_as_memory_cls_an_engine_says_that_a_scope_is_missing() -> None:
    with pytest.raises(ValueError, match="needs a scope"):
        SimpleChatEngine.from_defaults(llm=ScriptedLLM(), memory_cls=EngramMemory)


@pytest.mark.parametrize("kind", ["simple", "context"])
async def test_an_unread_stream_is_still_answered_and_remembered(kind: str, documented: Watched) -> None:
    # Since 0.14.17 the writer finishes a stream that nobody reads, in a worker thread or task.
    memory = EngramMemory(SCOPE, engram=documented)  # type: ignore[arg-type]
    engine = engine_of(kind, ScriptedLLM(), memory)
    response = engine.stream_chat(QUESTION)
    await until(lambda: len(memory.get_all()) == 2)
    mine = next(recall for recall in documented.recalls if "two cats" in recall.text)
    await until(lambda: (mine.id, ANSWER) in documented.observed)
    response.write_response_to_history_thread.join(5)  # type: ignore[union-attr]


async def test_a_failing_model_leaves_the_turn_unknown(store: Watched, memory: EngramMemory) -> None:
    engine = SimpleChatEngine.from_defaults(llm=ScriptedLLM(fails_after=0), memory=memory)
    with pytest.raises(RuntimeError, match="the model is down"):
        engine.chat(QUESTION)
    assert store.observed == []
    working = SimpleChatEngine.from_defaults(llm=ScriptedLLM(), memory=memory)
    await say(working, "chat", "Are you back?")
    assert (store.recalls[0].id, None) in store.observed


async def test_a_stream_that_breaks_off_leaves_the_turn_unknown(store: Watched, memory: EngramMemory) -> None:
    engine = SimpleChatEngine.from_defaults(llm=ScriptedLLM(fails_after=2), memory=memory)
    response = await engine.astream_chat(QUESTION)
    with pytest.raises(RuntimeError, match="went down"):
        [delta async for delta in response.async_response_gen()]
    await memory.aput(user("Are you back?"))
    assert store.verdicts(QUESTION) == [None]
    assert len(memory.get_all()) == 2


@pytest.mark.parametrize("way", WAYS)
async def test_a_broken_memory_breaks_no_chat(way: str, store: Watched, memory: EngramMemory, caplog: Any) -> None:
    store.engram.close()
    engine = SimpleChatEngine.from_defaults(llm=ScriptedLLM(), memory=memory)
    with caplog.at_level(logging.WARNING, "engram"):
        assert (await say(engine, way, QUESTION)).strip() == ANSWER
    assert "skipped" in caplog.text


@pytest.mark.parametrize("way", ["achat", "astream_chat"])
async def test_eight_conversations_at_once_do_not_mix(way: str, engram: Engram) -> None:
    names = ["Ada", "Bob", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana"]
    for name in names:
        engram.memory(f"acme/{name.lower()}").add(f"My favourite spice is {name.lower()}pepper.")
    store = Watched(engram)

    def answer(messages: Any) -> str:
        spice = next(name for name in names if f"{name.lower()}pepper" in str(messages[0].content))
        return f"Your favourite spice is {spice.lower()}pepper, surely."

    async def conversation(name: str) -> tuple[str, EngramMemory, ScriptedLLM]:
        llm = ScriptedLLM(answer)
        memory = EngramMemory(f"acme/{name.lower()}", engram=store)  # type: ignore[arg-type]
        engine = SimpleChatEngine.from_defaults(llm=llm, memory=memory)
        await say(engine, way, "What is my favourite spice?")
        return name, memory, llm

    for name, memory, llm in await asyncio.gather(*map(conversation, names)):
        others = [other.lower() for other in names if other != name]
        assert f"{name.lower()}pepper" in str(llm.seen[0][0].content)
        assert not any(f"{other}pepper" in str(llm.seen) for other in others)
        assert texts(memory.get_all())[1] == f"assistant: Your favourite spice is {name.lower()}pepper, surely."
    assert len(store.recalls) == len(store.observed) == 8
    for recall in store.recalls:
        spice = recall.facts[0].fact.text.removeprefix("My favourite spice is ")
        assert store.verdicts_of(recall) == [f"Your favourite spice is {spice[:-1]}, surely."]


async def test_the_event_loop_is_not_stalled(store: Watched) -> None:
    class Slow(Watched):
        def memory(self, *arguments: Any, **named: Any) -> Any:
            time.sleep(0.15)
            return super().memory(*arguments, **named)

    memory = EngramMemory(SCOPE, engram=Slow(store.engram))  # type: ignore[arg-type]
    engine = SimpleChatEngine.from_defaults(llm=ScriptedLLM(), memory=memory)
    gaps = [0.0]

    async def heartbeat() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            gaps.append(time.perf_counter() - before)

    beating = asyncio.create_task(heartbeat())
    await engine.achat(QUESTION)
    beating.cancel()
    assert max(gaps) < 0.12


def test_every_async_method_of_the_protocol_is_its_own() -> None:
    for name in ("aget", "aget_all", "aput", "aput_messages", "aset", "areset"):
        assert inspect.iscoroutinefunction(getattr(EngramMemory, name))
        assert name in vars(EngramMemory)


@pytest.mark.parametrize("mode", ["simple", "context", "condense_plus_context", "condense_question", "best"])
def test_works_in_an_indexs_chat_engine(mode: str, store: Watched, memory: EngramMemory) -> None:
    index = VectorStoreIndex(nodes=[TextNode(text="The office closes at six on Fridays.")])
    engine = index.as_chat_engine(chat_mode=mode, llm=ScriptedLLM(), memory=memory)
    assert str(engine.chat(QUESTION)) == ANSWER
    assert store.verdicts(QUESTION) == [ANSWER]
