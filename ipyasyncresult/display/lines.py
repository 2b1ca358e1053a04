"""Text that arrives in pieces, shown line by line while several tasks write.

Whole lines are printed with the prefix of who wrote them.  A line that is not finished yet (a bar
that a task draws with ``\\r``, dots) is shown in a way that can be taken back: in a notebook as a
display that is updated in place, one per line; in a terminal at the bottom, where the one that
moved last is seen; elsewhere not before it is finished.  In a notebook a line that is only written
to its end is shown when it is half a second old: the rest may just be under way.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Literal

from ipyasyncresult.core.presenter import STREAMS
from ipyasyncresult.display.frontend import Outlet
from ipyasyncresult.display.republish import in_a_display

__all__ = ["Line", "LiveLines"]

StreamName = Literal["stdout", "stderr"]

_SLOW = 0.5  # seconds after which an unfinished line is worth showing
_ERASE = "\r\x1b[K"


class Line:
    """One unfinished line, as a terminal would show it.  ``\\r`` goes back to its start."""

    __slots__ = ("_after", "_before", "began", "display_id", "is_rewritten", "shown")

    def __init__(self, began: float) -> None:
        self._before = ""  # what stood there before the last \r
        self._after = ""
        self.is_rewritten: bool = False
        self.began: float = began
        # How it is shown in a notebook.
        self.display_id: str | None = None
        self.shown: str = ""

    @property
    def text(self) -> str:
        """What is to be seen."""
        return self._after + self._before[len(self._after) :]

    def write(self, text: str) -> None:
        """Add text without newlines."""
        first, *rewritten = text.split("\r")
        self._after += first
        for part in rewritten:
            self._before = self.text
            self._after = part
            self.is_rewritten = True


class LiveLines:
    """The text of all tasks of a result, as it comes.  The owner's lock is held in every method.

    Parameters
    ----------
    outlet : Outlet
    clock : callable
        Seconds, monotonic.
    beside_bars : callable
        A context in which text does not break a progress bar; yields whether one is shown.
    """

    def __init__(
        self,
        outlet: Outlet,
        clock: Callable[[], float],
        beside_bars: Callable[[], AbstractContextManager[bool]],
    ) -> None:
        self._outlet = outlet
        self._clock = clock
        self._beside_bars = beside_bars
        self._lines: dict[tuple[str, StreamName], tuple[str, Line]] = {}  # prefix, line
        self._bottom = False  # whether the terminal's last line is an unfinished one
        self._moved: tuple[str, StreamName] | None = None  # the unfinished line written to last

    def write(self, msg_id: str, name: StreamName, prefix: str, text: str) -> None:
        """Take text that a task wrote, print the lines that are whole."""
        key = (msg_id, name)
        *whole, rest = text.split("\n")
        finished = "".join(self._finished(key, prefix, whole))
        if finished:
            self.print(name, finished)
        if rest:
            line = self._lines.setdefault(key, (prefix, Line(self._clock())))[1]
            line.write(rest)
            self._moved = key

    def _finished(self, key: tuple[str, StreamName], prefix: str, ends: list[str]) -> Iterator[str]:
        for text in ends:
            _, line = self._lines.pop(key, ("", None))
            line = line or Line(0.0)
            line.write(text)
            if line.display_id is None:
                yield f"{prefix} {line.text}\n"
            else:
                self._draw(prefix, line)

    def end_lines(self, msg_id: str) -> None:
        """Finish the unfinished lines of a task that has ended."""
        for name in STREAMS:
            if (msg_id, name) in self._lines:
                prefix, _ = self._lines[msg_id, name]
                self.write(msg_id, name, prefix, "\n")

    def end_all_lines(self) -> None:
        """Finish all unfinished lines."""
        for msg_id, _ in list(self._lines):
            self.end_lines(msg_id)

    @property
    def hides_some(self) -> bool:
        """Whether an unfinished line is still to be shown if nothing more is written to it."""
        return self._outlet.is_rich and any(
            line.display_id is None for _, line in self._lines.values()
        )

    def show_unfinished(self) -> None:
        """After a batch of writes: show where unfinished lines are."""
        if self._outlet.is_rich:
            self._update_displays()
        elif self._outlet.is_terminal:
            self._draw_bottom()

    def _update_displays(self) -> None:
        now = self._clock()
        for prefix, line in self._lines.values():
            # One that is shown follows at once: the piece that comes now may be the last for long.
            # (An engine sends what a task writes 50 times a second at most.)
            if line.display_id or line.is_rewritten or now - line.began >= _SLOW:
                self._draw(prefix, line)

    def _draw(self, prefix: str, line: Line) -> None:
        text = f"{in_a_display(prefix)} {line.text}"
        if text == line.shown:
            return
        line.shown = text
        is_new = line.display_id is None
        line.display_id = line.display_id or uuid.uuid4().hex
        self._outlet.display({"text/plain": text}, display_id=line.display_id, update=not is_new)

    def _draw_bottom(self) -> None:
        shown = self._lines.get(self._moved) if self._moved else None
        if shown is None:
            return
        prefix, line = shown
        with self._beside_bars() as bars:
            if not bars:  # a bar holds the bottom line
                width = shutil.get_terminal_size().columns - 1
                text = f"{prefix} {line.text}"[:width]
                self._outlet.stream("stdout", f"{_ERASE}{text}\x1b[0m")
                self._outlet.flush()
                self._bottom = True

    def clear_bottom(self) -> None:
        """Before anything else is printed."""
        if self._bottom:
            self._outlet.stream("stdout", _ERASE)
            self._bottom = False

    def print(self, name: StreamName, text: str) -> None:
        """Print whole lines, as they are."""
        with self._beside_bars() as bars:
            self.clear_bottom()
            self._outlet.stream(name, text)
            if bars:
                self._outlet.flush()  # before the bar is drawn again
