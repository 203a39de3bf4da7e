"""Content: what a text says, as tokens with weights, for the examiner. English; pure functions; it never ranks recalls.

Attribution, supersession and consolidation compare texts by these tokens (docs/algorithms.md section 3). They are not
the stems of `measure.words`, which lexical search uses: numbers count here, chat filler does not, and relative dates
are resolved against the day a statement was made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from engram_core.measure import words
from engram_core.measure.dates import MONTHS

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d+(?:[.,:/]\d+)*|[%$]")
_LONGEST_TOKEN: Final = 64
_NUMBER_WORDS: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
_NUMBERS: Final = {name: str(number) for number, name in enumerate(_NUMBER_WORDS.split())} | {
    "once": "1",
    "twice": "2",
    "first": "1",
    "second": "2",
    "third": "3",
}
_STOP_TEXT: Final = (
    # articles, conjunctions, prepositions
    "a an the and but or if than as because while until of at by for with about between into through during before "
    "after above below to from up down in out on off over under again further then so "
    # be, do, have
    "am is are was were be been being do does did doing done have has had having "
    # pronouns and possessives
    "i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers "
    "herself it its itself they them their theirs themselves "
    # pointing and question words
    "this that these those here there what when where which who whom whose why how "
    # negations and modals; "may" stays, it is also a month
    "not no nor can could might must shall should will would ca wo "
    # quantity and degree
    "very just more most some any all each much many only same also too few other both own such "
    # debris of contractions
    "s t d ll re ve m st nd rd th isn wasn aren weren don doesn didn won wouldn couldn shouldn hasn haven hadn ain o y "
    # chat filler
    "oh yeah yes hey hi hello wow thanks thank really great good nice cool awesome glad sure well "
    # weak verbs and nouns
    "like likes get gets got go goes going went know knows think thinks see sees let lets make makes made "
    "sound sounds lot lots thing things"
)
_STOP_WORDS: Final = frozenset(_STOP_TEXT.split())
_SUFFIXES: Final = (
    ("sses", "ss", 2),
    ("ies", "y", 2),
    ("ied", "y", 2),
    ("ing", "", 3),
    ("edly", "", 3),
    ("ed", "", 3),
    ("ly", "", 3),
    ("es", "", 3),
    ("s", "", 3),
)
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_COUNTS: Final = {name: int(number) for name, number in _NUMBERS.items()} | {
    **dict.fromkeys(("a", "an"), 1),
    **dict.fromkeys(("a couple of", "a couple", "couple of", "couple"), 2),
    **dict.fromkeys(("a few", "few"), 3),
}
_RELATIVE: Final = re.compile(
    r"\b(?:(?P<today>today|tonight|this (?:morning|afternoon|evening))|(?P<yesterday>yesterday|last night)|"
    r"(?P<tomorrow>tomorrow)|(?P<which>last|past|this|next) "
    r"(?P<what>weekend|week|month|year|" + "|".join(_WEEKDAYS) + r")|"
    r"(?P<count>(?<![.,])\d{1,3}|" + "|".join(sorted(_COUNTS, key=len, reverse=True)) + r") "
    r"(?P<unit>day|week|month|year)s? ago)\b"
)
_DAYS_OF: Final = {"day": 1, "week": 7, "weekend": 7, "month": 30, "year": 365}


def stem(word: str) -> str:
    """The stem of one lower-case word: a small suffix stripper, the same at write and at judgement.

    Words of at most three characters and numbers stay as they are.
    """
    if len(word) <= 3 or word[0].isdigit():
        return word
    stripped = _without_suffix(word)
    return stripped[:-1] if len(stripped) > 4 and stripped.endswith("e") else stripped


def _without_suffix(word: str) -> str:
    for suffix, replacement, least in _SUFFIXES:
        if not word.endswith(suffix) or (suffix == "s" and word.endswith("ss")):
            continue
        rest = word[: -len(suffix)]
        if len(rest) < least:
            continue
        if suffix in ("ing", "ed") and rest[-1] == rest[-2] and rest[-1] not in "aeiouls":
            rest = rest[:-1]
        return rest + replacement
    return word


@lru_cache(maxsize=65_536)
def _token(raw: str) -> str:
    """The content token of one raw lower-case word; empty for a stop word."""
    if raw[0].isdigit():
        return raw.replace(",", "")
    # "don't" leaves "do", "Anna's" leaves "anna", "I'll" leaves "i"; "O'Brien" stays whole
    head, _, tail = raw.removesuffix("n't").partition("'")
    word = head + tail if len(head) == 1 and len(tail) > 2 else head
    if word in _NUMBERS:
        return _NUMBERS[word]
    return "" if word in _STOP_WORDS else stem(word)


def _raw_tokens(text: str) -> Iterator[tuple[str, str]]:
    for raw in _WORD.findall(words.folded(text)):
        token = _token(raw[:_LONGEST_TOKEN])
        if token:
            yield raw, token


def tokens(text: str) -> list[str]:
    """The content tokens of `text` in order, repeats kept: stems, numbers as digits, `%` and `$`, no stop words."""
    return [token for _, token in _raw_tokens(text)]


def token_set(text: str, said_at: datetime | None = None) -> frozenset[str]:
    """The distinct content tokens of `text`, with its relative dates resolved against `said_at` if that is known."""
    found = frozenset(tokens(text))
    return found | date_tokens(text, said_at) if said_at is not None else found


def idf(df: float, facts: int) -> float:
    """Inverse document frequency, `ln(1 + (N - df + .5)/(df + .5))`; `ln(1 + N)` for a token no fact has.

    Args:
        df: In how many facts the token occurs; values above `facts` are read as `facts`.
        facts: N, the number of facts in the scope, at least 0.

    Returns:
        Natural-log units, 0 to ln(1 + N).
    """
    if df <= 0:
        return math.log1p(facts)
    return math.log1p((max(facts - df, 0) + 0.5) / (df + 0.5))


def lexical_stems(texts: Iterable[str]) -> dict[str, str]:
    """For each content token of `texts` the search stem (`measure.words`) of its first surface form.

    A ledger keeps document frequencies by search stem, not by content token; this is the way from one to the other.
    Tokens without a search stem (`%`, stop words of the search) are left out.
    """
    stems: dict[str, str] = {}
    for text in texts:
        for raw, token in _raw_tokens(text):
            if token not in stems:
                found = words.stems(raw)
                if found:
                    stems[token] = found[0]
    return stems


def date_tokens(text: str, said_at: datetime) -> frozenset[str]:
    """Tokens of the dates that `text` names relative to the day it was said.

    Days (today, last night, last Friday, "two days ago") give year, month and day, and the weekday if it is named;
    weeks and months give year and month (and "week" for a named week); years give the year. A month is 30 days, a
    year 365. "Recently" and "the other day" are not resolved.

    Args:
        text: The statement.
        said_at: When it was made.

    Returns:
        Content tokens, e.g. {"2023", "may", "7"}; empty if nothing is relative or the date is out of range.
    """
    found: set[str] = set()
    for match in _RELATIVE.finditer(words.folded(text)):
        try:
            found |= _resolved(match, said_at)
        except OverflowError:
            continue
    return frozenset(found)


def _resolved(match: re.Match[str], said_at: datetime) -> set[str]:
    if match["today"]:
        return _day_tokens(said_at)
    if match["yesterday"]:
        return _day_tokens(said_at - timedelta(days=1))
    if match["tomorrow"]:
        return _day_tokens(said_at + timedelta(days=1))
    if match["unit"]:
        return _ago(match["count"], match["unit"], said_at)
    return _named(match["which"], match["what"], said_at)


def _ago(count: str, unit: str, said_at: datetime) -> set[str]:
    number = _COUNTS[count] if count in _COUNTS else int(count)
    moment = said_at - timedelta(days=number * _DAYS_OF[unit])
    return _day_tokens(moment) if unit == "day" else _coarse_tokens(moment, unit)


def _named(which: str, what: str, said_at: datetime) -> set[str]:
    if what in _WEEKDAYS:
        return _weekday(which, what, said_at)
    step = {"last": -1, "past": -1, "this": 0, "next": 1}[which]
    tokens_found = _coarse_tokens(said_at + timedelta(days=step * _DAYS_OF[what]), what)
    return tokens_found | {"week"} if what == "week" else tokens_found


def _weekday(which: str, name: str, said_at: datetime) -> set[str]:
    """The last one before the day, the next one after it, or the coming one, the day itself included, for "this"."""
    ahead = (_WEEKDAYS.index(name) - said_at.weekday()) % 7
    days = ahead - 7 if which in ("last", "past") else ahead if which == "this" else ahead or 7
    return _day_tokens(said_at + timedelta(days=days)) | {stem(name)}


def _day_tokens(moment: datetime) -> set[str]:
    return {str(moment.year), stem(MONTHS[moment.month - 1]), str(moment.day)}


def _coarse_tokens(moment: datetime, unit: str) -> set[str]:
    return {str(moment.year)} if unit == "year" else {str(moment.year), stem(MONTHS[moment.month - 1])}
