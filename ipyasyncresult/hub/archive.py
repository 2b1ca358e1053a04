"""Tasks that the hub remembers, finished ones included, within a limit of memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from ipyasyncresult.hub.records import HubTask
from ipyasyncresult.hub.segments import Segments
from ipyasyncresult.wire.messages import Finished, Group

__all__ = ["Archive", "GroupEntry"]

DEFAULT_LIMIT = 1 << 30  # bytes


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
    """Everything by id; above `limit` bytes the oldest finished tasks go first.

    Unfinished tasks never go.

    Parameters
    ----------
    limit : int
        Bytes, those of results in shared memory included.
    segments : Segments, optional
        Told what tasks and results need of the shared memory.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT, segments: Segments | None = None) -> None:
        self.limit = limit
        self.segments = segments if segments is not None else Segments()
        self.tasks: dict[str, HubTask] = {}
        self.groups: dict[str, GroupEntry] = {}
        self.bytes = 0
        self._finished: deque[tuple[HubTask, int]] = deque()

    def add_group(self, group: Group, session: str, now: float) -> GroupEntry:
        """A new group, or the one of that id that is growing (a lazy map)."""
        entry = self.groups.get(group.group_id)
        if entry is None:
            entry = self.groups[group.group_id] = GroupEntry(group, session, now)
        return entry

    def accept(self, held: HubTask) -> None:
        """A task came: its arguments are needed until it ended, or longer (see `finish`)."""
        self.tasks[held.task.msg_id] = held
        if held.frames:
            self.segments.add_work(held.frames)

    def add_output(self, held: HubTask, outputs: bytes) -> None:
        """Keep more output of a task."""
        if held.outputs is None:
            held.outputs = []
        held.outputs.append(outputs)
        self.bytes += len(outputs)

    def finish(self, held: HubTask, frames: Sequence[Any], *, keep_work: bool) -> None:
        """Keep the end of a task.  Its function and arguments stay only if it may run again."""
        held.result_frames = frames
        if frames:
            self.segments.add_result(frames)
        size = 400 + sum([len(frame) for frame in frames])  # 400: the objects around it
        if keep_work:
            self.segments.keep_work(held.frames)
            size += len(held.task.arguments) + sum([len(frame) for frame in held.frames])
        else:
            held.function = b""
            held.task.arguments = b""
            if held.frames:
                self.segments.end_work(held.frames)
                held.frames = ()
        if isinstance(held.final, Finished):
            size += len(held.final.body)
        self.bytes += size
        self._finished.append((held, size))
        while self.bytes + self.segments.kept_bytes > self.limit and self._finished:
            self._forget(*self._finished.popleft())

    def _forget(self, held: HubTask, size: int) -> None:
        self.segments.forget(held.frames)
        self.segments.forget(held.result_frames)
        self.bytes -= size + sum([len(piece) for piece in held.outputs or ()])
        held.outputs = None
        self.tasks.pop(held.task.msg_id, None)
        if held.group is not None:
            held.group.known -= 1
            if not held.group.known:
                self.groups.pop(held.group.group.group_id, None)

    def find(self, which: str | int | list[str]) -> dict[str, Any] | None:
        """A call by the ids of its tasks, group id, label, or its number from the end (-1)."""
        if isinstance(which, list):
            first = self.tasks.get(which[0]) if which else None
            if first is not None and first.group is not None and first.group.msg_ids == which:
                return self._call(first.group)
            return {"msg_ids": which, "single": False}
        if isinstance(which, int):
            calls: dict[int, HubTask] = {}
            for held in reversed(self.tasks.values()):
                calls.setdefault(id(held.group or held), held)
                if len(calls) == -which:
                    return self._call_of(held)
            return None
        if which in self.groups:
            return self._call(self.groups[which])
        if which in self.tasks:
            return {"msg_ids": [which], "single": True}
        labelled = [held for held in self.tasks.values() if held.task.label == which]
        if not labelled:
            return None
        if len({id(held.group or held) for held in labelled}) == 1:
            return self._call_of(labelled[0])
        return {"msg_ids": [held.task.msg_id for held in labelled], "single": False}

    def _call_of(self, held: HubTask) -> dict[str, Any]:
        if held.group is None:
            return {"msg_ids": [held.task.msg_id], "single": True}
        return self._call(held.group)

    @staticmethod
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

    def forget(self, msg_ids: Sequence[str] | None) -> int:
        """Forget finished tasks on request, None for all; how many there were."""
        wanted = set(self.tasks if msg_ids is None else msg_ids)
        kept: deque[tuple[HubTask, int]] = deque()
        count = 0
        for held, size in self._finished:
            if held.task.msg_id in wanted:
                self._forget(held, size)
                count += 1
            else:
                kept.append((held, size))
        self._finished = kept
        return count
