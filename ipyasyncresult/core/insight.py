"""The looking side of a result: metadata, timing, outputs, pictures.  Nothing here waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

from ipyasyncresult.core import timing
from ipyasyncresult.core.arguments import check_callable
from ipyasyncresult.core.failure import Failure
from ipyasyncresult.core.frames import frame_of
from ipyasyncresult.core.ledger import Ledger
from ipyasyncresult.core.metadata import METADATA_KEYS, MetadataList, metadata_of, value_of
from ipyasyncresult.core.outcome import error_of, failures_in
from ipyasyncresult.core.places import Places
from ipyasyncresult.core.presenter import check_query, presenter
from ipyasyncresult.core.tally import Journal, Tally
from ipyasyncresult.core.task import Counts, TaskOutputs, TaskRecord
from ipyasyncresult.core.waiting import check_timeout
from ipyasyncresult.errors import TimeoutError

if TYPE_CHECKING:
    from ipyasyncresult.core.asyncresult import AsyncResult

__all__ = ["Insight"]


class Insight:
    """What can be looked at: the records of a result.  All methods: any thread."""

    __slots__ = ()

    _ledger: Ledger
    _tally: Tally
    _single: bool
    records: list[TaskRecord]
    fname: str

    # -- metadata --------------------------------------------------------------------------------

    @property
    def metadata(self) -> Any:
        """What is known about the task (a :class:`Metadata`), or a list of it; a snapshot."""
        found = MetadataList(metadata_of(self._with_error(record)) for record in self.records)
        return found[0] if self._single else found

    def _metadata_entry(self, key: str) -> Any:
        records = self.records
        if key == "error":
            records = [self._with_error(record) for record in records]
        found = [value_of(record, key) for record in records]
        return found[0] if self._single else found

    def _with_error(self, record: TaskRecord) -> TaskRecord:
        # The error of a failed task is made when somebody asks for it.
        if record.failed_items and record.error is None:
            error_of(self._ledger.codec, record)
        return record

    def __getattr__(self, name: str) -> Any:
        # IPython asks every object for _repr_html_, _ipython_display_ and more.
        if name[:1] != "_" and name in METADATA_KEYS:
            return self._metadata_entry(name)
        text = f"{type(self).__name__!r} object has no attribute {name!r}"
        raise AttributeError(text, name=name, obj=self)  # Python says what was meant

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *METADATA_KEYS]

    def to_records(self) -> list[dict[str, Any]]:
        """One plain dict per task, times included: ``pandas.DataFrame(...)`` reads the list."""
        rows = []
        for index, record in enumerate(self.records):
            row: dict[str, Any] = {"index": index, **metadata_of(self._with_error(record))}
            row["duration"] = record.duration
            row["items"] = record.items
            rows.append(row)
        return rows

    def to_dataframe(self) -> Any:
        """:meth:`to_records` as a ``pandas.DataFrame``, a row per task.

        Raises
        ------
        ImportError
            When pandas is not installed.
        """
        return frame_of(self.to_records())

    # -- progress and timing ---------------------------------------------------------------------

    @property
    def progress(self) -> int:
        """How many tasks (items, for a map) have ended.  Costs the same for ten and a million."""
        return self._tally.finished

    def counts(self) -> Counts:
        """How many tasks (items) there are, have ended, failed, run."""
        return self._tally.counts()

    @property
    def elapsed(self) -> float:
        """Seconds since the first submission; stands still at the end."""
        if not self._tally.left:
            return self.wall_time or 0.0
        return max(0.0, self._ledger.clock() - self._tally.submitted)

    @property
    def serial_time(self) -> float:
        """Seconds of computation, summed over the tasks, by the engines' monotonic clocks."""
        return timing.serial_time(self.records)

    @property
    def wall_time(self) -> float | None:
        """Seconds from the first submission to the last result; None before the end."""
        return timing.wall_time(self.records)

    @staticmethod
    def timedelta(
        start: Any, end: Any, start_key: Callable[..., Any] = min, end_key: Callable[..., Any] = max
    ) -> float:
        """Seconds between two sets of time stamps, such as ``ar.submitted`` and ``ar.received``.

        By default from the earliest of the first to the latest of the second.

        Parameters
        ----------
        start, end : datetime or list of datetime
        start_key, end_key : callable
            Which one counts of several.

        Raises
        ------
        ValueError
            When one of the sets has no time stamp yet.
        """
        return timing.timedelta(start, end, start_key, end_key)

    def summary(self) -> str:
        """One line: wall, compute, speed-up, busy per cent, failures, the slowest task."""
        return timing.summary(self.records, self.elapsed, self._describe)

    def _describe(self, index: int) -> str:
        label = self.records[index].label
        return f"task {index}" + (f" ({label})" if label else "")

    def places(self) -> Places:
        """Names of tasks and items, by record."""
        return Places(self.records)

    # -- outputs ---------------------------------------------------------------------------------

    def tasks(self) -> list[TaskOutputs]:
        """A frozen look at every task and its outputs."""
        return [
            TaskOutputs(i, r.msg_id, r.engine_id, r.label, r.status, tuple(r.outputs or ()))
            for i, r in enumerate(self.records)
        ]

    def follow(self, callback: Callable[[Sequence[TaskRecord]], None]) -> Callable[[], None]:
        """Call with the tasks whose outputs or status changed, after every batch of messages.

        Calls come one after the other on a thread of the client.  Returns what stops them: after
        that returned, no call is under way.
        """
        check_callable(callback, "callback")
        return self._ledger.follow(self._tally, callback)

    def watch(self) -> Journal:
        """A journal of the tasks that change, for who looks now and then."""
        return self._ledger.watch(self._tally, self.records)

    def now(self) -> float:
        """What time it is by the clock of the records, in seconds since the epoch."""
        return self._ledger.clock()

    def failures_in(self, record: TaskRecord, limit: int) -> list[tuple[int, Failure]]:
        """What failed in a finished task, as text, by position in the task."""
        return failures_in(self._ledger.codec, record, limit)

    def display_outputs(
        self,
        groupby: str = "type",
        *,
        only: str | None = None,
        engine: int | Collection[int] | None = None,
        grep: str | None = None,
        result_only: bool = False,
        timeout: float | None = -1,
    ) -> None:
        """Republish the outputs of the computation, also of failed tasks, as often as you like.

        Parameters
        ----------
        groupby : str
            ``'type'``: all stdout, then all stderr, then displays. ``'engine'``: engine by engine.
            ``'order'``: as type, but the first display of every engine, then the second, ...
            ``'time'``: as it happened. ``'task'``: task by task.
        only : str, optional
            ``'failed'``: only tasks that did not end well.
        engine : int or collection of int, optional
            Only what these engines ran.
        grep : str, optional
            Only lines and displays whose text matches this regular expression.
        result_only : bool
            Only the ``Out[n]`` of cells.
        timeout : float, optional
            Seconds to wait for the end first; then what is there is shown.

        Raises
        ------
        ValueError, TypeError
            Naming the argument and what it may be.
        """
        query = check_query(groupby, only, engine, grep, result_only=result_only)
        self.wait(timeout)
        presenter().display_outputs(self.tasks(), query)

    def stream_output(self) -> AbstractContextManager[None]:
        """Within ``with ar.stream_output():`` outputs are shown as they come.

        What is there already comes first; nothing comes twice, nothing is left out.
        """
        return presenter().stream_output(cast("AsyncResult", self))

    def show_live(self) -> AbstractContextManager[None]:
        """Within ``with ar.show_live():`` progress is shown while the caller does other things.

        What has not ended when the context does is shown on, until it has.
        """
        return presenter().show_live(cast("AsyncResult", self))

    def wait_interactive(self, interval: float = 1.0, timeout: float | None = None) -> None:
        """Wait and show progress.

        Parameters
        ----------
        interval : float
            Seconds between two updates of a bar in a terminal.  A widget keeps its own pace.
        timeout : float, optional
            Seconds; None and -1 wait for ever.

        Raises
        ------
        TimeoutError
            When `timeout` passed before the end.  The tasks go on.
        """
        seconds = check_timeout(interval, "interval")
        if seconds is None or seconds == 0:
            raise ValueError(f"interval must be seconds > 0, not {interval}")
        limit = check_timeout(timeout)
        began = time.monotonic()
        try:
            ended = presenter().wait_interactive(cast("AsyncResult", self), seconds, limit)
        except KeyboardInterrupt as interrupt:  # between two waits, perhaps
            self._say_what_goes_on(interrupt)
            raise
        if not ended:
            done, total = self.progress, self._tally.total
            waited = timing.format_seconds(time.monotonic() - began)
            raise TimeoutError(f"{done} of {total} done after {waited}; the rest goes on")

    def timeline(self) -> Any:
        """A picture: who ran what when."""
        return presenter().timeline(cast("AsyncResult", self))

    def failures(self, limit: int = 10) -> list[tuple[int, str]]:
        """Position and one-line text of the first failed tasks, at most `limit`."""
        found = []
        for index, record in enumerate(self.records):
            if record.failed_items:
                error = error_of(self._ledger.codec, record)
                found.append((index, str(error).partition("\n")[0]))
                if len(found) == limit:
                    break
        return found

    def __repr__(self) -> str:
        counts = self.counts()
        state = f"{counts.finished}/{counts.total}" if self._tally.left else "finished"
        failed = f", {counts.failed} failed" if counts.failed else ""
        return f"<{type(self).__name__}({self.fname}): {state}{failed}>"

    def _repr_html_(self) -> str | None:
        return presenter().html(cast("AsyncResult", self))

    def _ipython_display_(self) -> None:
        # As the last line of a cell: live while it is pending.
        if not presenter().show(cast("AsyncResult", self)):
            raise NotImplementedError("text and HTML will do")
