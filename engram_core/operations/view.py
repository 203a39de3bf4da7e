"""The View a design gets: one scope, read-only, only what the acting principal may read, every read counted."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from engram_core.design import Alike, Ask, Candidates, Floats, Likeness, Statistics
from engram_core.domain.errors import EmbeddingFailed
from engram_core.domain.fact import Fact, Slot
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.scope import Scope
from engram_core.measure import marks, words
from engram_core.measure.columns import NO_MEMBERS, Columns, columns_of, members_of, united, vectors
from engram_core.operations.context import Context
from engram_core.operations.learned import Learnt
from engram_core.ports import Indexed, LanguageModel, ScopeState, Snapshot, Uncounted

MAX_RARE_STEMS = 8
MAX_TOGETHER = 4
MOST_STEMS = 10_000
"""Stems asked for in one query; databases bind no more than some 30,000 values."""
WITH_NEIGHBOURS = 30
"""Best hits of each search whose neighbours are read too."""
MAX_POSTINGS = 2_000
"""Facts the lexical search may touch: the rarest stems are taken until they occur in this many facts together."""
ALIKE_BREADTH = 20
MAX_ALIKE_STEMS = 6
MAX_ALIKE_POSTINGS = 1_000
"""Stems of a new statement that are looked up among the old ones, and facts they may occur in together."""


@dataclass(slots=True)
class Part:
    """Candidates of one scope before scopes are united."""

    columns: Columns
    body_counts: Floats
    context_counts: Floats
    uncounted: Uncounted | None = None
    is_complete: bool = False


@dataclass(slots=True)
class ScopedView:
    """See `engram_core.design.View`.

    Attributes:
        states: The readable scopes that hold facts, nearest first.
        own: The view's own scope, empty or not; None while the ledger does not know it.
        question: What is asked, whole; embedded along with whatever the design embeds once verdicts can be compared.
    """

    context: Context
    scope: Scope
    now: datetime
    policy: MemoryPolicy
    states: Sequence[ScopeState]
    own: ScopeState | None = None
    question: str | None = None
    model: LanguageModel | None = None
    degraded: bool = False
    reads: int = 0
    spent: dict[str, float] = field(default_factory=dict)
    embedded: dict[str, NDArray[np.float16]] = field(default_factory=dict, repr=False)
    """Vectors of texts embedded on the way, as stored."""
    _asked: Floats | None = field(default=None, repr=False)
    _names: frozenset[str] | None = field(default=None, repr=False)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.spent[stage] = self.spent.get(stage, 0.0) + (time.perf_counter() - started) * 1000

    def embed(self, texts: Sequence[str]) -> Floats:
        """Unit vectors of questions. A failure marks the view degraded and is raised."""
        try:
            with self._timed("embed"):
                if self.question is None or self._asked is not None or self.own is None or not self.own.judged:
                    return np.asarray(self.context.embedder.embed_queries(texts), dtype=np.float32)
                # In one call: a remote embedder is asked once.
                vectors = np.asarray(self.context.embedder.embed_queries([*texts, self.question]), dtype=np.float32)
                self._asked = vectors[-1]
                return vectors[:-1]
        except EmbeddingFailed:
            self.degraded = True
            raise

    def speakers(self) -> frozenset[str]:
        """Distinct speakers of the readable scopes."""
        if self._names is None:
            self._names = frozenset(name for state in self.states for name in state.speakers)
        return self._names

    def twins(self, keys: Sequence[str]) -> dict[str, Fact]:
        """Live facts of this very scope by duplicate key."""
        self.reads += 1
        return self.context.ledger.twins(self.scope, keys)

    def known_words(self, stems: Collection[str]) -> frozenset[str]:
        """Those of the stems that occur in a recallable fact of this very scope."""
        self.reads += 1
        own = [state.id for state in self.states if state.scope == self.scope]
        return frozenset(
            stem
            for scope_id in own
            for chunk in _chunks(sorted(stems), MOST_STEMS)
            for stem, (in_bodies, _) in self.context.ledger.frequencies(scope_id, chunk).items()
            if in_bodies
        )

    def last_said(self, session: str) -> str | None:
        """The text of the last statement of a session in this very scope."""
        self.reads += 1
        last = self.context.ledger.tail(self.scope, session)
        return last.text if last is not None else None

    def holders(self, slots: Sequence[Slot]) -> list[Fact]:
        """Live facts of this very scope that fill one of the slots."""
        self.reads += 1
        return self.context.ledger.holders(self.scope, slots)

    @property
    def embedder_name(self) -> str:
        """The embedder's name."""
        return self.context.embedder.name

    @property
    def cosines(self) -> tuple[float, float]:
        """Mean cosine of unrelated texts and of texts about one matter, by this store's embedder."""
        return self.context.calibration.of(self.context.ledger, self.context.embedder)

    def alike(self, texts: Sequence[str], n: int, also: Sequence[str] = ()) -> Likeness:
        """Facts of this very scope that share rare words with each text. The vectors serve the commit as well."""
        self.reads += 1
        every = [*texts, *also]
        halves = self.context.embedder.embed(every).astype(np.float16)
        self.embedded |= dict(zip(every, halves, strict=True))
        embedded: Floats = halves.astype(np.float32)
        state = next((state for state in self.states if state.scope == self.scope), None)
        if state is None or not texts:
            return Likeness([[] for _ in texts], embedded, 0, {})
        ledger = self.context.ledger
        stems = [list(dict.fromkeys(words.stems(text))) for text in texts]
        known = ledger.frequencies(state.id, list(dict.fromkeys(stem for said in stems for stem in said)))
        telling = [_telling(said, known, state.recallable) for said in stems]
        ids = ledger.sharing(state.id, telling, ALIKE_BREADTH)
        rows = {row.id: row for row in ledger.indexed(list(dict.fromkeys(id_ for one in ids for id_ in one)))}
        merged = {row.id: members_of(row) for row in rows.values() if row.members != NO_MEMBERS}
        if merged:
            # What may be out of date is one of the originals.
            rows |= {row.id: row for row in ledger.indexed([id_ for members in merged.values() for id_ in members])}
            ids = [[leaf for id_ in one for leaf in merged.get(id_, (id_,))] for one in ids]
        near = [
            _nearest([rows[id_] for id_ in one if id_ in rows], weights, embedded[at])[:n]
            for at, (one, weights) in enumerate(zip(ids, telling, strict=True))
        ]
        facts = {fact.id: fact for fact in ledger.facts(list(dict.fromkeys(id_ for one in near for id_, _ in one)))}
        found = [[Alike(facts[id_], cosine) for id_, cosine in one if id_ in facts] for one in near]
        return Likeness(found, embedded, state.recallable, {stem: counts[0] for stem, counts in known.items()})

    def facts(self, ids: Sequence[str]) -> list[Fact]:
        """Facts of the readable scopes by id."""
        self.reads += 1
        readable = {state.scope for state in self.states} | {self.scope}
        return [fact for fact in self.context.ledger.facts(ids) if fact.scope in readable]

    def candidates(self, ask: Ask) -> Candidates:
        """All facts of small scopes; of a large one what each part of `ask` finds, and neighbours."""
        self.reads += 1
        stems = ask.stems
        parts, frequencies = [], np.zeros((2, len(stems)), dtype=np.float32)
        sizes = np.zeros(3, dtype=np.int64)
        for state in self.states:
            with self._timed("index"):
                snapshot = self.context.finder.snapshot(state)
            part = self._scanned(snapshot, stems) if snapshot is not None else self._searched(state, ask, frequencies)
            if snapshot is not None:
                frequencies += np.stack(
                    [np.count_nonzero(part.body_counts, axis=0), np.count_nonzero(part.context_counts, axis=0)]
                )
            sizes += _sizes(state, part)
            if part.uncounted is not None:
                frequencies += np.stack([part.uncounted.body_df, part.uncounted.context_df])
            parts.append(part)
        if not parts:
            empty = np.zeros((0, len(stems)), dtype=np.float32)
            parts = [Part(columns_of([], self._dimension()), empty, empty, is_complete=True)]
        return self._united(parts, _statistics(sizes, frequencies))

    def _united(self, parts: Sequence[Part], statistics: Statistics) -> Candidates:
        columns = united([part.columns for part in parts])
        # Each scope learns from its own recalls: what others make of a shared fact does not move it here.
        learnt = self.context.learned.of(self.context.ledger, self.own, columns.ids, self._asked)
        return _candidates(parts, columns, learnt, statistics)

    def _dimension(self) -> int:
        try:
            return self.context.embedder.dimension
        except EmbeddingFailed:
            return 1  # nothing was ever embedded, so every vector is missing

    def _scanned(self, snapshot: Snapshot, stems: Sequence[str]) -> Part:
        body, context = snapshot.counts(stems)
        return Part(snapshot.columns, body, context, is_complete=True)

    def _searched(self, state: ScopeState, ask: Ask, frequencies: Floats) -> Part:
        ledger, finder = self.context.ledger, self.context.finder
        with self._timed("lexical"):
            known = finder.frequencies(state, ask.stems)
        frequencies += np.array([known.get(stem, (0, 0)) for stem in ask.stems], dtype=np.float32).reshape(-1, 2).T
        found: list[list[str]] = []
        if ask.vector is not None:
            with self._timed("index"):
                nearest = finder.nearest(state, ask.vector, ask.breadth)
            self.degraded = self.degraded or nearest.degraded
            found.append([hit.id for hit in nearest.hits])
        if ask.words:
            with self._timed("lexical"):
                searched = {stem: counts for stem, counts in known.items() if not marks.is_mark(stem)}
                rare = _rarest(searched, state.recallable)
                found.append(finder.matching(state, rare.weights, ask.breadth, together=rare.together))
        if ask.times:
            found.append(ledger.said_between(state.id, ask.times, ask.breadth))
        if ask.newest:
            found.append(ledger.newest(state.id, ask.newest))
        # The index may be behind and the full text is only a hint: nothing counts until the ledger's own row agrees.
        with self._timed("ledger"):
            gathered = finder.gather(state, found, ask.stems, WITH_NEIGHBOURS)
        return Part(*gathered)


def _sizes(state: ScopeState, part: Part) -> tuple[int, int, int]:
    """Facts, body words and context words of a scope: counted where all of it is here, else from its books."""
    if part.is_complete:
        columns = part.columns
        return len(columns), int(columns.body_length.sum()), int(columns.context_length.sum())
    own = (state.recallable, state.body_words, state.context_words)
    if part.uncounted is None:
        return own
    facts, body_words, context_words = (a + b for a, b in zip(own, part.uncounted[:3], strict=True))
    return facts, body_words, context_words


def _statistics(sizes: NDArray[np.int64], frequencies: Floats) -> Statistics:
    facts, body_words, context_words = sizes.tolist()
    return Statistics(facts, body_words, context_words, frequencies[0], frequencies[1])


def _chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _telling(stems: Sequence[str], known: Mapping[str, tuple[int, int]], facts: int) -> dict[str, float]:
    """The stems of a text that tell most about it, with their idf: the rarest few, and not those half the scope has."""
    rising = sorted((known[stem][1], stem) for stem in stems if stem in known)
    chosen: dict[str, float] = {}
    touched = 0
    for df, stem in rising[:MAX_ALIKE_STEMS]:
        touched += df
        if touched > MAX_ALIKE_POSTINGS and chosen:
            break
        chosen[stem] = math.log1p((facts - df + 0.5) / (df + 0.5))
    return chosen


def _nearest(rows: Sequence[Indexed], weights: Mapping[str, float], vector: Floats) -> list[tuple[str, float]]:
    """Ids and cosines, by cosine plus half the weight of the telling stems that the body holds."""
    if not rows:
        return []
    cosines = (vectors([row.content for row in rows], len(vector)) @ vector).tolist()
    whole = sum(weights.values()) or 1.0
    held = [sum(weight for stem, weight in weights.items() if f" {stem} " in row.body_stems) / whole for row in rows]
    order = sorted(range(len(rows)), key=lambda at: -(cosines[at] + 0.5 * held[at]))
    return [(rows[at].id, cosines[at]) for at in order]


@dataclass(frozen=True, slots=True)
class _Rare:
    """Stems to search a large scope for, rarest first, with their idf; and whether a fact must hold them together."""

    weights: dict[str, float]
    together: bool


def _rarest(known: Mapping[str, tuple[int, int]], facts: int) -> _Rare:
    """The rarest stems that together occur in at most MAX_POSTINGS facts; failing that, the four rarest together."""
    rising = sorted(known.items(), key=lambda item: (item[1][1], item[0]))[:MAX_RARE_STEMS]
    chosen: list[str] = []
    touched = 0
    for stem, (_, df) in rising:
        touched += df
        if touched > MAX_POSTINGS:
            break
        chosen.append(stem)
    together = not chosen and len(rising) > 1
    chosen = chosen or [stem for stem, _ in rising[: MAX_TOGETHER if together else 1]]
    weights = {stem: math.log1p((facts - known[stem][1] + 0.5) / (known[stem][1] + 0.5)) for stem in chosen}
    return _Rare(weights, together)


def counts_of(texts: Sequence[str], stems: Sequence[str]) -> Floats:
    """How often each stem occurs in each text of spaced stems, (texts, stems)."""
    spaced = [f" {stem} " for stem in stems]
    flat = [text.count(stem) for text in texts for stem in spaced]
    return np.array(flat, dtype=np.float32).reshape(len(texts), len(stems))


def statistics_of(parts: Sequence[Part]) -> Statistics:
    """Word statistics of just the facts that are here."""
    body, context = (_stacked([getattr(part, name) for part in parts]) for name in ("body_counts", "context_counts"))
    return Statistics(
        facts=len(body),
        body_words=int(sum(part.columns.body_length.sum() for part in parts)),
        context_words=int(sum(part.columns.context_length.sum() for part in parts)),
        body_df=np.count_nonzero(body, axis=0).astype(np.float32),
        context_df=np.count_nonzero(context, axis=0).astype(np.float32),
    )


def _candidates(parts: Sequence[Part], columns: Columns, learnt: Learnt, statistics: Statistics) -> Candidates:
    return Candidates(
        ids=columns.ids,
        speakers=columns.speakers,
        kinds=columns.kinds,
        content=columns.content,
        context=columns.context,
        body_counts=_stacked([part.body_counts for part in parts]),
        context_counts=_stacked([part.context_counts for part in parts]),
        body_length=columns.body_length,
        context_length=columns.context_length,
        said_at=columns.said_at,
        session=columns.session,
        previous=columns.previous,
        following=columns.following,
        time_words=columns.time_words,
        asks=columns.asks,
        importance=columns.importance,
        usefulness=learnt.usefulness,
        useful_alike=learnt.alike,
        statistics=statistics,
        complete=all(part.is_complete for part in parts),
    )


def _stacked(blocks: Sequence[Floats]) -> Floats:
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
