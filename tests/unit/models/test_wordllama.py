"""The default embedder: offline, lazy, and robust against any text."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engram_core.domain.errors import EmbeddingFailed
from engram_core.models import wordllama
from engram_core.models.wordllama import WordLlamaEmbedder

ROOT = Path(__file__).parents[3]
BLOCKED = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("the network was touched")
socket.socket.connect = refuse
socket.socket.connect_ex = refuse
socket.create_connection = refuse
socket.getaddrinfo = refuse
"""


def run(code: str, home: Path) -> str:
    """Standard output of `code` in a fresh process without network and with an empty home."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loads_without_network_and_leaves_logging_and_home_alone(tmp_path: Path) -> None:
    printed = run(
        """
import logging
from engram_core.models.wordllama import WordLlamaEmbedder
vectors = WordLlamaEmbedder().embed(["a cat", "a dog", "tax law"])
print(vectors.shape, vectors.dtype, len(logging.getLogger().handlers), logging.getLogger().level)
""",
        tmp_path,
    )
    assert printed.split() == ["(3,", "256)", "float32", "0", str(30)]
    assert list(tmp_path.iterdir()) == []


def test_importing_and_constructing_load_nothing_heavy(tmp_path: Path) -> None:
    printed = run(
        """
from engram_core.models.wordllama import WordLlamaEmbedder
embedder = WordLlamaEmbedder()
embedder.name, embedder.dimension
print([name for name in ("wordllama", "tokenizers", "safetensors", "requests") if name in sys.modules])
""",
        tmp_path,
    )
    assert printed.strip() == "[]"


def test_similar_texts_are_closer_than_different_ones() -> None:
    cat, kitten, tax = WordLlamaEmbedder().embed(["The cat sleeps.", "A kitten is napping.", "Corporate tax law"])

    def cosine(one: np.ndarray, other: np.ndarray) -> float:
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

    assert cosine(cat, kitten) > cosine(cat, tax) + 0.2


@pytest.mark.parametrize("text", ["", " ", "\ud800", "a\udfffb", "\x00", "\u200b", "字", "😀", "x" * 200_000])
def test_any_text_gives_a_finite_vector_that_is_not_zero(text: str) -> None:
    vector = WordLlamaEmbedder().embed([text])[0]
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) > 0


def test_a_text_gives_the_same_vector_alone_and_in_any_batch() -> None:
    texts = ["short", "a little longer text", "word " * 3000, "", "another one", "x" * 50_000]
    together = WordLlamaEmbedder().embed(texts)
    for row, text in enumerate(texts):
        np.testing.assert_allclose(together[row], WordLlamaEmbedder().embed([text])[0], rtol=0, atol=1e-5)


def test_no_texts_give_no_rows() -> None:
    assert WordLlamaEmbedder().embed([]).shape == (0, 256)


def test_gives_the_numbers_of_the_package_itself() -> None:
    texts = ["a cat", "Alice moved to Lisbon in May 2024, \u00e0 pied.", " ", "tax law " * 300]
    own = wordllama._model().embed(texts, norm=False)
    assert np.array_equal(WordLlamaEmbedder().embed(texts), own)


def test_a_missing_package_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    wordllama._load.cache_clear()
    monkeypatch.setitem(sys.modules, "wordllama", None)
    assert importlib.util.find_spec("wordllama") is None
    with pytest.raises(EmbeddingFailed, match="pip install"):
        WordLlamaEmbedder().embed(["x"])


def test_missing_files_are_an_error_rather_than_a_download(tmp_path: Path) -> None:
    printed = run(
        """
from engram_core.domain.errors import EmbeddingFailed
from engram_core.models import wordllama
from wordllama import wordllama as package
package.WordLlama.get_filename = staticmethod(lambda *a, **k: "absent.safetensors")
try:
    wordllama.WordLlamaEmbedder().embed(["x"])
except EmbeddingFailed as error:
    print("absent.safetensors" in str(error), "--force-reinstall" in str(error))
""",
        tmp_path,
    )
    assert printed.split() == ["True", "True"]
