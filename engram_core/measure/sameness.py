"""Duplicates: a key that two statements share only if they say the same. It compares words; it never guesses.

Similar is not the same: a changed number, name, date or negation is another fact (docs/algorithms.md section 2), so
whatever could carry meaning stays in the key, and only wording that cannot is left out.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from typing import Final

from engram_core.domain.message import aware
from engram_core.measure import content, words
from engram_core.measure.dates import RELATIVE_TIME


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DASH = re.compile(r"(?<!\d)[—\u2013―]|[—\u2013―](?!\d)|…|\.{3,}")
_LEADING = re.compile(r"^[\"'“\u2018«(\[{¿¡]+")
_QUOTES: Final = frozenset("\"'”")
_TRAILING: Final = frozenset(".,;:!?)]}»") | _QUOTES
_LONE_MARKS: Final = frozenset({"-", "--", "*", "•"})
# Weekdays and spans ahead depend on the day they are said as well; "every Friday" and "Fridays" do not.
_MORE_RELATIVE = re.compile(
    r"(?<!every )\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b|"
    r"\bin (?:\w+|a few) (?:hours?|days?|weeks?|months?|years?)\b|"
    r"\b(?:last|next) \w+|\bthis (?:coming|spring|summer|fall|autumn|winter)\b|\bago\b",
    re.IGNORECASE,
)

_WHOLE: Final = {
    "can't": ("can", "not"),
    "cannot": ("can", "not"),
    "won't": ("will", "not"),
    "shan't": ("shall", "not"),
    "let's": ("let", "us"),
    "gonna": ("going", "to"),
    "wanna": ("want", "to"),
}
_NOT = re.compile(r"(is|are|was|were|do|does|did|has|have|had|would|could|should|must|need|might)n't")
_TAIL = re.compile(r"(\w+)'(m|re|ve|ll)")
_TAILS: Final = {"m": "am", "re": "are", "ve": "have", "ll": "will"}
_IS = re.compile(r"(it|that|he|she|what|there|here|who|where|how)'s")
# "'s" is "is" only before these; before a participle it may be "has", and "'d" is "had" or "would": both stay.
_AFTER_IS: Final = _words(
    "a an the my your his her our their not in on at so very too really just going from about for to with"
)

_FILLER: Final = _words("oh ohh ooh um umm uh uhh er erm ah ahh hm hmm hey well so anyway btw")
# "so", "er" and "hey" are filler before these or before punctuation; "so many", "ER doctors" and "Hey Jude" are not.
_AFTER_FILLER: Final = _words(
    "i we he she it they you my our the a an i'm i've i'll i'd we're we've it's he's she's they're"
)

_ARTICLES: Final = frozenset({"a", "an", "the"})
# "Vitamin A", "plan A is ready", "an A in maths": a letter that names something is not an article.
_NAMES_A_LETTER: Final = _words(
    "vitamin hepatitis influenza plan type grade group section team class option part exhibit appendix series gate "
    "room block level tier line point version user size blood train hall terminal side variant case company client "
    "node server column row table figure problem question answer step choice model product set unit zone division "
    "league an the a"
)
_NEVER_AFTER_ARTICLE: Final = _words(
    "is are was were be been has have had do does did will would can could should may might must in on at of by for "
    "with about from to up and or nor but if than as because while not"
)


@lru_cache(maxsize=4096)  # a statement's key is asked for when it is planned and again when it is written
def key(text: str, speaker: str | None, said_at: datetime) -> str:
    """A key that equal statements share.

    Case, outer punctuation, articles, contractions, chat filler at the start and whitespace do not matter. The order
    of words, prepositions, negations, numbers, names, dates and question marks do, and so does the speaker. A text
    with a relative time ("yesterday") is tied to the day it was said.

    Args:
        text: The statement.
        speaker: Who said it, or None.
        said_at: When it was said; a naive datetime is read as UTC.

    Returns:
        32 hexadecimal digits, or "" for a text without words: it has no twin. A digest, so that the key of an
        erased fact does not spell it out and an index on keys stays small.
    """
    form = normal_form(text)
    if not form:
        return ""
    spaced = " ".join(text.split())
    is_relative = RELATIVE_TIME.search(spaced) or _MORE_RELATIVE.search(spaced)
    day = aware(said_at).date().isoformat() if is_relative else ""
    voice = (speaker or "").strip().lower()
    whole = "\x1f".join((voice, day, form)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(whole, digest_size=16).hexdigest()


def normal_form(text: str) -> str:
    """The words that decide whether two statements are the same, joined by single spaces."""
    # In code, case, quotes and indentation carry meaning.
    if "`" in text:
        return text.strip()
    flat = unicodedata.normalize("NFC", text).replace("\u2019", "'").replace("\u02bc", "'")
    raw = _without_filler(_DASH.sub(" ", flat).split())
    words = [word for token in raw for word in _cleaned(token)]
    return " ".join(_without_articles(_without_marks(_expanded(words))))


def _cleaned(token: str) -> list[str]:
    """`token` without its outer punctuation, then "?" if it ended in one."""
    bare = _LEADING.sub("", token if "://" in token else token.lower())
    end = _end_of_word(bare)
    word, tail = bare[:end], bare[end:]
    # A single letter before punctuation is a label ("A: yes"), never an article.
    words = [word + "." if tail and word in _ARTICLES else word] if word else []
    return [*words, "?"] if "?" in tail else words


def _end_of_word(token: str) -> int:
    """Where the punctuation at the end of `token` begins. A quote after a digit is feet or inches and stays."""
    end = len(token)
    while end and token[end - 1] in _TRAILING:
        if token[end - 1] in _QUOTES and end > 1 and token[end - 2].isdigit():
            break
        end -= 1
    return end


def _without_filler(tokens: list[str]) -> list[str]:
    """Drop the fillers at the start that are set off by punctuation or lead into a clause; one token always stays."""
    spoken = 0
    for place, (token, following) in enumerate(pairwise(tokens), 1):
        if token.lower().rstrip(",.!-") not in _FILLER:
            break
        if token[-1] in ",.!-" or following[: _end_of_word(following)].lower() in _AFTER_FILLER:
            spoken = place
    return tokens[spoken:]


def _expanded(words: list[str]) -> list[str]:
    spelt: list[str] = []
    for word, after in zip(words, [*words[1:], ""], strict=False):
        if whole := _WHOLE.get(word):
            spelt += whole
        elif found := _NOT.fullmatch(word):
            spelt += [found[1], "not"]
        elif found := _TAIL.fullmatch(word):
            spelt += [found[1], _TAILS[found[2]]]
        elif (found := _IS.fullmatch(word)) and (after in _AFTER_IS or after.endswith("ing")):
            spelt += [found[1], "is"]
        else:
            spelt.append(word)
    return spelt


def _without_marks(words: list[str]) -> list[str]:
    """Drop dashes and bullets that stand alone, except between numbers ("3 - 2")."""
    ends = ["", *words, ""]
    return [
        word
        for before, word, after in zip(ends, words, ends[2:], strict=False)
        if word not in _LONE_MARKS or (_has_digit(before) and _has_digit(after))
    ]


def _has_digit(word: str) -> bool:
    return any(char.isdigit() for char in word)


def _without_articles(words: list[str]) -> list[str]:
    ends = ["", *words, ""]
    triples = zip(ends, words, ends[2:], strict=False)
    return [word for before, word, after in triples if not _is_article(before, word, after)]


def _is_article(before: str, word: str, after: str) -> bool:
    if word not in _ARTICLES or not after or after == "?":
        return False
    return word != "a" or (before not in _NAMES_A_LETTER and after not in _NEVER_AFTER_ARTICLE and after[0].isalpha())


# --- the guard: what keeps two similar statements from being the same ---

_NEGATION = re.compile(r"\b(?:no|not|never|none|nobody|nothing|without|cannot|neither|nor|hardly)\b|n't\b")
_OPPOSITES: Final = tuple(
    tuple(_words(side) for side in pair.split("/"))
    for pair in (
        "like likes liked love loves loved enjoy enjoys prefer prefers/hate hates hated dislike dislikes avoid avoids",
        "accept accepts accepted approve approved/reject rejects rejected refuse refused declined",
        "start starts started begin begins began/stop stops stopped end ends ended quit quits finish finished",
        "open opens opened/close closes closed shut", "buy buys bought/sell sells sold", "win wins won/lose loses lost",
        "increase increases increased rise rises rose raised/decrease decreases decreased fall falls fell dropped",
        "allow allows allowed/forbid forbids forbade forbidden prohibited", "enable enables enabled/disable disabled",
        "always/rarely seldom sometimes", "before/after", "more/less fewer", "best/worst", "better/worse", "can/can't",
        "join joins joined/leave leaves left", "arrive arrives arrived/depart departs departed leave leaves left",
        "married/divorced single", "alive/dead", "healthy/sick ill", "pass passes passed/fail fails failed",
        "early/late", "first/last", "old/new young", "left/right", "up/down", "in/out", "on/off", "true/false",
        "happy glad/sad unhappy", "expensive/cheap", "large big/small little", "high/low", "hot warm/cold cool",
    )
)  # fmt: skip
_CAPITALISED = re.compile(r"(?<![\w'])[A-Z\u00c0-\u00de][\w'-]*")
_SENTENCE_START = re.compile(r"(?:^|[.!?:;\n]\s*|[\"\u201c(]\s*)$")


def contradiction(one: str, other: str) -> str | None:
    """Why two similar statements are not the same: numbers, negation, polarity, names or their order; or None.

    It finds differences that similarity does not see. Words that merely differ are similarity's to judge.
    """
    if numbers(one) != numbers(other):
        return "numbers"
    first, second = one.lower().replace("\u2019", "'"), other.lower().replace("\u2019", "'")
    if (_NEGATION.search(first) is None) != (_NEGATION.search(second) is None):
        return "negation"
    if _are_opposed(set(re.findall(r"[\w']+", first)), set(re.findall(r"[\w']+", second))):
        return "polarity"
    mine, theirs = _names(one), _names(other)
    if mine.keys() - _folded_words(other) and theirs.keys() - _folded_words(one):
        return "names"
    # Who does what to whom: a mean of word vectors cannot see it.
    return "order" if [name for name in mine if name in theirs] != [name for name in theirs if name in mine] else None


def numbers(text: str) -> frozenset[str]:
    """The numbers of a text as digits; number words count."""
    return frozenset(token for token in content.tokens(text) if token[0].isdigit())


def names(text: str) -> frozenset[str]:
    """Capitalised words, lower-case; at the start of a sentence only those that can hardly be anything else."""
    return frozenset(_names(text))


def _names(text: str) -> dict[str, None]:
    """The same in order of first mention."""
    found: dict[str, None] = {}
    for match in _CAPITALISED.finditer(text):
        word = match[0].lower().replace("\u2019", "'").partition("'")[0]
        is_first = _SENTENCE_START.search(text[: match.start()]) is not None
        if content.tokens(word) and not (is_first and word.endswith(("ed", "ing", "ly"))):
            found[word] = None
    return found


def _folded_words(text: str) -> frozenset[str]:
    return frozenset(words.tokens(text))


def _are_opposed(first: set[str], second: set[str]) -> bool:
    return any(
        (first & a and second & b and not (first & b or second & a))
        or (first & b and second & a and not (first & a or second & b))
        for a, b in _OPPOSITES
    )
