"""How the default design ranks: a weighted sum of named terms over candidate columns. Pure numpy; no storage, no model.

Each weight was chosen on development conversations; docs/recall.md has the ablations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from engram_core.design import Candidates, Floats
from engram_core.domain.policy import MemoryPolicy
from engram_core.measure import dates, words

K1 = 0.9
B = 0.75
GENERAL_SHARE = 0.2
"""Part of `usefulness_weight` for use in answers to any question; the rest is for questions like the present one."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Weight of each ranking term; 0 switches a term off."""

    dense: float = 0.40
    bm25: float = 0.15
    dense_context: float = 0.30
    bm25_context: float = 0.15
    neighbour: float = 0.20
    session: float = 0.20
    who: float = 0.20
    date: float = 0.20
    when: float = 0.10
    asks: float = -0.10


@dataclass(frozen=True, slots=True)
class Question:
    """A question taken apart, ready for ranking."""

    vector: Floats | None
    stems: tuple[str, ...]
    stem_counts: tuple[int, ...]
    person: str | None
    dates: tuple[dates.NamedDate, ...]
    asks_when: bool

    @classmethod
    def of(cls, stripped_words: Sequence[str], vector: Floats | None, text: str, names: frozenset[str]) -> Question:
        """Build from the stripped question's stems and vector and the unstripped text."""
        stems = tuple(dict.fromkeys(stripped_words))
        return cls(
            vector=vector,
            stems=stems,
            stem_counts=tuple(stripped_words.count(stem) for stem in stems),
            person=person_meant(text, names),
            dates=tuple(dates.named_dates(text)),
            asks_when=dates.asks_when(text),
        )


def person_meant(text: str, names: frozenset[str]) -> str | None:
    """The one speaker a question is about: the only name in it, or the user for I/my; None if nobody or several."""
    meant = words.named(text, names)
    if not meant and words.FIRST_PERSON.search(text):
        meant = names & {"User", "user", "human", "Human"}
    return next(iter(meant)) if len(meant) == 1 else None


def score(
    question: Question, found: Candidates, policy: MemoryPolicy, now: datetime, weights: Weights
) -> dict[str, Floats]:
    """Every term of every candidate, weighted; a candidate's score is the sum over the terms.

    Args:
        question: See `Question`.
        found: n candidates.
        policy: Its weights add the importance, recency, usefulness and priority terms.
        now: For recency.
        weights: Of the relevance terms.

    Returns:
        Term name to (n,) float32. Neighbour is computed from the first four terms, session from the first five; the
        rest is added afterwards and does not spread.
    """
    terms = _relevance(question, found, weights)
    base = _total(terms, len(found))
    terms["neighbour"] = weights.neighbour * _neighbour(base, found)
    base = base + terms["neighbour"]
    terms["session"] = weights.session * _session(base, found)
    terms["who"] = weights.who * _who(question, found)
    terms["date"] = weights.date * dates.match_dates(question.dates, found.said_at)
    terms["when"] = weights.when * found.time_words * np.float32(question.asks_when)
    terms["asks"] = weights.asks * found.asks
    terms |= _policy_terms(found, policy, now)
    return {name: values.astype(np.float32) for name, values in terms.items() if values.any()}


def _relevance(question: Question, found: Candidates, weights: Weights) -> dict[str, Floats]:
    statistics = found.statistics
    terms: dict[str, Floats] = {}
    if question.vector is not None:
        terms["dense"] = weights.dense * (found.content @ question.vector)
        terms["dense_context"] = weights.dense_context * (found.context @ question.vector)
    counts = np.array(question.stem_counts, dtype=np.float32)
    terms["bm25"] = weights.bm25 * _best_is_one(
        bm25(found.body_counts, found.body_length, counts, statistics.facts, statistics.body_words, statistics.body_df)
    )
    terms["bm25_context"] = weights.bm25_context * _best_is_one(
        bm25(
            found.context_counts,
            found.context_length,
            counts,
            statistics.facts,
            statistics.context_words,
            statistics.context_df,
        )
    )
    return terms


def bm25(counts: Floats, lengths: Floats, asked: Floats, facts: int, total_words: int, df: Floats) -> Floats:
    """BM25 of each candidate (Robertson and Walker; k1 0.9, b 0.75, no (k1+1) factor, never-negative idf).

    Args:
        counts: Occurrences of each stem, (n, stems).
        lengths: Stems per text, (n,).
        asked: How often each stem stands in the question, (stems,).
        facts, total_words, df: Statistics of the readable scopes; df is (stems,).
    """
    if not counts.size or not facts:
        return np.zeros(len(lengths), dtype=np.float32)
    idf = np.log1p((facts - df + 0.5) / (df + 0.5))
    norm = K1 * (1 - B + B * lengths / max(total_words / facts, 1e-9))
    saturated = counts / (counts + norm[:, None] + np.float32(1e-12))
    # Every value is finite; yet some BLAS kernels now and then raise the flag for lanes that they do not use.
    with np.errstate(invalid="ignore"):
        result: Floats = (saturated @ (asked * idf)).astype(np.float32)
    return result


def _best_is_one(values: Floats) -> Floats:
    best = values.max(initial=0.0)
    return values / np.float32(best + 1e-9)


def _total(terms: Mapping[str, Floats], size: int) -> Floats:
    total = np.zeros(size, dtype=np.float32)
    for values in terms.values():
        total = total + values
    return total


def _neighbour(base: Floats, found: Candidates) -> Floats:
    padded = np.append(base, np.float32(-np.inf))  # position -1 is "no neighbour"
    best = np.maximum(padded[found.previous], padded[found.following])
    return np.where(np.isfinite(best), best, np.float32(0.0))


def _session(base: Floats, found: Candidates) -> Floats:
    """Mean of the three highest sums in the candidate's session; 0 for facts without a session."""
    result = np.zeros(len(base), dtype=np.float32)
    order = np.lexsort((-base, found.session))
    order = order[found.session[order] >= 0]
    if not len(order):
        return result
    codes = found.session[order]
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    group = np.cumsum(np.r_[False, codes[1:] != codes[:-1]])
    is_top = np.arange(len(codes)) - starts[group] < 3
    sums = np.bincount(group[is_top], weights=base[order][is_top])
    # A session of fewer than three members is divided by its size only when all of it is here.
    sizes = np.bincount(group[is_top]) if found.complete else 3
    result[order] = (sums / sizes)[group]
    return result


def _who(question: Question, found: Candidates) -> Floats:
    if question.person is None:
        return np.zeros(len(found), dtype=np.float32)
    return np.fromiter((speaker == question.person for speaker in found.speakers), dtype=np.float32, count=len(found))


def _policy_terms(found: Candidates, policy: MemoryPolicy, now: datetime) -> dict[str, Floats]:
    terms: dict[str, Floats] = {
        "importance": policy.importance_weight * (found.importance - 0.5),
        "usefulness": GENERAL_SHARE * policy.usefulness_weight * found.usefulness,
        "useful_alike": (1.0 - GENERAL_SHARE) * policy.usefulness_weight * found.useful_alike,
    }
    if policy.recency_weight:
        days = np.maximum(now.timestamp() - found.said_at, 0.0) / 86_400.0
        terms["recency"] = (policy.recency_weight * (1.0 - policy.decay_rate) ** days).astype(np.float32)
    if policy.prioritize_types:
        preferred = frozenset(policy.prioritize_types)
        is_preferred = np.fromiter((kind in preferred for kind in found.kinds), dtype=np.float32, count=len(found))
        terms["priority"] = policy.priority_weight * is_preferred
    return terms


def best(terms: Mapping[str, Floats], found: Candidates, keep: int) -> list[int]:
    """Rows of the `keep` best candidates, best first; ties go to the older fact."""
    total = _total(terms, len(found))
    if len(total) > keep:
        kept = np.argpartition(-total, keep - 1)[:keep]
        # argpartition cuts ties at random: take everything level with the last one before ordering.
        kept = np.flatnonzero(total >= total[kept].min())
    else:
        kept = np.arange(len(total))
    order = sorted(kept.tolist(), key=lambda row: (-total[row], found.said_at[row], found.ids[row]))
    return order[:keep]
