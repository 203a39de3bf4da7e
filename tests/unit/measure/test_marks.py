"""Marks: what statements hold and questions want, told from their words."""

from __future__ import annotations

import pytest

from engram_core.measure import marks, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I met Zorah in Oslo.", [marks.NAME]),
        ("Zorah came. I left. We talked.", []),
        ("I think I'm fine, I've slept.", []),
        ("We sold 12 of them.", [marks.NUMBER]),
        ("I went there twice.", [marks.NUMBER]),
        ('I read "the long winter" again.', [marks.TITLE]),
        ("She gave Tom 3 copies of “Dune”.", [marks.NAME, marks.NUMBER, marks.TITLE]),
        ("", []),
        ("मैं घर गया", []),
    ],
)
def test_marks_of_statements(text, expected):
    assert marks.of_statement(text) == expected


def test_no_word_can_be_mistaken_for_a_mark():
    said = "=name =number = title a=name == names"
    assert not any(marks.is_mark(stem) for stem in words.stems(said))
    assert all(marks.is_mark(mark) for mark in marks.MARKS)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Where did she go?", (marks.NAME,)),
        ("How many times did it rain?", (marks.NUMBER,)),
        ("Which books did he like?", (marks.NAME, marks.TITLE)),
        ("Did it rain?", ()),
    ],
)
def test_what_a_question_wants(question, expected):
    assert marks.wanted(question) == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What books has Ana read?", 1.0),
        ("What are the new hobbies of Ana?", 1.0),
        ("In what ways does Ana help?", 1.0),
        ("How many dogs does she have?", 1.0),
        ("What do both like?", 1.0),
        ("What has Ana cooked for us?", 0.5),
        ("What has Ana cooked last week?", 0.0),
        ("What is this?", 0.0),
        ("What class is it?", 0.0),
        ("What was Ana's bus like?", 0.0),
        ("When did Ana leave?", 0.0),
        ("", 0.0),
    ],
)
def test_whether_a_question_asks_for_many_things(question, expected):
    assert marks.wants_many(question) == expected
