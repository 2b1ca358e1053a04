"""Tasks of threads that share the memory of who asks: nothing is packed, nothing is copied.

Functions, arguments and results are the objects themselves, as with a bare thread pool.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ipyasyncresult.core.failure import Raised
from ipyasyncresult.worker.awaiting import is_awaited, run_coroutine
from ipyasyncresult.worker.chunks import ChunkResult, ChunkRun
from ipyasyncresult.worker.failures import describe_call, keep_failure
from ipyasyncresult.worker.namespace import Reference, resolve_reference

__all__ = ["Referred", "Referring", "call_function", "name_of", "run_chunk"]

Ending = tuple[bool, Any, int]
"""Whether the task returned; its value, or how it failed; how many of its items failed."""


def call_function(function: Callable[..., Any], packed: Any) -> Ending:
    """Call once; coroutines are awaited.  Never raises."""
    args: Any = None
    kwargs: dict[str, Any] = {}
    try:
        args, kwargs = packed
        value = function(*args, **kwargs)
        return True, run_coroutine(value) if is_awaited(value) else value, 0
    except BaseException as error:  # noqa: BLE001  every task ends in an outcome
        name = name_of(function)
        inputs = f"{name}(...)" if args is None else describe_call(name, args, kwargs)
        return False, keep_failure(error, inputs=inputs), 0


def run_chunk(function: Callable[..., Any], items: Sequence[Any] | Referring, star: bool) -> Ending:
    """Call for each item; one that fails does not lose its siblings.  Never raises."""
    try:
        if isinstance(items, Referring):
            items = list(items)
        if len(items) == 1:
            return _run_item(function, items[0], star)
        run = _Run(_Bound(function), items, star, None)
        run.work()
    except BaseException as error:  # noqa: BLE001  as above; the user's sequence, or an interrupt
        return False, keep_failure(error, inputs=f"{name_of(function)}(...)"), 0
    if run.failures:
        return True, ChunkResult(run.values, run.failures), len(run.failures)
    return True, run.values, 0


def _run_item(function: Callable[..., Any], item: Any, star: bool) -> Ending:
    """A chunk of one item, as a map has them as a rule."""
    try:
        value = function(*item) if star else function(item)
        return True, [run_coroutine(value) if is_awaited(value) else value], 0
    except BaseException as error:  # noqa: BLE001  as above
        inputs = describe_call(name_of(function), item if star else (item,))
        return True, ChunkResult([None], {0: keep_failure(error, inputs=inputs)}), 1


def name_of(function: object) -> str:
    """For messages."""
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) and name else type(function).__name__


class _Bound:
    """A function that needs no binding: its variables are where they are."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    @property
    def name(self) -> str:
        return name_of(self.function)

    @contextmanager
    def bound(self) -> Iterator[Callable[..., Any]]:
        yield self.function


class _Run(ChunkRun):
    """Failures are kept with their exceptions."""

    @staticmethod
    def described(error: BaseException, inputs: str) -> Raised:
        return keep_failure(error, inputs=inputs)


# -- references ------------------------------------------------------------------------------------


def _resolved(value: Any) -> Any:
    """What a reference refers to: here the variables of the engine are those of ``__main__``."""
    kind = value.__class__
    if kind is Reference:
        return resolve_reference(value.name, vars(sys.modules["__main__"]))
    # What has none in it must stay the object that it is.
    if kind is tuple and any(one.__class__ is Reference for one in value):
        return tuple([_resolved(one) for one in value])
    if kind is dict and any(one.__class__ is Reference for one in value.values()):
        return {key: _resolved(one) for key, one in value.items()}
    return value


class Referred:
    """A function that was given by its name."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.__name__ = reference.name

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return _resolved(self.reference)(*args, **kwargs)


class Referring:
    """Arguments or items among which there may be references; resolved when they are taken."""

    __slots__ = ("values",)

    def __init__(self, values: Any) -> None:
        self.values = values

    def __iter__(self) -> Iterator[Any]:
        return map(_resolved, self.values)
