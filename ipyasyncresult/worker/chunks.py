"""Many calls in one task: the chunks of a map."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap
from types import CoroutineType
from typing import Any

from ipyasyncresult.core.failure import Failure, encode_failure
from ipyasyncresult.core.partition import ChunkResult
from ipyasyncresult.errors import SerializationError
from ipyasyncresult.worker.awaiting import AWAITED, settle
from ipyasyncresult.worker.failures import describe_call, describe_failure
from ipyasyncresult.worker.loaded import LoadedFunction, load_function
from ipyasyncresult.worker.pickling import dump_result

__all__ = ["ChunkResult", "apply_chunk", "fail_unpicklable"]


def fail_unpicklable(result: ChunkResult) -> None:
    """Turn every value that cannot be sent into a failure, so that its siblings can."""
    for index, value in enumerate(result.values):
        try:
            dump_result(value)
        except SerializationError as error:
            result.failures[index] = describe_failure(error)
            result.values[index] = None


def apply_chunk(function: bytes, chunk: Sequence[Any], star: bool = False) -> ChunkResult:
    """Call the function once for each item; an item that fails does not lose its siblings.

    Parameters
    ----------
    function : bytes
        From ``dump_function``: loaded once per engine, however many chunks there are.
    chunk : sequence
        The items; with `star`, tuples of arguments.
    star : bool
        Call ``f(*item)``.

    Raises
    ------
    BaseException
        Whatever loading the function raises.
    """
    run = _ChunkRun(load_function(function), chunk, star)
    run.call_all()
    if run.values and isinstance(run.values[0], AWAITED):
        run.settle_all()
    return ChunkResult(run.values, run.failures)


class _ChunkRun:
    def __init__(self, loaded: LoadedFunction, chunk: Sequence[Any], star: bool) -> None:
        self.loaded = loaded
        self.chunk = chunk
        self.star = star
        self.values: list[Any] = []
        self.failures: dict[int, bytes] = {}

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
                    if isinstance(error, KeyboardInterrupt):
                        self.skip_from(len(values))
                        values.extend([None] * (total - len(values)))

    def settle_all(self) -> None:
        """Await the values of a coroutine function, one after the other."""
        for index, value in enumerate(self.values):
            if index in self.failures:
                if isinstance(value, CoroutineType):
                    value.close()  # it will not be awaited, and should not complain
                    self.values[index] = None
                continue
            try:
                self.values[index] = settle(value)
            except BaseException as error:  # noqa: BLE001
                self.values[index] = None
                self.fail(index, error)
                if isinstance(error, KeyboardInterrupt):
                    self.skip_from(index + 1)

    def fail(self, index: int, error: BaseException) -> None:
        item = self.chunk[index]
        inputs = describe_call(self.loaded.name, item if self.star else (item,))
        self.failures[index] = describe_failure(error, inputs=inputs)

    def skip_from(self, index: int) -> None:
        """After an interrupt: what is done stays, what is left is not run."""
        skipped = Failure(
            ename="TaskAborted",
            evalue="not run: the chunk was interrupted before this item",
            module="ipyasyncresult.errors",
        )
        data = encode_failure(skipped)
        for position in range(index, len(self.chunk)):
            self.failures.setdefault(position, data)
