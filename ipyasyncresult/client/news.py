"""News of the hub about tasks, entered into the ledger."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ipyasyncresult.client.codec import lost_error
from ipyasyncresult.core.ledger import Batch
from ipyasyncresult.core.outputs import Output, decode_outputs
from ipyasyncresult.core.task import Status
from ipyasyncresult.wire import messages as m

__all__ = ["apply_news"]

_STATUS = {m.OK: Status.DONE, m.ERROR: Status.FAILED, m.PARTIAL: Status.FAILED}


def apply_news(
    batch: Batch,
    message: m.News,
    frames: Sequence[Any],
    engines: Mapping[int, Mapping[str, Any]],
    again: dict[str, int] | None = None,
) -> None:
    """Enter one message.  The thread that receives; the ledger's lock is held.

    Parameters
    ----------
    batch : Batch
    message : News
    frames : sequence of zmq.Frame
        Out-of-band frames of its results, in order.
    engines : mapping
        What is known about each engine.
    again : dict, optional
        By task, how many outputs come a second time: a new hub tells everything from the start.
    """
    position = 0
    for item in message.items:
        if type(item) is m.Finished:
            count = item.frames
            mine = frames[position : position + count] if count else ()
            position += count
            _apply_finished(batch, item, mine, engines)
        elif type(item) is m.OutputPiece:
            outputs = _readable(item.outputs)
            if again and item.msg_id in again:
                outputs = _unseen(item.msg_id, outputs, again)
            batch.output(item.msg_id, outputs)
        elif type(item) is m.Started:
            batch.started(item.msg_id, item.engine_id, item.started)
        elif type(item) is m.Requeued:
            batch.requeued(item.msg_id)
        elif type(item) is m.LostTask:
            _apply_lost(batch, item)


def _apply_finished(
    batch: Batch,
    item: m.Finished,
    frames: Sequence[Any],
    engines: Mapping[int, Mapping[str, Any]],
) -> None:
    record = batch.get(item.msg_id)
    if record is None:
        return
    record.engine_id = item.engine_id
    record.started = item.started
    record.completed = item.completed
    record.duration = item.duration
    engine = engines.get(item.engine_id)
    record.engine_uuid = engine["uuid"] if engine is not None else None
    batch.finish(
        item.msg_id,
        _STATUS[item.status],
        raw=(item.status, item.body, frames),
        failed_items=item.failed_items,
    )
    if item.lingers:
        batch.linger(record)


def _apply_lost(batch: Batch, item: m.LostTask) -> None:
    status = Status.ABORTED if item.reason == "aborted" else Status.LOST
    record = batch.get(item.msg_id)
    if record is not None:
        if item.engine_id >= 0:
            record.engine_id = item.engine_id
        batch.finish(item.msg_id, status, error=lost_error(item, record))


def _unseen(msg_id: str, outputs: list[Output], again: dict[str, int]) -> list[Output]:
    seen = again[msg_id]
    left = seen - len(outputs)
    if left > 0:
        again[msg_id] = left
    else:
        del again[msg_id]
    return outputs[seen:]


def _readable(data: bytes) -> list[Output]:
    """Outputs of a task.  A display may hold anything: one that cannot be read must not cost the
    results that came with it."""
    try:
        return decode_outputs(data)
    except m.MALFORMED as error:
        return [Output("stderr", time.time(), f"[an output could not be read: {error}]\n")]
