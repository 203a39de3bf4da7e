"""A relay in front of PostgreSQL that counts what a client asks and how often it waits. It changes no byte."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

_STARTUP = b"\x00"
_SAYS = {b"Q": "statements", b"E": "statements", b"P": "parses"}


@dataclass
class Seen:
    """What travelled.

    Attributes:
        connections: How many were opened.
        statements: Simple queries and executions, BEGIN and COMMIT among them.
        parses: Statements sent as text to be parsed, and not by the name of one that is known.
        trips: How often the client said something after it had heard an answer: each is a wait for the network.
        texts: The statements, where they were sent as text.
    """

    connections: int = 0
    statements: int = 0
    parses: int = 0
    trips: int = 0
    texts: list[str] = field(default_factory=list)


class Relay:
    """Forwards connections of a port of this machine to PostgreSQL. Close it when nothing is connected any more.

    Args:
        port: Of PostgreSQL on this machine.
        lag: Seconds that whatever arrives waits before it is passed on, in each direction, as in a network.
    """

    def __init__(self, port: int, *, lag: float = 0.0) -> None:
        self._upstream = port
        self._lag = lag
        self._lock = threading.Lock()
        self._seen = Seen()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def seen(self) -> Seen:
        """What has travelled so far; a copy."""
        with self._lock:
            return replace(self._seen, texts=list(self._seen.texts))

    @contextmanager
    def counting(self) -> Iterator[Seen]:
        """What travels within the block, once it has ended."""
        before, found = self.seen(), Seen()
        yield found
        after = self.seen()
        for name in ("connections", "statements", "parses", "trips"):
            setattr(found, name, getattr(after, name) - getattr(before, name))
        found.texts = after.texts[len(before.texts) :]

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        """One connection, until either end closes it."""
        self._note("connections", None)
        talk = _Talk(self._note)
        with client, socket.create_connection(("127.0.0.1", self._upstream)) as server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = threading.Thread(target=_pump, args=(server, client, talk.answered, self._lag), daemon=True)
            back.start()
            _pump(client, server, talk.asked, self._lag)
            back.join()

    def _note(self, name: str, text: str | None) -> None:
        with self._lock:
            setattr(self._seen, name, getattr(self._seen, name) + 1)
            if text is not None:
                self._seen.texts.append(text)


def _pump(source: socket.socket, target: socket.socket, tell: Callable[[bytes], None], lag: float) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            time.sleep(lag)
            tell(data)
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class _Talk:
    """One connection's messages, put together from the pieces they come in."""

    def __init__(self, note: Callable[[str, str | None], None]) -> None:
        self._note = note
        self._rest = b""
        self._is_started = False
        self._heard = True

    def answered(self, _data: bytes) -> None:
        self._heard = True

    def asked(self, data: bytes) -> None:
        if self._heard:
            self._heard = False
            self._note("trips", None)
        self._rest += data
        while message := self._next():
            kind, body = message
            if kind in _SAYS:
                text = body.split(b"\0")[0 if kind == b"Q" else 1].decode() if kind in (b"Q", b"P") else None
                self._note(_SAYS[kind], text)

    def _next(self) -> tuple[bytes, bytes] | None:
        """The next whole message; the first ones of a connection have no kind."""
        head = 1 if self._is_started else 0
        if len(self._rest) < head + 4:
            return None
        size = int.from_bytes(self._rest[head : head + 4], "big")
        if len(self._rest) < head + size:
            return None
        kind, body = self._rest[:head] or _STARTUP, self._rest[head + 4 : head + size]
        self._rest = self._rest[head + size :]
        # 8 bytes ask for encryption, which is refused on loopback, or for a cancellation; what follows starts anew.
        self._is_started = self._is_started or size > 8
        return kind, body
