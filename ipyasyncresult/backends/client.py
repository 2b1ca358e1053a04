"""``BackendClient``: what clients over other people's clusters have in common."""

from __future__ import annotations

import itertools
import sys
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary

from ipyasyncresult.client.anyclient import AnyClient, ids_of
from ipyasyncresult.client.codec import WireCodec
from ipyasyncresult.client.directview import DirectView
from ipyasyncresult.client.questions import TaskLookup
from ipyasyncresult.client.reattach import register_client
from ipyasyncresult.client.targets import Targets
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.capabilities import Capabilities
from ipyasyncresult.core.hubresult import AsyncHubMapResult, AsyncHubResult
from ipyasyncresult.core.ledger import Batch, Ledger
from ipyasyncresult.core.outputs import decode_outputs
from ipyasyncresult.core.partition import DISTRIBUTIONS
from ipyasyncresult.core.tally import Tally
from ipyasyncresult.core.task import Status, TaskRecord
from ipyasyncresult.errors import CapabilityError, HubError, TaskAborted, UnknownTaskError
from ipyasyncresult.wire import messages as m
from ipyasyncresult.worker.guest import Delivery, Work, at_home

__all__ = ["BackendClient", "Call", "Entry", "reattach_to_backend"]

_REMEMBERED_CALLS = 1000
_REMEMBERED_IDS = 100_000


class Entry(NamedTuple):
    """A task and all that its backend needs to run it, now or again."""

    record: TaskRecord
    task: m.Task
    function: bytes
    buffers: Sequence[Any]
    group: m.Group | None


class Call(NamedTuple):
    """What was submitted together: the shape in which its result comes back."""

    msg_ids: tuple[str, ...]
    group: m.Group | None
    label: str | None


class _Held:
    """A buffer in the place of a frame."""

    __slots__ = ("buffer",)

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer


class BackendClient(AnyClient):
    """A client whose tasks somebody else's cluster runs.  Usable from any thread.

    A backend says how tasks are sent (:meth:`_send`), taken back (:meth:`_abort`) and what else
    it can do; every event goes into the ledger, from where all results are read.

    Parameters
    ----------
    capabilities : Capabilities
    name : str
        The beginning of its id.
    """

    def __init__(self, capabilities: Capabilities, name: str) -> None:
        at_home()
        self.capabilities = capabilities
        self.cluster_id = f"{name}-{uuid.uuid4().hex[:8]}"
        self.session = uuid.uuid4().hex[:12]
        self.events: list[m.EngineNews] = []
        self.ledger = Ledger(WireCodec())
        self._numbers = itertools.count()
        self._closed = ""  # why, once it is
        self._history: deque[str] = deque(maxlen=_REMEMBERED_IDS)
        self._calls: deque[Call] = deque(maxlen=_REMEMBERED_CALLS)
        self._known: WeakValueDictionary[str, TaskRecord] = WeakValueDictionary()
        self._entries: dict[str, Entry] = {}  # of unfinished tasks
        # The work of tasks that failed, for as long as somebody may want to run them again.
        self._failed: WeakKeyDictionary[TaskRecord, Entry] = WeakKeyDictionary()
        self._places: dict[str, int] = {}  # numbers of workers, in the order they were met
        register_client(self)

    # -- what a backend does ---------------------------------------------------------------------

    def _send(self, entries: list[Entry]) -> None:
        """Have the tasks run; before one can end, they are in the ledger by :meth:`_enter`.
        When this raises, they are taken out again."""
        raise NotImplementedError

    def _abort(self, entries: list[Entry]) -> dict[str, str]:
        """Take back what has not started; per task ``'aborted'`` or ``'running'``."""
        raise NotImplementedError

    def _release(self) -> None:
        """The client closes: let go of threads and subscriptions."""

    def _fetch(self, msg_ids: list[str]) -> list[TaskRecord]:
        """Records of tasks that this client does not know (any more)."""
        self._refuse_unless("stored_results", "results of other sessions")
        raise UnknownTaskError(f"{self.capabilities.backend} does not know task {msg_ids[0]!r}")

    def _find_call(self, which: str) -> Call | None:
        """The call of a label or an id that this client does not remember."""
        return None

    # -- submitting ------------------------------------------------------------------------------

    def new_msg_id(self) -> str:
        """An id for a task."""
        return f"{self.session}-{next(self._numbers)}"

    def submit(
        self,
        functions: list[bytes],
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
            record = TaskRecord(task.msg_id, now, task.target if task.target >= 0 else None)
            record.label = task.label
            record.items = task.items
            entries.append(Entry(record, task, functions[task.function], buffers, group))
        self._submit(entries)
        return [entry.record for entry in entries], None

    def submit_one(self, function: bytes, task: m.Task, tally: Tally) -> TaskRecord:
        """Send one task without frames, counted by a fresh `tally`; for views."""
        self._check_open()
        record = TaskRecord(task.msg_id, self.ledger.clock())
        record.label = task.label
        self.ledger.count(tally, [record])
        self._submit([Entry(record, task, function, (), None)])
        return record

    def _submit(self, entries: list[Entry]) -> None:
        if not entries:
            return
        try:
            self._send(entries)
        except BaseException:
            self._forget(entries)
            raise
        # Ids may be given by the other system, when it takes the task.
        ids = tuple(entry.record.msg_id for entry in entries)
        self._history.extend(ids)
        self._calls.append(Call(ids, entries[0].group, entries[0].record.label))
        for entry in entries:
            self._known[entry.record.msg_id] = entry.record
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
        )

    def _check_open(self) -> None:
        if self._closed:
            raise HubError(self._closed)

    def _refuse_unless(self, capability: str, what: str) -> None:
        if not getattr(self.capabilities, capability):
            raise CapabilityError(f"{self.capabilities.backend} cannot give {what}")

    # -- what happens to tasks -------------------------------------------------------------------

    def _engine_at(self, place: str) -> int:
        """The number of a worker."""
        found = self._places.get(place)
        if found is None:
            found = self._places.setdefault(place, len(self._places))
        return found

    def _finish(
        self, batch: Batch, msg_id: str, delivery: Delivery, shown: int = 0, uuid: str | None = None
    ) -> None:
        """Enter how a task ended; the first `shown` pieces of its output are there already."""
        entry = self._entries.pop(msg_id, None)
        record = batch.get(msg_id)
        if record is None:
            return
        for piece in delivery.outputs[shown:]:
            batch.output(msg_id, decode_outputs(piece))
        record.engine_id = self._engine_at(delivery.place)
        record.engine_uuid = uuid or delivery.place
        record.started = delivery.started
        record.duration = delivery.duration
        record.completed = delivery.started + delivery.duration
        good = delivery.ok and not delivery.failed_items
        frames = [_Held(buffer) for buffer in delivery.buffers]
        status = (m.OK if good else m.PARTIAL) if delivery.ok else m.ERROR
        if not good and entry is not None:
            self._failed[record] = entry
        batch.finish(
            msg_id,
            Status.DONE if good else Status.FAILED,
            raw=(status, delivery.body, frames),
            failed_items=delivery.failed_items if delivery.ok else None,
        )

    def _lose(self, batch: Batch, msg_id: str, error: BaseException) -> None:
        """Enter that a task ended without a worker's word."""
        entry = self._entries.pop(msg_id, None)
        aborted = isinstance(error, TaskAborted)
        record = batch.finish(msg_id, Status.ABORTED if aborted else Status.LOST, error=error)
        if record is not None and entry is not None:
            self._failed[record] = entry

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

    def wait_for_engines(
        self, n: int | None = None, *, timeout: float | None = -1, block: bool = True
    ) -> None:
        """Wait until `n` engines are there."""
        raise CapabilityError(f"{self.capabilities.backend} does not say when workers come")

    def direct_view(self, targets: Targets = "all") -> DirectView:
        """A view of certain engines: what is called through it runs on each of them.

        Raises
        ------
        CapabilityError
            When tasks cannot be sent to a worker of one's choice.
        """
        self._refuse_unless(
            "addressed_engines", "engines to address: use client.load_balanced_view()"
        )
        return super().direct_view(targets)

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
        """
        del targets, block
        ids = list(self.ledger.outstanding) if jobs is None else ids_of(jobs)
        fate = {
            msg_id: "finished" if msg_id in self._known else "unknown"
            for msg_id in ids
            if msg_id not in self._entries
        }
        entries = [self._entries[msg_id] for msg_id in ids if msg_id in self._entries]
        if entries:
            fate.update(self._abort(entries))
        return fate

    def _take_back(self, msg_ids: Sequence[str]) -> None:
        with self.ledger.batch() as batch:
            for msg_id in msg_ids:
                self._lose(batch, msg_id, TaskAborted(msg_id))

    def interrupt(self, msg_ids: AsyncResult | str | Sequence[str] | None = None) -> dict[str, str]:
        """Raise KeyboardInterrupt in running tasks; says per task what happened.

        Raises
        ------
        CapabilityError
            When this backend cannot.
        """
        self._refuse_unless(
            "interrupt_running",
            "an interrupt of running tasks: abort() takes back those that have not started",
        )
        return {}

    def send_signal(
        self, sig: int = 2, targets: Targets = None, block: bool = True
    ) -> dict[str, str]:
        """Send a signal to engine processes."""
        raise CapabilityError(f"{self.capabilities.backend} cannot signal its workers")

    def resubmit_records(self, records: Sequence[TaskRecord]) -> list[TaskRecord]:
        """Run failed tasks again; new records."""
        self._check_open()
        missing = [record for record in records if record not in self._failed]
        if missing:
            raise UnknownTaskError(
                f"the work of {len(missing)} tasks is not kept here, e.g. {missing[0].msg_id}"
            )
        again = []
        now = self.ledger.clock()
        for record in records:
            before = self._failed[record]
            copy = TaskRecord(self.new_msg_id(), now, record.target)
            copy.label, copy.items = record.label, record.items
            again.append(before._replace(record=copy))
        self._submit(again)
        return [entry.record for entry in again]

    # -- what is known ---------------------------------------------------------------------------

    @property
    def history(self) -> list[str]:
        """Ids of the tasks submitted here, oldest first; at most the last 100,000."""
        return list(self._history)

    def fetch_records(self, msg_ids: Sequence[str]) -> list[TaskRecord]:
        """Records of tasks, known here or kept by the cluster.

        Raises
        ------
        UnknownTaskError
            When neither knows one.
        CapabilityError
            When the cluster keeps none.
        """
        found = {i: record for i in msg_ids if (record := self._known.get(i)) is not None}
        missing = [i for i in msg_ids if i not in found]
        if missing:
            found.update({record.msg_id: record for record in self._fetch(missing)})
            self._known.update(found)
        return [found[msg_id] for msg_id in msg_ids]

    def get_result(
        self,
        indices_or_msg_ids: int | str | Sequence[int | str] | AsyncResult | None = None,
        block: bool = False,
    ) -> AsyncResult:
        """A result by ids, by label, or by its number in the history (-1 is the last call).

        Raises
        ------
        UnknownTaskError
            When no such task is known here, nor kept by the cluster.
        CapabilityError
            When the cluster keeps none.
        """
        which = -1 if indices_or_msg_ids is None else indices_or_msg_ids
        result = self._result_of(which)
        if block:
            result.wait()
        return result

    def _result_of(self, which: int | str | Sequence[int | str] | AsyncResult) -> AsyncResult:
        if isinstance(which, AsyncResult):
            which = which.msg_ids
        if isinstance(which, bool) or not isinstance(which, int | str | Sequence):
            raise TypeError(f"a task is given by id, label or number, not {which!r}")
        if isinstance(which, int):
            return self._whole(self._call_number(which))
        if isinstance(which, str):
            call = self._call_named(which)
            # Else one task of a call, or one of another session.
            return AsyncHubResult(self, which) if call is None else self._whole(call)
        ids = [i if isinstance(i, str) else self._call_number(i).msg_ids[0] for i in which]
        call = self._call_with(tuple(ids))
        if call is None or call.group is None or call.msg_ids != tuple(ids):
            return AsyncHubResult(self, ids)
        return self._whole(call)

    def _whole(self, call: Call) -> AsyncResult:
        group = call.group
        if group is None:
            return AsyncHubResult(self, call.msg_ids[0])
        if group.kind == "map" and group.partition in DISTRIBUTIONS:
            return AsyncHubMapResult.over_map(
                self,
                self.fetch_records(call.msg_ids),
                DISTRIBUTIONS[group.partition](),
                group.fname,
                ordered=group.ordered,
            )
        return AsyncHubResult(self, list(call.msg_ids), group.fname)

    def _call_number(self, number: int) -> Call:
        try:
            return self._calls[number]
        except IndexError:
            raise UnknownTaskError(
                f"{len(self._calls)} calls are remembered here: no number {number}"
            ) from None

    def _call_named(self, which: str) -> Call | None:
        for call in reversed(self._calls):
            if call.label == which or call.msg_ids == (which,):
                return call
        return None if which in self._known else self._find_call(which)

    def _call_with(self, ids: tuple[str, ...]) -> Call | None:
        for call in reversed(self._calls):
            if call.msg_ids == ids:
                return call
        return None if not ids or ids[0] in self._known else self._find_call(ids[0])

    def db_query(
        self, query: dict[str, Any] | None = None, keys: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """Descriptions of the tasks known here whose entries equal those of `query`."""
        rows = []
        for number, call in enumerate(self._calls):
            for msg_id in call.msg_ids:
                record = self._known.get(msg_id)
                if record is not None:
                    rows.append(_row(record, call.group.group_id if call.group else f"#{number}"))
        found = [row for row in rows if all(row.get(k) == v for k, v in (query or {}).items())]
        return found if keys is None else [{key: row.get(key) for key in keys} for row in found]

    def queue_status(self, targets: Any = None, verbose: bool = False) -> dict[Any, Any]:
        """How many tasks run and wait."""
        del targets, verbose
        records = [entry.record for entry in list(self._entries.values())]
        running = sum(record.status is Status.RUNNING for record in records)
        return {"running": running, "unassigned": len(records) - running}

    @property
    def results(self) -> TaskLookup:
        """``client.results[msg_id]``: the value of a task, waited for."""
        return TaskLookup(lambda msg_id: self.get_result(msg_id).get())

    @property
    def metadata(self) -> TaskLookup:
        """``client.metadata[msg_id]``: what is known about a task."""
        return TaskLookup(lambda msg_id: self.get_result(msg_id).metadata)

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

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self.engine_count()} engines"
        return f"<{type(self).__name__}({self.cluster_id}): {state}>"


def _row(record: TaskRecord, group: str) -> dict[str, Any]:
    return {
        "msg_id": record.msg_id,
        "label": record.label,
        "group": group,
        "status": record.status.value,
        "engine_id": record.engine_id,
        "submitted": record.submitted,
        "started": record.started,
        "completed": record.completed,
        "items": record.items,
    }


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
