"""Conversation: which question is open, what was recalled for it, and which answer closes it.

One recall per question, however often the framework reads. It does no I/O and never judges what is worth keeping.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from llama_index_instrumentation.dispatcher import active_instrument_tags

from engram_core import Alarm, Recall

MAX_OPEN = 256
TIMEOUT_S = 900.0
RUN_TAG = "llamaindex.run_id"

# Chat engines have no run id. Whoever asks a question marks its own task or thread with one; worker threads and tasks
# started from there inherit it, so the answer of a stream finds its question. A lost mark only costs precision:
# `answer` then closes a question only when exactly one is open.
_run: ContextVar[str | None] = ContextVar("engram_llamaindex_run", default=None)


def agent_run() -> str | None:
    """The id of the workflow run that is calling, or None outside of agents. It reaches every step and tool."""
    run = active_instrument_tags.get().get(RUN_TAG)
    return run if isinstance(run, str) else None


@dataclass(slots=True, eq=False)
class Question:
    """One question of the user.

    Attributes:
        is_put: The framework has put the user's message (some engines read the memory first).
        is_shown: The recall was handed to the framework; only then can an answer have used it.
        is_answered: A final answer was put.
        at: When it was asked, monotonic seconds.
    """

    text: str
    is_put: bool
    at: float
    is_shown: bool = False
    is_answered: bool = False
    _is_recalled: bool = False
    _recall: Recall | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def recall(self) -> Recall | None:
        """What was recalled, if anything was."""
        return self._recall

    def recall_once(self, ask: Callable[[str], Recall | None]) -> Recall | None:
        """Recall on the first call only; concurrent readers wait for it."""
        with self._lock:
            if not self._is_recalled:
                self._is_recalled = True
                self._recall = ask(self.text)
            return self._recall


class Conversation:
    """The questions of one memory object, by run. Thread-safe; bounded in number and time.

    Args:
        max_open: Questions kept; the oldest is given up beyond that.
        timeout_s: Seconds after which a question is given up: a run that failed never answers. It is released with
            the next question, and in an idle process at the latest after as many seconds again.
        on_timeout: Told the unanswered questions that an idle process gives up.
    """

    def __init__(
        self,
        *,
        max_open: int = MAX_OPEN,
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
        on_timeout: Callable[[list[Question]], None] | None = None,
    ) -> None:
        self._on_timeout = on_timeout
        self._alarm = Alarm(self.sweep, timeout_s)
        self._max_open = max_open
        self._timeout_s = timeout_s
        self._clock = clock
        self._questions: OrderedDict[str, Question] = OrderedDict()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        """Questions kept, the newest of a run also when it is answered."""
        return len(self._questions)

    def sweep(self) -> None:
        """Give up the questions that are too old."""
        with self._lock:
            gone = [question for question in self._overdue() if not question.is_answered]
        if gone and self._on_timeout is not None:
            self._on_timeout(gone)

    def put(self, text: str) -> tuple[Question, list[Question]]:
        """The user's message was put. Returns its question, and the questions abandoned by asking it."""
        with self._lock:
            current = self._current()
            if current is not None and current.text == text and not current.is_put and not current.is_answered:
                current.is_put = True
                return current, []
            return self._open(text, is_put=True)

    def read(self, text: str, last: str) -> tuple[Question | None, list[Question]]:
        """The memory is read: for `text` if the framework named it, else for the run's question or the `last` put."""
        with self._lock:
            current = self._current()
            if not text:
                current = current or self._asked(last)
                return (current, []) if current is not None or not last else self._open(last, is_put=True)
            if current is not None and current.text == text and not current.is_answered:
                return current, []
            return self._open(text, is_put=False)

    def answer(self) -> Question | None:
        """A final answer was put. Returns the question it closes; None if that is unknown or it was closed before."""
        with self._lock:
            question = self._current()
            if question is None:
                unanswered = self._unanswered()
                question = unanswered[0] if len(unanswered) == 1 else None
            if question is None or question.is_answered:
                return None
            question.is_answered = True
            return question

    def end(self) -> list[Question]:
        """Forget every question; returns the unanswered ones."""
        with self._lock:
            unanswered = self._unanswered()
            self._questions.clear()
            return unanswered

    def _current(self) -> Question | None:
        run = agent_run() or _run.get()
        return self._questions.get(run) if run is not None else None

    def _asked(self, text: str) -> Question | None:
        return next((q for q in reversed(self._questions.values()) if q.text == text), None) if text else None

    def _unanswered(self) -> list[Question]:
        return [question for question in self._questions.values() if not question.is_answered]

    def _open(self, text: str, *, is_put: bool) -> tuple[Question, list[Question]]:
        now = self._clock()
        gone = []
        replaced = agent_run() or _run.get()
        if replaced is not None and replaced in self._questions:
            gone.append(self._questions.pop(replaced))
        run = agent_run()
        if run is None:
            run = uuid.uuid4().hex
            _run.set(run)
        question = self._questions[run] = Question(text, is_put, now)
        gone += self._overdue()
        return question, [old for old in gone if not old.is_answered]

    def _overdue(self) -> list[Question]:
        gone = []
        limit = self._clock() - self._timeout_s
        while self._questions:
            oldest = next(iter(self._questions.values()))
            if len(self._questions) <= self._max_open and oldest.at >= limit:
                self._alarm.set()
                break
            gone.append(self._questions.popitem(last=False)[1])
        return gone
