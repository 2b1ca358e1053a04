"""Tasks in a process that is somebody else's: a pool's worker, Dask's, a thread of the notebook.

::

    client    Work ──▶ pool, Dask, ... ──▶ run_work ──▶ Delivery ──▶ client
                                           (captured in its own context; the process goes on
                                            writing where it always wrote)

What displays need of IPython is made when a task may want it: where IPython is loaded, here or in
the client.  A process that is the user's own (a thread pool in the notebook) keeps its shell.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Sequence
from time import monotonic, time
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from ipyasyncresult._version import __version__
from ipyasyncresult.core.outputs import Output, encode_outputs
from ipyasyncresult.worker.capture import (
    Capture,
    context_recorder,
    enter_context,
    leave_context,
)
from ipyasyncresult.worker.direct import call_function, run_chunk
from ipyasyncresult.worker.namespace import current_namespace
from ipyasyncresult.worker.recorder import Recorder
from ipyasyncresult.worker.runner import Outcome, Runner

if TYPE_CHECKING:
    from ipyasyncresult.worker.shell import EngineShell

__all__ = [
    "Delivery",
    "Direct",
    "PlainDelivery",
    "Work",
    "at_home",
    "deliver",
    "describe_place",
    "guest",
    "leave_home",
    "run_all",
    "run_function",
    "run_work",
    "version",
]

CALL, CELL, CHUNK, STAR_CHUNK = range(4)


class Work(NamedTuple):
    """One task, as it travels."""

    function: Any
    """From ``dump_function``, or the source of a cell; if `direct` the function itself."""
    arguments: Any
    buffers: Sequence[Any] = ()
    kind: int = CALL
    silent: bool = False
    history: bool = True
    rich: bool = False
    """Displays are likely: the client runs in IPython."""
    cells: bool = False
    """The process is wholly a worker: its shell may be what ``__main__`` is."""
    direct: bool = False
    """It is run in the process that asks: nothing is packed."""


class Delivery(NamedTuple):
    """How a task ended, as it travels."""

    ok: bool
    body: Any
    """The pickled result or the encoded failure; of direct work the result itself, or a
    :class:`~ipyasyncresult.core.failure.Raised`."""
    buffers: Sequence[Any]
    started: float
    duration: float
    failed_items: int
    outputs: Sequence[bytes]
    """Encoded pieces; those that went out live come first."""
    place: str
    """Which worker ran it."""


PlainDelivery = tuple[bool, Any, Sequence[Any], float, float, int, Sequence[bytes], str]
"""A :class:`Delivery` as a plain tuple, which is made, pickled and taken apart faster."""


def describe_place() -> str:
    """``host:pid``: this process among those of a cluster."""
    return f"{socket.gethostname()}:{os.getpid()}"


def version() -> tuple[str, str]:
    """Versions of this package and of Python, to be compared with the client's."""
    return __version__, f"{sys.version_info[0]}.{sys.version_info[1]}"


_home = 0  # pid of the process that is the user's own
_stays = 0  # clients that are open there


def at_home() -> None:
    """This process is the user's own: tasks that run in it find it as it is."""
    global _home, _stays
    if _home != os.getpid():
        _home, _stays = os.getpid(), 0
    _stays += 1


def leave_home() -> None:
    """As often as :func:`at_home` was called: then this process gets its streams back."""
    global _stays, _guest
    _stays -= 1
    with _making:
        if not _stays and _guest is not None and _guest.pid == os.getpid():
            _guest.leave()
            _guest = None


class _Guest:
    """The one runner of this process."""

    def __init__(self) -> None:
        self.pid: int = os.getpid()
        self.place: str = describe_place()
        self.capture: Capture = Capture(redirect_fds=False)
        self.capture.install()
        self.runner: Runner = Runner(self.capture)
        self.shell: EngineShell | None = None
        self.cell_turn = threading.Lock()  # a shell runs one cell at a time
        self._shell_turn = threading.Lock()
        self._hooked: Any = None  # the shell whose displays come to us

    def prepare(self, work: Work) -> None:
        """Have streams and displays of the coming task captured."""
        self.capture.renew()
        if self.shell is None and self.pid != _home:
            if work.rich or work.kind == CELL or "IPython" in sys.modules:
                self._make_shell(work.cells)
        else:
            self.hook_displays()

    def _make_shell(self, cells: bool) -> None:
        from IPython.core.interactiveshell import InteractiveShell

        from ipyasyncresult.worker.shell import EngineShell

        with self._shell_turn:
            if self.shell is not None:
                return
            if InteractiveShell.initialized():  # inherited by a fork from a notebook's kernel
                type(InteractiveShell.instance()).clear_instance()
            # A pool finds its own functions in __main__, which must stay what it is.
            module = None if cells else ModuleType("ipyasyncresult_worker")
            shell = EngineShell.instance(user_module=module)
            before = current_namespace()
            self.runner = Runner(self.capture, shell)
            # What was pushed when there was no shell yet.
            shell.user_ns.update({k: v for k, v in before.items() if k != "__builtins__"})
            self.shell = shell

    def hook_displays(self) -> None:
        """In a notebook: what a task of a thread displays is that task's, not the cell's."""
        if self.shell is not None:
            return
        module = sys.modules.get("IPython.core.interactiveshell")
        shell = module.InteractiveShell._instance if module is not None else None
        if shell is None or shell is self._hooked:
            return
        self.leave_displays()
        self._hooked = shell
        publisher = shell.display_pub
        publish, clear = publisher.publish, publisher.clear_output

        def publish_in_task(data: Any, metadata: Any = None, *args: Any, **options: Any) -> None:
            recorder = context_recorder()
            if recorder is None:
                publish(data, metadata, *args, **options)
                return
            kind: Any = "update_display_data" if options.get("update") else "display_data"
            display_id = (options.get("transient") or {}).get("display_id")
            recorder.display(kind, data, metadata, display_id=display_id)

        def clear_in_task(wait: bool = False) -> None:
            recorder = context_recorder()
            if recorder is None:
                clear(wait)
            else:
                recorder.clear(wait)

        publisher.publish, publisher.clear_output = publish_in_task, clear_in_task

    def leave_displays(self) -> None:
        if self._hooked is not None:
            # What stands on the object hides the methods of its class.
            vars(self._hooked.display_pub).pop("publish", None)
            vars(self._hooked.display_pub).pop("clear_output", None)
            self._hooked = None

    def leave(self) -> None:
        """Give streams and displays back."""
        self.leave_displays()
        self.capture.uninstall()

    def run(self, work: Work, recorder: Recorder) -> Outcome:
        self.prepare(work)
        runner, function, arguments, buffers = (
            self.runner,
            work.function,
            work.arguments,
            work.buffers,
        )
        if work.kind == CALL:
            return runner.run_call(function, arguments, buffers, recorder=recorder)
        if work.kind == CELL:
            with self.cell_turn:
                return runner.run_cell(
                    function.decode(),
                    silent=work.silent,
                    store_history=work.history,
                    typed=arguments,
                    recorder=recorder,
                )
        star = work.kind == STAR_CHUNK
        return runner.run_chunk(function, arguments, buffers, star=star, recorder=recorder)


_guest: _Guest | None = None
_making = threading.Lock()


def guest() -> _Guest:
    """The runner of this process; a forked child makes its own."""
    global _guest
    found = _guest
    if found is None or found.pid != os.getpid():
        with _making:
            if _guest is None:
                _guest = _Guest()
            elif _guest.pid != os.getpid():
                _guest.capture.uninstall()
                _guest = _Guest()
            found = _guest
    return found


def _renew_lock() -> None:
    global _making
    _making = threading.Lock()  # a thread that is not in the child may have held it


os.register_at_fork(after_in_child=_renew_lock)


def deliver(outcome: Outcome, outputs: Sequence[bytes], place: str) -> Delivery:
    """The outcome as it travels, its large buffers as they are."""
    return Delivery(
        outcome.ok,
        outcome.body,
        outcome.buffers,
        outcome.started,
        outcome.duration,
        outcome.failed_items,
        outputs,
        place,
    )


def run_work(work: Work) -> Delivery:
    """Run one task.  Any thread; never raises."""
    if work.direct:
        return Delivery(*Direct().run(work.function, work.kind, work.arguments, monotonic()))
    host = guest()
    return _deliver_from(host, work, host.place)


def _deliver_from(host: _Guest, work: Work, place: str) -> Delivery:
    recorder = Recorder()
    outcome = host.run(work, recorder)
    outputs = recorder.take()
    return deliver(outcome, [encode_outputs(outputs)] if outputs else (), place)


def run_function(
    function: bytes, arguments: bytes, buffers: Sequence[Any] = ()
) -> tuple[Outcome, list[Output]]:
    """Run one call.  Any thread; never raises."""
    recorder = Recorder()
    outcome = guest().run(Work(function, arguments, buffers), recorder)
    return outcome, recorder.take()


def run_all(function: bytes, works: Sequence[tuple[Any, ...]]) -> list[PlainDelivery]:
    """Run several tasks of one function, one after the other.

    Plain tuples both ways, which are pickled faster: each of `works` is a :class:`Work` without its
    function.
    """
    host = guest()
    return [_picklable(_deliver_from(host, Work(function, *work), host.place)) for work in works]


def _picklable(delivery: Delivery) -> PlainDelivery:
    if not delivery.buffers:
        return tuple(delivery)
    return tuple(delivery._replace(buffers=[bytes(buffer) for buffer in delivery.buffers]))


class Direct:
    """Runs tasks in a thread of the process that asks; nothing is packed.  One thread."""

    def __init__(self) -> None:
        host = guest()
        host.hook_displays()
        self._renew = host.capture.renew
        self.place: str = f"{host.place}:{threading.get_ident()}"  # each thread is a worker
        self._epoch = time() - monotonic()

    def run(self, function: Any, kind: int, arguments: Any, began: float) -> PlainDelivery:
        """Run one task, which began now by the monotonic clock.  Never raises."""
        self._renew()
        recorder = Recorder()
        token = enter_context(recorder)
        if kind == CALL:
            ok, body, failed = call_function(function, arguments)
        else:
            ok, body, failed = run_chunk(function, arguments, kind == STAR_CHUNK)
        duration = monotonic() - began
        leave_context(token)
        outputs = recorder.end()
        pieces = [encode_outputs(outputs)] if outputs else ()
        return ok, body, (), self._epoch + began, duration, failed, pieces, self.place
