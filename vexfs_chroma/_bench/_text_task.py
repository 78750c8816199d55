"""The part of the benchmark of full text that runs in a process for each library."""

from __future__ import annotations

import gc
import importlib
import pickle
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from vexfs_chroma._bench import _measure, _task
from vexfs_chroma._bench._indexes import find
from vexfs_chroma._bench._texts._base import K1, RESULTS, B
from vexfs_chroma._bench._texts._ours import Vexfs


class Library:
    """One library, with the data that it indexes."""

    def __init__(self, place: str, folder: str, data: str) -> None:
        """Of `data`, a file with what is given and what is asked (see _texts).  On one CPU."""
        _task.pin_to_one_cpu()
        given, self._asked = pickle.loads(Path(data).read_bytes())
        self._rows = len(given.documents)
        kind: Any = find(place)
        self._index = kind(folder, given)
        self.version = kind.version()

    def build(self) -> dict[str, Any]:
        """Store and index everything; figures by name."""
        started = time.perf_counter()
        self._index.add()
        added = time.perf_counter()
        self._index.finish()
        done = time.perf_counter()
        figures = {
            "add, rows/s": self._rows / (added - started),
            "add and index, rows/s": self._rows / (done - started),
        }
        size = self._index.bytes()
        if size is not None:
            figures["disk, MB"] = size / 1e6
        return {"figures": figures, "version": self.version, "note": self._index.note}

    def measure(self, mode: str, limit: int, n: int) -> dict[str, Any]:
        """The first `n` queries, one after the other: percentiles of their times, the mean CPU time
        of all threads, in ms; what of that the compiled part takes, where that can be told; and
        what was found.
        """
        index, clock = self._index, time.perf_counter
        prepared = [index.prepare(asked) for asked in self._asked[:n]]
        times, answers = [], []
        gc.collect()
        gc.disable()
        cpu = time.process_time()
        try:
            for query in prepared:
                started = clock()
                answer = index.search(mode, query, limit)
                times.append(clock() - started)
                answers.append(answer)
            cpu = time.process_time() - cpu
            core = self._core_ms(mode, prepared, limit)
        finally:
            gc.enable()
        return core | {
            "CPU": cpu * 1e3 / len(times),
            "p50": _measure.percentile_ms(times, 50),
            "p95": _measure.percentile_ms(times, 95),
            "found": [list(index.rows_of(answer)) for answer in answers],
        }

    def _core_ms(self, mode: str, prepared: list[Any], limit: int) -> dict[str, float]:
        calls = [self._index.core(mode, query, limit) for query in prepared]
        if None in calls:
            return {}
        cpu = time.process_time()
        for call in calls:
            call()
        return {"core CPU": (time.process_time() - cpu) * 1e3 / len(calls)}

    def first(self, mode: str, limit: int) -> float:
        """The time of one query, in ms."""
        query = self._index.prepare(self._asked[0])
        return _measure.seconds(lambda: self._index.search(mode, query, limit)) * 1e3


def compare_scores(data: str, n: int) -> dict[str, float]:
    """Scores of our BM25 beside those of bm25s in float64 on the same tokens, of `n` queries.

    How many were compared, and their largest relative difference.  Documents that are not ASCII
    are left out: of ASCII text, tokens are runs of letters and digits.
    """
    bm25s = importlib.import_module("bm25s")
    given, asked = pickle.loads(Path(data).read_bytes())
    given.documents = [text for text in given.documents if text.isascii()]
    tokens = [_tokens(text) for text in given.documents]
    index = bm25s.BM25(method="lucene", k1=K1, b=B, dtype="float64")
    index.index(tokens, show_progress=False)
    known = set(index.vocab_dict)
    count, largest = 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        ours = Vexfs(folder, given)
        ours.add()
        for one in asked[:n]:
            words = [word for word in _tokens(one.text) if word in known]
            if not words:  # nothing is found, and bm25s does not take that for a query
                continue
            theirs = index.get_scores(words)
            found = ours.scored(one.text, RESULTS)
            best = sorted(theirs, reverse=True)[: len(found)]
            for (row, score), in_place in zip(found, best, strict=True):
                for other in (theirs[row], in_place):
                    largest = max(largest, abs(score - other) / other)
                count += 1
        ours.close()
    return {"scores": float(count), "difference": largest}


def _tokens(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())
