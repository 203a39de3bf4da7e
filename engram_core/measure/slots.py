"""Slots: what a statement is about and what it says of it, when both can be told. Precision first; in doubt, nothing.

A slot lets a new value replace an old fact, so the patterns are narrow: each has to cover the whole sentence. They
follow docs/algorithms.md section 9. English; pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from engram_core.domain.fact import Slot
from engram_core.measure.content import stem
from engram_core.measure.dates import MONTHS
from engram_core.measure.sentences import sentences

LONGEST_VALUE: Final = 9
"""Words of a value."""
LONGEST_SENTENCE: Final = 300
"""Characters of a sentence that is looked at."""


@dataclass(frozen=True, slots=True)
class Keyed:
    """A sentence's slot and value.

    Attributes:
        slot: Subject in lower case, and an attribute such as `location`, `favorite color` or `capital`.
        value: The words that fill it, as said; "" where the sign is all there is.
        rule: The pattern that told, e.g. `location` or `instruction`.
        span: The words that were matched.
        sign: +1, or -1 for "dislikes" and "never".
        is_alone: The sentence says nothing besides: archiving it loses nothing else.
    """

    slot: Slot
    value: str
    rule: str
    span: str
    sign: int = 1
    is_alone: bool = True


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _pattern(*parts: str) -> re.Pattern[str]:
    return re.compile("".join(parts), re.IGNORECASE)


_LEAD: Final = (
    r"(?:(?:well|so|oh|yes|yeah|hey|hi|ok|okay|and|but|also|actually|fyi|by the way|btw|currently|now|right now|"
    r"these days|nowadays|at the moment|as of (?:today|now)|just so you know|update|good news|correction|in fact|"
    r"recently|finally|instead)[,:!]? )*"
)
_KIN: Final = (
    r"(?P<kin>wife|husband|spouse|partner|girlfriend|boyfriend|fianc[eé]e?|mother|mom|mum|father|dad|boss|brother|sister|"
    r"son|daughter)"
)
# Names may hold small words ("Harry Potter and the Chamber of Secrets"), but begin with a capital or a digit.
_PART: Final = r"[A-Z0-9][\w.'’&/-]*"
_NAME: Final = (
    rf"(?-i:(?:[Tt]he )?{_PART}(?:,? (?:(?:of|the|and|de|du|la|van|von|der|for|in|on|to|&) ){{0,2}}{_PART}){{0,6}})"
)
_PERSON: Final = rf"(?-i:{_PART}(?: (?:(?:de|du|la|van|von|der|bin|al) )?{_PART}){{0,4}})"
_SUBJECT: Final = rf"(?P<subject>I|we|(?:the )?user|my {_KIN}|{_PERSON})"
# What was founded or written: any short run of words without a comma.
_ENTITY: Final = r"(?P<subject>[^\s,;]+(?: [^\s,;]+){0,8}?)"
_NOW: Final = r"(?:(?:now|currently|still|presently|already|actually|recently|finally) )*"
_BE: Final = r"(?:'(?:m|s|re)| am| is| are)"
_HAVE: Final = r"(?:'(?:ve|s)| have| has)?"
_VALUE: Final = r"(?P<value>\S.*)"
_OCCUPATION: Final = (
    "(?:engineer|developer|programmer|teacher|nurse|doctor|lawyer|attorney|designer|accountant|scientist|architect|"
    "analyst|consultant|electrician|plumber|pharmacist|dentist|professor|journalist|paramedic|veterinarian|economist|"
    "translator|carpenter|mechanic|librarian|pilot|firefighter|surgeon|therapist|psychologist|receptionist|manager|"
    "director|writer|researcher|chef|photographer|artist|musician)"
)
_LISTED: Final = (
    r"(?:(?:job )?title|name|age|job|role|employer|company|salary|income|address|city|hometown|country|location|"
    r"e-?mail(?: address)?|(?:phone|cell)(?: number)?|birthday|birthdate|spouse|wife|husband|partner|boyfriend|"
    r"girlfriend|status|nationality|citizenship|religion|major|school|university|college|degree|"
    r"budget|deadline|target|limit|quota|goal|rate|price|cost|size|version|language|time ?zone|weight|height|"
    r"username|manager|boss|capital|president|ceo|author|owner|director|chair(?:person|man|woman)|coach|founder|"
    r"creator|developer|producer|composer|broadcaster|governor|mayor|chancellor|prime minister|king|queen|leader|"
    r"officer|head of (?:state|government)|headquarters|genre|position|sport|continent|currency|father|mother|child|"
    r"publisher|manufacturer|performer|editor|doctor|dentist|landlord|rent|start date|due date|launch date|occupation|"
    r"profession|instrument|party|team|club|mentor|supervisor|gym|password|passcode|phone plan|"
    r"citizenship|place of (?:birth|death|work)|founder)"
)
_OF_LISTED: Final = (
    rf"(?:(?!(?:of|in|that|is|was)\b)[\w'-]+ ){{0,4}}?{_LISTED}|name of the current (?:[\w'-]+ ){{0,2}}?{_LISTED}"
)

_LIVES: Final = _pattern(
    _LEAD,
    _SUBJECT,
    rf"(?: {_NOW}(?:lives?|resides?)|{_BE} {_NOW}(?:living|residing|based|located)) (?:in|at) ",
    r"(?:the (?:city|town) of )?",
    _VALUE,
)
_MOVED: Final = _pattern(
    _LEAD,
    _SUBJECT,
    _HAVE,
    rf" {_NOW}(?:just )?(?:moved|relocated)(?: back)? (?:from (?P<from>[\w' ,.-]{{1,40}}?) )?to (?:the city of )?",
    _VALUE,
)
_WORKS_FOR: Final = _pattern(
    _LEAD, _SUBJECT, rf"(?: {_NOW}works?|{_BE} {_NOW}(?:working|employed)) (?:at|for|by) ", _VALUE
)
_JOINED: Final = _pattern(
    _LEAD, _SUBJECT, _HAVE, r" (?:just |recently )?(?:started (?:a new job|working) at|switched jobs to) ", _VALUE
)
_WORKS_AS: Final = _pattern(_LEAD, _SUBJECT, rf"(?: {_NOW}works?|{_BE} {_NOW}working) as (?P<value>an? .+)")
_IS_BY_TRADE: Final = _pattern(
    _LEAD,
    _SUBJECT,
    rf"{_BE} {_NOW}(?P<value>an? (?:[\w-]+ ){{0,3}}?{_OCCUPATION}(?: (?:at|for|in|with|by) .+| now)?)",
)
_RELATED: Final = _pattern(
    _LEAD,
    _SUBJECT,
    rf"{_BE} {_NOW}(?:happily |recently |newly |legally )?"
    r"(?P<value>(?:single|married|divorced|engaged|widowed)(?: (?:now|again|to .+))?|dating .+|"
    r"in a (?:\w+ )?relationship(?: with .+)?)",
)
_AGED: Final = _pattern(
    _LEAD, _SUBJECT, rf"(?:{_BE} {_NOW}(?P<value>\d{{1,3}}) years old(?: now)?| (?:just )?turned (?P<turned>\d{{1,3}}))"
)
_WEIGHS: Final = _pattern(_LEAD, _SUBJECT, rf" {_NOW}weighs? (?P<value>\d[\w ., ]*)")
_DIET: Final = _pattern(
    _LEAD,
    _SUBJECT,
    rf"{_BE} {_NOW}(?P<value>(?:not )?(?:an? )?(?:vegan|vegetarian|pescatarian))(?: now| any ?more| any longer)?",
)
_CALLED: Final = _pattern(
    _LEAD,
    r"(?:please |just )?(?:call me|(?P<subject>I) (?:go by|want to be called|prefer to be called|'d "
    r"like to be called)) ",
    rf"(?P<value>(?!(?-i:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day){_PERSON})",
)
_STATES: Final = (
    (_WEIGHS, "weight"),
    (_DIET, "diet"),
    (_CALLED, "called"),
    (_LIVES, "location"),
    (_MOVED, "location"),
    (_WORKS_FOR, "employer"),
    (_JOINED, "employer"),
    (_WORKS_AS, "job"),
    (_IS_BY_TRADE, "job"),
    (_RELATED, "relationship"),
    (_AGED, "age"),
)
# Relations with one value at a time, as biographies and encyclopaedias put them.
_RELATIONS: Final = (
    (_pattern(_ENTITY, r" (?:is|was|became) (?:now )?married to (?P<value>\S.*)"), "relationship"),
    (_pattern(_ENTITY, r" is (?:now )?a citizen of (?P<value>\S.*)"), "citizenship"),
    (_pattern(_ENTITY, r" is (?:now )?affiliated with (?:the religion of )?(?P<value>\S.*)"), "religion"),
    (_pattern(_ENTITY, r" speaks the language of (?P<value>\S.*)"), "language"),
    (_pattern(_ENTITY, r" is (?:now )?associated with the sport of (?P<value>\S.*)"), "sport"),
    (_pattern(_ENTITY, r" plays the (?:position|role) of (?P<value>\S.*)"), "position"),
    (
        _pattern(_ENTITY, r" (?:works|worked|is working) in the (?:city|country|state|field) of (?P<value>\S.*)"),
        "work city",
    ),
    (_pattern(_ENTITY, r" died in (?:the city of )?(?P<value>\S.*)"), "died in"),
    (_pattern(_ENTITY, r" is (?:now )?(?:employed by|a member of staff at) (?P<value>\S.*)"), "employer"),
    (_pattern(_ENTITY, r" is (?:now )?located in the city of (?P<value>\S.*)"), "location"),
    (_pattern(_ENTITY, r" is (?:now )?located in the country of (?P<value>\S.*)"), "country"),
    (_pattern(_ENTITY, r" is (?:now )?located in the continent of (?P<value>\S.*)"), "continent"),
    (_pattern(_ENTITY, r" is (?:now )?headquartered in (?:the city of )?(?P<value>\S.*)"), "headquarters"),
    (_pattern(_ENTITY, r" is famous for (?P<value>\S.*)"), "famous for"),
)
_MADE: Final = _pattern(
    _ENTITY,
    r" (?:was|is|were) (?:originally )?(?P<verb>born|founded|created|written|developed|performed|produced|directed|"
    r"educated|designed|composed|published|formed|invented|discovered|released|owned)",
    r" (?P<where>(?:in|by|at) (?:the (?P<sort>city|country|language|university|state|continent) of )?)",
    _VALUE,
)
_PREFERS: Final = _pattern(
    _LEAD,
    _SUBJECT,
    r" (?:(?:now|usually|always|generally|currently) )?prefers? (?P<value>[\w'-]+(?: [\w'-]+){0,4}?) "
    r"(?:for|when|while|during) (?P<purpose>[\w'-]+(?: [\w'-]+){0,5})",
)
_TOOL: Final = _pattern(
    _LEAD,
    r"(?:(?P<subject>I|we|(?:the )?user) )?(?:(?:always|only|now|currently|please|usually|mostly) )*uses? "
    r"(?P<value>[\w'.+#-]+(?: [\w'.+#-]+){0,4}?) (?:as|for) (?P<purpose>[\w'-]+(?: [\w'-]+){0,5})",
)
_SCHEDULE: Final = _pattern(
    _LEAD,
    r"(?P<what>(?:my|our|the) [\w' -]{2,60}?)(?: (?:is|are)(?: now)? (?:on|at)"
    r"|(?: is| was| are| has been|'s been| got)? (?:now |just )?"
    r"(?:(?:re)?scheduled|planned|set|booked|moved|postponed|shifted|pushed(?: back)?|delayed)"
    r"(?: from (?P<from>[\w ,:'-]{1,40}?))? (?:for|to|on|at|until)) ",
    _VALUE,
)
_ATTRIBUTE: Final = _pattern(
    _LEAD,
    rf"(?:(?P<mine>my|our)|the user's|(?P<whose>{_PERSON}?)['’]s?)(?: {_KIN}'s| (?P<pet>dog|cat|puppy|"
    rf"kitten|horse|bird|company|startup|team|project|band|boat|car)'s)? ",
    rf"(?P<attribute>(?:(?!(?:is|was|are)\b)[\w-]+ ){{0,3}}?{_LISTED}|favou?rite (?:[\w-]+ )?[\w-]+)",
    r"(?: is| are|'s| =|:| has (?:been )?(?:changed|increased|decreased|moved|grown|risen|dropped) "
    r"(?:from (?P<from>.{1,40}?) )?to|"
    r" (?:changed|increased|decreased|moved|rose|dropped|grew|went up|went down) (?:from "
    r"(?P<from2>.{1,40}?) )?to| became)"
    r" (?:now |currently |still )*",
    _VALUE,
)
_CHANGED: Final = _pattern(
    _LEAD,
    rf"(?P<subject>I|we)(?:'ve| have|'m| am|'re| are)? {_NOW}(?:just |had to )*"
    r"(?:increas|decreas|rais|reduc|lower|extend|chang|mov|push|updat|adjust|revis|cut|bump|shift|set|rais|switch)"
    r"(?:e|ed|ing|ted|ting|d)? (?:up |back |down )?(?:my|our|the) "
    rf"(?P<attribute>(?:(?!(?:from|to)\b)[\w'-]+ ){{0,5}}?(?:{_LISTED})(?: (?:for|of) [\w' -]{{2,40}}?)?)"
    r"(?: up| back| down)?(?: from (?P<from>[^,;]{1,40}?))? to ",
    _VALUE,
)
_THE_OF: Final = _pattern(
    _LEAD,
    rf"the (?P<attribute>{_OF_LISTED}|type of music that|company that produced|uni(?:versity|veristy) "
    rf"where|capital city|"
    r"[\w'-]+(?: [\w'-]+){0,3}?)",
    r" (?P<link>of|in|for|at|(?:played|spoken|held|practi[cs]ed) by) (?P<subject>[^;?!]{1,80}?)",
    r" (?:is|was|are|became|has been) (?:now |currently )?(?:located in )?(?:the (?:city|country|"
    r"continent|state|language|sport) of )?",
    _VALUE,
)
_THAT_IS: Final = _pattern(
    r"the (?P<attribute>type of music|company|university|univeristy|place|band|team|club|school)"
    r" (?:that|where|which) (?P<subject>[^,;?!]{1,80}?)"
    r" (?P<verb>plays?|was educated|produced|was produced by|plays? for|is a member of|attends|attended|studied) "
    r"(?:is|was) ",
    _VALUE,
)
_IS_THE_OF: Final = _pattern(
    _LEAD,
    rf"(?P<value>{_PERSON}) is (?:now )?the (?:new |current )?(?P<attribute>{_LISTED}) of (?P<subject>[^;?!,]{{1,80}})",
)
_WHO_MADE: Final = _pattern(
    r"the (?P<attribute>[\w-]+) (?:that|who|which) (?P<verb>produced|published|makes|made|owns|developed|founded) ",
    r"(?P<subject>[^,;?!]{1,80}?) (?:is|was) ",
    _VALUE,
)
_THING_IS: Final = _pattern(
    _LEAD,
    r"(?P<what>(?:the|my|our) (?:[\w'-]+ ){0,3}?[\w'-]+) "
    r"(?:is|are|has been|is set to|was (?:changed|increased|updated|moved) to|has (?:changed|"
    r"increased|grown|moved) to|="
    r"|went (?:up|down) to) (?:now |currently |still )*",
    _VALUE,
)
_LIKES: Final = _pattern(
    _LEAD,
    _SUBJECT,
    r"(?: (?P<not>no longer|don't|doesn't|do not|does not|never|not))?"
    r"(?: (?:really|now|absolutely|still|much|just|always|generally|usually|also))*"
    rf"(?: (?:(?P<plus>likes?|loves?|enjoys?|adores?)|(?P<minus>dislikes?|hates?|detests?|avoids?|"
    rf"can't stand|cannot stand|can't bear))|"
    rf"{_BE}(?P<no> not| no longer)? (?:(?P<fond>fond of|a fan of|allergic to)|(?P<tired>tired of|sick of)))",
    r" (?P<value>[^,;?!]+?)(?: (?:anymore|any more|any longer|now))?",
)
_ORDER_LEAD: Final = re.compile(
    r"^(?:(?:please|also|and|ok|okay|so|but|now|instead|actually|hey|remember|from now on|going forward|from here on|"
    r"in (?:the )?future|as of (?:today|now)|starting (?:now|today)|one more thing|note|quick note|update|important|"
    r"i (?:want|need|would like|'d like) you to|i'd (?:like|prefer) you to|you (?:should|must|have to|"
    r"need to)|make sure (?:to|you)|"
    r"for (?:your|our|all|any) (?:[\w-]+ )?code|let's|when(?:ever)? [^,]{1,40},|for [^,]{1,30},|in [^,]{1,30},|"
    r"remember to)[,:]? )+",
    re.IGNORECASE,
)
_ORDER: Final = re.compile(
    r"(?:(?P<always>always)|(?P<never>never|do not ever|don't ever|do not|don't|avoid|stop))? "
    r"?(?:(?:now|please|instead) )?"
    r"(?P<rest>(?P<verb>[a-z]+)\b.*)",
    re.IGNORECASE,
)
# "Function names should start with 'x_'" orders as well.
_SHOULD: Final = re.compile(
    r"(?P<what>(?:all |every |each |any |your |the )?[\w -]{3,40}?) (?:should|must|need to|have to|has to|needs to)"
    r"(?: (?P<always>always)| (?P<never>never|not))? (?P<verb>start|begin|end|finish|be|have|use|"
    r"contain)\b(?P<rest>.*)",
    re.IGNORECASE,
)
_ORDER_VERBS: Final = _words(
    "use answer reply respond write call format show send put start begin end finish keep make tell name wrap prefix "
    "suffix capitalize capitalise commit push deploy store log return sort test mention speak "
    "address suggest recommend "
    "translate explain quote cite print document review round sign indent limit define declare set structure separate "
    "place save title label annotate mark"
)
_SAME_VERBS: Final = {"begin": "start", "finish": "end", "prefix": "start", "suffix": "end"}
_SAME_VERB: Final = re.compile(r"^(?:begin|finish|prefix|suffix)\b", re.IGNORECASE)
_ADDITIVE: Final = _words("add include import install attach append join attend visit read watch buy try")
_QUOTED: Final = re.compile(
    r"(?<!\w)(?:'(?P<a>[^'\n]{1,20})'|\"(?P<b>[^\"\n]{1,20})\"|`(?P<c>[^`\n]{1,20})`|“(?P<d>[^”\n]{1,20})”|‘(?P<e>[^’\n]{1,20})’)(?!\w)"
)
_NUMBER: Final = re.compile(r"(?<![\w.])\d+(?:[.,:]\d+)*(?![\w])")
_TONGUE: Final = re.compile(
    r"(?<=\bin )(?:english|french|german|spanish|italian|portuguese|dutch|polish|swedish|danish|"
    r"norwegian|finnish|greek|"
    r"turkish|russian|ukrainian|arabic|hebrew|hindi|chinese|mandarin|japanese|korean)$",
    re.IGNORECASE,
)
_ASIDE: Final = re.compile(
    r"(?:[,;]| -| –| —)? (?:and |but |so )?(?:(?:can|could|would|will|do|should) (?:you|we|i)\b|how\b|"
    r"what\b|which\b|should\b|"
    r"is there\b|any (?:ideas|tips|advice|suggestions)\b|please (?:help|suggest|recommend|update|"
    r"remember|note|keep|use)\b).*$",
    re.IGNORECASE,
)
_INSTEAD: Final = re.compile(
    r",?\s+(?:instead(?: of .+)?|from now on|going forward|now|anymore|any more|please|again)$", re.IGNORECASE
)
_RESIDUE: Final = re.compile(
    r"\b(?:and (?:i|we|he|she|they|it|my|our|love|hate|am|is|have|has|the)|but|because|although|though|while|who|"
    r"where|which|so that|since (?:i|we|he|she|they|it))\b|[;:]|, (?:and|but|so|because)\b",
    re.IGNORECASE,
)
# What a value can lose without becoming another: when, with whom, and why.
_TAIL: Final = re.compile(
    r"(?:,(?!\d)| (?:since|starting|as of|effective|after|before|last|this|next|until|due to|because "
    r"of|thanks to)| with my| for (?:work|now|good)|"
    r" (?:in|on) (?:early |late |mid-?)?(?:"
    + "|".join(month for month in MONTHS)
    + r"|(?:19|20)\d\d|spring|summer|autumn|fall|winter|mon|tues|wednes|thurs|fri|satur|sun)\w*"
    r"| (?:yesterday|today|now|currently|recently|again|permanently|ago|anymore|already)\b).*$",
    re.IGNORECASE,
)

# Words that open a sentence with a capital and name nobody.
_NOT_NAMES: Final = _words(
    "he she it they you i we this that these those there here who what which everyone everybody "
    "someone somebody nobody one "
    "people some many most a an my our your his her their its both all and but or if when while because since yes "
    "no ok okay well so oh hey hi thanks then also maybe perhaps today yesterday tomorrow not never how why where "
    "as after before now please always something anything nothing everything with in on at for from to"
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
_PLAIN_VALUES: Final = _words(
    "occupation profession instrument status religion major language sport position genre role title "
    "nationality citizenship degree currency continent"
)
_WEEKDAY: Final = re.compile(r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b", re.IGNORECASE)
_DATED: Final = re.compile(rf"\b(?:{'|'.join(MONTHS)}|(?:19|20)\d\d)\b|{_WEEKDAY.pattern}", re.IGNORECASE)
_CLOCK: Final = re.compile(r"\b\d{1,2}(?::\d\d)? ?(?:[ap]\.?m\b|o'clock)|\b\d{1,2}:\d\d\b|\d", re.IGNORECASE)
# What is so for a moment only replaces nothing: "the temperature of the pool is 21 degrees today".
_MOMENT: Final = re.compile(
    r"\b(?:today|tonight|yesterday|this (?:morning|afternoon|evening)|last night|so far)\b", re.IGNORECASE
)
_SOON: Final = re.compile(r"\b(?:next|tomorrow|noon|midnight|tonight)\b", re.IGNORECASE)
_COUNTRIES: Final = _words(
    "europe asia africa america australia oceania england scotland wales ireland britain uk usa us "
    "canada mexico brazil "
    "argentina chile peru colombia bolivia ecuador uruguay paraguay venezuela cuba jamaica haiti panama guatemala "
    "honduras nicaragua france germany spain portugal italy switzerland austria belgium netherlands holland denmark "
    "sweden norway finland iceland poland czechia slovakia hungary romania bulgaria greece turkey ukraine russia "
    "belarus estonia latvia lithuania croatia serbia slovenia bosnia albania malta cyprus china japan korea india "
    "pakistan bangladesh nepal thailand vietnam laos cambodia indonesia malaysia philippines taiwan mongolia egypt "
    "morocco algeria tunisia libya kenya uganda tanzania ethiopia nigeria ghana senegal zambia zimbabwe israel jordan "
    "lebanon syria iran iraq kuwait qatar yemen oman california texas florida oregon nevada arizona colorado ohio "
    "michigan virginia bavaria catalonia queensland ontario quebec"
)
_SAME_ATTRIBUTE: Final = {
    "email address": "email", "e-mail": "email", "e-mail address": "email", "phone number": "phone", "cell": "phone",
    "cell number": "phone", "birthdate": "birthday", "time zone": "timezone", "spouse": "relationship",
    "capital city": "capital", "job title": "job", "title": "job", "company": "employer",
}  # fmt: skip
_SAME_KIN: Final = {"mom": "mother", "mum": "mother", "dad": "father"}


def keyed(sentence: str, speaker: str | None) -> Keyed | None:
    """The slot and value of one sentence of a person, or None.

    Args:
        sentence: One sentence; a question is cut down to the statement in front of it, if there is one.
        speaker: Who said it; first-person slots belong to "user" if None.
    """
    said = sentence.strip().replace("\u2019", "'")
    asks = said.endswith("?")
    plain = _ASIDE.sub("", said.rstrip(".!? ")) if asks else said.rstrip(".! ")
    if not plain or (asks and len(plain) == len(said.rstrip(".!? "))) or len(plain) > LONGEST_SENTENCE:
        return None
    first = (speaker or "user").lower()
    for rule in _RULES:
        found = rule(plain, first)
        if found is not None:
            return found
    return None


def _state(sentence: str, first: str) -> Keyed | None:
    """Location, employer, job, relationship and age."""
    for pattern, attribute in _STATES:
        found = pattern.fullmatch(sentence)
        if found is None:
            continue
        subject = _subject(found, first) if found["subject"] else first
        value = found["value"] or found.groupdict().get("turned") or ""
        # "We moved to Postgres" is about a team; only a single person has a home by this pattern.
        is_group = pattern is _MOVED and found["subject"].lower() == "we"
        if subject and not is_group and _fits(attribute, value, sentence):
            return _kept(Slot(subject, attribute), value, attribute, found)
    return None


def _relation(sentence: str, first: str) -> Keyed | None:
    for pattern, attribute in _RELATIONS:
        found = pattern.fullmatch(sentence)
        if found is None:
            continue
        subject = _entity(found["subject"])
        if subject is not None and _is_short(found["value"]):
            value = f"married to {found['value']}" if attribute == "relationship" else found["value"]
            return _kept(Slot(subject, attribute), value, attribute, found)
    return None


def _made(sentence: str, first: str) -> Keyed | None:
    found = _MADE.fullmatch(sentence)
    subject = _entity(found["subject"]) if found else None
    if found is None or subject is None or not _is_short(found["value"]) or not _is_typed(found["value"]):
        return None
    sort = f" {found['sort']}" if found["sort"] else ""
    where = found["where"].split()[0].lower()
    return _kept(Slot(subject, f"{found['verb'].lower()} {where}{sort}"), found["value"], "origin", found)


def _preference(sentence: str, first: str) -> Keyed | None:
    found = _PREFERS.fullmatch(sentence)
    subject = _subject(found, first) if found else None
    if found is None or subject is None:
        return None
    return _kept(Slot(subject, f"preference for {_purpose(found)}"), found["value"], "preference", found)


def _tool(sentence: str, first: str) -> Keyed | None:
    found = _TOOL.fullmatch(sentence)
    if found is None or found["value"].split()[0].lower() in {"it", "this", "that", "them", "to", "my"}:
        return None
    said = (found["subject"] or "").lower()
    subject = "user" if said.endswith("user") else first
    return _kept(Slot(subject, f"tool for {_purpose(found)}"), found["value"], "tool", found)


def _purpose(found: re.Match[str]) -> str:
    return re.sub(r"^(?:my|our|the|an?|his|her|their|all) ", "", found["purpose"].lower())


def _schedule(sentence: str, first: str) -> Keyed | None:
    found = _SCHEDULE.fullmatch(sentence)
    if found is None or not _is_short(found["value"]):
        return None
    value = found["value"]
    if not (_CLOCK.search(value) or _DATED.search(value) or _SOON.search(value)) or _MOMENT.search(sentence):
        return None
    _, _, what = found["what"].lower().partition(" ")
    if what.split()[0] in {"time", "same"}:
        return None
    is_listed = re.search(rf"(?:^| ){_LISTED}$", what, re.IGNORECASE) is not None
    return _kept(Slot(first, _canonical(what) if is_listed else f"schedule of {what}"), value, "schedule", found)


def _attribute(sentence: str, first: str) -> Keyed | None:
    found = _ATTRIBUTE.fullmatch(sentence)
    if found is None:
        return None
    name = _canonical(found["attribute"])
    subject = first if found["mine"] else (found["whose"] or "user").lower()
    if subject in _NOT_NAMES or not _is_value(name, found["value"]):
        return None
    owner = _with_kin(subject, found["kin"] or found["pet"])
    return _kept(Slot(owner, name), found["value"], "attribute", found)


def _changed(sentence: str, first: str) -> Keyed | None:
    """What the speaker changed, and its new value: "I've increased my budget from $500 to $650"."""
    found = _CHANGED.fullmatch(sentence)
    if found is None or not _is_short(found["value"]) or not _is_typed(found["value"]):
        return None
    return _kept(Slot(first, _canonical(found["attribute"])), found["value"], "attribute", found)


def _the_of(sentence: str, first: str) -> Keyed | None:
    """A listed attribute with one value at a time ("the capital of France"); another with a name or number."""
    found = _THE_OF.fullmatch(sentence) or _IS_THE_OF.fullmatch(sentence)
    if found is None or not _is_short(found["value"]) or found["value"].lower() in _NOT_NAMES:
        return None
    attribute, subject = found["attribute"].lower(), _entity(found["subject"])
    is_listed = re.fullmatch(_OF_LISTED, attribute, re.IGNORECASE) is not None
    value = found["value"]
    if subject is None or value.split()[0].lower() in _NOT_VALUES - {"a", "an"} or _MOMENT.search(sentence):
        return None
    if not (_is_typed(value) if not is_listed else _is_typed(value) or _is_plain(attribute, value)):
        return None
    link = found.groupdict().get("link", "of").lower()
    if not is_listed and (attribute.split()[-1] in _VAGUE or link in {"in", "for", "at"}):
        return None
    return _kept(Slot(subject, _canonical(attribute)), value, "attribute", found)


_VAGUE: Final = _words(
    "part thing one best most rest end start beginning top bottom middle side all some lot lots bit "
    "kind sort day night "
    "week month year time moment reason way photo picture painting member example piece view sight number amount couple"
)


def _that_is(sentence: str, first: str) -> Keyed | None:
    found = _THAT_IS.fullmatch(sentence) or _WHO_MADE.fullmatch(sentence)
    subject = _entity(found["subject"]) if found else None
    if found is None or subject is None or not _is_short(found["value"]):
        return None
    attribute = f"{found['attribute']} {found['verb']}".lower()
    return _kept(Slot(subject, attribute), found["value"], "attribute", found)


def _thing_is(sentence: str, first: str) -> Keyed | None:
    """A named thing and its number or date: "The API rate limit is 1,200 calls"."""
    found = _THING_IS.fullmatch(sentence)
    if found is None or not _is_short(found["value"]) or not any(char.isdigit() for char in found["value"]):
        return None
    if _MOMENT.search(sentence):
        return None
    _, _, what = found["what"].lower().partition(" ")
    words = [word for word in what.split() if word not in _NOT_VALUES]
    is_listed = re.search(rf"(?:^| ){_LISTED}$", what, re.IGNORECASE) is not None
    if not words or (len(words) < 2 and not is_listed) or words[-1] in _VAGUE or not _starts_as_value(found["value"]):  # noqa: PLR2004
        return None
    return _kept(Slot(first, _canonical(what)), found["value"], "attribute", found)


def _starts_as_value(value: str) -> bool:
    return (
        re.match(r"(?:[$€£]|about |around |roughly |approximately |up to |at |on )*[$€£]?\d|(?:on )?\w+ \d", value)
        is not None
    )


def _likes(sentence: str, first: str) -> Keyed | None:
    found = _LIKES.fullmatch(sentence)
    subject = _subject(found, first) if found else None
    if found is None or subject is None:
        return None
    value = found["value"].lower()
    words = value.split()
    is_first = found["subject"].lower() in {"i", "we"}
    verb = (found["plus"] or found["minus"] or "").lower()
    # "Sounds like a plan" and "Unconditional love" name nobody: a third person likes, loves and hates with an s.
    if "'" in found["subject"] or (
        not is_first and not found["not"] and verb and not verb.endswith(("s", "stand", "bear"))
    ):
        return None
    if not words or len(words) > LONGEST_VALUE or words[0] in _NOT_LIKED or _RESIDUE.search(value):
        return None
    sign = 1 if found["plus"] or found["fond"] else -1
    is_denied = found["not"] or found["no"]
    if is_denied and sign < 0:
        return None  # "I don't hate it" is no liking
    sign = -1 if is_denied else sign
    what = "allergic to" if (found["fond"] or "").lower() == "allergic to" else "likes"
    return Keyed(Slot(subject, f"{what} {' '.join(_normal(value))}"), "", "likes", found[0], sign)


_NOT_LIKED: Final = _words("to that it this these those when how what you him her them me us being if your")


def _order(sentence: str, first: str) -> Keyed | None:
    """A standing order: "always end variable names with '_v'"; its value is what it quotes, else its number."""
    bare = _INSTEAD.sub("", _ORDER_LEAD.sub("", sentence))
    should = _SHOULD.fullmatch(bare)
    if should is not None and _QUOTED.search(should["rest"]) and should["what"].split()[0].lower() not in _NOT_NAMES:
        bare = f"{'never' if should['never'] else 'always'} {should['verb']} {should['what']}{should['rest']}"
    found = _ORDER.fullmatch(bare)
    if found is None:
        return None
    verb, rest = found["verb"].lower(), found["rest"]
    is_marked = found["always"] or found["never"]
    rest = _SAME_VERB.sub(lambda same: _SAME_VERBS[same[0].lower()], rest)
    if verb in _ADDITIVE or not (is_marked or verb in _ORDER_VERBS):
        return None
    sign = -1 if found["never"] else 1
    quoted = list(_QUOTED.finditer(rest))
    numbers: list[re.Match[str]] = [] if quoted or verb not in _ORDER_VERBS else list(_NUMBER.finditer(rest))
    tongues = [] if quoted or numbers or verb not in _ORDER_VERBS else list(_TONGUE.finditer(rest))
    if len(quoted) == 1 or len(numbers) == 1 or len(tongues) == 1:
        mark = (quoted or numbers or tongues)[0]
        key = " ".join(_normal(rest[: mark.start()] + " … " + rest[mark.end() :]))
        return Keyed(Slot(first, f"instruction: {key}"), mark[0].strip("'\"`“”‘’"), "instruction", sentence, sign)
    if not is_marked or quoted or numbers or len(rest.split()) > 2 * LONGEST_VALUE or verb not in _ORDER_VERBS:
        return None
    return Keyed(Slot(first, f"rule: {' '.join(_normal(rest))}"), "", "instruction_polarity", sentence, sign)


_Rule = Callable[[str, str], Keyed | None]
_RULES: Final[tuple[_Rule, ...]] = (
    _state, _preference, _attribute, _changed, _schedule, _order, _tool, _relation, _made, _that_is, _the_of,
    _thing_is, _likes,
)  # fmt: skip


def _kept(slot: Slot, value: str, rule: str, found: re.Match[str]) -> Keyed:
    cut = value[: residue.start()] if (residue := _RESIDUE.search(value)) else value
    return Keyed(slot, cut.strip(" ,"), rule, found[0], is_alone=residue is None)


def _normal(text: str) -> list[str]:
    """Lower-case words without the/a/an/currently/now and outer punctuation."""
    bare = (word.strip("\"'.,!?()[]") for word in text.lower().split())
    return [word for word in bare if word and word not in {"the", "a", "an", "currently", "now", "please"}]


def _canonical(attribute: str) -> str:
    spelt = attribute.lower().replace("favourite", "favorite").replace("colour", "color")
    name = re.sub(r"^(?:name of the )?(?:(?:current|new|old|official|original|origianl) )*", "", spelt)
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


def _entity(said: str) -> str | None:
    """The subject of an encyclopaedic sentence: no pronoun, no first person, no clause."""
    words = re.sub(r"^(?:the|an?) ", "", said.lower()).split()
    if not words or words[0] in _NOT_NAMES or "'m" in said or len(words) > LONGEST_VALUE:
        return None
    return " ".join(words) if not _CLAUSE & set(words) else None


_CLAUSE: Final = _words("i my me we our is was are were that which who said says think told")


def _with_kin(subject: str, kin: str | None) -> str:
    return f"{subject}'s {_SAME_KIN.get(kin.lower(), kin.lower())}" if kin else subject


def _is_short(value: str) -> bool:
    return len(value.split()) <= LONGEST_VALUE and value.split(maxsplit=1)[0].lower() != "to"


def _is_typed(value: str) -> bool:
    """Whether a value is a name, a number or a date, rather than a description."""
    head = value.split()[1] if value.lower().startswith(("the ", "a ", "an ")) and len(value.split()) > 1 else value
    return head[0].isupper() or any(char.isdigit() for char in value) or bool(_DATED.search(value))


def _is_plain(attribute: str, value: str) -> bool:
    return attribute.rsplit(maxsplit=1)[-1] in _PLAIN_VALUES and len(value.split()) <= 3  # noqa: PLR2004 - "association football"


def _fits(attribute: str, value: str, sentence: str) -> bool:
    """Whether the words after the verb can be a value of this kind."""
    if attribute in {"relationship", "age", "weight", "diet", "called"}:
        return True
    words = value.lower().split()
    if not words or value[0].isdigit():
        return False
    if attribute == "job":
        return len(words) <= LONGEST_VALUE + 2
    if len(words) > LONGEST_VALUE and not (_TAIL.search(value) or _RESIDUE.search(value)):
        return False
    if attribute == "location":
        return words[0] not in _NOT_PLACES and _is_proper(value, sentence)
    start = words[1] if words[0] in {"a", "an", "the"} and len(words) > 1 else words[0]
    return start not in _NOT_EMPLOYERS and (words[0] in {"a", "an", "the"} or _is_proper(value, sentence))


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
    if len(words) > LONGEST_VALUE or words[0] in _NOT_VALUES or words[0].endswith("ing"):
        return False
    if attribute.startswith("favorite "):
        return attribute.rpartition(" ")[2] not in _NOT_FAVORITES
    return "@" in value or _is_typed(value) or _is_plain(attribute, value)


# --- comparing two ---------------------------------------------------------------------------------------------------


def is_new_value(old: Keyed, new: Keyed) -> bool:
    """Whether two sentences with one slot say different things of it, both not being true at once.

    A value whose words contain the other's is a refinement or a coarser repeat ("Lisbon", "Lisbon, Portugal"), and so
    is a country after a city. Values of different make (a name and a date) answer different questions.
    """
    if old.slot != new.slot:
        return False
    if old.rule in {"likes", "instruction_polarity"} or new.rule in {"likes", "instruction_polarity"}:
        return old.sign != new.sign
    before, after = _compared(old.value), _compared(new.value)
    if old.rule == "instruction":
        # "never end with a" and "never end with b" both hold; so do "always b" and "never a".
        return (before == after) is (old.sign != new.sign) and (old.sign > 0 or new.sign > 0)
    if ("not" in before) is not ("not" in after):
        return before - {"not"} == after - {"not"}
    if before <= after or after <= before:
        return False
    if new.slot.attribute == "location" and bool(before & _STEMMED_COUNTRIES) != bool(after & _STEMMED_COUNTRIES):
        return False
    return new.rule not in {"origin", "attribute"} or _make(old.value) == _make(new.value)


def _compared(value: str) -> frozenset[str]:
    """A value's stems without what does not change it."""
    kept = _TAIL.sub("", value) or value
    return frozenset(stem(word.replace(",", "")) for word in _normal(kept))


_STEMMED_COUNTRIES: Final = frozenset(stem(name) for name in _COUNTRIES)


def _make(value: str) -> str:
    if _DATED.search(value):
        return "date"
    return "number" if any(char.isdigit() for char in value) else "words"


def alone(text: str, speaker: str | None) -> Keyed | None:
    """The slot and value of a text that is one sentence and nothing else."""
    said = sentences(text)
    return keyed(said[0], speaker) if len(said) == 1 else None
