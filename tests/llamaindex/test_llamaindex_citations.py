"""Citations: markers go into the prompt, come back in the answer, decide the verdicts, and are not shown to the user."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine, SimpleChatEngine
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llamaindex_support import FACT, QUESTION, SCOPE, ScriptedLLM, Watched, agent_llm, says

from engram_core import CITE_INSTRUCTION
from engram_llamaindex import EngramMemory, EngramRetriever, Instrumentation, engram_tools, instrument

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*attribute.*deprecated:pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore:.*attribute.*deprecated:pydantic.warnings.PydanticDeprecatedSince211"),
    pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning"),
]

ASIDE = "I was born in Porto and visit the city of Lisbon often."
SHOWN = "By the river, in the capital."


class Elsewhere(BaseRetriever):
    """A retriever over something else: the memory alone knows the answer."""

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [NodeWithScore(node=TextNode(text="Trams are yellow."))]


@pytest.fixture
def citing_memory(engram: Any, store: Watched) -> EngramMemory:
    engram.memory(SCOPE).add(ASIDE, session="earlier")
    return EngramMemory(SCOPE, engram=store, cite=True)  # type: ignore[arg-type]


@pytest.fixture
def on(store: Watched) -> Iterator[Instrumentation]:
    with instrument(store) as instrumented:  # type: ignore[arg-type]
        yield instrumented


def citing(messages: Sequence[ChatMessage], **kwargs: Any) -> str:
    """Cites the line with the two cats, if it can see it."""
    prompt = "\n".join(str(message.content) for message in messages)
    found = re.search(r"\[(m\d)\] [^\n]*two cats", prompt)
    return f"By the river, in the capital [{found[1]}]." if found else f"{SHOWN} (no markers)"


def check(store: Watched) -> None:
    """The fact with the cats, and no other, is used; the record keeps what the model said."""
    [response] = store.verdicts(QUESTION)
    assert response is not None
    assert re.search(r"\[m\d\]", response)
    [usage] = store.usages.values()
    [used] = usage.used
    assert store.engram.memory(SCOPE).get(used).text == FACT
    assert usage.text == SHOWN


def remembered(store: Watched) -> str:
    return "\n".join(fact.text for fact in store.engram.memory(SCOPE).list())


@pytest.mark.parametrize("way", ["chat", "achat"])
async def test_a_simple_engine_without_instrumentation(way: str, store: Watched, citing_memory: EngramMemory) -> None:
    """It returns the very message it puts."""
    llm = ScriptedLLM(citing)
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=citing_memory)
    response = engine.chat(QUESTION) if way == "chat" else await engine.achat(QUESTION)
    assert response.response == SHOWN
    assert CITE_INSTRUCTION in str(llm.seen[0])
    assert citing_memory.get_all()[-1].content == SHOWN
    assert "[m" not in remembered(store)
    check(store)


@pytest.mark.parametrize("way", ["chat", "achat"])
@pytest.mark.parametrize("kind", [ContextChatEngine, CondensePlusContextChatEngine])
async def test_context_engines_need_instrument(
    kind: Any, way: str, store: Watched, citing_memory: EngramMemory, on: Instrumentation
) -> None:
    """They return another object than they put; the handler of the root span takes the markers out."""
    engine = kind.from_defaults(retriever=Elsewhere(), llm=ScriptedLLM(citing), memory=citing_memory)
    response = engine.chat(QUESTION) if way == "chat" else await engine.achat(QUESTION)
    assert response.response == SHOWN
    assert citing_memory.get_all()[-1].content == SHOWN
    check(store)
    assert on.recorder.open_turns == 0


@pytest.mark.parametrize("kind", ["function", "react"])
async def test_agents(kind: str, store: Watched, citing_memory: EngramMemory, on: Instrumentation) -> None:
    """ReAct puts its whole chain of thought."""

    def generate(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
        prefix = "Thought: I can answer without using any more tools.\nAnswer: " if kind == "react" else ""
        return says(prefix + citing(messages))

    made: Any = ReActAgent if kind == "react" else FunctionAgent
    output = await made(llm=agent_llm(generate)).run(QUESTION, memory=citing_memory)
    assert str(output) == SHOWN
    assert "[m" not in remembered(store)
    check(store)


async def test_an_agents_own_message_is_stripped_without_instrument(
    store: Watched, citing_memory: EngramMemory
) -> None:
    """The function agent returns the message it puts."""
    agent = FunctionAgent(llm=agent_llm(lambda messages, **_: says(citing(messages))))
    assert str(await agent.run(QUESTION, memory=citing_memory)) == SHOWN
    check(store)


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_stream_keeps_its_markers_and_history_does_not(
    is_async: bool, store: Watched, citing_memory: EngramMemory, on: Instrumentation
) -> None:
    """Tokens are the user's as they come; holding them back would delay them."""
    engine = SimpleChatEngine.from_defaults(llm=ScriptedLLM(citing), memory=citing_memory)
    if is_async:
        stream = await engine.astream_chat(QUESTION)
        said = "".join([delta async for delta in stream.async_response_gen()])
    else:
        said = await asyncio.to_thread(lambda: "".join(engine.stream_chat(QUESTION).response_gen))
    assert re.search(r"\[m\d\]", said)
    for _ in range(100):
        if len(store.observed) == 1:
            break
        await asyncio.sleep(0.02)
    assert citing_memory.get_all()[-1].content == SHOWN
    check(store)


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_citing_query_engine(
    is_async: bool, engram: Any, store: Watched, citing_memory: EngramMemory, on: Instrumentation
) -> None:
    """The retriever marks its nodes; the user's prompt asks."""
    retriever = EngramRetriever(citing_memory)
    template = PromptTemplate(f"{{context_str}}\n{CITE_INSTRUCTION}\n{{query_str}}")
    engine = RetrieverQueryEngine.from_args(retriever, llm=ScriptedLLM(citing), text_qa_template=template)
    response = await engine.aquery(QUESTION) if is_async else engine.query(QUESTION)
    on.flush()
    assert str(response) == SHOWN
    check(store)


def test_recalls_of_tools_carry_no_markers(store: Watched, citing_memory: EngramMemory) -> None:
    """They would be the same ones as the memory's."""
    recall = engram_tools(citing_memory)[0]
    assert "[m1]" not in recall.call(query=QUESTION).content


def test_cite_survives_serialisation(citing_memory: EngramMemory) -> None:
    assert EngramMemory.from_dict(citing_memory.to_dict()).cite is True


def test_without_cite_markers_stay_as_they_are(store: Watched, memory: EngramMemory) -> None:
    """Somebody else's brackets."""
    engine = SimpleChatEngine.from_defaults(llm=ScriptedLLM("Row [m1]."), memory=memory)
    assert engine.chat(QUESTION).response == "Row [m1]."
