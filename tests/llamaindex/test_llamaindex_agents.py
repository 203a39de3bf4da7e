"""EngramMemory and engram_tools in FunctionAgent, AgentWorkflow and ReActAgent, and across Context serialisation."""

from __future__ import annotations

import asyncio
import json
import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, TextBlock
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Context
from llama_index_instrumentation.dispatcher import instrument_tags
from llamaindex_support import ANSWER, QUESTION, SCOPE, Watched, agent_llm, calls, says, texts, user

from engram_core import Engram
from engram_llamaindex import EngramMemory, engram_tools

# LlamaIndex looks for an agent's steps with inspect.getmembers(), which touches pydantic's deprecated attributes.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*attribute.*deprecated:pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore:.*attribute.*deprecated:pydantic.warnings.PydanticDeprecatedSince211"),
    pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning"),  # its ReActAgent
]

Seen = list[list[ChatMessage]]


def tram_times(line: str) -> str:
    """When a tram line passes."""
    return f"Line {line} passes every ten minutes."


def function_agent(seen: Seen, *, answer: str = ANSWER, **options: Any) -> FunctionAgent:
    """Calls a tool once per turn, then answers."""

    def generate(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
        seen.append([message.model_copy(deep=True) for message in messages])
        return says(answer) if messages[-1].role == "tool" else calls("tram_times", line="28")

    return FunctionAgent(llm=agent_llm(generate), tools=[FunctionTool.from_defaults(tram_times)], **options)


def react_agent(seen: Seen, **options: Any) -> ReActAgent:
    """Thinks, calls a tool, and answers in ReAct's format."""

    def generate(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
        seen.append([message.model_copy(deep=True) for message in messages])
        if "Observation:" not in str(messages[-1].content):
            return says('Thought: I need a tool.\nAction: tram_times\nAction Input: {"line": "28"}')
        return says(f"Thought: I can answer without using any more tools.\nAnswer: {ANSWER}")

    return ReActAgent(llm=agent_llm(generate), tools=[FunctionTool.from_defaults(tram_times)], **options)


def workflow(seen: Seen, **options: Any) -> AgentWorkflow:
    """One function agent as a workflow."""
    return AgentWorkflow(agents=[function_agent(seen, **options)], root_agent="Agent")


AGENTS: dict[str, Callable[..., Any]] = {"function": function_agent, "workflow": workflow, "react": react_agent}


@pytest.mark.parametrize("system_prompt", [None, "You are a polite clerk."])
@pytest.mark.parametrize("kind", AGENTS)
async def test_every_agent_sees_remembers_and_judges(
    kind: str, system_prompt: str | None, store: Watched, memory: EngramMemory
) -> None:
    seen: Seen = []
    agent = AGENTS[kind](seen, system_prompt=system_prompt)

    response = await agent.run(QUESTION, memory=memory)

    assert str(response) == ANSWER
    assert len(seen) == 2
    for sent in seen:
        # ReActAgent without a system prompt drops the first message when it is a system message.
        assert sum("two cats" in str(message.content) for message in sent) == 1
        assert not system_prompt or any(system_prompt in str(message.content) for message in sent)
    assert [recall.query for recall in store.recalls] == [QUESTION], "one recall, though agents read three times"
    assert store.verdicts(QUESTION) == [ANSWER]
    assert store.usages[store.recalls[0].id].used == (store.recalls[0].facts[0].fact.id,)
    facts = [fact.text for fact in store.engram.memory(SCOPE).list()]
    assert not [text for text in facts if "Thought:" in text or "every ten minutes" in text]


@pytest.mark.parametrize("kind", AGENTS)
async def test_a_second_turn_gets_its_own_recall(kind: str, store: Watched, memory: EngramMemory) -> None:
    seen: Seen = []
    agent = AGENTS[kind](seen)
    context = Context(agent)
    await agent.run(QUESTION, memory=memory, ctx=context)
    await agent.run("How often does my tram pass?", memory=memory, ctx=context)
    assert [recall.query for recall in store.recalls] == [QUESTION, "How often does my tram pass?"]
    assert len(store.observed) == 2
    # Reusing a Context sends the memory through its serialiser: the second run has a restored copy.
    latest: EngramMemory = await context.store.get("memory")
    assert latest is not memory
    assert [text for text in texts(latest.get_all()) if text.startswith("user:")] == [
        f"user: {QUESTION}",
        "user: How often does my tram pass?",
    ]


@pytest.mark.parametrize("kind", AGENTS)
async def test_one_memory_serves_one_run_after_another(kind: str, store: Watched, memory: EngramMemory) -> None:
    agent = AGENTS[kind]([])
    for text in (QUESTION, "How often does my tram pass?"):
        await agent.run(text, memory=memory)
        assert store.verdicts(text) == [ANSWER]
    assert sum(text.startswith("user:") for text in texts(memory.get_all())) == 2


@pytest.mark.parametrize("kind", AGENTS)
async def test_nothing_known_means_no_extra_message(kind: str, engram: Engram) -> None:
    seen: Seen = []
    await AGENTS[kind](seen).run(QUESTION, memory=EngramMemory("acme/nobody", engram=engram))
    roles = [message.role.value for message in seen[0]]
    assert roles == (["system", "user"] if kind == "react" else ["user"])


async def test_insert_user_works_in_an_agent(store: Watched) -> None:
    seen: Seen = []
    memory = EngramMemory(SCOPE, engram=store, insert="user")  # type: ignore[arg-type]
    await function_agent(seen).run(QUESTION, memory=memory)
    assert [message.role.value for message in seen[1]] == ["user", "assistant", "tool"]
    assert "two cats" in str(seen[1][0].content)


async def test_chat_history_alone_is_a_turn(store: Watched, memory: EngramMemory) -> None:
    seen: Seen = []
    await function_agent(seen).run(chat_history=[user("hi"), says("hello"), user(QUESTION)], memory=memory)
    assert store.verdicts(QUESTION) == [ANSWER]


async def test_an_agents_state_prompt_does_not_leak_into_the_history(store: Watched, memory: EngramMemory) -> None:
    # With initial_state an agent rewrites the last message it got in place.
    seen: Seen = []
    await function_agent(seen, initial_state={"mood": "sunny"}).run(QUESTION, memory=memory)
    assert any("sunny" in str(message.content) for message in seen[0])
    assert texts(memory.get_all())[0] == f"user: {QUESTION}"


async def test_a_failing_agent_leaves_the_turn_unknown(store: Watched, memory: EngramMemory) -> None:
    def generate(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
        raise RuntimeError("the model is down")

    agent = FunctionAgent(llm=agent_llm(generate), tools=[])
    with pytest.raises(RuntimeError, match="the model is down"):
        await agent.run(QUESTION, memory=memory)
    await memory.aput(user("Are you back?"))
    # The failed run had an id of its own, so its question stays open until it is pushed out or the memory is reset.
    await memory.areset()
    assert store.verdicts(QUESTION) == [None]


@pytest.mark.parametrize("kind", AGENTS)
async def test_a_broken_memory_breaks_no_run(kind: str, store: Watched, memory: EngramMemory, caplog: Any) -> None:
    store.engram.close()
    with caplog.at_level(logging.WARNING, "engram"):
        assert str(await AGENTS[kind]([]).run(QUESTION, memory=memory)) == ANSWER
    assert "skipped" in caplog.text


@pytest.mark.parametrize("kind", AGENTS)
async def test_eight_runs_at_once_do_not_mix(kind: str, engram: Engram) -> None:
    for number in range(8):
        engram.memory(f"acme/user{number}").add(f"My locker code is zz{number}zz.")
    store = Watched(engram)

    async def run(number: int) -> None:
        seen: Seen = []
        memory = EngramMemory(f"acme/user{number}", engram=store)  # type: ignore[arg-type]
        await AGENTS[kind](seen).run("What is my locker code?", memory=memory)
        sent = " ".join(str(message.content) for message in seen[0])
        assert f"zz{number}zz" in sent
        assert not [other for other in range(8) if other != number and f"zz{other}zz" in sent]

    await asyncio.gather(*(run(number) for number in range(8)))
    assert len(store.recalls) == len(store.observed) == 8


async def test_two_runs_at_once_on_one_memory_keep_their_own_recall(store: Watched, memory: EngramMemory) -> None:
    questions = [f"{QUESTION} ({number})" for number in range(6)]
    agents = [function_agent([], answer=f"{ANSWER} ({number})") for number in range(6)]
    await asyncio.gather(*(agent.run(text, memory=memory) for agent, text in zip(agents, questions, strict=True)))
    for number, text in enumerate(questions):
        assert store.verdicts(text) == [f"{ANSWER} ({number})"]


# --- Context ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", AGENTS)
async def test_a_context_brings_the_memory_back(kind: str, store: Watched, memory: EngramMemory) -> None:
    agent = AGENTS[kind]([])
    context = Context(agent)
    await agent.run(QUESTION, memory=memory, ctx=context)

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # UnserializableKeyWarning: the memory was dropped
        state = json.dumps(context.to_dict())
    assert "two cats" not in state.replace("your two cats", ""), "recalled text is not in the checkpoint"
    restored = Context.from_dict(agent, json.loads(state))
    again: EngramMemory = await restored.store.get("memory")
    assert isinstance(again, EngramMemory)
    assert again is not memory
    assert again.get_all() == memory.get_all()
    assert (again.scope, again.session_id) == (memory.scope, memory.session_id)

    await agent.run("And where do I live again?", ctx=restored)
    assert store.verdicts("And where do I live again?") == [ANSWER]


async def test_trace_attributes_do_not_show_the_conversation(memory: EngramMemory) -> None:
    # Agent spans carry llamaindex.step.input_summary, a repr of the start event with the memory in it.
    handler = SimpleSpanHandler()
    dispatcher = get_dispatcher()
    before = list(dispatcher.span_handlers)
    dispatcher.add_span_handler(handler)
    try:
        memory.put(user("my secret is marmalade"))
        await function_agent([]).run(QUESTION, memory=memory)
    finally:
        dispatcher.span_handlers = before
    summaries = [str(span.tags) for span in handler.completed_spans]
    with_memory = [summary for summary in summaries if "EngramMemory(scope=" in summary]
    assert with_memory
    assert not [summary for summary in with_memory if "marmalade" in summary]


# --- tools -----------------------------------------------------------------------------------------------------------


def by_name(tools: Sequence[FunctionTool]) -> dict[str, FunctionTool]:
    return {str(tool.metadata.name): tool for tool in tools}


def test_the_model_chooses_words_only(store: Watched) -> None:
    tools = by_name(engram_tools(SCOPE, engram=store))  # type: ignore[arg-type]
    parameters = {name: sorted(tool.metadata.get_parameters_dict()["properties"]) for name, tool in tools.items()}
    assert parameters == {
        "engram_recall": ["query"],
        "engram_remember": ["text"],
        "engram_forget": ["fact_id", "reason"],
    }
    with pytest.raises(TypeError):
        tools["engram_recall"].call(query="x", scope="acme/someone-else")


def test_tools_return_text_for_the_model_and_ids_for_the_program(store: Watched) -> None:
    tools = by_name(engram_tools(SCOPE, engram=store))  # type: ignore[arg-type]
    output = tools["engram_recall"].call(query=QUESTION)
    (recall,) = store.recalls
    fact_id = recall.facts[0].fact.id
    assert output.raw_output == {"recall_id": recall.id, "fact_ids": [fact_id], "scope": SCOPE}
    assert recall.text in output.content
    assert f"1. {fact_id}" in output.content

    stored = tools["engram_remember"].call(text="Alice prefers tea to coffee.")
    assert stored.content == "Remembered."
    (new,) = stored.raw_output["fact_ids"]
    fact = store.engram.memory(SCOPE).get(new)
    assert (fact.text, fact.origin.channel) == ("Alice prefers tea to coffee.", "assistant")

    assert tools["engram_forget"].call(fact_id=new).content == "Forgotten."
    assert store.engram.memory(SCOPE).get(new).status == "archived"


def test_the_ids_stand_in_the_order_of_the_text(store: Watched) -> None:
    for text in ("I live near the river in Lisbon.", "Lisbon is where I live and work."):
        store.engram.memory(SCOPE).add(text)
    output = by_name(engram_tools(SCOPE, engram=store))["engram_recall"].call(query=QUESTION)  # type: ignore[arg-type]
    (recall,) = store.recalls
    texts_by_id = {scored.fact.id: scored.fact.text for scored in recall.facts}
    listed = [line.split(". ")[1] for line in output.content.splitlines() if line[:1].isdigit() and ". " in line]
    places = [recall.text.index(texts_by_id[fact_id]) for fact_id in listed]
    assert len(places) == 3
    assert places == sorted(places)


async def test_tools_are_async_off_the_event_loop(store: Watched) -> None:
    tools = by_name(engram_tools(SCOPE, engram=store))  # type: ignore[arg-type]
    output = await tools["engram_recall"].acall(query=QUESTION)
    assert "two cats" in output.content
    assert "MainThread" not in store.threads


def test_nothing_found_blank_and_ignored_are_said(store: Watched) -> None:
    tools = by_name(engram_tools("acme/nobody", engram=store, prefix="my_"))  # type: ignore[arg-type]
    assert tools["my_recall"].call(query="anything?").content == "Nothing is remembered about that."
    assert tools["my_recall"].call(query=" ").content == "Say what to look for."
    assert "no words" in tools["my_remember"].call(text=" ").content
    assert "Not forgotten" in tools["my_forget"].call(fact_id="no-such-id").content


def test_tools_cannot_forget_in_another_scope(store: Watched) -> None:
    (fact,) = store.engram.memory(SCOPE).list()
    tools = by_name(engram_tools("acme/mallory", engram=store))  # type: ignore[arg-type]
    assert "Not forgotten" in tools["engram_forget"].call(fact_id=fact.id).content
    assert store.engram.memory(SCOPE).get(fact.id).status == "live"


def test_broken_tools_tell_the_model(store: Watched) -> None:
    store.engram.close()
    tools = by_name(engram_tools(SCOPE, engram=store))  # type: ignore[arg-type]
    assert "not available" in tools["engram_recall"].call(query=QUESTION).content
    assert "not available" in tools["engram_remember"].call(text="x y z").content
    assert "Not forgotten" in tools["engram_forget"].call(fact_id="x").content


def test_tools_share_a_memorys_store(store: Watched, memory: EngramMemory) -> None:
    assert "two cats" in by_name(engram_tools(memory))["engram_recall"].call(query=QUESTION).content


async def test_the_scope_may_come_from_the_programs_tags(engram: Engram) -> None:
    engram.memory("acme/ada").add("My favourite spice is saffron.")
    engram.memory("acme/bob").add("My favourite spice is sumac.")

    def generate(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
        last = messages[-1]
        if last.role != "tool":
            return calls("engram_recall", query="favourite spice")
        return says("".join(block.text for block in last.blocks if isinstance(block, TextBlock)))

    agent = FunctionAgent(
        llm=agent_llm(generate), tools=[*engram_tools(lambda tags: f"acme/{tags['user']}", engram=engram)]
    )

    async def run(name: str) -> str:
        with instrument_tags({"user": name}):
            return str(await agent.run("What is my favourite spice?"))

    ada, bob = await asyncio.gather(run("ada"), run("bob"))
    assert "saffron" in ada
    assert "sumac" not in ada
    assert "sumac" in bob
