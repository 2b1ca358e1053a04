"""Switches for what is shown while work runs; set them as ``settings.progress = False``."""

from __future__ import annotations

import os

__all__ = ["progress", "progress_is_wanted", "widgets"]

progress: bool = True
"""False: ``wait_interactive`` waits and shows nothing.  So does ``IPYASYNCRESULT_PROGRESS=0``."""

widgets: bool | None = None
"""Widgets in a notebook: None where ipywidgets is installed, True always, False never."""


def progress_is_wanted() -> bool:
    """Whether neither the switch nor the environment turned progress off."""
    said = os.environ.get("IPYASYNCRESULT_PROGRESS", "1").strip().lower()
    return progress and said not in {"0", "false", "no", "off"}
