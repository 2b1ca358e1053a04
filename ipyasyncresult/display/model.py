"""What a live view shows: tasks that changed in, a small dict out.  No screen, no thread.

The size of the dict does not depend on the number of tasks, and an update costs what changed since
the last one; of very many changes a sample is looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ipyasyncresult.core.task import TaskRecord
from ipyasyncresult.display.failing import FailureGroup, Failures
from ipyasyncresult.display.lanes import Lane, Lanes, plain_text
from ipyasyncresult.display.progress import Progress, ProgressModel
from ipyasyncresult.display.shown import ShownResult

__all__ = ["LiveModel", "Look", "state_of"]

_SAMPLE = 500  # of the tasks that ended between two looks
_MOST_WRITERS = 200  # of the tasks that wrote between two looks, the last
_MOST_LANES = 256
_FEW_LANES = 16  # up to which there is room for lines and long names
_LONGEST_NAME = 120  # characters


@dataclass(frozen=True, slots=True)
class LaneLook:
    """One engine at one moment; see :class:`~ipyasyncresult.display.lanes.Lane`."""

    engine_id: int
    state: str
    what: str
    seconds: float | None  # for how long
    done: int
    failed: int
    replaced: int
    strip: str
    lines: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Look:
    """Everything that is to be seen of a result at one moment; its size is bounded.

    Attributes
    ----------
    name : str
    progress : Progress
    aborted : int
        Of the failed items: taken back before they ran.
    lanes : list of LaneLook
    bin_seconds : float
        Width of a bin of the strips.
    failures : list of FailureGroup
        The largest groups.
    cannot : dict
        Why ``stop``, ``interrupt`` or ``retry`` is not possible now; empty where it is.
    """

    name: str
    progress: Progress
    aborted: int
    lanes: list[LaneLook]
    bin_seconds: float
    failures: list[FailureGroup]
    cannot: dict[str, str]

    @property
    def failed(self) -> int:
        """Items that failed, without those that were taken back."""
        return max(0, self.progress.failed - self.aborted)

    def engines_in_words(self, most: int = 3) -> str:
        """``'0: item 12, 1: idle'``, for where there is one line."""
        shown = [f"{lane.engine_id}: {lane.what or lane.state}" for lane in self.lanes[:most]]
        if len(self.lanes) > most:
            shown.append(f"{len(self.lanes) - most} more")
        return ", ".join(shown)


class LiveModel:
    """Looks at one result again and again.  One thread at a time.

    Parameters
    ----------
    result : ShownResult
    clock : callable
        Seconds, monotonic.
    """

    def __init__(self, result: ShownResult, clock: Callable[[], float] = time.monotonic) -> None:
        self.result = result
        elapsed = result.elapsed
        self._numbers = ProgressModel(clock, elapsed=elapsed)
        self._lanes = Lanes(result.now() - elapsed)
        self._places = result.places()
        self._failures = Failures(self._places, result.failures_in)
        self._journal = result.watch()
        self._twice: set[TaskRecord] = set()  # their end may be in the journal once more
        self._names: dict[str, str] = {}  # of the tasks that run

    def close(self) -> None:
        """Follow no longer."""
        self._journal.stop()

    def retried(self) -> None:
        """The failed tasks of the result were replaced by new ones."""
        self._failures.clear()
        self._places.follow_retry(self.result.records)

    def look(self) -> Look:
        """How it is now."""
        now = self.result.now()
        self._take(now)
        self._lanes.engines(self.result.engine_states(), now)
        numbers = self._numbers.update(self.result.counts(), self.result.engine_count())
        progress = replace(numbers, elapsed=self.result.elapsed)  # stands still at the end
        lanes = [self._lane(lane, now) for lane in list(self._lanes)[:_MOST_LANES]]
        return Look(
            name=plain_text(self.result.fname, _LONGEST_NAME),
            progress=progress,
            aborted=min(self._failures.aborted, progress.failed),
            lanes=lanes,
            bin_seconds=self._lanes.width,
            failures=self._failures.groups(),
            cannot=self._cannot(progress),
        )

    # -- what changed ----------------------------------------------------------------------------

    def _take(self, now: float) -> None:
        changed = self._journal.take()
        fresh = [record for record in dict.fromkeys(changed) if record not in self._twice]
        lanes = self._lanes
        # Those that run, wrote or failed are seen one by one; of those that just ended, some.
        short = [
            record
            for record in fresh
            if record.received is not None and not lanes.is_followed(record)
        ]
        followed = [
            record for record in fresh if record.received is None or lanes.is_followed(record)
        ]
        self._failures.add([record for record in fresh if record.failed_items])
        step = max(1, len(short) // _SAMPLE)
        for index in range(0, len(short) - step + 1, step):
            # One of each `step`, not always the same: engines may take turns.
            lanes.changed(short[index + (index // step) * 7919 % step], now, step)
        for record in followed:
            lanes.changed(record, now)
        for record in [record for record in fresh if record.outputs][-_MOST_WRITERS:]:
            lanes.wrote(record)
        ended = [record for record in followed if record.received is not None]
        for record in ended:
            self._names.pop(record.msg_id, None)
        self._twice = {*ended, *(r for r in short if r.outputs)}

    # -- what is to be seen ----------------------------------------------------------------------

    def _lane(self, lane: Lane, now: float) -> LaneLook:
        few = len(self._lanes) <= _FEW_LANES
        task = lane.task()
        what = ""
        if task is not None:
            msg_id = task.record.msg_id
            what = self._names.get(msg_id) or self._name(task.record)
            self._names[msg_id] = what
            if len(lane.running) > 1:
                what = f"{what} and {len(lane.running) - 1} more"
        return LaneLook(
            engine_id=lane.engine_id,
            state=lane.state,
            what=what,
            seconds=max(0.0, now - task.since) if task is not None else None,
            done=lane.done,
            failed=lane.failed,
            replaced=lane.replaced,
            strip=self._lanes.strip(lane, now),
            lines=lane.tail.lines(6 if few else 1),
        )

    def _name(self, record: TaskRecord) -> str:
        return plain_text(self._places.task(record).partition("\n")[0], 80)

    def _cannot(self, progress: Progress) -> dict[str, str]:
        can = self.result.capabilities
        reasons = {}
        if not can.abort_queued:
            reasons["stop"] = f"{can.backend} cannot take queued tasks back"
        elif not progress.queued:
            reasons["stop"] = "nothing is queued"
        if not can.interrupt_running:
            reasons["interrupt"] = f"{can.backend} cannot interrupt running tasks"
        elif progress.done == progress.total:
            reasons["interrupt"] = "nothing runs"
        if not can.retry:
            reasons["retry"] = f"{can.backend} cannot run failed tasks again"
        elif not progress.failed:
            reasons["retry"] = "nothing has failed"
        elif progress.done == progress.total:
            reasons["retry"] = "the result has ended: retry_failed() gives a new one"
        return reasons


def state_of(
    look: Look, *, answer: tuple[int, str] = (0, ""), reach: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The look as JSON, of some KB at most: what the widget's page paints."""
    progress = look.progress
    few = len(look.lanes) <= _FEW_LANES
    return {
        "name": look.name,
        "total": progress.total,
        "done": progress.done - progress.failed,
        "running": progress.running,
        "queued": progress.queued,
        "failed": look.failed,
        "aborted": look.aborted,
        "engines": progress.engines,
        "elapsed": round(progress.elapsed, 2),
        "rate": progress.rate,
        "remaining": None if progress.remaining is None else round(progress.remaining, 1),
        "bin": look.bin_seconds,
        "lanes": [
            [
                lane.engine_id,
                lane.state,
                lane.what if few else lane.what[:40],
                None if lane.seconds is None else round(lane.seconds, 1),
                lane.done,
                lane.failed,
                lane.replaced,
                lane.strip,
                lane.lines if few else [(kind, text[:48]) for kind, text in lane.lines],
            ]
            for lane in look.lanes
        ],
        "failures": [
            {
                "count": group.count,
                "title": group.title,
                "place": group.place,
                "engine": group.engine_id,
                "inputs": group.inputs,
                "traceback": group.traceback,
            }
            for group in look.failures
        ],
        "cannot": look.cannot,
        "answer": list(answer),
        "reach": reach,
    }
