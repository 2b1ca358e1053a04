"""A thread beside ipyparallel's own, for what that one must not do: to wait, and to run callbacks,
which may ask ipyparallel again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

__all__ = ["SideThread"]

_log = logging.getLogger(__name__)


class SideThread:
    """Runs what is due when it is woken, and looks around now and then.

    Parameters
    ----------
    run : callable
        Called after every :meth:`wake`.
    look : callable
        Called every `interval` seconds: nobody tells of what has silently gone.
    interval : float
    name : str
    """

    def __init__(
        self, run: Callable[[], None], look: Callable[[], None], interval: float, name: str
    ) -> None:
        self._due = threading.Event()
        self._run_due = run
        self._look = look
        self._interval = interval
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def wake(self) -> None:
        """Something is due.  Any thread; never waits."""
        self._due.set()

    def stop(self) -> None:
        """End the thread after what is due, unless this is it: then it ends by itself."""
        self._stopped = True
        self._due.set()
        if self._thread.ident and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        next_look = time.monotonic() + self._interval
        while not self._stopped:
            self._due.wait(max(0.0, next_look - time.monotonic()))
            self._due.clear()
            self._run_due()
            if time.monotonic() < next_look:
                continue
            next_look = time.monotonic() + self._interval
            try:
                self._look()
            except Exception:  # noqa: BLE001  the next look may find more
                _log.exception("a look at the cluster failed")
        self._run_due()
