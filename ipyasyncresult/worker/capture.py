"""Everything a process writes, given to the task that wrote it.

::

    print, sys.stdout.write ──▶ TaskStream ─┐
    display, clear_output ──▶ (the shell) ──┼──▶ Recorder of the task ──▶ take(): list[Output]
    C code, child processes ──▶ fd 1, 2 ────┘
                            (files in memory)

Which task?  A context variable says it, so threads and coroutines that a task starts belong to it
also after its end; without one, it is the running task; between tasks, :attr:`Capture.idle`.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, Token
from functools import partial
from time import monotonic
from typing import Any

from ipyasyncresult.core.outputs import OutputKind
from ipyasyncresult.worker.capturefile import CaptureFile, create_capture_file, read_tail
from ipyasyncresult.worker.recorder import LogRecorder, Recorder
from ipyasyncresult.worker.streams import NoStdin, SharedStream, TaskStream

__all__ = [
    "Capture",
    "context_recorder",
    "create_capture_file",
    "current_recorder",
    "enter_context",
    "leave_context",
    "read_tail",
    "written_to",
]

_IDLE_SECONDS = 0.001  # a gap between tasks in which something may have been written

_IOLBF = 1  # of <stdio.h>: line buffered

_lseek, _SEEK_END = os.lseek, os.SEEK_END  # looked up several times per print

_of_context: ContextVar[Recorder | None] = ContextVar("recorder", default=None)
_installed: Capture | None = None


# What `Capture.begin` and `end` come to where only what tasks write in Python is captured.
enter_context, leave_context = _of_context.set, _of_context.reset


def current_recorder() -> Recorder | None:
    """The recorder for what the calling code shows, with all it wrote before.  Any thread.

    None where nothing is captured.
    """
    if _installed is None:
        return None
    _installed.drain()
    return _of_context.get() or _installed.current


def context_recorder() -> Recorder | None:
    """The recorder of this context alone.  Any thread."""
    return _of_context.get()


@contextmanager
def written_to(recorder: Recorder) -> Iterator[None]:
    """Within the context, what this thread and those that it starts write belongs to `recorder`."""
    token = _of_context.set(recorder)
    try:
        yield
    finally:
        _of_context.reset(token)


class Capture:
    """The standard streams of this process, while installed.

    Parameters
    ----------
    stdout_fd, stderr_fd : int, optional
        Files from :func:`create_capture_file` that the parent process made, to read them should
        this process die; without, new ones are made.
    redirect_fds : bool
        This process runs one task at a time and nothing else: capture all that it writes, file
        descriptors 1 and 2 included.  False for a process that is somebody else's, or that runs
        several tasks at once: only what tasks write in Python, in their own context, is captured.

    Attributes
    ----------
    idle : LogRecorder
        What was written while no task ran.
    running : Recorder or None
        The task that gets what cannot be attributed.
    threads : bool
        Whether a task ever started a thread.
    on_late : callable or None
        Called with the recorder of a task that wrote after its end; on any thread.
    """

    def __init__(
        self,
        stdout_fd: int | None = None,
        stderr_fd: int | None = None,
        *,
        redirect_fds: bool = True,
    ) -> None:
        self.idle: LogRecorder = LogRecorder()
        self.running: Recorder | None = None
        self.threads = False
        self.on_late: Callable[[Recorder], object] | None = None
        self._given = (stdout_fd, stderr_fd)
        self._redirect = redirect_fds
        self._files: tuple[CaptureFile, ...] = ()
        self._lock = threading.RLock()  # guards the offsets in `_files`
        self._ended = monotonic()
        self._flush_c: Callable[[], object] | None = None
        self._streams: tuple[TaskStream, ...] = ()
        self._replaced: list[tuple[str, Any, Any]] = []  # name in sys, ours, the one before
        self._saved_fds: tuple[int, int] | None = None

    @property
    def current(self) -> Recorder | None:
        """The recorder for what belongs to no context, if this process is ours."""
        return (self.running or self.idle) if self._redirect else None

    # ----------------------------------------------------------------------- while tasks run

    def begin(self, recorder: Recorder) -> Token[Recorder | None]:
        """From now on what is written belongs to `recorder`; main thread of the task."""
        if self._files and monotonic() - self._ended > _IDLE_SECONDS:
            self.drain()
        if self._redirect:
            self.running = recorder
        return _of_context.set(recorder)

    def end(self, recorder: Recorder, token: Token[Recorder | None]) -> None:
        """The task ended; the same thread as :meth:`begin`."""
        if self._flush_c is not None:
            self._flush_c()
            self.drain()
        _of_context.reset(token)
        if self.running is recorder:
            self.running = None
        recorder.finish(self.on_late)
        self._ended = monotonic()

    @contextmanager
    def task(self, recorder: Recorder) -> Iterator[Recorder]:
        """:meth:`begin` and :meth:`end` around a block."""
        token = self.begin(recorder)
        try:
            yield recorder
        finally:
            self.end(recorder, token)

    def drain(self) -> None:
        """Fetch what C code and child processes wrote.  Any thread: before each write of Python
        code, at the end of a task, and every 50 ms or so by whoever sends outputs."""
        for file in self._files:
            end = _lseek(file.fd, 0, _SEEK_END)  # half the price of a read
            if end != file.offset:
                with self._lock:
                    file.drain(self.running or self.idle, end)

    def write(self, kind: OutputKind, text: str) -> None:
        """Add text to the stream of the task that calls.  Any thread."""
        if self._files:
            self.drain()
        (_of_context.get() or self.running or self.idle).write(kind, text)

    # --------------------------------------------------------------------------- coming and going

    def install(self) -> None:
        """Take the standard streams over.

        Raises
        ------
        RuntimeError
            A capture is installed in this process already.
        """
        global _installed
        if _installed is not None:
            raise RuntimeError("a Capture is installed in this process already")
        _installed = self
        sys.stdout.flush()
        sys.stderr.flush()
        if self._redirect:
            self._redirect_fds()
            self._streams = (
                TaskStream("stdout", self.write, 1),
                TaskStream("stderr", self.write, 2),
            )
            self._replace("stdin", NoStdin())
        else:
            self._streams = (
                SharedStream("stdout", sys.stdout, _of_context.get),
                SharedStream("stderr", sys.stderr, _of_context.get),
            )
        self._replace("stdout", self._streams[0])
        self._replace("stderr", self._streams[1])
        threading.Thread.start = _start_in_task  # type: ignore[assignment, method-assign]
        ThreadPoolExecutor.submit = _submit_in_task  # type: ignore[assignment, method-assign]

    def uninstall(self) -> None:
        """Give the standard streams back; what came last is in the recorders.  Idempotent."""
        global _installed
        if not self._replaced:
            return
        threading.Thread.start = _plain_start  # type: ignore[method-assign]
        ThreadPoolExecutor.submit = _plain_submit  # type: ignore[method-assign]
        for name, ours, before in self._replaced:
            if getattr(sys, name) is ours:  # and nobody put another one there meanwhile
                setattr(sys, name, before)
        for name in ("stdout", "stderr"):
            if type(stream := getattr(sys, name)) is SharedStream:  # of `renew`
                setattr(sys, name, stream.original)
        self._replaced = []
        if self._saved_fds is not None:
            self._restore_fds()
        _installed = None

    def renew(self) -> None:
        """In a process that is somebody else's: who put other streams in place (a redirection, a
        test) gets what it is meant to get, and tasks still write to us."""
        if type(sys.stdout) is SharedStream and type(sys.stderr) is SharedStream:
            return
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if type(stream) is not SharedStream:
                kind: OutputKind = "stdout" if name == "stdout" else "stderr"
                setattr(sys, name, SharedStream(kind, stream, _of_context.get))

    def _replace(self, name: str, ours: object) -> None:
        self._replaced.append((name, ours, getattr(sys, name)))
        setattr(sys, name, ours)

    def _redirect_fds(self) -> None:
        kinds: tuple[OutputKind, OutputKind] = ("stdout", "stderr")
        files = [
            CaptureFile(kind, create_capture_file(kind) if fd is None else fd)
            for kind, fd in zip(kinds, self._given, strict=True)
        ]
        self._saved_fds = (os.dup(1), os.dup(2))
        for target, file in enumerate(files, 1):
            os.dup2(file.fd, target)
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None:  # for code that writes past sys.stdout: keep the order
                stream.reconfigure(line_buffering=True)
        self._flush_c = _line_buffer_c_stdout()
        self._files = tuple(files)

    def _restore_fds(self) -> None:
        assert self._saved_fds is not None
        if self._flush_c is not None:
            self._flush_c()
        self.drain()
        files, self._files, self._flush_c = self._files, (), None
        for target, fd in enumerate(self._saved_fds, 1):
            os.dup2(fd, target)
            os.close(fd)
        for file, given in zip(files, self._given, strict=True):
            if given is None:
                os.close(file.fd)
        self._saved_fds = None

    def leave_to_parent(self) -> None:
        """In a forked child: the recorders are the parent's, but it reads the file descriptors."""
        self._files, self._flush_c = (), None
        for stream in self._streams:
            stream.leave_to_parent()
        Recorder.renew_lock()  # a thread that is not in the child may have held it


def _after_fork() -> None:
    if _installed is not None:
        _installed.leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)

# ------------------------------------------------------------------------- threads of tasks

_plain_start = threading.Thread.start
_plain_submit = ThreadPoolExecutor.submit


def _start_in_task(thread: threading.Thread) -> None:
    """``Thread.start`` for threads that tasks start: they go on writing to that task.

    Only the recorder is handed on, not the whole context: the thread finds the other variables as
    its Python version has it.
    """
    recorder = _of_context.get()
    if recorder is not None:
        if _installed is not None:
            _installed.threads = True
        run = thread.run

        def run_in_task() -> None:
            del thread.run  # the cycle through this closure
            _of_context.set(recorder)
            run()

        thread.run = run_in_task  # type: ignore[method-assign]
    _plain_start(thread)


def _submit_in_task(
    executor: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Future[Any]:
    """``ThreadPoolExecutor.submit``: a pool may outlive the task that started its threads."""
    recorder = _of_context.get()
    if recorder is None:
        return _plain_submit(executor, function, *args, **kwargs)

    def call_in_task() -> Any:
        token = _of_context.set(recorder)
        try:
            return function(*args, **kwargs)
        finally:
            _of_context.reset(token)

    return _plain_submit(executor, call_in_task)


def _line_buffer_c_stdout() -> Callable[[], object]:
    """Make C's stdout write line by line; gives a function that flushes the rest.

    Only stdout: ``fflush(NULL)`` would wait for every stream that another thread is using.
    """
    libc = ctypes.PyDLL(None)  # keeps the GIL: a flush into a file in memory takes no time
    stdout = ctypes.c_void_p.in_dll(libc, "__stdoutp" if sys.platform == "darwin" else "stdout")
    libc.setvbuf(stdout, None, _IOLBF, 0)
    flush: Any = libc.fflush
    flush.argtypes, flush.restype = [ctypes.c_void_p], ctypes.c_int
    return partial(flush, stdout.value)
