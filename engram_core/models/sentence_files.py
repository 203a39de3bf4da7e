"""Sentence encoders from files on this machine: a BERT-like model and its tokenizer, run with numpy. Never downloads.

The computation is BERT's (Devlin et al. 2018), with the mean of all token vectors as the sentence's vector (Reimers and
Gurevych 2019).
"""

from __future__ import annotations

import json
import math
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.errors import InvalidInput, MissingExtra

Floats = NDArray[np.float32]

MAX_TOKENS: Final = 256
"""Tokens of a text that are read, special ones included; the rest is cut off."""
_BATCH_TOKENS: Final = 4096
"""Padded tokens computed at once: bounds memory at some 100 MB for a model of 384 dimensions."""
_WEIGHTS: Final = "model.safetensors"
_TYPES: Final = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}


class SentenceFiles:
    """An embedder of a folder with `config.json`, `model.safetensors` and `tokenizer.json`, by sentence-transformers.

    For models of the BERT family with mean pooling, such as all-MiniLM-L6-v2. The files are read at first use, and
    nothing is ever downloaded. On one core a model of MiniLM's size takes some 5 ms for a short text.

    Args:
        folder: Where the files are.
        max_tokens: Tokens of a text that are read at most, 8 to the model's own limit.

    Raises:
        InvalidInput: A file is missing, or the model is of another family; the message says which.
        MissingExtra: The package `tokenizers` is not installed (Chroma brings it).
    """

    def __init__(self, folder: str | os.PathLike[str], *, max_tokens: int = MAX_TOKENS) -> None:
        self._folder = Path(folder)
        self._max_tokens = max_tokens
        self._lock = threading.Lock()
        self._tokenizer: Any = None
        self._weights: dict[str, Floats] = {}
        missing = [name for name in ("config.json", _WEIGHTS, "tokenizer.json") if not (self._folder / name).is_file()]
        if missing:
            raise InvalidInput(
                f"SentenceFiles found no {', '.join(missing)} in {self._folder}. Pass the folder of a model saved by "
                "sentence-transformers; Engram never downloads one."
            )
        self._config = _config(self._folder / "config.json")
        if not 8 <= max_tokens <= self._config["max_position_embeddings"]:
            limit = self._config["max_position_embeddings"]
            raise InvalidInput(f"max_tokens must be 8 to {limit} for this model, not {max_tokens!r}.")

    @property
    def name(self) -> str:
        """The kind of the model, and a hash of its configuration and size; the folder's place does not matter."""
        size = (self._folder / _WEIGHTS).stat().st_size
        told = json.dumps([self._config, size, self._max_tokens], sort_keys=True)
        return f"files:{self._config['model_type']}:{sha256(told.encode()).hexdigest()[:8]}"

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._config["hidden_size"])

    def embed(self, texts: Sequence[str]) -> Floats:
        """Unit vectors, shape (len(texts), dimension). An empty text has the vector of its special tokens."""
        result = np.zeros((len(texts), self.dimension), dtype=np.float32)
        if not texts:
            return result
        self._load()
        rows = [encoded.ids for encoded in self._tokenizer.encode_batch(list(texts))]
        for places in _batches(rows):
            result[places] = self._encoded([rows[place] for place in places])
        return result

    def _load(self) -> None:
        with self._lock:
            if self._tokenizer is None:
                self._weights = _read(self._folder / _WEIGHTS)
                self._tokenizer = _tokenizer(self._folder / "tokenizer.json", self._max_tokens)

    def _encoded(self, rows: Sequence[Sequence[int]]) -> Floats:
        longest = max(map(len, rows))
        ids = np.zeros((len(rows), longest), dtype=np.int64)
        mask = np.zeros((len(rows), longest), dtype=np.float32)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1.0
        states = self._embedded(ids)
        for layer in range(self._config["num_hidden_layers"]):
            states = self._layer(states, mask, f"encoder.layer.{layer}.")
        pooled = (states * mask[:, :, None]).sum(axis=1)
        unit: Floats = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return unit

    def _embedded(self, ids: NDArray[np.int64]) -> Floats:
        weights = self._weights
        summed = (
            weights["embeddings.word_embeddings.weight"][ids]
            + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        return self._normed(summed, "embeddings.LayerNorm.")

    def _layer(self, states: Floats, mask: Floats, at: str) -> Floats:
        count, length, width = states.shape
        heads = self._config["num_attention_heads"]

        def split(name: str) -> Floats:
            return self._linear(states, f"{at}attention.self.{name}.").reshape(count, length, heads, -1).swapaxes(1, 2)

        query, key, value = split("query"), split("key"), split("value")
        logits = query @ key.swapaxes(2, 3) / np.float32(math.sqrt(width // heads))
        logits = logits + (mask[:, None, None, :] - 1.0) * np.float32(1e9)
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        read = (shares @ value).swapaxes(1, 2).reshape(count, length, width)
        states = self._normed(
            states + self._linear(read, f"{at}attention.output.dense."), f"{at}attention.output.LayerNorm."
        )
        inner = _gelu(self._linear(states, f"{at}intermediate.dense."))
        return self._normed(states + self._linear(inner, f"{at}output.dense."), f"{at}output.LayerNorm.")

    def _linear(self, states: Floats, name: str) -> Floats:
        flat = states.reshape(-1, states.shape[-1]) @ self._weights[f"{name}weight"].T + self._weights[f"{name}bias"]
        result: Floats = flat.reshape(*states.shape[:-1], -1)
        return result

    def _normed(self, states: Floats, name: str) -> Floats:
        centred = states - states.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(self._config["layer_norm_eps"]))
        result: Floats = centred / spread * self._weights[f"{name}weight"] + self._weights[f"{name}bias"]
        return result


def _gelu(values: Floats) -> Floats:
    """X * Phi(x), the error function by formula 7.1.26 of Abramowitz and Stegun (off by 1.5e-7 at most)."""
    scaled = np.abs(values) * np.float32(1 / math.sqrt(2))
    t = 1.0 / (1.0 + np.float32(0.3275911) * scaled)
    series = t * (
        np.float32(0.254829592)
        + t
        * (
            np.float32(-0.284496736)
            + t * (np.float32(1.421413741) + t * (np.float32(-1.453152027) + t * np.float32(1.061405429)))
        )
    )
    erf = np.sign(values) * (1.0 - series * np.exp(-scaled * scaled))
    result: Floats = (0.5 * values * (1.0 + erf)).astype(np.float32)
    return result


def _batches(rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Places of the rows, texts of like length together, so that little is computed for padding."""
    batch: list[int] = []
    for place in sorted(range(len(rows)), key=lambda at: len(rows[at])):
        if batch and (len(batch) + 1) * len(rows[place]) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    yield batch


def _config(path: Path) -> dict[str, Any]:
    config = json.loads(path.read_text(encoding="utf-8"))
    wanted = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
    found = {name: config.get(name) for name in wanted}
    if config.get("model_type") != "bert" or config.get("hidden_act", "gelu") != "gelu" or None in found.values():
        raise InvalidInput(
            f"SentenceFiles runs models of type bert with gelu; {path} describes {config.get('model_type')!r} with "
            f"{config.get('hidden_act')!r}. Pass its LangChain or LlamaIndex embedder instead."
        )
    return found | {"layer_norm_eps": float(config.get("layer_norm_eps", 1e-12))}


def _read(path: Path) -> dict[str, Floats]:
    """The tensors of a safetensors file: eight bytes of length, a JSON header, then the numbers."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors: dict[str, Floats] = {}
    for name, told in header.items():
        if name == "__metadata__" or told["dtype"] not in _TYPES:
            continue  # position ids and the like: whole numbers that are not computed with
        first, last = (8 + length + offset for offset in told["data_offsets"])
        values = np.frombuffer(data[first:last], dtype=_TYPES[told["dtype"]])
        tensors[name.removeprefix("bert.")] = values.reshape(told["shape"]).astype(np.float32)
    return tensors


def _tokenizer(path: Path, max_tokens: int) -> Any:
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415 - only for who brings a model
    except ImportError as error:
        raise MissingExtra("SentenceFiles needs the package tokenizers: pip install tokenizers.") from error
    tokenizer = Tokenizer.from_file(str(path))
    # The file may say a smaller limit and pad to it.
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer
