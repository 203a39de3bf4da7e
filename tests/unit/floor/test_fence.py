"""The fence: stored text cannot forge it, and cutting equals its definition."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_core.domain.errors import InvalidInput
from engram_core.floor.fence import FENCE, close_fence, defused, open_fence, without_fences

tags = ["<memory-0a1b2c3d>", "</memory-0a1b2c3d>", "<memory-ffffffff a='1'>", "</memory-ffffffff>"]
scraps = [
    "<memory-",
    "</memory-",
    "0a1b2c3d",
    "0a1b2c3",
    "ffffffff",
    ">",
    " ",
    "x",
    "<",
    "/",
    "\n",
    "\u200d",
    "MEMORY-",
]
fragments = st.sampled_from([*tags, *scraps])
hostile = st.lists(fragments, max_size=30).map("".join)


@settings(deadline=None)
@given(hostile)
def test_cutting_follows_the_definition(text: str) -> None:
    rest, was_cut = without_fences(text)
    assert (rest, was_cut) == (FENCE.sub("\n", text), bool(FENCE.search(text)))
    assert without_fences(rest) == (rest, False)


@settings(deadline=None)
@given(st.one_of(hostile, st.text()))
def test_stored_text_cannot_end_or_begin_a_recall(text: str) -> None:
    safe = defused(text)
    assert "<memory-" not in safe.lower()
    assert "</memory-" not in safe.lower()
    assert defused(safe) == safe
    assert len(safe) - len(text) == 3 * (safe.count("&lt;") - text.count("&lt;"))
    inside = f"{open_fence('0a1b2c3d')}\n{safe}\n{close_fence('0a1b2c3d')}"
    found = FENCE.fullmatch(inside)
    assert found is not None
    assert inside.count("</memory-0a1b2c3d>") == 1


@pytest.mark.parametrize("text", ["< /memory-0a1b2c3d>", "</ MEMORY-x", "<\u200dmemory-", "\uff1c/memory-"])
def test_lookalikes_are_defused(text: str) -> None:
    assert defused(text).startswith("&lt;")


@pytest.mark.parametrize("text", ["a < b", "<b>memory-foam</b>", "memory-0a1b2c3d", "<memory>"])
def test_other_text_is_unchanged(text: str) -> None:
    assert defused(text) == text


@pytest.mark.parametrize("marker", ["", "0a1b2c3", "0A1B2C3D", "0a1b2c3d\n", "../../ab"])
def test_markers_are_checked(marker: str) -> None:
    with pytest.raises(InvalidInput):
        open_fence(marker)


@pytest.mark.parametrize("unit", ["<memory-0a1b2c3d>", "<memory-0a1b2c3d ", "</memory-0a1b2c3d>", "<"])
def test_hostile_text_takes_linear_time(unit: str) -> None:
    started = time.perf_counter()
    without_fences(unit * 50_000 + "</memory-ffffffff>")
    defused(unit * 50_000)
    assert time.perf_counter() - started < 3
