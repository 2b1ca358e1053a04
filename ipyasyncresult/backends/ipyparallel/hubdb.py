"""Results that ipyparallel's hub keeps in its database: found by id or label, waited for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ipyasyncresult.backends.client import BackendClient
from ipyasyncresult.backends.ipyparallel.translation import (
    delivery_of_call,
    delivery_of_cell,
    failed_delivery,
    output_of,
    translate,
)
from ipyasyncresult.backends.recall import Call
from ipyasyncresult.client.anyclient import ids_of
from ipyasyncresult.client.targets import resolve_targets
from ipyasyncresult.core.ledger import Batch
from ipyasyncresult.core.outputs import Output
from ipyasyncresult.core.task import TaskRecord
from ipyasyncresult.core.waiting import check_timeout
from ipyasyncresult.errors import HubError, TimeoutError, UnknownTaskError
from ipyasyncresult.wire import messages as m

__all__ = ["ReadsHub"]

_PAUSE = 0.02  # seconds between two questions to the hub, which tells nothing by itself
_ABOUT = ["msg_id", "metadata", "completed"]
_ALL = [
    *_ABOUT,
    "started",
    "engine_uuid",
    "result_content",
    "result_buffers",
    "stdout",
    "stderr",
    "execute_result",
]


_ANSWER = 5.0
"""Seconds that the hub gets to answer.  It is one process, which also takes in every task."""


class _Asking:
    """An ipyparallel client that does not wait for ever for a hub that may be dead."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def _send_recv(self, *args: Any, **options: Any) -> Any:
        answer = self._client._send(*args, **options)
        if not answer.wait(_ANSWER):
            raise TimeoutError(f"no answer within {_ANSWER:g} s")
        return answer.result()


class ReadsHub(BackendClient):
    """The part of an ipyparallel client that asks the hub."""

    def __init__(self, client: Any) -> None:
        self.ipyparallel = client
        self._asked: dict[str, dict[str, Any]] = {}  # tasks of others, until they end
        self._last: dict[bool, str] = {}  # submitted last, to an engine (True) and to any

    def _ask(self, method: str, *args: Any) -> Any:
        """What a method of ipyparallel's client gives.

        Raises
        ------
        HubError
            When the hub does not answer.
        """
        try:
            return getattr(type(self.ipyparallel), method)(_Asking(self.ipyparallel), *args)
        except Exception as error:
            raise HubError(f"ipyparallel's hub does not answer: {error}") from error

    def _query(self, query: dict[str, Any], keys: list[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("db_query", query, [*keys, "submitted"])
        # What a task printed may be there before the task.
        return [row for row in found if row["submitted"] is not None]

    def _find_call(self, which: str) -> Call | None:
        rows = self._query({"msg_id": {"$ne": ""}}, _ABOUT)
        rows.sort(key=lambda row: row["submitted"])
        chosen = [row for row in rows if which in (row["msg_id"], _label(row))]
        if not chosen:
            return None
        last = chosen[-1]
        shape = _ours(last)["group"]
        if shape is None:
            return Call((last["msg_id"],), None, _label(last))
        same = [row["msg_id"] for row in rows if _ours(row)["group"] == shape]
        return Call(tuple(same), m.Group(*shape), _label(last))

    def _fetch(self, msg_ids: list[str]) -> list[TaskRecord]:
        rows = {row["msg_id"]: row for row in self._query({"msg_id": {"$in": msg_ids}}, _ABOUT)}
        if missing := [msg_id for msg_id in msg_ids if msg_id not in rows]:
            raise UnknownTaskError(
                f"ipyparallel's hub does not have task {missing[0]!r} (it drops the oldest: by "
                "default it keeps 1,024)"
            )
        records = []
        for msg_id in msg_ids:
            row = rows[msg_id]
            record = TaskRecord(msg_id, row["submitted"].timestamp())
            record.items, record.label = _ours(row)["items"], _label(row)
            records.append(record)
            self._asked[msg_id] = _ours(row)
        self.ledger.submit_many(records)
        self._ask_for_results()
        return records

    def _ask_for_results(self) -> None:
        """Enter what has ended of the tasks that were asked for.  Any thread."""
        if not self._asked:
            return
        wanted = list(self._asked)
        rows = self._query({"msg_id": {"$in": wanted}}, _ABOUT)
        ended = [row["msg_id"] for row in rows if row["completed"] is not None]
        if not ended:
            return
        complete = self._query({"msg_id": {"$in": ended}}, _ALL)
        with self.ledger.batch() as batch:
            for row in complete:
                about = self._asked.pop(row["msg_id"], None)
                if about is not None:
                    self._enter_row(batch, row, about)

    def _enter_row(self, batch: Batch, row: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        from ipyparallel import error as foreign
        from ipyparallel.serialize import deserialize_object

        msg_id, content = row["msg_id"], row["result_content"] or {}
        started = (row["started"] or row["submitted"]).timestamp()
        ended = row["completed"].timestamp()
        batch.output(msg_id, _outputs_of(row, started))
        if content.get("status") == "ok":
            if about["kind"] == m.CELL:
                reply = type("Reply", (), {"execution_count": content.get("execution_count", 0)})
                delivery = delivery_of_cell(reply, row["execute_result"], started, ended)
            else:
                delivery = delivery_of_call(deserialize_object(row["result_buffers"])[0])
        else:
            aborted = content.get("status") == "aborted"
            error: Any = (
                foreign.TaskAborted(msg_id) if aborted else foreign.unwrap_exception(content)
            )
            ours = translate(error, msg_id)
            if ours is not None:
                self._lose(batch, msg_id, ours)
                return
            delivery = failed_delivery(error, started, ended)
        engine = row["engine_uuid"] or "?"
        number = self.ipyparallel._engines.get(engine)
        if number is not None:
            self._places[engine] = number
        self._finish(batch, msg_id, delivery._replace(place=engine))

    def wait_until_kept(self, timeout: float | None = -1) -> None:
        """Wait until the hub has what was submitted so far, for other sessions.

        Raises
        ------
        TimeoutError
            When that took longer than `timeout` seconds.
        """
        seconds = check_timeout(timeout)
        deadline = None if seconds is None else time.monotonic() + seconds
        # Results come past the hub, so what has ended may still be on its way there.  It hears of
        # the tasks of each way in their order.
        wanted = self.outstanding | set(self._last.values())
        patience = time.monotonic() + _ANSWER
        while wanted:
            found = self._query({"msg_id": {"$in": list(wanted)}}, ["msg_id"])
            wanted -= {row["msg_id"] for row in found}
            if wanted and deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"the hub did not take {len(wanted)} tasks within {timeout} s")
            if time.monotonic() > patience:  # then it was purged
                wanted &= self.outstanding
            if wanted:
                time.sleep(_PAUSE)

    def hub_history(self) -> list[str]:
        """Ids of all tasks in the hub's database, oldest first."""
        history: list[str] = self._ask("hub_history")
        return history

    def purge_results(self, jobs: Any = "all", targets: Any = ()) -> None:
        """Let the hub forget results: ids, a result, or ``'all'``; of these engines, too."""
        ids = jobs if isinstance(jobs, str) else ids_of(jobs)
        none = targets is None or (isinstance(targets, tuple) and not targets)
        engines = [] if none else resolve_targets(targets, self.ids)
        self._ask("purge_hub_results", ids, engines)

    purge_hub_results = purge_results


def _ours(row: Mapping[str, Any]) -> dict[str, Any]:
    """What we wrote into the message when it was sent."""
    metadata = row["metadata"] or {}
    found: dict[str, Any] | None = metadata.get("ipyasyncresult")
    return found or {"items": 1, "kind": m.CALL, "group": None}


def _label(row: Mapping[str, Any]) -> str | None:
    label: str | None = (row["metadata"] or {}).get("label")
    return label


def _outputs_of(row: Mapping[str, Any], when: float) -> list[Output]:
    """The database has each stream as a whole and the value of a cell, no displays and no order."""
    streams = [("stream", {"name": name, "text": row[name]}) for name in ("stdout", "stderr")]
    found = [output_of(kind, content, when) for kind, content in streams if content["text"]]
    if row["execute_result"]:
        found.append(output_of("execute_result", row["execute_result"], when))
    return [output for output in found if output is not None]
