"""Access against a second, obviously correct definition: random worlds, mutants, monotonicity, names side by side."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from engram_core.domain.access import VERBS, AccessRules, Grant, Verb
from engram_core.domain.errors import InvalidInput, InvalidScope
from engram_core.domain.scope import Scope
from engram_core.floor.access import Access

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OWNER = "user:owner"
PRINCIPALS = ("user:ann", "user:bob", "agent:x", OWNER)
GROUPS = ("group:g", "group:h")
# Names that look alike, siblings, and three levels: what prefixes, depth and barriers could be confused by.
PATHS = ("acme", "acme-corp", "acme.corp", "a/cme", "a", "acme/x", "acme/x/y", "acme/x-y", "acme/x/y/z", "b")
SCOPES = tuple(map(Scope, PATHS))


@dataclass(frozen=True)
class World:
    """Everything that decides one question."""

    rules: AccessRules
    checks: tuple[tuple[str, Verb, Scope], ...]


def allowed(rules: AccessRules, principal: str, verb: str, scope: str) -> bool:
    """The definition of docs/access.md, spelled out over strings: no index, no early exit, nothing shared with it."""
    levels = scope.split("/")
    above = ["/".join(levels[:count]) for count in range(1, len(levels) + 1)]
    private = [place for place in above if place in {item.path for item in rules.private}]
    if principal == OWNER and (verb != "read" or not private):
        return True
    names = {principal} | {group for group, members in rules.members.items() if principal in members}
    for grant in rules.grants:
        here, place = grant.scope.path, grant.scope.path.split("/")
        reaches = here == scope or (grant.deep and levels[: len(place)] == place and len(place) < len(levels))
        stopped = any(len(barrier.split("/")) > len(place) for barrier in private)
        lasts = grant.expires is None or grant.expires > NOW
        if grant.grantee in names and grant.verb == verb and reaches and lasts and not stopped:
            return True
    return False


def worlds(count: int, seed: int, checks: int = 20) -> Iterator[World]:
    """Random worlds; grants are drawn near the questions, so that about four in ten are allowed."""
    rng = random.Random(seed)
    for _ in range(count):
        grants = tuple(_grant(rng, number) for number in range(1, rng.randint(3, 16)))
        members = {group: frozenset(rng.sample(PRINCIPALS[:3], rng.randint(0, 3))) for group in GROUPS}
        private = frozenset(rng.sample(SCOPES, rng.choice((0, 0, 1, 2))))
        asked = tuple(_check(rng, grants) for _ in range(checks))
        yield World(AccessRules(1, grants, {k: v for k, v in members.items() if v}, private), asked)


def _grant(rng: random.Random, number: int) -> Grant:
    ends = rng.choice((None, None, None, NOW + timedelta(days=1), NOW - timedelta(days=1), NOW))
    return Grant(
        grantee=rng.choice((*PRINCIPALS, *GROUPS, *GROUPS)),
        verb=rng.choice((*VERBS, "read", "read")),
        scope=rng.choice(SCOPES),
        granted_by=OWNER,
        granted_at=NOW,
        deep=rng.random() < 0.7,
        expires=ends,
        max_trust=rng.choice((1.0, 1.0, 0.5, 0.2)),
        id=number,
    )


def _check(rng: random.Random, grants: tuple[Grant, ...]) -> tuple[str, Verb, Scope]:
    principal, verb, scope = rng.choice(PRINCIPALS), rng.choice(VERBS), rng.choice(SCOPES)
    if rng.random() < 0.75:
        near = rng.choice(grants)
        verb = near.verb
        below = [item for item in SCOPES if near.scope.contains(item)]
        scope = rng.choice((near.scope, rng.choice(below), scope))
        principal = near.grantee if near.grantee in PRINCIPALS else principal
    return principal, verb, scope


def disagreements(make: Callable[[AccessRules], Access], count: int, seed: int) -> tuple[int, int, int]:
    """Questions on which a resolver and the definition differ, how many were allowed, and how many were asked."""
    wrong = yes = asked = 0
    for world in worlds(count, seed):
        access = make(world.rules)
        for principal, verb, scope in world.checks:
            said = access.allowance(principal, verb, scope, NOW) is not None
            expected = allowed(world.rules, principal, verb, scope.path)
            wrong, yes, asked = wrong + (said != expected), yes + expected, asked + 1
    return wrong, yes, asked


def resolver(rules: AccessRules) -> Access:
    return Access(rules, OWNER)


@pytest.mark.parametrize(
    "count", [pytest.param(1_500, id="small"), pytest.param(100_000, id="full", marks=pytest.mark.full)]
)
def test_every_answer_is_that_of_the_definition(count: int) -> None:
    wrong, yes, asked = disagreements(resolver, count, seed=7)
    assert wrong == 0
    assert 0.3 < yes / asked < 0.55, "a test of refusals alone would prove little"


# --- mutants: each is wrong in one way, and the definition must notice -----------------------------------------------


class PrefixesAreParents(Access):
    def _counting(self, principal, verb, scope, now):
        for grant in self.rules.grants:
            names = (principal, *self._groups.get(principal, ()))
            if grant.grantee in names and grant.verb == verb and scope.path.startswith(grant.scope.path):
                yield grant


class ShallowIsDeep(Access):
    def __init__(self, rules, owner):
        super().__init__(replace(rules, grants=tuple(replace(g, deep=True) for g in rules.grants)), owner)


class DeepIsShallow(Access):
    def __init__(self, rules, owner):
        super().__init__(replace(rules, grants=tuple(replace(g, deep=False) for g in rules.grants)), owner)


class NothingExpires(Access):
    def __init__(self, rules, owner):
        super().__init__(replace(rules, grants=tuple(replace(g, expires=None) for g in rules.grants)), owner)


class ExpiresOneMomentLate(Access):
    def allowance(self, principal, verb, scope, now):
        return super().allowance(principal, verb, scope, now - timedelta(microseconds=1))


class NoBarrier(Access):
    def __init__(self, rules, owner):
        super().__init__(replace(rules, private=frozenset()), owner)


class BarrierStopsItsOwnGrants(Access):
    def _counting(self, principal, verb, scope, now):
        barrier = self._barrier(scope)
        for grant in super()._counting(principal, verb, scope, now):
            if barrier is None or grant.scope != barrier:
                yield grant


class NoGroups(Access):
    def __init__(self, rules, owner):
        super().__init__(replace(rules, members={}), owner)


class EverybodyIsInEveryGroup(Access):
    def __init__(self, rules, owner):
        super().__init__(replace(rules, members=dict.fromkeys(GROUPS, frozenset(PRINCIPALS))), owner)


class AdminMeansEverything(Access):
    def allowance(self, principal, verb, scope, now):
        return super().allowance(principal, verb, scope, now) or super().allowance(principal, "admin", scope, now)


class WriteMeansRead(Access):
    def allowance(self, principal, verb, scope, now):
        also = super().allowance(principal, "write", scope, now) if verb == "read" else None
        return super().allowance(principal, verb, scope, now) or also


class GrantsReachUp(Access):
    def allowance(self, principal, verb, scope, now):
        found = super().allowance(principal, verb, scope, now)
        below = [item for item in SCOPES if scope.contains(item)]
        return found or next(
            filter(None, (super(GrantsReachUp, self).allowance(principal, verb, s, now) for s in below)), None
        )


class TheOwnerIsNobody(Access):
    def __init__(self, rules, owner):
        super().__init__(rules, "user:nobody")


class TheOwnerReadsEverything(Access):
    def allowance(self, principal, verb, scope, now):
        return super().allowance(principal, "write" if principal == self.owner else verb, scope, now)


class OnlyTheFirstGrantCounts(Access):
    def __init__(self, rules, owner):
        firsts = {(g.grantee, g.verb): g for g in reversed(rules.grants)}
        super().__init__(replace(rules, grants=tuple(firsts.values())), owner)


MUTANTS = [
    PrefixesAreParents, ShallowIsDeep, DeepIsShallow, NothingExpires, ExpiresOneMomentLate, NoBarrier,
    BarrierStopsItsOwnGrants, NoGroups, EverybodyIsInEveryGroup, AdminMeansEverything, WriteMeansRead, GrantsReachUp,
    TheOwnerIsNobody, TheOwnerReadsEverything, OnlyTheFirstGrantCounts,
]  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_every_planted_mistake_is_noticed(mutant: type[Access]) -> None:
    wrong, _, _ = disagreements(lambda rules: mutant(rules, OWNER), 150, seed=11)
    assert wrong > 0


# --- what follows from the definition --------------------------------------------------------------------------------


def test_a_grant_more_takes_nothing_away_and_a_grant_less_gives_nothing() -> None:
    for world in worlds(150, seed=3):
        access = resolver(world.rules)
        fewer = resolver(replace(world.rules, grants=world.rules.grants[1:]))
        for check in world.checks:
            whole, less = access.allowance(*check, NOW), fewer.allowance(*check, NOW)
            assert whole is not None or less is None
            if whole is not None and less is not None:
                assert whole.max_trust >= less.max_trust


def test_listing_equals_checking() -> None:
    for world in worlds(150, seed=5):
        access = resolver(world.rules)
        for _, verb, scope in world.checks[:5]:
            listed = set(access.who_can(verb, scope, NOW))
            assert listed == {one for one in PRINCIPALS if access.allowance(one, verb, scope, NOW) is not None}
            for one in PRINCIPALS:
                readable = access.readable(one, scope, NOW)
                assert readable == tuple(s for s in scope.lineage if access.allowance(one, "read", s, NOW) is not None)


def test_why_says_what_checking_says_and_names_every_grant_that_comes_near() -> None:
    for world in worlds(150, seed=9):
        access = resolver(world.rules)
        for principal, verb, scope in world.checks[:5]:
            told = access.why(principal, verb, scope, NOW)
            found = access.allowance(principal, verb, scope, NOW)
            assert bool(told) == (found is not None)
            assert told.by == (found.by if found is not None else "no grant")
            if not told:
                own = [g for g in world.rules.grants if g.grantee == principal and g.scope == scope]
                assert all(any(f"grant {g.id}:" in line for line in told.lines) for g in own)


def test_the_ceiling_is_the_highest_of_the_grants_that_count() -> None:
    for world in worlds(300, seed=13):
        access = resolver(world.rules)
        for principal, verb, scope in world.checks:
            found = access.allowance(principal, verb, scope, NOW)
            if found is None or principal == OWNER:
                continue
            alone = [
                grant.max_trust
                for grant in world.rules.grants
                if allowed(replace(world.rules, grants=(grant,)), principal, verb, scope.path)
            ]
            assert found.max_trust == max(alone)


def test_nobody_gives_more_than_they_have() -> None:
    """Whatever a delegate may hand out, nobody holds afterwards what the delegate did not hold."""
    given = 0
    for number, world in enumerate(worlds(600, seed=17)):
        rng = random.Random(number)
        giver, held = rng.choice(PRINCIPALS[:3]), _grant(rng, 90)
        own = (replace(held, grantee=giver), replace(_grant(rng, 91), grantee=giver, verb="admin", scope=held.scope))
        rules = replace(world.rules, grants=(*world.rules.grants, *own))
        below = rng.choice([scope for scope in SCOPES if held.scope.contains(scope)])
        offer = replace(_grant(rng, 99), grantee="user:new", verb=held.verb, scope=below)
        before, after = resolver(rules), resolver(replace(rules, grants=(*rules.grants, offer)))
        if before.refusal(giver, offer, NOW) is not None:
            continue
        given += 1
        for scope in SCOPES:
            new, mine = (
                after.allowance("user:new", offer.verb, scope, NOW),
                before.allowance(giver, offer.verb, scope, NOW),
            )
            assert new is None or (mine is not None and mine.max_trust >= new.max_trust)
    assert given > 60


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "ann",
        "user:",
        ":ann",
        "user: ann",
        "user:a\nb",
        "group:g",
        "User:ann",
        "user:" + "a" * 200,
        "user:\x00",
        7,
        None,
    ],
)
def test_a_principal_is_named_properly_or_refused(name: object) -> None:
    from engram_core.domain.access import principal_named

    with pytest.raises(InvalidInput, match="A principal is a name"):
        principal_named(name)


def test_no_two_accepted_paths_are_one_scope() -> None:
    """Whatever string is accepted as a scope is kept letter by letter; what would have to be changed is refused."""
    rng = random.Random(2)
    letters = "aab0.-_@+:/aab0A \u0430\x00%"
    accepted = set()
    for _ in range(12_000):
        path = "".join(rng.choice(letters) for _ in range(rng.randint(1, 7)))
        try:
            assert Scope(path).path == path
        except InvalidScope:
            continue
        accepted.add(path)
    assert len(accepted) > 500
    assert not any(path != path.lower() or " " in path or "//" in path for path in accepted)
