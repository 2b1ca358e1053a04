"""News of the hub about tasks, entered into the ledger."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ipyasyncresult.client.codec import lost_error
from ipyasyncresult.core.ledger import Batch
from ipyasyncresult.core.outputs import Output, decode_outputs
from ipyasyncresult.core.task import Status, TaskRecord
from ipyasyncresult.wire import messages as m

__all__ = ["Repeats", "apply_news"]

_STATUS = {m.OK: Status.DONE, m.ERROR: Status.FAILED, m.PARTIAL: Status.FAILED}


class Repeats:
    """A new hub tells everything about a task from the start, when it is asked.

    Attributes
    ----------
    awaited : set of str
        Tasks that it was asked about.  What it says of them before it answers it will say again.
    seen : dict
        By task, how many outputs the last hub had told.
    """

    __slots__ = ("awaited", "seen")

    def __init__(self, records: Iterable[TaskRecord]) -> None:
        self.awaited: set[str] = set()
        self.seen: dict[str, int] = {}
        for record in records:
            self.awaited.add(record.msg_id)
            if record.outputs:
                self.seen[record.msg_id] = len(record.outputs)

    def without_seen(self, msg_id: str, outputs: list[Output]) -> list[Output]:
        """Those of the outputs that are new."""
        seen = self.seen.get(msg_id)
        if seen is None:
            return outputs
        if seen > len(outputs):
            self.seen[msg_id] = seen - len(outputs)
        else:
            del self.seen[msg_id]
        return outputs[seen:]


def apply_news(
    batch: Batch,
    message: m.News,
    frames: Sequence[Any],
    engines: Mapping[int, dict[str, Any]],
    repeats: Repeats | None = None,
) -> None:
    """Enter one message.  The thread that receives; the ledger's lock is held.

    Parameters
    ----------
    batch : Batch
    message : News
    frames : sequence of memoryview or zmq.Frame
        Out-of-band frames of its results, in order.
    engines : mapping
        What is known about each engine.
    repeats : Repeats, optional
        What a new hub will tell, or tells, a second time.
    """
    position = 0
    for item in message.items:
        if repeats is not None and type(item) is not m.Finished and item.msg_id in repeats.awaited:
            continue
        if type(item) is m.Finished:
            count = item.frames
            mine = frames[position : position + count] if count else ()
            position += count
            if repeats is None or item.msg_id not in repeats.awaited:
                _apply_finished(batch, item, mine, engines)
        elif type(item) is m.OutputPiece:
            outputs = _readable(item.outputs)
            if repeats is not None:
                outputs = repeats.without_seen(item.msg_id, outputs)
            batch.output(item.msg_id, outputs)
        elif type(item) is m.Started:
            batch.started(item.msg_id, item.engine_id, item.started)
        elif type(item) is m.Requeued:
            batch.requeued(item.msg_id)
        elif type(item) is m.LostTask:
            _apply_lost(batch, item, engines)


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


def _apply_lost(batch: Batch, item: m.LostTask, engines: Mapping[int, dict[str, Any]]) -> None:
    engine = engines.get(item.engine_id)
    if engine is not None and engine["uuid"] == item.details.get("uuid"):
        # The news of the death itself come next: who has caught the error and now waits for
        # engines must not find the dead one.
        engine["up"] = False
    status = Status.ABORTED if item.reason == "aborted" else Status.LOST
    record = batch.get(item.msg_id)
    if record is not None:
        if item.engine_id >= 0:
            record.engine_id = item.engine_id
        batch.finish(item.msg_id, status, error=lost_error(item, record))


def _readable(data: bytes) -> list[Output]:
    """Outputs of a task.  A display may hold anything: one that cannot be read must not cost the
    results that came with it."""
    try:
        return decode_outputs(data)
    except m.MALFORMED as error:
        return [Output("stderr", time.time(), f"[an output could not be read: {error}]\n")]
