"""A client whose engines are played by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from signal import SIGINT
from typing import Any
from weakref import WeakValueDictionary

from ipyasyncresult.client.codec import lost_error
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.capabilities import Capabilities
from ipyasyncresult.core.hubresult import AsyncHubMapResult, AsyncHubResult
from ipyasyncresult.core.ledger import Ledger
from ipyasyncresult.core.mapresult import AsyncMapResult
from ipyasyncresult.core.outcome import make_remote_error
from ipyasyncresult.core.outputs import Output, OutputKind
from ipyasyncresult.core.partition import ChunkResult, Map
from ipyasyncresult.core.task import FINAL, Status, TaskRecord
from ipyasyncresult.errors import CapabilityError, HubError, TaskAborted, UnknownTaskError
from ipyasyncresult.testing.clock import ManualClock
from ipyasyncresult.wire.messages import LostTask
from ipyasyncresult.worker.failures import describe_failure

__all__ = ["FakeClient"]

_numbers = itertools.count(1)
_clients: WeakValueDictionary[str, FakeClient] = WeakValueDictionary()


class FakeClient:
    """A client without processes: submit tasks, then say by hand what happens to each.

    The results are real ones over a real ledger.  Events for a task that has ended change nothing
    and are counted in ``ledger.late``, as with real engines.  All methods: any thread.

    Parameters
    ----------
    engines : int
        How many engines there seem to be.
    clock : ManualClock, optional
        What time it is; by default one of its own, as ``client.clock``.

    Examples
    --------
    >>> client = FakeClient()
    >>> ar = client.submit("divide", 2)
    >>> good, bad = ar.msg_ids
    >>> client.output(good, "stdout", "dividing\\n")
    >>> client.finish(good, 0.5, engine=1, duration=2.0)
    >>> client.fail(bad, ZeroDivisionError("division by zero"))
    >>> ar.ok, ar.failed
    ([0.5], [<RemoteError[0]: ZeroDivisionError(division by zero)>])
    """

    def __init__(self, engines: int = 2, clock: ManualClock | None = None) -> None:
        self.engines = engines
        self.capabilities: Capabilities = Capabilities("hand-played engines")
        self.clock: ManualClock = clock if clock is not None else ManualClock()
        self.ledger: Ledger = Ledger(_FakeCodec(), clock=self.clock)
        self._name = f"fake{next(_numbers)}"
        self._task_numbers = itertools.count()
        self._records: dict[str, TaskRecord] = {}
        self._maps: dict[tuple[str, ...], AsyncMapResult] = {}
        _clients[self._name] = self

    # -- submitting ------------------------------------------------------------------------------

    def submit(
        self,
        fname: str = "task",
        n: int | None = None,
        *,
        targets: int | Sequence[int] | None = None,
        label: str | None = None,
    ) -> AsyncResult:
        """The pending result of a call.

        Parameters
        ----------
        fname : str
            What was called.
        n : int, optional
            How many tasks; None gives a single result.
        targets : int or sequence of int, optional
            Engine of all the tasks, or an engine per task; None for any.
        label : str, optional
            Of all the tasks.
        """
        several = isinstance(targets, Sequence)
        if several and n is not None:
            raise ValueError(
                "n must be None with a sequence of targets: there is a task per target"
            )
        wanted = (
            list(targets) if isinstance(targets, Sequence) else [targets] * (1 if n is None else n)
        )
        records = [self._enter(target, label) for target in wanted]
        single = n is None and not several
        return AsyncResult.over(self, records, fname, targets, single=single)

    def submit_map(
        self,
        chunks: Sequence[int],
        ordered: bool = True,
        *,
        fname: str = "map",
        partition: Map | None = None,
        describe_item: Callable[[int], str] | None = None,
    ) -> AsyncMapResult:
        """The pending result of a map.

        Parameters
        ----------
        chunks : sequence of int
            How many items each task stands for.
        ordered : bool
            False: iterated in the order of arrival.
        fname : str
        partition : Map, optional
            How the items were dealt out; by default in blocks.
        describe_item : callable, optional
            Names an item by its position.
        """
        records = [self._enter(None, None, items) for items in chunks]
        result = AsyncMapResult.over_map(
            self, records, partition or Map(), fname, ordered=ordered, describe_item=describe_item
        )
        self._maps[tuple(result.msg_ids)] = result
        return result

    def _enter(self, target: int | None, label: str | None, items: int = 1) -> TaskRecord:
        msg_id = f"{self._name}-{next(self._task_numbers)}"
        record = TaskRecord(msg_id, self.clock(), target, target, label, items)
        self._records[msg_id] = record
        self.ledger.submit_many([record])
        return record

    # -- what happens to a task ------------------------------------------------------------------

    def start(self, msg_id: str, engine: int | None = None) -> None:
        """An engine runs it now; by default the one that was asked for, or engine 0."""
        record = self._record(msg_id)
        with self.ledger.batch() as batch:
            batch.started(msg_id, _engine_of(record, engine), self.clock())

    def output(
        self,
        msg_id: str,
        kind: OutputKind,
        content: str | dict[str, Any] = "",
        *,
        metadata: dict[str, Any] | None = None,
        display_id: str | None = None,
        execution_count: int | None = None,
        wait: bool = False,
    ) -> None:
        """It printed text (``stdout``, ``stderr``) or showed a MIME bundle (all other kinds)."""
        self._record(msg_id)
        text, data = (content, None) if isinstance(content, str) else ("", content)
        shown = Output(kind, self.clock(), text, data, metadata, display_id, execution_count, wait)
        with self.ledger.batch() as batch:
            batch.output(msg_id, [shown])

    def finish(
        self,
        msg_id: str,
        value: Any = None,
        *,
        engine: int | None = None,
        duration: float | None = None,
        failures: Mapping[int, Exception] | None = None,
    ) -> None:
        """It returned.

        Parameters
        ----------
        msg_id : str
        value : object
            What it returned; for a chunk of a map the list of its items' values.
        engine : int, optional
            Where; by default where it was started or sent to, or else engine 0.
        duration : float, optional
            Seconds; by default since it was started.
        failures : mapping of int to exception, optional
            For a chunk: what the items at these positions raised.
        """
        if not failures:
            self._end(msg_id, Status.DONE, (True, value), engine, duration)
            return
        described = {at: describe_failure(error) for at, error in failures.items()}
        values = [None if at in described else item for at, item in enumerate(value)]
        raw = True, ChunkResult(values, described)
        self._end(msg_id, Status.FAILED, raw, engine, duration, len(described))

    def fail(
        self,
        msg_id: str,
        error: BaseException,
        *,
        engine: int | None = None,
        duration: float | None = None,
        inputs: str = "",
    ) -> None:
        """It raised `error`; `inputs` tells what it was called with."""
        raw = False, describe_failure(error, inputs=inputs)
        self._end(msg_id, Status.FAILED, raw, engine, duration)

    def _end(
        self,
        msg_id: str,
        status: Status,
        raw: tuple[bool, Any],
        engine: int | None,
        duration: float | None,
        failed_items: int | None = None,
    ) -> None:
        record = self._record(msg_id)
        now = self.clock()
        with self.ledger.batch() as batch:
            if record.status not in FINAL:
                began = now - (duration or 0.0) if record.started is None else record.started
                record.engine_id = _engine_of(record, engine)
                record.engine_uuid = f"{self._name}-engine{record.engine_id}"
                record.started = began
                record.completed = now
                record.duration = now - began if duration is None else duration
            batch.finish(msg_id, status, raw=raw, failed_items=failed_items)

    def lose(self, msg_id: str, *, engine: int | None = None, signal: str = "SIGKILL") -> None:
        """Its engine was killed by `signal`."""
        record = self._record(msg_id)
        details = {"pid": 1000 + _engine_of(record, engine), "signal": signal}
        lost = LostTask(msg_id, "engine", details, _engine_of(record, engine))
        with self.ledger.batch() as batch:
            if record.status not in FINAL:
                record.engine_id = lost.engine_id
            batch.finish(msg_id, Status.LOST, error=lost_error(lost, record))

    def requeue(self, msg_id: str) -> None:
        """Its engine died, but it is tried again: it waits for another one."""
        self._record(msg_id)
        with self.ledger.batch() as batch:
            batch.requeued(msg_id)

    def close(self) -> None:
        """The cluster is gone: everything that has not ended is lost."""
        with self.ledger.batch() as batch:
            batch.finish_all(
                Status.LOST, lambda record: HubError(f"the client was closed; task {record.msg_id}")
            )

    # -- what results ask of their client --------------------------------------------------------

    def abort(self, msg_ids: Sequence[str] | None = None) -> dict[str, str]:
        """Take back tasks that have not started, by default all of them."""

        def take_back(msg_id: str) -> None:
            with self.ledger.batch() as batch:
                batch.finish(msg_id, Status.ABORTED, error=TaskAborted(msg_id))

        return self._outcomes(msg_ids, {Status.PENDING: (take_back, "aborted")})

    def interrupt(
        self, msg_ids: Sequence[str] | None = None, sig: int | str = "SIGINT"
    ) -> dict[str, str]:
        """Raise KeyboardInterrupt in running tasks, by default in all of them."""
        if sig not in ("SIGINT", SIGINT):
            raise CapabilityError(f"hand-played engines cannot be sent {sig!r}, only 'SIGINT'")
        stop = partial(self.fail, error=KeyboardInterrupt())
        return self._outcomes(
            msg_ids, {Status.RUNNING: (stop, "interrupting"), Status.PENDING: (None, "queued")}
        )

    def _outcomes(
        self,
        msg_ids: Sequence[str] | None,
        treated: Mapping[Status, tuple[Callable[[str], None] | None, str]],
    ) -> dict[str, str]:
        found = {}
        for msg_id in self.ledger.outstanding if msg_ids is None else msg_ids:
            record = self._records.get(msg_id)
            if record is None:
                found[msg_id] = "unknown"
            elif record.status in treated:
                act, found[msg_id] = treated[record.status]
                if act is not None:
                    act(msg_id)
            else:
                found[msg_id] = "running" if record.status is Status.RUNNING else "finished"
        return found

    def resubmit_records(self, records: Sequence[TaskRecord]) -> list[TaskRecord]:
        """New pending tasks like these."""
        return [self._enter(record.target, record.label, record.items) for record in records]

    def fetch_records(self, msg_ids: Sequence[str]) -> list[TaskRecord]:
        """The records of any tasks of this client, ended or not."""
        return [self._record(msg_id) for msg_id in msg_ids]

    def get_result(self, msg_ids: str | Sequence[str]) -> AsyncHubResult | AsyncHubMapResult:
        """A result of these tasks as a client gets it that has not submitted them."""
        known = None if isinstance(msg_ids, str) else self._maps.get(tuple(msg_ids))
        if known is None:
            return AsyncHubResult(self, msg_ids)
        return AsyncHubMapResult.over_map(
            self, known.records, known._partition, known.fname, ordered=known._ordered
        )

    def engine_count(self) -> int:
        """How many engines there seem to be."""
        return self.engines

    def reduce_result(self, result: AsyncResult) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Ids only; unpickled in the same process, the result finds this client again."""
        ids = result.msg_ids
        return _reattach, (self._name, ids[0] if result._single else ids)

    def _record(self, msg_id: str) -> TaskRecord:
        try:
            return self._records[msg_id]
        except KeyError:
            raise UnknownTaskError(f"no task {msg_id!r} was submitted to {self!r}") from None

    def __repr__(self) -> str:
        return f"<FakeClient {self._name}: {self.engines} engines>"


class _FakeCodec:
    """A task's ``raw`` is ``(True, value)`` or ``(False, encoded Failure)``."""

    def decode(self, record: TaskRecord) -> None:
        if record.raw is None:
            return
        returned, content = record.raw
        if not returned:
            record.error = make_remote_error(record, content)
        else:
            if isinstance(content, ChunkResult):
                record.error = make_remote_error(record, content.failures[min(content.failures)])
            record.value = content
        record.raw = None


def _engine_of(record: TaskRecord, wanted: int | None) -> int:
    if wanted is not None:
        return wanted
    return 0 if record.engine_id is None else record.engine_id


def _reattach(name: str, msg_ids: str | list[str]) -> AsyncResult:
    client = _clients.get(name)
    if client is None:
        raise HubError(f"the fake client {name} is gone")
    return client.get_result(msg_ids)
