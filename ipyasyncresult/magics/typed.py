"""Where the code of a ``%px`` stands in the notebook, so that tracebacks of engines can say it."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from ipyasyncresult.worker.typed import Typed

__all__ = ["where_typed"]


def where_typed(shell: Any, code: str, above: int) -> Typed | None:
    """For the magic that runs now; None when no cell called it, but code that has no name.

    Parameters
    ----------
    shell : InteractiveShell
    code : str
        What the magic was given.
    above : int
        Lines between the call of the magic and the code: its header.
    """
    caller: FrameType | None = sys._getframe()
    while caller is not None and caller.f_globals is not shell.user_ns:
        caller = caller.f_back
    named = caller and shell.compile.format_code_name(caller.f_code.co_filename)
    if caller is None or not named:
        return None
    blank = code[: len(code) - len(code.lstrip())].count("\n")  # IPython leaves these out
    return Typed(" ".join(named), caller.f_lineno - 1 + above + blank)
