"""The description of a failed task: plain data, readable without running anybody's code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import MemberDescriptorType, MethodDescriptorType
from typing import Any

import msgspec

__all__ = ["Failure", "Raised", "decode_failure", "encode_failure", "parts_of"]


_CELL = re.compile(r"<ipython-input-[\w-]+>")


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a task failed, as text, with the original exception beside it where it can travel.

    Attributes
    ----------
    ename, evalue : str
        Type name and message of the exception.
    module : str
        Where its type lives.
    traceback : str
        The remote traceback, as Python prints it (cause chain and notes included), at most 64 KiB.
    traceback_ansi : str
        The same in colour, for cells; empty for calls.
    inputs : str
        What the task was called with, as a short text.
    pickled : bytes
        Pickle of ``(type, args, state)``; empty where that could not be made.  It is unpickled
        only when the caller asks for the result.
    """

    ename: str
    evalue: str
    module: str = "builtins"
    traceback: str = ""
    traceback_ansi: str = ""
    inputs: str = ""
    pickled: bytes = b""

    def kind(self) -> tuple[str, str]:
        """Name and message, as equal failures have them: no engine's number of a cell."""
        return self.ename, _CELL.sub("<cell>", self.evalue)


class Raised:
    """How a task of this very process failed: described as any other, with the exception itself."""

    __slots__ = ("error", "failure")

    def __init__(self, failure: Failure, error: BaseException) -> None:
        self.failure: Failure = failure
        self.error: BaseException = error


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Failure)


def encode_failure(failure: Failure) -> bytes:
    """The failure as msgpack bytes.  Any thread."""
    return _encoder.encode(failure)


def decode_failure(data: bytes | Raised) -> Failure:
    """The failure from :func:`encode_failure`; ``msgspec.DecodeError`` when it is none."""
    return data.failure if isinstance(data, Raised) else _decoder.decode(data)


def parts_of(error: Exception) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments and state of an exception.

    The builtins know best (the file name of an OSError is no argument); a ``__reduce__`` of the
    user's may give a call of anything.
    """
    if isinstance(type(error).__reduce__, MethodDescriptorType):
        reduced: Any = error.__reduce__()
        args, state = reduced[1], reduced[2] if len(reduced) > 2 else None
    else:
        args, state = error.args, error.__dict__
    slots = [name for kind in type(error).__mro__ for name in _slots_of(kind)]
    return args, {n: getattr(error, n) for n in slots if hasattr(error, n)} | (state or {})


def _slots_of(kind: type) -> Iterator[str]:
    slots = vars(kind).get("__slots__", ())
    for name in (slots,) if isinstance(slots, str) else slots:
        if isinstance(vars(kind).get(name), MemberDescriptorType):
            yield name
