"""Proposal: a change of a scope's policy that waits for a person, and every step it takes. Words only; no judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal

from engram_core.domain.scope import Scope

ProposalKind = Literal["policy", "design"]
ProposalStatus = Literal["pending", "approved", "rejected", "applied", "kept", "rolled_back"]

STEPS: Final[Mapping[ProposalStatus, frozenset[ProposalStatus]]] = {
    "pending": frozenset({"approved", "rejected"}),
    "approved": frozenset({"applied", "rejected"}),
    "applied": frozenset({"kept", "rolled_back"}),
    "kept": frozenset({"rolled_back"}),
    "rejected": frozenset(),
    "rolled_back": frozenset(),
}
"""What a proposal of each status may become. Rejected and rolled back are ends."""

OPEN: Final[frozenset[ProposalStatus]] = frozenset({"pending", "approved", "applied"})
"""Statuses that still wait for something: a person, a trial beside the present design, or a measurement."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a proposal: what it became, by whom, when, why, and the figures it rests on.

    Attributes:
        by: A principal; `engram` where a rule decided.
        figures: Named numbers and names, JSON-able, such as the policy's version before and after.
    """

    status: ProposalStatus
    by: str
    at: datetime
    reason: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "status": self.status,
            "by": self.by,
            "at": self.at.isoformat(),
            "reason": self.reason,
            "figures": dict(self.figures),
        }


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change of one scope's policy, with what speaks for it.

    Attributes:
        id: UUIDv7.
        kind: `policy` changes numbers; `design` changes the field `design`.
        scope: Whose policy would change.
        diff: Policy field to `before` and `after`, JSON-able; see `operations.policy.changes_dict`.
        evidence: What it rests on, JSON-able: replays, intervals, examples, risks.
        prediction: Metric to what is expected after it; the effect is measured against it.
        by: Who proposed it.
        steps: What became of it, oldest first; the first is `pending`.
    """

    id: str
    kind: ProposalKind
    scope: Scope
    diff: Mapping[str, Mapping[str, Any]]
    evidence: Mapping[str, Any]
    prediction: Mapping[str, float]
    by: str
    at: datetime
    rationale: str = ""
    steps: tuple[Step, ...] = ()

    @property
    def status(self) -> ProposalStatus:
        """What it is now."""
        return self.steps[-1].status if self.steps else "pending"

    @property
    def reason(self) -> str:
        """Why it is what it is now."""
        return self.steps[-1].reason if self.steps else ""

    def after(self, step: Step) -> Proposal:
        """The proposal with one more step."""
        return replace(self, steps=(*self.steps, step))

    def step(self, status: ProposalStatus) -> Step | None:
        """The latest step to a status, if it was ever taken."""
        return next((step for step in reversed(self.steps) if step.status == status), None)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "id": self.id,
            "kind": self.kind,
            "scope": self.scope.path,
            "status": self.status,
            "by": self.by,
            "at": self.at.isoformat(),
            "rationale": self.rationale,
            "diff": {name: dict(change) for name, change in self.diff.items()},
            "evidence": dict(self.evidence),
            "prediction": dict(self.prediction),
            "steps": [step.to_dict() for step in self.steps],
        }
