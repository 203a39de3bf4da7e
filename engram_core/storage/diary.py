"""The diary: what happened in a scope in order, and its gaps, on SQLite or PostgreSQL. It keeps; it judges nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, or_, select

from engram_core.domain.gap import Gap, GapState, Lapse
from engram_core.domain.message import Episode
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.ports import Asked, Reflected, UsageRow
from engram_core.storage import schema as t
from engram_core.storage import writing
from engram_core.storage.codec import dumps, epoch, moment, storable
from engram_core.storage.records import episode_of, recall_of, usage_of

_CHUNK = 500

Connecting = Callable[[], AbstractContextManager[Connection]]


class SqlDiary:
    """The diary of one database; see `engram_core.ports.Diary`.

    Args:
        reading: Opens a connection to read with.
        writing: Opens a transaction that is on disk when it ends.
    """

    def __init__(self, reading: Connecting, writing: Connecting) -> None:
        self._reading = reading
        self._writing = writing

    def episodes(self, scope: Scope, after: int, limit: int) -> list[tuple[int, Episode]]:
        query = (
            select(t.episodes, t.scopes.c.path)
            .join(t.scopes)
            .where(t.scopes.c.path == scope.path, t.episodes.c.seq > after)
            .order_by(t.episodes.c.seq)
            .limit(limit)
        )
        with self._reading() as connection:
            return [(row["seq"], episode_of(row, ())) for row in connection.execute(query).mappings()]

    def asked(self, scope: Scope, since: datetime | None, limit: int) -> list[Asked]:
        query = select(t.recalls, t.scopes.c.path).join(t.scopes).where(t.scopes.c.path == scope.path)
        if since is not None:
            query = query.where(t.recalls.c.at >= epoch(since))
        query = query.order_by(t.recalls.c.at, t.recalls.c.id).limit(limit)
        with self._reading() as connection:
            found = [recall_of(row) for row in connection.execute(query).mappings()]
            verdicts = self._verdicts(connection, [row.id for row in found])
        return [Asked(row, verdicts.get(row.id)) for row in found]

    def _verdicts(self, connection: Connection, ids: Sequence[str]) -> dict[str, UsageRow]:
        """The last verdict on each recall that has one."""
        found: dict[str, UsageRow] = {}
        for start in range(0, len(ids), _CHUNK):
            query = select(t.usage, t.scopes.c.path).join(t.scopes)
            query = query.where(t.usage.c.recall_id.in_(ids[start : start + _CHUNK])).order_by(t.usage.c.id)
            found |= {row["recall_id"]: usage_of(row) for row in connection.execute(query).mappings()}
        return found

    def reflected(self, scope: Scope) -> Reflected:
        query = select(t.reflections.c.episode, t.reflections.c.until).join(t.scopes)
        with self._reading() as connection:
            row = connection.execute(query.where(t.scopes.c.path == scope.path)).first()
        return Reflected(row[0], moment(row[1])) if row is not None else Reflected()

    def save_reflection(self, scope: Scope, gaps: Sequence[Gap], until: Reflected) -> None:
        with self._writing() as connection:
            scope_id = writing.scope_id(connection, scope)
            connection.execute(delete(t.gaps).where(t.gaps.c.id.in_([gap.id for gap in gaps])))
            if gaps:
                connection.execute(insert(t.gaps), [_row(gap, scope_id) for gap in gaps])
            connection.execute(delete(t.reflections).where(t.reflections.c.scope_id == scope_id))
            values = {"scope_id": scope_id, "episode": until.episode, "until": epoch(until.until)}
            connection.execute(insert(t.reflections), values)

    def gaps(
        self, scope: Scope | None, *, below: bool, states: Sequence[GapState] = (), limit: int = 1_000
    ) -> list[Gap]:
        query = _gaps().order_by(t.gaps.c.updated_at.desc(), t.gaps.c.id).limit(limit)
        if scope is not None:
            path = t.scopes.c.path
            # No LIKE: `_` and `%` may stand in a path.
            inside = [func.substr(path, 1, len(scope.path) + 1) == f"{scope.path}/"] if below else []
            query = query.where(or_(path == scope.path, *inside))
        if states:
            query = query.where(t.gaps.c.state.in_(states))
        return self._found(query)

    def gap(self, gap_id: str) -> Gap | None:
        found = self._found(_gaps().where(t.gaps.c.id == storable(gap_id)))
        return found[0] if found else None

    def _found(self, query: Select[Any]) -> list[Gap]:
        with self._reading() as connection:
            return [_gap(row) for row in connection.execute(query).mappings()]


def _gaps() -> Select[Any]:
    return select(t.gaps, t.scopes.c.path).join(t.scopes)


def _row(gap: Gap, scope_id: int) -> dict[str, Any]:
    return {
        "id": gap.id,
        "scope_id": scope_id,
        "state": gap.state,
        "question": storable(gap.question),
        "lapses": dumps([asdict(lapse) | {"at": epoch(lapse.at)} for lapse in gap.lapses]),
        "fact_id": gap.fact_id,
        "evidence": dumps(list(gap.evidence)),
        "rule": gap.reason.rule,
        "line": storable(gap.reason.line),
        "terms": dumps(dict(gap.reason.terms)),
        "updated_at": epoch(gap.updated_at),
    }


def _gap(row: Mapping[Any, Any]) -> Gap:
    updated_at = moment(row["updated_at"])
    assert updated_at is not None
    return Gap(
        id=row["id"],
        scope=Scope(row["path"]),
        question=row["question"],
        lapses=tuple(_lapses(json.loads(row["lapses"]))),
        state=row["state"],
        reason=Reason(row["rule"], row["line"], json.loads(row["terms"])),
        updated_at=updated_at,
        fact_id=row["fact_id"],
        evidence=tuple(json.loads(row["evidence"])),
    )


def _lapses(told: Sequence[dict[str, Any]]) -> Iterator[Lapse]:
    for item in told:
        yield Lapse(**{**item, "at": moment(item["at"])})
