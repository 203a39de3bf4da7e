"""Trouble: what a database raises, as StoreUnavailable with what to do about it. It retries nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from engram_core.domain.errors import StoreUnavailable

_REFUSED = ("25006", "53", "55P03", "57P", "58")
"""SQLSTATE of a standby, of a server out of resources, of a lock not got, of a shutdown or start, of a system error."""
_FULL = "53100"


@contextmanager
def mapped(url: str) -> Iterator[None]:
    """Turn trouble with the database at `url` into StoreUnavailable; leave mistakes in the code what they are."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise StoreUnavailable(_advice(url, error)) from error
    except DBAPIError as error:
        # The bare class is how SQLite reports a file that is damaged or no database.
        if error.connection_invalidated or type(error) is DatabaseError or _state(error).startswith(_REFUSED):
            raise StoreUnavailable(_advice(url, error)) from error
        raise
    except Exception as error:
        if _is_a_drivers(error):
            raise StoreUnavailable(_advice(url, error)) from error
        raise


def is_busy(error: Exception) -> bool:
    """Whether SQLite says that somebody else is writing."""
    return "locked" in str(error) or "busy" in str(error)


def without_password(url: str) -> str:
    """A database URL that may be shown: no password, and no options, which may hold one, too."""
    scheme, at, rest = url.partition("?")[0].rpartition("@")
    return f"{scheme.split('://')[0]}://***@{rest}" if at else rest


def _is_a_drivers(error: Exception) -> bool:
    """Whether SQLite's or PostgreSQL's driver raised it itself, on a bare cursor or while it connected."""
    return any(
        base.__name__ == "Error" and base.__module__.startswith(("sqlite3", "psycopg")) for base in type(error).__mro__
    )


def _state(error: Exception) -> str:
    """PostgreSQL's SQLSTATE; empty where there is none."""
    return getattr(getattr(error, "orig", None) or error, "sqlstate", None) or ""


def _advice(url: str, error: Exception) -> str:
    cause = str(getattr(error, "orig", None) or error).strip().splitlines()
    detail = cause[0] if cause else type(error).__name__
    return f"The ledger at {without_password(url)} is not available: {detail}. {_hint(detail, _state(error))}"


def _hint(detail: str, state: str) -> str:
    if "full" in detail or state == _FULL:
        return "Free some disk space; nothing that was acknowledged is lost."
    if "locked" in detail or "busy" in detail or "lock timeout" in detail:
        return "Another process holds the write lock for more than 30 s; try again, or look for a stuck process."
    if "read-only transaction" in detail:
        return "This is a standby: point the URL at the primary."
    if "readonly" in detail or "read-only" in detail or "unable to open" in detail:
        return "Check that the directory exists and may be written."
    if "malformed" in detail or "not a database" in detail:
        return "The file is damaged or something else; put a backup in its place."
    if "too many clients" in detail or "connection slots" in detail:
        return "Lower pool_size and max_overflow in the URL, or raise the server's max_connections."
    if "QueuePool limit" in detail:
        return "All connections of this process are in use: raise pool_size in the URL, or ask with fewer threads."
    return (
        "Check that the database is up and reachable, then call again: this call was not acknowledged, what was "
        "acknowledged before is safe, and a statement that is stored already is not stored twice."
    )
