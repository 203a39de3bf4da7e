"""EngramChatMessageHistory: a session's messages, handed on to memory as they come. It never shows recalled facts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage

from engram_core import Binding, BindingSource, Engram, PrincipalSource, bind
from engram_langchain.convert import to_message


class EngramChatMessageHistory(BaseChatMessageHistory):
    """The messages of one session, for `RunnableWithMessageHistory` and its like.

    `.messages` is short-term: it lives in this object, in this process, and holds exactly what was added. What was
    added is also remembered in the scope and stays there; recall it with a retriever, a tool or `EngramMemory`. Facts
    are never mixed into `.messages`: the wrapper slices its inputs by their number and would lose a message.

    `get_session_history` must return the same object for the same session: `EngramMemory.as_history` does.

    Args:
        session_id: The session, at most 500 characters. A callable scope gets `{"session_id": session_id}`.
        scope: A scope, a callable, or an Engram object such as `EngramMemory`.
        engram: An open Engram. Default: the process's shared store at `url`, opened when the first message comes.
        url: Where the shared store is; default `ENGRAM_URL`, else `./.engram`.
        principal: Who acts; a string or a callable. Default: the store's owner.
        fail_open: Log memory errors instead of raising them, default True; the messages are in `.messages` either way.

    Raises:
        InvalidScope: The scope breaks the grammar.
    """

    def __init__(
        self,
        session_id: str,
        *,
        scope: BindingSource,
        engram: Engram | None = None,
        url: str | None = None,
        principal: PrincipalSource = None,
        fail_open: bool = True,
    ) -> None:
        self.session_id = session_id
        self._binding = bind(scope, engram=engram, url=url, principal=principal, fail_open=fail_open)
        self._messages: list[BaseMessage] = []
        self._lock = threading.Lock()

    @property
    def binding(self) -> Binding:
        """The scope and store the messages are remembered in."""
        return self._binding

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # upstream declares an attribute, documents a property
        """A copy of the session's messages, oldest first."""
        with self._lock:
            return list(self._messages)

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages to the session and remember them."""
        with self._lock:
            self._messages.extend(messages)
        heard = [to_message(message, session=self.session_id) for message in messages]
        if heard:
            self._binding.add(heard, context={"session_id": self.session_id}, session=self.session_id)

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """`add_messages`, off the event loop."""
        await asyncio.to_thread(self.add_messages, messages)

    def clear(self) -> None:
        """Empty the session. What was remembered of it stays; remove facts with `Memory.forget`."""
        with self._lock:
            self._messages.clear()
