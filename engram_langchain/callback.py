"""EngramCallbackHandler: from recall to response by run ids. It correlates and hands over; it never judges."""

from __future__ import annotations

import logging
import threading
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.outputs import LLMResult

from engram_core import (
    DEFAULT_MAX_OPEN,
    DEFAULT_TIMEOUT_S,
    BindingSource,
    Engram,
    PrincipalSource,
    Turn,
    Turns,
    bind,
    turn_name,
)
from engram_langchain.convert import (
    final_text,
    recalls_in_documents,
    recalls_in_inputs,
    recalls_in_state,
    recalls_in_tool_output,
)
from engram_langchain.verdicts import NAMED, VERDICTS, Seen

if TYPE_CHECKING:
    from engram_langchain.feedback import EngramFeedback

logger = logging.getLogger("engram")

_MAX_SEEN: Final = 4096


class EngramCallbackHandler(BaseCallbackHandler):
    """Tells memory which recalled facts a response used.

    Attach it with `config={"callbacks": [handler]}` or `.with_config(callbacks=[handler])`. The outermost run is one
    turn: every recall below it (retriever, tool, middleware) is observed with its final text when it ends. Errors,
    abandoned streams, evicted turns, a retriever on its own and runs without a model are observed as unknown. A turn
    that stops at an interrupt is unknown until the resumed run has an answer. One handler serves any number of
    concurrent runs, sync and async.

    A retriever and a model that are called separately are one turn if both calls name it:
    `config={"callbacks": [handler], "metadata": {"engram_turn": turn_id}}`. What was recalled then waits for the first
    answer under that name, also across handlers; if none comes within 900 seconds it is unknown. Make the name
    unique per turn.

    Args:
        scope: Only needed for recalls made by another process; those made here know their own scope and store.
        engram: An open Engram to go with `scope`.
        url: Where the shared store is, to go with `scope`.
        principal: Who observes, to go with `scope`.
        max_open: Turns in flight at most; the oldest is observed as unknown beyond that. Default 1000.
        timeout_s: Seconds after which a turn counts as abandoned. Default 900.
        feedback: Tells LangSmith about each turn that ends; default nobody.
    """

    def __init__(
        self,
        scope: BindingSource | None = None,
        *,
        engram: Engram | None = None,
        url: str | None = None,
        principal: PrincipalSource = None,
        max_open: int = DEFAULT_MAX_OPEN,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        feedback: EngramFeedback | None = None,
    ) -> None:
        self._binding = None if scope is None else bind(scope, engram=engram, url=url, principal=principal)
        self._turns = Turns(max_open=max_open, timeout_s=timeout_s, on_evict=self._evicted)
        # Reentrant: the garbage collector may close an abandoned stream, which reports here, in the middle of anything.
        self._lock = threading.RLock()
        self._speaking: set[Hashable] = set()
        self._feedback = feedback
        self._seen: dict[str, Seen] = {}

    @property
    def open_turns(self) -> int:
        """Turns in flight, without named turns that wait for their answer."""
        return len(self._turns)

    def close(self) -> None:
        """Observe every turn in flight as unknown, e.g. at shutdown; named turns go on waiting."""
        for turn in self._turns.drain():
            self._evicted(turn)

    # --- runs begin ---

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """A chain or graph node began; a classic memory has recalled for it already."""
        self._started(run_id, kwargs)
        self._saw(run_id, recalls_in_inputs(inputs))

    def on_tool_start(self, serialized: Any, input_str: str, *, run_id: UUID, **kwargs: Any) -> None:
        """A tool began."""
        self._started(run_id, kwargs)

    def on_retriever_start(self, serialized: Any, query: str, *, run_id: UUID, **kwargs: Any) -> None:
        """A retriever began."""
        self._started(run_id, kwargs)

    def on_chat_model_start(self, serialized: Any, messages: list[Any], *, run_id: UUID, **kwargs: Any) -> None:
        """A chat model began."""
        self._model_started(run_id, kwargs)

    def on_llm_start(self, serialized: Any, prompts: list[str], *, run_id: UUID, **kwargs: Any) -> None:
        """A completion model began."""
        self._model_started(run_id, kwargs)

    # --- runs end ---

    def on_retriever_end(self, documents: Sequence[Document], *, run_id: UUID, **kwargs: Any) -> None:
        """Documents arrived; Engram's carry their recall id."""
        self._saw(run_id, recalls_in_documents(documents))
        self._ended(run_id, None)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """A tool returned; Engram's carries its recall id in the artifact (which AgentExecutor throws away)."""
        self._saw(run_id, recalls_in_tool_output(output))
        self._ended(run_id, None)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """A model finished speaking."""
        text = "\n".join(choice.text for choices in response.generations for choice in choices[:1])
        turn = self._turns.of(run_id)
        if turn is not None:
            turn.texts.append(text)
        self._model_stopped(run_id)
        self._ended(run_id, text)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """A chain or graph node ended; if it was the outermost run, so has the turn."""
        self._saw(run_id, recalls_in_state(outputs))
        self._ended(run_id, outputs)

    # --- runs fail ---

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A chain failed, or its stream was abandoned."""
        self._failed(run_id, error)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A tool failed; the agent may go on."""
        self._failed(run_id, error)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A retriever failed; the chain may go on."""
        self._failed(run_id, error)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A model failed or was cut short; a fallback may still answer."""
        self._model_stopped(run_id)
        self._failed(run_id, error)

    # --- turns ---

    def _started(self, run_id: UUID, kwargs: dict[str, Any]) -> None:
        turn = self._turns.start(run_id, kwargs.get("parent_run_id"))
        if turn.root == run_id:
            turn.name = turn_name(kwargs.get("metadata"))

    def _model_started(self, run_id: UUID, kwargs: dict[str, Any]) -> None:
        self._started(run_id, kwargs)
        with self._lock:
            self._speaking.add(run_id)

    def _model_stopped(self, run_id: UUID) -> None:
        with self._lock:
            self._speaking.discard(run_id)

    def _saw(self, run_id: UUID, recall_ids: Sequence[str]) -> None:
        made_here = VERDICTS.made_by(run_id)
        for recall_id in (*recall_ids, *([made_here] if made_here else [])):
            if self._turns.saw(run_id, recall_id) and self._feedback is not None:
                self._note(recall_id)

    def _note(self, recall_id: str) -> None:
        """Keep what the feedback needs: once a recall is judged, nobody knows any more who made it."""
        asked = VERDICTS.asked(recall_id)
        binding = asked.binding if asked is not None else self._binding
        if binding is None or recall_id in self._seen:
            return
        try:
            memory = binding.memory(asked.context if asked is not None else None)
        except Exception:
            # The user's own scope callable; its verdict is not judged either, which is logged where that happens.
            logger.debug("engram: no feedback on recall %s", recall_id, exc_info=True)
            return
        with self._lock:
            while len(self._seen) >= _MAX_SEEN:  # a named turn may be answered through another handler
                self._seen.pop(next(iter(self._seen)))
            self._seen[recall_id] = Seen(recall_id, memory, asked.place if asked is not None else None)

    def _ended(self, run_id: UUID, outputs: Any) -> None:
        turn = self._turns.finish(run_id)
        if turn is None:
            return
        # An abandoned LCEL stream ends its root with the partial text while the model's run is still open.
        is_partial = self._release(turn) or turn.is_partial
        # Without a model there is no answer: `retriever | format` returns the facts themselves.
        self._close(turn, final_text(outputs, turn.texts) if turn.texts and not is_partial else None)

    def _failed(self, run_id: UUID, error: BaseException) -> None:
        turn = self._turns.of(run_id)
        if turn is not None and not isinstance(error, Exception):
            turn.is_partial = True  # GeneratorExit or cancellation: whatever text follows is not the whole answer
        finished = self._turns.finish(run_id)
        if finished is not None:
            self._evicted(finished)

    def _evicted(self, turn: Turn) -> None:
        turn.is_partial = True
        self._release(turn)
        self._close(turn, None)

    def _release(self, turn: Turn) -> bool:
        """Forget the turn's model runs; True if one of them was still speaking."""
        with self._lock:
            speaking = self._speaking & turn.runs
            self._speaking -= speaking
            return bool(speaking)

    def _close(self, turn: Turn, text: str | None) -> None:
        recall_ids = turn.recall_ids
        if turn.name is not None:
            recall_ids = list(dict.fromkeys([*NAMED.take(turn.name), *recall_ids]))
        if turn.name is not None and text is None:
            NAMED.wait(turn.name, recall_ids)
            if not (turn.texts or turn.is_partial):
                return  # no model has spoken yet: this is not the answer's run
        for recall_id in recall_ids:
            VERDICTS.settle(recall_id, text, binding=self._binding)
        if self._feedback is not None:
            with self._lock:
                seen = [self._seen.pop(recall_id) for recall_id in recall_ids if recall_id in self._seen]
            self._feedback.turn_ended(cast("UUID", turn.root), seen)
