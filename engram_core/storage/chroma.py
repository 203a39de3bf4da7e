"""Chroma as the vector index: ids and vectors, nothing else. No text, no metadata, no embedding function, no filter."""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.errors import IndexUnavailable, InvalidInput
from engram_core.ports import Hit, Point

T = TypeVar("T")

BATCH = 300
"""Records per write: within every deployment's quota, and short enough not to hold up a query for long."""
TIMEOUT_S = 5.0
"""How long a server may take to answer. One recall waits this long at most; those after it search exactly at once."""
_HNSW = {
    "space": "cosine",
    "ef_construction": 100,
    "max_neighbors": 16,
    "ef_search": 200,
    "sync_threshold": 200,
    "batch_size": 100,
}


class ChromaIndex:
    """The VectorIndex port over one Chroma client. Thread-safe; one instance per directory and process.

    Args:
        client: An open chromadb client; `embedded` and `server` make one.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._held: dict[str, Any] = {}
        self._is_closed = False
        self._lock = threading.Lock()

    def create(self, name: str, dimension: int) -> None:
        """See `engram_core.ports.VectorIndex`."""
        self.drop(name)
        made = self._ask(
            lambda: self._client.create_collection(name, embedding_function=None, configuration={"hnsw": _HNSW})
        )
        space = made.configuration.get("hnsw", {}).get("space")
        if space != "cosine":
            raise IndexUnavailable(f"Chroma made collection {name} with space {space!r} instead of cosine.")
        with self._lock:
            self._held[name] = made

    def put(self, name: str, points: Sequence[Point]) -> None:
        """See `engram_core.ports.VectorIndex`. Delete and add: upserting costs Chroma several times as much."""
        collection = self._collection(name)
        for start in range(0, len(points), BATCH):
            chunk = points[start : start + BATCH]
            ids = [point.id for point in chunk]
            vectors = np.stack([point.vector for point in chunk]).astype(np.float32)

            def write(ids: list[str] = ids, vectors: NDArray[np.float32] = vectors) -> None:
                # A repeated add is ignored in silence and keeps the old vector, so what exists goes first.
                known = collection.get(ids=ids, include=[])["ids"]
                if known:
                    collection.delete(ids=known)
                collection.add(ids=ids, embeddings=vectors)

            self._ask(write)

    def remove(self, name: str, ids: Sequence[str]) -> None:
        """See `engram_core.ports.VectorIndex`."""
        collection = self._collection(name)
        for start in range(0, len(ids), BATCH):
            self._ask(partial(collection.delete, ids=list(ids[start : start + BATCH])))

    def search(self, name: str, vector: NDArray[np.float32], n: int) -> list[Hit]:
        """See `engram_core.ports.VectorIndex`."""
        collection = self._collection(name)
        found = self._ask(lambda: collection.query(query_embeddings=[vector], n_results=n, include=["distances"]))
        ids, distances = found["ids"][0], found["distances"][0]
        return [Hit(id_, 1.0 - float(distance)) for id_, distance in zip(ids, distances, strict=True)]

    def count(self, name: str) -> int:
        """See `engram_core.ports.VectorIndex`."""
        collection = self._collection(name)
        return int(self._ask(collection.count))

    def ids(self, name: str) -> set[str]:
        """See `engram_core.ports.VectorIndex`."""
        collection = self._collection(name)
        return set(self._ask(lambda: collection.get(include=[]))["ids"])

    def names(self) -> list[str]:
        """See `engram_core.ports.VectorIndex`."""
        return sorted(collection.name for collection in self._ask(self._client.list_collections))

    def drop(self, name: str) -> None:
        """See `engram_core.ports.VectorIndex`."""
        with self._lock:
            self._held.pop(name, None)
        try:
            self._ask(lambda: self._client.delete_collection(name))
        except IndexUnavailable:
            # Listing costs time that grows with the number of collections, so only a failure asks whether it was there.
            if name in self.names():
                raise

    def close(self) -> None:
        """Close the client; a later call fails with IndexUnavailable."""
        with self._lock:
            self._held.clear()
            self._is_closed = True
        close = getattr(self._client, "close", None)
        if close is not None:
            close()
        for session in _sessions(self._client):
            session.close()

    def _collection(self, name: str) -> Any:
        with self._lock:
            held = self._held.get(name)
        if held is None:
            held = self._ask(lambda: self._client.get_collection(name, embedding_function=None))
            with self._lock:
                self._held[name] = held
        return held

    def _ask(self, call: Callable[[], T]) -> T:
        if self._is_closed:
            raise IndexUnavailable("This index was closed.")
        try:
            return call()
        except Exception as error:  # Chroma raises its own, its Rust core's and httpx's errors, under no common base
            raise IndexUnavailable(f"Chroma failed: {type(error).__name__}: {str(error)[:300]}") from error


def embedded(directory: str) -> ChromaIndex:
    """An index in a directory of this machine. The caller must own the directory: two processes lose vectors."""
    chromadb, settings = _opened(_chromadb)
    return ChromaIndex(_opened(lambda: chromadb.PersistentClient(path=directory, settings=settings)))


def server(url: str) -> ChromaIndex:
    """An index on a Chroma server. Chroma's server has no authentication: loopback or a private network only.

    Raises:
        InvalidInput: Not an `http://host:port` or `https://…` address.
        IndexUnavailable: Nothing answers there.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidInput(f"The index address {url!r} must look like http://127.0.0.1:8000.")
    chromadb, settings = _opened(_chromadb)
    secure = parts.scheme == "https"
    host, port = parts.hostname, parts.port or (443 if secure else 8000)
    # The client logs every request at INFO through httpx, into whatever logging the user has set up.
    logging.getLogger("httpx").setLevel(max(logging.getLogger("httpx").level, logging.WARNING))
    _opened(lambda: _greet(parts.scheme, f"[{host}]" if ":" in host else host, port))
    client = _opened(lambda: chromadb.HttpClient(host=host, port=port, ssl=secure, settings=settings))
    for session in _sessions(client):
        session.timeout = TIMEOUT_S
    return ChromaIndex(client)


def ephemeral() -> ChromaIndex:
    """An index in memory, for tests."""
    chromadb, settings = _opened(_chromadb)
    return ChromaIndex(_opened(lambda: chromadb.EphemeralClient(settings=settings)))


def _sessions(client: Any) -> list[Any]:
    """The HTTP sessions of a server's client, which chromadb neither limits nor closes; none for a local client."""
    servers: list[Any] = [
        getattr(holder, "_server", None) for holder in (client, getattr(client, "_admin_client", None))
    ]
    return [server._session for server in servers if hasattr(server, "_session")]


def _greet(scheme: str, host: str, port: int) -> None:
    """Find out whether a server answers at all: chromadb's own client would wait for ever."""
    import httpx  # noqa: PLC0415 - comes with chromadb, and is as slow to load

    httpx.get(f"{scheme}://{host}:{port}/api/v2/heartbeat", timeout=TIMEOUT_S)


def _chromadb() -> tuple[Any, Any]:
    import chromadb  # noqa: PLC0415 - takes a second; only a store with an index pays for it
    from chromadb.config import Settings  # noqa: PLC0415

    return chromadb, Settings(anonymized_telemetry=False)


def _opened(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:  # as in `_ask`: no common base class
        raise IndexUnavailable(
            f"The Chroma index cannot be opened: {type(error).__name__}: {str(error)[:300]}"
        ) from error


_HEADER = struct.Struct("<iQQQQ")
"""Version, offset, places made, places used, bytes of a place: how Chroma's `header.bin` begins."""
_KNOWN_VERSION = 1


def blank_unused(directory: Path) -> int:
    """Overwrite the unused ends of an index's files with zeros; return how many bytes.

    Chroma makes a collection's files with room for a hundred vectors, straight from memory that nobody cleared: what an
    erased vector left there lies on disk again. A file whose header says something else is left alone.
    """
    blanked = 0
    for header in directory.rglob("header.bin"):
        with header.open("rb") as file:
            head = file.read(_HEADER.size)
        if len(head) < _HEADER.size:
            continue
        version, _, made, used, size = _HEADER.unpack(head)
        for name, width in (("data_level0.bin", size), ("length.bin", 4)):
            path = header.with_name(name)
            if version == _KNOWN_VERSION and path.is_file() and path.stat().st_size == made * width > used * width:
                with path.open("r+b") as file:
                    file.seek(used * width)
                    file.write(bytes((made - used) * width))
                blanked += (made - used) * width
    return blanked
