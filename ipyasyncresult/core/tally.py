"""Counters of one result, kept up to date by the ledger, so that asking costs nothing."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from math import inf

import msgspec

from ipyasyncresult.core.task import Counts, TaskRecord

__all__ = ["Follower", "Journal", "Tally"]


class Tally(msgspec.Struct, eq=False):
    """How far the tasks of one result are.

    All fields are written under the ledger's lock.  Readers need no lock: each field is one
    number.  ``left`` reaches zero last, after every other field of the batch is right.
    """

    total: int = 0  # items
    finished: int = 0  # items of finished tasks
    failed: int = 0  # items
    running: int = 0  # items of tasks that an engine said it runs
    failures: int = 0  # tasks that did not end well (for fail-fast waits)
    left: int = 0  # tasks that are not finished
    submitted: float = inf  # epoch seconds of the first submission
    arrivals: list[TaskRecord] | None = None  # finished tasks in the order they came
    callbacks: list[Callable[[], object]] | None = None  # once, when left reaches zero
    followers: list[Follower | Journal] | None = None  # on every change

    def counts(self) -> Counts:
        """The four numbers at one moment."""
        return Counts(self.total, self.finished, self.failed, self.running)


class Follower:
    """One subscription to the changes of a result."""

    __slots__ = ("_active", "_callback", "_turn")

    def __init__(self, callback: Callable[[Sequence[TaskRecord]], None]) -> None:
        self._callback = callback
        self._active = True
        # Reentrant: a callback may stop its own subscription.
        self._turn = threading.RLock()

    def __call__(self, records: Sequence[TaskRecord]) -> None:
        with self._turn:
            if self._active:
                self._callback(records)

    def stop(self) -> None:
        """After this returns, no call is under way and none will come."""
        with self._turn:
            self._active = False


class Journal:
    """Which tasks changed since somebody last looked; feeding it wakes no thread.

    For who looks now and then (a widget), while a :class:`Follower` is called at once.
    """

    __slots__ = ("_changed", "stop")

    def __init__(self) -> None:
        self._changed: deque[TaskRecord] = deque()
        self.stop: Callable[[], None] = lambda: None  # ends the subscription

    def add(self, records: Sequence[TaskRecord]) -> None:
        """These changed.  The thread that feeds the ledger."""
        self._changed.extend(records)

    def take(self) -> list[TaskRecord]:
        """What changed since the last call, in order; a task may come more than once.

        One thread at a time.  Only what is there now is taken: more may come meanwhile.
        """
        pop = self._changed.popleft
        return [pop() for _ in range(len(self._changed))]
