"""What direct and load-balanced views have in common: calls out, results back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ipyasyncresult.client.remote import ParallelFunction, RemoteFunction
from ipyasyncresult.core.arguments import check_count, check_label
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.mapresult import AsyncMapResult
from ipyasyncresult.core.partition import Map
from ipyasyncresult.core.slips import refuse_unknown
from ipyasyncresult.core.task import TaskRecord
from ipyasyncresult.core.waiting import check_timeout
from ipyasyncresult.wire import messages as m
from ipyasyncresult.worker.direct import name_of as function_name

if TYPE_CHECKING:
    from ipyasyncresult.client.anyclient import AnyClient
    from ipyasyncresult.client.packing import Packing

__all__ = ["View", "function_name"]

_MESSAGE_BYTES = 1 << 16

Chunk = tuple[Any, int, int]
"""Items, how many, and for which engine (-1: any)."""


def _check_call_timeout(timeout: float | None) -> float | None:
    """How long a call may take, in seconds; None for as long as it likes.

    Raises
    ------
    TypeError, ValueError
        When `timeout` is no number of seconds above 0 (nor -1, None or inf: no limit).
    """
    seconds = check_timeout(timeout)
    if seconds == 0:
        raise ValueError("timeout of a task must be seconds > 0, or None for no limit, not 0")
    return seconds


class View:
    """A way to call functions on engines.  Any thread.

    Attributes
    ----------
    block : bool
        Whether calls wait for their result and return its value.
    track : bool
        Kept for ipyparallel's sake: large buffers are always tracked.
    label : str or None
        Put on every task submitted through this view.
    retries : int
        How often a task is run again when its engine died under it.
    timeout : float or None
        Seconds that a call may take, by the engine's clock and without the time that it waits; of a
        map: the call for each item.  One that takes longer is interrupted, and its engine replaced
        when that does not help within 5 seconds; it fails with
        :class:`~ipyasyncresult.TaskTimeout`, and is not tried again.
    """

    # Flags that travel with each task.  A bad value is refused when it is set: with a task that
    # cannot travel would be lost what waits to be sent with it.
    _checks: ClassVar[dict[str, Callable[[Any], Any]]] = {
        "label": check_label,
        "retries": functools.partial(check_count, name="retries", least=0),
        "timeout": _check_call_timeout,
    }

    def __init__(self, client: AnyClient) -> None:
        self.client = client
        self.block = False
        self.track = False
        self.label: str | None = None
        self.retries = 0
        self.timeout: float | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        check = self._checks.get(name)
        super().__setattr__(name, value if check is None else check(value))

    def set_flags(self, **flags: Any) -> Self:
        """Set flags (``block``, ``label``, ``retries``, ``timeout``, ...); the view itself.

        Raises
        ------
        AttributeError
            When a view has no such flag.
        TypeError, ValueError
            When a flag cannot be that.
        """
        known = [name for name in vars(self) if not name.startswith("_")]
        refuse_unknown("a view", "flag", flags, known, AttributeError)
        for name, value in flags.items():
            setattr(self, name, value)
        return self

    @contextmanager
    def temp_flags(self, **flags: Any) -> Iterator[None]:
        """Other flags within the context."""
        saved = {name: value for name, value in vars(self).items() if name in flags}
        try:
            self.set_flags(**flags)
            yield
        finally:
            self.set_flags(**saved)

    def _repr_html_(self) -> str:
        from ipyasyncresult.client.reprs import view_html

        return view_html(self)

    # -- calls -----------------------------------------------------------------------------------

    def apply(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call ``f(*args, **kwargs)``; a value when :attr:`block` is set, else an AsyncResult."""
        return self._finish(self.apply_async(f, *args, **kwargs), None)

    def apply_async(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Call, and return at once.

        Raises
        ------
        SerializationError
            When the function or an argument cannot be pickled; names the place.
        """
        raise NotImplementedError

    def apply_sync(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call, wait, and return the value.

        Parameters
        ----------
        f : callable
        *args, **kwargs
            For `f`.
        """
        return self.apply_async(f, *args, **kwargs).get()

    def _finish(self, result: AsyncResult, block: bool | None) -> Any:
        return result.get() if (self.block if block is None else block) else result

    # -- maps ------------------------------------------------------------------------------------

    def map(self, f: Callable[..., Any], *sequences: Iterable[Any], **options: Any) -> Any:
        """Call ``f`` for each item (for several sequences: each tuple of items).

        Parameters
        ----------
        f : callable
        *sequences : iterables
            As for the builtin ``map``: it ends with the shortest.
        **options
            ``block``, and those of :meth:`map_async`.
        """
        block = options.pop("block", None)
        return self._finish(self.map_async(f, *sequences, **options), block)

    def map_async(
        self, f: Callable[..., Any], *sequences: Iterable[Any], **options: Any
    ) -> AsyncMapResult:
        """Map, and return at once."""
        raise NotImplementedError

    def map_sync(self, f: Callable[..., Any], *sequences: Iterable[Any], **options: Any) -> Any:
        """Map, wait, and return the list of values.

        Parameters
        ----------
        f : callable
        *sequences : iterables
        **options
            As for :meth:`map_async`.
        """
        return self.map_async(f, *sequences, **options).get()

    def map_parts(self, f: Callable[..., Any], *sequences: Iterable[Any], dist: str = "b") -> Any:
        """Call ``f`` on each engine with its part of the sequences; join the results.

        Parameters
        ----------
        f : callable
        *sequences : iterables
        dist : str
            How items are dealt out: ``'b'`` in blocks, ``'r'`` in turn.
        """
        raise NotImplementedError

    def _submit_chunks(
        self,
        f: Callable[..., Any],
        chunks: Sequence[Chunk],
        partition: Map,
        *,
        star: bool,
        ordered: bool = True,
        describe_item: Callable[[int], str] | None = None,
        more: Callable[[list[TaskRecord]], Iterable[Chunk]] | None = None,
        timeout: float | None = None,
        label: str | None = None,
    ) -> AsyncMapResult:
        """One task per chunk, in one message.

        The chunks that `more` makes follow in messages of their own: engines work on the first
        ones while the others are pickled.
        """
        seconds = self.timeout if timeout is None else _check_call_timeout(timeout)
        client = self.client
        function = client.packing.function(f)
        kind = m.STAR_CHUNK if star else m.CHUNK
        label = check_label(label) or self.label
        make = functools.partial(_chunk_tasks, self, kind, label, seconds or 0.0)
        name = function_name(f)
        group = m.Group(client.new_msg_id(), name, "map", partition.name, ordered)
        tasks, frames = make(chunks, 0)
        records, tracker = client.submit([function], tasks, frames, group)
        if more is not None:
            first = sum(chunk[1] for chunk in chunks)
            for tasks, frames in _messages(client.packing, make, more(records), first):
                further, tracker = client.submit([function], tasks, frames, group)
                records += further
        return AsyncMapResult.over_map(
            client,
            records,
            partition,
            name,
            ordered=ordered,
            targets=None if not chunks or chunks[0][2] < 0 else [chunk[2] for chunk in chunks],
            tracker=tracker,
            describe_item=describe_item,
        )

    # -- decorators ------------------------------------------------------------------------------

    def remote(
        self, block: bool | None = None, **flags: Any
    ) -> Callable[[Callable[..., Any]], RemoteFunction]:
        """Decorator: calling the function calls it through this view.

        Parameters
        ----------
        block : bool, optional
            Whether calls wait and return the value; by default as the view does.
        **flags
            Further flags of the view for these calls: ``label``, ``retries``, ...
        """
        return lambda function: RemoteFunction(self, function, block=block, **flags)

    def parallel(
        self, dist: str = "b", block: bool | None = None, **flags: Any
    ) -> Callable[[Callable[..., Any]], ParallelFunction]:
        """Decorator: calling the function gives each engine a part of the sequences.

        The function gets parts, not items; its ``map`` method calls it for each item.

        Parameters
        ----------
        dist : str
            ``'b'``: blocks, ``'r'``: like cards.
        block : bool, optional
            Whether calls wait and return the joined values; by default as the view does.
        **flags
            Further flags of the view for these calls.
        """
        return lambda function: ParallelFunction(self, function, dist=dist, block=block, **flags)

    # -- tasks -----------------------------------------------------------------------------------

    def wait(self, jobs: Any = None, timeout: float | None = -1) -> bool:
        """Wait for results or ids, by default for everything outstanding; False on time-out.

        `timeout` is in seconds; -1 and None wait for ever.

        Parameters
        ----------
        jobs : AsyncResult, str or iterable of them
            Results, or ids of tasks; by default everything that is outstanding.
        timeout : float or None
            Seconds; -1 and None wait for ever, 0 looks and does not wait.
        """
        return self.client.wait(jobs, timeout)

    def abort(self, jobs: Any = None, targets: Any = None, block: bool = True) -> dict[str, str]:
        """Take back tasks that have not started.

        Parameters
        ----------
        jobs : AsyncResult, str or iterable of them
            Results, or ids of tasks; by default all of the client.
        targets, block
            Taken for ipyparallel's sake; it changes nothing.
        """
        return self.client.abort(jobs, targets, block)

    def get_result(self, indices_or_msg_ids: Any = None, block: bool = False) -> AsyncResult:
        """A result from the hub, by ids, by label or by number.

        Parameters
        ----------
        indices_or_msg_ids : int, str, list of them, or AsyncResult, optional
            Numbers in the history (-1, the default, is the last call), ids, or a label.
        block : bool
            Wait for the end.
        """
        return self.client.get_result(indices_or_msg_ids, block)

    @property
    def history(self) -> list[str]:
        """Ids of all tasks of the client."""
        return self.client.history

    @property
    def outstanding(self) -> set[str]:
        """Ids of tasks that have not ended."""
        return self.client.outstanding

    def queue_status(self, targets: Any = None, verbose: bool = False) -> dict[Any, Any]:
        """How many tasks wait.

        Parameters
        ----------
        targets, verbose
            Taken for ipyparallel's sake; it changes nothing.
        """
        return self.client.queue_status(targets, verbose)

    def spin(self) -> None:
        """Nothing to do.  ipyparallel's name."""

    def shutdown(self, **options: Any) -> None:
        """End the cluster."""
        self.client.shutdown(**options)


def _chunk_tasks(
    view: View,
    kind: int,
    label: str | None,
    seconds: float,
    chunks: Iterable[Chunk],
    first: int,
) -> tuple[list[m.Task], list[Any]]:
    """A task per chunk, and their out-of-band buffers; `first` is where its first item stands."""
    new_msg_id, retries, pack = view.client.new_msg_id, view.retries, view.client.packing.chunk
    tasks = []
    frames: list[Any] = []
    for items, count, target in chunks:
        data, buffers = pack(items, first)
        frames += buffers
        first += count
        task = m.Task(new_msg_id(), 0, data, len(buffers), kind, target, label, retries)
        task.items = count
        task.timeout = seconds
        tasks.append(task)
    return tasks, frames


def _messages(
    packing: Packing,
    make: Callable[[Iterable[Chunk], int], tuple[list[m.Task], list[Any]]],
    chunks: Iterable[Chunk],
    first: int,
) -> Iterator[tuple[list[m.Task], list[Any]]]:
    """Tasks and buffers of these chunks, a message of a useful size at a time."""
    tasks: list[m.Task] = []
    frames: list[Any] = []
    size = 0
    for chunk in chunks:
        made, buffers = make([chunk], first)
        tasks += made
        frames += buffers
        first += chunk[1]
        size += packing.size(made[0].arguments)
        if buffers or size >= _MESSAGE_BYTES:
            yield tasks, frames
            tasks, frames, size = [], [], 0
    if tasks:
        yield tasks, frames


def zip_sequences(sequences: Sequence[Iterable[Any]]) -> tuple[Any, int, bool]:
    """The items of a map, how many, and whether each is a tuple of arguments.

    Raises
    ------
    TypeError
        When there is no sequence, or one cannot be iterated over.
    """
    if not sequences:
        raise TypeError("map needs at least one sequence of items")
    for number, sequence in enumerate(sequences, 1):
        if not isinstance(sequence, Iterable):
            kind = type(sequence).__name__
            raise TypeError(f"sequence {number} of the map must be iterable, not {kind}")
    if len(sequences) == 1:
        only = sequences[0]
        items: Any = (
            only if isinstance(only, Sized) and hasattr(only, "__getitem__") else list(only)
        )
        if isinstance(items, dict):
            items = list(items)
        return items, len(items), False
    pairs = list(zip(*sequences, strict=False))
    return pairs, len(pairs), True


def chunks_of(items: Any, count: int, size: int, first: int = 0) -> Iterator[Chunk]:
    """Blocks of `size` items for any engine, from the position `first` on."""
    for start in range(first, count, size):
        block = (
            items[start : start + size]
            if hasattr(items, "__getitem__")
            else list(islice(items, start, start + size))
        )
        yield block, min(size, count - start), -1


def describe_from(items: Any) -> Callable[[int], str]:
    """Names an item of a map by its position."""
    import reprlib

    return functools.partial(_describe, items, reprlib.Repr())


def _describe(items: Any, short: Any, position: int) -> str:
    text: str = short.repr(items[position])
    return text
