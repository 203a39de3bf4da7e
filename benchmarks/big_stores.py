"""Builds stores of up to millions of facts and finds them again. Real plans and commits; only the design is left out.

Planning (small talk, duplicates, what a statement may replace) costs as much as everything else together, and changes
nothing about how these statements are stored: they are all different. The rest is what `Memory.add` does: both vectors,
words, statistics, full text, history, one transaction per 1,000 facts, and the index that follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from benchmarks.corpus import told
from engram_core import Engram, Message, Scope
from engram_core.domain.change import Draft
from engram_core.domain.message import Episode
from engram_core.domain.reason import Reason
from engram_core.operations.commit import Plan

CHUNK = 1_000
Progress = Callable[[int, int], None]
_VERBATIM = Reason("verbatim", "Kept word for word.")


def filled(place: Path | str, scope: str, size: int, progress: Progress, **options: object) -> Engram:
    """An open store with `size` statements in one scope; what is missing is written first, the index included."""
    store = Engram.open(place, **options)  # type: ignore[arg-type]
    have = held(store, scope)
    messages = islice(told(size), have, None)
    for chunk in chunks(messages, CHUNK):
        write(store, Scope(scope), chunk)
        have += len(chunk)
        progress(have, size)
    if not store.flush(36_000):
        raise RuntimeError(f"The index of {place} did not catch up.")
    return store


def write(store: Engram, scope: Scope, messages: Sequence[Message]) -> None:
    """One transaction of statements."""
    context = store.context
    now = datetime.now(UTC)
    episode = Episode(context.new_id(), scope, tuple(messages), now, store.owner)
    plan = Plan(context, scope, store.owner, now, episode)
    for message in messages:
        plan.add(Draft(message.content, (message,), speaker=message.speaker), _VERBATIM)
    batch, _ = plan.seal(None)
    context.ledger.commit(batch)
    context.finder.wake()


def held(store: Engram, scope: str) -> int:
    """Facts a scope holds."""
    return sum(state.recallable for state in store.context.ledger.scopes([Scope(scope)]))


def chunks(messages: Iterator[Message], size: int) -> Iterator[list[Message]]:
    """Lists of at most `size`."""
    while chunk := list(islice(messages, size)):
        yield chunk
