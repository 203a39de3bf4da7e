"""Scan: finds secrets that were stored before anything looked for them, and covers them. It erases nothing.

Facts are rewritten through the ledger like a correction, with new features and vectors, and so are their neighbours,
which are found by their words; everything recorded beside them is covered in place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from engram_core.domain.errors import ChangeRefused, Conflict, EmbeddingFailed, StoreUnavailable
from engram_core.domain.fact import Fact, Status
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.operations import gate, warden
from engram_core.operations.commit import Plan, features_again
from engram_core.operations.context import Context

_PAGE: Final = 500
_ATTEMPTS: Final = 8

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What a scan found.

    Attributes:
        scope: Path of what was scanned with all below it; None for the whole store.
        fixed: Whether it was covered.
        facts: Kinds of secrets by fact id. No value is told.
        records: Rows of other records that hold some, by kind of record.
        scrubbed: What made the database forget the old bytes, by layer; empty unless `fixed`.
    """

    scope: str | None
    fixed: bool
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    records: Mapping[str, int] = field(default_factory=dict)
    scrubbed: Mapping[str, str] = field(default_factory=dict)

    @property
    def kinds(self) -> dict[str, int]:
        """How many facts hold each kind."""
        return dict(Counter(kind for kinds in self.facts.values() for kind in kinds))

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not self.facts and not self.records

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "scope": self.scope,
            "fixed": self.fixed,
            "facts": {id_: list(kinds) for id_, kinds in self.facts.items()},
            "kinds": self.kinds,
            "records": dict(self.records),
            "scrubbed": dict(self.scrubbed),
        }


def scan(
    context: Context, scope: Scope | None, principal: str, now: datetime, *, fix: bool, progress: Progress | None = None
) -> ScanReport:
    """Look through a scope and all below it, or the store; see `Engram.scan`."""
    scopes = _scopes(context, scope, principal, now)
    book = context.ledger.screening
    policies: dict[Scope, MemoryPolicy] = {}
    found: dict[str, tuple[str, ...]] = {}
    done, last = 0, None
    while page := book.stored(scope, limit=_PAGE, after=last):
        for fact in (fact for fact in page if fact.scope in scopes):
            policy = policies.get(fact.scope) or policies.setdefault(fact.scope, _policy(context, fact.scope))
            kinds = _kinds(fact, policy)
            if kinds:
                found[fact.id] = kinds
                if fix:
                    _cover(context, fact, policy, principal, now, kinds)
        done, last = done + len(page), page[-1].id
        if progress is not None:
            progress(done, done)
    policy = _policy(context, scope) if scope is not None else MemoryPolicy()
    records = book.cover(
        None if scope is None else list(scopes), lambda text: gate.clean_text(text, policy), dry_run=not fix
    )
    scrubbed = context.ledger.erasures.scrub() if fix and (found or records) else {}
    if fix and found:
        context.finder.wake()
    return ScanReport(scope.path if scope is not None else None, fix, found, records, scrubbed)


def _scopes(context: Context, scope: Scope | None, principal: str, now: datetime) -> frozenset[Scope]:
    """The scopes this principal may scan: where it may curate."""
    if scope is not None:
        warden.admit(context, principal, "curate", scope, now, "scan")
    elif principal != context.owner:
        raise ChangeRefused(f"Only the owner, {context.owner}, scans a whole store; name a scope that you may curate.")
    else:
        warden.by_owner(context, "curate", "scan")
    return frozenset(
        state.scope
        for state in context.ledger.scopes()
        if (scope is None or scope.contains(state.scope))
        and warden.allowance(context, principal, "curate", state.scope, now) is not None
    )


def _policy(context: Context, scope: Scope) -> MemoryPolicy:
    """The scope's, with the search for secrets on: whoever scans wants to know."""
    policy = context.ledger.policy(scope).policy
    return policy if policy.secrets != "keep" else policy.changed(secrets="redact")


def _kinds(fact: Fact, policy: MemoryPolicy) -> tuple[str, ...]:
    texts = [fact.text, fact.speaker or "", fact.archived_reason or "", *gate.strings(fact.metadata)]
    if fact.slot is not None:
        texts += [fact.slot.subject, fact.slot.attribute]
    return tuple(sorted({item.kind for text in texts for item in gate.secrets_in(text, policy)}))


def _clean(fact: Fact, policy: MemoryPolicy) -> Fact:
    def clean(text: str | None) -> str | None:
        return gate.clean_text(text, policy) if text else text

    return replace(
        fact,
        text=gate.clean_text(fact.text, policy),
        speaker=clean(fact.speaker),
        archived_reason=clean(fact.archived_reason),
        metadata=gate.clean_values(fact.metadata, policy),
        slot=None if fact.slot is not None and gate.secrets_in(str(fact.slot), policy) else fact.slot,
        version=fact.version + 1,
    )


def _cover(
    context: Context, fact: Fact, policy: MemoryPolicy, principal: str, now: datetime, kinds: Sequence[str]
) -> None:
    """Rewrite one fact, and the features of its neighbours. Raises StoreUnavailable if the scope keeps moving."""
    reason = Reason("redacted", f"Replaced by a scan: {', '.join(kinds)}.")
    with context.turnstiles.of(fact.scope):
        for _ in range(_ATTEMPTS):
            [state] = context.ledger.scopes([fact.scope])
            [fact] = context.ledger.facts([fact.id])
            [row] = context.ledger.indexed([fact.id])
            after = _clean(fact, policy)
            plan = Plan(context, fact.scope, principal, now)
            features = _features(context, after, row)
            if after.status is Status.LIVE and features.content is None:
                after = replace(after, status=Status.PENDING)
            plan.replaced_as(fact, after, features)
            # Neither what was there before nor where it stood is told again.
            plan.decide("redact", reason, fact_id=fact.id, after={"redacted": [{"kind": kind} for kind in kinds]})
            try:
                context.ledger.commit(plan.seal(state.seq)[0])
            except Conflict:
                continue
            _refresh(context, [id_ for id_ in (row.previous, row.following) if id_], principal, now)
            return
    raise StoreUnavailable(f"Scope {fact.scope} was changed by others {_ATTEMPTS} times meanwhile; scan again.")


def _features(context: Context, fact: Fact, row: Any) -> Any:
    try:
        return features_again(context, fact, row, text_changed=True)
    except EmbeddingFailed:
        return features_again(context, fact, row, text_changed=True, embed=False)


def _refresh(context: Context, ids: Sequence[str], principal: str, now: datetime) -> None:
    """Derive neighbours' features anew: a fact is found by the words before and after it as well."""
    rows = {row.id: row for row in context.ledger.indexed(ids)}
    for fact in context.ledger.facts(ids):
        if fact.status is Status.ERASED or fact.id not in rows:
            continue
        plan = Plan(context, fact.scope, principal, now)
        plan.replaced(fact, _features(context, fact, rows[fact.id]))
        context.ledger.commit(plan.seal(None)[0])
