"""Search: proposes, tries and keeps designs within a budget, beside a greedy and a random search of equal budget.

Every step draws its chance from the seed, its arm and its number alone, and every trial is in the ledger before the
next step: so the same seed and data give the same archive, and a killed run goes on where it stopped.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from engram_core.books import DesignBook
from engram_core.domain.errors import InvalidDesign, InvalidInput
from engram_core.domain.spec import DesignSpec, LabRun, SpecKind, Trial
from engram_core.lab.archive import RULES, Archive, Member, Rule
from engram_core.lab.bench.metrics import Interval, paired_interval
from engram_core.lab.evaluate import evaluate, only
from engram_core.lab.proposers import Idea, Proposer, RandomProposer, Space
from engram_core.lab.tasks.base import TOKEN_PRICE, Result, Split, Suite
from engram_core.lab.workbench import Collected, Runner

GREEDY: Final = "greedy"
RANDOM: Final = "random"
START: Final = "start"
_AGAIN: Final = 12
"""How often a step proposes anew when its idea is in the arm's archive already."""
SEARCH_SHARE: Final = 0.8
"""Share of the seconds that go to searching; the rest is for the gate split."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may spend.

    Attributes:
        evaluations: Trials of each arm, the seeds included, 1 to 100,000.
        seconds: Of the whole run; None for no limit. A run that ends by time depends on the machine; its steps do not.
    """

    evaluations: int = 60
    seconds: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.evaluations <= 100_000:
            raise InvalidInput(f"A budget has from 1 to 100,000 evaluations, not {self.evaluations!r}.")
        if self.seconds is not None and not self.seconds > 0:
            raise InvalidInput(f"A budget's seconds must be above 0, not {self.seconds!r}.")


@dataclass(frozen=True, slots=True)
class Setup:
    """How a run is set up. JSON-able; a run that goes on must have the same.

    Attributes:
        rule: Of the main arm; see `Archive.sample`.
        starts: Random designs that every arm begins with, after the seeds.
        controls: Whether the greedy and the random arm run beside it. Leave them out only to try things.
        proposer: A name for how the main arm proposes, such as `mutation` or `model`.
    """

    seed: int = 0
    rule: Rule = "niche"
    starts: int = 10
    controls: bool = True
    proposer: str = "mutation"

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise InvalidInput(f"There is no rule {self.rule!r}; choose one of {', '.join(RULES)}.")
        if not 0 <= self.starts <= 10_000:
            raise InvalidInput(f"starts must be from 0 to 10,000, not {self.starts!r}.")

    def to_dict(self, suite: Suite) -> dict[str, Any]:
        """JSON-able."""
        return {
            "seed": self.seed,
            "rule": self.rule,
            "starts": self.starts,
            "controls": self.controls,
            "proposer": self.proposer,
            "suite": suite.fingerprint,
            "tasks": [task.name for task in suite.tasks],
        }


@dataclass(slots=True)
class _Arm:
    name: str
    rule: Rule
    proposer: Proposer
    archive: Archive


@dataclass
class Search:
    """One run.

    Args:
        book: The archive of designs in the ledger.
        seeds: Named designs to start from; must hold `default` and `no_memory`, which everything is compared with.
        proposer: Of the main arm; the others mutate (`mutation`) or draw at random.
        run: The run's id; one that is in the book already goes on.
        now: Gives the time that specs and trials are stamped with.
        clock: Seconds, for the budget.
        progress: Called with (what is being done, trials done, trials in all).
        seen: Called with each new trial's design, split, task and result: what a model is shown of.

    Raises:
        InvalidInput: The run that goes on was set up otherwise.
    """

    book: DesignBook
    suite: Suite
    space: Space
    runner: Runner
    seeds: Mapping[str, DesignSpec]
    proposer: Proposer
    mutation: Proposer
    budget: Budget
    setup: Setup
    run: str
    now: Callable[[], datetime]
    default: str = "pipeline"
    clock: Callable[[], float] = time.monotonic
    progress: Progress | None = None
    seen: Callable[[DesignSpec, Split, str, Result], None] | None = None

    def __post_init__(self) -> None:
        self._cache = Collected()
        self._known: dict[tuple[str, str, str], Trial] = {}
        self._arms = [_Arm(self.setup.rule, self.setup.rule, self.proposer, Archive())]
        if self.setup.controls:
            self._arms += [
                _Arm(GREEDY, "greedy", self.mutation, Archive()),
                _Arm(RANDOM, "uniform", RandomProposer(self.space), Archive()),
            ]
        if len({arm.name for arm in self._arms}) != len(self._arms):
            raise InvalidInput("The rule 'greedy' is a control already: leave the controls out, or choose another.")

    def go(self) -> dict[str, Any]:
        """Search until the budget is spent, look at the gate split once, and return the report, which is kept, too."""
        started = self.clock()
        told = self.setup.to_dict(self.suite)
        before = next((run for run in self.book.runs(1_000) if run.id == self.run), None)
        if before is not None and dict(before.setup) != told:
            raise InvalidInput(f"Run {self.run} was set up otherwise; start another one.")
        record = before or LabRun(self.run, self.now(), told)
        self.book.save_run(record)
        try:
            for trial in self.book.trials():
                self._known.setdefault((trial.design, trial.suite, trial.split), trial)
            done = self._steps(started)
            report = self._report(done)
        finally:
            self._cache.close()
        self.book.save_run(replace(record, report=report))
        return report

    # --- steps ---

    def _steps(self, started: float) -> int:
        mine = {(t.arm, t.number): t for t in self.book.trials(run=self.run, suite=self.suite.fingerprint, split="dev")}
        limit = self.budget.seconds * SEARCH_SHARE if self.budget.seconds is not None else None
        total = self.budget.evaluations * len(self._arms)
        number = 0
        # Arms take turns, so that whenever time runs out they have spent the same.
        while number < self.budget.evaluations and (limit is None or self.clock() - started < limit):
            for place, arm in enumerate(self._arms):
                self._step(arm, number, mine.get((arm.name, number)))
                if self.progress is not None:
                    self.progress(f"{arm.name}: {_worth(arm)}", number * len(self._arms) + place + 1, total)
            number += 1
        return number

    def _step(self, arm: _Arm, number: int, before: Trial | None) -> None:
        if before is not None:
            spec = self.book.get(before.design)
            if spec is not None:
                arm.archive.put(spec, before)
                return
        spec = self._spec(arm, number)
        trial = self._tried(spec, self.suite, "dev", arm.name, number)
        self.book.record(replace(trial, run=self.run, arm=arm.name, number=number))
        # As the book has it: whoever found a design first is its parent, in a run that goes on as well.
        arm.archive.put(self.book.get(spec.id) or spec, trial)

    def _spec(self, arm: _Arm, number: int) -> DesignSpec:
        seeds = list(self.seeds.values())
        if number < len(seeds):
            self.book.add(seeds[number])
            return seeds[number]
        idea = self._idea(arm, number, is_start=number < len(seeds) + self.setup.starts)
        spec = DesignSpec(
            _kind(idea), idea.source, self.now(), idea.parents, idea.operator, idea.rationale, f"lab {arm.name}"
        )
        self.book.add(spec)
        return spec

    def _idea(self, arm: _Arm, number: int, *, is_start: bool) -> Idea:
        """What the step tries; one that the arm has not tried yet, if a dozen draws hold one."""
        # The first designs are drawn alike for every arm: they start from the same place.
        name = START if is_start else arm.name
        idea = None
        for attempt in range(_AGAIN):
            rng = random.Random(f"{self.setup.seed}/{name}/{number}/{attempt}")
            if is_start:
                idea = RandomProposer(self.space).propose(rng, arm.archive.members[0], arm.archive)
            else:
                baseline = self._baseline(arm)
                parent = arm.archive.sample(rng, arm.rule, baseline=baseline)
                idea = arm.proposer.propose(rng, parent, arm.archive)
            if DesignSpec(_kind(idea), idea.source, self.now()).id not in arm.archive:
                break
        assert idea is not None
        return idea

    def _baseline(self, arm: _Arm) -> float:
        nothing = self.seeds.get("no_memory")
        member = arm.archive.member(nothing.id) if nothing is not None else None
        return member.trial.fitness if member is not None else 0.0

    def _tried(self, spec: DesignSpec, suite: Suite, split: Split, arm: str, number: int) -> Trial:
        known = self._known.get((spec.id, suite.fingerprint, split))
        if known is not None:
            return known
        try:
            if spec.kind == "genome":
                self.space.checked(spec.source)
            trial = evaluate(
                spec,
                suite,
                split,
                self.runner,
                at=self.now(),
                cache=self._cache,
                seen=None if self.seen is None else lambda name, result: self.seen(spec, split, name, result),  # type: ignore[misc]
            )
        except InvalidDesign as error:
            trial = Trial(spec.id, self.now(), suite.fingerprint, split, "quarantined", error=str(error)[:500])
        self._known[spec.id, suite.fingerprint, split] = trial
        return trial

    # --- the report ---

    def _report(self, steps: int) -> dict[str, Any]:
        families = [
            family for family in dict.fromkeys(task.family for task in self.suite.tasks) if self.suite.weight(family)
        ]
        gate = {family: self._gate(family) for family in families}
        main = self._arms[0].name
        better = [family for family in families if gate[family]["arms"][main]["vs_default"]["low"] > 0]
        return {
            "run": self.run,
            "setup": self.setup.to_dict(self.suite),
            "steps": steps,
            "arms": {arm.name: self._told(arm) for arm in self._arms},
            "gate": gate,
            "better": better,
            "sentence": _sentence(better, families, gate, main),
        }

    def _told(self, arm: _Arm) -> dict[str, Any]:
        curve, best = [], float("-inf")
        for member in arm.archive.members:
            best = max(best, member.trial.fitness if member.is_sound else best)
            curve.append(round(best, 6) if best != float("-inf") else None)
        found = arm.archive.best
        return {
            "designs": len(arm.archive.members),
            "quarantined": sum(not member.is_sound for member in arm.archive.members),
            "best": found.spec.id if found is not None else None,
            "fitness": found.trial.fitness if found is not None else None,
            "curve": curve,
        }

    def _gate(self, family: str) -> dict[str, Any]:
        """The one look at the gate split: what each arm found best for the family on dev, and two to beat."""
        suite = only(self.suite, [family])
        default = self._looked(self.seeds[self.default], suite)
        nothing = self._looked(self.seeds["no_memory"], suite) if "no_memory" in self.seeds else default
        chosen = {arm.name: best_for(arm.archive.members, self.suite, family) for arm in self._arms}
        arms = {}
        for name, member in chosen.items():
            trial = self._looked(member.spec, suite)
            arms[name] = {
                "design": member.spec.id,
                "operator": member.spec.operator,
                "dev": _figures(member.trial, suite),
                "gate": _figures(trial, suite),
                "status": trial.status,
                "vs_default": _against(trial, default, suite),
                "vs_no_memory": _against(trial, nothing, suite),
            }
        return {"default": _figures(default, suite), "no_memory": _figures(nothing, suite), "arms": arms}

    def _looked(self, spec: DesignSpec, suite: Suite) -> Trial:
        fresh = (spec.id, suite.fingerprint, "gate") not in self._known
        self.book.add(spec)
        trial = self._tried(spec, suite, "gate", "", 0)
        if fresh:
            self.book.record(replace(trial, run=self.run))
        return trial


def best_for(members: Sequence[Member], suite: Suite, family: str) -> Member:
    """The member with the highest score less the price of its tokens in a family, on dev; of equals the shortest."""
    names = [task.name for task in suite.tasks if task.family == family]

    def worth(member: Member) -> float:
        found = [member.trial.metrics[name] for name in names if name in member.trial.metrics]
        values = [metrics["score"] - TOKEN_PRICE * metrics.get("tokens", 0.0) for metrics in found]
        return sum(values) / len(values) if values else float("-inf")

    sound = [member for member in members if member.is_sound] or list(members)
    return min(sound, key=lambda member: (-worth(member), len(member.spec.source)))


def _kind(idea: Idea) -> SpecKind:
    return "code" if idea.kind == "code" else "genome"


def _worth(arm: _Arm) -> str:
    best = arm.archive.best
    return f"best {best.trial.fitness:.3f}" if best is not None else "none sound"


def _figures(trial: Trial, suite: Suite) -> dict[str, float]:
    found = [trial.metrics[task.name] for task in suite.tasks if task.name in trial.metrics]
    if not found:
        return {"score": 0.0, "tokens": 0.0}
    return {name: round(sum(values.get(name, 0.0) for values in found) / len(found), 6) for name in ("score", "tokens")}


def _against(ours: Trial, theirs: Trial, suite: Suite) -> dict[str, float]:
    """Difference in score over the same questions, with its 95 % paired interval; -1 for a failed trial."""
    names = [task.name for task in suite.tasks]
    mine = [row for name in names for row in ours.rows.get(name, ())]
    other = [row for name in names for row in theirs.rows.get(name, ())]
    if ours.status != "evaluated" or len(mine) != len(other) or not other:
        found = Interval(-1.0, -1.0, -1.0)
    else:
        found = paired_interval(mine, other)
    return {"mean": round(found.mean, 6), "low": round(found.low, 6), "high": round(found.high, 6), "n": len(other)}


def _sentence(better: Sequence[str], families: Sequence[str], gate: Mapping[str, Any], main: str) -> str:
    if not better:
        return (
            f"No design was found that beats the default on the gate split with an interval above zero "
            f"({', '.join(families)})."
        )
    parts = []
    for family in better:
        found = gate[family]["arms"][main]
        interval = found["vs_default"]
        parts.append(
            f"{family} {gate[family]['default']['score']:.3f} → {found['gate']['score']:.3f} "
            f"(+{interval['mean']:.3f}, {interval['low']:.3f} to {interval['high']:.3f})"
        )
    return f"Better than the default on the gate split: {'; '.join(parts)}."
