"""Objects to bytes and back: pickle protocol 5, large buffers beside the stream.

Arguments and results that consist of a few plain builtins take the C pickler (0.3 us).  Everything
else takes cloudpickle's: the plain one would write classes of a notebook as a reference to
``__main__``, which is another module on the other side.
"""

from __future__ import annotations

import io
import pickle
import reprlib
from collections import ChainMap
from collections.abc import Iterable, Iterator
from types import AsyncGeneratorType, CodeType, GeneratorType
from typing import Any, ClassVar

import cloudpickle

from ipyasyncresult.core.unpickling import loads
from ipyasyncresult.errors import ResultTooLarge, SerializationError
from ipyasyncresult.worker.namespace import Reference, resolve_reference
from ipyasyncresult.worker.offender import PICKLING_ERRORS, Pickler, describe_offender
from ipyasyncresult.worker.sources import reduce_code

__all__ = [
    "OUT_OF_BAND_BYTES",
    "Buffer",
    "dump_arguments",
    "dump_result",
    "dump_with",
    "limit_results",
    "load_arguments",
    "load_result",
]

OUT_OF_BAND_BYTES = 64 * 1024
"""Buffers of at least this many bytes travel beside the stream, smaller ones in it."""

Buffer = bytes | bytearray | memoryview

_PROTOCOL = 5
_PLAIN: frozenset[type] = frozenset({int, float, str, bool, type(None), complex, range})
_FEW = 16  # longer containers are looked at in C, and not into


def _plain(values: Iterable[Any], depth: int = 2) -> bool | None:
    """Whether all are plain; None where only trying would tell, as there are many."""
    plain: bool | None = True
    for value in values:
        kind = type(value)
        if kind in _PLAIN:
            continue
        if kind is bytes and len(value) < OUT_OF_BAND_BYTES:
            continue
        if kind not in (tuple, list, dict):
            return False
        if not depth or len(value) > _FEW:
            plain = None
            continue
        inner = _plain(value, depth - 1)
        if inner and kind is dict:
            inner = _plain(value.values(), depth - 1)
        if inner is False:
            return False
        plain = plain and inner
    return plain


class _NotPlain(Exception):
    """There is something else than builtins."""


class _PlainPickler(pickle.Pickler):
    """The C pickler, for builtins alone: faster than first looking at them."""

    def reducer_override(self, value: Any) -> Any:
        raise _NotPlain


def _dump_plain(value: Any) -> bytes | None:
    """The stream, or None when there is something that the C pickler should not write."""
    file = io.BytesIO()
    try:
        _PlainPickler(file, _PROTOCOL).dump(value)
    except Exception:  # noqa: BLE001  the other pickler says what is wrong
        return None
    return file.getvalue()


class ArgumentPickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Writes a :class:`Reference` so that reading it gives what it names, at any depth, and code
    with its source."""

    dispatch_table: ClassVar = ChainMap(
        {
            CodeType: reduce_code,
            Reference: lambda reference: (resolve_reference, (reference.name,)),
        },
        cloudpickle.Pickler.dispatch_table,
    )


class _Bytes:
    """Long bytes: pickle itself never puts them out of band."""

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self.data), (pickle.PickleBuffer(self.data),)


def _wrap_bytes(value: Any) -> Any:
    if type(value) in (bytes, bytearray) and len(value) >= OUT_OF_BAND_BYTES:
        return _Bytes(value)
    return value


def dump_with(
    make: Pickler, value: Any, smallest: float = OUT_OF_BAND_BYTES
) -> tuple[bytes, list[memoryview]]:
    """The stream, and beside it the buffers of at least `smallest` bytes; raises what pickling
    raises."""
    buffers: list[memoryview] = []

    def keep_large(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < smallest:
            return True  # into the stream
        buffers.append(raw)
        return False

    file = io.BytesIO()
    make(file, _PROTOCOL, buffer_callback=keep_large).dump(value)
    return file.getvalue(), buffers


def dump_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bytes, list[memoryview]]:
    """The arguments of one call as bytes, with large buffers beside them.  Any thread.

    Raises
    ------
    SerializationError
        Names the place, counting arguments from 1:
        ``argument 2['lock'].inner: cannot pickle '_thread.lock' object``.
    """
    for value in args:
        if type(value) not in _PLAIN:
            break
    else:
        if not kwargs:
            return pickle.dumps((args, kwargs), _PROTOCOL), []
    plain = _plain((args, kwargs), 3)
    if plain:
        return pickle.dumps((args, kwargs), _PROTOCOL), []
    if plain is None:
        data = _dump_plain((args, kwargs))
        if data is not None:
            return data, []
    try:
        wrapped = tuple([_wrap_bytes(value) for value in args])
        return dump_with(ArgumentPickler, (wrapped, kwargs))
    except PICKLING_ERRORS as error:
        parts = [(f"argument {i}", value) for i, value in enumerate(args, 1)]
        parts += [(f"argument {name!r}", value) for name, value in kwargs.items()]
        message = describe_offender(parts, error, ArgumentPickler, "pass list(...)")
        raise SerializationError(message) from error


def load_arguments(
    data: Buffer, buffers: Iterable[Buffer] = ()
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments from :func:`dump_arguments`; raises whatever their unpickling raises."""
    args, kwargs = loads(bytes(data), buffers)
    return args, kwargs


def dump_result(value: Any) -> tuple[bytes, list[memoryview]]:
    """The result of a task as bytes, with large buffers beside them.  Any thread.

    Raises
    ------
    SerializationError
        Names the place and keeps a short repr: ``result[3].handle: cannot pickle ...``.  Lazy
        iterators are refused, also those that pickle could copy without having run them.
    ResultTooLarge
        Above what :func:`limit_results` set.
    """
    plain = type(value) in _PLAIN or _plain((value,))
    if plain is not False:
        data = pickle.dumps(value, _PROTOCOL) if plain else _dump_plain(value)
        if data is not None:
            if len(data) > _result_limit:
                raise _too_large(len(data))
            return data, []
    if _is_lazy(value):
        kind = type(value).__name__
        raise SerializationError(
            f"result: a {kind} cannot be sent; materialise it: return list(...)"
        )
    try:
        data, buffers = dump_with(cloudpickle.Pickler, _wrap_bytes(value))
    except PICKLING_ERRORS as error:
        message = describe_offender(
            [("result", value)], error, cloudpickle.Pickler, "materialise it: return list(...)"
        )
        raise SerializationError(f"{message}; the result was {reprlib.repr(value)}") from error
    size = len(data) + sum([buffer.nbytes for buffer in buffers])
    if size > _result_limit:
        raise _too_large(size)
    return data, buffers


_result_limit: float = float("inf")


def _too_large(size: int) -> ResultTooLarge:
    return ResultTooLarge(
        f"the result has {size:,} bytes, more than the {_result_limit:,} of this cluster's "
        "result_limit: return less, save it to a file, or start Cluster(result_limit=...)"
    )


def limit_results(size: float) -> None:
    """Refuse results of more than `size` bytes in this process, from now on."""
    global _result_limit
    _result_limit = size


def _is_lazy(value: Any) -> bool:
    """Generators, and the iterators of builtins and itertools; a class of the user's may be both
    an iterator and a value."""
    if isinstance(value, GeneratorType | AsyncGeneratorType):
        return True
    return type(value).__module__ in {"builtins", "itertools"} and isinstance(value, Iterator)


def load_result(data: Buffer, buffers: Iterable[Buffer] = ()) -> Any:
    """The value from :func:`dump_result`; raises whatever its unpickling raises."""
    return loads(bytes(data), buffers)
