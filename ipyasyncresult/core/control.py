"""The acting side of a result: take tasks back, interrupt them, run them again."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from signal import SIGINT
from typing import TYPE_CHECKING, Any, Self, cast

from ipyasyncresult.core.capabilities import OWN_ENGINES, Capabilities
from ipyasyncresult.core.clientprotocol import ClientProtocol
from ipyasyncresult.core.ledger import Ledger
from ipyasyncresult.core.tally import Tally
from ipyasyncresult.core.task import Status, TaskRecord
from ipyasyncresult.core.waitable import TaskFuture
from ipyasyncresult.core.waiting import check_timeout
from ipyasyncresult.errors import TimeoutError

if TYPE_CHECKING:
    from ipyasyncresult.core.asyncresult import AsyncResult

__all__ = ["Controllable"]


class Controllable:
    """What can be done about tasks.  All methods: any thread."""

    __slots__ = ()

    _client: ClientProtocol
    _ledger: Ledger
    _tally: Tally
    _targets: Any
    _tracker: Any
    records: list[TaskRecord]

    def _like(self, records: list[TaskRecord]) -> Self:
        raise NotImplementedError

    def abort(self) -> dict[str, str]:
        """Take back the tasks that have not started; says per task what happened."""
        return self._client.abort([r.msg_id for r in self.records if r.received is None])

    def interrupt(self, signal: int | str = "SIGINT") -> dict[str, str]:
        """Signal the tasks that run, by default with a KeyboardInterrupt; says per task what
        happened.

        Parameters
        ----------
        signal : int or str
            ``'SIGTERM'`` or ``'SIGKILL'`` for tasks that do not listen to ``'SIGINT'``: that ends
            their engines, which are replaced.
        """
        pending = [r.msg_id for r in self.records if r.received is None]
        if signal in ("SIGINT", SIGINT):
            return self._client.interrupt(pending)
        return self._client.interrupt(pending, signal)

    def aborted(self) -> bool:
        """Whether all tasks were taken back before they ran."""
        records = self.records
        return bool(records) and all(record.status is Status.ABORTED for record in records)

    def retry_failed(self, *, in_place: bool = False) -> Self:
        """A result like this one in which the failed tasks run again; the good ones stay.

        Parameters
        ----------
        in_place : bool
            Let this very result wait for them, so that whoever waits for it gets the new values.
            Only before it has ended.

        Raises
        ------
        ValueError
            With `in_place`, when the result has ended: those who waited for it were told.
        """
        if not in_place:
            again = self._resubmit_failed()
            return self._like([again.get(record.msg_id, record) for record in self.records])
        with self._ledger.held_open(self._tally) as is_open:
            if not is_open:
                raise ValueError(
                    "in_place needs a result that has not ended; retry_failed() gives a new one"
                )
            self._ledger.replace(self._tally, self.records, self._resubmit_failed())
        return self

    def _resubmit_failed(self) -> dict[str, TaskRecord]:
        failed = [record for record in self.records if record.failed_items]
        ids = (record.msg_id for record in failed)
        new = self._client.resubmit_records(failed) if failed else ()
        return dict(zip(ids, new, strict=True))

    def engine_count(self) -> int:
        """How many engines can work on this."""
        if self._targets is not None:
            return len({record.engine_id for record in self.records})
        return self._client.engine_count()

    def engine_states(self) -> Mapping[int, Mapping[str, Any]]:
        """What the client knows of its engines (``up``, ``stopped``, ``uuid``), if anything."""
        known = getattr(self._client, "engines", None)
        return known if isinstance(known, Mapping) else {}

    @property
    def capabilities(self) -> Capabilities:
        """What can be asked of the client that runs this."""
        return self._client.capabilities

    @property
    def cluster_id(self) -> str | None:
        """Of the cluster that runs this; None over engines of others."""
        own = self._client.capabilities is OWN_ENGINES
        return getattr(self._client, "cluster_id", None) if own else None

    def as_future(self) -> TaskFuture:
        """A ``concurrent.futures.Future`` of this result, for code that wants one."""
        future = TaskFuture(cast("AsyncResult", self))
        self._ledger.when_done(self._tally, future.settle)
        return future

    @property
    def sent(self) -> bool:
        """Whether the caller's buffers may be changed: the messages have left."""
        return self._tracker is None or bool(self._tracker.done)

    def wait_for_send(self, timeout: float | None = -1) -> None:
        """Wait until buffers sent without a copy may be changed.

        Raises
        ------
        TimeoutError
            When that took longer than `timeout` seconds.
        """
        seconds = check_timeout(timeout)
        if self._tracker is None:
            return
        with contextlib.suppress(Exception):  # zmq.NotDone, which core does not know
            self._tracker.wait(-1 if seconds is None else seconds)
        if not self._tracker.done:
            raise TimeoutError(f"not sent within {timeout} s")
