"""``track``: one result over futures that somebody else submitted."""

from __future__ import annotations

import concurrent.futures
import functools
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self

from ipyasyncresult.backends.client import BackendClient
from ipyasyncresult.backends.followed import FollowedFutures, kind_of
from ipyasyncresult.backends.nudging import nudge_for, pools_of
from ipyasyncresult.backends.recurring import Recurring
from ipyasyncresult.client.reattach import forget_client
from ipyasyncresult.core.capabilities import Capabilities
from ipyasyncresult.core.mapresult import AsyncMapResult
from ipyasyncresult.core.outcome import make_remote_error
from ipyasyncresult.core.outputs import Output
from ipyasyncresult.core.partition import Map
from ipyasyncresult.core.task import Status, TaskRecord
from ipyasyncresult.errors import CapabilityError
from ipyasyncresult.worker.failures import keep_failure

if TYPE_CHECKING:
    from ipyasyncresult.client.targets import Targets

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


_ASKING = (__name__, "concurrent.futures._base")
"""Modules whose frames a future adds to an error when it is asked for its result."""


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
    several = isinstance(futures, Iterable) and not hasattr(futures, "add_done_callback")
    return _Tracker().over(list(futures) if several else [futures], fname)


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
            record.error = make_remote_error(record, keep_failure(error))
        record.raw = None


class _Tracker(BackendClient):
    """The client of tracked futures: it can tell and take back, no more."""

    def __init__(self) -> None:
        super().__init__(CAPABILITIES, "tracked", codec=_Values())
        # It is nobody's engines, and runs nothing here.
        forget_client(self)
        self._leave_home()
        self._futures: dict[str, tuple[Any, FollowedFutures]] = {}  # those that have not ended

    def engine_count(self) -> int:
        return 1

    def load_balanced_view(self, targets: Targets = None, **flags: Any) -> Any:
        """Refused."""
        raise CapabilityError(
            f"{CAPABILITIES.backend} cannot give a view, nothing can be submitted here: "
            "ipyasyncresult.connect(x) gives a client for that, of an executor or a cluster"
        )

    direct_view = load_balanced_view

    def _shut_down(self, targets: Any, hub: bool, block: bool) -> None:
        """Nothing: the futures are others'."""

    def over(self, futures: list[Any], fname: str) -> TrackedResult:
        for position, future in enumerate(futures):
            if not callable(getattr(future, "add_done_callback", None)):
                kind = type(future).__name__
                raise TypeError(f"futures must be futures; number {position} is {kind} {future!r}")
        records = [self.ledger.submit(self.new_msg_id()) for _ in futures]
        for record in records:
            self._known.add(record)
        result = TrackedResult.over_map(self, records, Map(), fname)
        kinds: dict[type[FollowedFutures], FollowedFutures] = {}
        for record, future in zip(records, futures, strict=True):
            which = kind_of(future)
            self._futures[record.msg_id] = future, kinds.setdefault(which, which())
        looks = [
            Recurring(functools.partial(self._look, kind))
            for kind in kinds.values()
            if kind.may_never_end
        ]
        looks += [
            nudge
            for pool in pools_of(future for future in futures if not future.done())
            if (nudge := nudge_for(pool, self.ledger.has_outstanding)) is not None
        ]
        for record, future in zip(records, futures, strict=True):
            future.add_done_callback(functools.partial(self._take, record.msg_id))
        for look in looks:
            look.begin()
        return result

    # -- any thread: nothing may escape, nobody would catch it -----------------------------------

    def _take(self, msg_id: str, future: Any) -> None:
        found = self._futures.get(msg_id)
        if found is None:
            return
        take = functools.partial(self._take_now, msg_id)
        try:
            found[1].call_at_end(future, take)
        except Exception:  # noqa: BLE001  then without what would have come later
            take()

    def _take_now(self, msg_id: str) -> None:
        """Once per future: the second call finds nothing to do."""
        found = self._futures.pop(msg_id, None)
        if found is None:
            return
        future, kind = found
        value: Any = None
        error: BaseException | None = None
        outputs: list[Output] = []
        try:
            if future.cancelled():
                error = concurrent.futures.CancelledError()
            else:
                value = future.result()
                outputs = kind.outputs(future, self.ledger.clock)
        except BaseException as raised:  # noqa: BLE001  whatever the task raised
            error = _as_it_was_raised(raised)
        lost = None if error is None else kind.lost(future, error, msg_id)
        with self.ledger.batch() as batch:
            record = batch.get(msg_id)
            if record is not None:
                record.engine_id = kind.engine(future)
            batch.output(msg_id, outputs)
            if lost is not None:
                self._lose(batch, msg_id, lost)
            else:
                status = Status.DONE if error is None else Status.FAILED
                batch.finish(msg_id, status, raw=(value, error))

    def _look(self, kind: FollowedFutures) -> bool:
        """Whether futures of this kind are still to be looked at."""
        mine = {i: future for i, (future, its) in list(self._futures.items()) if its is kind}
        if not mine:
            kind.rest()
            return False
        for msg_id, error in kind.look_for_lost(mine).items():
            if self._futures.pop(msg_id, None) is not None:
                with self.ledger.batch() as batch:
                    self._lose(batch, msg_id, error)
        return True

    def _abort(self, msg_ids: list[str]) -> None:
        for msg_id in msg_ids:
            future, _ = self._futures.get(msg_id, (None, None))
            if future is not None:
                future.cancel()

    def _release(self) -> None:
        self._futures.clear()  # the next look is the last


def _as_it_was_raised(error: BaseException) -> BaseException:
    """Without the frames of who asked a future for it."""
    where = error.__traceback__
    while where is not None and where.tb_frame.f_globals["__name__"] in _ASKING:
        where = where.tb_next
    return error.with_traceback(where)
