"""Remembered tasks as plain data and text.  Nothing is unpickled: reading runs nobody's code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ipyasyncresult.client.client import Client
from ipyasyncresult.client.inert import failures_in
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.failure import decode_failure
from ipyasyncresult.core.presenter import OutputQuery
from ipyasyncresult.core.task import TaskOutputs, TaskRecord
from ipyasyncresult.display.grouping import group
from ipyasyncresult.wire.messages import ERROR, MALFORMED

__all__ = ["read_failure", "read_result", "read_task"]


def read_result(client: Client, which: int | str | Sequence[str]) -> AsyncResult:
    """A result that the hub knows, with everything that it knows now.

    Raises
    ------
    UnknownTaskError
        When it knows no such task.
    """
    result = client.get_result(which if isinstance(which, int | str) else list(which))
    # The hub sends the outputs and ends behind its description of the tasks, and answers in order:
    # when this comes, they have come.
    client.hub_status()
    return result


def read_task(record: TaskRecord) -> dict[str, Any]:
    """What is known about a task: times in seconds since the epoch, outputs as text."""
    found = TaskOutputs(
        0,
        record.msg_id,
        record.engine_id,
        record.label,
        record.status,
        tuple(record.outputs or ()),
    )
    blocks = group([found], OutputQuery(groupby="time"))
    return {
        "msg_id": record.msg_id,
        "label": record.label,
        "status": record.status.value,
        "engine_id": record.engine_id,
        "submitted": record.submitted,
        "started": record.started,
        "completed": record.completed,
        "duration": record.duration,
        "items": record.items,
        "failed_items": record.failed_items,
        "outputs": [{"kind": block.kind, "text": block.text} for block in blocks],
        "error": read_failure(record),
    }


def read_failure(record: TaskRecord) -> dict[str, str] | None:
    """How a task failed, as text; None when it did not.  Of a chunk: its first failed item."""
    if record.error is not None:  # lost, aborted, or decoded before by whoever has this result
        name = type(record.error).__name__
        return {"name": name, "message": str(record.error), "traceback": ""}
    if not record.failed_items:
        return None
    try:
        failure = decode_failure(_encoded_failure(record))
    except (ValueError, *MALFORMED) as error:
        return {"name": "Unreadable", "message": str(error), "traceback": ""}
    message = failure.evalue
    if record.items > 1:
        message += f"  (the first of {record.failed_items} failed items of {record.items})"
    return {"name": failure.ename, "message": message, "traceback": failure.traceback}


def _encoded_failure(record: TaskRecord) -> bytes:
    status, body, frames = record.raw
    if status == ERROR:
        return bytes(body)
    failures = failures_in(body, [frame.buffer for frame in frames])
    return failures[min(failures)]
