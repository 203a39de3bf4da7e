"""EngramMemory in the classic chains that still take `memory=`: ConversationChain, LLMChain, AgentExecutor."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_classic.agents import AgentExecutor, create_tool_calling_agent
from langchain_classic.base_memory import BaseMemory
from langchain_classic.chains import ConversationChain, LLMChain
from langchain_classic.memory import CombinedMemory, ConversationBufferMemory
from langchain_core.messages import SystemMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.tools import tool
from langchain_support import ALICE, ANSWER, FACT, QUESTION, Ledger, OffLoop, Scripted, calls
from pydantic import ValidationError

from engram_core import Engram, InvalidInput, InvalidScope
from engram_langchain import EngramMemory, EngramRetriever

# Deprecated upstream; ours is what they still run with.
CLASSIC = "ConversationChain|LLMChain|ConversationBufferMemory|InMemoryChatMessageHistory"
pytestmark = [pytest.mark.filterwarnings(f"ignore:The class `({CLASSIC})` was deprecated")]


def memory_of(engram: Engram, scope: Any = ALICE, **options: Any) -> EngramMemory:
    return EngramMemory(scope=scope, engram=engram, **options)


def conversation(engram: Engram, model: Scripted, **options: Any) -> ConversationChain:
    return ConversationChain(llm=model, memory=memory_of(engram, **options))


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_conversation_recalls_observes_and_remembers(
    engram: Engram, ledger: Ledger, fact_id: str, is_async: bool
) -> None:
    """One line, `memory=EngramMemory(...)`: facts in the prompt, one verdict, both messages remembered."""
    model = Scripted(replies=[ANSWER, "Dr. Moreau treats your knee."])
    chain = conversation(engram, model)
    ask = chain.ainvoke if is_async else None
    for text in (QUESTION, "My physiotherapist is called Dr. Moreau, for the knee."):
        await ask({"input": text}) if ask else chain.invoke({"input": text})
    assert FACT in str(model.prompts[0][0].text)
    assert ledger.verdicts(fact_id)[0] == "used"
    assert ledger.responses(fact_id)[0] == ANSWER
    assert any("physiotherapist" in text for text in ledger.texts())
    assert {"user", "assistant"} <= {fact.origin.channel for fact in engram.memory(ALICE).list()}


def test_it_is_a_base_memory_because_chains_check(engram: Engram) -> None:
    """A duck-typed object would be refused."""
    assert isinstance(memory_of(engram), BaseMemory)
    assert memory_of(engram, memory_key="notes").memory_variables == ["notes"]


def test_the_loaded_value_is_a_string_and_empty_without_facts(engram: Engram) -> None:
    """Nothing recalled adds nothing to the prompt."""
    loaded = memory_of(engram).load_memory_variables({"input": "Anything about gardening?"})
    assert loaded == {"history": ""}
    assert isinstance(loaded["history"], str)
    assert memory_of(engram, return_messages=True).load_memory_variables({"input": "Gardening?"})["history"] == []


def test_return_messages_fills_a_placeholder_and_still_correlates(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """The list of messages carries the recall id as the string does."""
    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{question}")])
    model = Scripted(replies=[ANSWER])
    chain = LLMChain(llm=model, prompt=prompt, memory=memory_of(engram, return_messages=True))
    chain.invoke({"question": QUESTION})
    assert isinstance(model.prompts[0][0], SystemMessage)
    assert FACT in str(model.prompts[0][0].text)
    assert ledger.verdicts(fact_id) == ["used"]


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}."


def executor(model: Scripted, tools: list[Any], memory: EngramMemory) -> AgentExecutor:
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Notes: {history}"), ("human", "{input}"), MessagesPlaceholder("agent_scratchpad")]
    )
    return AgentExecutor(agent=create_tool_calling_agent(model, tools, prompt), tools=tools, memory=memory)


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_agent_executor_saves_the_answer_however_it_is_run(
    engram: Engram, ledger: Ledger, fact_id: str, way: str
) -> None:
    """`stream` saves two outputs (`output`, `messages`), `invoke` one; both give one turn."""
    agent = executor(Scripted(replies=[calls("weather", city="Porto"), ANSWER]), [weather], memory_of(engram))
    if way == "invoke":
        agent.invoke({"input": QUESTION})
    elif way == "ainvoke":
        await agent.ainvoke({"input": QUESTION})
    elif way == "stream":
        list(agent.stream({"input": QUESTION}))
    else:
        _ = [chunk async for chunk in agent.astream({"input": QUESTION})]
    assert [response.strip() for response in ledger.responses(fact_id)] == [ANSWER]
    assert ledger.verdicts(fact_id) == ["used"]
    assert len(ledger.recalls(fact_id)) == 1


def test_tools_inside_agent_executor_are_observed_by_the_handler(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """AgentExecutor throws artifacts away; the recall is found by the tool's run id."""
    memory = memory_of(engram)
    agent = executor(
        Scripted(replies=[calls("engram_recall", query="Alice city"), ANSWER]),
        memory.as_tools(),
        memory_of(engram, "acme/empty"),
    )
    agent.invoke({"input": QUESTION}, {"callbacks": [memory.as_callback()]})
    assert ledger.verdicts(fact_id) == ["used"]


def test_a_failing_chain_leaves_the_verdict_unknown(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """save_context does not run then."""
    chain = conversation(engram, Scripted(replies=[RuntimeError("no capacity")]))
    with pytest.raises(RuntimeError, match="no capacity"):
        chain.invoke({"input": QUESTION})
    assert len(ledger.recalls(fact_id)) == 1
    assert ledger.verdicts(fact_id) == []


def test_saving_twice_counts_once(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """A retried save is not a second verdict."""
    memory = memory_of(engram)
    inputs = {"input": QUESTION, **memory.load_memory_variables({"input": QUESTION})}
    memory.save_context(inputs, {"output": ANSWER})
    memory.save_context(inputs, {"output": ANSWER})
    assert ledger.verdicts(fact_id) == ["used"]


def locker(i: int) -> str:
    return f"My locker is locker-{i}"


def echo(messages: list[Any]) -> str:
    return next((w for m in messages for w in str(m.text).split() if w.startswith("locker-")), "I do not know.")


def seeded(engram: Engram) -> list[str]:
    return [engram.memory(f"acme/u{i}").add(locker(i)).facts[0].id for i in range(8)]


def shared_chain(engram: Engram) -> LLMChain:
    prompt = PromptTemplate.from_template("{history}\n{user} asks: {input}")
    memory = memory_of(engram, lambda inputs: f"acme/{inputs['user']}", input_key="input")
    return LLMChain(llm=Scripted(answer=echo), prompt=prompt, memory=memory)


def test_eight_threads_on_one_chain_never_mix(engram: Engram, ledger: Ledger) -> None:
    """One memory object, eight users: the recall id travels with each run's inputs, not on the object."""
    facts, chain = seeded(engram), shared_chain(engram)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: chain.invoke({"user": f"u{i}", "input": "Which locker is mine?"}), range(8)))
    assert [f"locker-{i}" for i in range(8)] == [answer["text"] for answer in answers]
    assert [ledger.verdicts(fact) for fact in facts] == [["used"]] * 8


async def test_eight_tasks_on_one_chain_never_mix(engram: Engram, ledger: Ledger) -> None:
    """The same on one event loop."""
    facts, chain = seeded(engram), shared_chain(engram)
    answers = await asyncio.gather(
        *(chain.ainvoke({"user": f"u{i}", "input": "Which locker is mine?"}) for i in range(8))
    )
    assert [f"locker-{i}" for i in range(8)] == [answer["text"] for answer in answers]
    assert [ledger.verdicts(fact) for fact in facts] == [["used"]] * 8


def test_two_overlapping_runs_in_one_scope_keep_their_recalls_apart(
    engram: Engram, ledger: Ledger, fact_id: str
) -> None:
    """Load A, load B, save B, save A: each verdict belongs to its own recall."""
    memory = memory_of(engram)
    a = {"input": QUESTION, **memory.load_memory_variables({"input": QUESTION})}
    b = {"input": QUESTION, **memory.load_memory_variables({"input": QUESTION})}
    memory.save_context(b, {"output": "Invoices are due on Friday."})
    memory.save_context(a, {"output": ANSWER})
    assert ledger.responses(fact_id) == [ANSWER, "Invoices are due on Friday."]


def test_a_closed_store_does_not_break_the_chain_and_is_logged(
    engram: Engram, caplog: pytest.LogCaptureFixture
) -> None:
    """fail_open."""
    chain = conversation(engram, Scripted(replies=[ANSWER]))
    engram.close()
    assert chain.invoke({"input": QUESTION})["response"] == ANSWER
    assert "recall failed and was skipped" in caplog.text


def test_a_failure_is_visible_among_the_parked(engram: Engram, ledger: Ledger) -> None:
    """`engram doctor` shows what fail_open hid from the user."""
    memory = memory_of(engram, principal=lambda inputs: inputs["nobody"])
    assert memory.load_memory_variables({"input": QUESTION}) == {"history": ""}
    assert any("nobody" in error for error in ledger.parked())


def test_other_memories_may_be_combined(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """With a transcript beside it there are two candidates for "the input"; `input` is one by name."""
    recent = ConversationBufferMemory(memory_key="recent", input_key="input")
    prompt = PromptTemplate.from_template("{history}\n{recent}\n{input}")
    model = Scripted(replies=[ANSWER, "ok"])
    chain = LLMChain(llm=model, prompt=prompt, memory=CombinedMemory(memories=[recent, memory_of(engram)]))
    chain.invoke({"input": QUESTION})
    assert ledger.verdicts(fact_id) == ["used"]
    assert QUESTION in ledger.texts()
    chain.invoke({"input": "Thanks for telling me."})
    assert FACT in str(model.prompts[0][0].text)
    assert f"Human: {QUESTION}\nAI: {ANSWER}" in str(model.prompts[1][0].text)


def test_an_ambiguous_input_is_logged_or_raised(engram: Engram, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is guessed: two unknown inputs need `input_key`."""
    assert memory_of(engram).load_memory_variables({"city": "Porto", "topic": "food"}) == {"history": ""}
    assert "set input_key" in caplog.text
    with pytest.raises(InvalidInput, match="set input_key"):
        memory_of(engram, fail_open=False).load_memory_variables({"city": "Porto", "topic": "food"})
    memory_of(engram, input_key="topic").load_memory_variables({"city": "Porto", "topic": "food"})


def test_clear_keeps_facts(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """Resetting a chat must not delete what was learned."""
    memory_of(engram).clear()
    assert ledger.texts() == [FACT]


async def test_aclear_keeps_facts(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """The same, async."""
    await memory_of(engram).aclear()
    assert ledger.texts() == [FACT]


async def test_the_event_loop_is_not_stalled(off_loop: OffLoop) -> None:
    """Everything slow, embedding above all, happens in other threads."""
    memory = memory_of(off_loop.engram)
    loaded = await memory.aload_memory_variables({"input": QUESTION})
    await memory.asave_context({"input": QUESTION, **loaded}, {"output": ANSWER})
    off_loop.check(at_least=2)  # recall and add


def test_a_restarted_process_remembers(tmp_path: Path) -> None:
    """What one opening of a store learned, the next one knows."""
    url = str(tmp_path / "store")
    with Engram.open(url) as engram:
        conversation(engram, Scripted(replies=["Noted."])).invoke({"input": "My daughter Mira plays the cello."})
    model = Scripted(replies=["The cello."])
    with Engram.open(url) as engram:
        conversation(engram, model).invoke({"input": "What does my daughter Mira play?"})
    assert "Mira plays the cello" in str(model.prompts[0][0].text)


def test_the_shared_store_is_found_by_url(tmp_path: Path) -> None:
    """Two objects with one url share one store."""
    url = str(tmp_path / "shared")
    EngramMemory(scope=ALICE, url=url).save_context({"input": "I drive a green Fiat Panda."}, {"output": "Noted."})
    found = EngramRetriever(scope=ALICE, url=url).invoke("Which car do I drive?")
    assert any("Fiat Panda" in document.page_content for document in found)
    EngramMemory(scope=ALICE, url=url).binding.engram.close()


def test_a_bad_scope_is_refused_by_name(engram: Engram) -> None:
    """Engram's own errors come through pydantic unchanged; wrong types are pydantic's."""
    with pytest.raises(InvalidScope):
        EngramMemory(scope="Acme//Alice")
    with pytest.raises(InvalidScope):
        EngramRetriever(scope="Acme//Alice")
    with pytest.raises(ValidationError):
        EngramMemory()  # type: ignore[call-arg]  # what is tested
    with pytest.raises(ValidationError):
        memory_of(engram).k = 3
    with pytest.raises(ValidationError):
        memory_of(engram, k=0)
    with pytest.raises(InvalidInput, match="k must be"):
        memory_of(engram).as_middleware(k=301)


def test_a_bound_object_refuses_a_second_store(engram: Engram) -> None:
    """Which of two stores would it be?"""
    with pytest.raises(InvalidInput, match="already knows its store"):
        EngramRetriever(scope=memory_of(engram), engram=engram)
    with pytest.raises(InvalidInput, match="fails open"):
        memory_of(engram).as_middleware(fail_open=False)


def test_repr_holds_no_facts_and_no_store(engram: Engram, fact_id: str) -> None:
    """Traces print objects."""
    memory = memory_of(engram)
    memory.load_memory_variables({"input": QUESTION})
    assert repr(memory) == "EngramMemory(scope='acme/support/alice')"
    assert "Lisbon" not in str(memory)
