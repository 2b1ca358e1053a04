"""Which tasks of which cluster a result is made of, in few words.  Pure.

A page needs that to stop them through Jupyter's own server when the kernel does not listen.  Ids
of tasks are ``SESSION-NUMBER``, and those of one call follow each other: a hundred thousand of them
are one range.
"""

from __future__ import annotations

from typing import Any

from ipyasyncresult.display.shown import ShownResult

__all__ = ["Reach"]

_MOST_RANGES = 64
_MOST_TASKS = 200_000  # their ids go into one request


class Reach:
    """Follows the tasks of one result.  The owner's lock is held in every method."""

    def __init__(self, result: ShownResult) -> None:
        self._result = result
        self._seen = 0  # records
        self._ranges: list[list[Any]] = []  # session, first and last number
        self._known = True

    def again(self) -> None:
        """Tasks were replaced by others."""
        self._seen, self._ranges, self._known = 0, [], True

    def look(self) -> dict[str, Any] | None:
        """``{'cluster': 'ab12', 'tasks': [['c0ffee', 0, 41]]}``; None where no hub knows them."""
        cluster_id = self._result.cluster_id
        if cluster_id is None:
            return None
        records = self._result.records
        if self._known and self._seen < len(records):  # a lazy map grows
            self._known = self._take([record.msg_id for record in records[self._seen :]])
            self._seen = len(records)
        known = self._known and self._seen <= _MOST_TASKS
        return {"cluster": cluster_id, "tasks": self._ranges if known else []}

    def _take(self, ids: list[str]) -> bool:
        ranges = self._ranges
        for msg_id in ids:
            session, _, digits = msg_id.rpartition("-")
            if not (session and digits.isascii() and digits.isdecimal()):
                return False
            number = int(digits)
            if ranges and ranges[-1][0] == session and ranges[-1][2] == number - 1:
                ranges[-1][2] = number
            elif len(ranges) == _MOST_RANGES:
                return False
            else:
                ranges.append([session, number, number])
        return True
