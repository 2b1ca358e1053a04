"""Who ran what when: spans to a picture.  Pure.

The first row shows how many tasks waited, then comes a row per engine with a bar per task, coloured
by how it ended, with its name on hover; a thin line after a bar is the time until its result was
here.  Above 2,000 tasks bars are gathered in bins, so that the picture of a million tasks is not
larger: the fuller a bin, the darker it is.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

from ipyasyncresult.core.task import Status, TaskRecord
from ipyasyncresult.core.timing import format_seconds

__all__ = ["Span", "Timeline", "spans_of", "timeline_svg"]

_MOST_SPANS = 2000
_MOST_BINS = 6000  # of all rows together

_WIDTH, _LEFT, _RIGHT = 800, 70, 10  # pixels
_ROW, _BAR, _AXIS, _LEGEND = 18, 14, 22, 18
_POINTS = 300  # of the curve of waiting tasks
_WAITING, _TRANSFER, _OTHER = "#9e9e9e", "#e0a030", "#888888"

_COLOURS = {
    Status.DONE: "#4c9f70",
    Status.RUNNING: "#4a90d9",
    Status.FAILED: "#d9534f",
    Status.LOST: "#8e44ad",
}
_BAD = {_COLOURS[Status.FAILED], _COLOURS[Status.LOST]}

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
    submitted, received : float or None
        When it was asked for, and when its result was here.
    """

    engine_id: int | None
    start: float
    end: float
    status: Status
    label: str
    submitted: float | None = None
    received: float | None = None


def spans_of(
    records: Sequence[TaskRecord], now: float, name: Callable[[TaskRecord], str] | None = None
) -> list[Span]:
    """The tasks that an engine began to run.

    Parameters
    ----------
    records : sequence of TaskRecord
    now : float
        Seconds since the epoch: until then the unfinished ones run.
    name : callable, optional
        Names a task; not asked for more tasks than can be seen one by one.
    """
    spans = []
    for index, record in enumerate(records):
        start = record.started
        if start is None:
            continue
        end = max(start, _end(record, now))
        if name is not None and len(records) <= _MOST_SPANS:
            label = name(record)
        else:
            label = f"task {index}" + (f" ({record.label})" if record.label else "")
        spans.append(
            Span(
                record.engine_id,
                start,
                end,
                record.status,
                label,
                record.submitted,
                record.received,
            )
        )
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
    rows = {engine: row * _ROW for row, engine in enumerate(engines, start=1)}
    bottom = (len(rows) + 1) * _ROW
    body = [_row_name(engine, y) for engine, y in rows.items()]
    body += _axis(last - first, scale, bottom)
    body += _waiting(spans, first, last, scale)
    if len(spans) > _MOST_SPANS:
        count = max(20, min(600, _MOST_BINS // len(rows)))
        body += _binned(spans, rows, scale, count)
    else:
        for span in spans:
            body += _of_one(span, first, rows[span.engine_id], scale)
    body += _legend(spans, bottom + _AXIS)
    height = bottom + _AXIS + _LEGEND
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" font-family="sans-serif" font-size="11">'
        f"<title>{len(spans):,} tasks on {len(rows)} engines</title>{''.join(body)}</svg>"
    )


def _of_one(span: Span, first: float, y: float, scale: float) -> list[str]:
    """The bar of a task, and the line from its end to when its result was here."""
    said = [f"{span.label}: {span.status.value}, {format_seconds(span.end - span.start)}"]
    if span.submitted is not None and span.start > span.submitted:
        said.append(f"waited {format_seconds(span.start - span.submitted)}")
    end = _LEFT + (span.end - first) * scale
    drawn = []
    if span.received is not None and span.received > span.end:
        said.append(f"transfer {format_seconds(span.received - span.end)}")
        drawn.append(_line(end, y, (span.received - span.end) * scale))
    start = _LEFT + (span.start - first) * scale
    return [_bar(start, y, end - start, span.status, ", ".join(said)), *drawn]


def _line(x: float, y: float, width: float, opacity: float = 1) -> str:
    faint = f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
    return (
        f'<path d="M{x:.2f} {y + _ROW - 4:g}h{width:.2f}v2h{-width:.2f}z" '
        f'fill="{_TRANSFER}"{faint}/>'
    )


def _waiting(spans: Sequence[Span], first: float, last: float, scale: float) -> list[str]:
    """The first row: how many tasks waited, as a curve."""
    waits = [(s.submitted, s.start) for s in spans if s.submitted is not None]
    if not waits or last <= first:
        return []
    width = (last - first) / _POINTS
    steps = [0] * (_POINTS + 2)
    for submitted, start in waits:
        begin, end = (int((moment - first) / width) for moment in (submitted, start))
        if end > begin:
            steps[min(_POINTS, max(0, begin))] += 1
            steps[min(_POINTS + 1, max(0, end))] -= 1
    counts = list(itertools.accumulate(steps[: _POINTS + 1]))
    most = max(counts)
    if not most:
        return []
    points = []
    for number, count in enumerate(counts):
        x = _LEFT + number * width * scale
        points.append(f"L{x:.1f} {_ROW - 2 - count / most * _BAR:.1f}")
    right = _LEFT + _POINTS * width * scale
    return [
        _text(_LEFT - 6, _ROW - 5, "waiting", "end"),
        (
            f'<path d="M{_LEFT} {_ROW - 2}{"".join(points)}L{right:.1f} {_ROW - 2}z" '
            f'fill="{_WAITING}" fill-opacity="0.55">'
            f"<title>up to {most:,} tasks waited</title></path>"
        ),
    ]


_NAMES = {
    Status.DONE: "done",
    Status.RUNNING: "running",
    Status.FAILED: "failed",
    Status.LOST: "lost",
}


def _legend(spans: Sequence[Span], y: float) -> list[str]:
    """Which colour is what, for those that are there."""
    there = {span.status for span in spans}
    entries = [(_COLOURS[status], name) for status, name in _NAMES.items() if status in there]
    if any(span.received is not None and span.received > span.end for span in spans):
        entries.append((_TRANSFER, "transfer of the result"))
    drawn, x = [], float(_LEFT)
    for colour, name in entries:
        drawn.append(f'<path d="M{x:g} {y + 3:g}h8v8h-8z" fill="{colour}"/>')
        if colour in _BAD:
            drawn.append(_gap(f"{x:g}", y + 3, "8", 8))
        drawn.append(_text(x + 13, y + 11, name, "start"))
        x += 30 + 6.2 * len(name)
    return drawn


def _limits(spans: Sequence[Span]) -> tuple[float, float]:
    """From the first submission to the last result."""
    first = min(
        (s.start if s.submitted is None else min(s.submitted, s.start) for s in spans), default=0.0
    )
    return first, max((max(span.end, span.received or span.end) for span in spans), default=first)


def _bar(x: float, y: float, width: float, status: Status, title: str, opacity: float = 1) -> str:
    faint = f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
    colour = _COLOURS.get(status, _OTHER)
    left, top, wide = f"{x:.2f}", y + (_ROW - _BAR) / 2, f"{max(width, 0.5):.2f}"
    bar = (
        f'<rect x="{left}" y="{top:g}" width="{wide}" '
        f'height="{_BAR}" fill="{colour}"{faint}>'
        f"<title>{_xml(title)}</title></rect>"
    )
    return bar + _gap(left, top, wide, _BAR) if colour in _BAD else bar


def _gap(left: str, top: float, wide: str, height: float) -> str:
    """What did not end well is a double line: red and green are one to many."""
    high = height / 3
    return (
        f'<path d="M{left} {top + high:.1f}h{wide}v{high:.1f}h-{wide}z" fill="#fff" '
        'pointer-events="none"/>'
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

    __slots__ = ("busy", "tasks", "transfer")

    def __init__(self) -> None:
        self.busy = 0.0  # seconds
        self.transfer = 0.0  # seconds
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
            if number == end and span.received is not None:
                one.transfer += max(0.0, span.received - span.end)
    drawn = []
    for (engine, number), one in bins.items():
        x, y = _LEFT + number * width * scale, rows[engine]
        said = ", ".join(f"{tasks} {status.value}" for status, tasks in one.tasks.items())
        share = min(1.0, max(0.2, one.busy / width))
        drawn.append(_bar(x, y, width * scale, one.worst(), said, share))
        if one.transfer > 0.05 * width:
            drawn.append(_line(x, y, width * scale, min(1.0, one.transfer / width)))
    return drawn
