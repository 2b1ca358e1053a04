"""``DirectView``: certain engines, each of which runs what is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipyasyncresult.client.care import EngineCare
from ipyasyncresult.client.loadbalanced import parts_async
from ipyasyncresult.client.syncimports import importing
from ipyasyncresult.client.targets import Targets, is_one, resolve_targets
from ipyasyncresult.client.view import View, function_name, zip_sequences
from ipyasyncresult.core.arguments import check_label, check_names
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.mapresult import AsyncMapResult
from ipyasyncresult.core.partition import partition_of
from ipyasyncresult.core.slips import refuse_unknown
from ipyasyncresult.errors import CapabilityError, NoEnginesError
from ipyasyncresult.wire import messages as m
from ipyasyncresult.worker import namespace
from ipyasyncresult.worker.typed import Typed

if TYPE_CHECKING:
    from ipyasyncresult.client.anyclient import AnyClient

__all__ = ["DirectView"]

_MAP_OPTIONS = ("dist", "label", "ordered", "timeout")


class DirectView(View):
    """Calls on each of certain engines; made by ``client[...]``.

    With one engine (``client[0]``) results are values, with several lists of values.

    Attributes
    ----------
    targets : int or list of int
    """

    _typed: Typed | None = None  # a view of one ``%px`` says where that was typed

    def __init__(self, client: AnyClient, targets: int | list[int]) -> None:
        super().__init__(client)
        self.targets: Any = targets

    def _chosen(self, targets: Targets = None) -> tuple[list[int], bool]:
        """The engines, and whether it is one alone."""
        wanted = self.targets if targets is None else targets
        ids = self.client.ids
        if not ids:
            raise NoEnginesError("no engine is up: client.wait_for_engines(n) waits for them")
        return resolve_targets(wanted, ids), is_one(wanted)

    # -- calls -----------------------------------------------------------------------------------

    def apply_async(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Call ``f(*args, **kwargs)`` on each engine, and return at once.

        Raises
        ------
        SerializationError
            When the function or an argument cannot be pickled; names the place.
        NoEnginesError
            When no engine is up.
        """
        return self._call(f, args, kwargs)

    def _call(
        self,
        f: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        targets: Targets = None,
        options: int = 0,
    ) -> AsyncResult:
        chosen, single = self._chosen(targets)
        packing = self.client.packing
        data, buffers = packing.call(args, kwargs or {})
        return self._send(
            packing.function(f), data, buffers, chosen, function_name(f),
            single=single, options=options,
        )  # fmt: skip

    def _send(
        self,
        function: Any,
        data: Any,
        buffers: Sequence[Any],
        chosen: list[int],
        name: str,
        *,
        single: bool,
        kind: int = m.CALL,
        options: int = 0,
        label: str | None = None,
    ) -> AsyncResult:
        client = self.client
        seconds = self.timeout or 0.0
        label = check_label(label) or self.label
        tasks = [
            m.Task(
                client.new_msg_id(),
                0,
                data,
                len(buffers),
                kind,
                target,
                label,
                self.retries,
                options,
                timeout=seconds,
            )
            for target in chosen
        ]
        group = None if single else m.Group(client.new_msg_id(), name, "list")
        records, tracker = client.submit([function], tasks, [*buffers] * len(tasks), group)
        return AsyncResult.over(
            client, records, name, chosen[0] if single else chosen, tracker, single=single
        )

    # -- cells -----------------------------------------------------------------------------------

    def execute(
        self,
        code: str,
        silent: bool = False,
        targets: Targets = None,
        block: bool | None = None,
        label: str | None = None,
        store_history: bool = True,
    ) -> Any:
        """Run a cell on each engine: magics, top-level await, displays and ``Out[n]`` included.

        Parameters
        ----------
        code : str
        silent : bool
            No ``Out[n]`` is shown.
        targets : optional
            Other engines than the view's.
        block : bool, optional
        label : str, optional
            Of this cell; by default that of the view.
        store_history : bool
            Count the cell in ``In[n]``.
        """
        if not isinstance(code, str):
            raise TypeError(f"code must be a string, not {type(code).__name__}")
        chosen, single = self._chosen(targets)
        options = (m.SILENT if silent else 0) | (0 if store_history else m.NO_HISTORY)
        typed = self._typed.encode() if self._typed else b""
        result = self._send(
            code.encode(), typed, (), chosen, "execute",
            single=single, kind=m.CELL, options=options, label=label,
        )  # fmt: skip
        return self._finish(result, block)

    def run(
        self,
        filename: str,
        targets: Targets = None,
        block: bool | None = None,
        label: str | None = None,
    ) -> Any:
        """Run a file of this machine on each engine, in its namespace.

        Parameters
        ----------
        filename : str
        targets : int, list of int, slice or 'all', optional
            Engines; by default those of the view.
        block : bool, optional
            Wait for the end; by default as the view does.
        label : str, optional
            By default the view's.
        """
        code = Path(filename).read_text(encoding="utf-8")
        return self.execute(code, False, targets, block, label)

    # -- variables -------------------------------------------------------------------------------

    def push(
        self,
        ns: Mapping[str, Any],
        targets: Targets = None,
        block: bool | None = None,
        track: bool | None = None,
    ) -> Any:
        """Set variables on each engine.  When it waits, it returns None.

        Parameters
        ----------
        ns : dict
            Values by name.
        targets : int, list of int, slice or 'all', optional
            Engines; by default those of the view.
        block : bool, optional
            Wait for the end; by default as the view does.
        track
            Taken for ipyparallel's sake; it changes nothing.
        """
        del track
        if not isinstance(ns, Mapping):
            raise TypeError(f"ns must be a dict of names and values, not {type(ns).__name__}")
        for name in ns:
            _check_variable(name)
        return self._finish_quietly(self._call(namespace.push, (dict(ns),), targets=targets), block)

    def pull(
        self, names: str | Sequence[str], targets: Targets = None, block: bool | None = None
    ) -> Any:
        """Variables of each engine.

        Parameters
        ----------
        names : str or sequence of str
            Names, or expressions such as ``'a[0]'``.  With a string the result is a value per
            engine, with several a list of values per engine.
        targets : optional
            Other engines than the view's.
        block : bool, optional
            Wait, and return the values; by default as the view does.

        Raises
        ------
        RemoteError
            ``NameError`` when an engine has no such variable; when the result is asked for.
        """
        wanted = names if isinstance(names, str) else check_names(names, "names")
        return self._finish(self._call(namespace.pull, (wanted,), targets=targets), block)

    def get(self, key_s: str | Sequence[str]) -> Any:
        """``pull`` that waits.

        Parameters
        ----------
        key_s : str or list of str
            Names of variables.
        """
        return self.pull(key_s, block=True)

    def update(self, ns: Mapping[str, Any]) -> Any:
        """``push`` as the view blocks.

        Parameters
        ----------
        ns : dict
            Values by name.
        """
        return self.push(ns)

    def __getitem__(self, key: str) -> Any:
        return self.get(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.push({key: value}, block=True)

    def clear(self, targets: Targets = None, block: bool | None = None) -> Any:
        """Empty the namespace of each engine.

        Parameters
        ----------
        targets : int, list of int, slice or 'all', optional
            Engines; by default those of the view.
        block : bool, optional
            Wait for the end; by default as the view does.
        """
        return self._finish(self._call(namespace.clear, targets=targets), block)

    def scatter(
        self,
        key: str,
        seq: Sequence[Any],
        dist: str = "b",
        flatten: bool = False,
        targets: Targets = None,
        block: bool | None = None,
        track: bool | None = None,
    ) -> Any:
        """Deal a sequence out: each engine gets its part as variable `key`.

        When it waits, it returns None.

        Parameters
        ----------
        key : str
        seq : sequence
        dist : str
            ``'b'``: blocks, ``'r'``: like cards.
        flatten : bool
            A part of one item is given as the item itself.
        targets : int, list of int, slice or 'all', optional
            Engines; by default those of the view.
        block : bool, optional
            Wait for the end; by default as the view does.
        track
            Taken for ipyparallel's sake; it changes nothing.
        """
        del track
        partition = partition_of(dist)
        _check_variable(key)
        chosen, _ = self._chosen(targets)
        results = []
        for p, target in enumerate(chosen):
            part = partition.getPartition(seq, p, len(chosen))
            value = part[0] if flatten and len(part) == 1 else part
            results.append(self._call(namespace.push, ({key: value},), targets=[target]))
        return self._finish_quietly(AsyncResult.join(*results), block)

    def _finish_quietly(self, result: AsyncResult, block: bool | None) -> AsyncResult | None:
        """Without the values, a None for each engine, which a notebook would show."""
        finished = self._finish(result, block)
        return finished if finished is result else None

    def gather(
        self, key: str, dist: str = "b", targets: Targets = None, block: bool | None = None
    ) -> Any:
        """The parts of a sequence that :meth:`scatter` dealt out, put together again.

        Parameters
        ----------
        key : str
            The variable.
        dist : str
            As it was dealt: ``'b'`` or ``'r'``.
        targets : optional
            Other engines than the view's.
        block : bool, optional
        """
        partition = partition_of(dist)
        if not isinstance(key, str):
            raise TypeError(f"key must be a string, not {type(key).__name__} {key!r}")
        chosen, _ = self._chosen(targets)
        chunks = [([key], 1, target) for target in chosen]
        result = parts_join(self, chunks, partition)
        return self._finish(result, block)

    # -- maps ------------------------------------------------------------------------------------

    def map_async(
        self, f: Callable[..., Any], *sequences: Iterable[Any], **options: Any
    ) -> AsyncMapResult:
        """Call ``f`` for each item; each engine gets one part of the items.

        Parameters
        ----------
        f : callable
        *sequences : iterables
        dist : str
            ``'b'``: blocks, ``'r'``: like cards.
        ordered : bool
        timeout : float, optional
            Seconds that the call for one item may take; by default the view's.
        label : str, optional
            Of these tasks; by default that of the view.
        """
        refuse_unknown("map", "option", options, _MAP_OPTIONS)
        label = options.pop("label", None)
        dist = options.pop("dist", "b")
        timeout = options.pop("timeout", None)
        ordered = bool(options.pop("ordered", True))
        partition = partition_of(dist)
        items, count, star = zip_sequences(sequences)
        chosen, _ = self._chosen()
        parts = min(len(chosen), count)
        chunks = []
        for p in range(parts):
            part = partition.getPartition(items, p, parts, count)
            chunks.append((part, len(part), chosen[p]))
        return self._submit_chunks(
            f, chunks, partition, star=star, ordered=ordered, timeout=timeout, label=label
        )

    def imap(
        self, f: Callable[..., Any], *sequences: Iterable[Any], **options: Any
    ) -> Iterator[Any]:
        """Map; iterate over the values as they come.  Options as for :meth:`map_async`.

        Parameters
        ----------
        f : callable
        *sequences : iterables
        **options
        """
        return iter(self.map_async(f, *sequences, **options))

    def map_parts(self, f: Callable[..., Any], *sequences: Iterable[Any], dist: str = "b") -> Any:
        """Call ``f`` on each engine with its part of the sequences; join the results.

        Parameters
        ----------
        f : callable
        *sequences : iterables
        dist : str
            How items are dealt out: ``'b'`` in blocks, ``'r'`` in turn.
        """
        chosen, _ = self._chosen()
        return self._finish(parts_async(self, f, sequences, dist, chosen), None)

    # -- more ------------------------------------------------------------------------------------

    @contextmanager
    def sync_imports(self, local: bool = True, quiet: bool = False) -> Iterator[None]:
        """Import statements within the context happen on the engines, too.

        For statements of a notebook or script itself (``__main__``), not of what they import.

        Parameters
        ----------
        local : bool
            Import here as well.
        quiet : bool
            Do not say what is imported.
        """
        with importing(self, local=local, quiet=quiet):
            yield

    @property
    def importer(self) -> AbstractContextManager[None]:
        """``with view.importer: import ...``: :meth:`sync_imports`."""
        return self.sync_imports()

    def use_cloudpickle(self) -> None:
        """Nothing to do: functions of a notebook travel by value in any case."""

    use_dill = use_cloudpickle

    def interrupt(self) -> dict[str, str]:
        """Raise KeyboardInterrupt in what these engines run."""
        return self.client.send_signal(targets=self._chosen()[0])

    def bind_kernel(self, **options: Any) -> Any:
        """Turn these engines into Jupyter kernels, too: ``client.bind_kernel``."""
        if not isinstance(self.client, EngineCare):
            backend = self.client.capabilities.backend
            raise CapabilityError(f"{backend} cannot be turned into kernels from here")
        return self.client.bind_kernel(self.targets, **options)

    def activate(self, suffix: str = "") -> None:
        """Make ``%px{suffix}``, ``%%px{suffix}``, ``%pxresult{suffix}`` work on this view."""
        from ipyasyncresult.client.activation import activate

        activate(self, suffix)

    def __len__(self) -> int:
        return 1 if isinstance(self.targets, int) else len(self._chosen()[0])

    def __bool__(self) -> bool:
        return True  # also when no engine is up

    def __repr__(self) -> str:
        return f"<DirectView {self.targets}>"


def parts_join(view: DirectView, chunks: list[tuple[Any, int, int]], partition: Any) -> Any:
    """Pull one variable from each engine as the part of a whole."""
    from ipyasyncresult.client.loadbalanced import JoinedParts

    return view._submit_chunks(namespace.pull, chunks, JoinedParts(partition), star=False)


def _check_variable(name: object) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"a variable needs a name that is an identifier, not {name!r}")
