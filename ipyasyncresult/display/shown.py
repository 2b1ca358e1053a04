"""What the display layer needs of a result, and nothing more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ipyasyncresult.core.capabilities import Capabilities
from ipyasyncresult.core.failure import Failure
from ipyasyncresult.core.places import Places
from ipyasyncresult.core.tally import Journal
from ipyasyncresult.core.task import Counts, TaskRecord

__all__ = ["ShownResult"]


class ShownResult(Protocol):
    """What is looked at, and what the buttons do.  Nothing here waits, except :meth:`wait`."""

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

    def follow(self, callback: Callable[[Sequence[TaskRecord]], None]) -> Callable[[], None]:
        """Call with the tasks that changed, on another thread; returns what stops it."""

    def watch(self) -> Journal:
        """A journal of the tasks that change, for who looks now and then."""

    def now(self) -> float:
        """What time it is by the clock of the records."""

    def places(self) -> Places:
        """Names of tasks and items, by record."""

    def failures_in(self, record: TaskRecord, limit: int) -> list[tuple[int, Failure]]:
        """What failed in a finished task, as text, by position in the task."""

    def engine_states(self) -> Mapping[int, Mapping[str, Any]]:
        """What is known of each engine, if anything."""

    @property
    def capabilities(self) -> Capabilities:
        """What can be asked of the client that runs it."""

    @property
    def cluster_id(self) -> str | None:
        """Of the cluster whose hub knows the tasks; None where others run them."""

    def abort(self) -> dict[str, str]:
        """Take back what waits; says per task what happened."""

    def interrupt(self) -> dict[str, str]:
        """Interrupt what runs; says per task what happened."""

    def retry_failed(self, *, in_place: bool) -> object:
        """Run failed tasks again."""
