"""A real HTTP proxy in front of a real Chroma server: it can be slow, fail, hang, refuse, and enforce Cloud's quotas.

It is what a network, a load balancer or a hosted Chroma does to requests; what it lets through, Chroma answers.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from engram_core import Quotas

_ABOUT = re.compile(r"/collections/(?P<id>[^/]+)/(?P<verb>query|get|count|add|upsert|update|delete)$")
_WRITES = ("add", "upsert", "update", "delete")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64
    gateway: Gateway

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is what the tests are about."""


class Gateway:
    """Forwards to a port on this machine. `mode` and its fellows may be changed at any time.

    Attributes:
        mode: `pass`, `slow` (`delay` seconds first), `fail` (status 500), `hang`, `trickle` (a byte every `delay`
            seconds) or `busy` (status 429).
        only: A verb such as `query` that `mode` is for; None for every request.
        quotas: Enforced as Chroma Cloud does, with `key` demanded in `X-Chroma-Token`.
        often: Every so many requests about a collection are answered with 429; 0 for none.
        seen: How often each verb was asked for; `denied`: what was refused, and why.
        together: The most requests that were under way at once for one collection, by kind.
    """

    def __init__(self, upstream: int, *, quotas: Quotas | None = None, key: str | None = None) -> None:
        self.upstream, self.quotas, self.key = upstream, quotas, key
        self.mode, self.delay, self.only, self.often = "pass", 0.0, None, 0
        self.seen: Counter[str] = Counter()
        self.denied: list[str] = []
        self.lines: list[str] = []
        self.together: Counter[str] = Counter()
        self._under_way: Counter[tuple[str, str]] = Counter()
        self._count = 0
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._server: _Server | None = None
        self.port = 0
        self.listen()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def listen(self) -> None:
        self._released.clear()
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.gateway = self
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def refuse(self) -> None:
        """Close the door: connections are refused, and those that are open are cut."""
        self._released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def close(self) -> None:
        self.refuse()

    def wait(self) -> None:
        """Hang until the gateway is closed or answers again."""
        while self.mode == "hang" and not self._released.wait(0.05):
            pass

    @property
    def is_open(self) -> bool:
        return not self._released.is_set()

    def denial(self, verb: str, collection: str, token: str | None, body: bytes) -> tuple[int, str] | None:
        """Status and reason where a hosted Chroma would refuse."""
        if self.key is not None and token != self.key:
            return 401, "Permission denied: no or wrong key"
        if self.quotas is None:
            return None
        value = json.loads(body) if body else {}
        ids = value.get("ids") or []
        if verb in _WRITES and len(ids) > self.quotas.records:
            return 422, f"Quota exceeded: {len(ids)} records in one write"
        if verb == "query" and value.get("n_results", 10) > self.quotas.results:
            return 422, f"Quota exceeded: {value['n_results']} results"
        if verb == "get" and (value.get("limit") or len(ids) or 10**9) > self.quotas.results:
            return 422, "Quota exceeded: results of get"
        if any(len(id_.encode()) > self.quotas.id_bytes for id_ in ids):
            return 422, "Quota exceeded: size of an id"
        if any(value.get("metadatas") or []) or any(value.get("documents") or []) or value.get("where"):
            return 422, "this store sends ids and vectors only"
        return None

    def enter(self, verb: str, collection: str) -> bool:
        """Count a request in; False where the quota of requests at once, or chance, says 429."""
        kind = "write" if verb in _WRITES else "read"
        with self._lock:
            self._count += 1
            if self.often and self._count % self.often == 0:
                return False
            self._under_way[collection, kind] += 1
            now = self._under_way[collection, kind]
            self.together[kind] = max(self.together[kind], now)
            most = None if self.quotas is None else self.quotas.writes if kind == "write" else self.quotas.reads
            if most is not None and now > most:
                self.denied.append(f"429 {now} {kind}s at once")
                self._under_way[collection, kind] -= 1
                return False
            return True

    def leave(self, verb: str, collection: str) -> None:
        with self._lock:
            self._under_way[collection, "write" if verb in _WRITES else "read"] -= 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version: ClassVar[str] = "HTTP/1.1"
    timeout: ClassVar[float] = 30

    def _serve(self) -> None:
        gateway: Gateway = self.server.gateway  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        found = _ABOUT.search(self.path.partition("?")[0])
        verb, collection = (found["verb"], found["id"]) if found else ("other", "")
        if found is None and self.path.rstrip("/").endswith("/collections"):
            verb = "create" if self.command == "POST" else "list"
        elif found is None and self.command == "DELETE":
            verb = "drop"
        gateway.seen[verb] += 1
        gateway.lines.append(f"{self.command} {self.path}")
        mode = gateway.mode if gateway.only in (None, verb) else "pass"
        if mode == "hang":
            gateway.wait()
        elif mode == "slow":
            time.sleep(gateway.delay)
        if not gateway.is_open:
            self._cut()
            return
        if mode in {"fail", "busy"}:
            self._answer(500 if mode == "fail" else 429, b'{"message": "out of order"}')
            return
        denied = gateway.denial(verb, collection, self.headers.get("x-chroma-token"), body)
        if denied is not None:
            gateway.denied.append(f"{denied[0]} {denied[1]}")
            self._answer(denied[0], json.dumps({"error": "QuotaError", "message": denied[1]}).encode())
            return
        if found is not None and not gateway.enter(verb, collection):
            self._answer(429, b'{"error": "RateLimitError", "message": "too many requests"}')
            return
        try:
            self._forward(gateway, body, slowly=mode == "trickle")
        finally:
            if found is not None:
                gateway.leave(verb, collection)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve

    def _forward(self, gateway: Gateway, body: bytes, *, slowly: bool) -> None:
        upstream = http.client.HTTPConnection("127.0.0.1", gateway.upstream, timeout=30)
        try:
            headers = {"content-type": self.headers.get("content-type", "application/json")}
            upstream.request(self.command, self.path, body or None, headers)
            answer = upstream.getresponse()
            content = answer.read()
        except OSError:
            self._cut()
            return
        finally:
            upstream.close()
        self._answer(answer.status, content, pause=gateway.delay if slowly else 0.0)

    def _answer(self, status: int, content: bytes, *, pause: float = 0.0) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            if not pause:
                self.wfile.write(content)
                return
            for byte in content:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(pause)

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""
