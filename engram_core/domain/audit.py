"""Audit as words: what is noted of an access or a decision, and what checking the chain finds. Types only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from engram_core.domain.scope import Scope

AuditDecision = Literal["allowed", "denied", "alarm"]
"""`alarm`: a row that nobody should have been shown was kept back, or somebody broke the glass of a private scope."""
NO_GRANT: Final = "no grant"
GENESIS: Final = "0" * 64
"""The hash before the first entry."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What is to be noted: who did what where, on which facts, and what allowed it. Never any text of a fact.

    Attributes:
        verb: `read`, `write`, `curate` or `admin`.
        operation: What was called, such as `recall`.
        scope: None for what concerns the whole store.
        by: `owner`, `grant 12` or `no grant`.
        about: Of a change of access, what it changed, such as `user:bob read`; of a hold its id; of a restored backup
            the head of the audit that it replaced.
    """

    at: datetime
    principal: str
    verb: str
    operation: str
    scope: Scope | None
    decision: AuditDecision = "allowed"
    by: str = NO_GRANT
    fact_ids: tuple[str, ...] = ()
    about: str = ""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """An entry as it stands in the chain.

    Attributes:
        number: 1, 2, 3 and so on, without gaps.
        sealed: Keyed digests of the rows of the ledger that it wrote, by table and key; None for a row that is gone.
        previous, hash: Of the entry before it and of itself, 64 hexadecimal digits.
    """

    number: int
    entry: AuditEntry
    sealed: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    previous: str = GENESIS
    hash: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, without the digests."""
        entry = self.entry
        return {
            "number": self.number,
            "at": entry.at.isoformat(),
            "principal": entry.principal,
            "verb": entry.verb,
            "operation": entry.operation,
            "scope": entry.scope.path if entry.scope is not None else None,
            "decision": entry.decision,
            "by": entry.by,
            "about": entry.about,
            "fact_ids": list(entry.fact_ids),
            "hash": self.hash,
        }


class AuditHead(NamedTuple):
    """Where the chain ends: how many entries it has and the hash of the last. Note it elsewhere to check against it."""

    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"


@dataclass(frozen=True, slots=True)
class AuditProblem:
    """One thing that is not as the audit says.

    Attributes:
        kind: `entry` (changed, or a link of the chain is broken), `missing_entry`, `head`, `expected_head`, `key`,
            `row_changed`, `row_missing`, `row_inserted` or `file` (the database finds its own file damaged).
        table, key: Which row, for trouble with rows.
    """

    kind: str
    line: str
    table: str | None = None
    key: str | None = None


MAX_PROBLEMS: Final = 100


@dataclass(frozen=True, slots=True)
class Verification:
    """What checking the audit found.

    Attributes:
        head: Where the chain ends.
        entries: How many entries were checked.
        rows: How many rows of each table were compared with their digests.
        problems: The first 100.
        found: How many problems there are.
    """

    head: AuditHead
    entries: int
    rows: Mapping[str, int]
    problems: tuple[AuditProblem, ...] = ()
    found: int = 0

    @property
    def ok(self) -> bool:
        """Whether everything is as the audit says."""
        return self.found == 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "ok": self.ok,
            "head": str(self.head),
            "entries": self.entries,
            "rows": dict(self.rows),
            "found": self.found,
            "problems": [
                {"kind": item.kind, "line": item.line, "table": item.table, "key": item.key} for item in self.problems
            ],
        }
