"""Rows of large scopes that recalls read lately, caught up from the outbox. A cache; the ledger is the truth."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from engram_core.ports import Indexed, Ledger, ScopeState

MAX_ROWS = 40_000
"""About 80 MB at 256 dimensions, all scopes together."""
_MAX_CHANGES = 500


class _Scope:
    __slots__ = ("rows", "seq")

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.rows: dict[str, Indexed] = {}


class Rows:
    """Recently read rows by scope, least recently used scope first out. Thread-safe.

    Args:
        ledger: Where the rows are.
        max_rows: Rows held at most.
    """

    def __init__(self, ledger: Ledger, *, max_rows: int = MAX_ROWS) -> None:
        self._ledger = ledger
        self._max_rows = max_rows
        self._scopes: OrderedDict[int, _Scope] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, state: ScopeState, ids: Sequence[str]) -> list[Indexed]:
        """Rows by fact id as of `state.seq` or later, any order; unknown ids are left out."""
        held = self._current(state)
        found = [row for id_ in ids if (row := held.rows.get(id_)) is not None]
        if len(found) == len(ids):
            return found
        # By what was found, not by what is held now: other threads add to it meanwhile.
        known = {row.id for row in found}
        missing = [id_ for id_ in ids if id_ not in known]
        read = self._ledger.indexed(missing)
        with self._lock:
            # A row newer than the scope's number is right now and is dropped with the next catch-up.
            held.rows.update((row.id, row) for row in read)
            self._shrink(held)
        return found + read

    def _current(self, state: ScopeState) -> _Scope:
        with self._lock:
            held = self._scopes.get(state.id)
            if held is not None and held.seq >= state.seq:
                self._scopes.move_to_end(state.id)
                return held
        changed = [] if held is None else self._ledger.changes(state.id, held.seq, _MAX_CHANGES, vectors=False)
        fresh = _Scope(state.seq)
        if held is not None and len(changed) < _MAX_CHANGES:
            with self._lock:
                fresh.rows = held.rows.copy()
            for row in changed:
                fresh.rows.pop(row.id, None)
        with self._lock:
            self._scopes[state.id] = fresh
            self._scopes.move_to_end(state.id)
        return fresh

    def _shrink(self, current: _Scope) -> None:
        total = sum(len(scope.rows) for scope in self._scopes.values())
        while total > self._max_rows and len(self._scopes) > 1:
            total -= len(self._scopes.popitem(last=False)[1].rows)
        if len(current.rows) > self._max_rows:
            # Oldest read first; a quarter at a time, so that this does not happen at every recall.
            for id_ in list(current.rows)[: self._max_rows // 4]:
                del current.rows[id_]
