"""The kinds of engines that must keep the contract, behind the few verbs that its tests use.

A new backend joins by a class with these verbs, and its name in ``BACKENDS``.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cloudpickle
import pytest

from ipyasyncresult import AsyncMapResult, AsyncResult, Client, Cluster, LoadBalancedView, connect
from ipyasyncresult.core.outputs import Output
from ipyasyncresult.core.task import Status, TaskRecord
from ipyasyncresult.testing import FakeClient
from ipyasyncresult.worker.functions import dump_arguments, dump_function, load_result

ENGINES = 2
SOON = 30.0
"""Seconds after which waiting is given up."""


class Backend(Protocol):
    """Two engines of some kind."""

    client: Any

    def call(self, f: Callable[..., Any], *args: Any) -> AsyncResult:
        """Call once, on any engine."""

    def map(
        self, f: Callable[..., Any], items: Sequence[Any], *, ordered: bool = True
    ) -> AsyncMapResult:
        """A task for each item."""

    def seen_by_others(self, result: AsyncResult) -> AsyncResult:
        """The same result as another session gets it."""

    def client_elsewhere(self) -> str:
        """The expression that gives another process a client; where results are kept."""

    def close(self) -> None:
        """End it, whatever is under way."""


def ids_of(result: AsyncResult) -> str | list[str]:
    return result.msg_ids[0] if result._single else result.msg_ids


# -------------------------------------------------------------------------------- own engines


class OwnEngines:
    """Hub and engine processes of this machine."""

    def __init__(self) -> None:
        self.client = Cluster(n=ENGINES).start_and_connect_sync()
        self._second = Client(self.client.cluster_id)
        self._view = self.client.load_balanced_view()
        self.client[:].apply_sync(list)  # from now on every socket is open

    def call(self, f: Callable[..., Any], *args: Any) -> AsyncResult:
        return self._view.apply_async(f, *args)

    def map(
        self, f: Callable[..., Any], items: Sequence[Any], *, ordered: bool = True
    ) -> AsyncMapResult:
        return self._view.map_async(f, items, chunksize=1, ordered=ordered)

    def seen_by_others(self, result: AsyncResult) -> AsyncResult:
        self.client.queue_status()  # answered behind the tasks: then the hub knows them
        return self._second.get_result(ids_of(result))

    def client_elsewhere(self) -> str:
        return f"ipar.connect({self.client.cluster_id!r})"

    def close(self) -> None:
        self._second.close()
        self.client.close()


# ------------------------------------------------------- the least that a backend has to do


class Work(NamedTuple):
    """A call, ready to be sent."""

    function: bytes
    arguments: bytes
    is_item: bool
    """Of a map: then the value is a list of one."""


LEAST_ENGINE = """
import pickle, sys
from ipyasyncresult.worker.guest import run_function

answers = sys.stdout.buffer
while True:
    function, arguments, _ = pickle.load(sys.stdin.buffer)
    outcome, outputs = run_function(function, arguments)
    pickle.dump((outcome.ok, outcome.body, outputs), answers)
    answers.flush()
"""


class LeastClient(FakeClient):
    """A fake client that knows the work of its tasks."""

    def __init__(self) -> None:
        super().__init__(engines=ENGINES)
        self.queue: queue.Queue[TaskRecord | None] = queue.Queue()
        self.work: dict[str, Work] = {}

    def give(self, records: Sequence[TaskRecord], work: Sequence[Work]) -> None:
        for record, one in zip(records, work, strict=True):
            self.work[record.msg_id] = one
            self.queue.put(record)

    def fail_as_described(self, msg_id: str, failure: bytes) -> None:
        self._end(msg_id, Status.FAILED, (False, failure), None, None)

    def resubmit_records(self, records: Sequence[TaskRecord]) -> list[TaskRecord]:
        made = super().resubmit_records(records)
        self.give(made, [self.work[record.msg_id] for record in records])
        return made


class LeastBackend:
    """The fake client, played by processes that run one call after the other.

    A thread per process takes tasks from the queue, and tells the client how they went.
    """

    def __init__(self) -> None:
        self.client = LeastClient()
        engine = [sys.executable, "-c", LEAST_ENGINE]
        self._processes = [
            subprocess.Popen(engine, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(ENGINES)
        ]
        self._threads = [
            threading.Thread(target=self._serve, args=one) for one in enumerate(self._processes)
        ]
        for thread in self._threads:
            thread.start()

    def call(self, f: Callable[..., Any], *args: Any) -> AsyncResult:
        work = Work(dump_function(f), dump_arguments(args, {})[0], is_item=False)
        result = self.client.submit(f.__name__)
        self.client.give(result.records, [work])
        return result

    def map(
        self, f: Callable[..., Any], items: Sequence[Any], *, ordered: bool = True
    ) -> AsyncMapResult:
        function = dump_function(f)
        work = [Work(function, dump_arguments((item,), {})[0], is_item=True) for item in items]
        result = self.client.submit_map([1] * len(items), ordered, fname=f.__name__)
        self.client.give(result.records, work)
        return result

    def seen_by_others(self, result: AsyncResult) -> AsyncResult:
        return self.client.get_result(ids_of(result))

    def client_elsewhere(self) -> str:
        raise NotImplementedError

    def _serve(self, number: int, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        while (record := self.client.queue.get()) is not None:
            self.client.start(record.msg_id, number)
            if record.status is not Status.RUNNING:  # it was taken back
                continue
            work = self.client.work[record.msg_id]
            try:
                process.stdin.write(pickle.dumps(tuple(work)))
                process.stdin.flush()
                self._tell(record, work, *pickle.load(process.stdout))
            except (EOFError, BrokenPipeError):  # closed, or it died
                self.client.lose(record.msg_id, engine=number)
                return

    def _tell(
        self, record: TaskRecord, work: Work, ok: bool, body: bytes, outputs: list[Output]
    ) -> None:
        for output in outputs:
            self.client.output(record.msg_id, output.kind, output.text or output.data or "")
        if ok:
            value = load_result(body)
            self.client.finish(record.msg_id, [value] if work.is_item else value)
        else:
            self.client.fail_as_described(record.msg_id, body)

    def close(self) -> None:
        self.client.close()
        for process in self._processes:
            process.kill()
            self.client.queue.put(None)
        for thread, process in zip(self._threads, self._processes, strict=True):
            thread.join()
            process.communicate()


# ------------------------------------------------------------------- engines of other libraries


class Foreign:
    """A client over a cluster of somebody else's."""

    client: Any

    def __init__(self) -> None:
        self._view: LoadBalancedView = self.client.load_balanced_view()

    def call(self, f: Callable[..., Any], *args: Any) -> AsyncResult:
        return self._view.apply_async(f, *args)

    def map(
        self, f: Callable[..., Any], items: Sequence[Any], *, ordered: bool = True
    ) -> AsyncMapResult:
        return self._view.map_async(f, items, chunksize=1, ordered=ordered)

    def seen_by_others(self, result: AsyncResult) -> AsyncResult:
        found: AsyncResult = self.client.get_result(ids_of(result))
        return found

    def client_elsewhere(self) -> str:
        raise NotImplementedError

    def close(self) -> None:
        self.client.close()


class ExecutorBackend(Foreign):
    """Whatever is a ``concurrent.futures.Executor``."""

    def __init__(self, executor: concurrent.futures.Executor, **end: Any) -> None:
        self.executor = executor
        self.workers_are_threads = isinstance(executor, concurrent.futures.ThreadPoolExecutor)
        # A pool of processes breaks as a whole.
        self.workers_end_together = not self.workers_are_threads
        self._end = end
        self.client = connect(executor)
        super().__init__()
        with tempfile.TemporaryDirectory() as folder:  # from now on every worker is there
            self._view.map_sync(meet, range(ENGINES), [Path(folder)] * ENGINES, chunksize=1)

    def close(self) -> None:
        super().close()
        # A task may wait for a gate that is opened after this.
        self.executor.shutdown(wait=False, **self._end)


def meet(number: int, folder: Path) -> None:
    """Wait for the others, of whom each is another worker."""
    (folder / str(number)).touch()
    while len(list(folder.iterdir())) < ENGINES:
        threading.Event().wait(0.002)


def process_pool() -> Backend:
    # Not a fork: this process has threads.
    context = multiprocessing.get_context("spawn")
    return ExecutorBackend(concurrent.futures.ProcessPoolExecutor(ENGINES, mp_context=context))


def thread_pool() -> Backend:
    return ExecutorBackend(concurrent.futures.ThreadPoolExecutor(ENGINES))


def loky_pool() -> Backend:
    import loky

    return ExecutorBackend(loky.ProcessPoolExecutor(ENGINES), kill_workers=True)


class DaskBackend(Foreign):
    """Scheduler and workers of Dask, as ``LocalCluster`` starts them."""

    def __init__(self) -> None:
        import distributed

        self._cluster = distributed.LocalCluster(
            n_workers=ENGINES, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        )
        scheduler: Any = self._cluster.scheduler
        scheduler.allowed_failures = 0  # one death is enough to know
        self.client = connect(self._cluster)
        self._second = connect(self._cluster.scheduler_address)
        super().__init__()

    def seen_by_others(self, result: AsyncResult) -> AsyncResult:
        self.client.wait_until_kept(SOON)
        found: AsyncResult = self._second.get_result(ids_of(result))
        return found

    def client_elsewhere(self) -> str:
        return f"ipar.connect({self._cluster.scheduler_address!r})"

    def close(self) -> None:
        super().close()
        self._second.close()
        self._cluster.close()


class IpyparallelBackend(Foreign):
    """Controller and engines of ipyparallel."""

    def __init__(self) -> None:
        import ipyparallel

        self._cluster = ipyparallel.Cluster(
            n=ENGINES,
            delay=0,
            log_level=40,
            controller_args=["--HeartMonitor.period=500", "--IPController.log_level=40"],
        )
        self._cluster.start_cluster_sync()
        self._own = self._cluster.connect_client_sync()
        self._own.wait_for_engines(ENGINES, interactive=False)
        self.client = connect(self._own)
        self._second = connect(self._cluster)
        super().__init__()

    def seen_by_others(self, result: AsyncResult) -> AsyncResult:
        self.client.wait_until_kept(SOON)
        found: AsyncResult = self._second.get_result(ids_of(result))
        return found

    def client_elsewhere(self) -> str:
        named = (
            f"cluster_id={self._cluster.cluster_id!r}, profile_dir={self._cluster.profile_dir!r}"
        )
        return f"ipar.connect(__import__('ipyparallel').Client({named}))"

    def close(self) -> None:
        super().close()
        self._second.close()
        self._own.close()
        self._cluster.stop_cluster_sync()


# ------------------------------------------------------------------------------------ fixtures

BACKENDS: dict[str, Callable[[], Backend]] = {
    "own": OwnEngines,
    "least": LeastBackend,
    "processes": process_pool,
    "threads": thread_pool,
    "loky": loky_pool,
    "dask": DaskBackend,
    "ipyparallel": IpyparallelBackend,
}


def param(name: str) -> Any:
    """A backend's name, as a parameter of tests."""
    marks = [pytest.mark.library_connections] if name in ("dask", "ipyparallel") else []
    return pytest.param(name, marks=marks)


@pytest.fixture(scope="module", params=[param(name) for name in sorted(BACKENDS)])
def make_backend(request: pytest.FixtureRequest) -> Callable[[], Backend]:
    return BACKENDS[request.param]


@pytest.fixture(scope="module")
def backend(make_backend: Callable[[], Backend]) -> Iterator[Backend]:
    made = make_backend()
    yield made
    made.close()


@pytest.fixture(scope="module", autouse=True)
def _test_code_travels_by_value(request: pytest.FixtureRequest) -> Iterator[None]:
    modules = [request.module, sys.modules[Gate.__module__]]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    yield
    for module in modules:
        cloudpickle.unregister_pickle_by_value(module)


class Gate:
    """An event that processes share: a file that comes into being."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> None:
        self.path.touch()

    def wait(self) -> None:
        while not self.path.exists():
            threading.Event().wait(0.002)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """Closed; opened when the test has ended."""
    made = Gate(tmp_path / "gate")
    yield made
    made.open()
