"""Attribution: which of the shown facts a response used. It judges text against text; it never sees ranks or scores.

Six named pieces of evidence add up to the log-odds that a fact was used (docs/algorithms.md section 3 gives each, its
weight and how the weights were fitted: `python -m benchmarks.attribution --fit`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engram_core.measure import citations, content, days, words

Band = Literal["cited", "strict", "balanced", "claimed", "none"]
DocumentFrequency = Callable[[str], int] | Mapping[str, int]
Floats = NDArray[np.float64]

STRICT: Final = 0.70
"""Least probability of the strict band."""
BALANCED: Final = 0.35
LONGEST_RESPONSE: Final = 50_000
"""Characters of a response that are read."""
SMALLEST_SCOPE: Final = 16
"""A smaller scope is read as one of so many facts: where there are only a few, every word would be common."""
MOST_SENTENCES: Final = 16
"""Sentences of a response that are compared by meaning."""
WEIGHTS: Final[Mapping[str, float]] = {
    "base": -5.16,
    "clause": 3.00,
    "lead": 3.93,
    "topic": 1.73,
    "speaker": 2.40,
    "alone": 1.07,
    "meaning": 0.96,
}
"""What a unit of each piece of evidence adds to the log-odds of use; `base` is where they start."""
_MEANING_UNKNOWN: Final = 0.3
"""Stands for the meaning of a fact without a vector: between the average fact (0) and a used one (about 1)."""
_LEAST_SPREAD: Final = 0.05
"""Added to the spread of the similarities, so that facts that are all alike do not differ by chance."""
_QUESTION_DISCOUNT: Final = 0.2
_LEAST_UNIT_WEIGHT: Final = 2.5
_FULL_SENTENCE: Final = 2.0
"""Weight of new words from which a sentence counts as much as the richest one."""
_LEAST_CITED_OVERLAP: Final = 0.05
_CLAIMED_WEIGHT: Final = 0.5
_CITED_PROBABILITY: Final = 0.74
_NO_NEW_WORD: Final = 0.03
"""Probability of use of a fact that shares nothing with the response beyond the question, measured on LoCoMo."""
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
_TALK: Final = (
    r"(?:context|memor(?:y|ies)|conversations?|notes?|records?|history|chats?|documents?|information|passages?)"
)
_HEDGE: Final = re.compile(
    r"\blet me (?:just )?(?:think|see|check|recall|remember|look)\b|"
    r"\b(?:i|we)(?: am|'m| are|'re| was| were) not (?:\w+ )?(?:sure|certain|aware|told)\b|"
    r"(?:\bis|'s|\bremains|\bam|'m) (?:\w+ )?(?:unknown|unclear|uncertain|unsure)\b|\bnot that i (?:know|recall)\b|"
    r"(?:\bis|'s) (?:hard|difficult|impossible) to (?:say|tell|know)\b|\bno clue\b|"
    r"\b(?:i|we) can(?:'t|not| not) (?:really )?(?:say|tell|help)\b|\b(?:have|has|gives?|provides?) no answer\b|"
    r"\bnothing (?:\w+ ){0,3}(?:about|on|mentions?|says?|" + _TALK + r")\b|"
    r"\b" + _TALK + r" (?:\w+ ){0,2}?(?:\w+n't|not|never) (?:\w+ )?(?:contain|say|said|state|tell|show|include|answer)|"
    r"\b(?:we|you|i) (?:\w+ )?(?:never|haven't|have not|didn't|did not) (?:\w+ )?"
    r"(?:talk(?:ed)?|spoken?|discuss(?:ed)?)\b|"
    r"\b(?:never|hasn't|has not|didn't|did not) (?:ever )?c[ao]me up\b|"
    r"\bi wish i (?:knew|could)\b|\bget back to you\b|\bi(?:'d|'ll| would| will)? (?:have|need) to check\b|"
    r"\b(?:good|great|interesting|excellent) question\b|^\W*(?:can|could|would|will) you\b|\bwhat do you think\b"
)
"""Says nothing, unless the sentence goes on with "but"."""
_BUT: Final = re.compile(r"\bbut\b")
_SENTENCE_END: Final = re.compile(r"[.!?]+(?=\s|$|[\"')\]])|[\n;]+")
_CLAUSE_END: Final = re.compile(r",(?!\d)|:(?!\d)|\)|\]| and | - ", re.IGNORECASE)
_DATE_MARK: Final = "\ue000"
"""Stands around the number of a date while its sentence is cut up; a comma inside the date must not cut."""
_DATE_MARKS: Final = re.compile(_DATE_MARK + r"(\d+)" + _DATE_MARK)


@dataclass(frozen=True, slots=True)
class Shown:
    """A fact as the model saw it.

    Attributes:
        text: As displayed, with the speaker in front.
        said_at: When the statement was made; resolves its relative dates. None resolves none.
        marker: The citation marker it was rendered with, such as `m3`; None if it had none.
        speaker: Who said it; None if unknown.
    """

    fact_id: str
    text: str
    said_at: datetime | None = None
    marker: str | None = None
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a response used one fact.

    Attributes:
        band: `strict` for counters, ranking and eviction; `balanced` for display ("probably used"); `cited` if the
            response names the fact's marker and overlaps with it; `claimed` if it names the marker without overlap.
            Both are exact: the model itself said so.
        probability: Of use, 0 to 1: a prior measured on LoCoMo, to be re-fitted per deployment.
        evidence: What speaks for and against, in log-odds by name; `probability` is the logistic of their sum. Empty
            for a fact that shares nothing with the response beyond the question.
        is_judged: What a language model decided, in place of the evidence; None if none was asked.
    """

    fact_id: str
    band: Band
    probability: float
    evidence: Mapping[str, float] = field(default_factory=dict)
    is_judged: bool | None = None

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
        """The numbers behind the verdict by name: the evidence, a judge's 1 or 0 if there was one, what came of it."""
        judge = {} if self.is_judged is None else {"judge": float(self.is_judged)}
        return {**self.evidence, **judge, "probability": self.probability, "weight": self.weight}

    def judged(self, used: bool) -> Verdict:
        """The verdict of a judge who read the response: used puts it in the strict band, unused in none.

        The probability moves to that band's edge: how often a judge is right has not been measured.
        """
        band: Band = "strict" if used else "none"
        likely = max(self.probability, STRICT) if used else min(self.probability, _NO_NEW_WORD)
        return replace(self, band=band, probability=likely, is_judged=used)


def attribute(
    response: str,
    question: str,
    shown: Sequence[Shown],
    facts_in_scope: int,
    document_frequency: DocumentFrequency | None = None,
    similarity: Mapping[str, float] | None = None,
) -> list[Verdict]:
    """Judge which of the shown facts a response used.

    Args:
        response: The whole answer; the first 50,000 characters are read. Do not call this for an answer that failed
            or broke off: nothing is known then.
        question: What was asked; its words count a fifth, since an answer repeats them anyway.
        shown: The facts in the prompt, any order; the order does not matter.
        facts_in_scope: N, how many facts the scope holds; read as at least `len(shown)` and 16.
        document_frequency: In how many facts of the scope a content token (`measure.content`) occurs. A token that is
            missing from a mapping, or all of them when None, is counted over the shown facts instead.
        similarity: Cosine of a fact, by id, and the nearest of the response's `sentences`, each with the question in
            front. Only differences between the shown facts count, so any embedder will do. Facts may be missing.

    Returns:
        One verdict per shown fact, in the order given. Refusing sentences ("I don't know ...") credit nothing, and
        neither does a fact that shares no word, number or date with the response that the question did not have.
    """
    if not shown:
        return []
    cited, plain = _markers(response[:LONGEST_RESPONSE])
    read = _read(plain)
    facts = _Facts(shown)
    scale = _Scale(facts, max(facts_in_scope, len(shown), SMALLEST_SCOPE), document_frequency)
    table = _table(read, question, facts, scale)
    evidence = _evidence(table, question, shown, similarity or {})
    return list(_verdicts(shown, table, evidence, cited))


def sentences(response: str) -> list[str]:
    """What of a response to compare by meaning: its sentences without refusals and markers, at most 16 pieces."""
    plain = citations.spaced(response[:LONGEST_RESPONSE])
    found = [part.strip() for part in _SENTENCE_END.split(plain) if part and content.tokens(part)]
    kept = [part for part in found if not is_refusal(part)]
    together = math.ceil(len(kept) / MOST_SENTENCES)
    return [". ".join(kept[place : place + together]) for place in range(0, len(kept), together or 1)]


def is_refusal(sentence: str) -> bool:
    """Whether a sentence says that its speaker does not know, remember or find something, or that nothing is there.

    So does one that only thinks aloud or asks back ("let me think", "I am not sure"), unless it goes on with "but".
    """
    folded = words.folded(sentence)
    if _REFUSAL.search(folded) is not None:
        return True
    return _HEDGE.search(folded) is not None and _BUT.search(folded) is None


class _Clause(NamedTuple):
    tokens: frozenset[str]
    dates: tuple[days.Named, ...]


def _read(text: str) -> list[list[_Clause]]:
    """A text as sentences of clauses, without its refusals."""
    folded = words.folded(text).replace(_DATE_MARK, " ")
    named = days.named(folded)
    pieces: list[str] = []
    place = 0
    for number, one in enumerate(named):
        pieces += (folded[place : one.start], f" {_DATE_MARK}{number}{_DATE_MARK} ")
        place = one.end
    pieces.append(folded[place:])
    read = []
    for sentence in _SENTENCE_END.split("".join(pieces)):
        if sentence and not is_refusal(sentence):
            clauses = (_clause(part, named) for part in _CLAUSE_END.split(sentence))
            read.append([clause for clause in clauses if clause.tokens or clause.dates])
    return [clauses for clauses in read if clauses]


def _clause(text: str, named: Sequence[days.Named]) -> _Clause:
    dates = tuple(named[int(number)] for number in _DATE_MARKS.findall(text))
    return _Clause(content.token_set(_DATE_MARKS.sub(" ", text)), dates)


class _Facts:
    """The shown facts as they are compared: tokens, and on demand the days they speak of."""

    def __init__(self, shown: Sequence[Shown]) -> None:
        self._shown = shown
        self._spans: list[tuple[days.Span, ...]] | None = None
        self.tokens = [content.token_set(fact.text) for fact in shown]
        self.counts = Counter(token for tokens in self.tokens for token in tokens)

    def __len__(self) -> int:
        return len(self._shown)

    def having(self, token: str) -> list[float]:
        """1 for each fact that holds a token, else 0."""
        return [1.0 if token in tokens else 0.0 for tokens in self.tokens]

    def fitting(self, named: days.Named) -> list[float]:
        """How well each fact fits a date, 0 to 1; one that spells it out as the response does fits."""
        spelt = content.token_set(named.text)
        if self._spans is None:
            self._spans = [days.spoken(words.folded(fact.text), day) for fact, day in self._days()]
        fits = zip(self._days(), self._spans, self.tokens, strict=True)
        return [1.0 if spelt <= tokens else days.fit(named, spans, day) for (_, day), spans, tokens in fits]

    def _days(self) -> Iterator[tuple[Shown, date | None]]:
        for fact in self._shown:
            yield fact, fact.said_at.date() if fact.said_at is not None else None


class _Scale(NamedTuple):
    """How much a token tells, 0 to 1."""

    facts: _Facts
    facts_in_scope: int
    document_frequency: DocumentFrequency | None

    def rarity(self, token: str) -> float:
        """Among the facts of the scope."""
        seen = self.facts.counts[token]
        if self.document_frequency is None:
            df = seen
        elif callable(self.document_frequency):
            df = self.document_frequency(token)
        else:
            df = self.document_frequency.get(token, seen)
        return content.idf(df, self.facts_in_scope) / math.log1p(self.facts_in_scope)

    def telling(self, holders: float) -> float:
        """Among the shown facts, when `holders` of them have it."""
        return math.log1p(len(self.facts) / max(1.0, holders)) / math.log1p(len(self.facts))


@dataclass(frozen=True, slots=True)
class _Table:
    """The tokens and dates of a response against the facts.

    Attributes:
        weight: What each tells, shape (tokens,); a fifth of it if the question had it.
        is_new: Whether the question did not have it, shape (tokens,).
        share: Which facts have it, 0 to 1, shape (tokens, facts).
        clauses: For each distinct clause, the rows of its tokens; `sentences` likewise.
        topic: How much less of the question each fact covers than the best, -1 to 0, shape (facts,).
    """

    weight: Floats
    is_new: NDArray[np.bool_]
    share: Floats
    clauses: list[NDArray[np.intp]]
    sentences: list[NDArray[np.intp]]
    topic: Floats

    def coverage(self) -> Floats:
        """The best share of a clause's weight that each fact has; short clauses weigh as if they were longer."""
        best = np.zeros(self.share.shape[1])
        for rows in self.clauses:
            weight = self.weight[rows]
            np.maximum(best, weight @ self.share[rows] / max(weight.sum(), _LEAST_UNIT_WEIGHT), out=best)
        return best

    def lead(self) -> Floats:
        """What each fact has of a sentence's new words against the fact that has most, in its best sentence.

        A sentence that says little counts less: by the root of its share of the most that any sentence says, or of
        2.0 if that is less.
        """
        best = np.zeros(self.share.shape[1])
        news = [(self.weight[rows] * self.is_new[rows]) @ self.share[rows] for rows in self.sentences]
        most = min(_FULL_SENTENCE, max((float(new.max()) for new in news), default=0.0))
        for new in news:
            if top := float(new.max()):
                np.maximum(best, new / top * math.sqrt(min(1.0, top / most)), out=best)
        return best

    def alone(self) -> Floats:
        """The root of the weight of the new words that this fact only has."""
        mine = (self.share >= self.share.max(axis=1, keepdims=True, initial=0.0)) & (self.share > 0)
        is_single = (self.share > 0.5).sum(axis=1) == 1
        weight = self.weight * self.is_new * is_single
        root: Floats = np.sqrt(weight @ (self.share * mine))
        return root

    def has_news(self) -> NDArray[np.bool_]:
        """Whether each fact shares anything with the response that the question did not have."""
        shared: NDArray[np.bool_] = self.is_new @ self.share > 0
        return shared


class _Rows:
    """Collects the rows of a table, one for each token or date."""

    def __init__(self, facts: _Facts, scale: _Scale, asked: _Clause) -> None:
        self._facts, self._scale, self._asked = facts, scale, asked
        self._places: dict[str | days.Named, int] = {}
        self.weights: list[float] = []
        self.is_new: list[bool] = []
        self.shares: list[list[float]] = []

    def of(self, clause: _Clause) -> NDArray[np.intp]:
        """The rows of a clause's tokens and dates, in an order that does not depend on the process."""
        for token in sorted(clause.tokens):
            if token not in self._places:
                share, is_new = self._facts.having(token), token not in self._asked.tokens
                self._add(token, share, self._scale.rarity(token), is_new)
        for one in clause.dates:
            if one not in self._places:
                is_new = not any(one.holds(date_asked) for date_asked in self._asked.dates)
                self._add(one, self._facts.fitting(one), one.weight, is_new)
        items: list[str | days.Named] = [*clause.tokens, *clause.dates]
        return np.array(sorted({self._places[item] for item in items}), dtype=np.intp)

    def _add(self, item: str | days.Named, share: list[float], weight: float, is_new: bool) -> None:
        self._places[item] = len(self._places)
        told = weight * self._scale.telling(sum(share))
        self.weights.append(told if is_new else told * _QUESTION_DISCOUNT)
        self.is_new.append(is_new)
        self.shares.append(share)


def _table(read: Sequence[Sequence[_Clause]], question: str, facts: _Facts, scale: _Scale) -> _Table:
    asked = _asked(question)
    rows = _Rows(facts, scale, asked)
    clauses: dict[_Clause, NDArray[np.intp]] = {}
    sentences_of: dict[tuple[int, ...], NDArray[np.intp]] = {}
    for sentence in read:
        for clause in sentence:
            if clause not in clauses:
                clauses[clause] = rows.of(clause)
        together = np.unique(np.concatenate([clauses[clause] for clause in sentence]))
        sentences_of[tuple(together.tolist())] = together
    return _Table(
        weight=np.array(rows.weights),
        is_new=np.array(rows.is_new, dtype=bool),
        share=np.array(rows.shares).reshape(len(rows.shares), len(facts)),
        clauses=list(clauses.values()),
        sentences=list(sentences_of.values()),
        topic=_topic(asked, facts, scale),
    )


def _asked(question: str) -> _Clause:
    """A question as one clause."""
    folded = words.folded(question)
    named = days.named(folded)
    between = (text for text, one in days.cut(folded, named) if one is None)
    return _Clause(content.token_set(" ".join(between)), tuple(named))


def _topic(asked: _Clause, facts: _Facts, scale: _Scale) -> Floats:
    """How much of the question each fact covers, less than the fact that covers most of it: -1 to 0, shape (facts,)."""
    covered, total = np.zeros(len(facts)), float(len(asked.dates))
    for token in sorted(asked.tokens):
        rarity = scale.rarity(token)
        covered += rarity * np.array(facts.having(token))
        total += rarity
    for one in asked.dates:
        fits = facts.fitting(one)
        covered += scale.telling(sum(fits)) * np.array(fits)
    topic: Floats = (covered - covered.max()) / max(total, 1e-9)
    return topic


def _evidence(
    table: _Table, question: str, shown: Sequence[Shown], similarity: Mapping[str, float]
) -> list[dict[str, float]]:
    """The named log-odds of each fact; empty for one that shares nothing new with the response."""
    lead = table.lead()
    values = {
        "base": np.ones(len(shown)),
        "clause": table.coverage(),
        "lead": lead,
        "topic": lead * table.topic,
        "speaker": _speaker(question, shown),
        "alone": table.alone(),
        "meaning": _meaning(shown, similarity),
    }
    columns = {name: WEIGHTS[name] * value for name, value in values.items()}
    return [
        {name: float(column[row]) for name, column in columns.items()} if has_news else {}
        for row, has_news in enumerate(table.has_news())
    ]


def _speaker(question: str, shown: Sequence[Shown]) -> Floats:
    """-1 for a fact somebody else said than the speakers that the question names, else 0; shape (facts,)."""
    asked = frozenset(words.tokens(question))
    names = {fact.speaker: frozenset(words.tokens(fact.speaker or "")) & asked for fact in shown}
    is_asked = {speaker for speaker, named in names.items() if named}
    return np.array([-1.0 if fact.speaker and is_asked and fact.speaker not in is_asked else 0.0 for fact in shown])


def _meaning(shown: Sequence[Shown], similarity: Mapping[str, float]) -> Floats:
    """Standardised similarity to the response among the shown facts, about -2 to 3, shape (facts,)."""
    known = [similarity[fact.fact_id] for fact in shown if fact.fact_id in similarity]
    if len(known) < 2:
        return np.full(len(shown), _MEANING_UNKNOWN)
    mean, spread = float(np.mean(known)), float(np.std(known)) + _LEAST_SPREAD
    found = (similarity.get(fact.fact_id) for fact in shown)
    return np.array([_MEANING_UNKNOWN if cosine is None else (cosine - mean) / spread for cosine in found])


def _verdicts(
    shown: Sequence[Shown], table: _Table, evidence: Sequence[Mapping[str, float]], cited: frozenset[str]
) -> Iterator[Verdict]:
    coverage = table.coverage() if cited else np.zeros(len(shown))
    for row, (fact, terms) in enumerate(zip(shown, evidence, strict=True)):
        likely = _logistic(sum(terms.values())) if terms else _NO_NEW_WORD if table.clauses else 0.0
        band: Band = (
            "none" if not terms else "strict" if likely >= STRICT else "balanced" if likely >= BALANCED else "none"
        )
        if fact.marker is not None and fact.marker.lower() in cited:
            has_overlap = bool(coverage[row] >= _LEAST_CITED_OVERLAP)
            band = "cited" if has_overlap else "claimed"
            likely = max(likely, _CITED_PROBABILITY if has_overlap else _CLAIMED_WEIGHT)
        yield Verdict(fact.fact_id, band, likely, terms)


def _logistic(log_odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-log_odds))


def _markers(response: str) -> tuple[frozenset[str], str]:
    """The markers that a response cites, those of refusing sentences left out, and the response without any."""
    sentences = _SENTENCE_END.split(citations.before_stops(response))
    claims = "\n".join(sentence for sentence in sentences if not is_refusal(sentence))
    return citations.cited(claims), citations.spaced(response)
