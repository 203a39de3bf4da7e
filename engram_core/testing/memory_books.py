"""The books of access and audit in plain lists, under the same contracts as the real ones. Nothing outlives them."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from engram_core.domain.access import AccessRules, Grant
from engram_core.domain.audit import GENESIS, AuditEntry, AuditHead, AuditProblem, AuditRow, Verification
from engram_core.domain.scope import Scope
from engram_core.floor import chain


class MemoryAuditBook:
    """See `engram_core.ports.AuditBook`. It chains its entries; the ledger's rows are objects that nobody can edit."""

    def __init__(self, lock: threading.RLock | None = None) -> None:
        self._lock = lock or threading.RLock()
        self._key = secrets.token_bytes(32)
        self._rows: list[AuditRow] = []

    def append(self, entries: Sequence[AuditEntry]) -> AuditHead:
        with self._lock:
            for entry in entries:
                number, previous = self.head().number + 1, self.head().hash
                hashed = chain.link(self._key, previous, chain.entry_values(number, chain.plain(entry, {})))
                self._rows.append(AuditRow(number, entry, {}, previous, hashed))
            return self.head()

    def head(self) -> AuditHead:
        with self._lock:
            return AuditHead(self._rows[-1].number, self._rows[-1].hash) if self._rows else AuditHead(0, GENESIS)

    def entries(
        self,
        *,
        scope: Scope | None = None,
        principal: str | None = None,
        verb: str | None = None,
        decision: str | None = None,
        since: datetime | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditRow]:
        def fits(row: AuditRow) -> bool:
            entry = row.entry
            return (
                (scope is None or (entry.scope is not None and scope.contains(entry.scope)))
                and principal in (None, entry.principal)
                and verb in (None, entry.verb)
                and decision in (None, entry.decision)
                and (since is None or entry.at >= since)
                and (before is None or row.number < before)
            )

        with self._lock:
            return [row for row in reversed(self._rows) if fits(row)][:limit]

    def verify(
        self, expect: AuditHead | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Verification:
        problems = []
        with self._lock:
            last = AuditHead(0, GENESIS)
            heads = {last}
            for row in self._rows:
                values = chain.entry_values(row.number, chain.plain(row.entry, row.sealed))
                if chain.link(self._key, last.hash, values) != row.hash or row.number != last.number + 1:
                    problems.append(AuditProblem("entry", f"Entry {row.number} was changed.", "audit", str(row.number)))
                last = AuditHead(row.number, row.hash)
                heads.add(last)
            if progress is not None and self._rows:
                progress(len(self._rows), len(self._rows))
        if expect is not None and expect not in heads:
            line = f"Entry {expect.number} with the expected hash is not in the chain: it was cut or rewritten."
            problems.append(AuditProblem("expected_head", line))
        return Verification(last, last.number, {}, tuple(problems[:100]), len(problems))


class MemoryAccessBook:
    """See `engram_core.ports.AccessBook`."""

    def __init__(self, audit: MemoryAuditBook, lock: threading.RLock | None = None) -> None:
        self._lock = lock or threading.RLock()
        self._audit = audit
        self._rules = AccessRules()
        self._given = 0

    def number(self) -> int:
        return self._rules.number

    def rules(self) -> AccessRules:
        return self._rules

    def grant(self, grants: Sequence[Grant], audit: AuditEntry) -> list[Grant]:
        with self._lock:
            stored = [replace(grant, id=self._given + place) for place, grant in enumerate(grants, 1)]
            self._given += len(stored)
            self._change(replace(self._rules, grants=(*self._rules.grants, *stored)), audit)
        return stored

    def revoke(self, ids: Sequence[int], audit: AuditEntry) -> int:
        with self._lock:
            left = tuple(grant for grant in self._rules.grants if grant.id not in ids)
            gone = len(self._rules.grants) - len(left)
            if gone:
                self._change(replace(self._rules, grants=left), audit)
        return gone

    def set_member(self, group: str, principal: str, is_member: bool, audit: AuditEntry) -> bool:
        with self._lock:
            known = self._rules.members.get(group, frozenset())
            if (principal in known) == is_member:
                return False
            after = known | {principal} if is_member else known - {principal}
            members = {name: who for name, who in {**self._rules.members, group: after}.items() if who}
            self._change(replace(self._rules, members=members), audit)
        return True

    def set_private(self, scope: Scope, is_private: bool, audit: AuditEntry) -> bool:
        with self._lock:
            known = self._rules.private
            if (scope in known) == is_private:
                return False
            self._change(replace(self._rules, private=known | {scope} if is_private else known - {scope}), audit)
        return True

    def _change(self, rules: AccessRules, audit: AuditEntry) -> None:
        self._rules = replace(rules, number=self._rules.number + 1)
        self._audit.append([audit])
