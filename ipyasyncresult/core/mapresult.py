"""``AsyncMapResult``: the result of a map, iterable while it is being made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from time import monotonic
from typing import Any, Self

from ipyasyncresult.core.asyncresult import AsyncResult, check_ready
from ipyasyncresult.core.clientprotocol import ClientProtocol
from ipyasyncresult.core.outcome import Failed, error_of, errors_in, items_of, raise_for
from ipyasyncresult.core.partition import Map
from ipyasyncresult.core.places import Places
from ipyasyncresult.core.task import TaskRecord
from ipyasyncresult.core.waitable import ReturnWhen
from ipyasyncresult.core.waiting import check_timeout

__all__ = ["AsyncMapResult"]

_MANY = 1000
"""Items of a chunk whose decoding is felt."""


class AsyncMapResult(AsyncResult):
    """The pieces of a map, put together again.

    Iterable at any time; waits for the items as they come.  One message may carry a chunk of
    items: lengths, indices, progress and errors are those of the items.

    Parameters
    ----------
    client : ClientProtocol
    msg_ids : list of str
        One task per chunk.
    mapObject : Map
        Puts the chunks together: ``mapObject.joinPartitions(list of lists)``.
    fname : str
    ordered : bool
        False: iterate in the order of arrival.
    """

    __slots__ = ("_describe_item", "_ordered", "_partition")

    def __init__(
        self,
        client: ClientProtocol,
        msg_ids: Sequence[str],
        mapObject: Map,  # noqa: N803  the reference's name
        fname: str = "",
        ordered: bool = True,
    ) -> None:
        super().__init__(client, list(msg_ids), fname)
        self._set_shape(mapObject, ordered=ordered)

    @classmethod
    def over_map(
        cls,
        client: ClientProtocol,
        records: list[TaskRecord],
        partition: Map,
        fname: str = "",
        *,
        ordered: bool = True,
        targets: Any = None,
        tracker: Any = None,
        describe_item: Callable[[int], str] | None = None,
    ) -> Self:
        """A map over records at hand; `describe_item` names an item by its position."""
        self = cls.over(client, records, fname, targets, tracker)
        self._set_shape(partition, ordered=ordered, describe_item=describe_item)
        return self

    def _set_shape(
        self,
        partition: Map,
        *,
        ordered: bool,
        describe_item: Callable[[int], str] | None = None,
    ) -> None:
        self._partition = partition
        self._ordered = ordered
        self._describe_item = describe_item

    def _like(self, records: list[TaskRecord]) -> Self:
        return type(self).over_map(
            self._client,
            records,
            self._partition,
            self.fname,
            ordered=self._ordered,
            targets=self._targets,
            describe_item=self._describe_item,
        )

    # -- values ----------------------------------------------------------------------------------

    def get(
        self,
        timeout: float | None = -1,
        *,
        return_exceptions: bool = False,
        return_when: ReturnWhen | None = None,
    ) -> Any:
        """As :meth:`AsyncResult.get`: the values in the order of the items."""
        left = check_timeout(timeout)
        if return_when is None and any(record.items >= _MANY for record in self.records):
            left = self._decode_what_comes(left)
        return super().get(left, return_exceptions=return_exceptions, return_when=return_when)

    def _decode_what_comes(self, timeout: float | None) -> float | None:
        """Decode large chunks while others are worked on; what is left of the time."""
        codec = self._ledger.codec
        deadline = None if timeout is None else monotonic() + timeout
        for record in self.records:
            left = None if deadline is None else max(0.0, deadline - monotonic())
            if not self._wait_until(lambda record=record: record.received is not None, left):  # type: ignore[misc]
                break
            error_of(codec, record)
        return None if deadline is None else max(0.0, deadline - monotonic())

    def _pieces(self, records: Sequence[TaskRecord]) -> list[list[Any]]:
        codec = self._ledger.codec
        return [items_of(codec, record) for record in records]

    def _assemble(self, pieces: list[list[Any]]) -> Any:
        return self._partition.joinPartitions(pieces)

    def _whole(self, piece: list[Any]) -> Any:
        return piece

    def __len__(self) -> int:
        return self._tally.total

    @check_ready
    def _item(self, key: int | slice) -> Any:
        chosen = self._assemble(self._pieces(self.records))[key]
        if isinstance(key, slice):
            raise_for(errors_in([chosen]), len(self))
        elif isinstance(chosen, Failed):
            raise chosen.error.with_traceback(None)
        return chosen

    def _describe(self, index: int) -> str:
        positions = next(islice(self._positions(), index, None))
        first, last = positions[0], positions[-1]
        if first != last:
            return f"items {first}-{last}" + (f":{positions.step}" if positions.step > 1 else "")
        if self._describe_item is None:
            return f"item {first}"
        return f"item {first}: {self._describe_item(first)}"

    def failures(self, limit: int = 10) -> list[tuple[int, str]]:
        """Position and one-line text of the first failed items, at most `limit`."""
        return list(islice(self._failures(), limit))

    def _failures(self) -> Iterator[tuple[int, str]]:
        for record, positions in zip(self.records, self._positions(), strict=True):
            if record.failed_items:
                items = items_of(self._ledger.codec, record)
                for position, item in zip(positions, items, strict=False):
                    if isinstance(item, Failed):
                        yield position, str(item.error).partition("\n")[0]

    def places(self) -> Places:
        """Names of tasks and items, by record."""
        return Places(self.records, self._positions(), self._describe_item)

    def _positions(self) -> Iterator[range]:
        """Where the items of each task stand in the map."""
        start = 0
        for part, record in enumerate(self.records):
            if self._partition.name == "b":
                yield range(start, start + record.items)
                start += record.items
            else:
                yield range(part, len(self), len(self.records))

    # -- iteration -------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        """Items, each as soon as its chunk is there; raises a failed one's error in its turn."""
        codec = self._ledger.codec
        if self._iterates_as_joined():
            for record in self.records if self._ordered else self._arrivals():
                self._wait_record(record)
                yield from _raising(items_of(codec, record))
        else:
            yield from self.get()

    def _iterates_as_joined(self) -> bool:
        """Blocks can be handed out one after the other; dealt cards must be put together first."""
        return self._partition.name == "b" or not self._ordered

    def _arrivals(self) -> Iterator[TaskRecord]:
        arrivals = self._ledger.track_arrivals(self._tally, self.records)
        for index in range(len(self.records)):
            if len(arrivals) <= index:
                self._wait_until(lambda index=index: len(arrivals) > index, None)  # type: ignore[misc]
            yield arrivals[index]

    async def __aiter__(self) -> AsyncIterator[Any]:
        codec = self._ledger.codec
        if not self._iterates_as_joined():
            for item in await self:
                yield item
            return
        arrivals = self.records
        if not self._ordered:
            arrivals = self._ledger.track_arrivals(self._tally, self.records)
        for index in range(len(self.records)):
            await self._wait_async(
                lambda index=index: len(arrivals) > index and arrivals[index].received is not None  # type: ignore[misc]
            )
            for item in _raising(items_of(codec, arrivals[index])):
                yield item


def _raising(items: list[Any]) -> Iterator[Any]:
    for item in items:
        if isinstance(item, Failed):
            raise item.error.with_traceback(None)
        yield item
