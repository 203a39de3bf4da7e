"""Power cuts: records what SQLite writes and syncs, in this process, and builds the files a power cut may leave.

A VFS is put in front of SQLite's own, in the very library that Python's `sqlite3` uses, so that the real ledger is what is
recorded: its pragmas, its statements, its connections. Run as a script it records a ledger at work and writes the log.

The model: what a sync of a file has covered stays. Of what was written to it since, any 512-byte sector may be there or
not, independently of the others. Making, cutting and removing files count as done at once, as on a journalling file system;
`-shm` is memory and is gone.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import json
import random
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

SECTOR = 512
_CALL = ctypes.CFUNCTYPE
_P, _I, _L = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_Open = _CALL(_I, _P, _P, _P, _I, _P)
_Delete = _CALL(_I, _P, _P, _I)
_Write = _CALL(_I, _P, _P, _I, _L)
_Truncate = _CALL(_I, _P, _L)
_Sync = _CALL(_I, _P, _I)
_Close = _CALL(_I, _P)


class _Vfs(ctypes.Structure):
    """sqlite3_vfs, as sqlite3.h has it."""

    _fields_ = [
        ("version", _I), ("file_size", _I), ("longest_path", _I), ("next", _P), ("name", ctypes.c_char_p), ("data", _P),
        ("open", _Open), ("delete", _Delete), *((f"other{number}", _P) for number in range(14)),
    ]  # fmt: skip


class _Methods(ctypes.Structure):
    """sqlite3_io_methods, version 3."""

    _fields_ = [
        ("version", _I), ("close", _Close), ("read", _P), ("write", _Write), ("truncate", _Truncate), ("sync", _Sync),
        *((f"other{number}", _P) for number in range(13)),
    ]  # fmt: skip


class _File(ctypes.Structure):
    _fields_ = [("methods", ctypes.POINTER(_Methods))]


@dataclass(frozen=True)
class Step:
    """One thing done to a file: `write` at `place`, `cut` to `place` bytes, `sync` or `delete`; or `note`, what was told."""

    kind: str
    file: str
    place: int = 0
    content: bytes = b""


Trouble = Callable[[str, str], int]
"""Given what is about to happen (`write`, `cut`, `sync`) to which file: SQLite's code for what goes wrong, 0 for nothing."""


class Recorder:
    """The VFS. From `install` on, every database opened in this process by Python's `sqlite3` is recorded.

    Args:
        trouble: What goes wrong; default nothing. Assign to it at any time.
    """

    def __init__(self, trouble: Trouble = lambda kind, file: 0) -> None:
        self.trouble = trouble
        self.steps: list[Step] = []
        self._library = ctypes.CDLL(_sqlite3.__file__)
        self._one = threading.Lock()
        self._names: dict[int, str] = {}
        self._tables: dict[int, tuple[_Methods, _Methods]] = {}

    def note(self, what: str) -> None:
        """Write into the log what a caller was told."""
        self.steps.append(Step("note", what))

    def install(self) -> None:
        """Become the default VFS."""
        find = self._library.sqlite3_vfs_find
        find.restype, find.argtypes = ctypes.POINTER(_Vfs), [ctypes.c_char_p]
        self._real = find(None).contents
        self._own = _Vfs.from_buffer_copy(self._real)
        self._own.name = b"recorded"
        self._own.next = None
        self._own.open, self._own.delete = _Open(self._opened), _Delete(self._deleted)
        self._library.sqlite3_vfs_register.argtypes = [_P, _I]
        assert self._library.sqlite3_vfs_register(ctypes.byref(self._own), 1) == 0

    def _opened(self, vfs: int, name: int | None, file: int, flags: int, out: int | None) -> int:
        code: int = self._real.open(vfs, name, file, flags, out)
        if code == 0 and name:
            self._names[file] = Path(ctypes.string_at(name).decode()).name
            handle = _File.from_address(file)
            found = ctypes.addressof(handle.methods.contents)
            if found not in self._tables:
                self._tables[found] = (handle.methods.contents, self._recorded(handle.methods.contents))
            handle.methods = ctypes.pointer(self._tables[found][1])
        return code

    def _recorded(self, real: _Methods) -> _Methods:
        """A table of methods that notes what changes a file, then does it."""
        table = _Methods.from_buffer_copy(real)

        def wrapped(kind: type[Any], do: Callable[..., int], step: Callable[..., Step]) -> Any:
            def call(file: int, *rest: Any) -> int:
                with self._one:  # or a write could be noted before the sync that it came after
                    happens = step(self._names[file], *rest)
                    code = self.trouble(happens.kind, happens.file) or do(file, *rest)
                    if code == 0:
                        self.steps.append(happens)
                    return code

            return kind(call)

        table.write = wrapped(
            _Write, real.write, lambda name, data, size, place: Step("write", name, place, ctypes.string_at(data, size))
        )
        table.truncate = wrapped(_Truncate, real.truncate, lambda name, size: Step("cut", name, size))
        table.sync = wrapped(_Sync, real.sync, lambda name, flags: Step("sync", name))
        return table

    def _deleted(self, vfs: int, name: int, sync: int) -> int:
        code: int = self._real.delete(vfs, name, sync)
        if code == 0:
            self.steps.append(Step("delete", Path(ctypes.string_at(name).decode()).name))
        return code


class Disk:
    """Files with what is safe and what is not, moved through a log step by step."""

    def __init__(self, *, lies: bool = False) -> None:
        self._lies = lies  # a disk that says it synced and did not
        self._safe: dict[str, bytearray] = {}
        self._since: dict[str, list[Step]] = {}

    def take(self, step: Step) -> None:
        """Let one step happen."""
        match step.kind:
            case "write":
                self._since.setdefault(step.file, []).append(step)
            case "cut":
                del self._safe.setdefault(step.file, bytearray())[step.place :]
                kept = [_cut(earlier, step.place) for earlier in self._since.pop(step.file, [])]
                self._since[step.file] = [earlier for earlier in kept if earlier.content]
            case "sync" if not self._lies:
                self._settle(step.file)
            case "delete":
                self._safe.pop(step.file, None)
                self._since.pop(step.file, None)

    def _settle(self, file: str) -> None:
        content = self._safe.setdefault(file, bytearray())
        for step in self._since.pop(file, []):
            _put(content, step.place, step.content)

    def image(self, place: Path, chance: random.Random) -> None:
        """Write what a power cut leaves now."""
        place.mkdir(parents=True, exist_ok=True)
        kept = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for file in self._safe.keys() | self._since.keys():
            if file.endswith("-shm"):
                continue
            content = bytearray(self._safe.get(file, b""))
            for step in self._since.get(file, ()):
                for at, sector in _sectors(step):
                    if chance.random() < kept:
                        _put(content, at, sector)
            (place / file).write_bytes(content)


def _sectors(step: Step) -> Iterator[tuple[int, bytes]]:
    """A write cut at the sectors of the disk."""
    at = step.place
    end = step.place + len(step.content)
    while at < end:
        to = min(end, (at // SECTOR + 1) * SECTOR)
        yield at, step.content[at - step.place : to - step.place]
        at = to


def _cut(step: Step, size: int) -> Step:
    """What is left of a write in a file cut to `size` bytes."""
    return replace(step, content=step.content[: max(0, size - step.place)])


def _put(content: bytearray, place: int, data: bytes) -> None:
    if len(content) < place:
        content.extend(bytes(place - len(content)))
    content[place : place + len(data)] = data


def read(path: Path) -> list[Step]:
    """A log that `main` wrote."""
    lines = path.read_text().splitlines()
    return [Step(kind, file, place, bytes.fromhex(content)) for kind, file, place, content in map(json.loads, lines)]


def main(arguments: Sequence[str]) -> None:
    """`STORE LOG ADDS SEED`: let a ledger work, with checkpoints in between, and write the log."""
    store, log, adds, seed = arguments
    recorder = Recorder()
    recorder.install()
    from engram_core import Engram
    from engram_core.storage import engines
    from engram_core.testing.fakes import WordHashEmbedder

    engines.CHECKPOINT_PAGES = 120  # thirty times as many checkpoints, so that a short run has some
    chance = random.Random(int(seed))
    with Engram.open(store, index="exact", embedder=WordHashEmbedder()) as engram:
        memory = engram.memory("acme/alice")
        mine: list[str] = []
        for number in range(int(adds)):
            texts = [f"the red cat {number} sat in house {part}" for part in range(chance.choice((1, 1, 3, 8)))]
            for fact in memory.add(texts).facts:
                mine.append(fact.id)
                recorder.note(json.dumps(["added", fact.id]))
            if chance.random() < 0.3:
                memory.recall("Where did the red cat sit?")
            if chance.random() < 0.2:
                gone = mine.pop(chance.randrange(len(mine)))
                memory.forget(gone)
                recorder.note(json.dumps(["forgotten", gone]))
    rows = ((step.kind, step.file, step.place, step.content.hex()) for step in recorder.steps)
    Path(log).write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main(sys.argv[1:])
