"""Who receives: a thread that waits for a result, or else the I/O thread.

A result that is received by the thread that waits for it saves two thread switches, a quarter of a
round trip.  So the right to receive is a token::

    I/O thread ──holds it──▶ a caller wants to wait: wakes it, gets the token
    caller     ──receives until its predicate is true──▶ gives it to the next waiter, or leaves it
    I/O thread ──takes it when nobody has it for PARK seconds──▶ ...

Callbacks always run on the I/O thread, never on a caller's.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from ipyasyncresult.client.interrupts import HeldInterrupts
from ipyasyncresult.core.waiting import Waits
from ipyasyncresult.wire.sockets import Line, make_poll

__all__ = ["Receiver"]

_log = logging.getLogger(__name__)

_PARK = 0.02
"""Seconds that the I/O thread leaves the token to callers after the last one had it."""
_LIVENESS = 1.0
"""Seconds between two looks whether the hub lives, where the kernel cannot tell by itself."""


class _Waiter:
    """A caller that sleeps: until its predicate is true, or until it gets the token."""

    __slots__ = ("predicate", "wake")

    def __init__(self, predicate: Callable[[], object]) -> None:
        self.predicate = predicate
        self.wake = threading.Lock()
        self.wake.acquire()

    def rouse(self) -> None:
        # A lock that is released twice raises: twice is as good as once here.
        if self.wake.locked():
            try:
                self.wake.release()
            except RuntimeError:
                _log.debug("woken twice")


class Receiver(Waits):
    """Waits for a ledger and receives for a connection.

    Parameters
    ----------
    line : Line
        Only who has the token touches it.
    take_in : callable
        Receives and applies the messages that are there; returns False when the hub is gone.  Its
        argument says whether there is one for sure.
    hub_pid : int
        Its death wakes whoever receives.
    """

    def __init__(self, line: Line, take_in: Callable[[bool], bool], hub_pid: int) -> None:
        self._line = line
        self._take_in = take_in
        self._hub_pid = hub_pid
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._pidfd = _open_pidfd(hub_pid)
        self._note_sources()
        # Guards everything below.
        self._lock = threading.Lock()  # the condition's; taken directly where nobody waits for it
        self._state = threading.Condition(self._lock)
        self._holder: _Waiter | threading.Thread | None = None
        self._waiters: list[_Waiter] = []
        self._last_use = 0.0  # monotonic seconds: when a caller gave the token back
        self._callbacks: Callable[[], None] | None = None  # set while some are due
        self._closed = False
        # What waits to be sent leaves before anybody waits for an answer.
        self.flush: Callable[[], Any] = lambda: None
        self.flush_old: Callable[[], tuple[float | None, Any]] = lambda: (None, None)
        # Asked when the hub died, on the I/O thread: True when there is another one.
        self.revive: Callable[[], bool] | None = None
        self._lost = False  # the hub died, and `revive` is due or under way
        self.hub_gone: bool = False  # written by the holder of the token
        self._thread = threading.Thread(target=self._serve, name="ipyasyncresult-io", daemon=True)

    def start(self) -> None:
        """Start the I/O thread."""
        self._thread.start()

    # -- callers ---------------------------------------------------------------------------------

    def wait(self, predicate: Callable[[], object], timeout: float | None) -> bool:
        """Until the predicate is true or `timeout` seconds passed; its last value.  Any thread."""
        if predicate():
            return True
        if timeout is not None and timeout <= 0:
            return self._poll(predicate)
        deadline = None if timeout is None else time.monotonic() + timeout
        self.flush()
        waiter = _Waiter(predicate)
        with HeldInterrupts() as interrupts:
            try:
                self._enter(waiter)
                return self._wait(waiter, deadline, interrupts)
            finally:
                self._leave(waiter)

    def _poll(self, predicate: Callable[[], object]) -> bool:
        """Take in what is there, unless somebody else is at it anyway."""
        waiter = _Waiter(predicate)
        with HeldInterrupts():
            with self._lock:
                if self._holder is not None or self._closed or self._lost:
                    return bool(predicate())
                self._holder = waiter
            try:
                self._receive(0)
            finally:
                self._leave(waiter)
        return bool(predicate())

    def _enter(self, waiter: _Waiter) -> None:
        with self._lock:
            self._waiters.append(waiter)
            if self._holder is None and not self._lost:
                self._holder = waiter
            elif self._holder is self._thread:
                os.eventfd_write(self._wake, 1)

    def _wait(self, waiter: _Waiter, deadline: float | None, interrupts: HeldInterrupts) -> bool:
        while not waiter.predicate():
            if self._closed:
                return False
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            if self._holder is waiter and self._lost:
                with self._state:
                    self._hand_over()
            elif self._holder is waiter:
                self._receive(left, self.flush(), interrupts)
            else:
                interrupts.open = True
                waiter.wake.acquire(timeout=-1 if left is None else left)
                interrupts.open = False
            if interrupts.pending is not None:
                interrupts.check()
        return True

    def _leave(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            if self._holder is waiter:
                self._last_use = time.monotonic()
                self._hand_over()
            if self._closed:
                self._state.notify_all()  # who closes waits for this

    def _hand_over(self) -> None:
        """Give the token to the next waiter, or to nobody.  With the state."""
        if self._lost:  # nothing to receive until the I/O thread has found another hub
            self._holder = None
            self._state.notify_all()
            return
        self._holder = self._waiters[0] if self._waiters else None
        if self._waiters:
            self._waiters[0].rouse()

    def _receive(
        self, timeout: float | None, room: Any = None, interrupts: HeldInterrupts | None = None
    ) -> None:
        """Wait for a message and take in all there are; or until there is `room` to send more.

        Holder of the token only.
        """
        if self._pidfd is None:
            timeout = _LIVENESS if timeout is None else min(timeout, _LIVENESS)
        if interrupts is not None:
            interrupts.open = True
        poll = self._ready if room is None else make_poll(self._sources, room)
        ready = poll(-1 if timeout is None else math.ceil(timeout * 1000))
        if interrupts is not None:
            interrupts.open = False
        if not ready and self._pidfd is not None:
            return
        only_messages = len(ready) == 1 and ready[0][0] == self._line.handle
        if not only_messages:
            self._drain_wake()
        if not self._take_in(only_messages):
            self.hub_gone = True
        if (not only_messages or self._line.lost) and not self.hub_gone and self._hub_died(ready):
            if self.revive is not None and self._take_in(False):  # what it sent before
                self._lost = True
                return
            self.hub_gone = True
            self._take_in(False)  # as above, and then the end of everything else

    def _hub_died(self, ready: list[tuple[Any, int]]) -> bool:
        if self._line.lost or self._pidfd is not None:
            return self._line.lost or any(source == self._pidfd for source, _ in ready)
        try:
            os.kill(self._hub_pid, 0)
        except ProcessLookupError:
            return True
        return False

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def wake(self) -> None:
        """Let whoever receives come round once.  Any thread."""
        # So often woken that it will not sleep, or closed.
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    # -- whoever feeds the ledger ----------------------------------------------------------------

    def notify(self) -> None:
        """Wake the waiters whose predicate became true.  Any thread."""
        if not self._waiters:
            return
        with self._lock:
            for waiter in self._waiters:
                if waiter is not self._holder and waiter.predicate():
                    waiter.rouse()

    def callbacks_due(self, run: Callable[[], None]) -> None:
        """Let the I/O thread run callbacks soon.  Any thread."""
        with self._state:
            self._callbacks = run
            if self._holder is self._thread:
                if threading.current_thread() is not self._thread:
                    os.eventfd_write(self._wake, 1)
            else:
                self._state.notify()

    # -- the I/O thread --------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            with self._state:
                while not self._closed and self._callbacks is None and not self._may_take():
                    self._state.wait(_PARK)
                if self._closed:
                    return
                run, self._callbacks = self._callbacks, None
                if run is None:
                    self._holder = self._thread
            if run is not None:
                run()  # without the token: a callback may wait for other results
                continue
            try:
                if self._lost:
                    self._find_hub()
                self._receive_for_all()
            except Exception:  # noqa: BLE001  the thread must go on: others wait for it
                _log.exception("the I/O thread met an error that it should not meet")
            finally:
                with self._state:
                    self._hand_over()

    def _may_take(self) -> bool:
        return (
            self._holder is None
            and not self.hub_gone
            and (self._lost or time.monotonic() - self._last_use > _PARK)
        )

    def _find_hub(self) -> None:
        """The hub died: go on with the one that takes its place, or end everything."""
        assert self.revive is not None
        try:
            found = self.revive()
        except Exception:  # noqa: BLE001  as good as none
            _log.exception("the new hub cannot be used")
            found = False
        with self._state:
            self._lost = False
        if not found:
            self.hub_gone = True
            self._take_in(False)

    def renew(self, line: Line, hub_pid: int) -> None:
        """Receive from another hub.  Holder of the token only."""
        if self._pidfd is not None:
            os.close(self._pidfd)
        self._line, self._hub_pid, self._pidfd = line, hub_pid, _open_pidfd(hub_pid)
        self._note_sources()

    def _note_sources(self) -> None:
        pidfd = [] if self._pidfd is None else [self._pidfd]
        self._sources = [self._line.handle, self._wake, *pidfd]
        self._ready = make_poll(self._sources)

    @property
    def closing(self) -> bool:
        """Whether it shall end."""
        return self._closed

    def _receive_for_all(self) -> None:
        while not (self._waiters or self._closed or self._callbacks or self.hub_gone):
            self._receive(*self.flush_old())

    def close(self, patience: float = 2.0) -> bool:
        """Stop the I/O thread and wake all waiters; True when nobody receives any more."""
        with self._state:
            self._closed = True
            os.eventfd_write(self._wake, 1)
            self._state.notify_all()
            for waiter in self._waiters:
                waiter.rouse()
        if threading.current_thread() is not self._thread:
            self._thread.join(patience)
        with self._state:
            left = self._state.wait_for(lambda: not self._waiters and not self._holder, patience)
        quiet = left and not self._thread.is_alive()
        if quiet:
            wake, self._wake = self._wake, -1
            os.close(wake)
            if self._pidfd is not None:
                os.close(self._pidfd)
        return quiet


def _open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux, or too old
        return None
