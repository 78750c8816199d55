"""The part of the engine benchmark that runs in a process of its own: one library, one data set."""

from __future__ import annotations

import gc
import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vexfs_chroma._bench import _measure, _task, _vectors
from vexfs_chroma._bench._indexes import EFS, Index, Setup, SkippedError, find

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ENOUGH_RECALL = 0.9985  # a sweep ends here: more effort only takes longer
MEMORY = "RSS growth, MB"
ANONYMOUS = "RSS growth without files, MB"


def run(
    place: str,
    folder: str,
    data: dict[str, Any],
    k: int,
    n_queries: int,
    knobs: Sequence[int],
    repeats: int,
    seconds: float,
    m: int,
    ef_construction: int,
    pin: bool = True,
) -> dict[str, Any]:
    """Build, then search with one knob after the other.

    At most `seconds` are spent on the queries of a knob, but they are all asked once.
    """
    if pin:
        _task.pin_to_one_cpu()
    kind = find(place)
    vectors = _vectors.Vectors(**{**data, "folder": Path(data["folder"])})
    base, queries = vectors.base(), vectors.queries()[:n_queries]
    setup = Setup(vectors.space, vectors.dimension, vectors.rows, folder, m, ef_construction)
    try:
        index = kind(setup)
    except (ImportError, SkippedError) as error:
        return {"skipped": str(error)}
    version = kind.version()
    before = _measure.memory()
    wall, cpu = time.perf_counter(), time.process_time()
    index.build(base)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    found: dict[str, Any] = {
        "version": version,
        "note": kind.note,
        "knob": kind.knob,
        "build s": wall,
        "build CPU s": cpu,
    }
    sweep = []
    for knob in kind.knobs or knobs or EFS:
        if kind.knob == "ef" and not kind.knobs and knob < k:
            continue
        index.set_knob(knob)
        point = search(index, queries, k, repeats, seconds)
        point["knob"] = knob
        point["recall"] = _vectors.recall(vectors, base, queries, point.pop("found"), k)
        point["extra"] = index.extra(queries, k)
        sweep.append(point)
        if point["recall"] >= ENOUGH_RECALL:
            break
    found["memory"] = _measure.growth(before)
    found["bytes"] = index.bytes()
    index.close()
    return found | {"sweep": sweep}


def search(
    index: Index, queries: NDArray[np.float32], k: int, repeats: int, seconds: float
) -> dict[str, Any]:
    """All queries one after the other, `repeats` times; the time of each call of the library."""
    prepared = [index.prepare(np.ascontiguousarray(query)) for query in queries]
    for query in prepared:  # so that the first round is no slower than the others
        index.search(query, k)
    rounds: list[NDArray[np.float64]] = []
    answers: list[Any] = []
    started = time.perf_counter()
    gc.collect()
    gc.disable()
    try:
        for _ in range(repeats):
            times = np.empty(len(prepared))
            answers = _timed(index, prepared, k, times)
            rounds.append(times)
            if time.perf_counter() - started > seconds:
                break
    finally:
        gc.enable()
    best = min(rounds, key=lambda times: float(times.sum()))
    return {
        "found": [list(index.rows_of(answer)) for answer in answers],
        "rates": [len(times) / float(times.sum()) for times in rounds],
        "p50 us": float(np.percentile(best, 50)) * 1e6,
        "p95 us": float(np.percentile(best, 95)) * 1e6,
        "p99 us": float(np.percentile(best, 99)) * 1e6,
    }


def _timed(index: Index, queries: list[Any], k: int, times: NDArray[np.float64]) -> list[Any]:
    clock, answers = time.perf_counter, []
    for at, query in zip(itertools.count(), queries):
        started = clock()
        answer = index.search(query, k)
        times[at] = clock() - started
        answers.append(answer)
    return answers
