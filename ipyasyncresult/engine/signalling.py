"""Signals for one task, and for no other that may have taken its place meanwhile.

SIGINT takes its address along: the page says which task it is for, and the engine's handler looks.
Nothing else can be taken back once it is sent, so for other signals the engine is first held still:
stopped, looked at, signalled, let go.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Protocol

from ipyasyncresult.engine.page import DEADLINE, MEANT, RUNNING, task_number

__all__ = ["end_if_overdue", "send_signal", "signal_task"]

_STOP_TIMEOUT = 0.2
"""Seconds to wait for an engine to stop.  One that hangs in the kernel does not, and cannot go on
to another task either."""


class SignalledChild(Protocol):
    """What must be known of a child process."""

    pid: int
    stopped: bool
    page: memoryview


def send_signal(pid: int, number: int, *, group: bool) -> None:
    """Signal a process, or its whole group, if it is there."""
    # It is gone, or there is no such signal: nothing that a client asks for ends the nursery.
    with contextlib.suppress(OSError, OverflowError):
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def signal_task(child: SignalledChild, msg_id: str, number: int) -> bool:
    """Signal the engine if it runs that task now; whether it does (signal 0: only that)."""
    wanted = task_number(msg_id)
    if child.page[RUNNING] != wanted:
        return False
    if number == 0:
        return True
    if number == signal.SIGINT:
        child.page[MEANT] = wanted
        send_signal(child.pid, number, group=False)
        return True
    with _held_still(child):
        if child.page[RUNNING] != wanted:
            return False
        send_signal(child.pid, number, group=number == signal.SIGKILL)
        return True


def end_if_overdue(child: SignalledChild, now: int) -> bool:
    """Kill the engine if what it runs should have ended before `now`; whether it was so.

    `now` is in nanoseconds of the monotonic clock.
    """
    deadline = child.page[DEADLINE]
    if not deadline or deadline > now:
        return False
    with _held_still(child):
        if child.page[DEADLINE] != deadline:  # it has just ended, or the next item began
            return False
        send_signal(child.pid, signal.SIGKILL, group=True)
        return True


@contextlib.contextmanager
def _held_still(child: SignalledChild) -> Iterator[None]:
    if child.stopped:  # by somebody else, and not ours to let go
        yield
        return
    send_signal(child.pid, signal.SIGSTOP, group=False)
    try:
        _await_stop(child.pid)
        yield
    finally:
        send_signal(child.pid, signal.SIGCONT, group=False)


def _await_stop(pid: int) -> None:
    """Wait until it has stopped; takes the notice of that away, and leaves that of its death."""
    deadline = time.monotonic() + _STOP_TIMEOUT
    with contextlib.suppress(ChildProcessError):
        while os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG) is None:
            if time.monotonic() > deadline:
                return
            died = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if died is not None:
                return
            time.sleep(0.0002)
