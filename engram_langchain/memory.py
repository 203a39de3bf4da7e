"""EngramMemory: the one line `memory=EngramMemory(scope=…)`. It carries the recall id from load to save, no more.

One object may serve many conversations at once, so nothing of a run is kept on it: the recall id travels on
the loaded value itself, which chains hand back when they save (see `_Text` and `_Messages`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from langchain_core.messages import AIMessage, BaseMessage, SystemMessage
from pydantic import ConfigDict, Field, PrivateAttr, SkipValidation

from engram_core import (
    DEFAULT_K,
    MAX_K,
    Binding,
    BindingSource,
    Engram,
    InvalidInput,
    Message,
    PrincipalSource,
    Recall,
    bind,
    strip_citations,
)
from engram_langchain.context import SessionSource, session_for
from engram_langchain.convert import text_of, uncited
from engram_langchain.history import EngramChatMessageHistory
from engram_langchain.verdicts import VERDICTS

if TYPE_CHECKING:
    from langchain_classic.base_memory import BaseMemory
    from langchain_core.tools import BaseTool

    from engram_langchain.callback import EngramCallbackHandler
    from engram_langchain.middleware import EngramMiddleware
    from engram_langchain.retriever import EngramRetriever
else:
    try:
        from langchain_classic.base_memory import BaseMemory
    except ImportError:  # create_agent needs no langchain-classic; only classic chains check for its BaseMemory
        from langchain_core.load.serializable import Serializable as BaseMemory

logger = logging.getLogger("engram")

INPUT_KEYS: Final = ("input", "question", "query", "human_input")
OUTPUT_KEYS: Final = ("output", "response", "answer", "text", "result")
MAX_HISTORIES: Final = 1000


class _Text(str):
    """The recalled context as handed to the prompt; the chain hands the same object back when it saves."""

    recall_id: str | None = None

    @classmethod
    def of(cls, recall: Recall | None) -> _Text:
        text = cls(recall.text if recall else "")
        text.recall_id = recall.id if recall else None
        return text


class _Messages(list[BaseMessage]):
    """The same as `_Text`, for `return_messages=True`."""

    recall_id: str | None = None

    @classmethod
    def of(cls, recall: Recall | None) -> _Messages:
        messages = cls([SystemMessage(recall.text)] if recall and recall.text else [])
        messages.recall_id = recall.id if recall else None
        return messages


class EngramMemory(BaseMemory):
    """Long-term memory for chains, agents and graphs.

    For classic chains (ConversationChain, LLMChain, AgentExecutor) pass it as `memory=`: it recalls before the run, and
    afterwards remembers both messages and observes which facts the answer used. For today's agents use
    `engram_langchain.create_agent(…, memory=EngramMemory(…))` or `as_middleware()`.

    The value it loads is what is worth recalling for this input, not the transcript; combine it with a buffer of recent
    messages (`CombinedMemory`) if the chain needs one. Constructing it opens no store and makes no connection.

    Args:
        scope: A scope such as `acme/support/alice`, or a callable of the runtime context that returns one. In agents
            and tools the context is the graph's `context`, else `config["configurable"]`; in classic chains, which have
            no context, it is the chain's inputs.
        engram: An open Engram. Default: the process's shared store at `url`.
        memory_key: The prompt variable to fill, default `history`.
        input_key: Which input is the user's message; default the only one, else `input`, `question` and their like.
        output_key: Which output is the answer; default `output`, `response` or `answer`, else the only one.
        k: Facts per recall, 1 to 300, default 8.
        max_tokens: Token budget of a recall; default the policy's.
        cite: Ask the model to cite the facts it uses by markers, which makes the verdicts exact. They are taken out of
            what chains return, of what is remembered and, in agents, of the finished answer; tokens that are streamed
            still have them. Default False.
        return_messages: Fill the prompt variable with a list holding one system message instead of a string.
        principal: Who acts; a string or a callable of the runtime context. Default: the store's owner.
        session: The conversation the messages belong to; a string or a callable of the runtime context.
        url: Where the shared store is; default `ENGRAM_URL`, else `./.engram`.
        fail_open: Log and record memory errors instead of raising them, default True.

    Raises:
        InvalidScope: The scope breaks the grammar.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    scope: SkipValidation[BindingSource]
    engram: SkipValidation[Engram | None] = Field(default=None, exclude=True, repr=False)
    memory_key: str = "history"
    input_key: str | None = None
    output_key: str | None = None
    k: int = Field(default=DEFAULT_K, ge=1, le=MAX_K)
    max_tokens: int | None = None
    cite: bool = False
    return_messages: bool = False
    principal: SkipValidation[PrincipalSource] = None
    session: SkipValidation[SessionSource] = None
    url: str | None = None
    fail_open: bool = True
    _binding: Binding = PrivateAttr()
    _histories: OrderedDict[str, EngramChatMessageHistory] = PrivateAttr(default_factory=OrderedDict)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    if not TYPE_CHECKING:  # type checkers keep pydantic's signature

        def __init__(self, **fields: Any) -> None:
            super().__init__(**fields)
            # Not in a validator: pydantic would turn InvalidScope into its own ValidationError.
            self._binding = bind(
                self.scope,
                engram=self.engram,
                url=self.url,
                principal=self.principal,
                k=self.k,
                max_tokens=self.max_tokens,
                cite=self.cite,
                fail_open=self.fail_open,
            )

    @property
    def binding(self) -> Binding:
        """The scope and store of this memory; the other Engram objects accept this memory in place of a scope."""
        return self._binding

    @property
    def memory_variables(self) -> list[str]:
        """The prompt variable this memory fills."""
        return [self.memory_key]

    def load_memory_variables(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Recall for the chain's input, as `{memory_key: context}`."""
        recall = self._binding.recall(self._asked(inputs), context=inputs, session=self._session(inputs))
        return self._loaded(recall, inputs)

    async def aload_memory_variables(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """`load_memory_variables`, off the event loop."""
        recall = await self._binding.arecall(self._asked(inputs), context=inputs, session=self._session(inputs))
        return self._loaded(recall, inputs)

    def save_context(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        """Observe what the answer used of the recall in `inputs`, and remember both messages.

        With `cite=True` the markers go out of `outputs` itself: chains hand on to the user what they find there.
        """
        asked, answer = self._asked(inputs), self._answered(outputs)
        recall_id = getattr(inputs.get(self.memory_key), "recall_id", None)
        if recall_id is not None:
            VERDICTS.settle(recall_id, answer or None, binding=self._binding, context=inputs)
        if self.cite:
            answer = strip_citations(answer)
            outputs.update({key: _uncited(value) for key, value in outputs.items()})
        turn = [
            Message(role, text, channel=role) for role, text in (("user", asked), ("assistant", answer)) if text.strip()
        ]
        if turn:
            self._binding.add(turn, context=inputs, session=self._session(inputs))

    async def asave_context(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        """`save_context`, off the event loop."""
        await asyncio.to_thread(self.save_context, inputs, outputs)

    def clear(self) -> None:
        """Start a new conversation. Remembered facts stay: they are not the conversation.

        Chains and wrappers call `clear` to reset a chat, often without asking anyone. To remove facts on purpose use
        `Memory.forget` (restorable) through `memory.binding.memory()`.
        """
        logger.info("engram: clear() keeps remembered facts; use forget() to remove one")

    async def aclear(self) -> None:
        """`clear`."""
        self.clear()

    def as_middleware(self, **options: Any) -> EngramMiddleware:
        """This memory as middleware for `langchain.agents.create_agent`; options as in `EngramMiddleware`."""
        from engram_langchain.middleware import EngramMiddleware  # noqa: PLC0415 - needs langchain, 800 ms

        return EngramMiddleware(self, **{"session": self.session, **options})

    def as_retriever(self, **options: Any) -> EngramRetriever:
        """This memory as a retriever; options as in `EngramRetriever` (`k`, `max_tokens`, `min_score`, `cite`)."""
        from engram_langchain.retriever import EngramRetriever  # noqa: PLC0415 - 490 ms

        own = {"scope": self._binding, "k": self.k, "max_tokens": self.max_tokens, "cite": self.cite}
        return EngramRetriever(**{**own, **options})

    def as_tools(self, **options: Any) -> list[BaseTool]:
        """Recall, remember and forget as tools; options as in `engram_tools`."""
        from engram_langchain.tools import engram_tools  # noqa: PLC0415

        return engram_tools(self._binding, **options)

    def as_callback(self, **options: Any) -> EngramCallbackHandler:
        """A handler that observes which recalled facts an answer used; options as in `EngramCallbackHandler`."""
        from engram_langchain.callback import EngramCallbackHandler  # noqa: PLC0415

        return EngramCallbackHandler(self._binding, **options)

    def as_history(self, session_id: str) -> EngramChatMessageHistory:
        """The message history of a session, the same object each time (the last 1000 sessions are kept).

        Fits `RunnableWithMessageHistory(chain, memory.as_history)`.
        """
        with self._lock:
            history = self._histories.get(session_id)
            if history is None:
                history = self._histories[session_id] = EngramChatMessageHistory(session_id, scope=self._binding)
            self._histories.move_to_end(session_id)
            while len(self._histories) > MAX_HISTORIES:
                self._histories.popitem(last=False)
            return history

    def _loaded(self, recall: Recall | None, inputs: dict[str, Any]) -> dict[str, Any]:
        if recall is not None:
            # A callback handler may see the chain fail; then nobody saves, and it settles the recall.
            VERDICTS.opened(recall.id, self._binding, context=inputs)
        return {self.memory_key: (_Messages if self.return_messages else _Text).of(recall)}

    def _session(self, inputs: Mapping[str, Any]) -> str | None:
        return session_for(self.session, inputs)

    def _asked(self, inputs: Mapping[str, Any]) -> str:
        """The user's message; other memories' variables may be among the inputs, so "the only key" is a last resort."""
        own = {key: value for key, value in inputs.items() if key not in (self.memory_key, "stop")}
        return self._chosen("input", self.input_key, INPUT_KEYS, own)

    def _answered(self, outputs: Mapping[str, Any]) -> str:
        """The answer; AgentExecutor saves `output` when invoked, `output` and `messages` when streamed."""
        return self._chosen("output", self.output_key, OUTPUT_KEYS, outputs)

    def _chosen(self, what: str, wanted: str | None, usual: Sequence[str], values: Mapping[str, Any]) -> str:
        keys = [wanted] if wanted else [key for key in usual if key in values] or list(values)
        if (len(keys) == 1 or keys[0] in usual) and keys[0] in values:
            return text_of(values[keys[0]])
        problem = f"EngramMemory cannot tell which of {sorted(values)} is the {what}; set {what}_key."
        if not self.fail_open:
            raise InvalidInput(problem)
        logger.warning("engram: %s Nothing is remembered of it.", problem)
        return ""


def _uncited(value: Any) -> Any:
    if isinstance(value, AIMessage):
        return uncited(value)
    if isinstance(value, list):
        return [_uncited(item) for item in value]
    return strip_citations(value) if isinstance(value, str) else value
