"""Moving: copies a whole ledger into another, empty one, in one transaction, and proves that both hold the same.

The target has everything or nothing: it is committed after its tables, its full text and a second reading of the source
agree. A target that holds the very same already is what an earlier copy left, and is only compared. The source is only
read. It knows no table by name but the counter that says whether a ledger was ever used.
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
        was_there: The target held all of it already, so nothing is copied.
    """

    rows: Mapping[str, int]
    digests: Mapping[str, str]
    digest: str | None
    was_there: bool = False

    @classmethod
    def of(cls, tables_: Mapping[str, tables.Digest], *, was_there: bool) -> Moved:
        """What the digests of the tables say."""
        rows = {name: found.rows for name, found in tables_.items()}
        digests = {name: found.hex for name, found in tables_.items()}
        return cls(rows, digests, tables.summed(tables_), was_there)


def move(source: str, target: str, *, dry_run: bool = False, progress: Progress | None = None) -> Moved:
    """Copy the ledger at one database URL into the empty one at another, or find that it was copied already.

    Args:
        source, target: SQLAlchemy URLs of SQLite or PostgreSQL.
        dry_run: Check both and count; write nothing, and create nothing.
        progress: Called with (what is being done, rows done, rows in all).

    Raises:
        InvalidInput: Source and target are the same, the source has an older schema, or the target holds
            something else.
        StoreUnavailable: One of them cannot be used, or the source changed meanwhile. The target is as it was.
        SchemaTooNew: A newer Engram wrote one of them.
    """
    if _place(source) == _place(target):
        raise InvalidInput("Source and target are the same store. Name an empty one as the target.")
    with _opened(source) as old, _opened(target) as new:
        _check_source(source, old)
        used = _check_target(target, new)
        with mapped(source):
            rows = _counted(old)
        if used is not None:
            with mapped(target):
                if _counted(new) != rows:
                    raise _not_empty(target, used)
        if dry_run:
            return Moved(rows, {}, None, was_there=used is not None)
        steps = _Steps(sum(rows.values()), progress)
        if used is None:
            return Moved.of(_moved(source, old, target, new, steps), was_there=False)
        held = _held(target, new, steps)
        if held != _read_again(source, old, steps):
            raise _not_empty(target, used)
        return Moved.of(held, was_there=True)


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
    now = _read_again(source, old, steps)
    changed = [name for name, found in now.items() if found != copied[name]]
    if changed:
        raise StoreUnavailable(
            f"The source was written to while it was copied ({', '.join(changed)}). Nothing was kept in the target; "
            "stop the programs that use the source, and try again."
        )


def _read_again(source: str, old: Engines, steps: _Steps) -> dict[str, tables.Digest]:
    seen = partial(steps.move, "Verifying the source")
    with mapped(source), old.snapshot() as reader:
        old.take_time(reader)
        return {table.name: tables.digest(reader, table, seen) for table in tables.carried()}


def _held(target: str, new: Engines, steps: _Steps) -> dict[str, tables.Digest]:
    """What a target holds that an earlier copy filled; its full text was committed with it, and is looked at again."""
    seen = partial(steps.move, "Verifying the target")
    with mapped(target), new.snapshot() as reader:
        new.take_time(reader)
        if tables.full_text(reader) != tables.full_text_expected(reader):
            raise StoreUnavailable(
                f"The full text of the target {without_password(target)} does not agree with its word statistics. "
                "Empty it and migrate again; the source is as it was."
            )
        return {table.name: tables.digest(reader, table, seen) for table in tables.carried()}


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


def _check_target(url: str, engines: Engines) -> str | None:
    """A table of the target that has rows; None for an empty one. Raises InvalidInput for another schema."""
    if _file(url) is not None and not _is_file(url):
        return None
    with mapped(url):
        if revision(engines) is None:
            return None
        if revision(engines) == schema.HEAD:
            with engines.snapshot() as connection:
                return _used(connection)
    raise InvalidInput(f"The target {without_password(url)} holds a store of another schema. Name an empty database.")


def _refuse_used(url: str, connection: Connection) -> None:
    used = _used(connection)
    if used is not None:
        raise _not_empty(url, used)


def _used(connection: Connection) -> str | None:
    names = (table.name for table in tables.carried() if table.name not in _SEEDED and tables.count(connection, table))
    return next(names, None)


def _not_empty(url: str, table: str) -> InvalidInput:
    return InvalidInput(
        f"The target {without_password(url)} is not empty: its table {table} has rows, and it does not hold what the "
        "source holds now. Nothing was changed; name an empty database or a new directory."
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
