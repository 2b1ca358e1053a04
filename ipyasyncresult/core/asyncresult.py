"""``AsyncResult``: the one object that a user gets back.

The names, signatures and defaults follow ``IPython.parallel.client.asyncresult``; what goes
beyond them is written in the methods.  A result knows only records and their ledger, so it is the
same over every backend.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from ipyasyncresult.core.arguments import integer_of
from ipyasyncresult.core.clientprotocol import ClientProtocol
from ipyasyncresult.core.control import Controllable
from ipyasyncresult.core.insight import Insight
from ipyasyncresult.core.metadata import METADATA_KEYS
from ipyasyncresult.core.outcome import (
    Failed,
    error_of,
    errors_in,
    outcome_of,
    raise_for,
    unwrap,
    value_of,
)
from ipyasyncresult.core.tally import Tally
from ipyasyncresult.core.task import TaskRecord
from ipyasyncresult.core.waitable import ReturnWhen, Waitable
from ipyasyncresult.core.waiting import check_timeout
from ipyasyncresult.errors import TimeoutError

__all__ = ["AsyncResult", "check_ready"]

P = ParamSpec("P")
R = TypeVar("R")
SelfResult = TypeVar("SelfResult", bound="AsyncResult")


def check_ready(
    f: Callable[Concatenate[SelfResult, P], R],
) -> Callable[Concatenate[SelfResult, P], R]:
    """Take in what has arrived, then call the method.

    Parameters
    ----------
    f : callable
        A method of a result.

    Raises
    ------
    TimeoutError
        When the result is not ready.
    """

    @functools.wraps(f)
    def checked(self: SelfResult, *args: P.args, **kwargs: P.kwargs) -> R:
        if not self.ready():
            raise TimeoutError(f"{self!r} is not ready")
        return f(self, *args, **kwargs)

    return checked  # type: ignore[return-value]  # wraps() keeps the name of "self"


class AsyncResult(Waitable, Insight, Controllable):
    """The pending or finished result of one call, on one engine or on several.

    Parameters
    ----------
    client : ClientProtocol
        Who runs the tasks.
    msg_ids : str or list of str
        A string gives a single result (``get()`` returns the value), a list a list of values.
    fname : str
        Name of what was called, for people.
    targets : list of int, int or None
        Engine ids that were asked for; None for any.
    tracker : zmq.MessageTracker, or what has the same methods, or None
        Tells when zero-copy sends are done with the caller's memory.

    Raises
    ------
    UnknownTaskError
        When an id is not outstanding in this client; ``client.get_result`` finds those.
    """

    __slots__ = (
        "__weakref__",
        "_client",
        "_ledger",
        "_single",
        "_tally",
        "_targets",
        "_tracker",
        "fname",
        "records",
    )

    def __init__(
        self,
        client: ClientProtocol,
        msg_ids: str | Sequence[str],
        fname: str = "unknown",
        targets: Any = None,
        tracker: Any = None,
    ) -> None:
        ids = [msg_ids] if isinstance(msg_ids, str) else list(msg_ids)
        records = client.ledger.pending(ids)
        self._set_up(client, records, fname, targets, tracker, isinstance(msg_ids, str))

    @classmethod
    def over(
        cls,
        client: ClientProtocol,
        records: list[TaskRecord],
        fname: str = "unknown",
        targets: Any = None,
        tracker: Any = None,
        *,
        single: bool = False,
        tally: Tally | None = None,
    ) -> Self:
        """A result over records at hand, finished or not; a `tally` given counts them already."""
        self = cls.__new__(cls)
        self._set_up(client, records, fname, targets, tracker, single, tally)
        return self

    def _set_up(
        self,
        client: ClientProtocol,
        records: list[TaskRecord],
        fname: str,
        targets: Any,
        tracker: Any,
        single: bool,
        tally: Tally | None = None,
    ) -> None:
        self._client = client
        self._ledger = client.ledger
        self.records: list[TaskRecord] = records
        self.fname: str = fname
        self._targets = targets
        self._tracker = tracker
        self._single = single
        if tally is None:
            tally = Tally()
            self._ledger.count(tally, records)
        self._tally = tally

    # -- values ----------------------------------------------------------------------------------

    def get(
        self,
        timeout: float | None = -1,
        *,
        return_exceptions: bool = False,
        return_when: ReturnWhen | None = None,
    ) -> Any:
        """The value, or the list of values, when it arrives.

        Parameters
        ----------
        timeout : float, optional
            Seconds; -1 and None wait for ever, 0 polls.
        return_exceptions : bool
            Put exceptions in the places of the values that are missing, instead of raising.
        return_when : str, optional
            ``'FIRST_EXCEPTION'``: raise as soon as one task failed.  ``'FIRST_COMPLETED'``: the
            values of the tasks that are done as soon as there is one.

        Raises
        ------
        TimeoutError
            When the result is not there in time.  The tasks go on.
        RemoteError
            When one task failed; also an instance of the original type.
        CompositeError
            When several failed.
        """
        tally, records = self._tally, self.records
        # Often a thousand results are asked one by one when all of them are there.
        unsure = timeout != -1 or return_when is not None or tally.left
        if unsure and not self._wait_checked(timeout, return_when):
            counts = self.counts()
            raise TimeoutError(f"{counts.finished} of {counts.total} done; the rest goes on")
        if self._single and not return_exceptions and not tally.left:
            return value_of(self._ledger.codec, records[0])
        if return_when is not None and tally.left:
            records = [record for record in records if record.received is not None]
            if return_when == "FIRST_EXCEPTION":
                records = [record for record in records if record.failed_items]
        pieces = self._pieces(records)
        if self._failed_among(records):
            if not return_exceptions:
                raise_for(errors_in(pieces), tally.total)
            pieces = unwrap(pieces)
        return pieces[0][0] if self._single else self._assemble(pieces)

    def _pieces(self, records: Sequence[TaskRecord]) -> list[list[Any]]:
        """Per task the list of its items: values and Failed."""
        codec = self._ledger.codec
        return [outcome_of(codec, record) for record in records]

    @staticmethod
    def _failed_among(records: Sequence[TaskRecord]) -> bool:
        """Whether decoded records have an error; saves looking through all items."""
        return any(record.error is not None for record in records)

    def _assemble(self, pieces: list[list[Any]]) -> Any:
        return [piece[0] for piece in pieces]

    @property
    def result(self) -> Any:
        """``get(timeout=0)``."""
        return self.get(timeout=0)

    r = result

    def get_dict(self, timeout: float | None = -1, *, multi: bool = False) -> dict[int | None, Any]:
        """The values by engine id.

        Parameters
        ----------
        timeout : float, optional
            As in :meth:`get`.
        multi : bool
            Values are lists, so that an engine may have run several tasks.

        Raises
        ------
        ValueError
            When an engine ran several tasks and `multi` is False.
        """
        self.get(timeout)  # waits and raises
        lists: dict[int | None, list[Any]] = {}
        for record, piece in zip(self.records, self._pieces(self.records), strict=True):
            lists.setdefault(record.engine_id, []).append(self._whole(piece))
        if multi:
            return dict(lists)
        for engine_id, several in lists.items():
            if len(several) > 1:
                raise ValueError(
                    f"engine {engine_id} ran {len(several)} of the tasks: get_dict(multi=True) "
                    "gives a list of values per engine"
                )
        return {engine_id: several[0] for engine_id, several in lists.items()}

    def _whole(self, piece: list[Any]) -> Any:
        return piece[0]

    @property
    def result_dict(self) -> dict[int | None, Any]:
        """``get_dict(timeout=0)``."""
        return self.get_dict(timeout=0)

    def exception(self, timeout: float | None = -1) -> BaseException | None:
        """The error that ``get`` would raise, or None.

        Parameters
        ----------
        timeout : float or None
            Seconds; -1 and None wait for ever, 0 looks and does not wait.
        """
        check_timeout(timeout)  # a wrong argument is not an error of the tasks
        try:
            self.get(timeout)
        except TimeoutError:
            if not self.ready():
                raise
            return self._first_error()
        except Exception as error:  # noqa: BLE001  a task may have raised anything
            return error
        return None

    def _first_error(self) -> BaseException | None:
        found = (error_of(self._ledger.codec, record) for record in self.records)
        return next((error for error in found if error is not None), None)

    @property
    def ok(self) -> list[Any]:
        """The values that are there and good, in order; does not wait and does not raise."""
        return [item for piece in self._settled() for item in piece if not isinstance(item, Failed)]

    @property
    def failed(self) -> list[BaseException]:
        """The errors that are there, in order; does not wait and does not raise."""
        return errors_in(self._settled())

    def _settled(self) -> list[list[Any]]:
        self.ready()
        return self._pieces([record for record in self.records if record.received is not None])

    # -- as a sequence ---------------------------------------------------------------------------

    @property
    def msg_ids(self) -> list[str]:
        """Ids of the tasks."""
        return [record.msg_id for record in self.records]

    @property
    def targets(self) -> Any:
        """Engine ids that were asked for, None for any."""
        return self._targets

    def __len__(self) -> int:
        return len(self.records)

    def __bool__(self) -> bool:
        return True  # an empty map is a result, too

    def __getitem__(self, key: int | slice | str) -> Any:
        """``ar[3]`` and ``ar[2:5]``: values; ``ar['completed']``: metadata."""
        if isinstance(key, str):
            if key not in METADATA_KEYS:
                raise KeyError(f"{key!r} is not one of {', '.join(METADATA_KEYS)}")
            return self._metadata_entry(key)
        index = key if isinstance(key, slice) else integer_of(key)
        if index is None:
            raise TypeError(f"an index must be int, slice or str, not {type(key).__name__}")
        return self._item(index)

    @check_ready
    def _item(self, key: int | slice) -> Any:
        if isinstance(key, int):
            return value_of(self._ledger.codec, self.records[key])
        pieces = self._pieces(self.records[key])
        raise_for(errors_in(pieces), len(self))
        return self._assemble(pieces)

    def __iter__(self) -> Iterator[Any]:
        """Values in order, each as soon as it is there."""
        if self._single:
            raise TypeError("a single result cannot be iterated over: use get()")
        for record in self.records:
            self._wait_record(record)
            yield value_of(self._ledger.codec, record)

    def _wait_record(self, record: TaskRecord) -> None:
        if record.received is None:
            self._wait_until(lambda: record.received is not None, None)

    async def __aiter__(self) -> AsyncIterator[Any]:
        if self._single:
            raise TypeError("a single result cannot be iterated over: use await")
        for record in self.records:
            await self._wait_async(lambda record=record: record.received is not None)  # type: ignore[misc]
            yield value_of(self._ledger.codec, record)

    # -- parts -----------------------------------------------------------------------------------

    def split(self) -> tuple[AsyncResult, ...]:
        """One single result per task."""
        targets = self._targets if isinstance(self._targets, list | tuple) else None
        return tuple(
            AsyncResult.over(
                self._client,
                [record],
                self.fname,
                targets[i] if targets and i < len(targets) else self._targets,
                self._tracker,
                single=True,
            )
            for i, record in enumerate(self.records)
        )

    @classmethod
    def join(cls, *results: AsyncResult) -> AsyncResult:
        """One result over the tasks of several of the same client."""
        _check_joinable(results)
        records = [record for one in results for record in one.records]
        return AsyncResult.over(results[0]._client, records, results[0].fname)

    def _partition_done(self) -> tuple[set[AsyncResult], set[AsyncResult]]:
        parts = self.split()
        done = {part for part in parts if part.records[0].received is not None}
        return done, set(parts) - done

    def _like(self, records: list[TaskRecord]) -> Self:
        return type(self).over(
            self._client, records, self.fname, self._targets, single=self._single
        )

    # -- pickling --------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        return self._client.reduce_result(self)


def _check_joinable(results: Sequence[Any]) -> None:
    if not results:
        raise ValueError("join needs at least one result")
    for one in results:
        if not isinstance(one, AsyncResult):
            raise TypeError(f"join needs results, not {type(one).__name__} {one!r}")
    if any(other._client is not results[0]._client for other in results):
        raise ValueError("join needs results of one client")
