"""Names and module paths: everything public of chromadb is here, as the same object."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
import warnings

import chromadb
import pytest
from chromadb.api import ServerAPI
from chromadb.api.shared_system_client import SharedSystemClient

import vexfs_chroma
import vexfs_chroma.api

OURS = {
    "AdminClient",
    "Client",
    "EphemeralClient",
    "HttpClient",
    "PersistentClient",
    "RustClient",
}


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_every_public_name_is_here():
    for name in dir(chromadb):
        if name.startswith("_"):
            continue
        ours, theirs = getattr(vexfs_chroma, name), getattr(chromadb, name)
        if name in OURS:
            assert ours.__module__ == "vexfs_chroma._client"
        elif name != "api":
            assert ours is theirs, name


def test_all_is_complete_and_true():
    assert set(chromadb.__all__) <= set(vexfs_chroma.__all__)
    assert all(hasattr(vexfs_chroma, name) for name in vexfs_chroma.__all__)
    assert set(vexfs_chroma.__all__) <= set(dir(vexfs_chroma))
    with pytest.raises(AttributeError, match="vexfs_chroma"):
        _ = vexfs_chroma.no_such_name


@pytest.mark.parametrize("name", sorted(OURS))
def test_client_functions_take_what_chromadbs_take(name):
    ours = inspect.signature(getattr(vexfs_chroma, name)).parameters
    theirs = inspect.signature(getattr(chromadb, name)).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    extra = [ours[parameter] for parameter in list(ours)[len(theirs) :]]
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in extra)


def public_modules() -> list[str]:
    found = pkgutil.walk_packages(chromadb.__path__, "chromadb.", onerror=lambda name: None)
    return sorted(
        module.name
        for module in found
        if not any(part.startswith("_") for part in module.name.split("."))
        and not module.name.startswith(("chromadb.test", "chromadb.proto", "chromadb.cli"))
    )


def test_every_public_module_path_is_the_same_module():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compared = 0
        for name in public_modules():
            alias = "vexfs_chroma" + name.removeprefix("chromadb")
            try:
                theirs = importlib.import_module(name)
            except Exception:  # an optional dependency of chromadb is not installed
                continue
            if alias == "vexfs_chroma.api":
                continue  # ours, which adds to theirs
            assert importlib.import_module(alias) is theirs
            assert theirs.__spec__.name == theirs.__name__ == name
            compared += 1
    assert compared > 80


def test_api_extends_chromadbs():
    for name in dir(chromadb.api):
        if not name.startswith("_"):
            assert getattr(vexfs_chroma.api, name) is getattr(chromadb.api, name), name
    assert issubclass(vexfs_chroma.api.VexfsAPI, ServerAPI)


def test_unknown_modules_are_not_found():
    for name in ("vexfs_chroma.no_such_module", "vexfs_chroma.api.no_such", "vexfs_chroma._x"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(name)


def test_attributes_reach_submodules_without_an_import():
    assert (
        run(
            "import vexfs_chroma as c, chromadb; print(c.api.types is chromadb.api.types, "
            "c.errors is chromadb.errors)"
        )
        == "True True"
    )


def test_import_patches_one_method_only():
    code = """
import chromadb, chromadb.config, chromadb.api.client
from chromadb.api.shared_system_client import SharedSystemClient as S
spots = [chromadb, chromadb.config, chromadb.api.client, S, chromadb.config.Settings]
before = [dict(vars(spot)) for spot in spots]
import vexfs_chroma
for spot, old in zip(spots, before):
    print(*[k for k, v in vars(spot).items() if old.get(k) is not v])
"""
    assert run(code).split() == ["_get_identifier_from_settings"]


def test_other_implementations_are_left_alone():
    settings = chromadb.Settings(is_persistent=True, persist_directory="x")
    assert SharedSystemClient._get_identifier_from_settings(settings) == "x"
    settings.chroma_api_impl = "some.other.API"
    with pytest.raises(ValueError, match="Unsupported Chroma API implementation"):
        SharedSystemClient._get_identifier_from_settings(settings)


def test_methods_of_later_releases_say_that_they_are_not_supported():
    code = """
import abc
from chromadb.api import ServerAPI
ServerAPI.shiny_new_thing = abc.abstractmethod(lambda self, x: None)
ServerAPI.__abstractmethods__ |= {"shiny_new_thing"}
import vexfs_chroma
client = vexfs_chroma.EphemeralClient()
try:
    client._server.shiny_new_thing(1)
except NotImplementedError as error:
    print(error)
"""
    assert "shiny_new_thing" in run(code)


def test_version_is_ours():
    assert vexfs_chroma.__version__ == vexfs_chroma._version.__version__
