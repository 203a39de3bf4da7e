"""A View over any ledger that reads everything and scans it in the plainest way: the oracle for the real view."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram_core.design import Alike, Ask, Candidates, Floats, Likeness, Statistics
from engram_core.domain.fact import Fact, Slot
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.scope import Scope
from engram_core.measure import likeness, words
from engram_core.measure.columns import columns_of, united, vectors
from engram_core.measure.usefulness import NEUTRAL, decayed, posterior
from engram_core.ports import Embedder, Indexed, LanguageModel, Ledger, ScopeState, Tally
from engram_core.testing.fakes import WordHashEmbedder
from engram_core.testing.samples import outbox


@dataclass
class PlainView:
    """See `engram_core.design.View`. Its arrays are read-only, so that a design that writes into them fails.

    Args:
        ledger: Where the facts are.
        scope: The view's own scope.
        now: The time it tells.
        readable: Scopes it may show, nearest first; default only its own.
    """

    ledger: Ledger
    scope: Scope
    now: datetime
    readable: Sequence[Scope] = ()
    policy: MemoryPolicy = field(default_factory=MemoryPolicy)
    model: LanguageModel | None = None
    embedder: Embedder = field(default_factory=WordHashEmbedder)

    def embed(self, texts: Sequence[str]) -> Floats:
        return self.embedder.embed(texts)

    def speakers(self) -> frozenset[str]:
        return frozenset(name for state in self._states() for name in state.speakers)

    def twins(self, keys: Sequence[str]) -> dict[str, Fact]:
        return self.ledger.twins(self.scope, keys)

    def known_words(self, stems: Collection[str]) -> frozenset[str]:
        own = [row for state in self.ledger.scopes([self.scope]) for row in self._rows(state.id)]
        return frozenset(stems) & {stem for row in own for stem in row.body_stems.split()}

    def last_said(self, session: str) -> str | None:
        last = self.ledger.tail(self.scope, session)
        return last.text if last is not None else None

    def holders(self, slots: Sequence[Slot]) -> list[Fact]:
        return self.ledger.holders(self.scope, slots)

    @property
    def embedder_name(self) -> str:
        return self.embedder.name

    @property
    def cosines(self) -> tuple[float, float]:
        return likeness.spread(self.embed(likeness.SENTENCES))

    def alike(self, texts: Sequence[str], n: int, also: Sequence[str] = ()) -> Likeness:
        embedded = self.embed([*texts, *also])
        state = next(iter(self.ledger.scopes([self.scope])), None)
        if state is None:
            return Likeness([[] for _ in texts], embedded, 0, {})
        stems = [list(dict.fromkeys(words.stems(text))) for text in texts]
        known = self.ledger.frequencies(state.id, [stem for said in stems for stem in said])
        found = []
        for at, said in enumerate(stems):
            ids = self.ledger.matching(state.id, {stem: 1.0 / known[stem][1] for stem in said if stem in known}, n)
            rows = {row.id: row for row in self.ledger.indexed(ids)}
            content = vectors([rows[id_].content for id_ in ids], embedded.shape[1])
            cosines = (content @ embedded[at]).tolist()
            found.append([Alike(*pair) for pair in zip(self.ledger.facts(ids), cosines, strict=True)])
        return Likeness(found, embedded, state.recallable, {stem: counts[0] for stem, counts in known.items()})

    def facts(self, ids: Sequence[str]) -> list[Fact]:
        seen = {self.scope, *self.readable}
        return [fact for fact in self.ledger.facts(ids) if fact.scope in seen]

    def candidates(self, ask: Ask) -> Candidates:
        states = [state for state in self._states() if state.recallable]
        parts = [self._rows(state.id) for state in states] or [[]]
        columns = united([columns_of(rows, self.embedder.dimension) for rows in parts])
        rows = [row for part in parts for row in part]
        body, context = (_counts(rows, name, ask.stems) for name in ("body_stems", "context_stems"))
        statistics = Statistics(
            facts=len(rows),
            body_words=sum(row.body_length for row in rows),
            context_words=sum(row.context_length for row in rows),
            body_df=(body > 0).sum(axis=0).astype(np.float32),
            context_df=(context > 0).sum(axis=0).astype(np.float32),
        )
        arrays = {
            name: _sealed(getattr(columns, name))
            for name in (
                "content", "context", "body_length", "context_length", "said_at", "session", "previous", "following",
                "time_words", "asks", "importance",
            )
        }  # fmt: skip
        return Candidates(
            ids=tuple(columns.ids),
            speakers=tuple(columns.speakers),
            kinds=tuple(columns.kinds),
            body_counts=_sealed(body),
            context_counts=_sealed(context),
            usefulness=_sealed(self._usefulness(columns.ids)),
            useful_alike=_sealed(np.zeros(len(rows), dtype=np.float32)),
            statistics=statistics,
            complete=True,
            **arrays,
        )

    def _usefulness(self, ids: Sequence[str]) -> Floats:
        for own in self.ledger.scopes([self.scope]):
            known = {tally.fact_id: decayed(tally, own.judged) for tally in self.ledger.tallies(own.id, 0)}
            found = [known.get(id_, Tally(id_)) for id_ in ids]
            gains = [posterior(tally.recalled, tally.used) - NEUTRAL for tally in found]
            return np.array(gains, dtype=np.float32)
        return np.zeros(len(ids), dtype=np.float32)

    def _states(self) -> list[ScopeState]:
        return self.ledger.scopes(list(self.readable) or [self.scope])

    def _rows(self, scope_id: int) -> list[Indexed]:
        rows = [row for row in outbox(self.ledger, scope_id) if row.status in {"live", "pending"}]
        return sorted(rows, key=lambda row: row.id)


def _counts(rows: Sequence[Indexed], name: str, stems: Sequence[str]) -> Floats:
    counts = [[getattr(row, name).split().count(stem) for stem in stems] for row in rows]
    return np.array(counts, dtype=np.float32).reshape(len(rows), len(stems))


def _sealed(values: NDArray[Any]) -> NDArray[Any]:
    values.flags.writeable = False
    return values
