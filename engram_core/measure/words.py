"""Words: how text becomes the stems that lexical search compares. English; pure functions.

Tokens, stop words and stemmer follow one recipe, chosen on development conversations (docs/recall.md).
"""

from __future__ import annotations

import re
import threading
import unicodedata
from functools import lru_cache

import snowballstemmer

CONTEXT_WORDS = 25
LONG_BODY_WORDS = 150

_TOKEN = re.compile(r"[^\W_]+(?:'[a-z]+)?")
_UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+)")
_STOP_WORDS = frozenset(
    # articles, conjunctions, prepositions
    "a an the and but or nor if than as because while until of at by for with about between into through during before "
    "below above after to from up down in out on off over under again further then once "
    # pronouns
    "i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself "
    "it its itself they them their theirs themselves "
    # question and pointing words
    "what when where which who whom why how this that these those here there "
    # be, have, do, modals
    "am is are was were be been being have has having had do does did doing can could might should will would "
    # small words
    "no not only own same so such too very just more most few other some any all each both also now "
    # stumps of contractions
    "aren couldn didn doesn don hadn hasn haven isn shan shouldn wasn weren won wouldn d ll m o re s t ve y".split()
)
_WORDS_TOO = frozenset(
    "art bill carol chance chase christian dale dawn dean don drew faith frank gene grace grant guy hope hunter iris "
    "ivy jack jean joy june lance lily mark mason max may miles nick olive pat penny pierce ray rich rob rose ruby sky "
    "skip sue summer violet ward wade will april august user human assistant".split()
)
"""Names that are words as well: in small letters they are taken for the word."""
FIRST_PERSON = re.compile(r"\b(?:I|me|my|mine|I'm|I've|I'd|I'll|My|Me|Mine)\b")
_SMALL_I = re.compile(r"\bi(?:'m|'ve|'d|'ll|’m|’ve|’d|’ll)?\b")


class _Stemmers(threading.local):
    """A stemmer for each thread: it works on a word in its own fields, and two threads would spoil each other's."""

    def __init__(self) -> None:
        self.english = snowballstemmer.stemmer("english")


_stemmers = _Stemmers()


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    return str(_stemmers.english.stemWord(word))


def folded(text: str) -> str:
    """Lower case, straight apostrophes, accents removed from Latin letters."""
    lowered = text.lower().replace("’", "'")
    if lowered.isascii():
        return lowered
    decomposed = unicodedata.normalize("NFKD", lowered)
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def tokens(text: str) -> list[str]:
    """Lower-case words without their apostrophe tails ("Anna's" gives "anna"), in order.

    Where a script has no spaces (Chinese, Japanese), every two neighbouring letters are a word.
    """
    flat = folded(text)
    found = [word.partition("'")[0] for word in _TOKEN.findall(flat)]
    if flat.isascii() or not _UNSPACED.search(flat):
        return found
    return [piece for word in found for part in _UNSPACED.split(word) if part for piece in _pairs(part)]


def _pairs(part: str) -> list[str]:
    if not _UNSPACED.match(part):
        return [part]
    return [part[at : at + 2] for at in range(len(part) - 1)] or [part]


def stems(text: str) -> list[str]:
    """Stemmed words of `text` without stop words, in order, repeats kept."""
    return [_stem(token) for token in tokens(text) if token not in _STOP_WORDS]


def context_text(body: str, previous: str | None, following: str | None) -> str:
    """`body` between the last words of the statement before it and the first words of the one after.

    Args:
        body: The statement itself.
        previous: The body said just before in the same session, or None.
        following: The body said just after, or None.

    Returns:
        Up to 25 words, newline, `body`, newline, up to 25 words; `body` alone when it has more than 150 words.
    """
    if len(body.split()) > LONG_BODY_WORDS:
        return body
    before = " ".join(previous.split()[-CONTEXT_WORDS:]) if previous else ""
    after = " ".join(following.split()[:CONTEXT_WORDS]) if following else ""
    return f"{before}\n{body}\n{after}".strip()


def without_names(question: str, names: frozenset[str]) -> str:
    """`question` without the given names as whole words (and a following 's); unchanged if nothing would be left."""
    spelled = _spelled(question, names)
    if not spelled:
        return question
    pattern = "|".join(re.escape(name) for name in sorted(spelled, key=len, reverse=True))
    stripped = re.sub(rf"(?<!\w)(?:{pattern})(?!\w)(?:'s|’s)?", " ", question)
    collapsed = " ".join(stripped.split())
    return collapsed if re.search(r"\w", collapsed) else question


def named(question: str, names: frozenset[str]) -> tuple[str, ...]:
    """Which of `names` stand in `question` as whole words, in order of their first place."""
    places = {
        name: found.start()
        for spelled, name in _spelled(question, names).items()
        if (found := re.search(rf"(?<!\w){re.escape(spelled)}(?!\w)", question))
    }
    return tuple(sorted(places, key=lambda name: (places[name], name)))


def says_i(question: str) -> bool:
    """Whether a question says I, me, my or mine; "i" counts where it has no capital letter at all."""
    return bool(FIRST_PERSON.search(question)) or (question == question.lower() and bool(_SMALL_I.search(question)))


def _spelled(question: str, names: frozenset[str]) -> dict[str, str]:
    """The names as the question would spell them: as they are, or all in small letters if it has no capital letter."""
    if question != question.lower():
        return {name: name for name in names}
    return {name.lower(): name for name in names if name.lower() not in _WORDS_TOO}


def is_bare_question(body: str) -> bool:
    """Whether a statement only asks: it ends in "?" and says nothing in the first person."""
    return body.rstrip().endswith("?") and not FIRST_PERSON.search(body)
