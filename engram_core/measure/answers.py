"""Answers: whether a statement answers a question, told by words alone. Precision first; in doubt, not. English.

A statement answers if it fills the slot that the question names, or if it holds most of what the question asks about,
weighted by how rare each word is, and the sort of thing asked for (a time, a number, a name, a place) besides.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from engram_core.measure import content, dates, slots, words
from engram_core.measure.sentences import sentences

Sort = Literal["time", "number", "name", "place", "any"]

LEAST_COVERAGE: Final = 0.8
"""Share of the question's word weight that a statement has to hold; chosen on the development conversations
(`python -m benchmarks.gaps`)."""
_BY_SLOT: Final = 2.0
"""Rank of an answer that fills the slot asked for: above any coverage."""

_LEAST_ROOT: Final = 6
_ROOT: Final = 0.75
_MOST_ENDING: Final = 3
"""Two words are of one family if they begin alike for so many letters, and end within so many."""
_NEAR: Final = 3
"""Words after a word of the question within which a new one counts as said of it."""
_KIND_OF: Final = re.compile(r"\bwhat (?:kind|type|sort)s? of\b", re.IGNORECASE)
_SHORT: Final = 8
"""A sentence of so few words that holds the one word asked for is about it."""
_IS: Final = re.compile(r"^(?:\w+ ){0,2}?(?:is|are|was|were|will be|has been|became)\b|^(?::|=)|^\w+:", re.IGNORECASE)

_APOSTROPHES: Final = str.maketrans("\u2018\u2019", "''")
_SORTS: Final[tuple[tuple[Sort, re.Pattern[str]], ...]] = (
    (
        "time",
        re.compile(r"\bwhen\b|\b(?:what|which) (?:date|day|month|year|time)\b|\bhow long\b|\bbirth(?:day|date)\b"),
    ),
    ("number", re.compile(r"\bhow (?:many|much|old|often|far|tall|big|heavy|high)\b|\bwhat age\b")),
    ("name", re.compile(r"\bwho(?:m|se)?\b|\bnames?\b|\bcalled\b")),
    ("place", re.compile(r"\bwhere\b|\b(?:what|which) (?:city|country|town|state|street)\b")),
)
# Words by which a question says what sort of thing it wants; an answer rarely repeats them.
_SORT_WORDS: Final = frozenset(
    content.stem(word)
    for word in (
        "name names called date day month year time long many much old often far tall city country town place "
        "living tell remind remember know exactly again currently now please mention mentioned say said "
        "told ask asked"
    ).split()
)
_NUMBER: Final = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|hundred|thousand|"
    r"once|twice|dozen|couple|daily|weekly|monthly|every)\b",
    re.IGNORECASE,
)
_DURATION: Final = re.compile(r"\b(?:minutes?|hours?|days?|weeks?|months?|years?|since|for ages)\b", re.IGNORECASE)
_TIME: Final = re.compile(
    r"\b\d{1,2}(?::\d\d)?\s?(?:am|pm|o'clock)\b|\b\d{1,2}:\d\d\b|\b(?:19|20)\d\d\b|\d{1,2}(?:st|nd|rd|th)\b",
    re.IGNORECASE,
)
_PLACE: Final = re.compile(
    r"\b(?:in|at|to|from|near|on|by|under|behind|inside|next to|outside)((?:\s+[\w'-]+){1,4})", re.IGNORECASE
)
_WHY: Final = re.compile(r"\bbecause\b|\bsince\b|\bdue to\b|\bso that\b|\bthanks to\b|\bas a result\b", re.IGNORECASE)
_ASKS_WHETHER: Final = re.compile(
    r"^(?:\W*(?:and|so|but|hey|ok|well|please),? )?"
    r"(?:do|does|did|is|are|was|were|am|have|has|had|can|could|will|would)\b",
    re.IGNORECASE,
)
_ASKS_WHAT_IS: Final = re.compile(r"\b(?:what|which)(?: \w+){0,2}?(?:'s| is| are| was| were)\b", re.IGNORECASE)
_ASKS_WHAT: Final = re.compile(r"\b(?:what|which)\b", re.IGNORECASE)
_VOCATIVE: Final = r"(?:^|[,.!?] ?|\b(?:hey|hi|hello|thanks|thank you|wow|yeah|sorry|congrats),? ){0}(?:[,.!?]|$)"
_PROPER: Final = re.compile(r"[A-Z][\w'&-]+")
_OPENING: Final = re.compile(r"(?:^|[.!?:\n]\s*|[\"'(]\s*)$")

_OWNER: Final = (
    r"(?P<whose>(?:my|our) (?P<kin>[a-z]+(?:[ -][a-z]+)?)(?:'s)?|i|we|"
    r"(?:(?-i:[A-Z]\w+)'s )?(?P<name>(?-i:[A-Z][\w-]+)))"
)
_DOES: Final = r"(?:do|does|did|am|is|are) "
_WANTED: Final = tuple(
    (attribute, re.compile(r"\b" + pattern, re.IGNORECASE))
    for attribute, pattern in (
        (
            "location",
            r"(?:where|(?:what|which) (?:city|town|country)) " + _DOES + _OWNER
            + r" (?:\w+ )?(?:live|living|based|located|reside|residing|home)\b",
        ),
        (
            "employer",
            r"(?:where|who|what company|which company|for whom) " + _DOES + _OWNER
            + r" (?:\w+ )?(?:work|working|employed)\b(?! on| with| out)",
        ),
        (
            "job",
            r"what (?:(?:do|does|did|is) )?" + _OWNER
            + r"(?:'s)? (?:(?:do|does|did) for (?:a living|work)|job|occupation|profession)\b",
        ),
        ("job", r"what(?:'s| is) (?P<whose>my|our) (?:job|occupation|profession)\b"),
        ("age", r"how old (?:am|is|are) " + _OWNER + r"\b"),
        ("diet", r"(?:am|is|are) " + _OWNER + r" (?:a )?(?:vegan|vegetarian|pescatarian)\b"),
        ("relationship", r"(?:am|is|are) " + _OWNER + r" (?:married|single|divorced|engaged)\b"),
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a question asks for.

    Attributes:
        tokens: Content tokens an answer should hold.
        known: All content tokens of the question: repeating them answers nothing.
        attributes: (subject, attribute) pairs of slots that answer it; subjects in lower case, "" for the asker.
        is_personal: Asked in the first person.
        named: Known people it names.
    """

    text: str
    sort: Sort
    tokens: frozenset[str]
    known: frozenset[str]
    attributes: frozenset[tuple[str, str]]
    is_personal: bool
    named: frozenset[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """How a statement answers.

    Attributes:
        text: The sentences that do, in order, as said.
        coverage: Share of the question's word weight that they hold, 0 to 1.
        rank: For comparing answers to one question; higher is better.
        by: `slot` or `words`.
    """

    text: str
    coverage: float
    rank: float
    by: Literal["slot", "words"]


def wanted(question: str, names: frozenset[str]) -> Wanted:
    """Read a question.

    Args:
        question: As asked.
        names: Speakers known to the scope.
    """
    plain = _KIND_OF.sub("what", question.translate(_APOSTROPHES))
    lower = plain.lower()
    sort: Sort = next((sort for sort, pattern in _SORTS if pattern.search(lower)), "any")
    named = frozenset(words.named(plain, names))
    known = content.token_set(plain)
    about = content.token_set(words.without_names(plain, named)) if named else known
    return Wanted(
        plain,
        sort,
        (about - _SORT_WORDS) or about,
        known,
        frozenset(_attributes(plain)),
        bool(words.FIRST_PERSON.search(plain)),
        named,
    )


def topic(question: str) -> frozenset[str]:
    """What a question is about: its content tokens, without those that only say what sort of thing it wants."""
    return content.token_set(question.translate(_APOSTROPHES)) - _SORT_WORDS


def _attributes(question: str) -> set[tuple[str, str]]:
    found = set()
    for attribute, pattern in _WANTED:
        match = pattern.search(question)
        if match is None:
            continue
        parts = match.groupdict()
        if parts.get("kin"):
            found.add((f"'s {parts['kin'].lower()}", attribute))
        elif parts.get("name"):
            found.add((parts["name"].lower(), attribute))
        else:
            found.add(("", attribute))
    return found


def answer(
    wanted: Wanted, statement: str, *, speaker: str | None, asker: str | None, weight: Callable[[str], float]
) -> Answer | None:
    """Whether a statement answers a question; None if not.

    Args:
        wanted: The question, read.
        statement: What somebody said, without the speaker's name in front.
        speaker: Who said it; None if unknown.
        asker: Who asks; None if unknown.
        weight: Of a content token, at least 0: how rare it is in the scope.
    """
    said = statement.translate(_APOSTROPHES)
    if not _is_by_the_right_one(wanted, said, speaker, asker):
        return None
    parts = [part for part in sentences(said) if not part.rstrip("\"') ").endswith("?")]
    if wanted.named and speaker not in wanted.named:
        parts = [part for part in parts if any(_is_told_of(name, part) for name in wanted.named)]
    return _by_slot(wanted, parts, speaker, asker) or _by_words(wanted, parts, weight)


def _is_by_the_right_one(wanted: Wanted, said: str, speaker: str | None, asker: str | None) -> bool:
    """Whether a statement may be about whom the question is about: by its speaker, or because it names that one."""
    about = wanted.named
    if not about and wanted.is_personal and asker is not None and speaker is not None:
        about = frozenset({asker})
    return not about or speaker in about or any(_is_told_of(name, said) for name in about)


def _is_told_of(name: str, said: str) -> bool:
    """Whether a text speaks of somebody, and not only to them: "Thanks, Ana!" tells nothing of Ana."""
    return name in re.sub(_VOCATIVE.format(re.escape(name)), " ", said, flags=re.IGNORECASE)


def _by_slot(wanted: Wanted, parts: list[str], speaker: str | None, asker: str | None) -> Answer | None:
    for part in reversed(parts if wanted.attributes else ()):
        found = slots.keyed(part, speaker)
        if found is None or not found.value or found.sign < 0:
            continue
        for subject, attribute in wanted.attributes:
            if found.slot.attribute == attribute and found.slot.subject in _meant(subject, speaker, asker):
                return Answer(part, 1.0, _BY_SLOT, "slot")
    return None


def _meant(subject: str, speaker: str | None, asker: str | None) -> set[str]:
    """Subjects of slots that stand for one a question asks about: a name, or the asker and what is the asker's."""
    if subject and not subject.startswith("'"):
        return {subject}
    return {f"{(who or 'user').lower()}{subject}" for who in (asker or speaker, speaker)}


def _by_words(wanted: Wanted, parts: list[str], weight: Callable[[str], float]) -> Answer | None:
    """The fewest neighbouring sentences, at most two, that hold enough of the question and something of its sort."""
    if not wanted.tokens:
        return None
    total = sum(map(weight, wanted.tokens))
    held = [content.token_set(part) for part in parts]
    best: Answer | None = None
    for size in (1, 2):
        for start in range(len(parts) - size + 1):
            tokens = frozenset().union(*held[start : start + size])
            coverage = sum(weight(token) for token in wanted.tokens if _holds(tokens, token)) / total if total else 0.0
            text = " ".join(parts[start : start + size])
            if coverage < LEAST_COVERAGE or not tokens - wanted.known or not _is_of_sort(wanted, text):
                continue
            rank = coverage - 0.05 * (size - 1)
            if best is None or rank >= best.rank:
                best = Answer(text, coverage, rank, "words")
    return best


def _holds(tokens: frozenset[str], token: str) -> bool:
    """Whether a token is there, or another word of its family: "allergic" for "allergy"."""
    return token in tokens or any(_is_kin(token, other) for other in tokens)


def _is_kin(one: str, other: str) -> bool:
    least = max(_LEAST_ROOT, math.ceil(_ROOT * min(len(one), len(other))))
    return (
        len(one) >= least <= len(other) and one[:least] == other[:least] and abs(len(one) - len(other)) <= _MOST_ENDING
    )


def _is_of_sort(wanted: Wanted, text: str) -> bool:
    match wanted.sort:
        case "time":
            told = dates.time_words(text) > 0 or _TIME.search(text) is not None
            return told or ("long" in wanted.text.lower() and _DURATION.search(text) is not None)
        case "number":
            return _NUMBER.search(text) is not None
        case "name":
            return any(
                content.token_set(found[0]) - wanted.known
                for found in _PROPER.finditer(text)
                if not _OPENING.search(text[: found.start()]) or " " not in text
            )
        case "place":
            return any(content.token_set(found[1]) - wanted.known for found in _PLACE.finditer(text))
        case "any":
            return _is_answer_like(wanted, text)


def _is_answer_like(wanted: Wanted, text: str) -> bool:
    """Whether a sentence with the question's words says something of them, for questions whose answer has no form."""
    lower = wanted.text.lower()
    if _ASKS_WHETHER.search(wanted.text):
        return len(wanted.tokens) > 1
    if "why" in lower:
        return _WHY.search(text) is not None
    if not _ASKS_WHAT.search(wanted.text):
        return False
    places = [(place, word) for place, word in enumerate(text.split())]
    asked = [place for place, word in places if any(_holds(content.token_set(word), token) for token in wanted.tokens)]
    fresh = [place for place, word in places if content.token_set(word) - wanted.known]
    if not asked or not fresh:
        return False
    if (_ASKS_WHAT_IS.search(wanted.text) or len(wanted.tokens) == 1) and len(text.split()) > _SHORT:
        return any(_IS.search(" ".join(text.split()[place + 1 : place + 5])) is not None for place in asked)
    return any(0 < new - old <= _NEAR for old in asked for new in fresh)
