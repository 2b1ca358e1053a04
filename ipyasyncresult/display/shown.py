"""What the display layer needs of a result, and nothing more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ipyasyncresult.core.task import Counts, TaskOutputs, TaskRecord

__all__ = ["ShownResult"]


class ShownResult(Protocol):
    """The looking side of an ``AsyncResult``.  Nothing here waits, except :meth:`wait`."""

    @property
    def fname(self) -> str:
        """Name of what was called."""

    @property
    def elapsed(self) -> float:
        """Seconds since the submission; stands still at the end."""

    @property
    def records(self) -> Sequence[TaskRecord]:
        """The tasks; their outputs only grow."""

    def ready(self) -> bool:
        """Whether every task has ended."""

    def wait(self, timeout: float | None) -> object:
        """Return when every task has ended, or after `timeout` seconds."""

    def counts(self) -> Counts:
        """How far it is, in items; costs the same for ten tasks and for a million."""

    def engine_count(self) -> int:
        """How many engines can work on it."""

    def failures(self, limit: int) -> list[tuple[int, str]]:
        """Position and one line of text of the first failed tasks."""

    def tasks(self) -> list[TaskOutputs]:
        """A frozen look at every task and its outputs."""

    def follow(self, callback: Callable[[Sequence[TaskRecord]], None]) -> Callable[[], None]:
        """Call with the tasks that changed, on another thread; returns what stops it."""
