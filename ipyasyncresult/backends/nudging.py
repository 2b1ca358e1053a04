"""Process pools of the standard library, made to notice every death of a worker.

Such a pool starts its processes when they are needed (unless it forks them all at once).  Its
thread that watches them is woken up *before* a new one is there, so the last one may not be among
those it watches, until something is submitted again.  When that one is killed, the pool is not
broken, and what ran there never ends (seen with CPython 3.11; `submit` is the same up to 3.14).
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import threading
from collections.abc import Callable

__all__ = ["Nudge", "nudge_for"]

_INTERVAL = 1.0  # seconds


class Nudge:
    """Submits next to nothing once a second, as long as something is under way.

    Parameters
    ----------
    executor : Executor
    workers : int
        No more than this many wait there: then every process has been started and seen.
    busy : callable
        Whether something is under way.
    """

    def __init__(
        self, executor: concurrent.futures.Executor, workers: int, busy: Callable[[], bool]
    ) -> None:
        self._executor = executor
        self._workers = workers
        self._busy = busy
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._waiting: list[concurrent.futures.Future[int]] = []

    def begin(self) -> None:
        """Something is under way.  Any thread; cheap when that was known."""
        if self._timer is None:
            self._arm()

    def _arm(self) -> None:
        with self._lock:
            if self._closed or self._timer is not None:
                return
            self._timer = threading.Timer(_INTERVAL, self._nudge)
            self._timer.daemon = True
            self._timer.start()

    def _nudge(self) -> None:
        with self._lock:
            self._timer = None
        if not self._busy():
            return
        self._waiting = [one for one in self._waiting if not one.done()]
        if len(self._waiting) < self._workers:
            try:
                self._waiting.append(self._executor.submit(int))
            except RuntimeError:  # it is broken, or shut down: all that was there has ended
                return
        self._arm()

    def close(self) -> None:
        """No more of it."""
        with self._lock:
            self._closed = True
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            if timer is not threading.current_thread():
                timer.join()


def nudge_for(
    executor: concurrent.futures.Executor, workers: int, busy: Callable[[], bool]
) -> Nudge | None:
    """A nudge for the pools that need one."""
    if isinstance(executor, concurrent.futures.process.ProcessPoolExecutor):
        return Nudge(executor, workers, busy)
    return None
