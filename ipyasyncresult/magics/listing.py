"""``%pxresult --list``: the calls that the hub remembers, as a table."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from ipyasyncresult.core.timing import format_seconds

__all__ = ["list_calls"]

_HEAD = ("number", "submitted", "took", "tasks", "status", "label")


def list_calls(tasks: Sequence[dict[str, Any]], most: int = 20) -> str:
    """A table of the latest calls, the newest last.

    Parameters
    ----------
    tasks : sequence of dict
        Rows of ``client.db_query()``, oldest first; the tasks of one call share their ``group``.
    most : int
        How many calls.
    """
    calls: dict[str, list[dict[str, Any]]] = {}
    for task in reversed(tasks):
        calls.setdefault(task["group"] or task["msg_id"], []).append(task)
    if not calls:
        return "the cluster remembers no tasks"
    rows = [_row(-number, call) for number, call in islice(enumerate(calls.values(), 1), most)]
    return "\n".join(_aligned([_HEAD, *reversed(rows)]))


def _row(number: int, call: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """One line: the number is what ``client.get_result`` takes."""
    submitted = min(task["submitted"] for task in call)
    ends = [task["completed"] for task in call]
    took = "" if None in ends else format_seconds(max(0.0, max(ends) - submitted))
    status = Counter(task["status"] for task in call)
    counted = ", ".join(f"{count} {name}" for name, count in status.items())
    return (
        str(number),
        dt.datetime.fromtimestamp(submitted, dt.UTC).astimezone().strftime("%m-%d %H:%M:%S"),
        took,
        str(len(call)),
        counted,
        next((task["label"] for task in call if task["label"]), ""),
    )


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
