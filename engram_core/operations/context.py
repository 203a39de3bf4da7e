"""What every operation gets: ports, clock and designs of one store. A plain record; it does nothing."""

from __future__ import annotations

import random
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from engram_core.design import Design
from engram_core.domain.audit import AuditEntry
from engram_core.domain.change import Draft
from engram_core.domain.errors import InvalidPolicy
from engram_core.domain.guard import Guard
from engram_core.domain.message import Episode
from engram_core.domain.scope import Scope
from engram_core.floor.access import Access
from engram_core.floor.echo import Heard
from engram_core.operations.calibrate import Calibration
from engram_core.operations.learned import Learned
from engram_core.operations.quotas import Quotas
from engram_core.operations.shadowing import Shadowing
from engram_core.ports import (
    Clock,
    Finder,
    LanguageModel,
    Ledger,
    NewId,
    Reading,
    Reranker,
    Source,
    StoreEmbedder,
    TokenCounter,
)

_REMEMBERED_SCOPES = 1_000
_REMEMBERED_RECALLS = 6
_REMEMBERED_TEXTS = 32
_LATELY = 20
_TOO_OFTEN = 5
_IN_A_ROW = 3
"""A design that fails so often lately, or in a row, does not stay in force."""


class Injected:
    """Texts that recalls recently put into prompts, by scope and principal, for the recall-loop guard. Bounded.

    What one principal recalled says nothing when another adds the same words: it may not even know that they are known.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: OrderedDict[tuple[Scope, str], deque[tuple[str, ...]]] = OrderedDict()

    def note(self, scope: Scope, principal: str, texts: Sequence[str]) -> None:
        """Remember what a recall in `scope` by `principal` injected."""
        if not texts:
            return
        with self._lock:
            recent = self._texts.setdefault((scope, principal), deque(maxlen=_REMEMBERED_RECALLS))
            recent.append(tuple(texts))
            self._texts.move_to_end((scope, principal))
            while len(self._texts) > _REMEMBERED_SCOPES:
                self._texts.popitem(last=False)

    def forget(self) -> None:
        """Hold nothing any more."""
        with self._lock:
            self._texts.clear()

    def of(self, scope: Scope, principal: str) -> list[str]:
        """The texts lately injected in `scope` for `principal`."""
        with self._lock:
            return [text for texts in self._texts.get((scope, principal), ()) for text in texts]


class SecondHand:
    """What tools, the web and imports lately brought into each scope: what an assistant may be echoing. Bounded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard: OrderedDict[Scope, deque[Heard]] = OrderedDict()

    def note(self, scope: Scope, heard: Sequence[Heard]) -> None:
        """Remember what came."""
        if not heard:
            return
        with self._lock:
            recent = self._heard.setdefault(scope, deque(maxlen=_REMEMBERED_TEXTS))
            recent.extend(heard)
            self._heard.move_to_end(scope)
            while len(self._heard) > _REMEMBERED_SCOPES:
                self._heard.popitem(last=False)

    def forget(self) -> None:
        """Hold nothing any more."""
        with self._lock:
            self._heard.clear()

    def of(self, scope: Scope) -> list[Heard]:
        """What lately came into `scope`."""
        with self._lock:
            return list(self._heard.get(scope, ()))


class Turnstiles:
    """One lock per scope, so that writers of one process take turns instead of planning twice. Bounded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: OrderedDict[Scope, threading.RLock] = OrderedDict()

    def of(self, scope: Scope) -> threading.RLock:
        """The scope's lock."""
        with self._lock:
            lock = self._locks.setdefault(scope, threading.RLock())
            self._locks.move_to_end(scope)
            if len(self._locks) > _REMEMBERED_SCOPES:
                # Dropping a lock somebody holds is harmless: the ledger still refuses a plan made from an old state.
                self._locks.popitem(last=False)
            return lock


class Failures:
    """How the designs in force did lately: whether one fails too often to stay. Bounded, per process.

    Attributes:
        are_shown: Nothing stands in for a design that fails: whoever examines designs must see it.
    """

    def __init__(self) -> None:
        self.are_shown = False
        self._lock = threading.Lock()
        self._lately: OrderedDict[str, deque[bool]] = OrderedDict()

    def worked(self, design: str) -> None:
        """Note that it did what it was asked."""
        self._note(design, has_failed=False)

    def failed(self, design: str) -> tuple[int, int] | None:
        """Note that it failed. If that is one too many: of how many calls how many failed; the count begins anew."""
        lately = self._note(design, has_failed=True)
        if sum(lately) < _TOO_OFTEN and sum(lately[-_IN_A_ROW:]) < _IN_A_ROW:
            return None
        with self._lock:
            self._lately.pop(design, None)
        return sum(lately), len(lately)

    def _note(self, design: str, *, has_failed: bool) -> list[bool]:
        with self._lock:
            lately = self._lately.setdefault(design, deque(maxlen=_LATELY))
            lately.append(has_failed)
            self._lately.move_to_end(design)
            while len(self._lately) > _REMEMBERED_SCOPES:
                self._lately.popitem(last=False)
            return list(lately)


def _no_answer(question: str, facts: Sequence[tuple[str, datetime]], model: LanguageModel) -> Reading | None:
    return None


class Rules(Protocol):
    """The access rules in force; see `warden.Rulebook`."""

    def current(self, number: int | None = None) -> Access:
        """The rules as of now, or as of a number of theirs that was just read."""
        ...


class Notes(Protocol):
    """Where reads and refusals are noted; see `recorder.Recorder`."""

    def note(self, entry: AuditEntry) -> None:
        """Note one."""
        ...

    def flush(self) -> None:
        """Write what waits."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """The store as operations see it."""

    ledger: Ledger
    finder: Finder
    embedder: StoreEmbedder
    counter: TokenCounter
    designs: Callable[[str], Design | None]
    clock: Clock
    new_id: NewId
    rng: random.Random
    owner: str
    model: LanguageModel | None
    extractor: Callable[[Episode, LanguageModel], Sequence[Draft]]
    judge: Callable[[str, Sequence[tuple[str, datetime | None]], str, LanguageModel], Sequence[bool]]
    judge_update: Callable[[str, str, LanguageModel], Literal["same", "update", "both"]]
    rules: Rules
    audit: Notes
    answerer: Callable[[str, Sequence[tuple[str, datetime]], LanguageModel], Reading | None] = _no_answer
    sources: Sequence[tuple[Scope | None, Source]] = ()
    """Where reflection may look besides the store: each for a scope and all below it, or (None) for every scope."""
    injected: Injected = field(default_factory=Injected)
    turnstiles: Turnstiles = field(default_factory=Turnstiles)
    learned: Learned = field(default_factory=Learned)
    second_hand: SecondHand = field(default_factory=SecondHand)
    quotas: Quotas = field(default_factory=Quotas)
    guards: tuple[Guard, ...] = ()
    calibration: Calibration = field(default_factory=Calibration)
    reranker: Reranker | None = None
    shadowing: Shadowing = field(default_factory=Shadowing)
    failures: Failures = field(default_factory=Failures)

    def design(self, name: str) -> Design:
        """The design a policy names. Raises InvalidPolicy if it is not installed."""
        design = self.designs(name)
        if design is None:
            raise InvalidPolicy(f"The policy names the design {name!r}, which is not installed.")
        return design
