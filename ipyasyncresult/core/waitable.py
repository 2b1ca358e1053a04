"""The waiting side of a result: threads, callbacks, Futures and ``await``."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from ipyasyncresult.core.arguments import check_callable
from ipyasyncresult.core.ledger import Ledger
from ipyasyncresult.core.tally import Tally
from ipyasyncresult.core.tracebacks import hide_our_frames
from ipyasyncresult.core.waiting import check_timeout
from ipyasyncresult.errors import ResultNotReady, TimeoutError

if TYPE_CHECKING:
    from ipyasyncresult.core.asyncresult import AsyncResult
    from ipyasyncresult.core.clientprotocol import ClientProtocol

__all__ = ["ReturnWhen", "TaskFuture", "Waitable", "check_return_when"]

ReturnWhen = Literal["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"]
_RETURN_WHEN = ("FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED")

# An interrupt reaches a cell that awaits only when the event loop wakes for something else.
_AWAIT_SLICE = 0.1


def check_return_when(return_when: str | None) -> None:
    """Refuse what is not one of the names of ``concurrent.futures``."""
    if return_when is not None and return_when not in _RETURN_WHEN:
        raise ValueError(f"return_when must be one of {_RETURN_WHEN}, not {return_when!r}")


class Waitable:
    """What can be waited for: a tally in a ledger.  All methods: any thread."""

    __slots__ = ()

    _client: ClientProtocol
    _ledger: Ledger
    _tally: Tally

    def ready(self) -> bool:
        """Whether every task has ended, in whatever way.  Never waits."""
        tally = self._tally
        if tally.left:
            self._ledger.waits.wait(lambda: not tally.left, 0)  # take what has arrived
        return not tally.left

    done = ready

    def successful(self) -> bool:
        """Whether every task ended well.

        Raises
        ------
        ResultNotReady
            Before the end.
        """
        if not self.ready():
            raise ResultNotReady("the result is not ready: successful() is known at the end only")
        return not self._tally.failures

    @overload
    def wait(self, timeout: float | None = -1) -> None: ...
    @overload
    def wait(
        self, timeout: float | None = -1, *, return_when: ReturnWhen
    ) -> tuple[set[AsyncResult], set[AsyncResult]]: ...
    def wait(
        self, timeout: float | None = -1, *, return_when: ReturnWhen | None = None
    ) -> tuple[set[AsyncResult], set[AsyncResult]] | None:
        """Wait until the end or until `timeout` seconds passed.

        Parameters
        ----------
        timeout : float, optional
            Seconds; -1 and None wait for ever, 0 polls.
        return_when : str, optional
            ``'FIRST_COMPLETED'``, ``'FIRST_EXCEPTION'`` or ``'ALL_COMPLETED'``, as in
            ``concurrent.futures``.

        Returns
        -------
        None
            Always, as the reference says; with `return_when` two sets of single results, those
            that are done and those that are not.
        """
        self._wait_checked(timeout, return_when)
        return None if return_when is None else self._partition_done()

    def _wait_checked(self, timeout: float | None, return_when: ReturnWhen | None) -> bool:
        check_return_when(return_when)
        return self._wait(check_timeout(timeout), return_when)

    def _wait(self, timeout: float | None, return_when: ReturnWhen | None = None) -> bool:
        tally = self._tally
        if return_when in (None, "ALL_COMPLETED"):
            return self._wait_until(lambda: not tally.left, timeout)
        if return_when == "FIRST_EXCEPTION":
            return self._wait_until(lambda: tally.failures or not tally.left, timeout)
        return self._wait_until(lambda: tally.finished or not tally.left, timeout)

    def _wait_until(self, predicate: Callable[[], object], timeout: float | None) -> bool:
        try:
            return self._ledger.waits.wait(predicate, timeout)  # type: ignore[arg-type]
        except KeyboardInterrupt as interrupt:
            self._say_what_goes_on(interrupt)
            raise

    def _say_what_goes_on(self, interrupt: BaseException) -> None:
        """For an exception that ended a wait, not the work."""
        hide_our_frames(interrupt)
        if self._tally.left and not hasattr(interrupt, "__notes__"):
            counts, can = self._tally.counts(), self._client.capabilities
            ways = ["abort() takes back what is queued"] * can.abort_queued
            ways += ["interrupt() stops what runs"] * can.interrupt_running
            interrupt.add_note(
                f"{counts.finished} of {counts.total} done; the rest goes on"
                + (": " + ", ".join(ways) if ways else "")
            )

    def _partition_done(self) -> tuple[set[AsyncResult], set[AsyncResult]]:
        raise NotImplementedError

    def wait_for_output(self, timeout: float | None = -1) -> bool:
        """Wait until all outputs are there; True when they are.

        Outputs and result travel in one ordered stream: a finished task's outputs are there.

        Parameters
        ----------
        timeout : float or None
            Seconds; -1 and None wait for ever, 0 looks and does not wait.
        """
        return self._wait(check_timeout(timeout))

    def add_done_callback(self, fn: Callable[[Self], object]) -> None:
        """Call ``fn(result)`` once, when all tasks have ended (at once if they have).

        Callbacks run one after the other on a thread of the client; keep them short.  What they
        raise is logged.
        """
        check_callable(fn, "fn")
        self._ledger.when_done(self._tally, lambda: fn(self))

    def __await__(self) -> Generator[Any, None, Any]:
        return self._get_async().__await__()

    async def _get_async(self) -> Any:
        tally = self._tally
        await self._wait_async(lambda: not tally.left)
        return self.get(0)  # type: ignore[attr-defined]

    async def _wait_async(self, predicate: Callable[[], object]) -> None:
        """Wait without blocking the event loop; a cancelled wait leaves the tasks alone."""
        if predicate():
            return
        self._ledger.waits.check_endless()
        import asyncio  # who awaits has it already

        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def wake(_records: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(changed.set)

        stop = self._ledger.follow(self._tally, wake)
        try:
            while not predicate():
                waiter = asyncio.ensure_future(changed.wait())
                try:
                    await asyncio.wait({waiter}, timeout=_AWAIT_SLICE)
                finally:
                    waiter.cancel()
                changed.clear()
        except asyncio.CancelledError as interrupt:
            self._say_what_goes_on(interrupt)
            raise
        finally:
            stop()


class TaskFuture(concurrent.futures.Future[Any]):
    """A Future that decodes the result in the thread that asks, not in the one that receives."""

    def __init__(self, source: AsyncResult) -> None:
        super().__init__()
        self._source = source

    @property
    def source(self) -> AsyncResult:
        """The result that this is the Future of."""
        return self._source

    def settle(self) -> None:
        """The tasks ended: tell those who wait, and how.  The thread of callbacks only."""
        if self.cancelled():
            super().cancel()
            self.set_running_or_notify_cancel()
        elif self._source._tally.failures:
            self.set_exception(_NotDecoded())  # for ``wait(return_when=FIRST_EXCEPTION)``
        else:
            self.set_result(None)

    def result(self, timeout: float | None = None) -> Any:
        self._wait_done(timeout)
        return self._source.get(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._wait_done(timeout)
        error = self._source.exception(0)
        if self.cancelled() and error is not None:
            raise error
        return error

    def _wait_done(self, timeout: float | None) -> None:
        # Not for `settle`: that comes from the thread of callbacks, which may be this one.
        if not self._source._wait(timeout):
            raise TimeoutError(f"no result within {timeout} s; the task goes on")

    def done(self) -> bool:
        return super().done() or self._source.ready()

    def running(self) -> bool:
        return not self.done() and self._source.counts().running > 0

    def cancel(self) -> bool:
        """Take the task back if it has not started; True when that worked."""
        if self._source.capabilities.abort_queued:
            self._source.abort()
        return self._source.aborted()

    def cancelled(self) -> bool:
        return self._source.aborted()


class _NotDecoded(Exception):
    """Stands for an error in a Future's state; :meth:`TaskFuture.exception` gives the real one."""
