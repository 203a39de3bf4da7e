"""The default design: verbatim statements in, a weighted sum of named terms out. It composes; the parts do the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engram_core.design import Ask, Floats, View
from engram_core.designs.pipeline import rank
from engram_core.designs.pipeline.update import update as statements_of
from engram_core.domain.change import Change
from engram_core.domain.errors import EmbeddingFailed
from engram_core.domain.message import Episode
from engram_core.domain.recall import Query, Scored
from engram_core.measure import dates, words

SPEAK_OF_MORE = 32
"""Candidates a recall names at most, shown and dropped together (more when more are asked for)."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The default design.

    Args:
        weights: Of the relevance terms; see `rank.Weights`.
        breadth: Candidates each search may add in a scope too large to scan.
    """

    weights: rank.Weights = field(default_factory=rank.Weights)
    breadth: int = 80
    name: str = "pipeline"

    def update(self, episode: Episode, view: View) -> Sequence[Change]:
        """Keep statements verbatim, leave small talk out, merge duplicates; see `pipeline.update`."""
        return statements_of(episode, view)

    def retrieve(self, query: Query, view: View) -> Sequence[Scored]:
        """Rank by the terms of `rank.score`; the best `max(32, 4 k)` candidates come back."""
        names = view.speakers()
        stripped = words.without_names(query.text, names)
        asked = words.stems(stripped)
        vector = _vector(view, stripped)
        question = rank.Question.of(asked, vector, query.text, names, view.cosines)
        years = (view.now.year - 1, view.now.year)
        ask = Ask(
            vector=vector,
            words=question.columns,
            times=tuple(dates.windows(question.dates, years)),
            breadth=max(self.breadth, 2 * query.k),
        )
        found = view.candidates(ask)
        if not len(found):
            return []
        terms = rank.score(question, found, view.policy, view.now, self.weights)
        keep = max(SPEAK_OF_MORE, 4 * query.k)
        reach = max(keep, rank.SPREAD_OUT) if rank.is_spread_out(question, self.weights) else keep
        rows = rank.best(terms, found, reach)
        kept = rank.spread_out(terms, rows, question, found, self.weights)[:keep]
        return [Scored(found.ids[row], _terms_of(terms, row)) for row in kept]

    def sleep(self, view: View) -> Sequence[Change]:
        """Nothing: forgetting and consolidation are the night's own, the same for every design."""
        return []


def _terms_of(terms: Mapping[str, Floats], row: int) -> dict[str, float]:
    # Six digits keep the record small; the score is defined as the sum of exactly these.
    return {name: value for name, values in terms.items() if (value := round(float(values[row]), 6))}


def _vector(view: View, text: str) -> Floats | None:
    try:
        vector: Floats = view.embed([text])[0]
    except EmbeddingFailed:
        return None  # words alone still find most of it, and the recall says it is degraded
    return vector
