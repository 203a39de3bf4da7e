"""Child: the program that runs a code design. It locks itself in before it reads the design, and answers in JSON.

It is started by `sandbox` as a script of its own and imports nothing of Engram. Everything that matters happens in the
kernel: after `_lock_in` no file can be opened, no process or thread started, no socket made and no memory made
executable, whatever Python object the design gets hold of. What the parent reads from here is a claim, never a score.
"""

from __future__ import annotations

import bisect
import collections
import ctypes
import datetime
import difflib
import errno
import functools
import heapq
import itertools
import json
import math
import os
import platform
import random
import re
import resource
import socket
import statistics
import string
import struct
import sys
import textwrap
import unicodedata
from typing import Any

_HEADER = struct.Struct(">I")
_MODULES = {
    module.__name__: (module, names.split())
    for module, names in (
        (math, "sqrt log log1p log2 exp floor ceil fabs pow tanh isfinite hypot pi e inf"),
        (json, "loads dumps"),
        (re, "compile search match fullmatch findall finditer split sub escape IGNORECASE MULTILINE DOTALL"),
        (statistics, "mean median stdev pstdev quantiles"),
        (collections, "Counter defaultdict deque OrderedDict namedtuple"),
        (itertools, "chain combinations permutations product groupby islice accumulate pairwise zip_longest count"),
        (functools, "reduce partial cmp_to_key lru_cache"),
        (heapq, "nlargest nsmallest heappush heappop heapify merge"),
        (bisect, "bisect_left bisect_right insort"),
        (string, "ascii_letters digits punctuation whitespace"),
        (datetime, "datetime date timedelta timezone UTC"),
        (difflib, "SequenceMatcher get_close_matches"),
        (textwrap, "shorten wrap dedent"),
        (unicodedata, "normalize category"),
        (random, "Random"),
    )
}
"""What a design may import: these names of these modules, loaded before the file system goes."""

# Linux system calls a Python that only computes needs: read, write (of the two pipes alone), memory, time, exit.
_SYSTEM_CALLS = {
    "x86_64": (
        0xC000003E,
        {"read": 0, "write": 1, "mmap": 9, "mprotect": 10},
        (11, 12, 14, 15, 24, 25, 28, 39, 60, 131, 186, 202, 219, 228, 231, 318),
    ),
    "aarch64": (
        0xC00000B7,
        {"read": 63, "write": 64, "mmap": 222, "mprotect": 226},
        (215, 214, 135, 139, 124, 216, 233, 172, 93, 132, 178, 98, 128, 113, 94, 278),
    ),
}
_PROT_EXEC = 4
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM
_LOAD, _JEQ, _JGE, _JSET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_SET_SECCOMP, _MODE_FILTER, _NO_NEW_PRIVS, _DUMPABLE = 22, 2, 38, 4
_NEW_NET, _NEW_USER = 0x40000000, 0x10000000


class _Line(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("lines", ctypes.POINTER(_Line))]


def main() -> None:
    """Lock in, say so, read the design, then answer requests until the pipe ends."""
    limits = _read()
    _lock_in(limits)
    _write({"ready": limits["nonce"]})
    source = _read()
    names: dict[str, Any] = {"__builtins__": _builtins(), "__name__": "design"}
    try:
        exec(compile(source["source"], "<design>", "exec", dont_inherit=True), names)  # noqa: S102 - what it is for
        missing = [name for name in ("update", "retrieve", "sleep") if not callable(names.get(name))]
        said = {"error": f"It has no function {missing[0]}."} if missing else {"ok": True}
    except BaseException as error:  # noqa: BLE001 - whatever a design raises is an answer
        said = {"error": _told(error)}
    _write({"nonce": source["nonce"], **said})
    while True:
        request = _read()
        try:
            answer = {"ok": names[request["call"]](*request["arguments"])}
            text = json.dumps({"nonce": request["nonce"], **answer}, allow_nan=True)
        except BaseException as error:  # noqa: BLE001
            text = json.dumps({"nonce": request["nonce"], "error": _told(error)})
        _send(text)


def _told(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException:  # noqa: BLE001 - its own words may raise as well
        return "an error that cannot be told"


# --- the pipe ---


def _read() -> dict[str, Any]:
    (size,) = _HEADER.unpack(_exactly(_HEADER.size))
    value: dict[str, Any] = json.loads(_exactly(size))
    return value


def _exactly(size: int) -> bytes:
    parts = []
    while size:
        part = os.read(0, min(size, 1 << 20))
        if not part:
            os._exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _write(value: dict[str, Any]) -> None:
    _send(json.dumps(value))


def _send(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    data = _HEADER.pack(len(data)) + data
    while data:
        data = data[os.write(1, data) :]


# --- what a design finds ---


class _Names:
    """A module's chosen names and nothing else of it."""

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        self.__dict__.update(values)
        self.__dict__["__name__"] = name


def _builtins() -> dict[str, Any]:
    import builtins  # noqa: PLC0415 - loaded long ago

    known = {
        name: {item: getattr(module, item) for item in items if hasattr(module, item)}
        for name, (module, items) in _MODULES.items()
    }
    proxies = {name: _Names(name, values) for name, values in known.items()}

    def load(name: str, _globals: Any = None, _locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if level or name not in proxies:
            raise ImportError(f"A design may import {', '.join(sorted(proxies))}; not {name!r}.")
        return proxies[name]

    kept = {
        name: value
        for name, value in vars(builtins).items()
        if name not in ("open", "input", "breakpoint", "exec", "eval", "compile", "help", "exit", "quit", "copyright")
    }
    return {**kept, "__import__": load}


# --- locking in ---


def _lock_in(limits: dict[str, Any]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    os.closerange(3, 65_536)
    # No death signal from the parent: it is sent when the thread ends that started this process, not the program. When
    # the program ends, the pipe does, and so does this; in an endless loop the limit on processor time ends it.
    libc.prctl(_DUMPABLE, 0, 0, 0, 0)
    # A network of its own, with nothing in it, where that is allowed; the filter below refuses sockets anyway.
    if libc.unshare(_NEW_NET) != 0:
        libc.unshare(_NEW_USER | _NEW_NET)
    memory, seconds = limits["memory"], limits["seconds"]
    for name, most in (
        ("RLIMIT_AS", memory), ("RLIMIT_CPU", seconds), ("RLIMIT_FSIZE", 0), ("RLIMIT_NOFILE", 3), ("RLIMIT_CORE", 0),
        ("RLIMIT_NPROC", 0),
    ):  # fmt: skip
        resource.setrlimit(getattr(resource, name), (most, most))
    sys.setrecursionlimit(500)
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        _give_up("no_new_privs")
    lines = _filter()
    program = _Program(len(lines), (_Line * len(lines))(*lines))
    if libc.prctl(_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        _give_up("seccomp")
    _prove()


def _filter() -> list[_Line]:
    arch, checked, allowed = _SYSTEM_CALLS[platform.machine()]
    lines = [
        _Line(_LOAD, 0, 0, 4), _Line(_JEQ, 1, 0, arch), _Line(_RETURN, 0, 0, _KILL),
        _Line(_LOAD, 0, 0, 0), _Line(_JGE, 0, 1, 0x40000000), _Line(_RETURN, 0, 0, _KILL),
    ]  # fmt: skip
    for call, descriptors in (("read", (0,)), ("write", (1,))):
        body = [_Line(_LOAD, 0, 0, 16)]
        for number in descriptors:
            body += [_Line(_JEQ, 0, 1, number), _Line(_RETURN, 0, 0, _ALLOW)]
        body.append(_Line(_RETURN, 0, 0, _REFUSE))
        lines += [_Line(_JEQ, 0, len(body), checked[call]), *body]
    for call in ("mmap", "mprotect"):
        body = [
            _Line(_LOAD, 0, 0, 32), _Line(_JSET, 0, 1, _PROT_EXEC), _Line(_RETURN, 0, 0, _REFUSE),
            _Line(_RETURN, 0, 0, _ALLOW),
        ]  # fmt: skip
        lines += [_Line(_JEQ, 0, len(body), checked[call]), *body]
    for number in allowed:
        lines += [_Line(_JEQ, 0, 1, number), _Line(_RETURN, 0, 0, _ALLOW)]
    return [*lines, _Line(_RETURN, 0, 0, _REFUSE)]


def _prove() -> None:
    """Try what must not work. A kernel that lets it pass has not locked anything in."""
    for attempt in (
        lambda: os.open("/", os.O_RDONLY),
        lambda: os.fork() or os._exit(0),
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        lambda: os.kill(os.getppid(), 0),
    ):
        try:
            attempt()
        except OSError:
            continue
        _give_up("the filter")


def _give_up(what: str) -> None:
    _write({"unavailable": f"The kernel does not grant {what}."})
    os._exit(3)


if __name__ == "__main__":
    main()
