"""Gap: something the memory should have known, and the lapses that showed it. Data only; `operations.reflect` fills."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope

LapseKind = Literal["unknown", "asked_again", "corrected", "nothing_recalled", "nothing_used"]
"""`unknown`: the agent said it did not know. `asked_again`: it asked for what it had been told. `corrected`: the user
set it right. `nothing_recalled`, `nothing_used`: a recall about the user's own matters showed nothing, or nothing that
helped."""
GapState = Literal["open", "filled", "closed", "dismissed"]
"""`filled`: reflection added a fact. `closed`: a later turn answered it. `dismissed`: a person said it is none."""


@dataclass(frozen=True, slots=True)
class Lapse:
    """One moment at which memory was missed.

    Attributes:
        question: What was asked, in the words of whoever asked.
        span: The words that show the lapse, as said or as recorded.
        asker: Speaker of the question; None if unknown or asked by the agent.
        recall_id, episode_id, message_id: Where it was found, as far as known.
    """

    kind: LapseKind
    question: str
    span: str
    at: datetime
    asker: str | None = None
    recall_id: str | None = None
    episode_id: str | None = None
    message_id: str | None = None

    @property
    def place(self) -> str:
        """Equal for two findings of the same lapse."""
        return f"{self.kind}:{self.recall_id or self.message_id or self.episode_id or self.at.isoformat()}"


@dataclass(frozen=True, slots=True)
class Gap:
    """Lapses about one question, and what became of it.

    Attributes:
        lapses: Oldest first, at least one.
        reason: Why it is in its state.
        fact_id: The fact that reflection added, or, of a closed gap, that answers it; None if there is none.
        evidence: What answers it: fact ids, message ids or references of sources.
        updated_at: When its state or lapses last changed.
    """

    id: str
    scope: Scope
    question: str
    lapses: tuple[Lapse, ...]
    state: GapState
    reason: Reason
    updated_at: datetime
    fact_id: str | None = None
    evidence: tuple[str, ...] = ()

    @property
    def opened_at(self) -> datetime:
        """When it was first missed."""
        return self.lapses[0].at
