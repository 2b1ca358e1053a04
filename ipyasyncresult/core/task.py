"""One task as the client knows it: its status, the written transition table, its record."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ipyasyncresult.core.outputs import Output

if TYPE_CHECKING:
    from ipyasyncresult.core.tally import Tally

__all__ = ["FINAL", "TRANSITIONS", "UNSET", "Counts", "Status", "TaskOutputs", "TaskRecord"]

UNSET: Any = object()
"""The value of a task whose result was not decoded yet (None is a result)."""


class Status(enum.StrEnum):
    """Where a task is.  The values are what ``metadata['status']`` shows."""

    PENDING = "pending"
    """Submitted; waits in the client, in the hub or in an engine's short look-ahead."""
    RUNNING = "running"
    """An engine said that it runs."""
    DONE = "ok"
    """It returned."""
    FAILED = "error"
    """It raised, or its result could not be sent."""
    LOST = "lost"
    """Its engine, or the hub, died; or the connection to them did."""
    ABORTED = "aborted"
    """It was taken back before it ran."""


FINAL = frozenset({Status.DONE, Status.FAILED, Status.LOST, Status.ABORTED})
"""States that never change again: the first one wins."""

TRANSITIONS: dict[Status, frozenset[Status]] = {
    # A short task is never reported as running: it goes from pending to its end.
    Status.PENDING: frozenset({Status.RUNNING}) | FINAL,
    # Back to pending: its engine died and it is tried again.
    Status.RUNNING: frozenset({Status.PENDING}) | FINAL,
    Status.DONE: frozenset(),
    Status.FAILED: frozenset(),
    Status.LOST: frozenset(),
    Status.ABORTED: frozenset(),
}


class TaskRecord:
    """What a client knows of one task.

    Written by the ledger's writer only, under the ledger's lock; readers see fields that are
    either not yet set (None) or final, and an ``outputs`` list that only grows.  There are a
    hundred thousand of these: times are plain floats, and nothing is computed before it is asked.
    """

    __slots__ = (
        "__weakref__",
        "completed",  # seconds since the epoch, engine's clock
        "duration",  # seconds, by the engine's monotonic clock
        "engine_id",
        "engine_uuid",
        "error",  # exception made for this task, or None; set at the end or at first decoding
        "failed_items",  # how many of its items failed: 0, or up to ``items``
        "items",  # how many items of a map it stands for
        "label",
        "msg_id",
        "outputs",  # list of Output, or None as long as there was none
        "raw",  # the undecoded result (the backend's own form); None once decoded
        "received",  # seconds since the epoch, client's clock
        "started",  # seconds since the epoch, engine's clock
        "status",
        "submitted",  # seconds since the epoch, client's clock
        "tallies",  # who counts this task: None, one Tally, or a list of them; None at the end
        "target",  # engine id that was asked for, or None for any
        "value",  # the decoded result, UNSET before
    )

    def __init__(self, msg_id: str, submitted: float | None, target: int | None = None) -> None:
        self.msg_id: str = msg_id
        self.submitted: float | None = submitted
        self.target: int | None = target
        self.status: Status = Status.PENDING
        self.engine_id: int | None = target
        self.engine_uuid: str | None = None
        self.started: float | None = None
        self.completed: float | None = None
        self.received: float | None = None
        self.duration: float | None = None
        self.label: str | None = None
        self.items: int = 1
        self.failed_items: int = 0
        self.outputs: list[Output] | None = None
        self.raw: Any = None
        self.value: Any = UNSET
        self.error: BaseException | None = None
        self.tallies: Tally | list[Tally] | None = None

    def __repr__(self) -> str:
        return f"<TaskRecord {self.msg_id} {self.status.value}>"


@dataclass(frozen=True, slots=True)
class TaskOutputs:
    """A frozen look at one task, for those who show it."""

    index: int
    """Position of the task in its result, from 0."""
    msg_id: str
    engine_id: int | None
    label: str | None
    status: Status
    outputs: Sequence[Output]


class Counts(NamedTuple):
    """How far a result is, in items (a chunk of a map counts as its items)."""

    total: int
    finished: int
    """Ended in any way: ``finished = total`` means ready."""
    failed: int
    """Of the finished: failed, lost or aborted."""
    running: int

    @property
    def queued(self) -> int:
        """Neither finished nor running."""
        return self.total - self.finished - self.running
