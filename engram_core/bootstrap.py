"""Bootstrap: the only place that names a database, Chroma, an embedder or a design. It wires; it does nothing else."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata as distributions
from pathlib import Path
from typing import Any

from engram_core.design import Design
from engram_core.domain.errors import (
    EmbeddingFailed,
    IndexUnavailable,
    InvalidInput,
    SandboxUnavailable,
    StoreUnavailable,
)
from engram_core.domain.guard import Guard
from engram_core.domain.scope import Scope
from engram_core.domain.server import ChromaServer
from engram_core.engram import DEFAULT_EXACT_LIMIT, DEFAULT_OWNER, DEFAULT_URL, Engram
from engram_core.operations.background import Worker
from engram_core.operations.compare import Question
from engram_core.operations.context import Context
from engram_core.operations.erase import TOMBSTONES, catch_up
from engram_core.operations.recorder import Recorder
from engram_core.operations.restoring import Living, note, repeat
from engram_core.operations.warden import Rulebook
from engram_core.ports import Clock, Finder, LanguageModel, Ledger, NewId, Reranker, Source, StoreEmbedder, TokenCounter

MEMORY_URL = ":memory:"
EMBEDDER = "embedder"
"""Setting that holds the embedder's fingerprint."""
DESIGN_GROUP = "engram.designs"
"""Entry-point group under which other distributions register designs."""

_shared: dict[str, tuple[int, Engram]] = {}
_sharing = threading.Lock()


def open_store(
    url: str,
    *,
    index: str | ChromaServer | None,
    embedder: Any,
    model: Any,
    reranker: Any = None,
    token_counter: Any,
    owner: str,
    guards: tuple[Guard, ...],
    audit: str,
    exact_limit: int,
    clock: Clock | None,
    ids: NewId | None,
    rng: random.Random | None,
    sources: Any = None,
    allow_code_designs: bool = False,
) -> Engram:
    """Build a store from its parts; see `Engram.open`."""
    from engram_core.models.bridges import as_embedder  # noqa: PLC0415 - loads lazily with the first store
    from engram_core.models.language import as_language_model  # noqa: PLC0415
    from engram_core.models.reranking import as_reranker  # noqa: PLC0415
    from engram_core.models.sealed import SealedEmbedder  # noqa: PLC0415
    from engram_core.models.sources import as_sources  # noqa: PLC0415
    from engram_core.models.tokens import token_counter as counting  # noqa: PLC0415
    from engram_core.storage.finder import LedgerFinder  # noqa: PLC0415

    if not all(callable(guard) for guard in guards):
        raise InvalidInput("guards are callables: each takes a text and its Origin and returns a GuardVerdict or None.")
    if exact_limit < 0:
        raise InvalidInput("exact_limit counts facts; it cannot be negative.")
    known_sources = as_sources(sources)
    ledger, place = _ledger(url, index)
    try:
        sealed = SealedEmbedder(
            as_embedder(embedder),
            ledger.setting(EMBEDDER),
            lambda mark: ledger.set_setting(EMBEDDER, mark, only_if_absent=True),
        )
        finder = LedgerFinder(
            ledger,
            place=place,
            dimension=lambda: _dimension(sealed),
            fingerprint=lambda: ledger.setting(EMBEDDER) or sealed.name,
            exact_limit=exact_limit,
        )
        recorder = Recorder(ledger.audit, audit)
        context = _context(
            ledger,
            finder,
            sealed,
            ledger.set_setting("owner", owner, only_if_absent=True),
            counter=counting(token_counter),
            clock=clock,
            ids=ids,
            rng=rng,
            recorder=recorder,
            allow_code_designs=allow_code_designs,
            model=as_language_model(model) if model is not None else None,
            reranker=as_reranker(reranker) if reranker is not None else None,
            sources=known_sources,
            guards=guards,
        )
    except BaseException:
        ledger.close()
        raise
    worker = Worker(context)

    def close() -> None:
        try:
            recorder.close()
        finally:
            finder.close()
            ledger.close()

    store = Engram(context, worker, close, url=url)
    try:
        catch_up(context)
    except BaseException:
        close()
        raise
    finder.wake()
    if ledger.pending(1) or (context.model is not None and ledger.episodes_due(1)):
        worker.wake()
    return store


def _context(
    ledger: Ledger,
    finder: Finder,
    embedder: StoreEmbedder,
    owner: str,
    *,
    counter: TokenCounter | None = None,
    clock: Clock | None = None,
    ids: NewId | None = None,
    rng: random.Random | None = None,
    recorder: Recorder | None = None,
    model: LanguageModel | None = None,
    reranker: Reranker | None = None,
    sources: Sequence[tuple[Scope | None, Source]] = (),
    guards: tuple[Guard, ...] = (),
    allow_code_designs: bool = False,
) -> Context:
    """What operations get, with the parts that every store shares."""
    from engram_core.models.answerer import answer  # noqa: PLC0415
    from engram_core.models.extraction import extract  # noqa: PLC0415
    from engram_core.models.judge import judge  # noqa: PLC0415
    from engram_core.models.tokens import token_counter  # noqa: PLC0415
    from engram_core.models.update_judge import judge_update  # noqa: PLC0415

    return Context(
        ledger=ledger,
        finder=finder,
        embedder=embedder,
        counter=counter or token_counter(None),
        designs=_designs(ledger, allow_code_designs),
        clock=clock or _now,
        new_id=ids or _new_id(),
        rng=rng or random.SystemRandom(),
        owner=owner,
        model=model,
        extractor=extract,
        judge=judge,
        judge_update=judge_update,
        answerer=answer,
        sources=sources,
        guards=guards,
        reranker=reranker,
        rules=Rulebook(ledger.access, owner),
        audit=recorder or Recorder(ledger.audit, "off"),
    )


def reembed(
    url: str,
    *,
    index: str | ChromaServer | None = None,
    embedder: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Embed a whole store anew with another embedder. Close the store elsewhere first; nothing changes on failure.

    Args:
        url, index: Where the store and its index are, as for `Engram.open`.
        embedder: As for `Engram.open`; None for the offline default.
        progress: Called with (done, total) facts.

    Raises:
        EmbeddingFailed: The new embedder failed; the store is as it was.
    """
    from engram_core.models.bridges import CheckedEmbedder, as_embedder, fingerprint  # noqa: PLC0415
    from engram_core.operations.reembed import reembed as embed_again  # noqa: PLC0415

    ledger, _ = _ledger(url, index)
    try:
        checked = CheckedEmbedder(as_embedder(embedder))
        mark = fingerprint(checked)
        return {"facts": embed_again(ledger, checked, mark, progress), "embedder": mark}
    finally:
        ledger.close()


def migrate_store(
    source: str,
    target: str,
    *,
    index: str | ChromaServer | None = None,
    dry_run: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Copy a whole store into an empty place; see `Engram.migrate`."""
    from engram_core.operations import compare  # noqa: PLC0415
    from engram_core.storage import moving  # noqa: PLC0415
    from engram_core.storage.ledger import SqlLedger  # noqa: PLC0415

    if MEMORY_URL in (source, target):
        raise InvalidInput("A store in memory cannot be migrated: it is gone when it is closed.")
    old, _ = _address(source)
    new, beside = _address(target)
    moved = moving.move(old, new, dry_run=True)  # refuses what is wrong before a directory is made
    if not dry_run:
        if beside is not None:
            _make_directory(Path(target))
        moved = moving.move(old, new, progress=progress)
    report: dict[str, Any] = {
        "rows": dict(moved.rows),
        "digests": dict(moved.digests),
        "digest": moved.digest,
        "dry_run": dry_run,
        "continued": moved.was_there,
    }
    if dry_run:
        return report
    was, now_is = SqlLedger(old), SqlLedger(new)
    try:
        asked = compare.questions(was)
        moment = _now()
        told = progress or (lambda _label, _done, _total: None)
        told("Comparing sample recalls", 0, 2)
        before = compare.answers(_reader(was, asked), asked, moment)
        told("Comparing sample recalls", 1, 2)
        after = compare.answers(_reader(now_is, asked), asked, moment)
        told("Comparing sample recalls", 2, 2)
        if before != after:
            if not moved.was_there:
                moving.empty(new)
            raise StoreUnavailable(
                f"{sum(one != other for one, other in zip(before, after, strict=True))} of {len(asked)} sample recalls "
                "differ between source and target, although their rows are equal. "
                f"{'The target is as it was' if moved.was_there else 'Nothing was kept in the target'}; please "
                "report it."
            )
        built = _indexed(now_is, _index_place(index, beside), progress)
        return report | {"recalls": len(asked), **built}
    finally:
        was.close()
        now_is.close()


def owner_of(url: str) -> str:
    """The owner of the store at a URL; the one that a new store would have where there is none, or it is damaged."""
    from engram_core.storage.ledger import SqlLedger  # noqa: PLC0415

    address, beside = _address(url)
    if url == MEMORY_URL or (beside is not None and not (Path(url) / "engram.db").is_file()):
        return DEFAULT_OWNER
    try:
        ledger = SqlLedger(address)
    except StoreUnavailable:
        return DEFAULT_OWNER
    try:
        return ledger.setting("owner") or DEFAULT_OWNER
    finally:
        ledger.close()


def take_away(store: Path, before: frozenset[Path] | None) -> None:
    """Remove a new store in which nothing is, unless somebody else uses it by now.

    Args:
        before: What was in the directory before it, which stays; None if it was made for the store.
    """
    from engram_core.storage import backup  # noqa: PLC0415

    try:
        backup.seized(store / "engram.db")
    except StoreUnavailable:
        return
    for path in frozenset(store.iterdir()) - (before or frozenset()):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if before is None:
        store.rmdir()


def back_up(url: str, path: str, progress: Callable[[str, int, int], None] | None = None) -> dict[str, Any]:
    """Write a backup of the ledger at a database URL; see `Engram.backup`."""
    from engram_core.storage import backup  # noqa: PLC0415

    if url == MEMORY_URL:
        raise InvalidInput("A store in memory has no backup: it is gone when it is closed. `export` writes its facts.")
    return backup.write(url, Path(path), _now(), progress)


def restore_backup(
    path: str,
    url: str,
    *,
    replace: bool = False,
    tombstones: str | None = None,
    embedder: Any = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Put a backup in the place of a store; see `Engram.restore_backup`."""
    from engram_core.storage import backup, moving  # noqa: PLC0415

    if url == MEMORY_URL:
        raise InvalidInput("A backup is restored to a directory or a database, not to memory.")
    address, beside = _address(url)
    store = Path(url).resolve() if beside is not None else None
    state, living = _replaced(address, store, replace=replace)
    with _directory(store), backup.opened(Path(path), store or Path(tempfile.gettempdir())) as (manifest, folder):
        stones = Path(tombstones) if tombstones is not None else _left_beside(store, living)
        if stones is not None:
            try:
                shutil.copyfile(stones, folder / "engram.db.tombstones")
            except OSError as error:
                raise InvalidInput(f"The tombstones in {stones} cannot be read: {error}.") from error
        again, kept, is_same = _caught_up(folder, living, embedder)
        if store is not None:
            backup.put(folder, store)
        else:
            if replace:
                moving.empty(address)
            moving.move(f"sqlite:///{folder / 'engram.db'}", address, progress=progress)
    replaced = state if living is None or is_same else "another"
    return {"manifest": dict(manifest), "erased_again": again, "replaced": replaced, "kept": kept, "url": url}


@contextmanager
def _directory(store: Path | None) -> Iterator[None]:
    """The directory of a store that is to be; one that was made for nothing goes again."""
    is_new = store is not None and not store.exists()
    if store is not None:
        _make_directory(store)
    try:
        yield
    except BaseException:
        if is_new and store is not None and not any(store.iterdir()):
            store.rmdir()
        raise


def _replaced(address: str, store: Path | None, *, replace: bool) -> tuple[str, Living | None]:
    """What stands where a backup goes: `nothing`, `itself` with what it knows, or `unreadable`."""
    from engram_core.storage.ledger import SqlLedger  # noqa: PLC0415

    if store is not None and not (store / "engram.db").exists():
        return "nothing", None
    if not replace:
        if store is None:
            ledger = SqlLedger(address)
            is_used = bool(ledger.scopes())
            ledger.close()
            if not is_used:
                return "nothing", None
        raise InvalidInput("There is a store already; replace=True (`--replace`) puts the backup in its place.")
    try:
        ledger = SqlLedger(address)
    except StoreUnavailable:
        return "unreadable", None
    try:
        return "itself", Living.of(ledger, _identity(ledger))
    except StoreUnavailable:
        return "unreadable", None
    finally:
        ledger.close()


def _identity(ledger: Ledger) -> str | None:
    """What a store has in common with its copies and with no other store."""
    from engram_core.storage.audit_book import KEY  # noqa: PLC0415

    return ledger.setting(KEY)


def _left_beside(store: Path | None, living: Living | None) -> Path | None:
    """The tombstones beside a ledger that cannot be asked any more."""
    path = store / "engram.db.tombstones" if store is not None and living is None else None
    return path if path is not None and path.is_file() else None


def _caught_up(folder: Path, living: Living | None, embedder: Any) -> tuple[int, dict[str, int], bool]:
    """Open a restored copy where nobody sees it, and repeat there what was decided since.

    Returns:
        How many facts were erased again, what else was repeated, and whether the living store is the copy's own.
    """
    began = _now()
    with Engram.open(folder, index="exact", embedder=embedder) as engram:
        is_same = living is not None and living.identity == _identity(engram.context.ledger)
        kept = repeat(engram.context, living, is_same=is_same) if living is not None else {}
        note(engram.context, living)
        told = [item for item in engram.erasures(1_000) if item.get("selector") == TOMBSTONES]
        again = sum(item.get("count", 0) for item in told if datetime.fromisoformat(item["at"]) >= began)
        return again, kept, is_same


def _reader(ledger: Ledger, asked: Sequence[Question]) -> Context:
    """A store that only answers those questions, exactly, and records nothing."""
    from engram_core.operations.compare import KnownVectors  # noqa: PLC0415
    from engram_core.storage.finder import LedgerFinder  # noqa: PLC0415

    known = KnownVectors(asked)
    finder = LedgerFinder(
        ledger, place=None, dimension=lambda: known.dimension, fingerprint=lambda: known.name, exact_limit=0
    )
    return _context(ledger, finder, known, ledger.setting("owner") or DEFAULT_OWNER)


def _indexed(
    ledger: Ledger, place: str | ChromaServer | None, progress: Callable[[str, int, int], None] | None
) -> dict[str, Any]:
    """Build the index of a store that has just been filled; without success the store builds it when it is opened."""
    from engram_core.storage.finder import LedgerFinder  # noqa: PLC0415
    from engram_core.storage.projector import LEASE_S  # noqa: PLC0415

    mark = ledger.setting(EMBEDDER)
    if place is None or mark is None:
        return {"vectors": 0, "index_problem": None}
    finder = LedgerFinder(
        ledger,
        place=place,
        dimension=lambda: int(mark.rsplit("/", 2)[1]),
        fingerprint=lambda: mark,
        exact_limit=DEFAULT_EXACT_LIMIT,
    )
    try:
        # A migration that was killed here left its lease; nobody else has a reason to hold one.
        vectors = finder.rebuild(
            lambda done, total: progress and progress("Indexing", done, total), patience=LEASE_S + 1.0
        )
    except IndexUnavailable as error:
        return {"vectors": 0, "index_problem": str(error)}
    finally:
        finder.close()
    return {"vectors": vectors, "index_problem": None}


def shared(url: str | None = None) -> Engram:
    """The process's shared store at `url`, else at `ENGRAM_URL` with the index at `ENGRAM_INDEX`, else `./.engram`.

    Opened once, closed at exit.
    """
    wanted = url or os.environ.get("ENGRAM_URL") or DEFAULT_URL
    key = wanted if "://" in wanted or wanted == MEMORY_URL else str(Path(wanted).resolve())
    with _sharing:
        pid, store = _shared.get(key, (0, None))
        # A forked child must not use its parent's connections.
        if store is None or pid != os.getpid() or store.is_closed:
            store = Engram.open(key, index=os.environ.get("ENGRAM_INDEX") or None if url is None else None)
            _shared[key] = (os.getpid(), store)
        return store


def _close_shared() -> None:
    for pid, store in list(_shared.values()):
        if pid == os.getpid():
            store.close()
    _shared.clear()


atexit.register(_close_shared)


def _dimension(embedder: StoreEmbedder) -> int:
    """The vectors' length; 1 while a new store's embedder has never answered, when there are no vectors either."""
    try:
        return embedder.dimension
    except EmbeddingFailed:
        return 1


def _ledger(url: str, index: str | ChromaServer | None) -> tuple[Ledger, str | ChromaServer | None]:
    """The ledger, and where its index is: a directory, a server's address, or None for exact search."""
    if url == MEMORY_URL:
        from engram_core.testing.memory_ledger import MemoryLedger  # noqa: PLC0415

        return MemoryLedger(), _index_place(index, None)
    from engram_core.storage.ledger import SqlLedger  # noqa: PLC0415

    address, beside = _address(url)
    if beside is not None:
        _make_directory(Path(url))
    return SqlLedger(address), _index_place(index, beside)


def _address(url: str) -> tuple[str, str | None]:
    """The database URL of a store's ledger, and where its index is unless somebody says otherwise."""
    if "://" in url:
        return url, None
    directory = Path(url).resolve()
    return f"sqlite:///{directory / 'engram.db'}", str(directory / "index")


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(
            f"The store's directory {directory} cannot be created: {error}. Choose another one, or set ENGRAM_URL."
        ) from error


def _index_place(index: str | ChromaServer | None, default: str | None) -> str | ChromaServer | None:
    if index is None:
        return default
    return None if index == "exact" else index


def _designs(ledger: Ledger, allow_code: bool) -> Callable[[str], Design | None]:
    from engram_core.designs.pipeline import Pipeline  # noqa: PLC0415
    from engram_core.designs.plain import Null, Recency, Similarity  # noqa: PLC0415

    known: dict[str, Design] = {design.name: design for design in (Pipeline(), Null(), Similarity(), Recency())}

    def find(name: str) -> Design | None:
        if name not in known and ":" in name:
            archived = _from_archive(ledger, name, allow_code)
            if archived is not None:
                known[name] = archived
        elif name not in known:
            for entry in distributions.entry_points(group=DESIGN_GROUP, name=name):
                known[name] = entry.load()()
        return known.get(name)

    return find


def _from_archive(ledger: Ledger, name: str, allow_code: bool) -> Design | None:
    """The design of an id such as `genome:<hash>`, whole or its start; None if the archive does not hold it."""
    from engram_core.designs.genome import Genome, compiled, registry  # noqa: PLC0415

    spec = ledger.designs.get(name)
    if spec is None:
        return None
    if spec.kind == "genome":
        return compiled(Genome.parsed(spec.source, registry()))
    if spec.kind != "code":
        return None
    if not allow_code:
        raise SandboxUnavailable(
            f"{name} is code, which this store may not run: Engram.open(..., allow_code_designs=True) allows it."
        )
    from engram_core.designs.code import CodeDesign  # noqa: PLC0415

    return CodeDesign(spec.source)


def _now() -> datetime:
    return datetime.now(UTC)


def _new_id() -> NewId:
    import uuid_utils  # noqa: PLC0415

    def new_id() -> str:
        return str(uuid_utils.uuid7())

    return new_id
