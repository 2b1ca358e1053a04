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
from collections.abc import Callable
from dataclasses import dataclass

from ipyasyncresult.core.task import Counts

__all__ = ["Progress", "ProgressModel", "countdown"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far work is at one moment, in items.

    Attributes
    ----------
    total : int or None
        None when nobody knows (a lazy map).
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

    total: int | None
    done: int
    running: int
    queued: int
    failed: int
    engines: int
    elapsed: float
    rate: float | None = None
    remaining: float | None = None

    @property
    def fraction(self) -> float | None:
        """From 0 to 1; None without a total."""
        if self.total is None:
            return None
        return self.done / self.total if self.total else 1.0

    def describe(self) -> str:
        """``'12/40, 4 running, 2 failed, 3.1/s, 0:09 left'``."""
        count = f"{self.done:,}" if self.total is None else f"{self.done:,}/{self.total:,}"
        return ", ".join([count, *self.details()])

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

    def update(self, counts: Counts, engines: int, *, is_open: bool = False) -> Progress:
        """How far the work is now.

        Parameters
        ----------
        counts : Counts
        engines : int
            How many can work on it now.
        is_open : bool
            More items may come: the total is not known.
        """
        now = self._clock()
        passed = max(0.0, now - self._last)
        self._remember(counts, engines, now, passed)
        remaining = None if is_open else self._remaining(counts, engines, now, passed)
        self._last, self._finished = now, counts.finished
        return Progress(
            total=None if is_open else counts.total,
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
        ended = counts.finished - self._finished
        # What is seen running for the first time began since the last look.
        began = self._last
        if not self._finished and ended:  # the first look came late: about half of one task ago
            began = now - passed * busy / (2 * ended + counts.running) / max(1, busy) / 2
        self._running.follow(ended, counts.running, began)
        invested = self._running.seconds(now) * _share(busy, counts.running)
        kept = math.exp(-passed / max(5.0, (now - self._began) / 3))
        self._seconds = self._seconds * kept + passed
        self._items = self._items * kept + ended
        self._spent = self._spent * kept + passed * busy + self._invested - invested
        self._invested = invested

    def _remaining(self, counts: Counts, engines: int, now: float, passed: float) -> float | None:
        unfinished = counts.total - counts.finished
        if not unfinished:
            return 0.0
        if not engines or self._items <= 0:
            return None
        busy = min(engines, unfinished)
        share = _share(busy, counts.running)
        per_item = max(0.0, self._spent / self._items)
        running = self._running.left(per_item / share, now)
        left = (counts.queued * per_item + share * sum(running)) / busy
        end = now + max(left, running[-1] if running else 0.0)
        raise NotImplementedError


def _rate_text(rate: float) -> str:
    if rate >= 10:
        return f"{rate:,.0f}/s"
    return f"{rate:.2g}/s" if rate >= 0.1 else f"{60 * rate:.2g}/min"


def countdown(seconds: float) -> str:
    """``'0:09'``, ``'1:05:00'``."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
