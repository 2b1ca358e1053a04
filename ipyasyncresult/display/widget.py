"""Progress in a notebook: a widget while the work runs, static HTML and text from its end on.

The one file that knows ipywidgets.  Shown under a display id and replaced at the end, because a
saved widget is empty or an error message wherever its kernel is gone.
"""

from __future__ import annotations

import importlib
import importlib.util
import uuid
from typing import Any

from ipyasyncresult.display.frontend import Outlet
from ipyasyncresult.display.progress import Progress
from ipyasyncresult.display.reprs import result_html, result_text
from ipyasyncresult.display.shown import ShownResult

__all__ = ["LiveView", "widgets_are_installed"]


def widgets_are_installed() -> bool:
    """Whether ipywidgets can be imported."""
    return importlib.util.find_spec("ipywidgets") is not None


class LiveView:
    """The progress of one result in a notebook.  One thread: the one that waits.

    Parameters
    ----------
    result : ShownResult
    outlet : Outlet
        Of a kernel.
    with_widgets : bool
        False: the static form is updated in place, for where there is no ipywidgets.

    Raises
    ------
    ImportError
        When `with_widgets` is asked for and ipywidgets is not installed.
    """

    def __init__(self, result: ShownResult, outlet: Outlet, *, with_widgets: bool = True) -> None:
        self._result = result
        self._outlet = outlet
        self._widgets: Any = _ipywidgets() if with_widgets else None
        self._display_id = uuid.uuid4().hex
        self._widget: Any = None
        self._is_shown = False

    def show(self, progress: Progress) -> None:
        """Put it under the cell."""
        bundle = self._bundle(progress=progress)
        if self._widgets is not None:
            # The very HTML that stays at the end, so that nothing jumps when it is replaced.
            self._widget = self._widgets.HTML(bundle["text/html"], layout={"margin": "0"})
            # Text and HTML go along for frontends without widgets.
            bundle = {**self._widget._repr_mimebundle_(), **bundle}
        self._is_shown = True
        self._outlet.display(bundle, display_id=self._display_id)

    def update(self, progress: Progress) -> None:
        """Show new numbers."""
        if self._widget is None:
            bundle = self._bundle(progress=progress)
            self._outlet.display(bundle, display_id=self._display_id, update=True)
        else:
            self._widget.value = result_html(self._result, progress=progress)

    def close(self, progress: Progress, ending: str) -> None:
        """Replace it by what stays in the saved notebook."""
        if self._is_shown:
            self._is_shown = False
            final = self._bundle(None if ending == "done" else ending)
            self._outlet.display(final, display_id=self._display_id, update=True)
        self._drop_widget()

    def _bundle(
        self, ending: str | None = None, *, progress: Progress | None = None
    ) -> dict[str, Any]:
        return {
            "text/plain": result_text(self._result, ending, progress=progress),
            "text/html": result_html(self._result, ending, progress=progress),
        }

    def _drop_widget(self) -> None:
        """Close the comms; a widget's layout and style are widgets, too."""
        if self._widget is not None:
            for part in (self._widget, self._widget.layout, self._widget.style):
                part.close()
            self._widget = None


def _ipywidgets() -> Any:
    try:
        return importlib.import_module("ipywidgets")
    except ImportError as error:
        raise ImportError(
            "a progress widget needs the package ipywidgets (pip install ipywidgets); "
            "ipyasyncresult.display.settings.widgets = False does without"
        ) from error
