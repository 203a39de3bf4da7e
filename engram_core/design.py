"""The seam between Engram and a memory design: what a design may see (View) and must answer (Design).

A design gets a read-only, scoped view and returns proposals. It never writes, and it never sees another scope.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.change import Change
from engram_core.domain.fact import Fact, Slot
from engram_core.domain.message import Episode
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.recall import Query, Scored
from engram_core.domain.scope import Scope
from engram_core.ports import LanguageModel

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ask:
    """What a design looks for. Every part is optional; the view unites what each part finds.

    Attributes:
        vector: Unit vector of the question, shape (d,), compared with context vectors.
        words: Stems of the question, repeats kept, and marks it wants (`measure.marks`); the columns of the candidates'
            counts are the distinct ones. Marks are counted but not searched for.
        times: Epoch-second ranges; facts said inside them are candidates too.
        breadth: How many facts each part may add, 1 to 1000.
        newest: How many of the latest facts to add.
    """

    vector: Floats | None = None
    words: tuple[str, ...] = ()
    times: tuple[tuple[float, float], ...] = ()
    breadth: int = 200
    newest: int = 0

    @property
    def stems(self) -> tuple[str, ...]:
        """The distinct words, in order of first occurrence."""
        return tuple(dict.fromkeys(self.words))


@dataclass(frozen=True, slots=True)
class Statistics:
    """Word statistics of the readable scopes' live facts, for the stems of one Ask.

    Attributes:
        facts: How many live facts there are.
        body_words, context_words: Total stems over all bodies and all context texts.
        body_df, context_df: Facts that hold each stem, shape (stems,).
    """

    facts: int
    body_words: int
    context_words: int
    body_df: Floats
    context_df: Floats


@dataclass(frozen=True, slots=True)
class Candidates:
    """Facts to rank, as columns; row i of every array belongs to `ids[i]`. Rows are ordered oldest first.

    Attributes:
        content, context: Unit vectors of the body and of the body among its neighbours, (n, d); zero rows for facts
            that are not embedded yet.
        body_counts, context_counts: How often each stem of the Ask occurs, (n, stems).
        body_length, context_length: Stems per text, (n,).
        said_at: Epoch seconds, (n,).
        session: A code per session, -1 for facts without one, (n,).
        previous, following: Row of the neighbour in the same session, -1 if it is not a candidate, (n,).
        time_words, asks: Features of the text, (n,).
        importance: Policy input, 0 to 1, (n,).
        usefulness, useful_alike: How much more often than an unknown fact it was used in earlier responses: at all, and
            for questions like this one, (n,); 0 for a fact that was never judged (`measure.usefulness`).
        complete: True when every live fact of the readable scopes is here.
    """

    ids: Sequence[str]
    speakers: Sequence[str | None]
    kinds: Sequence[str]
    content: Floats
    context: Floats
    body_counts: Floats
    context_counts: Floats
    body_length: Floats
    context_length: Floats
    said_at: NDArray[np.float64]
    session: NDArray[np.int64]
    previous: NDArray[np.int64]
    following: NDArray[np.int64]
    time_words: Floats
    asks: Floats
    importance: Floats
    usefulness: Floats
    useful_alike: Floats
    statistics: Statistics
    complete: bool

    def __len__(self) -> int:
        return len(self.ids)


class Alike(NamedTuple):
    """A stored fact that, among its neighbours, shares rare words with a text, and the cosine of the two."""

    fact: Fact
    cosine: float


@dataclass(frozen=True, slots=True)
class Likeness:
    """What `View.alike` finds.

    Attributes:
        found: For each text, the facts that share its rarest words, nearest first.
        vectors: Unit vectors of the texts, and of the texts asked for besides, (texts, d).
        facts: How many facts the scope has.
        df: In how many of them each search stem of the texts occurs.
    """

    found: Sequence[Sequence[Alike]]
    vectors: Floats
    facts: int
    df: Mapping[str, int]


class View(Protocol):
    """One scope, read-only, as the acting principal may see it."""

    @property
    def scope(self) -> Scope: ...
    @property
    def now(self) -> datetime: ...
    @property
    def policy(self) -> MemoryPolicy: ...
    @property
    def model(self) -> LanguageModel | None:
        """A language model on background passes; always None during a recall."""
        ...

    def embed(self, texts: Sequence[str]) -> Floats:
        """Unit vectors, shape (len(texts), d). Raises EmbeddingFailed."""
        ...

    def speakers(self) -> frozenset[str]:
        """Distinct speakers of the readable scopes' live facts."""
        ...

    def candidates(self, ask: Ask) -> Candidates:
        """The facts worth ranking: all of them in a small scope, else the union of what each part of `ask` finds."""
        ...

    def twins(self, keys: Sequence[str]) -> dict[str, Fact]:
        """Live facts of this very scope by duplicate key (see `Design.key`)."""
        ...

    def known_words(self, stems: Collection[str]) -> frozenset[str]:
        """Those of the stems that occur in a recallable fact of this very scope."""
        ...

    def last_said(self, session: str) -> str | None:
        """The text of the last statement of a session in this very scope."""
        ...

    def holders(self, slots: Sequence[Slot]) -> list[Fact]:
        """Live facts of this very scope that fill one of the slots, oldest first."""
        ...

    def alike(self, texts: Sequence[str], n: int, also: Sequence[str] = ()) -> Likeness:
        """For each text at most `n` live facts of this very scope that share rare words with it.

        Args:
            texts: New statements.
            n: Facts for each at most.
            also: Texts that only need a vector; theirs follow the others'.

        Raises:
            EmbeddingFailed: The texts cannot be embedded now.
        """
        ...

    @property
    def embedder_name(self) -> str:
        """The embedder's name: thresholds on a cosine hold for one embedder."""
        ...

    @property
    def cosines(self) -> tuple[float, float]:
        """Mean cosine of unrelated texts and of texts about one matter, by the store's embedder: its scale."""
        ...

    def facts(self, ids: Sequence[str]) -> list[Fact]:
        """Facts of this scope by id; unknown ids are left out."""
        ...


@runtime_checkable
class Design(Protocol):
    """A program that decides what to store, how to rank and what to propose at night."""

    @property
    def name(self) -> str: ...

    def update(self, episode: Episode, view: View) -> Sequence[Change]:
        """Turn messages into proposals: one or more Add, Merge, Supersede or Ignore for each message."""
        ...

    def retrieve(self, query: Query, view: View) -> Sequence[Scored]:
        """Rank facts for a query, best first. Pure: no writes, no language model."""
        ...

    def sleep(self, view: View) -> Sequence[Change]:
        """What the night should change in one scope."""
        ...
