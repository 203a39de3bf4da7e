"""TextCache: bounded, least recently used out first, and free of texts."""

from __future__ import annotations

import pickle

from engram_core.models.cache import TextCache


def test_the_least_recently_used_value_goes_first() -> None:
    cache = TextCache[int](2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)
    assert len(cache) == 2


def test_size_zero_keeps_nothing() -> None:
    cache = TextCache[int](0)
    cache.put("a", 1)
    assert cache.get("a") is None


def test_lone_surrogates_are_keys_like_any_other() -> None:
    cache = TextCache[int](4)
    cache.put("\ud800", 1)
    cache.put("\ufffd", 2)
    assert (cache.get("\ud800"), cache.get("\ufffd")) == (1, 2)


def test_no_text_is_kept() -> None:
    cache = TextCache[int](4)
    cache.put("the launch code is 0000", 1)
    assert b"launch code" not in pickle.dumps(cache._values)
