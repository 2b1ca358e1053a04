"""One task as the client knows it: its status, the written transition table, its record."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ipyasyncresult.core.outputs import Output

if TYPE_CHECKING:
    from ipyasyncresult.core.tally import Tally

__all__ = [
    "ABORTED",
    "DONE",
    "FAILED",
    "FINAL",
    "LOST",
    "PENDING",
    "RUNNING",
    "TRANSITIONS",
    "UNSET",
    "Counts",
    "Status",
    "TaskOutputs",
    "TaskRecord",
]

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


PENDING, RUNNING, DONE, FAILED, LOST, ABORTED = Status
"""The same by name, for what is done with each task: before Python 3.12, to look one up in its
class takes longer than to call a function."""

FINAL = frozenset({DONE, FAILED, LOST, ABORTED})
"""States that never change again: the first one wins."""

TRANSITIONS: dict[Status, frozenset[Status]] = {
    # A short task is never reported as running: it goes from pending to its end.
    PENDING: frozenset({RUNNING}) | FINAL,
    # Back to pending: its engine died and it is tried again.
    RUNNING: frozenset({PENDING}) | FINAL,
    DONE: frozenset(),
    FAILED: frozenset(),
    LOST: frozenset(),
    ABORTED: frozenset(),
}


class TaskRecord(msgspec.Struct, weakref=True, eq=False):
    """What a client knows of one task.

    Written by the ledger's writer only, under the ledger's lock; readers see fields that are
    either not yet set (None) or final, and an ``outputs`` list that only grows.  There are a
    hundred thousand of these: made in C, times are plain floats, and nothing is computed before it
    is asked.
    """

    msg_id: str
    submitted: float | None  # seconds since the epoch, client's clock
    target: int | None = None  # engine id that was asked for, or None for any
    engine_id: int | None = None  # the one that has it; until that is known, what was asked for
    label: str | None = None
    items: int = 1  # how many items of a map it stands for
    tallies: Tally | list[Tally] | None = None  # who counts this task; None at the end
    status: Status = PENDING
    engine_uuid: str | None = None
    started: float | None = None  # seconds since the epoch, engine's clock
    completed: float | None = None  # seconds since the epoch, engine's clock
    received: float | None = None  # seconds since the epoch, client's clock
    duration: float | None = None  # seconds, by the engine's monotonic clock
    failed_items: int = 0  # how many of its items failed: 0, or up to ``items``
    outputs: list[Output] | None = None  # None as long as there was none
    raw: Any = None  # the undecoded result (the backend's own form); None once decoded
    value: Any = UNSET  # the decoded result
    error: BaseException | None = None  # made for this task; set at the end or at first decoding

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
