"""Every error this package raises.

::

    Exception
    ├── IpyAsyncResultError
    │   ├── RemoteError            a task raised; also of the type that it raised
    │   ├── CompositeError         several tasks of one result failed
    │   ├── TaskAborted            a task was taken back before it ran  (CancelledError)
    │   ├── TaskTimeout            a task ran longer than it may    (the builtin TimeoutError)
    │   ├── EngineError            an engine died under a task           (BrokenProcessPool)
    │   ├── HubError               the hub died, or the connection to it did (ConnectionError)
    │   ├── ResultDecodeError      a result came, but cannot be unpickled here
    │   ├── SerializationError     an argument or a result cannot be pickled (TypeError)
    │   ├── ResultTooLarge         a result has more bytes than the cluster takes (ValueError)
    │   ├── ResultNotReady         asked too early     (AssertionError, ValueError, RuntimeError)
    │   ├── VersionMismatch        client, hub and engine do not fit together
    │   ├── StartError             a hub or an engine did not start
    │   ├── NestedWaitError        a task would wait for its own engines  (RuntimeError)
    │   ├── NoEnginesError         nobody is there to run a direct task
    │   ├── UnknownTaskError       no such task here     (KeyError)
    │   ├── ConfigurationError     a configuration file cannot be read  (ValueError)
    │   └── CapabilityError        this backend cannot do that (NotImplementedError)
    └── TimeoutError               the builtin and multiprocessing's at once

What stands in brackets is a further base class, so that ``except`` clauses written for the standard
library, for ``multiprocessing`` or for ipyparallel go on to work.
"""

from __future__ import annotations

import builtins
import concurrent.futures
import contextlib
import multiprocessing
import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from types import MemberDescriptorType, MethodDescriptorType
from typing import Any, NoReturn

import msgspec

from ipyasyncresult.core.failure import Failure
from ipyasyncresult.core.tracebacks import render_users_frames
from ipyasyncresult.core.unpickling import loads

__all__ = [
    "CapabilityError",
    "CompositeError",
    "ConfigurationError",
    "EngineError",
    "HubError",
    "IpyAsyncResultError",
    "NestedWaitError",
    "NoEnginesError",
    "RemoteError",
    "ResultDecodeError",
    "ResultNotReady",
    "ResultTooLarge",
    "SerializationError",
    "StartError",
    "TaskAborted",
    "TaskTimeout",
    "TimeoutError",
    "UnknownTaskError",
    "VersionMismatch",
    "remote_error",
]


class IpyAsyncResultError(Exception):
    """Base of all errors of this package but :class:`TimeoutError`."""

    _render_traceback_ = render_users_frames


class TimeoutError(builtins.TimeoutError, multiprocessing.TimeoutError):
    """The result did not come within the given number of seconds; the task goes on."""

    _render_traceback_ = render_users_frames


class ResultNotReady(IpyAsyncResultError, AssertionError, ValueError, RuntimeError):
    """``successful()`` was asked before the end.

    It is what the reference (AssertionError), multiprocessing (ValueError) and ipyparallel
    (RuntimeError) raise.
    """


class TaskAborted(IpyAsyncResultError, concurrent.futures.CancelledError):
    """The task was taken back before it ran.

    Parameters
    ----------
    msg_id : str
    """

    def __init__(self, msg_id: str = "") -> None:
        super().__init__(f"task {msg_id} was aborted before it ran")
        self.msg_id = msg_id

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.msg_id,)


class TaskTimeout(IpyAsyncResultError, builtins.TimeoutError):
    """The task ran longer than the ``timeout`` that it was submitted with, and was ended.

    It has ended, so it is not this package's :class:`TimeoutError`, which says that a wait was too
    short and may be repeated: code that waits again and again would never see the end.
    """


class EngineError(IpyAsyncResultError, BrokenProcessPool):
    """An engine died while it ran the task; only that task is lost.

    When it died right after a task, before the result had left it, the message says so.

    Attributes
    ----------
    engine_id, pid, host : int, int, str
    exit_code : int or None
    signal : str or None
        ``'SIGSEGV'``.
    oom : bool
        The kernel killed it, as memory ran out.
    on_request : str
        Who ended it, if it was asked for; else empty.
    stderr, last_output : str
        The end of what the process (of a crash: faulthandler) and the task wrote.
    msg_id : str
    label : str or None
    """

    # For errors that carry less than that.
    engine_id: int = -1
    pid: int | None = None
    host: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    oom: bool = False
    on_request: str = ""
    stderr: str = ""
    last_output: str = ""
    msg_id: str = ""
    label: str | None = None


class HubError(IpyAsyncResultError, ConnectionError):
    """The hub died or closed, or the connection to it is gone."""


class ResultDecodeError(IpyAsyncResultError):
    """A result arrived but could not be unpickled here; the cause is attached.

    The bytes are kept: after the missing module was imported, ``get()`` may succeed.
    """


class SerializationError(IpyAsyncResultError, TypeError, pickle.PicklingError):
    """A function, an argument or a result cannot be pickled; the message names the place."""


class ResultTooLarge(IpyAsyncResultError, ValueError):
    """A task's result has more bytes than ``Cluster(result_limit=...)`` lets through the hub."""


class VersionMismatch(IpyAsyncResultError):
    """Client, hub and engine run versions that do not fit together."""


class StartError(IpyAsyncResultError, RuntimeError):
    """A hub or an engine did not start; the message carries the end of what it printed."""


class NestedWaitError(IpyAsyncResultError, RuntimeError):
    """A task waits without end for results of the engines that it runs on itself.

    When all of them did that, none would ever come.
    """


class NoEnginesError(IpyAsyncResultError, RuntimeError):
    """A direct task was submitted, but the cluster has no engine."""


class UnknownTaskError(IpyAsyncResultError, KeyError):
    """No task of that id, label or number is known."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ConfigurationError(IpyAsyncResultError, ValueError):
    """A configuration file cannot be read, or sets what it must not."""


class CapabilityError(IpyAsyncResultError, NotImplementedError):
    """The backend in use cannot do what was asked; the message says what it can."""


class RemoteError(IpyAsyncResultError):
    """A task raised on its engine.

    The object raised by ``get()`` is also an instance of the original type where that type can
    be imported here, so ``except ZeroDivisionError`` works.

    Parameters
    ----------
    failure : Failure
        As it came from the engine.
    **context
        Where it was.

    Attributes
    ----------
    ename, evalue : str
        Type name and message of the original exception.
    traceback : str
        The remote traceback as text.
    inputs : str
        What the task was called with, shortened.
    engine_id : int or None
    msg_id : str
    label : str or None
    last_output : str
        The end of what the task printed.
    """

    # With values in the class, properties of these names in an original's class do no harm.
    failure: Failure = Failure(ename="", evalue="")
    engine_id: int | None = None
    msg_id: str = ""
    label: str | None = None
    last_output: str = ""

    def __init__(self, failure: Failure, **context: Any) -> None:
        Exception.__init__(self, f"{failure.ename}: {failure.evalue}")
        self.failure = failure
        self.__dict__.update(context)

    @property
    def ename(self) -> str:
        """Name of the type that the task raised."""
        return self.failure.ename

    @property
    def evalue(self) -> str:
        """Its message."""
        return self.failure.evalue

    @property
    def traceback(self) -> str:
        """The remote traceback as text."""
        return self.failure.traceback

    @property
    def inputs(self) -> str:
        """What the task was called with, shortened."""
        return self.failure.inputs

    def where(self) -> str:
        """``engine 2, task 1a2b-7, f(0)``: what is known about the place."""
        parts = [f"engine {self.engine_id}" if self.engine_id is not None else "an engine"]
        if self.msg_id:
            parts.append(f"task {self.msg_id}" + (f" ({self.label})" if self.label else ""))
        if self.inputs:
            parts.append(self.inputs)
        return ", ".join(parts)

    def __str__(self) -> str:
        name = f"{self.ename}: {self.evalue}" if self.evalue else self.ename
        return f"{name}\n[{self.where()}]\n{self.traceback}".rstrip()

    def __repr__(self) -> str:
        engine = "" if self.engine_id is None else f"[{self.engine_id}]"
        return f"<RemoteError{engine}: {self.ename}({self.evalue})>"

    @property
    def engine_info(self) -> dict[str, Any]:
        """``engine_id`` of the engine, and ``method``: what was called."""
        return {"engine_id": self.engine_id, "method": self.inputs}

    def render_traceback(self) -> list[str]:
        """The lines that IPython shows: the place, the remote traceback, the last output."""
        return self._render_traceback_()

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of the frames of this process, which tell nothing."""
        lines = (self.failure.traceback_ansi or self.traceback).splitlines()
        if self.last_output:
            lines += ["last output:", *("  " + line for line in self.last_output.splitlines())]
        return [f"[{self.where()}]", *lines] if lines else [str(self)]

    def __reduce__(self) -> tuple[Any, ...]:
        context = {key: getattr(self, key) for key in _OURS - {"failure"}}
        failure, original = self.failure, self.__cause__
        if isinstance(original, Exception) and not failure.pickled:
            # It shared our memory; now it travels, with what of it can.
            failure = msgspec.structs.replace(failure, pickled=_pickle_parts(original))
        return remote_error, (failure, context)


def _pickle_parts(error: Exception) -> bytes:
    args, state = parts_of(error)
    for parts in ((args, state), (args, None), ((str(error),), None)):
        with contextlib.suppress(Exception):
            return pickle.dumps((type(error), *parts))
    return b""


_dual_types: dict[type, type[RemoteError]] = {}


def _dual_type(original: type) -> type[RemoteError]:
    """A class that is both `original` and RemoteError, or RemoteError where that cannot be.

    SystemExit, KeyboardInterrupt and their like never come out of ``get()``: they would end the
    notebook kernel.  StopIteration would end the caller's generator.
    """
    if not issubclass(original, Exception) or issubclass(
        original, StopIteration | StopAsyncIteration | RemoteError
    ):
        return RemoteError
    if original not in _dual_types:
        try:
            made = type(f"Remote{original.__name__}", (RemoteError, original), {})
        except TypeError:  # two incompatible memory layouts, or a final class
            made = RemoteError
        made.__module__ = original.__module__
        _dual_types[original] = made
    return _dual_types[original]


def remote_error(
    failure: Failure,
    context: dict[str, Any] | None = None,
    original: BaseException | None = None,
) -> RemoteError:
    """The error to raise for a failed task.  Unpickles the original's type: caller's thread only.

    The original's ``__init__`` is never called: its arguments may not be what it was made with,
    and user code may do anything there.  An `original` of this process is the cause of the error,
    which has its attributes.
    """
    made: RemoteError | None = None
    if failure.pickled or isinstance(original, Exception):
        try:
            if isinstance(original, Exception):
                made = _rebuild(type(original), *parts_of(original))
            else:
                made = _rebuild(*loads(failure.pickled))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
    if made is None:
        made = RemoteError.__new__(RemoteError)
    made.failure = failure
    made.__cause__ = original
    made.__dict__.update(context or {})
    if not made.args:
        made.args = (f"{failure.ename}: {failure.evalue}",)
    return made


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


_OURS = frozenset({"failure", "engine_id", "msg_id", "label", "last_output"})


def _rebuild(original: type, args: tuple[Any, ...], state: dict[str, Any] | None) -> RemoteError:
    dual = _dual_type(original)
    builtin: Any = Exception
    if dual is not RemoteError:
        builtin = next(kind for kind in original.__mro__ if kind.__module__ == "builtins")
    try:
        made: RemoteError = builtin.__new__(dual, *args)
        builtin.__init__(made, *args)  # the fields of OSError, UnicodeDecodeError and their like
    except TypeError:  # arguments that its own __init__ turned into others
        made = Exception.__new__(dual, *args)
    for name, value in (state or {}).items():
        if name not in _OURS:
            # Not into __dict__: the name of an ImportError is no entry there.
            with contextlib.suppress(Exception):  # a property, perhaps
                object.__setattr__(made, name, value)
    return made


_MOST_GROUPS = 10  # in the text of a CompositeError


class CompositeError(IpyAsyncResultError):
    """Several tasks of one result failed.

    Attributes
    ----------
    errors : list of BaseException
        One per failed task or item, in order.
    total : int
        How many tasks or items the result has.
    """

    def __init__(self, errors: Sequence[BaseException], total: int) -> None:
        self.errors: list[BaseException] = list(errors)
        self.total = total
        super().__init__(self._message())

    def groups(self) -> Iterator[tuple[int, BaseException]]:
        """Identical errors (type and message) as ``(how many, the first of them)``."""
        grouped: dict[tuple[str, str], list[BaseException]] = {}
        for error in self.errors:
            grouped.setdefault(_name_and_text(error), []).append(error)
        for same in grouped.values():
            yield len(same), same[0]

    def _message(self) -> str:
        lines = [f"{len(self.errors)} of {self.total} failed:"]
        groups = list(self.groups())
        for count, first in groups[:_MOST_GROUPS]:
            name = ": ".join(filter(None, _name_and_text(first)))
            place = f"  (first: {first.where()})" if isinstance(first, RemoteError) else ""
            lines.append(f"  {count} x {name}{place}")
        if others := groups[_MOST_GROUPS:]:
            lines.append(f"  {sum(count for count, _ in others)} others")
        return "\n".join(lines)

    def _render_traceback_(self) -> list[str]:
        lines = self._message().splitlines()
        for count, first in list(self.groups())[:3]:
            if isinstance(first, RemoteError):
                head = [f"first of {count}:"] if count > 1 else []
                lines += ["", *head, *first._render_traceback_()]
        return lines

    def raise_exception(self, excid: int = 0) -> NoReturn:
        """Raise one of the errors; IndexError when there is none of that number.

        Parameters
        ----------
        excid : int
            Its number in ``errors``.
        """
        raise self.errors[excid]

    def render_traceback(self, excid: int | None = None) -> list[str]:
        """The lines that IPython shows for all of them, or for the one of that number.

        Parameters
        ----------
        excid : int, optional
            Its number in ``errors``.
        """
        if excid is None:
            return self._render_traceback_()
        error = self.errors[excid]
        return error.render_traceback() if isinstance(error, RemoteError) else [str(error)]

    @property
    def elist(self) -> list[tuple[str, str, str, dict[str, Any]]]:
        """Name, message, traceback and engine of each; :attr:`errors` has the errors themselves."""
        return [
            (one.ename, one.evalue, one.traceback, one.engine_info)
            if isinstance(one, RemoteError)
            else (type(one).__name__, str(one), "", {})
            for one in self.errors
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.errors, self.total)


def _name_and_text(error: BaseException) -> tuple[str, str]:
    """What errors of one group have in common: not the task."""
    if isinstance(error, RemoteError):
        return error.failure.kind()
    if isinstance(error, TaskAborted):
        return type(error).__name__, "aborted before it ran"
    return type(error).__name__, str(error)
