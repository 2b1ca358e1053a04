"""Something that is done once a second for as long as there is reason to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

__all__ = ["Recurring"]

_log = logging.getLogger(__name__)


class Recurring:
    """Calls `look` again and again, on threads of its own, until it says that this was enough.

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
        self._timer: threading.Timer | None = None  # guarded by _lock, as the next one
        self._closed = False

    def begin(self) -> None:
        """There is reason to.  Any thread; cheap when that was known."""
        if self._timer is None:
            self._arm()

    def _arm(self) -> None:
        with self._lock:
            if self._closed or self._timer is not None:
                return
            self._timer = threading.Timer(self._interval, self._run)
            self._timer.daemon = True
            self._timer.start()

    def _run(self) -> None:
        with self._lock:
            self._timer = None
        try:
            go_on = self._look()
        except Exception:  # noqa: BLE001  the next look may succeed, and somebody waits for it
            _log.exception("a look at what is under way failed")
            go_on = True
        if go_on:
            self._arm()

    def close(self) -> None:
        """No more of it.  Any thread, waits for nobody: the caller may hold what a look needs."""
        with self._lock:
            self._closed = True
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
