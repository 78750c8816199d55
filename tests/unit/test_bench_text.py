"""vexctl bench text: libraries in processes of their own, and what is compared."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import pytest

from vexfs_chroma._bench import _data, _sparse, _text_bench, _text_task, _texts
from vexfs_chroma._bench._progress import Progress
from vexfs_chroma._bench._results import LOWER, Report
from vexfs_chroma._bench._task import TaskFailedError
from vexfs_chroma._bench._texts import DENSE, HYBRID, OURS, SPARSE, TEXT, Asked, Given
from vexfs_chroma._bench._worker import Worker

BOTH, WORDS, VECTORS = _text_bench.BOTH, _text_bench.WORDS, _text_bench.VECTORS


@pytest.fixture(autouse=True)
def generated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VEXFS_DATA", raising=False)


class Counter:
    """What a worker makes in its process."""

    def __init__(self, start: int) -> None:
        self.value = start

    def add(self, n: int) -> int:
        """The sum so far."""
        print("not a reply")
        self.value += n
        return self.value

    def leave(self) -> None:
        """Fail."""
        raise RuntimeError("no more")


def test_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with Worker(f"{Path(__file__).stem}:Counter", {"start": 5}) as worker:
        assert [worker.call("add", n=1), worker.call("add", n=10)] == [6, 16]
        with pytest.raises(TaskFailedError, match="RuntimeError: no more"):
            worker.call("leave")
        with pytest.raises(TaskFailedError):
            worker.call("add", n=1)


def test_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours and what comes with Python: each in its process, in all that it can do."""
    monkeypatch.setattr(_text_bench, "_compare_scores", lambda *_: None)
    plan = _text_bench.Plan(
        peers=[OURS, "sqlite-fts5"], rows=400, runs=2, queries=6, slow_queries=4
    )
    report = Report("text")
    _text_bench.run(plan, tmp_path, report, Progress())
    assert not report.failed
    assert not report.skipped
    assert report.libraries(WORDS) == [OURS, "sqlite-fts5"]
    assert report.libraries(BOTH) == report.libraries(VECTORS) == [OURS]
    for group, asked in _text_bench.ASKED.items():
        for mode, limit in asked:
            figure = report.figure(group, f"{mode} {limit}, p50 ms")
            assert [len(runs) for runs in figure.values.values()] == [2] * len(figure.values)
            assert figure.better == LOWER
            core = report.figure(group, f"{mode} {limit}, core CPU ms").values
            assert set(core) == {OURS}
            assert all(0 < value < 1000 for runs in core.values() for value in runs)
    assert set(report.figure(WORDS, "disk, MB").values) == {OURS, "sqlite-fts5"}
    assert report.median(WORDS, "BM25 10, results of ours", OURS) == 1
    assert report.median(WORDS, "BM25 10, results of ours", "sqlite-fts5") == pytest.approx(
        1, abs=0.3
    )
    assert report.median(VECTORS, "sparse 10, recall", OURS) == 1
    assert report.median(VECTORS, "sparse 100, recall", OURS) == 1
    checks = {check.name: check.measured for check in report.checks}
    assert checks["BM25 10, p50 ms v the best other's (sqlite-fts5)"] is not None
    assert checks["hybrid 10, p50 v dense + BM25"] is not None
    assert checks["hybrid 100, p50 v dense + BM25"] is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


@pytest.mark.parametrize("name", [*_texts.LIBRARIES])
def test_libraries_find_the_document_that_they_are_asked_for(name: str, tmp_path: Path) -> None:
    kind = _text_bench.find(_texts.LIBRARIES[name])
    modules = {"qdrant-edge": "qdrant_edge", "sqlite-fts5": "sqlite3", "vsag": "pyvsag"}
    module = modules.get(name, name)
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    rows = _data.generate(300, dimension=8, n_queries=1)
    texts = [f"{text} name{row}" for row, text in enumerate(rows.documents)]
    sparse = [([row, 1000], [2.0, 0.5]) for row in range(300)]
    index = kind(str(tmp_path), Given(texts, rows.vectors, sparse))  # type: ignore[call-arg]
    index.add()  # type: ignore[attr-defined]
    index.finish()  # type: ignore[attr-defined]
    query = index.prepare(Asked("name7", rows.vectors[7], sparse[7]))  # type: ignore[arg-type]
    for mode in kind.modes:  # type: ignore[attr-defined]
        answer = index.search(mode, query, 10)
        found = index.rows_of(answer)
        assert found[0] == 7, mode
        assert mode == TEXT or len(found) == 10, mode
        core = index.core(mode, query, 10)
        assert (core is not None) == (name in {OURS, "tantivy", "bm25s"})
        if core is not None:
            core()
        if name == OURS:
            assert len(answer["scores"][0]) == len(found)
            assert answer["documents"] == answer["metadatas"] == [None]
    assert kind.version()
    index.close()


def test_scores_are_those_of_bm25s(tmp_path: Path) -> None:
    pytest.importorskip("bm25s")
    texts = _data.generate(200, dimension=2, n_queries=1).documents
    asked = [Asked(text) for text in (texts[0], "word1 word2 word1", "nothing here", "WORD3")]
    data = tmp_path / "data"
    data.write_bytes(pickle.dumps((Given([*texts, "na\u00efve word1"]), asked)))
    found = _text_task.compare_scores(str(data), 4)
    assert found["scores"] >= 30
    assert found["difference"] < 1e-6


def test_targets() -> None:
    report = Report("text")
    for peer, value in ((OURS, 0.2), ("tantivy", 0.3), ("bm25s", 9.0)):
        report.add(WORDS, "BM25 10, p50 ms", "", LOWER, peer, value)
    for mode, value in ((TEXT, 0.2), (DENSE, 0.4), (HYBRID, 0.9)):
        report.add(BOTH, f"{mode} 10, p50 ms", "", LOWER, OURS, value)
    report.add(VECTORS, f"{SPARSE} 10, p50 ms", "", LOWER, "zvec", 1.0)
    _text_bench.compare(report)
    found = {check.name: check for check in report.checks}
    assert found["BM25 10, p50 ms v the best other's (tantivy)"].measured == pytest.approx(1.5)
    ratio = found["hybrid 10, p50 v dense + BM25"]
    assert ratio.measured == pytest.approx(1.5)
    assert found["hybrid 100, p50 v dense + BM25"].verdict == "not measured"
    assert found["sparse 10, p50 ms v the best other's (zvec)"].verdict == "not measured"


def test_queries_have_all_forms() -> None:
    given, asked = _text_bench.prepare(_text_bench.Plan(rows=50, queries=20))
    assert len(given.documents) == 50
    assert len(asked) == 20
    for one in asked:
        assert 1 <= len(one.text.split()) <= 6
        assert one.vector is not None
        assert one.sparse is not None
        assert len(one.sparse[0]) <= len(one.text.split())
        assert all(value >= 1 for value in one.sparse[1])


def test_recall_of_sparse_searches() -> None:
    stored = [([1, 2], [1.0, 2.0]), ([2], [3.0]), ([7], [1.0]), ([1, 2], [1.0, 2.0]), ([], [])]
    exact = _sparse.Exact(stored, [([1, 2], [1.0, 1.0]), ([9], [1.0]), ([7], [1.0])])
    assert exact.keep(1) == [0, 2]
    assert exact.recall(3, [[1, 0, 3], [2]]) == 1
    assert exact.recall(2, [[3, 1], [2]]) == 1  # rows 0 and 3 are equal
    assert exact.recall(2, [[3, 2], [4]]) == 0.25
    assert exact.recall(1, [[2], [2]]) == 0.5
    assert exact.keep(3) == [0]
