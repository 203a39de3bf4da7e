"""Operators of retrieve: where a ranking comes from, and what changes it. Pure; a score stays the sum of its terms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, cast

import numpy as np
from pydantic import Field, create_model

from engram_core.design import Ask, View
from engram_core.designs.genome.compile import Look
from engram_core.designs.genome.registry import NoParams, Operator, Params
from engram_core.designs.pipeline import Pipeline
from engram_core.designs.pipeline.rank import Weights
from engram_core.designs.plain import Null, Recency, Similarity
from engram_core.domain.errors import EmbeddingFailed
from engram_core.domain.fact import Fact
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.recall import Query, Scored
from engram_core.measure import words

Ranking = Sequence[Scored]
Refine = Callable[[Ranking, Look], Ranking]

_POLICY_WEIGHTS: Final = ("importance_weight", "usefulness_weight", "recency_weight", "decay_rate")

# One parameter for each weight of the default ranking, whatever weights it has, with its default; and for the weights
# that the policy holds, where None leaves them to the policy.
_Relevance: type[Params] = create_model(
    "_Relevance",
    __base__=Params,
    breadth=(int, Field(default=Pipeline().breadth, ge=8, le=400)),
    **{
        item.name: (float, Field(default=getattr(Weights(), item.name), ge=-1.0, le=1.0))
        for item in fields(Weights)
        if isinstance(getattr(Weights(), item.name), float)
    },  # type: ignore[call-overload]  # names known at run time only
    **{name: (float | None, Field(default=None, ge=0.0, le=1.0)) for name in _POLICY_WEIGHTS},
)


@dataclass(frozen=True, slots=True)
class _UnderPolicy:
    """A view that tells another policy and is otherwise the same."""

    view: View
    policy: MemoryPolicy

    def __getattr__(self, name: str) -> Any:
        return getattr(self.view, name)


def _relevance(params: Params) -> Callable[[Query, View], Ranking]:
    given = params.model_dump()
    over = {name: value for name in _POLICY_WEIGHTS if (value := given.pop(name)) is not None}
    breadth = given.pop("breadth")
    design = Pipeline(weights=Weights(**given), breadth=breadth)

    def retrieve(query: Query, view: View) -> Ranking:
        if over:
            view = cast("View", _UnderPolicy(view, view.policy.model_copy(update=over)))
        return design.retrieve(query, view)

    return retrieve


class _Episode(Params):
    minimum: float = Field(default=0.0, ge=-1.0, le=1.0)


def _episode(params: _Episode) -> Callable[[Query, View], Ranking]:
    def retrieve(query: Query, view: View) -> Ranking:
        try:
            vector = view.embed([query.text])[0]
        except EmbeddingFailed:
            return []  # there is nothing else to rank by; the view marks the recall as degraded
        found = view.candidates(Ask(vector=vector, breadth=max(200, 4 * query.k)))
        if not len(found):
            return []
        near = found.content @ vector
        best = int(np.lexsort((found.said_at, -near))[0])
        if near[best] < params.minimum:
            return []
        # A fact without a session is an episode of its own.
        alone = found.session[best] < 0
        rows = [best] if alone else np.flatnonzero(found.session == found.session[best]).tolist()
        rows.sort(key=lambda row: (found.said_at[row], found.ids[row]))
        # In the order it happened: the score falls a little from line to line.
        size = max(len(rows), 1)
        return [
            Scored(found.ids[row], {"episode": round(float(near[best]), 6), "order": -place / (1_000.0 * size)})
            for place, row in enumerate(rows[: max(64, 4 * query.k)])
        ]

    return retrieve


# --- refinements ---


def _rescored(ranking: Ranking, more: Mapping[str, tuple[str, float]]) -> Ranking:
    """The ranking with one more term for some facts, best first; ties keep their order."""
    changed = [
        Scored(item.fact_id, {**item.terms, more[item.fact_id][0]: more[item.fact_id][1]})
        if item.fact_id in more and more[item.fact_id][1]
        else item
        for item in ranking
    ]
    return sorted(changed, key=lambda item: -item.score)


class _Fresh(Params):
    weight: float = Field(default=0.1, ge=0.0, le=1.0)
    half_life_days: float = Field(default=30.0, ge=0.01, le=3_650.0)


def _fresh(params: _Fresh) -> Refine:
    def refine(ranking: Ranking, look: Look) -> Ranking:
        now = look.view.now.timestamp()
        more = {}
        for item, fact in look.known(ranking):
            days = max(now - fact.said_at.timestamp(), 0.0) / 86_400.0
            value = params.weight * math.pow(0.5, min(days / params.half_life_days, 1_000.0))
            more[item.fact_id] = ("fresh", round(value, 6))
        return _rescored(ranking, more)

    return refine


class _Newest(Params):
    by: Literal["slot", "words"] = "slot"
    likeness: float = Field(default=0.6, ge=0.2, le=1.0)


def _keep_newest(params: _Newest) -> Refine:
    def refine(ranking: Ranking, look: Look) -> Ranking:
        known = look.known(ranking)
        stems = {fact.id: frozenset(words.stems(fact.text)) for _, fact in known} if params.by == "words" else {}
        out: set[str] = set()
        for _, fact in known:
            for _, other in known:
                is_later = (other.said_at, other.id) > (fact.said_at, fact.id)
                if is_later and _is_about_the_same(fact, other, params, stems):
                    out.add(fact.id)
                    break
        return [item for item in ranking if item.fact_id not in out]

    return refine


def _is_about_the_same(one: Fact, other: Fact, params: _Newest, stems: Mapping[str, frozenset[str]]) -> bool:
    if params.by == "slot":
        return one.slot is not None and one.slot == other.slot and one.speaker == other.speaker
    return one.speaker == other.speaker and _jaccard(stems[one.id], stems[other.id]) >= params.likeness


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 0.0


class _Share(Params):
    share: float = Field(default=0.5, ge=0.0, le=1.0)


def _above_share(params: _Share) -> Refine:
    def refine(ranking: Ranking, look: Look) -> Ranking:
        least = params.share * ranking[0].score
        return [item for item in ranking if item.score >= least]

    return refine


class _Floor(Params):
    score: float = Field(default=0.2, ge=-1.0, le=2.0)


def _above(params: _Floor) -> Refine:
    return lambda ranking, look: [item for item in ranking if item.score >= params.score]


class _Top(Params):
    facts: int = Field(default=4, ge=1, le=64)


def _top(params: _Top) -> Refine:
    return lambda ranking, look: ranking[: params.facts]


class _Weight(Params):
    weight: float = Field(default=0.1, ge=0.0, le=1.0)


def _short(params: _Weight) -> Refine:
    def refine(ranking: Ranking, look: Look) -> Ranking:
        # A word costs as much wherever it stands, so what says the same in fewer comes first.
        more = {
            item.fact_id: ("short", round(-params.weight * math.log1p(len(fact.text.split())) / math.log(101.0), 6))
            for item, fact in look.known(ranking)
        }
        return _rescored(ranking, more)

    return refine


def _users_words(params: _Weight) -> Refine:
    def refine(ranking: Ranking, look: Look) -> Ranking:
        known = look.known(ranking)
        more = {item.fact_id: ("users_words", params.weight) for item, fact in known if fact.origin.channel == "user"}
        return _rescored(ranking, more)

    return refine


class _Kinds(_Weight):
    kind: Literal[
        "preference", "profile", "decision", "instruction", "error", "insight", "observation", "event", "task"
    ] = "preference"


def _prefer_kind(params: _Kinds) -> Refine:
    def refine(ranking: Ranking, look: Look) -> Ranking:
        known = look.known(ranking)
        return _rescored(ranking, {i.fact_id: ("kind", params.weight) for i, fact in known if fact.kind == params.kind})

    return refine


class _Spread(_Weight):
    first: int = Field(default=16, ge=2, le=64)


def _spread(params: _Spread) -> Refine:
    def refine(ranking: Ranking, look: Look) -> Ranking:
        """Maximal marginal relevance (Carbonell and Goldstein, 1998) over shared stems."""
        stems = {fact.id: frozenset(words.stems(fact.text)) for _, fact in look.known(ranking)}
        left, done = list(ranking[: params.first]), list[Scored]()
        closest = dict.fromkeys((item.fact_id for item in left), 0.0)
        while left:
            best = max(left, key=lambda item: item.score - params.weight * closest[item.fact_id])
            left.remove(best)
            cost = round(-params.weight * closest[best.fact_id], 6)
            done.append(Scored(best.fact_id, {**best.terms, "spread": cost}) if cost else best)
            for item in left:
                likeness = _jaccard(stems.get(item.fact_id, frozenset()), stems.get(best.fact_id, frozenset()))
                closest[item.fact_id] = max(closest[item.fact_id], likeness)
        return sorted([*done, *ranking[params.first :]], key=lambda item: -item.score)

    return refine


OPERATORS: Final = (
    Operator(
        "relevance",
        "retrieve",
        "source",
        "The default ranking: its weighted terms, one parameter each; None leaves a weight to the policy.",
        _relevance,
        _Relevance,
        ("vectors", "words", "time", "sessions", "speakers", "importance", "usefulness"),
    ),
    Operator(
        "nearest",
        "retrieve",
        "source",
        "By cosine alone.",
        lambda params: Similarity().retrieve,
        NoParams,
        ("vectors",),
    ),
    Operator("newest", "retrieve", "source", "By time alone.", lambda params: Recency().retrieve, NoParams, ("time",)),
    Operator(
        "episode",
        "retrieve",
        "source",
        "The whole session of the nearest fact, in the order it happened.",
        _episode,
        _Episode,
        ("vectors", "sessions"),
    ),
    Operator("nowhere", "retrieve", "source", "Recalls nothing.", lambda params: Null().retrieve),
    Operator("fresh", "retrieve", "refine", "Adds a term that halves with age.", _fresh, _Fresh, ("time",)),
    Operator(
        "keep_newest",
        "retrieve",
        "refine",
        "Of facts with the same slot, or in nearly the same words, keeps the one said last.",
        _keep_newest,
        _Newest,
        ("slots", "words", "time"),
    ),
    Operator("above_share", "retrieve", "refine", "Drops what scores below a share of the best.", _above_share, _Share),
    Operator(
        "above", "retrieve", "refine", "Drops what scores below this: nothing rather than anything.", _above, _Floor
    ),
    Operator("top", "retrieve", "refine", "Keeps so many.", _top, _Top),
    Operator("short", "retrieve", "refine", "Prefers what takes fewer words.", _short, _Weight, ("words",)),
    Operator("users_words", "retrieve", "refine", "Prefers what a user said.", _users_words, _Weight, ("channels",)),
    Operator("prefer_kind", "retrieve", "refine", "Prefers a kind of fact.", _prefer_kind, _Kinds, ("kinds",)),
    Operator("spread", "retrieve", "refine", "Prefers what says something else than better ones do.", _spread, _Spread),
)
