"""The hub's own records of tasks and engines: bare slots, made a hundred thousand times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ipyasyncresult.wire.messages import (
    Finished,
    LostTask,
    OutputPiece,
    Run,
    Started,
    Task,
    encode,
)

if TYPE_CHECKING:
    from ipyasyncresult.hub.abort import AbortRequest
    from ipyasyncresult.hub.archive import GroupEntry

__all__ = ["RESTART", "EngineState", "HubTask", "run_message"]

RESTART = "restart"


class HubTask:
    """One task, from its submission until the archive forgets it."""

    __slots__ = (
        "aborts",  # AbortRequests that wait for this task
        "delivered",  # whether a client said that it has the end of this task
        "engine",  # EngineState that holds it, or None
        "estimate",  # seconds it was taken for when it was assigned
        "final",  # Finished or LostTask, None before the end
        "final_row",  # row of the journal that holds its end, 0 if none
        "first_frame",  # position of its frames in the message that brought it
        "frame_count",  # how many they were there
        "frames",  # out-of-band frames of the arguments
        "function",  # pickled function or cell source; shared by the tasks of a message
        "group",  # GroupEntry or None
        "killed_by_oom",  # how often its engine was killed under it for want of memory
        "listeners",  # further sessions that want its news
        "loaded",  # bytes of its contents that are in memory
        "output_rows",  # rows of the journal that hold its outputs, in order, or None
        "outputs",  # list of encoded outputs or None
        "paged",  # whether its contents are in the store only
        "result_frames",  # out-of-band frames of the result
        "retries_left",
        "session",  # who submitted it
        "size",  # bytes of its contents, wherever they are
        "started",  # epoch seconds when an engine said that it runs, 0.0 before
        "submit_row",  # row of the journal that holds its work, 0 if none
        "submitted",  # epoch seconds; 0.0: only heard of by an engine, its submission is to come
        "task",
    )

    def __init__(
        self, task: Task, function: bytes, frames: Sequence[Any], session: str, submitted: float
    ) -> None:
        self.task = task
        self.function = function
        self.frames = frames
        self.session = session
        self.submitted = submitted
        self.frame_count = task.frames
        self.retries_left = task.retries
        self.killed_by_oom = 0
        self.engine: EngineState | None = None
        self.estimate = 0.0
        self.started = 0.0
        self.final: Finished | LostTask | None = None
        self.outputs: list[bytes] | None = None
        self.group: GroupEntry | None = None
        self.listeners: tuple[str, ...] | None = None
        self.aborts: tuple[AbortRequest, ...] = ()
        self.result_frames: Sequence[Any] = ()
        self.submit_row = self.final_row = self.first_frame = self.size = self.loaded = 0
        self.output_rows: list[int] | None = None
        self.delivered = self.paged = False

    def learn(self, other: HubTask) -> None:
        """What to do and for whom: until now only an engine had spoken of it."""
        self.task, self.session, self.submitted = other.task, other.session, other.submitted
        self.retries_left = other.retries_left
        self.first_frame, self.frame_count = other.first_frame, other.frame_count
        if self.final is None:
            self.function, self.frames = other.function, other.frames
        else:
            self.task.arguments = b""  # what it needed to run is of no use any more

    @property
    def status(self) -> str:
        """As in the client's metadata."""
        if self.final is None:
            return "running" if self.started else "pending"
        if isinstance(self.final, LostTask):
            return "aborted" if self.final.reason == "aborted" else "lost"
        return "error" if self.final.status else "ok"

    def audience(self) -> tuple[str, ...]:
        """The sessions that hear of it."""
        return (self.session, *self.listeners) if self.listeners else (self.session,)

    def describe(self) -> dict[str, Any]:
        """What another client needs to make a record of it."""
        task = self.task
        return {
            "msg_id": task.msg_id,
            "label": task.label,
            "target": task.target,
            "items": task.items,
            "submitted": self.submitted,
            "status": self.status,
            "group": self.group.group.group_id if self.group is not None else None,
            "session": self.session,
        }

    def times(self) -> dict[str, Any]:
        """Epoch seconds and duration, None where it did not get that far."""
        final = self.final if isinstance(self.final, Finished) else None
        return {
            "started": final and final.started,
            "completed": final and final.completed,
            "duration": final and final.duration,
            "engine_id": self.final.engine_id if self.final is not None else None,
        }

    def replay(self) -> Iterator[tuple[Any, Sequence[Any]]]:
        """Everything that was said about it, for one who was not there (unless it is `paged`)."""
        msg_id = self.task.msg_id
        if self.started and self.final is None and self.engine is not None:
            yield Started(msg_id, self.engine.engine_id, self.started), ()
        for outputs in self.outputs or ():
            yield OutputPiece(msg_id, outputs), ()
        if self.final is not None:
            yield self.final, self.result_frames


class EngineState:
    """One engine process.  A replacement is a new one with the same ``engine_id``."""

    __slots__ = (
        "asked",  # (session, request) of what it was asked and has not answered
        "assigned",  # tasks given to it and not ended, in the order in which it runs them
        "ending",  # on request: RESTART, or the name of the signal that it was sent; else empty
        "engine_id",
        "finished",  # how many tasks it reported as ended
        "identity",  # its routing id, issued by the hub
        "load",  # seconds of work that it holds
        "pid",
        "ready",
        "recalling",
        "since",  # epoch seconds
        "stopped",  # by SIGSTOP
        "uuid",
    )

    def __init__(self, engine_id: int, uuid: str, since: float) -> None:
        self.engine_id = engine_id
        self.uuid = uuid
        self.identity = uuid.encode()
        self.since = since
        self.pid = 0
        self.ready = False
        self.stopped = False
        self.ending = ""
        self.asked: set[tuple[str, int]] = set()
        self.recalling = False
        self.load = 0.0
        self.finished = 0
        self.assigned: dict[str, HubTask] = {}

    def describe(self) -> dict[str, Any]:
        """For clients."""
        return {
            "uuid": self.uuid,
            "pid": self.pid,
            "stopped": self.stopped,
            "since": self.since,
        }


def run_message(batch: Sequence[HubTask]) -> tuple[bytes, list[Any]]:
    """What an engine is sent to run these: header and frames."""
    functions: dict[bytes, int] = {}
    tasks = []
    frames: list[Any] = []
    for held in batch:
        task = held.task
        task.function = functions.setdefault(held.function, len(functions))
        tasks.append(task)
        if held.frames:
            frames.extend(held.frames)
    return encode(Run(list(functions), tasks)), frames
