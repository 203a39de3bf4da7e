"""Verdicts: whose a recall is, while somebody waits for its response. It judges nothing and keeps no text.

EngramMemory sees questions and answers itself and settles its own recalls. The recalls of retrievers, tools and memory
blocks are noted here while `instrument()` is on, and taken out by whoever settles them: so a turn counts once.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from llama_index_instrumentation.span import active_span_id

from engram_core import Alarm, Binding, Recall

MAX_OPEN: Final = 4096
TIMEOUT_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Asker:
    """Who made a recall: the binding, the context its scope was resolved with, and whether it asked for citations."""

    binding: Binding
    context: Any
    is_citing: bool = False

    def observe(self, recall_id: str, response: str | None) -> None:
        """Hand a response to the memory that was asked."""
        self.binding.observe(recall_id, response, context=self.context)


class Watcher(Protocol):
    """Somebody who will learn what was answered."""

    def saw(self, span_id: str | None, recall_id: str) -> None:
        """A recall was made inside a span."""
        ...

    def citing(self, span_id: str | None, asker: Asker) -> None:
        """Somebody who settles his recalls himself asked for citations inside a span."""
        ...


class Verdicts:
    """Recalls that await a verdict, by id. Thread-safe, bounded in number and time; empty while nobody watches.

    Args:
        max_open: Recalls kept; the oldest is forgotten beyond that, which leaves its verdict unknown.
        timeout_s: Seconds after which a recall nobody settled is forgotten: with the next one, and in an idle process
            at the latest after as many seconds again.
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
        self._askers: OrderedDict[str, tuple[float, Asker]] = OrderedDict()
        self._watchers: tuple[Watcher, ...] = ()
        self._max_open = max_open
        self._timeout_s = timeout_s
        self._clock = clock
        self._alarm = Alarm(self.sweep, timeout_s)

    def __len__(self) -> int:
        """Recalls kept."""
        return len(self._askers)

    def sweep(self) -> None:
        """Forget the recalls that are too many or too old."""
        with self._lock:
            self._prune()

    def watch(self, watcher: Watcher) -> None:
        """Tell `watcher` of every recall from now on."""
        with self._lock:
            self._watchers = (*(other for other in self._watchers if other is not watcher), watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Stop telling `watcher`."""
        with self._lock:
            self._watchers = tuple(other for other in self._watchers if other is not watcher)
            if not self._watchers:
                self._askers.clear()

    def opened(self, recall: Recall, binding: Binding, context: Any = None) -> None:
        """Note that `binding` made a recall, in the span that is active now."""
        with self._lock:
            watchers = self._watchers
            if not watchers:
                return
            is_citing = any(scored.marker for scored in recall.facts)
            self._askers[recall.id] = (self._clock(), Asker(binding, context, is_citing))
            self._prune()
        for watcher in watchers:
            watcher.saw(active_span_id.get(), recall.id)

    def citing(self, binding: Binding) -> None:
        """Note that the answer of the active span will cite what `binding` recalled."""
        for watcher in self._watchers:
            watcher.citing(active_span_id.get(), Asker(binding, None, is_citing=True))

    def asker(self, recall_id: str) -> Asker | None:
        """Who made a recall; None if it is settled or unknown here."""
        with self._lock:
            found = self._askers.get(recall_id)
            return found[1] if found is not None else None

    def take(self, recall_id: str) -> Asker | None:
        """Like `asker`, and nobody else gets it any more: the caller observes."""
        with self._lock:
            found = self._askers.pop(recall_id, None)
            return found[1] if found is not None else None

    def _prune(self) -> None:
        limit = self._clock() - self._timeout_s
        while self._askers:
            at, _ = next(iter(self._askers.values()))
            if len(self._askers) <= self._max_open and at >= limit:
                self._alarm.set()
                return
            self._askers.popitem(last=False)


VERDICTS: Final = Verdicts()
"""One per process: retrievers, tools and `instrument()` do not know each other."""
