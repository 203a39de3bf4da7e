"""Quarantine: a person lets waiting facts in, turns them away, or vouches for one. It judges no text."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from engram_core.domain.change import Archive, Change, Release, Vouch
from engram_core.domain.errors import ChangeRefused
from engram_core.domain.fact import Fact, Status
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.operations import edit, gate
from engram_core.operations.context import Context

FULL: Final = 1.0
"""A person's own word."""
_PERSON: Final = "user:"


def release(context: Context, scope: Scope, principal: str, fact_id: str, *, reason: str | None, now: datetime) -> Fact:
    """Let a quarantined fact into recall; see `Memory.release`."""
    desk = edit.Desk(context, scope, principal, now, "release")
    desk.allowed()
    why = Reason("released", _clean(context, scope, reason) or f"{principal} released it.")

    def change(fact: Fact) -> tuple[Change, Fact]:
        return Release(fact.id, why), replace(fact, status=Status.LIVE, restored_at=now)

    return desk.change(fact_id, change, "release")


def reject(context: Context, scope: Scope, principal: str, fact_id: str, *, reason: str | None, now: datetime) -> Fact:
    """Turn a quarantined fact away; see `Memory.reject`."""
    desk = edit.Desk(context, scope, principal, now, "reject")
    desk.allowed()
    why = Reason("rejected", _clean(context, scope, reason) or f"{principal} rejected it.")

    def change(fact: Fact) -> tuple[Change, Fact]:
        if fact.status is not Status.QUARANTINED:
            raise ChangeRefused(f"Fact {fact.id} is {fact.status}, not in quarantine; use forget() to archive it.")
        after = replace(fact, status=Status.ARCHIVED, archived_at=now, archived_reason=str(why))
        return Archive(fact.id, why), after

    return desk.change(fact_id, change, "reject")


def vouch(context: Context, scope: Scope, principal: str, fact_id: str, *, reason: str | None, now: datetime) -> Fact:
    """Trust a fact as a person's own word; see `Memory.vouch`."""
    if not principal.startswith(_PERSON):
        raise ChangeRefused(f"{principal} is not a person; only a principal such as 'user:alice' vouches for a fact.")
    desk = edit.Desk(context, scope, principal, now, "vouch")
    # Whoever's words are trusted less than a person's own cannot lend more.
    trust = min(FULL, desk.allowed().max_trust)
    why = Reason("vouched", _clean(context, scope, reason) or f"{principal} vouches for it.")

    def change(fact: Fact) -> tuple[Change, Fact]:
        return Vouch(fact.id, trust, why), replace(fact, trust=trust, version=fact.version + 1)

    return desk.change(fact_id, change, "vouch")


def _clean(context: Context, scope: Scope, reason: str | None) -> str | None:
    return gate.clean_text(reason, context.ledger.policy(scope).policy) if reason else None
