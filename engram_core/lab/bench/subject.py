"""Subject: what a memory must offer to be measured, what it may offer besides, and the vectors all of them share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypedDict, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.message import Message
from engram_core.lab.bench.data import display
from engram_core.ports import Embedder

Embed = Callable[[list[str]], list[list[float]]]
"""Unit vectors for texts; the same ones for every memory of a run."""

Found = tuple[Sequence[str], str]
"""Ids of the items whose content a hit shows, and the text it would put into the prompt."""


class Item(TypedDict):
    """One message as a memory is given it.

    `text` is `Speaker: words`, `words` the words alone; `at` is ISO 8601.
    """

    id: str
    text: str
    words: str
    role: str
    speaker: str | None
    at: str | None
    session: str | None


@runtime_checkable
class Subject(Protocol):
    """A memory under measurement. Made anew for every conversation by calling its class with (embed, empty folder)."""

    def add(self, items: Sequence[Item]) -> None:
        """Remember; when this returns, the items can be found."""
        ...

    def search(self, question: str, k: int) -> Sequence[Found]:
        """Up to k hits, best first."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Dated(Protocol):
    """It wants to know when a question is asked."""

    def at(self, moment: datetime) -> None:
        """Take it to be `moment` until told otherwise."""
        ...


@runtime_checkable
class Packs(Protocol):
    """It fills a prompt itself, under a budget of tokens."""

    def context(self, question: str, max_tokens: int) -> Sequence[Found]:
        """What it would put into the prompt; with everything around it, within `max_tokens`."""
        ...


@runtime_checkable
class Forgets(Protocol):
    """It forgets, on its own or down to a number."""

    def forget(self, keep: int) -> None:
        """Forget until at most `keep` items are left."""
        ...

    def kept(self) -> set[str]:
        """Ids of the items that can still be found."""
        ...


@runtime_checkable
class Timed(Protocol):
    """It knows better than the bench how long its last call took: a pipe to another process is not its work."""

    @property
    def seconds(self) -> float: ...


Opens = Callable[[Embed, Path], Subject]
"""Makes a fresh memory: (embed, an empty folder it may fill) → subject."""


@dataclass(frozen=True, slots=True)
class System:
    """A memory with its name in reports.

    Attributes:
        is_ours: It is compared with all others.
        versions: What it was, such as `chromadb 1.5.9`.
    """

    name: str
    opens: Opens
    is_ours: bool = False
    versions: str = ""


def item(message: Message) -> Item:
    """A message as a memory is given it. It must have an id."""
    return Item(
        id=message.id or "",
        text=display(message),
        words=message.content,
        role=message.role,
        speaker=message.speaker,
        at=message.at.isoformat() if message.at else None,
        session=message.session,
    )


class SharedEmbedder:
    """One embedder for every memory of a run: each text is embedded once, and the time it takes is counted apart.

    It is an `Embedder` itself. Safe to call from any thread.
    """

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self._known: dict[str, NDArray[np.float32]] = {}
        self._lock = threading.Lock()
        self.seconds = 0.0
        """Seconds spent in `embed` so far, by all threads."""

    @property
    def name(self) -> str:
        """The inner embedder's name."""
        return self._inner.name

    @property
    def dimension(self) -> int:
        """The inner embedder's dimension."""
        return self._inner.dimension

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (len(texts), dimension)."""
        started = time.perf_counter()
        with self._lock:
            missing = [text for text in dict.fromkeys(texts) if text not in self._known]
            if missing:
                vectors = np.asarray(self._inner.embed(missing), dtype=np.float32)
                lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
                self._known |= dict(zip(missing, vectors / np.maximum(lengths, 1e-12), strict=True))
            found = [self._known[text] for text in texts]
            result = np.stack(found) if found else np.zeros((0, self.dimension), dtype=np.float32)
            self.seconds += time.perf_counter() - started
        return result

    def lists(self, texts: list[str]) -> list[list[float]]:
        """The same as plain lists, for memories that know no numpy."""
        result: list[list[float]] = self.embed(texts).tolist()
        return result
