"""Waiting: what a time-out may be, and how a thread sleeps until something is true."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Protocol

from ipyasyncresult.core.arguments import is_number

__all__ = ["ConditionWaits", "Waits", "check_timeout"]


def check_timeout(timeout: float | None, name: str = "timeout") -> float | None:
    """Seconds to wait, or None for ever.

    ``-1``, ``None``, ``inf`` and what is too long for a thread's sleep (292 years) wait for ever,
    ``0`` polls.

    Raises
    ------
    TypeError
        For anything that is not a number (booleans and strings included).
    ValueError
        For nan and for negative numbers other than -1.
    """
    if timeout is None:
        return None
    if not is_number(timeout):
        kind = type(timeout).__name__
        raise TypeError(f"{name} must be seconds (a number), -1 or None, not {kind} {timeout!r}")
    if timeout == -1 or timeout > threading.TIMEOUT_MAX:
        return None
    if math.isnan(timeout) or timeout < 0:
        raise ValueError(
            f"{name} must be seconds >= 0, or -1 or None to wait for ever, not {timeout}"
        )
    return float(timeout)


class Waits(Protocol):
    """How threads wait for a ledger to change."""

    def wait(self, predicate: Callable[[], bool], timeout: float | None) -> bool:
        """Return the predicate's value once it is true or `timeout` seconds passed."""

    def notify(self) -> None:
        """The ledger changed.  Called after every batch, outside the ledger's lock."""

    def check_endless(self) -> None:
        """Somebody is about to wait without end, in a way of his own: raises if he must not."""
        return


class ConditionWaits(Waits):
    """Waiters sleep on a condition; somebody else feeds the ledger."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._awaited: list[Callable[[], bool]] = []  # of sleepers; guarded by the condition's lock

    def wait(self, predicate: Callable[[], bool], timeout: float | None) -> bool:
        if predicate() or timeout == 0:
            return predicate()
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            self._awaited.append(predicate)
            try:
                while not predicate():
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        return False
                    self._changed.wait(left)
                return True
            finally:
                self._awaited.remove(predicate)

    def notify(self) -> None:
        # The lock is taken even when nobody seems to sleep: a waiter may be between its look at
        # the predicate and its sleep.
        with self._changed:
            # Who would only look and go on sleeping is not woken: that takes longer than the look.
            if any(predicate() for predicate in self._awaited):
                self._changed.notify_all()
