"""The pace of writing into the index: large batches while nobody asks, short ones while somebody does."""

from __future__ import annotations

from engram_core.storage import pace
from engram_core.storage.pace import FAR_BEHIND, SMALLEST, STALL_S, WHOLE, Pace


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def settled(paced: Pace, seconds_each: float, behind: int = 50) -> int:
    """The batch size after a while with an index that takes so long for one change."""
    for _ in range(20):
        size = paced.batch(behind)
        paced.rest(size, size * seconds_each, behind)
    return paced.batch(behind)


def test_nobody_asks() -> None:
    paced = Pace(Clock())
    assert settled(paced, 0.01) == WHOLE
    assert paced.rest(WHOLE, 2.0, 50) == 0.0


def test_while_somebody_asks_a_batch_takes_what_a_recall_may_wait() -> None:
    clock = Clock()
    paced = Pace(clock)
    paced.asked()
    assert abs(settled(paced, 0.001) * 0.001 - STALL_S) < 0.002
    assert settled(paced, 1.0) == SMALLEST
    assert settled(paced, 1e-6) == WHOLE
    assert paced.rest(20, 0.015, 50) == 0.015
    clock.now += pace.ASKED_S + 0.1
    assert paced.batch(50) == WHOLE


def test_far_behind_catching_up_comes_first() -> None:
    paced = Pace(Clock())
    paced.asked()
    settled(paced, 0.01)
    assert paced.batch(FAR_BEHIND + 1) == WHOLE
    assert paced.rest(WHOLE, 2.0, FAR_BEHIND + 1) == 0.0
