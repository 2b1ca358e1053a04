"""A Jupyter kernel inside an engine, on a thread of its own: to look in while tasks run.

It shares the engine's namespace and nothing else: the main thread goes on with tasks, and what a
console prints goes to that console.  ipykernel expects to own its process; what follows from that
(signals, standard streams, hooks, singletons, children) is turned off here, in one place.
"""

# ipykernel's and IPython's own methods have no annotations.
# mypy: disable-error-code="no-untyped-call,no-untyped-def,misc"

from __future__ import annotations

import asyncio
import ctypes
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time
from typing import Any, Self

from ipykernel import kernelapp
from ipykernel.displayhook import ZMQDisplayHook
from ipykernel.iostream import IOPubThread
from ipykernel.ipkernel import IPythonKernel
from ipykernel.jsonutil import encode_images, json_clean
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.display_trap import DisplayTrap
from traitlets import Type
from traitlets.config import Config

from ipyasyncresult.core.outputs import Output, OutputKind
from ipyasyncresult.worker.capture import context_recorder, written_to
from ipyasyncresult.worker.recorder import Recorder
from ipyasyncresult.worker.shell import EngineShell

__all__ = ["serve_kernel"]


def serve_kernel(file: Path, sockets: Path, shell: EngineShell, ready: Callable[[], None]) -> None:
    """Be a kernel until a frontend shuts it down; the engine goes on.

    Parameters
    ----------
    file : Path
        The connection file to write; removed at the end.
    sockets : Path
        How paths of its sockets begin.
    shell : EngineShell
        Whose namespace it shows.
    ready : callable
        Called when frontends can connect.
    """
    asyncio.set_event_loop(asyncio.new_event_loop())
    for old in (file, *sockets.parent.glob(f"{sockets.name}-*")):
        old.unlink(missing_ok=True)  # of an engine that had this number before
    app = _App(
        user_ns=shell.user_ns,
        connection_file=str(file),
        transport="ipc",
        ip=str(sockets),
        log_level=logging.ERROR,
    )
    app.initialize([])
    _share_hooks(shell, app.kernel)
    ready()
    try:
        app.start()
    finally:
        app.close()
        app.cleanup_connection_file()


# ------------------------------------------------------------------------ one process, two shells


class _ConsoleRecorder(Recorder):
    """What a console writes and shows goes out at once, as messages of its kernel."""

    def __init__(self, kernel: _Kernel) -> None:
        self._kernel = kernel

    def _say(self, kind: str, content: dict[str, Any]) -> None:
        kernel = self._kernel
        kernel.send_response(kernel.iopub_socket, kind, content, ident=kernel._topic(kind))

    def write(self, kind: OutputKind, text: str) -> None:
        if text:
            self._say("stream", {"name": kind, "text": text})

    def display(
        self,
        kind: OutputKind,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *,
        display_id: str | None = None,
        execution_count: int | None = None,
    ) -> Output:
        plain, about = json_clean(encode_images(data)), json_clean(metadata or {})
        transient = {} if display_id is None else {"display_id": display_id}
        self._say(kind, {"data": plain, "metadata": about, "transient": transient})
        return Output(kind, time(), data=plain, metadata=about, display_id=display_id)

    def clear(self, wait: bool = False) -> None:
        self._say("clear_output", {"wait": wait})


class _OpenTrap(DisplayTrap):
    """Counts instead of exchanging ``sys.displayhook``, which both shells use at the same time."""

    depth = 0

    def __enter__(self) -> Self:
        self.depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


def _share_hooks(shell: EngineShell, kernel: _Kernel) -> None:
    """What Python has once per process goes to the console or to the engine, by who calls."""
    recorder, before = kernel.recorder, sys.displayhook
    console: Any = kernel.shell
    console.user_ns_hidden = shell.user_ns_hidden
    trap = shell.display_trap = _OpenTrap(hook=shell.displayhook)
    console.display_trap = _OpenTrap(hook=console.displayhook)
    of_engine = shell.get_ipython

    def displayhook(value: object) -> None:
        if context_recorder() is recorder:
            console.displayhook(value)
        else:
            (shell.displayhook if trap.depth else before)(value)

    def get_ipython() -> Any:
        return console if context_recorder() is recorder else of_engine()

    sys.displayhook = displayhook
    shell.user_ns["get_ipython"] = shell.user_ns_hidden["get_ipython"] = get_ipython


# ----------------------------------------------------- ipykernel in a process that it does not own


class _Shell(ZMQInteractiveShell):
    """Runs a console's cells in the engine's namespace."""

    @classmethod
    def instance(cls, *args: Any, **kwargs: Any) -> _Shell:
        """No singleton: that is the engine's own shell."""
        return cls(*args, config=Config({"HistoryManager": {"enabled": False}}), **kwargs)

    def init_sys_modules(self) -> None:
        """``__main__`` is the engine's."""

    def init_user_ns(self) -> None:
        """The namespace is the engine's: ``In``, ``Out`` and the like are there."""

    def init_environment(self) -> None:
        """The environment is the engine's."""

    def init_virtualenv(self) -> None:
        """So is the path."""


class _Kernel(IPythonKernel):
    """Handles messages on its own thread; the signals of the process are the engine's."""

    shell_class = Type(_Shell)

    def __init__(self, **kwargs: Any) -> None:
        self.recorder = _ConsoleRecorder(self)
        self._runs_in = 0  # ident of the thread that runs a cell
        super().__init__(**kwargs)

    @classmethod
    def instance(cls, *args: Any, **kwargs: Any) -> _Kernel:
        """No singleton: libraries that look for a kernel must not find one in a task."""
        return cls(*args, **kwargs)

    async def do_execute(self, *args: Any, **kwargs: Any) -> Any:
        with written_to(self.recorder):
            self._runs_in = threading.get_ident()
            try:
                return await super().do_execute(*args, **kwargs)
            finally:
                self._runs_in = 0

    def pre_handler_hook(self) -> None:
        """Signals are for the main thread, which runs tasks."""

    post_handler_hook = pre_handler_hook

    @contextmanager
    def _cancel_on_sigint(self, future: Any) -> Iterator[None]:
        yield

    def _send_interrupt_children(self) -> None:
        """Interrupt the console's cell, and not the engine's task."""
        if self._runs_in:
            ident, kind = ctypes.c_ulong(self._runs_in), ctypes.py_object(KeyboardInterrupt)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, kind)

    def _forward_input(self, allow_stdin: bool = False) -> None:
        """``input`` is everybody's."""

    def _restore_input(self) -> None:
        """See above."""

    async def do_debug_request(self, msg: dict[str, Any]) -> dict[str, Any]:
        """Refused: a debugger would open a TCP port, and stop the thread that runs tasks."""
        return {
            "type": "response",
            "request_seq": msg.get("seq", 0),
            "command": msg.get("command", ""),
            "success": False,
            "message": "an engine cannot be debugged in this way",
        }

    async def _progressively_terminate_all_children(self) -> None:
        """Children of this process are the tasks'."""


class _App(IPKernelApp):
    """Opens the kernel's sockets, and touches nothing else of the process."""

    kernel_class = Type(_Kernel)

    def _nothing(self, *_args: Any, **_kwargs: Any) -> None:
        """Not ours to do here."""

    init_pdb = init_blackhole = init_poller = init_signal = _nothing
    init_crash_handler = load_config_file = configure_tornado_logger = _nothing
    init_path = init_gui_pylab = init_extensions = init_code = _nothing
    patch_io = reset_io = _nothing

    def init_iopub(self, context: Any) -> None:
        """Without its way for child processes, which is a TCP port that others could connect to."""

        def make_thread(socket: Any, pipe: bool = False, **options: Any) -> IOPubThread:
            del pipe
            return IOPubThread(socket, **options)

        its_module: Any = kernelapp
        its_module.IOPubThread = make_thread
        try:
            super().init_iopub(context)
        finally:
            its_module.IOPubThread = IOPubThread

    def init_io(self) -> None:
        """Streams and hooks stay the engine's; the kernel only wants to know of one."""
        self.displayhook = ZMQDisplayHook(self.session, self.iopub_socket)

    def log_connection_info(self) -> None:
        """Without saying it on the standard streams, which belong to the running task."""
        names = ("shell", "iopub", "stdin", "hb", "control")
        self._ports = {name: getattr(self, f"{name}_port") for name in names}

    def write_connection_file(self, **kwargs: Any) -> None:
        super().write_connection_file(**kwargs)
        Path(self.abs_connection_file).chmod(0o600)

    def close(self) -> None:
        super().close()
        for path in Path(self.ip).parent.glob(f"{Path(self.ip).name}-*"):
            path.unlink(missing_ok=True)
