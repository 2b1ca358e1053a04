"""How calls are packed for those who run them: as bytes, or not at all.

A client says which.  Views ask it, and know no other difference between engines that have a memory
of their own and threads of this very process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ipyasyncresult.errors import SerializationError
from ipyasyncresult.worker.direct import Referred, Referring
from ipyasyncresult.worker.functions import Reference, dump_arguments, dump_function

__all__ = ["OBJECTS", "PICKLES", "Packing"]


class Packing(Protocol):
    """What functions and arguments are made into.  Any thread."""

    def function(self, f: Any, /) -> Any:
        """A function, for ``client.submit``; TypeError when it is none."""

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> tuple[Any, Sequence[Any]]:
        """The arguments of a call, and the buffers that travel beside them."""

    def chunk(self, items: Any, first: int, /) -> tuple[Any, Sequence[Any]]:
        """Items of a map, and their buffers; `first` is where the first of them stands."""

    def size(self, packed: Any, /) -> int:
        """Bytes of packed arguments."""


class _Pickles:
    """For engines that have a memory of their own."""

    function = staticmethod(dump_function)
    call = staticmethod(dump_arguments)
    size = staticmethod(len)

    @staticmethod
    def chunk(items: Any, first: int, /) -> tuple[bytes, list[memoryview]]:
        try:
            return dump_arguments((items,), {})
        except SerializationError as error:
            raise SerializationError(f"in the items from {first} on: {error}") from error


class _Objects:
    """For threads of this process: they get what the caller gave."""

    @staticmethod
    def function(f: Any, /) -> Any:
        if callable(f):
            return f
        if isinstance(f, Reference):
            return Referred(f)
        raise TypeError(f"function must be callable, not {type(f).__name__}")

    @staticmethod
    def call(args: tuple[Any, ...], kwargs: dict[str, Any], /) -> tuple[Any, Sequence[Any]]:
        packed = (args, kwargs)
        return Referring(packed) if Reference.were_made else packed, ()

    @staticmethod
    def chunk(items: Any, first: int, /) -> tuple[Any, Sequence[Any]]:
        del first
        return Referring(items) if Reference.were_made else items, ()

    @staticmethod
    def size(packed: Any, /) -> int:
        del packed
        return 0


PICKLES: Packing = _Pickles()
OBJECTS: Packing = _Objects()
