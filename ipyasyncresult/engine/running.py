"""What the main thread of an engine is at: for the nursery, which reads it, and for interrupts."""

from __future__ import annotations

import os
import signal
import threading
from mmap import mmap

from ipyasyncresult.engine.page import BEGUN, DEADLINE, MEANT, RUNNING, numbers_of
from ipyasyncresult.worker.runner import Runner
from ipyasyncresult.worker.timelimit import TimedOut, TimeLimit

__all__ = ["Running"]


WAKE_UP = signal.SIGURG
"""Has a handler that does nothing, and so ends a sleep in the kernel: Python then runs the handlers
of signals that came before.  Nobody else uses it (Go's runtime has taken it for the same end)."""


class Running:
    """The running task, on the page that the nursery reads.

    Attributes
    ----------
    limit : TimeLimit or None
        How long the task may take.  Written by the main thread.
    """

    def __init__(self, page: mmap, runner: Runner) -> None:
        self.limit: TimeLimit | None = None
        self._page = numbers_of(page)
        self._runner = runner
        self._pid = os.getpid()

    def install(self) -> None:
        """Take the signals.  The main thread."""
        signal.signal(signal.SIGINT, self.interrupt)
        signal.signal(WAKE_UP, lambda *_: None)

    def begin(self, msg_id: str, timeout: float) -> None:
        """A task begins.  The main thread."""
        if timeout:
            self.limit = TimeLimit(timeout, self._set_deadline)
        page = self._page
        page[BEGUN] += 1
        page[RUNNING] = hash(msg_id) or 1  # as `task_number`

    def end(self) -> None:
        """It has ended.  The main thread."""
        self._page[RUNNING] = 0
        self.limit = None

    def _set_deadline(self, when: float) -> None:
        self._page[DEADLINE] = int(when * 1e9)

    def look_at_clock(self) -> None:
        """Interrupt a call that is over its time.  The pump."""
        limit, page = self.limit, self._page
        if limit is not None and limit.is_over():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        elif (limit is not None and limit.is_due()) or page[MEANT] == page[RUNNING] != 0:
            # The signal came, but its handler has not run: the main thread was just about to sleep
            # in the kernel.  This wakes it.
            signal.pthread_kill(threading.main_thread().ident or 0, WAKE_UP)

    def interrupt(self, *_: object) -> None:
        """The handler of SIGINT: raise in the task that is meant, and in no other.

        It is for user code; one that comes between two tasks has nothing to do.
        """
        __tracebackhide__ = True  # tracebacks end where the user's code was
        page, limit = self._page, self.limit
        due: TimedOut | bool = False
        meant = 0
        if os.getpid() == self._pid:  # a task's forked children have no part in this
            meant, page[MEANT] = page[MEANT], 0
            due = limit is not None and limit.take_due()
        if not self._runner.running or due is True:
            return
        if due:
            raise due
        if meant in (0, page[RUNNING]):
            raise KeyboardInterrupt
