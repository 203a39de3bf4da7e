"""The diary in plain dictionaries, under the same contract as the real ones. A part of `MemoryLedger`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from engram_core.domain.gap import Gap, GapState
from engram_core.domain.message import Episode
from engram_core.domain.scope import Scope
from engram_core.ports import Asked, Reflected


class MemoryDiary:
    """The Diary port over dictionaries; see `engram_core.ports.Diary`.

    Args:
        lock: The ledger's.
        episodes, asked: A scope's episodes and recalls, oldest first.
    """

    def __init__(
        self,
        lock: threading.RLock,
        episodes: Callable[[Scope], list[tuple[int, Episode]]],
        asked: Callable[[Scope], list[Asked]],
    ) -> None:
        self._lock = lock
        self._episodes = episodes
        self._asked = asked
        self._gaps: dict[str, Gap] = {}
        self._reflected: dict[Scope, Reflected] = {}

    def episodes(self, scope: Scope, after: int, limit: int) -> list[tuple[int, Episode]]:
        with self._lock:
            return [pair for pair in self._episodes(scope) if pair[0] > after][:limit]

    def asked(self, scope: Scope, since: datetime | None, limit: int) -> list[Asked]:
        with self._lock:
            return [item for item in self._asked(scope) if since is None or item.recall.at >= since][:limit]

    def reflected(self, scope: Scope) -> Reflected:
        with self._lock:
            return self._reflected.get(scope, Reflected())

    def save_reflection(self, scope: Scope, gaps: Sequence[Gap], until: Reflected) -> None:
        with self._lock:
            self._gaps |= {gap.id: gap for gap in gaps}
            self._reflected[scope] = until

    def gaps(
        self, scope: Scope | None, *, below: bool, states: Sequence[GapState] = (), limit: int = 1_000
    ) -> list[Gap]:
        with self._lock:
            found = [gap for gap in self._gaps.values() if _is_inside(gap.scope, scope, below=below)]
        wanted = [gap for gap in found if not states or gap.state in states]
        return sorted(wanted, key=lambda gap: (-gap.updated_at.timestamp(), gap.id))[:limit]

    def gap(self, gap_id: str) -> Gap | None:
        with self._lock:
            return self._gaps.get(gap_id)


def _is_inside(one: Scope, scope: Scope | None, *, below: bool) -> bool:
    return scope is None or one == scope or (below and scope.contains(one))
