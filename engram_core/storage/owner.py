"""Ownership of an index directory: an OS lock that a kill releases, and a marker of an unclean stop.

A library's file lock would do but for fork: a child must let go of the inherited descriptor without unlocking it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path

from engram_core.storage.forks import on_fork

_LOCK = "owner.lock"
_MARKER = "dirty"
_SEAL = "seal"


class Owner:
    """At most one process at a time owns a directory.

    Args:
        directory: Created if missing.
    """

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._descriptor: int | None = None
        self._pid = 0
        on_fork(in_child=self._let_go)

    @property
    def is_held(self) -> bool:
        """Whether this very process owns the directory; a forked child does not."""
        return self._descriptor is not None and self._pid == os.getpid()

    def acquire(self) -> bool:
        """Try to become the owner, without waiting."""
        if self.is_held:
            return True
        self._directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._directory / _LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        if not _locked(descriptor):
            os.close(descriptor)
            return False
        self._descriptor, self._pid = descriptor, os.getpid()
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps({"pid": self._pid, "since": time.time()}).encode())
        return True

    def release(self) -> None:
        """Give the directory up."""
        if self.is_held and self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None

    def _let_go(self) -> None:
        """In a forked child: close the inherited descriptor. Unlocking it would unlock the parent's."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> int | None:
        """Process id written by the last owner."""
        try:
            return int(json.loads((self._directory / _LOCK).read_text())["pid"])
        except (OSError, ValueError, KeyError):
            return None

    @property
    def is_dirty(self) -> bool:
        """Whether the last owner stopped without closing."""
        return (self._directory / _MARKER).exists()

    @property
    def seal(self) -> str | None:
        """What `seal_of` said when the index was last closed; None if nobody closed it yet."""
        try:
            return (self._directory / _SEAL).read_text()
        except OSError:
            return None

    @seal.setter
    def seal(self, value: str) -> None:
        (self._directory / _SEAL).write_text(value)

    def mark_dirty(self) -> None:
        """Set the marker, on disk before this returns."""
        path = self._directory / _MARKER
        with path.open("w") as file:
            file.write(str(os.getpid()))
            file.flush()
            os.fsync(file.fileno())
        if sys.platform != "win32":
            folder = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def mark_clean(self) -> None:
        """Remove the marker."""
        (self._directory / _MARKER).unlink(missing_ok=True)


def seal_of(directory: Path) -> str:
    """A digest of the files below a directory by name, size and time: equal if nobody touched them in between."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    found = [(str(path.relative_to(directory)), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def _locked(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - exists on Windows only

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415 - exists elsewhere only

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
