"""Small talk: recognises messages that say nothing worth keeping. Conservative: one unknown word and a message stays.

A message is small talk when known phrases cover it from end to end and one of them at least is a greeting, thanks, a
farewell, praise, laughter or an acknowledgement. Bare answers ("Yes.", "Not really", "Me too") have no such mark.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final

from engram_core.measure.words import folded, stems

LONGEST: Final = 240
"""Characters beyond which a message is never small talk: a long paste is not even looked at."""

_SHORTEST_NAME: Final = 3
_EMOTICON = re.compile(r"(?<!\S)(?:[:;=][-']?[()dpo/|*]|<3+|x+d+)(?=[\s.,!]|$)", re.IGNORECASE)
_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)*")

_YOU: Final = r"(?: (?:you|ya|u|y'all))"
_PRAISE: Final = (
    "(?:great|cool|awesome|amazing|nice|good|wonderful|fantastic|lovely|excellent|perfect|brilliant|incredible|"
    "impressive|beautiful|gorgeous|adorable|cute|fun|exciting|interesting|inspiring|neat|fabulous|terrific|stunning)"
)
_VERY: Final = "(?:so|really|very|pretty|super|truly|totally|absolutely|just|always)"
_FAVOUR: Final = (
    "(?:help|support|time|encouragement|advice|patience|sharing|listening|asking|chatting|understanding|kindness|"
    "kind words|info|information|update|answer|reply|response|explanation|clarification|chat|talk|heads up|reminder|"
    "compliment|everything|being there|having my back|letting me know|checking in)"
)
_MUCH: Final = "(?: (?:so much|a lot|a bunch|a ton|a million|very much|again|man|buddy|friend|everyone|all|in advance))"

_MARKS: Final = (
    # greetings
    r"(?:hi|hey|hello|hiya|heya|howdy|greetings)(?: there| again| all| everyone)?",
    r"good (?:morning|afternoon|evening|night)|goodnight",
    rf"how are(?:{_YOU}| things)(?: doing| been)?(?: today| lately)?|how(?:'ve| have){_YOU} been|how ya been",
    r"how(?:'s| is) (?:it|everything)(?: going)?(?: today)?|what's (?:up|new)(?: with you)?|sup",
    rf"long time no see(?:{_YOU})?|(?:it's )?been a while",
    rf"(?:(?:it's|it was) )?(?:so |always )?{_PRAISE} (?:to (?:see|meet|hear from|chat with|talk to)|seeing){_YOU}"
    r"(?: too| again| all)?",
    rf"(?:(?:it's|it was) )?{_PRAISE} (?:catching up|(?:chatting|talking|hearing)(?: (?:with|to|from){_YOU})?)"
    rf"(?: with{_YOU})?(?: too| again)?",
    r"(?:i )?hope (?:all|everything)(?: is|'s) (?:good|well)|(?:i )?hope you(?:'re| are) (?:doing )?well",
    # farewells
    r"bye(?: bye| for now)?|goodbye|farewell|cya|ttyl|cheers|take it easy|until next time",
    rf"(?:i'll |i will )?(?:see|catch){_YOU}(?: soon| later| then| around| there| again)?",
    rf"(?:i'll |i will )?(?:talk|chat|speak)(?: (?:to|with){_YOU})? (?:soon|later|again)",
    r"take care(?: of yourself)?|stay (?:safe|well|strong)|good luck|best of luck|have fun|enjoy(?: yourself| it)?",
    rf"have an? (?:really )?(?:{_PRAISE}|safe) (?:day|night|evening|weekend|week|time|one|afternoon)",
    # thanks
    rf"(?:many )?thanks{_MUCH}?|thank{_YOU}{_MUCH}?|thx|ty|tysm|much appreciated",
    rf"(?:(?:thanks|thank you)(?: so much| again| a lot)?(?: for)?|(?:i )?(?:(?:really|truly|so) )?appreciate)"
    rf"(?: all)?(?: your| the)? {_FAVOUR}",
    r"(?:i )?(?:(?:really|truly|so|do) )?appreciate (?:it|that|you)",
    r"(?:(?:it|that|this|(?:your|the) (?:kind )?(?:words|support)) )?(?:really )?(?:means?|means so|mean so) "
    r"(?:a lot|so much|much|everything|the world)(?: to me)?",
    rf"(?:you(?:'re| are)|you) (?:{_VERY} )?(?:the best|rock|a star|a lifesaver|too kind|kind|sweet|{_PRAISE}|welcome)",
    # acknowledgements
    r"ok|okay|okey|k|kk|alright|all (?:right|good|set)|got it|got ya|gotcha|i see|noted|understood|roger(?: that)?",
    r"(?:no|not a) (?:problem|worries|prob)|np|anytime|my pleasure|don't mention it|sure thing|will do|you bet",
    r"makes sense|fair enough|sounds like a (?:good |great )?plan",
    # praise and cheer
    r"congrats|congratulations|well done|bravo|way to go|go for it",
    rf"{_PRAISE} (?:job|work|one|going|stuff|idea|plan|news)",
    r"you(?:'ve)? got this|you can do (?:it|this)|keep (?:it up|going|pushing(?: on)?|rocking(?: it)?|shining)",
    r"keep up the (?:good|great|awesome|amazing) work|that's the spirit|lucky you|good for you",
    r"(?:i'm |i am )?(?:(?:so|really) )?(?:proud of|happy for|glad for|excited for) you",
    rf"(?:(?:i'm|i am|that's|that is) )?(?:(?:so|really) )?(?:glad|happy|{_PRAISE}) to hear(?: it| that)?",
    r"(?:i'm )?(?:(?:so|really) )?glad (?:(?:i could|to) help|it helped)(?: ya| you)?|i'm (?:always )?here for you",
    rf"(?:(?:how|that|this)|(?:that's|that is|this is|(?:that |this |it )?(?:looks?|sounds?|must be)))"
    rf"(?: {_VERY})* {_PRAISE}",
    rf"(?:(?:that's|that is|what|such|looks like|sounds like) )?an? (?:{_VERY} )?{_PRAISE} "
    r"(?:idea|plan|thing|one|thought|news|story|photo|picture|pic|shot)",
    rf"(?:{_VERY} )*{_PRAISE}|(?:i )?love (?:it|that|this)|super|yum|huh|phew|(?:yay|hooray|hurray|woohoo|yippee)",
    r"omg|oh my(?: god| gosh| goodness)?|w+o+w+|wh?o+a+h*|a+w+|o+h+|a+h+|h+m+|m+h*m+",
    r"a*h*(?:ha){2,}h*|(?:he){2,}|lo+l|lmao",
)
# Allowed beside a mark, never enough alone: an answer to a question may consist of these.
_FILLER: Final = (
    "yes|yeah|yep|yup|yea|sure|totally|definitely|absolutely|exactly|indeed|really|truly|right|true|of course|for sure",
    "me too|you too|same here|same to you|likewise|agreed|(?:i )?(?:(?:totally|completely) )?agree|(?:i )?know right",
    "so|and|but|well|anyway|man|dude|bro|buddy|friend|guys|everyone|all|please|again|too|now|later|oh",
    "(?:i )?(?:definitely )?will|i'll|just wanted to say|can't wait(?: to hear it)?|(?:it|they) (?:really )?(?:is|are)",
)
_MARK_PATTERNS: Final = tuple(re.compile(rf"(?:{pattern})(?= |$)") for pattern in _MARKS)
_FILLER_PATTERNS: Final = tuple(re.compile(rf"(?:{pattern})(?= |$)") for pattern in _FILLER)
_DIGIT = re.compile(r"\d")
_ADDRESSED = re.compile(
    r"\b((?i:hi|hey|hello|thanks|thank you|bye|goodbye|good morning|good night|congrats|cheers)),? "
    r"[A-Z][a-z]+(?=\s*(?:[!.,?]|$))"
)


def is_small_talk(text: str, others: Collection[str] = ()) -> bool:
    """Whether `text` is only small talk.

    Args:
        text: A message body.
        others: Names of the people it may address, not of its own speaker.

    Returns:
        True for greetings, thanks, farewells, praise, laughter, acknowledgements and text without any word. False as
        soon as there is a digit, a name that is not addressed, or a word outside the known phrases.
    """
    if len(text) > LONGEST:
        return False
    plain = _EMOTICON.sub(" ", text.replace("\u2019", "'"))
    if _DIGIT.search(plain):
        return False
    unaddressed = _ADDRESSED.sub(r"\1", plain)
    names = _first_names(frozenset(others))
    words = [token.lower() for token in _TOKEN.findall(unaddressed) if not _is_name(token, names)]
    return not words or _is_covered(" ".join(words))


def _is_covered(line: str) -> bool:
    """Whether phrases cover `line` from end to end, one of them a mark. The longest phrase wins at each place."""
    at, is_marked = 0, False
    while at < len(line):
        mark, filler = _reach(_MARK_PATTERNS, line, at), _reach(_FILLER_PATTERNS, line, at)
        if max(mark, filler) == at:
            return False
        is_marked = is_marked or mark >= filler
        at = max(mark, filler) + 1
    return is_marked


def _reach(patterns: tuple[re.Pattern[str], ...], line: str, at: int) -> int:
    return max((found.end() for pattern in patterns if (found := pattern.match(line, at))), default=at)


def _is_name(token: str, names: frozenset[str]) -> bool:
    """Whether `token` is one of `names`, or a capitalised short form of one ("Mel" for Melanie)."""
    lowered = folded(token)
    if lowered in names:
        return True
    # "No" is not short for Nora, nor "Can" for Candice: stop words have no stems.
    is_short_form = token[0].isupper() and len(token) >= _SHORTEST_NAME and stems(token)
    return bool(is_short_form) and any(name.startswith(lowered) for name in names)


@lru_cache(maxsize=64)
def _first_names(names: frozenset[str]) -> frozenset[str]:
    return frozenset(folded(part) for name in names for part in _TOKEN.findall(name) if len(part) > 1)
