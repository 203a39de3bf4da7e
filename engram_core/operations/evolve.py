"""Evolve: usage → one small proposal → a person → a new policy version → its effect → kept or rolled back.

Nothing is in force before somebody who may curate has approved it. What an operator sets as a floor or cap is beyond
reach (`LOCKED`, and the policy's own `locked`). A proposal has to gain on recalls it was not chosen on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np

from engram_core.domain.fact import Status
from engram_core.domain.gap import Gap
from engram_core.domain.policy import PRESETS, MemoryPolicy
from engram_core.domain.proposal import OPEN, Proposal
from engram_core.domain.scope import Scope
from engram_core.measure.paired import Difference, difference
from engram_core.operations import forget, proposals, warden
from engram_core.operations.context import Context
from engram_core.operations.replay import Replay, Replayed, since

LOCKED: Final = frozenset(
    {"max_facts", "trust_floor", "protect_days", "retain_archived_days", "retention_floor", "fill_gaps", "locked",
     "evolve_days", "usefulness_weight"}
)  # fmt: skip
"""Fields no proposal of a rule touches: retention, caps, floors, and what evolution itself obeys."""
MAX_RECALLS: Final = 200
"""Recalls that are answered again, the latest ones."""
LEAST_CASES: Final = 20
"""Recalls with something to learn from, below which nothing is proposed or judged."""
TOKEN_PRICE: Final = 0.00002
"""Facts in use that a token more has to bring: 1,000 tokens for a fiftieth of a fact in every answer. So cheap that no
budget is cut for the tokens alone."""
LEAST_GAIN: Final = 0.02
"""Mean gain, in facts in use per answer net of tokens, below which a change is not worth a person's time."""
REGRESSION: Final = 0.05
"""Mean loss, in the same unit, from which a change that is in force is taken back even if the interval is wide."""
_BUDGETS: Final = (128, 256, 512, 1_024, 2_048)
_STEPS: Final[Mapping[str, tuple[Any, ...]]] = {
    "importance_weight": (0.0, 0.15, 0.3),
    "recency_weight": (0.0, 0.05, 0.2),
    "priority_weight": (0.0, 0.05, 0.15),
    "decay_rate": (0.002, 0.01, 0.03),
    "token_budget": _BUDGETS,
    "prioritize_types": ((),),
}
"""Values that are tried for a field, besides those of the presets."""
_DESIGNS: Final = ("pipeline",)

Moved = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Signals:
    """How a scope's memory was used in a period.

    Attributes:
        recalls: Recalls with a verdict.
        stored_never_recalled, recalled_never_used: Recallable facts.
        missing_when_needed: Gaps opened.
        forgotten_then_needed: Gaps that a fact which a night had archived answers.
    """

    recalls: int
    stored_never_recalled: int
    recalled_never_used: int
    missing_when_needed: int
    forgotten_then_needed: int

    def to_dict(self) -> dict[str, int]:
        """JSON-able."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Evolution:
    """What evolution did, or with `dry_run` would do, in one scope.

    Attributes:
        state: `proposed`, `waiting` (a proposal is open), `settled` (one was kept or rolled back), `nothing`
            (no change is better), `too_little` (too few recalls to tell) or `not_due`.
        line: The same in words.
        proposal: The id of the proposal made, waited for or settled.
    """

    scope: str
    state: str
    line: str
    signals: Signals | None = None
    proposal: str | None = None
    diff: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "scope": self.scope,
            "state": self.state,
            "line": self.line,
            "signals": self.signals.to_dict() if self.signals is not None else None,
            "proposal": self.proposal,
            "diff": {name: dict(change) for name, change in self.diff.items()},
            "evidence": dict(self.evidence),
        }


def evolve(
    context: Context,
    scope: Scope,
    now: datetime,
    *,
    dry_run: bool = False,
    is_due: bool = True,
    progress: Moved | None = None,
) -> Evolution:
    """Settle what is in force on trial, then propose one change if a better one is found; see `Memory.evolve`.

    Args:
        is_due: False to obey the policy's `evolve_days` since the last proposal; True to look now.
    """
    return _Evolving(context, scope, now, dry_run, progress or (lambda done, total: None)).run(is_due)


def propose(
    context: Context, scope: Scope, principal: str, fields: Mapping[str, Any], reason: str, now: datetime
) -> Proposal:
    """A person's or a model's own proposal, through the same gate; see `Memory.propose`.

    Raises:
        InvalidPolicy, InvalidInput: It is not valid, or would change nothing.
    """
    evolving = _Evolving(context, scope, now, False, lambda done, total: None)
    policy = context.ledger.policy(scope).policy
    after = policy.changed(**fields)
    weighed = evolving.weighed(policy, after)
    made = proposals.propose(
        context,
        scope,
        fields,
        now,
        kind="design" if set(policy.diff(after)) == {"design"} else "policy",
        evidence=weighed.evidence,
        prediction=weighed.prediction,
        rationale=reason,
        by=principal,
    )
    if weighed.harm is None:
        return made
    return proposals.reject(context, made.id, context.owner, now, reason=f"The gate refused it: {weighed.harm}")


@dataclass(frozen=True, slots=True)
class _Weighed:
    """One change against the present policy, on recalls it was not chosen on."""

    gain: Difference
    evidence: Mapping[str, Any]
    prediction: Mapping[str, float]
    harm: str | None


class _Evolving:
    """One look at one scope."""

    def __init__(self, context: Context, scope: Scope, now: datetime, dry_run: bool, moved: Moved) -> None:
        self._context = context
        self._scope = scope
        self._now = now
        self._dry_run = dry_run
        self._moved = moved
        self._replay_: Replay | None = None
        self._gaps_: list[Gap] | None = None

    def run(self, is_due: bool) -> Evolution:
        policy = self._context.ledger.policy(self._scope).policy
        waiting = self._context.ledger.proposals.listing(self._scope, below=False, statuses=sorted(OPEN), limit=10)
        policies = [item for item in waiting if item.kind == "policy"]
        if policies:
            return self._settled(policies[0], policy)
        if not is_due and not self._is_due(policy):
            return self._told("not_due", f"The next look is due {policy.evolve_days:g} days after the last proposal.")
        signals = self._signals(policy)
        if len(self._replay) < LEAST_CASES:
            line = f"Only {len(self._replay)} recalls say anything; at least {LEAST_CASES} are needed."
            return self._told("too_little", line, signals=signals)
        return self._proposed(policy, signals)

    def _is_due(self, policy: MemoryPolicy) -> bool:
        if policy.evolve_days == 0:
            return False
        latest = self._context.ledger.proposals.listing(self._scope, below=False, kind="policy", limit=1)
        start = latest[0].steps[-1].at if latest else self._first()
        return start is not None and self._now - start >= timedelta(days=policy.evolve_days)

    def _first(self) -> datetime | None:
        """When the scope's first recall was made."""
        found = self._context.ledger.diary.asked(self._scope, None, 1)
        return found[0].recall.at if found else None

    # --- choosing ---

    def _proposed(self, policy: MemoryPolicy, signals: Signals) -> Evolution:
        """The change that gains most on one half of the recalls, if it gains on the other half too."""
        chosen_on = {id_ for id_ in self._replay.ids if _is_dev(id_)}
        present = self._replay.run(policy, chosen_on)
        gains: list[tuple[Difference, MemoryPolicy]] = []
        candidates = [item for item in self._candidates(policy) if item not in self._refused(policy)]
        for number, candidate in enumerate(candidates):
            self._moved(number, len(candidates))
            gain = _gain(present, self._replay.run(candidate, chosen_on))
            if gain.mean > LEAST_GAIN:
                gains.append((gain, candidate))
        chosen = _chosen(policy, gains)
        if chosen is None:
            return self._told("nothing", "No single change would have answered these recalls better.", signals=signals)
        weighed = self.weighed(policy, chosen)
        if weighed.harm is not None or weighed.gain.mean <= LEAST_GAIN or weighed.gain.low <= -LEAST_GAIN:
            why = weighed.harm or f"on the other half of the recalls it gains {weighed.gain} only"
            line = f"The best change found, {_told_diff(policy.diff(chosen))}, did not pass the gate: {why}."
            return self._told("nothing", line, signals=signals, evidence=weighed.evidence)
        return self._recorded(policy, chosen, weighed, signals)

    def _recorded(
        self, policy: MemoryPolicy, candidate: MemoryPolicy, weighed: _Weighed, signals: Signals
    ) -> Evolution:
        fields = {name: after for name, (_, after) in policy.diff(candidate).items()}
        line = (
            f"{_told_diff(policy.diff(candidate))}: {weighed.gain} facts in use per answer, net of tokens, on "
            f"{weighed.gain.cases} recalls it was not chosen on."
        )
        evidence = {**weighed.evidence, "signals": signals.to_dict()}
        made = None
        if not self._dry_run:
            made = proposals.propose(
                self._context,
                self._scope,
                fields,
                self._now,
                kind="design" if set(fields) == {"design"} else "policy",
                evidence=evidence,
                prediction=weighed.prediction,
                rationale=line,
            )
        diff = made.diff if made is not None else proposals.plain_diff(policy, candidate)
        return Evolution(
            self._scope.path, "proposed", line, signals, made.id if made is not None else None, diff, evidence
        )

    def _candidates(self, policy: MemoryPolicy) -> Iterator[MemoryPolicy]:
        """Every policy that differs in one field within reach: a rung of its ladder, or the value of a preset."""
        seen = {policy}
        for name in MemoryPolicy.model_fields:
            if name in LOCKED or name in policy.locked:
                continue
            # The default first: of values that do equally well it is the one to go to.
            values = [*(getattr(preset, name) for preset in PRESETS.values()), *_STEPS.get(name, ())]
            values += self._own_kinds(name)
            values += _DESIGNS if name == "design" else ()
            for value in values:
                candidate = policy.changed(**{name: value})
                if candidate not in seen:
                    seen.add(candidate)
                    yield candidate

    def _own_kinds(self, name: str) -> list[tuple[str, ...]]:
        """The kind whose facts answers use most, as the one to prioritise."""
        if name != "prioritize_types":
            return []
        facts = self._context.ledger.facts(sorted(self._replay.needed))
        kinds = [fact.kind for fact in facts]
        return [(max(sorted(set(kinds)), key=kinds.count),)] if kinds else []

    def _refused(self, policy: MemoryPolicy) -> list[MemoryPolicy]:
        """What was rejected or rolled back here before, as it would be now: it is not proposed again."""
        old = self._context.ledger.proposals.listing(
            self._scope, below=False, statuses=("rejected", "rolled_back"), limit=100
        )
        return [policy.changed(**{name: change["after"] for name, change in item.diff.items()}) for item in old]

    # --- the gate ---

    def weighed(self, before: MemoryPolicy, after: MemoryPolicy) -> _Weighed:
        """What a change gains and costs on the recalls that nothing is chosen on, and what speaks against it."""
        held_out = {id_ for id_ in self._replay.ids if not _is_dev(id_)}
        was, would = self._replay.run(before, held_out), self._replay.run(after, held_out)
        gain = _gain(was, would)
        tokens = difference([item.tokens for item in was], [item.tokens for item in would])
        support = difference([item.support for item in was], [item.support for item in would])
        kept = [(one.kept, other.kept) for one, other in zip(was, would, strict=True)]
        keeping = difference(
            [one for one, other in kept if one is not None and other is not None],
            [other for one, other in kept if one is not None and other is not None],
        )
        lost = self._would_be_forgotten(before, after)
        evidence = {
            "recalls": gain.cases,
            "gain": gain.to_dict(),
            "support": support.to_dict(),
            "used_facts_shown": keeping.to_dict(),
            "tokens": tokens.to_dict(),
            "ms": {"before": _median([item.ms for item in was]), "after": _median([item.ms for item in would])},
            "would_be_forgotten": len(lost),
            "changed_recalls": _changed(was, would),
        }
        prediction = {"support": support.mean, "tokens": tokens.mean}
        return _Weighed(gain, evidence, prediction, self._harm(gain, lost))

    def _harm(self, gain: Difference, lost: Sequence[str]) -> str | None:
        """Why a change must not be made, whatever else it gains; None if nothing is known against it."""
        needed = self._replay.needed.intersection(lost)
        if needed:
            return f"the next night would archive {len(needed)} facts that answers used or gaps needed"
        if gain.cases >= LEAST_CASES // 2 and _is_worse(gain):
            return f"on {gain.cases} past recalls it loses {gain} facts in use per answer, net of tokens"
        return None

    def _would_be_forgotten(self, before: MemoryPolicy, after: MemoryPolicy) -> list[str]:
        """Facts that the next night would archive under `after` and not under `before`."""
        plans = [forget.plan(self._context, self._scope, self._now, under=policy) for policy in (before, after)]
        was, would = ({change.fact_id for change in plan.archive} for plan in plans)
        return sorted(would - was)

    # --- the effect ---

    def _settled(self, proposal: Proposal, policy: MemoryPolicy) -> Evolution:
        """Judge a proposal in force by the recalls since: answered again under the earlier policy, case by case."""
        applied = proposal.step("applied")
        if applied is None:
            return self._told("waiting", f"Proposal {proposal.id} waits for a person.", proposal=proposal)
        replay = self._replay_since(applied.at)
        if len(replay) < LEAST_CASES:
            line = f"{len(replay)} recalls since proposal {proposal.id} is in force; {LEAST_CASES} tell its effect."
            return self._told("waiting", line, proposal=proposal)
        earlier = policy.changed(**{name: change["before"] for name, change in proposal.diff.items()})
        was, is_now = replay.run(earlier), replay.run(policy)
        effect = _gain(was, is_now)
        figures = {
            "gain": effect.to_dict(),
            "support": difference([item.support for item in was], [item.support for item in is_now]).to_dict(),
            "tokens": difference([item.tokens for item in was], [item.tokens for item in is_now]).to_dict(),
            "predicted": dict(proposal.prediction),
        }
        is_worse = _is_worse(effect)
        line = f"{effect} facts in use per answer, net of tokens, on {effect.cases} recalls since it is in force."
        if self._dry_run:
            return self._told("settled", line, proposal=proposal, evidence=figures)
        if is_worse:
            proposals.rollback(
                self._context, proposal.id, proposals.RULE, self._now, reason=f"Regression: {line}", figures=figures
            )
        else:
            proposals.keep(self._context, proposal.id, self._now, reason=line, figures=figures)
        word = "Rolled back" if is_worse else "Kept"
        return self._told("settled", f"{word}: {line}", proposal=proposal, evidence=figures)

    # --- what it rests on ---

    @property
    def _replay(self) -> Replay:
        if self._replay_ is None:
            self._replay_ = self._replay_since(None)
        return self._replay_

    def _replay_since(self, moment: datetime | None) -> Replay:
        sight = warden.sight(self._context, self._context.owner, self._scope, self._now, "evolve")
        asked = since(self._context, self._scope, moment, MAX_RECALLS)
        return Replay(self._context, self._scope, sight, asked, self._gaps)

    @property
    def _gaps(self) -> list[Gap]:
        if self._gaps_ is None:
            self._gaps_ = self._context.ledger.diary.gaps(self._scope, below=False, limit=1_000)
        return self._gaps_

    def _signals(self, policy: MemoryPolicy) -> Signals:
        ledger = self._context.ledger
        shown = ledger.fact_usages(self._scope, below=False)
        stored = sum(item.facts for item in ledger.stored_counts(self._scope, below=False))
        evidence = ledger.facts([id_ for gap in self._gaps for id_ in gap.evidence])
        return Signals(
            recalls=len(self._replay),
            stored_never_recalled=stored - len(shown),
            recalled_never_used=sum(item.judged > 0 and item.times_used == 0 for item in shown),
            missing_when_needed=sum(gap.state != "dismissed" for gap in self._gaps),
            forgotten_then_needed=sum(fact.status is Status.ARCHIVED for fact in evidence),
        )

    def _told(
        self,
        state: str,
        line: str,
        *,
        signals: Signals | None = None,
        proposal: Proposal | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> Evolution:
        diff = proposal.diff if proposal is not None else {}
        id_ = proposal.id if proposal is not None else None
        return Evolution(self._scope.path, state, line, signals, id_, diff, evidence or {})


def _is_dev(recall_id: str) -> bool:
    """Whether a recall belongs to the half that changes are chosen on; the same every time."""
    return hashlib.sha256(recall_id.encode("utf-8", "replace")).digest()[0] % 2 == 0


def _chosen(policy: MemoryPolicy, gains: Sequence[tuple[Difference, MemoryPolicy]]) -> MemoryPolicy | None:
    """The change that gains most; but one that goes back to a field's default, if it gains as much but for chance."""
    if not gains:
        return None
    best = max(gains, key=lambda item: item[0].mean)
    default = PRESETS["default"]
    least = best[0].mean - (best[0].mean - best[0].low) / 2
    plain = [
        (gain, candidate)
        for gain, candidate in gains
        if gain.mean >= least
        and all(after == getattr(default, name) for name, (_, after) in policy.diff(candidate).items())
    ]
    return max(plain, key=lambda item: item[0].mean)[1] if plain else best[1]


def _is_worse(effect: Difference) -> bool:
    """A loss that matters, and is either certain or large."""
    return effect.mean <= -LEAST_GAIN and (effect.is_loss or effect.mean <= -REGRESSION)


def _gain(was: Sequence[Replayed], would: Sequence[Replayed]) -> Difference:
    def value(item: Replayed) -> float:
        return item.support - TOKEN_PRICE * item.tokens

    return difference([value(item) for item in was], [value(item) for item in would])


def _changed(was: Sequence[Replayed], would: Sequence[Replayed]) -> list[dict[str, Any]]:
    """Ten recalls that would show other facts: what each gains and loses, by id only."""
    rows: list[tuple[float, dict[str, Any]]] = []
    for one, other in zip(was, would, strict=True):
        gone, new = set(one.shown) - set(other.shown), set(other.shown) - set(one.shown)
        if gone or new:
            told = {
                "recall": one.recall_id,
                "support": [round(one.support, 3), round(other.support, 3)],
                "no_longer": sorted(gone),
                "newly": sorted(new),
            }
            rows.append((abs(other.support - one.support), told))
    return [told for _, told in sorted(rows, key=lambda row: -row[0])[:10]]


def _median(values: Sequence[float]) -> float:
    return round(float(np.median(values)), 2) if values else 0.0


def _told_diff(diff: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{name} {before!r} to {after!r}" for name, (before, after) in diff.items())
