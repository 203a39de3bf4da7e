"""The contract of a Ledger: what every record of facts must hold, whatever it is built on. Clauses only; no backend.

Subclass `LedgerContract` and override `open_ledger`. Needs pytest and hypothesis.
"""

from __future__ import annotations

from engram_core.testing.access_contract import AccessClauses, AuditClauses
from engram_core.testing.ledger_books import BooksClauses
from engram_core.testing.ledger_commits import CommitClauses
from engram_core.testing.ledger_diary import DiaryClauses
from engram_core.testing.ledger_erasures import ErasureClauses
from engram_core.testing.ledger_forgetting import ForgettingClauses
from engram_core.testing.ledger_lab import LabClauses
from engram_core.testing.ledger_links import LinkClauses
from engram_core.testing.ledger_reads import ReadClauses
from engram_core.testing.ledger_screening import ScreeningClauses


class LedgerContract(
    CommitClauses,
    ReadClauses,
    LinkClauses,
    BooksClauses,
    ForgettingClauses,
    LabClauses,
    DiaryClauses,
    ErasureClauses,
    ScreeningClauses,
    AccessClauses,
    AuditClauses,
):
    """Every clause: what commits keep, what reads find, what replaces what, the books, and who may do what."""
