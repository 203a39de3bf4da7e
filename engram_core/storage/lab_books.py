"""The lab's books on SQLite or PostgreSQL: proposals, and the archive of designs. They keep; they judge nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import Connection, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from engram_core.domain.errors import Conflict
from engram_core.domain.proposal import STEPS, Proposal, ProposalKind, ProposalStatus, Step
from engram_core.domain.scope import Scope
from engram_core.domain.spec import DesignSpec, LabRun, Shadow, Trial
from engram_core.storage import schema as t
from engram_core.storage import writing
from engram_core.storage.codec import dumps, epoch, moment, storable

Transaction = Callable[[], AbstractContextManager[Connection]]
"""A transaction whose failures are already told as Engram's errors."""


class SqlProposals:
    """See `engram_core.books.ProposalBook`.

    Args:
        writing_to: Begins a durable transaction.
        reading: Begins a reading one.
    """

    def __init__(self, writing_to: Transaction, reading: Transaction) -> None:
        self._write = writing_to
        self._read = reading

    def add(self, proposal: Proposal) -> None:
        try:
            with self._write() as connection:
                writing.next_seq(connection, 1)
                connection.execute(
                    insert(t.proposals),
                    {
                        "id": storable(proposal.id),
                        "kind": proposal.kind,
                        "scope_id": writing.scope_id(connection, proposal.scope),
                        "status": proposal.status,
                        "principal": storable(proposal.by),
                        "at": epoch(proposal.at),
                        "rationale": storable(proposal.rationale),
                        "diff": dumps(_plain(proposal.diff)),
                        "evidence": dumps(_plain(proposal.evidence)),
                        "prediction": dumps(_plain(proposal.prediction)),
                    },
                )
                for number, step in enumerate(proposal.steps):
                    connection.execute(insert(t.proposal_steps), _step_row(proposal.id, number, step))
        except IntegrityError as error:
            raise Conflict(f"There is a proposal {proposal.id} already.") from error

    def get(self, id: str) -> Proposal | None:  # noqa: A002 - the public word
        with self._read() as connection:
            found = _proposals(connection, t.proposals.c.id == storable(id), 1)
        return found[0] if found else None

    def listing(
        self,
        scope: Scope | None = None,
        *,
        below: bool = True,
        kind: ProposalKind | None = None,
        statuses: Sequence[ProposalStatus] = (),
        limit: int = 100,
    ) -> list[Proposal]:
        wanted: Any = t.proposals.c.id.is_not(None)
        if scope is not None:
            inside = t.scopes.c.path == scope.path
            under = f"{scope.path}/"
            # No LIKE: `_` and `%` may stand in a path.
            wanted &= or_(inside, func.substr(t.scopes.c.path, 1, len(under)) == under) if below else inside
        if kind is not None:
            wanted &= t.proposals.c.kind == kind
        if statuses:
            wanted &= t.proposals.c.status.in_(list(statuses))
        with self._read() as connection:
            return _proposals(connection, wanted, limit)

    def move(self, id: str, step: Step, expect: ProposalStatus) -> Proposal:  # noqa: A002
        if step.status not in STEPS[expect]:
            raise Conflict(f"A proposal that is {expect} cannot become {step.status}.")
        with self._write() as connection:
            moved = connection.execute(
                update(t.proposals)
                .where(t.proposals.c.id == storable(id), t.proposals.c.status == expect)
                .values(status=step.status)
            )
            if moved.rowcount != 1:
                raise Conflict(f"Proposal {id} is not {expect} any more, or was never made.")
            many = select(func.count()).where(t.proposal_steps.c.proposal_id == storable(id))
            connection.execute(insert(t.proposal_steps), _step_row(id, connection.execute(many).scalar_one(), step))
            return _proposals(connection, t.proposals.c.id == storable(id), 1)[0]

    def note_shadow(self, shadow: Shadow) -> None:
        row = {
            "proposal_id": storable(shadow.proposal),
            "recall_id": storable(shadow.recall),
            "at": epoch(shadow.at),
            "figures": dumps(_plain(shadow.figures)),
        }
        with self._write() as connection:
            writing.insert_if_absent(connection, t.shadows, row)

    def shadows(self, proposal: str, limit: int = 1_000) -> list[Shadow]:
        latest = (
            select(t.shadows)
            .where(t.shadows.c.proposal_id == storable(proposal))
            .order_by(t.shadows.c.at.desc(), t.shadows.c.recall_id.desc())
            .limit(limit)
        )
        with self._read() as connection:
            rows = list(connection.execute(latest).mappings())
        return [
            Shadow(row["proposal_id"], row["recall_id"], _at(row["at"]), json.loads(row["figures"]))
            for row in reversed(rows)
        ]


class SqlDesigns:
    """See `engram_core.books.DesignBook`; arguments as for `SqlProposals`."""

    def __init__(self, writing_to: Transaction, reading: Transaction) -> None:
        self._write = writing_to
        self._read = reading

    def add(self, spec: DesignSpec) -> bool:
        row = {
            "id": spec.id,
            "kind": spec.kind,
            "source": storable(spec.source),
            "parents": dumps(list(spec.parents)),
            "operator": storable(spec.operator),
            "rationale": storable(spec.rationale),
            "made_by": storable(spec.by),
            "at": epoch(spec.at),
        }
        with self._write() as connection:
            # Taking a number holds the lock that puts the designs of several writers in one order.
            number = writing.next_seq(connection, 1)
            if connection.execute(select(t.designs.c.id).where(t.designs.c.id == spec.id)).first() is not None:
                return False
            connection.execute(insert(t.designs), {"number": number, **row})
            return True

    def get(self, id: str) -> DesignSpec | None:  # noqa: A002
        with self._read() as connection:
            rows = list(connection.execute(select(t.designs).where(t.designs.c.id == storable(id))).mappings())
            kind, _, start = id.partition(":")
            if not rows and kind and len(start) >= 8 and start.isalnum():
                like = func.substr(t.designs.c.id, 1, len(id)) == storable(id)
                rows = list(connection.execute(select(t.designs).where(like).limit(2)).mappings())
        return _spec(rows[0]) if len(rows) == 1 else None

    def listing(self, limit: int = 10_000) -> list[DesignSpec]:
        with self._read() as connection:
            rows = connection.execute(select(t.designs).order_by(t.designs.c.number).limit(limit)).mappings()
            return [_spec(row) for row in rows]

    def record(self, trial: Trial) -> None:
        row = {
            "design_id": trial.design,
            "run_id": trial.run,
            "arm": trial.arm,
            "number": trial.number,
            "suite": trial.suite,
            "split": trial.split,
            "status": trial.status,
            "fitness": trial.fitness,
            "at": epoch(trial.at),
            "figures": dumps(
                _plain({"metrics": trial.metrics, "timings": trial.timings, "rows": trial.rows, "error": trial.error})
            ),
        }
        try:
            with self._write() as connection:
                connection.execute(insert(t.design_trials), row)
        except IntegrityError as error:
            raise Conflict(f"The archive does not hold {trial.design}; add it before its trials.") from error

    def trials(
        self, *, design: str | None = None, run: str | None = None, suite: str | None = None, split: str | None = None
    ) -> list[Trial]:
        query = select(t.design_trials).order_by(t.design_trials.c.id)
        wanted = {"design_id": design, "run_id": run, "suite": suite, "split": split}
        for name, value in wanted.items():
            if value is not None:
                query = query.where(t.design_trials.c[name] == value)
        with self._read() as connection:
            return [_trial(row) for row in connection.execute(query).mappings()]

    def save_run(self, run: LabRun) -> None:
        row = {
            "id": run.id,
            "at": epoch(run.at),
            "setup": dumps(_plain(run.setup)),
            "report": dumps(_plain(run.report)) if run.report is not None else None,
        }
        with self._write() as connection:
            writing.upsert(connection, t.lab_runs, [row], ["id"])

    def runs(self, limit: int = 20) -> list[LabRun]:
        query = select(t.lab_runs).order_by(t.lab_runs.c.at.desc(), t.lab_runs.c.id.desc()).limit(limit)
        with self._read() as connection:
            return [
                LabRun(row["id"], _at(row["at"]), json.loads(row["setup"]), _maybe(row["report"]))
                for row in connection.execute(query).mappings()
            ]


def _plain(value: Any) -> Any:
    """Mappings and tuples of whatever kind, as JSON has them."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _maybe(text: str | None) -> dict[str, Any] | None:
    return json.loads(text) if text is not None else None


def _at(seconds: float) -> Any:
    at = moment(seconds)
    assert at is not None
    return at


def _step_row(id_: str, number: int, step: Step) -> dict[str, Any]:
    return {
        "proposal_id": storable(id_),
        "number": number,
        "status": step.status,
        "principal": storable(step.by),
        "at": epoch(step.at),
        "reason": storable(step.reason),
        "figures": dumps(_plain(step.figures)),
    }


def _proposals(connection: Connection, wanted: Any, limit: int) -> list[Proposal]:
    query = (
        select(t.proposals, t.scopes.c.path)
        .join(t.scopes)
        .where(wanted)
        .order_by(t.proposals.c.at.desc(), t.proposals.c.id.desc())
        .limit(limit)
    )
    rows = list(connection.execute(query).mappings())
    ids = [row["id"] for row in rows]
    steps: dict[str, list[Step]] = {id_: [] for id_ in ids}
    taken = select(t.proposal_steps).where(t.proposal_steps.c.proposal_id.in_(ids)).order_by(t.proposal_steps.c.number)
    for row in connection.execute(taken).mappings():
        step = Step(row["status"], row["principal"], _at(row["at"]), row["reason"], json.loads(row["figures"]))
        steps[row["proposal_id"]].append(step)
    return [
        Proposal(
            id=row["id"],
            kind=row["kind"],
            scope=Scope(row["path"]),
            diff=json.loads(row["diff"]),
            evidence=json.loads(row["evidence"]),
            prediction=json.loads(row["prediction"]),
            by=row["principal"],
            at=_at(row["at"]),
            rationale=row["rationale"],
            steps=tuple(steps[row["id"]]),
        )
        for row in rows
    ]


def _spec(row: Any) -> DesignSpec:
    return DesignSpec(
        row["kind"],
        row["source"],
        _at(row["at"]),
        tuple(json.loads(row["parents"])),
        row["operator"],
        row["rationale"],
        row["made_by"],
    )


def _trial(row: Any) -> Trial:
    figures = json.loads(row["figures"])
    return Trial(
        design=row["design_id"],
        at=_at(row["at"]),
        suite=row["suite"],
        split=row["split"],
        status=row["status"],
        run=row["run_id"],
        arm=row["arm"],
        number=row["number"],
        fitness=row["fitness"],
        metrics=figures["metrics"],
        timings=figures["timings"],
        rows={task: tuple(values) for task, values in figures["rows"].items()},
        error=figures["error"],
    )
