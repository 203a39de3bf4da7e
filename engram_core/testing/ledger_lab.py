"""Ledger contract, the lab's part: proposals with their steps, and the archive of designs. Clauses only."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from engram_core.domain.errors import Conflict
from engram_core.domain.proposal import Proposal, ProposalStatus, Step
from engram_core.domain.scope import Scope
from engram_core.domain.spec import DesignSpec, LabRun, Shadow, Trial
from engram_core.ports import Ledger
from engram_core.testing import samples
from engram_core.testing.ledger_commits import ALICE, LedgerFixtures


def proposal(scope: Scope = ALICE, *, hours: int = 0, **fields: Any) -> Proposal:
    """A pending proposal, made so many hours after the start."""
    at = samples.START + timedelta(hours=hours)
    given = {
        "kind": "policy",
        "diff": {"max_facts": {"before": 10_000, "after": 500}},
        "evidence": {"replay": {"kept": [0.5, 0.75], "note": "Ünï 漢字 🙂"}},
        "prediction": {"tokens": -12.5},
        "rationale": "Most of it was never recalled.",
    } | fields
    first = Step("pending", "engram", at, figures={"recalls": 12})
    return Proposal(id=samples.new_id(), scope=scope, by="engram", at=at, steps=(first,), **given)


def step(status: ProposalStatus, **fields: Any) -> Step:
    """A step of a person."""
    return Step(status, "user:owner", samples.START + timedelta(days=1), **fields)


def spec(text: str, **fields: Any) -> DesignSpec:
    """A genome with that text."""
    return DesignSpec("genome", text, samples.START, **fields)


class LabClauses(LedgerFixtures):
    """The lab's books."""

    # --- proposals ---

    def test_a_proposal_comes_back_as_recorded(self, ledger: Ledger, another: Ledger) -> None:
        made = proposal()
        ledger.proposals.add(made)
        assert another.proposals.get(made.id) == made
        assert another.proposals.get("unknown") is None
        with pytest.raises(Conflict):
            another.proposals.add(made)

    def test_a_proposal_does_not_follow_its_caller(self, ledger: Ledger) -> None:
        evidence: dict[str, Any] = {"recalls": [1]}
        made = proposal(evidence=evidence)
        ledger.proposals.add(made)
        evidence["recalls"].append(2)
        found = ledger.proposals.get(made.id)
        assert found is not None
        assert found.evidence == {"recalls": [1]}

    def test_a_proposal_walks_only_where_its_steps_lead(self, ledger: Ledger, another: Ledger) -> None:
        made = proposal()
        ledger.proposals.add(made)
        path: Sequence[tuple[ProposalStatus, ProposalStatus]] = (
            ("pending", "approved"), ("approved", "applied"), ("applied", "kept"), ("kept", "rolled_back"),
        )  # fmt: skip
        for before, after in path:
            with pytest.raises(Conflict):
                ledger.proposals.move(made.id, step("pending"), before)
            moved = another.proposals.move(made.id, step(after, reason=f"it became {after}", figures={"n": 1}), before)
            assert moved.status == after
            assert moved.reason == f"it became {after}"
            with pytest.raises(Conflict):
                ledger.proposals.move(made.id, step(after), before)
        found = ledger.proposals.get(made.id)
        assert found is not None
        assert [taken.status for taken in found.steps] == ["pending", "approved", "applied", "kept", "rolled_back"]
        assert found.steps[-1].figures == {"n": 1}
        with pytest.raises(Conflict):
            ledger.proposals.move("unknown", step("approved"), "pending")

    def test_of_many_who_decide_at_once_one_does(self, ledger: Ledger, another: Ledger) -> None:
        made = proposal()
        ledger.proposals.add(made)

        def decide(who: int) -> bool:
            try:
                (ledger, another)[who % 2].proposals.move(
                    made.id, step("approved" if who % 3 else "rejected"), "pending"
                )
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(decide, range(12))) == 1
        found = ledger.proposals.get(made.id)
        assert found is not None
        assert len(found.steps) == 2

    def test_proposals_are_listed_by_scope_kind_and_status_newest_first(self, ledger: Ledger) -> None:
        own, below, beside = proposal(hours=1), proposal(Scope(f"{ALICE.path}/x"), hours=3), proposal(hours=2)
        look_alike = proposal(Scope(f"{ALICE.path}x"), hours=4, kind="design")
        for made in (own, below, beside, look_alike):
            ledger.proposals.add(made)
        ledger.proposals.move(own.id, step("rejected"), "pending")

        def ids(scope: Scope | None = None, **wanted: Any) -> list[str]:
            return [found.id for found in ledger.proposals.listing(scope, **wanted)]

        assert ids() == [look_alike.id, below.id, beside.id, own.id]
        assert ids(limit=2) == [look_alike.id, below.id]
        assert ids(ALICE) == [below.id, beside.id, own.id]
        assert ids(ALICE, below=False) == [beside.id, own.id]
        assert ids(kind="design") == [look_alike.id]
        assert ids(ALICE, statuses=("pending", "applied")) == [below.id, beside.id]

    def test_shadowed_recalls_come_back_latest_oldest_first(self, ledger: Ledger, another: Ledger) -> None:
        made = proposal(kind="design")
        ledger.proposals.add(made)
        rows = [
            Shadow(made.id, f"r{hour}", samples.START + timedelta(hours=hour), {"agreement": hour / 4, "ms": 1.5})
            for hour in (2, 0, 1)
        ]
        for row in (*rows, Shadow(made.id, "r1", samples.START, {"agreement": 9.0})):
            ledger.proposals.note_shadow(row)
        assert another.proposals.shadows(made.id) == [rows[1], rows[2], rows[0]]
        assert another.proposals.shadows(made.id, limit=2) == [rows[2], rows[0]]
        assert another.proposals.shadows("unknown") == []

    # --- the archive ---

    def test_a_design_is_added_once_and_keeps_its_first_parents(self, ledger: Ledger, another: Ledger) -> None:
        one = spec('{"a":1}', parents=("genome:p",), operator="nudge", rationale="Wider 漢字", by="user:owner")
        two = spec('{"a":2}')
        assert ledger.designs.add(one)
        assert another.designs.add(two)
        assert not another.designs.add(spec('{"a":1}', operator="seed"))
        assert another.designs.listing() == [one, two]
        assert ledger.designs.listing(limit=1) == [one]
        assert another.designs.get(one.id) == one
        assert ledger.designs.get(one.id[:16]) == one
        assert ledger.designs.get("genome:") is None
        assert ledger.designs.get("genome:%") is None
        assert ledger.designs.get(one.id[:10]) is None, "too short to mean one design"
        assert ledger.designs.get("unknown") is None

    def test_trials_pile_up_and_are_found_by_what_they_are_of(self, ledger: Ledger, another: Ledger) -> None:
        one, two = spec("one"), spec("two")
        for made in (one, two):
            ledger.designs.add(made)
        trials = [
            Trial(
                one.id, samples.START, "s1", "dev", run="r1", arm="niche", number=0, fitness=0.25,
                metrics={"houses": {"success": 0.5}}, timings={"ms": 3.25}, rows={"houses": (1.0, 0.0)},
            ),
            Trial(two.id, samples.START, "s1", "dev", "quarantined", run="r1", arm="niche", number=1, error="It broke"),
            Trial(one.id, samples.START, "s2", "gate", run="r2", arm="random", number=0),
        ]  # fmt: skip
        for trial in trials:
            ledger.designs.record(trial)
        assert another.designs.trials() == trials
        assert another.designs.trials(design=one.id) == [trials[0], trials[2]]
        assert another.designs.trials(run="r1", suite="s1", split="dev") == trials[:2]
        assert another.designs.trials(run="r3") == []
        with pytest.raises(Conflict):
            ledger.designs.record(Trial("genome:unknown", samples.START, "s1", "dev"))

    def test_a_run_is_saved_and_ended(self, ledger: Ledger, another: Ledger) -> None:
        runs = [LabRun(f"r{hour}", samples.START + timedelta(hours=hour), {"seed": hour}) for hour in (0, 1)]
        for run in runs:
            ledger.designs.save_run(run)
        assert another.designs.runs() == [runs[1], runs[0]]
        ended = LabRun("r0", runs[0].at, {"seed": 0}, {"best": {"fitness": 1.5}})
        ledger.designs.save_run(ended)
        assert another.designs.runs() == [runs[1], ended]
        assert another.designs.runs(limit=1) == [runs[1]]
