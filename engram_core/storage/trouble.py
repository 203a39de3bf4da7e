"""Trouble: what a database raises, as StoreUnavailable with what to do about it. It retries nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from engram_core.domain.errors import StoreUnavailable


@contextmanager
def mapped(url: str) -> Iterator[None]:
    """Turn trouble with the database at `url` into StoreUnavailable; leave mistakes in the code what they are."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise StoreUnavailable(_advice(url, error)) from error
    except DBAPIError as error:
        # The bare class is how SQLite reports a file that is damaged or no database.
        if error.connection_invalidated or type(error) is DatabaseError:
            raise StoreUnavailable(_advice(url, error)) from error
        raise
    except Exception as error:
        if type(error).__module__.startswith(("sqlite3", "psycopg")) and type(error).__name__.endswith("Error"):
            raise StoreUnavailable(_advice(url, error)) from error
        raise


def without_password(url: str) -> str:
    """A database URL that may be shown."""
    scheme, at, rest = url.rpartition("@")
    return f"{scheme.split('://')[0]}://***@{rest}" if at else url


def _advice(url: str, error: Exception) -> str:
    cause = str(getattr(error, "orig", None) or error).strip().splitlines()
    detail = cause[0] if cause else type(error).__name__
    if "full" in detail:
        hint = "Free some disk space; nothing that was acknowledged is lost."
    elif "locked" in detail or "busy" in detail:
        hint = "Another process holds the write lock for more than 30 s; try again, or look for a stuck process."
    elif "readonly" in detail or "read-only" in detail or "unable to open" in detail:
        hint = "Check that the directory exists and may be written."
    elif "malformed" in detail or "not a database" in detail:
        hint = "The file is damaged or something else; put a backup in its place."
    else:
        hint = "Check that the database is up and reachable, then try again."
    return f"The ledger at {without_password(url)} is not available: {detail}. {hint}"
