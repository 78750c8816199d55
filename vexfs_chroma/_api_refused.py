"""What Chroma's local mode refuses, and what later releases of chromadb may ask for."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

from chromadb import __version__ as _chromadb_version
from chromadb.api import ServerAPI
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from chromadb.api.models.AttachedFunction import AttachedFunction

_NO_FUNCTIONS = (
    "Attached functions are only supported when connecting to a Chroma server via HttpClient. "
    "The Rust bindings (embedded mode) do not support attached function operations."
)


class RefusedOperations(ServerAPI):
    """The part of the interface that answers "not implemented", in Chroma's words."""

    @override
    def attach_function(
        self,
        function_id: str,
        name: str,
        input_collection_id: UUID,
        output_collection: str,
        params: dict[str, Any] | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> tuple[AttachedFunction, bool]:
        raise NotImplementedError(_NO_FUNCTIONS)

    @override
    def get_attached_function(
        self,
        name: str,
        input_collection_id: UUID,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> AttachedFunction:
        raise NotImplementedError(_NO_FUNCTIONS)

    @override
    def detach_function(
        self,
        name: str,
        input_collection_id: UUID,
        delete_output: bool = False,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> bool:
        raise NotImplementedError(_NO_FUNCTIONS)


def implement_unknown_methods(api: type[ServerAPI]) -> None:
    """Let the class be made under later releases of chromadb: their new methods say so."""

    def stub(name: str) -> Callable[..., Any]:
        def unsupported(self: object, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError(
                f"{name} came with chromadb {_chromadb_version}; this release of vexfs_chroma "
                "does not support it"
            )

        unsupported.__name__ = name
        return unsupported

    for name in api.__abstractmethods__:
        setattr(api, name, stub(name))
    abc.update_abstractmethods(api)
