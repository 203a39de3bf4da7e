"""Unseen: characters that no reader sees, or that make a line read otherwise than it is stored. Pure; it removes them.

What a script or an emoji needs stays: joiners between letters of joining scripts, emoji sequences, one variation selector
where it selects something, and the flags of England, Scotland and Wales.
"""

from __future__ import annotations

import re
from typing import Final

_LINE_ENDS: Final = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_EMOJI: Final = "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u27bf\u2b00-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
# Scripts whose letters join or form conjuncts: Arabic, Syriac, N'Ko, Indic, Tibetan, Burmese, Khmer, Mongolian.
_JOINING: Final = (
    "\u0600-\u061b\u061d-\u07ff\u08a0-\u08ff\u0900-\u0dff\u0f00-\u0fff\u1000-\u109f\u1780-\u17b3\u17b6-\u17ff"
    "\u1800-\u180a\u1810-\u18af\ufb50-\ufdff\ufe70-\ufefc"
)
_IDEOGRAPH: Final = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Control, bidirectional, zero-width, filler, variation, annotation and tag characters, soft hyphens and lone surrogates.
_UNSEEN: Final = (
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff\ud800-\udfff]"
)
_KEPT: Final = "|".join(
    (
        f"(?<=[{_EMOJI}])\ufe0f?\u200d(?=[{_EMOJI}])",
        f"(?<=[{_EMOJI}])[\ufe0e\ufe0f]",
        "(?<=[0-9#*])\ufe0f(?=\u20e3)",
        f"(?<=[{_JOINING}])[\u200c\u200d]",
        "(?<=[\u1820-\u18aa])[\u180b-\u180d]",
        f"(?<=[{_IDEOGRAPH}])[\U000e0100-\U000e01ef]",
        "(?<=\U0001f3f4)\U000e0067\U000e0062(?:\U000e0065\U000e006e\U000e0067|\U000e0073\U000e0063\U000e0074|"
        "\U000e0077\U000e006c\U000e0073)\U000e007f",
    )
)
_ANY: Final = re.compile(_UNSEEN)
_SORTED: Final = re.compile(f"({_KEPT})|{_UNSEEN}")


def visible(text: str) -> str:
    """`text` without unseen characters; every kind of line break becomes a newline, tabs stay. Doing it twice changes nothing."""
    text = _LINE_ENDS.sub("\n", text)
    if _ANY.search(text) is None:
        return text
    return _SORTED.sub(lambda found: found[1] or "", text)
