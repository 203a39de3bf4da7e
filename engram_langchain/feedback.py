"""EngramFeedback: recalls and their usefulness in LangSmith, off-thread. Nothing is sent or made unless tracing is on.

It reads what memory recorded and hands it to LangSmith's client. It judges nothing and keeps no text.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5
from weakref import WeakKeyDictionary

from langsmith import utils as langsmith_utils
from langsmith.run_helpers import get_tracing_context

from engram_core import RecallExplanation
from engram_langchain.verdicts import Seen

if TYPE_CHECKING:
    from langsmith import Client

logger = logging.getLogger("engram")

KEY: Final = "engram_usefulness"
MAX_QUEUE: Final = 1000
_MAX_POSTED: Final = 4096
_ASK_PROJECT_AGAIN_S: Final = 60.0
_STOP: Final = None


@dataclass(frozen=True, slots=True)
class _Turn:
    run_id: UUID
    seen: tuple[Seen, ...]
    client: Client | None
    project: str | None


class EngramFeedback:
    """Shows in LangSmith what was recalled, and how much of it the response used.

    Give it to a callback handler: `memory.as_callback(feedback=EngramFeedback())`. Each recall of a traced turn becomes
    a run of type `retriever` named `engram.recall` with the facts' ids, ranks and scores in its outputs, inside the
    response's trace where that is known. When the turn ends, its outermost run gets feedback `engram_usefulness`: the
    share of the shown facts that the response used, 0 to 1, with the ids of used, unused and unknown facts in `value`;
    without a score if nothing is known (error, abandoned stream).

    Sending happens on one thread of its own behind a bounded queue; a full queue drops the turn, counts it and says so
    in the log. The user's run neither waits for LangSmith nor fails with it.

    Args:
        client: Send with this client, whether or not tracing is on. Default: only while tracing is on
            (`LANGSMITH_TRACING` or `LANGCHAIN_TRACING_V2` is `true`, or `tracing_context(enabled=True)`), with the
            client of the trace or LangChain's own.
        project: The project of recalls that lie outside of any trace; default LangSmith's.
        with_texts: Send the question and the facts' texts as well. Default False: ids and numbers only.
        max_queue: Turns that may wait, default 1000.
    """

    def __init__(
        self,
        client: Client | None = None,
        *,
        project: str | None = None,
        with_texts: bool = False,
        max_queue: int = MAX_QUEUE,
    ) -> None:
        self._client = client
        self._project = project
        self._with_texts = with_texts
        self._queue: queue.Queue[_Turn | None] = queue.Queue(max_queue)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._posted: OrderedDict[str, None] = OrderedDict()
        self._projects: WeakKeyDictionary[Client, dict[str, tuple[UUID | None, float]]] = WeakKeyDictionary()
        self._sent = self._dropped = self._failed = 0

    @property
    def sent(self) -> int:
        """Turns handed to LangSmith's client."""
        return self._sent

    @property
    def dropped(self) -> int:
        """Turns that found the queue full, or came after `close`."""
        return self._dropped

    @property
    def failed(self) -> int:
        """Turns that could not be sent; the log says why."""
        return self._failed

    @property
    def is_on(self) -> bool:
        """Whether a turn that ended now would be sent."""
        return self._client is not None or langsmith_utils.tracing_is_enabled() is True

    def turn_ended(self, run_id: UUID, seen: Sequence[Seen]) -> None:
        """Send what a turn recalled and what its response used of it. Returns at once; never raises.

        Args:
            run_id: The outermost run of the response.
            seen: Its recalls, already observed.
        """
        try:
            if seen and self.is_on:
                context = get_tracing_context()
                self._put(_Turn(run_id, tuple(seen), context.get("client"), context.get("project_name")))
        except Exception:
            # Whatever LangSmith's context is made of: the user's run goes on.
            logger.exception("engram: a turn's feedback was skipped")

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything so far has left this process.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            False if something was still waiting after that.
        """
        deadline = time.monotonic() + timeout
        with self._queue.all_tasks_done:
            while self._queue.unfinished_tasks:
                left = deadline - time.monotonic()
                if left <= 0 or not self._queue.all_tasks_done.wait(left):
                    return False
        for client in list(self._projects):
            client.flush(max(0.0, deadline - time.monotonic()))
        return True

    def close(self, timeout: float = 10.0) -> bool:
        """`flush`, then stop: what comes later is dropped. The client stays open. May be called twice."""
        with self._lock:
            self._is_closed = True
        done = self.flush(timeout)
        thread = self._thread
        if thread is not None and thread.is_alive():
            try:
                self._queue.put_nowait(_STOP)
            except queue.Full:
                return False
            thread.join(max(0.1, timeout) if done else 0.1)
        return done

    # --- the caller's thread ---

    def _put(self, turn: _Turn) -> None:
        with self._lock:
            if self._is_closed:
                self._drop("it is closed")
                return
            try:
                self._queue.put_nowait(turn)
            except queue.Full:
                self._drop(f"{self._queue.maxsize} turns are waiting already")
                return
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="engram-feedback", daemon=True)
                self._thread.start()

    def _drop(self, why: str) -> None:
        self._dropped += 1
        if self._dropped & (self._dropped - 1) == 0:  # the first, second, fourth …: a full queue must not fill the log
            logger.warning("engram: feedback of a turn is not sent, %s (%d dropped so far)", why, self._dropped)

    # --- the worker's ---

    def _work(self) -> None:
        while True:
            turn = self._queue.get()
            try:
                if turn is _STOP:
                    return
                self._send(turn)
                self._sent += 1
            except Exception as error:  # noqa: BLE001 - a store or server that is down must not end the thread
                self._failed += 1
                logger.warning("engram: feedback of a turn could not be sent: %s", error)
            finally:
                self._queue.task_done()

    def _send(self, turn: _Turn) -> None:
        client = self._client or turn.client or _langchains_client()
        recalls = [(seen, _explained(seen)) for seen in turn.seen]
        for seen, recall in recalls:
            if seen.recall_id not in self._posted:
                client.create_run(**self._run(turn, seen, recall))
                self._note_posted(seen.recall_id)
        places = [seen.place for seen in turn.seen if seen.place is not None]
        project = places[0].project if places else self._project or turn.project
        _feed_back(
            client,
            run_id=turn.run_id,
            # Without a trace the client posts at once, here; with one it may batch.
            trace_id=places[0].trace_id if places else None,
            session_id=self._session_id(client, project),
            source_run_id=_run_id(turn.seen[0].recall_id),
            **_usefulness([recall for _, recall in recalls]),
        )

    def _note_posted(self, recall_id: str) -> None:
        # A turn that was interrupted ends twice, with the same recall.
        self._posted[recall_id] = None
        while len(self._posted) > _MAX_POSTED:
            self._posted.popitem(last=False)

    def _run(self, turn: _Turn, seen: Seen, recall: RecallExplanation) -> dict[str, Any]:
        own = _run_id(recall.id)
        start = recall.at.astimezone(UTC)
        order = f"{start:%Y%m%dT%H%M%S%f}Z{own}"
        place = seen.place
        facts = [{"id": item["id"], "rank": rank, "score": item["score"]} for rank, item in enumerate(recall.shown, 1)]
        outputs: dict[str, Any] = {"recall_id": recall.id, "facts": facts}
        if self._with_texts:
            outputs["documents"] = [
                {"type": "Document", "page_content": item["text"], "metadata": {"fact_id": item["id"]}}
                for item in recall.shown
            ]
        return {
            "id": own,
            "name": "engram.recall",
            "run_type": "retriever",
            "inputs": {"query": recall.query} if self._with_texts else {},
            "outputs": outputs,
            "start_time": start,
            "end_time": start + timedelta(milliseconds=sum(recall.stages.values())),
            "trace_id": place.trace_id if place else own,
            "parent_run_id": place.run_id if place else None,
            "dotted_order": f"{place.dotted_order}.{order}" if place else order,
            "project_name": place.project if place else self._project or turn.project,
            "tags": ["engram"],
            "extra": {
                "metadata": {
                    "engram_scope": recall.scope,
                    "engram_response_run": str(turn.run_id),
                    "tokens": recall.tokens,
                    "dropped": len(recall.dropped),
                    "degraded": recall.degraded,
                }
            },
        }

    def _session_id(self, client: Client, project: str | None) -> UUID | None:
        """The id of a project: newer servers want it beside a run's id. None while the server does not tell."""
        name = project or langsmith_utils.get_tracer_project() or "default"
        known = self._projects.setdefault(client, {})
        found, asked = known.get(name, (None, -_ASK_PROJECT_AGAIN_S))
        if found is None and time.monotonic() - asked >= _ASK_PROJECT_AGAIN_S:
            try:
                found = client.read_project(project_name=name).id
            except Exception as error:  # noqa: BLE001 - no project yet, no such endpoint, no server
                logger.debug("engram: LangSmith does not tell the id of project %s: %s", name, error)
            known[name] = (found, time.monotonic())
        return found


def _explained(seen: Seen) -> RecallExplanation:
    explained = seen.memory.explain(seen.recall_id)
    if not isinstance(explained, RecallExplanation):
        raise TypeError(f"{seen.recall_id} is not a recall")
    return explained


def _usefulness(recalls: Sequence[RecallExplanation]) -> dict[str, Any]:
    """Score, value and comment of a turn's feedback. The score is the share of shown facts that were used, if known."""
    told = [{"recall_id": recall.id, **_by_verdict(recall)} for recall in recalls]
    used, unused = (sum(len(item[verdict]) for item in told) for verdict in ("used", "unused"))
    lines = [
        f"recall {item['recall_id']}: "
        + "; ".join(f"{verdict} {', '.join(item[verdict]) or '-'}" for verdict in ("used", "unused", "unknown"))
        for item in told
    ]
    return {
        "score": used / (used + unused) if used + unused else None,
        "value": {"recalls": told},
        "comment": "\n".join(lines),
    }


def _by_verdict(recall: RecallExplanation) -> dict[str, list[str]]:
    verdicts: dict[str, list[str]] = {"used": [], "unused": [], "unknown": []}
    for item in recall.shown:
        verdicts[item.get("verdict") or "unknown"].append(item["id"])
    return verdicts


def _feed_back(client: Client, **fields: Any) -> None:
    with warnings.catch_warnings():
        # The first turn of a new project has no session id to give; nobody can do anything about the warning.
        warnings.filterwarnings("ignore", message="Creating feedback for a run without session_id")
        client.create_feedback(key=KEY, stop_after_attempt=1, source_info={"source": "engram"}, **fields)


def _run_id(recall_id: str) -> UUID:
    try:
        return UUID(recall_id)
    except ValueError:  # a store that was opened with ids of its own
        return uuid5(NAMESPACE_URL, recall_id)


def _langchains_client() -> Client:
    from langchain_core.tracers.langchain import get_client  # noqa: PLC0415 - constructs one if there is none yet

    return get_client()
