"""Dask distributed: its workers as engines, its scheduler as the one who keeps results.

::

    client ── client.map(run_on_worker, ids, works, key=ids) ──▶ scheduler ──▶ worker
      ▲ ▲                                                                    run_live
      │ └── events of a topic: started, pieces of output ◀─────────────────────┤
      └──── gather, many at once: the Delivery ◀───────────────────────────────┘

A task's key is its id.  What was submitted is published as a data set of the scheduler, so that it
outlives this client and is found again by id or label.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import pickle
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from ipyasyncresult.backends.client import BackendClient, Call, Entry
from ipyasyncresult.backends.protocol import needs
from ipyasyncresult.client.loadbalanced import LoadBalancedView
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.capabilities import Capabilities
from ipyasyncresult.core.ledger import Batch
from ipyasyncresult.core.mapresult import AsyncMapResult
from ipyasyncresult.core.outputs import decode_outputs
from ipyasyncresult.core.task import Status, TaskRecord
from ipyasyncresult.core.waiting import check_timeout
from ipyasyncresult.errors import (
    EngineError,
    HubError,
    StartError,
    TaskAborted,
    TimeoutError,
    UnknownTaskError,
    VersionMismatch,
)
from ipyasyncresult.wire import messages as m
from ipyasyncresult.worker import guest
from ipyasyncresult.worker.guest import Delivery, Work
from ipyasyncresult.worker.live import STARTED, run_live

if TYPE_CHECKING:
    from ipyasyncresult.client.targets import Targets

__all__ = ["CAPABILITIES", "DaskClient", "DaskView", "connect", "recognizes"]

CAPABILITIES = Capabilities("Dask", interrupt_running=False)

_PREFIX = "ipyasyncresult-"  # of data sets and topics
_LOOK = 0.5
"""Seconds between two looks at scheduler and workers, while something is outstanding."""
_LAST_WORDS = 3.0
"""Seconds that closing takes at most, to have the scheduler keep what it does not yet."""
_PATIENCE = 0.25
"""Seconds for which finished results wait for those that are being gathered."""
_PUBLISH = 0.25
"""Seconds for which submissions are collected before they are published."""

_ADDRESSES = ("tcp://", "tls://", "ws://", "wss://", "ucx://", "inproc://")


def recognizes(target: object) -> bool:
    """Whether this backend is for `target`: a client, a cluster, a scheduler's address."""
    if isinstance(target, str):
        return target.startswith(_ADDRESSES)
    kinds = {kind.__module__.partition(".")[0] for kind in type(target).__mro__}
    if "concurrent" in kinds:  # Dask's own executor is an executor
        return False
    if kinds & {"distributed", "dask"}:
        return True
    # Clusters of dask_jobqueue, dask_kubernetes and their like.
    return hasattr(target, "scheduler_address") and hasattr(target, "get_client")


def connect(target: Any, *, keep: int = 10_000) -> DaskClient:
    """A client over Dask.

    Parameters
    ----------
    target : distributed.Client, cluster, or str
        A client is used and left open; for a cluster or an address one is made.
    keep : int
        How many of the latest results the scheduler keeps for later sessions; 0 for none.

    Raises
    ------
    StartError
        When the workers cannot import this package, or no scheduler answers.
    VersionMismatch
        When they have another version of it or of Python.
    """
    try:
        import distributed
    except ImportError as error:
        raise needs("dask", error) from error
    if type(keep) is not int or keep < 0:
        raise ValueError(f"keep must be a number of results >= 0, not {keep!r}")
    if isinstance(target, distributed.Client):
        return DaskClient(target, owns=False, keep=keep)
    try:
        make: Any = distributed.Client
        client = make(target, set_as_default=False)
    except (OSError, ValueError) as error:
        raise StartError(f"no Dask scheduler answers at {target!r}: {error}") from error
    return DaskClient(client, owns=True, keep=keep)


# ------------------------------------------------------------------------------- on the worker


class Parcel:
    """A task or a delivery with large buffers, which Dask sends without copies.

    Those without are plain bytes: Dask looks into tuples and lists, which takes longer than the
    rest of a short task.
    """

    def __init__(self, data: bytes, buffers: Sequence[Any]) -> None:
        self.data = data
        self.buffers = buffers

    @classmethod
    def pack(cls, value: tuple[Any, ...], buffers: Sequence[Any]) -> bytes | Parcel:
        """`value` and its buffers as one thing to send."""
        data = pickle.dumps(value, 5)
        if not buffers:
            return data
        return cls(data, [pickle.PickleBuffer(buffer) for buffer in buffers])

    @staticmethod
    def unpack(sent: bytes | Parcel) -> tuple[Any, Sequence[Any]]:
        """Value and buffers again."""
        if isinstance(sent, Parcel):
            return pickle.loads(sent.data), sent.buffers
        return pickle.loads(sent), ()


def run_on_worker(sent: bytes | Parcel) -> bytes | Parcel:
    """Run one task on a Dask worker."""
    from distributed import get_worker

    (msg_id, topic, work), buffers = Parcel.unpack(sent)
    worker = get_worker()

    def publish(number: int, piece: Any) -> None:
        worker.log_event(topic, (msg_id, number, piece, worker.address))

    done = run_live(Work(*work)._replace(buffers=buffers), publish, worker.address)
    return Parcel.pack(tuple(done._replace(buffers=())), done.buffers)


def executing_keys(dask_worker: Any) -> list[str]:
    """What a worker runs right now."""
    return [task.key for task in dask_worker.state.executing]


# -------------------------------------------------------------------------------- in the client


class Scheduling(NamedTuple):
    """How Dask is to schedule what is submitted."""

    priority: int = 0
    resources: Mapping[str, float] | None = None


_scheduling: ContextVar[Scheduling] = ContextVar("scheduling", default=Scheduling())  # noqa: B039


class DaskView(LoadBalancedView):
    """Calls on whichever worker the scheduler chooses.

    Attributes
    ----------
    priority : int
        Higher ones run first.
    resources : dict or None
        What a worker must have: ``{'GPU': 1}``.
    """

    client: DaskClient

    def __init__(self, client: DaskClient) -> None:
        super().__init__(client)
        self.priority = 0
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


class DaskClient(BackendClient):
    """Tasks through a ``distributed.Client``.

    Dask's event loop watches futures and gathers; a thread of our own enters what comes into the
    ledger, and runs callbacks, which may ask Dask again.
    """

    def __init__(self, dask: Any, *, owns: bool, keep: int) -> None:
        super().__init__(CAPABILITIES, "dask")
        self.dask = dask
        self._owns = owns
        self._keep = keep
        # Dask makes statistics by the words a key begins with: one kind, not one for each task.
        self.session = _PREFIX + self.session
        self._topic = self.session
        self._futures: dict[str, Any] = {}  # of unfinished tasks
        self._shown: dict[str, int] = {}  # pieces of output that came live
        self._aims: dict[str, str] = {}  # addresses that unfinished tasks must run at
        self._threads: dict[str, int] = {}  # worker addresses and their threads, as last seen
        self._news: queue.SimpleQueue[Callable[[Batch], None] | None] = queue.SimpleQueue()
        # The following belong to Dask's event loop.
        self._finished: list[Any] = []  # futures to gather
        self._gathering = False
        self._unpublished: list[tuple[Entry, Any]] = []  # with futures, which hold the results
        self._publishing: set[asyncio.Future[None]] = set()
        self._published: list[tuple[str, int]] = []  # data sets and how many tasks each has
        self._sets = 0
        try:
            self._check_workers()
            dask.subscribe_topic(self._topic, self._take_event)
        except BaseException:
            self.close()
            raise
        self._thread = threading.Thread(
            target=self._enter_news, name="ipyasyncresult-dask", daemon=True
        )
        self._thread.start()

    def _check_workers(self) -> None:
        self._look_at_workers()
        try:
            found = self.dask.run(guest.version)
        except Exception as error:
            raise StartError(
                "the Dask workers cannot run tasks of ipyasyncresult; it must be installed there "
                f"and at the scheduler, too: {type(error).__name__}: {error}"
            ) from error
        mine = guest.version()
        for address, theirs in found.items():
            if tuple(theirs) != mine:
                raise VersionMismatch(
                    f"worker {address} has ipyasyncresult {theirs[0]} on Python {theirs[1]}, this "
                    f"client {mine[0]} on Python {mine[1]}"
                )

    # -- engines ---------------------------------------------------------------------------------

    def _look_at_workers(self) -> None:
        self._threads = dict(self.dask.nthreads())
        for address in sorted(self._threads):
            self._engine_at(address)

    @property
    def ids(self) -> list[int]:
        """Numbers of the workers, in the order in which they were met."""
        if not self.closed and not self.dask.asynchronous:
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
        seconds = None if timeout is None or timeout < 0 else timeout
        try:
            self.dask.wait_for_workers(n or 1, timeout=seconds)
        except builtins.TimeoutError as error:
            raise TimeoutError(str(error)) from error

    def load_balanced_view(self, targets: Targets = None) -> DaskView:
        """A view of all workers, with Dask's ``priority`` and ``resources``."""
        super().load_balanced_view(targets)  # refuses targets
        return DaskView(self)

    # -- submitting ------------------------------------------------------------------------------

    def _send(self, entries: list[Entry]) -> None:
        self._enter(entries)
        by_aim: dict[tuple[int, int], list[Entry]] = {}
        for entry in entries:
            by_aim.setdefault((entry.task.target, entry.task.retries), []).append(entry)
        sent: list[tuple[Entry, Any]] = []
        for (target, retries), some in by_aim.items():
            sent += zip(some, self._map(some, target, retries), strict=True)
        self._futures.update({entry.record.msg_id: future for entry, future in sent})
        self.dask.loop.add_callback(
            self._watch, [future for _, future in sent], [entry for entry, _ in sent]
        )

    def _map(self, entries: list[Entry], target: int, retries: int) -> list[Any]:
        ids = [entry.record.msg_id for entry in entries]
        parcels = [self._pack(entry) for entry in entries]
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
        if len(ids) == 1:
            return [self.dask.submit(run_on_worker, parcels[0], key=ids[0], **options)]
        futures: list[Any] = self.dask.map(run_on_worker, parcels, key=ids, **options)
        return futures

    def _pack(self, entry: Entry) -> bytes | Parcel:
        work = tuple(self._work_of(entry._replace(buffers=()), bytes))
        return Parcel.pack((entry.record.msg_id, self._topic, work), entry.buffers)

    # -- in Dask's event loop --------------------------------------------------------------------

    def _watch(self, futures: list[Any], entries: list[Entry]) -> None:
        for future in futures:
            asyncio.ensure_future(self._watch_one(future))  # noqa: RUF006  the loop holds waiters
        if self._keep and entries:
            if not self._unpublished:
                asyncio.get_running_loop().call_later(_PUBLISH, self._publish_soon)
            self._unpublished += zip(entries, futures, strict=True)

    async def _watch_one(self, future: Any) -> None:
        try:
            await future.exception()
            if future.status == "finished":
                self._finished.append(future)
                if not self._gathering:
                    self._gathering = True
                    asyncio.get_running_loop().call_soon(self._gather_next)
                return
            await future.result()
            error: BaseException = EngineError(f"Dask calls its state {future.status!r}")
        except (asyncio.CancelledError, Exception) as caught:  # noqa: BLE001  Dask's or its loop's
            error = caught
        self._news.put(lambda batch: self._take_losses(batch, [future.key], error))

    def _gather_next(self) -> None:
        """Gather what has finished since the last time; while that is under way, more finishes,
        and is gathered together."""
        futures, self._finished = self._finished, []
        self._gathering = bool(futures)
        if futures:
            loop = asyncio.get_running_loop()
            gathered = asyncio.ensure_future(self._gather(futures))
            # One that takes long (its data is computed again) must not hold the others up.
            waited = asyncio.ensure_future(asyncio.wait({gathered}, timeout=_PATIENCE))
            waited.add_done_callback(lambda _: loop.call_soon(self._gather_next))

    async def _gather(self, futures: list[Any]) -> None:
        by_key = {future.key: future for future in futures}
        try:
            found = await self.dask.gather(by_key, errors="skip")
        except (asyncio.CancelledError, Exception) as error:  # noqa: BLE001
            lost = error
            self._news.put(lambda batch: self._take_losses(batch, list(by_key), lost))
            return
        # What was lost between its end and now is computed again, or has failed.
        for key, future in by_key.items():
            if found.get(key) is None:
                asyncio.ensure_future(self._watch_one(future))  # noqa: RUF006
        arrived = {key: value for key, value in found.items() if value is not None}
        self._news.put(lambda batch: self._take_results(batch, arrived))

    def _take_event(self, event: tuple[float, Any]) -> None:
        _, (msg_id, number, piece, address) = event
        self._news.put(lambda batch: self._take_piece(batch, msg_id, number, piece, address))

    def _publish_soon(self) -> None:
        submitted, self._unpublished = self._unpublished, []
        if submitted:
            task = asyncio.ensure_future(self._publish(submitted))
            self._publishing.add(task)
            task.add_done_callback(self._publishing.discard)

    async def _publish(self, submitted: list[tuple[Entry, Any]]) -> None:
        """Have the scheduler keep what was submitted, and let go of the oldest beyond the limit."""
        name = f"{self._topic}-{self._sets}"
        self._sets += 1
        about = [_describe(entry) for entry, _ in submitted]
        futures = [future for _, future in submitted]
        with contextlib.suppress(Exception):  # the scheduler is gone: others will say so
            await self.dask.publish_dataset({"tasks": about, "futures": futures}, name=name)
            self._published.append((name, len(submitted)))
            while sum(count for _, count in self._published[1:]) >= self._keep:
                oldest, _ = self._published.pop(0)
                await self.dask.unpublish_dataset(oldest)

    # -- in the thread of our own ----------------------------------------------------------------

    def _enter_news(self) -> None:
        looked = time.monotonic()
        while not self._closed:
            try:
                news = self._news.get(timeout=_LOOK)
            except queue.Empty:
                news = None
            if news is not None:
                with self.ledger.batch() as batch:
                    news(batch)
            if time.monotonic() - looked > _LOOK:
                self._look_around()
                looked = time.monotonic()

    def _take_results(self, batch: Batch, found: Mapping[str, bytes | Parcel]) -> None:
        for key, sent in found.items():
            parts, buffers = Parcel.unpack(sent)
            delivery = Delivery(*parts)._replace(buffers=buffers)
            self._finish(batch, key, delivery, self._shown.pop(key, 0))
            self._let_go(key)

    def _take_piece(self, batch: Batch, msg_id: str, number: int, piece: Any, address: str) -> None:
        if number == STARTED:
            batch.started(msg_id, self._engine_at(address), piece)
        elif number == self._shown.get(msg_id, 0) and msg_id in self._futures:
            self._shown[msg_id] = number + 1
            batch.output(msg_id, decode_outputs(piece))

    def _take_losses(self, batch: Batch, msg_ids: list[str], error: BaseException) -> None:
        for msg_id in msg_ids:
            self._lose(batch, msg_id, translate(error, msg_id))
            self._let_go(msg_id)

    def _let_go(self, msg_id: str) -> None:
        self._futures.pop(msg_id, None)
        self._aims.pop(msg_id, None)
        self._shown.pop(msg_id, None)

    def _look_around(self) -> None:
        """Nobody else tells of a closed client, or of a task whose worker will not come back."""
        if self.dask.status in ("closed", "closing"):
            self._end("the Dask client was closed")
            return
        if not self._futures:
            return
        try:
            self._look_at_workers()
        except Exception:  # noqa: BLE001  no answer: Dask tries to connect again, and gives up in time
            return
        missing = {i: a for i, a in list(self._aims.items()) if a not in self._threads}
        if missing:
            self._lose_missing(missing)

    def _lose_missing(self, missing: dict[str, str]) -> None:
        with self.ledger.batch() as batch:
            for msg_id, address in missing.items():
                self._lose(batch, msg_id, EngineError(f"worker {address} left under task {msg_id}"))
        futures = [self._futures[msg_id] for msg_id in missing if msg_id in self._futures]
        for msg_id in missing:
            self._let_go(msg_id)
        with contextlib.suppress(Exception):
            self.dask.cancel(futures, force=True)

    def wait_until_kept(self, timeout: float | None = -1) -> None:
        """Wait until the scheduler keeps what was submitted so far, for other sessions.

        Raises
        ------
        TimeoutError
            When that took longer than `timeout` seconds.
        """
        try:
            self.dask.sync(self._keep_all, callback_timeout=check_timeout(timeout))
        except builtins.TimeoutError as error:
            raise TimeoutError(f"the scheduler did not take it within {timeout} s") from error

    async def _keep_all(self) -> None:
        if self._unpublished:
            self._publish_soon()
        if self._publishing:
            await asyncio.wait(self._publishing)

    # -- control ---------------------------------------------------------------------------------

    def _abort(self, entries: list[Entry]) -> dict[str, str]:
        ids = [entry.record.msg_id for entry in entries]
        running = {key for keys in self.dask.run(executing_keys).values() for key in keys}
        waiting = [i for i in ids if i not in running and i in self._futures]
        futures = [self._futures[i] for i in waiting if self._futures[i].status == "pending"]
        if futures:
            self.dask.cancel(futures, force=True)
            self._take_back([future.key for future in futures])
        return {entry.record.msg_id: _fate(entry) for entry in entries}

    def shutdown(
        self,
        targets: Any = "all",
        restart: bool = False,
        hub: bool = True,
        block: bool = True,
        timeout: float = 5.0,
    ) -> None:
        """End scheduler and workers, and close."""
        del targets, restart, hub, block, timeout
        if not self.closed:
            self.dask.shutdown()
        self.close()

    def _address(self) -> str | None:
        scheduler = self.dask.scheduler
        return None if scheduler is None else str(scheduler.address)

    def _release(self) -> None:
        self._news.put(None)
        with contextlib.suppress(Exception):  # it may be closed already
            if self.dask.status == "running" and not self.dask.asynchronous:
                self.wait_until_kept(_LAST_WORDS)
            self.dask.unsubscribe_topic(self._topic)
        self._futures.clear()
        if self._owns:
            self.dask.close()
        thread = getattr(self, "_thread", None)
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # -- results of other sessions ---------------------------------------------------------------

    def _find_call(self, which: str) -> Call | None:
        for tasks in self._published_tasks():
            chosen = [t for t in tasks if which in (t["msg_id"], t["label"])]
            if chosen:
                last = chosen[-1]
                group = m.Group(*last["group"]) if last["group"] else None
                if group is None:
                    return Call((last["msg_id"],), None, last["label"])
                same = [t["msg_id"] for t in tasks if t["group"] == last["group"]]
                return Call(tuple(same), group, last["label"])
        return None

    def _published_sets(self) -> Iterator[dict[str, list[Any]]]:
        """What is kept, the newest first: ``tasks`` and ``futures``, side by side."""
        names = [n for n in self.dask.list_datasets() if str(n).startswith(_PREFIX)]
        for name in sorted(names, key=lambda n: int(n.rpartition("-")[2]), reverse=True):
            with contextlib.suppress(KeyError):  # taken away meanwhile
                yield self.dask.get_dataset(name)

    def _published_tasks(self) -> Iterator[list[dict[str, Any]]]:
        return (kept["tasks"] for kept in self._published_sets())

    def _fetch(self, msg_ids: list[str]) -> list[TaskRecord]:
        wanted = set(msg_ids)
        about: dict[str, tuple[dict[str, Any], Any]] = {}
        for kept in self._published_sets():
            for task, future in zip(kept["tasks"], kept["futures"], strict=True):
                if task["msg_id"] in wanted:
                    about[task["msg_id"]] = (task, future)
            if len(about) == len(wanted):
                break
        if missing := [i for i in msg_ids if i not in about]:
            raise UnknownTaskError(f"the Dask scheduler keeps no task {missing[0]!r}")
        records = []
        for msg_id in msg_ids:
            task, future = about[msg_id]
            record = TaskRecord(msg_id, task["submitted"])
            record.items, record.label = task["items"], task["label"]
            records.append(record)
            self._futures[msg_id] = future
        self.ledger.submit_many(records)
        for session in {msg_id.rpartition("-")[0] for msg_id in msg_ids} - {self._topic}:
            self.dask.subscribe_topic(session, self._take_event)
        self.dask.loop.add_callback(self._watch, [future for _, future in about.values()], [])
        return records

    def hub_history(self) -> list[str]:
        """Ids of all tasks that the scheduler keeps."""
        return [task["msg_id"] for tasks in self._published_tasks() for task in tasks]

    def purge_results(self, jobs: Any = "all", targets: Any = ()) -> int:
        """Let the scheduler forget all results of this package; how many data sets there were."""
        del targets
        if jobs != "all":
            raise ValueError(f"jobs must be 'all', not {jobs!r}: Dask forgets data sets as a whole")
        names = [n for n in self.dask.list_datasets() if str(n).startswith(_PREFIX)]
        for name in names:
            self.dask.unpublish_dataset(name)
        return len(names)

    purge_hub_results = purge_results

    def purge_everything(self) -> int:
        """:meth:`purge_results`."""
        return self.purge_results("all")


def _describe(entry: Entry) -> dict[str, Any]:
    group = entry.group
    return {
        "msg_id": entry.record.msg_id,
        "label": entry.record.label,
        "submitted": entry.record.submitted,
        "items": entry.record.items,
        "group": None
        if group is None
        else (group.group_id, group.fname, group.kind, group.partition, group.ordered),
    }


def _fate(entry: Entry) -> str:
    if entry.record.status is Status.ABORTED:
        return "aborted"
    return "running" if entry.record.received is None else "finished"


def translate(error: BaseException, msg_id: str) -> BaseException:
    """Dask's own error as one of ours; the cause is kept."""
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    made: BaseException
    if isinstance(error, KilledWorker):
        made = EngineError(f"the worker died under task {msg_id}: {error}")
    elif isinstance(error, FutureCancelledError | asyncio.CancelledError):
        reason = str(getattr(error, "reason", None) or error)
        if "scheduler" in reason or isinstance(error, asyncio.CancelledError):
            made = HubError(f"the Dask scheduler is gone ({reason or 'closed'}); task {msg_id}")
        else:
            made = TaskAborted(msg_id)
    elif isinstance(error, ImportError):
        made = EngineError(
            f"a worker or the scheduler cannot import what task {msg_id} needs; ipyasyncresult "
            f"must be installed there, too: {error}"
        )
    else:
        made = EngineError(f"Dask could not run task {msg_id}: {type(error).__name__}: {error}")
    made.__cause__ = error
    return made
