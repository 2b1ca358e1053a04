"""Queries over descriptions of tasks, in the words that ipyparallel's users know.

``{"status": "ok"}``, ``{"duration": {"$gt": 1.0}, "engine_id": {"$in": [0, 1]}}``: all conditions
must hold.  A value that a task does not have (it is None) fits no comparison.
"""

from __future__ import annotations

import datetime as dt
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ipyasyncresult.core.arguments import check_names

__all__ = ["OPERATORS", "compile_query", "select"]

Test = Callable[[Any], bool]

_SIMPLE: dict[str, Callable[[Any, Any], Any]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$in": lambda value, several: value in several,
    "$nin": lambda value, several: value not in several,
    "$exists": lambda value, wanted: (value is not None) == wanted,
}
_ORDERED: dict[str, Callable[[Any, Any], Any]] = {
    "$lt": operator.lt,
    "$lte": operator.le,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$regex": lambda value, pattern: re.search(pattern, value),
    "$mod": lambda value, pair: value % pair[0] == pair[1],
}
OPERATORS = (*_SIMPLE, *_ORDERED)


def compile_query(query: Mapping[str, Any] | None) -> Callable[[Mapping[str, Any]], bool]:
    """A function that tells whether a task's description fits.

    Raises
    ------
    TypeError
        When `query` is no dict.
    ValueError
        When an operator is not one of :data:`OPERATORS`.
    """
    if query is not None and not isinstance(query, Mapping):
        raise TypeError(f"query must be a dict or None, not {type(query).__name__} {query!r}")
    tests = [(key, test) for key, wanted in (query or {}).items() for test in _tests(wanted)]
    return lambda row: all(test(row.get(key)) for key, test in tests)


def select(
    rows: Iterable[Mapping[str, Any]], query: Mapping[str, Any] | None, keys: Sequence[str] | None
) -> list[dict[str, Any]]:
    """Copies of the descriptions that fit, with these keys alone if there are any.

    Raises
    ------
    TypeError, ValueError
        As :func:`compile_query`; when `keys` are not strings.
    """
    fits = compile_query(query)
    wanted = None if keys is None else check_names(keys, "keys")
    found = [row for row in rows if fits(row)]
    return [dict(row) if wanted is None else {key: row.get(key) for key in wanted} for row in found]


def _tests(wanted: Any) -> list[Test]:
    if not isinstance(wanted, Mapping):
        return [_test("$eq", wanted)]
    unknown = [name for name in wanted if name not in OPERATORS]
    if unknown:
        raise ValueError(f"a query knows {', '.join(OPERATORS)}, not {unknown[0]!r}")
    return [_test(name, value) for name, value in wanted.items()]


def _test(name: str, wanted: Any) -> Test:
    if isinstance(wanted, dt.datetime):  # times of tasks are seconds since the epoch
        wanted = wanted.timestamp()
    if name in _SIMPLE:
        simple = _SIMPLE[name]
        return lambda value: bool(simple(value, wanted))
    ordered = _ORDERED[name]
    return lambda value: value is not None and bool(ordered(value, wanted))
