"""One lane per engine: what it runs, for how long, what it did lately, what it wrote last.  Pure.

Everything is bounded: a strip has at most 32 bins, all of the same width, and when the work
outgrows them, neighbours are merged; of what was written the last lines are kept.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ipyasyncresult.core.outputs import Output, apply_carriage_returns
from ipyasyncresult.core.task import FINAL, Status, TaskRecord

__all__ = ["Lane", "Lanes", "Running", "Tail", "plain_text"]

BINS = 32
_FIRST_WIDTH = 0.1  # seconds
_LINES = 6  # of the last output of an engine
_LONGEST_LINE = 200  # characters
_MOST_TEXT = 4000  # characters of one look at a task's new output
_LEVELS = 8
_LATELY = 1.0  # seconds in which an engine ended something and counts as busy

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def plain_text(text: str, longest: int = _LONGEST_LINE) -> str:
    """One line without colours and control characters, not longer than `longest`."""
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", _ANSI.sub("", text[: 4 * longest]))
    return text if len(text) <= longest else text[: longest - 1] + "…"


class Tail:
    """The last lines that an engine wrote."""

    __slots__ = ("_lines", "_open")

    def __init__(self) -> None:
        self._lines: deque[tuple[str, str]] = deque(maxlen=_LINES)
        self._open = {"stdout": "", "stderr": ""}  # lines without an end

    def write(self, outputs: Sequence[Output]) -> None:
        """Take new outputs of a task, in order."""
        for output in outputs[-4 * _LINES :]:
            if output.kind == "stdout" or output.kind == "stderr":
                self._write_text(output.kind, output.text[-_MOST_TEXT:])
            elif output.kind != "clear_output" and output.data:
                self._lines.append(("display", _name_of(output.data)))

    def _write_text(self, kind: str, text: str) -> None:
        *whole, rest = (self._open[kind] + text).split("\n")
        self._lines.extend((kind, line) for line in map(_as_shown, whole[-_LINES:]) if line)
        # A bar rewrites its line for ever: only its last state is kept.
        self._open[kind] = rest[rest.rfind("\r", 0, -1) + 1 :][-_MOST_TEXT:]

    def end(self) -> None:
        """Its task ended: so do its lines."""
        for kind, text in self._open.items():
            if text:
                self._write_text(kind, "\n")

    def lines(self, most: int) -> list[tuple[str, str]]:
        """Kind and text of the last ones, oldest first."""
        begun = [(kind, line) for kind, text in self._open.items() if (line := _as_shown(text))]
        return [*self._lines, *begun][-most:] if most else []


def _as_shown(line: str) -> str:
    return plain_text(apply_carriage_returns(line)).rstrip()


def _name_of(data: Mapping[str, Any]) -> str:
    text = data.get("text/plain")
    if isinstance(text, str) and text:
        return plain_text(text.partition("\n")[0])
    return f"<{', '.join(sorted(data))}>"


class Running(NamedTuple):
    """A task that an engine runs."""

    record: TaskRecord
    since: float  # seconds since the epoch


class Lane:
    """What is known of one engine.

    Attributes
    ----------
    state : str
        ``busy``, ``idle``, ``stopped`` (by a signal), ``starting`` (a new one takes the place of
        one that died) or ``gone``.
    done, failed : int
        Items that ended here.
    replaced : int
        How often another engine took its place.
    """

    __slots__ = ("busy", "done", "engine_id", "failed", "failures", "last_end", "replaced",
                 "running", "state", "tail", "uuid")  # fmt: skip

    def __init__(self, engine_id: int) -> None:
        self.engine_id: int = engine_id
        self.state: str = "idle"
        self.uuid: str | None = None
        self.replaced: int = 0
        self.done: int = 0
        self.failed: int = 0
        self.last_end: float = 0.0
        self.running: dict[str, Running] = {}
        self.tail: Tail = Tail()
        self.busy: list[float] = [0.0] * BINS  # seconds
        self.failures: list[bool] = [False] * BINS

    def task(self) -> Running | None:
        """What it has been running for the longest time."""
        return next(iter(self.running.values()), None)

    def mark(self, first: float, last: float, weight: float, failed: bool) -> None:
        """It was busy from one place on the strip to another, in bins."""
        first, last = max(0.0, first), min(float(BINS), last)
        number = min(BINS - 1, int(first))
        while number < last:
            overlap = min(last, number + 1) - max(first, number)
            self.busy[number] += weight * max(0.0, overlap)
            number += 1
        if failed:
            self.failures[min(BINS - 1, int(max(0.0, last)))] = True

    def merge(self) -> None:
        """Bins of twice the width."""
        pairs = range(0, BINS, 2)
        half = [0.0] * (BINS // 2)
        self.busy = [(self.busy[i] + self.busy[i + 1]) / 2 for i in pairs] + half
        self.failures = [self.failures[i] or self.failures[i + 1] for i in pairs] + [False] * (
            BINS // 2
        )


class Lanes:
    """All engines of one result.  The owner's lock is held in every method.

    Parameters
    ----------
    began : float
        When the work was submitted, in seconds since the epoch.
    """

    def __init__(self, began: float) -> None:
        self._began = began
        self.width: float = _FIRST_WIDTH
        self._lanes: dict[int, Lane] = {}
        self._where: dict[str, int] = {}  # engine of each task that runs
        self._cursors: dict[str, int] = {}  # outputs of unfinished tasks that were seen

    def __iter__(self) -> Any:
        return iter(sorted(self._lanes.values(), key=lambda lane: lane.engine_id))

    def __len__(self) -> int:
        return len(self._lanes)

    def is_followed(self, record: TaskRecord) -> bool:
        """Whether it was seen running or writing, so that its end must be seen, too."""
        return record.msg_id in self._where or record.msg_id in self._cursors

    # -- what happens ----------------------------------------------------------------------------

    def changed(self, record: TaskRecord, now: float, weight: float = 1.0) -> None:
        """A task began, was given back, or ended; `weight`: it stands for others, too."""
        if record.status is Status.RUNNING:
            self._began_task(record, now)
        elif record.status in FINAL:
            self._end_task(record, now, weight)
        else:
            self._forget(record)

    def _began_task(self, record: TaskRecord, now: float) -> None:
        engine_id = record.engine_id
        if engine_id is not None and self._where.get(record.msg_id) != engine_id:
            self._forget(record)
            since = max(self._began, min(now, record.started or now))
            self._lane(engine_id).running[record.msg_id] = Running(record, since)
            self._where[record.msg_id] = engine_id

    def _end_task(self, record: TaskRecord, now: float, weight: float) -> None:
        engine_id = record.engine_id
        begun = self._forget(record)
        if engine_id is None or record.status is Status.ABORTED:
            return
        lane = self._lane(engine_id)
        end = record.received if record.received is not None else now
        # Engines may have clocks of their own: the duration counts back from our own time.
        lasted = record.duration
        if lasted is None:
            lasted = end - begun.since if begun is not None else 0.0
        self._fit(now)
        first, last = ((t - self._began) / self.width for t in (end - lasted, end))
        lane.mark(first, last, weight, record.failed_items > 0)
        lane.done += round(record.items * weight)
        lane.failed += record.failed_items
        lane.last_end = max(lane.last_end, end)

    def _forget(self, record: TaskRecord) -> Running | None:
        where = self._where.pop(record.msg_id, None)
        return None if where is None else self._lanes[where].running.pop(record.msg_id, None)

    def wrote(self, record: TaskRecord) -> None:
        """A task has more outputs than before."""
        outputs = record.outputs
        if not outputs or record.engine_id is None:
            return
        seen = self._cursors.get(record.msg_id, 0)
        tail = self._lane(record.engine_id).tail
        tail.write(outputs[max(seen, len(outputs) - 100) :])
        if record.status in FINAL:
            self._cursors.pop(record.msg_id, None)
            tail.end()
        else:
            self._cursors[record.msg_id] = len(outputs)

    def engines(self, known: Mapping[int, Mapping[str, Any]], now: float) -> None:
        """What the client knows of its engines now; empty: nothing."""
        for engine_id, about in known.items():
            lane = self._lane(engine_id)
            uuid = about.get("uuid")
            if lane.uuid is not None and uuid != lane.uuid:
                lane.replaced += 1
            lane.uuid = uuid or lane.uuid
        for lane in self._lanes.values():
            lane.state = self._state(lane, known, now)

    @staticmethod
    def _state(lane: Lane, known: Mapping[int, Mapping[str, Any]], now: float) -> str:
        about = known.get(lane.engine_id)
        if about is None and lane.uuid is not None:
            return "gone"
        if about is not None and not about.get("up", True):
            return "starting"
        if about is not None and about.get("stopped"):
            return "stopped"
        return "busy" if lane.running or now - lane.last_end < _LATELY else "idle"

    def _lane(self, engine_id: int) -> Lane:
        lane = self._lanes.get(engine_id)
        if lane is None:
            lane = self._lanes[engine_id] = Lane(engine_id)
        return lane

    def _fit(self, now: float) -> None:
        while now - self._began > BINS * self.width:
            self.width *= 2
            for lane in self._lanes.values():
                lane.merge()

    # -- what is to be seen ----------------------------------------------------------------------

    def strip(self, lane: Lane, now: float) -> str:
        """A character per bin, oldest first: ``0`` to ``8`` how busy, ``a``-``i`` with failures."""
        self._fit(now)
        length = min(BINS, max(1, int((now - self._began) / self.width) + 1))
        busy = lane.busy[:length]
        here = (now - self._began) / self.width
        for running in lane.running.values():
            first = max(0.0, (running.since - self._began) / self.width)
            for number in range(int(first), length):
                busy[number] += max(0.0, min(here, number + 1) - max(first, number))
        last = here - (length - 1)  # the newest bin is not over yet
        if 0.05 < last < 1:
            busy[-1] /= last
        return "".join(
            _CODES[lane.failures[number]][level(share)] for number, share in enumerate(busy)
        )


_CODES = ("012345678", "abcdefghi")


def level(share: float) -> int:
    """How busy, from 0 to 8; a little is not nothing."""
    return 0 if share < 0.01 else min(_LEVELS, 1 + int(share * (_LEVELS - 0.5)))
