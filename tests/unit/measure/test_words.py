"""Words become the same stems in every thread."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from engram_core.measure import words


def test_threads_do_not_spoil_each_others_stems() -> None:
    endings = ("ing", "ed", "ational", "ousness", "ies", "fully")
    texts = [f"{stem}{number}x{ending}" for ending in endings for stem in ("generali", "hop") for number in range(60)]
    said = [text.translate(str.maketrans("0123456789", "abcdeghklm")) for text in texts]
    expected = [words._stemmers.english.stemWord(word) for word in said]
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        words._stem.cache_clear()
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(words._stem, said * 3))
    finally:
        sys.setswitchinterval(usual)
    assert found == expected * 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("犬の名前", ["犬の", "の名", "名前"]),
        ("犬", ["犬"]),
        ("Chromaで検索 2x", ["chroma", "て検", "検索", "2x"]),
        ("Über uns", ["uber", "uns"]),
    ],
)
def test_scripts_without_spaces_are_read_in_pairs_of_letters(text, expected):
    assert words.tokens(text) == expected


def test_names_are_told_from_words_in_careless_questions():
    names = frozenset({"Ana", "Will"})
    assert words.named("what did ana ask will?", names) == ("Ana",), "will is a word in small letters"
    assert words.named("What did Will ask Ana?", names) == ("Will", "Ana")
    assert words.named("What did ana ask?", names) == (), "whoever writes capital letters writes names with them"
    assert words.without_names("what is ana's job", names) == "what is job"


def test_a_small_i_is_the_asker_only_where_nothing_is_written_large():
    assert words.says_i("where do i live")
    assert words.says_i("Where do I live?")
    assert not words.says_i("Which version comes after (i)?")
