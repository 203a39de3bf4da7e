"""A LangSmith that runs in this process: it records what arrives, and can be slow or broken. A real HTTP server."""

from __future__ import annotations

import email.parser
import email.policy
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import zstandard

PROJECT = UUID("01a20000-0000-7000-8000-000000000001")


@dataclass
class Stub:
    """What arrived, by path. `info` is what `/info` answers; `status` and `delay_s` hold for everything else."""

    info: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    delay_s: float = 0.0
    requests: list[str] = field(default_factory=list)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    feedback: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = self.path.partition("?")[0]
                status, reply = stub.take(self.command, path, dict(self.headers), body)
                data = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = answer

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening: the server is down from now on."""
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def recalls(self) -> list[dict[str, Any]]:
        """Engram's runs."""
        with self.lock:
            return [run for run in self.runs.values() if run.get("name") == "engram.recall"]

    def take(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        """One request."""
        with self.lock:
            self.requests.append(f"{method} {path}")
        if path == "/info":
            return 200, self.info
        time.sleep(self.delay_s)
        if self.status != 200:
            return self.status, {"error": "broken on purpose"}
        with self.lock:
            if path == "/feedback":
                self.feedback.append(json.loads(body))
            elif path == "/runs/multipart":
                self._take_parts(headers, body)
        if path == "/sessions":
            same = str(PROJECT)
            start = "2026-01-01T00:00:00Z"
            return 200, [
                {"id": same, "name": "p", "start_time": start, "tenant_id": same, "reference_dataset_id": None}
            ]
        return 200, {}

    def _take_parts(self, headers: dict[str, str], body: bytes) -> None:
        if headers.get("Content-Encoding") == "zstd":
            body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        for part in message.iter_parts():  # type: ignore[attr-defined]
            name = str(part.get_param("name", header="content-disposition"))
            what, run_id, *key = name.split(".")
            value = json.loads(part.get_payload(decode=True))
            if what == "feedback":
                self.feedback.append(value)
            elif key:
                self.runs.setdefault(run_id, {})[key[0]] = value
            else:
                self.runs.setdefault(run_id, {}).update(value)
