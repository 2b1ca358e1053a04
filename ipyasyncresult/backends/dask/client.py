"""``DaskClient``: the workers of Dask distributed as engines."""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ipyasyncresult.backends.client import BackendClient
from ipyasyncresult.backends.dask import CAPABILITIES
from ipyasyncresult.backends.dask.ending import forget_at_its_end
from ipyasyncresult.backends.dask.errors import CLOSED
from ipyasyncresult.backends.dask.flow import TakesDeliveries
from ipyasyncresult.backends.dask.kept import PREFIX
from ipyasyncresult.backends.dask.worker import (
    Job,
    OutOfReach,
    about_worker,
    executing_keys,
)
from ipyasyncresult.backends.recall import Entry
from ipyasyncresult.client.loadbalanced import LoadBalancedView
from ipyasyncresult.core.arguments import check_count, check_number, is_number
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.capabilities import Capabilities
from ipyasyncresult.core.mapresult import AsyncMapResult
from ipyasyncresult.core.waiting import check_timeout
from ipyasyncresult.errors import HubError, StartError, TimeoutError, VersionMismatch

if TYPE_CHECKING:
    from ipyasyncresult.client.targets import Targets

__all__ = ["DaskClient", "DaskView"]

_LAST_WORDS = 3.0
"""Seconds that closing takes at most, to have the scheduler keep what it does not yet."""


class Scheduling(NamedTuple):
    """How Dask is to schedule what is submitted."""

    priority: float = 0
    resources: Mapping[str, float] | None = None


_scheduling: ContextVar[Scheduling] = ContextVar("scheduling", default=Scheduling())  # noqa: B039


def _check_resources(resources: Any) -> Any:
    if resources is None:
        return None
    given = resources.items() if isinstance(resources, Mapping) else [(None, resources)]
    if not all(isinstance(name, str) and is_number(count) for name, count in given):
        raise TypeError(
            f"resources must be numbers by name ({{'GPU': 1}}) or None, not {resources!r}"
        )
    return resources


class DaskView(LoadBalancedView):
    """Calls on whichever worker the scheduler chooses.

    Attributes
    ----------
    priority : int or float
        Higher ones run first.
    resources : dict or None
        What a worker must have: ``{'GPU': 1}``.
    """

    client: DaskClient
    _checks: ClassVar = {
        **LoadBalancedView._checks,
        "priority": partial(check_number, name="priority"),
        "resources": _check_resources,
    }

    def __init__(self, client: DaskClient) -> None:
        super().__init__(client)
        self.priority: float = 0
        self.resources: Mapping[str, float] | None = None

    def apply_async(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        with self._scheduled():
            return super().apply_async(f, *args, **kwargs)

    def map_async(self, f: Callable[..., Any], *sequences: Any, **options: Any) -> AsyncMapResult:
        with self._scheduled():
            return super().map_async(f, *sequences, **options)

    @contextmanager
    def _scheduled(self) -> Iterator[None]:
        token = _scheduling.set(Scheduling(self.priority, self.resources))
        try:
            yield
        finally:
            _scheduling.reset(token)


class DaskClient(TakesDeliveries):
    """Tasks through a ``distributed.Client``.

    Attributes
    ----------
    dask : distributed.Client
    """

    def __init__(self, dask: Any, *, owns: bool, keep: int) -> None:
        BackendClient.__init__(self, CAPABILITIES, "dask")
        super().__init__(dask, keep)
        self._owns = owns
        # Dask makes statistics by the words a key begins with: one kind, not one for each task.
        self.session: str = PREFIX + self.session
        try:
            self._check_workers()
            self._listen_to({self.session})
        except BaseException:
            self.close()
            raise
        self._news.start()

    def _check_workers(self) -> None:
        self._look_at_workers()
        try:
            found = self.dask.run(about_worker)
        except Exception as error:
            raise StartError(
                "the Dask workers cannot run tasks of ipyasyncresult; it must be installed there "
                f"and at the scheduler, too: {type(error).__name__}: {error}"
            ) from error
        mine, _ = this_process = about_worker()
        for address, (theirs, _) in found.items():
            if tuple(theirs) != mine:
                raise VersionMismatch(
                    f"worker {address} has ipyasyncresult {theirs[0]} on Python {theirs[1]}, this "
                    f"client {mine[0]} on Python {mine[1]}"
                )
        if this_process in map(tuple, found.values()):  # threads of the user's own process
            self.capabilities: Capabilities = dataclasses.replace(CAPABILITIES, cells=False)
        elif self.dask.cluster is not None:
            self.dask.register_plugin(OutOfReach())
        if self.dask.cluster is not None:
            forget_at_its_end(self.dask.cluster)

    def _look_at_workers(self) -> None:
        self._threads = dict(self.dask.nthreads())
        for address in sorted(self._threads):
            self._engine_at(address)

    @property
    def ids(self) -> list[int]:
        """Numbers of the workers, in the order in which they were met."""
        if self.dask.status == "running" and not self.dask.asynchronous:
            self._look_at_workers()
        return sorted(self._engine_at(address) for address in self._threads)

    def __len__(self) -> int:
        return len(self._threads)  # asked before every call: nobody else is asked

    @property
    def engines(self) -> dict[int, dict[str, Any]]:
        """Address and threads of each worker."""
        return {
            self._engine_at(address): {"uuid": address, "threads": count}
            for address, count in self._threads.items()
        }

    def engine_count(self) -> int:
        """How many threads work on tasks."""
        return sum(self._threads.values())

    def wait_for_engines(
        self, n: int | None = None, *, timeout: float | None = -1, block: bool = True
    ) -> None:
        """Wait until `n` workers are there; TimeoutError when they are not in time."""
        del block
        wanted = 1 if n is None else check_count(n, "n", what="a number of workers")
        try:
            self.dask.wait_for_workers(wanted, timeout=check_timeout(timeout))
        except builtins.TimeoutError as error:
            raise TimeoutError(str(error)) from error
        self._look_at_workers()

    def load_balanced_view(self, targets: Targets = None, **flags: Any) -> DaskView:
        """A view of all workers; flags are also Dask's ``priority`` and ``resources``."""
        super().load_balanced_view(targets)  # refuses targets
        view = DaskView(self)
        view.set_flags(**{"block": self.block, **flags})
        return view

    def _check_open(self) -> None:
        super()._check_open()
        if self.dask.status in CLOSED:  # that is noticed half a second later
            raise HubError("the Dask client was closed")

    def _send(self, entries: list[Entry]) -> None:
        self._enter(entries)
        by_aim: dict[tuple[int, int], list[Entry]] = {}
        for entry in entries:
            by_aim.setdefault((entry.task.target, entry.task.retries), []).append(entry)
        sent: list[tuple[Entry, Any]] = []
        for (target, retries), some in by_aim.items():
            sent += zip(some, self._map(some, target, retries), strict=True)
        self._futures.update({entry.record.msg_id: future for entry, future in sent})
        self.dask.loop.add_callback(self._keep_later, sent)

    def _map(self, entries: list[Entry], target: int, retries: int) -> list[Any]:
        ids = [entry.record.msg_id for entry in entries]
        scheduling = _scheduling.get()
        options: dict[str, Any] = {
            "priority": scheduling.priority,
            "resources": scheduling.resources,
            "retries": retries or None,
            "pure": False,
        }
        if target >= 0:
            address = next(a for a, number in self._places.items() if number == target)
            options["workers"] = [address]
            self._aims.update(dict.fromkeys(ids, address))
        jobs = [self._pack(entry) for entry in entries]
        if len(ids) > 1 and not any(buffers for _, buffers in jobs):
            mapped: list[Any] = self.dask.map(
                pickle.loads, [data for data, _ in jobs], key=ids, **options
            )
            return mapped
        return [
            self.dask.submit(
                pickle.loads, data, key=msg_id, **options, **({"buffers": large} if large else {})
            )
            for msg_id, (data, large) in zip(ids, jobs, strict=True)
        ]

    def _pack(self, entry: Entry) -> tuple[bytes, list[pickle.PickleBuffer]]:
        """The task as bytes, and what Dask sends beside them, without copies."""
        work = tuple(self._work_of(entry, pickle.PickleBuffer))
        large: list[pickle.PickleBuffer] = []
        job = Job(entry.record.msg_id, self.session, work)
        return pickle.dumps(job, 5, buffer_callback=large.append), large

    def _abort(self, msg_ids: list[str]) -> None:
        running = {key for keys in self.dask.run(executing_keys).values() for key in keys}
        waiting = [i for i in msg_ids if i not in running and i in self._futures]
        futures = [self._futures[i] for i in waiting if self._futures[i].status == "pending"]
        if futures:
            self.dask.cancel(futures, force=True)
            self._take_back([future.key for future in futures])
            # While there is a future, Dask asks for its key, which the scheduler does not know.
            for future in futures:
                self._let_go(future.key)
            self.dask.loop.add_callback(self._keep_no_cancelled)

    def _shut_down(self, targets: Any, hub: bool, block: bool) -> None:
        del targets, hub, block
        if not self.closed:
            self.dask.shutdown()

    def _address(self) -> str | None:
        scheduler = self.dask.scheduler
        return None if scheduler is None else str(scheduler.address)

    def _release(self) -> None:
        with contextlib.suppress(Exception):  # it may be closed already
            if self.dask.status == "running" and not self.dask.asynchronous:
                self.wait_until_kept(_LAST_WORDS)
            self.dask.unsubscribe_topic(self.session)
        self._futures.clear()
        if self._owns:
            self.dask.close()
        self._news.stop()
