"""What a hub knows and does, as plain data and text, for pages and terminals.

Nothing is unpickled: reading what a task left runs nobody's code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ipyasyncresult.client.client import Client
from ipyasyncresult.client.codec import lost_error
from ipyasyncresult.client.inert import failures_in
from ipyasyncresult.core.failure import decode_failure
from ipyasyncresult.core.outputs import Output, decode_outputs
from ipyasyncresult.core.presenter import OutputQuery
from ipyasyncresult.core.task import Status, TaskOutputs, TaskRecord
from ipyasyncresult.display.grouping import group
from ipyasyncresult.errors import UnknownTaskError
from ipyasyncresult.wire.messages import ERROR, MALFORMED, LostTask

__all__ = ["call_ids", "outputs_of", "read_tasks", "recent_calls", "tasks_of_call", "watch"]


def recent_calls(client: Client, limit: int = 50, skip: int = 0) -> list[dict[str, Any]]:
    """The latest calls, newest first.

    Each has ``number`` (what ``client.get_result`` takes), ``call_id``, ``label``, ``fname``,
    ``submitted`` and ``completed`` (seconds since the epoch), ``tasks`` and, by state, ``counts``.
    """
    calls: list[dict[str, Any]] = client._connection.ask("calls", limit=limit, skip=skip)
    return calls


def call_ids(client: Client, which: int | str) -> list[str]:
    """Ids of the tasks of a call, which is given by id, label, or number (-1 is the latest).

    Raises
    ------
    UnknownTaskError
        When the hub knows no such call.
    """
    try:
        ids: list[str] = client._connection.ask("find", which=which)["msg_ids"]
    except ValueError as error:
        raise UnknownTaskError(str(error)) from None
    return ids


def tasks_of_call(
    client: Client, which: int | str, limit: int = 50, skip: int = 0, failed: bool = False
) -> dict[str, Any]:
    """States and times of some ``tasks`` of a call, and how many it has in ``total``.

    Parameters
    ----------
    client : Client
    which : int or str
        As in :func:`call_ids`.
    limit, skip : int
    failed : bool
        Only those that did not end well.

    Raises
    ------
    UnknownTaskError
        When the hub knows no such call.
    """
    ask = client._connection.ask
    try:
        found: dict[str, Any] = ask(
            "call_tasks", which=which, limit=limit, skip=skip, failed=failed
        )
    except ValueError as error:
        raise UnknownTaskError(str(error)) from None
    return found


def watch(client: Client, *, first: bool, timeout: float) -> dict[str, Any]:
    """Wait until the cluster does something; what it did since the last call for this client.

    Parameters
    ----------
    client : Client
    first : bool
        Do not wait: how everything is now.
    timeout : float
        Seconds until the hub, which answers now and then in any case, is taken for dead.

    Raises
    ------
    HubError
        When the cluster ended.
    TimeoutError
        When the hub does not answer.
    """
    news: dict[str, Any] = client._connection.ask("watch", timeout, first=first)
    return news


def read_tasks(client: Client, msg_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Tasks with what they printed (``outputs``, as text) and how they failed (``error``).

    Those that the hub does not know are left out.
    """
    rows: list[dict[str, Any]] = client._connection.ask("read", msg_ids=list(msg_ids))
    return [_readable(row) for row in rows]


def outputs_of(tasks: Sequence[dict[str, Any]], query: OutputQuery) -> list[dict[str, Any]]:
    """The outputs of tasks from :func:`read_tasks`, grouped; ``kind``, ``prefix`` and ``text``."""
    found = [
        TaskOutputs(
            index,
            task["msg_id"],
            task["engine_id"],
            task["label"],
            Status(task["status"]),
            task["records"],
        )
        for index, task in enumerate(tasks)
    ]
    return [
        {"kind": block.kind, "prefix": block.prefix, "text": block.text}
        for block in group(found, query)
    ]


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    records = [record for piece in row.pop("outputs") for record in _decoded(piece)]
    error = _error(row, records)
    if row["engine_id"] is not None and row["engine_id"] < 0:
        row["engine_id"] = None
    return {**row, "records": records, "error": error}


def _decoded(piece: bytes) -> list[Output]:
    try:
        return decode_outputs(piece)
    except MALFORMED as error:
        return [Output("stderr", 0.0, f"[an output could not be read: {error}]\n")]


def _error(row: dict[str, Any], records: list[Output]) -> dict[str, str] | None:
    """How a task failed, as text; None when it did not.  Of a chunk: its first failed item."""
    lost, failure = row.pop("lost", None), row.pop("failure", None)
    failed_items = row.pop("failed_items", 0)
    if lost is not None:
        return _lost(row, records, lost)
    if failure is None:
        if row["status"] != "error":
            return None
        return {"name": "Failure", "message": "too large to be shown here", "traceback": ""}
    status, body, frames = failure
    try:
        if status == ERROR:
            found = decode_failure(body)
        else:
            failures = failures_in(body, frames)
            found = decode_failure(failures[min(failures)])
    except (ValueError, *MALFORMED) as error:
        return {"name": "Unreadable", "message": str(error), "traceback": ""}
    message = found.evalue
    if row["items"] > 1:
        message += f" (the first of {failed_items} failed items of {row['items']})"
    return {"name": found.ename, "message": message, "traceback": found.traceback}


def _lost(row: dict[str, Any], records: list[Output], lost: dict[str, Any]) -> dict[str, str]:
    record = TaskRecord(row["msg_id"], row["submitted"])
    record.outputs = records
    engine_id = -1 if row["engine_id"] is None else row["engine_id"]
    item = LostTask(row["msg_id"], lost["reason"], lost["details"], engine_id)
    error = lost_error(item, record)
    return {"name": type(error).__name__, "message": str(error), "traceback": ""}
