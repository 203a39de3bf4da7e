"""Words become the same stems in every thread."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

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
