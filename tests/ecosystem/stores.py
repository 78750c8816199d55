"""The same calls on a store that is on chromadb and on one that is on us, results compared."""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from functools import partial
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
from pydantic import BaseModel

import vexfs_chroma

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

from compare import Pair

WIDTH = 24


def vector(text: str) -> list[float]:
    """An embedding of the text: a unit vector that has nothing to do with its meaning."""
    found = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(WIDTH)
    return [float(x) for x in found / np.linalg.norm(found)]


def shown(value: Any) -> Any:
    """Documents, nodes and results as plain values."""
    if isinstance(value, BaseModel):
        return shown(value.model_dump())
    if is_dataclass(value):
        return shown(vars(value))
    if isinstance(value, dict):
        return {key: shown(one) for key, one in value.items()}
    return [shown(one) for one in value] if isinstance(value, list | tuple) else value


def both(stores: Pair, call: str | Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a method, or a function of a store, on both.  What it gives, plain, or the class of the
    error that it raises; fails where these differ."""

    def result(store: Any) -> Any:
        function = getattr(store, call) if isinstance(call, str) else partial(call, store)
        if iscoroutinefunction(function):
            return shown(asyncio.run(function(*args, **kwargs)))
        return shown(function(*args, **kwargs))

    outcome = stores.apply(f"{call}", result)
    return outcome.error.rpartition(".")[2] if outcome.error else outcome.value


@contextmanager
def opened(folder: Path) -> Iterator[Pair]:
    """Clients of both libraries."""
    with (
        chromadb.PersistentClient(path=folder / "chromadb") as theirs,
        vexfs_chroma.PersistentClient(path=folder / "vexfs") as ours,
    ):
        yield Pair(theirs, ours)
