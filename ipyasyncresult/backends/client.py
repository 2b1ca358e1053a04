"""``BackendClient``: what clients over other people's clusters have in common."""

from __future__ import annotations

import itertools
import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from ipyasyncresult.backends.recall import Entry, RemembersTasks
from ipyasyncresult.client.anyclient import ids_of
from ipyasyncresult.client.codec import ObjectCodec, WireCodec
from ipyasyncresult.client.packing import OBJECTS
from ipyasyncresult.client.reattach import register_client
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.capabilities import Capabilities
from ipyasyncresult.core.ledger import Batch, Codec, Ledger
from ipyasyncresult.core.outputs import decode_outputs
from ipyasyncresult.core.tally import Tally
from ipyasyncresult.core.task import ABORTED, DONE, FAILED, LOST, TaskRecord
from ipyasyncresult.errors import CapabilityError, HubError, TaskAborted, UnknownTaskError
from ipyasyncresult.wire import messages as m
from ipyasyncresult.worker.guest import Delivery, PlainDelivery, Work, at_home, leave_home

__all__ = ["BackendClient", "reattach_to_backend"]


class _Held:
    """A buffer in the place of a frame."""

    __slots__ = ("buffer",)

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer


class _Numbers(dict[str, int]):
    """Numbers, in the order in which they are first asked for.  Any thread."""

    _lock = threading.Lock()  # two that are new at once must not get the same one

    def __missing__(self, name: str) -> int:
        with self._lock:
            return self.setdefault(name, len(self))


class BackendClient(RemembersTasks):
    """A client whose tasks somebody else's cluster runs.  Usable from any thread.

    A backend says how tasks are sent (:meth:`_send`), taken back (:meth:`_abort`) and what else
    it can do; every event goes into the ledger, from where all results are read.

    Parameters
    ----------
    capabilities : Capabilities
    name : str
        The beginning of its id.
    codec : Codec, optional
        For results that are not bytes of ours.
    callbacks_due : callable, optional
        Of the ledger.
    """

    def __init__(
        self,
        capabilities: Capabilities,
        name: str,
        *,
        codec: Codec | None = None,
        callbacks_due: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        at_home()
        self._is_home = True
        self.capabilities = capabilities
        self.cluster_id: str = f"{name}-{uuid.uuid4().hex[:8]}"
        self.session: str = uuid.uuid4().hex[:12]
        self.events: list[m.EngineNews] = []
        self._direct = capabilities.shared_memory
        if self._direct:
            self.packing = OBJECTS
        codec = codec or (ObjectCodec() if self._direct else WireCodec())
        self.ledger: Ledger = Ledger(codec, callbacks_due=callbacks_due)
        self._numbers = itertools.count()
        self._closed = ""  # why, once it is
        self._places = _Numbers()  # of workers
        register_client(self)

    # -- what a backend does ---------------------------------------------------------------------

    def _send(self, entries: list[Entry]) -> None:
        """Have the tasks run; before one can end, they are in the ledger by :meth:`_enter`.
        When this raises, they are taken out again."""
        raise NotImplementedError

    def _abort(self, msg_ids: list[str]) -> None:
        """Take back those of these unfinished tasks that have not started."""
        raise NotImplementedError

    def _release(self) -> None:
        """The client closes: let go of threads and subscriptions."""

    # -- submitting ------------------------------------------------------------------------------

    def new_msg_id(self) -> str:
        """An id for a task."""
        return f"{self.session}-{next(self._numbers)}"

    def submit(
        self,
        functions: list[Any],
        tasks: list[m.Task],
        frames: Sequence[Any] = (),
        group: m.Group | None = None,
    ) -> tuple[list[TaskRecord], Any]:
        """Send tasks; for views and executors."""
        self._check_open()
        now = self.ledger.clock()
        entries = []
        position = 0
        for task in tasks:
            buffers = frames[position : position + task.frames] if task.frames else ()
            position += task.frames
            target = task.target if task.target >= 0 else None
            record = TaskRecord(task.msg_id, now, target, target, task.label, task.items)
            entries.append(Entry(record, task, functions[task.function], buffers, group))
        self._submit(entries)
        return [entry.record for entry in entries], None

    def submit_one(self, function: Any, task: m.Task) -> tuple[TaskRecord, Tally]:
        """Send one task without frames; its record and who counts it.  For views."""
        (record,), _ = self.submit([function], [task])
        tally = Tally()
        self.ledger.count(tally, [record])
        return record, tally

    def _submit(self, entries: list[Entry]) -> None:
        if not entries:
            return
        if any(entry.task.timeout for entry in entries):
            self._refuse_unless("time_limits", "time limits: view.timeout must be None")
        if not self.capabilities.cells and any(entry.task.kind == m.CELL for entry in entries):
            self._refuse_unless("cells", "an IPython shell for cells: its workers have none here")
        try:
            self._send(entries)
        except BaseException:
            self._forget(entries)
            raise
        self._note_calls(entries)  # ids may be given by the other system, when it takes the task
        if self._closed:  # it closed between the check and the send
            self._fail_outstanding()

    def _enter(self, entries: list[Entry]) -> None:
        """From now on the tasks may end."""
        self._entries.update({entry.record.msg_id: entry for entry in entries})
        self.ledger.submit_many([entry.record for entry in entries])

    def _forget(self, entries: list[Entry]) -> None:
        ids = [entry.record.msg_id for entry in entries]
        self.ledger.forget(ids)
        for msg_id in ids:
            self._entries.pop(msg_id, None)

    def _work_of(self, entry: Entry, wrap: Callable[[Any], Any]) -> Work:
        """The task as it travels."""
        options = entry.task.options
        return Work(
            entry.function,
            entry.task.arguments,
            [wrap(buffer) for buffer in entry.buffers],
            entry.task.kind,
            bool(options & m.SILENT),
            not options & m.NO_HISTORY,
            "IPython" in sys.modules,
            self.capabilities.cells,
            self._direct,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise HubError(self._closed)

    # -- what happens to tasks -------------------------------------------------------------------

    def _engine_at(self, place: str) -> int:
        """The number of a worker."""
        return self._places[place]

    def _finish(
        self,
        batch: Batch,
        msg_id: str,
        delivery: Delivery | PlainDelivery,
        shown: int = 0,
        uuid: str | None = None,
    ) -> None:
        """Enter how a task ended; the first `shown` pieces of its output are there already."""
        entry = self._entries.pop(msg_id, None)
        record = batch.get(msg_id) if entry is None else entry.record
        if record is None:
            return
        ok, body, buffers, started, duration, failed_items, outputs, place = delivery
        if outputs:
            for piece in outputs[shown:]:
                batch.output(msg_id, decode_outputs(piece))
        record.engine_id = self._places[place]
        record.engine_uuid = uuid or place
        record.started = started
        record.duration = duration
        record.completed = started + duration
        if ok and not failed_items and self._direct:
            record.value = body
            batch.finish(msg_id, DONE)
            return
        held = [_Held(buffer) for buffer in buffers] if buffers else ()
        if ok and not failed_items:
            batch.finish(msg_id, DONE, raw=(m.OK, body, held))
            return
        if entry is not None:
            self._keep_failed(record, entry)
        raw = m.PARTIAL if ok else m.ERROR, body, held
        batch.finish(msg_id, FAILED, raw=raw, failed_items=failed_items if ok else None)

    def _lose(self, batch: Batch, msg_id: str, error: BaseException) -> None:
        """Enter that a task ended without a worker's word."""
        entry = self._entries.pop(msg_id, None)
        aborted = isinstance(error, TaskAborted)
        record = batch.finish(msg_id, ABORTED if aborted else LOST, error=error)
        if record is not None and entry is not None:
            self._keep_failed(record, entry)

    def _fail_outstanding(self) -> None:
        reason = self._closed
        with self.ledger.batch() as batch:
            for msg_id in list(batch._pending):
                self._lose(batch, msg_id, HubError(f"{reason}; task {msg_id}"))

    # -- engines and views -----------------------------------------------------------------------

    @property
    def ids(self) -> list[int]:
        """Ids of the engines."""
        return list(range(self.engine_count()))

    def engine_count(self) -> int:
        """How many engines can work on tasks now."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self.engine_count()

    # -- control ---------------------------------------------------------------------------------

    def abort(
        self,
        jobs: AsyncResult | str | Sequence[str] | None = None,
        targets: Any = None,
        block: bool = True,
    ) -> dict[str, str]:
        """Take back tasks that have not started; by default all of this client.

        Returns
        -------
        dict
            Per task: ``'aborted'``, ``'running'`` (too late), ``'finished'`` or ``'unknown'``.

        Raises
        ------
        CapabilityError
            When this backend cannot.
        """
        del targets, block
        self._refuse_unless("abort_queued", "tasks back: what is submitted runs")
        ids = list(self.ledger.outstanding) if jobs is None else ids_of(jobs)
        records = {msg_id: self._known.get(msg_id) for msg_id in ids}
        unfinished = [i for i, record in records.items() if record and record.received is None]
        if unfinished:
            self._abort(unfinished)
        return {msg_id: _fate(record, msg_id in unfinished) for msg_id, record in records.items()}

    def _take_back(self, msg_ids: Sequence[str]) -> None:
        with self.ledger.batch() as batch:
            for msg_id in msg_ids:
                self._lose(batch, msg_id, TaskAborted(msg_id))

    def resubmit_records(self, records: Sequence[TaskRecord]) -> list[TaskRecord]:
        """Run failed tasks again; new records."""
        self._check_open()
        self._refuse_unless("retry", "another try: submit the work again")
        missing = [record for record in records if record not in self._failed]
        if missing:
            raise UnknownTaskError(
                f"the work of {len(missing)} tasks is not kept here, e.g. {missing[0].msg_id}"
            )
        again = []
        now = self.ledger.clock()
        for record in records:
            target = record.target
            copy = TaskRecord(self.new_msg_id(), now, target, target, record.label, record.items)
            again.append(Entry(copy, *self._failed[record]))
        self._submit(again)
        return [entry.record for entry in again]

    # -- the way back ------------------------------------------------------------------------------

    def reduce_result(self, result: AsyncResult) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """How to pickle a result: ids, and how to find the cluster."""
        single = result.msg_ids[0] if result._single else result.msg_ids
        return reattach_to_backend, (self.cluster_id, self._address(), single)

    def _address(self) -> str | None:
        """Where another process finds the cluster; None: nowhere."""
        return None

    # -- the end ---------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether this client can no longer be used."""
        return bool(self._closed)

    def close(self, linger: float | None = None) -> None:
        """Let go of the cluster, which goes on; idempotent.  Outstanding results resolve."""
        del linger
        if not self._closed:
            self._end("the client was closed")

    def _end(self, reason: str) -> None:
        self._closed = self._closed or reason
        self._fail_outstanding()
        self._release()
        self._leave_home()

    def _leave_home(self) -> None:
        """Once: others may be at home yet."""
        if self._is_home:
            self._is_home = False
            leave_home()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self.engine_count()} engines"
        return f"<{type(self).__name__}({self.cluster_id}): {state}>"


def _fate(record: TaskRecord | None, was_unfinished: bool) -> str:
    """What became of a task that was to be taken back."""
    if record is None:
        return "unknown"
    if was_unfinished and record.status is ABORTED:
        return "aborted"
    return "running" if record.received is None else "finished"


def reattach_to_backend(cluster_id: str, address: str | None, msg_ids: Any) -> AsyncResult:
    """The result that was pickled."""
    from ipyasyncresult.client.reattach import known_client

    client = known_client(cluster_id)
    if client is None:
        if address is None:
            raise CapabilityError(
                f"this result belongs to client {cluster_id}, which is not of this process, "
                "and its cluster keeps no results"
            )
        from ipyasyncresult.backends.connecting import connect

        client = connect(address)
    return client.get_result(msg_ids)
