"""Outputs while they come: first what is there, then what follows, nothing twice, nothing lost.

The outputs of a task are a list that only grows, so one cursor per task says what was shown.  Two
threads come here: the caller's, which shows what is there when it starts and once more when it
ends, and the client's, which comes whenever tasks changed.  Either shows everything from the cursor
on, so it does not matter which of them is first.

In a notebook each piece goes under the cell that asked, also while other cells run.  Updates of a
display change that display, in place.  After ``clear_output`` the task's next displays take the
places of its cleared ones, so that an animation per engine runs in place; its text stays, as other
engines' text stands between.  In a terminal updates are printed anew, and nothing is cleared.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ipyasyncresult.core.outputs import Output
from ipyasyncresult.core.task import FINAL, TaskRecord
from ipyasyncresult.display.bar import beside_bars
from ipyasyncresult.display.frontend import Outlet, outlet_of_this_cell
from ipyasyncresult.display.grouping import block_text, display_block, in_time_order, prefix_of
from ipyasyncresult.display.lines import LiveLines
from ipyasyncresult.display.republish import show
from ipyasyncresult.display.shown import ShownResult

__all__ = ["LiveOutputs", "TaskDisplays", "stream_output"]


@contextmanager
def stream_output(result: ShownResult) -> Iterator[None]:
    """Within the context: show the outputs of `result`, first those that are there already.

    At the end everything that arrived until then has been shown, also after an error or an
    interrupt.
    """
    live = LiveOutputs(outlet_of_this_cell())
    stop = result.follow(live.show_new)
    try:
        # At once: a kernel's cell may be over before the next turn of its stream.
        live.show_new(result.records, at_once=True)
        yield
    finally:
        stop()
        live.finish(result.records)


class LiveOutputs:
    """Shows what is new in the outputs of tasks.  All methods: any thread.

    Parameters
    ----------
    outlet : Outlet
        Good for all threads that call.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(self, outlet: Outlet, clock: Callable[[], float] = time.monotonic) -> None:
        self._outlet = outlet
        self._lock = threading.Lock()
        # All that follows is read and written under the lock.
        self._cursors: dict[str, int] = {}  # how many outputs of a task were shown
        self._lines = LiveLines(outlet, clock, beside_bars)
        self._displays: dict[str, TaskDisplays] = {}
        # Values of cells come last, in the order of the engines and not of their arrival.
        self._results: dict[str, list[Output]] = {}

    def show_new(self, records: Sequence[TaskRecord], *, at_once: bool = False) -> None:
        """Show what the tasks wrote since they were looked at last, `at_once` or a bit later."""
        with self._lock:
            self._show_new(records)
            self._lines.show_unfinished()
            if (
                at_once or not self._outlet.is_rich
            ):  # a kernel sends by itself, every 0.2 s: fewer messages
                self._outlet.flush()

    def finish(self, records: Sequence[TaskRecord]) -> None:
        """Show the rest, also lines without an end."""
        with self._lock:
            self._show_new(records)
            self._lines.end_all_lines()
            self._show_results(records)
            self._lines.clear_bottom()
            self._outlet.flush()

    def _show_new(self, records: Sequence[TaskRecord]) -> None:
        # Whether a task has ended is asked first: then its outputs are complete.
        ended = [record.msg_id for record in records if record.status in FINAL]
        for position, output in in_time_order([self._take(record) for record in records]):
            self._show(records[position], output)
        for msg_id in ended:
            self._lines.end_lines(msg_id)

    def _take(self, record: TaskRecord) -> Sequence[Output]:
        if not record.outputs:
            return ()
        seen = self._cursors.get(record.msg_id, 0)
        new = record.outputs[seen:]
        self._cursors[record.msg_id] = seen + len(new)
        return new

    def _show(self, record: TaskRecord, output: Output) -> None:
        msg_id, kind = record.msg_id, output.kind
        displays = self._displays.get(msg_id)
        if kind == "stdout" or kind == "stderr":
            if displays is not None:
                displays.settle()
            prefix = prefix_of(kind, record.engine_id)
            self._lines.write(msg_id, kind, prefix, output.text)
            return
        if kind == "execute_result":
            self._results.setdefault(msg_id, []).append(output)
            return
        self._lines.end_lines(msg_id)  # what the task began to print stands before its display
        self._show_rich(record, output)

    def _show_results(self, records: Sequence[TaskRecord]) -> None:
        for record in records:
            for output in self._results.pop(record.msg_id, ()):
                self._show_rich(record, output)

    def _show_rich(self, record: TaskRecord, output: Output) -> None:
        kind = output.kind
        if self._outlet.is_rich:
            displays = self._displays.get(record.msg_id)
            if displays is None:
                displays = self._displays[record.msg_id] = TaskDisplays(self._outlet)
            displays.show(output, record.engine_id)
        elif kind != "clear_output":
            self._lines.print("stdout", block_text(display_block(output, record.engine_id)))


class TaskDisplays:
    """What one task displays in a notebook.  Every display can be updated by an id of our own.

    The ids that tasks choose are no use here: two engines may choose the same.
    """

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._own_ids: dict[str, list[str]] = {}  # by the task's display_id
        self._places: list[str] = []  # our ids, from top to bottom
        self._used = 0  # places taken since the last clear
        self._blank: set[str] = set()
        self._clear_waits = False

    def show(self, output: Output, engine_id: int | None) -> None:
        """Show, update or clear."""
        if output.kind == "clear_output":
            self._clear(output.wait)
            return
        block = display_block(output, engine_id)
        known = self._own_ids.get(output.display_id or "")
        if output.kind == "update_display_data" and known:
            for own_id in known:
                show(block, self._outlet, display_id=own_id, update=True)
            return
        own_id, is_new = self._next_place()
        self.settle()
        self._blank.discard(own_id)
        if output.display_id is not None:
            self._own_ids.setdefault(output.display_id, []).append(own_id)
        show(block, self._outlet, display_id=own_id, update=not is_new)

    def settle(self) -> None:
        """More output follows: what waited for it to be cleared goes now."""
        if self._clear_waits:
            self._clear_waits = False
            for own_id in self._places[self._used :]:
                if own_id not in self._blank:
                    self._blank.add(own_id)
                    self._outlet.display({"text/plain": ""}, display_id=own_id, update=True)

    def _clear(self, wait: bool) -> None:
        self._used = 0
        self._own_ids.clear()
        self._clear_waits = True
        if not wait:
            self.settle()

    def _next_place(self) -> tuple[str, bool]:
        is_new = self._used == len(self._places)
        if is_new:
            self._places.append(uuid.uuid4().hex)
        self._used += 1
        return self._places[self._used - 1], is_new
