"""Progress in a notebook: a widget while the work runs, static HTML and text from its end on.

The one file that knows anywidget.  Shown under a display id and replaced at the end, because a
saved widget is empty or an error message wherever its kernel is gone.
"""

from __future__ import annotations

import contextvars
import functools
import importlib
import importlib.util
import threading
import uuid
from pathlib import Path
from typing import Any

from ipyasyncresult.display.actions import ACTIONS, act
from ipyasyncresult.display.frontend import Outlet
from ipyasyncresult.display.model import LiveModel, Look, state_of
from ipyasyncresult.display.reach import Reach
from ipyasyncresult.display.reprs import look_html, look_text, result_html, result_text
from ipyasyncresult.display.shown import ShownResult

__all__ = ["LiveView", "widgets_are_installed"]

_SOON = 0.05  # seconds in which engines have done what a button asked for


def widgets_are_installed() -> bool:
    """Whether anywidget can be imported."""
    return importlib.util.find_spec("anywidget") is not None


class LiveView:
    """The progress of one result in a notebook.  Any thread: buttons have their own.

    Parameters
    ----------
    result : ShownResult
    outlet : Outlet
        Of a kernel.
    with_widgets : bool
        False: the static form is updated in place, for where there are no widgets.

    Raises
    ------
    ImportError
        When `with_widgets` is asked for and anywidget is not installed.
    """

    def __init__(self, result: ShownResult, outlet: Outlet, *, with_widgets: bool = True) -> None:
        self._result = result
        self._outlet = outlet
        self._make_widget: Any = _widget_class() if with_widgets else None
        self._display_id = uuid.uuid4().hex
        self._lock = threading.Lock()  # guards what follows
        self._model: LiveModel | None = None
        self._widget: Any = None
        self._is_shown = False
        self._reach = Reach(result)
        self._answer = (0, "")  # number and text of the last answer to a button

    @property
    def is_widget(self) -> bool:
        """Whether updates are cheap."""
        return self._make_widget is not None

    def announce(self) -> None:
        """Put the static form under the cell; the widget, or the end, takes its place."""
        with self._lock:
            self._publish(self._static())

    def show(self, model: LiveModel) -> None:
        """Put the widget under the cell, or in the place of what was announced."""
        with self._lock:
            self._model = model
            look = model.look()
            bundle = {"text/plain": look_text(look), "text/html": look_html(look)}
            if self._make_widget is not None:
                self._widget = self._make_widget(state=self._state(look))
                self._widget.on_msg(self._pressed)
                _let_clicks_through(self._widget)
                # Text and HTML go along for frontends without widgets.
                bundle = {**_view_of(self._widget), **bundle}
            self._publish(bundle)

    def update(self) -> None:
        """Show how it is now."""
        with self._lock:
            if self._model is None:
                return
            look = self._model.look()
            if self._widget is not None:
                self._widget.state = self._state(look)
            elif self._is_shown:
                self._publish({"text/plain": look_text(look), "text/html": look_html(look)})

    def close(self, ending: str) -> None:
        """Replace it by what stays in the saved notebook."""
        with self._lock:
            if self._is_shown:
                self._publish(self._static(None if ending == "done" else ending))
                self._is_shown = False
            self._drop_widget()
            self._model = None

    def _static(self, ending: str | None = None) -> dict[str, Any]:
        look = None if self._model is None else self._model.look()
        return {
            "text/plain": result_text(self._result, ending),
            "text/html": result_html(self._result, ending, look=look),
        }

    def _publish(self, bundle: dict[str, Any]) -> None:
        self._outlet.display(bundle, display_id=self._display_id, update=self._is_shown)
        self._is_shown = True

    def _state(self, look: Look) -> dict[str, Any]:
        return state_of(look, answer=self._answer, reach=self._reach.look())

    def _pressed(self, widget: Any, content: Any, _buffers: Any) -> None:
        """A button.  The main thread between cells, a thread of a subshell while one runs."""
        if not isinstance(content, dict):
            return
        if type(content.get("ask")) is int:  # the page wants to know whether it is heard
            widget.send({"heard": content["ask"]})
            return
        action = content.get("action")
        if not isinstance(action, str) or action not in ACTIONS:
            return
        answer = act(self._result, action)  # without the lock: it asks the hub
        with self._lock:
            self._answer = (self._answer[0] + 1, answer)
            if self._model is not None and action == "retry":
                self._model.retried()
                self._reach.again()
        self.update()
        # What it brings about is shown as soon as it is there, not at the next turn.
        again = threading.Timer(_SOON, contextvars.copy_context().run, [self.update])
        again.daemon = True
        again.start()

    def _drop_widget(self) -> None:
        """Close the comms; a widget's layout is a widget, too."""
        if self._widget is not None:
            for part in (self._widget, self._widget.layout):
                part.close()
            self._widget = None


def _view_of(widget: Any) -> dict[str, Any]:
    bundle = widget._repr_mimebundle_()
    data: dict[str, Any] = bundle[0] if isinstance(bundle, tuple) else bundle
    return data


def _let_clicks_through(widget: Any) -> None:
    """Hear buttons while a cell blocks the main thread.

    A frontend sends clicks to a subshell of the kernel, but ipykernel 7.4 passes a comm's message
    to the shell that last sent on that comm, and that is blocked.  The name is private.
    """
    if hasattr(widget.comm, "_reply_subshell_for"):
        widget.comm._reply_subshell_for = lambda _data, default: default


@functools.cache
def _widget_class() -> Any:
    try:
        anywidget = importlib.import_module("anywidget")
        traitlets = importlib.import_module("traitlets")
    except ImportError as error:
        raise ImportError(
            "a progress widget needs the package anywidget (pip install anywidget); "
            "ipyasyncresult.display.settings.widgets = False does without"
        ) from error
    here = Path(__file__)

    class ProgressWidget(anywidget.AnyWidget):  # type: ignore[misc, name-defined]
        """Paints its one trait; the page sends back which button was pressed."""

        _esm = traitlets.Unicode(
            here.with_name("server.js").read_text() + here.with_suffix(".js").read_text()
        ).tag(sync=True)
        _css = traitlets.Unicode(here.with_suffix(".css").read_text()).tag(sync=True)
        state = traitlets.Dict().tag(sync=True)

    return ProgressWidget
