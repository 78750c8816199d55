"""A real Chroma, killed until it cannot use its directory: everything it confirmed comes over.

Takes minutes, so it runs only when it is asked for: pytest -m slow tests/migrate
"""

from __future__ import annotations

from pathlib import Path

import break_chroma
import numpy as np
import pytest
from chroma_fixtures import records

from vexfs_chroma import import_chroma


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("space", ["l2", "cosine"])
@pytest.mark.parametrize("seed", range(3))
def test_what_chroma_confirmed_comes_over(
    seed: int, space: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = break_chroma.run(tmp_path, rounds=14, seed=seed, space=space)
    with capsys.disabled():
        print(f"\n{space}, seed {seed}: {ended}")
    report = import_chroma(tmp_path / "chroma", tmp_path / "vexfs")
    assert report.ok, report
    found = records(tmp_path / "vexfs", "default_tenant", "default_database", "notes")[1]
    confirmed = break_chroma.acknowledged(tmp_path / "acknowledged.txt")
    assert len(found) >= 200 * len(confirmed)
    for batch in confirmed:
        vectors = np.random.default_rng(batch).normal(size=(200, 32)).astype(np.float32)
        for i, vector in enumerate(vectors):
            mine = found[f"{batch}-{i}"]
            if space == "l2":
                assert mine[0].tobytes() == vector.tobytes()
            else:
                assert np.allclose(mine[0], vector, rtol=1e-5, atol=1e-6)
            assert mine[1] == f"document {batch}-{i}"
            assert mine[2] == {"batch": batch, "i": i}
