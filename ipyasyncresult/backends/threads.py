"""Thread pools as engines: tasks run in this very process, and share its objects.

Tasks wait here.  What the pool is given are drains: each takes one task after the other from the
queue, until there is none::

    views ──▶ queue ──▶ drain (a thread of the pool) ──▶ what is done ──▶ ledger

So the pool has no work with single tasks, what waits can be taken back, and a pool that is shut
down does first what waits, as it does with what waits in itself.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections import deque
from dataclasses import replace
from time import monotonic
from typing import Any

from ipyasyncresult.backends.client import BackendClient
from ipyasyncresult.backends.futures import CAPABILITIES as OF_EXECUTORS
from ipyasyncresult.backends.futures import check_workers, count_workers, lose_all
from ipyasyncresult.backends.recall import Entry
from ipyasyncresult.backends.recurring import Recurring
from ipyasyncresult.client.interrupts import HeldInterrupts
from ipyasyncresult.core.tally import Tally
from ipyasyncresult.core.task import PENDING, TaskRecord
from ipyasyncresult.wire import messages as m
from ipyasyncresult.worker.guest import Direct, PlainDelivery

__all__ = ["CAPABILITIES", "ThreadPoolClient", "connect", "recognizes"]

CAPABILITIES = replace(OF_EXECUTORS, backend="a thread pool", shared_memory=True)

_TELL_SECONDS = 0.001
"""What ended within these is told together: who waits is woken less often."""
_LOOK_SECONDS = 0.05
"""Then somebody looks: a task that runs for so long is said to run, and what ended before it in the
same thread is told."""
_TURN_SECONDS = 0.1
"""After these a drain goes to the end of the pool's queue: others may use the pool, too."""


def recognizes(target: object) -> bool:
    """Whether this backend is for `target`."""
    # Interpreters of their own (Python 3.14) are threads that share nothing.
    apart: Any = getattr(concurrent.futures, "InterpreterPoolExecutor", ())
    threads = isinstance(target, concurrent.futures.ThreadPoolExecutor)
    return threads and not isinstance(target, apart)


def connect(
    executor: concurrent.futures.ThreadPoolExecutor, *, n: int | None = None
) -> ThreadPoolClient:
    """A client over a thread pool, which stays the caller's: closing the client leaves it alone.

    Parameters
    ----------
    executor : concurrent.futures.ThreadPoolExecutor
    n : int, optional
        How many of its threads to use at once; by default all.
    """
    return ThreadPoolClient(executor, n)


class ThreadPoolClient(BackendClient):
    """Tasks through somebody's thread pool."""

    def __init__(
        self, executor: concurrent.futures.ThreadPoolExecutor, n: int | None = None
    ) -> None:
        n = check_workers(n)
        super().__init__(CAPABILITIES, "threads")
        self.executor_ = executor
        threads = count_workers(executor)
        self._workers = n or threads
        # One more than there are threads, which always waits: who cancels what waits in the pool
        # cancels this one.
        self._most_drains = self._workers + (self._workers >= threads)
        # Without a lock: what is put in is taken out by one, a drain or who takes it back.
        self._queue: deque[Entry] = deque()
        self._drains = 0  # that the pool has, at work or not; changed under _lock
        self._lock = threading.Lock()
        self._at_work: set[_Drain] = set()
        self._done: deque[tuple[Entry, PlainDelivery]] = deque()  # emptied under the ledger's lock
        self._minder = Recurring(self._look, _LOOK_SECONDS)

    def engine_count(self) -> int:
        return self._workers

    __len__ = engine_count

    # -- handing on ------------------------------------------------------------------------------

    def submit_one(self, function: Any, task: m.Task) -> tuple[TaskRecord, Tally]:
        """What :meth:`submit` does, with less: here it is most of what a task costs."""
        if self._closed or task.timeout:
            return super().submit_one(function, task)  # refuses it
        msg_id = task.msg_id
        made = record, _ = self.ledger.submit_counted(msg_id, task.label)
        self._note_call(record)
        entry = self._entries[msg_id] = Entry(record, task, function, (), None)
        self._queue.append(entry)
        if self._drains < self._most_drains:
            self._start_drains()
        if self._closed:  # it closed between the check and the queue
            self._fail_outstanding()
        return made

    def _send(self, entries: list[Entry]) -> None:
        self._enter(entries)
        self._queue.extend(entries)
        self._start_drains()

    def _forget(self, entries: list[Entry]) -> None:
        self._take_out({entry.record.msg_id for entry in entries})
        super()._forget(entries)

    def _has_enough_drains(self) -> bool:
        # Those at work may be so for long.
        idle = self._drains - len(self._at_work)
        return self._drains >= self._most_drains or idle >= len(self._queue)

    def _start_drains(self) -> None:
        """As many as there is work for.  After what is new was put into the queue: a drain that
        ends looks once more behind its end."""
        if self._has_enough_drains():
            return
        with HeldInterrupts():  # one that is counted and is not there would be waited for
            while True:
                with self._lock:
                    if self._has_enough_drains():
                        break
                    self._drains += 1
                self._start_drain()
            self._minder.begin()

    def _start_drain(self) -> None:
        try:
            future = self.executor_.submit(_Drain(self))
        except Exception as error:  # noqa: BLE001  it is shut down or broken
            self._miss_drain(error)
        else:
            future.add_done_callback(self._look_after)

    def _look_after(self, future: concurrent.futures.Future[Any]) -> None:
        """A drain has ended, or the pool dropped it."""
        dropped = concurrent.futures.CancelledError() if future.cancelled() else future.exception()
        if dropped is not None:
            # A pool that breaks or shuts down ends its futures with its own lock held, and perhaps
            # by a thread that has ours.
            threading.Thread(target=self._miss_drain, args=(dropped,), daemon=True).start()

    def _miss_drain(self, error: BaseException) -> None:
        """The pool does not run a drain: with the last one ends what waits.  One that was
        cancelled stands for all that waits."""
        with self._lock:
            self._drains -= 1
            others_come = self._drains > 0
        if not others_come or isinstance(error, concurrent.futures.CancelledError):
            lose_all(self, self._empty_queue(), error)

    # -- for drains ------------------------------------------------------------------------------

    def _may_end(self) -> bool:
        """Whether a drain that found nothing may end: then it is not counted any more."""
        with self._lock:
            self._drains -= 1
            if self._queue:  # this came meanwhile, from somebody who relied on the drain
                self._drains += 1
                return False
            return True

    def _pass_on(self) -> bool:
        """Whether another drain stands in the pool's queue in the place of this one."""
        try:
            self.executor_.submit(_Drain(self)).add_done_callback(self._look_after)
        except RuntimeError:  # it is shut down: this one does the rest
            return False
        return True

    def _tell(self) -> None:
        """Enter what is done.  Any thread."""
        done = self._done
        if done:
            with self.ledger.batch() as news:
                while done:
                    entry, parcel = done.popleft()
                    self._finish(news, entry.record.msg_id, parcel)

    def _look(self) -> bool:
        """The minder's: tell what drains do not tell while a task takes its time."""
        self._tell()
        before = monotonic() - _LOOK_SECONDS / 2
        with self.ledger.batch() as news:
            for drain in list(self._at_work):
                entry, began = drain.entry, drain.began
                if entry is None or began > before or entry.record.status is not PENDING:
                    continue
                started = self.ledger.clock() - (monotonic() - began)
                news.started(entry.record.msg_id, self._engine_at(drain.place), started)
        return self._drains > 0

    # -- control ---------------------------------------------------------------------------------

    def _take_out(self, wanted: set[str]) -> list[str]:
        """Ids of those that waited, and do no more."""
        entries = self._empty_queue()
        self._queue.extend([e for e in entries if e.record.msg_id not in wanted])
        self._start_drains()  # they may have found nothing meanwhile
        return [e.record.msg_id for e in entries if e.record.msg_id in wanted]

    def _empty_queue(self) -> list[Entry]:
        """What waited; nobody else has any of it."""
        taken = []
        with contextlib.suppress(IndexError):
            while True:
                taken.append(self._queue.popleft())
        return taken

    def _abort(self, msg_ids: list[str]) -> None:
        self._take_back(self._take_out(set(msg_ids)))
        self._tell()

    def _shut_down(self, targets: Any, hub: bool, block: bool) -> None:
        del targets, hub
        self.close()
        self.executor_.shutdown(wait=block)

    def _fail_outstanding(self) -> None:
        self._queue.clear()
        self._tell()
        super()._fail_outstanding()

    def _release(self) -> None:
        self._minder.close()


class _Drain:
    """One call of the pool's: does what waits, until nothing does."""

    __slots__ = ("_client", "began", "entry", "place")

    def __init__(self, client: ThreadPoolClient) -> None:
        self._client = client
        self.entry: Entry | None = None  # at which it is
        self.began = 0.0  # by the monotonic clock
        self.place = ""

    def __call__(self) -> None:
        client = self._client
        client._at_work.add(self)
        try:
            self._work(client)
        finally:
            client._at_work.discard(self)
            client._tell()

    def _work(self, client: ThreadPoolClient) -> None:
        runner = Direct()
        run, self.place = runner.run, runner.place
        take, done = client._queue.popleft, client._done
        now = told = began = monotonic()
        while True:
            try:
                entry = take()
            except IndexError:
                if client._may_end():
                    return
                continue
            self.began, self.entry = now, entry
            try:
                task = entry.task
                parcel = run(entry.function, task.kind, task.arguments, now)
            except BaseException as error:  # noqa: BLE001  nobody would hear of it
                lose_all(client, [entry], error)
                continue
            self.entry = None
            done.append((entry, parcel))
            now = monotonic()
            if now - told > _TELL_SECONDS:
                client._tell()
                now = told = monotonic()
            if now - began > _TURN_SECONDS and client._pass_on():
                return
