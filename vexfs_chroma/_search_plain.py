"""Search objects in their plainest form, as programs of the engine.

chromadb embeds the text of a search by making all of its expression anew, makes a dictionary of
it, and `_search` reads that as if a stranger had sent it.  Nearly every search consists of
chromadb's own objects, with built-in values that are as they should be; those are compiled here
without a step between.  Whatever is unusual or wrong goes the long way, which converts or raises;
so no error is written down twice.  `tests/property/test_search_plain.py` compares both ways.

Only exact types are plain: a subclass may do anything.
"""

from __future__ import annotations

import operator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from chromadb.base_types import SparseVector
from chromadb.execution.expression.operator import (
    Abs,
    Div,
    Exp,
    GroupBy,
    Key,
    Knn,
    Limit,
    Log,
    Max,
    Min,
    Mul,
    Rrf,
    Select,
    Sub,
    Sum,
    Val,
    Where,
)
from chromadb.execution.expression.plan import Search

from vexfs_chroma import _records, _search
from vexfs_chroma._bm25 import Bm25
from vexfs_chroma._engine import _ranked

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from vexfs_chroma._config import IndexView

_UINT32_MAX, _FLOAT_MAX = _search.UINT32_MAX, _search.FLOAT_MAX
_FLOAT = np.dtype(np.float32)
_INTEGER, _NUMBERS, _TEXT = frozenset({int}), frozenset({int, float}), frozenset({str})
_DEPTH = 32  # of expressions; deeper ones are not plain
_SELECTIONS = 256  # that are kept

_ONE_OPERAND = (Abs, Exp, Log)
_TWO_OPERANDS = (Sub, Div)
_MANY_OPERANDS = (Sum, Mul, Max, Min, Rrf)


class _NotPlainError(Exception):
    """The long way must be gone."""


# -- text to be embedded ---------------------------------------------------------------------------


def is_embedded(search: Any) -> bool:
    """Whether chromadb's embedding of a search's text would give an equal search."""
    return (
        type(search) is Search
        and type(search._limit) is Limit
        and type(search._select) is Select
        and type(search._group_by) is GroupBy
        and (search._where is None or isinstance(search._where, Where))
        and _has_no_text(search._rank, _DEPTH)
    )


def _has_no_text(rank: Any, depth: int) -> bool:
    kind = type(rank)
    if kind is Knn:
        return not isinstance(rank.query, str)
    if rank is None or kind is Bm25 or kind is Val:
        return True
    if depth == 0:
        return False
    if kind in _MANY_OPERANDS:
        return type(rank.ranks) is list and all(
            _has_no_text(part, depth - 1) for part in rank.ranks
        )
    if kind in _TWO_OPERANDS:
        return _has_no_text(rank.left, depth - 1) and _has_no_text(rank.right, depth - 1)
    return kind in _ONE_OPERAND and _has_no_text(rank.rank, depth - 1)


# -- whole searches --------------------------------------------------------------------------------


def read(search: Any, indexes: IndexView) -> _search.Payload:
    """A Search, or the JSON of one, ready to be run.

    Raises InvalidArgumentError for what Chroma's server refuses, and what `to_dict()` raises.
    """
    if type(search) is not Search:
        return _search.Payload.read(search, indexes)
    try:
        return _read_plain(search, indexes)
    except Exception:  # noqa: BLE001 - the long way raises it again, if it is an error
        return _search.Payload.read(_search.to_json(search), indexes)


def _read_plain(search: Search, indexes: IndexView) -> _search.Payload:
    limit, group_by, rank = search._limit, search._group_by, search._rank
    offset, most = limit.offset, limit.limit
    if (
        type(limit) is not Limit
        or type(offset) is not int
        or not 0 <= offset <= _UINT32_MAX
        or not (most is None or (type(most) is int and 1 <= most <= _UINT32_MAX))
        or type(group_by) is not GroupBy
    ):
        raise _NotPlainError
    shown = _read_select(search._select)
    program: list[_ranked.Step] | None = None
    if rank is not None:
        program = []
        _compile(rank, indexes, program, _DEPTH)
    where, group = search._where, None
    if group_by.keys or group_by.aggregate is not None:
        group = _search.read_group(group_by.to_dict(), rank)
    return _search.Payload(
        _ranked.RankedSearch(
            None,
            None if where is None else _search.read_filter(where.to_dict(), indexes),
            program,
            group,
            offset,
            -1 if most is None else most,
            shown.include,
        ),
        shown,
    )


def _read_select(select: Any) -> _search.Shown:
    if type(select) is not Select or type(select.keys) is not set:
        raise _NotPlainError
    names = tuple([key.name if type(key) is Key else key for key in select.keys])
    if not _TEXT.issuperset(map(type, names)):
        raise _NotPlainError
    return _shown(names)


@lru_cache(maxsize=_SELECTIONS)
def _shown(names: tuple[str, ...]) -> _search.Shown:
    return _search.Shown(names)


# -- rank expressions ------------------------------------------------------------------------------


def _compile(rank: Any, indexes: IndexView, steps: list[_ranked.Step], depth: int) -> None:
    """Append the steps of an expression, as `_search.compile_rank` has them."""
    compiler = _COMPILERS.get(type(rank))
    if compiler is None or depth == 0:
        raise _NotPlainError
    compiler(rank, indexes, steps, depth - 1)


def _compile_bm25(rank: Bm25, indexes: IndexView, steps: list[_ranked.Step], _depth: int) -> None:
    query, k1, b = rank.query, rank.k1, rank.b
    if type(query) is not str or not _records.is_text(query) or not indexes.fts:
        raise _NotPlainError
    if not (_is_number(k1) and _is_number(b) and 0 <= k1 <= _FLOAT_MAX and 0 <= b <= 1):
        raise _NotPlainError
    default = _check_leaf(rank)
    steps.append(
        _ranked.best_text(query, float(k1), float(b), rank.limit, default, by_rank=rank.return_rank)
    )


def _compile_knn(rank: Knn, indexes: IndexView, steps: list[_ranked.Step], _depth: int) -> None:
    query, default = rank.query, _check_leaf(rank)
    key = rank.key.name if type(rank.key) is Key else rank.key
    if type(key) is not str:
        raise _NotPlainError
    if type(query) is SparseVector:
        if not _is_sound(query) or not indexes.allows(key, "sparse_vector"):
            raise _NotPlainError
        idf = indexes.uses_idf(key)
        step = _ranked.nearest_sparse(
            key, query, rank.limit, default, by_rank=rank.return_rank, idf=idf
        )
    else:
        vector = _read_vector(query)
        step = _ranked.nearest(vector, rank.limit, default, by_rank=rank.return_rank)
    steps.append(step)


def _read_vector(query: Any) -> NDArray[np.float32]:
    if type(query) is np.ndarray:
        if query.dtype == _FLOAT and query.ndim == 1 and query.size:
            return query
        if query.dtype.kind in "fiu":
            return _search.read_vector(query)
    elif type(query) is list:
        return _search.read_vector(query)
    raise _NotPlainError


def _check_leaf(rank: Any) -> float | None:
    """Check what Knn and Bm25 have in common; returns the default."""
    limit, default = rank.limit, rank.default
    if (
        type(limit) is not int
        or not 1 <= limit <= _UINT32_MAX
        or type(rank.return_rank) is not bool
    ):
        raise _NotPlainError
    return None if default is None else _number(default)


def _is_sound(vector: SparseVector) -> bool:
    """Whether SparseVector would take its lists again, which may have been changed."""
    indices, values = vector.indices, vector.values
    return (
        vector.labels is None
        and type(indices) is list
        and type(values) is list
        and len(indices) == len(values)
        and _INTEGER.issuperset(map(type, indices))
        and _NUMBERS.issuperset(map(type, values))
        and (not indices or indices[0] >= 0)
        and all(map(operator.lt, indices, indices[1:]))
    )


def _compile_val(rank: Val, _indexes: IndexView, steps: list[_ranked.Step], _depth: int) -> None:
    steps.append(_ranked.constant(_number(rank.value)))


def _compile_fold(start: float, join: int) -> Callable[..., None]:
    first, last = _ranked.constant(start), [join]

    def compile_fold(rank: Any, indexes: IndexView, steps: list[_ranked.Step], depth: int) -> None:
        parts = rank.ranks
        if type(parts) is not list or not parts:
            raise _NotPlainError
        steps.append(first)
        for part in parts:
            _compile(part, indexes, steps, depth)
            steps.append(last)

    return compile_fold


def _compile_pair(join: int) -> Callable[..., None]:
    last = [join]

    def compile_pair(rank: Any, indexes: IndexView, steps: list[_ranked.Step], depth: int) -> None:
        _compile(rank.left, indexes, steps, depth)
        _compile(rank.right, indexes, steps, depth)
        steps.append(last)

    return compile_pair


def _compile_function(function: int) -> Callable[..., None]:
    last = [function]

    def compile_function(
        rank: Any, indexes: IndexView, steps: list[_ranked.Step], depth: int
    ) -> None:
        _compile(rank.rank, indexes, steps, depth)
        steps.append(last)

    return compile_function


_ZERO, _ONE, _MINUS_ONE = map(_ranked.constant, (0.0, 1.0, -1.0))
_ADD, _MUL, _DIV = [_ranked.R_ADD], [_ranked.R_MUL], [_ranked.R_DIV]


def _compile_rrf(rank: Rrf, indexes: IndexView, steps: list[_ranked.Step], depth: int) -> None:
    """-1 * sum(weight / (k + part)), of the operators that `Rrf.to_dict()` puts together."""
    parts, k, weights = rank.ranks, rank.k, rank.weights
    if type(parts) is not list or not parts or not _is_number(k) or not k > 0 or rank.normalize:
        raise _NotPlainError
    if weights is None:
        weights = [1.0] * len(parts)
    elif (
        type(weights) is not list
        or len(weights) != len(parts)
        or not _NUMBERS.issuperset(map(type, weights))
        or any(weight < 0 for weight in weights)
    ):
        raise _NotPlainError
    constant = _ranked.constant(float(k))
    steps += (_ONE, _MINUS_ONE, _MUL)
    if len(parts) > 1:
        steps.append(_ZERO)
    for part, weight in zip(parts, weights, strict=True):
        if type(part) is Sum:  # k becomes one of its operands
            raise _NotPlainError
        steps += (_ranked.constant(float(weight)), _ZERO, constant, _ADD)
        _compile(part, indexes, steps, depth)
        steps += (_ADD, _DIV)
        if len(parts) > 1:
            steps.append(_ADD)
    steps.append(_MUL)


def _is_number(value: object) -> bool:
    return type(value) is float or type(value) is int


def _number(value: Any) -> float:
    if not _is_number(value):
        raise _NotPlainError
    return float(value)


_COMPILERS: dict[type, Callable[..., None]] = {
    Bm25: _compile_bm25,
    Knn: _compile_knn,
    Val: _compile_val,
    Rrf: _compile_rrf,
    Sum: _compile_fold(*_search.FOLDS["$sum"]),
    Mul: _compile_fold(*_search.FOLDS["$mul"]),
    Max: _compile_fold(*_search.FOLDS["$max"]),
    Min: _compile_fold(*_search.FOLDS["$min"]),
    Sub: _compile_pair(_search.PAIRS["$sub"]),
    Div: _compile_pair(_search.PAIRS["$div"]),
    Abs: _compile_function(_search.FUNCTIONS["$abs"]),
    Exp: _compile_function(_search.FUNCTIONS["$exp"]),
    Log: _compile_function(_search.FUNCTIONS["$log"]),
}
