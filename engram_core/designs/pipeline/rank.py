"""How the default design ranks: a weighted sum of named terms over candidate columns. Pure numpy; no storage, no model.

Each weight was chosen on development conversations; docs/recall.md has the ablations.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from engram_core.design import Candidates, Floats
from engram_core.domain.policy import MemoryPolicy
from engram_core.measure import dates, marks, words

K1 = 0.9
B = 0.75
AROUND = ((1, 0.7), (2, 0.4))
"""How much of the words of a statement's neighbours counts as its own, by how many steps away they were said."""
NEIGHBOUR_WORDS = 15
"""Stems of a neighbour that count at most in `bm25_around`."""
SAME_VOICE = 0.5
"""Part of that for another statement by the same speaker: two facts in a row need not be about one matter."""
RELATED: Final = 0.57
"""Value of `dense` for texts about one matter: what embedders that the weights were chosen with give as they are."""
NEXT_TO = 1.5
"""What a better fact next to a fact counts in `again`, beside the 1 that it counts as one of the same session."""
SPREAD_OUT = 80
"""Best facts that `again` is told for."""
GENERAL_SHARE = 0.2
"""Part of `usefulness_weight` for use in answers to any question; the rest is for questions like the present one."""

_TOGETHER: Final = re.compile(r"\b(?:both|each other|in common)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Weights:
    """Weight of each ranking term, by its name; 0 switches a term off. docs/recall.md says what each one is."""

    dense: float = 0.32
    dense_context: float = 0.28
    bm25: float = 0.04
    bm25_context: float = 0.04
    bm25_around: float = 0.26
    neighbour: float = 0.28
    session: float = 0.24
    leads: float = -0.15
    scattered: float = -0.15
    who: float = 0.18
    subject: float = 0.18
    date: float = 0.44
    when: float = 0.09
    asks: float = -0.07
    names: float = 0.14
    numbers: float = 0.08
    titles: float = 0.06
    again: float = -0.045


@dataclass(frozen=True, slots=True)
class Question:
    """A question taken apart, ready for ranking."""

    vector: Floats | None
    stems: tuple[str, ...]
    stem_counts: tuple[int, ...]
    person: str | None
    dates: tuple[dates.NamedDate, ...]
    asks_when: bool
    marks: tuple[str, ...] = ()
    asks_many: float = 0.0
    cosines: tuple[float, float] = (0.0, RELATED)
    subject: str | None = None

    @property
    def asked(self) -> Floats:
        """How often each stem is asked for, (stems,)."""
        return np.array(self.stem_counts, dtype=np.float32)

    @property
    def columns(self) -> tuple[str, ...]:
        """What the candidates' counts have a column for: the stems, then the marks."""
        return self.stems + self.marks

    @classmethod
    def of(
        cls,
        stripped_words: Sequence[str],
        vector: Floats | None,
        text: str,
        names: frozenset[str],
        cosines: tuple[float, float] = (0.0, RELATED),
    ) -> Question:
        """Build from the stripped question's stems and vector, the unstripped text, and the embedder's cosines."""
        stems = tuple(dict.fromkeys(stripped_words))
        return cls(
            vector=vector,
            stems=stems,
            stem_counts=tuple(stripped_words.count(stem) for stem in stems),
            person=person_meant(text, names),
            dates=tuple(dates.named_dates(text)),
            asks_when=dates.asks_when(text),
            marks=marks.wanted(text),
            asks_many=marks.wants_many(text),
            cosines=cosines,
            subject=subject_of(text, names),
        )


Of = Callable[[Question, Candidates], Floats]
"""The value of a term for each candidate, (n,), before its weight."""


def person_meant(text: str, names: frozenset[str]) -> str | None:
    """The one speaker a question is about: the only name in it, or the user for I/my; None if nobody or several."""
    meant = words.named(text, names)
    if not meant and words.says_i(text):
        meant = tuple(names & {"User", "user", "human", "Human"})
    return meant[0] if len(meant) == 1 else None


def subject_of(text: str, names: frozenset[str]) -> str | None:
    """Of several people named the first ("What did Ana say to Ben?"); None if it is about them together ("both")."""
    meant = words.named(text, names)
    if len(meant) < 2 or _TOGETHER.search(text):
        return None
    are_joined = re.search(rf"{re.escape(meant[0])}[\s,]*(?:and|or|&)?\s*{re.escape(meant[1])}", text, re.IGNORECASE)
    return None if are_joined else meant[0]


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
    own = {name: of(question, found) for name, of in _OWN.items()}
    terms = {name: getattr(weights, name) * values for name, values in own.items()}
    base = _total(terms, len(found))
    neighbour = _neighbour(base, found)
    terms["neighbour"] = weights.neighbour * neighbour
    session = _session(base + terms["neighbour"], found)
    terms["session"] = weights.session * session
    terms["leads"] = weights.leads * _after(base, found)
    terms["scattered"] = weights.scattered * np.float32(question.asks_many) * (neighbour + session)
    terms |= {name: getattr(weights, name) * of(question, found) for name, of in _BESIDES.items()}
    terms |= _policy_terms(found, policy, now)
    return {name: values.astype(np.float32) for name, values in terms.items() if values.any()}


def _dense(question: Question, found: Candidates) -> Floats:
    return _likeness(question, found.content)


def _dense_context(question: Question, found: Candidates) -> Floats:
    return _likeness(question, found.context)


def _likeness(question: Question, vectors: Floats) -> Floats:
    """Cosines, on a scale on which every embedder's unrelated texts are at 0 and related ones at `RELATED`."""
    if question.vector is None:
        return np.zeros(len(vectors), dtype=np.float32)
    apart, together = question.cosines
    scale = np.float32(RELATED / (together - apart))
    cosines = vectors @ question.vector
    # Exactly 0 is the zero row of a fact that is not embedded yet: nothing is known, so it counts as unrelated.
    result: Floats = np.where(cosines != 0.0, scale * (cosines - np.float32(apart)), np.float32(0.0))
    return result


def _bm25_body(question: Question, found: Candidates) -> Floats:
    known = found.statistics
    counts = found.body_counts[:, : len(question.stems)]
    df = known.body_df[: len(question.stems)]
    return _best_is_one(bm25(counts, found.body_length, question.asked, known.facts, known.body_words, df))


def _bm25_context(question: Question, found: Candidates) -> Floats:
    known = found.statistics
    counts = found.context_counts[:, : len(question.stems)]
    df = known.context_df[: len(question.stems)]
    return _best_is_one(bm25(counts, found.context_length, question.asked, known.facts, known.context_words, df))


def _bm25_around(question: Question, found: Candidates) -> Floats:
    """BM25 of a statement together with what was said up to two steps before and after it, of which less counts."""
    known = found.statistics
    counts = found.body_counts[:, : len(question.stems)].copy()
    lengths = found.body_length.copy()
    if not counts.size:
        return np.zeros(len(found), dtype=np.float32)
    # Of a long neighbour no more counts than of one of NEIGHBOUR_WORDS words, as in a context text.
    brevity = np.minimum(1.0, NEIGHBOUR_WORDS / np.maximum(found.body_length, 1.0)).astype(np.float32)
    codes: dict[str | None, int] = {}
    voice = np.fromiter((codes.setdefault(who, len(codes)) for who in found.speakers), np.int64, len(found))
    for link in (found.previous, found.following):
        at = link
        # Pieces of one message bear one time; they belong together whoever said them.
        is_apart = (voice[link] == voice) & (found.said_at[link] != found.said_at)
        told = np.where(is_apart, np.float32(SAME_VOICE), np.float32(1.0))
        for _, share in AROUND:
            part = np.where(at >= 0, np.float32(share) * brevity[at] * told, np.float32(0.0))
            counts += part[:, None] * found.body_counts[at, : len(question.stems)]
            lengths += part * found.body_length[at]
            at = np.where(at >= 0, link[at], -1)
    whole = 1.0 + 2.0 * sum(share for _, share in AROUND)
    df = known.body_df[: len(question.stems)]
    return _best_is_one(bm25(counts, lengths, question.asked, known.facts, int(whole * known.body_words), df))


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


def _after(base: Floats, found: Candidates) -> Floats:
    """The sum of the statement said next."""
    return np.where(found.following >= 0, base[found.following], np.float32(0.0))


def _who(question: Question, found: Candidates) -> Floats:
    return _said_by(question.person, found)


def _subject(question: Question, found: Candidates) -> Floats:
    return _said_by(question.subject, found)


def _said_by(person: str | None, found: Candidates) -> Floats:
    if person is None:
        return np.zeros(len(found), dtype=np.float32)
    return np.fromiter((speaker == person for speaker in found.speakers), dtype=np.float32, count=len(found))


def _date(question: Question, found: Candidates) -> Floats:
    return dates.match_dates(question.dates, found.said_at)


def _when(question: Question, found: Candidates) -> Floats:
    return found.time_words * np.float32(question.asks_when)


def _asks(question: Question, found: Candidates) -> Floats:
    return found.asks


def _marked(mark: str) -> Of:
    """Whether a statement has the mark, for questions that want it."""

    def value(question: Question, found: Candidates) -> Floats:
        if mark not in question.marks:
            return np.zeros(len(found), dtype=np.float32)
        return (found.body_counts[:, question.columns.index(mark)] > 0).astype(np.float32)

    return value


_OWN: Final[Mapping[str, Of]] = {
    "dense": _dense,
    "dense_context": _dense_context,
    "bm25": _bm25_body,
    "bm25_context": _bm25_context,
    "bm25_around": _bm25_around,
}
"""What a statement is worth by its text and what stands around it; `neighbour`, `session` and the like spread this."""
_BESIDES: Final[Mapping[str, Of]] = {
    "who": _who,
    "subject": _subject,
    "date": _date,
    "when": _when,
    "asks": _asks,
    "names": _marked(marks.NAME),
    "numbers": _marked(marks.NUMBER),
    "titles": _marked(marks.TITLE),
}
"""What is added afterwards and does not spread."""


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


def spread_out(
    terms: dict[str, Floats], rows: Sequence[int], question: Question, found: Candidates, weights: Weights
) -> list[int]:
    """Order the best rows so that a question for many things gets them from many occasions; adds the term `again`.

    Args:
        terms: Of `score`; gets the term `again`: for each of `rows` the number of better ones of its session, and
            `NEXT_TO` more for each better one said just before or after it.
        rows: Rows of the best candidates, best first.
        question: Nothing is done unless it asks for many things outright.
        found, weights: As for `score`.

    Returns:
        The rows, best first.
    """
    if not is_spread_out(question, weights):
        return list(rows)
    again = np.zeros(len(found), dtype=np.float32)
    seen: Counter[int] = Counter()
    better: set[int] = set()
    for row in rows:
        session = int(found.session[row])
        beside = (int(found.previous[row]) in better) + (int(found.following[row]) in better)
        again[row] = seen[session] + NEXT_TO * beside
        better.add(row)
        if session >= 0:
            seen[session] += 1
    terms["again"] = weights.again * again
    total = _total(terms, len(found))
    return sorted(rows, key=lambda row: -total[row])


def is_spread_out(question: Question, weights: Weights) -> bool:
    """Whether `spread_out` does anything: it needs more of the best rows than are shown."""
    return question.asks_many >= 1.0 and weights.again != 0.0
