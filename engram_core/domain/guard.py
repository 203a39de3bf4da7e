"""Guard: what an outside detector says about a text before it is stored. Words only; operations obey them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from engram_core.domain.errors import InvalidInput
from engram_core.domain.fact import Origin

GuardAction = Literal["flag", "quarantine", "reject", "redact"]
_ACTIONS: Final = frozenset(get_args(GuardAction))
_LONGEST_REASON: Final = 500


@dataclass(frozen=True, slots=True)
class GuardVerdict:
    """What a guard wants done with a text.

    Args:
        action: `flag` notes it with the fact; `quarantine` keeps it out of recall until it is released; `reject` keeps
            nothing; `redact` stores `text` instead.
        reason: One line for a person, stored with the decision; it must not repeat what is to be hidden.
        text: The text to store instead; with `redact` only, where it is required.

    Raises:
        InvalidInput: An unknown action, no reason, or `text` missing or out of place.
    """

    action: GuardAction
    reason: str
    text: str | None = None

    def __post_init__(self) -> None:
        if self.action not in _ACTIONS:
            raise InvalidInput(f"A guard may say {', '.join(sorted(_ACTIONS))}, not {self.action!r}.")
        if not isinstance(self.reason, str) or not self.reason.strip() or len(self.reason) > _LONGEST_REASON:
            raise InvalidInput(f"A guard's reason is one line of at most {_LONGEST_REASON} characters.")
        if isinstance(self.text, str) != (self.action == "redact"):
            raise InvalidInput("A guard gives the text to store with 'redact', and with nothing else.")


Guard = Callable[[str, Origin], GuardVerdict | None]
"""Gets a text and where it came from; None lets it pass. Called before anything is stored or embedded."""
