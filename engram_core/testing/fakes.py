"""Fakes for tests: embedders that work, fail, stall or lie; a scripted model; a clock and ids that repeat.

They stand in for a port and are passed in; nothing is patched.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engram_core.measure import words
from engram_core.ports import Embedder

Floats = NDArray[np.float32]
Wrong = Literal["nan", "infinite", "zero", "too long", "too short", "too few"]


class WordHashEmbedder:
    """Deterministic vectors without a model: the sum of one fixed random direction per stem, never zero.

    Texts that share words are near each other, in any process and on any machine.

    Args:
        dimension: Of the vectors.
        name: Part of the fingerprint a store remembers.
    """

    def __init__(self, dimension: int = 64, *, name: str = "word-hash") -> None:
        self.name = name
        self.dimension = dimension

    def embed(self, texts: Sequence[str]) -> Floats:
        """See `engram_core.ports.Embedder`; unit vectors."""
        rows = [sum((_direction(stem, self.dimension) for stem in words.stems(text)), self._bias()) for text in texts]
        stacked = np.array(rows, dtype=np.float32).reshape(len(texts), self.dimension)
        unit: Floats = stacked / np.linalg.norm(stacked, axis=1, keepdims=True)
        return unit

    def _bias(self) -> Floats:
        return 0.1 * _direction("", self.dimension)


@lru_cache(maxsize=100_000)
def _direction(stem: str, dimension: int) -> Floats:
    seed = int.from_bytes(hashlib.sha256(stem.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    values: Floats = np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)
    return values


class _Wrapped:
    """An embedder around another, with its name and dimension: a store cannot tell them apart by fingerprint."""

    def __init__(self, inner: Embedder | None = None) -> None:
        self.inner: Embedder = inner if inner is not None else WordHashEmbedder()

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def dimension(self) -> int:
        return self.inner.dimension


class FailingEmbedder(_Wrapped):
    """Raises while `is_failing`, or only for batches in which `refuses` says yes to a text.

    Args:
        inner: What answers otherwise; default WordHashEmbedder.
        is_failing: Whether it fails now; assign to it at any time.
        refuses: Texts that make it raise even while it works.
    """

    def __init__(
        self,
        inner: Embedder | None = None,
        *,
        is_failing: bool = True,
        refuses: Callable[[str], bool] = lambda text: False,
    ) -> None:
        super().__init__(inner)
        self.is_failing = is_failing
        self.calls = 0
        self._refuses = refuses

    def embed(self, texts: Sequence[str]) -> Floats:
        """See `engram_core.ports.Embedder`. Raises ConnectionError as told."""
        self.calls += 1
        if self.is_failing or any(map(self._refuses, texts)):
            raise ConnectionError("the embedding service does not answer")
        return self.inner.embed(texts)


class SlowEmbedder(_Wrapped):
    """Waits before it answers; `release` ends every wait, present and future.

    Args:
        inner: What answers; default WordHashEmbedder.
        seconds: How long each call takes.
    """

    def __init__(self, inner: Embedder | None = None, *, seconds: float = 0.2) -> None:
        super().__init__(inner)
        self.seconds = seconds
        self._released = threading.Event()

    def embed(self, texts: Sequence[str]) -> Floats:
        """See `engram_core.ports.Embedder`."""
        self._released.wait(self.seconds)
        return self.inner.embed(texts)

    def release(self) -> None:
        """Let everybody go at once."""
        self._released.set()


class LyingEmbedder(_Wrapped):
    """Answers, but wrongly: NaN, infinity, zero vectors, another length, or too few rows.

    Args:
        wrong: What is wrong; None makes it honest. Assign to it at any time.
        inner: What it distorts; default WordHashEmbedder.
    """

    def __init__(self, wrong: Wrong | None, inner: Embedder | None = None) -> None:
        super().__init__(inner)
        self.wrong = wrong

    def embed(self, texts: Sequence[str]) -> Floats:
        """See `engram_core.ports.Embedder`, and do not believe it."""
        honest = np.array(self.inner.embed(texts), dtype=np.float32)
        match self.wrong:
            case "nan" | "infinite":
                honest[-1, 0] = np.nan if self.wrong == "nan" else np.inf
            case "zero":
                honest[-1] = 0.0
            case "too long":
                honest = np.concatenate([honest, honest[:, :1]], axis=1)
            case "too short":
                honest = honest[:, :-1]
            case "too few":
                honest = honest[:-1]
            case None:
                pass
        return honest


class ScriptedModel:
    """A LanguageModel that says what it was given, in order, and keeps what it was asked.

    Args:
        answers: Texts to return, exceptions to raise, or functions from prompt to text. When they run out it raises
            AssertionError, so `ScriptedModel([])` is a model that must not be called.
        name: Its name.
    """

    def __init__(
        self, answers: Sequence[str | Exception | Callable[[str], str]] = (), *, name: str = "scripted"
    ) -> None:
        self.name = name
        self.prompts: list[str] = []
        self._answers = list(answers)
        self._lock = threading.Lock()

    def complete(self, prompt: str) -> str:
        """See `engram_core.ports.LanguageModel`."""
        with self._lock:
            self.prompts.append(prompt)
            if not self._answers:
                raise AssertionError("the scripted model was called more often than it has answers")
            answer: Any = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer(prompt) if callable(answer) else answer)


class FixedClock:
    """A clock that moves only when told, or by `step` at each reading. Thread-safe.

    Args:
        start: The first time; a naive one is read as UTC.
        step: Added after each reading.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC), *, step: timedelta = timedelta(0)) -> None:
        self._now = start if start.tzinfo is not None else start.replace(tzinfo=UTC)
        self._step = step
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        with self._lock:
            now = self._now
            self._now += self._step
            return now

    def advance(self, by: timedelta) -> None:
        """Move the clock; a negative step moves it back, as real clocks do."""
        with self._lock:
            self._now += by


class SequentialIds:
    """Ids with the shape and order of UUIDv7, the same in every run. Thread-safe.

    Args:
        first: Number of the first id.
    """

    def __init__(self, first: int = 1) -> None:
        self._next = first
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            number = self._next
            self._next += 1
        return f"{number >> 16:08x}-{number & 0xFFFF:04x}-7000-8000-{number:012x}"


def wait_until(condition: Callable[[], bool], *, seconds: float = 10.0, every: float = 0.02) -> bool:
    """Whether `condition` came true in time. For work that goes on in threads and other processes."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
