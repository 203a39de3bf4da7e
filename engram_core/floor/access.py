"""Access: which scopes a principal may read from where it stands. Pure; the one place that decides it."""

from __future__ import annotations

from engram_core.domain.scope import Scope


def readable(scope: Scope, principal: str, owner: str) -> tuple[Scope, ...]:
    """The scopes a recall made in `scope` looks into, nearest first.

    The store's owner reads the scope and its ancestors. Any other principal reads the scope its handle was bound to by
    the program, and nothing else: reading further up needs a grant, and grants arrive with sharing.
    """
    return scope.lineage if principal == owner else (scope,)
