"""DesignSpec: a memory design as stored text with its parentage, and what trials of it found. It runs nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

SpecKind = Literal["policy", "genome", "code"]
SPEC_KINDS: Final[tuple[SpecKind, ...]] = ("policy", "genome", "code")
MAX_SOURCE_BYTES: Final = 64 * 1024
"""Longest source of a design."""

TrialStatus = Literal["evaluated", "quarantined"]


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values, equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_id(kind: SpecKind, source: str) -> str:
    """`genome:<sha256 of the source>`: the same design has the same id in every archive."""
    return f"{kind}:{hashlib.sha256(source.encode('utf-8', 'surrogatepass')).hexdigest()}"


@dataclass(frozen=True, slots=True)
class DesignSpec:
    """One member of the archive.

    Attributes:
        kind: `policy` (fields as JSON), `genome` (a pipeline of operators as canonical JSON), `code` (one Python file).
        source: The text that says everything about it; its hash is the id.
        parents: Ids it was made from; none for a seed.
        operator: How it was made, such as `seed`, `nudge`, `crossover` or `model`.
        rationale: One or two sentences for a person.
        by: Who or what made it.
    """

    kind: SpecKind
    source: str
    at: datetime
    parents: tuple[str, ...] = ()
    operator: str = "seed"
    rationale: str = ""
    by: str = ""

    @property
    def id(self) -> str:
        """See `content_id`."""
        return content_id(self.kind, self.source)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "id": self.id,
            "kind": self.kind,
            "parents": list(self.parents),
            "operator": self.operator,
            "rationale": self.rationale,
            "by": self.by,
            "at": self.at.isoformat(),
            "source": self.source,
        }


@dataclass(frozen=True, slots=True)
class Trial:
    """One evaluation of one design. Append-only.

    Attributes:
        run: The lab run it belongs to; empty outside of one.
        arm: Which search of the run asked for it, such as `niche`, `greedy` or `random`.
        number: Its place in that search, from 0.
        suite: Fingerprint of the tasks and their data.
        split: `dev`, `gate` or `smoke`.
        status: `quarantined` when it failed or broke a hard limit: it stays a stepping stone and is never promoted.
        metrics: Task to metric to value; the same for the same design, suite and split.
        timings: Milliseconds and seconds; these differ from run to run.
        rows: Per-question values of each task's main metric, for paired intervals.
        error: Why it was quarantined.
    """

    design: str
    at: datetime
    suite: str
    split: str
    status: TrialStatus = "evaluated"
    run: str = ""
    arm: str = ""
    number: int = 0
    fitness: float = 0.0
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    rows: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; without the per-question rows."""
        return {
            "design": self.design,
            "at": self.at.isoformat(),
            "suite": self.suite,
            "split": self.split,
            "status": self.status,
            "run": self.run,
            "arm": self.arm,
            "number": self.number,
            "fitness": self.fitness,
            "metrics": {task: dict(values) for task, values in self.metrics.items()},
            "timings": dict(self.timings),
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class LabRun:
    """One search: how it was set up, and its report once it is over (None: killed, or still at work)."""

    id: str
    at: datetime
    setup: Mapping[str, Any]
    report: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Shadow:
    """A live recall that a candidate answered as well, beside the design in force.

    Attributes:
        proposal: The proposal whose design was tried.
        figures: `agreement` (share of the shown facts that both show, 0 to 1), `tokens` and `tokens_now`,
            `ms` and `ms_now`, `used` and `used_now` once a verdict is known.
    """

    proposal: str
    recall: str
    at: datetime
    figures: Mapping[str, float]


# --- what genomes are made of ------------------------------------------------------------------------------------

Stage = Literal["update", "retrieve", "sleep"]
STAGES: Final[tuple[Stage, ...]] = ("update", "retrieve", "sleep")
MAX_GENES: Final = 12
"""Operators of one stage at most."""


@dataclass(frozen=True, slots=True)
class Knob:
    """One parameter of an operator.

    Attributes:
        kind: `number` and `whole` lie between `low` and `high`; a `choice` is one of `choices`; a `switch` is a bool.
        optional: None is a value, too: what the scope's policy says.
    """

    name: str
    kind: Literal["number", "whole", "choice", "switch"]
    default: Any
    low: float = 0.0
    high: float = 1.0
    choices: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A registered operator as a search sees it.

    Attributes:
        role: A stage has one `source`, first, that proposes or ranks; a `refine` changes what came before it. Every
            operator of `sleep` is a source, and their proposals are united.
        reads: What it looks at.
        says: What it does, in one sentence.
    """

    name: str
    version: int
    stage: Stage
    role: Literal["source", "refine"]
    knobs: tuple[Knob, ...]
    reads: tuple[str, ...]
    says: str

    def knob(self, name: str) -> Knob | None:
        """The parameter of that name."""
        return next((knob for knob in self.knobs if knob.name == name), None)
