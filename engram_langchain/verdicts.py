"""Verdicts: who made a recall, until its response is known, so that a turn counts once. It keeps no text.

The middleware, the callback handler and the classic memory may all watch the same turn. Whoever knows the outcome first
settles the recall; the others find it settled. See reference/frameworks.md, rule 7.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from engram_core import Alarm, Binding, Memory, NamedTurns
from engram_langchain.context import Place, place_now

logger = logging.getLogger("engram")

MAX_OPEN: Final = 4096
TIMEOUT_S: Final = 3600.0


class _Known(Enum):
    """What has been observed of a recall."""

    NOTHING = "nothing"
    UNKNOWN = "unknown"
    VERDICT = "verdict"


@dataclass(frozen=True, slots=True)
class Asked:
    """Who made a recall. The references go as soon as there is a verdict, it times out, or it is pushed out.

    Attributes:
        binding, context: The memory that was asked, and what its scope is resolved with.
        run_id: The framework's run that recalled, if there was one.
        place: Where in a trace that was.
        at: When, monotonic seconds.
    """

    binding: Binding | None
    context: Any
    run_id: Hashable | None
    at: float
    place: Place | None = None
    known: _Known = _Known.NOTHING


@dataclass(frozen=True, slots=True)
class Seen:
    """A recall of a turn: the memory it was made in, and the traced run it was made by."""

    recall_id: str
    memory: Memory
    place: Place | None


class Verdicts:
    """Recalls by id. Thread-safe, bounded in number and time.

    Args:
        max_open: Recalls kept; the oldest is forgotten beyond that, which leaves its verdict unknown.
        timeout_s: Seconds after which a recall is forgotten: with the next one, and in an idle process at the latest
            after as many seconds again.
    """

    def __init__(
        self,
        *,
        max_open: int = MAX_OPEN,
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Reentrant: the garbage collector may close an abandoned stream, which reports here, in the middle of anything.
        self._lock = threading.RLock()
        self._asked: OrderedDict[str, Asked] = OrderedDict()
        self._by_run: dict[Hashable, str] = {}
        self._max_open = max_open
        self._timeout_s = timeout_s
        self._clock = clock
        self._alarm = Alarm(self.sweep, timeout_s)

    def __len__(self) -> int:
        """Recalls kept."""
        return len(self._asked)

    @property
    def open(self) -> int:
        """Recalls of which nothing is observed yet."""
        with self._lock:
            return sum(asked.known is _Known.NOTHING for asked in self._asked.values())

    def forget(self) -> None:
        """Forget every recall; what is not observed stays that way."""
        with self._lock:
            self._asked.clear()
            self._by_run.clear()

    def sweep(self) -> None:
        """Forget the recalls that are too old."""
        with self._lock:
            self._prune()

    def opened(self, recall_id: str, binding: Binding, *, context: Any = None, run_id: Hashable | None = None) -> None:
        """Note that `binding` made a recall, during the framework's run `run_id` if there is one."""
        place = place_now()
        with self._lock:
            self._asked[recall_id] = Asked(binding, context, run_id, self._clock(), place)
            if run_id is not None:
                self._by_run[run_id] = recall_id
            self._prune()

    def asked(self, recall_id: str) -> Asked | None:
        """Who made a recall; None once it is judged, or if it is unknown here."""
        with self._lock:
            asked = self._asked.get(recall_id)
            return asked if asked is not None and asked.binding is not None else None

    def made_by(self, run_id: Hashable) -> str | None:
        """The recall that was made during a run, or None."""
        with self._lock:
            return self._by_run.get(run_id)

    def settle(
        self, recall_id: str, response: str | None, *, binding: Binding | None = None, context: Any = None
    ) -> None:
        """Observe the response to a recall, unless someone did already.

        "Unknown" is observed only if nothing was yet, and a verdict may still follow it: a turn that stopped at an
        interrupt is unknown until it is resumed.

        Args:
            recall_id: Which recall.
            response: The final text; None when it is unknown (error, abandoned, partial).
            binding: Who to ask when this process did not make the recall, or no longer knows that it did.
            context: The runtime context that goes with `binding`.
        """
        with self._lock:
            asked = self._asked.get(recall_id) or Asked(binding, context, None, self._clock())
            is_new = asked.known is _Known.NOTHING if response is None else asked.known is not _Known.VERDICT
            if is_new and asked.binding is not None:
                self._note(recall_id, asked, response)
        if is_new and asked.binding is not None:
            asked.binding.observe(recall_id, response, context=asked.context)
        elif is_new:
            logger.debug("engram: recall %s was not made here and no scope was given; not observed", recall_id)

    def _note(self, recall_id: str, asked: Asked, response: str | None) -> None:
        if response is None:
            self._asked[recall_id] = replace(asked, known=_Known.UNKNOWN)
        else:
            # The id stays, without its references, so that a second verdict is recognised.
            self._asked[recall_id] = Asked(None, None, None, asked.at, known=_Known.VERDICT)
            self._by_run.pop(asked.run_id, None)
        self._prune()

    def _prune(self) -> None:
        limit = self._clock() - self._timeout_s
        while self._asked:
            recall_id, oldest = next(iter(self._asked.items()))
            if len(self._asked) <= self._max_open and oldest.at >= limit:
                self._alarm.set()
                return
            self._asked.pop(recall_id, None)
            self._by_run.pop(oldest.run_id, None)


VERDICTS: Final = Verdicts()
"""One per process: the objects that watch a turn do not know each other."""


def _unanswered(recall_ids: list[str]) -> None:
    for recall_id in recall_ids:
        VERDICTS.settle(recall_id, None)


NAMED: Final = NamedTurns(_unanswered)
"""Turns that their users named, for all handlers of the process: a retriever's and a model's may be two."""
