"""Chroma's Search: payloads as programs of the engine, results in Chroma's shape.

A payload is taken as the JSON that `Search.to_dict()` gives, and checked here as Chroma's server
checks it: the same JSON may come over HTTP.  A rank expression becomes steps of a stack machine
(vexfs.h, "ranked search"), made without recursion; its size and depth are limited by the engine.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from chromadb.api.types import SearchResult
from chromadb.base_types import SparseVector
from chromadb.errors import InvalidArgumentError

from vexfs_chroma import _engine, _records
from vexfs_chroma._engine import _ranked
from vexfs_chroma._where import Clause

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vexfs_chroma._config import IndexView
    from vexfs_chroma._engine import Filter

ID, DOCUMENT, EMBEDDING, METADATA, SCORE = "#id", "#document", "#embedding", "#metadata", "#score"
_SPECIAL = (DOCUMENT, EMBEDDING, METADATA, SCORE)
UINT32_MAX = 2**32 - 1
_SHOWN = 80
"""Characters of an operand that an error shows."""
FLOAT_MAX = float(np.finfo(np.float32).max)

# Operators of any number of operands: what they begin with, and what joins the next operand.
FOLDS = {
    "$sum": (0.0, _ranked.R_ADD),
    "$mul": (1.0, _ranked.R_MUL),
    "$max": (-FLOAT_MAX, _ranked.R_MAX),
    "$min": (FLOAT_MAX, _ranked.R_MIN),
}
PAIRS = {"$sub": _ranked.R_SUB, "$div": _ranked.R_DIV}
FUNCTIONS = {"$abs": _ranked.R_ABS, "$exp": _ranked.R_EXP, "$log": _ranked.R_LOG}


class Shown:
    """What the result of a search shows of its records."""

    __slots__ = ("fields", "include", "keys", "metadata", "score")

    def __init__(self, names: Iterable[str]) -> None:
        """Of the selected names."""
        wanted = set(names)
        self.fields = sorted(wanted.difference(_SPECIAL))
        """The fields of metadata that are selected one by one."""
        self.keys = [key for key in _SPECIAL if key in wanted] + self.fields
        """All of them, in the order of Chroma's results."""
        self.metadata = METADATA in wanted
        self.score = SCORE in wanted
        self.include = _ranked.include(
            documents=DOCUMENT in wanted,
            metadatas=self.metadata or bool(self.fields),
            vectors=EMBEDDING in wanted,
        )


class Payload(NamedTuple):
    """One search, ready to be run."""

    request: _ranked.RankedSearch
    shown: Shown

    @classmethod
    def read(cls, payload: Any, indexes: IndexView) -> Payload:
        """Raises InvalidArgumentError for what Chroma's server refuses."""
        if not isinstance(payload, dict):
            raise _invalid(f"a search must be an object, got {type(payload).__name__}")
        unknown = set(payload) - {"filter", "rank", "group_by", "limit", "select"}
        if unknown:
            raise _invalid(f"a search has no field {min(map(str, unknown))!r}")
        rank = payload.get("rank")
        offset, limit = read_limit(payload.get("limit"))
        shown = _read_select(payload.get("select"))
        request = _ranked.RankedSearch(
            ids=None,
            filter=read_filter(payload.get("filter"), indexes),
            program=None if rank is None else compile_rank(rank, indexes),
            group=read_group(payload.get("group_by"), rank),
            offset=offset,
            limit=limit,
            include=shown.include,
        )
        return cls(request, shown)


def run(engine: _engine.Collection, payloads: Sequence[Payload]) -> SearchResult:
    """Do the searches, all on one state of the collection."""
    found = engine.search([payload.request for payload in payloads])
    pairs = [(rows, payload.shown) for rows, payload in zip(found, payloads, strict=True)]
    return SearchResult(
        ids=[rows.ids for rows in found],
        documents=[rows.documents for rows in found],
        embeddings=[None if r.vectors is None else r.vectors.tolist() for r in found],
        metadatas=[_shown_metadatas(engine, rows.metadatas, shown) for rows, shown in pairs],
        scores=[rows.scores if shown.score else None for rows, shown in pairs],
        select=[shown.keys.copy() for _, shown in pairs],
    )


def _shown_metadatas(
    engine: _engine.Collection, found: list[dict[str, Any] | None] | None, shown: Shown
) -> list[dict[str, Any] | None] | None:
    metadatas = _records.visible_metadatas(engine, found)
    if metadatas is None or shown.metadata:
        return metadatas
    fields = shown.fields
    return [
        ({key: metadata[key] for key in fields if key in metadata} or None) if metadata else None
        for metadata in metadatas
    ]


# -- filter, limit, select, group ----------------------------------------------------------------


class _SearchClause(Clause):
    """A `where` in which "#id" is the id of the record."""

    __slots__ = ()

    def _compare(self, key: str, op_name: str, operand: Any) -> Filter:
        if key == ID:
            listed = [operand] if op_name in {"$eq", "$ne"} else operand
            if (
                op_name in {"$eq", "$ne", "$in", "$nin"}
                and isinstance(listed, list)
                and listed
                and all(isinstance(id, str) and _records.is_text(id) for id in listed)
            ):
                is_in = op_name in {"$eq", "$in"}
                return [_engine.F_ID_IN if is_in else _engine.F_ID_NOT_IN, listed]
        try:
            return super()._compare(key, op_name, operand)
        except InvalidArgumentError as error:  # chromadb checks no operand before
            shown = repr(operand)
            shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "..."
            raise InvalidArgumentError(f"{error}: {op_name} of {key!r} takes no {shown}") from error


def read_filter(where: Any, indexes: IndexView) -> Filter | None:
    if not where:
        return None
    clause = _SearchClause(where, None)
    clause.check(indexes)
    return clause.filter


def read_limit(given: Any) -> tuple[int, int]:
    """Offset and limit; -1 for all."""
    if given is None:
        return 0, -1
    if not isinstance(given, dict) or set(given) - {"offset", "limit"}:
        raise _invalid('limit must be an object with "offset" and "limit"')
    limit = given.get("limit")
    return (
        _read_count("offset", given.get("offset", 0), least=0),
        -1 if limit is None else _read_count("limit", limit, least=1),
    )


def _read_select(given: Any) -> Shown:
    keys: Any = []
    if given is not None:
        keys = given.get("keys", []) if isinstance(given, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise _invalid('select must be an object with "keys", a list of strings')
    return Shown(keys)


def read_group(given: Any, rank: Any) -> list[Any] | None:
    if not given:
        return None
    if not isinstance(given, dict):
        raise _invalid(f"group_by must be an object, got {type(given).__name__}")
    by, aggregate = given.get("keys") or [], given.get("aggregate")
    if not _are_names(by):
        raise _invalid("group_by keys must be a list of strings")
    if aggregate is None:
        if not by:
            return None
        raise _group_error("group_by aggregate must be specified when keys are provided")
    if not by:
        raise _group_error("group_by keys must not be empty when aggregate is specified")
    for key in by:
        if key in _SPECIAL:
            raise _group_error(f"group_by keys must be metadata fields, got {key}")
    if not isinstance(aggregate, dict) or len(aggregate) != 1:
        raise _invalid("aggregate must be an object with exactly one operator")
    ((op, operands),) = aggregate.items()
    if op not in {"$min_k", "$max_k"} or not isinstance(operands, dict):
        raise _invalid(f"unknown aggregate {op!r}, expected '$min_k' or '$max_k'")
    order, k = operands.get("keys") or [], operands.get("k")
    if not _are_names(order):
        raise _invalid("aggregate keys must be a list of strings")
    if not order:
        raise _group_error("aggregate keys must not be empty")
    if any(key in _SPECIAL and key != SCORE for key in order):
        raise _group_error(
            "aggregate keys must be metadata fields or #score "
            "(cannot use #document, #embedding, or #metadata)"
        )
    if isinstance(k, int) and k == 0:
        raise _group_error("aggregate k must be greater than 0")
    if rank is None:
        raise _group_error("group_by requires rank expression to be specified")
    return _ranked.group(
        by,
        [None if key == SCORE else key for key in order],
        _read_count("aggregate k", k, least=1),
        highest=op == "$max_k",
    )


def _are_names(keys: Any) -> bool:
    return isinstance(keys, list) and all(
        isinstance(key, str) and _records.is_text(key) for key in keys
    )


def _read_count(name: str, value: Any, *, least: int) -> int:
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_integer or not least <= value <= UINT32_MAX:
        raise _invalid(f"{name} must be an integer of {least} to {UINT32_MAX}, got {value!r}")
    return int(value)


# -- rank expressions ----------------------------------------------------------------------------


def compile_rank(rank: Any, indexes: IndexView) -> list[_ranked.Step]:
    """The steps of an expression, operands before operators."""
    steps: list[_ranked.Step] = []
    left: list[tuple[bool, Any]] = [(False, rank)]  # (a finished step?, it or an expression)
    while left:
        is_step, node = left.pop()
        if is_step:
            steps.append(node)
            continue
        if not isinstance(node, dict) or len(node) != 1:
            raise _invalid("a rank expression must be an object with exactly one operator")
        ((op, operand),) = node.items()
        if op in FOLDS:
            start, join = FOLDS[op]
            if not isinstance(operand, list) or not operand:
                raise _invalid(f"{op} needs a list of rank expressions")
            steps.append(_ranked.constant(start))
            for part in reversed(operand):
                left += [(True, [join]), (False, part)]
        elif op in PAIRS:
            if not isinstance(operand, dict) or set(operand) != {"left", "right"}:
                raise _invalid(f'{op} needs an object with "left" and "right"')
            left += [(True, [PAIRS[op]]), (False, operand["right"]), (False, operand["left"])]
        elif op in FUNCTIONS:
            left += [(True, [FUNCTIONS[op]]), (False, operand)]
        elif op == "$val":
            steps.append(_ranked.constant(_read_number("$val", operand)))
        elif op == "$knn":
            steps.append(_compile_knn(operand, indexes))
        elif op == "$bm25":
            steps.append(_compile_bm25(operand, indexes))
        else:
            raise _invalid(f"unknown rank operator {op!r}")
    return steps


def _compile_bm25(given: Any, indexes: IndexView) -> _ranked.Step:
    _check_leaf("$bm25", given, {"k1", "b"})
    query = given["query"]
    if not isinstance(query, str) or not _records.is_text(query):
        raise _invalid("$bm25 query must be text")
    indexes.check_fts()
    k1 = _read_number("$bm25 k1", given.get("k1", 1.2))
    b = _read_number("$bm25 b", given.get("b", 0.75))
    if not (0 <= k1 <= FLOAT_MAX and 0 <= b <= 1):
        raise _invalid(f"$bm25 needs k1 >= 0 and b between 0 and 1, got {k1} and {b}")
    limit, default, by_rank = _read_leaf("$bm25", given)
    return _ranked.best_text(query, k1, b, limit, default, by_rank=by_rank)


def _check_leaf(op: str, given: Any, more: set[str]) -> None:
    if not isinstance(given, dict) or "query" not in given:
        raise _invalid(f'{op} needs an object with "query"')
    unknown = set(given) - {"query", "limit", "default", "return_rank"} - more
    if unknown:
        raise _invalid(f"{op} has no field {min(map(str, unknown))!r}")


def _compile_knn(given: Any, indexes: IndexView) -> _ranked.Step:
    _check_leaf("$knn", given, {"key"})
    query, key = given["query"], given.get("key", EMBEDDING)
    if not isinstance(key, str):
        raise _invalid(f"$knn key must be a string, got {key!r}")
    limit, default, by_rank = _read_leaf("$knn", given)
    if isinstance(query, dict):
        indexes.check(key, "sparse_vector")
        return _ranked.nearest_sparse(
            key,
            _read_sparse(query),
            limit,
            default,
            by_rank=by_rank,
            idf=indexes.uses_idf(key),
        )
    if isinstance(query, str):
        raise _invalid("$knn query must be embedded, got text")
    return _ranked.nearest(read_vector(query), limit, default, by_rank=by_rank)


def _read_leaf(op: str, given: dict[str, Any]) -> tuple[int, float | None, bool]:
    """The limit, the default and whether ranks are wanted, of what searches."""
    limit = _read_count(f"{op} limit", given.get("limit", 16), least=1)
    default = given.get("default")
    by_rank = given.get("return_rank", False)
    if not isinstance(by_rank, bool):
        raise _invalid(f"{op} return_rank must be true or false, got {by_rank!r}")
    return limit, None if default is None else _read_number(f"{op} default", default), by_rank


def _read_number(name: str, value: Any) -> float:
    if not isinstance(value, bool) and isinstance(value, int | float | np.number):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    raise _invalid(f"{name} must be a number, got {value!r}")


def _read_sparse(query: dict[str, Any]) -> SparseVector:
    try:
        return SparseVector.from_dict(query)
    except (KeyError, TypeError, ValueError) as error:
        raise _invalid(f"Invalid sparse vector in KNN query: {error}") from error


def read_vector(query: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    try:
        with np.errstate(over="ignore"):
            vector = np.asarray(query, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise _invalid(f"$knn query must be a list of numbers: {error}") from error
    if vector.ndim != 1 or not vector.size:
        raise _invalid("$knn query must be a list of numbers")
    return vector


def _group_error(text: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"Validation error: group_by: {text}")


def _invalid(text: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"Invalid search: {text}")


def to_json(search: Any) -> Any:
    """A search as the JSON that a server would be sent."""
    try:
        return search.to_dict()
    except RecursionError as error:
        raise _invalid("an expression is nested too deeply") from error
