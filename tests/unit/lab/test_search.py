"""The lab: same seed and data, same archive; a killed run goes on; nothing is out of reach; failures are kept."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from engram_core import InvalidInput, workshop
from engram_core.books import DesignBook
from engram_core.domain.spec import DesignSpec, Trial
from engram_core.lab.archive import Archive, diff, frontier, lineage, softmax
from engram_core.lab.proposers import Idea, MutationProposer, RandomProposer
from engram_core.lab.search import Budget, Search, Setup
from engram_core.lab.tasks.base import Result, Split, Suite
from engram_core.lab.workbench import LabStore, Workbench
from engram_core.testing.memory_ledger import MemoryLedger

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SPACE = workshop.GenomeSpace()


class Bare:
    """Runs nothing: the tasks here judge a design by its text."""

    def open(self, spec: DesignSpec, policy: Mapping[str, Any], *, durable: bool = False) -> LabStore:
        raise NotImplementedError

    restart = reopen = open

    def writes(self, spec: DesignSpec) -> str:
        return ""


@dataclass(frozen=True)
class TextTask:
    """Likes `keep_newest` and short rankings; raises for genomes with `spread`, leaks with `nowhere`."""

    name: str = "text"
    family: str = "text"
    fingerprint: str = "text1"

    def run(self, bench: Workbench, split: Split) -> Result:
        ops = Counter(
            gene["op"] for stage in json.loads(bench.spec.source).values() if isinstance(stage, list) for gene in stage
        )
        if ops["spread"]:
            raise RuntimeError("spread is broken here")
        score = min(0.2 + 0.3 * ops["keep_newest"] + 0.1 * ops["top"], 1.0) - 0.01 * sum(ops.values())
        rows = tuple(max(score + (0.05 if number % 2 else -0.05), 0.0) for number in range(10))
        broken = ("It leaked.",) if ops["nowhere"] else ()
        return Result({"score": sum(rows) / 10, "tokens": 10.0 * ops["relevance"]}, rows, broken)


def search(book: DesignBook, *, evaluations: int = 24, seed: int = 3, run: str = "run-1", **more: Any) -> Search:
    return Search(
        book, Suite((TextTask(),)), SPACE, Bare(), workshop.references(NOW), MutationProposer(SPACE), MutationProposer(SPACE),
        Budget(evaluations), Setup(seed=seed, starts=4), run, lambda: NOW, **more,
    )  # fmt: skip


def kept(book: DesignBook) -> list[Any]:
    """The archive without what differs from run to run."""
    trials = [
        (t.design, t.arm, t.number, t.split, t.status, t.fitness, t.metrics, t.rows, t.error) for t in book.trials()
    ]
    return [*book.listing(), *trials]


def test_the_same_seed_and_data_give_the_same_archive() -> None:
    one, two, other = (MemoryLedger().designs for _ in range(3))
    first, second = search(one).go(), search(two).go()
    assert first == second
    assert kept(one) == kept(two)
    search(other, seed=4).go()
    assert kept(other) != kept(one)


class Killed(Exception):
    """Stands in for a kill."""


@pytest.mark.parametrize("after", [1, 17, 40, 71])
def test_a_killed_run_goes_on_where_it_stopped(after: int) -> None:
    """Whatever step it was killed at, the archive and the report become those of a run that was not."""
    whole, halved = MemoryLedger().designs, MemoryLedger().designs
    report = search(whole).go()

    def stop(label: str, done: int, total: int) -> None:
        if done == after:
            raise Killed

    with pytest.raises(Killed):
        search(halved, progress=stop).go()
    assert halved.runs()[0].report is None
    assert 0 < len(halved.trials()) < len(whole.trials())
    assert search(halved).go() == report
    assert kept(halved) == kept(whole)
    assert halved.runs()[0].report == report


def test_a_run_goes_on_only_as_it_was_set_up() -> None:
    book = MemoryLedger().designs
    search(book, evaluations=8).go()
    with pytest.raises(InvalidInput, match="set up otherwise"):
        search(book, evaluations=8, seed=9).go()


def test_every_arm_spends_the_same_and_failures_stay_in_quarantine() -> None:
    book = MemoryLedger().designs
    report = search(book, evaluations=30).go()
    spent = Counter(trial.arm for trial in book.trials(split="dev"))
    assert spent == {"niche": 30, "greedy": 30, "random": 30}
    failed = [trial for trial in book.trials() if trial.status == "quarantined"]
    assert {trial.error for trial in failed} <= {"RuntimeError: spread is broken here", "text: It leaked."}
    assert failed
    assert all(book.get(trial.design) is not None for trial in failed)
    assert report["arms"]["niche"]["quarantined"] + report["arms"]["random"]["quarantined"] > 0
    best = book.get(report["arms"]["niche"]["best"])
    assert best is not None
    assert "keep_newest" in best.source
    assert report["better"] == ["text"]
    assert report["sentence"].startswith("Better than the default")


def test_a_search_that_finds_nothing_says_so() -> None:
    """With no step beyond the seeds, and a seed that is best already."""
    book = MemoryLedger().designs
    made = search(book, evaluations=1)
    report = made.go()
    assert report["better"] == []
    assert report["sentence"].startswith("No design was found")


def test_time_ends_a_run_with_equal_spending() -> None:
    book = MemoryLedger().designs
    ticks = iter(range(1_000_000))
    made = search(book, evaluations=500, clock=lambda: float(next(ticks)))
    made.budget = Budget(500, seconds=20.0)
    report = made.go()
    assert 0 < report["steps"] < 30
    assert len(set(Counter(trial.arm for trial in book.trials(split="dev")).values())) == 1


# --- the archive's rules ---


def member(
    number: int, fitness: float, *, parents: tuple[str, ...] = (), failed: bool = False, tokens: float = 10.0
) -> tuple[DesignSpec, Trial]:
    spec = DesignSpec("genome", json.dumps({"update": [], "retrieve": [{"op": f"op{number}"}]}), NOW, parents)
    status = "quarantined" if failed else "evaluated"
    trial = Trial(
        spec.id, NOW, "s", "dev", status, fitness=fitness, metrics={"t": {"score": fitness, "tokens": tokens}}
    )  # type: ignore[arg-type]
    return spec, trial


def archive(*fitness: float, failed: tuple[int, ...] = ()) -> Archive:
    made = Archive()
    for number, value in enumerate(fitness):
        made.put(*member(number, value, failed=number in failed))
    return made


def test_no_niche_is_out_of_reach_and_the_fit_come_first() -> None:
    """A hopeless and a failed design are drawn, at least at the floor's rate; the best is drawn most."""
    made = archive(0.9, 0.1, 0.5, 0.0, failed=(3,))
    rng = random.Random(0)
    drawn = Counter(made.sample(rng).spec.id for _ in range(4_000))
    ids = [item.spec.id for item in made.members]
    assert min(drawn[id_] for id_ in ids) > 4_000 * 0.2 / 4 * 0.8
    assert drawn.most_common(1)[0][0] == ids[0]


def test_children_make_a_parent_less_likely() -> None:
    made = archive(0.5, 0.5)
    for number in range(8):
        made.put(*member(100 + number, 0.1, parents=(made.members[0].spec.id,)))
    rng = random.Random(0)
    drawn = Counter(made.sample(rng).spec.id for _ in range(3_000))
    assert drawn[made.members[1].spec.id] > 1.3 * drawn[made.members[0].spec.id]


def test_the_rule_of_alma_is_its_formula() -> None:
    """Nearly flat in fitness, steep in visits: reward .40 against .06 has odds of 1.18, one visit costs odds of 2."""
    made = archive(0.40, 0.06)
    rng = random.Random(0)
    drawn = Counter(made.sample(rng, "alma").spec.id for _ in range(40_000))
    one, other = (drawn[item.spec.id] for item in made.members)
    assert one / other == pytest.approx(1.18, abs=0.04)
    made.members[0].children = 1
    drawn = Counter(made.sample(rng, "alma").spec.id for _ in range(40_000))
    assert drawn[made.members[0].spec.id] / drawn[made.members[1].spec.id] == pytest.approx(1.18 / 2.0, abs=0.03)


def test_greedy_takes_the_best_and_an_empty_archive_says_so() -> None:
    made = archive(0.2, 0.7, 0.9, failed=(2,))
    assert made.sample(random.Random(0), "greedy") is made.members[1]
    with pytest.raises(InvalidInput, match="empty"):
        Archive().sample(random.Random(0))
    assert sum(softmax([1.0, 2.0, -50.0])) == pytest.approx(1.0)


def test_lineage_diff_and_frontier() -> None:
    book = MemoryLedger().designs
    root, root_trial = member(1, 0.4, tokens=50.0)
    child, child_trial = member(2, 0.6, parents=(root.id,), tokens=20.0)
    grandchild, last = member(3, 0.5, parents=(child.id, "genome:gone"), tokens=5.0)
    for spec in (root, child, grandchild):
        book.add(spec)
    assert lineage(book, grandchild.id) == [root, child, grandchild]
    assert "-  op1 v1" in diff(root, child)
    assert "+  op2 v1" in diff(root, child)
    points = frontier([root_trial, child_trial, last], "t")
    assert [(point.design, point.on_frontier) for point in points] == [
        (child.id, True), (grandchild.id, True), (root.id, False),
    ]  # fmt: skip


# --- proposers ---


def test_what_proposers_write_is_always_a_genome_and_follows_its_seed() -> None:
    """400 mutations in a row, each the parent of the next, and their compilation."""
    from engram_core.designs.genome import Genome, compiled, registry

    made = Archive()
    specs = list(workshop.references(NOW).values())
    for spec in specs:
        made.put(
            spec,
            Trial(spec.id, NOW, "s", "dev", metrics={"updates": {"score": 0.2, "tokens": 99.0, "stale_shown": 1.0}}),
        )
    ideas: list[Idea] = []
    for number in range(400):
        proposer = RandomProposer(SPACE) if number % 4 == 0 else MutationProposer(SPACE)
        parent = made.sample(random.Random(number))
        idea = proposer.propose(random.Random(number), parent, made)
        assert idea == proposer.propose(random.Random(number), parent, made)
        compiled(Genome.parsed(idea.source, registry()))
        spec = DesignSpec("genome", idea.source, NOW, idea.parents)
        made.put(spec, Trial(spec.id, NOW, "s", "dev", fitness=number / 400))
        ideas.append(idea)
    operators = {idea.operator for idea in ideas}
    assert {"random", "nudge", "swap", "insert", "remove", "crossover", "transplant", "simplify"} <= operators
    assert any(operator.startswith("usage: ") for operator in operators)
    assert len({idea.source for idea in ideas}) > 330
