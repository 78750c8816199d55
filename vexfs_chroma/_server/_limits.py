"""What one request may ask for, beyond what Chroma checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vexfs_chroma._server._errors import invalid

if TYPE_CHECKING:
    from vexfs_chroma._server._config import LimitsSection


def check_filters(where: Any, where_document: Any, limits: LimitsSection) -> None:
    """Raise HttpError for filters that are empty, too deep, or have too long a pattern."""
    if where is not None:
        if not where:
            raise invalid("Invalid where clause")
        _check(where, limits)
    if where_document is not None:
        if not where_document:
            raise invalid("Invalid where document clause")
        _check(where_document, limits)


def _check(clause: Any, limits: LimitsSection) -> None:
    level = [clause]
    for _ in range(limits.filter_depth):
        deeper: list[Any] = []
        for node in level:
            if not isinstance(node, dict):
                continue
            for key, value in node.items():
                if key in ("$and", "$or"):
                    if isinstance(value, list):
                        deeper.extend(value)
                elif key in ("$regex", "$not_regex"):
                    _check_pattern(value, limits)
                elif isinstance(value, dict):
                    for pattern in (value.get("$regex"), value.get("$not_regex")):
                        _check_pattern(pattern, limits)
        if not deeper:
            return
        level = deeper
    raise invalid(f"a filter is nested deeper than {limits.filter_depth} levels")


def _check_pattern(pattern: Any, limits: LimitsSection) -> None:
    if isinstance(pattern, str) and len(pattern) > limits.regex_chars:
        raise invalid(
            f"a pattern has {len(pattern)} characters, more than the server's limit of "
            f"{limits.regex_chars}"
        )


def check_rows(rows: int, limits: LimitsSection) -> None:
    """Raise HttpError for more records in one write than are allowed."""
    if rows > limits.rows:
        raise invalid(
            f"{rows} records in one request, more than the server's limit of {limits.rows}"
        )


def check_steps(steps: int, limits: LimitsSection) -> None:
    """Raise HttpError for more writes in one transaction than are allowed."""
    if steps > limits.steps:
        raise invalid(
            f"{steps} writes in one transaction, more than the server's limit of {limits.steps}"
        )


def check_results(queries: int, n_results: int, limits: LimitsSection) -> None:
    """Raise HttpError where one query may find more than is allowed."""
    if queries * n_results > limits.results:
        raise invalid(
            f"{queries} queries for {n_results} results each, more than the server's limit of "
            f"{limits.results} results"
        )


def check_values(keys: int, limit: int | None, limits: LimitsSection) -> int:
    """How many values of each key to ask the engine for.

    One more than may be found where the request names no limit: see `check_listed`.  Raises
    HttpError for too many keys, and for a limit that allows more values than the server does.
    """
    if keys > limits.keys:
        raise invalid(f"{keys} metadata keys, more than the server's limit of {limits.keys}")
    most = limits.results // max(1, keys)
    if limit is None:
        return most + 1
    if limit > most:
        raise invalid(
            f"{limit} values for each of {keys} keys, more than the server's limit of "
            f"{limits.results} results"
        )
    return limit


def check_listed(keys: int, found: int, limit: int | None, limits: LimitsSection) -> None:
    """Raise HttpError where a key has more values than one answer may have, and no limit is set."""
    most = limits.results // max(1, keys)
    if limit is None and found > most:
        raise invalid(f"there are more than {most} values of a key; ask for fewer, by limit")


def check_found(payloads: list[dict[str, Any]], limits: LimitsSection) -> None:
    """Raise HttpError where searches name more results, or candidates, than are allowed."""
    named = 0
    for payload in payloads:
        limit = payload.get("limit")
        ends = limit.get("limit") if isinstance(limit, dict) else None
        named += ends if isinstance(ends, int) else 1
        named += _candidates(payload.get("rank"))
    if named > limits.results:
        raise invalid(
            f"searches for {named} results and candidates, more than the server's limit of "
            f"{limits.results} results"
        )


def _candidates(rank: Any) -> int:
    """What the leaves of a rank expression look for, level by level: it may be of any depth."""
    found, level = 0, [rank]
    while level:
        deeper: list[Any] = []
        for node in level:
            if isinstance(node, list):
                deeper.extend(node)
            elif isinstance(node, dict):
                for key, value in node.items():
                    if key in ("$knn", "$bm25") and isinstance(value, dict):
                        most = value.get("limit", 16)
                        found += most if isinstance(most, int) else 0
                    else:
                        deeper.append(value)
        level = deeper
    return found
