"""SentenceFiles: a tiny BERT with random weights, written as real files, against a token-by-token computation of its own."""

from __future__ import annotations

import json
import math
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from engram_core import Engram, InvalidInput, SentenceFiles

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "alice", "moved", "to", "lisbon", "cats", "purr", "where", "is"]
WIDTH, HEADS, INNER, LAYERS, LONGEST = 16, 4, 24, 2, 32


def weights(rng):
    def of(*shape):
        return rng.normal(0, 0.4, shape).astype(np.float32)

    held = {
        "embeddings.word_embeddings.weight": of(len(WORDS), WIDTH),
        "embeddings.position_embeddings.weight": of(LONGEST, WIDTH),
        "embeddings.token_type_embeddings.weight": of(2, WIDTH),
        "embeddings.LayerNorm.weight": 1 + of(WIDTH),
        "embeddings.LayerNorm.bias": of(WIDTH),
    }
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        shapes = dict.fromkeys(("query", "key", "value"), (WIDTH, WIDTH))
        for name, shape in shapes.items():
            held |= {
                f"{at}attention.self.{name}.weight": of(*shape),
                f"{at}attention.self.{name}.bias": of(shape[0]),
            }
        for name, shape in (
            ("attention.output.dense", (WIDTH, WIDTH)),
            ("intermediate.dense", (INNER, WIDTH)),
            ("output.dense", (WIDTH, INNER)),
        ):
            held |= {f"{at}{name}.weight": of(*shape), f"{at}{name}.bias": of(shape[0])}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            held |= {f"{at}{name}.weight": 1 + of(WIDTH), f"{at}{name}.bias": of(WIDTH)}
    return held


def write(folder: Path, held, **config):
    folder.mkdir(exist_ok=True)
    header, blobs, place = {}, [], 0
    for name, values in held.items():
        data = values.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [place, place + len(data)]}
        blobs.append(data)
        place += len(data)
    told = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(told)) + told + b"".join(blobs))
    described = {
        "model_type": "bert", "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "max_position_embeddings": LONGEST, "hidden_act": "gelu",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(described | config))
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(5)  # a wrong limit in the file, as published files have
    tokenizer.enable_padding(length=10)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "model", weights(np.random.default_rng(5)))


def by_hand(held, ids):
    """The same model, one token and one head at a time, in float64 and with the exact error function."""
    at = {name: values.astype(np.float64) for name, values in held.items()}

    def normed(row, name):
        return (row - row.mean()) / math.sqrt(row.var() + 1e-12) * at[f"{name}.weight"] + at[f"{name}.bias"]

    def linear(row, name):
        return at[f"{name}.weight"] @ row + at[f"{name}.bias"]

    rows = [
        normed(
            at["embeddings.word_embeddings.weight"][token]
            + at["embeddings.position_embeddings.weight"][place]
            + at["embeddings.token_type_embeddings.weight"][0],
            "embeddings.LayerNorm",
        )
        for place, token in enumerate(ids)
    ]
    size = WIDTH // HEADS
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        query, key, value = (
            [linear(row, f"{name}.attention.self.{part}") for row in rows] for part in ("query", "key", "value")
        )
        read = []
        for asking in query:
            heads = []
            for head in range(HEADS):
                part = slice(head * size, (head + 1) * size)
                scores = np.array([asking[part] @ other[part] / math.sqrt(size) for other in key])
                shares = np.exp(scores) / np.exp(scores).sum()
                heads.append(sum(share * other[part] for share, other in zip(shares, value, strict=True)))
            read.append(np.concatenate(heads))
        rows = [
            normed(row + linear(one, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
            for row, one in zip(rows, read, strict=True)
        ]
        inner = [linear(row, f"{name}.intermediate.dense") for row in rows]
        active = [np.array([x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in row]) for row in inner]
        rows = [
            normed(row + linear(one, f"{name}.output.dense"), f"{name}.output.LayerNorm")
            for row, one in zip(rows, active, strict=True)
        ]
    mean = np.mean(rows, axis=0)
    return mean / np.linalg.norm(mean)


def test_it_computes_what_the_model_says(folder):
    held = weights(np.random.default_rng(5))
    texts = ["Alice moved to Lisbon", "cats purr", "Alice moved to Lisbon where cats purr is to", ""]
    ids = [[2, 4, 5, 6, 7, 3], [2, 8, 9, 3], [2, 4, 5, 6, 7, 10, 8, 9, 11, 6, 3], [2, 3]]
    found = SentenceFiles(folder, max_tokens=LONGEST).embed(texts)
    assert found.shape == (4, WIDTH)
    assert found.dtype == np.float32
    for row, tokens in zip(found, ids, strict=True):
        assert np.allclose(row, by_hand(held, tokens), atol=2e-5)


def test_a_vector_does_not_depend_on_what_is_embedded_with_it(folder):
    embedder = SentenceFiles(folder, max_tokens=LONGEST)
    together = embedder.embed(["cats purr", "alice moved to lisbon to cats " * 4])
    assert np.allclose(together[0], embedder.embed(["cats purr"])[0], atol=1e-6)
    assert embedder.embed([]).shape == (0, WIDTH)


def test_a_store_can_be_opened_with_it(folder):
    with Engram.open(":memory:", embedder=SentenceFiles(folder, max_tokens=LONGEST)) as store:
        memory = store.memory("home")
        memory.add(["Alice moved to Lisbon.", "Cats purr."])
        assert memory.recall("Where is Lisbon?", k=1).facts[0].fact.text == "Alice moved to Lisbon."
        assert store.doctor()["embedder"].startswith("files:bert:")


def test_what_is_wrong_is_named(folder, tmp_path):
    with pytest.raises(InvalidInput, match=r"model\.safetensors, tokenizer\.json"):
        bare = tmp_path / "bare"
        bare.mkdir()
        (bare / "config.json").write_text("{}")
        SentenceFiles(bare)
    with pytest.raises(InvalidInput, match="8 to 32"):
        SentenceFiles(folder, max_tokens=500)
    with pytest.raises(InvalidInput, match="'mpnet'"):
        SentenceFiles(write(tmp_path / "other", {}, model_type="mpnet"), max_tokens=8)


@pytest.mark.skipif(not os.environ.get("ENGRAM_MINILM"), reason="ENGRAM_MINILM names no folder with all-MiniLM-L6-v2")
def test_published_cosines_of_minilm():
    found = SentenceFiles(os.environ["ENGRAM_MINILM"]).embed(
        ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
    )
    assert np.allclose(found[1:] @ found[0], [0.695, 0.943, 0.257], atol=1e-3)
