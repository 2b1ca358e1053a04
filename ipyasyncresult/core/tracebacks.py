"""What IPython shows of an error that was raised in here: the user's frames, not ours.

IPython asks an exception for its ``_render_traceback_``.  Scripts and debuggers see all frames.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any

__all__ = [
    "hide_our_frames",
    "interrupts_of_the_user",
    "render_users_frames",
    "without_ours",
]

_OURS = {"ipyasyncresult", "zmq", "cloudpickle", "asyncio", "importlib"}  # we, and whom we call


def render_users_frames(error: BaseException) -> list[str]:
    """The lines that IPython would show if the error had been raised where we were called."""
    shell: Any = sys.modules["IPython"].get_ipython()  # it asks
    cause = error.__cause__
    while cause is not None:
        cause.__traceback__ = without_ours(cause.__traceback__)
        cause = cause.__cause__
    frames = without_ours(error.__traceback__)
    lines: list[str] = shell.InteractiveTB.structured_traceback(type(error), error, frames)
    return lines


def hide_our_frames(error: BaseException) -> None:
    """The same for an error that is not of a class of ours."""
    error._render_traceback_ = functools.partial(render_users_frames, error)  # type: ignore[attr-defined]


@contextlib.contextmanager
def interrupts_of_the_user() -> Iterator[None]:
    """Within the context an interrupt hides our frames."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        hide_our_frames(interrupt)
        raise


def without_ours(frames: TracebackType | None) -> TracebackType | None:
    """The frames of others, in order.  Any thread."""
    kept = []
    while frames is not None:
        module = frames.tb_frame.f_globals.get("__name__") or ""
        if module.partition(".")[0] not in _OURS:
            kept.append(frames)
        frames = frames.tb_next
    shown = None
    for frame in reversed(kept):
        shown = TracebackType(shown, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return shown
