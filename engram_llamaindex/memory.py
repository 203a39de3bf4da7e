"""EngramMemory: long-term memory for `memory=` in LlamaIndex. It keeps the chat history; the core does the rest."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.bridge.pydantic import Field, PrivateAttr, field_serializer
from llama_index.core.llms.llm import LLM
from llama_index.core.memory import BaseMemory

from engram_core import DEFAULT_K, Binding, Engram, InvalidInput, Message, Recall, Scope, bind, strip_citations
from engram_llamaindex.context import HANDLES, url_of
from engram_llamaindex.conversation import Conversation, Question, agent_run
from engram_llamaindex.convert import (
    answer_of,
    assistant_said,
    last_question,
    question_of,
    strip_message,
    text_of,
    turns_of,
    user_said,
    with_text_first,
)
from engram_llamaindex.verdicts import VERDICTS

logger = logging.getLogger("engram")

HEADING = "Long-term memory: what is known from earlier conversations follows."


@dataclass(slots=True)
class _Work:
    """What putting messages leads to: gathered in the caller's context, done where it does not block the event loop."""

    abandoned: list[Question] = field(default_factory=list)
    to_recall: list[Question] = field(default_factory=list)
    to_add: list[Message] = field(default_factory=list)
    answered: list[tuple[Question, str]] = field(default_factory=list)


class EngramMemory(BaseMemory):
    """Chat memory that remembers across conversations, for chat engines and agents.

    What the user says and what the assistant finally answers is remembered under `scope`; what is remembered about the
    question at hand is put in front of the history, once per turn; and the answer is compared with it, so that memory
    learns which facts help. Within the conversation the messages themselves are kept in `history`.

    Make one object per conversation, as for every LlamaIndex memory. Nothing is opened until the first message.

        engine = SimpleChatEngine.from_defaults(llm=llm, memory=EngramMemory(scope="acme/support/alice"))
        await FunctionAgent(llm=llm).run("Where do I live?", memory=EngramMemory(scope="acme/support/alice"))

    It survives `ctx.to_dict()` and `Context.from_dict` with history and scope; the store is opened again from `url`.
    A `Context` that is used for several runs does the same between them: it then holds a copy, not this object.

    Args:
        scope: A scope path such as `acme/support/alice`; `Scope.of` makes one from raw user ids.
        session_id: The conversation, up to 500 characters. Default: a new one for this object.
        url: Where the store is; default `ENGRAM_URL`, else `./.engram`. Serialised: keep passwords in `ENGRAM_URL`.
        engram: An open Engram to use instead. A memory that is restored in the same process finds it again (by
            `handle`); elsewhere it opens the store's url.
        k: Facts per recall, 1 to 300.
        max_tokens: Token budget of a recall; default the policy's.
        token_limit: Tokens of text `get` returns at most, counting the recall and what the engine says it adds itself.
            The oldest turns are left out as a whole; the newest turn is always returned. `get_all` returns everything.
            Default: no limit.
        cite: Ask the model to cite the facts it uses by markers, which makes the verdicts exact. They are not kept in
            the history or remembered; whether the answer you get has them depends on the engine (docs/llamaindex.md).
        insert: `system` puts the recall in a system message before the history; `user` puts it into the user message
            that asked, for models that accept one system message only.
        principal: Who acts, such as `agent:helpdesk`. Default: the store's owner.
        fail_open: Log memory errors instead of raising them into the user's run.
        history: Messages the conversation begins with; they are not remembered again.
        handle: Set by serialisation: the name of the `engram` this memory was made with.

    Raises:
        InvalidScope: The scope breaks the grammar.
        ValidationError: Another argument is out of range.
    """

    scope: str
    session_id: str = Field(min_length=1, max_length=500)
    url: str | None = None
    handle: str | None = None
    k: int = Field(default=DEFAULT_K, ge=1, le=300)
    max_tokens: int | None = Field(default=None, ge=1)
    token_limit: int | None = Field(default=None, ge=1)
    cite: bool = False
    insert: Literal["system", "user"] = "system"
    principal: str | None = None
    fail_open: bool = True
    history: list[ChatMessage] = Field(default_factory=list)

    _binding: Binding = PrivateAttr()
    _conversation: Conversation = PrivateAttr()
    _lock: threading.RLock = PrivateAttr(default_factory=threading.RLock)

    def __init__(
        self,
        scope: Scope | str,
        *,
        session_id: str | None = None,
        url: str | None = None,
        engram: Engram | None = None,
        k: int = DEFAULT_K,
        max_tokens: int | None = None,
        token_limit: int | None = None,
        cite: bool = False,
        insert: Literal["system", "user"] = "system",
        principal: str | None = None,
        fail_open: bool = True,
        history: Sequence[ChatMessage | dict[str, Any]] | None = None,
        handle: str | None = None,
        class_name: str | None = None,
    ) -> None:
        # `class_name` is what LlamaIndex's serialiser adds to the fields; a model that holds a memory hands it back.
        path = str(Scope.coerce(scope))
        engram = engram if engram is not None else HANDLES.store(handle)
        if engram is not None:
            url, handle = url or url_of(engram), HANDLES.name(engram)
        elif handle is not None and url == ":memory:":
            logger.warning("engram: the in-memory store of this restored memory is gone; it starts with an empty one")
        fields: dict[str, Any] = {
            "scope": path,
            "session_id": session_id or uuid.uuid4().hex,
            "url": url,
            "handle": handle,
            "k": k,
            "max_tokens": max_tokens,
            "token_limit": token_limit,
            "cite": cite,
            "insert": insert,
            "principal": principal,
            "fail_open": fail_open,
            "history": [_copy(message) for message in history or ()],
        }
        super().__init__(**fields)
        self._conversation = Conversation(on_timeout=self._abandon)
        self._binding = bind(
            path,
            engram=engram,
            url=url,
            principal=principal,
            k=k,
            max_tokens=max_tokens,
            cite=cite,
            fail_open=fail_open,
        )

    @classmethod
    def from_defaults(
        cls,
        chat_history: list[ChatMessage] | None = None,
        llm: LLM | None = None,
        token_limit: int | None = None,
        **kwargs: Any,
    ) -> Self:
        """LlamaIndex's way to construct a memory. `kwargs` are the constructor's; `scope` is required.

        Raises:
            InvalidInput: No scope; a framework cannot know whose memory this is.
        """
        if "scope" not in kwargs:
            raise InvalidInput("EngramMemory needs a scope: pass memory=EngramMemory(scope='acme/alice') instead.")
        return cls(history=chat_history, token_limit=token_limit, **kwargs)

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name of this component."""
        return "EngramMemory"

    @property
    def binding(self) -> Binding:
        """The memory behind this object."""
        return self._binding

    # --- reading ---------------------------------------------------------------------------------------------------

    def get(self, input: str | None = None, **kwargs: Any) -> list[ChatMessage]:  # noqa: A002 - LlamaIndex's name
        """The history within `token_limit`, with the recall for this turn. Copies: editing them changes nothing."""
        question = self._ask(input)
        return self._read(*question, int(kwargs.get("initial_token_count") or 0))

    async def aget(self, input: str | None = None, **kwargs: Any) -> list[ChatMessage]:  # noqa: A002
        """`get`, off the event loop."""
        question = self._ask(input)
        return await asyncio.to_thread(self._read, *question, int(kwargs.get("initial_token_count") or 0))

    def get_all(self) -> list[ChatMessage]:
        """The whole history, without recalls. Copies."""
        with self._lock:
            return [_copy(message) for message in self.history]

    async def aget_all(self) -> list[ChatMessage]:
        """`get_all`; nothing in it blocks."""
        return self.get_all()

    # --- writing ---------------------------------------------------------------------------------------------------

    def put(self, message: ChatMessage) -> None:
        """Append a message; a user's words and a final answer are remembered."""
        self._do(self._take([message]))

    async def aput(self, message: ChatMessage) -> None:
        """`put`, off the event loop."""
        await asyncio.to_thread(self._do, self._take([message]))

    def put_messages(self, messages: list[ChatMessage]) -> None:
        """`put` for several messages, as one episode."""
        self._do(self._take(messages))

    async def aput_messages(self, messages: list[ChatMessage]) -> None:
        """`put_messages`, off the event loop."""
        await asyncio.to_thread(self._do, self._take(messages))

    def set(self, messages: list[ChatMessage]) -> None:
        """Replace the history. If it ends with a user message, that is the question of a new turn and remembered."""
        self._do(self._replace(messages))

    async def aset(self, messages: list[ChatMessage]) -> None:
        """`set`, off the event loop."""
        await asyncio.to_thread(self._do, self._replace(messages))

    def reset(self) -> None:
        """Forget the chat history of this object. What is remembered long-term stays; see `Memory.forget`."""
        self._do(self._replace([]))

    async def areset(self) -> None:
        """`reset`, off the event loop."""
        await asyncio.to_thread(self._do, self._replace([]))

    # --- bookkeeping: in the caller's context, so that a task keeps its own question ----------------------------------

    def _ask(self, text: str | None) -> tuple[Question | None, list[Question]]:
        if self.cite:
            VERDICTS.citing(self._binding)
        with self._lock:
            return self._conversation.read((text or "").strip(), last_question(self.history))

    def _take(self, messages: Sequence[ChatMessage]) -> _Work:
        work = _Work()
        with self._lock:
            for message in messages:
                self._note(message, work)
                if self.cite and message.role == MessageRole.ASSISTANT:
                    # In place: engines and agents that return this very message then return it without markers.
                    strip_message(message)
                self.history.append(_copy(message))
        return work

    def _replace(self, messages: Sequence[ChatMessage]) -> _Work:
        work = _Work()
        with self._lock:
            work.abandoned += self._conversation.end()
            self.history = [_copy(message) for message in messages]
            if self.history and question_of(self.history[-1]):
                self._note(self.history[-1], work)
        return work

    def _note(self, message: ChatMessage, work: _Work) -> None:
        if question := question_of(message):
            asked, abandoned = self._conversation.put(question)
            work.abandoned += abandoned
            work.to_recall.append(asked)
            work.to_add.append(user_said(question))
        elif answer := answer_of(message):
            answered = self._conversation.answer()
            if answered is not None:
                work.answered.append((answered, answer))
            work.to_add.append(assistant_said(strip_citations(answer) if self.cite else answer))

    # --- memory: anywhere ------------------------------------------------------------------------------------------

    def _do(self, work: _Work) -> None:
        closed = {id(question) for question in (*work.abandoned, *(asked for asked, _ in work.answered))}
        for question in work.to_recall:
            # Recalled before it is remembered: else a question would find itself. Messages that are put together with
            # their answer are history; nobody will read for them.
            if id(question) not in closed:
                question.recall_once(self._recall)
        if work.to_add:
            self._binding.add(work.to_add, session=self.session_id)
        for question, answer in work.answered:
            self._settle(question, answer)
        self._abandon(work.abandoned)

    def _abandon(self, questions: list[Question]) -> None:
        for question in questions:
            self._settle(question, None)

    def _recall(self, text: str) -> Recall | None:
        return self._binding.recall(text, session=self.session_id)

    def _settle(self, question: Question, answer: str | None) -> None:
        if question.recall is not None:
            # An answer says nothing about facts that were never shown to the model.
            self._binding.observe(question.recall.id, answer if question.is_shown else None)

    def _read(self, question: Question | None, abandoned: list[Question], reserved: int) -> list[ChatMessage]:
        self._abandon(abandoned)
        if question is None:
            return self._window(reserved)
        recall = question.recall_once(self._recall)
        question.is_shown = True
        if recall is None or not recall.text:
            return self._window(reserved)
        if self.insert == "user":
            return _with_user_text(self._window(reserved, recall.text), recall.text, question)
        facts = [recall.text]
        if agent_run() is not None:
            # ReActAgent.take_step drops the first message if it is a system message, believing it to be its own prompt.
            facts.insert(0, HEADING)
        history = self._window(reserved, *facts)
        return [*(ChatMessage(role=MessageRole.SYSTEM, content=text) for text in facts), *history]

    def _window(self, reserved: int, *facts: str) -> list[ChatMessage]:
        history = self.get_all()
        if self.token_limit is None:
            return history
        count = self._counter()
        left = self.token_limit - reserved - sum(map(count, facts))
        kept: list[list[ChatMessage]] = []
        for turn in reversed(turns_of(history)):
            left -= sum(count(text_of(message)) for message in turn)
            if left < 0 and kept:
                break
            kept.append(turn)
        return [message for turn in reversed(kept) for message in turn]

    def _counter(self) -> Callable[[str], int]:
        try:
            count = self._binding.engram.count_tokens
            count("")  # a closed store says so only when it is asked
            return count
        except Exception as error:  # noqa: BLE001 - whatever keeps the store shut, the user's run goes on
            # Without a store there is no counter; the conversation still has to fit its window.
            logger.warning("engram: estimating tokens, the store cannot be asked: %s", error)
            return lambda text: len(text) // 3 + 1

    # --- how it shows, copies and travels --------------------------------------------------------------------------

    @field_serializer("history")
    def _serialize_history(self, history: list[ChatMessage]) -> list[dict[str, Any]]:
        # Enums, paths and bytes must be JSON already here: `ctx.to_dict()` drops a memory that json.dumps refuses.
        with self._lock:
            return [message.model_dump(mode="json") for message in history]

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        # Agents put repr() of their memory into trace attributes; pydantic's would print the whole conversation. Its
        # __str__ is made of these as well.
        return [("scope", self.scope), ("session_id", self.session_id), ("messages", len(self.history))]

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self._twin()

    def __copy__(self) -> Self:
        return self._twin()

    def __getstate__(self) -> dict[Any, Any]:
        # The store handle and locks stay behind; BaseComponent.__setstate__ calls __init__ with these fields.
        return {"__dict__": self.model_dump()}

    def _twin(self) -> Self:
        """A memory of its own with the same store, scope, session and history."""
        return type(self)(**self.model_dump())


def _copy(message: ChatMessage | dict[str, Any]) -> ChatMessage:
    return message.model_copy(deep=True) if isinstance(message, ChatMessage) else ChatMessage.model_validate(message)


def _with_user_text(history: list[ChatMessage], text: str, question: Question) -> list[ChatMessage]:
    places = (at for at in range(len(history) - 1, -1, -1) if question_of(history[at]) == question.text)
    at = next(places, None) if question.is_put else None
    if at is None:
        # The engine reads before it puts the user's message, and will append it right after this one.
        return [*history, ChatMessage(role=MessageRole.USER, content=text)]
    return [*history[:at], with_text_first(history[at], text), *history[at + 1 :]]
