"""Magics for a view: ``view.activate('_left')`` makes ``%px_left`` and its family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipyasyncresult.client.directview import DirectView

__all__ = ["activate"]


def activate(view: DirectView, suffix: str = "") -> None:
    """Make ``%px{suffix}`` and its family of the running shell use this view.

    The magics are found through the shell in which they are loaded: this layer is below them.

    Parameters
    ----------
    view : DirectView
    suffix : str
        With none, plain ``%px`` uses the view from now on.

    Raises
    ------
    RuntimeError
        Outside IPython.
    ValueError
        When the suffix does not make the name of a magic.
    """
    from IPython.core.getipython import get_ipython

    shell: Any = get_ipython()
    if shell is None:
        raise RuntimeError("magics need IPython, which does not run here")
    shell.extension_manager.load_extension("ipyasyncresult")
    shell.magics_manager.registry["EngineMagics"].activate(view, suffix)
