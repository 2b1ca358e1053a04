"""``track``: one result over futures that somebody else submitted."""

from __future__ import annotations

import concurrent.futures
import functools
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Self

from ipyasyncresult.backends.client import BackendClient
from ipyasyncresult.client.reattach import forget_client
from ipyasyncresult.core.capabilities import Capabilities
from ipyasyncresult.core.mapresult import AsyncMapResult
from ipyasyncresult.core.outcome import make_remote_error
from ipyasyncresult.core.outputs import Output
from ipyasyncresult.core.partition import Map
from ipyasyncresult.core.task import Status, TaskRecord
from ipyasyncresult.errors import TaskAborted
from ipyasyncresult.worker.failures import describe_failure

__all__ = ["CAPABILITIES", "TrackedResult", "track"]

CAPABILITIES = Capabilities(
    "tracked futures",
    outputs=False,
    rich_outputs=False,
    live_outputs=False,
    cells=False,
    addressed_engines=False,
    interrupt_running=False,
    stored_results=False,
    retry=False,
    time_limits=False,
)


_LATE_OUTPUTS = 1.0
"""Seconds after a result of ipyparallel's in which its outputs must come."""


def track(futures: Iterable[Any] | Any, *, fname: str = "futures") -> TrackedResult:
    """A result over futures submitted elsewhere, with progress, errors and the widget.

    ``with track(futures) as ar:`` shows progress while the block runs, and waits at its end.

    Parameters
    ----------
    futures : iterable of futures, or one
        Of ``concurrent.futures`` (any executor's), of Dask, or AsyncResults of ipyparallel.
    fname : str
        What they are called on the screen.

    Raises
    ------
    TypeError
        When one of them is no future.

    Examples
    --------
    >>> with ProcessPoolExecutor() as pool:
    ...     futures = [pool.submit(measure, file) for file in files]
    ...     with track(futures) as ar:
    ...         pass
    >>> ar.ok, ar.failed
    """
    single = hasattr(futures, "add_done_callback")
    return _Tracker().over([futures] if single else list(futures), fname)


class TrackedResult(AsyncMapResult):
    """What :func:`track` gives: an AsyncMapResult that is a context manager, too."""

    __slots__ = ("_live",)

    _live: AbstractContextManager[None]

    def __enter__(self) -> Self:
        self._live = self.show_live()
        self._live.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        try:
            if raised[0] is None:
                self.wait()
        finally:
            self._live.__exit__(*raised)  # type: ignore[arg-type]


class _Values:
    """A task's ``raw`` is ``(value, error)``, objects of this process."""

    def decode(self, record: TaskRecord) -> None:
        raw = record.raw
        if raw is None:  # another thread was faster
            return
        value, error = raw
        if error is None:
            record.value = [value]
        else:
            made = make_remote_error(record, describe_failure(error))
            made.__cause__ = error
            record.error = made
        record.raw = None


class _Tracker(BackendClient):
    """The client of tracked futures: it can tell and take back, no more."""

    def __init__(self) -> None:
        super().__init__(CAPABILITIES, "tracked", codec=_Values())
        # It is nobody's engines, and runs nothing here.
        forget_client(self)
        self._leave_home()
        self._futures: dict[str, Any] = {}

    def engine_count(self) -> int:
        return 1

    def _shut_down(self, targets: Any, hub: bool, block: bool) -> None:
        """Nothing: the futures are others'."""

    def over(self, futures: list[Any], fname: str) -> TrackedResult:
        for position, future in enumerate(futures):
            if not callable(getattr(future, "add_done_callback", None)):
                kind = type(future).__name__
                raise TypeError(f"futures must be futures; number {position} is {kind} {future!r}")
        records = [self.ledger.submit(self.new_msg_id()) for _ in futures]
        result = TrackedResult.over_map(self, records, Map(), fname)
        for record, future in zip(records, futures, strict=True):
            self._known[record.msg_id] = record
            self._futures[record.msg_id] = future
            future.add_done_callback(functools.partial(self._take, record.msg_id))
        return result

    def _take(self, msg_id: str, future: Any) -> None:
        """Any thread.  Nothing may escape: nobody would catch it."""
        try:
            is_waiting = _wait_for_outputs(
                future, functools.partial(self._take_now, msg_id, future)
            )
        except Exception:  # noqa: BLE001  then without them
            is_waiting = False
        if not is_waiting:
            self._take_now(msg_id, future)

    def _take_now(self, msg_id: str, future: Any) -> None:
        """Once per future: the second call finds nothing to do."""
        if self._futures.pop(msg_id, None) is None:
            return
        value: Any = None
        error: BaseException | None = None
        outputs: list[Output] = []
        try:
            if future.cancelled():
                error = concurrent.futures.CancelledError()
            else:
                value = future.result()
                outputs = _outputs_of(future, self.ledger.clock)
        except BaseException as raised:  # noqa: BLE001  whatever the task raised
            error = raised
        lost = None if error is None else _lost(future, error, msg_id)
        with self.ledger.batch() as batch:
            batch.output(msg_id, outputs)
            if lost is not None:
                self._lose(batch, msg_id, lost)
            else:
                status = Status.DONE if error is None else Status.FAILED
                batch.finish(msg_id, status, raw=(value, error))

    def _abort(self, msg_ids: list[str]) -> None:
        for msg_id in msg_ids:
            future = self._futures.get(msg_id)
            if future is not None:
                future.cancel()


def _lost(future: Any, error: BaseException, msg_id: str) -> BaseException | None:
    """The error of a task that did not come to an end of its own; None for what it raised."""
    if isinstance(error, concurrent.futures.CancelledError):
        return TaskAborted(msg_id)
    if hasattr(future, "msg_ids"):
        from ipyasyncresult.backends.ipyparallel.translation import translate

        return translate(error, msg_id)
    return None


def _wait_for_outputs(future: Any, take: Callable[[], None]) -> bool:
    """Call `take` when the outputs of an AsyncResult of ipyparallel's are there, or too late.

    Its callbacks come in the thread that receives outputs: there nobody may wait for them.
    """
    if not hasattr(future, "msg_ids") or future.wait_for_output(0):
        return False
    loop = future._client._io_loop
    loop.add_callback(loop.call_later, _LATE_OUTPUTS, take)
    future._output_future.add_done_callback(lambda _: take())
    return True


def _outputs_of(future: Any, clock: Callable[[], float]) -> list[Output]:
    """What an AsyncResult of ipyparallel's has of outputs; other futures have none."""
    if not hasattr(future, "msg_ids"):
        return []
    found = future.metadata
    outputs: list[Output] = []
    for about in found if isinstance(found, list) else [found]:
        outputs += [
            Output(name, clock(), about[name]) for name in ("stdout", "stderr") if about[name]
        ]
        outputs += [
            Output("display_data", clock(), data=shown["data"]) for shown in about["outputs"]
        ]
    return outputs
