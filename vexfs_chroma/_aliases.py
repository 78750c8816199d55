"""Every public module path of chromadb under our name, as the same module.

`import vexfs_chroma.api.types` gives chromadb.api.types itself, so classes are identical whichever
name they are imported by.  Nothing is imported before somebody asks for it.  Our own modules are
private (an underscore in front), except vexfs_chroma.api, which adds to chromadb's.
"""

from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_PREFIX = "vexfs_chroma."
_OWN = frozenset({"vexfs_chroma.api"})


class _Finder:
    """First in sys.meta_path: the path of an aliased package would lead to a second copy."""

    @staticmethod
    def find_spec(
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG004
        target: ModuleType | None = None,  # noqa: ARG004
    ) -> ModuleSpec | None:
        if not fullname.startswith(_PREFIX) or fullname in _OWN:
            return None
        name = fullname[len(_PREFIX) :]
        if name.startswith("_"):
            return None
        try:
            found = find_spec(f"chromadb.{name}")
        except ModuleNotFoundError:
            return None
        if found is None:
            return None
        is_package = found.submodule_search_locations is not None
        return ModuleSpec(fullname, _Loader(f"chromadb.{name}"), is_package=is_package)


class _Loader(Loader):
    def __init__(self, name: str) -> None:
        self._name = name
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system has put the alias there


def install() -> None:
    """Start resolving the aliases.  Safe to call twice."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
