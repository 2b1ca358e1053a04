"""``Client``: engines by number, views over them, and what is known about tasks."""

from __future__ import annotations

import atexit
import contextlib
import functools
import signal
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from ipyasyncresult.client.anyclient import AnyClient, ids_of
from ipyasyncresult.client.care import EngineCare, signal_number, start_failure
from ipyasyncresult.client.clusters import newest_persistent
from ipyasyncresult.client.connection import Connection
from ipyasyncresult.client.questions import HubQuestions
from ipyasyncresult.client.reattach import reattach
from ipyasyncresult.client.targets import Targets, resolve_targets
from ipyasyncresult.core.arguments import check_callable, check_count
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.capabilities import OWN_ENGINES, Capabilities
from ipyasyncresult.core.ledger import Ledger
from ipyasyncresult.core.tally import Tally
from ipyasyncresult.core.task import TaskRecord
from ipyasyncresult.core.waiting import check_timeout
from ipyasyncresult.errors import StartError, TimeoutError
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.runtime import cluster_folder

__all__ = ["Client"]


class Client(HubQuestions, EngineCare, AnyClient):
    """A connection to a running cluster.  Usable from any thread.

    Parameters
    ----------
    cluster_id : str, optional
        Which cluster; ``Cluster(...).cluster_id`` and ``ipyasyncresult list`` tell.  By default
        your persistent cluster; with several, the newest.

    Raises
    ------
    HubError
        When no such cluster lives.
    VersionMismatch
        When it runs another Python or another version of this package.

    Examples
    --------
    >>> client = connect(n=4)
    >>> client.ids
    [0, 1, 2, 3]
    >>> client[:].apply_sync(os.getpid)
    [4711, 4712, 4713, 4714]

    Attributes
    ----------
    block : bool
        What :attr:`block` of new views is.
    """

    capabilities: Capabilities = OWN_ENGINES

    def __init__(self, cluster_id: str | None = None) -> None:
        self.cluster_id: str = cluster_id or newest_persistent()
        self.events: list[m.EngineNews] = []  # engines that came, died, stopped; newest last
        # The connection must not know the client: a forgotten client would never be collected.
        note = functools.partial(_note_event, self.events)
        self._connection = Connection(cluster_folder(self.cluster_id), note)
        self.ledger: Ledger = self._connection.ledger
        self._at_close: list[Callable[[], None]] = []
        # A forgotten client ends its thread and sockets; it must not be kept alive by this.
        self._finalizer = weakref.finalize(self, _close_elsewhere, self._connection)
        self._finalizer.atexit = False  # then it is closed by:
        atexit.register(self._connection.close)

    # -- engines ---------------------------------------------------------------------------------

    @property
    def ids(self) -> list[int]:
        """Ids of the engines, those that are being replaced included."""
        return sorted(self._connection.engines)

    def __len__(self) -> int:
        return len(self._connection.engines)

    def engine_count(self) -> int:
        """How many engines are up."""
        return sum(about.get("up", True) for about in self._connection.engines.values())

    @property
    def engines(self) -> dict[int, dict[str, Any]]:
        """What is known about each engine: ``uuid``, ``pid``, ``since``, ``stopped``."""
        return {engine_id: dict(self._connection.engines[engine_id]) for engine_id in self.ids}

    def wait_for_engines(
        self, n: int | None = None, *, timeout: float | None = -1, block: bool = True
    ) -> None:
        """Wait until `n` engines are up.

        Parameters
        ----------
        n : int, optional
            By default one.
        timeout : float or None
            Seconds; -1 and None wait for ever, 0 looks and does not wait.
        block
            Taken for ipyparallel's sake; it changes nothing.

        Raises
        ------
        TimeoutError
            When they are not within `timeout` seconds.
        StartError
            When they cannot start; the message carries the end of what they printed.
        """
        del block  # ipyparallel's signature; this always waits
        wanted = 1 if n is None else check_count(n, "n", 0, what="a number of engines")
        seconds = check_timeout(timeout)
        failed: list[m.EngineNews] = []

        def enough() -> bool:
            failed[:] = [news for news in self.events if news.event == "gave_up"]
            return self.engine_count() >= wanted or bool(failed) or bool(self._connection.closed)

        if not self._connection.wait(enough, seconds):
            raise TimeoutError(
                f"{self.engine_count()} of {wanted} engines are up after {timeout} s"
            )
        if self.engine_count() < wanted:
            about = failed[-1].details if failed else {"reason": self._connection.closed}
            raise StartError(start_failure(about))

    def add_engines(self, n: int = 1) -> list[int]:
        """Start `n` more engines, wait until they are up; their ids."""
        n = check_count(n, "n", what="a number of engines")
        added: list[int] = self._connection.ask("add_engines", count=n)
        self._connection.wait(
            lambda: set(added) <= self._connection.engines.keys() or self.closed, None
        )
        return added

    # -- tasks -----------------------------------------------------------------------------------

    @property
    def session(self) -> str:
        """The name of this connection; ids of its tasks start with it."""
        return self._connection.session

    @property
    def history(self) -> list[str]:
        """Ids of all tasks submitted here, oldest first."""
        return self._connection.sent_ids()

    def new_msg_id(self) -> str:
        """An id for a task."""
        return self._connection.new_msg_id()

    def submit(
        self,
        functions: list[bytes],
        tasks: list[m.Task],
        frames: Sequence[Any] = (),
        group: m.Group | None = None,
    ) -> tuple[list[TaskRecord], Any]:
        """Send tasks; for views and executors."""
        return self._connection.submit(functions, tasks, frames, group)

    def submit_one(self, function: bytes, task: m.Task) -> tuple[TaskRecord, Tally]:
        """Send one task without frames; its record and who counts it.  For views."""
        return self._connection.submit_one(function, task)

    def abort(
        self,
        jobs: AsyncResult | str | Sequence[str] | None = None,
        targets: Any = None,
        block: bool = True,
    ) -> dict[str, str]:
        """Take back tasks that have not started; by default all of this client.

        Parameters
        ----------
        jobs : AsyncResult, str or list of str, optional
            A result, or ids of tasks.
        targets, block
            Taken for ipyparallel's sake; it changes nothing.

        Returns
        -------
        dict
            Per task: ``'aborted'``, ``'running'`` (too late), ``'finished'`` or ``'unknown'``.
        """
        del targets, block  # ipyparallel's signature
        ids = None if jobs is None else ids_of(jobs)
        if ids is not None and not ids:
            return {}
        outcome: dict[str, str] = self._connection.request(lambda number: m.Abort(number, ids))
        return outcome

    def interrupt(
        self,
        msg_ids: AsyncResult | str | Sequence[str] | None = None,
        sig: int | str = signal.SIGINT,
    ) -> dict[str, str]:
        """Signal running tasks, by default with a KeyboardInterrupt.

        A task that has ended meanwhile is not signalled, nor is the one that runs in its place.

        Parameters
        ----------
        msg_ids : optional
            By default all that this client has under way.
        sig : int or str
            ``'SIGINT'``; for tasks that do not listen to it ``'SIGTERM'`` or ``'SIGKILL'``, which
            ends the engine: the task fails with ``EngineError``, and a new engine comes.

        Returns
        -------
        dict
            Per task: ``'interrupting'``, ``'terminating'``, ``'killed'`` (``'signalled'`` for other
            signals), ``'queued'`` (not started: :meth:`abort` takes it back), ``'finished'`` or
            ``'unknown'``.
        """
        number = signal_number(sig)
        ids = list(self.outstanding) if msg_ids is None else ids_of(msg_ids)
        outcome: dict[str, str] = self._connection.request(
            lambda request: m.Interrupt(request, ids, None, number)
        )
        return outcome

    def send_signal(
        self, sig: int | str = signal.SIGINT, targets: Targets = None, block: bool = True
    ) -> dict[str, str]:
        """Send a signal to engine processes; per engine ``'signalled'`` or why not.

        Parameters
        ----------
        sig : int or str
            Number or name, such as ``'SIGTERM'``.
        targets : int, list of int, slice or 'all', optional
            Engines; by default all.
        block
            Taken for ipyparallel's sake; it changes nothing.
        """
        del block
        number = signal_number(sig)
        chosen = self.ids if targets is None else resolve_targets(targets, self.ids)
        outcome: dict[str, str] = self._connection.request(
            lambda request: m.Interrupt(request, None, chosen, number)
        )
        return outcome

    def reduce_result(self, result: AsyncResult) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """How to pickle a result: ids and the cluster's id, no key, no data."""
        single = result.msg_ids[0] if result._single else result.msg_ids
        return reattach, (self.cluster_id, single)

    # -- the end ---------------------------------------------------------------------------------

    def call_at_close(self, call: Callable[[], None]) -> None:
        """Call when the client closes (its cluster, if it owns one, ends then)."""
        check_callable(call, "call")
        self._at_close.append(call)

    @property
    def closed(self) -> bool:
        """Whether this client can no longer be used."""
        return bool(self._connection.closed)

    def close(self, linger: float | None = None) -> None:
        """Close the connection; idempotent.  Outstanding results resolve with ``HubError``.

        Where engines stay, all that was submitted is done, and other clients find it.

        Parameters
        ----------
        linger
            Taken for ipyparallel's sake; it changes nothing.
        """
        del linger
        self._finalizer.detach()
        atexit.unregister(self._connection.close)
        self._connection.close()
        while self._at_close:
            self._at_close.pop()()

    def shutdown(
        self,
        targets: Any = "all",
        restart: bool = False,
        hub: bool = True,
        block: bool = True,
        timeout: float = 5.0,
    ) -> None:
        """End the cluster: engines, hub and files.

        Parameters
        ----------
        targets, restart, hub
            ipyparallel's; the whole cluster ends in any case.
        block : bool
            Wait until it is gone.
        timeout : float
            Seconds.

        Raises
        ------
        TimeoutError
            When the hub is not gone within `timeout` seconds.
        """
        del targets, restart, hub
        if not self.closed:
            self._connection.tell(m.Shutdown())
            if block:
                folder = cluster_folder(self.cluster_id)
                deadline = time.monotonic() + timeout
                while folder.exists():
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"the hub did not end within {timeout} s")
                    time.sleep(0.01)
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{len(self)} engines"
        return f"<Client({self.cluster_id}): {state}>"


def _note_event(events: list[m.EngineNews], news: m.EngineNews) -> None:
    events.append(news)
    del events[:-1000]


def _close_elsewhere(connection: Connection) -> None:
    """Close in a thread of its own: the garbage collector comes at any moment, also in one in which
    this thread holds the locks that closing needs."""
    atexit.unregister(connection.close)
    with contextlib.suppress(RuntimeError):  # the interpreter is ending: so does everything
        threading.Thread(
            target=connection.close, name="ipyasyncresult-closing", daemon=True
        ).start()
