"""Every engine and agent in every way it can run, end, fail or be abandoned: right facts, right text, nothing open.

One table: a kind makes something that answers; a way asks it; an ending is what becomes of it.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RetrieverQueryEngine, RouterQueryEngine, SubQuestionQueryEngine
from llama_index.core.question_gen.types import BaseQuestionGenerator, SubQuestion
from llama_index.core.schema import QueryBundle
from llama_index.core.tools import QueryEngineTool, ToolMetadata
from llama_index_instrumentation.dispatcher import instrument_tags
from llamaindex_support import ANSWER, FACT, QUESTION, SCOPE, ScriptedLLM, Watched, agent_llm, calls, says, user

from engram_core import Engram
from engram_llamaindex import EngramMemory, EngramRetriever, Instrumentation, engram_tools, instrument
from engram_llamaindex.verdicts import VERDICTS

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*attribute.*deprecated:pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore:.*attribute.*deprecated:pydantic.warnings.PydanticDeprecatedSince211"),
    pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*ChatMemoryBuffer.*:DeprecationWarning"),
    # Whoever cancels an agent leaves LlamaIndex's own tasks and its writer's error to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@dataclass
class World:
    """A store with one fact, and what watches it."""

    store: Watched
    on: Instrumentation

    @property
    def retriever(self) -> EngramRetriever:
        return EngramRetriever(SCOPE, engram=self.store)  # type: ignore[arg-type]

    def memory(self) -> EngramMemory:
        return EngramMemory(SCOPE, engram=self.store)  # type: ignore[arg-type]

    async def check(self, texts: list[str | None], *, recalls: int | None = None) -> None:
        """Each recall observed once, with that text or as unknown; and nothing is left open."""
        await self.settled()
        assert len(self.store.recalls) == (len(texts) if recalls is None else recalls)
        assert [text for _, text in self.store.observed] == texts
        for recall in self.store.recalls:
            usage = self.store.usages[recall.id]
            shown = [scored.fact.id for scored in recall.facts if scored.fact.text == FACT]
            assert shown
            told = usage.unknown if dict(self.store.observed)[recall.id] is None else usage.used
            assert set(shown) <= set(told)
        assert self.on.recorder.open_turns == 0
        assert not self.on.recorder._flows
        assert self.on.recorder._turns.runs == 0
        assert len(self.on.recorder._named) == 0
        assert len(VERDICTS) == 0

    async def settled(self) -> None:
        """LlamaIndex finishes in threads and callbacks of its own: wait until it did."""
        for _ in range(200):
            gc.collect()
            await asyncio.to_thread(self.on.flush)
            if not self.on.recorder.open_turns and len(self.store.observed) >= len(self.store.recalls):
                return
            await asyncio.sleep(0.02)


@pytest.fixture
def world(store: Watched) -> Iterator[World]:
    with instrument(store) as on:  # type: ignore[arg-type]
        yield World(store, on)


def answering(messages: Sequence[ChatMessage]) -> str:
    """The answer, if the prompt holds what it needs. A condense call gets the question back."""
    seen = "\n".join(str(message.content) for message in messages)
    return ANSWER if FACT in seen and "Follow Up Input" not in seen else QUESTION


# --- query engines -------------------------------------------------------------------------------------------------------


class First(BaseSelector):
    """Chooses the first of a router's engines, without a model."""

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: Any) -> None:
        pass

    def _select(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        return SelectorResult(selections=[SingleSelection(index=0, reason="it is the first")])

    async def _aselect(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        return self._select(choices, query)


class Halves(BaseQuestionGenerator):
    """Asks two sub-questions, without a model."""

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: Any) -> None:
        pass

    def generate(self, tools: Sequence[ToolMetadata], query: QueryBundle) -> list[SubQuestion]:
        return [SubQuestion(sub_question=text, tool_name="home") for text in (QUESTION, "Which city has the cats?")]

    async def agenerate(self, tools: Sequence[ToolMetadata], query: QueryBundle) -> list[SubQuestion]:
        return self.generate(tools, query)


def plain(world: World, llm: ScriptedLLM, **options: Any) -> Any:
    return RetrieverQueryEngine.from_args(world.retriever, llm=llm, **options)


def router(world: World, llm: ScriptedLLM, **options: Any) -> Any:
    tool = QueryEngineTool.from_defaults(plain(world, llm, **options), name="home", description="Home.")
    return RouterQueryEngine(selector=First(), query_engine_tools=[tool], llm=llm)


async def query(engine: Any) -> str:
    return str(await asyncio.to_thread(engine.query, QUESTION))


async def aquery(engine: Any) -> str:
    return str(await engine.aquery(QUESTION))


async def streaming_query(engine: Any) -> str:
    response = await asyncio.to_thread(engine.query, QUESTION)
    return await asyncio.to_thread(lambda: "".join(response.response_gen))


async def streaming_aquery(engine: Any) -> str:
    response = await engine.aquery(QUESTION)
    return "".join([delta async for delta in response.async_response_gen()])


QUERY_WAYS = {way.__name__: way for way in (query, aquery, streaming_query, streaming_aquery)}


@pytest.mark.parametrize("way", QUERY_WAYS)
@pytest.mark.parametrize("kind", [plain, router])
async def test_query_engines(world: World, kind: Any, way: str) -> None:
    """The user gets the whole answer, and so does the memory."""
    engine = kind(world, ScriptedLLM(answering), streaming="streaming" in way)
    assert await QUERY_WAYS[way](engine) == ANSWER
    await world.check([ANSWER])


@pytest.mark.parametrize("way", ["query", "aquery"])
async def test_a_sub_question_engine_is_one_turn(world: World, way: str) -> None:
    """Two recalls, one final answer."""
    llm = ScriptedLLM(lambda messages: ANSWER)
    engine = SubQuestionQueryEngine.from_defaults(
        query_engine_tools=[QueryEngineTool.from_defaults(plain(world, llm), name="home", description="Home.")],
        question_gen=Halves(), llm=llm, use_async=False, verbose=False,
    )  # fmt: skip
    assert await QUERY_WAYS[way](engine) == ANSWER
    await world.check([ANSWER, ANSWER])


@pytest.mark.parametrize("way", QUERY_WAYS)
@pytest.mark.parametrize("kind", [plain, router])
async def test_query_engines_that_fail(world: World, kind: Any, way: str) -> None:
    """At once, or in the middle of a stream."""
    is_streaming = "streaming" in way
    engine = kind(world, ScriptedLLM(answering, fails_after=3 if is_streaming else 0), streaming=is_streaming)
    with pytest.raises(RuntimeError, match="the model"):
        await QUERY_WAYS[way](engine)
    await world.check([None])


@pytest.mark.parametrize("leave", ["never read", "read and close", "read and drop"])
@pytest.mark.parametrize("kind", [plain, router])
async def test_abandoned_query_streams(world: World, kind: Any, leave: str) -> None:
    """Unknown as soon as the stream is gone, read or not; sync and async."""
    engine = kind(world, ScriptedLLM(answering), streaming=True)
    response = await asyncio.to_thread(engine.query, QUESTION)
    if leave != "never read":
        next(response.response_gen)
    if leave == "read and close":
        response.response_gen.close()
    del response
    await world.check([None])
    response = await engine.aquery(QUESTION)
    if leave != "never read":
        await anext(response.response_gen)
    if leave == "read and close":
        await response.response_gen.aclose()
    del response
    await world.check([None, None])


# --- chat engines --------------------------------------------------------------------------------------------------------


def context(world: World, llm: ScriptedLLM, memory: Any) -> Any:
    return ContextChatEngine.from_defaults(retriever=world.retriever, llm=llm, memory=memory)


def condense_plus_context(world: World, llm: ScriptedLLM, memory: Any) -> Any:
    return CondensePlusContextChatEngine.from_defaults(retriever=world.retriever, llm=llm, memory=memory)


def condense_question(world: World, llm: ScriptedLLM, memory: Any) -> Any:
    return CondenseQuestionChatEngine.from_defaults(query_engine=plain(world, llm), llm=llm, memory=memory)


def streaming_condense_question(world: World, llm: ScriptedLLM, memory: Any) -> Any:
    engine = plain(world, llm, streaming=True)
    return CondenseQuestionChatEngine.from_defaults(query_engine=engine, llm=llm, memory=memory)


async def chat(engine: Any) -> str:
    return str(await asyncio.to_thread(engine.chat, QUESTION))


async def achat(engine: Any) -> str:
    return str(await engine.achat(QUESTION))


async def stream_chat(engine: Any) -> str:
    return await asyncio.to_thread(lambda: "".join(engine.stream_chat(QUESTION).response_gen))


async def astream_chat(engine: Any) -> str:
    response = await engine.astream_chat(QUESTION)
    return "".join([delta async for delta in response.async_response_gen()])


CHAT_WAYS = {way.__name__: way for way in (chat, achat, stream_chat, astream_chat)}


# A condense-question engine streams only over a query engine that does.
CHATS = [
    *((kind, way) for kind in (context, condense_plus_context) for way in CHAT_WAYS),
    *((condense_question, way) for way in ("chat", "achat")),
    *((streaming_condense_question, way) for way in ("stream_chat", "astream_chat")),
]


@pytest.mark.parametrize(("kind", "way"), CHATS)
async def test_chat_engines_with_a_retriever(world: World, kind: Any, way: str) -> None:
    """The memory is LlamaIndex's own; the retriever's recall is judged by the chat."""
    engine = kind(world, ScriptedLLM(answering), ChatMemoryBuffer.from_defaults(token_limit=3000))
    assert (await CHAT_WAYS[way](engine)).strip() == ANSWER
    await world.check([ANSWER])


@pytest.mark.parametrize("way", CHAT_WAYS)
@pytest.mark.parametrize("kind", ["simple", context, condense_plus_context])
async def test_chat_engines_with_engrams_memory(world: World, kind: Any, way: str) -> None:
    """The memory's recall and the retriever's, if there is one, are judged once each."""
    llm, memory = ScriptedLLM(answering), world.memory()
    is_simple = kind == "simple"
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=memory) if is_simple else kind(world, llm, memory)
    assert (await CHAT_WAYS[way](engine)).strip() == ANSWER
    await world.check([ANSWER] * (1 if is_simple else 2))
    assert [question.is_answered for question in memory._conversation._questions.values()] == [True]


@pytest.mark.parametrize("way", CHAT_WAYS)
@pytest.mark.parametrize("kind", [context, condense_plus_context])
async def test_chat_engines_that_fail(world: World, kind: Any, way: str) -> None:
    """The model is down, or goes down in the middle of a stream."""
    llm = ScriptedLLM(answering, fails_after=2 if "stream" in way else 0)
    engine = kind(world, llm, ChatMemoryBuffer.from_defaults(token_limit=3000))
    with pytest.raises(RuntimeError, match="the model"):
        await CHAT_WAYS[way](engine)
    await world.check([None])


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_chat_stream_nobody_reads_is_still_whole(world: World, is_async: bool) -> None:
    """LlamaIndex's own writer reads it to its end and puts the answer into memory: the answer exists."""
    engine = context(world, ScriptedLLM(answering), ChatMemoryBuffer.from_defaults(token_limit=3000))
    response = (
        await engine.astream_chat(QUESTION) if is_async else await asyncio.to_thread(engine.stream_chat, QUESTION)
    )
    if is_async:
        await response.awrite_response_to_history_task
    del response
    await world.check([ANSWER])


# --- agents --------------------------------------------------------------------------------------------------------------


def calling(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
    return says(answering(messages)) if messages[-1].role == "tool" else calls("engram_recall", query=QUESTION)


def thinking(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
    if "Observation:" not in str(messages[-1].content):
        return says(f'Thought: I must look.\nAction: engram_recall\nAction Input: {{"query": "{QUESTION}"}}')
    return says(f"Thought: I can answer without using any more tools.\nAnswer: {answering(messages)}")


def agent_of(kind: str, generate: Any, tools: Any = None) -> Any:
    if kind == "react":
        return ReActAgent(llm=agent_llm(generate), tools=tools)
    inner = FunctionAgent(llm=agent_llm(generate), tools=tools)
    return AgentWorkflow(agents=[inner], root_agent=inner.name) if kind == "workflow" else inner


AGENTS = ["function", "react", "workflow"]


async def run(agent: Any, **options: Any) -> str:
    return str(await agent.run(QUESTION, **options))


async def run_with_events(agent: Any, **options: Any) -> str:
    handler = agent.run(QUESTION, **options)
    _ = [event async for event in handler.stream_events()]
    return str(await handler)


AGENT_WAYS: dict[str, Callable[..., Awaitable[str]]] = {way.__name__: way for way in (run, run_with_events)}


@pytest.mark.parametrize("way", AGENT_WAYS)
@pytest.mark.parametrize("kind", AGENTS)
async def test_agents_that_fetch_by_a_tool(world: World, kind: str, way: str) -> None:
    """The recall of the tool meets the final answer."""
    tools = engram_tools(SCOPE, engram=world.store)  # type: ignore[arg-type]
    agent = agent_of(kind, thinking if kind == "react" else calling, [*tools])
    assert await AGENT_WAYS[way](agent) == ANSWER
    await world.check([ANSWER])


@pytest.mark.parametrize("way", AGENT_WAYS)
@pytest.mark.parametrize("kind", AGENTS)
async def test_agents_with_engrams_memory(world: World, kind: str, way: str) -> None:
    """Agents read the memory several times a turn; it recalls once."""

    def generate(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
        thought = "Thought: I can answer without using any more tools.\nAnswer: "
        return says((thought if kind == "react" else "") + answering(messages))

    assert await AGENT_WAYS[way](agent_of(kind, generate), memory=world.memory()) == ANSWER
    await world.check([ANSWER])


@pytest.mark.parametrize("kind", AGENTS)
async def test_agents_that_fail_after_their_tool(world: World, kind: str) -> None:
    """The error reaches the user."""

    def generate(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
        if messages[-1].role == "tool" or "Observation:" in str(messages[-1].content):
            raise RuntimeError("the model is down")
        return (thinking if kind == "react" else calling)(messages)

    tools = engram_tools(SCOPE, engram=world.store)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="the model is down"):
        await agent_of(kind, generate, [*tools]).run(QUESTION)
    await world.check([None])


@pytest.mark.filterwarnings("ignore:WorkflowHandler.cancel:DeprecationWarning")
@pytest.mark.parametrize("how", ["cancel_run", "cancel the task"])
@pytest.mark.parametrize("kind", AGENTS)
async def test_agents_that_are_abandoned(world: World, kind: str, how: str) -> None:
    """Cancelled while a tool is at work, after memory was recalled."""
    begun = asyncio.Event()

    async def wait_long() -> str:
        """Wait."""
        begun.set()
        await asyncio.sleep(30)
        return "done"

    def generate(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
        seen = "\n".join(str(message.content) for message in messages)
        if FACT not in seen:
            return (thinking if kind == "react" else calling)(messages)
        return (
            says("Thought: I must wait.\nAction: wait_long\nAction Input: {}")
            if kind == "react"
            else calls("wait_long")
        )

    agent = agent_of(kind, generate, [*engram_tools(SCOPE, engram=world.store), wait_long])  # type: ignore[arg-type]
    handler = agent.run(QUESTION)
    await asyncio.wait_for(begun.wait(), 20)
    if how == "cancel_run":
        await handler.cancel_run()
    else:
        handler.cancel()
    with pytest.raises(BaseException):  # noqa: B017, PT011 - CancelledError or the workflow's own
        await handler
    await world.check([None])


# --- named turns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_retriever_and_a_model_called_separately_are_one_named_turn(world: World, is_async: bool) -> None:
    """Two outermost spans with one name."""
    with instrument_tags({"engram_turn": "t"}):
        nodes = await world.retriever.aretrieve(QUESTION) if is_async else world.retriever.retrieve(QUESTION)
    assert len(world.on.recorder._named) == 1
    prompt = [user(f"{nodes[0].node.get_content()}\n{QUESTION}")]
    with instrument_tags({"engram_turn": "t"}):
        _ = await ScriptedLLM(answering).achat(prompt) if is_async else ScriptedLLM(answering).chat(prompt)
    await world.check([ANSWER])


async def test_named_turns_do_not_mix_and_time_out(world: World) -> None:
    """One of three is never answered."""
    for name in ("a", "b", "c"):
        with instrument_tags({"engram_turn": name}):
            world.retriever.retrieve(QUESTION)
    for name, said in (("b", f"B. {ANSWER}"), ("a", f"A. {ANSWER}")):
        with instrument_tags({"engram_turn": name}):
            ScriptedLLM(said).chat([user(QUESTION)])
    world.on.flush()
    ids = [recall.id for recall in world.store.recalls]
    assert world.store.observed == [(ids[1], f"B. {ANSWER}"), (ids[0], f"A. {ANSWER}")]
    world.on.recorder._named._timeout_s = -1.0
    world.on.recorder._named.sweep()
    await world.check([f"B. {ANSWER}", f"A. {ANSWER}", None])


async def test_a_named_query_is_one_turn_as_ever(world: World) -> None:
    """The tags reach every span inside."""
    with instrument_tags({"engram_turn": "t"}):
        assert str(plain(world, ScriptedLLM(answering)).query(QUESTION)) == ANSWER
    await world.check([ANSWER])


async def test_the_users_stream_is_never_read_ahead(world: World) -> None:
    """The model has said as much as the user has read."""
    said: list[str] = []

    class Counting(ScriptedLLM):
        def stream_complete(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            raise AssertionError

        def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:  # type: ignore[override]
            for response in ScriptedLLM(answering).stream_chat(messages):
                said.append(str(response.delta))
                yield response

    response = plain(world, Counting(answering), streaming=True).query(QUESTION)
    assert len(said) <= 1
    for number, _ in enumerate(response.response_gen, 1):
        assert len(said) <= number + 1
    await world.check([ANSWER])


async def test_the_store_is_recalled_once_per_engram(engram: Engram, world: World) -> None:
    """Two instruments, one judgement."""
    with instrument(SCOPE), instrument():
        assert str(plain(world, ScriptedLLM(answering)).query(QUESTION)) == ANSWER
    await world.check([ANSWER])
