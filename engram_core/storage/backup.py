"""Backup: a consistent copy of a ledger as one file with a manifest, and putting it back. It knows no table by name.

A backup is a zip of `ledger.db`, a SQLite ledger whatever the store's database is, and `manifest.json`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import make_url

from engram_core.domain.errors import InvalidInput, StoreUnavailable
from engram_core.storage import moving, tables
from engram_core.storage.engines import open_engines
from engram_core.storage.schema import HEAD
from engram_core.storage.trouble import mapped

FORMAT: Final = 1
LEDGER: Final = "ledger.db"
MANIFEST: Final = "manifest.json"
_BLOCK: Final = 1 << 20
_PAGES: Final = 4_096
"""Pages copied at a time, about 16 MB; other processes go on reading and writing between."""

Progress = Callable[[str, int, int], None]


def write(url: str, path: Path, at: datetime, progress: Progress | None = None) -> dict[str, Any]:
    """Write a backup of the ledger at a database URL; return the manifest.

    Raises:
        InvalidInput: The file cannot be written.
        StoreUnavailable: The ledger cannot be read, or (PostgreSQL) others kept writing; no file is left.
    """
    with tempfile.TemporaryDirectory(prefix="engram-backup-", dir=_folder(path)) as folder:
        copy = Path(folder, LEDGER)
        with mapped(url):
            _copied(url, copy, progress)
            counts, digests = _forget_index(copy)
        manifest = {
            "format": FORMAT,
            "schema": HEAD,
            "at": at.isoformat(),
            "rows": counts,
            "digests": {name: one.hex for name, one in digests.items()},
            "digest": tables.summed(digests),
            "tombstones": _tombstones(copy),
            "sha256": _sha256(copy),
        }
        fresh = path.with_name(f"{path.name}.new")
        try:
            with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                archive.writestr(MANIFEST, json.dumps(manifest, indent=2, sort_keys=True))
                archive.write(copy, LEDGER)
            with fresh.open("rb+") as file:
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise InvalidInput(f"The backup cannot be written to {path}: {error}.") from error
    return manifest


def _folder(path: Path) -> Path:
    if not path.parent.is_dir():
        raise InvalidInput(f"There is no directory {path.parent} to write the backup to.")
    return path.parent


def _copied(url: str, copy: Path, progress: Progress | None) -> None:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        moving.move(url, f"sqlite:///{copy}", progress=progress)
        return
    with (
        closing(sqlite3.connect(str(parsed.database))) as source,
        closing(sqlite3.connect(copy)) as target,
    ):

        def moved(_status: int, remaining: int, total: int) -> None:
            if progress is not None:
                progress("copy", total - remaining, total)

        source.backup(target, pages=_PAGES, progress=moved)


def _forget_index(copy: Path) -> tuple[dict[str, int], dict[str, tables.Digest]]:
    """The copy is of no index: the place that it is restored to builds its own. Returns rows and digests by table."""
    engines = open_engines(f"sqlite:///{copy}")
    try:
        with engines.writer.begin() as connection:
            for name in tables.LOCAL:
                connection.exec_driver_sql(f'DELETE FROM "{name}"')
        with engines.reading() as connection:
            digests = {table.name: tables.digest(connection, table) for table in tables.carried()}
    finally:
        engines.dispose()
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    return {name: one.rows for name, one in digests.items()}, digests


def _tombstones(copy: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(copy)) as connection:
        marks = [row[0] for row in connection.execute("SELECT mark FROM tombstones ORDER BY mark")]
    return {"count": len(marks), "head": hashlib.sha256("".join(marks).encode()).hexdigest()}


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


@contextmanager
def opened(path: Path, beside: Path) -> Iterator[tuple[Mapping[str, Any], Path]]:
    """A backup's manifest, and its ledger unpacked into a fresh directory at `beside` that goes again.

    Raises:
        InvalidInput: It is no backup, one of a newer format, or its ledger is not the one of its manifest.
    """
    folder = Path(tempfile.mkdtemp(prefix=".restoring-", dir=beside))
    try:
        yield _unpacked(path, folder), folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpacked(path: Path, folder: Path) -> Mapping[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sorted(archive.namelist()) != [LEDGER, MANIFEST]:
                raise InvalidInput(f"{path} is no backup of Engram: it holds {', '.join(archive.namelist()[:5])}.")
            manifest: dict[str, Any] = json.loads(archive.read(MANIFEST))
            if manifest.get("format") != FORMAT:
                raise InvalidInput(f"{path} has format {manifest.get('format')!r}; this Engram reads {FORMAT}.")
            with archive.open(LEDGER) as source, Path(folder, "engram.db").open("wb") as target:
                shutil.copyfileobj(source, target, _BLOCK)
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
        raise InvalidInput(f"{path} cannot be read as a backup: {error}.") from error
    if _sha256(Path(folder, "engram.db")) != manifest.get("sha256"):
        raise InvalidInput(f"{path} is damaged: its ledger is not the one that its manifest tells of.")
    return manifest


def put(folder: Path, store: Path) -> None:
    """Put a prepared ledger in the place of a store's, with its tombstones; the old index goes."""
    target, fresh = store / "engram.db", folder / "engram.db"
    with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    if target.exists():
        seized(target)
    beside = folder / "engram.db.tombstones"
    if beside.exists():
        beside.replace(store / "engram.db.tombstones")
    for suffix in ("-wal", "-shm"):
        (store / f"engram.db{suffix}").unlink(missing_ok=True)
    fresh.replace(target)
    shutil.rmtree(store / "index", ignore_errors=True)


def seized(target: Path) -> None:
    """Make sure that nobody uses a ledger, and that its log holds nothing. Raises StoreUnavailable if somebody does."""
    try:
        with closing(sqlite3.connect(target, timeout=1.0, isolation_level=None)) as connection:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(f"The store is in use: {error}. Close what uses it, and try again.") from error
    except sqlite3.DatabaseError:
        return  # it is damaged, which is why something is put in its place
