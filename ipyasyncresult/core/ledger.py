"""What a client knows of its tasks: events in, counters and waiters out.

Backends feed it (submitted, started, output, finished, failed, lost, aborted), results read it::

    backend ──▶ with ledger.batch() as batch:          result ──▶ tally counters   (no lock)
                    batch.started(...)                         ──▶ waits.wait(...)  (sleeps)
                    batch.finished(...)                        ──▶ codec            (decodes)
                └─▶ waiters woken, callbacks queued

One lock, one writer at a time.  Nothing of the user's runs under the lock.  Each task reaches
exactly one final state; what comes after it is counted in ``late`` and changes nothing.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, Self

from ipyasyncresult.core.outputs import Output
from ipyasyncresult.core.tally import Follower, Journal, Tally
from ipyasyncresult.core.task import DONE, FINAL, PENDING, RUNNING, Status, TaskRecord
from ipyasyncresult.core.waiting import ConditionWaits, Waits
from ipyasyncresult.errors import UnknownTaskError

__all__ = ["Batch", "Codec", "Ledger"]

_log = logging.getLogger(__name__)


class Codec(Protocol):
    """Turns what a backend delivered into values and errors, in the thread that asks."""

    def decode(self, record: TaskRecord) -> None:
        """Make ``record.value`` or ``record.error`` of ``record.raw``, then drop ``raw``.

        A chunk in which some items failed gets both: a
        :class:`~ipyasyncresult.core.partition.ChunkResult` and the error.  When the bytes cannot be
        decoded, the error is a :class:`~ipyasyncresult.errors.ResultDecodeError` and ``raw`` stays.
        """


class Ledger:
    """Records of unfinished tasks by ``msg_id``; finished ones belong to who holds the result.

    Parameters
    ----------
    codec : Codec
    waits : Waits, optional
        How callers sleep; by default on a condition.
    clock : callable, optional
        Seconds since the epoch, for ``submitted`` and ``received``.
    callbacks_due : callable, optional
        Called when callbacks wait to be run by :meth:`run_callbacks`; by default the feeding
        thread runs them at once.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        waits: Waits | None = None,
        clock: Callable[[], float] = time.time,
        callbacks_due: Callable[[], None] | None = None,
    ) -> None:
        self.codec = codec
        self.waits: Waits = waits if waits is not None else ConditionWaits()
        self.clock = clock
        self.late = 0  # events for tasks that had already ended
        self._pending: dict[str, TaskRecord] = {}
        # Finished tasks whose threads go on, as long as somebody holds their result.
        self._lingering: weakref.WeakValueDictionary[str, TaskRecord] = (
            weakref.WeakValueDictionary()
        )
        self._lock = threading.Lock()
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._running_calls = threading.Lock()
        self._callbacks_due = callbacks_due or self.run_callbacks

    # -- submitting ------------------------------------------------------------------------------

    def submit(self, msg_id: str, target: int | None = None) -> TaskRecord:
        """A new pending record.  Any thread."""
        record = TaskRecord(msg_id, self.clock(), target, target)
        self._pending[msg_id] = record  # one dict store is atomic
        return record

    def submit_counted(self, msg_id: str, label: str | None) -> tuple[TaskRecord, Tally]:
        """A new pending record of one item for any engine, and who counts it.

        Any thread; without the lock, as nothing can happen to the task before it was sent.
        """
        now = self.clock()
        tally = Tally(1, left=1, submitted=now)
        record = TaskRecord(msg_id, now, None, None, label, 1, tally)
        self._pending[msg_id] = record  # one dict store is atomic
        return record, tally

    def submit_many(self, records: Iterable[TaskRecord]) -> None:
        """Enter records made by the caller.  Any thread."""
        self._pending.update({record.msg_id: record for record in records})

    def forget(self, msg_ids: Iterable[str]) -> None:
        """Take back records whose submission failed; nobody else has seen them."""
        for msg_id in msg_ids:
            self._pending.pop(msg_id, None)

    def pending(self, msg_ids: Iterable[str]) -> list[TaskRecord]:
        """The unfinished records of these ids.

        Raises
        ------
        UnknownTaskError
            When one is not known here or has ended; ``client.get_result`` finds those.
        """
        found = []
        for msg_id in msg_ids:
            record = self._pending.get(msg_id)
            if record is None:
                raise UnknownTaskError(
                    f"msg_id {msg_id!r} is not outstanding in this client; "
                    "client.get_result(msg_ids) finds finished tasks and those of other clients"
                )
            found.append(record)
        return found

    @property
    def outstanding(self) -> set[str]:
        """Ids of all unfinished tasks."""
        with self._lock:
            return set(self._pending)

    def unfinished(self) -> list[TaskRecord]:
        """Records of all unfinished tasks."""
        return list(self._pending.values())

    def has_outstanding(self) -> bool:
        """Whether anything is unfinished."""
        return bool(self._pending)

    # -- feeding ---------------------------------------------------------------------------------

    def batch(self) -> Batch:
        """Feed events within its context: the lock is held, waiters and callbacks come after."""
        return Batch(self, self.clock())

    def _queue_followers(self, batch: Batch) -> None:
        for tally, records in batch.changed.items():
            for follower in tuple(tally.followers or ()):
                if follower.__class__ is Journal:
                    follower.add(records)
                else:
                    self._calls.append((follower, (records,)))  # type: ignore[arg-type]
        # Completion callbacks go after the last change was shown.
        for callback in batch.completed:
            self._calls.append((callback, ()))

    def run_callbacks(self) -> None:
        """Run what is queued, one after the other; what they raise is logged.

        Whoever finds another thread at it leaves: that thread takes the rest, too.
        """
        while self._calls and self._running_calls.acquire(blocking=False):
            try:
                while self._calls:
                    call, args = self._calls.popleft()
                    try:
                        call(*args)
                    except KeyboardInterrupt:
                        raise
                    except BaseException:  # noqa: BLE001  sys.exit() would end the thread that receives
                        _log.exception("a callback of a result raised")
            finally:
                self._running_calls.release()

    # -- counting --------------------------------------------------------------------------------

    def count(self, tally: Tally, records: Sequence[TaskRecord]) -> None:
        """Let `tally` count these records, from where they are now.  Any thread."""
        with self._lock:
            for record in records:
                items = record.items
                tally.total += items
                submitted = record.submitted
                if submitted is not None and submitted < tally.submitted:
                    tally.submitted = submitted
                if record.status in FINAL:
                    tally.finished += items
                    tally.failed += record.failed_items
                    tally.failures += record.failed_items > 0
                    continue
                tally.left += 1
                if record.status is RUNNING:
                    tally.running += items
                if record.tallies is None:
                    record.tallies = tally
                elif isinstance(record.tallies, list):
                    record.tallies.append(tally)
                else:
                    record.tallies = [record.tallies, tally]

    def track_arrivals(self, tally: Tally, records: Sequence[TaskRecord]) -> list[TaskRecord]:
        """The finished tasks of `tally` in the order they came; the list grows by itself."""
        with self._lock:
            if tally.arrivals is None:
                ended = [record for record in records if record.received is not None]
                tally.arrivals = sorted(ended, key=lambda record: record.received or 0.0)
            return tally.arrivals

    def when_done(self, tally: Tally, callback: Callable[[], object]) -> None:
        """Call once, when the last task of `tally` ended (at once if it has)."""
        with self._lock:
            if tally.left:
                if tally.callbacks is None:
                    tally.callbacks = []
                tally.callbacks.append(callback)
                return
        self._calls.append((callback, ()))
        self._callbacks_due()

    def follow(
        self, tally: Tally, callback: Callable[[Sequence[TaskRecord]], None]
    ) -> Callable[[], None]:
        """Call with the changed records after each batch; returns what stops it."""
        follower = Follower(callback)
        with self._lock:
            tally.followers = [*(tally.followers or ()), follower]

        def stop() -> None:
            with self._lock:
                tally.followers = [f for f in tally.followers or () if f is not follower] or None
            follower.stop()

        return stop

    def watch(self, tally: Tally, records: Sequence[TaskRecord]) -> Journal:
        """A journal of what changes from now on; what is more than pending now comes first."""
        journal = Journal()
        with self._lock:
            journal.add([r for r in records if r.status is not PENDING or r.outputs])
            tally.followers = [*(tally.followers or ()), journal]

        def stop() -> None:
            with self._lock:
                tally.followers = [f for f in tally.followers or () if f is not journal] or None

        journal.stop = stop
        return journal

    # -- running again ---------------------------------------------------------------------------

    @contextmanager
    def held_open(self, tally: Tally) -> Iterator[bool]:
        """Within the context the result cannot come to its end; yields False if it already has."""
        with self._lock:
            is_open = tally.left > 0
            tally.left += is_open
        try:
            yield is_open
        finally:
            if is_open:
                with self.batch() as batch:
                    tally.left -= 1
                    if not tally.left:
                        batch.completed.extend(tally.callbacks or ())
                        tally.callbacks = None

    def replace(
        self, tally: Tally, records: list[TaskRecord], again: dict[str, TaskRecord]
    ) -> None:
        """Put new records in the places of failed ones, in the result's own list; counts follow.

        Parameters
        ----------
        tally : Tally
            Held open by the caller.
        records : list of TaskRecord
        again : dict
            New record by the id of the failed one.
        """
        with self._lock:
            for place, old in enumerate(records):
                if old.msg_id not in again:
                    continue
                records[place] = again[old.msg_id]
                tally.total -= old.items
                tally.finished -= old.items
                tally.failed -= old.failed_items
                tally.failures -= old.failed_items > 0
                if tally.arrivals is not None and old in tally.arrivals:
                    tally.arrivals.remove(old)
        self.count(tally, list(again.values()))


class Batch:
    """Events of one moment, applied under the ledger's lock.  Unknown ids are counted, no more."""

    __slots__ = ("_ledger", "_pending", "changed", "completed", "now")

    def __init__(self, ledger: Ledger, now: float) -> None:
        self._ledger = ledger
        self._pending = ledger._pending
        self.now: float = now
        self.changed: dict[Tally, list[TaskRecord]] = {}
        self.completed: list[Callable[[], object]] = []

    def __enter__(self) -> Self:
        self._ledger._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        ledger = self._ledger
        ledger._lock.release()
        if self.changed or self.completed:
            ledger._queue_followers(self)
        ledger.waits.notify()
        if ledger._calls:
            ledger._callbacks_due()

    def get(self, msg_id: str) -> TaskRecord | None:
        """The unfinished record, or None (then the event is late)."""
        record = self._pending.get(msg_id)
        if record is None:
            self._ledger.late += 1
        return record

    def started(self, msg_id: str, engine_id: int | None, started: float) -> None:
        """An engine runs it."""
        record = self.get(msg_id)
        if record is None or record.status is not PENDING:
            return
        record.status = RUNNING
        record.engine_id = engine_id
        record.started = started
        for tally in _tallies(record):
            tally.running += record.items
            self._note(tally, record)

    def requeued(self, msg_id: str) -> None:
        """It waits again: its engine gave it back, or died and it is retried."""
        record = self.get(msg_id)
        if record is None or record.status is not RUNNING:
            return
        record.status = PENDING
        record.engine_id = record.target
        record.started = None
        for tally in _tallies(record):
            tally.running -= record.items
            self._note(tally, record)

    def linger(self, record: TaskRecord) -> None:
        """The task ended, but output of its threads may still come."""
        self._ledger._lingering[record.msg_id] = record

    def output(self, msg_id: str, outputs: Sequence[Output]) -> None:
        """More output, in order; also after the end of a task that lingers."""
        # An unfinished one first: it may be a second record of a task that lingers.
        record = self._pending.get(msg_id) or self._ledger._lingering.get(msg_id)
        if record is None:
            self._ledger.late += 1
        if record is None or not outputs:
            return
        if record.outputs is None:
            record.outputs = []
        record.outputs.extend(outputs)
        for tally in _tallies(record):
            self._note(tally, record)

    def finish(
        self,
        msg_id: str,
        status: Status,
        *,
        raw: Any = None,
        error: BaseException | None = None,
        failed_items: int | None = None,
    ) -> TaskRecord | None:
        """The task ended.  Returns its record, or None when it is unknown.

        From here on others may read it: engine, times and what else belongs to it is filled in
        before, in the record from :meth:`get`.
        """
        record = self._pending.pop(msg_id, None)
        if record is None:
            self._ledger.late += 1
            return None
        if raw is not None:
            record.raw = raw
        if error is not None:
            record.error = error
        if status is not DONE:
            record.failed_items = record.items if failed_items is None else failed_items
        was_running = record.status is RUNNING
        record.status = status
        record.received = self.now  # last: who sees it may read the rest without the lock
        items = record.items
        tallies = record.tallies
        record.tallies = None
        for tally in (tallies,) if isinstance(tallies, Tally) else tallies or ():
            tally.finished += items
            if was_running:
                tally.running -= items
            if record.failed_items:
                tally.failed += record.failed_items
                tally.failures += 1
            if tally.followers is not None:
                self._note(tally, record)
            if tally.arrivals is not None:
                tally.arrivals.append(record)
            tally.left = left = tally.left - 1
            if not left and tally.callbacks is not None:
                self.completed.extend(tally.callbacks)
                tally.callbacks = None
        return record

    def finish_all(self, status: Status, error: Callable[[TaskRecord], BaseException]) -> None:
        """End everything that is unfinished (the hub is gone, the client closes)."""
        for msg_id, record in list(self._pending.items()):
            self.finish(msg_id, status, error=error(record))

    def _note(self, tally: Tally, record: TaskRecord) -> None:
        if tally.followers is not None:
            self.changed.setdefault(tally, []).append(record)


def _tallies(record: TaskRecord) -> Sequence[Tally]:
    tallies = record.tallies
    if tallies is None:
        return ()
    return tallies if isinstance(tallies, list) else (tallies,)
