"""Facts as columns: stored rows turned into the arrays that ranking reads. Pure conversion."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engram_core.ports import Indexed

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows of one or more scopes, column by column; row i of everything belongs to `ids[i]`.

    `session` holds a code per session (-1 for none) and is meaningful within one Columns only; `previous` and
    `following` hold the neighbour's row, -1 if it is not here. Vectors are (n, d), zero for facts without one.
    """

    ids: list[str]
    speakers: list[str | None]
    kinds: list[str]
    sessions: dict[str, int]
    content: Floats
    context: Floats
    said_at: NDArray[np.float64]
    body_length: Floats
    context_length: Floats
    time_words: Floats
    asks: Floats
    importance: Floats
    session: Ints
    previous: Ints
    following: Ints

    def __len__(self) -> int:
        return len(self.ids)

    def with_rows(self, position: int, row: Indexed, places: dict[str, int]) -> None:
        """Overwrite one row in place; only for arrays nobody else holds."""
        one = columns_of([row], self.content.shape[1], sessions=self.sessions, places=places)
        self.speakers[position] = row.speaker
        self.kinds[position] = row.kind
        for name in _ARRAYS:
            getattr(self, name)[position] = getattr(one, name)[0]

    def extended(self, rows: Sequence[Indexed], places: dict[str, int]) -> Columns:
        """A copy with more rows at the end; nothing is shared with the original."""
        sessions = dict(self.sessions)
        more = columns_of(rows, self.content.shape[1], sessions=sessions, places=places)
        arrays = {name: np.concatenate([getattr(self, name), getattr(more, name)]) for name in _ARRAYS}
        return Columns(
            ids=self.ids + more.ids,
            speakers=self.speakers + more.speakers,
            kinds=self.kinds + more.kinds,
            sessions=sessions,
            **arrays,
        )


_ARRAYS = tuple(item.name for item in fields(Columns) if item.name not in {"ids", "speakers", "kinds", "sessions"})


def columns_of(
    rows: Sequence[Indexed],
    dimension: int,
    *,
    sessions: dict[str, int] | None = None,
    places: dict[str, int] | None = None,
) -> Columns:
    """Columns of stored rows.

    Args:
        rows: n rows of one scope.
        dimension: Of the vectors.
        sessions: Session codes to continue; new sessions are added to it.
        places: Row numbers by fact id for the links; default: the rows' own order.
    """
    sessions = {} if sessions is None else sessions
    places = {row.id: place for place, row in enumerate(rows)} if places is None else places

    # One transposition instead of a loop per column: this runs at every recall of a large scope.
    by_name: dict[str, Sequence[Any]] = dict(zip(Indexed._fields, zip(*rows, strict=True), strict=True)) if rows else {}

    def column(name: str) -> Sequence[Any]:
        return by_name.get(name, ())

    def floats(name: str) -> Floats:
        return np.array(column(name), dtype=np.float32)

    def links(name: str) -> Ints:
        return np.array([places.get(id_, -1) for id_ in column(name)], dtype=np.int64)

    codes = [-1 if name is None else sessions.setdefault(name, len(sessions)) for name in column("session")]
    return Columns(
        ids=list(column("id")),
        speakers=list(column("speaker")),
        kinds=list(column("kind")),
        sessions=sessions,
        content=vectors(column("content"), dimension),
        context=vectors(column("context"), dimension),
        said_at=np.array(column("said_at"), dtype=np.float64),
        body_length=floats("body_length"),
        context_length=floats("context_length"),
        time_words=floats("time_words"),
        asks=floats("asks"),
        importance=floats("importance"),
        session=np.array(codes, dtype=np.int64),
        previous=links("previous"),
        following=links("following"),
    )


NO_MEMBERS: Final = "[]"


def members_of(row: Indexed) -> tuple[str, ...]:
    """The originals that are ranked and rendered in a row's place; empty for a fact that stands for itself."""
    return () if row.members == NO_MEMBERS else tuple(json.loads(row.members))


def standing(rows: Sequence[Indexed], recallable: Collection[str]) -> list[Indexed]:
    """The rows that are ranked: recallable ones, with merged facts replaced by those of their originals that are here.

    A merged fact none of whose originals is here stays itself.
    """
    alive = [row for row in rows if row.status in recallable]
    if all(row.members == NO_MEMBERS for row in alive):
        return alive
    here = {row.id: row for row in rows if row.status not in ("erased", "quarantined")}
    found: dict[str, Indexed] = {}
    for row in alive:
        held = [here[id_] for id_ in members_of(row) if id_ in here]
        found |= {one.id: one for one in held or [row]}
    return list(found.values())


def united(parts: Sequence[Columns]) -> Columns:
    """Several scopes' columns as one; sessions of different scopes stay apart."""
    if len(parts) == 1:
        return parts[0]
    offset, codes, shifted = 0, 0, []
    for part in parts:
        shifted.append(
            replace(
                part,
                session=np.where(part.session >= 0, part.session + codes, -1),
                previous=np.where(part.previous >= 0, part.previous + offset, -1),
                following=np.where(part.following >= 0, part.following + offset, -1),
            )
        )
        offset += len(part)
        codes += len(part.sessions)
    arrays = {name: np.concatenate([getattr(part, name) for part in shifted]) for name in _ARRAYS}
    return Columns(
        ids=[id_ for part in shifted for id_ in part.ids],
        speakers=[name for part in shifted for name in part.speakers],
        kinds=[kind for part in shifted for kind in part.kinds],
        sessions={},
        **arrays,
    )


def vectors(blobs: Sequence[bytes | None], dimension: int) -> Floats:
    """Stored float16 blobs as one float32 matrix (n, dimension); a missing blob is a zero row."""
    empty = bytes(2 * dimension)
    joined = b"".join([empty if blob is None else blob for blob in blobs])
    return np.frombuffer(joined, dtype="<f2").astype(np.float32).reshape(len(blobs), dimension)
