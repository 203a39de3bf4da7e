"""Change: everything that can be proposed to happen to memory. Proposals only; `floor.legality` disposes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from engram_core.domain.fact import Fact, Form, Slot
from engram_core.domain.message import Message
from engram_core.domain.reason import Reason


@dataclass(frozen=True, slots=True)
class Draft:
    """A fact as a design proposes it. Id, scope, origin and trust are not a design's to choose.

    `updates` names older facts this one may be a newer state of: they are linked, and nothing is hidden.
    """

    text: str
    messages: tuple[Message, ...]
    kind: str = "observation"
    slot: Slot | None = None
    importance: float = 0.5
    confidence: float = 1.0
    sources: tuple[str, ...] = ()
    speaker: str | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    updates: tuple[Update, ...] = ()


@dataclass(frozen=True, slots=True)
class Update:
    """A draft may say something newer than `older`: a stored fact's id, or an earlier draft of the same proposal."""

    older: str | Draft
    probability: float
    reason: Reason


@dataclass(frozen=True, slots=True)
class Add:
    """Remember a new statement. With `superseded_by` it is kept as history: what a newer fact or draft has replaced."""

    draft: Draft
    reason: Reason
    superseded_by: str | Draft | None = None


@dataclass(frozen=True, slots=True)
class Merge:
    """The statement is already known: append its messages to `fact_id`'s origin. `twin` is the new wording."""

    fact_id: str
    twin: Draft
    reason: Reason


@dataclass(frozen=True, slots=True)
class Supersede:
    """A new statement replaces `fact_id`, which is archived with a link to the new one.

    Instead of a stored fact's id it may name an earlier draft of the same proposal. Several changes with one and the
    same draft are one new fact with several predecessors.
    """

    fact_id: str | Draft
    draft: Draft
    reason: Reason


@dataclass(frozen=True, slots=True)
class Reweigh:
    """Change a fact's importance."""

    fact_id: str
    importance: float
    reason: Reason


@dataclass(frozen=True, slots=True)
class Archive:
    """Take a fact out of recall; it stays restorable."""

    fact_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Restore:
    """Bring an archived fact back into recall."""

    fact_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Ignore:
    """Do not remember a message."""

    message: Message
    reason: Reason


@dataclass(frozen=True, slots=True)
class Edit:
    """A person corrects a fact. Designs may not propose this; see docs/adr/0005."""

    after: Fact
    reason: Reason


@dataclass(frozen=True, slots=True)
class Consolidate:
    """One fact stands for several, which are archived with a link to it. Trust and importance follow from them.

    Attributes:
        fact_ids: The facts to take in.
        text: What the consolidated fact says.
        form: `merged` keeps every word; `summary` has to keep every number, name and date.
        into: The consolidated fact they join, whose originals stay in it; None for a new one.
    """

    fact_ids: tuple[str, ...]
    text: str
    form: Form
    reason: Reason
    into: str | None = None


@dataclass(frozen=True, slots=True)
class Absorb:
    """Facts that say the same as `fact_id` are archived with a link to it, and it inherits their messages."""

    fact_id: str
    twin_ids: tuple[str, ...]
    reason: Reason


@dataclass(frozen=True, slots=True)
class Split:
    """A consolidated fact is withdrawn and its originals are live again. Designs may not propose this."""

    fact_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Release:
    """A person lets a quarantined fact into recall. Its trust stays what its origin gave it."""

    fact_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Vouch:
    """A person vouches for a fact: it is trusted as if that person had said it."""

    fact_id: str
    trust: float
    reason: Reason


Change = (
    Add
    | Merge
    | Supersede
    | Reweigh
    | Archive
    | Restore
    | Ignore
    | Edit
    | Consolidate
    | Absorb
    | Split
    | Release
    | Vouch
)


def messages_of(change: Change) -> tuple[Message, ...]:
    """The messages a change is about; none for a change of what is stored."""
    match change:
        case Add() | Supersede():
            return change.draft.messages
        case Merge():
            return change.twin.messages
        case Ignore():
            return (change.message,)
        case _:
            return ()
