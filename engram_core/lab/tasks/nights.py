"""Nights: after a night what no longer holds is gone, what holds is there, and what is protected was not touched."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from engram_core.domain.fact import Fact
from engram_core.lab.bench.metrics import of_forgetting
from engram_core.lab.tasks.base import Result, Split, scored
from engram_core.lab.tasks.worlds import World, batches, world
from engram_core.lab.workbench import Workbench

_SCOPE = "lab/nights"
_PROTECTED = frozenset({"pinned", "protected"})


@dataclass(frozen=True)
class ForgettingTask:
    """Labelled facts: what a newer telling replaced should go, the last telling of everything should stay.

    Protected facts are a hard limit: a design that archives a pinned fact, or only proposes to, is out.
    """

    worlds: int = 1
    seed: int = 21
    name: str = "forgetting"
    family: str = "forgetting"

    @property
    def fingerprint(self) -> str:
        """The generator's settings."""
        return f"worlds1/{self.worlds}/{self.seed}"

    def run(self, bench: Workbench, split: Split) -> Result:
        """Score: the share of labelled messages that are where they belong, as many to forget as to keep."""
        rows: list[float] = []
        broken: list[str] = []
        totals = [0.0, 0.0, 0.0]
        worlds = 1 if split == "smoke" else self.worlds
        for number in range(worlds):
            made = world(split, self.seed + number, people=3, changes=2, chatter=3)
            right, told, out = self._night(bench, made, split)
            rows += right
            broken += out
            totals = [total + value for total, value in zip(totals, told, strict=True)]
        precision, recall, kept = (total / worlds for total in totals)
        return Result(scored(rows, (), precision=precision, recall=recall, kept=kept), tuple(rows), tuple(broken))

    def _night(self, bench: Workbench, made: World, split: str) -> tuple[list[float], tuple[float, ...], list[str]]:
        store = bench.fresh(auto_forget=True, protect_days=1.0)
        memory = store.memory(_SCOPE)
        for messages in batches(made.messages):
            memory.add(list(messages), now=messages[-1].at)
        keep = frozenset(telling.message for telling in made.tellings)
        forget = frozenset(id_ for telling in made.tellings for id_ in telling.stale)
        pinned = {fact.id for fact in memory.list(limit=10_000) if set(fact.origin.message_ids) & keep}
        pinned = set(sorted(pinned)[::5])
        for id_ in sorted(pinned):
            memory.update(id_, pinned=True, now=made.end)
        report = store.sleep(now=made.end + timedelta(days=60))
        facts = memory.list(status="all", limit=10_000)
        there = frozenset(id_ for fact in facts if _stands(fact) for id_ in fact.origin.message_ids)
        gone = frozenset(message.id or "" for message in made.messages) - there
        judged = of_forgetting(gone, forget, keep)
        broken = [
            f"Protected fact {fact.id} was archived." for fact in facts if fact.id in pinned and not _stands(fact)
        ]
        broken += _attempts(report)
        few = random.Random(f"{split}/{self.seed}").sample(sorted(keep), min(len(keep), max(len(forget), 1)))
        rows = [float(id_ not in gone) for id_ in few] + [float(id_ in gone) for id_ in sorted(forget)]
        return rows, (judged.precision, judged.recall, judged.kept), broken


def _stands(fact: Fact) -> bool:
    """Whether recalls still show what a fact says, by itself or through the fact that stands for it."""
    return fact.is_recallable or fact.consolidated_into is not None


def _attempts(report: Any) -> list[str]:
    """Proposals of the design that the floor had to refuse because the fact is protected."""
    refused = [str(item["refused"]) for scope in report.scopes for item in scope.design if item["refused"] is not None]
    return [f"It proposed to archive a protected fact: {line}" for line in refused if line.split(":")[0] in _PROTECTED]
