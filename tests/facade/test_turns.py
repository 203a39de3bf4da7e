"""Turns, named turns and alarms: bounded maps, and nothing stays in an idle process."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from weakref import ref

import pytest

from engram_core import Alarm, NamedTurns, Turn, Turns, turn_name
from engram_core.turns import _bell


class Hand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def within_seconds(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def test_a_tree_of_runs_is_one_turn():
    turns = Turns()
    turns.start("root")
    turns.start("child", "root")
    assert turns.start("grandchild", "child").root == "root"
    assert turns.saw("grandchild", "r1")
    assert turns.saw("child", "r1")
    assert turns.saw("root", "r2")
    assert turns.finish("child") is None
    turn = turns.finish("root")
    assert turn is not None
    assert turn.recall_ids == ["r1", "r2"]
    assert not turns.saw("child", "r3")
    assert (len(turns), turns.runs) == (0, 0)


def test_the_oldest_turns_beyond_the_bound_are_given_up():
    gone: list[Turn] = []
    turns = Turns(max_open=2, on_evict=gone.append)
    for number in range(5):
        turns.start(number)
        turns.start(f"inner {number}", number)
    assert [turn.root for turn in gone] == [0, 1, 2]
    assert all(turn.is_partial for turn in gone)
    assert (len(turns), turns.runs) == (2, 4)


def test_turns_time_out_when_the_next_one_starts():
    gone: list[Turn] = []
    clock = Hand()
    turns = Turns(timeout_s=10, on_evict=gone.append, clock=clock)
    turns.start("old")
    clock.now = 11
    turns.start("new")
    assert [turn.root for turn in gone] == ["old"]


def test_an_idle_process_gives_up_its_turns_too():
    """Nothing else happens after the last start."""
    gone: list[Turn] = []
    turns = Turns(timeout_s=0.05, on_evict=gone.append)
    for number in range(3):
        turns.start(number)
    assert within_seconds(lambda: len(gone) == 3)
    assert (len(turns), turns.runs) == (0, 0)
    turns.start("again")
    assert within_seconds(lambda: len(gone) == 4), "the alarm can be set again"


def test_named_turns_wait_for_their_answer():
    gone: list[list[str]] = []
    named = NamedTurns(gone.append, max_open=2)
    named.wait("a", ["r1"])
    named.wait("a", ["r2", "r1"])
    named.wait("b", [])
    assert len(named) == 1
    assert named.take("a") == ["r1", "r2"]
    assert named.take("a") == []
    for name in "cde":
        named.wait(name, [name])
    assert gone == [["c"]]
    assert named.drain() == ["d", "e"]
    assert len(named) == 0


def test_named_turns_time_out_in_an_idle_process():
    gone: list[list[str]] = []
    named = NamedTurns(gone.append, timeout_s=0.05)
    named.wait("a", ["r1"])
    assert within_seconds(lambda: gone == [["r1"]])
    assert len(named) == 0


@pytest.mark.parametrize(
    ("given", "name"), [({"engram_turn": "t"}, "t"), ({"engram_turn": 7}, "7"), ({"engram_turn": ""}, None), ({}, None), (None, None), ("engram_turn", None)]
)  # fmt: skip
def test_the_name_of_a_turn_is_read_from_what_frameworks_carry(given: object, name: str | None):
    assert turn_name(given) == name


class Swept:
    """Counts its sweeps."""

    def __init__(self, delay_s: float) -> None:
        self.sweeps = 0
        self.alarm = Alarm(self.sweep, delay_s)

    def sweep(self) -> None:
        self.sweeps += 1
        if self.sweeps == 1:
            raise RuntimeError("the first sweep fails")


def test_an_alarm_rings_once_per_setting_and_survives_a_failing_sweep(caplog):
    swept = Swept(0.02)
    for _ in range(100):
        swept.alarm.set()
    assert within_seconds(lambda: swept.sweeps == 1)
    swept.alarm.set()
    assert within_seconds(lambda: swept.sweeps == 2)
    assert "the first sweep fails" in caplog.text


def test_an_alarm_keeps_nothing_alive_and_its_thread_ends():
    swept = Swept(0.05)
    swept.alarm.set()
    gone = ref(swept)
    del swept
    gc.collect()
    assert gone() is None
    soon = Swept(0.01)
    soon.sweeps = 1
    soon.alarm.set()
    assert within_seconds(lambda: soon.sweeps == 2)
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("engram-alarm") <= 1


def test_alarms_of_objects_that_are_gone_do_not_pile_up():
    for _ in range(2_000):
        Swept(3600).alarm.set()
    assert len(_bell._due) < 500


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_alarms_ring_in_a_forked_process_too():
    """Threads do not survive a fork."""
    keeper = Swept(60)
    keeper.alarm.set()
    assert _bell._thread is not None
    pid = os.fork()
    if pid == 0:
        swept = Swept(0.02)
        swept.sweeps = 1
        swept.alarm.set()
        os._exit(0 if within_seconds(lambda: swept.sweeps == 2) else 1)
    assert os.waitpid(pid, 0)[1] == 0
