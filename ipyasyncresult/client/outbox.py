"""What leaves a client: single tasks at once when it is quiet, together when many come.

The first task leaves at once.  One that comes within ``_QUIET`` seconds after the last message
waits for company: until there are ``_MANY``, until somebody waits for a result or says something
else to the hub, or for ``_PATIENCE`` seconds, after which the I/O thread sends it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ipyasyncresult.client.interrupts import HeldInterrupts
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.sockets import send

__all__ = ["Outbox"]

_QUIET = 100e-6
"""Seconds; a round trip takes longer, so whoever waits for each result is never held up."""
_PATIENCE = 1e-3
"""Seconds that a task may wait for company."""
_MANY = 100


class Outbox:
    """The sending socket of a client and the tasks that wait for company.  Any thread.

    Parameters
    ----------
    socket : zmq.Socket
        Used under this object's lock only.
    wake : callable
        Makes the I/O thread call :meth:`flush_old` soon.
    """

    def __init__(self, socket: Any, wake: Callable[[], None]) -> None:
        self._socket = socket
        self._wake = wake
        # Guards the socket and everything below.
        self._lock = threading.Lock()
        self._functions: dict[bytes, int] = {}
        self.tasks: list[m.Task] = []
        self._last = 0.0  # monotonic seconds: when a message left
        self._watched = False  # the I/O thread knows that something waits
        self._released: deque[tuple[str, int]] = deque()  # appended without the lock

    def add(self, function: bytes, task: m.Task) -> None:
        """Send a task without frames, now or with others."""
        with self._lock:
            functions = self._functions
            position = functions.get(function)
            if position is None:
                position = functions[function] = len(functions)
            task.function = position
            tasks = self.tasks
            tasks.append(task)
            count = len(tasks)
            if count == 1:
                if time.monotonic() - self._last > _QUIET:
                    self._flush()
                elif not self._watched:
                    self._watched = True
                    self._wake()
            elif count >= _MANY:
                self._flush()

    def flush(self) -> None:
        """Send what waits."""
        if self.tasks or self._released:
            with self._lock:
                self._flush()

    def release(self, name: str, bits: int) -> None:
        """Say soon that a segment of shared memory is not used here any more.

        Any thread, at any moment, also from within the garbage collector: no lock.
        """
        self._released.append((name, bits))
        if len(self._released) == 1:
            self._wake()

    def flush_old(self) -> float | None:
        """Send what waited long enough; seconds until the next look, None when nothing waits.

        The I/O thread.
        """
        if self._released:
            with self._lock:
                self._send_released()
        if not self._watched:
            return None
        with self._lock:
            left = self._last + _PATIENCE - time.monotonic()
            if left > 0:
                return left
            self._watched = False
            self._flush()
            return None

    def _send_released(self) -> None:
        if self._released and not self._socket.closed:
            with HeldInterrupts():
                some = [self._released.popleft() for _ in range(len(self._released))]
                send(self._socket, m.encode(m.Released(some)))

    def _flush(self) -> None:
        if self._released:
            self._send_released()
        if not self.tasks:
            return
        # Between taking the tasks out and sending them nothing may come.
        with HeldInterrupts():
            functions, self._functions = self._functions, {}
            tasks, self.tasks = self.tasks, []
            send(self._socket, m.encode(m.Submit(list(functions), tasks)))
        self._last = time.monotonic()

    def say(self, message: m.FromClient, frames: Sequence[Any] = ()) -> Any:
        """Send a message behind everything that waits; for large frames a MessageTracker."""
        with self._lock, HeldInterrupts():
            self._flush()
            tracker = send(self._socket, m.encode(message), frames, track=bool(frames))
            self._last = time.monotonic()
            return tracker

    def close(self, last: m.FromClient | None) -> bool:
        """Send the last message and close the socket; False when it was closed before."""
        with self._lock:
            if self._socket.closed:
                return False
            with HeldInterrupts():
                if last is not None:
                    self._flush()
                    send(self._socket, m.encode(last))
                self._socket.close(linger=200)
            return True
