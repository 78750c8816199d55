"""vexctl bench quality: measures of rankings, intervals, fusion, queries, and the whole study."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from vexfs_chroma._bench import (
    _data,
    _encoder,
    _evaluation,
    _fusion,
    _known_items,
    _quality,
    _sparse,
)
from vexfs_chroma._bench._fusion import Weights
from vexfs_chroma._bench._known_items import DEFINITION, EXAMPLE, LEMMA, Item
from vexfs_chroma._bench._progress import Progress
from vexfs_chroma._bench._results import Report
from vexfs_chroma._cli._app import app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vexfs_chroma._bench._encoder import Matrix


# ---- measures ------------------------------------------------------------------------------------


def test_ndcg_of_known_rankings() -> None:
    assert _evaluation.ndcg([7, 1, 2], {7}, 10) == 1
    assert _evaluation.ndcg([1, 7, 2], {7}, 10) == pytest.approx(1 / math.log2(3))
    assert _evaluation.ndcg([1, 2, 7], {7}, 10) == 0.5
    assert _evaluation.ndcg([1, 2, 7], {7}, 2) == 0
    assert _evaluation.ndcg([], {7}, 10) == 0
    # Places 1 and 3 of three relevant ones: (1 + 1/2) / (1 + 1/log2(3) + 1/2).
    assert _evaluation.ndcg([4, 0, 5], {4, 5, 6}, 3) == pytest.approx(0.7039180890341347)
    # More relevant ones than places: the ideal has only so many.
    assert _evaluation.ndcg([4, 5], {4, 5, 6}, 2) == 1


def test_reciprocal_rank_and_recall_of_known_rankings() -> None:
    assert _evaluation.reciprocal_rank([1, 2, 7], {7, 2}, 10) == 0.5
    assert _evaluation.reciprocal_rank([1, 2, 7], {7}, 2) == 0
    assert _evaluation.recall([1, 2, 7], {7, 2, 9, 10}, 10) == 0.5
    assert _evaluation.recall([1, 2, 7], {7, 2, 9, 10}, 2) == 0.25


@pytest.mark.parametrize("measure", ["ndcg", "reciprocal_rank", "recall"])
def test_a_query_without_an_answer_is_an_error(measure: str) -> None:
    with pytest.raises(ValueError, match="needs a relevant record"):
        getattr(_evaluation, measure)([1], set(), 10)


def test_bootstrap_of_three_values_is_the_distribution_of_all_resamples() -> None:
    values = [0.0, 1.0, 5.0]
    means = Counter(round(sum(drawn) / 3, 9) for drawn in itertools.product(values, repeat=3))
    n = 20_000
    drawn = Counter(
        round(float(mean), 9)
        for mean in _evaluation._resampled_means(np.array(values), seed=3, n=n)
    )
    assert drawn.keys() == means.keys()
    for mean, ways in means.items():
        share = ways / 27
        assert abs(drawn[mean] / n - share) < 5 * math.sqrt(share * (1 - share) / n), mean


def test_bootstrap_agrees_with_the_normal_interval() -> None:
    values = np.random.default_rng(5).normal(3, 2, 2000)
    found = _evaluation.bootstrap(values, seed=1)
    error = values.std() / math.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)
    assert found == _evaluation.bootstrap(values, seed=1)
    assert found != _evaluation.bootstrap(values, seed=2)


def test_pairs_take_away_what_queries_have_in_common() -> None:
    hardness = np.random.default_rng(6).normal(0, 1, 400)
    found = _evaluation.paired_bootstrap(hardness + 0.25, hardness, seed=1, resamples=500)
    assert [found.mean, found.low, found.high] == pytest.approx([0.25] * 3)
    with pytest.raises(ValueError, match="the same queries"):
        _evaluation.paired_bootstrap([1.0, 2.0], [1.0], seed=1)
    with pytest.raises(ValueError, match="a list of values"):
        _evaluation.bootstrap([], seed=1)


# ---- fusion --------------------------------------------------------------------------------------


def test_fusion_of_known_rankings() -> None:
    weights = Weights(60, (1, 1, 0))
    # 3: 1/60 + 1/61; 1: 1/61 + 1/160; 2: 1/62 + 1/60; 9 is of a part without a weight.
    assert _fusion.fuse([[3, 1, 2], [2, 3], [9]], weights, 100) == [3, 2, 1]
    assert _fusion.fuse([[5, 1], [1, 5], []], weights, 100) == [1, 5], "equal: by number"
    assert _fusion.fuse([[5], [1, 2, 7, 5], [9]], Weights(10, (0, 1, 3)), 100) == [9, 1, 2, 7, 5]


def test_weights_that_are_tried() -> None:
    tried = list(_fusion.all_weights(2))
    assert {found.weights for found in tried} == {
        (1, 1), (1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2),
    }  # fmt: skip
    assert len(tried) == len(_fusion.KS) * 7


def test_tuning_is_the_best_of_all_weights() -> None:
    random = np.random.default_rng(11)
    items = [Item(LEMMA, "", frozenset({i, i + 1})) for i in range(40)]

    def ranking(item: Item, quality: float) -> list[int]:
        rows = [int(row) for row in random.permutation(60)[:20]]
        if random.random() < quality:
            rows.insert(int(random.integers(0, 3)), min(item.relevant))
        return list(dict.fromkeys(rows))

    parts = [[ranking(item, quality) for item in items] for quality in (0.9, 0.2, 0.6)]

    def mean(weights: Weights) -> float:
        fused = (_fusion.fuse(lists, weights, 20) for lists in zip(*parts, strict=True))
        pairs = zip(fused, items, strict=True)
        return float(np.mean([_evaluation.ndcg(rows, i.relevant, 10) for rows, i in pairs]))

    chosen, found = _fusion.tune(parts, items, 10, 20)
    assert found == pytest.approx(mean(chosen))
    assert found == pytest.approx(max(map(mean, _fusion.all_weights(3))))


# ---- queries -------------------------------------------------------------------------------------

TOUCH = 'touch, hint: a slight but appreciable amount; "a touch of garlic; or more"; "a hint"'


def test_parts_of_a_gloss() -> None:
    synset = _known_items.read_synset(TOUCH)
    assert synset.lemmas == ["touch", "hint"]
    assert synset.parts == [
        "a slight but appreciable amount", '"a touch of garlic; or more"', '"a hint"',
    ]  # fmt: skip
    assert synset.statements() == [0]
    assert synset.examples() == [1], "the other is too short"
    assert synset.without(1) == 'touch, hint: a slight but appreciable amount; "a hint"'
    assert _known_items.read_synset('odd: one "quote too few; and a definition').parts == []


def glosses(n: int) -> list[str]:
    """Some that can be asked for an example, some for a statement, some for both or neither."""
    words = np.array([f"word{i}" for i in range(3000)])
    random = np.random.default_rng(8)
    made = []
    for i in range(n):
        text = [" ".join(random.choice(words, 5)) for _ in range(3)]
        forms = (
            f'{text[0]}; "{text[1]} lemma{i}"', f"{text[0]}; {text[1]}",
            f'{text[0]}; {text[1]}; "{text[2]} lemma{i}"', text[0],
        )  # fmt: skip
        made.append(f"lemma{i}, Shared{i % 7}: {forms[i % 4]}")
    return made


def test_queries_are_cut_out_of_their_documents() -> None:
    documents = glosses(200)
    corpus = _known_items.make(documents, 20, seed=4)
    assert Counter(item.kind for item in corpus.items) == {DEFINITION: 20, EXAMPLE: 20, LEMMA: 20}
    assert [item.kind for item in corpus.items[:3]] == [*_known_items.KINDS]
    asked = [item for item in corpus.items if item.kind != LEMMA]
    for item in asked:
        (row,) = item.relevant
        assert item.text in documents[row]
        assert item.text not in corpus.documents[row]
        assert corpus.documents[row].startswith(f"lemma{row}, Shared{row % 7}: word")
    rows = [min(item.relevant) for item in asked]
    assert sorted(rows) == corpus.cut == sorted(set(rows)), "cut for one query at most"
    for row in set(range(200)) - set(rows):
        assert corpus.documents[row] == documents[row]
    assert corpus == _known_items.make(documents, 20, seed=4)
    assert corpus != _known_items.make(documents, 20, seed=5)


def test_a_lemma_is_answered_by_all_that_have_it() -> None:
    documents = [*glosses(40), "Bank: sloping land", "bank, depository: a financial institution"]
    items = _known_items._ask_lemmas([_known_items.read_synset(d) for d in documents], [41, 40], 9)
    assert items == [Item(LEMMA, "bank", frozenset({40, 41}))]


def test_texts_that_are_no_glosses() -> None:
    with pytest.raises(ValueError, match="no glosses"):
        _known_items.make(["one", "two"], 5, seed=1)


# ---- vectors -------------------------------------------------------------------------------------


def test_sparse_vectors_are_those_of_chromas_function() -> None:
    from chromadb.utils.embedding_functions import ChromaBm25EmbeddingFunction

    texts = ["the dogs were running", "a dog, a dog! and another dogs' dog", "the of", "x1 x2"]
    counts = _sparse.Counts(texts)
    assert counts.mean_length == pytest.approx((2 + 5 + 0 + 2) / 4)
    for arguments in ({}, {"avg_doc_length": 3.5}, {"k": 0.9, "b": 0.3}):
        expected = ChromaBm25EmbeddingFunction(**arguments)(texts)
        for found, wanted in zip(counts.vectors(**arguments), expected, strict=True):
            assert found.indices == wanted.indices
            assert found.values == pytest.approx(wanted.values)


def write_model(folder: Path) -> dict[str, Matrix]:
    """A model of random weights: two layers, two heads, eight dimensions, thirty words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    random, width, inner = np.random.default_rng(2), 8, 12
    shapes = {
        "embeddings.word_embeddings.weight": (32, width),
        "embeddings.position_embeddings.weight": (16, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        for part in ("attention.self.query", "attention.self.key", "attention.self.value"):
            shapes |= {f"{layer}.{part}.weight": (width, width), f"{layer}.{part}.bias": (width,)}
        for part, size in (
            ("attention.output.dense", (width, width)),
            ("intermediate.dense", (inner, width)),
            ("output.dense", (width, inner)),
        ):
            shapes |= {f"{layer}.{part}.weight": size, f"{layer}.{part}.bias": size[:1]}
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{layer}.{part}.weight": (width,), f"{layer}.{part}.bias": (width,)}
    tensors = {name: random.normal(0, 1, size).astype("<f4") for name, size in shapes.items()}
    header, data = {}, b""
    for name, tensor in tensors.items():
        offsets = [len(data), len(data) + tensor.nbytes]
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": offsets}
        data += tensor.tobytes()
    header["embeddings.position_ids"] = {"dtype": "I64", "shape": [0], "data_offsets": [0, 0]}
    head = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + data)
    config = {
        "model_type": "bert", "hidden_act": "gelu", "num_attention_heads": 2,
        "num_hidden_layers": 2, "layer_norm_eps": 1e-12, "hidden_size": width,
        "max_position_embeddings": 16,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    words = {"[CLS]": 0, "[SEP]": 1, **{f"w{i}": i for i in range(2, 32)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w2"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return tensors


def reference_vector(w: dict[str, Matrix], ids: Sequence[int]) -> Matrix:
    """A text by itself, in float64, token by token and head by head, with math.erf."""

    def norm(x: Matrix, name: str) -> Matrix:
        x = (x - x.mean()) / math.sqrt(x.var() + 1e-12)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def dense(x: Matrix, name: str) -> Matrix:
        return w[f"{name}.weight"].astype(np.float64) @ x + w[f"{name}.bias"]

    def gelu(x: Matrix) -> Matrix:
        return np.array([v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in x])

    tokens = [
        norm(
            w["embeddings.word_embeddings.weight"][id].astype(np.float64)
            + w["embeddings.position_embeddings.weight"][at]
            + w["embeddings.token_type_embeddings.weight"][0],
            "embeddings.LayerNorm",
        )
        for at, id in enumerate(ids)
    ]
    for number in (0, 1):
        name = f"encoder.layer.{number}"
        q, k, v = (
            [dense(x, f"{name}.attention.self.{part}") for x in tokens]
            for part in ("query", "key", "value")
        )
        after = []
        for at, x in enumerate(tokens):
            mixed = np.zeros(8)
            for head in (slice(0, 4), slice(4, 8)):
                weights = np.array([math.exp(q[at][head] @ other[head] / 2) for other in k])
                weights /= weights.sum()
                mixed[head] = sum(a * other[head] for a, other in zip(weights, v, strict=True))
            mixed = dense(mixed, f"{name}.attention.output.dense")
            x = norm(x + mixed, f"{name}.attention.output.LayerNorm")
            inner = dense(gelu(dense(x, f"{name}.intermediate.dense")), f"{name}.output.dense")
            after.append(norm(x + inner, f"{name}.output.LayerNorm"))
        tokens = after
    mean = np.mean(tokens, axis=0)
    return mean / np.linalg.norm(mean)


def test_encoder_agrees_with_a_plain_one(tmp_path: Path) -> None:
    weights = write_model(tmp_path)
    encode = _encoder.Encoder(_encoder.find_model(tmp_path))
    texts = ["w3 w4 w5", "w6", "w7 w8 w9 w10 w11 w3 w3", "", " ".join(["w12"] * 40)]
    ids = [[0, *(int(word[1:]) for word in text.split()), 1] for text in texts]
    ids[-1] = [*ids[-1][:15], 1]  # truncated
    expected = [reference_vector(weights, one) for one in ids]
    found = encode(texts)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 2e-6
    assert np.abs(encode(texts[:1]) - expected[:1]).max() < 2e-6, "padding does not count"


def test_folders_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        _encoder.find_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(ValueError, match="no safetensors file"):
        _encoder.read_tensors(tmp_path / "model.safetensors")


@pytest.mark.skipif("VEXFS_DATA" not in os.environ, reason="VEXFS_DATA names no data sets")
def test_encoder_makes_the_stored_vectors() -> None:
    try:
        folder = _encoder.find_model()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    rows = _data.load(30)
    made = _encoder.Encoder(folder)(rows.documents)
    assert (1 - (made * rows.vectors).sum(axis=1)).max() < 1e-5


# ---- the study -----------------------------------------------------------------------------------


def bag_of_words(texts: Sequence[str]) -> Matrix:
    """Unit vectors of a text's words, whichever their order."""
    made = np.full((len(texts), 32), 1e-3, dtype=np.float32)
    for line, text in zip(made, texts, strict=True):
        for word in text.replace('"', "").replace(";", "").split():
            line += np.random.default_rng(list(word.encode())).normal(0, 1, 32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def test_study(tmp_path: Path) -> None:
    documents = glosses(240)
    plan = _quality.Plan(queries=16, depth=30, resamples=200)
    report = Report("quality")
    vectors = bag_of_words(documents)
    _quality.study(plan, documents, vectors, bag_of_words, tmp_path, report, Progress())
    names = [*_quality.SINGLE, _quality.FUSED, _quality.TUNED]
    for kind in (_quality.ALL, *_known_items.KINDS):
        assert report.libraries(kind) == names
        for name in names:
            ends = (report.median(kind, f"{_quality.NDCG}{e}", name) for e in (" from", "", " to"))
            low, mean, high = (-1.0 if end is None else end for end in ends)
            assert 0 <= low <= mean <= high <= 1
    # A lemma is in its own document, and words of it are found by words.
    assert report.median(LEMMA, _quality.RECALL, _quality.TEXT) == 1
    found = report.median(EXAMPLE, _quality.MRR, _quality.TEXT)
    assert found is not None
    assert found >= 0.9, "they have their lemma"
    assert report.conditions["queries reported"] == report.conditions["queries that chose"] == 24
    checks = {check.name: check.verdict for check in report.checks}
    assert checks["fused rankings, engine v numpy: same"] == "met"
    assert len(checks) == 3
    saved = tmp_path / "report.json"
    report.save(saved)
    assert Report.load(saved).conditions["tuned"] == json.loads(
        json.dumps(report.conditions["tuned"])
    )


def test_study_with_another_encoder(tmp_path: Path) -> None:
    documents, plan = glosses(80), _quality.Plan(queries=4)
    vectors = np.roll(bag_of_words(documents), 1, axis=1)
    with pytest.raises(ValueError, match="the encoder is not the one of the data"):
        _quality.study(
            plan, documents, vectors, bag_of_words, tmp_path, Report("quality"), Progress()
        )
    with pytest.raises(ValueError, match="the encoder has 32 dimensions, the data 16"):
        _quality.study(
            plan, documents, vectors[:, :16], bag_of_words, tmp_path, Report("quality"), Progress()
        )


def test_command_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VEXFS_DATA", raising=False)
    done = CliRunner().invoke(app, ["bench", "quality", "--model", str(tmp_path)])
    assert done.exit_code == 3
    assert "no config.json" in done.output.replace("\n", "")
    write_model(tmp_path)
    done = CliRunner().invoke(app, ["bench", "quality", "--model", str(tmp_path)])
    assert done.exit_code == 3
    assert "VEXFS_DATA" in done.output
