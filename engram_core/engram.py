"""The facade: Engram, a store, and Memory, one scope of it as one principal. It validates and delegates."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from engram_core.domain.access import AccessExplanation, Grant, Verb, principal_named, verb_named
from engram_core.domain.audit import AuditHead, AuditRow, Verification
from engram_core.domain.errors import InvalidInput, StoreClosed
from engram_core.domain.fact import Fact, Status
from engram_core.domain.gap import Gap
from engram_core.domain.guard import Guard
from engram_core.domain.message import aware
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.proposal import STEPS, Proposal
from engram_core.domain.recall import AddResult, Recall, Usage
from engram_core.domain.scope import Scope
from engram_core.domain.server import ChromaServer
from engram_core.floor import legality
from engram_core.operations import access as accessing
from engram_core.operations import add as adding
from engram_core.operations import brief as briefing
from engram_core.operations import consolidate as consolidating
from engram_core.operations import doctor as doctoring
from engram_core.operations import edit, gate, warden
from engram_core.operations import evolve as evolving
from engram_core.operations import explain as explaining
from engram_core.operations import observe as observing
from engram_core.operations import policy as policing
from engram_core.operations import proposals as proposing
from engram_core.operations import quarantine as quarantining
from engram_core.operations import recall as recalling
from engram_core.operations import reflect as reflecting
from engram_core.operations import scan as scanning
from engram_core.operations import share as sharing
from engram_core.operations import sleep as sleeping
from engram_core.operations import split as splitting
from engram_core.operations import usage as reporting
from engram_core.operations.background import Worker
from engram_core.operations.context import Context
from engram_core.operations.schedule import Schedule
from engram_core.operations.shadow import SHADOWED
from engram_core.ports import Clock, Decision, NewId, Parked, PolicyVersion
from engram_core.privacy import MemoryPrivacy, StorePrivacy, subjects_of

Facts = list[Fact]
Gaps = list[Gap]
Decisions = list[Decision]
PolicyChanges = list[policing.PolicyChange]
"""Spelled outside Memory, whose method `list` hides the built-in."""

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_URL = "./.engram"
DEFAULT_OWNER = "user:owner"
DEFAULT_EXACT_LIMIT = 2_000
MAX_LIST = 10_000


async def off_loop(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking work in a thread: the one bridge between the synchronous core and async callers."""
    return await asyncio.to_thread(function, *args, **kwargs)


class Engram(StorePrivacy):
    """A store of memories. Open it with `Engram.open`; use it as a context manager or call `close()`."""

    def __init__(self, context: Context, worker: Worker, close: Callable[[], None], *, url: str) -> None:
        self._url = url
        self._context = context
        self._worker = worker
        self._close = close
        self._closed = False
        self._schedules: list[Schedule] = []
        self._closing = threading.Lock()

    @classmethod
    def open(
        cls,
        url: str | os.PathLike[str] = DEFAULT_URL,
        *,
        index: str | ChromaServer | None = None,
        embedder: Any = None,
        model: Any = None,
        reranker: Any = None,
        token_counter: Any = None,
        owner: str = DEFAULT_OWNER,
        guards: Sequence[Guard] = (),
        audit: str = "batched",
        exact_limit: int = DEFAULT_EXACT_LIMIT,
        sources: Any = None,
        clock: Clock | None = None,
        ids: NewId | None = None,
        rng: random.Random | None = None,
        allow_code_designs: bool = False,
    ) -> Engram:
        """Open a store, creating it if it is new. No network unless the URLs say so.

        Args:
            url: A directory (default `./.engram`), a SQLAlchemy URL of SQLite or PostgreSQL, or `:memory:` for a store
                that is gone when closed.
            index: Where vectors are indexed: None for a Chroma directory beside a local store (and exact search beside
                a database URL), a directory, a Chroma server (`http://host:port`, `chroma-cloud://tenant/database` or
                a `ChromaServer`), or `exact` for no index.
            embedder: None for the offline default; or a LangChain `Embeddings`, a LlamaIndex `BaseEmbedding`, a
                callable from a list of strings to vectors, or an `engram_core.Embedder`.
            model: None, or a LangChain chat model, a LlamaIndex LLM, a callable from prompt to text, or an
                `engram_core.LanguageModel`. It extracts facts in the background; recall never calls it.
            reranker: None, or a LangChain document compressor or cross-encoder, a LlamaIndex node postprocessor, a
                callable from a question and texts to scores, or an `engram_core.Reranker`. It reads the best 40
                candidates of each recall, for two seconds at most; without its answer the plain order holds.
            token_counter: None, or a callable from text to a count.
            owner: The principal that owns the store, fixed when the store is created.
            guards: Outside detectors. Each gets a text and its `Origin` before the text is stored or embedded, in the
                thread that adds, and returns None or a `GuardVerdict`. What one fails on is treated as the policy's
                `on_guard_failure` says.
            audit: How reads are noted: `strict` before each answer, `batched` within about a second and at `close`, or
                `off`. What changes the store, refusals and alarms are noted always.
            exact_limit: Facts up to which a scope is scanned whole, in memory; a larger one gets a collection in the
                index. 0 means every scope does.
            sources: Where `reflect` may look for what memory is missing, for every scope: a list of paths (text files,
                session logs, directories), LangChain or LlamaIndex retrievers, or functions from a question to texts;
                or a mapping from a scope to its own sources, for it and all below it.
            clock, ids, rng: For replays: time, UUIDv7 strings and chance.
            allow_code_designs: Whether a policy may name a design that is code of the archive (`code:…`). It runs in a
                process of its own without files, network or rights (docs/designs.md), on Linux only; off by default.

        Raises:
            InvalidInput: A URL or argument makes no sense.
            EmbedderMismatch: The store was written with another embedder; run `engram reindex`.
            StoreUnavailable: The store cannot be opened.
            SchemaTooNew: A newer Engram wrote it.
            MissingExtra: An optional package is needed.
        """
        from engram_core import bootstrap  # noqa: PLC0415 - the facade must not pull the backends in at import

        return bootstrap.open_store(
            os.fspath(url),
            index=index,
            embedder=embedder,
            model=model,
            reranker=reranker,
            token_counter=token_counter,
            owner=owner,
            guards=tuple(guards),
            audit=audit,
            exact_limit=exact_limit,
            sources=sources,
            clock=clock,
            ids=ids,
            rng=rng,
            allow_code_designs=allow_code_designs,
        )

    @classmethod
    async def aopen(cls, url: str | os.PathLike[str] = DEFAULT_URL, **options: Any) -> Engram:
        """`open`, off the event loop."""
        return await off_loop(cls.open, url, **options)

    @classmethod
    def migrate(
        cls,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        index: str | ChromaServer | None = None,
        dry_run: bool = False,
        progress: sleeping.Progress | None = None,
    ) -> dict[str, Any]:
        """Copy a whole store into an empty place, and prove that both hold the same: embedded to server, and back.

        Every table is copied, whatever it is for, with its keys; the index is built anew. The target is filled in one
        transaction: it has everything or nothing. A migration that was killed is simply run again: it starts over, or
        goes on after the copy where the target holds the very same already. The source is only read. Stop the programs
        that use it first: one that writes meanwhile makes the migration fail.

        Args:
            source, target: As `url` of `open`: a directory, or a database URL of SQLite or PostgreSQL.
            index: Where the target's index is built, as for `open`.
            dry_run: Check both, count the rows and write nothing.
            progress: Called with (what is being done, steps done, steps in all).

        Returns:
            `rows` and `digests` by table, `digest` of the whole store, whether it was `continued` after a copy that
            was there, how many sample `recalls` were compared, `vectors` in the new index, and `index_problem`, why it
            could not be built yet (None: nothing is wrong).

        Raises:
            InvalidInput: The target holds something else or is the source, or the source has an older schema.
            StoreUnavailable: One of them cannot be used, or the verification failed; the target is empty.
            SchemaTooNew: A newer Engram wrote one of them.
        """
        from engram_core import bootstrap  # noqa: PLC0415 - as in `open`

        return bootstrap.migrate_store(
            os.fspath(source), os.fspath(target), index=index, dry_run=dry_run, progress=progress
        )

    def backup(
        self, path: str | os.PathLike[str], *, progress: Callable[[str, int, int], None] | None = None
    ) -> dict[str, Any]:
        """Write a consistent copy of the ledger into one file; programs may go on using the store meanwhile.

        The file is a zip of a SQLite ledger, whatever the store's database is, and a manifest. The index is not in it:
        it is built anew from the ledger.

        Args:
            path: The file; one that is there is replaced once the new one is whole.
            progress: Called with (what is being done, steps done, steps in all).

        Returns:
            The manifest: schema, time, rows and digests by table, `digest` of the whole, tombstones, `sha256`.

        Raises:
            InvalidInput: The file cannot be written, or the store is in memory.
            StoreUnavailable: The ledger cannot be read; on PostgreSQL also when others kept writing.
        """
        from engram_core import bootstrap  # noqa: PLC0415 - as in `open`

        warden.by_owner(self.context, "read", "backup")
        self.context.audit.flush()  # the copy holds what was noted, and on PostgreSQL nothing is written beside it
        return bootstrap.back_up(self.context.ledger.url, os.fspath(path), progress)

    @classmethod
    def restore_backup(
        cls,
        path: str | os.PathLike[str],
        url: str | os.PathLike[str] = DEFAULT_URL,
        *,
        replace: bool = False,
        tombstones: str | os.PathLike[str] | None = None,
        embedder: Any = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Put a backup in the place of a store. What was erased, revoked or held since it was made stays so.

        Close every process on the store. The copy is unpacked and checked beside it and brought to this Engram's
        schema. What the store it replaces knows is repeated in it: erasures by their tombstones, and, where the backup
        is of that very store, grants, groups, private scopes and legal holds. Then it takes that store's place at once.

        Args:
            path: The backup.
            url: As for `open`: a directory or a database URL.
            replace: Also where there is a store already; it is gone then.
            tombstones: A file of tombstones (`engram.db.tombstones` of a store) where there is no store to ask.
            embedder: As for `open`: facts beside erased ones are embedded anew.
            progress: Called with (what is being done, steps done, steps in all).

        Returns:
            `manifest`; `erased_again`, how many facts; `url`; `replaced`, what stood there: `itself`, `another`,
            `unreadable` or `nothing`; and `kept`, what of it was repeated besides: counts `grants_revoked`,
            `grants_kept` (made since), `members_changed`, `private_changed`, `holds_kept` (placed since),
            `holds_released`. Unless it replaced `itself`, `kept` is empty, and rights and holds are as of the backup.

        Raises:
            InvalidInput: It is no backup, it is damaged, or there is a store and `replace` is not set. Nothing changed.
            StoreUnavailable: The store is in use, or cannot be written.
            SchemaTooNew: A newer Engram wrote the backup.
        """
        from engram_core import bootstrap  # noqa: PLC0415 - as in `open`

        return bootstrap.restore_backup(
            os.fspath(path),
            os.fspath(url),
            replace=replace,
            tombstones=os.fspath(tombstones) if tombstones is not None else None,
            embedder=embedder,
            progress=progress,
        )

    async def abackup(
        self, path: str | os.PathLike[str], *, progress: Callable[[str, int, int], None] | None = None
    ) -> dict[str, Any]:
        """`backup`, off the event loop."""
        return await off_loop(self.backup, path, progress=progress)

    @classmethod
    async def arestore_backup(
        cls,
        path: str | os.PathLike[str],
        url: str | os.PathLike[str] = DEFAULT_URL,
        *,
        replace: bool = False,
        tombstones: str | os.PathLike[str] | None = None,
        embedder: Any = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> dict[str, Any]:
        """`restore_backup`, off the event loop."""
        return await off_loop(
            cls.restore_backup,
            path,
            url,
            replace=replace,
            tombstones=tombstones,
            embedder=embedder,
            progress=progress,
        )

    @classmethod
    async def amigrate(
        cls,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        index: str | ChromaServer | None = None,
        dry_run: bool = False,
        progress: sleeping.Progress | None = None,
    ) -> dict[str, Any]:
        """`migrate`, off the event loop."""
        return await off_loop(cls.migrate, source, target, index=index, dry_run=dry_run, progress=progress)

    @property
    def url(self) -> str:
        """What `open` was given; opening it again finds the same store."""
        return self._url

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, by the counter that recalls use (`doctor()["token_counter"]` names it)."""
        return self.context.counter.count(text)

    @property
    def owner(self) -> str:
        """The store's owner; the default principal."""
        return self._context.owner

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def memory(self, scope: Scope | str, *, principal: str | None = None) -> Memory:
        """A handle on one scope as one principal. Cheap; makes no connection.

        Args:
            scope: A path such as `acme/support/alice`.
            principal: `user:…`, `agent:…` or `service:…`; default the store's owner. Any other principal may do what
                it was granted (`grant`), and nothing else.

        Raises:
            InvalidScope, InvalidInput: The scope or principal is malformed.
        """
        return Memory(self, Scope.coerce(scope), self._who(principal))

    def scopes(self, *, principal: str | None = None) -> list[str]:
        """Paths of the scopes that hold facts or a policy; with a principal, of those it may read."""
        states = self.context.ledger.scopes()
        if principal is None:
            return [state.scope.path for state in states]
        who, at = self._who(principal), self.context.clock()
        allowed = self.context.rules.current().allowance
        return [state.scope.path for state in states if allowed(who, "read", state.scope, at) is not None]

    def flush(self, timeout: float = 60.0) -> bool:
        """Wait until background work is done and the index has caught up; False if it did not in `timeout` seconds."""
        done = self._run_worker(timeout)
        self.context.audit.flush()
        return self.context.finder.flush(timeout) and done

    def _run_worker(self, timeout: float) -> bool:
        self.context  # noqa: B018 - raises when closed
        return self._worker.flush(timeout)

    def doctor(self) -> dict[str, Any]:
        """The store's health as JSON-able values: facts by status, index, embedder, token counter, parked failures."""
        return doctoring.doctor(self.context)

    def quarantined(
        self, scope: Scope | str | None = None, *, limit: int = 100, after: str | None = None
    ) -> list[Fact]:
        """What waits in quarantine, oldest first: of a scope and all below it, or of the whole store.

        Args:
            scope: A path; None for every scope.
            limit: Facts at most, 1 to 10,000.
            after: Continue after this fact id.

        Raises:
            InvalidScope, InvalidInput: An argument is malformed.
        """
        if not 1 <= limit <= MAX_LIST:
            raise InvalidInput(f"limit must be from 1 to {MAX_LIST}, not {limit!r}.")
        where = Scope.coerce(scope) if scope is not None else None
        warden.by_owner(self.context, "read", "quarantined", where)
        return self.context.ledger.screening.quarantined(where, below=True, limit=limit, after=after)

    def scan(
        self,
        scope: Scope | str | None = None,
        *,
        fix: bool = False,
        principal: str | None = None,
        now: datetime | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> scanning.ScanReport:
        """Find secrets that were stored before anything looked for them: in facts, histories, messages and recalls.

        Args:
            scope: A path, for it and all below it; None for the whole store.
            fix: Cover what is found, in place: facts get a new version, features and vectors, and the database is made
                to forget the old bytes. Without this nothing is written.
            principal: Who acts, for the facts' histories; default the owner. Another one needs `curate` in the scope,
                and leaves out the scopes below it where that stops.
            now: The time of the call, for replays.
            progress: Called with (facts done, facts so far).

        Raises:
            InvalidScope, InvalidInput: An argument is malformed.
            AccessDenied: `principal` may not curate in `scope`.
            ChangeRefused: Somebody else than the owner named no scope.
            StoreUnavailable: The ledger cannot be read or written; scanning again goes on.
        """
        where = Scope.coerce(scope) if scope is not None else None
        at = _moment(now, self.context.clock)
        return scanning.scan(self.context, where, self._who(principal), at, fix=fix, progress=progress)

    def usage(
        self,
        scope: Scope | str | None = None,
        *,
        top: int = 10,
        days: float = 90.0,
        principal: str | None = None,
        now: datetime | None = None,
    ) -> reporting.UsageReport:
        """What was stored, recalled and used: of a scope and all below it, or of the whole store.

        Args:
            scope: A path; None for every scope.
            top: Facts in each of the lists `most_useful`, `never_used` and `never_recalled`, 0 to 1,000.
            days: How far back the weekly verdicts go, 0 to 36,500.
            principal: Who asks; default the owner. What it may not read is left out.
            now: The time of the call, for replays.

        Raises:
            InvalidScope, InvalidInput: An argument is malformed.
        """
        where = Scope.coerce(scope) if scope is not None else None
        at = _moment(now, self.context.clock)
        return reporting.report(self.context, where, self._who(principal), below=True, top=top, days=days, now=at)

    def sleep(
        self,
        scope: Scope | str | None = None,
        *,
        dry_run: bool = False,
        principal: str | None = None,
        now: datetime | None = None,
        progress: sleeping.Progress | None = None,
    ) -> sleeping.SleepReport:
        """Run a night: forget, consolidate, reflect, and what the scopes' designs propose. Safe beside running agents.

        Each change is one transaction: a night that is killed leaves nothing half done, and the next one does the rest.
        What is archived can be restored; the report stays in the ledger (`nights`).

        Args:
            scope: A path, for it and all below it; None for every scope.
            dry_run: Return the plan and write nothing. Consolidation is then planned as if nothing was forgotten.
            principal: Who acts, for the facts' histories; default the owner. Another one needs `curate`, and leaves
                alone the scopes where it lacks that.
            now: The time of the night, for replays.
            progress: Called with (what is being done, steps done, steps in all).

        Raises:
            InvalidScope, InvalidInput: An argument is malformed.
            AccessDenied: `principal` may not curate in `scope`.
            StoreUnavailable: The ledger cannot be read. Trouble with one scope is in the report, and the night goes on.
        """
        where = Scope.coerce(scope) if scope is not None else None
        who = self._who(principal)
        at = _moment(now, self.context.clock)
        return sleeping.sleep(self.context, where, who, at, dry_run=dry_run, progress=progress)

    def nights(self, limit: int = 10) -> list[dict[str, Any]]:
        """The latest nights, newest first: `id`, `at`, `scope`, `principal`, `totals` and the `scopes` that changed.

        `totals` is None for a night that was killed or is still at work.

        Raises:
            InvalidInput: `limit` is not from 1 to 1,000.
        """
        return sleeping.nights(self.context, limit)

    def gaps(self, scope: Scope | str | None = None, *, state: str | None = None, limit: int = 100) -> Gaps:
        """What memory should have known: gaps that reflection found, the last changed first.

        Args:
            scope: A path, for it and all below it; None for every scope.
            state: Only `open`, `filled`, `closed` or `dismissed` ones.
            limit: At most this many, 1 to 10,000.

        Raises:
            InvalidScope, InvalidInput: An argument is malformed.
        """
        where = Scope.coerce(scope) if scope is not None else None
        warden.by_owner(self.context, "read", "gaps", where)
        return reflecting.gaps(self.context, where, below=True, state=state, limit=limit)

    def proposals(
        self, scope: Scope | str | None = None, *, status: str | None = None, limit: int = 100
    ) -> list[Proposal]:
        """Proposals to change policies, newest first: of a scope and all below it, or of the whole store.

        Args:
            scope: A path; None for every scope.
            status: `pending`, `approved`, `rejected`, `applied`, `kept` or `rolled_back`; None for all.
            limit: At most this many, 1 to 10,000.

        Raises:
            InvalidScope, InvalidInput: An argument is malformed.
        """
        where = Scope.coerce(scope) if scope is not None else None
        if status is not None and status not in STEPS:
            raise InvalidInput(f"Unknown status {status!r} of a proposal; use {', '.join(STEPS)}.")
        if not isinstance(limit, int) or not 1 <= limit <= MAX_LIST:
            raise InvalidInput(f"limit must be from 1 to {MAX_LIST}, not {limit!r}.")
        statuses = [known for known in STEPS if known == status]
        return proposing.listing(self.context, where, statuses=statuses, limit=limit)

    def approve(
        self,
        id: str,
        *,
        reason: str = "",
        shadow: int = SHADOWED,
        principal: str | None = None,
        now: datetime | None = None,  # noqa: A002
    ) -> Proposal:
        """Approve a pending proposal. A policy is in force at once; a design first answers live recalls unseen.

        Args:
            id: The proposal.
            reason: Why, for its record.
            shadow: Live recalls that a design answers beside the one in force, off their path, before it takes its
                place: if it never fails and ranks within the policy's `latency_ms`. 0 to 1,000; 0 puts it in force now.
            principal: Who approves; default the owner.
            now: The time of the call, for replays.

        Raises:
            ProposalNotFound: There is no such proposal.
            ChangeRefused: It is not pending, or the policy moved on.
            AccessDenied: The principal may not `curate` its scope.
        """
        who = self._who(principal)
        at = _moment(now, self.context.clock)
        return proposing.start(self.context, id, who, at, reason=reason, shadow=shadow)

    def reject(
        self,
        id: str,
        *,
        reason: str = "",
        principal: str | None = None,
        now: datetime | None = None,  # noqa: A002
    ) -> Proposal:
        """Reject a pending proposal, or an approved one that is not in force yet; arguments and errors as `approve`."""
        who = self._who(principal)
        return proposing.reject(self.context, id, who, _moment(now, self.context.clock), reason=reason)

    def rollback(
        self,
        id: str,
        *,
        reason: str = "",
        principal: str | None = None,
        now: datetime | None = None,  # noqa: A002
    ) -> Proposal:
        """Take back a proposal that is in force: its fields get the values they had. Arguments, errors: `approve`."""
        who = self._who(principal)
        return proposing.undo(self.context, id, who, _moment(now, self.context.clock), reason=reason)

    def schedule_sleep(self, cron: str = "0 3 * * *", *, scope: Scope | str | None = None) -> Schedule:
        """Run `sleep` at cron times in a thread of this process, until the schedule is stopped or the store closed.

        Args:
            cron: Minute, hour, day, month, weekday (0 and 7 are Sunday), in local time; default every night at three.
            scope: As for `sleep`.

        Returns:
            The schedule: `next_at`, `stop()`.

        Raises:
            InvalidScope, InvalidInput: An argument is malformed.
            MissingExtra: APScheduler is not installed (the extra `schedule`).
        """
        self.context  # noqa: B018 - raises when closed
        where = Scope.coerce(scope) if scope is not None else None
        schedule = Schedule(lambda: self.sleep(where), cron)
        self._schedules.append(schedule)
        return schedule

    def reindex(self, *, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
        """Build the vector index anew from the ledger, in a new place, and swap it in. Recall goes on meanwhile.

        Args:
            progress: Called with (done, total) facts.
        """
        return {"vectors": self.context.finder.rebuild(progress)}

    def note_failure(self, scope: Scope | str, where: str, error: BaseException) -> None:
        """Record that an adapter skipped something because memory failed; `doctor` shows it."""
        parked = Parked(
            kind="adapter",
            scope=Scope.coerce(scope),
            at=self.context.clock(),
            error=gate.clean_text(f"{where}: {type(error).__name__}: {error}"[:2000], MemoryPolicy()),
            payload={"where": where},
        )
        self.context.ledger.park(parked)

    # --- who may do what ---

    def grant(
        self,
        principal: str,
        verb: str,
        scope: Scope | str,
        *,
        deep: bool = True,
        expires: datetime | None = None,
        max_trust: float | None = None,
        reason: str | None = None,
        by: str | None = None,
        now: datetime | None = None,
    ) -> list[Grant]:
        """Allow a principal or a group something in a scope. It counts in every process at once.

        Args:
            principal: `user:…`, `agent:…`, `service:…`, or `group:…` for all its members.
            verb: `read`, `write`, `curate` or `admin`; or a preset: `reader`, `contributor` (read, write), `curator`
                (read, write, curate), `owner` (all four), `drop-box` (write).
            scope: Where.
            deep: Also in every scope below it.
            expires: From then on it counts no longer.
            max_trust: The most trust a fact gets that is written by it, 0 to 1; default no limit.
            reason: Why, at most 500 characters; kept with the grant.
            by: Who grants; default the owner. Another one needs `admin` there, and can give no more than it has: no
                verb it lacks, no further reach, no later end, no more trust.
            now: The time of the call, for replays.

        Returns:
            The grants, one for each verb.

        Raises:
            InvalidScope, InvalidInput: An argument is malformed, or `expires` is over.
            AccessDenied: `by` may not grant this.
        """
        return accessing.grant(
            self.context,
            principal,
            verb,
            Scope.coerce(scope),
            deep=deep,
            expires=expires,
            max_trust=max_trust,
            reason=reason,
            giver=self._who(by),
            now=_moment(now, self.context.clock),
        )

    def revoke(
        self,
        principal: str,
        verb: str | None = None,
        scope: Scope | str | None = None,
        *,
        by: str | None = None,
        now: datetime | None = None,
    ) -> list[Grant]:
        """Take back grants that were made to exactly this principal or group; return them. It counts at once.

        Args:
            principal: To whom they were made.
            verb: Only of this verb or preset; None for every one.
            scope: Only those made in this very scope; None for every one.
            by: Who revokes; default the owner. Another one needs `admin` in each of their scopes.
            now: The time of the call, for replays.

        Raises:
            InvalidScope, InvalidInput: An argument is malformed.
            AccessDenied: `by` may not revoke them; nothing was revoked.
        """
        where = Scope.coerce(scope) if scope is not None else None
        at = _moment(now, self.context.clock)
        return accessing.revoke(self.context, principal, verb, where, giver=self._who(by), now=at)

    def grants(self, scope: Scope | str | None = None, *, principal: str | None = None) -> list[Grant]:
        """The store's grants, expired ones included: in a scope and below it, or made to one principal or group."""
        return accessing.grants(self.context, principal, Scope.coerce(scope) if scope is not None else None)

    def group_add(self, group: str, principal: str, *, by: str | None = None, now: datetime | None = None) -> bool:
        """Put a principal into a group; False if it was a member already. A group is no member of another one.

        Raises:
            InvalidInput: A name is malformed.
            AccessDenied: `by` is not the store's owner: a group counts in every scope.
        """
        at = _moment(now, self.context.clock)
        return accessing.set_member(self.context, group, principal, True, giver=self._who(by), now=at)

    def group_remove(self, group: str, principal: str, *, by: str | None = None, now: datetime | None = None) -> bool:
        """Take a principal out of a group; False if it was no member. Raises as `group_add`."""
        at = _moment(now, self.context.clock)
        return accessing.set_member(self.context, group, principal, False, giver=self._who(by), now=at)

    def groups(self) -> dict[str, list[str]]:
        """The members of each group."""
        members = self.context.rules.current().rules.members
        return {group: sorted(members[group]) for group in sorted(members)}

    def set_private(
        self, scope: Scope | str, private: bool = True, *, by: str | None = None, now: datetime | None = None
    ) -> bool:
        """Let a scope stop every grant made above it, also for what lies below; or, with False, no longer.

        Only grants made at or below a private scope count there. The owner goes on writing and administrating, but
        reads there only by such a grant, or after `break_glass`.

        Returns:
            False if it was so already.

        Raises:
            InvalidScope: The scope is malformed.
            AccessDenied: `by` may not admin there.
        """
        at = _moment(now, self.context.clock)
        return accessing.set_private(self.context, Scope.coerce(scope), bool(private), giver=self._who(by), now=at)

    def private_scopes(self) -> list[str]:
        """Paths of the private scopes."""
        return sorted(scope.path for scope in self.context.rules.current().rules.private)

    def break_glass(
        self, scope: Scope | str, *, reason: str, minutes: float = 60.0, now: datetime | None = None
    ) -> Grant:
        """Let the owner read at and below a private scope for a while. The audit notes it as an alarm, in every mode.

        Args:
            scope: Where.
            reason: Why, at most 500 characters; kept with the grant this makes.
            minutes: How long, above 0 and at most a day.
            now: The time of the call, for replays.

        Raises:
            InvalidScope, InvalidInput: An argument is malformed, or there is no reason.
        """
        at = _moment(now, self.context.clock)
        return accessing.break_glass(self.context, Scope.coerce(scope), reason=reason, minutes=minutes, now=at)

    def who_can(self, verb: str, scope: Scope | str, *, now: datetime | None = None) -> dict[str, str]:
        """Every principal that may do something in a scope, and by what: `owner`, or `grant 12`.

        Raises:
            InvalidScope, InvalidInput: An argument is malformed.
        """
        at = _moment(now, self.context.clock)
        return accessing.who_can(self.context, verb_named(verb), Scope.coerce(scope), at)

    def why(self, principal: str, verb: str, scope: Scope | str, *, now: datetime | None = None) -> AccessExplanation:
        """Whether a principal may do something in a scope, and by which grants; or which come near, and what they lack.

        Raises:
            InvalidScope, InvalidInput: An argument is malformed.
        """
        at = _moment(now, self.context.clock)
        return accessing.why(self.context, self._who(principal), verb_named(verb), Scope.coerce(scope), at)

    def audit(
        self,
        scope: Scope | str | None = None,
        *,
        principal: str | None = None,
        verb: str | None = None,
        decision: str | None = None,
        since: datetime | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditRow]:
        """What was done and refused, newest first: who, what, where, on which facts, and by which grant.

        Args:
            scope: A path, for it and all below it; None for everything.
            principal, verb: Only of this one.
            decision: Only `allowed`, `denied` or `alarm`.
            since: Only from then on.
            before: Only entries with smaller numbers, to read on.
            limit: At most this many, 1 to 10,000.

        Raises:
            InvalidScope, InvalidInput: An argument is malformed.
        """
        if not isinstance(limit, int) or not 1 <= limit <= MAX_LIST:
            raise InvalidInput(f"limit must be from 1 to {MAX_LIST}, not {limit!r}.")
        self.context.audit.flush()
        return self.context.ledger.audit.entries(
            scope=Scope.coerce(scope) if scope is not None else None,
            principal=principal,
            verb=verb_named(verb) if verb is not None else None,
            decision=decision,
            since=_moment(since, self.context.clock, "since") if since is not None else None,
            before=before,
            limit=limit,
        )

    def audit_head(self) -> AuditHead:
        """Where the audit's chain ends now. Noted outside of the store, `verify(expect=…)` finds even a cut tail."""
        self.context.audit.flush()
        return self.context.ledger.audit.head()

    def verify(
        self, *, expect: AuditHead | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Verification:
        """Check the audit: the whole chain, and every fact, decision, episode, link, policy and grant against it.

        Args:
            expect: A head noted earlier (`audit_head`): the chain must still hold it.
            progress: Called with (entries and rows checked, how many there are).

        Returns:
            `ok`, the head, how much was checked, and what is not as the audit says.
        """
        self.context.audit.flush()
        return self.context.ledger.audit.verify(expect, progress)

    def _who(self, principal: str | None) -> str:
        """A principal, checked; the owner if none is named. The owner may have any name."""
        return self.owner if principal is None or principal == self.owner else principal_named(principal)

    def close(self) -> None:
        """Finish background work in hand, let the index catch up, release everything. May be called twice."""
        with self._closing:
            if self._closed:
                return
            # What is under way may end; nothing new begins.
            for schedule in self._schedules:
                schedule.stop()
            self._closed = True
        self._worker.close()
        self._close()

    @property
    def context(self) -> Context:
        """The store's ports. Raises StoreClosed."""
        if self._closed:
            raise StoreClosed("This Engram was closed. Open it again with Engram.open().")
        return self._context

    def wake(self) -> None:
        """Tell the background worker that something is due."""
        self._worker.wake()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def aflush(self, timeout: float = 60.0) -> bool:  # noqa: ASYNC109 - same parameters as flush
        """`flush`, off the event loop."""
        return await off_loop(self.flush, timeout)

    async def ascopes(self, *, principal: str | None = None) -> list[str]:
        """`scopes`, off the event loop."""
        return await off_loop(self.scopes, principal=principal)

    async def adoctor(self) -> dict[str, Any]:
        """`doctor`, off the event loop."""
        return await off_loop(self.doctor)

    async def aquarantined(
        self, scope: Scope | str | None = None, *, limit: int = 100, after: str | None = None
    ) -> list[Fact]:
        """`quarantined`, off the event loop."""
        return await off_loop(self.quarantined, scope, limit=limit, after=after)

    async def ascan(
        self,
        scope: Scope | str | None = None,
        *,
        fix: bool = False,
        principal: str | None = None,
        now: datetime | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> scanning.ScanReport:
        """`scan`, off the event loop."""
        return await off_loop(self.scan, scope, fix=fix, principal=principal, now=now, progress=progress)

    async def ausage(
        self,
        scope: Scope | str | None = None,
        *,
        top: int = 10,
        days: float = 90.0,
        principal: str | None = None,
        now: datetime | None = None,
    ) -> reporting.UsageReport:
        """`usage`, off the event loop."""
        return await off_loop(self.usage, scope, top=top, days=days, principal=principal, now=now)

    async def asleep(
        self,
        scope: Scope | str | None = None,
        *,
        dry_run: bool = False,
        principal: str | None = None,
        now: datetime | None = None,
        progress: sleeping.Progress | None = None,
    ) -> sleeping.SleepReport:
        """`sleep`, off the event loop."""
        return await off_loop(self.sleep, scope, dry_run=dry_run, principal=principal, now=now, progress=progress)

    async def agaps(self, scope: Scope | str | None = None, *, state: str | None = None, limit: int = 100) -> Gaps:
        """`gaps`, off the event loop."""
        return await off_loop(self.gaps, scope, state=state, limit=limit)

    async def anights(self, limit: int = 10) -> list[dict[str, Any]]:
        """`nights`, off the event loop."""
        return await off_loop(self.nights, limit)

    async def agrant(
        self,
        principal: str,
        verb: str,
        scope: Scope | str,
        *,
        deep: bool = True,
        expires: datetime | None = None,
        max_trust: float | None = None,
        reason: str | None = None,
        by: str | None = None,
        now: datetime | None = None,
    ) -> list[Grant]:
        """`grant`, off the event loop."""
        return await off_loop(
            self.grant, principal, verb, scope,
            deep=deep, expires=expires, max_trust=max_trust, reason=reason, by=by, now=now,
        )  # fmt: skip

    async def arevoke(
        self,
        principal: str,
        verb: str | None = None,
        scope: Scope | str | None = None,
        *,
        by: str | None = None,
        now: datetime | None = None,
    ) -> list[Grant]:
        """`revoke`, off the event loop."""
        return await off_loop(self.revoke, principal, verb, scope, by=by, now=now)

    async def agrants(self, scope: Scope | str | None = None, *, principal: str | None = None) -> list[Grant]:
        """`grants`, off the event loop."""
        return await off_loop(self.grants, scope, principal=principal)

    async def agroup_add(
        self, group: str, principal: str, *, by: str | None = None, now: datetime | None = None
    ) -> bool:
        """`group_add`, off the event loop."""
        return await off_loop(self.group_add, group, principal, by=by, now=now)

    async def agroup_remove(
        self, group: str, principal: str, *, by: str | None = None, now: datetime | None = None
    ) -> bool:
        """`group_remove`, off the event loop."""
        return await off_loop(self.group_remove, group, principal, by=by, now=now)

    async def agroups(self) -> dict[str, list[str]]:
        """`groups`, off the event loop."""
        return await off_loop(self.groups)

    async def aset_private(
        self, scope: Scope | str, private: bool = True, *, by: str | None = None, now: datetime | None = None
    ) -> bool:
        """`set_private`, off the event loop."""
        return await off_loop(self.set_private, scope, private, by=by, now=now)

    async def aprivate_scopes(self) -> list[str]:
        """`private_scopes`, off the event loop."""
        return await off_loop(self.private_scopes)

    async def abreak_glass(
        self, scope: Scope | str, *, reason: str, minutes: float = 60.0, now: datetime | None = None
    ) -> Grant:
        """`break_glass`, off the event loop."""
        return await off_loop(self.break_glass, scope, reason=reason, minutes=minutes, now=now)

    async def awho_can(self, verb: str, scope: Scope | str, *, now: datetime | None = None) -> dict[str, str]:
        """`who_can`, off the event loop."""
        return await off_loop(self.who_can, verb, scope, now=now)

    async def awhy(
        self, principal: str, verb: str, scope: Scope | str, *, now: datetime | None = None
    ) -> AccessExplanation:
        """`why`, off the event loop."""
        return await off_loop(self.why, principal, verb, scope, now=now)

    async def aaudit(
        self,
        scope: Scope | str | None = None,
        *,
        principal: str | None = None,
        verb: str | None = None,
        decision: str | None = None,
        since: datetime | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditRow]:
        """`audit`, off the event loop."""
        return await off_loop(
            self.audit, scope,
            principal=principal, verb=verb, decision=decision, since=since, before=before, limit=limit,
        )  # fmt: skip

    async def aaudit_head(self) -> AuditHead:
        """`audit_head`, off the event loop."""
        return await off_loop(self.audit_head)

    async def averify(
        self, *, expect: AuditHead | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Verification:
        """`verify`, off the event loop."""
        return await off_loop(self.verify, expect=expect, progress=progress)

    async def aproposals(
        self, scope: Scope | str | None = None, *, status: str | None = None, limit: int = 100
    ) -> list[Proposal]:
        """`proposals`, off the event loop."""
        return await off_loop(self.proposals, scope, status=status, limit=limit)

    async def aapprove(
        self,
        id: str,
        *,
        reason: str = "",
        shadow: int = SHADOWED,
        principal: str | None = None,
        now: datetime | None = None,  # noqa: A002
    ) -> Proposal:
        """`approve`, off the event loop."""
        return await off_loop(self.approve, id, reason=reason, shadow=shadow, principal=principal, now=now)

    async def areject(
        self,
        id: str,
        *,
        reason: str = "",
        principal: str | None = None,
        now: datetime | None = None,  # noqa: A002
    ) -> Proposal:
        """`reject`, off the event loop."""
        return await off_loop(self.reject, id, reason=reason, principal=principal, now=now)

    async def arollback(
        self,
        id: str,
        *,
        reason: str = "",
        principal: str | None = None,
        now: datetime | None = None,  # noqa: A002
    ) -> Proposal:
        """`rollback`, off the event loop."""
        return await off_loop(self.rollback, id, reason=reason, principal=principal, now=now)

    async def areindex(self, *, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
        """`reindex`, off the event loop."""
        return await off_loop(self.reindex, progress=progress)

    async def aclose(self) -> None:
        """`close`, off the event loop."""
        await off_loop(self.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Memory(MemoryPrivacy):
    """One scope of a store, as one principal. Safe to share between threads; every method has an async twin."""

    engram: Engram

    def __init__(self, engram: Engram, scope: Scope, principal: str) -> None:
        self.engram = engram
        self.scope = scope
        self.principal = principal

    def __repr__(self) -> str:
        return f"Memory(scope={self.scope.path!r}, principal={self.principal!r})"

    def add(
        self,
        messages: adding.Input,
        *,
        session: str | None = None,
        kind: str | None = None,
        importance: float | None = None,
        metadata: Mapping[str, object] | None = None,
        supersedes: str | Iterable[str] = (),
        subjects: Iterable[str] = (),
        allow_erased: bool = False,
        now: datetime | None = None,
        progress: adding.Progress | None = None,
    ) -> AddResult:
        """Remember. When this returns, what was stored is on disk.

        Args:
            messages: A string, a `Message`, or a list of them in the order they were said.
            session: The conversation, for messages that name none. Neighbours in a session give each other context.
            kind: Kind of every fact, instead of the one told from the words.
            importance: Importance of every fact, 0 to 1.
            metadata: At most 64 keys with JSON values, put on every fact.
            supersedes: Ids of facts in this scope that the first stored fact replaces: they are archived with a link.
            subjects: Whom or what the facts are about, for `erase(subject=…)` and exports; besides the speaker, the
                user who acts and the last level of the scope.
            allow_erased: Store what was erased and is told again; without this a tombstone keeps it out.
            now: The time of the call, for replays.
            progress: Called with (messages done, messages in all) after each transaction of 1,000 messages.

        Returns:
            The stored facts, and what became of each message: stored, merged, ignored, quarantined or parked, and why.

        Raises:
            InvalidInput: Something is malformed; nothing was stored.
            FactNotFound, ChangeRefused: A fact in `supersedes` is unknown, archived or elsewhere; nothing was stored.
            StoreUnavailable: The ledger cannot be written.
        """
        if not isinstance(supersedes, Iterable):
            raise InvalidInput(f"supersedes takes the id of a fact, or several, not {type(supersedes).__name__}.")
        named = (supersedes,) if isinstance(supersedes, str) else tuple(dict.fromkeys(supersedes))
        wishes = adding.Wishes(_kind(kind), _share("importance", importance), _metadata(metadata), named)
        wishes = replace(wishes, subjects=subjects_of(subjects), allow_erased=allow_erased)
        result = adding.add(
            self.engram.context,
            self.scope,
            self.principal,
            messages,
            session=session,
            wishes=wishes,
            now=self._now(now),
            progress=progress,
        )
        if self.engram.context.model is not None or result.pending:
            self.engram.wake()
        return result

    def recall(
        self,
        query: str,
        *,
        k: int = 8,
        max_tokens: int | None = None,
        min_score: float | None = None,
        kinds: Iterable[str] = (),
        session: str | None = None,
        as_of: datetime | None = None,
        include_archived: bool = False,
        cite: bool = False,
        now: datetime | None = None,
    ) -> Recall:
        """Find what is worth knowing for a question, and render it as a context for a prompt.

        Args:
            query: The question or the user's message.
            k: Facts at most, 1 to 300.
            max_tokens: Tokens of `.text` at most, wrapper included; default the policy's `token_budget`.
            min_score: Leave out facts that score less.
            kinds: Only facts of these kinds.
            session: Recorded with the recall.
            as_of: Ask what was true then: facts superseded later are in, facts said later are out.
            include_archived: Archived facts too, marked as such, until the policy's `retain_archived_days` are over.
                This and `as_of` read every row of the scope: exact, and slower than a recall of what is live.
            cite: Put a marker (`[m1]`, `[m2]`, …) before each line and ask the model to cite what it uses. `observe`
                reads the markers back from the answer, and `Usage.text` is the answer without them.
            now: The time of the call, for replays.

        Raises:
            InvalidInput: A blank query or a number out of range.
            StoreUnavailable: The ledger cannot be read.
        """
        then = _moment(as_of, self.engram.context.clock, "as_of") if as_of is not None else None
        asked = recalling.Asked(
            query, k, max_tokens, min_score, frozenset(kinds), session, then, include_archived, cite
        )
        context, at = self.engram.context, self._now(now)
        found = recalling.recall(context, self.scope, self.principal, asked, at)
        if context.shadowing.note(context, self.scope, self.principal, asked, found, at):
            self.engram.wake()
        return found

    def brief(self, *, max_tokens: int = 1_000, now: datetime | None = None) -> briefing.Brief:
        """What to know before anybody asked: the most telling current facts, by kind, as a context for a prompt.

        Args:
            max_tokens: Tokens of `.text` at most, fence and headings included.
            now: The time of the call, for replays; facts that do not hold then are left out.

        Raises:
            InvalidInput: `max_tokens` is out of range.
            StoreUnavailable: The ledger cannot be read.
        """
        return briefing.brief(self.engram.context, self.scope, self.principal, max_tokens, self._now(now))

    def consolidate(self, *, dry_run: bool = False, now: datetime | None = None) -> consolidating.Consolidation:
        """Let facts of this very scope that belong together become one; their originals are archived with a link.

        The policy says how (`compression_strategy`, `cluster_similarity`, `cluster_size`). Only what is new since the
        last time is looked at, with what lies near it.

        Args:
            dry_run: Return the plan and change nothing.
            now: The time of the call, for replays.

        Returns:
            The plan: clusters with reasons, vectors and tokens saved, and what the strategy costs.

        Raises:
            EmbeddingFailed, StoreUnavailable: The embedder or the ledger is out of order.
        """
        at = self._now(now)
        self._require("consolidate", at, "curate", "read")
        planned = consolidating.plan(self.engram.context, self.scope, at)
        if not dry_run:
            consolidating.apply(self.engram.context, planned, self.principal, at)
        return planned

    def reflect(self, *, dry_run: bool = False, now: datetime | None = None) -> reflecting.Reflection:
        """Look for moments of this very scope at which memory was missed, and fill what has an answer.

        A lapse is an "I don't know", a question for something told before, a correction by the user, or a recall about
        the user's own matters that found nothing or nothing of use. Lapses about one question are a gap. An answer is
        looked for in every episode, in the archive and in the store's `sources`, and is added through the gate of `add`
        as a derived fact with a link to its evidence; what nobody said is never added. The night does this too.

        Args:
            dry_run: Return what would be found and filled, and change nothing.
            now: The time of the call, for replays.

        Raises:
            AccessDenied: It takes `read`, `curate` and, for what fills gaps, `write`.
            StoreUnavailable: The ledger is out of order.
        """
        at = self._now(now)
        self._require("reflect", at, "curate", "read", "write")
        return reflecting.reflect(self.engram.context, self.scope, self.principal, at, dry_run=dry_run)

    def evolve(self, *, dry_run: bool = False, now: datetime | None = None) -> evolving.Evolution:
        """Look for one better policy of this very scope, or measure the one on trial. The night does it monthly.

        The scope's past recalls are answered again under policies that differ in one field; what gains most on half of
        them, and gains on the other half too, becomes a proposal, with its evidence. Nothing changes until somebody
        approves it (`Engram.approve`). While one is in force and not yet kept, this measures its effect instead: on the
        recalls since, answered again under the earlier policy. It is then kept, or taken back.

        Args:
            dry_run: Return what would be proposed or settled, and record nothing.
            now: The time of the call, for replays.

        Raises:
            AccessDenied: It takes `curate` and `read`.
            StoreUnavailable: The ledger is out of order.
        """
        at = self._now(now)
        self._require("evolve", at, "curate", "read")
        return evolving.evolve(self.engram.context, self.scope, at, dry_run=dry_run)

    def propose(self, *, reason: str = "", now: datetime | None = None, **fields: Any) -> Proposal:
        """Propose a change of this scope's policy yourself. The same gate weighs it on past recalls.

        What would lose facts that answers used is rejected at once, with the figures; everything else is pending.

        Args:
            reason: Why, for whoever decides.
            now: The time of the call, for replays.
            fields: `MemoryPolicy` fields to change.

        Raises:
            InvalidPolicy, InvalidInput: A field or value is not valid, or nothing would change.
            AccessDenied: It takes `curate` and `read`.
        """
        at = self._now(now)
        self._require("propose", at, "curate", "read")
        return evolving.propose(self.engram.context, self.scope, self.principal, fields, reason, at)

    def gaps(self, *, state: str | None = None, limit: int = 100) -> Gaps:
        """Gaps of this very scope, the last changed first; arguments as for `Engram.gaps`. Takes `read` and `curate`.

        Raises:
            InvalidInput: An argument is malformed.
            AccessDenied: A verb is missing.
        """
        self._require("gaps", self._now(None), "read", "curate")
        return reflecting.gaps(self.engram.context, self.scope, below=False, state=state, limit=limit)

    def dismiss_gap(self, id: str, *, reason: str | None = None, now: datetime | None = None) -> Gap:  # noqa: A002
        """Say that a gap is none; no reflection opens it again. What was added for it is yours to `forget`.

        Raises:
            FactNotFound: No such gap in this scope.
            AccessDenied: It takes `read` and `curate`.
        """
        self._require("dismiss_gap", self._now(now), "curate", "read", about=id)
        return reflecting.dismiss(
            self.engram.context, self.scope, self.principal, id, reason=reason, now=self._now(now)
        )

    def observe(
        self, recall_id: str, response: str | None, *, judge: bool = False, now: datetime | None = None
    ) -> Usage:
        """Tell what was answered after a recall; learn which of its facts appear in it.

        Args:
            recall_id: `Recall.id`.
            response: The answer; None if there was none or only part of one, which says nothing about any fact.
            judge: Let the store's language model decide about the facts whose use is not plain from the words; its
                decisions are the verdicts' term `judge`, 1 or 0. Waits for the model.
            now: The time of the call, for replays.

        Raises:
            RecallNotFound: This principal made no such recall in this scope.
            AccessDenied: It may not read here any more.
            InvalidInput: A response that is not text, or `judge` without a model.
        """
        return observing.observe(
            self.engram.context, self.scope, self.principal, recall_id, response, self._now(now), judge=judge
        )

    def get(self, id: str) -> Fact:  # noqa: A002 - the public word
        """A fact by id, of this scope or one above it that may be read. Raises FactNotFound, AccessDenied."""
        return edit.get(self.engram.context, self.scope, self.principal, id, self._now(None))

    def list(
        self, *, kind: str | None = None, status: str | None = None, limit: int = 100, after: str | None = None
    ) -> Facts:
        """Facts of this very scope, oldest first.

        Args:
            kind: Only this kind.
            status: `live`, `pending`, `quarantined`, `archived` or `all`; default what can be recalled (live, pending).
            limit: At most this many, 1 to 10,000.
            after: Continue after this fact id.

        Raises:
            InvalidInput: Unknown status or a limit out of range.
        """
        if not 1 <= limit <= MAX_LIST:
            raise InvalidInput(f"limit must be from 1 to {MAX_LIST}, not {limit!r}.")
        return edit.listing(
            self.engram.context,
            self.scope,
            self.principal,
            self._now(None),
            kind=kind,
            statuses=_statuses(status),
            limit=limit,
            after=after,
        )

    def update(
        self,
        id: str,  # noqa: A002 - the public word
        *,
        text: str | None = None,
        kind: str | None = None,
        importance: float | None = None,
        pinned: bool | None = None,
        valid_from: datetime | None = None,
        valid_until: datetime | None = None,
        metadata: Mapping[str, object] | None = None,
        now: datetime | None = None,
    ) -> Fact:
        """Correct a fact; its id stays, its version grows, its history keeps what was there before.

        Args:
            id: The fact.
            text, kind, importance, pinned, valid_from, valid_until, metadata: New values; None leaves one as it is.
                `metadata` replaces the whole mapping.
            now: The time of the call, for replays.

        Raises:
            FactNotFound: No such fact is visible.
            ChangeRefused: The floor refused, for example an empty text.
        """
        fields = {
            "text": text,
            "kind": _kind(kind),
            "importance": _share("importance", importance),
            "pinned": pinned,
            "valid_from": aware(valid_from) if valid_from is not None else None,
            "valid_until": aware(valid_until) if valid_until is not None else None,
            "metadata": _metadata(metadata) if metadata is not None else None,
        }
        fact = edit.update(self.engram.context, self.scope, self.principal, id, fields, self._now(now))
        if fact.status is Status.PENDING:
            self.engram.wake()
        return fact

    def history(self, id: str) -> Decisions:  # noqa: A002 - the public word
        """Every decision about a fact, oldest first: what, by whom, why, and the values before and after.

        Raises:
            FactNotFound: No such fact is visible.
        """
        return edit.history(self.engram.context, self.scope, self.principal, id, self._now(None))

    def forget(
        self,
        id: str,
        *,
        reason: str | None = None,
        dry_run: bool = False,
        now: datetime | None = None,  # noqa: A002
    ) -> Fact:
        """Archive a fact: no recall shows it, and `restore` brings it back.

        Args:
            id: The fact.
            reason: Why, for its history.
            dry_run: Return the fact as it is and change nothing; raises what the real call would raise.
            now: The time of the call, for replays.

        Raises:
            FactNotFound: No such fact is visible.
            ChangeRefused: It is archived already.
        """
        return edit.forget(
            self.engram.context, self.scope, self.principal, id, reason=reason, dry_run=dry_run, now=self._now(now)
        )

    def restore(self, id: str, *, reason: str | None = None, now: datetime | None = None) -> Fact:  # noqa: A002
        """Bring an archived fact back into recall; the night then leaves it alone for `protect_days`, at least a week.

        An original leaves the consolidated fact that stands for it, which says the rest from then on. A summary, or a
        merged fact with a single original left, ends, and all its originals come back.

        Raises:
            FactNotFound: No such fact is visible.
            ChangeRefused: It is not archived, or was for longer than the policy's `retain_archived_days`.
        """
        return splitting.restore(self.engram.context, self.scope, self.principal, id, reason=reason, now=self._now(now))

    def release(self, id: str, *, reason: str | None = None, now: datetime | None = None) -> Fact:  # noqa: A002
        """Let a quarantined fact into recall. Its trust stays what its origin gave it; `vouch` raises it.

        Raises:
            FactNotFound: No such fact is visible.
            ChangeRefused: It is not in quarantine, or this principal may not curate the scope.
        """
        context = self.engram.context
        fact = quarantining.release(context, self.scope, self.principal, id, reason=reason, now=self._now(now))
        if fact.status is Status.PENDING:
            self.engram.wake()
        return fact

    def reject(self, id: str, *, reason: str | None = None, now: datetime | None = None) -> Fact:  # noqa: A002
        """Turn a quarantined fact away: it is archived, and `restore` brings it back into quarantine only.

        Raises:
            FactNotFound: No such fact is visible.
            ChangeRefused: It is not in quarantine, or this principal may not curate the scope.
        """
        context = self.engram.context
        return quarantining.reject(context, self.scope, self.principal, id, reason=reason, now=self._now(now))

    def vouch(self, id: str, *, reason: str | None = None, now: datetime | None = None) -> Fact:  # noqa: A002
        """Trust a fact as this person's own word, from now on: its trust becomes 1.

        Raises:
            FactNotFound: No such fact is visible.
            ChangeRefused: This principal is not a person (`user:`) or may not curate the scope; the fact is in
                quarantine, or holds originals, which are what to vouch for.
        """
        context = self.engram.context
        return quarantining.vouch(context, self.scope, self.principal, id, reason=reason, now=self._now(now))

    def split(self, id: str, *, reason: str | None = None, now: datetime | None = None) -> Facts:  # noqa: A002
        """Withdraw a consolidated fact; return its originals, live again. Raises FactNotFound, ChangeRefused."""
        return [
            *splitting.split(self.engram.context, self.scope, self.principal, id, reason=reason, now=self._now(now))
        ]

    def share(
        self,
        id: str,
        *,
        to: Scope | str,
        reason: str | None = None,
        now: datetime | None = None,  # noqa: A002
    ) -> Fact:
        """Copy a fact into another scope, for those who may read there. It takes `read` here and `curate` there.

        The copy links to the fact as its source, has at most its trust, and keeps the messages it came from. What
        becomes of the fact later does not follow it. Shared before, the copy that is there is returned.

        Args:
            id: The fact.
            to: The other scope, such as the team's above this one.
            reason: Why, for the copy's history.
            now: The time of the call, for replays.

        Raises:
            FactNotFound: No such fact is visible.
            AccessDenied: This principal may not read here, or not curate there.
            ChangeRefused: The fact is archived, or lives there already.
        """
        context, there = self.engram.context, Scope.coerce(to)
        return sharing.share(context, self.scope, self.principal, id, there, reason=reason, now=self._now(now))

    def explain(
        self,
        id: str,
        *,
        about: str | None = None,  # noqa: A002
    ) -> explaining.RecallExplanation | explaining.FactExplanation:
        """Answer "why?".

        For a recall's id: what it showed and dropped, by which terms and rules. For a fact's id: where it came from and
        what happened to it.

        Args:
            id: A recall's or a fact's id.
            about: With a recall: a fact id whose absence to explain.

        Raises:
            FactNotFound, RecallNotFound: The id is neither.
        """
        context = self.engram.context
        return explaining.explain(context, self.scope, self.principal, id, self._now(None), about=about)

    @property
    def policy(self) -> MemoryPolicy:
        """The policy in force: this scope's own, or the nearest ancestor's, or the default."""
        return self.policy_source.policy

    @property
    def policy_source(self) -> PolicyVersion:
        """Where the policy in force was set, by whom and when; `scope` None and version 0 for the built-in default."""
        return policing.source(self.engram.context, self.scope, self.principal, self._now(None))

    def policy_history(self) -> PolicyChanges:
        """Every change of the policy in force here, oldest first: version, where it was set, who, when, what changed.

        What was set above while a nearer scope had a policy of its own never reached this scope and is left out.
        """
        return policing.history(self.engram.context, self.scope, self.principal, self._now(None))

    def set_policy(
        self, preset: str | None = None, *, version: int | None = None, now: datetime | None = None, **fields: Any
    ) -> MemoryPolicy:
        """Set a new policy version for this scope and what lies below it. Every process on the store obeys it at once.

        Args:
            preset: Start from `default`, `coding`, `research` or `support`; None starts from the policy in force.
            version: Start from this earlier version of this very scope instead, 0 for the built-in default: that is how
                to go back. It becomes a new version; nothing is undone in the history.
            fields: `MemoryPolicy` fields to change.
            now: The time of the call, for replays.

        Raises:
            InvalidPolicy: Unknown preset, version or field, a value out of range, or a design that is not installed.
        """
        return policing.set_new(
            self.engram.context,
            self.scope,
            self.principal,
            self._now(now),
            preset=preset,
            version=version,
            fields=fields,
        )

    def usage(self, *, top: int = 10, days: float = 90.0, now: datetime | None = None) -> reporting.UsageReport:
        """What was stored, recalled and used in this very scope; arguments as for `Engram.usage`.

        Raises:
            InvalidInput: An argument is out of range.
        """
        context = self.engram.context
        return reporting.report(
            context, self.scope, self.principal, below=False, top=top, days=days, now=self._now(now)
        )

    def _now(self, now: datetime | None) -> datetime:
        return _moment(now, self.engram.context.clock)

    def _require(self, operation: str, now: datetime, verb: Verb, *others: Verb, about: str = "") -> None:
        context = self.engram.context
        for other in others:
            warden.require(context, self.principal, other, self.scope, now, operation)
        warden.admit(context, self.principal, verb, self.scope, now, operation, about)

    # --- async twins: the same work in a thread ---

    async def aadd(
        self,
        messages: adding.Input,
        *,
        session: str | None = None,
        kind: str | None = None,
        importance: float | None = None,
        metadata: Mapping[str, object] | None = None,
        supersedes: str | Iterable[str] = (),
        subjects: Iterable[str] = (),
        allow_erased: bool = False,
        now: datetime | None = None,
        progress: adding.Progress | None = None,
    ) -> AddResult:
        """`add`, off the event loop."""
        return await off_loop(
            self.add,
            messages,
            session=session,
            kind=kind,
            importance=importance,
            metadata=metadata,
            supersedes=supersedes,
            subjects=subjects,
            allow_erased=allow_erased,
            now=now,
            progress=progress,
        )

    async def arecall(
        self,
        query: str,
        *,
        k: int = 8,
        max_tokens: int | None = None,
        min_score: float | None = None,
        kinds: Iterable[str] = (),
        session: str | None = None,
        as_of: datetime | None = None,
        include_archived: bool = False,
        cite: bool = False,
        now: datetime | None = None,
    ) -> Recall:
        """`recall`, off the event loop."""
        return await off_loop(
            self.recall,
            query,
            k=k,
            max_tokens=max_tokens,
            min_score=min_score,
            kinds=kinds,
            session=session,
            as_of=as_of,
            include_archived=include_archived,
            cite=cite,
            now=now,
        )

    async def abrief(self, *, max_tokens: int = 1_000, now: datetime | None = None) -> briefing.Brief:
        """`brief`, off the event loop."""
        return await off_loop(self.brief, max_tokens=max_tokens, now=now)

    async def aconsolidate(self, *, dry_run: bool = False, now: datetime | None = None) -> consolidating.Consolidation:
        """`consolidate`, off the event loop."""
        return await off_loop(self.consolidate, dry_run=dry_run, now=now)

    async def areflect(self, *, dry_run: bool = False, now: datetime | None = None) -> reflecting.Reflection:
        """`reflect`, off the event loop."""
        return await off_loop(self.reflect, dry_run=dry_run, now=now)

    async def aevolve(self, *, dry_run: bool = False, now: datetime | None = None) -> evolving.Evolution:
        """`evolve`, off the event loop."""
        return await off_loop(self.evolve, dry_run=dry_run, now=now)

    async def apropose(self, *, reason: str = "", now: datetime | None = None, **fields: Any) -> Proposal:
        """`propose`, off the event loop."""
        return await off_loop(self.propose, reason=reason, now=now, **fields)

    async def agaps(self, *, state: str | None = None, limit: int = 100) -> Gaps:
        """`gaps`, off the event loop."""
        return await off_loop(self.gaps, state=state, limit=limit)

    async def adismiss_gap(self, id: str, *, reason: str | None = None, now: datetime | None = None) -> Gap:  # noqa: A002
        """`dismiss_gap`, off the event loop."""
        return await off_loop(self.dismiss_gap, id, reason=reason, now=now)

    async def aobserve(
        self, recall_id: str, response: str | None, *, judge: bool = False, now: datetime | None = None
    ) -> Usage:
        """`observe`, off the event loop."""
        return await off_loop(self.observe, recall_id, response, judge=judge, now=now)

    async def aget(self, id: str) -> Fact:  # noqa: A002
        """`get`, off the event loop."""
        return await off_loop(self.get, id)

    async def alist(
        self, *, kind: str | None = None, status: str | None = None, limit: int = 100, after: str | None = None
    ) -> Facts:
        """`list`, off the event loop."""
        return await off_loop(self.list, kind=kind, status=status, limit=limit, after=after)

    async def aupdate(
        self,
        id: str,  # noqa: A002
        *,
        text: str | None = None,
        kind: str | None = None,
        importance: float | None = None,
        pinned: bool | None = None,
        valid_from: datetime | None = None,
        valid_until: datetime | None = None,
        metadata: Mapping[str, object] | None = None,
        now: datetime | None = None,
    ) -> Fact:
        """`update`, off the event loop."""
        return await off_loop(
            self.update,
            id,
            text=text,
            kind=kind,
            importance=importance,
            pinned=pinned,
            valid_from=valid_from,
            valid_until=valid_until,
            metadata=metadata,
            now=now,
        )

    async def ahistory(self, id: str) -> Decisions:  # noqa: A002
        """`history`, off the event loop."""
        return await off_loop(self.history, id)

    async def aforget(
        self,
        id: str,
        *,
        reason: str | None = None,
        dry_run: bool = False,
        now: datetime | None = None,  # noqa: A002
    ) -> Fact:
        """`forget`, off the event loop."""
        return await off_loop(self.forget, id, reason=reason, dry_run=dry_run, now=now)

    async def arestore(self, id: str, *, reason: str | None = None, now: datetime | None = None) -> Fact:  # noqa: A002
        """`restore`, off the event loop."""
        return await off_loop(self.restore, id, reason=reason, now=now)

    async def arelease(self, id: str, *, reason: str | None = None, now: datetime | None = None) -> Fact:  # noqa: A002
        """`release`, off the event loop."""
        return await off_loop(self.release, id, reason=reason, now=now)

    async def areject(self, id: str, *, reason: str | None = None, now: datetime | None = None) -> Fact:  # noqa: A002
        """`reject`, off the event loop."""
        return await off_loop(self.reject, id, reason=reason, now=now)

    async def avouch(self, id: str, *, reason: str | None = None, now: datetime | None = None) -> Fact:  # noqa: A002
        """`vouch`, off the event loop."""
        return await off_loop(self.vouch, id, reason=reason, now=now)

    async def asplit(self, id: str, *, reason: str | None = None, now: datetime | None = None) -> Facts:  # noqa: A002
        """`split`, off the event loop."""
        return await off_loop(self.split, id, reason=reason, now=now)

    async def ashare(
        self,
        id: str,
        *,
        to: Scope | str,
        reason: str | None = None,
        now: datetime | None = None,  # noqa: A002
    ) -> Fact:
        """`share`, off the event loop."""
        return await off_loop(self.share, id, to=to, reason=reason, now=now)

    async def aexplain(
        self,
        id: str,
        *,
        about: str | None = None,  # noqa: A002
    ) -> explaining.RecallExplanation | explaining.FactExplanation:
        """`explain`, off the event loop."""
        return await off_loop(self.explain, id, about=about)

    async def ausage(self, *, top: int = 10, days: float = 90.0, now: datetime | None = None) -> reporting.UsageReport:
        """`usage`, off the event loop."""
        return await off_loop(self.usage, top=top, days=days, now=now)

    async def apolicy(self) -> MemoryPolicy:
        """`policy`, off the event loop."""
        return (await self.apolicy_source()).policy

    async def apolicy_source(self) -> PolicyVersion:
        """`policy_source`, off the event loop."""
        return await off_loop(lambda: self.policy_source)

    async def apolicy_history(self) -> PolicyChanges:
        """`policy_history`, off the event loop."""
        return await off_loop(self.policy_history)

    async def aset_policy(
        self, preset: str | None = None, *, version: int | None = None, now: datetime | None = None, **fields: Any
    ) -> MemoryPolicy:
        """`set_policy`, off the event loop."""
        return await off_loop(self.set_policy, preset, version=version, now=now, **fields)


def _moment(now: datetime | None, clock: Clock, name: str = "now") -> datetime:
    if now is not None and not isinstance(now, datetime):
        raise InvalidInput(f"{name} must be a datetime, not {type(now).__name__}.")
    return aware(now) if now is not None else clock()


def _statuses(status: str | None) -> tuple[Status, ...]:
    if status is None:
        return (Status.LIVE, Status.PENDING)
    if status == "all":
        return tuple(item for item in Status if item is not Status.ERASED)
    if status not in set(Status):
        raise InvalidInput(f"Unknown status {status!r}; use {', '.join(Status)} or all.")
    return (Status(status),)


def _share(name: str, value: float | None) -> float | None:
    if value is not None and not (isinstance(value, int | float) and 0.0 <= value <= 1.0):
        raise InvalidInput(f"{name} must be a number from 0 to 1, not {value!r}.")
    return value


def _kind(kind: str | None) -> str | None:
    refusal = legality.unfit_kind(kind) if isinstance(kind, str) else None
    if refusal is not None or not isinstance(kind, str | None):
        raise InvalidInput(f"kind must be a word such as 'preference', not {kind!r}.")
    return kind


def _metadata(metadata: Mapping[str, object] | None) -> Mapping[str, object]:
    if metadata is None:
        return {}
    refusal = legality.unfit_metadata(metadata)
    if refusal is not None:
        raise InvalidInput(refusal.line)
    return dict(metadata)
