"""Citation markers: read, taken out, and never forged by what was stored."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_core import CITE_INSTRUCTION, strip_citations
from engram_core.measure.citations import cited, marked, marker, unforged


@pytest.mark.parametrize(
    ("answer", "markers", "shown"),
    [
        ("You live in Lisbon [m1].", "m1", "You live in Lisbon."),
        ("You live in Lisbon. [M1]", "m1", "You live in Lisbon."),
        ("Lisbon [m1][m2] and two cats [ m3 ].", "m1 m2 m3", "Lisbon and two cats."),
        ("Lisbon [m1, m2; m3 and 4].", "m1 m2 m3 m4", "Lisbon."),
        ("Lisbon [m2-m4] [m7–9].", "m2 m3 m4 m7 m8 m9", "Lisbon."),
        ("[m1] You live in Lisbon.", "m1", "You live in Lisbon."),
        ("[m1][m2] Lisbon\n  [m3] Porto", "m1 m2 m3", "Lisbon\nPorto"),
        ("Lisbon【m1】, Porto ［m2］", "m1 m2", "Lisbon, Porto"),
        ("An M3 screw, array[m], [3], [mm1], [m12345], (m3) and m4].", "", None),
        ("", "", ""),
    ],
)
def test_citations_are_read_and_taken_out(answer: str, markers: str, shown: str | None) -> None:
    assert cited(answer) == frozenset(markers.split())
    assert strip_citations(answer) == (answer if shown is None else shown)


def test_repeating_the_instruction_cites_nothing() -> None:
    assert not cited(CITE_INSTRUCTION)


@given(st.text(alphabet="[［【]］】 mMｍ,-–\u200b\n129x", max_size=60))
def test_stored_text_never_cites(text: str) -> None:
    """Neither by itself, nor joined with the marker before it."""
    assert not cited(unforged(text))
    assert cited(marked(unforged(text), marker(7))) == {"m7"}


@given(st.text(max_size=200), st.integers(1, 9999))
def test_what_is_stripped_cites_nothing_and_plain_text_stays(text: str, number: int) -> None:
    answer = f"{text} [{marker(number)}]"
    assert not cited(strip_citations(text)) or cited(text)
    assert f"m{number}" in cited(answer)
    if not cited(text):
        assert strip_citations(text) == text


@pytest.mark.parametrize("text", ["[m1," * 100_000, "[m1   1" + "   1" * 100_000, "[m1" + " " * 200_000, "[" * 200_000])
def test_hostile_text_takes_bounded_time(text: str) -> None:
    started = time.perf_counter()
    strip_citations(text)
    cited(text)
    unforged(text)
    assert time.perf_counter() - started < 2
