"""Projector: keeps the vector index in step with the ledger, and asks it when it can answer. It owns no truth.

One process projects (the owner of the directory, or of a lease when the index is a server). Everything here may fail or
be killed at any point: the watermark only moves after the index has the vectors, and replaying changes nothing.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.errors import EngramError, IndexUnavailable
from engram_core.domain.fact import Status
from engram_core.domain.server import ChromaServer
from engram_core.measure.columns import vectors
from engram_core.ports import Collection, Generation, Hit, Indexed, Ledger, Point, ScopeState, VectorIndex
from engram_core.storage import chroma
from engram_core.storage.addresses import endpoint, is_outage, is_remote
from engram_core.storage.owner import Owner, seal_of
from engram_core.storage.pace import WHOLE, Pace
from engram_core.storage.probe import CLOSE_ENOUGH, Check, is_healthy
from engram_core.storage.snapshots import changes_since

logger = logging.getLogger("engram")

DRAIN_BATCH = WHOLE
REMAINDER = 2_000
"""Changes not yet in the index that a recall searches exactly beside it; beyond, it searches everything exactly."""
GATHER_S = 1.0
_LEASE = "projector"
LEASE_S = 15.0
"""How long a process that was killed is still taken for the one that projects into a server."""
_RETRY_S = 2.0
_FIT_EVERY = 10_000
"""Changes after which it is looked whether a growing collection should be written in larger steps."""
_OPENING_S, _OPENING_S_PER_VECTOR = 3.0, 1e-5
"""How long after the store was opened a recall waits for its index; then it searches exactly. The more vectors there
are, the longer opening takes, and reading them."""
_WORTH_WAITING = 10
"""Times the limit: in a larger scope reading all vectors takes longer, and more memory, than opening the index."""
_SAMPLES = 8
_CHECKED = 100
"""Collections of a server that are looked at when it is opened, and how often one may fail before it is given up."""
_STRIKES = 5

Progress = Callable[[int, int], None]


class Projector:
    """The index of one store.

    Args:
        ledger: The record.
        place: A directory, or a Chroma server.
        fingerprint: The embedder's, noted with each generation.
        dimension: Of the vectors; asked when the first collection is made.
        exact_limit: Live facts, and originals they stand for, above which a scope gets a collection; it goes again
            below half of it.
    """

    def __init__(
        self,
        ledger: Ledger,
        place: str | ChromaServer,
        *,
        fingerprint: Callable[[], str],
        dimension: Callable[[], int],
        exact_limit: int,
    ) -> None:
        self._ledger = ledger
        self._server = endpoint(place) if is_remote(place) else None
        self._address = place
        self._place = self._server.shown if self._server is not None else str(place)
        self._is_server = self._server is not None
        quotas = self._server.quotas if self._server is not None else None
        self._most = quotas.collection_records if quotas is not None else None
        self._results = quotas.results if quotas is not None else sys.maxsize
        self._strikes = 0
        self._fingerprint = fingerprint
        self._dimension = dimension
        self._exact_limit = exact_limit
        self._owner = None if self._is_server else Owner(self._place)
        self._holder = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._pid = os.getpid()
        self._index: VectorIndex | None = None
        self._generation: Generation | None = None
        self._collections: dict[int, Collection] = {}
        self._suspect: VectorIndex | None = None
        self._looked = 0.0
        self._has_looked = threading.Event()
        self._opening_since = float("-inf")
        self._pace = Pace()
        self._is_reader = False
        self._problem: str | None = None
        self._is_rebuilding = False
        self._work = threading.RLock()
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    # --- asked by recall ---

    def search(self, state: ScopeState, vector: NDArray[np.float32], n: int) -> list[Hit] | None:
        """The nearest live facts at `state.seq`, or None when the index cannot tell and exact search must."""
        if self._pid != os.getpid():
            return None
        if self._index is None and state.live > _WORTH_WAITING * self._exact_limit:
            until = self._opening_since + _OPENING_S + _OPENING_S_PER_VECTOR * state.live
            self._has_looked.wait(max(0.0, until - time.monotonic()))
        index, collection = self._index, self._collection(state)
        if index is None or index is self._suspect or collection is None:
            self._look_again()
            return None
        late: list[Indexed] = []
        if collection.watermark < state.seq:
            late = self._ledger.changes(state.id, collection.watermark, REMAINDER + 1)
            if len(late) > REMAINDER:
                return None
        self._pace.asked()
        try:
            hits = index.search(collection.name, vector, n)
            changed = {row.id for row in late}
            most = min(n, self._results)
            if len(hits) >= most and not changed.isdisjoint(hit.id for hit in hits):
                # What has changed since takes up places; the facts behind it are wanted instead.
                hits = index.search(collection.name, vector, n + len(changed))
                if len(hits) == self._results and sum(hit.id not in changed for hit in hits) < most:
                    return None  # the server gives no more than these
        except IndexUnavailable as error:
            self._distrust(index, str(error))
            return None
        return _with_late(hits, late, vector, n) if late else hits

    def _look_again(self) -> None:
        """A recall had to do without the index: the owner may have died meanwhile, or the index may be back."""
        if time.monotonic() - self._looked > _RETRY_S:
            self.wake()

    def _collection(self, state: ScopeState) -> Collection | None:
        if not self._is_server:
            return self._collections.get(state.id)
        # Another process may be the one that projects: its watermark is in the ledger, and came with the state.
        generation, held = self._generation, state.collection
        return held if generation is not None and held is not None and held.generation == generation.id else None

    # --- asked by the finder ---

    def wake(self) -> None:
        """Something was committed, or the store was opened."""
        if self._stopped.is_set():
            return
        with self._starting:
            if self._thread is None or self._pid != os.getpid():
                if self._pid != os.getpid():
                    return  # a forked child: the parent's index is not ours to touch
                self._thread = threading.Thread(target=self._loop, name="engram-index", daemon=True)
                self._opening_since = time.monotonic()
                self._thread.start()
        self._wake.set()

    def flush(self, timeout: float) -> bool:
        """Wait until every scope that belongs in the index is in it; True at once where another process projects."""
        deadline = time.monotonic() + timeout
        if self._pid != os.getpid():
            return True
        try:
            with self._work:
                self._step(deadline)
        except (EngramError, OSError) as error:
            self._problem = str(error)
            return False
        return not self._lagging() if self._is_owner() else True

    def rebuild(self, progress: Progress | None = None, *, patience: float = 0.0) -> int:
        """Build a new generation and swap it in; return how many vectors it holds. Raises IndexUnavailable.

        Args:
            progress: Called with (vectors done, vectors in all).
            patience: Seconds to wait for the process that projects into the server, if there is another.
        """
        until = time.monotonic() + patience
        with self._work:
            try:
                while self._is_server and not self._take_ownership() and time.monotonic() < until:
                    self._stopped.wait(0.2)
                if not self._take_ownership():
                    raise IndexUnavailable(self._elsewhere())
                return self._rebuild(progress)
            except OSError as error:
                raise IndexUnavailable(f"The index at {self._place} cannot be built: {error}") from error

    def purge(self) -> str:
        """Leave no byte of an earlier build of the index; see `engram_core.ports.Finder.purge`."""
        with self._work:
            if not self._ledger.generations() and not self._has_work():
                return "nothing was indexed"
            if not self._take_ownership():
                return f"to be built anew by the process that owns it: {self._elsewhere()}"
            try:
                self._drop_index()
                count = self._rebuild(None) if self._has_work() else 0
                if not self._has_work():
                    self._remove_strays(None)
                elif not self._is_server:
                    chroma.blank_unused(Path(self._place))
            except OSError as error:
                raise IndexUnavailable(f"The index at {self._place} cannot be built anew: {error}") from error
        if self._is_server:
            return f"collections dropped and {count} vectors written anew; what the server keeps on its disk is its own"
        return f"built anew with {count} vectors in a new directory, the old one removed"

    def files(self) -> list[str]:
        """The directory of the index; nothing for a server."""
        return [] if self._is_server else [self._place]

    def health(self) -> Mapping[str, Any]:
        """What `engram doctor` shows."""
        generation = self._generation or self._live_generation()
        collections = self._ledger.collections(generation.id) if generation else []
        states = self._ledger.scopes()
        seqs = {state.id: state.seq for state in states}
        behind = sum(max(0, seqs.get(item.scope_id, 0) - item.watermark) for item in collections)
        return {
            "kind": "server" if self._is_server else "embedded",
            "place": self._place,
            "state": self._state(),
            "generation": generation.id if generation else None,
            "collections": len(collections),
            "behind": behind,
            "owner_pid": self._owner.holder() if self._owner is not None else None,
            "problem": self._problem or self._outgrown(states),
        }

    def _outgrown(self, states: Sequence[ScopeState]) -> str | None:
        large = [state for state in states if self._is_too_large(state)]
        if not large:
            return None
        names = ", ".join(f"{state.scope.path} ({state.live:,} facts)" for state in large[:3])
        return (
            f"A collection of {self._place} takes {self._most:,} records at most, so these scopes are searched "
            f"exactly: {names}. Split them into scopes below them, forget, or use a Chroma server of your own."
        )

    def close(self) -> None:
        """Catch up, close the index, clear the marker, give the directory up."""
        self._stopped.set()
        self._wake.set()
        thread = self._thread
        if self._pid != os.getpid():
            return
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=60)
        with self._work:
            if self._index is not None and self._is_owner():
                self._finish(self._index)
            self._drop_index()
            if self._owner is not None:
                self._owner.release()
            elif self._holds_lease:
                self._ledger.lease(_LEASE, self._holder, 0.0)  # so that another process need not wait for its end

    def _finish(self, index: VectorIndex) -> None:
        clean = [replace(item, dirty=False) for item in self._collections.values() if item.dirty]
        if clean:
            self._ledger.save_collections(clean)
        if self._owner is not None:
            assert self._generation is not None
            index.close()
            chroma.blank_unused(Path(self._place, self._generation.place))
            self._owner.seal = seal_of(Path(self._place, self._generation.place))
            self._owner.mark_clean()

    # --- the loop ---

    def _loop(self) -> None:
        while not self._stopped.is_set():
            self._wake.clear()
            wait: float | None = None
            try:
                with self._work:
                    self._step(float("inf"))
                self._problem = None if self._is_owner() or not self._lagging() else self._problem
                wait = self._until_next()
            except Exception as error:  # noqa: BLE001 - the thread must outlive any trouble; `health` shows it
                if not threading.main_thread().is_alive():
                    return  # the interpreter is going down, and nothing can be opened any more
                problem, known = str(error) or type(error).__name__, self._problem
                self._problem = problem
                is_expected = isinstance(error, EngramError | OSError)
                if problem != known:  # an outage is said once, not every two seconds
                    logger.warning("engram: the vector index has to wait: %s", error, exc_info=not is_expected)
                wait = _RETRY_S
            self._has_looked.set()
            self._wake.wait(timeout=wait)
            # Let single adds gather: recall searches what is not projected yet exactly, so nobody waits for this.
            self._stopped.wait(GATHER_S)

    def _until_next(self) -> float | None:
        """Seconds after which to look again without being woken; None for never."""
        if not self._is_owner() and self._has_work():
            return _RETRY_S  # the owner may die: try to take over now and then
        return LEASE_S / 3 if self._is_server and self._is_owner() else None

    def _step(self, deadline: float) -> None:
        """Open what is there, project what is due."""
        self._looked = time.monotonic()
        self._drop_suspect()
        if not self._has_work() and self._live_generation() is None:
            self._clear_out()
            return
        if not self._take_ownership():
            if self._is_server:
                self._open_for_reading()
            return
        if self._is_reader or self._is_condemned():
            # What was opened for asking only knows no watermarks: whoever writes starts from the ledger's.
            self._drop_index()
        if self._index is None:
            self._open()
        elif self._is_server and self._generation is not None:
            self._reread(self._generation)
        try:
            self._shed()
            for state in self._lagging():
                if self._stopped.is_set() or time.monotonic() > deadline:
                    return
                self._drain(state, deadline)
        except IndexUnavailable:
            # What cannot be written to cannot be trusted: the next step opens it again, and looks at it first.
            self._drop_index()
            raise

    def _is_condemned(self) -> bool:
        """Whether something was erased since: its vectors are still in the index, and another one takes its place."""
        current = self._generation
        if current is None or self._index is None:
            return False
        known = next((item for item in self._ledger.generations() if item.id == current.id), None)
        return known is None or known.state == "bad"

    def _clear_out(self) -> None:
        """Nothing belongs in the index: remove what earlier builds left, once somebody has to."""
        if self._ledger.generations() and self._take_ownership():
            self._drop_index()
            self._remove_strays(None)

    def _has_work(self) -> bool:
        return any(map(self._belongs, self._large()))

    def _large(self) -> list[ScopeState]:
        """Scopes that may have a collection: of many small ones nothing is read."""
        return self._ledger.scopes(at_least=(self._exact_limit + 1) // 2)

    def _belongs(self, state: ScopeState) -> bool:
        """Whether a scope is large enough for a collection, and not too large for one."""
        return state.live + state.held > self._exact_limit and not self._is_too_large(state)

    def _is_too_large(self, state: ScopeState) -> bool:
        return self._most is not None and state.live > self._most

    def _lagging(self) -> list[ScopeState]:
        """Scopes whose collection is missing or behind."""
        late = []
        for state in self._large():
            collection = self._collections.get(state.id)
            is_late = self._belongs(state) if collection is None else collection.watermark < state.seq
            if is_late:
                late.append(state)
        return late

    # --- ownership ---

    def _is_owner(self) -> bool:
        if self._owner is not None:
            return self._owner.is_held
        return self._generation is not None and self._holds_lease

    _holds_lease = False

    def _take_ownership(self) -> bool:
        if self._owner is not None:
            return self._owner.acquire()
        self._holds_lease = self._ledger.lease(_LEASE, self._holder, LEASE_S)
        return self._holds_lease

    def _elsewhere(self) -> str:
        if self._owner is not None:
            return (
                f"The index at {self._place} is owned by process {self._owner.holder()}. Stop that process, or run "
                "the command there; recall here goes on with exact search."
            )
        return "Another process projects into this Chroma server now; try again in a moment, or run the command there."

    def _state(self) -> str:
        if self._is_rebuilding:
            return "rebuilding"
        if self._index is not None:
            return "ready"
        if self._owner is not None and not self._owner.is_held and self._owner.holder() and self._has_work():
            return "elsewhere or not opened"
        return "not needed" if not self._has_work() else "opening"

    # --- opening ---

    def _live_generation(self) -> Generation | None:
        return next((item for item in self._ledger.generations() if item.state == "live"), None)

    def _open(self) -> None:
        """Open the live generation; build one when there is none or the old one is not to be trusted."""
        live = self._live_generation()
        if live is not None and not self._is_usable(live):
            logger.warning("engram: the vector index cannot be used as it is; it is built anew from the ledger")
            self._ledger.save_generation(replace(live, state="bad"))
            live = None
        if live is None:
            self._rebuild(None)
            return
        was_clean = self._owner is not None and not self._owner.is_dirty
        self._mark_dirty()
        try:
            index = self._client(live)
            self._warm(index, live)
            self._index = index
        except IndexUnavailable:
            if was_clean and self._owner is not None and not threading.main_thread().is_alive():
                self._owner.mark_clean()  # the interpreter is going down: nothing was opened, nothing was left open
            raise
        self._generation = live
        self._collections = {item.scope_id: item for item in self._ledger.collections(live.id)}
        for state in self._large():
            if state.id in self._collections:
                index.fit(self._collections[state.id].name, state.live)
        self._remove_strays(live)

    def _reopen(self) -> None:
        """Close the index and open it again; recalls wait for it."""
        index, self._index = self._index, None
        self._has_looked.clear()
        self._opening_since = time.monotonic()
        try:
            if index is not None:
                self._finish(index)
            self._drop_index()
            self._open()
        finally:
            self._has_looked.set()

    def _open_for_reading(self) -> None:
        live = self._live_generation()
        if live is not None and (self._index is None or self._generation != live or not self._is_reader):
            self._drop_index()
            index = self._client(live)
            self._warm(index, live)
            self._index, self._generation, self._is_reader = index, live, True

    def _reread(self, generation: Generation) -> None:
        """Start from the ledger's watermarks: one that went back was written by a process that came late, and did."""
        if self._live_generation() != generation:
            self._drop_index()
            self._open()
            return
        self._collections = {item.scope_id: item for item in self._ledger.collections(generation.id)}

    def _warm(self, index: VectorIndex, generation: Generation) -> None:
        """Ask a server something before a recall does: one that is slow or failing must not make recalls wait again."""
        if not self._is_server:
            return
        held = self._ledger.collections(generation.id)
        if held:
            direction = np.zeros(self._dimension(), dtype=np.float32)
            direction[0] = 1.0
            try:
                index.search(random.choice(held).name, direction, 1)
            except IndexUnavailable:
                index.close()
                raise

    def _is_usable(self, generation: Generation) -> bool:
        is_same_embedder = generation.fingerprint == self._fingerprint()
        return is_same_embedder and self._exists(generation) and self._is_trusted(generation)

    def _exists(self, generation: Generation) -> bool:
        return self._is_server or Path(self._place, generation.place).is_dir()

    def _is_trusted(self, generation: Generation) -> bool:
        if self._owner is None:
            index = self._client(generation)
            try:
                names = set(index.names())
                held = self._ledger.collections(generation.id)
                return all(item.name in names for item in held) and self._answers_rightly(index, held)
            finally:
                index.close()
        directory = Path(self._place, generation.place)
        is_untouched = self._owner.seal == seal_of(directory)
        if not self._owner.is_dirty and is_untouched:
            return True
        logger.info("engram: the index was not closed cleanly; probing it in another process")
        return is_healthy(str(directory), self._checks(generation, everything=not self._owner.is_dirty))

    def _answers_rightly(self, index: VectorIndex, held: Sequence[Collection]) -> bool:
        """Whether facts find themselves in a server's collections: those written to since the last clean close.

        A server that was killed while it wrote may come back with a collection that fails or has lost vectors.
        """
        written = [item for item in held if item.dirty]
        try:
            for item in random.sample(written, min(_CHECKED, len(written))):
                ids = [*self._ledger.newest(item.scope_id, _SAMPLES), *self._ledger.weightiest(item.scope_id, _SAMPLES)]
                rows = self._ledger.indexed(list(dict.fromkeys(ids)))
                settled = [row for row in rows if _is_live(row) and row.seq <= item.watermark]
                for row, vector in zip(settled, vectors([r.context for r in settled], self._dimension()), strict=True):
                    hits = index.search(item.name, vector, 1)
                    if not hits or (hits[0].id != row.id and hits[0].score < CLOSE_ENOUGH):
                        return False
        except IndexUnavailable as error:
            if is_outage(error):
                raise
            # The server is up and lists its collections, but one of them fails. It may pass; it may also be broken.
            self._strikes += 1
            if self._strikes < _STRIKES:
                raise
        else:
            self._strikes = 0
            return True
        self._strikes = 0
        return False

    def _checks(self, generation: Generation, *, everything: bool) -> list[Check]:
        """What must hold of each collection written to since the last clean close, or of everyone."""
        checks = []
        for item in self._ledger.collections(generation.id):
            if not item.dirty and not everything:
                continue
            rows = changes_since(self._ledger, item.scope_id, 0, vectors=False)
            settled = [row for row in rows if _is_live(row) and row.seq <= item.watermark]
            values = vectors([row.context for row in settled], self._dimension())
            samples = random.sample(range(len(settled)), min(_SAMPLES, len(settled)))
            checks.append(Check.of(item.name, [row.id for row in settled], values, samples))
        return checks

    def _client(self, generation: Generation) -> VectorIndex:
        if self._is_server:
            return chroma.server(self._address)
        directory = Path(self._place, generation.place)
        directory.mkdir(parents=True, exist_ok=True)
        return chroma.embedded(str(directory))

    def _mark_dirty(self) -> None:
        if self._owner is not None:
            self._owner.mark_dirty()

    def _drop_index(self) -> None:
        index, self._index = self._index, None
        self._generation, self._is_reader = None, False
        self._collections = {}
        if index is not None:
            index.close()

    def _distrust(self, index: VectorIndex, problem: str) -> None:
        """The index failed while answering: stop asking it; the loop opens, probes and if need be rebuilds it."""
        if self._index is not index:
            return  # it was closed on purpose meanwhile
        logger.warning("engram: recall goes on with exact search: %s", problem)
        self._problem = problem
        # A recall must not wait for whoever is projecting now: the loop drops it.
        self._suspect = index
        self.wake()

    def _drop_suspect(self) -> None:
        suspect, generation = self._suspect, self._generation
        if suspect is not None and suspect is self._index:
            if not self._is_server and generation is not None:
                self._ledger.save_generation(replace(generation, state="bad"))
            self._drop_index()
        self._suspect = None

    # --- projecting ---

    def _drain(self, state: ScopeState, deadline: float) -> None:
        """Apply a scope's outbox, batch by batch, moving the watermark after each."""
        index, generation = self._index, self._generation
        if index is None or generation is None:
            return
        collection = self._collections.get(state.id)
        if collection is None:
            collection = self._created(index, generation, state)
        elif not collection.dirty:
            collection = replace(collection, dirty=True)
            self._ledger.save_collections([collection])
        index, collection = self._fitted(index, collection, state.live)
        applied = 0
        while not self._stopped.is_set() and time.monotonic() < deadline:
            behind = state.seq - collection.watermark
            size = self._pace.batch(behind)
            rows = self._ledger.changes(state.id, collection.watermark, size)
            started = time.monotonic()
            if rows:
                _apply(index, collection.name, rows)
            rest = self._pace.rest(len(rows), time.monotonic() - started, behind)
            is_caught_up = len(rows) < size
            # `state` was read before the rows: when they run out, everything up to its number is applied.
            reached = max([row.seq for row in rows] + ([state.seq] if is_caught_up else []))
            collection = replace(collection, watermark=max(collection.watermark, reached))
            self._ledger.save_collections([collection])
            if is_caught_up or collection.scope_id in self._collections:
                # A new collection answers once it has caught up; one that answered already goes on answering.
                self._collections[state.id] = collection
            if is_caught_up:
                break
            self._renew()
            applied += len(rows)
            if applied >= _FIT_EVERY:
                applied = 0
                index, collection = self._fitted(index, collection, index.count(collection.name))
            if rest and deadline == float("inf"):  # nobody waits for it
                self._stopped.wait(rest)

    def _created(self, index: VectorIndex, generation: Generation, state: ScopeState) -> Collection:
        """An empty collection for a scope, fitted before anything is written to it: then it counts at once."""
        collection = Collection(generation.id, state.id, _name(generation, state.id), 0, dirty=True)
        index.create(collection.name, self._dimension())
        index.fit(collection.name, state.live)
        return collection

    def _fitted(self, index: VectorIndex, collection: Collection, size: int) -> tuple[VectorIndex, Collection]:
        """Have a collection that grew a lot written in larger steps from now on."""
        if not index.fit(collection.name, size) or self._is_server:
            return index, collection
        self._reopen()
        if self._index is None:
            raise IndexUnavailable("The index could not be opened again.")
        collection = replace(self._collections.get(collection.scope_id, collection), dirty=True)
        self._ledger.save_collections([collection])
        return self._index, collection

    def _renew(self) -> None:
        if self._is_server and not self._take_ownership():
            raise IndexUnavailable("Another process took over projecting into the Chroma server.")

    def _shed(self) -> None:
        """Drop the collections of scopes that shrank to less than half the limit, or outgrew what a server takes."""
        states = self._large()
        live = {state.id: state.live + state.held for state in states}
        outgrown = {state.id for state in states if self._is_too_large(state)}
        for scope_id, collection in list(self._collections.items()):
            is_small = self._exact_limit and live.get(scope_id, 0) < self._exact_limit / 2
            if (is_small or scope_id in outgrown) and self._index is not None:
                self._collections.pop(scope_id)
                self._ledger.drop_collection(collection)
                self._index.drop(collection.name)

    # --- rebuilding ---

    def _rebuild(self, progress: Progress | None) -> int:
        self._is_rebuilding = True
        try:
            return self._rebuilt(progress)
        finally:
            self._is_rebuilding = False

    def _rebuilt(self, progress: Progress | None) -> int:
        new_id = uuid.uuid4().hex
        building = Generation(new_id, self._place if self._is_server else new_id, "building", self._fingerprint())
        self._ledger.save_generation(building)
        self._mark_dirty()
        index = self._client(building)
        collections: dict[int, Collection] = {}
        try:
            states = list(filter(self._belongs, self._large()))
            total, done = sum(state.live for state in states), 0
            for state in states:
                collection = self._created(index, building, state)
                while rows := self._ledger.changes(state.id, collection.watermark, DRAIN_BATCH):
                    _apply(index, collection.name, rows)
                    collection = replace(collection, watermark=rows[-1].seq)
                    done += sum(map(_is_live, rows))
                    self._report(progress, min(done, total), total)
                    self._renew()
                    if self._stopped.is_set():
                        raise IndexUnavailable("The store was closed while its index was built; it goes on next time.")
                collections[state.id] = collection
            self._ledger.save_collections(list(collections.values()))
            self._ledger.swap_generation(new_id)
        except BaseException:
            index.close()
            self._discard(building)
            raise
        self._drop_index()
        self._index, self._generation = index, replace(building, state="live")
        self._collections = collections
        self._problem = None
        self._remove_strays(self._generation)
        return sum(index.count(item.name) for item in collections.values())

    @staticmethod
    def _report(progress: Progress | None, done: int, total: int) -> None:
        if progress is not None:
            progress(done, total)

    def _discard(self, generation: Generation) -> None:
        if self._is_server:
            self._drop_server_collections(generation)
        else:
            shutil.rmtree(Path(self._place, generation.place), ignore_errors=True)
        self._ledger.drop_generation(generation.id)

    def _remove_strays(self, live: Generation | None) -> None:
        """Remove every other generation: retired, bad, or left half built by a kill."""
        for generation in self._ledger.generations():
            if live is None or generation.id != live.id:
                self._discard(generation)
        if not self._is_server and Path(self._place).is_dir():
            for path in Path(self._place).iterdir():
                if path.is_dir() and (live is None or path.name != live.place):
                    shutil.rmtree(path, ignore_errors=True)

    def _drop_server_collections(self, generation: Generation) -> None:
        index = self._index or self._client(generation)
        try:
            for name in index.names():
                if name.startswith(_prefix(generation)):
                    index.drop(name)
        finally:
            if index is not self._index:
                index.close()


def _apply(index: VectorIndex, name: str, rows: list[Indexed]) -> None:
    live = [row for row in rows if _is_live(row)]
    gone = [row.id for row in rows if not _is_live(row)]
    if live:
        dimension = len(live[0].context or b"") // 2
        values = vectors([row.context for row in live], dimension)
        index.put(name, [Point(row.id, value) for row, value in zip(live, values, strict=True)])
    if gone:
        index.remove(name, gone)


def _is_live(row: Indexed) -> bool:
    return row.status == Status.LIVE and row.context is not None


def _with_late(hits: list[Hit], late: list[Indexed], vector: NDArray[np.float32], n: int) -> list[Hit]:
    """Hits corrected by changes the index has not seen: what left goes, what came or moved is scored exactly."""
    changed = {row.id for row in late}
    live = [row for row in late if _is_live(row)]
    scores = vectors([row.context for row in live], len(vector)) @ vector
    fresh = [Hit(row.id, float(score)) for row, score in zip(live, scores, strict=True)]
    merged = [hit for hit in hits if hit.id not in changed] + fresh
    return sorted(merged, key=lambda hit: (-hit.score, hit.id))[:n]


def _prefix(generation: Generation) -> str:
    return f"engram-{generation.id}-"


def _name(generation: Generation, scope_id: int) -> str:
    return f"{_prefix(generation)}{scope_id}"
