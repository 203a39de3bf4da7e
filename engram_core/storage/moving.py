"""Moving: copies a whole ledger into another, empty one, in one transaction, and proves that both hold the same.

The target has everything or nothing: it is committed after its tables, its full text and a second reading of the source
agree. The source is only read. It knows no table by name but the counter that says whether a ledger was ever used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, make_url

from engram_core.domain.errors import InvalidInput, SchemaTooNew, StoreUnavailable
from engram_core.storage import schema, tables
from engram_core.storage.engines import Engines, open_engines
from engram_core.storage.migrate import migrate, revision
from engram_core.storage.trouble import mapped, without_password

Progress = Callable[[str, int, int], None]
_SEEDED = frozenset({"counter", "settings", "heads", "audit"})
"""Tables in which opening an empty store leaves rows."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What was copied, or would be.

    Attributes:
        rows: By table.
        digests: By table, 64 hexadecimal digits; empty for a rehearsal.
        digest: Of the whole store; None for a rehearsal.
    """

    rows: Mapping[str, int]
    digests: Mapping[str, str]
    digest: str | None


def move(source: str, target: str, *, dry_run: bool = False, progress: Progress | None = None) -> Moved:
    """Copy the ledger at one database URL into the empty one at another.

    Args:
        source, target: SQLAlchemy URLs of SQLite or PostgreSQL.
        dry_run: Check both and count; write nothing, and create nothing.
        progress: Called with (what is being done, rows done, rows in all).

    Raises:
        InvalidInput: Source and target are the same, the source has an older schema, or the target holds something.
        StoreUnavailable: One of them cannot be used, or the source changed meanwhile. The target is as it was.
        SchemaTooNew: A newer Engram wrote one of them.
    """
    if _place(source) == _place(target):
        raise InvalidInput("Source and target are the same store. Name an empty one as the target.")
    with _opened(source) as old, _opened(target) as new:
        _check_source(source, old)
        _check_target(target, new)
        with mapped(source):
            rows = _counted(old)
        if dry_run:
            return Moved(rows, {}, None)
        copied = _moved(source, old, target, new, _Steps(sum(rows.values()), progress))
        digests = {name: found.hex for name, found in copied.items()}
        return Moved({name: found.rows for name, found in copied.items()}, digests, tables.summed(copied))


def empty(url: str) -> None:
    """Take back everything that `move` wrote: the target is empty again."""
    with _opened(url) as engines, mapped(url), engines.writer.begin() as connection:
        tables.clear(connection)
        connection.execute(schema.counter.insert(), {"id": 1, "seq": 0})


def digest_of(url: str) -> str:
    """The digest of a whole store, to compare it with another one; reads every row."""
    with _opened(url) as engines:
        _check_source(url, engines)
        with mapped(url), engines.snapshot() as connection:
            return tables.summed({table.name: tables.digest(connection, table) for table in tables.carried()})


class _Steps:
    """Counts rows for a progress bar: each is read, read again in the target, and read again in the source."""

    def __init__(self, rows: int, progress: Progress | None) -> None:
        self._rows, self._progress = 3 * rows, progress
        self._done = 0

    def move(self, label: str, rows: int) -> None:
        self._done += rows
        if self._progress is not None:
            self._progress(label, min(self._done, self._rows), self._rows)


def _moved(source: str, old: Engines, target: str, new: Engines, steps: _Steps) -> dict[str, tables.Digest]:
    with mapped(target):
        migrate(new)
        with new.writer.begin() as writer:
            new.take_time(writer)
            # Whoever opens the target meanwhile waits for its counter, and then finds everything.
            writer.execute(schema.counter.update().values(seq=schema.counter.c.seq))
            _refuse_used(target, writer)
            tables.clear(writer)
            copied = _copied(source, old, writer, steps)
            tables.restart_numbers(writer)
            tables.write_full_text(writer)
            _verify(source, old, writer, copied, steps)
    return copied


def _copied(source: str, old: Engines, writer: Connection, steps: _Steps) -> dict[str, tables.Digest]:
    copied: dict[str, tables.Digest] = {}
    with mapped(source), old.snapshot() as reader:
        old.take_time(reader)
        for table in tables.carried():
            found = copied[table.name] = tables.Digest()
            for rows in tables.walk(reader, table):
                for row in rows:
                    found.add(table, row)
                tables.write(writer, table, rows)
                steps.move(f"Copying {table.name}", len(rows))
    return copied


def _verify(source: str, old: Engines, writer: Connection, copied: Mapping[str, tables.Digest], steps: _Steps) -> None:
    for table in tables.carried():
        written = tables.digest(writer, table, partial(steps.move, "Verifying the target"))
        if written != copied[table.name]:
            raise StoreUnavailable(
                f"The target does not give back what was written into its table {table.name}: {written.rows} rows "
                f"instead of {copied[table.name].rows}, or others. Nothing was kept there; try another database."
            )
    if tables.full_text(writer) != tables.full_text_expected(writer):
        raise StoreUnavailable(
            "The full text built in the target does not agree with the source's word statistics. Nothing was kept in "
            "the target; look at the source with `engram doctor`."
        )
    with mapped(source), old.snapshot() as reader:
        seen = partial(steps.move, "Verifying the source")
        changed = [table.name for table in tables.carried() if tables.digest(reader, table, seen) != copied[table.name]]
    if changed:
        raise StoreUnavailable(
            f"The source was written to while it was copied ({', '.join(changed)}). Nothing was kept in the target; "
            "stop the programs that use the source, and try again."
        )


def _counted(engines: Engines) -> dict[str, int]:
    with engines.snapshot() as connection:
        return {table.name: tables.count(connection, table) for table in tables.carried()}


def _check_source(url: str, engines: Engines) -> None:
    if _file(url) is not None and not _is_file(url):
        raise StoreUnavailable(f"There is no store at {without_password(url)}.")
    with mapped(url):
        found = revision(engines)
    if found is None:
        raise StoreUnavailable(f"There is no store at {without_password(url)}: the database has no ledger in it.")
    if found == schema.HEAD:
        return
    if found > schema.HEAD:
        raise SchemaTooNew(
            f"The store at {without_password(url)} has schema {found!r}, newer than this Engram's {schema.HEAD!r}. "
            "Upgrade Engram."
        )
    raise InvalidInput(
        f"The store at {without_password(url)} has schema {found!r}; this Engram moves {schema.HEAD!r}. Open it once "
        "with this Engram, for instance by `engram doctor`, which upgrades it."
    )


def _check_target(url: str, engines: Engines) -> None:
    if _file(url) is not None and not _is_file(url):
        return
    with mapped(url):
        if revision(engines) is None:
            return
        if revision(engines) == schema.HEAD:
            with engines.snapshot() as connection:
                _refuse_used(url, connection)
            return
    raise InvalidInput(f"The target {without_password(url)} holds a store of another schema. Name an empty database.")


def _refuse_used(url: str, connection: Connection) -> None:
    for table in tables.carried():
        if table.name not in _SEEDED and tables.count(connection, table):
            raise InvalidInput(
                f"The target {without_password(url)} is not empty: its table {table.name} has rows. Nothing was "
                "changed; name an empty database or a new directory."
            )


@contextmanager
def _opened(url: str) -> Iterator[Engines]:
    engines = open_engines(url)
    try:
        yield engines
    finally:
        engines.close()


def _place(url: str) -> str:
    file = _file(url)
    return str(file.resolve()) if file is not None else make_url(url).set(drivername="postgresql").render_as_string()


def _file(url: str) -> Path | None:
    """The file of a SQLite URL; None for a server."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return None
    return Path((parsed.database or "").removeprefix("file:").partition("?")[0])


def _is_file(url: str) -> bool:
    file = _file(url)
    return file is not None and file.is_file()
