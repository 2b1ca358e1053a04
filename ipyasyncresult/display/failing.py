"""Failures as they come, equal ones together, at a bounded cost.  Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ipyasyncresult.core.failure import Failure
from ipyasyncresult.core.places import Places
from ipyasyncresult.core.task import Status, TaskRecord
from ipyasyncresult.display.lanes import plain_text

__all__ = ["FailureGroup", "Failures"]

_MOST_GROUPS = 5
_MOST_HELD = 10_000  # failed tasks that wait to be looked at
_AT_ONCE = 200  # failures that are looked at in one go: about a millisecond
_LONGEST_MESSAGE, _LONGEST_INPUT = 300, 300  # characters
_LONGEST_TRACEBACK = 2000


@dataclass(slots=True)
class FailureGroup:
    """Failures of one type with one message; the first of them stands for all.

    Attributes
    ----------
    count : int
    name, message : str
    place : str
        ``item 12``, ``task 3 (label)``.
    engine_id : int or None
    inputs : str
        What it was called with.
    traceback : str
    """

    count: int
    name: str
    message: str
    place: str
    engine_id: int | None
    inputs: str
    traceback: str

    @property
    def title(self) -> str:
        """``ZeroDivisionError: division by zero``."""
        return f"{self.name}: {self.message}" if self.message else self.name


class Failures:
    """The failures of one result.

    Parameters
    ----------
    places : Places
    look : callable
        ``look(record, limit)`` gives what failed in a task, by position.
    """

    def __init__(
        self, places: Places, look: Callable[[TaskRecord, int], list[tuple[int, Failure]]]
    ) -> None:
        self._places = places
        self._look = look
        self._waiting: deque[TaskRecord] = deque(maxlen=_MOST_HELD)
        self._groups: dict[tuple[str, str], FailureGroup] = {}
        self.aborted: int = 0  # items taken back before they ran: no failures of anybody

    def add(self, records: Iterable[TaskRecord]) -> None:
        """These have failed."""
        for record in records:
            if record.status is Status.ABORTED:
                self.aborted += record.items
            else:
                self._waiting.append(record)

    def groups(self) -> list[FailureGroup]:
        """The groups known so far, largest first; looks at some more of those that wait."""
        left = _AT_ONCE
        while self._waiting and left > 0:
            left -= self._take(self._waiting.popleft(), left)
        found = sorted(self._groups.values(), key=lambda group: -group.count)
        return found[:_MOST_GROUPS]

    def clear(self) -> None:
        """They run again."""
        self._waiting.clear()
        self._groups.clear()

    def _take(self, record: TaskRecord, limit: int) -> int:
        try:
            found = self._look(record, limit)
        except Exception as error:  # noqa: BLE001  what came may be anything: it is shown as such
            found = [(0, Failure(ename=type(error).__name__, evalue=str(error)))]
        for position, failure in found:
            key = failure.kind()
            group = self._groups.get(key)
            if group is None:
                self._groups[key] = self._group(record, position, failure)
            else:
                group.count += 1
        return max(1, len(found))

    def _group(self, record: TaskRecord, position: int, failure: Failure) -> FailureGroup:
        return FailureGroup(
            count=1,
            name=plain_text(failure.ename, 80),
            message=plain_text(failure.evalue.partition("\n")[0], _LONGEST_MESSAGE),
            place=plain_text(self._places.item(record, position)[1], 80),
            engine_id=record.engine_id,
            inputs=plain_text(failure.inputs, _LONGEST_INPUT),
            traceback=_ending(failure.traceback),
        )


def _ending(traceback: str) -> str:
    """The end of a traceback: that is where it happened."""
    lines = [plain_text(line, 300) for line in traceback[-2 * _LONGEST_TRACEBACK :].splitlines()]
    text = "\n".join(lines).strip("\n")
    return text if len(text) <= _LONGEST_TRACEBACK else "…" + text[-_LONGEST_TRACEBACK:]
