"""Tripwire: tells texts that read like orders to a model rather than like something to remember. Pure; it decides nothing.

It catches known wordings and no others; whoever writes differently walks past it. What holds is the origin of a text,
not its words (docs/trust.md): this only draws a person's attention.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from engram_core.domain.message import Channel
from engram_core.floor.patterns import Patterns

_FIRST_HAND: Final[frozenset[str]] = frozenset({"user"})
MAX_CHARACTERS: Final = 64 * 1024
"""How much of a text is read; the beginning and the end of a longer one."""

_GAP: Final = r"\W+(?:[^\s.!?]+\W+){0,4}?"
_THINGS: Final = (
    "instructions?|prompts?|rules?|guidelines?|directives?|commands?|constraints?|polic(?:y|ies)|programming|training|safeguards?|"
    "restrictions?|orders|directions|guardrails?"
)
_USER: Final = "(?:the |this |your |any )?(?:users?|humans?|owners?|anyone|operators?|customers?|people|person)"
_TO_MODEL: Final = (
    "(?:ai|a\\.i\\.|llm|assistants?|agents?|language models?|chat ?bots?|models?|bots?|copilots?|gpt|claude|gemini)"
)
_PRIVATE: Final = (
    "conversations?|chat ?(?:history|logs?)|messages?|memor(?:y|ies)|credentials?|passwords?|api ?keys?|tokens?|secrets?|"
    r"(?:personal|private|confidential|sensitive|user|customer)(?:'?s)? (?:data|info|information|details|files?|records?)|\.env|cookies?|environment variables|system prompt"
)

# Read in texts of every origin: a person who means no harm hardly ever writes these.
_ALWAYS: Final[Mapping[str, str]] = {
    "override": rf"\b(?:ignor(?:e|ing)|disregard(?:ing)?|forget|overrid(?:e|ing)|bypass|neglect|set aside|stop following|do not (?:follow|obey)|don't (?:follow|obey)){_GAP}"
    rf"(?:previous|previously|prior|above|earlier|preceding|your|system|initial|original|existing|former|all|any|the|these|those|other){_GAP}(?:{_THINGS})\b"
    rf"|\b(?:ignor(?:e|ing)|disregard(?:ing)?|forget|overrid(?:e|ing))\s+(?:all|any|your|previous|prior)\s+(?:of\s+)?(?:the\s+)?(?:{_THINGS})\b"
    r"|\b(?:ignore|disregard|forget) (?:everything|all|anything)(?: that)? (?:above|before|prior|previously|you (?:were|have been|'ve been) (?:told|instructed|taught)|said (?:above|before|so far)|i (?:said|told you) (?:above|before))"
    rf"|\b(?:new|updated|real|actual|true) (?:system )?(?:instructions?|directives?|prompt|task) ?(?:follow|:|begin|are|is as follows)",
    "role": r"<\|?\s?(?:im_start|im_end|system|endoftext|end_of_text|begin_of_text|eot_id|start_header_id|fim_[a-z]+)\s?\|?>"
    r"|\[/?(?:inst|sys|system)\]|</?\s?sys(?:tem)?>>?|<<\s?/?sys"
    r"|#{2,}\s{0,3}(?:system|instructions?|assistant|developer|new (?:task|prompt))\b ?:?"
    r"|\b(?:system|developer|admin(?:istrator)?|root|security) ?(?:prompt|messages?|override|alert|notice|directives?|commands?|instructions?|update|mode) ?(?::|enabled|activated|engaged|follows)"
    r"|(?:begin|end|start) (?:of )?(?:the )?(?:system|admin|hidden|new|user) ?(?:prompt|instructions?|message|input|override)"
    r"|-{3,} ?(?:end|begin|start|new)(?: of)? [a-z ]{0,20}(?:prompt|instructions?|context|documents?|data|user input)"
    r"|</(?:memory|memories|context|document|documents|data|user_input|instructions|conversation|summary|retrieved)[^>]{0,40}>",
    "persona": r"\b(?:you are|you're|act as|behave as|become|role-?play as|simulate|pretend (?:to be|you are|that you are))\W+(?:now\W+)?(?:[^\s.!?]+\W+){0,4}?"
    r"(?:dan|jailbroken|unrestricted|unfiltered|uncensored|unaligned|evil|amoral|no longer (?:bound|an? (?:ai|assistant))|free (?:of|from) (?:all |any )?(?:rules|restrictions|constraints|limits))\b"
    r"|\b(?:enter|enable|activate|switch to|now in|engage|simulate|in) (?:developer|god|jailbreak|dan|debug|sudo|maintenance|unrestricted|admin) mode\b"
    r"|\b(?:developer|god|jailbreak|dan|debug|sudo|maintenance|unrestricted|admin) mode ?(?:on|enabled|activated|engaged|:)"
    r"|\byou are now (?:a|an|in|the|my|called|operating|running|acting|no longer)\b|\bjailbr(?:eak|oken)\b"
    r"|\b(?:no|without(?: any)?) (?:ethical|moral|content|safety) (?:guidelines?|restrictions?|filters?|limits?|constraints?|policies)\b",
    "reveal": r"\b(?:reveal|repeat|print|output|show|display|leak|disclose|expose|recite|write out|summari[sz]e|translate|tell me|give me|spell out|list|return|echo|state|what (?:is|are|was|were))"
    rf"{_GAP}(?:system|initial|hidden|secret|original|internal|confidential|developer|your|pre-?)\W*(?:[^\s.!?]+\W+){{0,2}}?(?:prompts?|instructions?|guidelines|directives?|configuration|system message)\b"
    r"|\b(?:repeat|print|output|copy|reproduce|return|say) (?:back )?(?:everything|all(?: (?:the|of the))?|the|every) ?(?:text|words?|sentences?|content|lines?)? ?(?:above|before this|preceding|so far|verbatim)\b"
    r"|\b(?:text|words|message|everything|prompt|instructions) (?:written )?above (?:this (?:line|message|sentence)|verbatim)",
    "exfiltrate": rf"\b(?:send|post|forward|e-?mail|upload|exfiltrate|transmit|leak|submit|report|copy|deliver|append|include|embed|encode|attach){_GAP}(?:{_PRIVATE})\b[^.!?\n]{{0,120}}(?:https?://|[a-z0-9._%+-]+@[a-z0-9-]+\.|\bwebhook\b|\b(?:external|remote|attacker|this|following) (?:server|url|endpoint|address|host|link|site)\b)"
    r"|!\[[^\]\n]{0,80}\]\(https?://[^)\s]{1,200}[?&=][^)\s]{0,200}\)|https?://[^\s]{1,200}[?&=][^\s]{0,80}(?:\{|%7b|\[(?:data|secret|memory|user|conversation)|<(?:data|secret|memory|user|conversation))"
    r"|\b(?:curl|wget|iwr|invoke-webrequest)\b[^\n]{0,160}\|\s{0,3}(?:sudo )?(?:ba|z|da)?sh\b|\brm -rf /",
    "markup": r"<(?:tool_call|tool_use|tool_code|function_calls?|function=|invoke |antml:|tool_response|tool_result)|\[(?:tool_calls?|function_call|available_tools)\]"
    r"|\"(?:arguments|parameters)\"\s?:\s?\{[^\n]{0,200}\"?(?:name|tool|function)\"?\s?:|\"(?:name|tool|function)\"\s?:\s?\"[a-z_.]{2,40}\"\s?,\s?\"(?:arguments|parameters|input)\"\s?:"
    r"|\baction\s?:\s?[a-z_]{2,40}\s{1,3}action input\s?:",
    "conceal": rf"\b(?:do not|don't|never|must not|should not|shouldn't|without)\W+(?:[^\s.!?]+\W+){{0,2}}?(?:tell(?:ing)?|inform(?:ing)?|notify(?:ing)?|alert(?:ing)?|warn(?:ing)?|ask(?:ing)?|mention(?:ing)?(?: this| it| that)? to|reveal(?:ing)?(?: this| it)? to|disclos(?:e|ing)(?: this| it)? to|consult(?:ing)?)\W+{_USER}\b"
    r"|\b(?:do not|don't|never) (?:mention|reveal|disclose|reference|acknowledge|expose) (?:that you|these|this|the) (?:were |received |are |have )?(?:instruct|told|order|direct|hidden|system|note|memory|message|rule|prompt)"
    r"|\b(?:silently|secretly|covertly|quietly) (?:send|forward|add|include|execute|run|call|delete|upload|insert|transfer|replace|append|store|change)\b",
    "address": rf"\b(?:attention|note|notice|message|instructions?|reminder|hint|important|warning|dear|hey|hello|psa|to)\W+(?:(?:to|for)\W+)?(?:all |any |the |every |other |whichever )?(?:{_TO_MODEL})(?: (?:reading|processing|parsing|summari[sz]ing|that reads|which reads|reviewing)\b| ?:)"
    rf"|\b(?:if you are|as|since you are|when you are) (?:an? |the )?(?:{_TO_MODEL})(?: (?:reading|processing|parsing|summari[sz]ing)|,? (?:you (?:must|should|will|have to|need to)|disregard|ignore|please))"
    rf"|\b(?:{_TO_MODEL}) (?:reading|processing|parsing|summari[sz]ing|ingesting) (?:this|the following)\b"
    r"|\bimportant (?:system |security )?(?:instruction|message|notice|directive|update)s? (?:for|to) (?:the |all |any )?(?:ai|assistant|agent|model|llm)",
    "planted": r"\b(?:remember|treat|regard|consider|save|store|note|mark|keep|trust|record|memori[sz]e)\b[^.!?\n]{1,120}?\bas (?:an? |the |your |my |our )?(?:[a-z-]+ ){0,2}?(?:trusted|trustworthy|authoritative|reliable|preferred|go-?to|definitive|primary|official|best|leading|credible|top)\b[^.!?\n]{0,40}?(?:source|citation|reference|authority|expert|site|website|vendor|provider|brand|choice|resource|advisor|option|company|tool|store|domain)s?\b"
    r"|\bin (?:all |any |every )?(?:your )?future (?:conversations?|chats?|answers?|responses?|sessions?|queries|recommendations|interactions?)[^.!?\n]{0,60}\b(?:recommend|cite|prefer|promote|favou?r|suggest|prioriti[sz]e|link to|quote|endorse)\b",
    "wipe": r"\b(?:delete|erase|wipe|clear|overwrite|purge|corrupt|reset|drop)\W+(?:[^\s.!?]+\W+){0,2}?(?:your|all|the|its|stored|long-?term|every|previous)\W+(?:[^\s.!?]+\W+){0,2}?(?:memor(?:y|ies)|memory store|stored facts|knowledge base)\b",
    "translated": r"\b(?:ignor(?:a|e|ez|ieren?|iere|are|ar)|olvida|oublie[sz]?|vergiss|vergeet|negeer|dimentica|esque[cç]a|zapomnij|zignoruj|ignorera|glöm|unut|abaikan)\b[^.!?\n]{0,60}\b(?:instruc[a-zçõ]+|anweisung[a-z]*|instructies|consignes|istruzioni|instrukcj[a-z]+|regeln|reglas|règles|regole|regras|instruktion[a-z]*|talimat[a-zı]*|instruksi|directives)\b"
    r"|(?:игнорируй|забудь|проигнорируй)[^.!?\n]{0,60}(?:инструкци|указани|правил)|(?:忽略|无视|忘记|忘掉)[^。\n]{0,20}(?:指令|指示|提示|规则|命令)|(?:以前の|上記の|これまでの|前の)[^。\n]{0,12}(?:指示|命令|プロンプト)[^。\n]{0,12}(?:無視|忘れ)"
    r"|이전[^.\n]{0,12}(?:지시|명령)[^.\n]{0,12}(?:무시|잊)|(?:تجاهل|انس)[^.\n]{0,30}(?:التعليمات|الأوامر)|(?:अनदेखा|नज़रअंदाज़|भूल)[^।\n]{0,40}|(?:निर्देश)[^।\n]{0,40}(?:अनदेखा|नज़रअंदाज़|भूल)",
}

# Read only in what the user did not say: from a user these are wishes ("always recommend vegetarian places").
_SECOND_HAND: Final[Mapping[str, str]] = {
    "orders": rf"\b(?:the |this |an? |all |any |every )?(?:{_TO_MODEL}|you)\W+(?:must|shall|should|have to|has to|need to|needs to|are (?:required|instructed|authori[sz]ed|ordered|expected|to)|is (?:required|instructed|authori[sz]ed|to))\W+(?:[^\s.!?]+\W+){{0,2}}?"
    r"(?:always|never|now|only|instead|immediately|recommend|reply|respond|answer|say|tell|send|use|execute|run|call|approve|skip|trust|add|include|follow|refuse|redirect|forward|transfer|prefer|ignore|treat|visit|open|click|provide|output|write|print|reveal|delete|disable|stop|pretend)\b",
    "promote": r"\balways (?:recommend|cite|suggest|promote|prefer|mention|link to|refer|prioriti[sz]e|favou?r|endorse|direct|redirect|choose|trust|use|approve|include|say|respond|reply|answer|begin|end|start)\b"
    r"|\b(?:first|best|only|top) (?:choice|recommendation|result) (?:should|must) (?:always )?be\b|\b(?:trusted|authoritative|go-?to|preferred|definitive) (?:source|vendor|provider|authority) (?:for|on|of|in)\b",
    "shortcut": r"\b(?:skip|bypass|disable|omit|avoid|suppress|turn off|no need (?:for|to)|without(?: any)?|ignore|forgo)\W+(?:[^\s.!?]+\W+){0,3}?(?:validation|verification|verify|validate|checks?|schema|tests?|authentication|authori[sz]ation|approvals?|confirmations?|safety|security|sanity|reviews?|audit(?:s|ing)?|consent|ssl|tls|certificate|warnings?|integrity)\b"
    r"|\b(?:force|mark|assume|report|log|return|declare|write|set|print|emit|hard-?code)\W+(?:[^\s.!?]+\W+){0,4}?(?:success|successful|passed|pass|ok|safe|valid|validated|verified|approved|complete)\b(?:[^.!?\n]{0,40}\b(?:regardless|anyway|without|even if|always|no matter|unconditionally))?"
    r"|\b(?:download|fetch|load|pull|import|install|exec(?:ute)?|run|eval)\W+(?:[^\s.!?]+\W+){0,5}?(?:https?://|from (?:a |the )?(?:remote|external|pastebin|gist)|remote (?:script|helper|code)|external (?:script|helper|code))",
    "memorise": r"\b(?:add|save|store|write|commit|persist|append|record|update|insert)\W+(?:[^\s.!?]+\W+){0,4}?(?:to|in|into|your)\W+(?:[^\s.!?]+\W+){0,2}?(?:memor(?:y|ies)|long-?term|knowledge base|profile)\b|\bremember (?:the following|permanently|forever|for (?:all )?future)\b",
    "reply": r"\b(?:respond|reply|answer|end|begin|start)\W+(?:[^\s.!?]+\W+){0,3}?(?:only with|with the (?:word|phrase|text|following)|exactly|nothing (?:but|else)|with access granted)\b|\b(?:say|print|output|type|write)\W+(?:the (?:words?|phrase)|exactly|only|access granted)\b|\baccess granted\b",
    "secret": r"\b(?:what(?:'s| is| was)|tell me|give me|reveal|say|share|provide)\W+(?:[^\s.!?]+\W+){0,3}?(?:access code|secret (?:code|word|key|phrase)|password|pass ?phrase)\b",
}

_NARROW: Final = Patterns({name: f"(?i){body}" for name, body in _ALWAYS.items()})
_WIDE: Final = Patterns({name: f"(?i){body}" for name, body in {**_ALWAYS, **_SECOND_HAND}.items()})
STRUCTURAL: Final[frozenset[str]] = frozenset({"role", "markup"})
"""Rules about signs rather than sentences: a user who pastes a template means no harm, and the fence takes their force."""
RULES: Final = tuple({**_ALWAYS, **_SECOND_HAND})
"""Names of the tripwire's rules."""

# Letters of other alphabets that look like Latin ones.
_LOOK_ALIKES: Final = str.maketrans(
    "аеорсухіјѕԁӏвкмнтгпАЕОРСУХІЈЅВКМНТοαεικνρτυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧɡıℓ“”‘’´`ʼ‐‑‒–—",
    "aeopcyxijsdlbkmhtrnAEOPCYXIJSBKMHToaeikvptuxABEZHIKMNOPTYXgil\"\"''''" + "'-----",
)
_SPACED: Final = re.compile(r"(?<!\S)(?:\w[ .*_-]){4,}\w(?!\S)")
_SPACE: Final = re.compile(r"[^\S\n]+")


def tripped(text: str, channel: Channel) -> list[str]:
    """The names of the rules that a text trips; see docs/trust.md for what they are.

    Args:
        text: Without unseen characters.
        channel: Where it came from. What a user says is read by fewer rules: a user may give orders.
    """
    plain = _folded(_shortened(text))
    return (_NARROW if channel in _FIRST_HAND else _WIDE).hits(plain)


def _shortened(text: str) -> str:
    half = MAX_CHARACTERS // 2
    return text if len(text) <= MAX_CHARACTERS else f"{text[:half]}\n{text[-half:]}"


def _folded(text: str) -> str:
    """What a reader takes the text for: compatible and look-alike letters as Latin ones, spaced letters joined."""
    if not text.isascii():
        # A letter of another alphabet among Latin ones is a look-alike; a whole text of them is a language.
        folded = unicodedata.normalize("NFKC", text)
        text = (
            folded + "\n" + folded.translate(_LOOK_ALIKES)
            if folded != (alike := folded.translate(_LOOK_ALIKES))
            else alike
        )
    text = _SPACED.sub(lambda found: re.sub(r"[ .*_-]", "", found[0]), text)
    return _SPACE.sub(" ", text)
