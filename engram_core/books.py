"""The lab's books of a ledger: proposals, and the archive of designs. Protocols and their words, no code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from engram_core.domain.proposal import Proposal, ProposalKind, ProposalStatus, Step
from engram_core.domain.scope import Scope
from engram_core.domain.spec import DesignSpec, LabRun, Shadow, Trial


class ProposalBook(Protocol):
    """Proposals and their steps. Nothing is ever changed or removed; a step is added or refused."""

    def add(self, proposal: Proposal) -> None:
        """Record a new proposal with the steps it has. Raises Conflict if the id is known."""
        ...

    def get(self, id: str) -> Proposal | None: ...  # noqa: A002 - the public word

    def listing(
        self,
        scope: Scope | None = None,
        *,
        below: bool = True,
        kind: ProposalKind | None = None,
        statuses: Sequence[ProposalStatus] = (),
        limit: int = 100,
    ) -> list[Proposal]:
        """Proposals, newest first: of a scope (and, with `below`, of all under it), or (None) of the whole store."""
        ...

    def move(self, id: str, step: Step, expect: ProposalStatus) -> Proposal:  # noqa: A002
        """Add a step to a proposal whose status is `expect`, and return it.

        Raises:
            Conflict: Its status is another one by now, or `domain.proposal.STEPS` does not lead there, or the id is
                unknown. Nothing is written.
        """
        ...

    def note_shadow(self, shadow: Shadow) -> None:
        """Record a recall that a candidate answered as well; a second one of the same recall is ignored."""
        ...

    def shadows(self, proposal: str, limit: int = 1_000) -> list[Shadow]:
        """The latest shadowed recalls of a proposal, oldest first."""
        ...


class DesignBook(Protocol):
    """The archive of designs. Append-only: a design is added once, trials pile up, nothing is changed or removed."""

    def add(self, spec: DesignSpec) -> bool:
        """Keep a design; False when its id is there already, and then the first one's parentage stays."""
        ...

    def get(self, id: str) -> DesignSpec | None:  # noqa: A002
        """A design by its id, or by the only id that starts with this (8 characters of the hash at least)."""
        ...

    def listing(self, limit: int = 10_000) -> list[DesignSpec]:
        """The designs in the order they were added."""
        ...

    def record(self, trial: Trial) -> None:
        """Append a trial of a known design."""
        ...

    def trials(
        self, *, design: str | None = None, run: str | None = None, suite: str | None = None, split: str | None = None
    ) -> list[Trial]:
        """Trials in the order they were recorded."""
        ...

    def save_run(self, run: LabRun) -> None:
        """Record a run, or its end."""
        ...

    def runs(self, limit: int = 20) -> list[LabRun]:
        """The latest runs, newest first."""
        ...
