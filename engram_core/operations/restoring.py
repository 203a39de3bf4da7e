"""Restoring: says again in an older copy of a store what the living one decided since. It opens and moves no file.

A restore brings memories back. Who may do what, what may not be erased, and what was erased is no memory: there the
living store knows better than any copy of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from engram_core.domain.access import AccessRules, Grant
from engram_core.domain.audit import AuditEntry, AuditHead
from engram_core.domain.scope import Scope
from engram_core.floor.tombstones import KEY_SETTING
from engram_core.keeping import Hold, Tombstone
from engram_core.operations.context import Context
from engram_core.operations.erase import reapply
from engram_core.ports import Ledger


@dataclass(frozen=True, slots=True)
class Living:
    """What a store knows that a copy made of it earlier may not.

    Attributes:
        identity: The store's secret; a store and its copies share it.
        key: What the marks of its tombstones are made with; None if nothing was ever erased.
        head: Where its audit ends.
    """

    identity: str | None
    key: str | None
    tombstones: tuple[Tombstone, ...]
    rules: AccessRules
    holds: tuple[Hold, ...]
    head: AuditHead

    @classmethod
    def of(cls, ledger: Ledger, identity: str | None) -> Living:
        """What the ledger of a living store knows."""
        key = ledger.setting(KEY_SETTING)
        stones = tuple(ledger.erasures.tombstones()) if key is not None else ()
        holds = tuple(ledger.erasures.holds(released=True))
        return cls(identity, key, stones, ledger.access.rules(), holds, ledger.audit.head())


def repeat(context: Context, living: Living, *, is_same: bool) -> dict[str, int]:
    """Say in a copy what the living store knows; return how much that was, by what it was.

    Args:
        context: The copy.
        living: What the store knows that it takes the place of.
        is_same: Whether they are one store at two times. Another store's rights and holds are not this one's business.
    """
    if living.key is not None:
        reapply(context, living.key, living.tombstones)
    if not is_same or _knows(context, living.head):
        return {}
    now = context.clock()
    return _access(context, living.rules, now) | _holds(context, living.holds, now)


def note(context: Context, living: Living | None) -> None:
    """Note in the copy's audit that it was put in place, and which chain ended there."""
    about = f"replaced {living.head.number}:{living.head.hash}" if living is not None else ""
    context.audit.note(_entry(context, context.clock(), about))


def _knows(context: Context, head: AuditHead) -> bool:
    """Whether the copy's audit goes on from there: then the living store is the older, and the copy knows it all."""
    found = context.ledger.audit.entries(before=head.number + 1, limit=1)
    return bool(found) and found[0].number == head.number and found[0].hash == head.hash


def _access(context: Context, rules: AccessRules, now: datetime) -> dict[str, int]:
    book = context.ledger.access
    have = book.rules()
    wanted, known = {_bare(one) for one in rules.grants}, {_bare(one) for one in have.grants}
    stale = [one for one in have.grants if _bare(one) not in wanted]
    for one in stale:
        book.revoke([one.id], _entry(context, now, f"revoke {one.grantee} {one.verb}", one.scope))
    missing = [one for one in rules.grants if _bare(one) not in known]
    for one in missing:
        book.grant([one], _entry(context, now, f"grant {one.grantee} {one.verb}", one.scope))
    moved = _members(have) ^ _members(rules)
    for group, principal in sorted(moved):
        is_member = principal in rules.members.get(group, ())
        about = f"{'group_add' if is_member else 'group_remove'} {group} {principal}"
        book.set_member(group, principal, is_member, _entry(context, now, about))
    for scope in (changed := have.private ^ rules.private):
        is_private = scope in rules.private
        book.set_private(scope, is_private, _entry(context, now, "private" if is_private else "open", scope))
    return {
        "grants_revoked": len(stale),
        "grants_kept": len(missing),
        "members_changed": len(moved),
        "private_changed": len(changed),
    }


def _holds(context: Context, holds: tuple[Hold, ...], now: datetime) -> dict[str, int]:
    book = context.ledger.erasures
    in_force = {item.id for item in book.holds()}
    known = {item.id for item in book.holds(released=True)}
    done = {"holds_kept": 0, "holds_released": 0}
    for item in holds:
        if item.id not in known:
            book.place_hold(replace(item, released_at=None, released_by=None))
            done["holds_kept"] += item.released_at is None
            _note_hold(context, now, "hold", item)
        if item.released_at is not None and (item.id in in_force or item.id not in known):
            book.release_hold(item.id, item.released_by or context.owner, item.released_at)
            done["holds_released"] += item.id in in_force
            _note_hold(context, now, "release_hold", item)
    return done


def _note_hold(context: Context, now: datetime, what: str, item: Hold) -> None:
    ids = (item.fact_id,) if item.fact_id is not None else ()
    context.audit.note(replace(_entry(context, now, f"{what} {item.id}", item.scope), fact_ids=ids))


def _entry(context: Context, now: datetime, about: str, scope: Scope | None = None) -> AuditEntry:
    return AuditEntry(now, context.owner, "admin", "restore_backup", scope, by="owner", about=about)


def _bare(grant: Grant) -> Grant:
    """A grant without its number, which the database gives again after the newest was revoked."""
    return replace(grant, id=0)


def _members(rules: AccessRules) -> set[tuple[str, str]]:
    return {(group, principal) for group, principals in rules.members.items() for principal in principals}
