"""Many calls in one task: the chunks of a map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import starmap
from types import CoroutineType
from typing import Any, Protocol

from ipyasyncresult.core.failure import Failure, encode_failure
from ipyasyncresult.core.partition import ChunkResult
from ipyasyncresult.errors import SerializationError
from ipyasyncresult.worker.awaiting import is_awaited, settle
from ipyasyncresult.worker.failures import describe_call, describe_failure
from ipyasyncresult.worker.loaded import load_function
from ipyasyncresult.worker.pickling import dump_result
from ipyasyncresult.worker.timelimit import TimedOut, TimeLimit, task_timeout

__all__ = ["Bindable", "ChunkResult", "ChunkRun", "apply_chunk", "fail_unpicklable"]


def fail_unpicklable(
    result: ChunkResult, function: bytes, chunk: Sequence[Any], star: bool
) -> None:
    """Turn every value that cannot be sent into a failure, so that its siblings can."""
    run = ChunkRun(load_function(function), chunk, star, None)
    for index, value in enumerate(result.values):
        try:
            dump_result(value)
        except SerializationError as error:
            run.fail(index, error)
            result.values[index] = None
    result.failures.update(run.failures)


def apply_chunk(
    function: bytes, chunk: Sequence[Any], star: bool = False, limit: TimeLimit | None = None
) -> ChunkResult:
    """Call the function once for each item; an item that fails does not lose its siblings.

    Parameters
    ----------
    function : bytes
        From ``dump_function``: loaded once per engine, however many chunks there are.
    chunk : sequence
        The items; with `star`, tuples of arguments.
    star : bool
        Call ``f(*item)``.
    limit : TimeLimit, optional
        Of each item: one that takes longer fails, the others go on.

    Raises
    ------
    BaseException
        Whatever loading the function raises.
    """
    run = ChunkRun(load_function(function), chunk, star, limit)
    run.work()
    return ChunkResult(run.values, run.failures)


class Bindable(Protocol):
    """A function as a :class:`LoadedFunction` has it."""

    @property
    def name(self) -> str:
        """For messages."""

    def bound(self) -> AbstractContextManager[Callable[..., Any]]:
        """Within the context: the function, with the variables that it needs."""


class ChunkRun:
    """The calls of one chunk: their values, and their failures by position."""

    def __init__(
        self, loaded: Bindable, chunk: Sequence[Any], star: bool, limit: TimeLimit | None
    ) -> None:
        self.loaded = loaded
        self.limit = limit
        self.chunk = chunk
        self.star = star
        self.values: list[Any] = []
        self.failures: dict[int, Any] = {}

    def work(self) -> None:
        """Call for each item, and await what is to be awaited."""
        if self.limit is None:
            self.call_all()
        else:
            self.call_each(self.limit)
        if self.values and is_awaited(self.values[0]):
            self.settle_all()

    def call_all(self) -> None:
        """Fill `values` item by item.  The loop itself runs in C; after a failure it is taken up
        again with the next item: `extend` keeps what came before an exception."""
        values, total = self.values, len(self.chunk)
        items = iter(self.chunk)
        with self.loaded.bound() as function:
            calls = (starmap if self.star else map)(function, items)
            while len(values) < total:
                try:
                    values.extend(calls)
                    if len(values) < total:  # `map` took it for its own end
                        raise RuntimeError("the function raised StopIteration")  # noqa: TRY301
                except BaseException as error:  # noqa: BLE001  an item is a value or a failure
                    if len(values) == total:  # an interrupt that came after the last item
                        break
                    self.fail(len(values), error)
                    values.append(None)
                    if self.ends_chunk(error):
                        self.skip_from(len(values))
                        values.extend([None] * (total - len(values)))

    def call_each(self, limit: TimeLimit) -> None:
        """As :meth:`call_all`, with a clock for each item."""
        values = self.values
        with self.loaded.bound() as function:
            for index, item in enumerate(self.chunk):
                try:
                    limit.start()
                    values.append(function(*item) if self.star else function(item))
                    limit.stop()  # within the `try`: from here on nothing is raised for this item
                except BaseException as error:  # noqa: BLE001  an item is a value or a failure
                    limit.stop()
                    if len(values) > index:  # it came after the value
                        continue
                    self.fail(index, error)
                    values.append(None)
                    if self.ends_chunk(error):
                        self.skip_from(len(values))
                        values.extend([None] * (len(self.chunk) - len(values)))
                        break

    @staticmethod
    def ends_chunk(error: BaseException) -> bool:
        """An interrupt is meant for all of it, the end of an item's time is not."""
        return isinstance(error, KeyboardInterrupt) and not isinstance(error, TimedOut)

    def settle_all(self) -> None:
        """Await the values of a coroutine function, one after the other."""
        for index, value in enumerate(self.values):
            if index in self.failures:
                if isinstance(value, CoroutineType):
                    value.close()  # it will not be awaited, and should not complain
                    self.values[index] = None
                continue
            limit = self.limit
            try:
                if limit is not None:
                    limit.start()
                self.values[index] = settle(value)
                if limit is not None:
                    limit.stop()
            except BaseException as error:  # noqa: BLE001
                if limit is not None:
                    limit.stop()
                self.values[index] = None
                self.fail(index, error)
                if self.ends_chunk(error):
                    self.skip_from(index + 1)

    def fail(self, index: int, error: BaseException) -> None:
        item = self.chunk[index]
        inputs = describe_call(self.loaded.name, item if self.star else (item,))
        if self.limit is not None:
            error = task_timeout(error)
        self.failures[index] = self.described(error, inputs)

    @staticmethod
    def described(error: BaseException, inputs: str) -> Any:
        """A failure, as it is kept."""
        return describe_failure(error, inputs=inputs)

    def skip_from(self, index: int) -> None:
        """After an interrupt: what is done stays, what is left is not run."""
        skipped = Failure(
            ename="TaskAborted",
            evalue="not run: the chunk was interrupted before this item",
            module="ipyasyncresult.errors",
        )
        data = encode_failure(skipped)  # without an exception: nothing was raised for these
        for position in range(index, len(self.chunk)):
            self.failures.setdefault(position, data)
