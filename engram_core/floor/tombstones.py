"""Tombstones: the marks by which an erased thing is known again without saying what it was. Pure; it stores nothing."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from engram_core.domain.scope import Scope
from engram_core.measure import redaction, sameness

KEY_SETTING: Final = "erasure_key"
"""Name of the setting that holds the store's key, 64 hexadecimal digits, made with the first erasure."""
_FEWEST_WORDS: Final = 3


def of_fact(key: str, fact_id: str) -> str:
    """The mark of a fact's id, wherever it turns up."""
    return _mark(key, "fact", fact_id)


def of_message(key: str, scope: Scope, message_id: str) -> str:
    """The mark of a message in a scope."""
    return _mark(key, "message", scope.path, message_id)


def of_text(key: str, scope: Scope, text: str) -> str | None:
    """The mark of what a text says in a scope, whoever says it; None for one that says too little ("Yes, please")."""
    form = sameness.normal_form(text)
    if not form or (len(form.split()) < _FEWEST_WORDS and not redaction.telling([text])):
        return None
    return _mark(key, "text", scope.path, form)


def _mark(key: str, *parts: str) -> str:
    # Lengths first, so that no two lists of parts are spelled alike.
    spelled = b"".join(
        len(raw).to_bytes(4, "big") + raw for part in parts for raw in (part.encode("utf-8", "surrogatepass"),)
    )
    return hmac.new(bytes.fromhex(key), spelled, hashlib.sha256).hexdigest()
