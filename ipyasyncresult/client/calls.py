"""Calls that a hub remembers: the rows of its tasks, gathered by the call that made them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Call", "gather_calls"]

_STATUSES = ("ok", "running", "pending", "error", "lost", "aborted")


@dataclass(frozen=True, slots=True)
class Call:
    """One call: a task, or all tasks of a map.

    Attributes
    ----------
    number : int
        What ``client.get_result`` takes; -1 is the last call.
    call_id : str
        Id of its group, or of its only task; good for ``client.get_result``, too.
    msg_ids : list of str
        Its tasks, in the order of their submission.
    label : str
        Empty when there is none.
    submitted : float
        Seconds since the epoch.
    took : float or None
        Seconds from its submission to its end, None as long as it runs.
    counts : dict
        How many tasks have each status.
    engines : list of int
        Where tasks ran, as far as they ended.
    """

    number: int
    call_id: str
    msg_ids: list[str]
    label: str
    submitted: float
    took: float | None
    counts: dict[str, int]
    engines: list[int]

    @property
    def failed(self) -> int:
        """How many tasks did not end well."""
        return sum(self.counts.get(status, 0) for status in ("error", "lost", "aborted"))


def gather_calls(tasks: Sequence[dict[str, Any]]) -> list[Call]:
    """The calls, newest first, of rows of ``client.db_query()``, which come oldest first."""
    gathered: dict[str, list[dict[str, Any]]] = {}
    for task in reversed(tasks):
        gathered.setdefault(task["group"] or task["msg_id"], []).append(task)
    return [_call(-number, *entry) for number, entry in enumerate(gathered.items(), start=1)]


def _call(number: int, call_id: str, tasks: list[dict[str, Any]]) -> Call:
    submitted = min(task["submitted"] for task in tasks)
    statuses = Counter(task["status"] for task in tasks)
    return Call(
        number=number,
        call_id=call_id,
        msg_ids=[task["msg_id"] for task in reversed(tasks)],
        label=next((task["label"] for task in tasks if task["label"]), ""),
        submitted=submitted,
        took=_took(tasks, submitted),
        counts={status: count for status in _STATUSES if (count := statuses[status])},
        engines=sorted({e for task in tasks if (e := task["engine_id"]) is not None and e >= 0}),
    )


def _took(tasks: Iterable[dict[str, Any]], submitted: float) -> float | None:
    if any(task["status"] in ("pending", "running") for task in tasks):
        return None
    # Lost and aborted tasks have no end of their own.
    ends = [task["completed"] for task in tasks if task["completed"] is not None]
    return max(0.0, max(ends) - submitted) if ends else None
