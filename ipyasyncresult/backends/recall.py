"""What a client over somebody else's cluster knows of its tasks; how results are found again."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary, ref

import msgspec

from ipyasyncresult.backends.refusals import RefusesByDefault
from ipyasyncresult.client.query import select
from ipyasyncresult.client.questions import TaskLookup
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.hubresult import AsyncHubMapResult, AsyncHubResult
from ipyasyncresult.core.partition import DISTRIBUTIONS
from ipyasyncresult.core.task import Status, TaskRecord
from ipyasyncresult.errors import UnknownTaskError
from ipyasyncresult.wire import messages as m

__all__ = ["Call", "Entry", "KnownTasks", "RemembersTasks"]

_REMEMBERED_CALLS = 1000
_REMEMBERED_IDS = 100_000


class Entry(msgspec.Struct):
    """A task and all that its backend needs to run it, now or again."""

    record: TaskRecord
    task: m.Task
    function: Any
    buffers: Sequence[Any]
    group: m.Group | None


class KnownTasks:
    """Records by id, for as long as somebody holds their result.

    A ``WeakValueDictionary`` calls two functions for each task, one when it comes and one when it
    goes.  Here what is gone is swept out when it may be the half.
    """

    __slots__ = ("_found", "_lock", "_sweep_at")

    _FEW = 10_000

    def __init__(self) -> None:
        self._found: dict[str, ref[TaskRecord]] = {}
        self._sweep_at = self._FEW
        self._lock = threading.Lock()  # for sweeps

    def add(self, record: TaskRecord) -> None:
        """Any thread."""
        found = self._found
        found[record.msg_id] = ref(record)
        if len(found) > self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        with self._lock:
            found = self._found
            for msg_id, record in list(found.items()):
                if record() is None:
                    del found[msg_id]
            self._sweep_at = max(self._FEW, 2 * len(found))

    def get(self, msg_id: str) -> TaskRecord | None:
        """Any thread."""
        record = self._found.get(msg_id)
        return None if record is None else record()

    def __contains__(self, msg_id: str) -> bool:
        return self.get(msg_id) is not None


class Call(msgspec.Struct, gc=False):
    """What was submitted together: the shape in which its result comes back."""

    msg_ids: tuple[str, ...]
    group: m.Group | None
    label: str | None


class RemembersTasks(RefusesByDefault):
    """The part of a backend's client that finds results again."""

    def __init__(self) -> None:
        self._history: deque[str] = deque(maxlen=_REMEMBERED_IDS)
        self._calls: deque[Call] = deque(maxlen=_REMEMBERED_CALLS)
        self._known = KnownTasks()
        self._entries: dict[str, Entry] = {}  # of unfinished tasks
        # The work of tasks that failed, for as long as somebody may want to run them again.
        self._failed: WeakKeyDictionary[TaskRecord, tuple[Any, ...]] = WeakKeyDictionary()

    # -- what a backend that stores results does -------------------------------------------------

    def _fetch(self, msg_ids: list[str]) -> list[TaskRecord]:
        """Records of tasks that this client does not know (any more)."""
        self._refuse_unless("stored_results", "results of other sessions")
        raise UnknownTaskError(f"{self.capabilities.backend} does not know task {msg_ids[0]!r}")

    def _find_call(self, which: str) -> Call | None:
        """The call of a label or an id that this client does not remember."""
        return None

    def _note_calls(self, entries: list[Entry]) -> None:
        ids = tuple(entry.record.msg_id for entry in entries)
        self._history.extend(ids)
        self._calls.append(Call(ids, entries[0].group, entries[0].record.label))
        for entry in entries:
            self._known.add(entry.record)

    def _note_call(self, record: TaskRecord) -> None:
        """As :meth:`_note_calls`, of one task."""
        msg_id = record.msg_id
        self._history.append(msg_id)
        self._calls.append(Call((msg_id,), None, record.label))
        self._known.add(record)

    def _keep_failed(self, record: TaskRecord, entry: Entry) -> None:
        # Not with the record: what holds its own key is held for good.
        self._failed[record] = entry.task, entry.function, entry.buffers, entry.group

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
            fetched = self._fetch(missing)
            for record in fetched:
                self._known.add(record)
                found[record.msg_id] = record
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
            found = self._last_kept() if number == -1 else None
        if found is None:
            raise UnknownTaskError(
                f"{len(self._calls)} calls are remembered here: no number {number}"
            )
        return found

    def _last_kept(self) -> Call | None:
        """The last call that the cluster keeps: after a restart this client made none."""
        kept = self.hub_history() if self.capabilities.stored_results else []
        return self._find_call(kept[-1]) if kept else None

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
        """Descriptions of the tasks known here that fit; only `keys` of them, if given.

        Parameters
        ----------
        query : dict, optional
            Values by key, or conditions: ``{"engine_id": 0, "label": {"$in": ["a"]}}``.
        keys : list of str, optional
        """
        rows = []
        for number, call in enumerate(self._calls):
            for msg_id in call.msg_ids:
                record = self._known.get(msg_id)
                if record is not None:
                    rows.append(_row(record, call.group.group_id if call.group else f"#{number}"))
        return select(rows, query, keys)

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
