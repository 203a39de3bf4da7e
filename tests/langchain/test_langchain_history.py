"""EngramChatMessageHistory: a session's messages and nothing but, with RunnableWithMessageHistory and without."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_support import ALICE, ANSWER, FACT, QUESTION, Ledger, Scripted

from engram_core import Engram
from engram_langchain import EngramChatMessageHistory, EngramMemory

pytestmark = [
    # Deprecated upstream since 1.3.3, and still what history users have.
    pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated"),
]
S1: Any = {"configurable": {"session_id": "s1"}}


def wrapped(engram: Engram, model: Scripted, **keys: Any) -> tuple[RunnableWithMessageHistory, EngramMemory]:
    memory = EngramMemory(scope=ALICE, engram=engram)
    runnable: Any = model
    if keys:
        prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{question}")])
        runnable = prompt | model
    return RunnableWithMessageHistory(runnable, memory.as_history, **keys), memory


def words(messages: list[BaseMessage]) -> list[str]:
    return [str(message.text).strip() for message in messages]


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream"])
async def test_without_a_history_key_no_message_is_lost(engram: Engram, ledger: Ledger, fact_id: str, way: str) -> None:
    """The wrapper slices its inputs by the number of messages: recalled facts among them would cost the user's."""
    model = Scripted(replies=[ANSWER, "You are welcome."])
    chain, memory = wrapped(engram, model)
    for text in (QUESTION, "Thanks a lot."):
        if way == "invoke":
            chain.invoke([HumanMessage(text)], S1)
        elif way == "ainvoke":
            await chain.ainvoke([HumanMessage(text)], S1)
        else:
            list(chain.stream([HumanMessage(text)], S1))
    kept = memory.as_history("s1").messages
    assert words(kept) == [QUESTION, ANSWER, "Thanks a lot.", "You are welcome."]
    assert words(model.prompts[1]) == [QUESTION, ANSWER, "Thanks a lot."]
    assert FACT not in words(kept)


def test_with_a_history_key(engram: Engram) -> None:
    """The other way to use the wrapper."""
    model = Scripted(replies=["Hello Alice.", "Your name is Alice."])
    chain, memory = wrapped(engram, model, input_messages_key="question", history_messages_key="history")
    chain.invoke({"question": "My name is Alice."}, S1)
    chain.invoke({"question": "What is my name?"}, S1)
    assert words(model.prompts[1]) == ["My name is Alice.", "Hello Alice.", "What is my name?"]
    assert len(memory.as_history("s1").messages) == 4


def test_what_is_said_is_also_remembered(engram: Engram) -> None:
    """With session, ids, speaker and channel; a chunk of a streamed answer is an assistant's message."""
    history = EngramChatMessageHistory("s1", scope=ALICE, engram=engram)
    chunked = AIMessage("Your flight to Oslo leaves at nine.")
    history.add_messages([HumanMessage("I fly to Oslo on Monday.", id="m1", name="Alice"), chunked])
    facts = {fact.origin.channel: fact for fact in engram.memory(ALICE).list()}
    assert facts["user"].origin.message_ids == ("m1",)
    assert facts["user"].origin.session == "s1"
    assert facts["user"].speaker == "Alice"
    assert "assistant" in facts


def test_clear_empties_the_session_and_keeps_the_facts(engram: Engram, ledger: Ledger) -> None:
    """Short-term and long-term are two things."""
    history = EngramChatMessageHistory("s1", scope=ALICE, engram=engram)
    history.add_messages([HumanMessage("I fly to Oslo on Monday.")])
    history.clear()
    assert history.messages == []
    assert ledger.texts() == ["I fly to Oslo on Monday."]


def test_messages_is_a_copy(engram: Engram) -> None:
    """The wrapper appends to what it gets."""
    history = EngramChatMessageHistory("s1", scope=ALICE, engram=engram)
    history.messages.append(HumanMessage("never said"))
    assert history.messages == []


def test_as_history_returns_the_same_object_per_session(engram: Engram) -> None:
    """And forgets the oldest sessions beyond a thousand."""
    memory = EngramMemory(scope=ALICE, engram=engram)
    first = memory.as_history("s1")
    assert first is memory.as_history("s1")
    assert first is not memory.as_history("s2")
    for n in range(1000):
        memory.as_history(f"n{n}")
    assert first is not memory.as_history("s1")


def test_a_callable_scope_gets_the_session_id(engram: Engram, ledger: Ledger) -> None:
    """There is no runtime context here."""
    memory = EngramMemory(scope=lambda context: f"acme/{context['session_id']}", engram=engram)
    memory.as_history("u7").add_messages([HumanMessage("My locker is locker-7")])
    assert ledger.texts("acme/u7") == ["My locker is locker-7"]


def test_eight_threads_lose_nothing(engram: Engram) -> None:
    """A history shared by concurrent runs."""
    history = EngramChatMessageHistory("s1", scope=ALICE, engram=engram)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: history.add_messages([HumanMessage(f"Fact {n} about topic {n}.")]), range(40)))
    assert {f"Fact {n} about topic {n}." for n in range(40)} == set(words(history.messages))


async def test_a_closed_store_keeps_the_session(engram: Engram, caplog: pytest.LogCaptureFixture) -> None:
    """Memory fails, the conversation goes on."""
    history = EngramChatMessageHistory("s1", scope=ALICE, engram=engram)
    engram.close()
    await history.aadd_messages([HumanMessage("Hello there.")])
    assert words(await history.aget_messages()) == ["Hello there."]
    assert "add failed and was skipped" in caplog.text
