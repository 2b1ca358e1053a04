"""Process pools of the standard library, made to notice every death of a worker.

Such a pool starts its processes when they are needed (unless it forks them all at once).  Its
thread that watches them is woken up *before* a new one is there, so the last one may not be among
those it watches, until something is submitted again.  When that one is killed, the pool is not
broken, and what ran there never ends (seen with CPython 3.11; `submit` is the same up to 3.14).
"""

from __future__ import annotations

import concurrent.futures
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import process
from typing import Any

from ipyasyncresult.backends.recurring import Recurring

__all__ = ["nudge_for", "pools_of"]


class _Nudge:
    """Submits next to nothing; no more than one for each worker waits there: then every process
    has been started and seen."""

    def __init__(self, pool: process.ProcessPoolExecutor, busy: Callable[[], bool]) -> None:
        self._pool = weakref.ref(pool)  # one that its user forgot ends by itself
        self._busy = busy
        self._waiting: list[concurrent.futures.Future[int]] = []

    def look(self) -> bool:
        """Whether something is under way."""
        pool = self._pool()
        if pool is None or not self._busy():
            return False
        self._waiting = [one for one in self._waiting if not one.done()]
        if len(self._waiting) < (getattr(pool, "_max_workers", None) or 1):
            try:
                self._waiting.append(pool.submit(int))
            except RuntimeError:  # broken or shut down, which its thread was told: it looks at all
                return False
        return True


def nudge_for(executor: concurrent.futures.Executor, busy: Callable[[], bool]) -> Recurring | None:
    """A nudge for the pools that need one, to begin when something is under way.

    Parameters
    ----------
    executor : Executor
    busy : callable
        Whether something is under way.
    """
    if isinstance(executor, process.ProcessPoolExecutor):
        return Recurring(_Nudge(executor, busy).look)
    return None


def pools_of(futures: Iterable[Any]) -> list[process.ProcessPoolExecutor]:
    """The process pools in which some of these unfinished futures are under way.

    A future does not know its pool; but the thread that watches the pool's processes knows both.
    """
    wanted = {id(future) for future in futures}
    found = []
    for thread in threading.enumerate():
        reference = getattr(thread, "executor_reference", None)
        items = list(getattr(thread, "pending_work_items", {}).values())
        if reference is None or not any(id(item.future) in wanted for item in items):
            continue
        pool = reference()
        if isinstance(pool, process.ProcessPoolExecutor):
            found.append(pool)
    return found
