"""Who ran what when: spans to a picture.  Pure.

A row per engine, a bar per task, coloured by how it ended, with its name on hover.  Above 2,000
tasks bars are gathered in bins, so that the picture of a million tasks is not larger: the fuller a
bin, the darker it is.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from ipyasyncresult.core.task import Status, TaskRecord
from ipyasyncresult.core.timing import format_seconds

__all__ = ["Span", "Timeline", "spans_of", "timeline_svg"]

_MOST_SPANS = 2000
_MOST_BINS = 6000  # of all rows together

_WIDTH, _LEFT, _RIGHT = 800, 70, 10  # pixels
_ROW, _BAR, _AXIS = 18, 14, 24

_COLOURS = {
    Status.DONE: "#4c9f70",
    Status.RUNNING: "#4a90d9",
    Status.FAILED: "#d9534f",
    Status.LOST: "#8e44ad",
}


_NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class Span(NamedTuple):
    """One task on its engine.

    Attributes
    ----------
    engine_id : int or None
    start, end : float
        Seconds, on one clock.
    status : Status
    label : str
    """

    engine_id: int | None
    start: float
    end: float
    status: Status
    label: str


def spans_of(records: Iterable[TaskRecord], now: float) -> list[Span]:
    """The tasks that an engine began to run.

    Parameters
    ----------
    records : iterable of TaskRecord
    now : float
        Seconds since the epoch: until then the unfinished ones run.
    """
    spans = []
    for index, record in enumerate(records):
        if record.started is None:
            continue
        start = record.started
        end = _end(record, now)
        label = f"task {index}" + (f" ({record.label})" if record.label else "")
        spans.append(Span(record.engine_id, start, max(start, end), record.status, label))
    return spans


def _end(record: TaskRecord, now: float) -> float:
    """When it ended, by its engine's clock as far as that is known."""
    if record.duration is not None and record.started is not None:
        return record.started + record.duration
    known = record.completed if record.completed is not None else record.received
    return now if known is None else known


class Timeline:
    """The picture, shown by Jupyter as the value of a cell.

    Parameters
    ----------
    spans : sequence of Span
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans

    def __repr__(self) -> str:
        if not self.spans:
            return "<Timeline: nothing has run>"
        engines = len({span.engine_id for span in self.spans})
        first, last = _limits(self.spans)
        lasted = format_seconds(last - first)
        return f"<Timeline: {len(self.spans):,} tasks on {engines} engines, {lasted}>"

    def _repr_svg_(self) -> str:
        return timeline_svg(self.spans)

    def _repr_html_(self) -> str:
        return f'<div style="overflow-x: auto">{timeline_svg(self.spans)}</div>'


def timeline_svg(spans: Sequence[Span]) -> str:
    """The picture as an SVG document; every label is escaped."""
    first, last = _limits(spans)
    scale = (_WIDTH - _LEFT - _RIGHT) / ((last - first) or 1.0)
    engines = sorted({span.engine_id for span in spans}, key=lambda e: (e is None, e or 0))
    rows = {engine: row * _ROW for row, engine in enumerate(engines)}
    height = len(rows) * _ROW + _AXIS
    body = [_row_name(engine, y) for engine, y in rows.items()]
    body += _axis(last - first, scale, len(rows) * _ROW)
    if len(spans) > _MOST_SPANS:
        count = max(20, min(600, _MOST_BINS // len(rows)))
        body += _binned(spans, rows, scale, count)
    else:
        body += [
            _bar(
                _LEFT + (span.start - first) * scale,
                rows[span.engine_id],
                (span.end - span.start) * scale,
                span.status,
                f"{span.label}: {span.status.value}, {format_seconds(span.end - span.start)}",
            )
            for span in spans
        ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" font-family="sans-serif" font-size="11">'
        f"<title>{len(spans):,} tasks on {len(rows)} engines</title>{''.join(body)}</svg>"
    )


def _limits(spans: Sequence[Span]) -> tuple[float, float]:
    first = min((span.start for span in spans), default=0.0)
    return first, max((span.end for span in spans), default=first)


def _bar(x: float, y: float, width: float, status: Status, title: str, opacity: float = 1) -> str:
    faint = f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
    return (
        f'<rect x="{x:.2f}" y="{y + (_ROW - _BAR) / 2:g}" width="{max(width, 0.5):.2f}" '
        f'height="{_BAR}" fill="{_COLOURS.get(status, "#888888")}"{faint}>'
        f"<title>{_xml(title)}</title></rect>"
    )


def _row_name(engine: int | None, y: float) -> str:
    name = "engine -" if engine is None else f"engine {engine}"
    return _text(_LEFT - 6, y + _ROW - 5, name, "end")


def _text(x: float, y: float, text: str, anchor: str) -> str:
    # Grey reads on light and on dark pages.
    return f'<text x="{x:.1f}" y="{y:g}" text-anchor="{anchor}" fill="#808080">{_xml(text)}</text>'


def _xml(text: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", text))


def _axis(seconds: float, scale: float, y: float) -> list[str]:
    step = _round_step(seconds / 6)
    ticks = []
    for number in range(int(seconds / step) + 1) if step else ():
        x = _LEFT + number * step * scale
        line = f'<path d="M{x:.1f} 0V{y + 4}" stroke="#808080" stroke-opacity="0.3"/>'
        ticks.append(line + _text(x, y + 16, f"{number * step:g} s", "middle"))
    return ticks


def _round_step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, at least `rough`; 0 for 0."""
    if rough <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


class _Bin:
    """What one engine did in one slice of time."""

    __slots__ = ("busy", "tasks")

    def __init__(self) -> None:
        self.busy = 0.0  # seconds
        self.tasks: Counter[Status] = Counter()

    def worst(self) -> Status:
        return next(
            (s for s in (Status.LOST, Status.FAILED, Status.RUNNING) if self.tasks[s]), Status.DONE
        )


def _binned(
    spans: Sequence[Span], rows: dict[int | None, int], scale: float, count: int
) -> list[str]:
    """Bars for `count` slices of time per engine instead of one per task."""
    first, last = _limits(spans)
    width = (last - first) / count or 1.0
    bins: dict[tuple[int | None, int], _Bin] = {}
    for span in spans:
        begin, end = (min(count - 1, int((t - first) / width)) for t in (span.start, span.end))
        for number in range(begin, end + 1):
            left = first + number * width
            one = bins.setdefault((span.engine_id, number), _Bin())
            one.tasks[span.status] += 1
            one.busy += min(span.end, left + width) - max(span.start, left)
    return [
        _bar(
            _LEFT + number * width * scale,
            rows[engine],
            width * scale,
            one.worst(),
            ", ".join(f"{tasks} {status.value}" for status, tasks in one.tasks.items()),
            min(1.0, max(0.2, one.busy / width)),
        )
        for (engine, number), one in bins.items()
    ]
