"""Shadowing: which live recalls a design on trial is to answer as well. It notes them; `shadow` answers and decides."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from engram_core.domain.proposal import Proposal
from engram_core.domain.recall import Recall
from engram_core.domain.scope import Scope

if TYPE_CHECKING:
    from engram_core.operations.context import Context
    from engram_core.operations.recall import Asked

FRESH_S: Final = 5.0
"""Seconds for which a process believes that no other one approved a design."""
WAITING: Final = 64
"""Recalls that wait to be answered again; while more come in, the oldest are left out."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A live recall that is to be answered again."""

    proposal: Proposal
    scope: Scope
    principal: str
    asked: Asked
    recall: Recall
    at: datetime


class Shadowing:
    """Which approved designs want to see recalls, and the recalls that wait. Bounded, thread-safe, per process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._approved: list[Proposal] = []
        self._looked = float("-inf")
        self._waiting: deque[Seen] = deque(maxlen=WAITING)

    def note(self, context: Context, scope: Scope, principal: str, asked: Asked, recall: Recall, now: datetime) -> bool:
        """Keep a recall for later if a design wants it; say whether anything waits. Costs a look every few seconds."""
        if time.monotonic() - self._looked > FRESH_S:
            self.look(context)
        for proposal in self._approved:
            if proposal.scope.contains(scope):
                with self._lock:
                    self._waiting.append(Seen(proposal, scope, principal, asked, recall, now))
        return bool(self._waiting)

    def look(self, context: Context) -> None:
        """Read anew which designs are approved and not in force."""
        self._looked = time.monotonic()
        self._approved = context.ledger.proposals.listing(kind="design", statuses=("approved",), limit=20)

    def take(self) -> Seen | None:
        """The next recall to answer again."""
        with self._lock:
            return self._waiting.popleft() if self._waiting else None
