"""Where a task and its items stand in their result, asked by record; made once, then O(1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ipyasyncresult.core.task import TaskRecord

__all__ = ["Places"]

_MOST = 200_000  # with more tasks than these, an index costs more than the names are worth


class Places:
    """Names of tasks and items for people.

    Parameters
    ----------
    records : sequence of TaskRecord
    positions : iterable of range, optional
        For a map: the items of each task.
    describe_item : callable, optional
        For a map: names an item by its position; may run the user's ``__repr__``.
    """

    def __init__(
        self,
        records: Sequence[TaskRecord],
        positions: Iterable[range] | None = None,
        describe_item: Callable[[int], str] | None = None,
    ) -> None:
        known = len(records) <= _MOST
        self._index = {r.msg_id: i for i, r in enumerate(records)} if known else {}
        self._positions = list(positions) if positions is not None and known else None
        self._describe_item = describe_item

    def task(self, record: TaskRecord) -> str:
        """``item 12: 'a.csv'``, ``items 100-199``, ``task 3``; a label wins."""
        items = self._items(record)
        if items is not None and items:
            first, last = items[0], items[-1]
            step = f":{items.step}" if items.step > 1 else ""
            return self._named(first) if first == last else f"items {first:,}-{last:,}{step}"
        if record.label:
            return record.label
        index = self._index.get(record.msg_id)
        return f"task {record.msg_id}" if index is None else f"task {index}"

    def item(self, record: TaskRecord, position: int = 0) -> tuple[int | None, str]:
        """Number and name of an item of a task (of the task itself, where it has no items)."""
        items = self._items(record)
        if items is not None and position < len(items):
            return items[position], f"item {items[position]}"
        index = self._index.get(record.msg_id)
        name = record.msg_id if index is None else str(index)
        return index, f"task {name}" + (f" ({record.label})" if record.label else "")

    def follow_retry(self, records: Sequence[TaskRecord]) -> None:
        """Tasks were replaced by new ones in the same places."""
        if self._index:
            self._index.update({r.msg_id: i for i, r in enumerate(records)})

    def _items(self, record: TaskRecord) -> range | None:
        index = self._index.get(record.msg_id)
        return None if self._positions is None or index is None else self._positions[index]

    def _named(self, position: int) -> str:
        if self._describe_item is None:
            return f"item {position}"
        try:
            return f"item {position}: {self._describe_item(position)}"
        except Exception:  # noqa: BLE001  an item's __repr__ may do anything
            return f"item {position}"
