"""Remote: an HTTP transport that keeps deadlines and quotas. It knows requests, not what they are about.

A search gets one short deadline, whatever happens: a slow, hanging or failing server must not make a recall wait.
Everything else is background work: it is tried again with growing pauses when the server is overloaded or restarts.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import httpx

from engram_core.storage.addresses import Endpoint

PATIENCE = 4
"""Deadlines of one answer that background work spends on one request, attempts and pauses together."""
_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0
_OVERLOADED = frozenset({429, 500, 502, 503, 504})
_BUSY = frozenset({429, 503})
_REQUEST = re.compile(r"/collections/(?P<id>[^/]+)/(?P<verb>query|search|get|count|add|upsert|update|delete)$")
_WRITES = frozenset({"add", "upsert", "update", "delete"})

Kind = Literal["search", "read", "write", "other"]


class Courier(httpx.BaseTransport):
    """Carries the requests of one client to one server, within deadlines and quotas. Thread-safe.

    Args:
        inner: What sends a request.
        endpoint: The server.
    """

    def __init__(self, inner: httpx.BaseTransport, endpoint: Endpoint) -> None:
        self._inner = inner
        self._endpoint = endpoint
        self._turns: dict[tuple[str, bool], threading.BoundedSemaphore] = {}
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.BaseTransport`."""
        kind, collection = _kind(request)
        is_search = kind == "search"
        each = self._endpoint.search_timeout if is_search else self._endpoint.timeout
        deadline = time.monotonic() + (each if is_search else each * PATIENCE)
        retried = _BUSY if is_search else _OVERLOADED
        with self._turn(kind, collection, deadline):
            for attempt in range(1_000):
                try:
                    response = self._answer(request, min(deadline, time.monotonic() + each))
                except httpx.ConnectError:
                    # A server that restarts refuses for a moment. A recall does not wait for it.
                    if is_search or not _rested(attempt, deadline, None):
                        raise
                else:
                    asked = response.headers.get("retry-after")
                    if response.status_code not in retried or not _rested(attempt, deadline, asked):
                        return response
        raise httpx.ReadTimeout("too many attempts", request=request)

    def close(self) -> None:
        """See `httpx.BaseTransport`."""
        self._inner.close()

    def _answer(self, request: httpx.Request, until: float) -> httpx.Response:
        """One attempt, its body read whole: a server that answers byte by byte has the same deadline as others."""
        left = max(0.001, until - time.monotonic())
        request.extensions = {
            **request.extensions,
            "timeout": dict.fromkeys(("connect", "read", "write", "pool"), left),
        }
        response = self._inner.handle_request(request)
        body = bytearray()
        try:
            assert isinstance(response.stream, httpx.SyncByteStream)
            for chunk in response.stream:
                body += chunk
                if time.monotonic() > until:
                    raise httpx.ReadTimeout("the answer took too long", request=request)
        finally:
            response.close()
        return httpx.Response(response.status_code, headers=response.headers, stream=httpx.ByteStream(bytes(body)))

    def _turn(self, kind: Kind, collection: str, deadline: float) -> AbstractContextManager[None]:
        """One of the places the quotas allow for a collection at the same time."""
        quotas = self._endpoint.quotas
        if quotas is None or kind == "other":
            return nullcontext()
        is_write = kind == "write"
        with self._lock:
            turns = self._turns.setdefault(
                (collection, is_write), threading.BoundedSemaphore(quotas.writes if is_write else quotas.reads)
            )
        return _held(turns, deadline)


@contextmanager
def _held(turns: threading.BoundedSemaphore, deadline: float) -> Iterator[None]:
    if not turns.acquire(timeout=max(0.0, deadline - time.monotonic())):
        raise httpx.PoolTimeout("all requests that the quotas allow at once for this collection are under way")
    try:
        yield
    finally:
        turns.release()


def _kind(request: httpx.Request) -> tuple[Kind, str]:
    """What a request is for, and the collection it is about."""
    found = _REQUEST.search(request.url.path)
    if found is None:
        return "other", ""
    verb = found["verb"]
    return ("search" if verb in {"query", "search"} else "write" if verb in _WRITES else "read"), found["id"]


def _rested(attempt: int, deadline: float, asked: str | None) -> bool:
    """Pause before the next attempt, as long as the server asks or twice as long each time; False: out of time."""
    pause = min(_LONGEST_PAUSE_S, _PAUSE_S * 2**attempt) * (0.5 + random.random())
    if asked is not None and asked.isdigit():
        pause = max(pause, float(asked))
    if time.monotonic() + pause >= deadline:
        return False
    time.sleep(pause)
    return True


def install(session: httpx.Client, endpoint: Endpoint) -> None:
    """Put a Courier before every transport of a client, those for proxies of the environment included."""
    session._transport = Courier(session._transport, endpoint)
    session._mounts = {
        pattern: Courier(inner, endpoint) if inner is not None else None for pattern, inner in session._mounts.items()
    }
