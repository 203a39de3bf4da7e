"""Engram: memory for agents. Importing this loads neither a framework nor Chroma; names load when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engram_core.binding import DEFAULT_K, MAX_K, Binding, BindingSource, Bound, PrincipalSource, ScopeSource, bind
    from engram_core.bootstrap import shared as default_engram
    from engram_core.design import Alike, Ask, Candidates, Design, Likeness, Statistics, View
    from engram_core.domain.access import AccessExplanation, Grant
    from engram_core.domain.audit import AuditEntry, AuditHead, AuditRow, Verification
    from engram_core.domain.change import (
        Absorb,
        Add,
        Archive,
        Change,
        Consolidate,
        Draft,
        Edit,
        Ignore,
        Merge,
        Release,
        Restore,
        Reweigh,
        Split,
        Supersede,
        Update,
        Vouch,
    )
    from engram_core.domain.errors import (
        AccessDenied,
        ChangeRefused,
        DesignFailed,
        EmbedderMismatch,
        EmbeddingFailed,
        EngramError,
        FactNotFound,
        IndexUnavailable,
        InvalidDesign,
        InvalidExport,
        InvalidInput,
        InvalidPolicy,
        InvalidScope,
        MissingExtra,
        ModelFailed,
        OnHold,
        ProposalNotFound,
        RecallNotFound,
        SandboxUnavailable,
        SchemaTooNew,
        StoreClosed,
        StoreUnavailable,
    )
    from engram_core.domain.fact import Fact, Origin, Slot, Status
    from engram_core.domain.gap import Gap, Lapse
    from engram_core.domain.guard import Guard, GuardVerdict
    from engram_core.domain.message import Episode, Message
    from engram_core.domain.policy import MemoryPolicy
    from engram_core.domain.proposal import Proposal
    from engram_core.domain.reason import Reason
    from engram_core.domain.recall import AddResult, Dropped, Outcome, Query, Recall, Scored, ScoredFact, Usage
    from engram_core.domain.scope import Scope
    from engram_core.domain.server import ChromaServer, Quotas
    from engram_core.domain.spec import DesignSpec
    from engram_core.engram import Engram, Memory
    from engram_core.keeping import Hold
    from engram_core.measure.citations import CITE_INSTRUCTION, strip_citations
    from engram_core.models.guards import presidio_guard
    from engram_core.models.sentence_files import SentenceFiles
    from engram_core.operations.brief import Brief
    from engram_core.operations.consolidate import Consolidation
    from engram_core.operations.erase import ErasureReport
    from engram_core.operations.evolve import Evolution
    from engram_core.operations.explain import FactExplanation, RecallExplanation
    from engram_core.operations.export import Exported
    from engram_core.operations.importing import Imported
    from engram_core.operations.policy import PolicyChange
    from engram_core.operations.reflect import Reflection
    from engram_core.operations.residue import Residue
    from engram_core.operations.scan import ScanReport
    from engram_core.operations.schedule import Schedule
    from engram_core.operations.sleep import ScopeNight, SleepReport
    from engram_core.operations.usage import UsageReport
    from engram_core.ports import (
        Decision,
        Embedder,
        LanguageModel,
        Passage,
        PolicyVersion,
        Reranker,
        Source,
        TokenCounter,
    )
    from engram_core.turns import DEFAULT_MAX_OPEN, DEFAULT_TIMEOUT_S, Alarm, NamedTurns, Turn, Turns, turn_name

__version__ = "0.1.0"

_HOMES = {
    "binding": ("Binding", "BindingSource", "Bound", "DEFAULT_K", "MAX_K", "PrincipalSource", "ScopeSource", "bind"),
    "design": ("Alike", "Ask", "Candidates", "Design", "Likeness", "Statistics", "View"),
    "domain.access": ("AccessExplanation", "Grant"),
    "domain.audit": ("AuditEntry", "AuditHead", "AuditRow", "Verification"),
    "domain.change": (
        "Absorb", "Add", "Archive", "Change", "Consolidate", "Draft", "Edit", "Ignore", "Merge", "Release", "Restore",
        "Reweigh", "Split", "Supersede", "Update", "Vouch",
    ),
    "domain.errors": (
        "AccessDenied", "ChangeRefused", "DesignFailed", "EmbedderMismatch", "EmbeddingFailed", "EngramError",
        "FactNotFound", "IndexUnavailable", "InvalidDesign", "InvalidExport", "InvalidInput", "InvalidPolicy",
        "InvalidScope", "MissingExtra", "ModelFailed", "OnHold", "ProposalNotFound", "RecallNotFound",
        "SandboxUnavailable", "SchemaTooNew", "StoreClosed", "StoreUnavailable",
    ),
    "domain.fact": ("Fact", "Origin", "Slot", "Status"),
    "domain.gap": ("Gap", "Lapse"),
    "domain.guard": ("Guard", "GuardVerdict"),
    "domain.message": ("Episode", "Message"),
    "domain.policy": ("MemoryPolicy",),
    "domain.proposal": ("Proposal",),
    "domain.reason": ("Reason",),
    "domain.recall": ("AddResult", "Dropped", "Outcome", "Query", "Recall", "Scored", "ScoredFact", "Usage"),
    "domain.scope": ("Scope",),
    "domain.server": ("ChromaServer", "Quotas"),
    "domain.spec": ("DesignSpec",),
    "engram": ("Engram", "Memory"),
    "measure.citations": ("CITE_INSTRUCTION", "strip_citations"),
    "models.guards": ("presidio_guard",),
    "models.sentence_files": ("SentenceFiles",),
    "operations.brief": ("Brief",),
    "operations.consolidate": ("Consolidation",),
    "operations.evolve": ("Evolution",),
    "operations.explain": ("FactExplanation", "RecallExplanation"),
    "operations.policy": ("PolicyChange",),
    "operations.reflect": ("Reflection",),
    "operations.scan": ("ScanReport",),
    "operations.schedule": ("Schedule",),
    "operations.sleep": ("ScopeNight", "SleepReport"),
    "operations.usage": ("UsageReport",),
    "ports": (
        "Decision", "Embedder", "LanguageModel", "Passage", "PolicyVersion", "Reranker", "Source", "TokenCounter",
    ),
    "operations.erase": ("ErasureReport",),
    "keeping": ("Hold",),
    "operations.residue": ("Residue",),
    "operations.export": ("Exported",),
    "operations.importing": ("Imported",),
    "turns": ("Alarm", "DEFAULT_MAX_OPEN", "DEFAULT_TIMEOUT_S", "NamedTurns", "Turn", "Turns", "turn_name"),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Absorb", "AccessDenied", "AccessExplanation", "Add", "AddResult", "Alarm", "Alike", "Archive", "Ask", "AuditEntry",
    "AuditHead", "AuditRow", "Binding", "BindingSource", "Bound", "Brief", "CITE_INSTRUCTION", "Candidates", "Change",
    "ChangeRefused", "ChromaServer", "Consolidate", "Consolidation", "DEFAULT_K", "DEFAULT_MAX_OPEN",
    "DEFAULT_TIMEOUT_S", "Decision", "Design", "DesignFailed", "DesignSpec", "Draft", "Dropped", "Edit", "Embedder",
    "EmbedderMismatch", "EmbeddingFailed", "Engram", "EngramError", "Episode", "ErasureReport", "Evolution", "Exported",
    "Fact", "FactExplanation", "FactNotFound", "Gap", "Grant", "Guard", "GuardVerdict", "Hold", "Ignore", "Imported",
    "IndexUnavailable", "InvalidDesign", "InvalidExport", "InvalidInput", "InvalidPolicy", "InvalidScope",
    "LanguageModel", "Lapse", "Likeness", "MAX_K", "Memory", "MemoryPolicy", "Merge", "Message", "MissingExtra",
    "ModelFailed", "NamedTurns", "OnHold", "Origin", "Outcome", "Passage", "PolicyChange", "PolicyVersion",
    "PrincipalSource", "Proposal", "ProposalNotFound", "Query", "Quotas", "Reason", "Recall", "RecallExplanation",
    "RecallNotFound", "Reflection", "Release", "Reranker", "Residue", "Restore", "Reweigh", "SandboxUnavailable",
    "ScanReport", "Schedule", "SchemaTooNew", "Scope", "ScopeNight", "ScopeSource", "Scored", "ScoredFact",
    "SentenceFiles", "SleepReport", "Slot", "Source", "Split", "Statistics", "Status", "StoreClosed",
    "StoreUnavailable", "Supersede", "TokenCounter", "Turn", "Turns", "Update", "Usage", "UsageReport", "Verification",
    "View", "Vouch", "bind", "default_engram", "presidio_guard", "strip_citations", "turn_name",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "default_engram":
        value = import_module("engram_core.bootstrap").shared
    elif name in _HOME_OF:
        value = getattr(import_module(f"engram_core.{_HOME_OF[name]}"), name)
    else:
        raise AttributeError(f"module 'engram_core' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
