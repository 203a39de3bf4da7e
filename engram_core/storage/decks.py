"""Decks: rows of large scopes as arrays, filled by what recalls read and caught up from the outbox. Caches only.

A recall in a large scope ranks some hundreds of facts. Turning as many rows into Python objects and those into arrays
cost more than finding them; here a row is turned into its place in the arrays once, and gathering is numpy's work.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.errors import EngramError
from engram_core.domain.fact import RECALLABLE
from engram_core.measure.columns import NO_MEMBERS, Columns, members_of
from engram_core.ports import Gathered, Indexed, Ledger, ScopeState, Uncounted
from engram_core.storage.arrays import MOST_ROOM, lengthen
from engram_core.storage.codec import unspaced

logger = logging.getLogger("engram")

LEAST_BYTES, SHARE = 384 << 20, 8
"""Memory of all decks together: so much, or one in so many bytes of what there is; one alone over it starts anew."""
_WHOLE_SHARE = 2 / 3
"""A scope that needs no more of that memory is read whole in the background."""
MAX_MEMBERS = 600
"""Originals of merged facts that are ranked at most, those of the best hits first."""
_MAX_CHANGES = 300
"""Changes taken over at once; of more, only which rows they make out of date."""
_MOST_CHANGES = 20_000
"""After more of them a deck starts anew."""
_ROW_OVERHEAD_BYTES = 700
"""Per row besides the vectors: ids, names, words and the rest of the arrays; measured."""
_MAX_BITS_BYTES = 64 << 20
_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_PAGE = 100
_ATTEMPTS = 5
_REST_FACTOR = 3.0
"""The thread that fills decks rests so many times as long as it works: recalls come first."""
_MAX_FREQUENCIES = 50_000
_FIRST_ROOM = 1_024

_RECALLABLE = frozenset(status.value for status in RECALLABLE)
_HIDDEN = frozenset({"erased", "quarantined"})
_UNKNOWN, _HIDES, _REST, _RANKS = 0, 1, 2, 3
"""What a place holds: nothing yet, a row nobody may see, one that only stands in a merged fact, one to rank."""

Ints = NDArray[np.int64]
T = TypeVar("T")
Chore = Iterator[bool]
"""Work in small steps; it yields True while there is more."""


class Deck:
    """Rows of one scope by place. A place belongs to a fact id for good; its row may be unknown. Not thread-safe.

    Args:
        seq: The scope's sequence number the rows are of, or later ones.
        dimension: Of the vectors.
    """

    def __init__(self, seq: int, dimension: int) -> None:
        self.seq = seq
        self.dimension = dimension
        self.lock = threading.Lock()
        self.is_due = True
        """Whether its rows have still to be read in the background."""
        self.frequencies: dict[str, tuple[int, int]] = {}
        self._places: dict[str, int] = {}
        self._at_key: dict[int, int] = {}
        self._ids: list[str] = []
        self._speakers: list[str | None] = []
        self._kinds: list[str] = []
        self._bodies: list[bytes] = []
        self._contexts: list[bytes] = []
        self._members: dict[int, list[int]] = {}
        self._sessions: dict[str, int] = {}
        self._words: dict[str, int] = {}
        self._bits: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()
        self._bits_bytes = 0
        self._rows = np.zeros(0, dtype=_row_type(dimension))

    @property
    def size(self) -> int:
        """Approximate bytes held."""
        return self._rows.nbytes + len(self._ids) * _ROW_OVERHEAD_BYTES + self._bits_bytes

    @property
    def row_bytes(self) -> int:
        """Of the arrays, per row."""
        return int(self._rows.dtype.itemsize)

    # --- filling ---

    def place(self, id_: str) -> int:
        """The place of a fact id, a new one if it has none."""
        place = self._places.get(id_)
        if place is None:
            place = self._places[id_] = len(self._ids)
            self._ids.append(id_)
            self._speakers.append(None)
            self._kinds.append("")
            self._bodies.append(b"")
            self._contexts.append(b"")
            if place == len(self._rows):
                lengthen(self._rows, max(_FIRST_ROOM, min(place // 2, MOST_ROOM)))
        return place

    def put(self, rows: Sequence[Indexed], scope_id: int) -> None:
        """Take over rows; those of another scope are nobody's business here."""
        own = [row for row in rows if row.scope_id == scope_id]
        places = [self.place(row.id) for row in own]
        # A row that was read before another thread caught up must not undo that.
        is_older = self._rows["seq"][places] > [row.seq for row in own] if own else ()
        own = [row for row, older in zip(own, is_older, strict=True) if not older]
        if not own:
            return
        at = np.array([self._places[row.id] for row in own], dtype=np.int64)
        around = [
            [-1 if id_ is None else self.place(id_) for id_ in (row.previous, row.following, row.into)] for row in own
        ]
        columns = dict(zip(Indexed._fields, zip(*own, strict=True), strict=True))
        into = self._rows  # only now: `place` may have made room elsewhere
        into["previous"][at], into["following"][at], into["into"][at] = np.array(around, dtype=np.int32).T
        into["state"][at] = [_state_of(status) for status in columns["status"]]
        codes = self._sessions
        into["session"][at] = [
            -1 if name is None else codes.setdefault(name, len(codes)) for name in columns["session"]
        ]
        for name in ("seq", "said_at", "body_length", "context_length", "time_words", "asks", "importance"):
            into[name][at] = columns[name]
        for name in ("content", "context"):
            into[name][at] = _halves(columns[name], self.dimension)
        for place, row in zip(at.tolist(), own, strict=True):
            self._at_key[row.key] = place
            self._speakers[place], self._kinds[place] = row.speaker, row.kind
            self._bodies[place], self._contexts[place] = self._coded(row.body_stems), self._coded(row.context_stems)
            if row.members != NO_MEMBERS:
                self._members[place] = [self.place(id_) for id_ in members_of(row)]
            else:
                self._members.pop(place, None)

    def _coded(self, stems: str) -> bytes:
        words = self._words
        return np.array([words.setdefault(stem, len(words)) for stem in unspaced(stems)], dtype=np.int32).tobytes()

    def change(self, rows: Sequence[Indexed], scope_id: int, seq: int) -> None:
        """Take over rows that changed, and bring what is known of words up to date."""
        self.put(rows, scope_id)
        self.frequencies.clear()
        for row in rows:
            held = frozenset(unspaced(row.context_stems)) if row.status in _RECALLABLE else frozenset()
            byte, bit = row.key >> 3, np.uint8(128 >> (row.key & 7))
            for stem in self._bits:
                self._mark(stem, byte, bit, stem in held)
        self.seq = max([self.seq, seq, *(row.seq for row in rows)])

    def outdate(self, changed: Mapping[str, int], seq: int) -> None:
        """Forget the rows of facts that changed, by their new sequence numbers, and all that is known of words."""
        places = [(self._places[id_], at) for id_, at in changed.items() if id_ in self._places]
        if places:
            at, seqs = np.array(places, dtype=np.int64).T
            self._rows["state"][at] = _UNKNOWN
            self._rows["seq"][at] = seqs
        self.frequencies.clear()
        self._bits.clear()
        self._bits_bytes = 0
        self.seq = max([self.seq, seq, *changed.values()])

    def _mark(self, stem: str, byte: int, bit: np.uint8, is_held: bool) -> None:
        bits = self._bits[stem]
        if byte >= len(bits):
            if not is_held:
                return
            # Room for an eighth more: new facts have the highest keys.
            more = byte + byte // 8 + 1 - len(bits)
            bits = self._bits[stem] = np.pad(bits, (0, more))
            self._bits_bytes += more
        bits[byte] = bits[byte] | bit if is_held else bits[byte] & ~bit

    def unknown(self, places: Iterable[int]) -> list[str]:
        """Ids of the places whose rows have never been read."""
        asked = np.fromiter(places, dtype=np.int64)
        if not len(asked):
            return []
        return [self._ids[place] for place in asked[self._rows["state"][asked] == _UNKNOWN].tolist()]

    # --- words ---

    def lacks_bits(self, stems: Iterable[str]) -> list[str]:
        """The stems whose holders are not in memory."""
        return [stem for stem in stems if stem not in self._bits]

    def set_bits(self, stem: str, keys: Ints) -> None:
        """Remember which row keys hold a stem."""
        flags = np.zeros(int(keys.max(initial=-1)) + 1, dtype=bool)
        flags[keys] = True
        bits = np.packbits(flags)
        self._bits_bytes += bits.nbytes - (self._bits[stem].nbytes if stem in self._bits else 0)
        self._bits[stem] = bits
        while self._bits_bytes > _MAX_BITS_BYTES and len(self._bits) > 1:
            self._bits_bytes -= self._bits.popitem(last=False)[1].nbytes

    def holding_together(self, stems: Sequence[str], limit: int) -> list[int] | None:
        """Row keys of facts that hold all stems, then all but the last, down to two; None if one is not in memory."""
        if any(stem not in self._bits for stem in stems):
            return None
        for stem in stems:
            self._bits.move_to_end(stem)
        levels = [self._bits[stems[0]]]
        for stem in stems[1:]:
            size = min(len(levels[-1]), len(self._bits[stem]))
            levels.append(levels[-1][:size] & self._bits[stem][:size])
        found: dict[int, None] = {}
        for held in reversed(levels[1:]):
            if len(found) >= limit:
                break
            found |= dict.fromkeys(_set_bits(held))
        return list(found)[:limit]

    def ids_at(self, keys: Sequence[int]) -> dict[int, str]:
        """Fact ids of those row keys whose rows were read."""
        return {key: self._ids[place] for key in keys if (place := self._at_key.get(key)) is not None}

    # --- gathering ---

    def neighbours(self, places: Sequence[int]) -> list[int]:
        """The places said before and after those."""
        at = np.array(places, dtype=np.int64)
        around = np.concatenate([self._rows["previous"][at], self._rows["following"][at]])
        return [place for place in dict.fromkeys(around.tolist()) if place >= 0]

    def parents(self, places: Iterable[int]) -> list[int]:
        """The merged facts that stand for those of the places that are not ranked themselves."""
        at = np.fromiter(places, dtype=np.int64)
        into = self._rows["into"][at[self._rows["state"][at] != _RANKS]]
        return [place for place in dict.fromkeys(into.tolist()) if place >= 0]

    def members(self, in_turn: Iterable[int]) -> list[int]:
        """Originals of the merged facts among the places, best first, as many as are ranked at most."""
        wanted: dict[int, None] = {}
        if self._members:
            for place in in_turn:
                held = self._members.get(place, ()) if self._rows["state"][place] == _RANKS else ()
                if len(wanted) + len(held) > MAX_MEMBERS:
                    break
                wanted |= dict.fromkeys(held)
        return list(wanted)

    def ranked(self, places: Iterable[int]) -> tuple[list[int], list[int]]:
        """The places to rank, and merged facts among the places that give way to those of their originals here."""
        here = list(dict.fromkeys(places))
        states = self._rows["state"][here].tolist() if here else []
        alive = [place for place, state in zip(here, states, strict=True) if state == _RANKS]
        if not any(place in self._members for place in alive):
            return alive, []
        seen = {place for place, state in zip(here, states, strict=True) if state >= _REST}
        held = {place: [one for one in self._members.get(place, ()) if one in seen] for place in alive}
        ranked = chain.from_iterable(originals or [place] for place, originals in held.items())
        return list(dict.fromkeys(ranked)), [place for place, originals in held.items() if originals]

    def among_members(self, merged: Iterable[int], places: Sequence[int]) -> NDArray[np.bool_]:
        """Which of the places hold originals of those merged facts, (places,)."""
        held = {one for place in merged for one in self._members[place]}
        return np.fromiter((place in held for place in places), dtype=np.bool_, count=len(places))

    def picked(self, places: Sequence[int], stems: Sequence[str]) -> _Picked:
        """Copies of the rows at some places, to be worked on without the lock."""
        at = np.array(places, dtype=np.int64)
        return _Picked(
            at,
            self._rows[at],
            _taken(self._ids, places),
            _taken(self._speakers, places),
            _taken(self._kinds, places),
            _taken(self._bodies, places),
            _taken(self._contexts, places),
            [self._words.get(stem, -1) for stem in stems],
            self._sessions,
        )


class _Picked(NamedTuple):
    at: Ints
    rows: NDArray[Any]
    ids: list[str]
    speakers: list[str | None]
    kinds: list[str]
    bodies: list[bytes]
    contexts: list[bytes]
    codes: list[int]
    sessions: dict[str, int]

    def gathered(self) -> Gathered:
        """The rows as columns, with how often each stem occurs in them."""
        rows, at = self.rows, self.at
        # Where each place stands among those gathered, by sorting: an array over all places would cost more.
        order = np.argsort(at)
        columns = Columns(
            ids=self.ids,
            speakers=self.speakers,
            kinds=self.kinds,
            sessions=self.sessions,
            content=rows["content"].astype(np.float32),
            context=rows["context"].astype(np.float32),
            said_at=rows["said_at"],
            body_length=rows["body_length"],
            context_length=rows["context_length"],
            time_words=rows["time_words"],
            asks=rows["asks"],
            importance=rows["importance"],
            session=rows["session"].astype(np.int64),
            previous=_positions(rows["previous"], at, order),
            following=_positions(rows["following"], at, order),
        )
        return Gathered(columns, _counts(self.bodies, self.codes), _counts(self.contexts, self.codes))


class Decks:
    """Decks of large scopes, least recently used first out. Thread-safe.

    Args:
        ledger: Where the rows are.
        dimension: Of the store's vectors, asked at the first use.
        max_bytes: Memory of all decks together; by default as much as the machine or the container suggests.
    """

    def __init__(self, ledger: Ledger, dimension: Callable[[], int], *, max_bytes: int | None = None) -> None:
        self._ledger = ledger
        self._dimension = dimension
        self._max_bytes = max_bytes or max(LEAST_BYTES, _memory() // SHARE)
        self._held: OrderedDict[int, Deck] = OrderedDict()
        self._lock = threading.Lock()
        self._chores: deque[Chore] = deque()
        self._worker: threading.Thread | None = None
        self._stopped = threading.Event()

    def frequencies(self, state: ScopeState, stems: Sequence[str]) -> dict[str, tuple[int, int]]:
        """See `engram_core.ports.Ledger.frequencies`; as of `state.seq` or later."""
        deck = self._current(state)
        with deck.lock:
            seq, known = deck.seq, {stem: deck.frequencies[stem] for stem in stems if stem in deck.frequencies}
        missing = [stem for stem in stems if stem not in known]
        if missing:
            read = self._ledger.frequencies(state.id, missing)
            known |= {stem: read.get(stem, (0, 0)) for stem in missing}
            with deck.lock:
                if deck.seq == seq and len(deck.frequencies) < _MAX_FREQUENCIES:
                    deck.frequencies |= {stem: known[stem] for stem in missing}
        return {stem: counts for stem, counts in known.items() if counts != (0, 0)}

    def matching(self, state: ScopeState, weights: Mapping[str, float], limit: int, *, together: bool) -> list[str]:
        """See `engram_core.ports.Ledger.matching`; as of `state.seq` or later."""
        deck, stems = self._current(state), list(weights)
        if not together:
            keys = self._ledger.heaviest(state.id, weights, limit)
            with deck.lock:
                known = deck.ids_at(keys)
            return self._named(keys, known)
        if len(stems) < 2:
            return self._ledger.matching(state.id, weights, limit, together=True)
        with deck.lock:
            found = deck.holding_together(stems, limit)
            known = deck.ids_at(found or ())
            missing = deck.lacks_bits(stems) if found is None else ()
        if found is None:
            # Reading all holders of a frequent word takes longer than this search: the next one will be faster.
            self._later(self._learning(deck, state.id, missing))
            return self._ledger.matching(state.id, weights, limit, together=True)
        return self._named(found, known)

    def _named(self, keys: Sequence[int], known: dict[int, str]) -> list[str]:
        """The ids of row keys, those that are not known read from the ledger."""
        unread = [key for key in keys if key not in known]
        if unread:
            known |= self._ledger.ids_at(unread)
        return [known[key] for key in keys if key in known]

    def gather(
        self, state: ScopeState, found: Sequence[Sequence[str]], stems: Sequence[str], with_neighbours: int
    ) -> Gathered:
        """See `engram_core.ports.Finder.gather`."""
        while True:
            deck = self._current(state)
            ids = list(dict.fromkeys(id_ for one in found for id_ in one))
            with deck.lock:
                places = {id_: deck.place(id_) for id_ in ids}
                missing = deck.unknown(places.values())
            self._read(deck, state, missing)
            with deck.lock:
                liked = [places[id_] for one in found for id_ in one[:with_neighbours]]
                around = deck.neighbours(list(dict.fromkeys(liked)))
                missing = deck.unknown(around)
            self._read(deck, state, missing)
            with deck.lock:
                here = dict.fromkeys([*places.values(), *around])
                parents = deck.parents(here)
                members = deck.members(places[id_] for id_ in _in_turn(found))
                missing = deck.unknown([*parents, *members])
            self._read(deck, state, missing)
            with deck.lock:
                ranked, replaced = deck.ranked([*here, *parents, *members])
                picked = deck.picked(ranked, stems)
                merged = deck.picked(replaced, stems) if replaced else None
                originals = deck.among_members(replaced, ranked)
            self._shrink(state.id)
            if deck.is_due:
                self._fill_later(deck, state)
            gathered = picked.gathered()
            if merged is None:
                return gathered
            return gathered._replace(uncounted=_uncounted(gathered, originals, merged.gathered()))

    def _read(self, deck: Deck, state: ScopeState, ids: Sequence[str]) -> None:
        if ids:
            # A row newer than the deck's number is right now and comes again with the next catch-up.
            rows = self._ledger.indexed(ids)
            with deck.lock:
                deck.put(rows, state.id)

    def _current(self, state: ScopeState) -> Deck:
        dimension = self._dimension()
        with self._lock:
            deck = self._held.get(state.id)
            if deck is None or deck.dimension != dimension:
                deck = self._held[state.id] = Deck(state.seq, dimension)
            self._held.move_to_end(state.id)
        if deck.seq >= state.seq:
            return deck
        after = deck.seq
        changed = self._ledger.changes(state.id, after, _MAX_CHANGES)
        if len(changed) < _MAX_CHANGES:
            with deck.lock:
                if deck.seq < state.seq:
                    deck.change(changed, state.id, state.seq)
            return deck
        many = self._ledger.contexts(state.id, after, _MOST_CHANGES)
        if len(many) < _MOST_CHANGES:
            with deck.lock:
                if deck.seq < state.seq:
                    deck.outdate({id_: seq for id_, seq, _, _ in many}, state.seq)
            return deck
        with self._lock:
            deck = self._held[state.id] = Deck(state.seq, dimension)
        return deck

    def _shrink(self, current: int) -> None:
        with self._lock:
            total = sum(deck.size for deck in self._held.values())
            while total > self._max_bytes and len(self._held) > 1:
                total -= self._held.popitem(last=False)[1].size
            if total > self._max_bytes:
                self._held.pop(current, None)

    # --- in the background ---

    def _fill_later(self, deck: Deck, state: ScopeState) -> None:
        """Have the rest of a scope read that is asked: what every row costs the first time is then paid beside recalls.

        Only if it fits well into the memory; of a larger scope the rows that recalls read are what is kept.
        """
        deck.is_due = False
        if state.rows * (deck.row_bytes + _ROW_OVERHEAD_BYTES) <= self._max_bytes * _WHOLE_SHARE:
            self._later(self._filling(deck, state.id))

    def _later(self, chore: Chore) -> None:
        with self._lock:
            self._chores.append(chore)
            if self._worker is None and not self._stopped.is_set():
                self._worker = threading.Thread(target=self._work, name="engram-rows", daemon=True)
                self._worker.start()

    def _work(self) -> None:
        """Take a step of each chore in turn, until none is left."""
        try:
            while not self._stopped.is_set():
                with self._lock:
                    if not self._chores:
                        self._worker = None
                        return
                    chore = self._chores.popleft()
                started = time.perf_counter()
                if next(chore, False):
                    with self._lock:
                        self._chores.append(chore)
                self._stopped.wait((time.perf_counter() - started) * _REST_FACTOR)
        except EngramError as error:
            logger.warning("engram: rows of a large scope are read one recall at a time: %s", error)
            with self._lock:
                self._worker = None

    def _filling(self, deck: Deck, scope_id: int) -> Chore:
        """Read every row of a scope, page by page."""
        after = 0
        while self._held.get(scope_id) is deck:
            page = self._ledger.changes(scope_id, after, _PAGE)
            with deck.lock:
                deck.put(page, scope_id)
            if len(page) < _PAGE:
                return
            after = page[-1].seq
            yield True

    def _learning(self, deck: Deck, scope_id: int, stems: Sequence[str]) -> Chore:
        """Read which facts hold the stems, one stem after the other."""
        for stem in stems:
            for _ in range(_ATTEMPTS):
                with deck.lock:
                    seq, is_known = deck.seq, not deck.lacks_bits([stem])
                if is_known:
                    break
                keys = self._ledger.holding(scope_id, stem)
                with deck.lock:
                    if deck.seq == seq:  # else a change may be missing in what was read
                        deck.set_bits(stem, keys)
                        break
            yield True

    def close(self) -> None:
        """Stop working in the background."""
        self._stopped.set()
        worker = self._worker
        if worker is not None and worker is not threading.current_thread():
            worker.join(timeout=30)

    @property
    def size(self) -> int:
        """Approximate bytes held by all decks."""
        with self._lock:
            return sum(deck.size for deck in self._held.values())


def _memory() -> int:
    """Bytes of memory of the machine, or of the container if that has less; 0 where neither says."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0
    for limit in _CONTAINER_LIMITS:
        try:
            found = min(found, int(Path(limit).read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue  # no such file, or no limit in it
    return found


def _row_type(dimension: int) -> np.dtype[Any]:
    vector = ("<f2", (dimension,))
    return np.dtype(
        [
            ("content", *vector), ("context", *vector), ("seq", "i8"), ("said_at", "f8"), ("body_length", "f4"),
            ("context_length", "f4"), ("time_words", "f4"), ("asks", "f4"), ("importance", "f4"), ("session", "i4"),
            ("previous", "i4"), ("following", "i4"), ("into", "i4"), ("state", "i1"),
        ]
    )  # fmt: skip


def _taken(items: list[T], places: Sequence[int]) -> list[T]:
    """The items at some places; several times as fast as asking for one after the other."""
    return list(itemgetter(*places)(items)) if len(places) > 1 else [items[place] for place in places]


def _state_of(status: str) -> int:
    if status in _RECALLABLE:
        return _RANKS
    return _HIDES if status in _HIDDEN else _REST


def _halves(blobs: Sequence[bytes | None], dimension: int) -> NDArray[np.float16]:
    empty = bytes(2 * dimension)
    joined = b"".join([empty if blob is None else blob for blob in blobs])
    return np.frombuffer(joined, dtype="<f2").reshape(len(blobs), dimension)


def _set_bits(packed: NDArray[np.uint8]) -> list[int]:
    """Numbers of the bits that are set, rising."""
    held = np.flatnonzero(packed)
    which, bit = np.nonzero(np.unpackbits(packed[held]).reshape(-1, 8))
    found: list[int] = (held[which] * 8 + bit).tolist()
    return found


def _positions(wanted: NDArray[np.int32], at: Ints, order: Ints) -> Ints:
    """For each wanted place its position in `at`, -1 if it is not there; `order` sorts `at`."""
    if not len(at):
        return np.zeros(0, dtype=np.int64)
    guess = order[np.minimum(np.searchsorted(at, wanted, sorter=order), len(at) - 1)]
    return np.where(at[guess] == wanted, guess, -1)


def _counts(texts: Sequence[bytes], codes: Sequence[int]) -> NDArray[np.float32]:
    """How often each word code occurs in each text of int32 codes, (texts, codes)."""
    counts = np.zeros((len(texts), len(codes)), dtype=np.float32)
    words = np.frombuffer(b"".join(texts), dtype=np.int32)
    owner = np.repeat(np.arange(len(texts)), np.fromiter(map(len, texts), dtype=np.int64) // words.itemsize)
    for column, code in enumerate(codes):
        counts[:, column] = np.bincount(owner[words == code], minlength=len(texts))
    return counts


def _uncounted(gathered: Gathered, originals: NDArray[np.bool_], merged: Gathered) -> Uncounted:
    """The scope counts its merged facts; ranked are their originals, so those are what statistics have to be about."""
    columns, wholes = gathered.columns, merged.columns

    def held(counts: NDArray[np.float32], wholes: NDArray[np.float32]) -> NDArray[np.float32]:
        more: NDArray[np.float32] = np.count_nonzero(counts[originals], axis=0) - np.count_nonzero(wholes, axis=0)
        return more.astype(np.float32)

    return Uncounted(
        int(originals.sum()) - len(wholes.ids),
        int(columns.body_length[originals].sum() - wholes.body_length.sum()),
        int(columns.context_length[originals].sum() - wholes.context_length.sum()),
        held(gathered.body_counts, merged.body_counts),
        held(gathered.context_counts, merged.context_counts),
    )


def _in_turn(found: Sequence[Sequence[str]]) -> Iterator[str]:
    """The best of each search, then the second best of each, and so on."""
    for ids in zip_longest(*found):
        yield from (id_ for id_ in ids if id_ is not None)
