"""Facts as columns: stored rows turned into the arrays that ranking reads. Pure conversion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

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


_ARRAYS = tuple(
    item.name for item in fields(Columns) if item.name not in {"ids", "speakers", "kinds", "sessions"}
)


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

    def column(index: int) -> Floats:
        return np.array([row[index] for row in rows], dtype=np.float32)

    return Columns(
        ids=[row.id for row in rows],
        speakers=[row.speaker for row in rows],
        kinds=[row.kind for row in rows],
        sessions=sessions,
        content=vectors([row.content for row in rows], dimension),
        context=vectors([row.context for row in rows], dimension),
        said_at=np.array([row.said_at for row in rows], dtype=np.float64),
        body_length=column(_AT["body_length"]),
        context_length=column(_AT["context_length"]),
        time_words=column(_AT["time_words"]),
        asks=column(_AT["asks"]),
        importance=column(_AT["importance"]),
        session=np.array(
            [-1 if row.session is None else sessions.setdefault(row.session, len(sessions)) for row in rows],
            dtype=np.int64,
        ),
        previous=np.array([places.get(row.previous or "", -1) for row in rows], dtype=np.int64),
        following=np.array([places.get(row.following or "", -1) for row in rows], dtype=np.int64),
    )


_AT = {name: place for place, name in enumerate(Indexed._fields)}


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
