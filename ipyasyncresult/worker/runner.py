"""Run one task; whatever it does, it ends in an outcome, and its outputs are in its recorder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from ipyasyncresult.core.unpickling import loads
from ipyasyncresult.errors import CapabilityError, SerializationError
from ipyasyncresult.worker.capture import Capture
from ipyasyncresult.worker.chunks import ChunkResult, apply_chunk, fail_unpicklable
from ipyasyncresult.worker.failures import describe_call, describe_failure
from ipyasyncresult.worker.loaded import LoadedFunction, load_function
from ipyasyncresult.worker.namespace import use_namespace
from ipyasyncresult.worker.pickling import Buffer, dump_result, load_arguments
from ipyasyncresult.worker.recorder import Recorder
from ipyasyncresult.worker.reply import ExecuteReply
from ipyasyncresult.worker.timelimit import TimeLimit, task_timeout
from ipyasyncresult.worker.typed import Typed

if TYPE_CHECKING:
    from ipyasyncresult.worker.shell import EngineShell

__all__ = ["Outcome", "Runner"]


class Outcome:
    """How a task ended.

    Attributes
    ----------
    ok : bool
        Whether it returned.
    body : bytes
        The pickled result, or the encoded :class:`~ipyasyncresult.core.failure.Failure`.
    buffers : list of memoryview
        Large buffers of the result, which are not in `body`.
    started, completed : float
        Seconds since the epoch.
    duration : float
        Seconds between them by the monotonic clock.
    failed_items : int
        Of a chunk that returned: how many of its items failed.
    """

    __slots__ = ("body", "buffers", "completed", "duration", "failed_items", "ok", "started")

    def __init__(
        self, ok: bool, body: bytes, buffers: list[memoryview], started: float, duration: float
    ) -> None:
        self.ok: bool = ok
        self.body: bytes = body
        self.buffers: list[memoryview] = buffers
        self.started: float = started
        self.duration: float = duration
        self.completed: float = started + duration
        self.failed_items: int = 0

    def __repr__(self) -> str:
        return f"<Outcome {'ok' if self.ok else 'failed'} after {self.duration:.6f} s>"


class Runner:
    """Runs the tasks of a process, one at a time (several threads may share one without a shell).

    Parameters
    ----------
    capture : Capture
        Installed by whoever made it.
    shell : EngineShell, optional
        Runs cells, and gives the namespace; without it there are only calls.

    Attributes
    ----------
    running : bool
        Whether the code of a task runs, so that an interrupt may be raised.  The handler of SIGINT
        looks here, and ignores a signal that comes between two tasks.
    """

    def __init__(self, capture: Capture, shell: EngineShell | None = None) -> None:
        self.running: bool = False
        self._capture = capture
        self._shell = shell
        if shell is None:
            use_namespace({})
        else:
            use_namespace(shell.user_ns, shell.clear_namespace)

    def run_call(
        self,
        function: bytes,
        arguments: bytes,
        buffers: Iterable[Buffer] = (),
        *,
        recorder: Recorder | None = None,
        limit: TimeLimit | None = None,
    ) -> Outcome:
        """Call a function from ``dump_function`` with arguments from ``dump_arguments``.

        Never raises.
        """
        return self._run(_Call(self._shell, function, arguments, buffers), recorder, limit)

    def run_chunk(
        self,
        function: bytes,
        arguments: bytes,
        buffers: Iterable[Buffer] = (),
        *,
        star: bool = False,
        recorder: Recorder | None = None,
        limit: TimeLimit | None = None,
    ) -> Outcome:
        """Call a function for each item of a chunk; the items are the only argument.

        The result is the list of values, or a ``ChunkResult`` when items failed.  Never raises.
        """
        chunk = _Chunk(self._shell, function, arguments, buffers, star)
        chunk.limit = limit
        outcome = self._run(chunk, recorder, limit)
        outcome.failed_items = chunk.failed_items
        return outcome

    def run_cell(
        self,
        code: str,
        *,
        silent: bool = False,
        store_history: bool = True,
        typed: bytes = b"",
        recorder: Recorder | None = None,
        limit: TimeLimit | None = None,
    ) -> Outcome:
        """Run code as a notebook does a cell; its value is an :class:`ExecuteReply`.

        `typed` is a :class:`~ipyasyncresult.worker.typed.Typed`, encoded.  Never raises.
        """
        cell = _Cell(self._shell, code, silent, store_history, Typed.decode(typed))
        return self._run(cell, recorder, limit)

    def _run(
        self, task: _Call | _Cell, recorder: Recorder | None, limit: TimeLimit | None
    ) -> Outcome:
        recorder = recorder or Recorder()
        token = self._capture.begin(recorder)
        started, clock = time(), perf_counter()
        buffers: list[memoryview] = []
        try:
            # While `running` is set, an interrupt may come between any two instructions: so it is
            # set within the `try` only.
            self.running = True
            if limit is not None:
                limit.start()
            body, buffers = task.run()
            self.running = False
            ok = True
        except BaseException as error:  # noqa: BLE001  every task ends in an outcome
            self.running = False
            ok = False
            body = self._describe(task, error, limit)
        if limit is not None:
            limit.stop()
        outcome = Outcome(ok, body, buffers, started, perf_counter() - clock)
        self._capture.end(recorder, token)
        return outcome

    def _describe(
        self, task: _Call | _Cell, error: BaseException, limit: TimeLimit | None
    ) -> bytes:
        try:
            self.running = True  # the exception's own methods run, which may take for ever
            if limit is not None:
                limit.start()
                error = task_timeout(error)
            body = task.describe(error)
            self.running = False
        except BaseException as interrupt:  # noqa: BLE001
            self.running = False
            body = describe_failure(interrupt)
        return body


class _Call:
    """A function and its arguments, as they came."""

    __slots__ = ("args", "arguments", "buffers", "function", "kwargs", "loaded", "shell")

    def __init__(
        self,
        shell: EngineShell | None,
        function: bytes,
        arguments: bytes,
        buffers: Iterable[Buffer],
    ) -> None:
        self.shell = shell
        self.function = function
        self.arguments = arguments
        self.buffers = buffers
        self.loaded: LoadedFunction | None = None
        self.args: tuple[Any, ...] | None = None

    def run(self) -> tuple[bytes, list[memoryview]]:
        loaded = self.loaded = load_function(self.function)
        self.args, self.kwargs = loads(bytes(self.arguments), self.buffers)
        try:
            value = loaded(*self.args, **self.kwargs)
        finally:
            if self.shell is not None:
                self.shell.flush_figures()
        return dump_result(value)

    def describe(self, error: BaseException) -> bytes:
        inputs = ""
        if self.loaded is not None:
            inputs = f"{self.loaded.name}(...)"
            if self.args is not None:
                inputs = describe_call(self.loaded.name, self.args, self.kwargs)
        return describe_failure(error, inputs=inputs)


class _Chunk(_Call):
    """A function and the items to call it with."""

    __slots__ = ("failed_items", "limit", "star")

    def __init__(
        self,
        shell: EngineShell | None,
        function: bytes,
        arguments: bytes,
        buffers: Iterable[Buffer],
        star: bool,
    ) -> None:
        super().__init__(shell, function, arguments, buffers)
        self.star = star
        self.limit: TimeLimit | None = None
        self.failed_items = 0

    def run(self) -> tuple[bytes, list[memoryview]]:
        (items,), _ = load_arguments(self.arguments, self.buffers)
        try:
            result = apply_chunk(self.function, items, self.star, self.limit)
        finally:
            if self.shell is not None:
                self.shell.flush_figures()
        with contextlib.suppress(SerializationError):
            return self._dump(result)
        fail_unpicklable(result, self.function, items, self.star)
        return self._dump(result)

    def _dump(self, result: ChunkResult) -> tuple[bytes, list[memoryview]]:
        self.failed_items = len(result.failures)
        return dump_result(result if result.failures else result.values)


class _Cell:
    """Code for the shell."""

    __slots__ = ("code", "shell", "silent", "store_history", "typed")

    def __init__(
        self,
        shell: EngineShell | None,
        code: str,
        silent: bool,
        store_history: bool,
        typed: Typed | None,
    ) -> None:
        self.shell = shell
        self.code = code
        self.silent = silent
        self.store_history = store_history
        self.typed = typed

    def run(self) -> tuple[bytes, list[memoryview]]:
        shell = self.shell
        if shell is None:
            raise CapabilityError("cells need an IPython shell, and this worker runs without one")
        result = shell.run_task(
            self.code, silent=self.silent, store_history=self.store_history, typed=self.typed
        )
        if result.error_before_exec is not None:
            raise result.error_before_exec.with_traceback(None)  # all frames are IPython's
        if result.error_in_exec is not None:
            raise result.error_in_exec
        shown = shell.execute_result
        value = None
        if shown is not None:
            value = {
                "execution_count": shown.execution_count,
                "data": shown.data,
                "metadata": shown.metadata,
            }
        return dump_result(ExecuteReply(result.execution_count, value))

    def describe(self, error: BaseException) -> bytes:
        return describe_failure(error, ansi=self.shell.cell_traceback if self.shell else "")
