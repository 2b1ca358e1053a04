"""The presenter of this package: chooses how a result is shown where the user is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from ipyasyncresult.core.presenter import OutputQuery
from ipyasyncresult.core.task import TaskOutputs
from ipyasyncresult.display import settings
from ipyasyncresult.display.background import Background, LiveShow, ProgressView
from ipyasyncresult.display.bar import ProgressLines, TerminalBar
from ipyasyncresult.display.frontend import (
    Frontend,
    Outlet,
    frontend,
    outlet,
    outlet_of_this_cell,
    when_cells_end,
)
from ipyasyncresult.display.grouping import group
from ipyasyncresult.display.live import stream_output
from ipyasyncresult.display.model import LiveModel
from ipyasyncresult.display.reprs import result_html
from ipyasyncresult.display.republish import republish
from ipyasyncresult.display.shown import ShownResult
from ipyasyncresult.display.timeline import Timeline, spans_of
from ipyasyncresult.display.widget import LiveView, widgets_are_installed

__all__ = ["DisplayPresenter"]

_PATIENCE = 0.3  # seconds: what ends within them shows nothing
_SHORTEST_PERIOD = 0.1  # seconds between two updates of a bar, at least
_WIDGET_PERIOD = 0.2  # seconds between two updates of a widget; its page counts on meanwhile
_STATIC_PERIOD = 0.5  # a page takes long to replace HTML


class DisplayPresenter:
    """Implements :class:`ipyasyncresult.core.presenter.Presenter`."""

    def __init__(self) -> None:
        self._background = Background()

    def display_outputs(self, tasks: Sequence[TaskOutputs], query: OutputQuery) -> None:
        """Show the outputs of the tasks, grouped."""
        republish(group(tasks, query), outlet())

    def stream_output(self, result: ShownResult) -> AbstractContextManager[None]:
        """Within the context: show outputs as they come."""
        return stream_output(result, self._background.keep)

    def wait_interactive(self, result: ShownResult, interval: float, timeout: float | None) -> bool:
        """Wait and show progress; False when `timeout` seconds passed before the end.

        Parameters
        ----------
        result : ShownResult
        interval : float
            Seconds between two updates of a bar; the end is noticed at once.
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
        return self._wait_and_show(result, interval, deadline)

    def _wait_and_show(self, result: ShownResult, interval: float, deadline: float | None) -> bool:
        view, period = _view_for_now(result, interval)
        model = LiveModel(result)
        ending = "error"
        try:
            view.show(model)
            while not result.ready():
                if deadline is not None and time.monotonic() >= deadline:
                    ending = "timeout"
                    return False
                _wait(result, period, deadline)
                view.update()
            ending = "done"
            return True
        except KeyboardInterrupt:
            ending = "interrupted"
            raise
        finally:
            if ending == "interrupted" and isinstance(view, LiveView) and view.is_widget:
                # The work goes on, and the kernel is free: now buttons are heard everywhere, also
                # those that were pressed while the cell blocked.
                self._keep(LiveShow(result, view, model=model))
            else:
                view.close(ending)
                model.close()

    def show(self, result: ShownResult) -> bool:
        """Show a pending result under this cell, live; False where its text will do."""
        if frontend() is not Frontend.KERNEL or not settings.progress_is_wanted() or result.ready():
            return False
        view = _live_view(result, outlet_of_this_cell(updates_from_anywhere=True))
        view.announce()
        self._keep(LiveShow(result, view, _PATIENCE))
        return True

    @contextmanager
    def show_live(self, result: ShownResult) -> Iterator[None]:
        """Within the context: show progress while the caller does other things.

        What has not ended when the context does is shown on, until it has.
        """
        if not settings.progress_is_wanted():
            yield
            return
        show = LiveShow(result, _view_for_later(result), _PATIENCE)
        self._keep(show)
        ending = "error"
        try:
            yield
            ending = "done"
        except KeyboardInterrupt:
            ending = "interrupted"
            raise
        finally:
            if ending != "done" or result.ready():
                self._background.close(show, ending)

    def _keep(self, show: LiveShow) -> None:
        self._background.keep(show)
        when_cells_end(self._background.end_ready)

    def timeline(self, result: ShownResult) -> Timeline:
        """A picture of who ran what when."""
        return Timeline(spans_of(result.records, result.now(), result.places().task))

    def html(self, result: ShownResult) -> str:
        """The result as a piece of HTML."""
        return result_html(result)


def _wait(result: ShownResult, seconds: float | None, deadline: float | None) -> None:
    if deadline is not None:
        left = max(0.0, deadline - time.monotonic())
        seconds = left if seconds is None else min(seconds, left)
    result.wait(seconds)


def _view_for_now(result: ShownResult, interval: float) -> tuple[ProgressView, float]:
    """A view for a cell that waits, and the seconds between its updates."""
    if frontend() is not Frontend.KERNEL:
        return _text_view(result), max(interval, _SHORTEST_PERIOD)
    view = _live_view(result, outlet_of_this_cell(updates_from_anywhere=True))
    return view, _WIDGET_PERIOD if view.is_widget else max(interval, _STATIC_PERIOD)


def _view_for_later(result: ShownResult) -> ProgressView:
    """A view that another thread keeps going."""
    if frontend() is Frontend.KERNEL:
        return _live_view(result, outlet_of_this_cell(updates_from_anywhere=True))
    return _text_view(result)


def _live_view(result: ShownResult, shown_in: Outlet) -> LiveView:
    wanted = settings.widgets
    with_widgets = widgets_are_installed() if wanted is None else wanted
    return LiveView(result, shown_in, with_widgets=with_widgets)


def _text_view(result: ShownResult) -> ProgressView:
    return TerminalBar(result) if sys.stderr.isatty() else ProgressLines(result)
