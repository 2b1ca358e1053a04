"""The presenter of this package: chooses how a result is shown where the user is."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from ipyasyncresult.core.presenter import OutputQuery
from ipyasyncresult.core.task import TaskOutputs
from ipyasyncresult.display import settings
from ipyasyncresult.display.bar import ProgressLines, TerminalBar
from ipyasyncresult.display.frontend import Frontend, frontend, outlet
from ipyasyncresult.display.grouping import group
from ipyasyncresult.display.live import stream_output
from ipyasyncresult.display.progress import Progress, ProgressModel
from ipyasyncresult.display.reprs import result_html
from ipyasyncresult.display.republish import republish
from ipyasyncresult.display.shown import ShownResult
from ipyasyncresult.display.timeline import Timeline, spans_of
from ipyasyncresult.display.widget import LiveView, widgets_are_installed

__all__ = ["DisplayPresenter", "ProgressView"]

_PATIENCE = 0.3  # seconds: what ends within them shows nothing
_SHORTEST_PERIOD = 0.1  # seconds between two updates, at least


class ProgressView(Protocol):
    """How progress is shown.  One thread; ``close`` also comes when ``show`` failed."""

    def show(self, progress: Progress) -> None:
        """Appear."""

    def update(self, progress: Progress) -> None:
        """Show new numbers."""

    def close(self, progress: Progress, ending: str) -> None:
        """Leave the last state; `ending` is done, timeout, interrupted or error."""


class DisplayPresenter:
    """Implements :class:`ipyasyncresult.core.presenter.Presenter`."""

    def display_outputs(self, tasks: Sequence[TaskOutputs], query: OutputQuery) -> None:
        """Show the outputs of the tasks, grouped."""
        republish(group(tasks, query), outlet())

    def stream_output(self, result: ShownResult) -> AbstractContextManager[None]:
        """Within the context: show outputs as they come."""
        return stream_output(result)

    def wait_interactive(self, result: ShownResult, interval: float, timeout: float | None) -> bool:
        """Wait and show progress; False when `timeout` seconds passed before the end.

        Parameters
        ----------
        result : ShownResult
        interval : float
            Seconds between two updates; the end is noticed at once.
        timeout : float or None
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        _wait(result, _PATIENCE, deadline)
        if result.ready():
            return True
        if timeout is not None and timeout <= _PATIENCE:
            return False
        if not settings.progress_is_wanted():
            _wait(result, None, deadline)
            return result.ready()
        return _wait_and_show(result, max(interval, _SHORTEST_PERIOD), deadline)

    def timeline(self, result: ShownResult) -> Timeline:
        """A picture of who ran what when."""
        return Timeline(spans_of(result.records, time.time()))

    def html(self, result: ShownResult) -> str:
        """The result as a piece of HTML."""
        return result_html(result)


def _wait(result: ShownResult, seconds: float | None, deadline: float | None) -> None:
    if deadline is not None:
        left = max(0.0, deadline - time.monotonic())
        seconds = left if seconds is None else min(seconds, left)
    result.wait(seconds)


def _wait_and_show(result: ShownResult, period: float, deadline: float | None) -> bool:
    model = ProgressModel(elapsed=result.elapsed)

    def progress() -> Progress:
        return model.update(result.counts(), result.engine_count())

    view = _make_view(result)
    ending = "error"
    try:
        view.show(progress())
        while not result.ready():
            if deadline is not None and time.monotonic() >= deadline:
                ending = "timeout"
                return False
            _wait(result, period, deadline)
            view.update(progress())
        ending = "done"
        return True
    except KeyboardInterrupt:
        ending = "interrupted"
        raise
    finally:
        view.close(progress(), ending)


def _make_view(result: ShownResult) -> ProgressView:
    if frontend() is Frontend.KERNEL:
        wanted = settings.widgets
        with_widgets = widgets_are_installed() if wanted is None else wanted
        return LiveView(result, outlet(), with_widgets=with_widgets)
    return TerminalBar(result) if sys.stderr.isatty() else ProgressLines(result)
