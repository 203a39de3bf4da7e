"""Fact: one remembered statement and everything known about it. Immutable; a change makes a new value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

from engram_core.domain.message import Channel
from engram_core.domain.scope import Scope

MAX_TEXT_BYTES: Final = 8 * 1024
MAX_METADATA_KEYS: Final = 64
BUILT_IN_KINDS: Final = (
    "preference",
    "profile",
    "decision",
    "instruction",
    "error",
    "insight",
    "observation",
    "event",
    "task",
)
# Trust follows from where the words came from and is fixed at write; see DESIGN.md section 4.
TRUST_BY_CHANNEL: Final[Mapping[str, float]] = {
    "user": 1.0,
    "assistant": 0.7,
    "derived": 0.7,
    "import": 0.6,
    "tool": 0.5,
    "web": 0.3,
}


class Status(StrEnum):
    """Where a fact is in its life."""

    LIVE = "live"
    PENDING = "pending"
    """Stored and acknowledged, but not embedded yet; found by words only."""
    QUARANTINED = "quarantined"
    ARCHIVED = "archived"
    ERASED = "erased"


RECALLABLE: Final = (Status.LIVE, Status.PENDING)

Form = Literal["statement", "merged", "summary", "apart"]
"""`merged`: holds its originals side by side, and a recall renders those that match; `summary`: says less than they;
`apart`: a statement that a person took out of a consolidated fact, and that no night takes in again."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What a fact is about, when it can be told with confidence: (alice, city)."""

    subject: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.subject}/{self.attribute}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a fact came from. Fixed at write, except that a merge appends message ids."""

    principal: str
    channel: Channel
    episode_id: str | None = None
    session: str | None = None
    message_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fact:
    """One remembered statement.

    Attributes:
        id: UUIDv7, stable through edits.
        version: 1, then one more for each edit.
        text: The statement, at most 8 KiB of UTF-8, without the speaker's name in front.
        speaker: Who said it, or None.
        kind: Open vocabulary; see `BUILT_IN_KINDS`.
        said_at: When the statement was made (UTC); `created_at` is when it was stored.
        importance: 0 to 1; 0.5 is neutral.
        confidence: 0 to 1.
        trust: 0 to 1, from the origin's channel; a derived fact has the least trust of its sources.
        valid_from, valid_until: When the statement holds; None is open-ended.
        sources: Ids of the facts this one was derived from.
        form: How it was made; see `Form`.
        consolidated_from: Ids of the originals a consolidated fact holds, leaves only, oldest first.
        consolidated_into: Id of the live fact that stands for this archived one; None unless a night archived it so.
        forget_score: 0 keep to 1 safe to forget, the sum of `forget_terms`; None until a night has scored it.
        restored_at: When a person last brought it back from the archive.
        subjects: Whom or what it is about, as told at write: what `erase(subject=…)` goes by.
        metadata: Your own keys, at most 64, JSON values only.
    """

    id: str
    scope: Scope
    text: str
    origin: Origin
    created_at: datetime
    said_at: datetime
    version: int = 1
    speaker: str | None = None
    kind: str = "observation"
    slot: Slot | None = None
    importance: float = 0.5
    confidence: float = 1.0
    trust: float = 1.0
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    pinned: bool = False
    status: Status = Status.LIVE
    forget_score: float | None = None
    forget_terms: Mapping[str, float] = field(default_factory=dict)
    superseded_by: str | None = None
    consolidated_from: tuple[str, ...] = ()
    is_consolidated: bool = False
    consolidated_into: str | None = None
    form: Form = "statement"
    sources: tuple[str, ...] = ()
    archived_at: datetime | None = None
    archived_reason: str | None = None
    restored_at: datetime | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    subjects: tuple[str, ...] = ()

    @property
    def display(self) -> str:
        """The text as a recall renders it: with the speaker in front, if there is one."""
        return f"{self.speaker}: {self.text}" if self.speaker else self.text

    @property
    def is_recallable(self) -> bool:
        """Whether a recall may show it."""
        return self.status in RECALLABLE
