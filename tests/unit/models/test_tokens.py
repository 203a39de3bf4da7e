"""Token counters: never a download, never an exception, and the right one of three."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from hashlib import sha1
from pathlib import Path

import pytest

from engram_core.domain.errors import InvalidInput
from engram_core.models import tokens
from engram_core.models.tokens import EstimatingCounter, estimate, token_counter

ROOT = Path(__file__).parents[3]
TABLE = sha1(tokens._TABLE_URL.encode(), usedforsecurity=False).hexdigest()
NASTY = ["", "\ud800", "a\udfff b", "<|endoftext|>", "\x00", "😀" * 50, " " * 300_000, "字" * 1000, "\ud83d\ude00"]
BUNDLED = [folder / TABLE for folder in tokens._llama_index_directories() if (folder / TABLE).is_file()]
needs_table = pytest.mark.skipif(not BUNDLED, reason="llama-index-core and its token table are not installed")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any table; returns the directory tiktoken would look in."""
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.delenv("DATA_GYM_CACHE_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setitem(sys.modules, "llama_index", None)
    return tmp_path / "data-gym-cache"


def test_without_a_table_tokens_are_estimated(bare: Path) -> None:
    counter = token_counter()
    assert counter.name == "estimate"
    assert counter.count("Hello wonderful world") == 4
    assert not bare.exists()


@needs_table
@pytest.mark.parametrize("place", ["TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR", "temporary", "llama_index"])
def test_the_table_is_found_where_tiktoken_and_llama_index_keep_it(
    place: str, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "llama_index":
        monkeypatch.delitem(sys.modules, "llama_index")
    else:
        directory = bare if place == "temporary" else bare.parent / "cache"
        directory.mkdir()
        shutil.copy(BUNDLED[0], directory / TABLE)
        if place != "temporary":
            monkeypatch.setenv(place, str(directory))
    before = dict(os.environ)
    counter = token_counter()
    assert counter.name == "tiktoken:cl100k_base"
    assert counter.count("Hello wonderful world") == 3
    assert dict(os.environ) == before


@needs_table
def test_counts_equal_tiktokens_own(monkeypatch: pytest.MonkeyPatch) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(BUNDLED[0].parent))
    encoding, counter = tiktoken.get_encoding("cl100k_base"), token_counter()
    source = Path(tokens.__file__).read_text()
    texts = [*NASTY[:-3], "naïve café — 3.14159, 2023-05-08!\n\n\tdef f(x):\r\n", *source.splitlines(), source]
    assert [counter.count(text) for text in texts] == [
        len(encoding.encode(text, disallowed_special=())) for text in texts
    ]


@pytest.mark.parametrize("content", [b"", b"garbage", b"IQ== 0\n"])
def test_a_corrupt_table_is_left_alone_and_not_used(bare: Path, content: bytes) -> None:
    bare.mkdir()
    (bare / TABLE).write_bytes(content)
    counter = token_counter()
    assert counter.name == "estimate"
    assert (bare / TABLE).read_bytes() == content


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_in_the_shared_temporary_directory_does_not_block(bare: Path) -> None:
    bare.mkdir()
    os.mkfifo(bare / TABLE)
    assert token_counter().name == "estimate"


def test_no_network_no_import_of_llama_index_and_nothing_loaded_before_the_first_count(tmp_path: Path) -> None:
    code = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("the network was touched")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
from engram_core.models.tokens import token_counter
counter = token_counter()
assert "tiktoken" not in sys.modules
assert counter.count("one two three") == 3
assert not [name for name in sys.modules if name.startswith("llama_index")]
print(counter.name)
"""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(tmp_path),
        "TIKTOKEN_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ("tiktoken:cl100k_base" if BUNDLED else "estimate")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", NASTY)
def test_every_counter_takes_any_text(text: str) -> None:
    for counter in (token_counter(), EstimatingCounter(), token_counter(len)):
        assert counter.count(text) >= (1 if text else 0)


@needs_table
@pytest.mark.parametrize(
    "text",
    [
        "I went to the support group yesterday, and it was so powerful to hear everyone's stories.",
        "def count(self, text: str) -> int:\n    return len(self._encoding.encode(text))\n" * 3,
        '{"number": 3, "speaker": "Alice", "at": "2023-05-08T13:56", "text": "I moved to Lisbon"}',
        "3f2b8c1e-9d47-4c02-8a11-7f6e5d4c3b2a",
        "我昨天去了北京的一家书店,买了三本书,然后和朋友一起吃了晚饭。",
        "昨日は友達と一緒に本屋に行きました。",
        "어제 친구와 함께 서점에 갔습니다",
        "Вчера я ходил в магазин и купил три книги, потом мы поужинали.",
        "ذهبت أمس إلى المكتبة واشتريت ثلاثة كتب",
        "मैं कल बाज़ार गया और तीन किताबें खरीदीं",
        "Die Gesellschaft hat gestern neue Öffnungszeiten bekanntgegeben.",
        "https://example.com/path/to/page?query=value&x=1",
        "1234567 89 3.14159 2023-05-08 13:56",
    ],
)
def test_the_estimate_is_near_the_real_count(text: str) -> None:
    counter = token_counter()
    assert counter.name.startswith("tiktoken")
    assert 0.64 <= estimate(text) / counter.count(text) <= 1.38


def test_a_users_function_counts_and_is_asked_once_per_text() -> None:
    asked: list[str] = []

    def words(text: str) -> int:
        asked.append(text)
        return len(text.split())

    counter = token_counter(words)
    assert counter.name.startswith("callable:")
    assert [counter.count("a b c"), counter.count("a b c"), counter.count("a")] == [3, 3, 1]
    assert asked == ["a b c", "a"]


def test_a_counter_is_returned_as_it_is() -> None:
    own = EstimatingCounter()
    assert token_counter(own) is own


@pytest.mark.parametrize("result", [-1, 2.5, "three", None])
def test_a_function_that_does_not_count_is_told_so(result: object) -> None:
    with pytest.raises(InvalidInput, match="token counter callable:"):
        token_counter(lambda text: result).count("x")


@pytest.mark.parametrize("source", ["cl100k_base", 7, ["x"], EstimatingCounter])
def test_what_cannot_count_is_refused(source: object) -> None:
    with pytest.raises(InvalidInput, match="Pass None"):
        token_counter(source)
