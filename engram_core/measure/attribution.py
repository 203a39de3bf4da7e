"""Attribution: which of the shown facts a response used. It judges text against text; it never sees ranks or scores.

Lexical on purpose: IDF-weighted coverage of the response by a fact, with the question's own words discounted, compared
with the best fact. Cosine similarity is much worse at this (docs/algorithms.md section 3, which gives every constant).
"""

from __future__ import annotations

import bisect
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engram_core.measure import citations, content, words

Band = Literal["cited", "strict", "balanced", "claimed", "none"]
DocumentFrequency = Callable[[str], int] | Mapping[str, int]

STRICT: Final = (0.30, 0.50)
"""Least score of the whole response, and of one clause, in the strict band."""
BALANCED: Final = (0.18, 0.35)
LONGEST_RESPONSE: Final = 50_000
"""Characters of a response that are read."""
_RELATIVE_TO_BEST: Final = 0.8
_QUESTION_DISCOUNT: Final = 0.2
_LEAST_UNIT_WEIGHT: Final = 2.5
_LEAST_CITED_OVERLAP: Final = 0.05
_CLAIMED_WEIGHT: Final = 0.5
_PROBABILITY_STEPS: Final = (0.02, 0.05, 0.10, 0.15, 0.20, 0.30)
_PROBABILITIES: Final = (0.02, 0.06, 0.12, 0.20, 0.42, 0.60, 0.91)
_CITED_PROBABILITY: Final = 0.74
_ADVERBS = r"(?:(?:currently|actually|really|yet|specifically|seem to|appear to|be able to) ){0,2}"
_NOUNS = r"(?:information|info|record|mention|memory|memories|details?)"
_REFUSAL: Final = re.compile(
    r"\b(?:i|we) (?:do not|don't|did not|didn't|cannot|can not|can't|could not|couldn't|haven't|"
    r"have not) " + _ADVERBS + r"(?:have|know|recall|remember|find|found|see|seen|answer)\b|"
    r"\bno (?:[\w-]+ ){0,2}" + _NOUNS + r"\b|"
    r"(?:\bnot|n't|\bnever) (?:[\w-]+ ){0,2}(?:mention(?:ed)?|specif(?:y|ied)|available|provided?)\b|"
    r"\bthere(?:'s| is| are| was| were) no\b|\b(?:isn't|aren't|wasn't|weren't|is not|are not) any\b|"
    r"\b(?:unable|not able) to\b|\bno idea\b|\bnothing comes to mind\b|"
    r"\byou (?:haven't|have not|hadn't|didn't|did not|never) (?:\w+ )?(?:told|tell|mention(?:ed)?|shared?)\b"
)
_SENTENCE_END: Final = re.compile(r"[.!?]+(?=\s|$|[\"')\]])|[\n;]+")
_CLAUSE_END: Final = re.compile(r",(?!\d)|:(?!\d)|\)|\]| and | - ", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Shown:
    """A fact as the model saw it.

    Attributes:
        text: As displayed, with the speaker in front.
        said_at: When the statement was made; resolves its relative dates. None resolves none.
        marker: The citation marker it was rendered with, such as `m3`; None if it had none.
    """

    fact_id: str
    text: str
    said_at: datetime | None = None
    marker: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a response used one fact.

    Attributes:
        band: `strict` for counters, ranking and eviction; `balanced` for display ("probably used"); `cited` if the
            response names the fact's marker and overlaps with it; `claimed` if it names the marker without overlap.
            Both are exact: the model itself said so.
        s_whole: Score of the whole response, 0 to 1.
        s_clause: Score of the best clause, 0 to 1.
        probability: Of use, 0 to 1: a prior measured on LoCoMo, to be re-fitted per deployment.
    """

    fact_id: str
    band: Band
    s_whole: float
    s_clause: float
    probability: float

    @property
    def used(self) -> bool:
        """Whether to report the fact as used: every band but none."""
        return self.band != "none"

    @property
    def weight(self) -> float:
        """What usefulness counters add for this verdict, 0 to 1: nothing in the bands balanced and none."""
        if self.band == "claimed":
            return _CLAIMED_WEIGHT
        return self.probability if self.band in ("cited", "strict") else 0.0

    @property
    def terms(self) -> dict[str, float]:
        """The numbers behind the verdict by name: s_whole, s_clause, probability, weight."""
        return {
            "s_whole": self.s_whole,
            "s_clause": self.s_clause,
            "probability": self.probability,
            "weight": self.weight,
        }


def attribute(
    response: str,
    question: str,
    shown: Sequence[Shown],
    facts_in_scope: int,
    document_frequency: DocumentFrequency | None = None,
) -> list[Verdict]:
    """Judge which of the shown facts a response used.

    Args:
        response: The whole answer; the first 50,000 characters are read. Do not call this for an answer that failed
            or broke off: nothing is known then.
        question: What was asked; its words count a fifth, since an answer repeats them anyway.
        shown: The facts in the prompt, any order; the order does not matter.
        facts_in_scope: N, how many facts the scope holds; read as at least `len(shown)`.
        document_frequency: In how many facts of the scope a content token (`measure.content`) occurs. A token that is
            missing from a mapping, or all of them when None, is counted over the shown facts instead.

    Returns:
        One verdict per shown fact, in the order given. Refusing sentences ("I don't know …") credit nothing, and the
        strict band also needs a word that the question did not have: an echo alone never reaches the counters.
    """
    if not shown:
        return []
    cited, plain = _markers(response[:LONGEST_RESPONSE])
    whole, clauses = _units(plain)
    facts = [content.token_set(fact.text, fact.said_at) for fact in shown]
    scope_size = max(facts_in_scope, len(shown))
    weights = _weights(whole, facts, content.token_set(question), scope_size, document_frequency)
    return list(_verdicts(shown, _score([whole], facts, weights), _score(clauses, facts, weights), cited))


def is_refusal(sentence: str) -> bool:
    """Whether a sentence says that its speaker does not know, remember or find something, or that nothing is there."""
    return _REFUSAL.search(words.folded(sentence)) is not None


def probability(s_whole: float) -> float:
    """Probability of use for a whole-response score: share of gold evidence per step, all LoCoMo test responses."""
    return _PROBABILITIES[bisect.bisect_right(_PROBABILITY_STEPS, s_whole)]


@dataclass(frozen=True, slots=True)
class _Scores:
    """Coverage of some units by each fact, and in which band it puts the fact.

    Attributes:
        values: 0 to 1, shape (units, facts).
        is_new: Whether a fact shares a word with the unit that the question did not have, shape (units, facts).
    """

    values: NDArray[np.float64]
    is_new: NDArray[np.bool_]

    def best(self) -> NDArray[np.float64]:
        """Each fact's highest score, shape (facts,)."""
        highest: NDArray[np.float64] = self.values.max(axis=0, initial=0.0)
        return highest

    def leads(self, least: float, *, new_words: bool) -> NDArray[np.bool_]:
        """Whether a fact reaches `least` in some unit and is near that unit's best fact, shape (facts,)."""
        near_best = self.values >= _RELATIVE_TO_BEST * self.values.max(axis=1, keepdims=True)
        hits = (self.values >= least) & near_best
        leads: NDArray[np.bool_] = (hits & self.is_new if new_words else hits).any(axis=0)
        return leads


def _score(units: Sequence[frozenset[str]], facts: Sequence[frozenset[str]], weights: Mapping[str, _Weight]) -> _Scores:
    vocabulary = sorted(frozenset().union(*units))
    weight = np.array([weights[token].value for token in vocabulary])
    is_new = np.array([weights[token].is_new for token in vocabulary], dtype=bool)
    holds = np.array([[token in unit for token in vocabulary] for unit in units], dtype=np.float64)
    holds = holds.reshape(len(units), len(vocabulary))
    shared = np.array([[token in fact for fact in facts] for token in vocabulary], dtype=np.float64)
    shared = shared.reshape(len(vocabulary), len(facts))
    weighted = holds * weight
    totals = np.maximum(weighted.sum(axis=1, keepdims=True), _LEAST_UNIT_WEIGHT)
    return _Scores(weighted @ shared / totals, (holds * is_new) @ shared > 0)


class _Weight(NamedTuple):
    value: float
    is_new: bool


def _weights(
    tokens: Iterable[str],
    facts: Sequence[frozenset[str]],
    question: frozenset[str],
    facts_in_scope: int,
    document_frequency: DocumentFrequency | None,
) -> dict[str, _Weight]:
    """How much each token of the response counts, 0 to 1: rare in the scope, telling among the shown, not asked."""
    shown = Counter(token for fact in facts for token in fact)
    weights = {}
    for token in tokens:
        df = _frequency(token, document_frequency, shown)
        rare = content.idf(df, facts_in_scope) / math.log1p(facts_in_scope)
        telling = math.log1p(len(facts) / max(1, shown[token])) / math.log1p(len(facts))
        is_new = token not in question
        weights[token] = _Weight(rare * telling * (1.0 if is_new else _QUESTION_DISCOUNT), is_new)
    return weights


def _frequency(token: str, document_frequency: DocumentFrequency | None, shown: Mapping[str, int]) -> int:
    if document_frequency is None:
        return shown.get(token, 0)
    if callable(document_frequency):
        return document_frequency(token)
    return document_frequency.get(token, shown.get(token, 0))


def _verdicts(shown: Sequence[Shown], whole: _Scores, clauses: _Scores, cited: frozenset[str]) -> Iterator[Verdict]:
    is_strict = whole.leads(STRICT[0], new_words=True) | clauses.leads(STRICT[1], new_words=True)
    is_balanced = whole.leads(BALANCED[0], new_words=False) | clauses.leads(BALANCED[1], new_words=False)
    s_whole, s_clause = whole.best(), clauses.best()
    for row, fact in enumerate(shown):
        band: Band = "strict" if is_strict[row] else "balanced" if is_balanced[row] else "none"
        likely = probability(float(s_whole[row]))
        if fact.marker is not None and fact.marker.lower() in cited:
            has_overlap = max(s_whole[row], s_clause[row]) >= _LEAST_CITED_OVERLAP
            band = "cited" if has_overlap else "claimed"
            likely = max(likely, _CITED_PROBABILITY if has_overlap else _CLAIMED_WEIGHT)
        yield Verdict(fact.fact_id, band, float(s_whole[row]), float(s_clause[row]), likely)


def _units(response: str) -> tuple[frozenset[str], list[frozenset[str]]]:
    """The token set of everything that is not a refusal, and one for each distinct clause."""
    sentences = [sentence for sentence in _SENTENCE_END.split(response) if sentence and not is_refusal(sentence)]
    clauses = {content.token_set(clause): None for sentence in sentences for clause in _CLAUSE_END.split(sentence)}
    return frozenset().union(*clauses), [clause for clause in clauses if clause]


def _markers(response: str) -> tuple[frozenset[str], str]:
    """The markers that a response cites, those of refusing sentences left out, and the response without any."""
    sentences = _SENTENCE_END.split(citations.before_stops(response))
    claims = "\n".join(sentence for sentence in sentences if not is_refusal(sentence))
    return citations.cited(claims), citations.spaced(response)
