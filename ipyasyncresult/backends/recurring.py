"""Something that is done now and then for as long as there is reason to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

__all__ = ["Recurring"]

_log = logging.getLogger(__name__)

_LINGER = 0.5
"""Seconds in which there may be reason again: to start a thread costs more than a look."""


class Recurring:
    """Calls `look` again and again, in a thread of its own, until it says that this was enough.

    Parameters
    ----------
    look : callable
        Returns whether to go on; what it raises is logged, and it goes on.
    interval : float
        Seconds.
    """

    def __init__(self, look: Callable[[], bool], interval: float = 1.0) -> None:
        self._look = look
        self._interval = interval
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None  # set under _lock, taken away by itself
        self._closed = threading.Event()

    def begin(self) -> None:
        """There is reason to.  Any thread; cheap when that was known."""
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._closed.is_set() or self._thread is not None:
                return
            self._thread = threading.Thread(target=self._run, name="ipyasyncresult-look")
            self._thread.daemon = True
            self._thread.start()

    def _run(self) -> None:
        for_nothing = 0.0  # seconds
        while not self._closed.wait(self._interval):
            if self._goes_on():
                for_nothing = 0.0
                continue
            for_nothing += self._interval
            if for_nothing > _LINGER:
                self._thread = None
                if self._goes_on():  # meanwhile somebody began who relied on this thread
                    self.begin()
                return

    def _goes_on(self) -> bool:
        try:
            return self._look()
        except Exception:  # noqa: BLE001  the next look may succeed, and somebody waits for it
            _log.exception("a look at what is under way failed")
            return True

    def close(self) -> None:
        """No more of it.  Any thread, waits for nobody: the caller may hold what a look needs."""
        self._closed.set()
