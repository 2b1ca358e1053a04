"""Outputs while they come: first what is there, then what follows, nothing twice, nothing lost.

The outputs of a task are a list that only grows, so one cursor per task says what was shown.  Two
threads come here: the caller's, which shows what is there when it starts and once more when it
ends, and the client's, which comes whenever tasks changed.  Either shows everything from the cursor
on, so it does not matter which of them is first.

In a notebook each piece goes under the cell that asked, also while other cells run.  Updates of a
display change that display, in place.  After ``clear_output`` the task's next displays take the
places of its cleared ones, and so does what it prints from then on: an animation per engine runs in
place.  Text from before its first clear stays, as other engines' text stands between.  In a
terminal updates are printed anew, and nothing is cleared.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ipyasyncresult.core.outputs import Output
from ipyasyncresult.core.task import FINAL, TaskRecord
from ipyasyncresult.display.background import Show
from ipyasyncresult.display.bar import beside_bars
from ipyasyncresult.display.frontend import Outlet, outlet_of_this_cell
from ipyasyncresult.display.grouping import block_text, display_block, in_time_order, prefix_of
from ipyasyncresult.display.lines import LiveLines
from ipyasyncresult.display.shown import ShownResult
from ipyasyncresult.display.taskdisplays import TaskDisplays

__all__ = ["LiveOutputs", "stream_output"]

Later = Callable[[Show], None]


@contextmanager
def stream_output(result: ShownResult, later: Later) -> Iterator[None]:
    """Within the context: show the outputs of `result`, first those that are there already.

    At the end everything that arrived until then has been shown, also after an error or an
    interrupt.  `later` is called as :class:`LiveOutputs` says.
    """
    live = LiveOutputs(outlet_of_this_cell(), later)
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
    later : callable
        Keeps going what it is given, a few times a second, until that says that it is over: a line
        that a task leaves unfinished is shown after a while, also when nothing more comes.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(
        self, outlet: Outlet, later: Later, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._outlet = outlet
        self._later = later
        self._lock = threading.Lock()
        # All that follows is read and written under the lock.
        self._waits = False  # for an unfinished line to be old enough
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
            if self._lines.hides_some and not self._waits:
                self._waits = True
                self._later(_UnfinishedLines(self))
            if (
                at_once or not self._outlet.is_rich
            ):  # a kernel sends by itself, every 0.2 s: fewer messages
                self._outlet.flush()

    def show_unfinished(self) -> bool:
        """Show unfinished lines that are old enough; False when none is left to wait for."""
        with self._lock:
            self._lines.show_unfinished()
            self._waits = self._lines.hides_some
            return self._waits

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
        for displays in self._displays.values():
            displays.draw()

    def _take(self, record: TaskRecord) -> Sequence[Output]:
        if not record.outputs:
            return ()
        seen = self._cursors.get(record.msg_id, 0)
        new = record.outputs[seen:]
        self._cursors[record.msg_id] = seen + len(new)
        return _since_the_last_clear(new) if self._outlet.is_rich else new

    def _show(self, record: TaskRecord, output: Output) -> None:
        msg_id, kind = record.msg_id, output.kind
        displays = self._displays.get(msg_id)
        if kind == "stdout" or kind == "stderr":
            if displays is not None and displays.clears:
                displays.write(kind, output.text, record.engine_id)
                return
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


class _UnfinishedLines:
    """For the thread of live views."""

    def __init__(self, live: LiveOutputs) -> None:
        self.tick = live.show_unfinished

    def close(self, _ending: str) -> None:
        """What could not be shown comes with the rest."""


def _since_the_last_clear(outputs: Sequence[Output]) -> Sequence[Output]:
    """What is still to be seen of new output, and the clear itself: it clears what came before.

    Values of cells come at the end, and are not cleared.
    """
    more_follows = False
    for index in reversed(range(len(outputs))):
        if outputs[index].kind != "clear_output":
            more_follows = True
        elif more_follows or not outputs[index].wait:
            values = [one for one in outputs[:index] if one.kind == "execute_result"]
            return [*values, *outputs[index:]]
    return outputs
