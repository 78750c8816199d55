"""Empty lists in metadata, for collections that ask for it.

Chroma's clients refuse them, and its server leaves them out without a word.  A collection whose own
metadata has `EMPTY_LISTS` true keeps them; chromadb checks the rest of the metadata as always.
"""

from __future__ import annotations

from typing import Any

from chromadb.api.models.Collection import Collection as ChromaCollection

EMPTY_LISTS = "vexfs:empty_lists"
"""The key of a collection's metadata that says so."""


class EmptyLists(ChromaCollection):
    """Writing records whose metadata has empty lists."""

    def _validate_and_prepare_add_request(self, **columns: Any) -> Any:
        return self._with_empty_lists(super()._validate_and_prepare_add_request, columns)

    def _validate_and_prepare_update_request(self, **columns: Any) -> Any:
        return self._with_empty_lists(super()._validate_and_prepare_update_request, columns)

    def _validate_and_prepare_upsert_request(self, **columns: Any) -> Any:
        return self._with_empty_lists(super()._validate_and_prepare_upsert_request, columns)

    def _with_empty_lists(self, prepare: Any, columns: dict[str, Any]) -> Any:
        """What chromadb makes of a write, with the empty lists that it would refuse."""
        if not (self._model.metadata or {}).get(EMPTY_LISTS):
            return prepare(**columns)
        metadatas, keys = take_out(columns["metadatas"])
        request = prepare(**columns | {"metadatas": metadatas})
        put_back(request["metadatas"], keys)
        return request


def take_out(metadatas: Any) -> tuple[Any, dict[int, list[str]]]:
    """Metadata of a write without empty lists, and the keys that had them, by the record."""
    single = isinstance(metadatas, dict)
    records = [metadatas] if single else metadatas
    if not isinstance(records, list):
        return metadatas, {}
    keys = {
        row: empty
        for row, metadata in enumerate(records)
        if isinstance(metadata, dict)
        and (empty := [key for key, value in metadata.items() if _is_empty(value)])
    }
    if not keys:
        return metadatas, {}
    left = list(records)
    for row, empty in keys.items():
        left[row] = {k: v for k, v in records[row].items() if k not in empty} or None
    return left, keys


def put_back(metadatas: list[Any], keys: dict[int, list[str]]) -> None:
    """Into what chromadb makes of them."""
    for row, empty in keys.items():
        metadatas[row] = {**(metadatas[row] or {}), **{key: [] for key in empty}}


def _is_empty(value: Any) -> bool:
    return isinstance(value, list) and not value
