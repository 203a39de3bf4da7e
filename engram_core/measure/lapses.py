"""Lapses: where a conversation shows that memory was missing. It judges words; it reads and writes nothing. English."""

from __future__ import annotations

import re
from typing import Final

from engram_core.measure import answers, content, words
from engram_core.measure.attribution import is_refusal
from engram_core.measure.sentences import sentences

LONGEST: Final = 20_000
"""Characters of a message that are looked at."""
_MANY: Final = 60
"""Sentences of a message that are looked at."""
_FEW_WORDS: Final = 40
"""An answer of more words than this besides its refusal did answer."""

_APOSTROPHES: Final = str.maketrans("\u2018\u2019", "''")
# A refusal that is about knowing: "I can't open files" refuses, but nothing was forgotten.
_KNOWS_NOT: Final = re.compile(
    r"\b(?:i|we)(?: really| honestly| still| just| currently)? (?:do not|don't|did not|didn't|cannot|can't|could not|"
    r"couldn't)(?: (?:currently|actually|really|yet|seem to|appear to|specifically|quite)){0,2} (?:have|know|recall|"
    r"remember|find|see)\b|\b(?:i|we)(?:'m| am|'re| are) not (?:\w+ )?(?:sure|certain|aware|familiar)\b|"
    r"\b(?:i|we) (?:have|'ve got|see|find|found) no (?:[\w-]+ ){0,3}(?:information|info|record|records|memory|"
    r"memories|mention|note|notes|details?|idea)\b|\bno (?:[\w-]+ ){0,2}(?:information|record|mention|idea|clue)\b|"
    r"\byou (?:haven't|have not|hadn't|didn't|did not|never) (?:\w+ )?(?:told|tell|mention(?:ed)?|shared?|said|say)\b|"
    r"\b(?:that|this|it)(?:'s| is) (?:not |n't )?(?:something )?(?:i (?:do not|don't) know|unknown|unclear)\b|"
    r"\b(?:hasn't|has not|wasn't|was not|never|isn't|is not) (?:\w+ )?(?:mentioned|specified|recorded|"
    r"provided|come up)\b|"
    r"\bmy (?:memory|memories|notes|records) (?:do not|don't|doesn't|does not)\b|"
    r"\b(?:i|we) (?:have )?forg[eo]t(?:ten)?\b|"
    r"\bslipped my mind\b|\bnothing comes to mind\b"
)
_TELLS: Final = re.compile(r"\byou (?:have )?(?:told|mentioned|said)\b(?! me that$)")
_WHETHER: Final = re.compile(r"\b(?:know|sure|certain|remember|see) (?:if|whether)\b")
_QUESTION_WORD: Final = re.compile(
    r"^(?:(?:and|so|but|hey|hi|ok|okay|well|sorry|please|by the way|also|then)[,!.]? )*"
    r"(?:what|when|where|which|who|whom|whose|why|how|do|does|did|is|are|was|were|am|can|could|have|has|had|will|would|"
    r"should|tell me|remind me|do you (?:know|remember)|any idea|(?:can|could) you (?:tell|remind))\b",
    re.IGNORECASE,
)
_PERSONAL: Final = re.compile(r"\b(?:i|i'm|i've|i'd|i'll|me|my|mine|myself|we|we've|our|ours|us)\b", re.IGNORECASE)
_ASKS_USER: Final = re.compile(r"\b(?:you|your|yours|you're|you've|remind me|tell me again)\b", re.IGNORECASE)
# Offers and small talk: the agent asks, but not for something it could have been told.
_OFFERS: Final = re.compile(
    r"\b(?:would you like|do you want|want me to|shall i|should i|can i|may i|could i|how can i|how may i|"
    r"anything else|"
    r"what else|how are you|how is it going|how's it going|how was your|are you ready|does that|is that|is there|"
    r"would that|did that|how about|what do you think|do you have any questions|sound good|what brings you|"
    r"what can i)\b",
    re.IGNORECASE,
)
_CORRECTS: Final = re.compile(
    r"\b(?:i|we)(?:'ve| have)? (?:already |just )?(?:told|said|mentioned|explained)(?: to)?"
    r"(?: you| that| this| it| so)?"
    r"(?: (?:that|this|it|so|already|before|earlier|last|yesterday|twice))|"
    r"\b(?:i|we)(?:'ve| have)? (?:already|just) (?:told|said|mentioned|explained|answered|gave)\b|"
    r"\bas i (?:said|mentioned|told you)\b|\b(?:like|what) i (?:said|told you)\b|"
    r"\b(?:did you|you|have you) (?:forgot|forget|forgotten)\b|"
    r"\bdon't you remember\b|\byou should (?:know|remember)\b|\bi told you\b|"
    r"\bthat(?:'s| is|'s just| is just) (?:not (?:right|true|correct|what i said|it)|wrong|incorrect|outdated|old)\b|"
    r"\byou(?:'re| are) (?:wrong|mistaken|mixing|confusing)\b|\byou got (?:that|it|this|my \w+) wrong\b|"
    r"\bnot \w+(?: \w+){0,2}, (?:it's|it is)\b",
    re.IGNORECASE,
)
# "No, it's Lisbon." "Nope - I moved to Porto." A bare "no" answers a question.
_NO_BUT: Final = re.compile(
    r"^actually,? (?:no\b|it'?s\b|it is\b|that'?s\b)|^(?:no|nope|wrong|incorrect)"
    r"(?:,|\.|!|:| -| \u2014|;)+ ?(?:no, )?(?:it|it's|its|i|i'm|i've|my|we|our|he|she|they|the|"
    r"that|that's|actually)\b",
    re.IGNORECASE,
)
_POLITE: Final = re.compile(
    r"^(?:no|nope)[,.! ]+(?:thanks|thank you|that's (?:all|it|fine|ok)|it's (?:ok|okay|fine)|i'm (?:good|fine|ok))"
)


def refusal(response: str) -> str | None:
    """The sentence in which an answer says that it does not know; None if it knows, or says much besides."""
    said = sentences(_plain(response))[:_MANY]
    gone = [item for item in said if _says_no(item)]
    if not gone:
        return None
    rest = [item for item in said if item not in gone and not is_refusal(item) and not item.endswith("?")]
    return gone[0] if sum(len(content.tokens(item)) for item in rest) <= _FEW_WORDS // 4 else None


def _says_no(sentence: str) -> bool:
    lower = sentence.lower()
    if _KNOWS_NOT.search(lower) is None or _WHETHER.search(lower) is not None:
        return False
    size = len(sentence.split())
    return size <= _FEW_WORDS // 2 or (size <= _FEW_WORDS and is_refusal(sentence) and not _TELLS.search(lower))


def question(text: str) -> str | None:
    """The question that a message asks: its last sentence that asks one; None if there is none."""
    said = sentences(_plain(text))[:_MANY]
    asked = [item for item in said if item.rstrip("\"')\u201d ").endswith("?")]
    asked = asked or [item for item in said if _QUESTION_WORD.match(item) and not item.endswith("!")]
    return asked[-1] if asked else None


def is_personal(asked: str, names: frozenset[str]) -> bool:
    """Whether a question is about whoever asks it, or about somebody the memory knows: memory's business."""
    return bool(_PERSONAL.search(_plain(asked)) or words.named(asked, names))


def asks_back(response: str) -> list[str]:
    """Questions by which an agent asks the user for something it might have been told; offers are left out."""
    said = sentences(_plain(response))[:_MANY]
    return [
        item
        for item in said
        if item.endswith("?") and _ASKS_USER.search(item) and not _OFFERS.search(item) and answers.topic(item)
    ]


def correction(text: str) -> str | None:
    """The sentence by which a user sets the agent right; None if the message does nothing of the kind."""
    plain = _plain(text)
    if _POLITE.match(plain.lower()):
        return None
    for place, sentence in enumerate(sentences(plain)[:_MANY]):
        if sentence.endswith("?") and not re.search(r"\bdon't you remember|forg[eo]t", sentence.lower()):
            continue
        if _CORRECTS.search(sentence) or (place == 0 and _NO_BUT.match(plain)):
            return sentence
    return None


def statements(text: str) -> list[str]:
    """The sentences of a message that ask nothing."""
    return [item for item in sentences(_plain(text))[:_MANY] if not item.rstrip("\"')\u201d ").endswith("?")]


def _plain(text: str) -> str:
    return text[:LONGEST].translate(_APOSTROPHES).strip()
