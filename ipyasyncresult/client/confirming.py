"""The client's word to a hub with a store about what has arrived: it may be forgotten one day."""

from __future__ import annotations

import time
from collections.abc import Callable

from ipyasyncresult.wire import messages as m

__all__ = ["Confirming"]

_PAUSE = 0.1
"""Seconds between two such words."""


class Confirming:
    """Counts the messages of news.  For who holds the receiver's token.

    Parameters
    ----------
    say : callable
        Sends a message.
    wanted : bool
        Whether the hub wants to know.
    """

    def __init__(self, say: Callable[[m.Received], object], *, wanted: bool) -> None:
        self._say = say
        self._wanted = wanted
        self._came = self._confirmed = 0
        self._next = 0.0  # monotonic seconds

    def came(self) -> None:
        """A message of news was entered."""
        if self._wanted:
            self._came += 1

    def start_again(self) -> None:
        """Another hub counts from the start."""
        self._came = self._confirmed = 0

    def look(self, *, now: bool = False) -> float | None:
        """Say what is to be said; seconds until the next time, None when nothing waits for it."""
        if self._came == self._confirmed:
            return None
        wait = self._next - time.monotonic()
        if wait > 0 and not now:
            return wait
        self._confirmed = self._came
        self._next = time.monotonic() + _PAUSE
        self._say(m.Received(self._came))
        return None
