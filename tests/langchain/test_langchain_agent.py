"""create_agent and EngramMiddleware in LangChain's real agent: what the model sees, what is kept and observed."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langchain import agents
from langchain.agents.middleware import AgentMiddleware, SummarizationMiddleware, dynamic_prompt
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_support import ALICE, ANSWER, FACT, QUESTION, Ledger, OffLoop, Scripted, asks, calls
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

from engram_core import Engram, InvalidInput, InvalidScope
from engram_langchain import EngramMemory, EngramMiddleware, create_agent, engram_tools
from engram_langchain.held import Held
from engram_langchain.verdicts import VERDICTS

THREAD: Any = {"configurable": {"thread_id": "t1"}}


def memory_of(engram: Engram, scope: Any = ALICE, **options: Any) -> EngramMemory:
    return EngramMemory(scope=scope, engram=engram, **options)


async def consumed(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_a_turn_recalls_shows_observes_and_remembers(
    engram: Engram, ledger: Ledger, fact_id: str, way: str
) -> None:
    """All four ways of running an agent do the same: facts in the prompt, one verdict, two messages remembered."""
    model = Scripted(replies=[ANSWER])
    agent = create_agent(model, memory=memory_of(engram), system_prompt="Be kind.")
    if way == "invoke":
        agent.invoke(asks(QUESTION))
    elif way == "ainvoke":
        await agent.ainvoke(asks(QUESTION))
    elif way == "stream":
        list(agent.stream(asks(QUESTION)))
    else:
        await consumed(agent.astream(asks(QUESTION)))
    assert FACT in model.seen
    assert isinstance(model.prompts[0][0], SystemMessage)
    assert model.seen.startswith("Be kind.")
    assert ledger.verdicts(fact_id) == ["used"]
    assert ledger.responses(fact_id) == [ANSWER]
    assert len(ledger.recalls(fact_id)) == 1


def test_both_messages_of_a_turn_are_remembered_with_ids_channels_and_session(engram: Engram) -> None:
    """The next conversation can recall what was said in this one, and where it came from."""
    agent = create_agent(
        Scripted(replies=["Noted: the Porto office opens in May."]),
        memory=memory_of(engram),
        checkpointer=InMemorySaver(),
    )
    said = HumanMessage("My sister Clara works as a nurse in Porto.", id="m1", name="Alice")
    agent.invoke({"messages": [said]}, THREAD)
    facts = {fact.origin.channel: fact for fact in engram.memory(ALICE).list()}
    assert facts["user"].origin.message_ids == ("m1",)
    assert facts["user"].origin.session == "t1"
    assert facts["user"].speaker == "Alice"
    assert "assistant" in facts


def test_record_false_recalls_and_observes_but_adds_nothing(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """A read-only memory."""
    agent = create_agent(Scripted(replies=[ANSWER]), memory=EngramMiddleware(ALICE, engram, record=False))
    agent.invoke(asks("My dog Rex is afraid of thunder. Where do I live?"))
    assert ledger.texts() == [FACT]
    assert ledger.verdicts(fact_id) == ["used"]


def test_inject_user_puts_the_context_into_the_last_user_message_only(engram: Engram, fact_id: str) -> None:
    """No system message appears, the question stays last, and the stored conversation stays clean."""
    model = Scripted(replies=[ANSWER])
    agent = create_agent(model, memory=EngramMiddleware(ALICE, engram, inject="user"))
    result = agent.invoke(asks(QUESTION))
    (prompt,) = model.prompts[0]
    assert isinstance(prompt, HumanMessage)
    assert FACT in prompt.text
    assert prompt.text.endswith(QUESTION)
    assert result["messages"][0].text == QUESTION


def test_inject_user_keeps_content_blocks(engram: Engram, fact_id: str) -> None:
    """A message with a picture keeps its blocks."""
    model = Scripted(replies=[ANSWER])
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    agent = create_agent(model, memory=EngramMiddleware(ALICE, engram, inject="user"))
    agent.invoke({"messages": [HumanMessage([{"type": "text", "text": QUESTION}, picture])]})
    content: Any = model.prompts[0][0].content
    assert FACT in content[0]["text"]
    assert [{"type": "text", "text": QUESTION}, picture] == content[1:]


def test_inject_none_recalls_nothing(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """Tools only."""
    model = Scripted(replies=[ANSWER])
    create_agent(model, memory=EngramMiddleware(ALICE, engram, inject="none")).invoke(asks(QUESTION))
    assert FACT not in model.seen
    assert ledger.recalls(fact_id) == []


def test_an_unknown_inject_or_tool_is_refused(engram: Engram) -> None:
    """Spelling mistakes show at construction."""
    with pytest.raises(InvalidInput, match="inject"):
        EngramMiddleware(ALICE, engram, inject="sytem")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="no tool 'erase'"):
        EngramMiddleware(ALICE, engram, tools=["erase"])
    with pytest.raises(InvalidScope):
        EngramMemory(scope="Acme//Alice")


def test_one_recall_per_turn_however_often_the_model_is_called(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """Three model calls with two tool calls in between are one turn, and every call sees the facts."""

    @tool
    def weather(city: str) -> str:
        """The weather."""
        return "sunny"

    model = Scripted(replies=[calls("weather", city="Lisbon"), calls("weather", city="Porto"), ANSWER])
    create_agent(model, [weather], memory=memory_of(engram)).invoke(asks(QUESTION))
    assert [FACT in "".join(str(m.text) for m in prompt) for prompt in model.prompts] == [True] * 3
    assert len(ledger.recalls(fact_id)) == 1
    assert ledger.verdicts(fact_id) == ["used"]


def test_a_fact_the_answer_ignores_is_unused(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """The verdict comes from the answer, not from having been shown."""
    agent = create_agent(Scripted(replies=["Our invoices are due within thirty days."]), memory=memory_of(engram))
    agent.invoke(asks("Where does Alice live, and when are invoices due?"))
    assert ledger.verdicts(fact_id) == ["unused"]


def test_the_state_of_one_turn_never_reaches_the_next(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """With a checkpointer turn 2 observes its own recall only, not turn 1's, and no tool artifact of turn 1."""
    model = Scripted(replies=[calls("engram_recall", query="Alice city"), ANSWER, "The invoice is due on Friday."])
    agent = create_agent(
        model,
        memory=EngramMiddleware(ALICE, engram, tools=["recall"]),
        checkpointer=InMemorySaver(),
    )
    agent.invoke(asks(QUESTION), THREAD)
    first = ledger.recalls(fact_id)
    assert len(first) == 2  # the middleware's and the tool's
    assert [len(engram.context.ledger.usage(recall_id)) for recall_id in first] == [1, 1]
    agent.invoke(asks("When is the invoice due?"), THREAD)
    assert [len(engram.context.ledger.usage(recall_id)) for recall_id in first] == [1, 1]
    assert [engram.context.ledger.usage(recall_id)[0].response for recall_id in first] == [ANSWER, ANSWER]


def test_the_checkpointer_holds_no_fact_text(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """A deleted fact leaves no copy in checkpoints; nor does the turn's recall id, which would reach the next turn."""
    saver = InMemorySaver()
    model = Scripted(replies=["Fine."])
    create_agent(model, memory=memory_of(engram), checkpointer=saver).invoke(asks("How is the city?"), THREAD)
    assert FACT in model.seen
    kept = repr([(item.checkpoint, item.metadata, item.pending_writes) for item in saver.list(None)])
    assert "How is the city?" in kept
    assert "Lisbon" not in kept
    assert ledger.recalls(fact_id)[0] not in kept


@pytest.mark.parametrize("mode", ["values", "updates", "messages", "debug"])
def test_stream_events_hold_ids_but_no_fact_text(engram: Engram, fact_id: str, mode: Any) -> None:
    """Whatever a front end forwards to the browser, facts are not in it."""
    agent = create_agent(Scripted(replies=["Fine."]), memory=memory_of(engram))
    events = repr(list(agent.stream(asks("How is the city?"), stream_mode=mode)))
    assert "Fine." in events
    assert "Lisbon" not in events


def test_the_field_is_neither_in_the_output_nor_in_the_schemas(engram: Engram, fact_id: str) -> None:
    """A caller can neither read nor set it."""
    agent = create_agent(Scripted(replies=[ANSWER]), memory=memory_of(engram))
    assert {"messages"} == set(agent.invoke(asks(QUESTION)))
    assert "engram_recalls" not in str(agent.get_input_jsonschema())
    assert "engram_recalls" not in str(agent.get_output_jsonschema())


def interrupted_agent(engram: Engram, saver: InMemorySaver, model: Scripted) -> Any:
    @tool
    def confirm() -> str:
        """Ask the person."""
        return str(interrupt("sure?"))

    return create_agent(model, [confirm], memory=memory_of(engram), checkpointer=saver)


@pytest.mark.parametrize("is_async", [False, True])
async def test_interrupt_and_resume_is_one_turn(engram: Engram, ledger: Ledger, fact_id: str, is_async: bool) -> None:
    """After the resume the model sees the facts again, from the same recall, and it is observed once."""
    model = Scripted(replies=[calls("confirm"), ANSWER])
    agent = interrupted_agent(engram, InMemorySaver(), model)
    if is_async:
        await agent.ainvoke(asks(QUESTION), THREAD)
        await agent.ainvoke(Command(resume="yes"), THREAD)
    else:
        agent.invoke(asks(QUESTION), THREAD)
        agent.invoke(Command(resume="yes"), THREAD)
    assert FACT in model.seen
    assert len(ledger.recalls(fact_id)) == 1
    assert ledger.verdicts(fact_id) == ["used"]


def test_resume_in_another_process_recalls_again(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """A new agent object, as after a restart, knows nothing of the first half: it recalls anew and observes that."""
    model, saver = Scripted(replies=[calls("confirm"), ANSWER]), InMemorySaver()
    interrupted_agent(engram, saver, model).invoke(asks(QUESTION), THREAD)
    interrupted_agent(engram, saver, model).invoke(Command(resume="yes"), THREAD)
    assert FACT in model.seen
    first, second = ledger.recalls(fact_id)
    assert engram.context.ledger.usage(first) == []
    assert [row.response for row in engram.context.ledger.usage(second)] == [ANSWER]


def test_a_resume_that_calls_no_model_still_observes(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """Paused after the answer, for a person to approve: no before_model runs, and the ids are gone from the state."""
    agent = create_agent(
        Scripted(replies=[ANSWER]), memory=memory_of(engram), checkpointer=InMemorySaver(), interrupt_after=["model"]
    )
    agent.invoke(asks(QUESTION), THREAD)
    assert ledger.verdicts(fact_id) == []
    agent.invoke(None, THREAD)
    assert ledger.verdicts(fact_id) == ["used"]


def test_text_that_is_no_longer_held_is_recalled_again(engram: Engram, fact_id: str) -> None:
    """As when a thousand other turns came in between."""
    memory = EngramMiddleware(ALICE, engram)
    memory._held = Held(max_held=0)
    model = Scripted(replies=[ANSWER])
    create_agent(model, memory=memory).invoke(asks(QUESTION))
    assert FACT in model.seen


def test_an_earlier_turns_artifacts_are_left_alone_after_a_restart(
    engram: Engram, ledger: Ledger, fact_id: str
) -> None:
    """The checkpoint still holds them, and a new process does not know that they were settled."""
    model = Scripted(replies=[calls("engram_recall", query="Alice city"), ANSWER, "The invoice is due on Friday."])
    memory = EngramMiddleware(ALICE, engram, inject="none", tools=["recall"])
    agent = create_agent(model, memory=memory, checkpointer=InMemorySaver())
    agent.invoke(asks(QUESTION), THREAD)
    VERDICTS._asked.clear()
    agent.invoke(asks("When is the invoice due?"), THREAD)
    assert ledger.responses(fact_id) == [ANSWER]


def test_a_summary_is_not_what_the_person_said(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """SummarizationMiddleware writes its summary as a human message."""
    summarize = SummarizationMiddleware(
        Scripted(answer=lambda messages: "A long talk about penguins."), trigger=("messages", 3), keep=("messages", 1)
    )
    model = Scripted(replies=["Hello.", ANSWER])
    agent = create_agent(model, memory=memory_of(engram), middleware=[summarize], checkpointer=InMemorySaver())
    agent.invoke(asks("I keep a diary about birds."), THREAD)
    agent.invoke(asks(QUESTION), THREAD)
    assert "penguins" in model.seen
    assert not any("penguins" in text for text in ledger.texts())
    assert "I keep a diary about birds." in ledger.texts()
    assert ledger.verdicts(fact_id)[-1] == "used"


def test_facts_fetched_by_a_tool_are_observed_with_the_final_answer(
    engram: Engram, ledger: Ledger, fact_id: str
) -> None:
    """The recall id comes from the artifact; the model's tool-call message is not the answer."""
    model = Scripted(replies=[calls("engram_recall", query="Alice city"), ANSWER])
    agent = create_agent(model, memory=EngramMiddleware(ALICE, engram, inject="none", tools=True))
    agent.invoke(asks("Where is my home?"))
    assert FACT in model.seen
    assert ledger.responses(fact_id) == [ANSWER]
    assert ledger.verdicts(fact_id) == ["used"]


def test_a_tool_of_another_scope_is_observed_there(engram: Engram, ledger: Ledger) -> None:
    """The middleware settles a recall with the memory that made it, not with its own."""
    fact = engram.memory("acme/team").add("The launch code word is pelican.").facts[0]
    model = Scripted(replies=[calls("team_recall", query="launch code word"), "The code word is pelican."])
    tools = engram_tools("acme/team", engram=engram, prefix="team_")
    create_agent(model, tools, memory=memory_of(engram)).invoke(asks("What is the word for the launch?"))
    assert ledger.verdicts(fact.id) == ["used"]


def test_tools_remember_and_forget(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """The model can add and archive facts of its own scope."""
    model = Scripted(
        replies=[
            calls("engram_remember", text="Alice is allergic to peanuts."),
            calls("engram_forget", fact_id=fact_id, reason="she moved"),
            "Done.",
        ]
    )
    agent = create_agent(model, memory=EngramMiddleware(ALICE, engram, tools=True, record=False))
    agent.invoke(asks("Please update what you know."))
    assert [fact.text for fact in engram.memory(ALICE).list() if fact.status in ("live", "pending")] == [
        "Alice is allergic to peanuts."
    ]


def test_a_failing_model_leaves_the_verdict_unknown_and_the_error_whole(
    engram: Engram, ledger: Ledger, fact_id: str
) -> None:
    """after_agent does not run then: nothing may be counted as unused."""
    agent = create_agent(Scripted(replies=[RuntimeError("no capacity")]), memory=memory_of(engram))
    with pytest.raises(RuntimeError, match="no capacity"):
        agent.invoke(asks(QUESTION))
    assert len(ledger.recalls(fact_id)) == 1
    assert ledger.verdicts(fact_id) == ["unknown"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_with_handler_and_middleware_a_turn_counts_once(
    engram: Engram, ledger: Ledger, fact_id: str, is_async: bool
) -> None:
    """Both know the recall; whoever is first settles it."""
    memory = memory_of(engram)
    config: Any = {"callbacks": [memory.as_callback()]}
    agent = create_agent(Scripted(replies=[ANSWER]), memory=memory)
    if is_async:
        await agent.ainvoke(asks(QUESTION), config)
    else:
        agent.invoke(asks(QUESTION), config)
    assert ledger.verdicts(fact_id) == ["used"]


def test_with_a_handler_a_failing_model_is_recorded_as_unknown(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """The handler is the second source where after_agent does not run."""
    memory = memory_of(engram)
    handler = memory.as_callback()
    agent = create_agent(Scripted(replies=[RuntimeError("no capacity")]), memory=memory)
    with pytest.raises(RuntimeError, match="no capacity"):
        agent.invoke(asks(QUESTION), {"callbacks": [handler]})
    assert ledger.verdicts(fact_id) == ["unknown"]
    assert handler.open_turns == 0


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_abandoned_agent_stream_is_unknown(
    engram: Engram, ledger: Ledger, fact_id: str, is_async: bool
) -> None:
    """Half an answer proves nothing about the facts it did not get to."""
    memory = memory_of(engram)
    handler = memory.as_callback()
    agent = create_agent(Scripted(replies=[ANSWER]), memory=memory)
    config: Any = {"callbacks": [handler]}
    if is_async:
        stream: Any = agent.astream(asks(QUESTION), config, stream_mode="messages")
        await anext(stream)
        await stream.aclose()
    else:
        sync: Any = agent.stream(asks(QUESTION), config, stream_mode="messages")
        next(sync)
        sync.close()
    gc.collect()
    assert ledger.verdicts(fact_id) == ["unknown"]
    assert handler.open_turns == 0


def test_an_interrupted_turn_with_a_handler_is_observed_after_the_resume(
    engram: Engram, ledger: Ledger, fact_id: str
) -> None:
    """The first half ends without an answer, so it is unknown; the verdict comes with the second."""
    handler = memory_of(engram).as_callback()
    model = Scripted(replies=[calls("confirm"), ANSWER])
    agent = interrupted_agent(engram, InMemorySaver(), model)
    config: Any = {**THREAD, "callbacks": [handler]}
    agent.invoke(asks(QUESTION), config)
    assert ledger.verdicts(fact_id) == ["unknown"]
    agent.invoke(Command(resume="yes"), config)
    assert ledger.verdicts(fact_id) == ["unknown", "used"]
    assert len(ledger.recalls(fact_id)) == 1
    assert handler.open_turns == 0


@dataclass
class Context:
    user: str


def echo(messages: list[Any]) -> str:
    """Answers with the number it finds in the recalled context."""
    return next((w for m in messages for w in str(m.text).split() if w.startswith("locker-")), "I do not know.")


def seeded(engram: Engram, n: int = 8) -> list[str]:
    return [engram.memory(f"acme/u{i}").add(f"My locker is locker-{i}").facts[0].id for i in range(n)]


def test_eight_threads_on_one_agent_never_mix(engram: Engram, ledger: Ledger) -> None:
    """One agent, one middleware, eight users: nothing of a run is kept on the object."""
    facts = seeded(engram)
    memory = memory_of(engram, lambda context: f"acme/{context.user}")
    agent = create_agent(Scripted(answer=echo), memory=memory, context_schema=Context)

    def ask(i: int) -> str:
        result = agent.invoke(asks("Which locker is mine?"), context=Context(f"u{i}"))
        return str(result["messages"][-1].text)

    with ThreadPoolExecutor(8) as pool:
        assert [f"locker-{i}" for i in range(8)] == list(pool.map(ask, range(8)))
    assert [ledger.verdicts(fact) for fact in facts] == [["used"]] * 8


async def test_eight_tasks_on_one_agent_never_mix(engram: Engram, ledger: Ledger) -> None:
    """The same on one event loop, with the scope from `configurable`."""
    facts = seeded(engram)
    memory = memory_of(engram, lambda context: f"acme/{context['user']}")
    agent = create_agent(Scripted(answer=echo), memory=memory)

    async def ask(i: int) -> str:
        result = await agent.ainvoke(asks("Which locker is mine?"), {"configurable": {"user": f"u{i}"}})
        return str(result["messages"][-1].text)

    assert [f"locker-{i}" for i in range(8)] == await asyncio.gather(*map(ask, range(8)))
    assert [ledger.verdicts(fact) for fact in facts] == [["used"]] * 8


def test_tools_get_the_same_scope_as_the_middleware(engram: Engram, ledger: Ledger) -> None:
    """`runtime.context` decides in both, and the model cannot."""
    seeded(engram, 2)
    model = Scripted(replies=[calls("engram_recall", query="locker", scope="acme/u0"), "ok"])
    memory = EngramMiddleware(lambda context: f"acme/{context.user}", engram, inject="none", tools=["recall"])
    agent = create_agent(model, memory=memory, context_schema=Context)
    agent.invoke(asks("Which locker is mine?"), context=Context("u1"))
    assert "locker-1" in model.seen
    assert "locker-0" not in model.seen


def test_a_closed_store_does_not_break_the_run(engram: Engram, caplog: pytest.LogCaptureFixture) -> None:
    """fail_open: the answer arrives, the failure is logged."""
    agent = create_agent(Scripted(replies=[ANSWER]), memory=EngramMiddleware(ALICE, engram, tools=True))
    engram.close()
    result = agent.invoke(asks(QUESTION))
    assert result["messages"][-1].text == ANSWER
    assert "recall failed and was skipped" in caplog.text
    assert "add failed and was skipped" in caplog.text


def test_tools_of_a_closed_store_say_so_to_the_model(engram: Engram) -> None:
    """All three tools answer; none raises."""
    engram.close()
    for each, args in zip(
        engram_tools(ALICE, engram=engram),
        [{"query": "x"}, {"text": "x"}, {"fact_id": "x", "reason": "x"}],
        strict=True,
    ):
        assert "out of order" in each.invoke(args)


def test_fail_closed_raises(engram: Engram) -> None:
    """fail_open=False is for tests and for people who want to know."""
    agent = create_agent(Scripted(replies=[ANSWER]), memory=memory_of(engram, fail_open=False))
    engram.close()
    with pytest.raises(Exception, match="closed"):
        agent.invoke(asks(QUESTION))


def test_a_failing_scope_callable_is_visible_to_the_doctor_or_the_log(
    engram: Engram, caplog: pytest.LogCaptureFixture
) -> None:
    """A scope that cannot be told is a memory error, not the user's."""
    agent = create_agent(Scripted(replies=[ANSWER]), memory=memory_of(engram, lambda context: context["user"]))
    assert agent.invoke(asks(QUESTION))["messages"][-1].text == ANSWER
    assert "KeyError" in caplog.text or "'user'" in caplog.text


async def test_the_event_loop_is_not_stalled(off_loop: OffLoop) -> None:
    """Everything slow, embedding above all, happens in other threads."""
    agent = create_agent(Scripted(replies=[ANSWER]), memory=memory_of(off_loop.engram))
    await agent.ainvoke(asks(QUESTION))
    off_loop.check(at_least=2)  # recall and add


def test_names_differ_by_scope_and_equal_names_are_refused(engram: Engram) -> None:
    """LangChain refuses two middleware of one name; two scopes in one agent work, and both are observed."""
    one, two = EngramMiddleware("acme/a:1", engram), EngramMiddleware("acme/b", engram)
    assert two.name == "EngramMiddleware[acme/b]"
    facts = [
        engram.memory("acme/a:1").add(FACT).facts[0].id,
        engram.memory("acme/b").add("Alice lives with Bob.").facts[0].id,
    ]
    model = Scripted(replies=["Alice lives in Lisbon near the river with Bob."])
    agents.create_agent(model, middleware=[one, two]).invoke(asks(QUESTION))
    assert FACT in model.seen
    assert "with Bob" in model.seen
    assert [Ledger(engram).verdicts(fact) for fact in facts] == [["used"], ["used"]]
    with pytest.raises(AssertionError):
        agents.create_agent(model, middleware=[two, EngramMiddleware("acme/b", engram)])
    agents.create_agent(model, middleware=[two, EngramMiddleware("acme/b", engram, name="second")])


def test_two_tools_of_one_name_are_refused(engram: Engram) -> None:
    """LangChain would let the last one win: `remember` might write into another scope."""
    one = EngramMiddleware("acme/a", engram, tools=True)
    two = EngramMiddleware("acme/b", engram, tools=True)
    with pytest.raises(InvalidInput, match="engram_recall"):
        create_agent(Scripted(), memory=one, middleware=[two])
    with pytest.raises(InvalidInput, match="engram_recall"):
        create_agent(Scripted(), engram_tools("acme/b", engram=engram), memory=one)
    with pytest.raises(InvalidInput, match="prefix"):
        agents.create_agent(Scripted(replies=["x"]), middleware=[one, two]).invoke(asks("hi"))
    create_agent(Scripted(), memory=one, middleware=[EngramMiddleware("acme/b", engram, tools=True, prefix="b_")])


def test_a_middleware_that_replaces_the_prompt_cannot_drop_the_facts(engram: Engram, fact_id: str) -> None:
    """create_agent puts memory next to the model."""

    @dynamic_prompt
    def pirate(request: Any) -> str:
        return "Talk like a pirate."

    model = Scripted(replies=["Arr."])
    create_agent(model, memory=memory_of(engram), middleware=[pirate]).invoke(asks(QUESTION))
    assert "Talk like a pirate." in model.seen
    assert FACT in model.seen


def test_another_middleware_may_end_the_turn_early(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """No answer of a model: the recall is unknown, the user's words are remembered."""
    from langchain.agents.middleware import before_model

    @before_model(can_jump_to=["end"])
    def stop(state: Any, runtime: Any) -> dict[str, Any]:
        return {"jump_to": "end"}

    agent = create_agent(Scripted(), memory=memory_of(engram), middleware=[stop])
    agent.invoke(asks("Alice prefers window seats on trains."))
    assert set(ledger.verdicts(fact_id)) <= {"unknown"}
    assert "Alice prefers window seats on trains." in ledger.texts()


def test_structured_responses_count_as_the_answer(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """With a response format the last message is a tool's; the structured response is what the user gets."""
    from pydantic import BaseModel

    class Home(BaseModel):
        """Where somebody lives."""

        city: str
        place: str

    model = Scripted(replies=[calls("Home", city="Lisbon", place="near the river")])
    agent = create_agent(model, memory=memory_of(engram), response_format=Home)
    assert agent.invoke(asks(QUESTION))["structured_response"].city == "Lisbon"
    assert ledger.verdicts(fact_id) == ["used"]


def test_create_agent_takes_a_scope_a_memory_a_middleware_or_nothing(engram: Engram) -> None:
    """And everything LangChain's own takes."""
    seen: list[str] = []
    for memory in (memory_of(engram), EngramMiddleware(ALICE, engram), memory_of(engram).binding, None):
        agent = create_agent(Scripted(replies=["ok"]), None, memory=memory, name="helper", debug=False)
        seen.append(str(agent.name))
        agent.invoke(asks("hello there"))
    assert seen == ["helper"] * 4


def test_a_restarted_process_remembers(tmp_path: Path) -> None:
    """Two agents on two openings of one store."""
    url = str(tmp_path / "store")
    with Engram.open(url) as engram:
        agent = create_agent(Scripted(replies=["Noted."]), memory=memory_of(engram))
        agent.invoke(asks("My daughter Mira plays the cello."))
    model = Scripted(replies=["The cello."])
    with Engram.open(url) as engram:
        create_agent(model, memory=memory_of(engram)).invoke(asks("What does my daughter play?"))
    assert "Mira plays the cello" in model.seen


def test_construction_opens_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but a scope is needed, and nothing is touched before the first turn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENGRAM_URL", raising=False)
    memory = EngramMemory(scope=ALICE)
    create_agent(Scripted(), memory=memory)
    memory.as_retriever(), memory.as_tools(), memory.as_callback(), memory.as_history("s")
    assert list(tmp_path.iterdir()) == []


def test_plain_middleware_still_works_beside_it(engram: Engram) -> None:
    """The wrapper passes other middleware through, in order, before memory."""

    class Counting(AgentMiddleware[Any, Any, Any]):
        calls = 0

        def before_model(self, state: Any, runtime: Any) -> None:
            Counting.calls += 1

    create_agent(Scripted(replies=["ok"]), memory=memory_of(engram), middleware=[Counting()]).invoke(asks("hello"))
    assert Counting.calls == 1


def test_a_model_answer_is_an_ai_message_even_as_chunk(engram: Engram, ledger: Ledger) -> None:
    """Streaming models return AIMessageChunk, whose `type` is not "ai"."""
    agent = create_agent(Scripted(replies=["The meeting room is called Aurora."]), memory=memory_of(engram))
    for _ in agent.stream(asks("What is the meeting room called?"), stream_mode="messages"):
        pass
    assert any("Aurora" in text for text in ledger.texts())
