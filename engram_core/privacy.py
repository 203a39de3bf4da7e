"""Privacy: the verbs of `Engram` and `Memory` that erase and hold. They validate and delegate; they decide nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from engram_core.domain.errors import AccessDenied, FactNotFound, InvalidInput
from engram_core.domain.scope import Scope
from engram_core.keeping import Hold
from engram_core.operations import erase as erasing
from engram_core.operations import holding, residue, warden
from engram_core.operations.context import Context
from engram_core.portability import MemoryPortability, StorePortability, moment_of

ErasureProgress = Callable[[str, int, int], None]
MAX_SUBJECT = 200


class StorePrivacy(StorePortability):
    """What a whole store can be asked; see `Engram`."""

    @property
    def context(self) -> Context:
        """The store's ports. Raises StoreClosed."""
        raise NotImplementedError

    @property
    def owner(self) -> str:
        """The store's owner."""
        raise NotImplementedError

    def erase(
        self,
        scope: Scope | str | None = None,
        *,
        subject: str | None = None,
        below: bool = True,
        reason: str | None = None,
        principal: str | None = None,
        dry_run: bool = False,
        now: datetime | None = None,
        progress: ErasureProgress | None = None,
    ) -> erasing.ErasureReport:
        """Erase everything of a scope, or everything about a subject, for good; see `Memory.erase`.

        Args:
            scope: A path; with `subject`, where to look for it: everywhere when None.
            subject: A person or thing, such as `alice`: every fact whose subjects name it, that it said, that came from
                `user:alice`, or whose scope ends in it.
            below: Also everything below the scope.
            reason: Why, for the receipt.
            principal: Who acts; default the owner.
            dry_run: Return what would go and erase nothing.
            now: The time of the call, for replays.
            progress: Called with (what is being done, steps done, steps in all).

        Raises:
            InvalidScope, InvalidInput: Neither a scope nor a subject, or one that is malformed.
            OnHold: Something of it is under a legal hold; nothing was erased.
            AccessDenied: The principal may not administer a scope concerned; or is not the owner and names no scope.
            StoreUnavailable: The ledger is out of order.
        """
        context = self.context
        where = Scope.coerce(scope) if scope is not None else None
        if where is None and subject is None:
            raise InvalidInput("erase() needs a scope or a subject. Erasing a whole store is deleting its directory.")
        at, who = moment_of(now, context), principal or self.owner
        # Before anything is looked for: a refusal must not tell whether it is there.
        if where is not None:
            warden.require(context, who, "admin", where, at, "erase")
        elif who != self.owner:
            why = "only the store's owner erases wherever something stands; name a scope"
            raise AccessDenied(who, "admin", "the store", why)
        if subject is not None:
            ids = context.ledger.erasures.about(_subject(subject), where)
            if where is not None and not below:
                ids = [fact.id for fact in context.ledger.facts(ids) if fact.scope == where]
            wanted = erasing.Wanted(tuple(ids), "subject")
        else:
            assert where is not None
            known = [state.scope for state in context.ledger.scopes()]
            whole = tuple(one for one in known if one == where or (below and where.contains(one)))
            wanted = erasing.Wanted((), "scope", whole)
        return erasing.erase(context, wanted, who, at, reason=reason, dry_run=dry_run, progress=progress)

    def erasures(self, limit: int = 100) -> list[dict[str, Any]]:
        """The receipts of the latest erasures, newest first. Raises InvalidInput if `limit` is not from 1 to 1,000."""
        if not isinstance(limit, int) or not 1 <= limit <= 1_000:
            raise InvalidInput(f"limit must be a whole number from 1 to 1000, not {limit!r}.")
        return self.context.ledger.erasures.receipts(limit)

    def lift_tombstones(self, erasure_id: str) -> int:
        """Let what an erasure removed be told again; nothing of it comes back by this. Returns how many were lifted."""
        return erasing.lift(self.context, erasure_id)

    def find_residue(
        self,
        texts: Sequence[str],
        *,
        paths: Sequence[str | Path] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> residue.Residue:
        """Search the store's files for texts, in every spelling a file may hold them in.

        Args:
            texts: At least four characters each.
            paths: Files or directories to search as well: logs, exports, backups.
            progress: Called with (files done, files in all).

        Raises:
            InvalidInput: No text, one that is too short, or a path where nothing is.
        """
        if isinstance(texts, str) or not texts or any(len(text.strip()) < 4 for text in texts):
            raise InvalidInput("find_residue() takes a list of texts of at least four characters each.")
        missing = next((str(path) for path in paths if not Path(path).exists()), None)
        if missing is not None:
            raise InvalidInput(f"There is no file or directory {missing}; nothing was searched.")
        own = [*self.context.ledger.erasures.files(), *self.context.finder.files()]
        return residue.search([*own, *paths], texts, progress=progress)

    def holds(self, *, released: bool = False) -> list[Hold]:
        """Legal holds in force, oldest first; with `released` past ones too."""
        return self.context.ledger.erasures.holds(released=released)

    def hold(
        self, scope: Scope | str, *, reason: str, principal: str | None = None, now: datetime | None = None
    ) -> Hold:
        """Put a scope and all below it under a legal hold; see `Memory.hold`."""
        at = moment_of(now, self.context)
        return holding.hold(self.context, Scope.coerce(scope), None, reason, principal or self.owner, at)

    def release_hold(self, hold_id: str, *, principal: str | None = None, now: datetime | None = None) -> None:
        """Lift a legal hold. Raises InvalidInput if there is no such hold in force, AccessDenied."""
        holding.release(self.context, hold_id, principal or self.owner, moment_of(now, self.context))

    async def aerase(self, scope: Scope | str | None = None, **options: Any) -> erasing.ErasureReport:
        """`erase`, off the event loop."""
        return await asyncio.to_thread(self.erase, scope, **options)

    async def aerasures(self, limit: int = 100) -> list[dict[str, Any]]:
        """`erasures`, off the event loop."""
        return await asyncio.to_thread(self.erasures, limit)

    async def alift_tombstones(self, erasure_id: str) -> int:
        """`lift_tombstones`, off the event loop."""
        return await asyncio.to_thread(self.lift_tombstones, erasure_id)

    async def afind_residue(self, texts: Sequence[str], **options: Any) -> residue.Residue:
        """`find_residue`, off the event loop."""
        return await asyncio.to_thread(self.find_residue, texts, **options)

    async def aholds(self, *, released: bool = False) -> list[Hold]:
        """`holds`, off the event loop."""
        return await asyncio.to_thread(self.holds, released=released)

    async def ahold(self, scope: Scope | str, **options: Any) -> Hold:
        """`hold`, off the event loop."""
        return await asyncio.to_thread(self.hold, scope, **options)

    async def arelease_hold(self, hold_id: str, **options: Any) -> None:
        """`release_hold`, off the event loop."""
        await asyncio.to_thread(self.release_hold, hold_id, **options)


class MemoryPrivacy(MemoryPortability):
    """What one scope can be asked; see `Memory`."""

    engram: StorePrivacy
    scope: Scope
    principal: str

    def erase(
        self,
        id: str | None = None,  # noqa: A002 - the public word
        *,
        ids: Iterable[str] = (),
        subject: str | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        now: datetime | None = None,
        progress: ErasureProgress | None = None,
    ) -> erasing.ErasureReport:
        """Erase facts for good, with all that came from them: nothing brings them back.

        With a fact go the facts it superseded, those derived from it, and duplicates that stand for it; a consolidated
        fact is made anew from its other originals. Text, vectors and words go from every table, index and file; the
        messages it came from lose their words, whole; recalls that showed it lose question and answer. Stubs without
        content stay, and tombstones keep the same words, messages and ids from being stored again.

        Args:
            id: A fact's id.
            ids: Several.
            subject: Everything about a person or thing, in this scope and below it; see `Engram.erase`.
            reason: Why, for the receipt.
            dry_run: Return what would go and erase nothing; raises what the real call would raise.
            now: The time of the call, for replays.
            progress: Called with (what is being done, steps done, steps in all).

        Returns:
            The receipt: counts, what was done to each layer, and what a search of all files for residue found.

        Raises:
            InvalidInput: Nothing was named, or both ids and a subject.
            FactNotFound: A fact is unknown here; nothing was erased.
            OnHold: Something of it is under a legal hold; nothing was erased.
            AccessDenied: The principal may not administer a scope concerned.
            StoreUnavailable: The ledger is out of order.
        """
        context: Context = self.engram.context
        if isinstance(ids, str):
            ids = (ids,)
        named = tuple(dict.fromkeys([*([id] if id is not None else []), *ids]))
        if bool(named) == (subject is not None):
            raise InvalidInput("erase() takes a fact's id, or ids=, or subject=: one of the three.")
        at = moment_of(now, context)
        warden.require(context, self.principal, "admin", self.scope, at, "erase")
        if subject is not None:
            wanted = erasing.Wanted(tuple(context.ledger.erasures.about(_subject(subject), self.scope)), "subject")
        else:
            known = {fact.id: fact for fact in context.ledger.facts(named)}
            missing = next((one for one in named if one not in known or known[one].scope != self.scope), None)
            if missing is not None:
                raise FactNotFound(f"No fact {missing!r} lives in scope {self.scope}; nothing was erased.")
            wanted = erasing.Wanted(named, "ids")
        return erasing.erase(context, wanted, self.principal, at, reason=reason, dry_run=dry_run, progress=progress)

    def hold(self, id: str | None = None, *, reason: str, now: datetime | None = None) -> Hold:  # noqa: A002
        """Put a fact, or this scope and all below it, under a legal hold: it can be read, and nothing takes it away.

        A hold forbids erasing, forgetting and every clock; `release_hold` lifts it.

        Args:
            id: A fact's id; None for the whole scope.
            reason: Why, such as the name of the case; 1 to 500 characters.
            now: The time of the call, for replays.

        Raises:
            FactNotFound: No such fact lives here.
            InvalidInput: No reason.
            AccessDenied: The principal may not administer this scope.
        """
        context: Context = self.engram.context
        return holding.hold(context, self.scope, id, reason, self.principal, moment_of(now, context))

    def release_hold(self, hold_id: str, *, now: datetime | None = None) -> None:
        """Lift a legal hold. Raises InvalidInput if there is no such hold in force, AccessDenied."""
        context: Context = self.engram.context
        holding.release(context, hold_id, self.principal, moment_of(now, context))

    async def aerase(self, id: str | None = None, **options: Any) -> erasing.ErasureReport:  # noqa: A002
        """`erase`, off the event loop."""
        return await asyncio.to_thread(self.erase, id, **options)

    async def ahold(self, id: str | None = None, **options: Any) -> Hold:  # noqa: A002
        """`hold`, off the event loop."""
        return await asyncio.to_thread(self.hold, id, **options)

    async def arelease_hold(self, hold_id: str, **options: Any) -> None:
        """`release_hold`, off the event loop."""
        await asyncio.to_thread(self.release_hold, hold_id, **options)


def _subject(subject: str) -> str:
    if not isinstance(subject, str) or not subject.strip() or len(subject) > MAX_SUBJECT:
        raise InvalidInput(f"A subject is a name such as 'alice', at most {MAX_SUBJECT} characters.")
    return subject


def subjects_of(subjects: str | Iterable[str]) -> tuple[str, ...]:
    """Subjects as an add takes them. Raises InvalidInput."""
    if isinstance(subjects, str | Mapping) or not isinstance(subjects, Iterable):
        raise InvalidInput("subjects takes a list of names, such as ['alice'].")
    return tuple(dict.fromkeys(_subject(name) for name in subjects))
