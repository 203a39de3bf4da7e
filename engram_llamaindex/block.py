"""EngramMemoryBlock: a recall as a block of LlamaIndex's own Memory. It only reads; see the class for why."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.memory import BaseMemoryBlock

from engram_core import DEFAULT_K, Binding, Engram, Recall, Scope, bind
from engram_llamaindex.convert import answer_of, last_question, question_of
from engram_llamaindex.verdicts import VERDICTS

_Key = tuple[str | None, int, str]


class EngramMemoryBlock(BaseMemoryBlock[str]):
    """Puts what is remembered about the last user message into LlamaIndex's `Memory`.

    **It reads, it does not remember.** `Memory` hands messages to its blocks only when its queue overflows, never in a
    short chat, so a block cannot record a conversation or its answers. Use `EngramMemory` as `memory=` for that, or
    give the agent `engram_tools`; with `instrument()` on, answers are judged against what this block recalled.

    A `Memory` with any custom block is not serialisable (`ctx.to_dict()` drops it); `EngramMemory` is.

    Args:
        scope: A scope path such as `acme/support/alice`.
        engram: An open Engram. Default: the process's shared store at `url`.
        name: The block's name in the prompt.
        description: LlamaIndex's description of the block.
        priority: LlamaIndex's truncation order; 0 is never truncated.
        url: Where the shared store is; default `ENGRAM_URL`, else `./.engram`.
        principal: Who acts. Default: the store's owner.
        k: Facts per recall, 1 to 300.
        max_tokens: Token budget of a recall; default the policy's.
        fail_open: Log memory errors instead of raising them.

    Raises:
        InvalidScope: The scope breaks the grammar.
    """

    scope: str
    url: str | None = None
    principal: str | None = None
    k: int = Field(default=DEFAULT_K, ge=1, le=300)
    max_tokens: int | None = Field(default=None, ge=1)
    fail_open: bool = True

    _binding: Binding = PrivateAttr()
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _latest: tuple[_Key, Recall | None] | None = PrivateAttr(default=None)

    def __init__(
        self,
        scope: Scope | str,
        *,
        engram: Engram | None = None,
        name: str = "engram",
        description: str | None = "What is remembered from earlier conversations.",
        priority: int = 1,
        url: str | None = None,
        principal: str | None = None,
        k: int = DEFAULT_K,
        max_tokens: int | None = None,
        fail_open: bool = True,
    ) -> None:
        path = str(Scope.coerce(scope))
        fields: dict[str, Any] = {
            "name": name,
            "description": description,
            "priority": priority,
            "accept_short_term_memory": False,
            "scope": path,
            "url": url,
            "principal": principal,
            "k": k,
            "max_tokens": max_tokens,
            "fail_open": fail_open,
        }
        super().__init__(**fields)
        self._binding = bind(
            path, engram=engram, url=url, principal=principal, k=k, max_tokens=max_tokens, fail_open=fail_open
        )

    @property
    def binding(self) -> Binding:
        """The memory this block asks."""
        return self._binding

    async def _aget(self, messages: list[ChatMessage] | None = None, **block_kwargs: Any) -> str:
        history = messages or []
        session = block_kwargs.get("session_id")
        recall = await asyncio.to_thread(self._recall, last_question(history), _turn_of(history), session)
        return recall.text if recall is not None else ""

    async def _aput(self, messages: list[ChatMessage]) -> None:
        """Nothing: see the class."""

    def _recall(self, question: str, turn: int, session: str | None) -> Recall | None:
        # Memory reads its blocks several times per turn; a turn is one recall. The lock makes parallel reads wait.
        if not question:
            return None
        with self._lock:
            key = (session, turn, question)
            if self._latest is None or self._latest[0] != key:
                recall = self._binding.recall(question, session=session)
                self._latest = (key, recall)
                if recall is not None:
                    VERDICTS.opened(recall, self._binding)
            return self._latest[1]


def _turn_of(history: list[ChatMessage]) -> int:
    """How many answers precede the last question: equal for every read of one turn, different if it is asked again."""
    last = max((at for at, message in enumerate(history) if question_of(message)), default=0)
    return sum(bool(answer_of(message)) for message in history[:last])
