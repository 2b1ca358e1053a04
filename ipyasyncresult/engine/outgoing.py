"""What an engine has to say: collected in order, sent together."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from ipyasyncresult.core.outputs import encode_outputs
from ipyasyncresult.engine.unsaved import Unsaved
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.sockets import Line
from ipyasyncresult.worker.recorder import Recorder

__all__ = ["Outgoing", "TaskRecorder"]

_HOLD_RESULTS = 0.001
"""Seconds that results of short tasks may wait for company."""
_SHORT = 0.0002
"""Seconds; results of longer tasks leave at once, so that a death costs no finished work."""


_Item = m.Started | m.OutputPiece | m.Finished | m.Returned | m.Released | m.EngineReply


class TaskRecorder(Recorder):
    """The outputs of a task that has an id, which who makes it fills in."""

    msg_id: str


class Outgoing:
    """The engine's stream to the hub.

    For who holds the engine's turn, but for the methods ``note_...``, which any thread may call.

    Parameters
    ----------
    line : Line
    wake : int
        An eventfd that an idle engine waits for, too.
    keep : bool
        Keep what was sent until the hub has stored it.
    """

    def __init__(self, line: Line, wake: int, *, keep: bool = False) -> None:
        self.unsaved = Unsaved()
        self._keep = keep
        self._ended = 0  # tasks
        self._line = line
        self._wake = wake
        self._items: list[_Item] = []
        self._frames: list[Any] = []
        self._oldest = 0.0  # monotonic seconds: since when something waits to be sent
        self._late: deque[TaskRecorder] = deque()  # any thread appends
        self._released: deque[tuple[str, int]] = deque()  # any thread appends
        self._replies: deque[m.EngineReply] = deque()  # any thread appends

    def add(self, item: m.Started | m.Returned) -> None:
        """Say this, in its turn."""
        self._items.append(item)

    def add_end(self, item: m.Finished, frames: Sequence[Any]) -> None:
        """A task ended; `frames` carry its result's buffers."""
        if item.duration > _SHORT:
            self._oldest = 0.0  # leaves at once, with all that waits
        elif not self._items:
            self._oldest = time.monotonic()
        self._items.append(item)
        self._frames += frames
        self._ended += 1

    def take_outputs(self, recorder: TaskRecorder) -> None:
        """What a task printed and displayed since the last look."""
        outputs = recorder.take()
        if outputs:
            if not self._items:
                self._oldest = time.monotonic()
            self._items.append(m.OutputPiece(recorder.msg_id, encode_outputs(outputs)))

    def flush_if_due(self) -> None:
        """Send, if something has waited for long enough."""
        if time.monotonic() - self._oldest > _HOLD_RESULTS:
            self.flush()

    def flush(self, *, wait: bool = False) -> None:
        """Send everything; wait until the hub has taken it, which only an idle engine may."""
        self._flush()
        line = self._line
        while line.unsent and not line.flush() and wait:
            line.wait_for_room()

    def _flush(self) -> None:
        if self._released:  # behind results that lie in the same memory
            released = [self._released.popleft() for _ in range(len(self._released))]
            self._items.append(m.Released(released))
        if not self._items:
            return
        number = self.unsaved.next_number() if self._keep else 0
        header = m.encode(m.Stream(self._items, number))
        self._line.send(header, self._frames)
        if number:
            self.unsaved.add(number, header, self._frames, self._items)
        self._items = []
        self._frames = []

    def send_again(self, hello: m.Register, held: list[str]) -> None:
        """To a hub that took the place of another: who this is, and what that one may not have
        stored."""
        self.flush()  # into what is unsaved: the new hub drops what comes before it knows us
        unsaved = self.unsaved.ended()
        again = msgspec.structs.replace(
            hello, again=True, unsaved=unsaved, held=held, finished=self._ended - len(unsaved)
        )
        self._line.send(m.encode(again))
        for header, frames in self.unsaved.messages():
            self._line.send(header, frames)

    # -- what other threads come with ------------------------------------------------------------

    def note_released(self, name: str, bits: int) -> None:
        """Shared memory is not used any more: comes from within the garbage collector, too."""
        self._released.append((name, bits))
        os.eventfd_write(self._wake, 1)

    def note_late(self, recorder: Recorder) -> None:
        """A task's thread printed after the task's end."""
        self._late.append(cast("TaskRecorder", recorder))
        os.eventfd_write(self._wake, 1)

    def note_reply(self, reply: m.EngineReply) -> None:
        """Say something to a client that asked."""
        self._replies.append(reply)
        os.eventfd_write(self._wake, 1)

    def take_late(self) -> None:
        """Add what such threads printed, and replies."""
        while self._replies:
            self._items.append(self._replies.popleft())
        while self._late:
            self.take_outputs(self._late.popleft())
