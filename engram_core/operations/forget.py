"""Forget: what a night would archive in one scope and why, and doing it. It plans and applies; `measure` judges.

`plan` reads and proposes, `apply` writes: a caller shows the plan first, or drops it. Nothing here deletes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

import numpy as np

from engram_core.domain.change import Archive
from engram_core.domain.errors import Conflict, StoreUnavailable
from engram_core.domain.fact import Fact, Status
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.floor import legality
from engram_core.measure import forgetting
from engram_core.measure.forgetting import Held, Scores, Selection
from engram_core.operations import holding
from engram_core.operations.commit import Plan, features_again
from engram_core.operations.context import Context
from engram_core.ports import ForgetScore, PolicyVersion, Standing

Usefulness = Mapping[str, tuple[float, float]]
Progress = Callable[[int, int], None]

STEP: Final = 0.01
"""A score is written anew only when it moved by this much: ageing alone rewrites few facts a night."""
FACTS_PER_COMMIT: Final = 200
SAMPLE: Final = 400
"""Texts whose tokens are counted exactly; the saving of a longer list is scaled up from them by characters."""
_ATTEMPTS: Final = 8


@dataclass(frozen=True, slots=True)
class ForgetPlan:
    """What forgetting would do to one scope. Made by `plan`, carried out by `apply`.

    Attributes:
        policy: The policy in force and its version.
        facts: Recallable facts when the plan was made.
        archive: The proposals, most forgettable first, each with its Reason: rule `forget_score` or `max_facts`.
        rescored: Scores to store: of facts never scored, and of those whose score moved by `STEP`.
        protected: Facts out of reach, by the first rule that says so: `pinned`, `protect_days`, `retention_floor`.
        over: Facts above `max_facts` that stay because everything else is protected; 0 when the cap is met.
        tokens: Tokens of all recallable facts; an estimate in scopes of more than `SAMPLE` facts.
        tokens_saved: Tokens of the proposals, by the same count.
    """

    scope: Scope
    at: datetime
    policy: PolicyVersion
    facts: int
    archive: tuple[Archive, ...]
    rescored: tuple[ForgetScore, ...]
    protected: Mapping[str, int]
    over: int
    tokens: int
    tokens_saved: int
    _rows: Mapping[str, int]
    _scores: Scores

    @property
    def counts(self) -> dict[str, int]:
        """How many facts each rule would archive."""
        return dict(Counter(change.reason.rule for change in self.archive))

    def score(self, fact_id: str) -> ForgetScore:
        """A fact's score and its terms as judged for this plan. Raises KeyError for a fact it did not judge."""
        row = self._rows[fact_id]
        return ForgetScore(fact_id, float(self._scores.score[row]), self._scores.terms_of(row))

    def to_dict(self, limit: int | None = None) -> dict[str, Any]:
        """JSON-able; at most `limit` of the proposals."""
        return {
            "scope": self.scope.path,
            "at": self.at.isoformat(),
            "policy_version": self.policy.version,
            "auto_forget": self.policy.policy.auto_forget,
            "facts": self.facts,
            "max_facts": self.policy.policy.max_facts,
            "archive": len(self.archive),
            "by_rule": self.counts,
            "over": self.over,
            "protected": dict(self.protected),
            "rescored": len(self.rescored),
            "tokens": self.tokens,
            "tokens_saved": self.tokens_saved,
            "proposals": [
                {
                    "id": change.fact_id,
                    "rule": change.reason.rule,
                    "line": change.reason.line,
                    "terms": dict(change.reason.terms),
                }
                for change in self.archive[:limit]
            ],
        }


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What `apply` did.

    Attributes:
        archived: Ids of the facts it archived, in order.
        refused: Ids the floor kept, and why: pinned meanwhile, archived by somebody else, gone.
        rescored: How many scores it stored.
    """

    archived: tuple[str, ...]
    refused: Mapping[str, Reason]
    rescored: int


def plan(
    context: Context,
    scope: Scope,
    now: datetime,
    *,
    usefulness: Usefulness | None = None,
    redundant: Mapping[str, float] | None = None,
    leave: Collection[str] = (),
    under: MemoryPolicy | None = None,
) -> ForgetPlan:
    """Score the facts of a scope and propose what to archive; nothing is written.

    Args:
        context: The store.
        scope: Exactly this scope, not those below it.
        now: Time of the night.
        usefulness: Judged recalls r and soft uses u by fact id, instead of what the ledger has counted; a fact that is
            not here was never recalled.
        redundant: How surely another fact that stays says the same, 0 to 1, by fact id; twins word for word are found
            without it.
        leave: Ids that are scored and counted but not proposed, for example because another step of the night will
            archive them.
        under: Plan as if this were the policy in force: to see what it would do.

    Returns:
        The plan. Without `auto_forget` it scores and proposes nothing.
    """
    policy = context.ledger.policy(scope)
    policy = replace(policy, policy=under) if under is not None else policy
    state = next(iter(context.ledger.scopes([scope])), None)
    rows = context.ledger.standings(state.id) if state is not None else []
    starts = context.ledger.session_starts(state.id) if state is not None else {}
    if usefulness is None:
        usefulness = context.ledger.worth(state.id) if state is not None else {}
    moment = now.timestamp()
    held = _held(rows, starts, usefulness, redundant or {}, moment)
    scores = forgetting.judge(held, policy.policy, np.array(sorted(starts.values())), moment)
    chosen = _selected(held, scores, policy.policy, moment)
    changes = [*_archives(rows, scores, chosen, policy.policy, frozenset(leave))]
    tokens, saved = _tokens(context, rows, {change.fact_id for change in changes})
    return ForgetPlan(
        scope=scope,
        at=now,
        policy=policy,
        facts=len(rows),
        archive=tuple(changes),
        rescored=_rescored(rows, scores, {change.fact_id for change in changes}),
        protected=chosen.protected,
        over=chosen.over,
        tokens=tokens,
        tokens_saved=saved,
        _rows={row.id: place for place, row in enumerate(rows)},
        _scores=scores,
    )


def _held(
    rows: Sequence[Standing],
    starts: Mapping[str, float],
    usefulness: Usefulness,
    redundant: Mapping[str, float],
    now: float,
) -> Held:
    columns: dict[str, Sequence[Any]] = (
        dict(zip(Standing._fields, zip(*rows, strict=True), strict=True))
        if rows
        else dict.fromkeys(Standing._fields, ())
    )

    def floats(name: str, missing: float) -> forgetting.Floats:
        values = [missing if value is None else value for value in columns[name]]
        return np.array(values, dtype=np.float64)

    never = (0.0, 0.0)
    counts = np.array([usefulness.get(id_, never) for id_ in columns["id"]], dtype=np.float64).reshape(-1, 2)
    pinned = np.array(columns["pinned"], dtype=np.bool_)
    importance = floats("importance", 0.0)
    same = forgetting.twins(columns["twin"], pinned, importance, counts[:, 1])
    told = np.array([redundant.get(id_, 0.0) for id_ in columns["id"]], dtype=np.float64)
    session_starts = [np.nan if name is None else starts[name] for name in columns["session"]]
    return Held(
        ids=columns["id"],
        kinds=columns["kind"],
        importance=importance,
        trust=floats("trust", 0.0),
        pinned=pinned,
        created_at=floats("created_at", 0.0),
        said_at=floats("said_at", 0.0),
        restored_at=floats("restored_at", -np.inf),
        session_start=np.array(session_starts, dtype=np.float64),
        expired=floats("valid_until", np.inf) < now,
        superseded=np.array([id_ is not None for id_ in columns["superseded_by"]], dtype=np.bool_),
        redundant=np.maximum(same, told),
        recalls=counts[:, 0],
        uses=counts[:, 1],
    )


def _selected(held: Held, scores: Scores, policy: MemoryPolicy, now: float) -> Selection:
    selection = forgetting.select(held, scores, policy, now)
    if policy.auto_forget:
        return selection
    nothing = np.zeros(0, dtype=np.int64)
    return Selection(nothing, nothing, selection.protected, max(len(held) - policy.max_facts, 0))


def _archives(
    rows: Sequence[Standing], scores: Scores, chosen: Selection, policy: MemoryPolicy, leave: frozenset[str]
) -> list[Archive]:
    found = []
    for is_cap, places in ((False, chosen.by_score), (True, chosen.by_cap)):
        for place in places.tolist():
            if rows[place].id in leave:
                continue
            score, terms = float(scores.score[place]), scores.terms_of(place)
            found.append(Archive(rows[place].id, _reason(score, terms, policy, is_cap=is_cap)))
    return found


def _reason(score: float, terms: Mapping[str, float], policy: MemoryPolicy, *, is_cap: bool) -> Reason:
    why = ", ".join(f"{name} {value:.2f}" for name, value in sorted(terms.items(), key=lambda item: -item[1])[:3])
    if is_cap:
        line = f"The scope holds more than max_facts {policy.max_facts}, and this is missed least: {score:.2f} ({why})."
        return Reason("max_facts", line, terms)
    line = f"Its forget score {score:.2f} is above {policy.forget_threshold:g} ({why})."
    return Reason("forget_score", line, terms)


def _rescored(rows: Sequence[Standing], scores: Scores, going: Collection[str]) -> tuple[ForgetScore, ...]:
    """Scores that are new or moved; a proposal's is written with its archiving."""
    stored = np.array([np.nan if row.forget_score is None else row.forget_score for row in rows], dtype=np.float64)
    moved = np.flatnonzero(np.isnan(stored) | (np.abs(stored - scores.score) >= STEP))
    return tuple(
        ForgetScore(rows[place].id, float(scores.score[place]), scores.terms_of(place))
        for place in moved.tolist()
        if rows[place].id not in going
    )


def _tokens(context: Context, rows: Sequence[Standing], going: Collection[str]) -> tuple[int, int]:
    """Tokens of all facts and of those in `going`."""
    if not rows:
        return 0, 0
    step = max(1, -(-len(rows) // SAMPLE))
    sample = context.ledger.facts([row.id for row in rows[::step]])
    counted = sum(context.counter.count(fact.display) for fact in sample)
    rate = counted / max(1, sum(len(fact.text) for fact in sample))
    everything = sum(row.length for row in rows)
    leaving = sum(row.length for row in rows if row.id in going)
    return round(rate * everything), round(rate * leaving)


def apply(
    context: Context,
    planned: ForgetPlan,
    *,
    principal: str,
    now: datetime | None = None,
    run_id: str | None = None,
    progress: Progress | None = None,
) -> Forgotten:
    """Carry out a plan: store its scores, then archive in transactions of `FACTS_PER_COMMIT` facts.

    Every proposal is judged by the floor again, against the fact as it is now. Stopped at any point, what was done is
    whole; planning and applying again does the rest.

    Args:
        context: The store.
        planned: What `plan` returned.
        principal: Who runs the night; noted with every decision.
        now: When it happens; default the plan's time.
        run_id: Of the night; noted with every decision.
        progress: Called with (proposals done, proposals in all) after each transaction.

    Raises:
        StoreUnavailable: The ledger cannot be written, or the scope kept moving.
    """
    at = now or planned.at
    context.ledger.save_scores(planned.rescored)
    archived: list[str] = []
    refused: dict[str, Reason] = {}
    edges = [*range(0, len(planned.archive), FACTS_PER_COMMIT), len(planned.archive)]
    for start, end in pairwise(edges):
        done, kept = _commit(context, planned, planned.archive[start:end], principal, at, run_id)
        archived += done
        refused |= kept
        if progress is not None:
            progress(end, len(planned.archive))
    return Forgotten(tuple(archived), refused, len(planned.rescored))


def _commit(
    context: Context,
    planned: ForgetPlan,
    changes: Sequence[Archive],
    principal: str,
    at: datetime,
    run_id: str | None,
) -> tuple[list[str], dict[str, Reason]]:
    with context.turnstiles.of(planned.scope):
        for _ in range(_ATTEMPTS):
            states = context.ledger.scopes([planned.scope])
            facts = {fact.id: fact for fact in context.ledger.facts([change.fact_id for change in changes])}
            policy = context.ledger.policy(planned.scope).policy
            judged = [(change, _judged(change, facts, planned.scope, policy, at)) for change in changes]
            judged = [(change, refusal or holding.kept(context, facts[change.fact_id])) for change, refusal in judged]
            legal = [
                (facts[change.fact_id], change.reason.by_night(run_id)) for change, refusal in judged if refusal is None
            ]
            refused = {change.fact_id: refusal for change, refusal in judged if refusal is not None}
            if not legal:
                return [], refused
            try:
                _write(context, planned, legal, principal, at, states[0].seq)
            except Conflict:
                continue
            return [fact.id for fact, _ in legal], refused
    raise StoreUnavailable(f"Scope {planned.scope} was changed by others {_ATTEMPTS} times meanwhile; try again.")


def _judged(
    change: Archive, facts: Mapping[str, Fact], scope: Scope, policy: MemoryPolicy, at: datetime
) -> Reason | None:
    fact = facts.get(change.fact_id)
    if fact is not None and not fact.is_recallable:
        return Reason("not_live", f"Fact {fact.id} is {fact.status}; there is nothing to forget.")
    if not policy.auto_forget:
        return Reason("auto_forget_off", "The policy no longer lets the night archive on its own.")
    return legality.judge(change, scope=scope, facts=facts, by_person=False, policy=policy, now=at)


def _write(
    context: Context,
    planned: ForgetPlan,
    legal: Sequence[tuple[Fact, Reason]],
    principal: str,
    at: datetime,
    expect: int,
) -> None:
    rows = {row.id: row for row in context.ledger.indexed([fact.id for fact, _ in legal])}
    batch = Plan(context, planned.scope, principal, at)
    for fact, reason in legal:
        score = planned.score(fact.id)
        after = replace(
            fact,
            status=Status.ARCHIVED,
            archived_at=at,
            archived_reason=str(reason),
            forget_score=score.score,
            forget_terms=score.terms,
        )
        batch.replace(fact, after, reason, "archive", features_again(context, after, rows[fact.id]))
    context.ledger.commit(batch.seal(expect)[0])
    context.finder.wake()
