"""Any ``concurrent.futures.Executor`` as engines: process pools, loky, mpi4py, ...

Tasks wait here, not in the pool, which could not give them back once it has them: as many are
handed on as it has workers.  Short ones go several at a time, which costs a pool less than one by
one.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import threading
from collections import deque
from typing import Any

from ipyasyncresult.backends.client import BackendClient
from ipyasyncresult.backends.nudging import nudge_for
from ipyasyncresult.backends.recall import Entry
from ipyasyncresult.core.arguments import check_count
from ipyasyncresult.core.capabilities import Capabilities
from ipyasyncresult.errors import EngineError, TaskAborted
from ipyasyncresult.worker.guest import PlainDelivery, run_all

__all__ = [
    "CAPABILITIES",
    "ExecutorClient",
    "check_workers",
    "connect",
    "count_workers",
    "lose_all",
    "recognizes",
    "translate",
]

CAPABILITIES = Capabilities(
    "an executor",
    live_outputs=False,
    cells=False,
    addressed_engines=False,
    interrupt_running=False,
    stored_results=False,
    time_limits=False,
)

_BATCH_SECONDS = 0.005
"""Work that is handed on together: its results come together, too."""
_BATCH_TASKS = 128
_SPLIT_SECONDS = 0.0002
"""Work that is not divided among workers: handing it on takes longer."""
_SHORT = 0.05
"""Seconds; of tasks that take less, the pool gets one batch per worker in advance."""
_TINY = 0.0002
"""Seconds; of tasks that take less it does not: meanwhile more of them come together."""
_SLOW_DOWN = 0.2  # how fast the estimate of a function follows


def recognizes(target: object) -> bool:
    """Whether this backend is for `target`."""
    return isinstance(target, concurrent.futures.Executor)


def connect(executor: concurrent.futures.Executor, *, n: int | None = None) -> ExecutorClient:
    """A client over an executor, which stays the caller's: closing the client leaves it alone.

    Parameters
    ----------
    executor : concurrent.futures.Executor
    n : int, optional
        How many workers it has, if it does not say so itself.
    """
    return ExecutorClient(executor, n)


class ExecutorClient(BackendClient):
    """Tasks through somebody's executor."""

    def __init__(self, executor: concurrent.futures.Executor, n: int | None = None) -> None:
        n = check_workers(n)
        super().__init__(CAPABILITIES, "executor")
        self.executor_ = executor
        self._workers = n or count_workers(executor)
        # Reentrant: a future that is done at once calls back from within `submit`.
        self._lock = threading.RLock()
        self._queue: deque[Entry] = deque()  # guarded by _lock, as all below
        self._under_way: dict[concurrent.futures.Future[Any], list[Entry]] = {}
        self._took: dict[bytes, float] = {}  # seconds, by function
        self._nudge = nudge_for(executor, lambda: bool(self._under_way))

    def engine_count(self) -> int:
        return self._workers

    # -- handing on ------------------------------------------------------------------------------

    def _send(self, entries: list[Entry]) -> None:
        self._enter(entries)
        with self._lock:
            self._queue.extend(entries)
        self._hand_on()

    def _hand_on(self) -> None:
        """Give the pool what it has room for."""
        while True:
            with self._lock:
                batch = self._next_batch()
                if not batch:
                    return
                future = self._submit_to_pool(batch)
                if future is not None:
                    self._under_way[future] = batch
            if self._nudge is not None:
                self._nudge.begin()
            if future is not None:
                future.add_done_callback(self._take_delivery)

    def _next_batch(self) -> list[Entry]:
        queue = self._queue
        if not queue or not self._has_room(queue[0]):
            return []
        function = queue[0].function
        batch = [queue.popleft()]
        seconds = self._took.get(function)
        if seconds is not None:
            seconds = max(seconds, 1e-6)
            fair = -(-len(queue) // self._workers)  # an idle worker gets its share
            most = max(fair, int(_SPLIT_SECONDS / seconds))
            most = min(most, _BATCH_TASKS, int(_BATCH_SECONDS / seconds))
            while queue and len(batch) < most and queue[0].function == function:
                batch.append(queue.popleft())
        return batch

    def _has_room(self, entry: Entry) -> bool:
        """Whether the pool shall get more now, beginning with this task."""
        under_way = len(self._under_way)
        if under_way < self._workers:
            return True
        if under_way >= 2 * self._workers or not self._is_short(entry):
            return False
        tiny = self._took[entry.function] <= _TINY
        return not tiny and all(self._is_short(batch[0]) for batch in self._under_way.values())

    def _is_short(self, entry: Entry) -> bool:
        return self._took.get(entry.function, 1.0) <= _SHORT

    def _submit_to_pool(self, batch: list[Entry]) -> concurrent.futures.Future[Any] | None:
        works = [tuple(self._work_of(entry, bytes))[1:] for entry in batch]
        try:
            future = self.executor_.submit(run_all, batch[0].function, works)
        except Exception as error:  # noqa: BLE001  it is shut down or broken: these never run
            lose_all(self, batch, error)
            return None
        first = batch[0]
        if not self._is_short(first):  # short ones are not worth the news
            with self.ledger.batch() as news:
                news.started(first.record.msg_id, None, self.ledger.clock())
        return future

    # -- what comes back -------------------------------------------------------------------------

    def _take_delivery(self, future: concurrent.futures.Future[Any]) -> None:
        """Any thread: the pool's, mostly.  Nothing may escape: nobody would catch it."""
        if future.cancelled() or future.exception() is not None:
            # A pool that breaks or shuts down ends its futures with its own lock held, without
            # which nothing can be submitted to it, and so by a thread that has ours.
            threading.Thread(target=self._take_failure, args=(future,), daemon=True).start()
            return
        with self._lock:
            batch = self._under_way.pop(future, [])
        self._deliver(batch, future.result())
        self._hand_on()

    def _take_failure(self, future: concurrent.futures.Future[Any]) -> None:
        """A thread of its own: it may wait until the pool lets go."""
        with self._lock:
            batch = self._under_way.pop(future, [])
        error = None if future.cancelled() else future.exception()
        if error is None:
            self._take_back([entry.record.msg_id for entry in batch])
        else:
            lose_all(self, batch, error)
        self._hand_on()

    def _deliver(self, batch: list[Entry], parcels: list[PlainDelivery]) -> None:
        self._learn(batch[0].function, sum([parcel[4] for parcel in parcels]) / len(parcels))
        with self.ledger.batch() as news:
            for entry, parcel in zip(batch, parcels, strict=True):
                self._finish(news, entry.record.msg_id, parcel)

    def _learn(self, function: bytes, seconds: float) -> None:
        took = self._took
        before = took.get(function)
        if before is None and len(took) > 1000:
            took.clear()
        # What turns out longer than thought is believed at once.
        if before is None or seconds > before:
            took[function] = seconds
        else:
            took[function] = before + _SLOW_DOWN * (seconds - before)

    # -- control ---------------------------------------------------------------------------------

    def _abort(self, msg_ids: list[str]) -> None:
        wanted = set(msg_ids)
        with self._lock:
            back = [entry.record.msg_id for entry in self._queue if entry.record.msg_id in wanted]
            taken = set(back)
            self._queue = deque(e for e in self._queue if e.record.msg_id not in taken)
            under_way = list(self._under_way.items())
        self._take_back(back)
        for future, batch in under_way:
            # All or nothing: a batch is one call of the pool's.
            if all(entry.record.msg_id in wanted for entry in batch):
                _cancel(future)

    def _shut_down(self, targets: Any, hub: bool, block: bool) -> None:
        del targets, hub
        self.close()
        self.executor_.shutdown(wait=block)

    def _release(self) -> None:
        if self._nudge is not None:
            self._nudge.close()
        with self._lock:
            self._queue.clear()
            under_way = list(self._under_way)
        for future in under_way:
            _cancel(future)


def translate(error: BaseException) -> BaseException:
    """The pool's own error as one of ours; the cause is kept."""
    if isinstance(error, concurrent.futures.CancelledError):
        made: BaseException = TaskAborted()
    else:
        name = type(error).__name__
        made = EngineError(f"the executor could not run the task: {name}: {error}")
    made.__cause__ = error
    return made


def lose_all(client: BackendClient, entries: list[Entry], error: BaseException) -> None:
    """These ended with the pool's own error; each gets one of ours, of its own."""
    with client.ledger.batch() as news:
        for entry in entries:
            client._lose(news, entry.record.msg_id, translate(error))


def _cancel(future: concurrent.futures.Future[Any]) -> None:
    with contextlib.suppress(NotImplementedError):  # Parsl's
        future.cancel()


def check_workers(n: int | None) -> int | None:
    """The number of workers; None: as the executor says."""
    return None if n is None else check_count(n, "n", what="None or a number of workers")


def count_workers(executor: concurrent.futures.Executor) -> int:
    """How many tasks it runs at once, as far as it says so."""
    for name in ("_max_workers", "max_workers", "num_workers"):
        count = getattr(executor, name, None)
        if isinstance(count, int) and count > 0:
            return count
    client = getattr(executor, "_client", None)  # Dask's
    if client is not None and callable(getattr(client, "nthreads", None)):
        return sum(client.nthreads().values()) or 1
    return os.cpu_count() or 1
