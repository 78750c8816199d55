"""Put the model in the place of `vexfs_chroma._engine`, for this process and its children.

    VEXFS_TEST_ENGINE=model PYTHONPATH=tests python -c "import use_model; ..."

Only tests import this, before anything of vexfs_chroma.  A persistent database of the model is
one pickle, read again whenever its file changed, so that several processes see one state.
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import model_engine


class PickledDatabase(model_engine.Database):
    def __init__(self, path: str | None, **options: Any) -> None:
        super().__init__(path, **options)
        self.file = None if path is None else Path(path) / "model.pickle"
        self.stamp: tuple[int, int, int] | None = None
        if path is not None:
            Path(path).mkdir(parents=True, exist_ok=True)

    def load(self) -> None:
        if self.file is not None and self.file.exists():
            stat = self.file.stat()
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if stamp != self.stamp:
                self.states = pickle.loads(self.file.read_bytes())
                self.stamp = stamp

    def save(self) -> None:
        if self.file is not None:
            fresh = self.file.with_suffix(f".{os.getpid()}")
            fresh.write_bytes(pickle.dumps(self.states))
            fresh.replace(self.file)
            stat = self.file.stat()
            self.stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)


def install() -> None:
    if os.environ.get("VEXFS_TEST_ENGINE") == "model":
        model_engine.Database = PickledDatabase  # type: ignore[misc]
        sys.modules["vexfs_chroma._engine"] = model_engine


install()
