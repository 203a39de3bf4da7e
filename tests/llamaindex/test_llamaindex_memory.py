"""EngramMemory by itself: history, recall per turn, copies, limits, and how it travels. Engines are elsewhere."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.memory import BaseMemory
from llama_index.core.schema import BaseComponent
from llama_index_instrumentation.dispatcher import instrument_tags
from llamaindex_support import ANSWER, FACT, QUESTION, SCOPE, Watched, calls, says, texts, user
from pydantic import ValidationError

from engram_core import Engram, InvalidInput, InvalidScope, Scope
from engram_core.models.tokens import token_counter
from engram_llamaindex import EngramMemory
from engram_llamaindex.conversation import Conversation


def facts_in(messages: list[ChatMessage]) -> list[ChatMessage]:
    return [message for message in messages if message.role == MessageRole.SYSTEM]


def remembered(engram: Engram, scope: str = SCOPE) -> list[str]:
    return [fact.text for fact in engram.memory(scope).list()]


# --- construction ----------------------------------------------------------------------------------------------------


def test_constructs_from_a_scope_alone_without_opening_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENGRAM_URL", raising=False)
    memory = EngramMemory(scope="acme/alice")
    assert isinstance(memory, BaseMemory)
    assert memory.get_all() == []
    assert list(tmp_path.iterdir()) == []


def test_an_empty_memory_is_not_falsy() -> None:
    # Engines and agents do `memory or default`: a sized memory was silently replaced while empty.
    memory = EngramMemory(scope="acme/alice")
    assert memory
    assert not hasattr(type(memory), "__len__")
    assert not hasattr(type(memory), "__bool__")


def test_takes_a_scope_object() -> None:
    assert EngramMemory(Scope.of("acme", "Alice Smith")).scope == Scope.of("acme", "Alice Smith").path


def test_refuses_a_malformed_scope_at_once() -> None:
    with pytest.raises(InvalidScope):
        EngramMemory(scope="Not A Scope")


@pytest.mark.parametrize(
    "wrong",
    [{"k": 0}, {"k": 301}, {"max_tokens": 0}, {"token_limit": 0}, {"insert": "assistant"}, {"session_id": "x" * 501}],
)
def test_refuses_numbers_out_of_range_at_once(wrong: dict[str, Any]) -> None:
    # Failing open, they would otherwise disable memory silently at every recall.
    with pytest.raises(ValidationError):
        EngramMemory("acme/alice", **wrong)


def test_from_defaults_is_the_constructor(store: Watched) -> None:
    memory = EngramMemory.from_defaults([user("hi")], None, 100, scope=SCOPE, engram=store, k=3)
    assert (memory.token_limit, memory.k, texts(memory.get_all())) == (100, 3, ["user: hi"])


def test_from_defaults_without_a_scope_says_what_to_do() -> None:
    with pytest.raises(InvalidInput, match="memory=EngramMemory"):
        EngramMemory.from_defaults(chat_history=[], token_limit=10)


# --- reading ---------------------------------------------------------------------------------------------------------


def test_puts_what_is_known_before_the_history(memory: EngramMemory) -> None:
    memory.put(user(QUESTION))
    facts, question = memory.get()
    assert facts.role == MessageRole.SYSTEM
    assert "Lisbon" in (facts.content or "")
    assert texts([question]) == [f"user: {QUESTION}"]


def test_adds_no_message_when_nothing_is_known(engram: Engram) -> None:
    memory = EngramMemory("acme/nobody", engram=engram)
    memory.put(user(QUESTION))
    assert texts(memory.get()) == [f"user: {QUESTION}"]


def test_an_empty_conversation_reads_as_nothing(store: Watched, memory: EngramMemory) -> None:
    assert memory.get() == []
    assert memory.get(input="   ") == []
    assert store.recalls == []


def test_the_engine_may_name_the_question_before_putting_it(store: Watched, memory: EngramMemory) -> None:
    assert "Lisbon" in (memory.get(input=QUESTION)[0].content or "")
    memory.put(user(QUESTION))
    memory.put(says(ANSWER))
    assert [recall.query for recall in store.recalls] == [QUESTION]
    assert store.verdicts(QUESTION) == [ANSWER]


def test_get_accepts_whatever_engines_pass(memory: EngramMemory) -> None:
    memory.put(user(QUESTION))
    assert memory.get(initial_token_count=12, anything=object())


def test_one_recall_per_turn_however_often_it_is_read(store: Watched, memory: EngramMemory) -> None:
    memory.put(user(QUESTION))
    first = memory.get()
    assert memory.get(input=QUESTION) == first
    memory.put(says(ANSWER))
    assert facts_in(memory.get()) == facts_in(first), "agents read once more after the answer"
    assert len(store.recalls) == 1


def test_the_same_question_later_is_a_new_turn(store: Watched, memory: EngramMemory) -> None:
    for _ in range(2):
        memory.get(input=QUESTION)
        memory.put(user(QUESTION))
        memory.put(says(ANSWER))
    assert len(store.recalls) == 2
    assert store.verdicts(QUESTION) == [ANSWER, ANSWER]


def test_a_question_is_recalled_before_it_is_remembered(store: Watched, memory: EngramMemory) -> None:
    memory.put(user("My sister lives in Lisbon too, by the way."))
    assert "sister" not in (memory.get()[0].content or "")


def test_parallel_reads_of_one_turn_share_its_recall(store: Watched, memory: EngramMemory) -> None:
    memory.put(user(QUESTION))
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda _: texts(memory.get(input=None)), range(16)))
    assert len(store.recalls) == 1
    assert all(one == read[0] for one in read)


def test_what_is_returned_are_copies_all_the_way_down(memory: EngramMemory) -> None:
    memory.put(user(QUESTION))
    for messages in (memory.get(), memory.get_all()):
        block = messages[-1].blocks[0]
        assert isinstance(block, TextBlock)
        block.text = "overwritten by an agent's state prompt"
        messages[-1].additional_kwargs["x"] = 1
    assert texts(memory.get_all()) == [f"user: {QUESTION}"]
    assert memory.get_all()[0].additional_kwargs == {}


def test_what_is_put_is_copied_too(memory: EngramMemory) -> None:
    message = user(QUESTION)
    memory.put(message)
    message.content = "changed afterwards"
    assert texts(memory.get_all()) == [f"user: {QUESTION}"]


def test_insert_user_puts_the_facts_into_the_question(store: Watched) -> None:
    memory = EngramMemory(SCOPE, engram=store, insert="user")  # type: ignore[arg-type]
    memory.put(user(QUESTION))
    (message,) = memory.get()
    assert message.role == MessageRole.USER
    assert "Lisbon" in (message.content or "")
    assert (message.content or "").endswith(QUESTION)
    memory.put(says(ANSWER))
    read = memory.get()
    assert [one.role.value for one in read] == ["user", "assistant"], "read after the answer: no stray message"
    assert texts(memory.get_all())[0] == f"user: {QUESTION}"


def test_insert_user_before_the_question_is_put_stands_last(store: Watched) -> None:
    memory = EngramMemory(SCOPE, engram=store, insert="user", history=[user("hi"), says("hello")])  # type: ignore[arg-type]
    read = memory.get(input=QUESTION)
    assert [one.role.value for one in read] == ["user", "assistant", "user"]
    assert "Lisbon" in (read[-1].content or "")


# --- remembering -----------------------------------------------------------------------------------------------------


def test_remembers_what_the_user_says_at_once(engram: Engram, memory: EngramMemory) -> None:
    memory.put(user("My dog is called Rex."))
    assert "My dog is called Rex." in remembered(engram)


def test_remembers_the_final_answer_as_an_assistants(engram: Engram, memory: EngramMemory) -> None:
    memory.put(user("What should I plant?"))
    memory.get()
    memory.put(says("I recommend a fig tree for the southern terrace."))
    (fact,) = [fact for fact in engram.memory(SCOPE).list() if "fig tree" in fact.text]
    assert fact.origin.channel == "assistant"
    assert fact.origin.session == memory.session_id


def test_the_answer_is_judged_against_the_recall(store: Watched, memory: EngramMemory) -> None:
    memory.put(user(QUESTION))
    memory.get()
    memory.put(says(ANSWER))
    (recall,) = store.recalls
    assert store.observed == [(recall.id, ANSWER)]
    assert store.usages[recall.id].used == (recall.facts[0].fact.id,)


def test_a_recall_nobody_read_is_unknown(store: Watched, memory: EngramMemory) -> None:
    # CondenseQuestion with an explicit chat_history never reads: facts that were not shown must not be punished.
    memory.put(user(QUESTION))
    memory.put(says("I have no idea."))
    assert store.verdicts(QUESTION) == [None]


def test_an_answer_is_judged_once(store: Watched, memory: EngramMemory) -> None:
    memory.put(user(QUESTION))
    memory.get()
    memory.put(says(ANSWER))
    memory.put(says("Anything else?"))
    assert store.verdicts(QUESTION) == [ANSWER]


def test_a_turn_without_answer_is_unknown_once_the_next_begins(store: Watched, memory: EngramMemory) -> None:
    memory.put(user(QUESTION))
    memory.get()
    memory.put(user("Hello, are you there?"))
    assert store.verdicts(QUESTION) == [None]


def test_tool_calls_and_tool_results_are_no_answers(engram: Engram, store: Watched, memory: EngramMemory) -> None:
    memory.put(user(QUESTION))
    memory.get()
    old_style = ChatMessage(role="assistant", content="let me see", additional_kwargs={"tool_calls": [{"id": "1"}]})
    memory.put_messages(
        [calls("look", q="x"), old_style, ChatMessage(role="tool", content="the tool's quartz output"), says(ANSWER)]
    )
    assert store.verdicts(QUESTION) == [ANSWER]
    assert not [text for text in remembered(engram) if "quartz" in text or "let me see" in text]
    assert len(memory.get_all()) == 5, "the history keeps everything"


def test_react_keeps_what_follows_answer(engram: Engram, store: Watched, memory: EngramMemory) -> None:
    memory.put(user(QUESTION))
    memory.get()
    memory.put(
        says(
            "Thought: I need a tool.\nAction: look\nAction Input: {}\nObservation: Thought: fake\nAnswer: marmalade\n"
            "Thought: I can answer.\nAnswer: Lisbon.\nAnswer: is a word here."
        )
    )
    assert store.verdicts(QUESTION) == ["Lisbon.\nAnswer: is a word here."]
    assert not [text for text in remembered(engram) if "marmalade" in text]


def test_an_ordinary_answer_may_contain_the_word(store: Watched, memory: EngramMemory) -> None:
    memory.put(user(QUESTION))
    memory.get()
    memory.put(says("Quiz.\nAnswer: Lisbon"))
    assert store.verdicts(QUESTION) == ["Quiz.\nAnswer: Lisbon"]


def test_history_that_is_put_in_one_go_is_not_recalled_for(store: Watched, memory: EngramMemory) -> None:
    memory.put_messages([user("I play the oboe."), says("Lovely."), user("I also sing bass.")])
    assert [recall.query for recall in store.recalls] == ["I also sing bass."]


def test_images_without_words_are_kept_and_not_remembered(engram: Engram, memory: EngramMemory) -> None:
    before = remembered(engram)
    memory.put(ChatMessage(role="user", blocks=[ImageBlock(image=b"\x89PNG", image_mimetype="image/png")]))
    memory.get()
    assert remembered(engram) == before
    assert len(memory.get_all()) == 1


def test_set_replaces_the_history_and_a_trailing_question_opens_a_turn(store: Watched, memory: EngramMemory) -> None:
    memory.put(user("old"))
    memory.set([user("hi"), says("hello"), user(QUESTION)])
    read = memory.get()
    assert "Lisbon" in (read[0].content or "")
    assert texts(read[1:]) == ["user: hi", "assistant: hello", f"user: {QUESTION}"]
    memory.put(says(ANSWER))
    assert store.verdicts(QUESTION) == [ANSWER]


def test_reset_forgets_the_conversation_only(engram: Engram, memory: EngramMemory) -> None:
    memory.put(user("My dog is called Rex."))
    memory.reset()
    assert memory.get_all() == []
    assert "My dog is called Rex." in remembered(engram)


async def test_the_async_twins_do_the_same(store: Watched, memory: EngramMemory) -> None:
    assert "Lisbon" in ((await memory.aget(input=QUESTION))[0].content or "")
    await memory.aput(user(QUESTION))
    assert "Lisbon" in ((await memory.aget())[0].content or "")
    await memory.aput_messages([calls("look"), says(ANSWER)])
    assert store.verdicts(QUESTION) == [ANSWER]
    assert len(await memory.aget_all()) == 3
    await memory.aset([user("hi")])
    assert texts(await memory.aget_all()) == ["user: hi"]
    await memory.areset()
    assert await memory.aget_all() == []
    assert threading.current_thread().name not in store.threads, "the store was asked on the event loop's thread"


# --- concurrency -----------------------------------------------------------------------------------------------------


async def test_concurrent_turns_on_one_object_keep_their_own_recall(store: Watched, memory: EngramMemory) -> None:
    async def turn(number: int) -> None:
        await memory.aput(user(f"Question number {number} about Lisbon?"))
        await asyncio.sleep(0)
        await memory.aget()
        await asyncio.sleep(0)
        await memory.aput(says(f"Reply {number}."))

    await memory.aput(user("a turn before, in the parent task"))
    await memory.aput(says("fine"))
    await asyncio.gather(*(turn(number) for number in range(8)))
    for number in range(8):
        assert store.verdicts(f"Question number {number} about Lisbon?") == [f"Reply {number}."]
    assert len(memory.get_all()) == 18


def test_concurrent_turns_in_threads_keep_their_own_recall(store: Watched, memory: EngramMemory) -> None:
    barrier = threading.Barrier(4)

    def turn(number: int) -> None:
        memory.put(user(f"Question number {number} about Lisbon?"))
        barrier.wait(5)
        memory.get()
        barrier.wait(5)
        memory.put(says(f"Reply {number}."))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(turn, range(4)))
    for number in range(4):
        assert store.verdicts(f"Question number {number} about Lisbon?") == [f"Reply {number}."]


def test_an_answer_from_an_unknown_context_is_not_guessed(store: Watched, memory: EngramMemory) -> None:
    def elsewhere(function: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=function, args=arguments)
        thread.start()
        thread.join(5)

    elsewhere(memory.put, user("First question about Lisbon?"))
    elsewhere(memory.put, user("Second question about Lisbon?"))
    elsewhere(memory.put, says("An answer to one of them."))
    assert store.observed == []


def test_the_number_of_open_questions_is_bounded(store: Watched, memory: EngramMemory) -> None:
    memory._conversation._max_open = 2
    for number in range(3):
        thread = threading.Thread(target=memory.get, args=(f"Question {number} about Lisbon?",))
        thread.start()
        thread.join(5)
    assert store.verdicts("Question 0 about Lisbon?") == [None]
    assert len(memory._conversation._questions) == 2


def test_a_question_nobody_answers_times_out() -> None:
    now = [0.0]
    conversation = Conversation(timeout_s=10.0, clock=lambda: now[0])
    with instrument_tags({"llamaindex.run_id": "failed"}):
        failed, _ = conversation.put("first")
    now[0] = 9.0
    with instrument_tags({"llamaindex.run_id": "next"}):
        assert conversation.put("second")[1] == []
    now[0] = 11.0
    with instrument_tags({"llamaindex.run_id": "later"}):
        assert conversation.put("third")[1] == [failed]


# --- limits ----------------------------------------------------------------------------------------------------------


def long_history() -> list[ChatMessage]:
    return [
        message
        for number in range(6)
        for message in (user(f"question {number} " + "word " * 20), says(f"answer {number} " + "word " * 20))
    ]


COUNTER = token_counter()


def tokens(messages: list[ChatMessage]) -> int:
    return sum(COUNTER.count(message.content or "") for message in messages)


def test_token_limit_drops_the_oldest_turns_whole(engram: Engram) -> None:
    memory = EngramMemory("acme/nobody", engram=engram, token_limit=120, history=long_history())
    read = memory.get()
    assert [text.split(" word")[0] for text in texts(read)] == [
        "user: question 4",
        "assistant: answer 4",
        "user: question 5",
        "assistant: answer 5",
    ]
    assert len(memory.get_all()) == 12


@pytest.mark.parametrize("limit", [60, 120, 200, 400])
def test_token_limit_counts_the_recall_and_what_the_engine_adds(store: Watched, limit: int) -> None:
    memory = EngramMemory(SCOPE, engram=store, token_limit=limit, history=long_history())  # type: ignore[arg-type]
    memory.put(user(QUESTION))
    read = memory.get(initial_token_count=10)
    assert facts_in(read)
    own_turn = tokens(read[-1:]) + tokens(facts_in(read)) + 10
    assert tokens(read) + 10 <= limit or own_turn > limit


def test_the_newest_turn_is_always_returned(store: Watched) -> None:
    memory = EngramMemory(SCOPE, engram=store, token_limit=1, history=long_history())  # type: ignore[arg-type]
    memory.put(user(QUESTION))
    read = memory.get()
    assert texts(read[-1:]) == [f"user: {QUESTION}"]
    assert len(read) == 2


# --- failures --------------------------------------------------------------------------------------------------------


def test_a_closed_store_does_not_break_the_conversation(store: Watched, memory: EngramMemory, caplog: Any) -> None:
    store.engram.close()
    with caplog.at_level(logging.WARNING, "engram"):
        memory.put(user(QUESTION))
        assert texts(memory.get()) == [f"user: {QUESTION}"]
        memory.put(says(ANSWER))
    assert len(memory.get_all()) == 2
    assert "recall failed" in caplog.text
    assert "add failed" in caplog.text


def test_a_window_without_a_store_is_estimated(store: Watched) -> None:
    memory = EngramMemory(SCOPE, engram=store, token_limit=120, history=long_history())  # type: ignore[arg-type]
    store.engram.close()
    read = memory.get(input=QUESTION)
    assert texts(read)[0].startswith("user: question")
    assert 2 <= len(read) < 12


def test_fail_open_false_raises(store: Watched) -> None:
    memory = EngramMemory(SCOPE, engram=store, fail_open=False)  # type: ignore[arg-type]
    store.engram.close()
    with pytest.raises(Exception, match="closed"):
        memory.put(user(QUESTION))


def test_a_store_that_cannot_be_opened_does_not_break_the_conversation(tmp_path: Path, caplog: Any) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    memory = EngramMemory("acme/alice", url=str(blocked / "store"))
    with caplog.at_level(logging.WARNING, "engram"):
        memory.put(user(QUESTION))
        assert texts(memory.get()) == [f"user: {QUESTION}"]
    assert "failed" in caplog.text


# --- how it shows and travels ----------------------------------------------------------------------------------------


def test_no_text_in_repr_or_str(memory: EngramMemory) -> None:
    # Agents put repr() of their memory into trace attributes.
    memory.put(user("my secret"))
    memory.get()
    for shown in (repr(memory), str(memory), f"{memory}", repr({"memory": memory})):
        assert "secret" not in shown
        assert "Lisbon" not in shown
        assert SCOPE in shown


def test_survives_json_with_its_history_and_scope(store: Watched, memory: EngramMemory) -> None:
    memory.put(user(QUESTION))
    memory.put(ChatMessage(role="assistant", blocks=[ToolCallBlock(tool_name="look", tool_kwargs={"q": "x"})]))
    memory.put(ChatMessage(role="user", blocks=[ImageBlock(image=b"\x89PNG", image_mimetype="image/png")]))
    again = EngramMemory.from_dict(json.loads(json.dumps(memory.to_dict())))
    assert (again.scope, again.session_id, again.k) == (memory.scope, memory.session_id, memory.k)
    assert again.get_all() == memory.get_all()
    assert again.binding.engram is store, "the same open store, found again by its handle"


def test_recalled_text_does_not_travel(memory: EngramMemory) -> None:
    memory.put(user("Where is home?"))
    assert "Lisbon" in str(memory.get()[0].content)
    assert "Lisbon" not in json.dumps(memory.to_dict())


def test_a_restored_memory_opens_its_store_again(tmp_path: Path) -> None:
    with Engram.open(tmp_path / "store") as engram:
        memory = EngramMemory("acme/alice", engram=engram)
        memory.put(user(FACT))
        memory.put(says("Noted."))
        state = json.dumps(memory.to_dict())
    again = EngramMemory.from_dict(json.loads(state))
    again.put(user(QUESTION))
    assert "Lisbon" in str(again.get()[0].content)
    again.binding.engram.close()


def test_an_in_memory_store_that_is_gone_is_said(store: Watched, caplog: Any) -> None:
    state = EngramMemory(SCOPE, engram=store).to_dict()  # type: ignore[arg-type]
    store.engram.close()
    with caplog.at_level(logging.WARNING, "engram"):
        EngramMemory.from_dict(state)
    assert "in-memory store" in caplog.text


def test_a_handle_of_another_process_is_ignored(tmp_path: Path) -> None:
    memory = EngramMemory("acme/alice", handle="0" * 32, url=str(tmp_path / "store"))
    memory.put(user("I collect stamps."))
    with_store = memory.binding.engram
    assert [fact.text for fact in with_store.memory("acme/alice").list()] == ["I collect stamps."]
    with_store.close()


def test_a_database_password_does_not_travel() -> None:
    class Elsewhere(SimpleNamespace):
        __hash__ = object.__hash__

    ledger = SimpleNamespace(url="postgresql+psycopg://engram:hunter2@db/engram")
    store: Any = Elsewhere(context=SimpleNamespace(ledger=ledger), is_closed=False)
    state = EngramMemory("acme/alice", engram=store).to_dict()
    assert state["url"] == "postgresql+psycopg://engram:***@db/engram"


def test_the_store_remembers_across_a_restart(tmp_path: Path) -> None:
    with Engram.open(tmp_path / "store") as engram:
        memory = EngramMemory("acme/alice", engram=engram)
        memory.put(user(FACT))
        memory.put(says("Noted."))
    with Engram.open(tmp_path / "store") as engram:
        memory = EngramMemory("acme/alice", engram=engram)
        memory.put(user(QUESTION))
        assert "Lisbon" in str(memory.get()[0].content)


def test_a_component_that_holds_a_memory_restores_it(memory: EngramMemory) -> None:
    class Holder(BaseComponent):
        held: EngramMemory

    memory.put(user(QUESTION))
    again = Holder.from_dict(json.loads(Holder(held=memory).to_json()))
    assert again.held.get_all() == memory.get_all()


def test_deepcopy_and_pickle_work_and_are_independent(store: Watched, memory: EngramMemory) -> None:
    memory.put(user(QUESTION))
    for twin in (copy.deepcopy(memory), copy.copy(memory), pickle.loads(pickle.dumps(memory))):  # noqa: S301 - our own
        assert twin.get_all() == memory.get_all()
        assert twin.binding.engram is store
        twin.put(says("only here"))
    assert len(memory.get_all()) == 1


def test_scopes_stay_apart(engram: Engram) -> None:
    alice, bob = (EngramMemory(f"acme/{name}", engram=engram) for name in ("alice", "bob"))
    alice.put(user(FACT))
    alice.put(says("Noted."))
    bob.put(user(QUESTION))
    assert texts(bob.get()) == [f"user: {QUESTION}"]
