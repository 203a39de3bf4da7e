"""instrument(): from a retrieval to the answer it led to, through LlamaIndex's events and spans. It only listens.

A turn is the outermost span of a chat engine, query engine or agent (or of whatever else is outermost). The framework
swallows every error a handler raises, so errors are logged here; and nothing here may consume a stream of the user's.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Self
from weakref import finalize

from llama_index.core.agent.workflow import AgentOutput, AgentWorkflow
from llama_index.core.agent.workflow.base_agent import BaseWorkflowAgent
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import (
    AsyncStreamingResponse,
    PydanticResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.chat_engine.types import AgentChatResponse, BaseChatEngine, StreamingAgentChatResponse
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.chat_engine import (
    StreamChatDeltaReceivedEvent,
    StreamChatEndEvent,
    StreamChatErrorEvent,
)
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent, LLMCompletionEndEvent, LLMPredictEndEvent
from llama_index.core.instrumentation.events.retrieval import RetrievalEndEvent
from llama_index.core.instrumentation.span import BaseSpan
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler
from llama_index.core.schema import NodeWithScore
from llama_index.core.tools import ToolOutput
from llama_index.core.workflow import StopEvent
from llama_index_instrumentation import get_dispatcher
from pydantic import PrivateAttr

from engram_core import Engram, NamedTurns, Scope, Turn, Turns, strip_citations, turn_name
from engram_llamaindex.convert import RECALL_ID, strip_message
from engram_llamaindex.verdicts import VERDICTS, Asker

logger = logging.getLogger("engram")

MAX_OPEN = 1000
TIMEOUT_S = 900.0
P = ParamSpec("P")
_AGENTS = (BaseWorkflowAgent, AgentWorkflow)
_TURN_MAKERS = (BaseChatEngine, BaseQueryEngine, *_AGENTS)


def _logged(handler: Callable[P, None]) -> Callable[P, None]:
    """LlamaIndex drops what a handler raises without a word; say it, and do not raise."""

    @functools.wraps(handler)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            handler(*args, **kwargs)
        except Exception:
            logger.exception("engram: %s failed; the run goes on, its answer is not judged", handler.__qualname__)

    return guarded


@dataclass(slots=True)
class _Flow:
    """What is known of a turn's answer so far."""

    is_maker: bool
    text: str = ""
    deltas: list[str] = field(default_factory=list)
    is_streamed: bool = False
    """The answer arrives as deltas of a chat engine's writer, which may begin before or after the root span exits."""
    is_stream_over: bool = False
    is_exited: bool = False
    is_partial: bool = False
    is_citing: bool = False
    """The model was asked for citations; they are taken out of what the user gets."""


class Recorder:
    """Which recalls belong to which answer. Thread-safe; makes no decision beyond that.

    Args:
        wants: Whether a recall is this recorder's to judge.
        max_open: Open turns kept; the oldest is given up beyond that.
        timeout_s: Seconds after which an open turn is given up.
    """

    def __init__(
        self,
        wants: Callable[[Asker], bool],
        *,
        max_open: int = MAX_OPEN,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._wants = wants
        self._lock = threading.RLock()
        self._turns = Turns(max_open=max_open, timeout_s=timeout_s, on_evict=self._evicted)
        self._named = NamedTurns(self._unanswered, max_open=max_open, timeout_s=timeout_s)
        self._flows: dict[Hashable, _Flow] = {}
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engram-observe")
        self._under_way: set[Future[None]] = set()

    @property
    def open_turns(self) -> int:
        """Turns that have begun and not ended, without named turns that wait for their answer."""
        return len(self._turns)

    # --- what the handlers report ----------------------------------------------------------------------------------

    def started(self, span_id: str, parent_id: str | None, instance: Any, name: str | None = None) -> None:
        """A span began; `name` is what the user calls the turn, if anything."""
        with self._lock:
            is_maker = isinstance(instance, _TURN_MAKERS)
            outer = self._turns.of(parent_id)
            if outer is not None and is_maker and not self._flows[outer.root].is_maker:
                # A chat engine inside the user's own workflow: each of its chats is a turn, not the whole workflow.
                outer = None
            turn = self._turns.start(span_id, parent_id if outer is not None else None)
            if turn.root == span_id:
                turn.name = name
                self._flows[span_id] = _Flow(is_maker)

    @_logged
    def saw(self, span_id: str | None, recall_id: str) -> None:
        """A recall was made, or its nodes passed by, inside a span."""
        asker = VERDICTS.asker(recall_id)
        if asker is not None and self._wants(asker):
            with self._lock:
                self._turns.saw(span_id, recall_id)
            if asker.is_citing:
                self.citing(span_id, asker)

    @_logged
    def citing(self, span_id: str | None, asker: Asker) -> None:
        """The model was asked for citations inside a span."""
        if self._wants(asker):
            with self._lock:
                flow = self._flow(span_id)
                if flow is not None:
                    flow.is_citing = True

    def said(self, span_id: str | None, text: str | None) -> None:
        """A model answered inside a span; the last text counts if the turn's result has none."""
        with self._lock:
            flow = self._flow(span_id)
            if flow is not None and text and text.strip():
                flow.text = text

    def streamed(self, span_id: str | None, delta: str) -> None:
        """A chat engine received a piece of its answer."""
        with self._lock:
            flow = self._flow(span_id)
            if flow is not None:
                flow.deltas.append(delta)

    def stream_over(self, span_id: str | None, *, is_partial: bool) -> None:
        """A chat engine's answer is complete, or will never be."""
        with self._lock:
            flow = self._flow(span_id)
            if flow is None or flow.is_stream_over:
                return
            flow.is_stream_over = True
            flow.is_partial |= is_partial
            turn = self._turns.of(span_id) if flow.is_exited else None
        if turn is not None:
            self._close(turn.root)

    def ended(self, span_id: str, result: Any, instance: Any = None) -> None:
        """A span ended with a result."""
        for recall_id in _recall_ids(result):
            self.saw(span_id, recall_id)
        with self._lock:
            turn = self._turns.of(span_id)
            if turn is None or turn.root != span_id:
                return
            flow = self._flows[span_id]
            flow.text = _text_of(result) or flow.text
            if flow.is_citing:
                _strip(result)
            flow.is_exited = True
            # A run that was cancelled with `cancel_run()` ends without an error, and without a result.
            flow.is_partial |= result is None and isinstance(instance, _AGENTS)
            if isinstance(result, StreamingAgentChatResponse):
                flow.is_streamed = True
                if not flow.is_stream_over:
                    return
            if turn.recall_ids and isinstance(result, StreamingResponse | AsyncStreamingResponse):
                # It generates after its span is closed, under no span of ours: listen to what passes by.
                self._listen(span_id, result)
                return
        self._close(span_id)

    def dropped(self, span_id: str, instance: Any) -> None:
        """A span ended with an error."""
        if isinstance(instance, StreamingAgentChatResponse):
            # Its writer was cancelled; a failure would have come as an event before.
            self.stream_over(span_id, is_partial=True)
        with self._lock:
            turn = self._turns.of(span_id)
            if turn is None or turn.root != span_id:
                return
            self._flows[span_id].is_partial = True
        self._close(span_id)

    # --- what becomes of it ------------------------------------------------------------------------------------------

    def give_up(self) -> None:
        """Close every open turn as unknown."""
        with self._lock:
            turns = self._turns.drain()
            self._flows.clear()
        for turn in turns:
            self._observe(turn.recall_ids, None)
        self._observe(self._named.drain(), None)

    def flush(self) -> None:
        """Wait until everything seen so far is observed."""
        with self._lock:
            under_way = list(self._under_way)
        for future in under_way:
            future.result()

    def close(self) -> None:
        """Give up what is open, and stop the worker."""
        self.give_up()
        self._worker.shutdown(wait=True)

    def _flow(self, span_id: str | None) -> _Flow | None:
        turn = self._turns.of(span_id)
        return self._flows.get(turn.root) if turn is not None else None

    def _close(self, root: Hashable) -> None:
        with self._lock:
            turn = self._turns.finish(root)
            flow = self._flows.pop(root, None)
        if turn is None or flow is None:
            return
        text = "".join(flow.deltas) if flow.is_streamed else flow.text
        is_over = flow.is_partial or bool(text.strip())
        recall_ids = turn.recall_ids
        if turn.name is not None:
            recall_ids = list(dict.fromkeys([*self._named.take(turn.name), *recall_ids]))
            if not is_over:
                self._named.wait(turn.name, recall_ids)
        if is_over:
            self._observe(recall_ids, None if flow.is_partial else text)
        # Else nobody answered here, as when a retriever is called alone: whoever uses its nodes may still be judged.

    def _evicted(self, turn: Turn) -> None:
        with self._lock:
            self._flows.pop(turn.root, None)
        self._unanswered(turn.recall_ids)

    def _unanswered(self, recall_ids: list[str]) -> None:
        # Not here: somebody else's span is just beginning.
        self._observe(recall_ids, None, later=True)

    def _observe(self, recall_ids: Iterable[str], text: str | None, *, later: bool = False) -> None:
        for recall_id in recall_ids:
            asker = VERDICTS.take(recall_id)
            if asker is not None:
                job = functools.partial(asker.observe, recall_id, text)
                if later or _is_on_a_loop():
                    self._submit(job)
                else:
                    job()

    def _submit(self, job: Callable[[], None]) -> None:
        # Handlers are called on the event loop; writing to the store there would stall everybody else.
        try:
            future = self._worker.submit(_logged(job))
        except RuntimeError:  # closed meanwhile
            job()
            return
        with self._lock:
            self._under_way.add(future)
        future.add_done_callback(self._done)

    def _done(self, future: Future[None]) -> None:
        with self._lock:
            self._under_way.discard(future)

    def _listen(self, root: str, result: StreamingResponse | AsyncStreamingResponse) -> None:
        if isinstance(result, AsyncStreamingResponse):
            result.response_gen = self._passing_async(root, result.response_gen)
        elif result.response_gen is not None:
            result.response_gen = self._passing(root, result.response_gen)
        else:
            return
        # A generator that nobody ever starts does not reach its `finally`.
        finalize(result.response_gen, self._heard, root, [], True).atexit = False

    def _passing(self, root: str, source: Iterable[str]) -> Generator[str, None, None]:
        texts: list[str] = []
        is_partial = True
        try:
            for text in source:
                texts.append(text)
                yield text
            is_partial = False
        finally:
            self._heard(root, texts, is_partial)

    async def _passing_async(self, root: str, source: Any) -> AsyncGenerator[str, None]:
        texts: list[str] = []
        is_partial = True
        try:
            async for text in source:
                texts.append(text)
                yield text
            is_partial = False
        finally:
            self._heard(root, texts, is_partial)

    @_logged
    def _heard(self, root: str, texts: list[str], is_partial: bool) -> None:
        with self._lock:
            flow = self._flows.get(root)
            if flow is None:
                return
            flow.text = "".join(texts)
            flow.is_partial = is_partial
        self._close(root)


class EngramEventHandler(BaseEventHandler):
    """Reports retrievals, model texts and streams to a recorder. Use `instrument()`, which makes and removes it."""

    _recorder: Recorder = PrivateAttr()

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name of this component."""
        return "EngramEventHandler"

    @_logged
    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Take note of an event."""
        recorder, span = self._recorder, event.span_id
        match event:
            case RetrievalEndEvent():
                for recall_id in _recall_ids_in(event.nodes):
                    recorder.saw(span, recall_id)
            case LLMChatEndEvent():
                # A stream that ended before its first token has no response.
                recorder.said(span, event.response.message.content if event.response is not None else None)
            case LLMCompletionEndEvent():
                recorder.said(span, event.response.text)
            case LLMPredictEndEvent():
                recorder.said(span, event.output)
            case StreamChatDeltaReceivedEvent():
                recorder.streamed(span, event.delta)
            case StreamChatEndEvent():
                recorder.stream_over(span, is_partial=False)
            case StreamChatErrorEvent():
                recorder.stream_over(span, is_partial=True)
            case _:
                # Never str() a response here: SynthesizeEnd and QueryEnd carry the user's unread stream.
                pass


class EngramSpanHandler(BaseSpanHandler[BaseSpan]):
    """Reports where a turn begins and ends to a recorder. Use `instrument()`, which makes and removes it.

    It opens no spans of its own, so LlamaIndex keeps none for it.
    """

    _recorder: Recorder = PrivateAttr()

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name of this component."""
        return "EngramSpanHandler"

    @_logged
    def new_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        parent_span_id: str | None = None,
        tags: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A span begins."""
        self._recorder.started(id_, parent_span_id, instance, turn_name(tags))

    @_logged
    def prepare_to_exit_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        result: Any | None = None,
        **kwargs: Any,
    ) -> None:
        """A span ends with a result."""
        self._recorder.ended(id_, result, instance)

    @_logged
    def prepare_to_drop_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        err: BaseException | None = None,
        **kwargs: Any,
    ) -> None:
        """A span ends with an error."""
        self._recorder.dropped(id_, instance)

    def close(self) -> None:
        """LlamaIndex shuts its instrumentation down: what is open stays unknown."""
        self._recorder.give_up()


class Instrumentation:
    """What `instrument()` returns: call it to remove the handlers. Also a context manager.

    Attributes:
        recorder: Correlates recalls and answers.
    """

    def __init__(self, key: tuple[Any, ...], recorder: Recorder) -> None:
        self._key = key
        self.recorder = recorder
        self._events = EngramEventHandler(recorder)
        self._spans = EngramSpanHandler(recorder)

    def flush(self) -> None:
        """Wait until every answer seen so far is observed (those of async runs are written by a worker thread)."""
        self.recorder.flush()

    def __call__(self) -> None:
        """Remove the handlers; turns that are still open stay unknown. Calling it again does nothing."""
        with _lock:
            if _active.pop(self._key, None) is None:
                return
            # The dispatcher has no remove, and pydantic handlers compare by value: go by identity.
            root = get_dispatcher()
            root.event_handlers = [handler for handler in root.event_handlers if handler is not self._events]
            root.span_handlers = [handler for handler in root.span_handlers if handler is not self._spans]
        self.recorder.close()
        VERDICTS.unwatch(self.recorder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self()

    def _install(self) -> None:
        VERDICTS.watch(self.recorder)
        root = get_dispatcher()
        root.add_event_handler(self._events)
        root.add_span_handler(self._spans)


_lock = threading.Lock()
_active: dict[tuple[Any, ...], Instrumentation] = {}


def instrument(
    source: Engram | Scope | str | None = None,
    *,
    max_open: int = MAX_OPEN,
    timeout_s: float = TIMEOUT_S,
) -> Instrumentation:
    """Judge every answer against what retrievers, tools and memory blocks recalled for it.

    Covers query engines, chat engines and agents, sync, async and streaming. Errors, streams that were not read to
    their end and turns that never ended leave the verdict unknown. `EngramMemory` judges its own turns and needs this
    only for retrievers and tools beside it; no recall is counted twice.

    A retriever and a model that are called separately are two turns to LlamaIndex. Wrap them in a query engine or a
    workflow, or name the turn: `with instrument_tags({"engram_turn": turn_id}):` around both calls, or one around each
    with the same, unique id. What was recalled then waits for the first answer under that name.

    Args:
        source: Only recalls of this store, or of this scope and below. Default: all.
        max_open: Open turns kept; the oldest is given up beyond that.
        timeout_s: Seconds after which an open turn is given up.

    Returns:
        Call it to uninstrument. Instrumenting the same source again returns the same object and adds nothing.

    Raises:
        InvalidScope: The scope breaks the grammar.
    """
    if isinstance(source, str):
        source = Scope(source)
    key = ("scope", source) if source is None or isinstance(source, Scope) else ("engram", id(source))
    with _lock:
        if key not in _active:
            recorder = Recorder(_filter(source), max_open=max_open, timeout_s=timeout_s)
            _active[key] = Instrumentation(key, recorder)
            _active[key]._install()
        return _active[key]


def _filter(source: Engram | Scope | None) -> Callable[[Asker], bool]:
    if source is None:
        return lambda asker: True
    if isinstance(source, Scope):
        return lambda asker: source.contains(asker.binding.scope_for(asker.context))
    return lambda asker: asker.binding.engram is source


def _is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _strip(result: Any) -> None:
    """Take the citations out of an answer that is complete. Streams are the user's; nothing here reads them."""
    if isinstance(result, StopEvent):
        result = getattr(result, "result", None)
    if isinstance(result, Response | AgentChatResponse) and result.response:
        result.response = strip_citations(result.response)
    elif isinstance(result, AgentOutput):
        strip_message(result.response)


def _recall_ids(result: Any) -> list[str]:
    """Recall ids in what a span returned: a tool's output, or a response's source nodes."""
    if isinstance(result, ToolOutput):
        raw = result.raw_output
        recall_id = raw.get("recall_id") if isinstance(raw, dict) else None
        return [recall_id] if isinstance(recall_id, str) else []
    return _recall_ids_in(getattr(result, "source_nodes", None) if _is_response(result) else None)


def _recall_ids_in(nodes: Iterable[NodeWithScore] | None) -> list[str]:
    found = (node.node.metadata.get(RECALL_ID) for node in nodes or ())
    return list(dict.fromkeys(recall_id for recall_id in found if isinstance(recall_id, str)))


def _is_response(result: Any) -> bool:
    return isinstance(
        result,
        Response
        | PydanticResponse
        | StreamingResponse
        | AsyncStreamingResponse
        | AgentChatResponse
        | StreamingAgentChatResponse,
    )


def _text_of(result: Any) -> str:
    """The answer in what a turn returned, if it is there already. Never touches a stream."""
    if isinstance(result, StopEvent):
        result = getattr(result, "result", None)
    match result:
        case str():
            return result
        case Response() | AgentChatResponse():
            return result.response or ""
        case PydanticResponse():
            return str(result)
        case AgentOutput():
            return result.response.content or ""
        case _:
            return ""
