"""The keeping books of a ledger: what was erased, what must not come back, what may not go. Protocols, no code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from engram_core.domain.fact import Fact
from engram_core.domain.scope import Scope

TombstoneKind = Literal["fact", "message", "text"]


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What keeps an erased thing from coming back. It says nothing about what was erased.

    Attributes:
        mark: Keyed SHA-256 of a fact's id, or of a scope with a message's id or a text's duplicate key; 64 characters.
        erasure: Id of the erasure that made it.
    """

    mark: str
    kind: TombstoneKind
    erasure: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Aside:
    """Tombstones with the key their marks were made with.

    Attributes:
        is_news: Whether the ledger has not seen them yet.
    """

    key: str
    tombstones: tuple[Tombstone, ...]
    is_news: bool


@dataclass(frozen=True, slots=True)
class Erasure:
    """What one erasure blanks in one scope beside the facts that its batch rewrites; in the batch's transaction.

    Links, tallies, recalls and usage of the facts go; the answers to recalls that showed one are blanked. The index's
    generations become `bad`, so that none that ever held a vector of theirs survives the next opening.

    Attributes:
        id: UUIDv7 of the erasure; one erasure may have a part in several scopes.
        fact_ids: The facts that become stubs; the batch writes them.
        touched_ids: Facts that stay and whose older texts held erased ones: their history loses its words.
        linked_ids: Facts that stay and were compared with erased ones: the lines of their history are blanked.
        message_ids: Messages of the scope that are blanked.
        sessions: Sessions nothing of which is left; recalls lose their name.
        words: Texts to be redacted wherever else the scope or one below it holds them, letters' case ignored.
        is_whole: Everything of the scope goes: episodes, recalls, usage, parked failures, reports of nights.
        tombstones: What must not come back.
    """

    id: str
    principal: str
    at: datetime
    fact_ids: tuple[str, ...] = ()
    touched_ids: tuple[str, ...] = ()
    linked_ids: tuple[str, ...] = ()
    message_ids: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    is_whole: bool = False
    tombstones: tuple[Tombstone, ...] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold on a fact, or on a scope and all below it: no clock and no person erases or archives what it covers.

    Attributes:
        fact_id: None for a hold on the whole scope.
    """

    id: str
    scope: Scope
    reason: str
    principal: str
    at: datetime
    fact_id: str | None = None
    released_at: datetime | None = None
    released_by: str | None = None

    def covers(self, fact: Fact) -> bool:
        """Whether the fact may not go."""
        if self.released_at is not None:
            return False
        return fact.id == self.fact_id if self.fact_id is not None else self.scope.contains(fact.scope)


class ErasureBook(Protocol):
    """Erasures, their tombstones and receipts, and holds."""

    def tombstoned(self, marks: Sequence[str]) -> set[str]:
        """Those of the marks that a tombstone has."""
        ...

    def tombstones(self) -> list[Tombstone]:
        """Every tombstone, in the order of the marks."""
        ...

    def bury(self, tombstones: Sequence[Tombstone]) -> int:
        """Add tombstones, from a store that this one takes the place of; return how many were new."""
        ...

    def lift(self, erasure_id: str) -> int:
        """Remove an erasure's tombstones and return how many there were. What was erased stays erased."""
        ...

    def aside(self) -> Aside | None:
        """The tombstones kept beside the ledger, where an older copy of it cannot take them back; None without any."""
        ...

    def set_aside(self, key: str) -> None:
        """Keep the tombstones beside the ledger, in place of what is kept there; nothing where there is no beside."""
        ...

    def receipts(self, limit: int = 100, *, begun: bool = False) -> list[dict[str, Any]]:
        """The latest erasures, newest first; with `begun` only those interrupted after their facts were gone."""
        ...

    def save_receipt(self, erasure_id: str, receipt: Mapping[str, Any]) -> None:
        """Replace what is recorded of an erasure."""
        ...

    def about(self, subject: str, scope: Scope | None) -> list[str]:
        """Ids of facts about a subject, any status but erased, oldest first; of a scope and all below it if given.

        A fact is about its `subjects`, its speaker and the user it came from (`user:alice` and `alice` are one).
        """
        ...

    def replaced_by(self, ids: Sequence[str]) -> list[Fact]:
        """Facts that one of `ids` stands for (`consolidated_into`), any status, oldest first."""
        ...

    def still_said(self, texts: Sequence[str]) -> set[str]:
        """Those of the texts that a fact which is not erased holds anywhere, or a message; letters' case ignored."""
        ...

    def blank_before(self, scope: Scope, moment: datetime) -> int:
        """Blank what the scope's recalls asked and were answered before a time.

        Ids, times, verdicts and facts stay. Returns how many recalls had something to blank.
        """
        ...

    def scrub(self, *, thorough: bool = False) -> dict[str, str]:
        """Make the database forget the bytes of what was deleted; return what was done, layer by layer, in words.

        Args:
            thorough: Rewrite the whole database as well.
        """
        ...

    def files(self) -> list[str]:
        """Paths of the files that hold the ledger; empty where they are not this machine's."""
        ...

    def place_hold(self, hold: Hold) -> None: ...
    def release_hold(self, hold_id: str, principal: str, at: datetime) -> bool:
        """Mark a hold as released; False if there is no such hold in force."""
        ...

    def holds(self, *, released: bool = False) -> list[Hold]:
        """Holds in force, oldest first; with `released` those of the past as well."""
        ...
