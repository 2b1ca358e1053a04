"""Events from a foreign library's thread, entered into the ledger by a thread of our own.

There callbacks of results run, too: they may ask the library again, which its own thread must not.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from ipyasyncresult.core.ledger import Batch, Ledger

__all__ = ["NewsThread"]

_log = logging.getLogger(__name__)

_TOGETHER = 500
"""Events that are entered at once at most: the ledger is locked meanwhile."""


class NewsThread:
    """A queue of events and the thread that enters them.

    Parameters
    ----------
    ledger : Ledger
    look : callable
        Called every `interval` seconds: nobody tells of what has silently gone.
    interval : float
    name : str
    """

    def __init__(
        self, ledger: Ledger, look: Callable[[], None], interval: float, name: str
    ) -> None:
        self._ledger = ledger
        self._look = look
        self._interval = interval
        self._queue: queue.SimpleQueue[Callable[[Batch], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._stopped = False

    def start(self) -> None:
        """Begin to enter events."""
        self._thread.start()

    def put(self, event: Callable[[Batch], None]) -> None:
        """Enter this, after what came before.  Any thread; never waits."""
        self._queue.put(event)

    def stop(self) -> None:
        """End the thread, unless this is it: then it ends by itself."""
        self._stopped = True
        self._queue.put(None)
        if self._thread.ident and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        looked = time.monotonic()
        while not self._stopped:
            try:
                event = self._queue.get(timeout=self._interval)
            except queue.Empty:
                event = None
            if event is not None:
                self._enter(event)
            if time.monotonic() - looked > self._interval:
                looked = time.monotonic()
                try:
                    self._look()
                except Exception:  # noqa: BLE001  the next look may find more
                    _log.exception("a look at the cluster failed")

    def _enter(self, event: Callable[[Batch], None]) -> None:
        """Enter an event, and what else is here by now: others wait for the ledger meanwhile."""
        with self._ledger.batch() as batch:
            for left in reversed(range(_TOGETHER)):
                try:
                    event(batch)
                except Exception:  # noqa: BLE001  one bad event must not cost those behind it
                    _log.exception("an event could not be entered")
                if not left or self._queue.empty():
                    return
                following = self._queue.get_nowait()
                if following is None:
                    return
                event = following
