"""The scorer Engram's attribution started from, kept as a baseline: IDF-weighted coverage against the best fact.

No dates as ranges, no speakers, no meaning. Citation markers are left out.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engram_core.measure import content, words
from engram_core.measure.attribution import Shown

Band = Literal["strict", "balanced", "none"]
DocumentFrequency = Callable[[str], int] | Mapping[str, int]

STRICT: Final = (0.30, 0.50)
"""Least score of the whole response, and of one clause, in the strict band."""
BALANCED: Final = (0.18, 0.35)
LONGEST_RESPONSE: Final = 50_000
"""Characters of a response that are read."""
_RELATIVE_TO_BEST: Final = 0.8
_QUESTION_DISCOUNT: Final = 0.2
_LEAST_UNIT_WEIGHT: Final = 2.5
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
class Verdict:
    fact_id: str
    band: Band
    s_whole: float
    s_clause: float

    @property
    def used(self) -> bool:
        return self.band != "none"


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
    whole, clauses = _units(response[:LONGEST_RESPONSE])
    facts = [content.token_set(fact.text, fact.said_at) for fact in shown]
    scope_size = max(facts_in_scope, len(shown))
    weights = _weights(whole, facts, content.token_set(question), scope_size, document_frequency)
    return list(_verdicts(shown, _score([whole], facts, weights), _score(clauses, facts, weights)))


def is_refusal(sentence: str) -> bool:
    """Whether a sentence says that its speaker does not know, remember or find something, or that nothing is there."""
    return _REFUSAL.search(words.folded(sentence)) is not None


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


def _verdicts(shown: Sequence[Shown], whole: _Scores, clauses: _Scores) -> Iterator[Verdict]:
    is_strict = whole.leads(STRICT[0], new_words=True) | clauses.leads(STRICT[1], new_words=True)
    is_balanced = whole.leads(BALANCED[0], new_words=False) | clauses.leads(BALANCED[1], new_words=False)
    s_whole, s_clause = whole.best(), clauses.best()
    for row, fact in enumerate(shown):
        band: Band = "strict" if is_strict[row] else "balanced" if is_balanced[row] else "none"
        yield Verdict(fact.fact_id, band, float(s_whole[row]), float(s_clause[row]))


def _units(response: str) -> tuple[frozenset[str], list[frozenset[str]]]:
    """The token set of everything that is not a refusal, and one for each distinct clause."""
    sentences = [sentence for sentence in _SENTENCE_END.split(response) if sentence and not is_refusal(sentence)]
    clauses = {content.token_set(clause): None for sentence in sentences for clause in _CLAUSE_END.split(sentence)}
    return frozenset().union(*clauses), [clause for clause in clauses if clause]
