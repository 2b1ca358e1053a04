"""``LoadBalancedView``: each call goes to an engine that has time."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from ipyasyncresult.client.lazymap import LazyMap
from ipyasyncresult.client.view import (
    Chunk,
    View,
    chunks_of,
    describe_from,
    function_name,
    zip_sequences,
)
from ipyasyncresult.core.arguments import check_count
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.mapresult import AsyncMapResult
from ipyasyncresult.core.partition import Map, check_chunksize, partition_of
from ipyasyncresult.core.slips import refuse_unknown
from ipyasyncresult.core.task import Status, TaskRecord
from ipyasyncresult.errors import NoEnginesError
from ipyasyncresult.wire import messages as m

if TYPE_CHECKING:
    from ipyasyncresult.client.anyclient import AnyClient

__all__ = ["LoadBalancedView"]

_MAP_OPTIONS = ("chunksize", "label", "ordered", "timeout")
_MOST_CHUNKS = 1024
"""A map of more items than this goes in so many chunks: enough to balance and to show progress."""
_PATIENCE = 0.005
"""Seconds that such a map waits for its first chunk, to learn how long its items take."""
_SHORT_CHUNK = 0.005
"""Seconds; chunks that would be shorter are put together, as the way to an engine and back costs
more than they do.  Short enough that nobody waits for the last one."""
_PER_ENGINE = 4
"""Chunks; there are always at least so many for each engine."""


def _check_waiting_limit(limit: int | None) -> int | None:
    what = "None (for no limit) or an integer"
    return None if limit is None else check_count(limit, "waiting_limit", 0, what=what)


class LoadBalancedView(View):
    """Calls on whichever engine has time; made by ``client.load_balanced_view()``.

    Attributes
    ----------
    waiting_limit : int or None
        How many tasks may wait while there is no engine at all; further ones are refused.
    """

    _checks: ClassVar = {**View._checks, "waiting_limit": _check_waiting_limit}

    def __init__(self, client: AnyClient) -> None:
        super().__init__(client)
        self.targets: None = None
        self.waiting_limit: int | None = None

    def apply_async(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Call ``f(*args, **kwargs)`` on one engine, and return at once.

        Raises
        ------
        SerializationError
            When the function or an argument cannot be pickled; names the place.
        """
        client = self.client
        if not len(client):
            warn_of_waiting(client, 1, self.waiting_limit)
        packing = client.packing
        function = packing.function(f)
        data, buffers = packing.call(args, kwargs)
        task = m.Task(
            client.new_msg_id(), 0, data, len(buffers), m.CALL, -1, self.label, self.retries
        )
        if self.timeout is not None:
            task.timeout = self.timeout
        if not buffers:
            record, tally = client.submit_one(function, task)
            return AsyncResult.over(client, [record], function_name(f), single=True, tally=tally)
        records, tracker = client.submit([function], [task], buffers)
        return AsyncResult.over(client, records, function_name(f), tracker=tracker, single=True)

    def map_async(
        self, f: Callable[..., Any], *sequences: Iterable[Any], **options: Any
    ) -> AsyncMapResult:
        """Call ``f`` for each item, and return at once.

        Parameters
        ----------
        f : callable
        *sequences : iterables
        chunksize : int, optional
            Items per task; by default 1, and when there are more than 1,024 items so many that
            there are about 1,024 tasks.  These are fewer and longer if the first one says within a
            few milliseconds that the items are tiny.
        ordered : bool
            False: iteration gives items in the order of arrival.
        timeout : float, optional
            Seconds that the call for one item may take; by default the view's.
        label : str, optional
            Of these tasks; by default that of the view.
        """
        refuse_unknown("map", "option", options, _MAP_OPTIONS)
        label = options.pop("label", None)
        chunksize = check_chunksize(options.pop("chunksize", None))
        timeout = options.pop("timeout", None)
        ordered = bool(options.pop("ordered", True))
        items, count, star = zip_sequences(sequences)
        size = chunksize or -(-count // _MOST_CHUNKS) or 1
        if not len(self.client):
            warn_of_waiting(self.client, -(-count // size), self.waiting_limit)
        more = None
        if chunksize is None and size > 1:
            more = functools.partial(_further_chunks, self.client, items, count, size)
        return self._submit_chunks(
            f,
            list(chunks_of(items, count if more is None else size, size)),
            Map(),
            star=star,
            ordered=ordered,
            describe_item=describe_from(items),
            more=more,
            timeout=timeout,
            label=label,
        )

    def imap(
        self,
        f: Callable[..., Any],
        *sequences: Iterable[Any],
        ordered: bool = True,
        max_outstanding: int | str = "auto",
        return_exceptions: bool = False,
    ) -> LazyMap:
        """Map lazily: items are taken from the sequences as results are taken from the iterator.

        Parameters
        ----------
        f : callable
        *sequences : iterables
            They may be infinite.
        ordered : bool
            False: in the order of arrival.
        max_outstanding : int or ``'auto'``
            How many items may be under way; by default four per engine.
        return_exceptions : bool
            Yield errors instead of raising them.
        """
        return LazyMap(
            self,
            f,
            sequences,
            ordered=ordered,
            max_outstanding=max_outstanding,
            return_exceptions=return_exceptions,
        )

    def map_parts(self, f: Callable[..., Any], *sequences: Iterable[Any], dist: str = "b") -> Any:
        """Call ``f`` with as many parts of the sequences as there are engines; join the results.

        Parameters
        ----------
        f : callable
        *sequences : iterables
        dist : str
            How items are dealt out: ``'b'`` in blocks, ``'r'`` in turn.
        """
        return self._finish(parts_async(self, f, sequences, dist, None), None)

    def __len__(self) -> int:
        return len(self.client)

    def __bool__(self) -> bool:
        return True  # also when no engine is up

    def __repr__(self) -> str:
        return f"<LoadBalancedView of {self.client!r}>"


def _further_chunks(
    client: AnyClient, items: Any, count: int, size: int, first: list[TaskRecord]
) -> Iterable[Chunk]:
    """What follows the first chunk of `size` items: as long as that took, if it was short."""
    probe = first[0]
    client.ledger.waits.wait(lambda: probe.received is not None, _PATIENCE)
    left = count - size
    duration = probe.duration
    if probe.status is Status.DONE and duration is not None and duration < _SHORT_CHUNK:
        longest = -(-left // (_PER_ENGINE * max(1, client.engine_count())))
        wanted = int(size * _SHORT_CHUNK / max(duration, 1e-6))
        size = max(size, min(longest, wanted))
    return chunks_of(items, count, size, first=count - left)


def parts_async(
    view: View,
    f: Callable[..., Any],
    sequences: tuple[Iterable[Any], ...],
    dist: str,
    targets: list[int] | None,
) -> AsyncMapResult:
    """One call per engine, each with its part of every sequence."""
    partition = partition_of(dist)
    lists = [zip_sequences([sequence])[0] for sequence in sequences]
    count = min((len(one) for one in lists), default=0)
    places = targets if targets is not None else [-1] * max(1, view.client.engine_count())
    parts = min(len(places), count)
    chunks = []
    for p in range(parts):
        mine = tuple(partition.getPartition(one, p, parts, count) for one in lists)
        chunks.append(([mine], 1, places[p]))
    return view._submit_chunks(f, chunks, JoinedParts(partition), star=True)


class JoinedParts(Map):
    """Each task returns a part of the whole; the parts are put together as they were dealt."""

    def __init__(self, partition: Map) -> None:
        self._partition = partition
        self.name = "j"

    def joinPartitions(self, parts: Any) -> Any:  # noqa: N802
        return self._partition.joinPartitions([part[0] for part in parts])


def warn_of_waiting(client: AnyClient, tasks: int, limit: int | None) -> None:
    """Nobody is there to work: said, as waiting would look like a hang.

    Raises
    ------
    NoEnginesError
        When more than `limit` tasks would wait.
    """
    if limit is not None and len(client.outstanding) + tasks > limit:
        raise NoEnginesError(f"no engine is up, and at most {limit} tasks may wait for one")
    if any(news.event == "gave_up" for news in client.events):
        return  # then tasks do not wait: they fail, and say why
    advice = "; client.add_engines(n) starts some" if hasattr(client, "add_engines") else ""
    warnings.warn(f"no engine is up: the tasks wait{advice}", stacklevel=_level_of_caller())


def _level_of_caller() -> int:
    """How many frames the code that uses this package is above the function that asks."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("ipyasyncresult."):
        frame, level = frame.f_back, level + 1
    return level
