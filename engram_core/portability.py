"""Portability: the verbs of `Engram` and `Memory` that export and import. They validate and delegate."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from engram_core.domain.audit import AuditEntry
from engram_core.domain.errors import InvalidInput
from engram_core.domain.message import aware
from engram_core.domain.scope import Scope
from engram_core.operations import export as exporting
from engram_core.operations import importers, importing, warden
from engram_core.operations.context import Context

TransferProgress = Callable[[str, int, int], None]


class StorePortability:
    """What a whole store can be asked; see `Engram`."""

    @property
    def context(self) -> Context:
        """The store's ports. Raises StoreClosed."""
        raise NotImplementedError

    @property
    def owner(self) -> str:
        """The store's owner."""
        raise NotImplementedError

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        scope: Scope | str | None = None,
        subject: str | None = None,
        below: bool = True,
        principal: str | None = None,
        now: datetime | None = None,
        progress: TransferProgress | None = None,
    ) -> exporting.Exported:
        """Write everything about a scope or a subject into a file, with lineage, history, and whom it was told.

        Args:
            path: A file for JSON Lines, which `import_` reads; with the ending `.html`, a page for people.
            scope: A path; None for the whole store.
            subject: Only what is about this person or thing, as for `erase`.
            below: Also everything below the scope.
            principal: Who acts; default the owner.
            now: The time of the call, for replays.
            progress: Called with (what is being done, scopes done, scopes in all).

        Raises:
            InvalidScope, InvalidInput: An argument is malformed, or the file cannot be written.
            AccessDenied: The principal may not read a scope; or, for more than one subject, not administer it.
        """
        context = self.context
        where = Scope.coerce(scope) if scope is not None else None
        known = [state.scope for state in context.ledger.scopes()]
        scopes = tuple(one for one in known if where is None or one == where or (below and where.contains(one)))
        at, who = moment_of(now, context), principal or self.owner
        for one in scopes:
            allowed = warden.require(context, who, "read", one, at, "export")
            if subject is None:
                allowed = warden.require(context, who, "admin", one, at, "export")
            context.audit.note(AuditEntry(at, who, "read", "export", one, by=allowed.by))
        return exporting.export(context, Path(path), scopes, at, scope=where, subject=subject, progress=progress)

    def import_(
        self,
        path: str | os.PathLike[str],
        *,
        source: str = "engram",
        scope: Scope | str | None = None,
        trusted: bool = False,
        principal: str | None = None,
        dry_run: bool = False,
        now: datetime | None = None,
        progress: TransferProgress | None = None,
    ) -> importing.Imported:
        """Take in an export, or a dump of another memory. The file is checked whole before anything is stored.

        Facts keep their ids and times. One that is here already stays as it is; what was erased stays out. Stopped
        halfway, the same call does the rest.

        Args:
            path: The file.
            source: `engram` for an export of our own; `mem0`, or `langmem` for items of a LangGraph store.
            scope: Where it may reach: everything in the file must be in this scope or below it. For other sources:
                below which scope their users and namespaces go; required.
            trusted: Take it as it is: trust, pins, principals, history, recalls and policies too. Without this, a file
                is hearsay: its facts come by the channel `import`, with at most its trust, and begin a new history.
            principal: Who acts; default the owner.
            dry_run: Check everything, count, and store nothing.
            now: The time of the call, for replays.
            progress: Called with (what is being done, steps done, steps in all).

        Raises:
            InvalidExport: The file breaks its format; the message names the line. Nothing was stored.
            InvalidScope, InvalidInput: An argument is malformed, or the file cannot be read.
            AccessDenied: The principal may not write to a scope of the file.
            StoreUnavailable: The ledger is out of order.
        """
        context = self.context
        file, at = Path(path), moment_of(now, context)
        where = Scope.coerce(scope) if scope is not None else None
        who = principal or self.owner
        try:
            if source == "engram":
                found = importing.load(file, where)
            else:
                if where is None or trusted:
                    raise InvalidInput(f"Importing from {source} needs a scope, and cannot be trusted=True.")
                found = importers.load(file, source, where, who, at)
        except OSError as error:
            raise InvalidInput(f"{file} cannot be read: {error}.") from error
        return importing.take_in(context, found, who, at, trusted=trusted, dry_run=dry_run, progress=progress)

    async def aexport(self, path: str | os.PathLike[str], **options: Any) -> exporting.Exported:
        """`export`, off the event loop."""
        return await asyncio.to_thread(self.export, path, **options)

    async def aimport_(self, path: str | os.PathLike[str], **options: Any) -> importing.Imported:
        """`import_`, off the event loop."""
        return await asyncio.to_thread(self.import_, path, **options)


class MemoryPortability:
    """What one scope can be asked; see `Memory`."""

    engram: Any
    scope: Scope
    principal: str

    def export(
        self, path: str | os.PathLike[str], *, subject: str | None = None, now: datetime | None = None
    ) -> exporting.Exported:
        """Write everything about this very scope, or about a subject in it, into a file; see `Engram.export`."""
        found: exporting.Exported = self.engram.export(
            path, scope=self.scope, subject=subject, below=False, principal=self.principal, now=now
        )
        return found

    async def aexport(self, path: str | os.PathLike[str], **options: Any) -> exporting.Exported:
        """`export`, off the event loop."""
        return await asyncio.to_thread(self.export, path, **options)


def moment_of(now: datetime | None, context: Context) -> datetime:
    """The time of a call: the one it was given, else the store's. Raises InvalidInput."""
    if now is not None and not isinstance(now, datetime):
        raise InvalidInput(f"now must be a datetime, not {type(now).__name__}.")
    return aware(now) if now is not None else context.clock()
