"""``ar.metadata``: what is known about a task, as a dict with attribute access."""

from __future__ import annotations

import datetime as dt
from typing import Any

from ipyasyncresult.core.outputs import execute_result, rich_outputs, stream_text
from ipyasyncresult.core.task import TaskRecord

__all__ = ["METADATA_KEYS", "Metadata", "metadata_of", "value_of"]

METADATA_KEYS: tuple[str, ...] = (
    "msg_id",
    "submitted",
    "started",
    "completed",
    "received",
    "engine_id",
    "engine_uuid",
    "status",
    "stdout",
    "stderr",
    "outputs",
    "execute_input",
    "execute_result",
    "error",
    "follow",
    "after",
    "label",
    "data",
)
_KEYS = frozenset(METADATA_KEYS)
_TIMES = frozenset({"submitted", "started", "completed", "received"})


class Metadata(dict[str, Any]):
    """A snapshot of one task; ``md['started']`` and ``md.started`` are the same.

    Times are timezone-aware datetimes: ``submitted`` and ``received`` by the client's clock,
    ``started`` and ``completed`` by the engine's.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]


def as_datetime(seconds: float | None) -> dt.datetime | None:
    """Seconds since the epoch as an aware datetime in the local zone, None as None."""
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC).astimezone()


def value_of(record: TaskRecord, key: str) -> Any:
    """One entry of the metadata, without making the others.  Any thread; never waits.

    Raises
    ------
    KeyError
        When `key` is not one of :data:`METADATA_KEYS`.
    """
    if key not in _KEYS:
        raise KeyError(key)
    if key in _TIMES:
        return as_datetime(getattr(record, key))
    outputs = record.outputs or ()
    match key:
        case "stdout":
            return stream_text(outputs, "stdout")
        case "stderr":
            return stream_text(outputs, "stderr")
        case "outputs":
            return rich_outputs(outputs)
        case "execute_result":
            return execute_result(outputs)
        case "status":
            return record.status.value
        case "msg_id" | "engine_id" | "engine_uuid" | "label" | "error":
            return getattr(record, key)
        case "follow" | "after":
            return []
        case "data":
            return {}
        case _:
            return None


def metadata_of(record: TaskRecord) -> Metadata:
    """All entries.  Any thread; never waits."""
    return Metadata((key, value_of(record, key)) for key in METADATA_KEYS)
