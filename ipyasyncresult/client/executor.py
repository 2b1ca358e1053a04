"""``EngineExecutor``: takes the place of ``ProcessPoolExecutor``."""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from ipyasyncresult.client.reattach import forget_client
from ipyasyncresult.core.arguments import check_callable, check_count
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.mapresult import AsyncMapResult
from ipyasyncresult.core.partition import Map
from ipyasyncresult.core.waitable import TaskFuture
from ipyasyncresult.core.waiting import check_timeout
from ipyasyncresult.errors import TimeoutError
from ipyasyncresult.wire.messages import FIRST

if TYPE_CHECKING:
    from ipyasyncresult.client.anyclient import AnyClient

__all__ = ["EngineExecutor"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class EngineExecutor(concurrent.futures.Executor):
    """A complete ``concurrent.futures.Executor`` over engines.

    Functions of a notebook, lambdas and closures work; a dead engine fails the task that it ran
    (with an error that is a ``BrokenProcessPool``) and is replaced.

    Parameters
    ----------
    max_workers : int, optional
        How many engines to start; by default as many as usable CPUs.
    mp_context : optional
        Accepted for ``ProcessPoolExecutor``'s sake: engines are always forked from a clean process.
    initializer : callable, optional
        Called with `initargs` on each engine first, also on those that replace dead ones.
    initargs : tuple
    client : Client, optional
        Use its engines; `shutdown` then leaves them alone.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        client: AnyClient | None = None,
    ) -> None:
        del mp_context
        if max_workers is not None:
            max_workers = check_count(max_workers, "max_workers")
        if initializer is not None:
            check_callable(initializer, "initializer")
        self._owns = client is None
        if client is None:
            from ipyasyncresult.client.cluster import Cluster

            client = Cluster(n=max_workers).start_and_connect_sync()
            forget_client(client)
        self._client = client
        self._view = client.load_balanced_view()
        self._lock = threading.Lock()
        self._closed = False
        self._under_way: set[TaskFuture] = set()
        if initializer is not None:
            try:
                client[:]._call(initializer, initargs, options=FIRST).get()
            except BaseException:
                self.shutdown()
                raise

    def submit(
        self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> concurrent.futures.Future[_T]:
        """Schedule ``fn(*args, **kwargs)``; a Future.

        Raises
        ------
        RuntimeError
            After :meth:`shutdown`.
        SerializationError
            When something cannot be pickled; names the place.
        """
        future = self._watched(lambda: self._view.apply_async(fn, *args, **kwargs))
        return cast("concurrent.futures.Future[_T]", future)

    def _watched(self, send: Callable[[], AsyncResult]) -> TaskFuture:
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            future = send().as_future()
            self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return future

    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[_T]:
        """As ``map(fn, *iterables)``; results in order, the first error is raised in its turn.

        Parameters
        ----------
        fn : callable
        *iterables : iterables
        timeout : float, optional
            Seconds from now for all results.
        chunksize : int
            Items per task.
        buffersize : int, optional
            At most so many chunks under way; the iterables are then taken lazily.
        """
        chunksize = check_count(chunksize, "chunksize")
        limit = check_timeout(timeout)
        deadline = None if limit is None else time.monotonic() + limit
        if buffersize is not None:
            buffersize = check_count(buffersize, "buffersize")
        items = zip(*iterables, strict=False)
        chunks = iter(lambda: list(itertools.islice(items, chunksize)), [])
        parts = deque(self._send_chunks(fn, itertools.islice(chunks, buffersize)))
        return self._results(fn, chunks, parts, deadline)

    def _send_chunks(
        self, fn: Callable[..., Any], chunks: Iterable[list[Any]]
    ) -> list[AsyncMapResult]:
        """One result per chunk; all chunks travel in one message."""
        sized = [(chunk, len(chunk), -1) for chunk in chunks]
        whole = self._watched(lambda: self._view._submit_chunks(fn, sized, Map(), star=True)).source
        return [
            AsyncMapResult.over_map(self._client, [record], Map(), whole.fname)
            for record in whole.records
        ]

    def _results(
        self,
        fn: Callable[..., Any],
        chunks: Iterator[list[Any]],
        parts: deque[AsyncMapResult],
        deadline: float | None,
    ) -> Iterator[Any]:
        try:
            while parts:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if not parts[0]._wait(left):
                    raise TimeoutError("the results did not come in time; taking back the rest")
                part = parts.popleft()
                for chunk in itertools.islice(chunks, 0 if self._closed else 1):
                    parts += self._send_chunks(fn, [chunk])
                yield from part
        finally:
            pending = [record.msg_id for part in parts for record in part.records]
            if pending and not self._client.closed and self._client.capabilities.abort_queued:
                self._client.abort(pending)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; end the engines if this executor started them.

        Parameters
        ----------
        wait : bool
            Wait for what is under way.  Without it, engines end when that is done.
        cancel_futures : bool
            Take back what has not started.
        """
        with self._lock:
            self._closed = True
            under_way = list(self._under_way)
        if cancel_futures:
            for future in under_way:
                future.cancel()
        if wait:
            concurrent.futures.wait(under_way)
            self._end()
        elif under_way:
            threading.Thread(target=self._end_after, args=(under_way,), daemon=True).start()
        else:
            self._end()

    def _end_after(self, under_way: list[TaskFuture]) -> None:
        concurrent.futures.wait(under_way)
        self._end()

    def _end(self) -> None:
        if self._owns:
            self._client.close()

    def results(self) -> list[AsyncResult]:
        """The AsyncResults of what is under way: progress, outputs, timing."""
        return [future.source for future in list(self._under_way)]
