"""Ctrl-C, held back while something must not be left half done."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["HeldInterrupts"]


# The functions of `signal` convert numbers to enums and back: 20 us per wait, a third of all the
# calls of a round trip.  What they wrap does not.
_plain: Any = sys.modules.get("_signal", signal)
_getsignal, _set_signal = _plain.getsignal, _plain.signal
_SIGINT = int(signal.SIGINT)
_main = threading.main_thread().ident


def _note_main_thread() -> None:
    global _main
    _main = threading.main_thread().ident


os.register_at_fork(after_in_child=_note_main_thread)


class HeldInterrupts:
    """Within the context SIGINT waits, except while :attr:`open` is True.

    A message that was received but not applied would be a result that never comes; a multipart
    message of which one part was sent would spoil the next one.  Signals come to the main thread
    only: elsewhere this does nothing.  What comes meanwhile is :attr:`pending`, and is raised by
    :meth:`check` or at the end.
    """

    __slots__ = ("_installed", "_previous", "open", "pending")

    def __init__(self) -> None:
        self.open: bool = False
        self.pending: tuple[int, FrameType | None] | None = None
        self._previous: Any = None
        self._installed = False

    def __enter__(self) -> Self:
        if threading.get_ident() == _main:
            self._previous = _getsignal(_SIGINT)
            if callable(self._previous):
                _set_signal(_SIGINT, self._handle)
                self._installed = True
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.open:
            self.open = False
            self._previous(number, frame)
        else:
            self.pending = (number, frame)

    def check(self) -> None:
        """Let an interrupt through that came meanwhile."""
        if self.pending is not None:
            pending, self.pending = self.pending, None
            self._previous(*pending)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.open = False
        if self._installed:
            _set_signal(_SIGINT, self._previous)
            if kind is None and self.pending is not None:
                self.check()
