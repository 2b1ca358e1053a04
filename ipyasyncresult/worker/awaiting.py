"""Coroutines of tasks, run to their end in the thread that runs the task."""

from __future__ import annotations

import sys
import threading
from types import CoroutineType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imported with the first coroutine: it would take a tenth of an engine's start
    import asyncio

__all__ = ["is_awaited", "run_coroutine", "settle"]


class _Loop:
    """The event loop of one thread.  It is kept: what a task leaves behind in it goes on with the
    next coroutine, as in a notebook."""

    def __init__(self) -> None:
        import asyncio

        self.loop = asyncio.new_event_loop()

    def __del__(self) -> None:  # when its thread ends
        if not self.loop.is_running():
            self.loop.close()


_of_thread = threading.local()


def is_awaited(value: object) -> bool:
    """Whether it is a coroutine or an asyncio future."""
    if isinstance(value, CoroutineType):
        return True
    futures = sys.modules.get("asyncio.futures")  # without it there is no future either
    return futures is not None and isinstance(value, futures.Future)


def settle(value: Any) -> Any:
    """`value`, or what it gives when it is awaited."""
    return run_coroutine(value) if is_awaited(value) else value


def run_coroutine(awaitable: Any) -> Any:
    """What the coroutine returns.  Interrupted, it is cancelled and its ``finally`` clauses run.

    Raises
    ------
    RuntimeError
        An event loop runs in this thread already.
    BaseException
        What the coroutine raises.
    """
    import asyncio

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
    import asyncio

    try:
        loop.call_soon(loop.stop)
        loop.run_forever()
        if not task.done():
            task.cancel()
            loop.run_until_complete(asyncio.wait({task}))
    except BaseException:  # noqa: BLE001  it came in the midst of the loop's own work, or again
        del _of_thread.holder
        asyncio._set_running_loop(None)
