"""The lab's books in plain dictionaries, under the same contract as the real ones. Nothing outlives the object."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from engram_core.domain.errors import Conflict
from engram_core.domain.proposal import STEPS, Proposal, ProposalKind, ProposalStatus, Step
from engram_core.domain.scope import Scope
from engram_core.domain.spec import DesignSpec, LabRun, Shadow, Trial


class MemoryProposals:
    """See `engram_core.books.ProposalBook`."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._proposals: dict[str, Proposal] = {}
        self._shadows: dict[tuple[str, str], Shadow] = {}

    def add(self, proposal: Proposal) -> None:
        with self._lock:
            if proposal.id in self._proposals:
                raise Conflict(f"There is a proposal {proposal.id} already.")
            self._proposals[proposal.id] = replace(
                proposal,
                diff=_copied(proposal.diff),
                evidence=_copied(proposal.evidence),
                prediction=_copied(proposal.prediction),
                steps=tuple(replace(step, figures=_copied(step.figures)) for step in proposal.steps),
            )

    def get(self, id: str) -> Proposal | None:  # noqa: A002 - the public word
        with self._lock:
            return self._proposals.get(id)

    def listing(
        self,
        scope: Scope | None = None,
        *,
        below: bool = True,
        kind: ProposalKind | None = None,
        statuses: Sequence[ProposalStatus] = (),
        limit: int = 100,
    ) -> list[Proposal]:
        with self._lock:
            found = [
                item
                for item in self._proposals.values()
                if (scope is None or item.scope == scope or (below and scope.contains(item.scope)))
                and (kind is None or item.kind == kind)
                and (not statuses or item.status in statuses)
            ]
        return sorted(found, key=lambda item: (item.at, item.id), reverse=True)[:limit]

    def move(self, id: str, step: Step, expect: ProposalStatus) -> Proposal:  # noqa: A002
        if step.status not in STEPS[expect]:
            raise Conflict(f"A proposal that is {expect} cannot become {step.status}.")
        with self._lock:
            found = self._proposals.get(id)
            if found is None or found.status != expect:
                raise Conflict(f"Proposal {id} is not {expect} any more, or was never made.")
            self._proposals[id] = found.after(replace(step, figures=_copied(step.figures)))
            return self._proposals[id]

    def note_shadow(self, shadow: Shadow) -> None:
        with self._lock:
            self._shadows.setdefault((shadow.proposal, shadow.recall), replace(shadow, figures=_copied(shadow.figures)))

    def shadows(self, proposal: str, limit: int = 1_000) -> list[Shadow]:
        with self._lock:
            found = [shadow for shadow in self._shadows.values() if shadow.proposal == proposal]
        return sorted(found, key=lambda item: (item.at, item.recall))[-limit:] if limit else []


class MemoryDesigns:
    """See `engram_core.books.DesignBook`."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._designs: dict[str, DesignSpec] = {}
        self._trials: list[Trial] = []
        self._runs: dict[str, LabRun] = {}

    def add(self, spec: DesignSpec) -> bool:
        with self._lock:
            return self._designs.setdefault(spec.id, spec) is spec

    def get(self, id: str) -> DesignSpec | None:  # noqa: A002
        with self._lock:
            if id in self._designs:
                return self._designs[id]
            kind, _, start = id.partition(":")
            if not kind or len(start) < 8 or not start.isalnum():
                return None
            found = [spec for known, spec in self._designs.items() if known.startswith(id)]
        return found[0] if len(found) == 1 else None

    def listing(self, limit: int = 10_000) -> list[DesignSpec]:
        with self._lock:
            return list(self._designs.values())[:limit]

    def record(self, trial: Trial) -> None:
        with self._lock:
            if trial.design not in self._designs:
                raise Conflict(f"The archive does not hold {trial.design}; add it before its trials.")
            self._trials.append(
                replace(
                    trial,
                    metrics=_copied(trial.metrics),
                    timings=_copied(trial.timings),
                    rows={task: tuple(values) for task, values in trial.rows.items()},
                )
            )

    def trials(
        self, *, design: str | None = None, run: str | None = None, suite: str | None = None, split: str | None = None
    ) -> list[Trial]:
        with self._lock:
            return [
                trial
                for trial in self._trials
                if design in (None, trial.design)
                and run in (None, trial.run)
                and suite in (None, trial.suite)
                and split in (None, trial.split)
            ]

    def save_run(self, run: LabRun) -> None:
        with self._lock:
            report = _copied(run.report) if run.report is not None else None
            self._runs[run.id] = replace(run, setup=_copied(run.setup), report=report)

    def runs(self, limit: int = 20) -> list[LabRun]:
        with self._lock:
            return sorted(self._runs.values(), key=lambda run: (run.at, run.id), reverse=True)[:limit]


def _copied(value: Mapping[str, Any]) -> dict[str, Any]:
    """As a database would hand it back: a record must not follow its caller."""
    copy: dict[str, Any] = json.loads(json.dumps(_plain(value)))
    return copy


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
