"""What every new engine runs before anything else: an executor's initializer.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ipyasyncresult.hub.records import EngineState, HubTask
from ipyasyncresult.hub.segments import Segments

__all__ = ["FirstTasks"]


class FirstTasks:
    """Calls that are repeated on each engine that comes, as long as their client is there.

    Parameters
    ----------
    segments : Segments
        Told that their arguments are needed.
    """

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._kept: dict[tuple[bytes, bytes], HubTask] = {}

    def remember(self, held: HubTask) -> None:
        """Keep a copy: the archive empties the task itself when it has ended."""
        key = held.function, held.task.arguments
        if key in self._kept:
            self._segments.end_work(self._kept[key].frames)
        self._segments.add_work(held.frames)
        task = msgspec.structs.replace(held.task)
        self._kept[key] = HubTask(task, held.function, held.frames, held.session, held.submitted)

    def make(self, engine: EngineState) -> Iterator[HubTask]:
        """Tasks for a new engine, the last one first."""
        for kept in reversed(self._kept.values()):
            msg_id = f"{kept.task.msg_id}@{engine.uuid}"
            task = msgspec.structs.replace(kept.task, msg_id=msg_id, target=engine.engine_id)
            self._segments.add_work(kept.frames)
            yield HubTask(task, kept.function, kept.frames, kept.session, kept.submitted)

    def drop_those_with_frames(self) -> None:
        """After a restart of the hub: their large arguments are not at hand."""
        self._kept = {key: kept for key, kept in self._kept.items() if not kept.frames}

    def session_gone(self, session: str) -> None:
        """Its initializers are of no use any more."""
        for key, kept in list(self._kept.items()):
            if kept.session == session:
                del self._kept[key]
                self._segments.end_work(kept.frames)
