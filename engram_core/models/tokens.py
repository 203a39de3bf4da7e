"""Token counters: the user's, tiktoken's table if it is already on disk, else an estimate. Never a download.

tiktoken itself fetches a missing or corrupt table over the network, without a timeout, and deletes a corrupt one. So
the table is looked for, verified and parsed here, and only tiktoken's encoder is used (docs/architecture.md, tokens).
"""

from __future__ import annotations

import base64
import importlib.util
import logging
import math
import operator
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any, Final, cast

from engram_core.domain.errors import InvalidInput
from engram_core.models.cache import TextCache
from engram_core.models.names import callable_name
from engram_core.ports import TokenCounter

logger = logging.getLogger("engram")

CACHE_SIZE: Final = 8192
_CHUNK: Final = 100_000
_ENCODING: Final = "cl100k_base"
_TABLE_URL: Final = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
_TABLE_SHA256: Final = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
# How cl100k_base cuts text into pieces; from tiktoken_ext.openai_public (MIT).
_PIECES: Final = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|"""
    r"""\s+(?!\S)|\s"""
)
_PARTS: Final = re.compile(
    r"[A-Za-z]+|[0-9]+|[!-/:-@\[-`{-~]+|[\x80-\u058f]+|[\u0590-\u1fff]+|[\u2000-\uffff]+|[\U00010000-\U0010ffff]+|\s{8,}"
)
_TABLE_LIMIT: Final = 16_000_000


def token_counter(source: object = None) -> TokenCounter:
    """The TokenCounter behind whatever the user passed. Nothing is loaded yet.

    Args:
        source: None (tiktoken's cl100k_base if its table is on this machine, else an estimate), a TokenCounter
            (returned as it is), or a callable `str` → `int`.

    Raises:
        InvalidInput: None of these.
    """
    if source is None:
        return _DefaultCounter()
    if callable(getattr(source, "count", None)) and isinstance(getattr(source, "name", None), str):
        return cast("TokenCounter", source)
    if callable(source) and not isinstance(source, type):
        return _CallableCounter(source)
    raise InvalidInput(
        f"tokens= cannot use {type(source).__qualname__}. Pass None, an object with name and count(text), or a "
        "function such as lambda text: len(encoding.encode(text, disallowed_special=()))."
    )


def estimate(text: str) -> int:
    """Tokens of `text` as a model's tokenizer would roughly count them.

    A run of Latin letters is 1 up to 7 letters, else a fifth of its length; digits a third of their length, both
    rounded up; punctuation 0.7 each; long white space an eighth; other characters 0.55 below U+0590, 1 below U+2000,
    1.2 below U+10000, 2.5 above. Against cl100k_base: 1.0 to 1.1 on English, code, JSON, Chinese and Japanese, 0.7 to
    1.3 on URLs, tables, numbers, German and Hindi.

    Returns:
        At least 1 for a text that is not empty.
    """
    total = sum(_part_tokens(part) for part in _PARTS.findall(text))
    return max(math.ceil(total), 1) if text else 0


def _part_tokens(part: str) -> float:
    first, length = part[0], len(part)
    if first.isspace():
        return length / 8
    if first >= "\x80":
        return length * _character_tokens(first)
    if first.isalpha():
        return 1.0 if length <= 7 else math.ceil(length / 5)
    return math.ceil(length / 3) if first.isdigit() else 0.7 * length


def _character_tokens(character: str) -> float:
    if character < "\u0590":
        return 0.55
    if character < "\u2000":
        return 1.0
    return 1.2 if character < "\U00010000" else 2.5


class EstimatingCounter:
    """Counts by `estimate`: no table, no load time."""

    @property
    def name(self) -> str:
        """`estimate`."""
        return "estimate"

    def count(self, text: str) -> int:
        """See `estimate`."""
        return estimate(text)


class _CallableCounter:
    def __init__(self, source: Callable[[str], int]) -> None:
        self._source = source
        self._name = f"callable:{callable_name(source)}"
        self._counts = TextCache[int](CACHE_SIZE)

    @property
    def name(self) -> str:
        return self._name

    def count(self, text: str) -> int:
        known = self._counts.get(text)
        if known is None:
            known = self._asked(text)
            self._counts.put(text, known)
        return known

    def _asked(self, text: str) -> int:
        try:
            number = operator.index(self._source(text))
        except Exception as error:
            raise InvalidInput(
                f"The token counter {self._name} failed ({type(error).__name__}: {str(error)[:200]}); it must return a "
                "whole number for any string."
            ) from error
        if number < 0:
            raise InvalidInput(f"The token counter {self._name} returned {number}; it must not be negative.")
        return number


class _TiktokenCounter:
    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding
        self._counts = TextCache[int](CACHE_SIZE)

    @property
    def name(self) -> str:
        return f"tiktoken:{_ENCODING}"

    def count(self, text: str) -> int:
        known = self._counts.get(text)
        if known is None:
            # encode_ordinary reads "<|endoftext|>" as plain text and replaces lone surrogates
            chunks = (text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK))
            known = sum(len(self._encoding.encode_ordinary(chunk)) for chunk in chunks)
            self._counts.put(text, known)
        return known


class _DefaultCounter:
    """tiktoken if it can be had offline, else the estimate; decided at the first question, then kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chosen: TokenCounter | None = None

    @property
    def name(self) -> str:
        return self._counter().name

    def count(self, text: str) -> int:
        return self._counter().count(text)

    def _counter(self) -> TokenCounter:
        if self._chosen is None:
            with self._lock:
                if self._chosen is None:
                    self._chosen = _offline_tiktoken() or EstimatingCounter()
        return self._chosen


def _offline_tiktoken() -> TokenCounter | None:
    table = _table()
    if table is None:
        return None
    try:
        return _TiktokenCounter(_encoding(table))
    except (ImportError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        logger.warning("engram: tiktoken cannot be used (%s: %s); tokens are estimated", type(error).__name__, error)
        return None


@lru_cache(maxsize=1)  # building it takes a quarter of a second; every store of a process shares it
def _encoding(table: bytes) -> Any:
    import tiktoken  # noqa: PLC0415 - optional at run time, and 25 ms to import

    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in table.splitlines())}
    encoding = tiktoken.Encoding(_ENCODING, pat_str=_PIECES, mergeable_ranks=ranks, special_tokens={})
    encoding.encode_ordinary("ready")
    return encoding


def _table() -> bytes | None:
    """The first copy of the table on this machine that is intact; the same hash that tiktoken itself demands."""
    file_name = sha1(_TABLE_URL.encode(), usedforsecurity=False).hexdigest()
    for directory in _directories():
        path = directory / file_name
        try:
            # a pipe in the shared temporary directory would block, a huge file would fill the memory
            if not path.is_file() or path.stat().st_size > _TABLE_LIMIT:
                continue
            table = path.read_bytes()
        except OSError:
            continue
        if sha256(table).hexdigest() == _TABLE_SHA256:
            return table
    return None


def _directories() -> Iterator[Path]:
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if os.environ.get(variable):
            yield Path(os.environ[variable])
    with suppress(OSError):  # no usable temporary directory
        yield Path(tempfile.gettempdir()) / "data-gym-cache"
    yield from _llama_index_directories()


def _llama_index_directories() -> Iterator[Path]:
    """llama-index-core ships the table. Only the parent package is looked up: asking for `.core` would import it."""
    try:
        spec = importlib.util.find_spec("llama_index")
    except (ImportError, ValueError):
        return
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(folder) / "core" / "_static" / "tiktoken_cache"
