"""``ar.metadata``: what is known about a task, as a dict with attribute access."""

from __future__ import annotations

import datetime as dt
from typing import Any

from ipyasyncresult.core.outputs import execute_result, rich_outputs, stream_text
from ipyasyncresult.core.tables import html_table, text_table
from ipyasyncresult.core.task import TaskRecord

__all__ = ["METADATA_KEYS", "Metadata", "MetadataList", "metadata_of", "value_of"]

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

    def _known(self) -> list[tuple[str, Any]]:
        """What there is to say; empty entries are left out."""
        return [(key, value) for key, value in self.items() if value not in (None, "", [], {})]

    def _repr_html_(self) -> str:
        return html_table(f"task {self.get('msg_id', '')}", (), self._known())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(text_table(self._known()) if self else "{}")


class MetadataList(list[Metadata]):
    """The metadata of several tasks; a table, where it is shown."""

    _COLUMNS = ("label", "status", "engine_id", "submitted", "started", "completed", "error")
    _MOST = 20

    def _rows(self) -> list[tuple[Any, ...]]:
        return [
            (index, *(one.get(key) for key in self._COLUMNS))
            for index, one in enumerate(self[: self._MOST])
        ]

    def _repr_html_(self) -> str:
        more = max(0, len(self) - self._MOST)
        return html_table(f"{len(self):,} tasks", ("", *self._COLUMNS), self._rows(), more=more)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        more = [f"{len(self) - self._MOST:,} more"] if len(self) > self._MOST else []
        table = text_table([("", *self._COLUMNS), *self._rows()])
        printer.text("\n".join([table, *more]))


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
