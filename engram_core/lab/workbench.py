"""Workbench: what tasks try a design on: fresh stores under it, every recall timed and counted. It opens none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import numpy as np

from engram_core.domain.fact import Fact
from engram_core.domain.message import Message
from engram_core.domain.recall import AddResult, Recall, Usage
from engram_core.domain.spec import DesignSpec

Facts = list[Fact]
"""Spelled outside LabMemory, whose method `list` hides the built-in."""


class LabMemory(Protocol):
    """One scope of a store as one principal: the part of `Memory` that tasks use."""

    def add(self, messages: Any, *, session: str | None = None, now: datetime | None = None) -> AddResult: ...
    def recall(
        self, query: str, *, k: int = 8, max_tokens: int | None = None, now: datetime | None = None
    ) -> Recall: ...
    def observe(self, recall_id: str, response: str | None, *, now: datetime | None = None) -> Usage: ...
    def list(self, *, status: str | None = None, limit: int = 100) -> Facts: ...
    def update(self, id: str, *, pinned: bool | None = None, now: datetime | None = None) -> Fact: ...  # noqa: A002


class LabStore(Protocol):
    """A store under the design on trial."""

    def memory(self, scope: str, *, principal: str | None = None) -> LabMemory: ...
    def sleep(self, scope: str | None = None, *, now: datetime | None = None) -> Any: ...
    def close(self) -> None: ...


class Runner(Protocol):
    """Opens stores under designs; `engram_core.workshop` has the real one."""

    def open(self, spec: DesignSpec, policy: Mapping[str, Any], *, durable: bool = False) -> LabStore:
        """A fresh, empty store: everything in it is under this design and these policy fields.

        With `durable` it is on disk, in a directory that goes with it.

        Raises:
            InvalidDesign, SandboxUnavailable: The design cannot be run here.
        """
        ...

    def restart(self, store: LabStore) -> LabStore:
        """Close a store that was opened with `durable=True`, and open it again from what is on disk."""
        ...

    def reopen(self, spec: DesignSpec, store: LabStore) -> LabStore:
        """The same store under another design that stores alike."""
        ...

    def writes(self, spec: DesignSpec) -> str:
        """Equal for designs that store alike, so that what one collected another can be asked about; "" for never."""
        ...


class Collected:
    """Stores that were filled before, by what filled them and how the design stores. A cache; bounded."""

    def __init__(self, most: int = 24) -> None:
        self._most = most
        self._stores: dict[tuple[str, str], LabStore] = {}

    def get(self, key: tuple[str, str]) -> LabStore | None:
        """The store, now the latest used one."""
        found = self._stores.pop(key, None)
        if found is not None:
            self._stores[key] = found
        return found

    def put(self, key: tuple[str, str], store: LabStore) -> None:
        """Keep a store; the longest unused ones are closed."""
        self._stores[key] = store
        while len(self._stores) > self._most:
            self._stores.pop(next(iter(self._stores))).close()

    def close(self) -> None:
        """Close every store."""
        while self._stores:
            self._stores.popitem()[1].close()


@dataclass(slots=True)
class Workbench:
    """One design on trial.

    Attributes:
        cache: Filled stores of earlier trials; None to fill a new one each time.
        milliseconds, tokens: Of every recall so far; processor time, of code designs time by the clock.
    """

    spec: DesignSpec
    runner: Runner
    cache: Collected | None = None
    milliseconds: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    _open: list[LabStore] = field(default_factory=list)

    def fresh(self, *, durable: bool = False, **policy: Any) -> LabStore:
        """An empty store, closed with the workbench."""
        store = self.runner.open(self.spec, policy, durable=durable)
        self._open.append(store)
        return store

    def restarted(self, store: LabStore) -> LabStore:
        """The same durable store after a restart."""
        self._open.remove(store)
        again = self.runner.restart(store)
        self._open.append(again)
        return again

    def filled(self, key: str, fill: Callable[[LabStore], None], **policy: Any) -> LabStore:
        """A store that `fill` has filled: of an earlier design that stores alike, if there was one.

        Whoever asks for it may recall from it and nothing else.
        """
        writes = self.runner.writes(self.spec)
        if self.cache is None or not writes:
            store = self.fresh(**policy)
            fill(store)
            return store
        place = (key, writes)
        found = self.cache.get(place)
        if found is not None:
            store = self.runner.reopen(self.spec, found)
        else:
            store = self.runner.open(self.spec, policy)
            try:
                fill(store)
            except BaseException:
                store.close()
                raise
        self.cache.put(place, store)
        return store

    def recall(
        self, memory: LabMemory, query: str, now: datetime, *, k: int = 8, max_tokens: int | None = None
    ) -> Recall:
        """A recall, timed and counted."""
        # A genome ranks in this very thread: its processor time is its own, whatever else the machine does. Code ranks
        # in another process, and is waited for.
        clock = time.perf_counter if self.spec.kind == "code" else time.thread_time
        started = clock()
        found = memory.recall(query, k=k, max_tokens=max_tokens, now=now)
        self.milliseconds.append((clock() - started) * 1_000)
        self.tokens.append(found.tokens)
        return found

    def close(self) -> None:
        """Close what was opened for this design alone."""
        while self._open:
            self._open.pop().close()

    @property
    def timings(self) -> dict[str, float]:
        """Of the recalls: how many, p50 and p95 in milliseconds."""
        if not self.milliseconds:
            return {"recalls": 0.0, "p50_ms": 0.0, "p95_ms": 0.0}
        p50, p95 = np.percentile(self.milliseconds, (50, 95))
        return {"recalls": float(len(self.milliseconds)), "p50_ms": float(p50), "p95_ms": float(p95)}


def sessions_of(messages: Iterable[Message]) -> list[list[Message]]:
    """Messages by session, in order of first occurrence."""
    found: dict[str | None, list[Message]] = {}
    for message in messages:
        found.setdefault(message.session, []).append(message)
    return list(found.values())


def covered(recall: Recall) -> frozenset[str]:
    """Ids of the messages behind what a recall shows."""
    return frozenset(id_ for item in recall.facts for id_ in item.message_ids)


def mean(values: Sequence[float]) -> float:
    """The mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0
