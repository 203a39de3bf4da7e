"""The contract of the books of access and audit: what any ledger must hold of grants, groups, barriers and the chain.

`LedgerContract` includes these clauses. Needs pytest.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from engram_core.domain.access import Grant
from engram_core.domain.audit import GENESIS, AuditEntry, AuditHead
from engram_core.domain.errors import EngramError
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.scope import Scope
from engram_core.ports import Batch, ForgetScore, Ledger
from engram_core.testing import samples
from engram_core.testing.ledger_commits import ALICE, LedgerFixtures

_AT = samples.START


def entry(operation: str = "recall", **fields: object) -> AuditEntry:
    """An audit entry of Ann's."""
    told = AuditEntry(_AT, "user:ann", "read", operation, ALICE, by="grant 1")
    return replace(told, **fields)  # type: ignore[arg-type]


def grant(grantee: str = "user:ann", **fields: object) -> Grant:
    """A grant to read, not yet stored."""
    return replace(Grant(grantee, "read", ALICE, "user:owner", _AT), **fields)  # type: ignore[arg-type]


class AccessClauses(LedgerFixtures):
    """Grants, groups and barriers are kept, seen by everybody at once, and noted."""

    def test_grants_come_back_as_given(self, ledger: Ledger, another: Ledger) -> None:
        before = ledger.access.number()
        wanted = [
            grant(),
            grant("group:support", verb="write", deep=False, expires=_AT + timedelta(days=1), max_trust=0.25),
            grant("agent:x", scope=Scope("acme"), verb="admin", reason="on call, \U0001f642"),
        ]
        stored = ledger.access.grant(wanted, entry("grant", verb="admin"))
        assert [replace(one, id=0) for one in stored] == wanted
        assert len({one.id for one in stored}) == 3
        assert another.access.number() > before
        assert list(another.access.rules().grants) == stored
        assert another.access.rules().number == another.access.number()

    def test_a_grant_that_is_revoked_is_gone_for_everybody(self, ledger: Ledger, another: Ledger) -> None:
        one, two = ledger.access.grant([grant(), grant("user:bob")], entry("grant"))
        number = ledger.access.number()
        assert another.access.revoke([one.id], entry("revoke")) == 1
        assert ledger.access.number() > number
        assert ledger.access.rules().grants == (two,)
        number, head = ledger.access.number(), ledger.audit.head()
        assert ledger.access.revoke([one.id], entry("revoke")) == 0
        assert (ledger.access.number(), ledger.audit.head()) == (number, head), "nothing changed, nothing is noted"

    def test_a_group_has_its_members(self, ledger: Ledger, another: Ledger) -> None:
        assert ledger.access.set_member("group:a", "user:ann", True, entry("group_add"))
        assert ledger.access.set_member("group:a", "user:bob", True, entry("group_add"))
        assert another.access.rules().members == {"group:a": {"user:ann", "user:bob"}}
        number = another.access.number()
        assert not another.access.set_member("group:a", "user:ann", True, entry("group_add"))
        assert not another.access.set_member("group:b", "user:ann", False, entry("group_remove"))
        assert another.access.number() == number
        assert another.access.set_member("group:a", "user:bob", False, entry("group_remove"))
        assert ledger.access.rules().members == {"group:a": {"user:ann"}}

    def test_a_scope_is_private_until_it_is_not(self, ledger: Ledger, another: Ledger) -> None:
        assert ledger.access.set_private(ALICE, True, entry("set_private"))
        assert not another.access.set_private(ALICE, True, entry("set_private"))
        assert another.access.rules().private == {ALICE}
        assert another.access.set_private(ALICE, False, entry("set_private"))
        assert ledger.access.rules().private == frozenset()

    def test_every_change_of_access_is_noted(self, ledger: Ledger) -> None:
        (one,) = ledger.access.grant([grant()], entry("grant"))
        ledger.access.set_member("group:a", "user:ann", True, entry("group_add"))
        ledger.access.set_private(ALICE, True, entry("set_private"))
        ledger.access.revoke([one.id], entry("revoke"))
        noted = [row.entry.operation for row in ledger.audit.entries(limit=4)]
        assert noted == ["revoke", "set_private", "group_add", "grant"]
        assert ledger.audit.verify().ok

    def test_rules_read_beside_a_writer_are_of_one_number(self, ledger: Ledger, another: Ledger) -> None:
        def write(place: int) -> None:
            ledger.access.grant([grant(f"user:u{place}"), grant(f"user:u{place}", verb="write")], entry("grant"))

        with ThreadPoolExecutor(2) as pool:
            done = [pool.submit(write, place) for place in range(12)]
            for _ in range(20):
                assert len(another.access.rules().grants) % 2 == 0
        assert all(item.exception() is None for item in done)


class AuditClauses(LedgerFixtures):
    """The chain holds whatever was noted, in one order, and checking it finds what is missing."""

    def test_entries_come_back_newest_first(self, ledger: Ledger, another: Ledger) -> None:
        start = ledger.audit.head()
        wanted = [
            entry(fact_ids=(samples.new_id(), samples.new_id())),
            entry("add", verb="write", decision="denied", by="no grant", scope=None),
            entry("list", principal="agent:\U0001f642"),
        ]
        head = ledger.audit.append(wanted)
        rows = another.audit.entries(limit=3)
        assert [row.entry for row in rows] == wanted[::-1]
        assert [row.number for row in rows] == [start.number + 3, start.number + 2, start.number + 1]
        assert (rows[0].number, rows[0].hash) == head == another.audit.head()
        assert [row.previous for row in rows] == [rows[1].hash, rows[2].hash, start.hash]

    def test_entries_are_found_by_what_they_say(self, ledger: Ledger) -> None:
        sibling, below = Scope(f"{ALICE.path}-2"), Scope(f"{ALICE.path}/deep")
        ledger.audit.append(
            [
                entry("one"),
                entry("two", scope=below, principal="user:bob", at=_AT + timedelta(hours=1)),
                entry("three", scope=sibling, verb="write", decision="denied"),
            ]
        )

        def found(**by: object) -> list[str]:
            told = ledger.audit.entries(**by)  # type: ignore[arg-type]
            return [row.entry.operation for row in told if row.entry.operation in {"one", "two", "three"}]

        assert found() == ["three", "two", "one"]
        assert found(scope=ALICE) == ["two", "one"]
        assert found(principal="user:bob") == ["two"]
        assert found(verb="write") == found(decision="denied") == ["three"]
        assert found(since=_AT + timedelta(minutes=1)) == ["two"]
        last = ledger.audit.head().number
        assert found(before=last) == ["two", "one"]
        assert found(limit=1) == ["three"]

    def test_an_empty_chain_is_whole(self, ledger: Ledger) -> None:
        assert ledger.audit.append([]) == ledger.audit.head()
        assert ledger.audit.verify().ok
        if ledger.audit.head().number == 0:
            assert ledger.audit.head().hash == GENESIS

    def test_a_commit_notes_itself(self, ledger: Ledger) -> None:
        head = ledger.audit.head()
        fact = samples.fact(ALICE, "noted")
        noted = entry("add", verb="write", fact_ids=(fact.id,))
        ledger.commit(replace(samples.batch(fact), audit=noted))
        (row,) = ledger.audit.entries(limit=1)
        assert (row.entry, row.number) == (noted, head.number + 1)
        silent = samples.fact(ALICE, "without an entry of its own")
        ledger.commit(samples.batch(silent))
        (row,) = ledger.audit.entries(limit=1)
        assert row.entry.fact_ids == (silent.id,)
        ledger.set_policy(ALICE, MemoryPolicy.preset("default"), "user:ann", _AT)
        (row,) = ledger.audit.entries(limit=1)
        assert (row.entry.operation, row.entry.principal) == ("set_policy", "user:ann")
        assert ledger.audit.verify().ok

    def test_a_commit_that_fails_notes_nothing(self, ledger: Ledger) -> None:
        (known,) = samples.add(ledger, ALICE, ["known"])
        head = ledger.audit.head()
        for batch in (Batch(ALICE, expect=-1, audit=entry()), samples.batch(known)):
            with pytest.raises(EngramError):
                ledger.commit(batch)
        assert ledger.audit.head() == head

    def test_what_a_ledger_keeps_by_itself_stays_whole(self, ledger: Ledger) -> None:
        facts = samples.add(ledger, ALICE, ["one", "two", "three"])
        ledger.save_scores([ForgetScore(fact.id, 0.5, {"decayed": 0.5}) for fact in facts])
        ledger.set_setting("owner", "user:ann")
        found = ledger.audit.verify()
        assert found.ok, found.problems

    def test_writers_at_once_make_one_chain(self, ledger: Ledger, another: Ledger) -> None:
        start = ledger.audit.head().number

        def write(place: int) -> None:
            book = (ledger, another)[place % 2]
            if place % 3:
                book.audit.append([entry(f"read {place}"), entry(f"again {place}")])
            else:
                samples.add(book, Scope(f"s{place}"), ["a"])

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(write, range(24)))
        assert ledger.audit.head().number == start + 16 * 2 + 8
        found = another.audit.verify()
        assert found.ok, found.problems
        rows = ledger.audit.entries(limit=1_000)[::-1]
        assert [row.number for row in rows[-40:]] == list(range(start + 1, start + 41))
        assert all(later.previous == earlier.hash for earlier, later in pairwise(rows))

    def test_a_head_noted_elsewhere_is_found_again(self, ledger: Ledger) -> None:
        noted = ledger.audit.append([entry("one")])
        ledger.audit.append([entry("two")])
        assert ledger.audit.verify(noted).ok
        for wrong in (AuditHead(noted.number, "f" * 64), AuditHead(noted.number + 9, noted.hash)):
            found = ledger.audit.verify(wrong)
            assert not found.ok
            assert [problem.kind for problem in found.problems] == ["expected_head"]

    def test_checking_tells_how_far_it_is(self, ledger: Ledger) -> None:
        ledger.audit.append([entry()])
        steps: list[tuple[int, int]] = []
        ledger.audit.verify(progress=lambda done, total: steps.append((done, total)))
        assert steps
        assert steps[-1][0] == steps[-1][1]
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
