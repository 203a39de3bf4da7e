"""Updates: how likely a newer statement replaces an older one in free text. Pure; it ranks pairs and hides nothing.

Numbers, names, dates and cues of both texts are compared by a small logistic ranker (docs/algorithms.md section 5,
tier P). What it says is a link at most: never a reason to archive.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from engram_core.measure import content
from engram_core.measure.dates import MONTHS

Rarity = Mapping[str, float]
"""Weight of each content token."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TOKEN: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|(?<![^\W_])\d+(?:[.,:/]\d+)*|[%$€£.!?\n]")
_NUMBER_WORDS: Final = dict(
    zip(
        "two four five six seven eight nine ten eleven twelve twice".split(),
        "2 4 5 6 7 8 9 10 11 12 2".split(),
        strict=True,
    )
) | {"three": "3", "twenty": "20", "thirty": "30", "forty": "40", "fifty": "50"}
_NEGATION: Final = re.compile(
    r"\b(?:not|no|never|none|nothing|without|cannot|\w+n't|no longer|stopped|quit|avoid|refuse|lack)\b", re.IGNORECASE
)
_PLUS: Final = _words(
    "like love enjoy prefer always enable allow start open married employed active accept approved won"
)
_MINUS: Final = _words("dislike hate never disable forbid stop closed single unemployed inactive reject declined lost")
_STRONG: Final = re.compile(
    r"\bno longer\b|\bany ?more\b|\b(?:switch|chang|mov|updat)\w*\b[^.!?]{0,60}\b(?:from|to)\b|"
    r"\b(?:increas|decreas|reduc|rais|lower|extend|shift|reschedul|postpon|replac|migrat|upgrad|adjust|revis|grow|grew|"
    r"grown|rise|rose|risen|drop|expand)\w*\b|\binstead of\b|\brather than\b|\bused to\b|\bup from\b|\bdown from\b|"
    r"\bhas (?:recently )?(?:been|improved|grown|increased|expanded)\b",
    re.IGNORECASE,
)
_WEAK: Final = re.compile(
    r"\b(?:now|currently|recently|lately|as of|new|actually|corrected|finally|formerly|previously|initially|originally|"
    r"further|additional|cancel\w*|quit|stop\w*|gave up|(?:has|have|'ve) been)\b",
    re.IGNORECASE,
)
_FROM: Final = re.compile(
    r"\b(?:from|instead of|rather than|no longer|used to|replaced|replacing|compared to|previously|"
    r"originally|initially)"
    r"((?:\s+[^\s.!?;]+){1,6})",
    re.IGNORECASE,
)
_FROM_TOKENS: Final = 4
_EVENT: Final = re.compile(
    r"(?:(?:yesterday|today|last \w+|so|and|well|yes|yeah|oh),? )*(?:I|we|he|she|they|[A-Z][\w'-]*)(?:'d| had)? "
    r"(?:(?:just|also|finally|only|even|then|really|recently|never) )?"
    r"(?!decided|agreed|planned|wanted|needed|managed|signed|used)(?:[a-z]{3,}ed|went|had|got|took|met|saw|came|made|ran|won|lost|bought|began|left|flew|held|gave|did|was|were|ate|"
    r"read|wrote|sold|built|broke|caught|chose|drank|drove|fell|felt|found|heard|kept|paid|rode|said|sent|slept|spent|"
    r"spoke|stood|swam|taught|told|thought|wore|brought)\b"
)
_COUNTED: Final = re.compile(rf"(?<![^\W_])\d|\b(?:{'|'.join(_NUMBER_WORDS)})\b", re.IGNORECASE)
_QUOTE: Final = re.compile(r"(?<!\w)['\"“‘`]([^'\"“”‘’`\n]{1,20})['\"”’`](?!\w)")
_NAME: Final = re.compile(r"(?<![.!?\n]\s)(?<!^)\b[A-Z][\w'-]*")
_FIRST: Final = re.compile(r"\b(?:I|my|we|our|user|me)\b|\bI'")
_MONTHS: Final = frozenset(content.stem(month) for month in MONTHS) - {"may"}
_LABELS: Final = frozenset(
    map(
        content.stem,
        "row number no item fact note chapter week day step part section page room line id test message session case "
        "entry question task issue ticket level episode season volume figure table phase sprint batch lesson".split(),
    )
)
_NEAR: Final = 6
_FIRST_YEAR, _LAST_YEAR, _YEAR_DIGITS = 1900, 2100, 4


@dataclass(frozen=True, slots=True)
class Number:
    """A number, what it counts, and the words round it."""

    value: str
    unit: str
    context: frozenset[str]


@dataclass(frozen=True, slots=True)
class Analysis:
    """What the comparison looks at in one text.

    Attributes:
        tokens: Distinct content tokens; `words` are those that are no numbers.
        names: Capitalised words inside sentences.
        cues: Cues of an update, strong or weak; `strong` whether one of them is strong.
        labels: Numbers that name a thing ("row 7", "chapter 3") instead of counting it.
        left: Tokens of what the text says it leaves ("from X", "instead of X").
    """

    tokens: frozenset[str]
    words: frozenset[str]
    numbers: tuple[Number, ...]
    dates: frozenset[tuple[str, str]]
    labels: frozenset[tuple[str, str]]
    names: frozenset[str]
    subject: str
    is_negated: bool
    polarity: int
    cues: int
    strong: bool
    quotes: frozenset[str]
    left: frozenset[str]


def may_update(text: str) -> bool:
    """Whether a text can replace anything: it has a cue, or a value that can have changed. Cheap: asked of every text.

    What happened once ("I bought two tickets") does not change by what happens next, unless a cue says so.
    """
    if _WEAK.search(text) or _STRONG.search(text):
        return True
    return _COUNTED.search(text) is not None and _EVENT.match(text) is None


@lru_cache(maxsize=8192)
def analysed(text: str) -> Analysis:
    """Take a text apart; see `Analysis`."""
    tokens = frozenset(content.tokens(text))
    numbers, dates, labels = _numbers(text)
    strong = len(_STRONG.findall(text))
    lowered = [content.stem(word) for word in re.findall(r"[a-z]+", text.lower())]
    names = frozenset(found.lower() for found in _NAME.findall(text)) - {"i", "i'm", "i've", "i'd", "i'll"}
    return Analysis(
        tokens=tokens,
        words=frozenset(token for token in tokens if not token[0].isdigit()),
        numbers=numbers,
        dates=dates,
        labels=labels,
        names=frozenset(content.stem(name.removesuffix("'s")) for name in names if name not in MONTHS),
        subject=_subject(text),
        is_negated=_NEGATION.search(text) is not None,
        polarity=sum((word in _STEMMED_PLUS) - (word in _STEMMED_MINUS) for word in lowered),
        cues=strong + len(_WEAK.findall(text)),
        strong=strong > 0,
        quotes=frozenset(found.lower() for found in _QUOTE.findall(text)),
        left=frozenset(_left(text)),
    )


_STEMMED_PLUS: Final = frozenset(map(content.stem, _PLUS))
_STEMMED_MINUS: Final = frozenset(map(content.stem, _MINUS))


def _left(text: str) -> Iterator[str]:
    for found in _FROM.findall(text):
        yield from content.tokens(found)[:_FROM_TOKENS]


def _subject(text: str) -> str:
    if _FIRST.search(text) or text[:1].islower():
        return "user"
    found = re.search(r"\b[A-Z][\w'-]*", text)
    return found[0].lower() if found else ""


def _numbers(text: str) -> tuple[tuple[Number, ...], frozenset[tuple[str, str]], frozenset[tuple[str, str]]]:
    raw = _TOKEN.findall(text.lower().replace("\u2019", "'"))
    stems = [content.tokens(word)[:1] for word in raw]
    values = [_value(word) for word in raw]
    numbers: dict[Number, None] = {}
    dates: set[tuple[str, str]] = set()
    labels: set[tuple[str, str]] = set()
    for place, value in enumerate(values):
        if value is None:
            continue
        before, after = _at(stems, place - 1), _at(stems, place + 1)
        if before in _MONTHS or before == "may" or after in _MONTHS:
            dates.add((before if before in _MONTHS or before == "may" else after, value))
            continue
        if (
            len(value) == _YEAR_DIGITS
            and value.isascii()
            and value.isdigit()
            and _FIRST_YEAR <= int(value) <= _LAST_YEAR
        ):
            dates.add(("year", value))
            continue
        if before in _LABELS:
            labels.add((before, value))
            continue
        near = range(max(0, place - _NEAR), min(len(raw), place + _NEAR + 1))
        context = frozenset(stems[at][0] for at in near if stems[at] and values[at] is None)
        numbers[Number(value, _unit(raw, stems, place), context)] = None
    return tuple(numbers), frozenset(dates), frozenset(labels)


def _value(word: str) -> str | None:
    if word[0].isdigit():
        return word.replace(",", "")
    return _NUMBER_WORDS.get(word)


def _at(stems: Sequence[list[str]], place: int) -> str:
    return stems[place][0] if 0 <= place < len(stems) and stems[place] else ""


def _unit(raw: Sequence[str], stems: Sequence[list[str]], place: int) -> str:
    if place and raw[place - 1] in "$€£":
        return "$"
    if raw[place + 1 : place + 2] == ["%"]:
        return "%"
    return _at(stems, place + 1) or _at(stems, place + 2)


def are_two_things(old: Analysis, new: Analysis) -> bool:
    """Whether the texts name different members of a series: what is said of row 7 says nothing of row 8."""
    return bool(old.labels - new.labels) and bool(new.labels - old.labels)


# --- the ranker ------------------------------------------------------------------------------------------------------

FEATURES: Final = (
    "cos", "cov_o", "cov_n", "jac", "numchg", "numsame", "unitctx", "datechg", "datesame", "capdiff_o", "capdiff_n",
    "capshare", "polflip", "negflip", "cue", "strong", "fromhit", "subjeq", "dlen", "resid_o", "resid_n", "quotediff",
    "nums_o", "nums_n", "cue_x_cov", "num_x_cov", "strong_x_num", "dup",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ranker:
    """A logistic ranker: a coefficient for each feature, in their order, a bias, and the probability it links from."""

    name: str
    coefficients: tuple[float, ...]
    bias: float
    threshold: float

    def probability(self, values: Sequence[float]) -> float:
        """`sigmoid(bias + sum of coefficient times value)`, 0 to 1."""
        z = self.bias + sum(weight * value for weight, value in zip(self.coefficients, values, strict=True))
        return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, z))))


def features(old: Analysis, new: Analysis, cosine: float, idf: Rarity) -> tuple[float, ...]:
    """The values of `FEATURES` for a pair.

    Args:
        old, new: The earlier and the later text.
        cosine: Of their vectors.
        idf: Weight of a content token.
    """
    shared = old.words & new.words
    weight_shared = _mass(shared, idf)
    cov_o = weight_shared / max(_mass(old.words, idf), 1e-9)
    cov_n = weight_shared / max(_mass(new.words, idf), 1e-9)
    jac = weight_shared / max(_mass(old.words | new.words, idf), 1e-9)
    changed, same, context = _changed_numbers(old, new)
    cue = min(new.cues, 3) / 3
    strong, numchg = float(new.strong), float(changed)
    longer = max(len(old.tokens), len(new.tokens), 1)
    return (
        cosine,
        cov_o,
        cov_n,
        jac,
        numchg,
        min(same, 3) / 3,
        min(context, 4) / 4,
        float(bool(old.dates - new.dates) and bool(new.dates - old.dates)),
        min(len(old.dates & new.dates), 2) / 2,
        min(len(old.names - new.tokens), 4) / 4,
        min(len(new.names - old.tokens), 4) / 4,
        min(len(old.names & new.names), 4) / 4,
        float(old.polarity * new.polarity < 0),
        float(old.is_negated is not new.is_negated),
        cue,
        strong,
        len(new.left & old.tokens) / len(new.left) if new.left else 0.0,
        float(old.subject == new.subject),
        abs(len(old.tokens) - len(new.tokens)) / longer,
        min(len(old.tokens - new.tokens), 15) / 15,
        min(len(new.tokens - old.tokens), 15) / 15,
        float(bool(old.quotes) and bool(new.quotes) and old.quotes != new.quotes),
        min(len({number.value for number in old.numbers}), 4) / 4,
        min(len({number.value for number in new.numbers}), 4) / 4,
        cue * cov_o,
        numchg * min(context, 4) / 4 * cov_o,
        strong * numchg * min(context, 4) / 4,
        float(cov_o > 0.9 and cov_n > 0.9),  # noqa: PLR2004 - the table's own
    )


def overlap(old: Analysis, new: Analysis, idf: Rarity) -> float:
    """IDF share of the new text's words that the old one has, 0 to 1: what chooses whom the ranker sees."""
    return _mass(old.words & new.words, idf) / max(_mass(new.words, idf), 1e-9)


def _mass(tokens: Iterable[str], idf: Rarity) -> float:
    return sum([idf[token] for token in tokens])


def _changed_numbers(old: Analysis, new: Analysis) -> tuple[bool, int, int]:
    """Whether a number changed, how many stayed, and the most context words a changed one shares with an old one."""
    had = {number.value for number in old.numbers}
    same = sum(a.value == b.value and a.unit == b.unit for a in old.numbers for b in new.numbers)
    shared = [
        len((a.context & b.context) - {b.unit})
        for b in new.numbers
        if b.value not in had
        for a in old.numbers
        if a.unit == b.unit
    ]
    return bool(shared), same, max(shared, default=0)


_OWN_WEIGHTS: Final[Mapping[str, float]] = {
    "cov_o": 1.562, "cov_n": 4.555, "numchg": 5.022, "unitctx": 1.005, "datechg": 4.348, "capdiff_o": 2.445,
    "capdiff_n": 3.934, "strong": 0.988, "fromhit": 1.273, "numsame": -2.870, "nums_o": -3.293,
}  # fmt: skip
OWN: Final = Ranker("own", tuple(_OWN_WEIGHTS.get(name, 0.0) for name in FEATURES), -5.543, 0.1058)
"""Fitted by `benchmarks.fit_updates` on statements of our own making. No cosine, so it serves every embedder."""
# Published coefficients, each for one embedder's cosines; why they stay: docs/adr/0013-two-rankers-of-updates.md.
_STATIC: Final = Ranker(
    "published",
    (
        7.955, 6.610, -3.346, 0.641, 1.154, 0.115, 2.926, -0.748, 2.478, 2.137, -3.859, -1.201, -1.181, -0.401, 2.070,
        1.724, -2.967, -2.007, -0.338, 1.579, 3.779, -2.206, 0.341, -3.300, 5.582, -2.831, -1.749, -6.550,
    ),
    -15.807,
    0.0201,
)  # fmt: skip
_CONTEXTUAL: Final = Ranker(
    "published",
    (
        10.781, 6.218, -3.557, 0.610, 0.951, -0.198, 2.492, -1.078, 2.117, 2.162, -3.464, -0.675, -0.977, -0.240, 2.078,
        1.764, -2.773, -1.957, -0.140, 1.558, 4.295, -2.007, 0.600, -3.335, 5.557, -2.022, -1.794, -6.757,
    ),
    -18.370,
    0.0206,
)  # fmt: skip


def rankers_of(embedder: str) -> tuple[Ranker, ...]:
    """The rankers for an embedder's name; a pair is linked if one of them says so.

    The published ones read a cosine, so each serves only the embedder it was fitted on (WordLlama, MiniLM). An unknown
    embedder gets our own alone.
    """
    name = embedder.lower()
    if "minilm" in name:
        return (OWN, _CONTEXTUAL)
    return (OWN, _STATIC) if "wordllama" in name else (OWN,)


def judged(rankers: Sequence[Ranker], values: Sequence[float]) -> dict[str, float]:
    """The probability that each ranker gives a pair, by the ranker's name."""
    return {ranker.name: ranker.probability(values) for ranker in rankers}


def strength(rankers: Sequence[Ranker], found: Mapping[str, float]) -> float:
    """How far the surest ranker is above its threshold: linked from 1 on."""
    return max(found[ranker.name] / ranker.threshold for ranker in rankers)
