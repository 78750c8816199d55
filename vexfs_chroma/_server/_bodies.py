"""The JSON bodies of requests.  msgspec decodes straight into these, by type.

Fields that a struct does not have are ignored, as Chroma does.  Embeddings stay bytes here:
`_vectors.py` makes arrays of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from chromadb.base_types import SparseVector
from msgspec import Meta, Raw, Struct, field

from vexfs_chroma._server._errors import HttpError, invalid

if TYPE_CHECKING:
    from collections.abc import Callable

_FLOAT32_MAX = (2 - 2**-23) * 2.0**127
UInt32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Include = Literal["distances", "documents", "embeddings", "metadatas", "uris"]

_NUMBERS: dict[str, Any] = {"type": "array", "items": {"type": "number"}}
_ROWS: dict[str, Any] = {"type": "array", "items": _NUMBERS}
_ROWS_OR_BASE64: dict[str, Any] = {
    "description": "One embedding per record: numbers, or base64 of little-endian float32.",
    "oneOf": [_ROWS, {"type": "array", "items": {"type": "string"}}],
}
_SOME_ROWS: dict[str, Any] = {
    "description": "One embedding per record, or null: numbers, or base64 of float32.",
    "oneOf": [
        {"type": "null"},
        {"type": "array", "items": {"type": ["array", "null"], "items": {"type": "number"}}},
        {"type": "array", "items": {"type": ["string", "null"]}},
    ],
}
QueryEmbeddings = Annotated[Raw, Meta(extra_json_schema=_ROWS)]
Embeddings = Annotated[Raw, Meta(extra_json_schema=_ROWS_OR_BASE64)]
SomeEmbeddings = Annotated[Raw, Meta(extra_json_schema=_SOME_ROWS)]

_STEP_BODY: dict[str, Any] = {
    "description": "As the route of the operation takes it.",
    "anyOf": [
        {"$ref": f"#/components/schemas/{name}"}
        for name in ("AddRecords", "UpdateRecords", "DeleteRecords")
    ],
}
StepBody = Annotated[Raw, Meta(extra_json_schema=_STEP_BODY)]


class Sparse(Struct):
    """A sparse vector as a value of metadata; "#type" is not required, as in Chroma."""

    indices: list[UInt32]
    values: list[float]
    tokens: list[str] | None = None


Value = bool | int | float | str | list[bool | int | float | str] | Sparse | None
Metadata = dict[str, Value]


class CreateTenant(Struct):
    """POST /tenants."""

    name: str


class UpdateTenant(Struct):
    """PATCH /tenants/{tenant}."""

    resource_name: str


class CreateDatabase(Struct):
    """POST /tenants/{tenant}/databases."""

    name: str


class CreateCollection(Struct):
    """POST .../collections."""

    name: str
    metadata: Metadata | None = None
    configuration: dict[str, Any] | None = None
    schema: dict[str, Any] | None = None
    get_or_create: bool = False


class UpdateCollection(Struct):
    """PUT .../collections/{id}."""

    new_name: str | None = None
    new_metadata: Metadata | None = None
    new_configuration: dict[str, Any] | None = None


class ForkCollection(Struct):
    """POST .../fork."""

    new_name: str


class AddRecords(Struct):
    """POST .../add and .../upsert."""

    ids: list[str]
    embeddings: Embeddings
    metadatas: list[Metadata | None] | None = None
    documents: list[str | None] | None = None
    uris: list[str | None] | None = None


class UpdateRecords(Struct):
    """POST .../update."""

    ids: list[str]
    embeddings: SomeEmbeddings = field(default_factory=Raw)
    metadatas: list[Metadata | None] | None = None
    documents: list[str | None] | None = None
    uris: list[str | None] | None = None


class GetRecords(Struct):
    """POST .../get."""

    ids: list[str] | None = None
    where: Any = None
    where_document: Any = None
    limit: UInt32 | None = None
    offset: UInt32 | None = None
    include: list[Include] = field(default_factory=lambda: ["documents", "metadatas"])


class QueryRecords(Struct):
    """POST .../query."""

    query_embeddings: QueryEmbeddings
    n_results: UInt32 | None = 10
    ids: list[str] | None = None
    where: Any = None
    where_document: Any = None
    include: list[Include] = field(default_factory=lambda: ["documents", "metadatas", "distances"])


class DeleteRecords(Struct):
    """POST .../delete."""

    ids: list[str] | None = None
    where: Any = None
    where_document: Any = None
    limit: UInt32 | None = None


class SearchRecords(Struct):
    """POST .../search."""

    searches: list[dict[str, Any]]
    read_level: Literal["index_and_wal", "index_only", "index_and_bounded_wal"] = "index_and_wal"


# -- beyond Chroma: .../vexfs/... ----------------------------------------------------------------


class CountRecords(Struct):
    """POST .../vexfs/count and .../vexfs/keys."""

    where: Any = None
    where_document: Any = None


class RangeOfKey(Struct):
    """POST .../vexfs/min_max."""

    key: str
    where: Any = None
    where_document: Any = None


class ValuesOfKey(RangeOfKey):
    """POST .../vexfs/distinct."""

    limit: UInt32 | None = None


class CountValues(Struct):
    """POST .../vexfs/facets."""

    keys: list[str]
    where: Any = None
    where_document: Any = None
    limit: UInt32 | None = None


class GetOrdered(GetRecords):
    """POST .../vexfs/get."""

    order_by: str | None = None
    descending: bool = False
    after: str | None = None


class QueryExactly(QueryRecords):
    """POST .../vexfs/query."""

    exact: bool = True


class ExplainQuery(Struct):
    """POST .../vexfs/explain."""

    query_embeddings: QueryEmbeddings
    n_results: UInt32 = 10
    ids: list[str] | None = None
    where: Any = None
    where_document: Any = None
    exact: bool = False


class CheckRecall(Struct):
    """POST .../vexfs/recall_check."""

    n: int = 100
    k: int = 10
    seed: int = 0


class Reindex(Struct):
    """POST .../vexfs/reindex."""

    space: str | None = None
    max_neighbors: int | None = None
    ef_construction: int | None = None


class BuildIndex(Struct):
    """POST .../vexfs/build_index."""

    flush: bool = True


class MeasureTuning(Struct):
    """POST .../vexfs/tuning."""

    queries: Annotated[int, Meta(ge=1, le=200)] = 50
    k: Annotated[int, Meta(ge=1, le=1000)] = 10
    ef: Annotated[
        list[Annotated[int, Meta(ge=0, le=10_000)]], Meta(min_length=1, max_length=12)
    ] = field(default_factory=lambda: [0])
    seed: UInt32 = 0


class Step(Struct):
    """A write of a transaction."""

    collection_id: str
    operation: Literal["add", "update", "upsert", "delete"]
    body: StepBody


class Transaction(Struct):
    """POST .../databases/{database}/vexfs/transaction."""

    steps: list[Step]


# -- what Chroma's server has for its cloud --------------------------------------------------------


class AttachFunction(Struct):
    """POST .../functions/attach."""

    name: str
    function_id: str
    output_collection: str
    params: Any = None


class DetachFunction(Struct):
    """POST .../attached_functions/{name}/detach."""

    delete_output: bool = False


_NO_NAME = re.compile(r"Expected `str`, got .* - at `\$\.include\[.*`")
_PLACE = re.compile(r" - at `\$\.?(.*)`$")


def decode(decoder: msgspec.json.Decoder[Any], body: bytes | memoryview) -> Any:
    """The body by its type.

    What is no JSON is 400, and JSON that does not fit 422, as in Chroma; the texts are msgspec's,
    with the place first.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        # No JSON to Chroma, as NaN is none.
        if "Number out of range" in str(error) or _NO_NAME.fullmatch(str(error)):
            raise invalid(f"Failed to parse the request body as JSON: {error}") from error
        raise unfit(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"Failed to parse the request body as JSON: {error}") from error
    except RecursionError as error:
        raise invalid("Failed to parse the request body as JSON: nested too deeply") from error


def unfit(text: str) -> HttpError:
    """422, of msgspec's text."""
    place = _PLACE.search(text)
    where = place[1] + ": " if place and place[1] else ""
    what = text[: place.start()] if place else text
    missing = re.fullmatch(r"Object missing required field `(.*)`", what)
    if missing:
        what = f"missing field `{missing[1]}`"
    return HttpError(
        422,
        "ChromaError",
        f"Failed to deserialize the JSON body into the target type: {where}{what}",
    )


def as_metadatas(
    metadatas: list[Metadata | None] | None,
    field: str = "metadatas",
    *,
    keep_none: bool = False,
    keep_empty: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any] | None] | None:
    """Metadata as the API takes it: sparse vectors are chromadb's, lists hold one type.

    An empty list is nothing, and so is metadata without a key, as in Chroma; `keep_none`: None
    stands for the removal of a key; `keep_empty`, which is asked only when there is one: an empty
    list is one.
    """
    if metadatas is None:
        return None
    for i, metadata in enumerate(metadatas):
        for key, value in list(metadata.items()) if metadata else ():
            kind = type(value)
            if kind is str or kind is int or kind is float or kind is bool:
                continue
            if isinstance(value, list) and value:
                metadata[key] = _one_type(value, f"{field}[{i}].{key}")  # type: ignore[index]
            elif isinstance(value, Sparse):
                metadata[key] = _as_sparse_vector(value)  # type: ignore[index,assignment]
            elif kind is list and keep_empty():
                continue
            elif keep_none:
                metadata[key] = None  # type: ignore[index]
            elif kind is list:
                del metadata[key]  # type: ignore[union-attr]
            else:
                raise unfit(f"null is no value of metadata - at `$.{field}[{i}].{key}`")
        if not metadata:
            metadatas[i] = None
    return metadatas


def _one_type(values: list[Any], place: str) -> list[Any]:
    kinds = set(map(type, values))
    if len(kinds) == 1:
        return values
    if kinds != {int, float}:
        raise unfit(f"the values of a list must have one type - at `$.{place}`")
    return [float(value) for value in values]


def _as_sparse_vector(value: Sparse) -> SparseVector:
    if any(abs(number) > _FLOAT32_MAX for number in value.values):
        raise invalid("the values of a sparse vector must be finite float32 numbers")
    try:
        return SparseVector(indices=value.indices, values=value.values, labels=value.tokens)
    except ValueError as error:
        raise invalid(str(error)) from error
