"""Kinds: which built-in kind a statement is, told by cues. English. It guesses: a wrong kind must never cost a fact."""

from __future__ import annotations

import re
from typing import Final

from engram_core.domain.fact import Slot
from engram_core.measure.dates import MONTHS, RELATIVE_TIME
from engram_core.measure.sentences import sentences


def _any(*patterns: str, flags: int = re.IGNORECASE) -> re.Pattern[str]:
    return re.compile("|".join(patterns), flags)


_OPENING: Final = r"^(?:(?:please|also|and|ok|from now on|in (?:the )?future),? )*"
_ADVERB: Final = r"(?:(?:really|just|also|usually|generally|always|absolutely|still|much|definitely|totally|so) )*"
_WE: Final = r"\b(?:we|I)(?:'ve| have)?(?: just| finally| all)? "
_WEEKDAY: Final = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
# What one can order an assistant to do: "always here for you" and "never give up" are no orders.
_ORDER_VERB: Final = (
    "(?:use|answer|reply|respond|write|call|ask|include|add|run|format|show|send|put|avoid|start|end|keep|make|tell|"
    "check|follow|wrap|name|commit|push|deploy|store|log|return|sort|test|mention|speak|address|assume|suggest|"
    "recommend|translate|explain|quote|cite|delete|remove|change|touch|edit|merge|install|share|print|document|review|"
    "round|sign)"
)
_CHORE: Final = (
    "(?:finish|send|call|book|buy|pay|submit|fix|write|schedule|renew|cancel|return|pick up|prepare|email|order|update|"
    "register|apply|file|review|sign|complete)"
)

_REMEMBER = _any(
    _OPENING + r"(?:remember|keep in mind|note|memori[sz]e|don't forget|make a note)(?:,? that\b|:| (?:this|my)\b)"
)
_STANDING_ORDER = _any(
    rf"{_OPENING}(?:always|never|do not ever|don't ever) {_ORDER_VERB}\b",
    r"^(?:please,? )?from now on\b",
    r"\b(?:you (?:should|must)|make sure (?:to|you)|please) (?:always|never)\b",
    r"\bI (?:want|need|would like|'d like) you to (?:always|never)\b",
)
_ORDER = _any(
    rf"^(?:[Pp]lease,? )?(?:[Dd]o not|[Dd]on't) {_ORDER_VERB}\b",
    rf"^[Pp]lease {_ORDER_VERB}\b",
    r"\b[Cc]all me [A-Z]",
    rf"\b[Yy]ou (?:should|must|have to) {_ORDER_VERB}\b",
    r"\bI (?:want|need) you to\b",
    flags=0,
)
_ERROR = _any(
    r"\b[A-Z]\w*(?:Error|Exception)\b",
    r"\b(?:Traceback|[Ss]tack ?trace|segfault|core dumped|exit code [1-9]\d*|errno|ECONN\w+|panic:)",
    r"\b(?:HTTP|status)(?: code)? [45]\d\d\b",
    r"^(?:ERROR|FATAL)\b",
    r"\b(?:build|tests?|deploy|deployment|job|pipeline|query) (?:has |have )?(?:failed|crashed|timed out)\b",
    r"\b(?:fails|failed|crashes|crashed) with\b",
    flags=0,
)
_DECISION = _any(
    rf"{_WE}(?:decided|agreed|chose|settled|opted)\b(?! with)",
    r"\bthe decision (?:is|was)\b",
    r"\b(?:we|I)(?:'ll| will|'re going to| are going to) go (?:with|for)\b",
    r"\blet's go with\b",
    r"\bwe're going with\b",
    r"\bit (?:is|was) decided\b",
)
_TASK = _any(
    r"^(?:please,? |can you |could you )*remind me (?:to|about|that|on|in|at|tomorrow)\b",
    r"\bto-?do:",
    rf"\b(?:I|we)(?:'ve| have)? (?:still )?(?:need|have|got|gotta|must) (?:to )?{_CHORE}\b",
    r"\b(?:due|deadline) (?:is|on|by|tomorrow|next)\b",
    r"\bby (?:tomorrow|tonight|next week)\b",
)
_PREFERENCE = _any(
    rf"\bI(?:'d| would)? {_ADVERB}(?:prefer|love|like|enjoy|adore|hate|dislike|detest|can't stand|rather)\b"
    r"(?! to (?:say|know|think|help))",
    rf"\bI (?:don't|do not|never) {_ADVERB}(?:like|enjoy|eat|drink|want)\b",
    rf"\bI'm {_ADVERB}(?:a (?:big |huge )?fan of|into|fond of|allergic to)\b",
    r"\bmy (?:all-time )?favou?rite\b",
    r"\bthe user (?:prefers|likes|loves|enjoys|hates|dislikes)\b",
)
_INSIGHT = _any(
    rf"{_WE}(?:realized|realised|learned that|learnt that|figured out|discovered|found out)\b",
    r"(?:^|\bit |, |\band )turn(?:s|ed) out (?:that|i|i'm|it|it's|we|he|she|they|the|there)\b",
    r"\bthe (?:root cause|takeaway)\b",
    r"\blesson learned\b",
    r"\bthe (?:key|trick) is\b",
)
_PROFILE = _any(
    r"\b[Mm]y name(?:'s| is)\b",
    r"\bI(?:'m| am) (?:originally )?from [A-Z]",
    r"\bI (?:was born|grew up) in\b",
    r"\bI(?:'m| am) \d{1,3} years old\b",
    r"\bI (?:live|work) (?:in|at|for|as) (?:an? |the )?[A-Z]",
    r"\bI (?:have|'ve got) (?:an?|one|two|three|four|five|\d) (?:[\w-]+ )?"
    r"(?:dogs?|cats?|kids?|child|children|sons?|daughters?|brothers?|sisters?)\b",
    flags=0,
)
_WHEN = _any(
    RELATIVE_TIME.pattern,
    rf"\b(?:on|this|next|last) {_WEEKDAY}\b",
    rf"\b(?:{'|'.join(month for month in MONTHS if month != 'may')}|may \d)\b",
)
_HAPPENS = _any(
    r"\b(?:I|we|he|she|they|it|there)(?:'m|'re|'s| am| are| is|'ll| will)? (?:just |finally |also |recently )?"
    r"(?:went|had|was|were|did|got|took|met|saw|came|made|ran|won|lost|bought|started|began|left|flew|held|gave|"
    r"[a-z]+ed|going to|having|getting|will|visit\w*)\b",
    r"\b(?:appointment|meeting|party|wedding|concert|trip|flight|game|match|event|show|exam)\b",
)
# First match wins: the rarer and more useful kinds come first.
_CUES: Final = (
    ("error", _ERROR),
    ("instruction", _REMEMBER),
    ("instruction", _STANDING_ORDER),
    ("instruction", _ORDER),
    ("decision", _DECISION),
    ("task", _TASK),
    ("preference", _PREFERENCE),
    ("insight", _INSIGHT),
    ("profile", _PROFILE),
)
_PREFERENCE_SLOTS: Final = ("preference for ", "favorite ", "likes ", "tool for ")
_INSTRUCTION_SLOTS: Final = ("instruction: ", "rule: ")
_PROFILE_SLOTS: Final = frozenset(
    "location employer job relationship age name salary income address city hometown country email phone birthday "
    "nationality citizenship religion major school university college language timezone height weight".split()
)


def kind_of(text: str, slot: Slot | None = None) -> str:
    """The kind of a person's statement.

    Args:
        text: The statement.
        slot: Its slot, if it has one; that decides between preference and profile.

    Returns:
        One of `BUILT_IN_KINDS`; `observation` when nothing tells. Questions give no cue.
    """
    if slot is not None and slot.attribute.startswith(_PREFERENCE_SLOTS):
        return "preference"
    if slot is not None and slot.attribute.startswith(_INSTRUCTION_SLOTS):
        return "instruction"
    if slot is not None and slot.attribute in _PROFILE_SLOTS:
        return "profile"
    telling = _telling(text)
    for kind, pattern in _CUES:
        if any(pattern.search(sentence) for sentence in telling):
            return kind
    if any(_WHEN.search(sentence) and _HAPPENS.search(sentence) for sentence in telling):
        return "event"
    return "observation"


def is_explicit(text: str) -> bool:
    """Whether the text asks in so many words to remember something, or gives a standing order."""
    return any(_REMEMBER.search(said) or _STANDING_ORDER.search(said) for said in _telling(text))


def _telling(text: str) -> list[str]:
    return [sentence.replace("\u2019", "'") for sentence in sentences(text) if not sentence.endswith("?")]
