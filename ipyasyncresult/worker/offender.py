"""Where in a value the thing sits that cannot be pickled; looked for only after a failure."""

from __future__ import annotations

import functools
import io
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from types import AsyncGeneratorType, FunctionType, GeneratorType, MethodType
from typing import Any, Protocol

__all__ = ["PICKLING_ERRORS", "Pickler", "describe_offender"]

PICKLING_ERRORS = (Exception, SystemExit)
"""What a value may raise while it is pickled: nothing that a value says ends a process.  Only an
interrupt is let through, as nobody can tell it from the one of a person at the keyboard."""


_SECONDS = 1.0  # the search pickles every part anew: long enough for any sensible value
_DEPTH = 50


class Pickler(Protocol):
    """A pickler class, as the standard library has it."""

    def __call__(self, file: io.BytesIO, protocol: int, *, buffer_callback: Any) -> Any: ...


def describe_offender(
    parts: Sequence[tuple[str, Any]], error: BaseException, pickler: Pickler, hint: str
) -> str:
    """``path: reason`` for the innermost part that cannot be pickled by itself.

    Parameters
    ----------
    parts : list of (name, value)
        What was pickled together.
    error : BaseException
        What pickling them raised: the reason, if no single part is to blame.
    hint : str
        What to do about generators and iterators.
    """
    search = _Search(pickler)
    found = search.first_failing(iter(parts))
    if found is None:
        names = ", ".join(name for name, _ in parts)
        return f"{names}: {_reason(error)}"
    path, culprit, error = found
    for _ in range(_DEPTH):
        inner = search.first_failing(_children(culprit))
        if inner is None:
            break
        label, culprit, error = inner
        path += label
    is_lazy = isinstance(culprit, GeneratorType | AsyncGeneratorType | Iterator)
    return f"{path}: {_reason(error)}" + (f"; {hint}" if is_lazy else "")


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


class _Search:
    def __init__(self, pickler: Pickler) -> None:
        self.pickler = pickler
        self.deadline = time.monotonic() + _SECONDS
        self.seen: set[int] = set()

    def first_failing(
        self, parts: Iterable[tuple[str, Any]]
    ) -> tuple[str, Any, BaseException] | None:
        """The first part that cannot be pickled by itself; None when there is none, or no time."""
        for label, part in parts:
            if time.monotonic() > self.deadline:
                return None
            if id(part) in self.seen:
                continue
            error = _pickling_error(part, self.pickler)
            if error is not None:
                self.seen.add(id(part))
                return label, part, error
        return None


def _pickling_error(value: Any, pickler: Pickler) -> BaseException | None:
    try:
        # Buffers are thrown away, so that arrays on the way cost nothing.
        pickler(io.BytesIO(), 5, buffer_callback=lambda _: None).dump(value)
    except PICKLING_ERRORS as error:  # user code runs here
        return error
    return None


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a value that are pickled with it, each with what to append to its path."""
    if isinstance(value, dict):
        for key, item in list(value.items()):
            yield f"[{key!r}]", item
            yield f" key {key!r}", key
    elif isinstance(value, list | tuple | set | frozenset | deque):
        for index, item in enumerate(list(value)):
            yield f"[{index}]", item
    elif isinstance(value, FunctionType):
        yield from _function_parts(value)
    elif isinstance(value, functools.partial):
        yield ".func", value.func
        yield ".args", value.args
        yield ".keywords", value.keywords
    elif isinstance(value, MethodType):
        yield ".__self__", value.__self__
        yield ".__func__", value.__func__
    if not isinstance(value, FunctionType):
        yield from _attributes(value)


def _function_parts(function: FunctionType) -> Iterator[tuple[str, Any]]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f", captured variable {name!r}", cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    defaults: dict[str, Any] = dict(function.__kwdefaults__ or {})
    positional = function.__defaults__ or ()
    names = code.co_varnames[code.co_argcount - len(positional) : code.co_argcount]
    defaults.update(zip(names, positional, strict=True))
    for name, item in defaults.items():
        yield f", default of {name!r}", item
    for name in code.co_names:
        if name in function.__globals__:
            yield f", global {name!r}", function.__globals__[name]


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(type(value).__reduce__, FunctionType):
        return  # its class says itself what is pickled
    for name, item in list(getattr(value, "__dict__", {}).items()):
        if not name.startswith("__"):
            yield f".{name}", item
    for base in type(value).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                yield f".{name}", getattr(value, name)
