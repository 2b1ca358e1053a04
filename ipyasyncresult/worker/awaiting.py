"""Coroutines of tasks, run to their end in the thread that runs the task."""

from __future__ import annotations

import asyncio
import threading
from types import CoroutineType
from typing import Any

__all__ = ["AWAITED", "run_coroutine", "settle"]

AWAITED = (CoroutineType, asyncio.Future)


class _Loop:
    """The event loop of one thread.  It is kept: what a task leaves behind in it goes on with the
    next coroutine, as in a notebook."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def __del__(self) -> None:  # when its thread ends
        if not self.loop.is_running():
            self.loop.close()


_of_thread = threading.local()


def settle(value: Any) -> Any:
    """`value`, or what it gives when it is a coroutine or an asyncio future."""
    return run_coroutine(value) if isinstance(value, AWAITED) else value


def run_coroutine(awaitable: Any) -> Any:
    """What the coroutine returns.  Interrupted, it is cancelled and its ``finally`` clauses run.

    Raises
    ------
    RuntimeError
        An event loop runs in this thread already.
    BaseException
        What the coroutine raises.
    """
    if not hasattr(_of_thread, "holder"):
        _of_thread.holder = _Loop()
    loop: asyncio.AbstractEventLoop = _of_thread.holder.loop
    task = asyncio.ensure_future(awaitable, loop=loop)
    try:
        return loop.run_until_complete(task)
    except KeyboardInterrupt:
        _clean_up(loop, task)
        raise


def _clean_up(loop: asyncio.AbstractEventLoop, task: asyncio.Future[Any]) -> None:
    """After an interrupt, which leaves the loop at once but leaves things in it.

    A stop of the loop may be under way, which would end the next coroutine instead; and the task
    would go on with it.
    """
    try:
        loop.call_soon(loop.stop)
        loop.run_forever()
        if not task.done():
            task.cancel()
            loop.run_until_complete(asyncio.wait({task}))
    except BaseException:  # noqa: BLE001  it came in the midst of the loop's own work, or again
        del _of_thread.holder
        asyncio._set_running_loop(None)
