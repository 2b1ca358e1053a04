"""Exceptions of tasks, described as text of bounded size, with the original beside it.

Nothing in here raises, whatever the exception's own methods do: every task ends in an outcome.
"""

from __future__ import annotations

import reprlib
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import cloudpickle
import msgspec

from ipyasyncresult.core.failure import Failure, Raised, encode_failure, parts_of
from ipyasyncresult.core.tracebacks import without_ours
from ipyasyncresult.errors import IpyAsyncResultError
from ipyasyncresult.worker.sources import name_cells
from ipyasyncresult.worker.streams import StdinNotAvailable
from ipyasyncresult.worker.text import bounded, encodable

__all__ = [
    "RAISED_BY_US",
    "cut_hidden_frames",
    "describe_call",
    "describe_failure",
    "format_error",
    "keep_failure",
]

T = TypeVar("T")

RAISED_BY_US = (KeyboardInterrupt, StdinNotAvailable)
"""In the middle of the user's code; :func:`cut_hidden_frames` takes off where."""

_PICKLE_LIMIT = 1024 * 1024  # bytes; an exception may carry arrays, but not hundreds of megabytes
_INPUTS_LIMIT = 500  # characters
_MANY_FRAMES = 5000  # more than these cost memory to look at, and nobody reads them
_OURS = (str(Path(__file__).parent), str(Path(traceback.__file__).parent / "asyncio"))


def describe_failure(error: BaseException, *, inputs: str = "", ansi: str = "") -> bytes:
    """The encoded :class:`Failure` for an exception that a task raised.

    Parameters
    ----------
    error : BaseException
    inputs : str
        What the task was called with, from :func:`describe_call`.
    ansi : str
        The traceback in colour, where there is one.
    """
    failure = _describe(error, inputs, ansi)
    return encode_failure(msgspec.structs.replace(failure, pickled=_pickle(error, failure.evalue)))


def keep_failure(error: BaseException, *, inputs: str = "") -> Raised:
    """The same for who asks in this very process, and gets the exception itself.

    Its traceback begins with the task's code: our frames would keep what else we hold.
    """
    failure = _describe(error, inputs)
    error.__traceback__ = _skip_our_frames(error.__traceback__)
    return Raised(failure, error)


def _describe(error: BaseException, inputs: str, ansi: str = "") -> Failure:
    kind = type(error)
    message = _attempt(lambda: encodable(bounded(str(error))))
    if message is None:
        message = f"<the text of this {kind.__name__} cannot be had>"
    text = _attempt(lambda: format_error(error)) or f"{kind.__name__}: {message}"
    return Failure(
        ename=kind.__name__,
        evalue=message,
        module=str(kind.__module__),
        traceback=encodable(text),
        traceback_ansi=encodable(bounded(ansi)),
        inputs=encodable(inputs),
    )


def describe_call(name: str, args: Iterable[Any], kwargs: Mapping[str, Any] | None = None) -> str:
    """A call as a short text: ``f(3, name='x')``."""
    text = _attempt(lambda: f"{name}({', '.join(_shown(args, kwargs or {}))})") or f"{name}(...)"
    return text if len(text) <= _INPUTS_LIMIT else text[: _INPUTS_LIMIT - 4] + "...)"


def _shown(args: Iterable[Any], kwargs: Mapping[str, Any]) -> Iterator[str]:
    for value in islice(args, 20):
        yield _short_repr.repr(value)
    for key, value in islice(kwargs.items(), 20):
        yield f"{key}={_short_repr.repr(value)}"


def _attempt(function: Callable[[], T]) -> T | None:
    try:
        return function()
    except BaseException:  # noqa: BLE001  methods of the user's exception, short of memory, ...
        return None


def format_error(error: BaseException) -> str:
    frames = _skip_our_frames(error.__traceback__)
    if isinstance(error, IpyAsyncResultError):
        frames, cause = without_ours(frames), error.__cause__
        if cause is not None:
            cause.__traceback__ = without_ours(cause.__traceback__)
    if isinstance(error, MemoryError):
        # What did not fit may hang on the frames' variables.
        traceback.clear_frames(error.__traceback__)
    if isinstance(error, RAISED_BY_US):
        cut_hidden_frames(frames)
    limit = -_MANY_FRAMES if _longer_than(frames, _MANY_FRAMES) else None
    described = traceback.TracebackException(type(error), error, frames, limit=limit, compact=True)
    name_cells(described)
    return bounded("".join([bounded(line) for line in described.format()]))


def _skip_our_frames(frames: TracebackType | None) -> TracebackType | None:
    """The traceback from the task's own code on."""
    folders: tuple[str, ...] = _OURS
    if "IPython" in sys.modules:
        folders = (*folders, str(Path(sys.modules["IPython"].__file__ or "").parent))
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(folders):
        frames = frames.tb_next
    return frames


def cut_hidden_frames(frames: TracebackType | None) -> None:
    """End the traceback where the user's code was, not where we raised in it."""
    last = None
    while frames is not None:
        if not frames.tb_frame.f_locals.get("__tracebackhide__"):
            last = frames
        frames = frames.tb_next
    if last is not None:
        last.tb_next = None


def _longer_than(frames: TracebackType | None, limit: int) -> bool:
    while frames is not None and limit:
        frames, limit = frames.tb_next, limit - 1
    return frames is not None


def _pickle(error: BaseException, message: str) -> bytes:
    """Pickle of (type, args, state), with less of it where it is too large or cannot be."""
    if not isinstance(error, Exception):
        return b""
    args, state = _attempt(lambda: parts_of(error)) or ((message,), None)
    for parts in ((args, state), (args, None), ((message,), None)):
        data: bytes | None = _attempt(partial(cloudpickle.dumps, (type(error), *parts), 5))
        if data is not None and len(data) <= _PICKLE_LIMIT:
            return data
    return b""


class _ShortRepr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 60

    def repr_bytes(self, value: bytes, _level: int) -> str:
        shown = repr(value[: self.maxother])
        return shown if len(value) <= self.maxother else f"{shown}... ({len(value):,} bytes)"

    repr_bytearray = repr_bytes


_short_repr = _ShortRepr()
