"""Sleep: the night of one scope or all: forget, consolidate, reflect, evolve, and what the design proposes.

Each step plans, then writes in transactions that are whole by themselves, so that a night that is killed leaves nothing
half done and the next one does the rest. Two nights at once do no harm: who comes second to a scope leaves it alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal

from engram_core.domain.change import Archive, Change, Reweigh
from engram_core.domain.errors import Conflict, EngramError, InvalidInput, StoreUnavailable
from engram_core.domain.fact import Fact, Status
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.floor import legality
from engram_core.operations import consolidate, evolve, forget, holding, reflect, retention, shadow, standby, warden
from engram_core.operations.add import view_of
from engram_core.operations.brief import drawn
from engram_core.operations.commit import Plan, features_again
from engram_core.operations.context import Context
from engram_core.ports import Night

LEASE_S: Final = 5.0
"""A night renews its claim on a scope at least this often while it writes; a killed one is waited for as long."""
BRIEF_TOKENS: Final = 1_000
MAX_NIGHTS: Final = 1_000
MAX_KEPT: Final = 50
"""Proposals of each step that the ledger keeps with a scope's night."""
_ATTEMPTS: Final = 8

Stage = Literal["forget", "consolidate", "reflect", "evolve", "design"]
Progress = Callable[[str, int, int], None]

logger = logging.getLogger("engram")


@dataclass(frozen=True, slots=True)
class ScopeNight:
    """What a night did, or with `dry_run` would do, to one scope.

    Attributes:
        state: `done`; `busy` when another night is at it; `failed`, with `error`.
        live: Recallable facts before and after.
        forget, consolidate: What was planned, and what came of it; see `ForgetPlan.to_dict`, `Consolidation.to_dict`.
        reflect: Gaps found, filled, closed and still open; see `Reflection.to_dict`.
        evolve: What was proposed, waits, was kept or taken back; see `Evolution.to_dict`.
        design: Changes that the scope's design proposed, and what came of each.
        brief: Tokens and facts of a warm start of 1,000 tokens (`Memory.brief`), before and after.
        retention: What the policy's clocks took for good; see `Retained.to_dict`.
    """

    scope: str
    state: Literal["done", "busy", "failed"]
    live: tuple[int, int] = (0, 0)
    forget: Mapping[str, Any] = field(default_factory=dict)
    consolidate: Mapping[str, Any] = field(default_factory=dict)
    reflect: Mapping[str, Any] = field(default_factory=dict)
    evolve: Mapping[str, Any] = field(default_factory=dict)
    design: tuple[Mapping[str, Any], ...] = ()
    brief: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    retention: Mapping[str, Any] = field(default_factory=dict)

    def without_texts(self) -> ScopeNight:
        """The same in numbers: for whoever may order this scope and not read it."""
        forget = {**self.forget, "proposals": []} if self.forget else self.forget
        consolidate = {**self.consolidate, "clusters": []} if self.consolidate else self.consolidate
        reflect = {**self.reflect, "gaps": []} if self.reflect else self.reflect
        return replace(self, forget=forget, consolidate=consolidate, reflect=reflect, design=())

    @property
    def is_eventful(self) -> bool:
        """Whether anything was done, or could not be."""
        done = self.state != "done" or self.forget["archive"] or self.consolidate["done"] or self.design
        done = done or self.retention.get("erased") or self.retention.get("recalls")
        done = done or self.evolve["state"] in {"proposed", "settled"}
        return bool(done or any(self.reflect[name] for name in ("found", "filled", "closed", "trouble")))


@dataclass(frozen=True, slots=True)
class SleepReport:
    """One night.

    Attributes:
        id: UUIDv7; every decision of the night carries it in its line.
        scope: Where it was asked for; None for the whole store.
        dry_run: Nothing was written.
        scopes: One entry per scope, by path.
    """

    id: str
    at: datetime
    scope: str | None
    dry_run: bool
    scopes: tuple[ScopeNight, ...]

    @property
    def totals(self) -> dict[str, int]:
        """Over all scopes: facts forgotten, clusters, vectors and tokens saved, gaps, and scopes by trouble."""
        done = [item for item in self.scopes if item.state == "done"]
        return {
            "scopes": len(self.scopes),
            "busy": sum(item.state == "busy" for item in self.scopes),
            "failed": sum(item.state == "failed" for item in self.scopes),
            "forgotten": sum(item.forget["archive"] for item in done),
            "clusters": sum(item.consolidate["done"] for item in done),
            "vectors_saved": sum(item.live[0] - item.live[1] for item in done),
            **{f"gaps_{name}": sum(item.reflect[name] for item in done) for name in ("found", "filled", "open")},
            "proposed": sum(item.evolve["state"] == "proposed" for item in done),
            "tokens_saved": sum(item.forget["tokens_saved"] + item.consolidate["tokens_saved"] for item in done),
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "at": self.at.isoformat(), "totals": self.totals}


def sleep(
    context: Context,
    scope: Scope | None,
    principal: str,
    now: datetime,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> SleepReport:
    """Run a night over a scope and all below it, or over the whole store; see `Engram.sleep`."""
    if scope is not None:
        warden.admit(context, principal, "curate", scope, now, "sleep")
    elif principal == context.owner:
        warden.by_owner(context, "curate", "sleep")
    run_id = context.new_id()
    paths = [
        state.scope
        for state in context.ledger.scopes()
        if (scope is None or scope.contains(state.scope))
        and warden.allowance(context, principal, "curate", state.scope, now) is not None
    ]
    record = Night(run_id, scope, principal, now)
    if not dry_run:
        context.ledger.save_night(record)
    done: list[ScopeNight] = []
    for path in paths:
        night = _Night(context, path, principal, now, run_id, dry_run, progress).run()
        if warden.allowance(context, principal, "read", path, now) is None:
            night = night.without_texts()
        done.append(night)
        if not dry_run and night.is_eventful:
            # After every scope: what a killed night did is on record.
            context.ledger.save_scope_night(run_id, path, _short(night))
    report = SleepReport(run_id, now, record.path, dry_run, tuple(done))
    if not dry_run:
        shadow.watch(context, scope, now)
        context.ledger.save_night(replace(record, totals=report.totals))
    return report


def nights(context: Context, limit: int) -> list[dict[str, Any]]:
    """The latest nights, newest first, with their totals (None: killed, or still at work) and their eventful scopes.

    Raises:
        InvalidInput: `limit` is out of range.
    """
    if not isinstance(limit, int) or not 1 <= limit <= MAX_NIGHTS:
        raise InvalidInput(f"limit must be a whole number from 1 to {MAX_NIGHTS}, not {limit!r}.")
    return [
        {
            "id": night.id,
            "at": night.at.isoformat(),
            "scope": night.path,
            "principal": night.principal,
            "totals": night.totals,
            "scopes": context.ledger.scope_nights(night.id),
        }
        for night in context.ledger.nights(limit)
    ]


def _short(night: ScopeNight) -> dict[str, Any]:
    """What is kept of a scope's night: the first proposals; every decision is in the facts' histories anyway."""
    told = asdict(night)
    for step, name in (("forget", "proposals"), ("consolidate", "clusters"), ("reflect", "gaps")):
        if name in told[step]:
            told[step] = {**told[step], name: told[step][name][:MAX_KEPT]}
    return told


@dataclass(slots=True)
class _Night:
    """One scope's night."""

    context: Context
    scope: Scope
    principal: str
    now: datetime
    run_id: str
    dry_run: bool
    progress: Progress | None

    def run(self) -> ScopeNight:
        """All steps; whatever goes wrong stays with this scope."""
        try:
            if self.dry_run:
                return self._steps()
            with self._claimed() as is_ours:
                return self._steps() if is_ours else ScopeNight(self.scope.path, "busy")
        except EngramError as error:
            logger.warning("engram: the night of %s stopped: %s", self.scope, error)
            return ScopeNight(self.scope.path, "failed", error=f"{type(error).__name__}: {error}")

    def _steps(self) -> ScopeNight:
        live = self._live()
        warm = self._brief()
        forgotten = self._forget()
        consolidated = self._consolidate([row["id"] for row in forgotten["proposals"]])
        reflected = self._reflect()
        evolved = self._evolve()
        proposed = tuple(self._design())
        brief_ = {"max_tokens": BRIEF_TOKENS, "before": warm, "after": warm if self.dry_run else self._brief()}
        planned = live - forgotten["archive"] - consolidated["vectors_saved"] + reflected["filled"]
        after = planned if self.dry_run else self._live()
        # By the policy, which only whoever administers the scope may set, whoever runs the night.
        clocks = retention.run(self.context, self.scope, self.context.owner, self.now, dry_run=self.dry_run)
        night = ScopeNight(
            self.scope.path, "done", (live, after), forgotten, consolidated, reflected, evolved, proposed, brief_
        )
        return replace(night, retention=clocks.to_dict())

    def _live(self) -> int:
        return sum(state.recallable for state in self.context.ledger.scopes([self.scope]))

    def _brief(self) -> dict[str, int]:
        readable = self.context.rules.current().readable(self.principal, self.scope, self.now)
        sight = warden.Sight(self.principal, self.scope, self.now, "sleep", readable, "")
        found = drawn(self.context, sight, BRIEF_TOKENS)
        return {"tokens": found.tokens, "facts": len(found.facts)}

    def _forget(self) -> dict[str, Any]:
        planned = forget.plan(self.context, self.scope, self.now)
        told = planned.to_dict()
        self._moved("forget", 0, len(planned.archive))
        if self.dry_run:
            return told
        done = forget.apply(
            self.context, planned, principal=self.principal, run_id=self.run_id, progress=self._step("forget")
        )
        refused = {id_: str(reason) for id_, reason in done.refused.items()}
        return told | {"archive": len(done.archived), "refused": refused}

    def _consolidate(self, forgotten: Sequence[str]) -> dict[str, Any]:
        """A rehearsal leaves out what it would have forgotten before; after the real thing these facts are gone."""
        planned = consolidate.plan(self.context, self.scope, self.now, without=forgotten if self.dry_run else ())
        told = planned.to_dict() | {"done": len(planned.due)}
        self._moved("consolidate", 0, len(planned.due))
        if self.dry_run:
            return told
        done = consolidate.apply(
            self.context, planned, self.principal, self.now, run_id=self.run_id, progress=self._step("consolidate")
        )
        return told | {"done": len(done.fact_ids), "refused": done.refused, "moved": done.moved}

    def _reflect(self) -> dict[str, Any]:
        if warden.allowance(self.context, self.principal, "write", self.scope, self.now) is None:
            return reflect.Reflection(self.scope.path, (), ()).to_dict()  # what fills a gap is written
        found = reflect.reflect(
            self.context,
            self.scope,
            self.principal,
            self.now,
            dry_run=self.dry_run,
            progress=None if self.dry_run else self._step("reflect"),
        )
        return found.to_dict()

    def _evolve(self) -> dict[str, Any]:
        done = evolve.evolve(
            self.context,
            self.scope,
            self.now,
            dry_run=self.dry_run,
            is_due=False,
            progress=None if self.dry_run else self._step("evolve"),
        )
        return done.to_dict()

    def _design(self) -> Iterator[dict[str, Any]]:
        """The scope's design has the last word, within what the floor allows: it may archive and reweigh."""
        view, _ = view_of(self.context, self.scope, self.now, model=self.context.model)
        proposed, failed = standby.ask(
            self.context,
            self.scope,
            view.policy.design,
            lambda design: list(design.sleep(view)),
            self.now,
            is_live=not self.dry_run,
        )
        if failed is not None:
            yield {"change": "stand_in", "fact_id": None, "reason": str(failed), "refused": None}
        for change in proposed:
            refusal = self._change(change)
            yield {
                "change": type(change).__name__.lower(),
                "fact_id": getattr(change, "fact_id", None),
                "reason": str(change.reason),
                "refused": str(refusal) if refusal is not None else None,
            }

    def _change(self, change: Change) -> Reason | None:
        """Judge one proposal and, unless this is a rehearsal, do it. Returns the refusal."""
        if not isinstance(change, Archive | Reweigh):
            return Reason("not_at_night", f"A design may not propose {type(change).__name__} at night.")
        for _ in range(_ATTEMPTS):
            states = self.context.ledger.scopes([self.scope])
            facts = {fact.id: fact for fact in self.context.ledger.facts([change.fact_id])}
            policy = self.context.ledger.policy(self.scope).policy
            refusal = legality.judge(
                change, scope=self.scope, facts=facts, by_person=False, policy=policy, now=self.now
            )
            if refusal is None and isinstance(change, Archive):
                refusal = holding.kept(self.context, facts[change.fact_id])
            if refusal is not None or self.dry_run:
                return refusal
            try:
                self._write(change, facts[change.fact_id], states[0].seq)
            except Conflict:
                continue
            return None
        raise StoreUnavailable(f"Scope {self.scope} was changed by others {_ATTEMPTS} times meanwhile; try again.")

    def _write(self, change: Archive | Reweigh, fact: Fact, expect: int) -> None:
        reason = change.reason.by_night(self.run_id)
        if isinstance(change, Archive):
            after = replace(fact, status=Status.ARCHIVED, archived_at=self.now, archived_reason=str(reason))
        else:
            after = replace(fact, importance=change.importance, version=fact.version + 1)
        row = self.context.ledger.indexed([fact.id])[0]
        plan = Plan(self.context, self.scope, self.principal, self.now)
        plan.replace(fact, after, reason, type(change).__name__.lower(), features_again(self.context, after, row))
        self.context.ledger.commit(plan.seal(expect)[0])
        self.context.finder.wake()

    # --- progress, and whose scope it is ---

    def _step(self, stage: Stage) -> Callable[[int, int], None]:
        def moved(done: int, total: int) -> None:
            self._renew()
            self._moved(stage, done, total)

        return moved

    def _moved(self, stage: Stage, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(f"{stage} {self.scope}", done, total)

    @property
    def _lease(self) -> str:
        return f"sleep/{self.context.ledger.scopes([self.scope])[0].id}"

    def _renew(self) -> bool:
        return self.context.ledger.lease(self._lease, self.run_id, LEASE_S)

    @contextmanager
    def _claimed(self) -> Iterator[bool]:
        """Whether the scope is this night's. Waits once for a claim that nobody renews any more."""
        deadline = time.monotonic() + LEASE_S + 1.0
        while not (is_ours := self._renew()) and time.monotonic() < deadline:
            time.sleep(0.25)
        try:
            yield is_ours
        finally:
            if is_ours:
                self.context.ledger.lease(self._lease, self.run_id, 0.0)
