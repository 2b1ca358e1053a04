"""Live views that go on while their cell does something else, or is over.

All of them share one thread, which starts with the first and ends with the last.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from contextvars import Context
from typing import Protocol

from ipyasyncresult.display.model import LiveModel
from ipyasyncresult.display.shown import ShownResult

__all__ = ["Background", "LiveShow", "ProgressView", "Show"]

_log = logging.getLogger(__name__)

_PERIOD = 0.2  # seconds between two updates of a view
_SHARE = 0.02  # seconds for each view: a hundred of them are updated every two seconds


class ProgressView(Protocol):
    """How progress is shown.  One thread at a time; ``close`` also comes when ``show`` failed."""

    def show(self, model: LiveModel) -> None:
        """Appear."""

    def update(self) -> None:
        """Show how it is now."""

    def close(self, ending: str) -> None:
        """Leave the last state; `ending` is done, timeout, interrupted or error."""


class Show(Protocol):
    """What the thread keeps going."""

    def tick(self) -> bool:
        """Show how it is; False when there is nothing more to show."""

    def close(self, ending: str) -> None:
        """It cannot be shown any more."""


class LiveShow:
    """One view of one result: appears after a moment, ends with the work.  Any thread.

    Parameters
    ----------
    result : ShownResult
    view : ProgressView
    patience : float
        Seconds before it appears; work that ends sooner is not shown.
    model : LiveModel, optional
        Of a view that is shown already.
    """

    def __init__(
        self,
        result: ShownResult,
        view: ProgressView,
        patience: float = 0.0,
        model: LiveModel | None = None,
    ) -> None:
        self._result = result
        self._view = view
        self._due = time.monotonic() + patience
        self._lock = threading.Lock()  # guards what follows, and the view
        self._model = model
        self._is_over = False

    def has_ended(self) -> bool:
        """Whether only its last state is left to be shown."""
        return self._result.ready()

    def tick(self) -> bool:
        """Show how it is; False when there is nothing more to show."""
        with self._lock:
            if not self._is_over:
                if self._result.ready():
                    self._close("done")
                elif self._model is not None:
                    self._view.update()
                elif time.monotonic() >= self._due:
                    self._model = LiveModel(self._result)
                    self._view.show(self._model)
            return not self._is_over

    def close(self, ending: str) -> None:
        """Leave the last state now."""
        with self._lock:
            if not self._is_over:
                self._close(ending)

    def _close(self, ending: str) -> None:
        self._is_over = True
        try:
            self._view.close(ending)
        finally:
            if self._model is not None:
                self._model.close()


class Background:
    """The thread that keeps shows going.  All methods: any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows
        self._shows: list[tuple[Show, Context]] = []
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()

    def keep(self, show: Show) -> None:
        """Update it until it is over."""
        # A kernel knows by the context to which cell a widget's messages belong.
        context = contextvars.copy_context()
        with self._lock:
            self._shows.append((show, context))
            if self._thread is None:
                self._wake.clear()
                self._thread = threading.Thread(
                    target=self._serve, name="ipyasyncresult-live", daemon=True
                )
                self._thread.start()

    def end_ready(self, _cell: object = None) -> None:
        """Leave the last state of what has ended, without waiting for the thread's next turn.

        Called when a cell is over: where nobody looks on, the kernel may be ended right behind it.
        """
        with self._lock:
            shows = self._shows
        for show, context in shows:
            if isinstance(show, LiveShow) and show.has_ended():
                self._tick(show, context.copy().run)  # the thread may be in the context itself

    def close(self, show: Show, ending: str) -> None:
        """End it now."""
        show.close(ending)
        with self._lock:
            self._shows = [entry for entry in self._shows if entry[0] is not show]
            if not self._shows:
                self._wake.set()

    def _serve(self) -> None:
        while True:
            with self._lock:
                shows = self._shows
                if not shows:
                    self._thread = None
                    return
            over = [show for show, context in shows if not self._tick(show, context.run)]
            with self._lock:
                self._shows = [entry for entry in self._shows if entry[0] not in over]
                pause = max(_PERIOD, _SHARE * len(self._shows)) if self._shows else 0
            self._wake.wait(pause)

    @staticmethod
    def _tick(show: Show, run: Callable[..., bool]) -> bool:
        try:
            return run(show.tick)
        except Exception:  # noqa: BLE001  a frontend that is gone must not end the others
            _log.exception("a live view cannot be shown any more")
            show.close("error")
            return False
