"""Where the time of a result went: pure functions over records."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ipyasyncresult.core.task import FINAL, TaskRecord

__all__ = ["format_seconds", "serial_time", "summary", "timedelta", "wall_time"]


def serial_time(records: Iterable[TaskRecord]) -> float:
    """Sum of the run times in seconds, by the engines' monotonic clocks.  0.0 for none."""
    return sum([record.duration for record in records if record.duration is not None], 0.0)


def wall_time(records: Sequence[TaskRecord]) -> float | None:
    """Seconds from the first submission to the last reception, None while something is out."""
    if not records:
        return 0.0
    first: float | None = None
    last: float | None = None
    for record in records:
        if record.received is None:
            return None
        if record.submitted is not None and (first is None or record.submitted < first):
            first = record.submitted
        if last is None or record.received > last:
            last = record.received
    return None if first is None or last is None else max(0.0, last - first)


def timedelta(
    start: Any,
    end: Any,
    start_key: Callable[[list[dt.datetime]], dt.datetime] = min,
    end_key: Callable[[list[dt.datetime]], dt.datetime] = max,
) -> float:
    """Seconds between two sets of time stamps; entries that are None are left out.

    Raises
    ------
    ValueError
        When one of the sets has no time stamp yet.
    """
    picked = []
    for name, stamps, key in (("start", start, start_key), ("end", end, end_key)):
        if isinstance(stamps, dt.datetime):
            picked.append(stamps)
            continue
        known = [stamp for stamp in stamps or () if stamp is not None]
        if not known:
            raise ValueError(f"{name} has no time stamp yet: the tasks did not get that far")
        picked.append(key(known))
    return (picked[1] - picked[0]).total_seconds()


def format_seconds(seconds: float) -> str:
    """``'83 ms'``, ``'4.1 s'``, ``'3 min 20 s'``, ``'2 h 05 min'``."""
    if seconds < 0.0995:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def summary(records: Sequence[TaskRecord], elapsed: float, describe: Callable[[int], str]) -> str:
    """One honest line: wall, compute, speed-up, how busy the engines were, the slowest task.

    Parameters
    ----------
    records : sequence of TaskRecord
    elapsed : float
        Wall time so far, in seconds.
    describe : callable
        Names a task by its position (its arguments or label).
    """
    if not records:
        return "nothing to do"
    finished = sum(record.status in FINAL for record in records)
    failed = sum(record.failed_items for record in records)
    compute = serial_time(records)
    engines = {record.engine_id for record in records if record.duration is not None}
    count = sum(record.items for record in records)
    head = f"{count} task{'s' if count != 1 else ''}"
    if finished < len(records):
        head += f" ({len(records) - finished} not finished)"
    parts = [head, f"{format_seconds(elapsed)} wall", f"{format_seconds(compute)} compute"]
    if engines and elapsed > 0:
        speed_up = compute / elapsed
        plural = "s" if len(engines) != 1 else ""
        parts.append(f"{speed_up:.1f}x on {len(engines)} engine{plural}")
        parts.append(f"{100 * min(1.0, speed_up / len(engines)):.0f} % busy")
    if failed:
        parts.append(f"{failed} failed")
    slowest = max(range(len(records)), key=lambda i: records[i].duration or 0.0)
    if len(records) > 1 and (longest := records[slowest].duration):
        parts.append(f"slowest: {describe(slowest)} ({format_seconds(longest)})")
    return ", ".join(parts)
