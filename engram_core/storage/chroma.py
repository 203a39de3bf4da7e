"""Chroma as the vector index: ids and vectors, nothing else. No text, no metadata, no embedding function, no filter."""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.errors import IndexUnavailable, InvalidInput
from engram_core.domain.server import ChromaServer
from engram_core.ports import Hit, Point
from engram_core.storage.addresses import Endpoint, endpoint

T = TypeVar("T")

BATCH = 300
"""Records per write: within every deployment's quota, and short enough not to hold up a query for long."""
ID_BYTES = 128
"""Bytes of an id: within every deployment's quota, so that an index can move to another one."""
_HNSW = {
    "space": "cosine",
    "ef_construction": 100,
    "max_neighbors": 16,
    "ef_search": 200,
    "sync_threshold": 200,
    "batch_size": 100,
}
_VECTORS_PER_SYNC, _MOST_PER_SYNC = 200, 2_000
"""Chroma writes all ids of a collection to disk after every `sync_threshold` new vectors, and reads those vectors again
at every write until then: the larger a collection, the more of them it waits for. Measured at 400,000 vectors, 200 at a
time: 270 KB were written per vector with a threshold of 200."""


class ChromaIndex:
    """The VectorIndex port over one Chroma client. Thread-safe; one instance per directory and process.

    Args:
        client: An open chromadb client; `embedded` and `server` make one.
        endpoint: Of the server, if it is one.
    """

    def __init__(self, client: Any, endpoint: Endpoint | None = None) -> None:
        self._client = client
        self._endpoint = endpoint
        self._quotas = endpoint.quotas if endpoint is not None else None
        self._batch = min(BATCH, self._quotas.records) if self._quotas is not None else BATCH
        self._held: dict[str, Any] = {}
        self._is_closed = False
        self._lock = threading.Lock()

    def create(self, name: str, dimension: int) -> None:
        """See `engram_core.ports.VectorIndex`."""
        self.drop(name)
        made = self._ask(
            lambda: self._client.create_collection(name, embedding_function=None, configuration=self._configuration)
        )
        settings = made.configuration.get("hnsw") or made.configuration.get("spann") or {}
        space = settings.get("space")
        if space != "cosine":
            raise IndexUnavailable(f"Chroma made collection {name} with space {space!r} instead of cosine.")
        with self._lock:
            self._held[name] = made

    def fit(self, name: str, size: int) -> bool:
        """See `engram_core.ports.VectorIndex`. A running index goes on as it was opened."""
        if self._quotas is not None:
            return False
        collection = self._collection(name)
        now = int(collection.configuration.get("hnsw", {}).get("sync_threshold", _MOST_PER_SYNC))
        wanted = min(size // _VECTORS_PER_SYNC, _MOST_PER_SYNC)
        if wanted < 2 * now:
            return False
        self._ask(lambda: collection.modify(configuration={"hnsw": {"sync_threshold": wanted}}))
        return True

    @property
    def _configuration(self) -> dict[str, Any]:
        # A hosted Chroma has another kind of index, whose other numbers are fixed.
        return {"hnsw": _HNSW} if self._quotas is None else {"spann": {"space": "cosine"}}

    def put(self, name: str, points: Sequence[Point]) -> None:
        """See `engram_core.ports.VectorIndex`. Delete and add: upserting costs Chroma several times as much."""
        self._check_ids(points)
        collection = self._collection(name)
        for start in range(0, len(points), self._batch):
            chunk = points[start : start + self._batch]
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
        for start in range(0, len(ids), self._batch):
            self._ask(partial(collection.delete, ids=list(ids[start : start + self._batch])))

    def search(self, name: str, vector: NDArray[np.float32], n: int) -> list[Hit]:
        """See `engram_core.ports.VectorIndex`. A hosted Chroma gives as many as its quotas allow."""
        if self._quotas is not None:
            n = min(n, self._quotas.results)
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
        if self._quotas is None:
            return set(self._ask(lambda: collection.get(include=[]))["ids"])
        found: set[str] = set()
        while True:
            page = self._ask(partial(collection.get, include=[], limit=self._batch, offset=len(found)))["ids"]
            found |= set(page)
            if len(page) < self._batch:
                return found

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

    def _check_ids(self, points: Sequence[Point]) -> None:
        most = self._quotas.id_bytes if self._quotas is not None else ID_BYTES
        long = next((point.id for point in points if len(point.id.encode()) > most), None)
        if long is not None:
            raise InvalidInput(
                f"The id {long[:40]}… has more than {most} bytes; the source of ids must give shorter ones."
            )

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
            said = str(error)[:300]
            if self._endpoint is not None:
                said = self._endpoint.hidden(said)
            raise IndexUnavailable(f"Chroma failed: {type(error).__name__}: {said}") from error


def embedded(directory: str) -> ChromaIndex:
    """An index in a directory of this machine. The caller must own the directory: two processes lose vectors."""
    chromadb, settings = _opened(_chromadb)
    return ChromaIndex(_opened(lambda: chromadb.PersistentClient(path=directory, settings=settings)))


def server(place: str | ChromaServer) -> ChromaIndex:
    """An index on a Chroma server. Chroma's own has no authentication: loopback or a private network only.

    Raises:
        InvalidInput: Not an address; see `ChromaServer`.
        IndexUnavailable: Nothing answers there.
    """
    from engram_core.storage import remote  # noqa: PLC0415 - httpx loads with the first server

    where = endpoint(place)
    chromadb, settings = _opened(_chromadb)
    # The client logs every request at INFO through httpx, into whatever logging the user has set up.
    logging.getLogger("httpx").setLevel(max(logging.getLogger("httpx").level, logging.WARNING))
    _opened(lambda: _greet(where), where)

    def connect() -> Any:
        return chromadb.HttpClient(
            host=where.host,
            port=where.port,
            ssl=where.is_secure,
            headers=dict(where.headers),
            settings=settings,
            tenant=where.tenant,
            database=where.database,
        )

    client = _opened(lambda: _within(where.timeout * remote.PATIENCE, connect), where)
    for session in _sessions(client):
        remote.install(session, where)
    return ChromaIndex(client, where)


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


def _within(seconds: float, make: Callable[[], T]) -> T:
    """Run what cannot be given a time limit in a thread, and wait no longer than this for it."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(make())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            done.set_exception(error)

    threading.Thread(target=run, name="engram-connect", daemon=True).start()
    return done.result(seconds)


def _greet(where: Endpoint) -> None:
    """Find out whether a server answers at all: chromadb's own client would wait for ever."""
    import httpx  # noqa: PLC0415 - comes with chromadb, and is as slow to load

    httpx.get(f"{where.base}/api/v2/heartbeat", timeout=where.timeout, headers=where.headers).raise_for_status()


def _chromadb() -> tuple[Any, Any]:
    import chromadb  # noqa: PLC0415 - takes a second; only a store with an index pays for it
    from chromadb.config import Settings  # noqa: PLC0415

    return chromadb, Settings(anonymized_telemetry=False)


def _opened(make: Callable[[], Any], where: Endpoint | None = None) -> Any:
    try:
        return make()
    except Exception as error:  # as in `_ask`: no common base class
        said = str(error)[:300]
        said = where.hidden(said) if where is not None else said
        raise IndexUnavailable(f"The Chroma index cannot be opened: {type(error).__name__}: {said}") from error


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
