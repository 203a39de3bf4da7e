"""Access: who may do what where. Pure; the one place that decides it. It reads nothing and notes nothing.

A grant counts for a principal, a verb and a scope when all of this holds:
- it is for that verb, and for the principal or a group the principal is a member of;
- it has not expired;
- it was made in that scope, or above it and deep;
- no private scope lies at or above that scope and strictly below the grant's: it stops what comes from above.

The store's owner may do everything everywhere, except read at or below a private scope: like every right from above
that one stops there, and takes a grant that somebody sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from engram_core.domain.access import AccessExplanation, AccessRules, Allowance, Grant, Verb
from engram_core.domain.audit import NO_GRANT
from engram_core.domain.scope import Scope

OWNER: Final = "owner"


class Access:
    """The rules of one store, indexed. Immutable; every question is answered in a few look-ups.

    Args:
        rules: As the store holds them.
        owner: The store's owner.
    """

    def __init__(self, rules: AccessRules, owner: str) -> None:
        self.rules = rules
        self.owner = owner
        self._groups: dict[str, list[str]] = {}
        for group, principals in sorted(rules.members.items()):
            for principal in principals:
                self._groups.setdefault(principal, []).append(group)
        self._grants: dict[tuple[str, Verb, Scope], list[Grant]] = {}
        for grant in rules.grants:
            self._grants.setdefault((grant.grantee, grant.verb, grant.scope), []).append(grant)

    def allowance(self, principal: str, verb: Verb, scope: Scope, now: datetime) -> Allowance | None:
        """What lets `principal` do this: the owner's right, or of the grants that count the best; None if nothing."""
        if principal == self.owner and (verb != "read" or self._barrier(scope) is None):
            return Allowance(OWNER)
        counting = list(self._counting(principal, verb, scope, now))
        if not counting:
            return None
        best = max(counting, key=_worth)
        return Allowance(f"grant {best.id}", best.max_trust)

    def refusal(self, giver: str, grant: Grant, now: datetime) -> str | None:
        """Why `giver` may not make this grant; None if it may. Nobody can give more than they have.

        Besides the owner that takes, in the grant's scope, a grant of `admin` and one of the verb itself that each
        reach as far and last as long, and for the trust one whose ceiling is as high.
        """
        if giver == self.owner:
            return None
        for verb in dict.fromkeys(("admin", grant.verb)):
            held = list(self._counting(giver, verb, grant.scope, now))
            if not held:
                return f"it may not {verb} there itself"
            if not any(_covers(one, grant, with_trust=verb == grant.verb) for one in held):
                return f"its own right to {verb} there does not reach as far, last as long or trust as much"
        return None

    def readable(self, principal: str, scope: Scope, now: datetime) -> tuple[Scope, ...]:
        """The scopes that a question asked in `scope` may look into: it and those above, as far as `read` reaches."""
        if principal == self.owner and not self.rules.private:
            return scope.lineage
        return tuple(level for level in scope.lineage if self.allowance(principal, "read", level, now) is not None)

    def who_can(self, verb: Verb, scope: Scope, now: datetime) -> dict[str, Allowance]:
        """Every principal that may do this, and why: the owner, and whom grants name, alone or by group."""
        named = {grant.grantee for grant in self.rules.grants} | {self.owner}
        named |= {principal for principals in self.rules.members.values() for principal in principals}
        found = {name: self.allowance(name, verb, scope, now) for name in sorted(named - self.rules.members.keys())}
        return {name: why for name, why in found.items() if why is not None and not name.startswith("group:")}

    def why(self, principal: str, verb: Verb, scope: Scope, now: datetime) -> AccessExplanation:
        """Which grant lets `principal` do this; or every one that comes near, and why it does not count."""
        allowed = self.allowance(principal, verb, scope, now)
        if allowed is not None:
            lines = tuple(self._supporting(principal, verb, scope, now))
        else:
            lines = tuple(self._misses(principal, verb, scope, now)) or ("No grant is for it or its groups here.",)
        by = allowed.by if allowed is not None else NO_GRANT
        return AccessExplanation(principal, verb, scope.path, allowed is not None, by, lines)

    # --- parts ---

    def _counting(self, principal: str, verb: Verb, scope: Scope, now: datetime) -> Iterator[Grant]:
        grantees = (principal, *self._groups.get(principal, ()))
        for level in scope.lineage:
            for grantee in grantees:
                for grant in self._grants.get((grantee, verb, level), ()):
                    if (grant.deep or level == scope) and (grant.expires is None or now < grant.expires):
                        yield grant
            if level in self.rules.private:
                return  # what was granted above it does not come through

    def _barrier(self, scope: Scope) -> Scope | None:
        """The nearest private scope at or above `scope`."""
        return next((level for level in scope.lineage if level in self.rules.private), None)

    def _supporting(self, principal: str, verb: Verb, scope: Scope, now: datetime) -> Iterator[str]:
        if principal == self.owner and (verb != "read" or self._barrier(scope) is None):
            yield "It owns the store."
        for grant in self._counting(principal, verb, scope, now):
            yield f"{grant}{_by_group(grant, principal)}"

    def _misses(self, principal: str, verb: Verb, scope: Scope, now: datetime) -> Iterator[str]:
        barrier = self._barrier(scope)
        if principal == self.owner and barrier is not None:
            yield f"It owns the store, and {barrier} is private: its own right to read stops there, too."
        grantees = {principal, *self._groups.get(principal, ())}
        for grant in self.rules.grants:
            if grant.grantee in grantees and (grant.scope.contains(scope) or scope.contains(grant.scope)):
                yield f"{grant}{_by_group(grant, principal)}, but {self._lacks(grant, verb, scope, now)}"

    def _lacks(self, grant: Grant, verb: Verb, scope: Scope, now: datetime) -> str:
        """Why a grant does not count here; the first reason of several."""
        if grant.verb != verb:
            return f"that is not {verb}."
        if not grant.scope.contains(scope):
            return f"it was made below {scope}, and grants do not reach up."
        if grant.scope != scope and not grant.deep:
            return "it is not deep."
        if grant.expires is not None and now >= grant.expires:
            return "it has expired."
        return f"{self._barrier(scope)} is private and stops it."


def _worth(grant: Grant) -> tuple[float, bool, float, int]:
    """Of several grants that count the audit names the one with most trust, then reach, then time, then age."""
    until = float("inf") if grant.expires is None else grant.expires.timestamp()
    return grant.max_trust, grant.deep, until, -grant.id


def _covers(one: Grant, other: Grant, *, with_trust: bool) -> bool:
    reaches = one.deep or not other.deep
    lasts = one.expires is None or (other.expires is not None and other.expires <= one.expires)
    return reaches and lasts and (not with_trust or other.max_trust <= one.max_trust)


def _by_group(grant: Grant, principal: str) -> str:
    return "" if grant.grantee == principal else f" (it is a member of {grant.grantee})"
