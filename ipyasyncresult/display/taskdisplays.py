"""What one task displays in a notebook, live: updates and ``clear_output`` work as in a cell.

Everything stands in a display with an id of our own, in places from top to bottom.  What is cleared
frees its places for what comes next; no output of Jupyter can be taken away, only emptied.
"""

from __future__ import annotations

import uuid
from typing import Literal

from ipyasyncresult.core.outputs import Output, apply_carriage_returns
from ipyasyncresult.display.frontend import Outlet
from ipyasyncresult.display.grouping import display_block, output_text, prefix_of
from ipyasyncresult.display.republish import in_a_display, show

__all__ = ["TaskDisplays"]

_MOST_TEXT = 4000  # characters of one place: all of it is sent again when there is more


class TaskDisplays:
    """The displays of one task, and its text once it cleared.  The owner's lock is held.

    The ids that tasks choose are no use here: two engines may choose the same.
    """

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._own_ids: dict[str, list[str]] = {}  # by the task's display_id
        self._places: list[str] = []  # our ids, from top to bottom
        self._used = 0  # places taken since the last clear
        self._shown: dict[str, str] = {}  # text in a place; what else is in it has none here
        self._clear_waits = False
        self._text = ""  # of the last place, as long as that is text
        self._prefix: str | None = None  # of that text
        self.clears: bool = False

    def show(self, output: Output, engine_id: int | None) -> None:
        """Show, update or clear."""
        if output.kind == "clear_output":
            self._clear(output.wait)
            return
        self._end_text()
        block = display_block(output, engine_id)
        known = self._own_ids.get(output.display_id or "")
        if output.kind == "update_display_data" and known:
            for own_id in known:
                show(block, self._outlet, display_id=own_id, update=True)
            return
        if block.is_rich:
            self._put(block.prefix)
        own_id, is_new = self._next_place()
        if output.display_id is not None:
            self._own_ids.setdefault(output.display_id, []).append(own_id)
        self._shown.pop(own_id, None)
        if block.is_rich:
            self._outlet.display(block.data, block.metadata, display_id=own_id, update=not is_new)
        else:
            show(block, self._outlet, display_id=own_id, update=not is_new)
        self._settle()

    def write(self, kind: Literal["stdout", "stderr"], text: str, engine_id: int | None) -> None:
        """Text that a clear takes away; seen after :meth:`draw`."""
        prefix = in_a_display(prefix_of(kind, engine_id))
        if prefix != self._prefix:
            self._end_text()
        self._prefix = prefix
        self._text += text
        while len(self._text) > _MOST_TEXT:  # no place is sent again and again for ever
            end = self._text.rfind("\n", 0, _MOST_TEXT) + 1 or _MOST_TEXT
            rest = self._text[end:]
            self._text = self._text[:end]
            self._end_text()
            self._prefix, self._text = prefix, rest

    def draw(self) -> None:
        """Show what was written so far."""
        if self._prefix is not None and self._text:
            self._put(output_text(self._prefix, apply_carriage_returns(self._text)))
            self._used -= 1  # it may grow
            self._settle(kept=1)

    def _end_text(self) -> None:
        if self._prefix is not None:
            self.draw()
            self._used += bool(self._text)
            self._prefix, self._text = None, ""

    def _put(self, text: str) -> None:
        own_id, is_new = self._next_place()
        text = text.removesuffix("\n")
        if self._shown.get(own_id) != text:
            self._shown[own_id] = text
            self._outlet.display({"text/plain": text}, display_id=own_id, update=not is_new)

    def _settle(self, kept: int = 0) -> None:
        """What waited to be cleared until there is something new goes now."""
        if self._clear_waits:
            self._clear_waits = False
            for own_id in self._places[self._used + kept :]:
                if self._shown.get(own_id) != "":
                    self._shown[own_id] = ""
                    self._outlet.display({"text/plain": ""}, display_id=own_id, update=True)

    def _clear(self, wait: bool) -> None:
        if wait:
            self.draw()
        self._used = 0
        self._own_ids.clear()
        self._prefix, self._text = None, ""
        self.clears = self._clear_waits = True
        if not wait:
            self._settle()

    def _next_place(self) -> tuple[str, bool]:
        is_new = self._used == len(self._places)
        if is_new:
            self._places.append(uuid.uuid4().hex)
        self._used += 1
        return self._places[self._used - 1], is_new
