"""What every client has, whoever runs its tasks: views, waiting, the ends of a ``with`` block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self

from ipyasyncresult.client.packing import PICKLES, Packing
from ipyasyncresult.client.targets import Targets, is_one, resolve_targets
from ipyasyncresult.core.arguments import check_names
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.capabilities import OWN_ENGINES, Capabilities
from ipyasyncresult.core.clientprotocol import ClientProtocol
from ipyasyncresult.core.tally import Tally
from ipyasyncresult.core.task import TaskRecord
from ipyasyncresult.core.tracebacks import interrupts_of_the_user
from ipyasyncresult.core.waiting import check_timeout
from ipyasyncresult.wire import messages as m

if TYPE_CHECKING:
    from ipyasyncresult.client.directview import DirectView
    from ipyasyncresult.client.executor import EngineExecutor
    from ipyasyncresult.client.loadbalanced import LoadBalancedView

__all__ = ["AnyClient", "ids_of"]


class AnyClient(ClientProtocol, Protocol):
    """The verbs that are the same over own engines and over those of others.

    Views know their client as this.  What is not written out here each kind of client does in its
    own way.
    """

    cluster_id: str
    capabilities: Capabilities = OWN_ENGINES
    events: list[m.EngineNews]
    block: bool = False  # of new views
    packing: Packing = PICKLES

    # -- what each kind of client does in its own way --------------------------------------------

    @property
    def ids(self) -> list[int]:
        """Ids of the engines."""

    @property
    def closed(self) -> bool:
        """Whether this client can no longer be used."""

    @property
    def history(self) -> list[str]:
        """Ids of all tasks submitted here, oldest first."""

    def new_msg_id(self) -> str:
        """An id for a task."""

    def submit(
        self,
        functions: list[Any],
        tasks: list[m.Task],
        frames: Sequence[Any] = (),
        group: m.Group | None = None,
    ) -> tuple[list[TaskRecord], Any]:
        """Send tasks; their records and, for large frames, a tracker.  For views.

        Functions and arguments are as :attr:`packing` makes them.
        """

    def submit_one(self, function: Any, task: m.Task) -> tuple[TaskRecord, Tally]:
        """Send one task without frames; its record and who counts it.  For views."""

    def abort(
        self,
        jobs: AsyncResult | str | Sequence[str] | None = None,
        targets: Any = None,
        block: bool = True,
    ) -> dict[str, str]:
        """Take back tasks that have not started.

        Parameters
        ----------
        jobs : AsyncResult, str or iterable of them
            Results, or ids of tasks; by default everything that is outstanding.
        targets, block
            Taken for ipyparallel's sake; it changes nothing.
        """

    def send_signal(
        self, sig: int | str = ..., targets: Targets = None, block: bool = True
    ) -> dict[str, str]:
        """Send a signal to engine processes.

        Parameters
        ----------
        sig : int or str
            Number or name, such as ``'SIGTERM'``.
        targets : int, list of int, slice or 'all', optional
            Engines; by default all.
        block
            Taken for ipyparallel's sake; it changes nothing.
        """

    def get_result(self, indices_or_msg_ids: Any = None, block: bool = False) -> AsyncResult:
        """A result by ids, by label, or by its number in the history.

        Parameters
        ----------
        indices_or_msg_ids : int, str, list of them, or AsyncResult, optional
            Numbers in the history (-1, the default, is the last call), ids, or a label.
        block : bool
            Wait for the end.
        """

    def queue_status(self, targets: Any = None, verbose: bool = False) -> dict[Any, Any]:
        """How many tasks wait.

        Parameters
        ----------
        targets, verbose
            Taken for ipyparallel's sake; it changes nothing.
        """

    def db_query(
        self, query: dict[str, Any] | None = None, keys: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """Descriptions of tasks."""

    def shutdown(
        self,
        targets: Any = "all",
        restart: bool = False,
        hub: bool = True,
        block: bool = True,
        timeout: float = 5.0,
    ) -> None:
        """End the cluster."""

    def close(self, linger: float | None = None) -> None:
        """Close the connection; idempotent.

        Parameters
        ----------
        linger
            Taken for ipyparallel's sake; it changes nothing.
        """

    # -- views -----------------------------------------------------------------------------------

    def _repr_html_(self) -> str:
        from ipyasyncresult.client.reprs import client_html

        return client_html(self)

    def __reduce__(self) -> NoReturn:
        # Most often a function names it by mistake.
        kind = type(self).__name__
        raise TypeError(f"a {kind} cannot be sent to engines; a task may connect() by itself")

    def __len__(self) -> int:
        return len(self.ids)

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, key: int | slice | Sequence[int]) -> DirectView:
        """``client[0]``, ``client[-1]``, ``client[:]``, ``client[[0, 2]]``."""
        if isinstance(key, str):
            raise TypeError(f"engines are given by number, slice or list, not {key!r}")
        return self.direct_view(key)

    def __iter__(self) -> Iterator[DirectView]:
        """A view of each engine."""
        return (self.direct_view(engine_id) for engine_id in self.ids)

    def direct_view(self, targets: Targets = "all", **flags: Any) -> DirectView:
        """A view of certain engines: what is called through it runs on each of them.

        Parameters
        ----------
        targets : int, slice, list of int or ``'all'``
        **flags
            Of the view: ``block``, ``label``, ``retries``, ...

        Raises
        ------
        IndexError
            When an engine does not exist.
        TypeError, ValueError
            When `targets` is not a number, a slice, a list of distinct numbers or ``'all'``.
        """
        from ipyasyncresult.client.directview import DirectView

        chosen = resolve_targets(targets, self.ids)
        view = DirectView(self, chosen[0] if is_one(targets) else chosen)
        return view.set_flags(**{"block": self.block, **flags})

    def broadcast_view(
        self, targets: Targets = "all", is_coalescing: bool = False, **flags: Any
    ) -> DirectView:
        """A direct view: every view sends what is common to its engines in one message.

        Parameters
        ----------
        targets : int, list of int, slice or 'all'
            Engines; by default all.
        is_coalescing
            Taken for ipyparallel's sake; it changes nothing.
        **flags
            As for :meth:`direct_view`.
        """
        del is_coalescing  # ipyparallel's signature
        return self.direct_view(targets, **flags)

    def activate(self, targets: Targets = "all", suffix: str = "") -> DirectView:
        """Make ``%px{suffix}`` and its family work on these engines; the view they use.

        Parameters
        ----------
        targets : int, list of int, slice or 'all'
            Engines; by default all.
        suffix : str
            With none, plain ``%px`` uses the view from now on.

        Raises
        ------
        RuntimeError
            Outside IPython.
        """
        view = self.direct_view(targets, block=True)
        view.activate(suffix)
        return view

    def load_balanced_view(self, targets: Targets = None, **flags: Any) -> LoadBalancedView:
        """A view of all engines: each call goes to one that has time; `flags` as for the other.

        Parameters
        ----------
        targets : None
            Others than all engines are refused.
        **flags
            As for :meth:`direct_view`.
        """
        from ipyasyncresult.client.loadbalanced import LoadBalancedView

        if targets is not None:
            raise ValueError(
                "a load-balanced view uses all engines: targets must be None; "
                "client[...] addresses certain ones"
            )
        return LoadBalancedView(self).set_flags(**{"block": self.block, **flags})

    def executor(self) -> EngineExecutor:
        """A ``concurrent.futures.Executor`` on these engines; closing it leaves them alone."""
        from ipyasyncresult.client.executor import EngineExecutor

        return EngineExecutor(client=self)

    # -- tasks -----------------------------------------------------------------------------------

    @property
    def outstanding(self) -> set[str]:
        """Ids of tasks that have not ended."""
        return self.ledger.outstanding

    def wait(
        self,
        jobs: AsyncResult | str | Iterable[AsyncResult | str] | None = None,
        timeout: float | None = -1,
    ) -> bool:
        """Wait for results or ids, by default for everything outstanding; False on time-out.

        Parameters
        ----------
        jobs : AsyncResult, str or iterable of them
            Results, or ids of tasks; by default everything that is outstanding.
        timeout : float or None
            Seconds; -1 and None wait for ever, 0 looks and does not wait.
        """
        seconds = check_timeout(timeout)
        with interrupts_of_the_user():
            if jobs is None:
                return self.ledger.waits.wait(lambda: not self.ledger.has_outstanding(), seconds)
            pending = self.ledger.pending(_all_ids_of(jobs) & self.outstanding)
            return self.ledger.waits.wait(
                lambda: all(record.received is not None for record in pending), seconds
            )

    def wait_interactive(
        self,
        jobs: AsyncResult | str | Iterable[AsyncResult | str] | None = None,
        interval: float = 1.0,
        timeout: float | None = -1,
    ) -> None:
        """Wait for results or ids, by default for everything outstanding, and show progress.

        Parameters
        ----------
        jobs : AsyncResult, str or iterable of them
            Results, or ids of tasks; by default everything that is outstanding.
        interval : float
            Seconds between two updates.
        timeout : float or None
            Seconds; -1 and None wait for ever, 0 looks and does not wait.

        Raises
        ------
        TimeoutError
            When `timeout` seconds passed before the end.  The tasks go on.
        """
        ids = self.outstanding if jobs is None else self.outstanding & _all_ids_of(jobs)
        records = self.ledger.pending(ids)
        AsyncResult.over(self, records, "tasks").wait_interactive(interval, timeout)

    def spin(self) -> None:
        """Nothing to do: messages are taken in by themselves.  ipyparallel's name."""
        return

    def clear(self, targets: Targets = None, block: bool = True) -> AsyncResult:
        """Empty the namespaces of the engines.

        Parameters
        ----------
        targets : int, list of int, slice or 'all', optional
            Engines; by default all.
        block : bool
            Wait for the end.
        """
        cleared: AsyncResult = self.direct_view("all" if targets is None else targets).clear()
        if block:
            cleared.get()
        return cleared

    # -- the end ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ids_of(jobs: AsyncResult | str | Sequence[str]) -> list[str]:
    """Ids of tasks, given as such or by their result."""
    if isinstance(jobs, AsyncResult):
        return jobs.msg_ids
    return check_names(jobs, "jobs", what="results or ids of tasks")


def _all_ids_of(jobs: AsyncResult | str | Iterable[AsyncResult | str]) -> set[str]:
    one = isinstance(jobs, AsyncResult | str) or not isinstance(jobs, Iterable)
    several: Iterable[Any] = [jobs] if one else jobs
    return {msg_id for job in several for msg_id in ids_of(job)}
