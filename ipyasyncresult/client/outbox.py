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
from ipyasyncresult.wire.localstream import AT_ONCE
from ipyasyncresult.wire.sockets import Line

__all__ = ["Outbox"]

_QUIET = 100e-6
"""Seconds; a round trip takes longer, so whoever waits for each result is never held up."""
_PATIENCE = 1e-3
"""Seconds that a task may wait for company."""
_MANY = 100
_LINGER = 2_000
"""Milliseconds that a hub may stand still before what is unsent at the end is given up."""

SpellOut = Callable[[Sequence[Any]], list[Any]]


class Outbox:
    """The sending socket of a client and the tasks that wait for company.  Any thread.

    Parameters
    ----------
    line : Line
        Used under this object's lock only.
    wake : callable
        Makes the I/O thread call :meth:`flush_old` soon.
    """

    def __init__(self, line: Line, wake: Callable[[], None]) -> None:
        self._line: Line | None = line
        self._wake = wake
        # Guards the socket and everything below.
        self._lock = threading.Lock()
        self._functions: dict[bytes, int] = {}
        self.tasks: list[m.Task] = []
        self._last = 0.0  # monotonic seconds: when a message left
        self._watched = False  # the I/O thread knows that something waits
        self._released: deque[tuple[str, int]] = deque()  # appended without the lock
        self._closed = False
        self.keep = False  # Submits are kept until the hub has stored them
        self.safe_number: int = 0  # written by who receives
        self._number = 0  # of the last Submit that is kept
        self._kept: deque[tuple[int, bytes, Sequence[Any]]] = deque()

    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._closed

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
            else:
                return
            if self._line is not None and self._line.unsent:
                self._wake()

    def flush(self) -> Any:
        """Send what waits; when not all could be sent, what to wait for until more can."""
        line = self._line
        if self.tasks or self._released or (line is not None and line.unsent):
            with self._lock:
                self._flush()
                return self._push()
        return None

    def _push(self) -> Any:
        """As `flush`, of what did not fit."""
        line = self._line
        if line is None or not line.unsent:
            return None
        with HeldInterrupts():
            return None if line.flush() else line.handle

    def push(self) -> Any:
        """Send more of what did not fit; what to wait for until the rest can be sent."""
        line = self._line
        if line is None or not line.unsent:
            return None
        with self._lock:
            return self._push()

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
        if self._released and self._line is not None and not self._closed:
            with HeldInterrupts():
                some = [self._released.popleft() for _ in range(len(self._released))]
                self._line.send(m.encode(m.Released(some)))

    def _flush(self) -> None:
        if self._released:
            self._send_released()
        if not self.tasks:
            return
        message = m.Submit(list(self._functions), self.tasks)
        line = self._line
        if self.keep or line is None or line.unsent or len(header := m.encode(message)) > AT_ONCE:
            # Between numbering the message and sending it nothing may come, nor between its parts.
            with HeldInterrupts():
                self._functions, self.tasks = {}, []
                self._submit(message, ())
        else:
            # One call of C: an interrupt comes before it or behind it, and what is sent twice the
            # hub takes once.  Holding interrupts back costs more than all the rest of this.
            line.send(header)
            self._functions, self.tasks = {}, []
        self._last = time.monotonic()

    def _submit(self, message: m.Submit, frames: Sequence[Any]) -> Any:
        line = self._line
        if not self.keep:  # without a line it is lost with the hub, as everything outstanding
            return None if line is None else line.send(m.encode(message), frames)
        self._number = message.number = self._number + 1
        header = m.encode(message)
        self._kept.append((self._number, header, frames))
        tracker = None if line is None else line.send(header, frames)
        return SafeTracker(self, self._number, tracker) if frames else None

    def say(self, message: m.FromClient, frames: Sequence[Any] = ()) -> Any:
        """Send a message behind everything that waits; for large frames a tracker."""
        with self._lock, HeldInterrupts():
            self._flush()
            tracker = None
            if isinstance(message, m.Submit):
                tracker = self._submit(message, frames)
            elif self._line is not None and not self._closed:
                self._line.send(m.encode(message))
            self._last = time.monotonic()
            if self._line is not None and self._line.unsent:
                self._wake()  # whoever receives sends the rest
            return tracker

    # -- a hub that dies and is followed by another one ------------------------------------------

    def safe(self, number: int) -> None:
        """The hub has stored every Submit up to this number."""
        kept = self._kept
        while kept and kept[0][0] <= number:
            kept.popleft()
        self.safe_number = number

    def detach(self) -> None:
        """The hub is dead: keep what is submitted until there is another one."""
        with self._lock:
            if self._line is not None:
                self._line.close(linger=0)
                self._line = None

    def attach(self, line: Line, spell_out: SpellOut | None = None) -> None:
        """Another hub: send again what the last one may not have stored.

        With `spell_out`, which does that to frames, without references to shared memory: it is
        another cluster, too, of the same name.
        """
        with self._lock, HeldInterrupts():
            if self._closed:
                line.close(linger=0)
                return
            self._line = line
            if spell_out is not None:
                self._kept = deque(_spelt_out(*entry, spell_out) for entry in self._kept)
            for _, header, frames in self._kept:
                line.send(header, frames)
            self._flush()

    def close(self, last: m.FromClient | None) -> bool:
        """Send the last message and close the socket; False when it was closed before."""
        with self._lock:
            if self._closed:
                return False
            self._closed = True
            line = self._line
            if line is None:
                return True
            with HeldInterrupts():
                if last is not None:
                    self._flush()
                    line.send(m.encode(last))
                self._line = None
                line.close(linger=_LINGER)
            return True


def _spelt_out(
    number: int, header: bytes, frames: Sequence[Any], spell_out: SpellOut
) -> tuple[int, bytes, Sequence[Any]]:
    if not frames:
        return number, header, frames
    message = m.decode_from_client(header)
    assert isinstance(message, m.Submit)
    spelt: list[Any] = []
    position = 0
    for task in message.tasks:
        mine = spell_out(frames[position : position + task.frames])
        position += task.frames
        task.frames = len(mine)
        spelt += mine
    return number, m.encode(message), spelt


class SafeTracker:
    """As a ``zmq.MessageTracker``, but done only when the hub has stored the message, too: before
    that it may be sent again.  Any thread."""

    def __init__(self, outbox: Outbox, number: int, tracker: Any) -> None:
        self._outbox = outbox
        self._number = number
        self._tracker = tracker

    @property
    def done(self) -> bool:
        """Whether the buffers may be changed."""
        return self._outbox.safe_number >= self._number and (
            self._tracker is None or bool(self._tracker.done)
        )

    def wait(self, timeout: float = -1) -> None:
        """Wait until `done`, or so many seconds (-1: for ever)."""
        deadline = None if timeout < 0 else time.monotonic() + timeout
        while not self.done and not self._outbox.is_closed():
            if deadline is not None and time.monotonic() > deadline:
                return
            time.sleep(0.002)
