"""The nursery: one warm, single-threaded process that forks engines and watches them.

It imports what every engine needs, once, and then does nothing but wait for two things: lines from
the hub, and children that die, stop or go on.  It never runs user code and never starts a thread,
so forking it is safe.  When the hub is gone it takes its engines with it, or, if the cluster shall
outlive its clients, starts another hub: engines go on meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import mmap
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from typing import Any, NoReturn

from ipyasyncresult.engine.loop import EngineSettings, run_engine
from ipyasyncresult.engine.memory import OutOfMemory
from ipyasyncresult.engine.page import BEGUN, PAGE_BYTES, numbers_of
from ipyasyncresult.engine.signalling import end_if_overdue, send_signal, signal_task
from ipyasyncresult.wire.limits import explain_limit, raise_file_limit
from ipyasyncresult.wire.runtime import cluster_folder, name_process, remove_folder
from ipyasyncresult.worker.capture import create_capture_file, read_tail
from ipyasyncresult.worker.shell import EngineShell

__all__ = ["Nursery"]

_PR_SET_PDEATHSIG = 1  # prctl(2)
_LOOK = 0.25
"""Seconds between two looks for tasks that are over their time."""
_PATIENCE = 1.0
"""Seconds that engines have to end by themselves before they are killed."""
_REMEMBERED = 256
"""Deaths of engines that a new hub is told."""
_HUB_WINDOW = 60.0
"""Seconds; when as many hubs died within them as one engine may, no more are started."""


class Child:
    """One engine, as its parent knows it."""

    __slots__ = (
        "engine_id",
        "memory",
        "overdue",  # it was killed, as its task did not end in time
        "page",
        "pid",
        "stderr",
        "stdout",
        "stopped",  # as the hub was told
        "uuid",
    )

    def __init__(self, engine_id: int, uuid: str) -> None:
        self.engine_id = engine_id
        self.uuid = uuid
        self.pid = 0
        self.stopped = self.overdue = False
        # The child writes what it is at; the page outlives it.
        self.memory = mmap.mmap(-1, PAGE_BYTES)
        self.page = numbers_of(self.memory)
        self.stdout = create_capture_file("stdout")
        self.stderr = create_capture_file("stderr")

    def begun(self) -> int:
        """How many tasks the engine ever began."""
        return int(self.page[BEGUN])

    def close(self) -> None:
        """Give back what was kept for it."""
        self.page.release()
        self.memory.close()
        os.close(self.stdout)
        os.close(self.stderr)


class Successor:
    """Starts the next hub of a cluster.

    Parameters
    ----------
    settings : dict
        As the first hub got them.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self._starts: deque[float] = deque(maxlen=max(1, settings.get("restart_limit", 5)))

    def start(self) -> socket.socket | None:
        """This side's end of the line to a new hub, None when it is of no use any more."""
        now = time.monotonic()
        if len(self._starts) == self._starts.maxlen and now - self._starts[0] < _HUB_WINDOW:
            return None
        self._starts.append(now)
        mine, theirs = socket.socketpair()
        settings = {**self.settings, "nursery_fd": theirs.fileno()}
        try:
            with (cluster_folder(self.settings["cluster_id"]) / "hub.log").open("ab") as log:
                hub = subprocess.Popen(
                    [sys.executable, "-P", "-m", "ipyasyncresult.hub"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    pass_fds=[theirs.fileno()],
                )
            assert hub.stdin is not None
            with contextlib.suppress(BrokenPipeError), hub.stdin as pipe:
                pipe.write(json.dumps(settings).encode() + b"\n")
        except OSError:  # out of processes, or somebody removed the folder
            mine.close()
            return None
        finally:
            theirs.close()
        hub.returncode = 0  # reaped with the engines: Popen has nothing more to do
        return mine

    def give_up(self) -> None:
        """No hub is left to remove what the cluster left."""
        with contextlib.suppress(OSError, ValueError):
            remove_folder(cluster_folder(self.settings["cluster_id"]))


class Nursery:
    """Forks engines on request and reports what becomes of them.

    Parameters
    ----------
    hub : socket.socket
        The hub's end of the line.
    """

    def __init__(self, hub: socket.socket) -> None:
        self._hub = hub
        self._children: dict[int, Child] = {}  # by pid
        self._settings: EngineSettings | None = None
        self._memory = OutOfMemory()
        self._file_limit = raise_file_limit()
        self._unread = b""
        self._successor: Successor | None = None  # of the hub
        self._farewell = False  # the hub ends because it shall
        self._exited: deque[dict[str, Any]] = deque(maxlen=_REMEMBERED)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def run(self) -> None:
        """Serve until the hub is gone."""
        name_process("ipar-nursery")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the hub's end is what ends it
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        EngineShell.instance()  # made once, inherited by every engine
        # What is here stays: collections in engines need not look at it, nor copy its pages.
        gc.freeze()
        gc.enable()
        while True:
            watched: list[Any] = [self._hub, self._wake_read]
            ready, _, _ = select.select(watched, [], [], _LOOK)
            self._end_overdue()
            if self._wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
                self._reap()
            if self._hub in ready and not self._listen() and not self._start_hub():
                break
        self._end_all()
        if self._successor is not None and not self._farewell:
            self._successor.give_up()

    # -- the hub ---------------------------------------------------------------------------------

    def _listen(self) -> bool:
        data = b""
        with contextlib.suppress(OSError):
            data = self._hub.recv(1 << 16)
        if not data:
            return False
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))
        return True

    def _obey(self, wish: dict[str, Any]) -> None:
        if "settings" in wish:
            self._settings = EngineSettings(**wish["settings"])
            if wish["successor"] is not None:
                self._successor = Successor(wish["successor"])
        elif "farewell" in wish:
            self._farewell = True
        elif "fork" in wish:
            self._fork(wish["fork"], wish["uuid"])
        elif "task" in wish:
            self._signal_task(wish)
        elif "signal" in wish:
            for child in self._children.values():
                if child.uuid == wish["uuid"]:
                    send_signal(child.pid, wish["signal"], group=wish["group"])

    def _signal_task(self, wish: dict[str, Any]) -> None:
        found = [child for child in self._children.values() if child.uuid == wish["uuid"]]
        for child in found:
            hit = signal_task(child, wish["task"], wish["signal"])
            self._tell("signalled", child, request=wish["request"], hit=hit, begun=child.begun())
        if not found:
            notice = {"event": "signalled", "uuid": wish["uuid"], "request": wish["request"]}
            self._say({**notice, "hit": False, "begun": 0})

    def _end_overdue(self) -> None:
        now = time.monotonic_ns()
        for child in self._children.values():
            child.overdue = child.overdue or end_if_overdue(child, now)

    def _tell(self, event: str, child: Child, **more: Any) -> None:
        notice = {"event": event, "engine_id": child.engine_id, "uuid": child.uuid, **more}
        if event == "exited":
            self._exited.append(notice)  # a hub that dies now has not written it down
        self._say(notice)

    def _say(self, notice: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the hub is gone: the next turn ends everything
            self._hub.sendall(json.dumps(notice).encode() + b"\n")

    def _start_hub(self) -> bool:
        """The hub is gone: start another one, unless there shall be none."""
        if self._successor is None or self._farewell:
            return False
        self._hub.close()
        hub = self._successor.start()
        if hub is None:
            return False
        self._hub, self._unread = hub, b""
        living = [
            {"engine_id": c.engine_id, "uuid": c.uuid, "pid": pid, "stopped": c.stopped}
            for pid, c in self._children.items()
        ]
        word = {
            "engines": living,
            "exited": list(self._exited),
            "successor": self._successor.settings,
        }
        with contextlib.suppress(OSError):  # it died at once: the next turn says so
            self._hub.sendall(json.dumps(word).encode() + b"\n")
        return True

    # -- children --------------------------------------------------------------------------------

    def _fork(self, engine_id: int, uuid: str) -> None:
        assert self._settings is not None, "settings come first"
        try:
            child = Child(engine_id, uuid)
            pid = os.fork()
        except OSError as error:  # out of processes, memory or descriptors
            notice = {"event": "exited", "engine_id": engine_id, "uuid": uuid, "begun": 0}
            notice["stderr"] = f"cannot start an engine: {explain_limit(error)}"
            self._say(notice)
            return
        if pid == 0:
            self._become_engine(child)
        child.pid = pid
        self._children[pid] = child
        self._tell("forked", child, pid=pid)

    def _become_engine(self, child: Child) -> NoReturn:
        code = 1
        try:
            parent = os.getppid()
            name_process(f"ipar-engine-{child.engine_id}")
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_NOFILE, self._file_limit)  # tasks have the user's
            os.setsid()  # a group of its own: what it starts can be ended with it
            _die_with_parent(parent)
            self._hub.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            for sibling in self._children.values():
                sibling.close()
            assert self._settings is not None
            run_engine(
                self._settings,
                child.engine_id,
                child.uuid,
                child.memory,
                (child.stdout, child.stderr),
            )
            code = 0
        except BaseException:  # noqa: BLE001  nothing may return into the nursery's loop
            import traceback

            text = traceback.format_exc()
            os.write(child.stderr, text.encode(errors="replace"))
        finally:
            os._exit(code)

    def _reap(self) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.get(pid)
            if child is None:
                continue
            if os.WIFSTOPPED(status):
                child.stopped = True
                self._tell("stopped", child)
            elif os.WIFCONTINUED(status):
                if child.stopped:  # not if it was held still for a moment only
                    child.stopped = False
                    self._tell("continued", child)
            else:
                self._bury(child, status)

    def _bury(self, child: Child, status: int) -> None:
        del self._children[child.pid]
        send_signal(child.pid, signal.SIGKILL, group=True)  # what it started
        died: dict[str, Any] = (
            {"signal": signal.Signals(os.WTERMSIG(status)).name}
            if os.WIFSIGNALED(status)
            else {"exit_code": os.WEXITSTATUS(status)}
        )
        stderr = read_tail(child.stderr)
        if died.get("signal") == "SIGKILL" and self._memory.has_struck():
            died["oom"] = True
        more = {"begun": child.begun(), "pid": child.pid, "overdue": child.overdue}
        self._tell("exited", child, stderr=stderr, **more, **died)
        child.close()

    # -- the end ---------------------------------------------------------------------------------

    def _end_all(self) -> None:
        """Engines that were told to stop go by themselves; the others are ended."""
        for number in (signal.SIGTERM, signal.SIGCONT):
            for pid in self._children:
                send_signal(pid, number, group=True)
        deadline = time.monotonic() + _PATIENCE
        while self._children and time.monotonic() < deadline:
            select.select([self._wake_read], [], [], max(0.0, deadline - time.monotonic()))
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
            self._reap()
        for pid in list(self._children):
            send_signal(pid, signal.SIGKILL, group=True)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _die_with_parent(parent: int) -> None:
    """Let the kernel end this process when the nursery is killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died between the fork and now
        os._exit(1)
