"""Slots: what a statement is about, when that can be told with confidence. Precision first; in doubt there is none.

A slot later lets a new value replace an old fact, so a statement gets one only if it is a single sentence: a turn that
also says something else must not be archived for one of its sentences. Patterns follow algorithms.md section 5, tier S.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from engram_core.designs.pipeline.smalltalk import is_small_talk
from engram_core.designs.pipeline.statements import sentences
from engram_core.domain.fact import Slot

_LONGEST_VALUE: Final = 9
_LONGEST_SENTENCE: Final = 300


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _pattern(*parts: str) -> re.Pattern[str]:
    return re.compile("".join(parts), re.IGNORECASE)


_LEAD: Final = (
    r"(?:(?:well|so|oh|yes|yeah|actually|fyi|by the way|btw|currently|now|right now|these days|nowadays|"
    r"at the moment|as of (?:today|now)|just so you know),? )*"
)
_KIN: Final = r"(?P<kin>wife|husband|spouse|partner|girlfriend|boyfriend|mother|mom|mum|father|dad|boss)"
_NAME: Final = r"(?-i:[A-Z][\w'-]*(?: [A-Z][\w'-]*){0,2})"
_SUBJECT: Final = rf"(?P<subject>I|we|(?:the )?user|my {_KIN}|{_NAME})"
_NOW: Final = r"(?:(?:now|currently|still|presently|already) )?"
_BE: Final = r"(?:'(?:m|s|re)| am| is| are)"
_HAVE: Final = r"(?:'(?:ve|s)| have| has)?"
_VALUE: Final = r"(?P<value>\S.*)"
_OCCUPATION: Final = (
    "(?:engineer|developer|programmer|teacher|nurse|doctor|lawyer|attorney|designer|accountant|scientist|architect|"
    "analyst|consultant|electrician|plumber|pharmacist|dentist|professor|journalist|paramedic|veterinarian|economist|"
    "translator|carpenter|mechanic|librarian|pilot|firefighter|surgeon|therapist|psychologist|receptionist)"
)

_LIVES = _pattern(
    _LEAD,
    _SUBJECT,
    rf"(?: {_NOW}(?:lives?|resides?)|{_BE} {_NOW}(?:living|residing|based|located)) (?:in|at) ",
    _VALUE,
)
_MOVED = _pattern(
    _LEAD,
    _SUBJECT,
    _HAVE,
    r" (?:(?:just|recently|now) )?(?:moved|relocated)(?: back)? (?:from [\w' ]{1,40}? )?to ",
    _VALUE,
)
_WORKS_FOR = _pattern(_LEAD, _SUBJECT, rf"(?: {_NOW}works?|{_BE} {_NOW}(?:working|employed)) (?:at|for|by) ", _VALUE)
_WORKS_AS = _pattern(_LEAD, _SUBJECT, rf"(?: {_NOW}works?|{_BE} {_NOW}working) as an? ", _VALUE)
_IS_BY_TRADE = _pattern(
    _LEAD, _SUBJECT, rf"{_BE} {_NOW}an? (?:[\w-]+ ){{0,3}}?{_OCCUPATION}(?: (?:at|for|in|with|by) .+| now)?"
)
_RELATED = _pattern(
    _LEAD,
    _SUBJECT,
    rf"{_BE} {_NOW}(?:happily |recently |newly |legally )?"
    r"(?:(?:single|married|divorced|engaged|widowed)(?: (?:now|again|to .+))?|dating .+|"
    r"in a (?:\w+ )?relationship(?: with .+)?)",
)
_AGED = _pattern(_LEAD, _SUBJECT, rf"{_BE} {_NOW}\d{{1,3}} years old(?: now)?")
_STATES: Final = (
    (_LIVES, "location"),
    (_MOVED, "location"),
    (_WORKS_FOR, "employer"),
    (_WORKS_AS, "job"),
    (_IS_BY_TRADE, "job"),
    (_RELATED, "relationship"),
    (_AGED, "age"),
)
_PREFERS = _pattern(
    _LEAD,
    _SUBJECT,
    r" (?:(?:now|usually|always|generally) )?prefers? [\w'-]+(?: [\w'-]+){0,4}? (?:for|when|while|during) ",
    r"(?P<purpose>[\w'-]+(?: [\w'-]+){0,5})",
)
_ATTRIBUTE = _pattern(
    _LEAD,
    rf"(?:(?P<mine>my|our)|the user's|(?P<whose>{_NAME})'s?)(?: {_KIN}'s)? ",
    r"(?P<attribute>(?:(?:current|new|work|home|personal|private|office|mobile|full|first|last|middle|preferred|native|",
    r"job) )?(?:name|age|title|job title|employer|company|salary|income|address|city|hometown|country|",
    r"email(?: address)?|(?:phone|cell)(?: number)?|birthday|birthdate|nationality|religion|major|school|university|",
    r"college|budget|deadline|time ?zone|height|weight|username|manager|language)|favou?rite (?:[\w-]+ )?[\w-]+)",
    r"(?: is| are| has changed to| changed to|'s| =|:) (?:now |currently |still )?",
    _VALUE,
)

# Words that open a sentence with a capital and name nobody.
_NOT_NAMES: Final = _words(
    "he she it they you this that these those there here who what which everyone everybody someone somebody nobody one "
    "people some many most the a an my our your his her their its both all and but or if when while because since yes "
    "no ok okay well so oh hey hi thanks then also maybe perhaps today yesterday tomorrow not never"
)
_NOT_VALUES: Final = _words(
    "to that when how because not no so very really too getting going just always pretty quite a an one if as more "
    "less what where why important special definitely probably all"
)
_NOT_PLACES: Final = _words(
    "fear peace harmony react vue angular postgres postgresql mysql sqlite mongodb redis kubernetes docker python rust "
    "go java kotlin swift typescript javascript aws azure gcp github gitlab linux windows macos ubuntu slack teams "
    "notion jira vscode vim neovim emacs version plan step phase chapter engineering marketing sales support finance "
    "management product design legal operations senior"
)
_NOT_EMPLOYERS: Final = _words("the moment weekend weekends night nights home hours free living now me you us it")
_NOT_FAVORITES: Final = _words("part thing things one ones time times moment moments memory memories way")
_SAME_ATTRIBUTE: Final = {
    "email address": "email",
    "phone number": "phone",
    "cell": "phone",
    "cell number": "phone",
    "birthdate": "birthday",
    "time zone": "timezone",
}
_SAME_KIN: Final = {"mom": "mother", "mum": "mother", "dad": "father"}


def slot_of(text: str, speaker: str | None, others: Collection[str] = ()) -> Slot | None:
    """The slot of a statement, or None.

    Args:
        text: A statement made by a person (not a tool, not an assistant).
        speaker: Who said it; first-person slots belong to "user" if None.
        others: Names the statement may address, so that "Hi Mel! I live in Lisbon." counts as one sentence.

    Returns:
        Subject in lower case, and an attribute such as `location`, `employer`, `job`, `relationship`, `age`,
        `favorite color`, `email` or `preference for breakfast`.
    """
    telling = [said for said in sentences(text) if not said.endswith("?") and not is_small_talk(said, others)]
    if len(telling) != 1:
        return None
    sentence = telling[0].rstrip(".! ").replace("\u2019", "'")
    if len(sentence) > _LONGEST_SENTENCE:
        return None
    first = (speaker or "user").lower()
    return _state(sentence, first) or _preference(sentence, first) or _attribute(sentence, first)


def _state(sentence: str, first: str) -> Slot | None:
    """Location, employer, job, relationship and age."""
    for pattern, attribute in _STATES:
        found = pattern.fullmatch(sentence)
        if found is None:
            continue
        subject = _subject(found, first)
        # "We moved to Postgres" is about a team; only a single person has a home by this pattern.
        is_group = pattern is _MOVED and found["subject"].lower() == "we"
        if subject and not is_group and _fits(attribute, found.groupdict().get("value"), sentence):
            return Slot(subject, attribute)
    return None


def _preference(sentence: str, first: str) -> Slot | None:
    found = _PREFERS.fullmatch(sentence)
    subject = _subject(found, first) if found else None
    if found is None or subject is None:
        return None
    purpose = re.sub(r"^(?:my|our|the|an?|his|her|their) ", "", found["purpose"].lower())
    return Slot(subject, f"preference for {purpose}")


def _attribute(sentence: str, first: str) -> Slot | None:
    found = _ATTRIBUTE.fullmatch(sentence)
    if found is None:
        return None
    name = _canonical(found["attribute"])
    subject = first if found["mine"] else (found["whose"] or "user").lower()
    if subject in _NOT_NAMES or not _is_value(name, found["value"]):
        return None
    return Slot(_with_kin(subject, found["kin"]), name)


def _canonical(attribute: str) -> str:
    spelt = attribute.lower().replace("favourite", "favorite").replace("colour", "color")
    name = spelt.removeprefix("current ").removeprefix("new ")
    return _SAME_ATTRIBUTE.get(name, name)


def _subject(found: re.Match[str], first: str) -> str | None:
    said = found["subject"].lower()
    if said in {"i", "we"}:
        return first
    if found["kin"]:
        return _with_kin(first, found["kin"])
    if said in {"user", "the user"}:
        return "user"
    return said if said.split()[0] not in _NOT_NAMES else None


def _with_kin(subject: str, kin: str | None) -> str:
    return f"{subject}'s {_SAME_KIN.get(kin.lower(), kin.lower())}" if kin else subject


def _fits(attribute: str, value: str | None, sentence: str) -> bool:
    """Whether the words after the verb can be a value of this kind."""
    if value is None:
        return True
    words = value.lower().split()
    if len(words) > _LONGEST_VALUE or value[0].isdigit():
        return False
    if attribute == "location":
        return words[0] not in _NOT_PLACES and _is_proper(value, sentence)
    if attribute == "employer":
        start = words[1] if words[0] in {"a", "an", "the"} and len(words) > 1 else words[0]
        return start not in _NOT_EMPLOYERS and (words[0] in {"a", "an", "the"} or _is_proper(value, sentence))
    return True


def _is_proper(value: str, sentence: str) -> bool:
    """Whether a value starts like a proper name; in a sentence typed without capitals, whether it is short."""
    words = value.split()
    head = words[1] if words[0].lower() == "the" and len(words) > 1 else words[0]
    if head[0].isupper():
        return True
    is_typed_low = sentence == sentence.lower() and len(words) <= 3  # noqa: PLR2004 - "new york city"
    return is_typed_low and words[0] not in _NOT_VALUES | _NOT_NAMES


def _is_value(attribute: str, value: str) -> bool:
    words = value.lower().split()
    if len(words) > _LONGEST_VALUE or words[0] in _NOT_VALUES or words[0].endswith("ing"):
        return False
    if attribute.startswith("favorite "):
        return attribute.rpartition(" ")[2] not in _NOT_FAVORITES
    return "@" in value or value[0].isupper() or any(char.isdigit() for char in value)
