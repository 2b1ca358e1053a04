"""Functions and arguments to bytes and back: what clients and engines use of each other.

Functions of importable modules travel by name, everything else (lambdas, closures, functions and
classes of a notebook) by value with the globals that it uses.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from math import inf
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any
from weakref import ref

import cloudpickle

from ipyasyncresult.errors import SerializationError
from ipyasyncresult.worker.chunks import ChunkResult, apply_chunk
from ipyasyncresult.worker.loaded import LoadedFunction, Required, load_function
from ipyasyncresult.worker.namespace import Reference
from ipyasyncresult.worker.offender import PICKLING_ERRORS, describe_offender
from ipyasyncresult.worker.pickling import (
    OUT_OF_BAND_BYTES,
    ArgumentPickler,
    Buffer,
    dump_arguments,
    dump_result,
    dump_with,
    load_arguments,
    load_result,
)

__all__ = [
    "OUT_OF_BAND_BYTES",
    "Buffer",
    "ChunkResult",
    "LoadedFunction",
    "Reference",
    "apply_chunk",
    "dump_arguments",
    "dump_function",
    "dump_result",
    "load_arguments",
    "load_function",
    "load_result",
    "require",
]

# Only functions that travel by name are kept: their bytes never go stale.  One that travels by
# value may see other globals at the next call.
_by_name: dict[ref[Any], bytes] = {}  # as a WeakKeyDictionary, whose `get` is Python
_CACHEABLE = frozenset({FunctionType, BuiltinFunctionType, type})  # compared by identity


def dump_function(function: Callable[..., Any] | Reference) -> bytes:
    """The function as bytes, for :func:`load_function` on an engine.  Any thread.

    Raises
    ------
    TypeError
        It is not callable.
    SerializationError
        It, or something it captured, cannot be pickled; the message names the place.
    """
    cacheable = type(function) in _CACHEABLE
    if cacheable:
        data = _by_name.get(ref(function))
        if data is not None:
            return data
    if not isinstance(function, Reference | Callable):
        raise TypeError(f"function must be callable, not {type(function).__name__}")
    if cacheable and _is_importable(function):
        data = pickle.dumps(function, 5)
        _by_name[ref(function, _forget)] = data
        return data
    return _dump_by_value(function)


def _forget(gone: ref[Any]) -> None:
    _by_name.pop(gone, None)


def _dump_by_value(function: object) -> bytes:
    try:
        data, _ = dump_with(ArgumentPickler, function, smallest=inf)
    except PICKLING_ERRORS as error:
        name = getattr(function, "__name__", None) or repr(function)
        message = describe_offender(
            [(f"function {name!r}", function)], error, ArgumentPickler, "make a list of it"
        )
        raise SerializationError(message) from error
    return data


def _is_importable(function: Any) -> bool:
    """Whether the other side finds the very same object under its name."""
    module = sys.modules.get(function.__module__ or "")
    if module is None or module.__name__ == "__main__" or _travels_by_value(module.__name__):
        return False
    found: Any = module
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is function


def _travels_by_value(module: str) -> bool:
    registered = cloudpickle.list_registry_pickle_by_value()
    return any(module == name or module.startswith(name + ".") for name in registered)


def require(*needed: str | ModuleType | Callable[..., Any], **objects: Any) -> Any:
    """Decorator: what the function needs is there when it runs on an engine.

    Parameters
    ----------
    *needed : str, module or callable
        Modules (or their names) are imported on the engine before each call; functions and classes
        are put into its namespace under their name.
    **objects
        Put into its namespace under the given name.

    Raises
    ------
    TypeError
        Something else was given.

    Examples
    --------
    >>> @require("numpy", os)
    ... def count(n):
    ...     return numpy.arange(n).sum(), os.getpid()
    """
    modules: list[str] = []
    for item in needed:
        if isinstance(item, str):
            modules.append(item)
        elif isinstance(item, ModuleType):
            modules.append(item.__name__)
        elif hasattr(item, "__name__"):
            objects[item.__name__] = item
        else:
            raise TypeError(
                f"require takes modules, their names and functions, not {type(item).__name__}"
            )

    def decorate(function: Callable[..., Any]) -> Required:
        return Required(function, tuple(modules), objects)

    return decorate
