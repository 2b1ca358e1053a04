"""Tasks that the hub remembers, finished ones included, within a limit of memory.

Without a store what is above the limit is forgotten.  With one, the contents of finished tasks
(arguments, outputs, results) leave the memory once they are on disk, and are read again when
somebody asks; what stays is one small record per task.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec

from ipyasyncresult.hub.records import HubTask
from ipyasyncresult.hub.segments import Segments
from ipyasyncresult.wire.buffers import bytes_behind
from ipyasyncresult.wire.messages import Finished, Group

if TYPE_CHECKING:
    from ipyasyncresult.hub.paging import Pager

__all__ = ["Archive", "GroupEntry"]

DEFAULT_LIMIT = 1 << 30  # bytes
_OBJECTS = 400  # bytes: the objects around the contents of a task
_ON_DISK = 2000
"""Bytes that a stored task is taken for beyond its contents: a row's overhead, and the record that
the hub keeps of it in memory."""


class GroupEntry:
    """A call that made several tasks."""

    __slots__ = ("group", "known", "msg_ids", "session", "submitted")

    def __init__(self, group: Group, session: str, submitted: float) -> None:
        self.group = group
        self.session = session
        self.submitted = submitted
        self.msg_ids: list[str] = []
        self.known = 0  # how many of them are not forgotten


class Archive:
    """Everything by id.  Unfinished tasks never go.

    Parameters
    ----------
    limit : int
        Bytes of contents in memory, those of results in shared memory included.
    pager : Pager, optional
        Where contents go above the limit.
    segments : Segments, optional
        Told what tasks and results need of the shared memory.  With a store, which has copies of
        results, they need nothing there once it does.

    Attributes
    ----------
    row : int
        The journal's row of the message that is being handled, 0 without a store.
    refs : int
        How many tasks refer to that row so far.
    rows : dict
        By row: how many tasks need it.
    unwritten, retried, resubmitted : list
        What no message told and the journal does not have yet: ends, retries, work of tasks that
        run again.
    """

    def __init__(
        self,
        limit: int = DEFAULT_LIMIT,
        pager: Pager | None = None,
        segments: Segments | None = None,
    ) -> None:
        self.limit = limit
        self.pager = pager
        self.segments = segments if segments is not None else Segments()
        self.tasks: dict[str, HubTask] = {}
        self.groups: dict[str, GroupEntry] = {}
        self.bytes = 0  # in memory
        self.stored_bytes = 0  # of finished tasks, on disk
        self.row = self.refs = 0
        self.rows: dict[int, int] = {}
        self.unwritten: list[HubTask] = []
        self.retried: list[str] = []
        self.resubmitted: list[HubTask] = []
        self.forgotten: list[str] = []  # since the journal last took them
        self.free_rows: list[int] = []  # that no task needs any more; as above
        self._finished: deque[HubTask] = deque()  # whose contents are in memory
        self._delivered: deque[HubTask] = deque()  # oldest first

    # -- what comes ------------------------------------------------------------------------------

    def add_group(self, group: Group, session: str, now: float) -> GroupEntry:
        """A new group, or the one of that id that is growing (a lazy map)."""
        entry = self.groups.get(group.group_id)
        if entry is None:
            entry = self.groups[group.group_id] = GroupEntry(group, session, now)
        return entry

    def accept(self, held: HubTask, entry: GroupEntry | None = None) -> None:
        """A task came: its arguments are needed until it ended, or longer (see `finish`)."""
        msg_id = held.task.msg_id
        self.tasks[msg_id] = held
        held.size += len(held.task.arguments)
        if held.frames:
            self.segments.add_work(held.frames)
        if entry is not None:
            held.group = entry
            entry.msg_ids.append(msg_id)
            entry.known += 1
        if self.row:
            held.submit_row = self.row
            self.refs += 1

    def add_output(self, held: HubTask, outputs: bytes) -> None:
        """Keep more output of a task."""
        if self.row:
            if held.output_rows is None:
                held.output_rows = []
            held.output_rows.append(self.row)
            self.refs += 1
        if held.paged:
            return  # a thread of a task whose contents have left: the store has it
        if held.outputs is None:
            held.outputs = []
        held.outputs.append(outputs)
        size = len(outputs)
        held.size += size
        held.loaded += size
        self.bytes += size

    def finish(self, held: HubTask, frames: Sequence[Any], *, keep_work: bool) -> None:
        """Keep the end of a task.  Its function and arguments stay only if it may run again."""
        held.result_frames = frames
        if frames:
            self.segments.add_result(frames)
        size = _OBJECTS
        kept = frames
        if keep_work:
            self.segments.keep_work(held.frames)
            size += len(held.task.arguments)
            kept = [*frames, *held.frames]
        else:
            if held.frames:
                self._drop_work_frames(held)
            held.function = b""
            held.task.arguments = b""
        final = held.final
        if isinstance(final, Finished):
            size += len(final.body)
            if self.row:
                held.final_row = self.row
                self.refs += 1
        elif self.pager is not None:
            self.unwritten.append(held)
        held.size += size
        if kept:  # in memory a few bytes may stand for many
            size += sum([len(frame) for frame in kept])
            held.size += sum([bytes_behind(frame) for frame in kept])
        held.loaded += size
        self.bytes += size
        self.stored_bytes += held.size + _ON_DISK
        self._finished.append(held)
        if self.bytes + self.segments.kept_bytes > self.limit:
            self.shrink()

    def _drop_work_frames(self, held: HubTask) -> None:
        if self.pager is not None and held.submit_row:
            self.pager.drop_frames(held)
        self.segments.end_work(held.frames)
        held.frames = ()

    def shrink(self) -> None:
        """Let contents leave the memory, the oldest first, until it is within its limit."""
        pager = self.pager
        while self.bytes + self.segments.kept_bytes > self.limit and self._finished:
            held = self._finished[0]
            if not held.loaded:  # it was forgotten meanwhile
                self._finished.popleft()
            elif pager is None:
                self._finished.popleft()
                self._forget(held)
            elif pager.has(held.final_row):
                self._finished.popleft()
                held.paged = True
                self._unload(held)
            else:
                return  # not on disk yet: the journal calls again

    def _unload(self, held: HubTask) -> None:
        self.bytes -= held.loaded
        held.loaded = 0
        held.outputs = None
        held.function = held.task.arguments = b""
        held.frames = held.result_frames = ()
        if isinstance(held.final, Finished):
            # A copy: this turn's news may hold the original.
            held.final = msgspec.structs.replace(held.final, body=b"")

    def recovered(self, held: HubTask, size: int) -> None:
        """The store told the end of a task; its contents stay there."""
        held.paged = True
        held.function = held.task.arguments = b""
        held.frames = ()
        held.final_row = self.row
        self.refs += 1
        held.size += size + _OBJECTS
        self.stored_bytes += held.size + _ON_DISK

    # -- what goes -------------------------------------------------------------------------------

    def delivered(self, held: HubTask) -> None:
        """A client has the end of this task."""
        if not held.delivered:
            held.delivered = True
            self._delivered.append(held)

    def retire(self, keep_bytes: int, before: float) -> None:
        """Forget delivered tasks, the oldest first: above `keep_bytes`, and ended before then."""
        delivered, tasks = self._delivered, self.tasks
        while delivered:
            held = delivered[0]
            if tasks.get(held.task.msg_id) is held:
                if self.stored_bytes <= keep_bytes and _ended(held) >= before:
                    break
                self._forget(held)
            delivered.popleft()
        while self._finished and not self._finished[0].loaded:
            self._finished.popleft()

    def forget(self, msg_ids: Sequence[str] | None) -> int:
        """Forget finished tasks on request, None for all; how many there were."""
        count = 0
        for msg_id in list(self.tasks) if msg_ids is None else msg_ids:
            held = self.tasks.get(msg_id)
            if held is not None and held.final is not None:
                self._forget(held)
                count += 1
        if count:
            self._finished = deque(held for held in self._finished if held.loaded)
        return count

    def _forget(self, held: HubTask) -> None:
        self.segments.forget(held.frames)
        self.segments.forget(held.result_frames)
        self._unload(held)
        self.stored_bytes -= held.size + _ON_DISK
        self.tasks.pop(held.task.msg_id, None)
        if held.group is not None:
            held.group.known -= 1
            if not held.group.known:
                self.groups.pop(held.group.group.group_id, None)
        if self.pager is not None:
            self.forgotten.append(held.task.msg_id)
            for row in (held.submit_row, held.final_row, *(held.output_rows or ())):
                self._unref(row)

    def _unref(self, row: int) -> None:
        left = self.rows.get(row, 0) - 1
        if left > 0:
            self.rows[row] = left
        elif left == 0:
            del self.rows[row]
            self.free_rows.append(row)

    # -- what is asked for -----------------------------------------------------------------------

    def replay(self, held: HubTask) -> Iterator[tuple[Any, Sequence[Any]]]:
        """Everything that was said about a task, wherever it is kept."""
        if self.pager is None:
            return held.replay()
        if held.paged:
            return self.pager.replay(held)
        if held.result_frames and not self.segments.have(held.result_frames):
            before = (entry for entry in held.replay() if entry[0] is not held.final)
            return chain(before, self.pager.replay(held, outputs=False))
        return held.replay()

    def load_work(self, held: HubTask) -> bool:
        """Have function and arguments of an ended task in memory, if they are still kept."""
        if self.pager is not None and not (
            held.function and (not held.frames or self.segments.have(held.frames))
        ):
            return self.pager.load_work(held)
        return bool(held.function)

    def is_stored(self, held: HubTask) -> bool:
        """Whether all that is known of a task would survive this process."""
        if self.pager is None:
            return False
        return self.pager.has(held.submit_row if held.final is None else held.final_row)

    def find(self, which: str | int | list[str]) -> dict[str, Any] | None:
        """A call by the ids of its tasks, group id, label, or its number from the end (-1)."""
        if isinstance(which, list):
            first = self.tasks.get(which[0]) if which else None
            if first is not None and first.group is not None and first.group.msg_ids == which:
                return _call(first.group)
            return {"msg_ids": which, "single": False}
        if isinstance(which, int):
            calls: dict[int, HubTask] = {}
            for held in reversed(self.tasks.values()):
                calls.setdefault(id(held.group or held), held)
                if len(calls) == -which:
                    return _call_of(held)
            return None
        if which in self.groups:
            return _call(self.groups[which])
        if which in self.tasks:
            return {"msg_ids": [which], "single": True}
        labelled = [held for held in self.tasks.values() if held.task.label == which]
        if not labelled:
            return None
        if len({id(held.group or held) for held in labelled}) == 1:
            return _call_of(labelled[0])
        return {"msg_ids": [held.task.msg_id for held in labelled], "single": False}


def _call_of(held: HubTask) -> dict[str, Any]:
    if held.group is None:
        return {"msg_ids": [held.task.msg_id], "single": True}
    return _call(held.group)


def _call(entry: GroupEntry) -> dict[str, Any]:
    group = entry.group
    return {
        "msg_ids": entry.msg_ids,
        "single": False,
        "kind": group.kind,
        "fname": group.fname,
        "partition": group.partition,
        "ordered": group.ordered,
    }


def _ended(held: HubTask) -> float:
    final = held.final
    return final.completed if isinstance(final, Finished) else held.submitted
