"""Switches for what is shown while work runs: ``DisplayOptions``, or what this process says.

``settings.progress = False`` and ``settings.widgets = False`` hold for this process;
``del settings.progress`` goes back to the options.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

__all__ = ["progress", "progress_is_wanted", "widgets"]

if TYPE_CHECKING:
    progress: bool
    """False: ``wait_interactive`` shows nothing.  So does ``IPYASYNCRESULT_PROGRESS=0``."""
    widgets: bool | None
    """Widgets in a notebook: None where ipywidgets is installed, True always, False never."""


def __getattr__(name: str) -> Any:
    if name not in ("progress", "widgets"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Traitlets is loaded when somebody is about to see something, not before.
    from ipyasyncresult.config import DisplayOptions, options

    return getattr(options(DisplayOptions), name)


def progress_is_wanted() -> bool:
    """Whether neither the switch nor the environment turned progress off."""
    said = os.environ.get("IPYASYNCRESULT_PROGRESS", "1").strip().lower()
    if said in {"0", "false", "no", "off"}:
        return False
    return bool(sys.modules[__name__].progress)
