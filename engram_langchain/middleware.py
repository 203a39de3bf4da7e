"""EngramMiddleware: memory around an agent's turn. State holds ids only; text exists in the prompt and nowhere else.

Order of a turn: before_agent recalls, wrap_model_call shows it to the model, after_agent observes and remembers.
See reference/frameworks.md 3.5 for the traps each hook avoids.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Annotated, Any, Final, Literal, NotRequired, cast

from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse
from langchain.agents.middleware.types import PrivateStateAttr
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, SystemMessage, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.channels import UntrackedValue
from langgraph.runtime import Runtime

from engram_core import Binding, BindingSource, Engram, InvalidInput, PrincipalSource, Recall, bind
from engram_langchain.context import SessionSource, context_of, session_for, session_of
from engram_langchain.convert import (
    RECALLS_FIELD,
    is_answer,
    is_from_person,
    last_human,
    recalls_in_tool_output,
    text_of,
    to_message,
    uncited,
)
from engram_langchain.held import Held
from engram_langchain.tools import TOOL_NAMES, engram_tools
from engram_langchain.verdicts import VERDICTS

Inject = Literal["system", "user", "none"]
INJECT: Final = ("system", "user", "none")


class EngramState(AgentState[Any]):
    """The agent's state with the turn's recall ids, by middleware name. Never checkpointed, never in the output."""

    engram_recalls: NotRequired[Annotated[dict[str, list[str]], UntrackedValue, PrivateStateAttr]]


class EngramMiddleware(AgentMiddleware[EngramState, Any, Any]):
    """Long-term memory for `langchain.agents.create_agent`.

    Args:
        scope: A scope, a callable of the runtime context (`runtime.context`, else `config["configurable"]`), or an
            Engram object such as `EngramMemory`.
        engram: An open Engram. Default: the process's shared store at `url`, opened at the first turn.
        k: Facts per recall, 1 to 300. Default 8, or that of the memory given as scope.
        inject: Where the recalled context goes: after the `system` message, into the last `user` message, or `none`
            (then nothing is recalled unless a tool does).
        tools: False, True for all, or which of `recall`, `remember` and `forget` the model may call.
        record: Remember the turn's user messages and final assistant message, default True.
        fail_open: Log memory errors instead of breaking the run, default True.
        name: Name of the middleware; default `EngramMiddleware[<scope>]`. Two middleware of one agent need two names.
        prefix: Put before the tools' names, default `engram_`.
        url: Where the shared store is; default `ENGRAM_URL`, else `./.engram`.
        principal: Who acts; a string or a callable of the runtime context. Default: the store's owner.
        session: The conversation; a string or a callable of the runtime context. Default: the config's `thread_id`.
        max_tokens: Token budget of a recall; default the policy's.
        cite: Ask the model to cite the facts it uses by markers, which makes the verdicts exact. They are taken out of
            the turn's messages when it ends; tokens and updates that are streamed before that still have them. Default
            False, or that of the memory given as scope.

    Raises:
        InvalidInput: `inject` or a tool's name is unknown.
        InvalidScope: The scope breaks the grammar.
    """

    state_schema = EngramState

    def __init__(
        self,
        scope: BindingSource,
        engram: Engram | None = None,
        *,
        k: int | None = None,
        inject: Inject = "system",
        tools: bool | Sequence[str] = False,
        record: bool = True,
        fail_open: bool = True,
        name: str | None = None,
        prefix: str = "engram_",
        url: str | None = None,
        principal: PrincipalSource = None,
        session: SessionSource = None,
        max_tokens: int | None = None,
        cite: bool | None = None,
    ) -> None:
        super().__init__()
        if inject not in INJECT:
            raise InvalidInput(f"inject is {inject!r}; use one of {', '.join(INJECT)}.")
        self._binding = bind(
            scope, engram=engram, url=url, principal=principal, k=k, max_tokens=max_tokens, fail_open=fail_open
        )
        self._k = k
        self._max_tokens = max_tokens
        self._cite = self._binding.cite if cite is None else cite
        self._inject = inject
        self._record = record
        self._session = session
        self._name = name or _name_for(self._binding)
        self._held = Held()
        offered = TOOL_NAMES if tools is True else tuple(tools or ())
        self.tools: Sequence[BaseTool] = engram_tools(self._binding, prefix=prefix, only=offered) if offered else []

    @property
    def name(self) -> str:
        """Distinct per scope, because LangChain refuses two middleware of one name."""
        return self._name

    @property
    def binding(self) -> Binding:
        """The scope and store of this memory."""
        return self._binding

    # --- hooks ---

    def before_agent(self, state: EngramState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Recall for the turn's user message."""
        return None if self._inject == "none" else self._noted(state, _ids(self._recall(state, runtime)))

    async def abefore_agent(self, state: EngramState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """`before_agent`, off the event loop."""
        return await asyncio.to_thread(self.before_agent, state, runtime)

    def before_model(self, state: EngramState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """After a resume the ids are gone, since nothing checkpoints them: find the turn's recall, or recall again."""
        if not self._is_due(state):
            return None
        return self._noted(state, self._own(state) or _ids(self._recall(state, runtime)))

    async def abefore_model(self, state: EngramState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """`before_model`, off the event loop."""
        return await asyncio.to_thread(self.before_model, state, runtime) if self._is_due(state) else None

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Show the recalled context to the model. If the model fails nothing else of this class runs."""
        try:
            return handler(self._shown(request))
        except BaseException:
            self._give_up(request)
            raise

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """`wrap_model_call`, off the event loop."""
        try:
            return await handler(await asyncio.to_thread(self._shown, request))
        except BaseException:
            # Not awaited: a cancelled task must not wait again. The store's own lock is short.
            self._give_up(request)
            raise

    def after_agent(self, state: EngramState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Observe what the final answer used, and remember the turn. Does not run when the model failed."""
        messages = state["messages"]
        start = last_human(messages)
        turn = messages if start is None else messages[start + 1 :]
        answer = _final(turn)
        context = _context(runtime)
        for recall_id in self._recalls(state, turn):
            VERDICTS.settle(recall_id, _response(answer, state), binding=self._binding, context=context)
            self._held.drop(recall_id)
        shown = _uncited(turn) if self._cite else []
        if self._record:
            # Never with its markers: a recall of this answer would show them to a model as if they were its own.
            uncited_answer = next((message for message in shown if answer and message.id == answer.id), answer)
            self._remember(_asked(messages, start), uncited_answer, context)
        return {"messages": shown} if shown else None

    async def aafter_agent(self, state: EngramState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """`after_agent`, off the event loop."""
        return await asyncio.to_thread(self.after_agent, state, runtime)

    # --- parts ---

    def _is_due(self, state: EngramState) -> bool:
        # Missing, not empty: an empty list means this turn's recall was made and had nothing to show.
        return self._inject != "none" and self.name not in state.get("engram_recalls", {})

    def _noted(self, state: EngramState, recall_ids: list[str]) -> dict[str, Any]:
        # Merged by hand: an untracked value has no reducer, and another Engram middleware may have written already.
        return {RECALLS_FIELD: {**state.get("engram_recalls", {}), self.name: recall_ids}}

    def _recall(self, state: EngramState, runtime: Runtime[Any]) -> Recall | None:
        start = last_human(state["messages"])
        if start is None:
            return None
        context = _context(runtime)
        recall = self._binding.recall(
            text_of(state["messages"][start]),
            context=context,
            session=session_for(self._session, context),
            k=self._k,
            max_tokens=self._max_tokens,
            cite=self._cite,
        )
        if recall is not None:
            VERDICTS.opened(recall.id, self._binding, context=context)
            self._held.put(recall.id, recall.text, turn=_turn_key(state))
        return recall

    def _own(self, state: EngramState) -> list[str]:
        """The ids of this turn's recall: from the state, or after a resume from what is still held of the turn."""
        noted = state.get("engram_recalls", {})
        if self.name in noted:
            return noted[self.name]
        held = self._held.of_turn(_turn_key(state))
        return [held] if held else []

    def _recalls(self, state: EngramState, turn: Sequence[BaseMessage]) -> list[str]:
        # Only tools of this turn: with a checkpointer the state still holds earlier turns' artifacts.
        from_tools = [found for message in turn for found in recalls_in_tool_output(message)]
        return list(dict.fromkeys([*self._own(state), *from_tools]))

    def _shown(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        self._refuse_foreign_tools(request.tools)
        state = cast("EngramState", request.state)
        texts = [self._text(recall_id, state, request.runtime) for recall_id in self._own(state)]
        text = "\n\n".join(text for text in texts if text)
        if not text:
            return request
        if self._inject == "user":
            return request.override(messages=_with_user_text(request.messages, text))
        return request.override(system_message=_with_system_text(request.system_message, text))

    def _give_up(self, request: ModelRequest[Any]) -> None:
        """Unknown, unless somebody who tries again gets an answer."""
        context = _context(request.runtime)
        for recall_id in self._own(cast("EngramState", request.state)):
            VERDICTS.settle(recall_id, None, binding=self._binding, context=context)

    def _text(self, recall_id: str, state: EngramState, runtime: Runtime[Any]) -> str:
        text = self._held.text(recall_id)
        if text is None:  # pushed out by a thousand other turns
            again = self._recall(state, runtime)
            text = again.text if again else ""
            self._held.put(recall_id, text, turn=_turn_key(state))
        return text

    def _refuse_foreign_tools(self, tools: Sequence[Any]) -> None:
        """LangChain lets the last of two tools of one name win without a word, and ours may write elsewhere then."""
        mine = {tool.name: tool for tool in self.tools}
        for tool in tools:
            if isinstance(tool, BaseTool) and tool.name in mine and tool is not mine[tool.name]:
                raise InvalidInput(f"Two tools are called {tool.name!r}; give this middleware another prefix.")

    def _remember(self, asked: Sequence[BaseMessage], answer: BaseMessage | None, context: Any) -> None:
        session = session_for(self._session, context)
        said = [*asked, *([answer] if isinstance(answer, AIMessage) else [])]
        heard = [to_message(message, session=session) for message in said if text_of(message).strip()]
        if heard:
            self._binding.add(heard, context=context, session=session)


def _name_for(binding: Binding) -> str:
    scope = binding.scope
    label = getattr(scope, "__name__", type(scope).__name__) if callable(scope) else str(scope)
    # LangGraph reserves ":" in node names; in a scope "+" is always followed by two hex digits, so this cannot collide.
    return f"EngramMiddleware[{label.replace(':', '+3a')}]"


def _context(runtime: Runtime[Any]) -> Any:
    return runtime.context if runtime.context is not None else context_of()


def _turn_key(state: EngramState) -> Hashable | None:
    """What stays the same between an interrupt and its resume; None where there can be no resume."""
    thread = session_of()
    start = last_human(state["messages"])
    message_id = None if start is None else state["messages"][start].id
    return (thread, message_id) if thread and message_id else None


def _ids(recall: Recall | None) -> list[str]:
    return [recall.id] if recall else []


def _asked(messages: Sequence[BaseMessage], last: int | None) -> list[BaseMessage]:
    """What the person said in this turn: the last message, and those straight before it."""
    if last is None:
        return []
    first = last
    while first > 0 and is_from_person(messages[first - 1]):
        first -= 1
    return list(messages[first : last + 1])


def _final(turn: Sequence[BaseMessage]) -> BaseMessage | None:
    """The message that answers: the last one, if a model's without tool calls, or a tool's that returns directly."""
    last = turn[-1] if turn else None
    return last if is_answer(last) or isinstance(last, ToolMessage) else None


def _uncited(turn: Sequence[BaseMessage]) -> list[AIMessage]:
    """The messages of a turn that cite, without their markers; their ids make them replace the originals."""
    said = [message for message in turn if isinstance(message, AIMessage) and message.id is not None]
    return [shown for message in said if (shown := uncited(message)) is not message]


def _response(answer: BaseMessage | None, state: EngramState) -> str | None:
    if answer is None:
        return None
    structured, text = state.get("structured_response"), text_of(answer).strip()
    # With a response format the last message may be a tool's acknowledgement; the user gets the structured response.
    is_structured = structured is not None and (isinstance(answer, ToolMessage) or not text)
    return str(structured) if is_structured else text or None


def _with_system_text(system: SystemMessage | None, text: str) -> SystemMessage:
    if system is None:
        return SystemMessage(text)
    return system.model_copy(update={"content": _joined(system.content, text, last=True)})


def _with_user_text(messages: Sequence[AnyMessage], text: str) -> list[AnyMessage]:
    shown = list(messages)
    start = last_human(shown)
    if start is not None:
        asked = shown[start]
        shown[start] = asked.model_copy(update={"content": _joined(asked.content, text, last=False)})
    return shown


def _joined(content: str | list[Any], text: str, *, last: bool) -> str | list[Any]:
    if isinstance(content, str):
        return "\n\n".join(part for part in ((content, text) if last else (text, content)) if part)
    block = {"type": "text", "text": text}
    return [*content, block] if last else [block, *content]
