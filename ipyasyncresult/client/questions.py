"""What the hub knows: results of other sessions, history, queues.  The asking side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ipyasyncresult.client.anyclient import ids_of
from ipyasyncresult.client.connection import Connection
from ipyasyncresult.client.query import select
from ipyasyncresult.core.arguments import integer_of
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.hubresult import AsyncHubMapResult, AsyncHubResult
from ipyasyncresult.core.ledger import Ledger
from ipyasyncresult.core.partition import DISTRIBUTIONS
from ipyasyncresult.core.tally import Tally
from ipyasyncresult.core.task import TaskRecord
from ipyasyncresult.errors import UnknownTaskError
from ipyasyncresult.wire.messages import Ask

__all__ = ["HubQuestions"]

_OPEN = ("pending", "running")  # all other statuses are final
_PATIENCE = 10.0  # seconds; large results may take longer, and then come as they come


class HubQuestions:
    """Questions to the hub.  Any thread; each is one request, none polls."""

    _connection: Connection
    ledger: Ledger

    def get_result(
        self,
        indices_or_msg_ids: int | str | Sequence[int | str] | AsyncResult | None = None,
        block: bool = False,
    ) -> AsyncResult:
        """A result by ids, by label, or by its number in the history (-1 is the last call).

        A map comes back as a map, with its shape, order and chunks.

        Parameters
        ----------
        indices_or_msg_ids : int, str, list of them, or AsyncResult, optional
            Numbers in the history (-1, the default, is the last call), ids, or a label.
        block : bool
            Wait for the end.

        Raises
        ------
        UnknownTaskError
            When the hub knows no such task.
        """
        which = -1 if indices_or_msg_ids is None else indices_or_msg_ids
        if isinstance(which, AsyncResult):
            which = which.msg_ids
        is_one = isinstance(which, str) or not isinstance(which, Sequence)
        found = self._find(which) if is_one else self._find_all(which)
        result = self._make_result(found)
        if block:
            result.wait()
        return result

    def _find(self, which: Any) -> dict[str, Any]:
        number = integer_of(which)
        if number is None and not isinstance(which, str | list):
            raise TypeError(f"a task is given by id, label or number, not {which!r}")
        if number is not None:
            which = number if number < 0 else self._id_of_number(number)
        try:
            found: dict[str, Any] = self._connection.ask("find", which=which)
        except ValueError as error:
            raise UnknownTaskError(str(error)) from None
        return found

    def _id_of_number(self, number: int) -> str:
        history = self.hub_history()
        if number >= len(history):
            raise UnknownTaskError(f"the hub remembers {len(history)} tasks: no number {number}")
        return history[number]

    def _find_all(self, several: Any) -> dict[str, Any]:
        numbered = [one if isinstance(one, str) else self._find(one)["msg_ids"] for one in several]
        ids: list[str] = []
        for one in numbered:
            ids += [one] if isinstance(one, str) else one
        return self._find(ids)

    def _make_result(self, found: dict[str, Any]) -> AsyncResult:
        ids = found["msg_ids"]
        if found.get("kind") == "map":
            return AsyncHubMapResult.over_map(
                self,  # type: ignore[arg-type]  # the class that inherits this is a client
                self.fetch_records(ids),
                DISTRIBUTIONS[found["partition"]](),
                found["fname"],
                ordered=found["ordered"],
            )
        chosen = ids[0] if found.get("single") else ids
        return AsyncHubResult(self, chosen, found.get("fname", "unknown"))  # type: ignore[arg-type]

    def fetch_records(self, msg_ids: Sequence[str]) -> list[TaskRecord]:
        """Records of tasks that the hub knows, filled by it from now on.

        Raises
        ------
        UnknownTaskError
            When it does not know one.
        """
        records: dict[str, TaskRecord] = {}
        wanted = []
        for msg_id in msg_ids:  # what is outstanding here anyway is not asked for
            try:
                records[msg_id] = self.ledger.pending([msg_id])[0]
            except UnknownTaskError:
                wanted.append(msg_id)
        if wanted:
            self._subscribe(wanted, records)
        missing = [msg_id for msg_id in msg_ids if msg_id not in records]
        if missing:
            raise UnknownTaskError(f"the hub does not know task {missing[0]!r}")
        return [records[msg_id] for msg_id in msg_ids]

    def _subscribe(self, wanted: list[str], records: dict[str, TaskRecord]) -> None:
        ended = Tally()

        def enter(described: Any) -> None:
            # In the receiving thread: the news about these tasks come right behind.
            if not isinstance(described, list):
                return
            made = []
            for about in described:
                if about is None:
                    continue
                target = about["target"] if about["target"] >= 0 else None
                record = TaskRecord(
                    about["msg_id"],
                    about["submitted"],
                    target,
                    target,
                    about["label"],
                    about["items"],
                )
                records[record.msg_id] = record
                made.append(record)
            self.ledger.submit_many(made)
            still_open = {i["msg_id"] for i in described if i and i["status"] in _OPEN}
            self.ledger.count(ended, [r for r in made if r.msg_id not in still_open])

        self._connection.request(
            lambda number: Ask(number, "subscribe", {"msg_ids": wanted}), on_answer=enter
        )
        # What has ended is under way: who looks at the result at once shall see it so.
        self._connection.wait(lambda: not ended.left, _PATIENCE)

    def resubmit_records(self, records: Sequence[TaskRecord]) -> list[TaskRecord]:
        """Run ended tasks again; new records.  For ``retry_failed`` and :meth:`resubmit`."""
        again = {record.msg_id: self._connection.new_msg_id() for record in records}
        now = self.ledger.clock()
        made = [
            TaskRecord(again[one.msg_id], now, one.target, one.target, one.label, one.items)
            for one in records
        ]
        self.ledger.submit_many(made)
        try:
            _refuse_missing(self._connection.ask("resubmit", again=again))
        except BaseException:
            self.ledger.forget(again.values())
            raise
        return made

    def resubmit(
        self, indices_or_msg_ids: int | str | Sequence[int | str] | None = None, block: bool = False
    ) -> AsyncResult:
        """Run failed, lost or aborted tasks again.

        Parameters
        ----------
        indices_or_msg_ids : int, str, list of them, or AsyncResult, optional
            Numbers in the history (-1, the default, is the last call), ids, or a label.
        block : bool
            Wait for the end.
        """
        result = self.get_result(indices_or_msg_ids)
        result.wait()
        again = result.retry_failed()
        if block:
            again.wait()
        return again

    def hub_history(self) -> list[str]:
        """Ids of all tasks that the hub remembers, oldest first."""
        history: list[str] = self._connection.ask("history")
        return history

    def result_status(self, msg_ids: str | Sequence[str], status_only: bool = True) -> Any:
        """Which of the tasks are ``'completed'`` and which ``'pending'``; with
        ``status_only=False`` also the values of those that are completed and good.

        Parameters
        ----------
        msg_ids : str or list of str
        status_only : bool
        """
        ids = ids_of(msg_ids)
        rows = {row["msg_id"]: row for row in self._connection.ask("tasks", msg_ids=ids)}
        missing = [i for i in ids if i not in rows]
        if missing:
            raise UnknownTaskError(f"the hub does not know task {missing[0]!r}")
        pending = [i for i in ids if rows[i]["status"] in ("pending", "running")]
        status: dict[str, Any] = {
            "pending": pending,
            "completed": [i for i in ids if i not in pending],
        }
        if not status_only:
            done = [i for i in status["completed"] if rows[i]["status"] == "ok"]
            for msg_id in done:
                status[msg_id] = self.get_result(msg_id).get()
        return status

    def db_query(
        self, query: dict[str, Any] | None = None, keys: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """Descriptions of tasks that fit; only `keys` of them, if given.

        Parameters
        ----------
        query : dict, optional
            Values by key, or conditions: ``{"duration": {"$gt": 1}, "label": {"$in": ["a"]}}``.
            Times are seconds since the epoch, or datetimes.
        keys : list of str, optional

        Raises
        ------
        ValueError
            When an operator is not known.
        """
        return select(self._connection.ask("tasks"), query, keys)

    def purge_results(self, jobs: Any = (), targets: Any = ()) -> int:
        """Let the hub forget finished tasks: ids, results, or ``'all'``.  How many there were.

        Parameters
        ----------
        jobs : str, list of str or AsyncResult
            Ids, a result, or ``'all'``.
        targets
            Taken for ipyparallel's sake; it changes nothing.
        """
        del targets
        ids = None if isinstance(jobs, str) and jobs == "all" else ids_of(jobs)
        count: int = self._connection.ask("purge", msg_ids=ids)
        return count

    purge_hub_results = purge_results

    def purge_local_results(self, jobs: Any = (), targets: Any = ()) -> None:
        """Nothing to do: a value lives as long as its result does.  ipyparallel's name.

        Parameters
        ----------
        jobs, targets
            Taken for ipyparallel's sake; it changes nothing.
        """

    def purge_everything(self) -> int:
        """Let the hub forget all finished tasks."""
        return self.purge_results("all")

    @property
    def results(self) -> TaskLookup:
        """``client.results[msg_id]``: the value of a task, waited for."""
        return TaskLookup(lambda msg_id: self.get_result(msg_id).get())

    @property
    def metadata(self) -> TaskLookup:
        """``client.metadata[msg_id]``: what is known about a task."""
        return TaskLookup(lambda msg_id: self.get_result(msg_id).metadata)

    def queue_status(self, targets: Any = None, verbose: bool = False) -> dict[Any, Any]:
        """How many tasks wait, by engine, and how many wait for any (``'unassigned'``).

        Parameters
        ----------
        targets, verbose
            Taken for ipyparallel's sake; it changes nothing.
        """
        del targets, verbose
        answer = self._connection.ask("queue_status")
        engines = {int(engine_id): about for engine_id, about in answer["engines"].items()}
        return {**engines, "unassigned": answer["unassigned"]}

    def hub_status(self) -> dict[str, Any]:
        """About the hub: its process, its versions, how many clients and unfinished tasks."""
        status: dict[str, Any] = self._connection.ask("status")
        return status


class TaskLookup:
    """Something about tasks by id, asked for when it is looked up.

    Nothing is kept here: the hub has it.
    """

    def __init__(self, look_up: Callable[[str], Any]) -> None:
        self._look_up = look_up

    def __getitem__(self, msg_id: str) -> Any:
        if not isinstance(msg_id, str):
            raise TypeError(f"a task is looked up by its id (a string), not {msg_id!r}")
        return self._look_up(msg_id)


def _refuse_missing(missing: list[str]) -> None:
    if missing:
        raise UnknownTaskError(
            f"the hub no longer has the work of {len(missing)} tasks, e.g. {missing[0]}"
        )
