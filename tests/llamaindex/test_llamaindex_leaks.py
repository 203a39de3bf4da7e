"""Many turns, many conversations: maps stay small, memory does not grow, and nobody hears another one's facts."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index_instrumentation.dispatcher import instrument_tags
from llamaindex_support import ANSWER, FACT, QUESTION, SCOPE, ScriptedLLM, Watched, agent_llm, calls, says
from support_learning import learn_all_it_can

from engram_core import Binding, Engram
from engram_core.models.tokens import EstimatingCounter
from engram_llamaindex import EngramMemory, EngramRetriever, engram_tools, instrument
from engram_llamaindex.conversation import Conversation
from engram_llamaindex.verdicts import VERDICTS, Verdicts

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*attribute.*deprecated:pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore:.*attribute.*deprecated:pydantic.warnings.PydanticDeprecatedSince211"),
]

BOUND = 100
"""Recalls, named turns and open turns kept during these tests, so that every map is filled many times over."""


@pytest.fixture
def small_maps() -> Iterator[None]:
    kept, VERDICTS._max_open = VERDICTS._max_open, BOUND
    yield
    VERDICTS._max_open = kept


class Forgetful(ScriptedLLM):
    """Keeps no prompt: its own memory would look like ours."""

    def _say(self, messages: Sequence[ChatMessage]) -> str:
        said = super()._say(messages)
        self.seen.clear()
        return said


def endings(engram: Engram) -> list[Callable[[], object]]:
    """A turn of every sort: answered, failed, abandoned, unread, lonely, named."""
    retriever = EngramRetriever(SCOPE, engram=engram)
    plain = RetrieverQueryEngine.from_args(retriever, llm=Forgetful())
    failing = RetrieverQueryEngine.from_args(retriever, llm=ScriptedLLM(fails_after=0))
    streaming = RetrieverQueryEngine.from_args(retriever, llm=Forgetful(), streaming=True)
    unread: list[Any] = []

    def fails() -> None:
        with pytest.raises(RuntimeError):
            failing.query(QUESTION)

    def abandons() -> None:
        next(iter(streaming.query(QUESTION).response_gen))  # type: ignore[union-attr]

    def keeps_unread() -> None:
        unread.append(streaming.query(QUESTION))
        del unread[:-20]

    def waits_for_ever() -> None:
        with instrument_tags({"engram_turn": str(uuid4())}):
            retriever.retrieve(QUESTION)

    def asks_a_memory() -> None:
        EngramMemory(SCOPE, engram=engram).get(QUESTION)

    return [
        lambda: plain.query(QUESTION),
        fails,
        lambda: list(streaming.query(QUESTION).response_gen),  # type: ignore[union-attr]
        abandons,
        keeps_unread,
        lambda: retriever.retrieve(QUESTION),
        waits_for_ever,
        asks_a_memory,
    ]


def grows(turns: int, endings: list[Callable[[], object]]) -> float:
    """Blocks of memory that the second half of the turns left behind, per turn."""
    blocks = 0
    for number in range(turns):
        endings[number % len(endings)]()
        if number in (turns // 2, turns - 1):
            gc.collect()
            blocks = sys.getallocatedblocks() - blocks
    return blocks / (turns / 2)


@pytest.mark.parametrize("turns", [2_000, pytest.param(100_000, marks=pytest.mark.full)])
def test_turns_of_every_sort_leave_nothing_behind(tmp_path: Path, small_maps: None, turns: int) -> None:
    """Maps are full and stay that full; the second half of the turns costs no memory."""
    with Engram.open(tmp_path / "store", token_counter=EstimatingCounter()) as engram:
        engram.memory(SCOPE).add(FACT, session="earlier")
        learn_all_it_can(engram, SCOPE, QUESTION, FACT)
        with instrument(engram, max_open=BOUND) as on:
            assert grows(turns, endings(engram)) < 1.0
            on.flush()
            assert on.recorder.open_turns <= 21
            assert len(on.recorder._flows) == on.recorder.open_turns
            assert len(on.recorder._named) <= BOUND
            assert len(VERDICTS) <= BOUND
            assert not on.recorder._under_way
        assert len(VERDICTS) == 0
        assert on.recorder.open_turns == 0


class Deaf(Binding):
    """A memory that takes no time: what is counted here are the hooks' own maps."""

    def observe(self, recall_id: str, response: str | None, *, context: Any = None) -> None:
        """Nothing."""


@pytest.mark.parametrize("turns", [5_000, pytest.param(100_000, marks=pytest.mark.full)])
def test_a_hundred_thousand_turns_of_events_leave_nothing_behind(store: Watched, small_maps: None, turns: int) -> None:
    """The events of a turn without the engines around them; every third one fails, every seventh one never ends."""
    binding = Deaf(SCOPE)
    recall = store.engram.memory(SCOPE).recall(QUESTION)
    with instrument(max_open=BOUND) as on:
        recorder = on.recorder

        def turn(number: int) -> None:
            root, recall_id = f"s{number}", f"r{number}"
            recorder.started(root, None, None, str(number) if number % 5 == 0 else None)
            VERDICTS.opened(replace(recall, id=recall_id), binding)
            recorder.saw(root, recall_id)
            if number % 7 == 0:
                return
            recorder.said(root, ANSWER)
            if number % 3 == 0:
                recorder.dropped(root, None)
            else:
                recorder.ended(root, ANSWER)

        numbers = itertools.count()
        assert grows(turns, [lambda: turn(next(numbers))]) < 0.5
        on.flush()
        assert recorder.open_turns == len(recorder._flows) <= BOUND
        assert max(recorder._turns.runs, len(recorder._named), len(VERDICTS)) <= BOUND


def test_an_idle_process_releases_recalls_questions_and_turns(store: Watched) -> None:
    """No other turn comes along to push them out."""
    released: list[Any] = []
    conversation = Conversation(timeout_s=0.05, on_timeout=released.extend)
    conversation.put("Well?")
    verdicts = Verdicts(timeout_s=0.05)
    with instrument(store, timeout_s=0.05) as on:  # type: ignore[arg-type]
        verdicts.watch(on.recorder)
        retriever = EngramRetriever(SCOPE, engram=store)  # type: ignore[arg-type]
        unread = RetrieverQueryEngine.from_args(retriever, llm=ScriptedLLM(), streaming=True).query(QUESTION)
        verdicts.opened(store.recalls[0], retriever.binding)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and (len(conversation) or len(verdicts) or on.recorder.open_turns):
            time.sleep(0.01)
        on.flush()
        assert (len(conversation), len(verdicts), on.recorder.open_turns) == (0, 0, 0)
        assert not on.recorder._flows
        assert [question.text for question in released] == ["Well?"]
        assert store.observed == [(store.recalls[0].id, None)]
        assert "".join(unread.response_gen) == ANSWER, "the user may still read it"  # type: ignore[union-attr]


def test_a_question_that_nobody_answers_is_unknown_in_an_idle_process(store: Watched) -> None:
    """The memory is told by its conversation."""
    memory = EngramMemory(SCOPE, engram=store)  # type: ignore[arg-type]
    memory.put(ChatMessage(role="user", content=QUESTION))
    memory.get()
    memory._conversation._timeout_s = -1.0
    memory._conversation.sweep()
    assert store.observed == [(store.recalls[0].id, None)]


# --- fifty conversations at once -----------------------------------------------------------------------------------------

MANY = 50
TURNS = 3
WHICH = "Which locker is mine?"


def secret(number: int) -> str:
    return f"locker-{number:03d}x"


def tells(messages: Sequence[ChatMessage], **kwargs: Any) -> str:
    """The secret it can see; all of them, if it should see several."""
    words = [word.strip(".,") for message in messages for word in str(message.content).split()]
    seen = sorted({word for word in words if word.startswith("locker-")})
    return f"It is {' and '.join(seen)}" if seen else "I do not know."


def looks_up(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
    return says(tells(messages)) if messages[-1].role == "tool" else calls("engram_recall", query=WHICH)


def scope_of(tags: dict[str, Any]) -> str:
    return f"acme/u{tags['user']}"


@pytest.mark.parametrize("kind", ["query", "aquery", "achat", "chat", "agent"])
async def test_fifty_conversations_never_hear_each_other(engram: Engram, kind: str) -> None:
    """One retriever or set of tools for all; only the tags tell the conversations apart. Chats have a memory each."""
    for number in range(MANY):
        engram.memory(f"acme/u{number}").add(f"My locker is {secret(number)}.", session="earlier")
    store: Any = Watched(engram)
    retriever = EngramRetriever(scope_of, engram=store)
    engine = RetrieverQueryEngine.from_args(retriever, llm=ScriptedLLM(tells))
    tools = engram_tools(scope_of, engram=store)
    chats = {
        n: SimpleChatEngine.from_defaults(
            llm=ScriptedLLM(tells), memory=EngramMemory(f"acme/u{n}", engram=store, session_id=f"s{n}")
        )
        for n in range(MANY)
    }

    def sync_turn(number: int) -> str:
        with instrument_tags({"user": number}):
            return str(engine.query(WHICH)) if kind == "query" else str(chats[number].chat(WHICH))

    async def turn(number: int) -> str:
        with instrument_tags({"user": number}):
            if kind == "aquery":
                return str(await engine.aquery(WHICH))
            if kind == "achat":
                return str(await chats[number].achat(WHICH))
            return str(await FunctionAgent(llm=agent_llm(looks_up), tools=[*tools]).run(WHICH))

    async def talk(number: int) -> list[str]:
        return [await turn(number) for _ in range(TURNS)]

    with instrument(store) as on:
        if kind in ("query", "chat"):
            with ThreadPoolExecutor(MANY) as pool:
                work = pool.map(lambda n: [sync_turn(n) for _ in range(TURNS)], range(MANY))
                said = await asyncio.to_thread(list, work)
        else:
            said = await asyncio.gather(*(talk(number) for number in range(MANY)))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(on.flush)
        assert on.recorder.open_turns == 0
        assert len(VERDICTS) == 0
    assert said == [[f"It is {secret(number)}"] * TURNS for number in range(MANY)]
    assert len(store.observed) == len(store.recalls) == MANY * TURNS
    observed = dict(store.observed)
    for recall in store.recalls:
        own = str(recall.facts[0].fact.scope).removeprefix("acme/u")
        assert observed[recall.id] == f"It is {secret(int(own))}"
        assert all(str(item.fact.scope) == f"acme/u{own}" for item in recall.facts)
