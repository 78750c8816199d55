"""The ground truth of the benchmark is that of the data set.

Needs the data sets of VEXFS_DATA; run with `pytest -m slow tests/data`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from vexfs_chroma._bench import _data, _truth

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("VEXFS_DATA" not in os.environ, reason="VEXFS_DATA names no data sets"),
]


def test_truth_is_that_of_the_data_set() -> None:
    folder = Path(os.environ["VEXFS_DATA"]) / _data.WORDNET
    nearest = np.load(folder / "gt_dev.npy")[:, : _truth.K]
    distances = np.load(folder / "gt_dev_dist.npy")[:, _truth.K - 1]
    rows = _data.load(10**9)
    truth = _truth.compute(rows, len(nearest), 10)
    assert np.allclose(truth.farthest["query"], distances, atol=_truth.TOLERANCE)
    assert truth.recall("query", [[rows.ids[i] for i in line] for line in nearest]) == 1
