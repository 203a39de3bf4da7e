"""Grants, groups and private scopes on SQLite or PostgreSQL. It keeps them; `floor.access` says what they mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, delete, insert

from engram_core.domain.access import AccessRules, Grant
from engram_core.domain.audit import AuditEntry
from engram_core.domain.scope import Scope
from engram_core.storage import schema as t
from engram_core.storage import writing
from engram_core.storage.audit_book import Doors, SqlAuditBook
from engram_core.storage.codec import epoch, moment, storable
from engram_core.storage.sealing import member_key, run

_NUMBER: Final = "SELECT number FROM heads WHERE name='access'"
_GRANTS: Final = (
    "SELECT id, grantee, verb, scope, deep, expires, max_trust, granted_by, granted_at, reason FROM grants ORDER BY id"
)


class SqlAccessBook:
    """The access rules of one database; see `engram_core.ports.AccessBook`."""

    def __init__(self, doors: Doors, audit: SqlAuditBook) -> None:
        self._doors = doors
        self._audit = audit

    def number(self) -> int:
        found = self._doors.read(_NUMBER, ())
        return int(found[0][0]) if found else 0

    def rules(self) -> AccessRules:
        while True:
            number = self.number()
            grants = tuple(_grant(row) for row in self._doors.read(_GRANTS, ()))
            members = _members(self._doors.read("SELECT group_name, principal FROM members", ()))
            private = frozenset(Scope(row[0]) for row in self._doors.read("SELECT path FROM private_scopes", ()))
            # Four reads are one state if nothing changed between the first and the last.
            if self.number() == number:
                return AccessRules(number, grants, members, private)

    def grant(self, grants: Sequence[Grant], audit: AuditEntry) -> list[Grant]:
        with self._doors.writing() as connection:
            _locked(connection)
            _moved(connection)
            ids = [
                int(connection.execute(insert(t.grants).returning(t.grants.c.id), _row(one)).scalar_one())
                for one in grants
            ]
            self._audit.note(connection, audit, {"grants": ids})
        return [_numbered(one, id_) for one, id_ in zip(grants, ids, strict=True)]

    def revoke(self, ids: Sequence[int], audit: AuditEntry) -> int:
        with self._doors.writing() as connection:
            _locked(connection)
            gone = connection.execute(delete(t.grants).where(t.grants.c.id.in_(list(ids)))).rowcount
            if gone:
                _moved(connection)
                self._audit.note(connection, audit, {"grants": list(ids)})
        return int(gone)

    def set_member(self, group: str, principal: str, is_member: bool, audit: AuditEntry) -> bool:
        row = {"group_name": storable(group), "principal": storable(principal)}
        with self._doors.writing() as connection:
            _locked(connection)
            known = run(connection, "SELECT 1 FROM members WHERE group_name=? AND principal=?", tuple(row.values()))
            if bool(known) == is_member:
                return False
            if is_member:
                connection.execute(insert(t.members), row)
            else:
                columns = t.members.c
                connection.execute(
                    delete(t.members).where(
                        columns.group_name == row["group_name"], columns.principal == row["principal"]
                    )
                )
            _moved(connection)
            self._audit.note(connection, audit, {"members": [member_key(*row.values())]})
        return True

    def set_private(self, scope: Scope, is_private: bool, audit: AuditEntry) -> bool:
        with self._doors.writing() as connection:
            _locked(connection)
            known = run(connection, "SELECT 1 FROM private_scopes WHERE path=?", (scope.path,))
            if bool(known) == is_private:
                return False
            if is_private:
                connection.execute(insert(t.private_scopes), {"path": scope.path})
            else:
                connection.execute(delete(t.private_scopes).where(t.private_scopes.c.path == scope.path))
            _moved(connection)
            self._audit.note(connection, audit, {"private_scopes": [scope.path]})
        return True


def _locked(connection: Connection) -> None:
    """Wait for other writers. All take the store's counter first: two locks in two orders would be a deadlock."""
    writing.next_seq(connection, 0)


def _moved(connection: Connection) -> None:
    """Tell every process, by its next read of the number, that the rules changed."""
    run(connection, "UPDATE heads SET number=number+1 WHERE name='access' RETURNING number", ())


def _row(grant: Grant) -> dict[str, Any]:
    return {
        "grantee": storable(grant.grantee),
        "verb": grant.verb,
        "scope": grant.scope.path,
        "deep": grant.deep,
        "expires": epoch(grant.expires),
        "max_trust": float(grant.max_trust),
        "granted_by": storable(grant.granted_by),
        "granted_at": epoch(grant.granted_at),
        "reason": storable(grant.reason) if grant.reason is not None else None,
    }


def _grant(row: Sequence[Any]) -> Grant:
    id_, grantee, verb, scope, deep, expires, max_trust, granted_by, granted_at, reason = row
    at = moment(granted_at)
    assert at is not None
    return Grant(grantee, verb, Scope(scope), granted_by, at, bool(deep), moment(expires), max_trust, reason, id_)


def _numbered(grant: Grant, id_: int) -> Grant:
    return Grant(
        grant.grantee, grant.verb, grant.scope, grant.granted_by, grant.granted_at, grant.deep, grant.expires,
        float(grant.max_trust), grant.reason, id_,
    )  # fmt: skip


def _members(rows: Iterable[Sequence[Any]]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for group, principal in rows:
        found.setdefault(group, set()).add(principal)
    return {group: frozenset(principals) for group, principals in found.items()}
