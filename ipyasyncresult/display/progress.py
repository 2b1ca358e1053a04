"""How far work is, how fast it goes, how long it will take: counts and a clock in, numbers out.

The arithmetic, for those who change it.  The remaining time does not divide by the rate: that would
be wrong until many tasks have ended, and as soon as engines run out of work.  It takes what an item
costs in engine-seconds, adds up what is left to be done, and shares it among the engines that still
have work.  What has gone into running items is counted: counts tell how many run, and when the
oldest is taken to end first, also how long they have been running (the sum is right even where the
order is not).  All means forget with a time constant of a third of the elapsed time (at least 5 s):
slow tasks get a long memory, and a change of pace is still seen.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ipyasyncresult.core.task import Counts

__all__ = ["Progress", "ProgressModel", "countdown"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far work is at one moment, in items.

    Attributes
    ----------
    total : int
    done : int
        Ended in any way; `failed` of them badly.
    running, queued, failed : int
    engines : int
        How many can work on it.
    elapsed : float
        Seconds since the submission.
    rate : float or None
        Items per second, lately; None before the first has ended.
    remaining : float or None
        Seconds to the end, if it goes on like this; None when that cannot be said.
    """

    total: int
    done: int
    running: int
    queued: int
    failed: int
    engines: int
    elapsed: float
    rate: float | None = None
    remaining: float | None = None

    def describe(self) -> str:
        """``'12/40, 4 running, 2 failed, 3.1/s, 0:09 left'``."""
        return ", ".join([f"{self.done:,}/{self.total:,}", *self.details()])

    def details(self) -> list[str]:
        """What there is to say besides the count."""
        said = []
        if self.running:
            said.append(f"{self.running:,} running")
        if self.failed:
            said.append(f"{self.failed:,} failed")
        if not self.engines and self.done != self.total:
            said.append("no engines")
        if self.rate is not None:
            said.append(_rate_text(self.rate))
        if self.remaining is not None and self.done != self.total:
            said.append(f"{countdown(self.remaining)} left")
        return said


class ProgressModel:
    """Feed it with counts now and then; it says how far the work is.

    Parameters
    ----------
    clock : callable
        Seconds, monotonic.
    elapsed : float
        Seconds for which the work has been going on already.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, elapsed: float = 0.0
    ) -> None:
        self._clock = clock
        self._began = self._last = clock() - elapsed
        self._finished = 0
        self._running = _Running()
        self._invested = 0.0  # engine-seconds that went into what runs
        # Weighted sums over the past; older things weigh less.
        self._seconds = 0.0
        self._items = 0.0  # finished
        self._spent = 0.0  # engine-seconds that went into the finished ones
        self._end: float | None = None  # expected, smoothed, by the clock

    def update(self, counts: Counts, engines: int) -> Progress:
        """How far the work is now.

        Parameters
        ----------
        counts : Counts
        engines : int
            How many can work on it now.
        """
        now = self._clock()
        passed = max(0.0, now - self._last)
        self._remember(counts, engines, now, passed)
        remaining = self._remaining(counts, engines, now, passed)
        self._last, self._finished = now, counts.finished
        return Progress(
            total=counts.total,
            done=counts.finished,
            running=counts.running,
            queued=counts.queued,
            failed=counts.failed,
            engines=engines,
            elapsed=now - self._began,
            rate=self._items / self._seconds if self._items > 0 and self._seconds > 0 else None,
            remaining=remaining,
        )

    def _remember(self, counts: Counts, engines: int, now: float, passed: float) -> None:
        busy = min(engines, counts.total - self._finished)
        share = _share(busy, counts.running)
        ended = max(0, counts.finished - self._finished)  # fewer: failed ones run again
        began = self._last  # of what is seen running for the first time
        if ended:  # between two looks many came and went: these began half of their time ago
            began = max(began, now - passed * busy / (2 * ended + counts.running) / share)
        self._running.follow(ended, counts.running, began)
        invested = share * self._running.seconds(now)
        kept = math.exp(-passed / max(5.0, (now - self._began) / 3))
        self._seconds = kept * self._seconds + passed
        self._items = kept * self._items + ended
        self._spent = kept * self._spent + passed * busy + self._invested - invested
        self._invested = invested

    def _remaining(self, counts: Counts, engines: int, now: float, passed: float) -> float | None:
        unfinished = counts.total - counts.finished
        if not unfinished:
            return 0.0
        if not engines or self._items <= 0:
            return None
        busy = min(engines, unfinished)
        share = _share(busy, counts.running)
        # When even those that run now have taken longer, the past is no measure any more.
        per_item = max(self._spent / self._items, share * self._running.mean_age(now))
        duration = per_item / share
        left, oldest, newest = self._running.left(duration, now)
        shared = (counts.queued * per_item + share * left) / busy
        # The last one queued starts when an engine is free, and takes as long as any.
        end = now + max(shared, newest, oldest + duration if counts.queued else 0.0)
        if self._end is None:
            self._end = end
        # Tasks end in bursts; an estimate that jumps with them helps nobody.
        pace = max(1e-9, min(3.0, (now - self._began) / 4))
        self._end += (end - self._end) * (1 - math.exp(-passed / pace))
        return max(0.0, self._end - now)


class _Running:
    """Since when items run, as far as counts tell: who began first is taken to end first."""

    def __init__(self) -> None:
        self._groups: deque[tuple[float, int]] = deque()  # (began, how many), oldest first
        self._count = 0

    def follow(self, ended: int, running: int, began: float) -> None:
        """`ended` items ended, `running` run now; those that are new began at `began`."""
        self._drop(min(ended, self._count), self._groups.popleft, self._groups.appendleft)
        # Fewer than that: some wait again, as their engine died.
        self._drop(max(0, self._count - running), self._groups.pop, self._groups.append)
        if self._count < running:
            self._groups.append((began, running - self._count))
            self._count = running

    def _drop(
        self,
        count: int,
        take: Callable[[], tuple[float, int]],
        put_back: Callable[[tuple[float, int]], None],
    ) -> None:
        self._count -= count
        while count > 0:
            began, size = take()
            if size > count:
                put_back((began, size - count))
            count -= size

    def seconds(self, now: float) -> float:
        """How long they have been running, in sum."""
        return sum(size * (now - began) for began, size in self._groups)

    def mean_age(self, now: float) -> float:
        """How long they have been running; 0 for none."""
        return self.seconds(now) / self._count if self._count else 0.0

    def left(self, duration: float, now: float) -> tuple[float, float, float]:
        """How long they will run if an item takes `duration`: in sum, the oldest, the newest."""
        if not self._groups:
            return 0.0, 0.0, 0.0
        # One that takes longer than the others will take some more.
        each = [max(duration - (now - began), (now - began) / 5) for began, _ in self._groups]
        total = sum(size * left for (_, size), left in zip(self._groups, each, strict=True))
        return total, each[0], each[-1]


def _share(busy: int, running: int) -> float:
    """How much of an engine a running item has: a chunk of a map runs as many items on one."""
    return min(1.0, busy / running) if busy and running else 1.0


def _rate_text(rate: float) -> str:
    if rate >= 10:
        return f"{rate:,.0f}/s"
    return f"{rate:.2g}/s" if rate >= 0.1 else f"{60 * rate:.2g}/min"


def countdown(seconds: float) -> str:
    """``'0:09'``, ``'1:05:00'``."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
