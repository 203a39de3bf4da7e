"""The contract of a Ledger under faults: what a kill, a full disk or a held lock may do, and what not. No backend.

Subclass `FaultContract` and override `opener`, and `trouble` if the backend can be brought into some. Needs pytest, and
a system that can fork.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import pytest

from engram_core.domain.errors import StoreUnavailable
from engram_core.domain.fact import Fact, Status
from engram_core.domain.scope import Scope
from engram_core.ports import Ledger
from engram_core.testing import fault_child, samples

Opener = tuple[Any, ...]
"""A function that can be imported by name, then its arguments, which JSON can carry: called, it opens the store."""
Trouble = Callable[[Ledger], AbstractContextManager[None]]
"""While the context is entered, this ledger cannot write."""

SCOPE = Scope(fault_child.SCOPE)


class _Children:
    """Starts writers in other processes and kills them. One process imports everything and forks the writers."""

    def __init__(self, opener: Opener) -> None:
        function, *arguments = opener
        request = {"module": function.__module__, "name": function.__qualname__, "arguments": arguments}
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", fault_child.__name__, json.dumps(request)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def run(self, seed: int, acknowledgements: int, seconds: float) -> list[dict[str, Any]]:
        """Let a writer work until so many writes were acknowledged, and on; kill it; return all it acknowledged."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seed}\n")
        self._process.stdin.flush()
        pid: int = self._next()["pid"]
        told: list[dict[str, Any]] = []
        while len(told) < acknowledgements:
            message = self._next()
            if "ended" in message:
                raise AssertionError(f"the writer ended by itself with {message['ended']}; its error is above")
            told.append(message)
        time.sleep(seconds)  # or it would die at the beginning of a write each time
        os.kill(pid, signal.SIGKILL)
        while "ended" not in (message := self._next()):
            told.append(message)
        assert message["ended"] == -signal.SIGKILL
        return told

    def close(self) -> None:
        """End the process that forks."""
        self._process.communicate(timeout=30)

    def _next(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that starts writers ended; its error is above"
        found: dict[str, Any] = json.loads(line)
        return found


class FaultContract:
    """Every clause."""

    kills: ClassVar[int] = 8
    """How often a writer is killed. Raise it for a long run."""

    @pytest.fixture
    def opener(self) -> Opener:
        """Override: how any process opens the same store, empty at first: a module's function, then its arguments."""
        raise NotImplementedError

    @pytest.fixture
    def trouble(self) -> Trouble | None:
        """Override: brings an open ledger into trouble in which it cannot write, such as a full disk; and out of it."""
        return None

    @pytest.fixture
    def children(self, opener: Opener) -> Iterator[_Children]:
        """Writers in other processes."""
        if not hasattr(os, "fork"):
            pytest.skip("this system cannot fork")
        started = _Children(opener)
        yield started
        started.close()

    def test_kills_lose_nothing_acknowledged_and_leave_nothing_half_done(
        self, opener: Opener, children: _Children
    ) -> None:
        """What a killed writer was told is there, whole; what it was not told is there whole, or absent."""
        chance = random.Random(1)
        added: dict[str, str] = {}
        archived: set[str] = set()
        for seed in range(self.kills):
            for told in children.run(seed, chance.choice((1, 2, 5, 12)), chance.random() * 0.06):
                added |= told.get("added", {})
                archived |= {*told.get("archived", ())}
            ledger = _open(opener)
            facts = _stored(ledger)
            assert {id_: facts[id_].text for id_ in added if id_ in facts} == added
            assert all(facts[id_].status is Status.ARCHIVED for id_ in archived)
            _is_whole(ledger, facts)
            samples.add(ledger, "after/the/kill", [f"kill {seed}"])
            ledger.close()
        assert len(added) > self.kills

    def test_a_ledger_that_cannot_write_says_so_and_keeps_what_it_has(
        self, opener: Opener, trouble: Trouble | None
    ) -> None:
        """Writes raise StoreUnavailable and leave nothing behind; reads go on; after the trouble, writes do too."""
        if trouble is None:
            pytest.skip("no trouble to bring this ledger into: override `trouble`")
        ledger = _open(opener)
        kept = samples.add(ledger, SCOPE, ["before 0/1", *(f"filler {number}" for number in range(20))])
        with trouble(ledger):
            for number in range(3):
                texts = [f"refused {number} {part} " + "long " * 1_500 for part in range(20)]
                with pytest.raises(StoreUnavailable):
                    samples.add(ledger, SCOPE, texts)
            assert ledger.facts([said.id for said in kept]) == kept
            assert samples.state(ledger, SCOPE).live == len(kept)
        kept += samples.add(ledger, SCOPE, ["after it"])
        assert ledger.facts([said.id for said in kept]) == kept
        assert {said.text for said in _stored(ledger).values()} == {said.text for said in kept}
        ledger.close()
        again = _open(opener)
        assert again.facts([said.id for said in kept]) == kept
        again.close()

    def test_a_closed_ledger_leaves_the_store_to_others(self, opener: Opener) -> None:
        """Closing twice does no harm, and another handle on the store is not closed by it."""
        first, second = _open(opener), _open(opener)
        (said,) = samples.add(first, SCOPE, ["kept"])
        first.close()
        first.close()
        assert second.facts([said.id]) == [said]
        samples.add(second, SCOPE, ["written later"])
        second.close()
        again = _open(opener)
        assert samples.state(again, SCOPE).live == 2
        again.close()


def _open(opener: Opener) -> Ledger:
    function, *arguments = opener
    ledger: Ledger = function(*arguments)
    return ledger


def _stored(ledger: Ledger) -> dict[str, Fact]:
    """Every fact of the scope, as its outbox names them."""
    try:
        rows = samples.outbox(ledger, samples.state(ledger, SCOPE).id)
    except LookupError:
        return {}
    facts = {said.id: said for said in ledger.facts([row.id for row in rows])}
    assert facts.keys() == {row.id for row in rows}, "the outbox and the facts agree"
    return facts


def _is_whole(ledger: Ledger, facts: dict[str, Fact]) -> None:
    """Batches are there to the last fact or not at all, with their history and the scope's counts."""
    batches: dict[str, int] = {}
    for said in facts.values():
        name, _, size = said.text.rpartition(" of ")
        name = name.rpartition(" ")[0]
        batches[f"{name} of {size}"] = batches.get(f"{name} of {size}", 0) + 1
        actions = [item.action for item in ledger.history(said.id)]
        assert actions == (["add"] if said.version == 1 else ["add", "edit"])
    assert all(count == int(name.rpartition(" ")[2]) for name, count in batches.items()), "no batch is half there"
    if facts:
        live = sum(said.status is Status.LIVE for said in facts.values())
        assert samples.state(ledger, SCOPE).live == live
