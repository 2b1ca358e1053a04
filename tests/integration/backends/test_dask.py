"""What is special to Dask: a real scheduler and real workers, each a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import distributed
import pytest
from distributed.client import FutureCancelledError

import ipyasyncresult as ipar
from ipyasyncresult import LoadBalancedView
from ipyasyncresult.backends.dask.client import DaskClient
from ipyasyncresult.core.hubresult import AsyncHubMapResult, AsyncHubResult
from ipyasyncresult.errors import (
    CapabilityError,
    HubError,
    ResultDecodeError,
    StartError,
    UnknownTaskError,
)
from tests.conftest import interrupted_when_it_waits, kinds_in_a_row

if TYPE_CHECKING:
    from tests.integration.conftest import NewGate

pytestmark = [pytest.mark.library_connections, pytest.mark.timeout(120)]

SOON = 30.0
"""Seconds after which waiting is given up."""

Until = Callable[[ipar.AsyncResult, Callable[[], object]], None]

DISPLAYS = "from IPython.display import HTML\nprint('hi')\ndisplay(HTML('<b>1</b>'))"

DASK = Path(sys.executable).with_name("dask")


class Processes:
    """A scheduler and its workers, started as a person does in a terminal."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self._file = folder / "scheduler.json"
        self.scheduler = self._start(
            "scheduler", "--port", "0", "--scheduler-file", str(self._file)
        )

    def add_worker(
        self, name: str, *options: str, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        return self._start(
            "worker",
            *("--scheduler-file", str(self._file), "--name", name, "--nthreads", "1"),
            *("--no-nanny", "--local-directory", str(self.folder), *options),
            environment=environment,
        )

    def _start(
        self, role: str, *options: str, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context((self.folder / f"{role}.log").open("ab"))
        process = subprocess.Popen(
            [DASK, role, "--host", "127.0.0.1", "--no-dashboard", *options],
            stdout=log,
            stderr=log,
            cwd=self.folder,
            env={**os.environ, **(environment or {})},
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def connect(self) -> distributed.Client:
        """A client of Dask's own."""
        client: Any = distributed.Client
        made: distributed.Client = client(
            scheduler_file=str(self._file), set_as_default=False, timeout=SOON
        )
        return made


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with ExitStack() as stack:
        made = Processes(tmp_path_factory.mktemp("dask"), stack)
        made.add_worker("first")
        made.add_worker("second", "--resources", "GPU=1")
        yield made


@pytest.fixture(scope="module")
def foreign(cluster: Processes) -> Iterator[distributed.Client]:
    with cluster.connect() as made:
        made.wait_for_workers(2, timeout=SOON)
        yield made


@pytest.fixture(scope="module")
def address(foreign: distributed.Client) -> str:
    scheduler: Any = foreign.scheduler
    return str(scheduler.address)


@pytest.fixture(scope="module")
def client(foreign: distributed.Client, address: str) -> Iterator[DaskClient]:
    with ipar.connect(address) as made:
        yield made


def number_of(client: DaskClient, foreign: distributed.Client, name: str) -> int:
    """The number of a worker by its name."""
    workers = foreign.scheduler_info(n_workers=-1)["workers"]
    (address,) = [address for address, about in workers.items() if about["name"] == name]
    (number,) = [n for n, about in client.engines.items() if about["uuid"] == address]
    return number


# --------------------------------------------------------- workers as engines: cells, variables


def test_a_worker_has_one_namespace_for_calls_and_cells(client: DaskClient) -> None:
    engines = client[:]
    assert len(engines) == 2
    assert engines.push({"a": 5, "b": "text"}, block=True) is None
    assert engines.pull(["a", "b"], block=True) == [[5, "text"]] * 2
    code = f"{DISPLAYS}\nc = a + 1\nc"
    result = engines.execute(code, block=False)
    assert [reply.text for reply in result.get(SOON)] == ["6", "6"]
    for task in result.tasks():
        assert kinds_in_a_row(task.outputs) == ["stdout", "display_data", "execute_result"]
        assert task.outputs[-2].data["text/html"] == "<b>1</b>"
    assert engines["c"] == [6, 6]
    engines.scatter("part", range(5), block=True)
    assert engines.apply_sync(lambda: len(part)) == [3, 2]  # type: ignore[name-defined]  # noqa: F821
    assert engines.gather("part", block=True) == list(range(5))
    with pytest.raises(ipar.CompositeError, match="2 x ZeroDivisionError"):
        engines.execute("1 / 0", block=False).get(SOON)


def test_px_runs_cells_there_and_shows_what_they_write(
    client: DaskClient,
    run_cell: Callable[[str], Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    client.activate()
    run_cell("%%px\nprint('said by a worker')")
    assert capsys.readouterr().out.count("said by a worker") == 2
    run_cell("%%px --targets 1\nprint('one alone')")
    assert capsys.readouterr().out.count("one alone") == 1
    with pytest.raises(ipar.CompositeError, match="2 x ZeroDivisionError"):
        run_cell("%px 1 / 0")


def test_a_cell_that_is_interrupted_says_what_dask_cannot_stop(
    client: DaskClient,
    new_gate: NewGate,
    run_cell: Callable[[str], Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    client.activate()
    gate, begun = new_gate("cell"), new_gate("begun")
    code = f"""
    import pathlib, time
    pathlib.Path({str(begun.path)!r}).touch()
    while not pathlib.Path({str(gate.path)!r}).exists():
        time.sleep(0.01)
    """
    with pytest.raises(KeyboardInterrupt), interrupted_when_it_waits(begun.is_open):
        run_cell(f"%%px --targets 0\n{textwrap.dedent(code)}")
    shown = capsys.readouterr().out
    assert "1 of 1 tasks go on, as Dask cannot interrupt them; %pxresult waits for them" in shown
    gate.open()
    assert client[0].apply_sync(abs, -1) == 1


def test_targets_are_workers(client: DaskClient) -> None:
    pids = client[:].apply_sync(os.getpid)
    assert len(set(pids)) == 2
    for number, pid in zip(client.ids, pids, strict=True):
        result = client[number].apply_async(os.getpid)
        assert result.get(SOON) == pid
        assert result.engine_id == number


def test_output_comes_while_the_task_runs(
    client: DaskClient, new_gate: NewGate, until: Until
) -> None:
    gate = new_gate("live")

    def speak(x: int) -> int:
        print("first", x)
        gate.wait()
        print("second", x)
        return x * 2

    result = client.load_balanced_view().map_async(speak, range(2), chunksize=1)
    until(result, lambda: result.stdout == ["first 0\n", "first 1\n"])
    assert (result.ready(), result.counts().running) == (False, 2)
    gate.open()
    assert result.get(SOON) == [0, 2]
    assert result.stdout == [f"first {x}\nsecond {x}\n" for x in range(2)]


def test_results_that_are_too_large_to_come_with_the_news_are_fetched(client: DaskClient) -> None:
    view = client.load_balanced_view()
    assert [len(data) for data in view.map_sync(bytes, [10, 10**4, 10**6], chunksize=1)] == [
        10,
        10**4,
        10**6,
    ]
    printed = view.apply_async(lambda: print("x" * 10**5))
    printed.get(SOON)
    assert printed.stdout == "x" * 10**5 + "\n"


def test_a_result_of_which_nobody_told_is_found(
    foreign: distributed.Client, new_gate: NewGate, until: Until
) -> None:
    gate = new_gate("untold")
    with ipar.connect(foreign) as deaf:
        foreign.unsubscribe_topic(deaf.session)
        result = deaf.load_balanced_view().map_async(lambda _: gate.wait(), range(3), chunksize=1)
        deaf.wait_until_kept(SOON)
        gate.open()
        result.get(SOON)
        assert not deaf._futures


def test_a_result_is_one_message_of_the_worker(
    client: DaskClient, foreign: distributed.Client
) -> None:
    """The news of it and what Dask says of the task travel together."""
    view = client.load_balanced_view()
    view.map_sync(abs, range(20), chunksize=1)  # every worker has its outbox by now
    result = view.map_async(abs, range(5), chunksize=1)
    result.get(SOON)

    def messages(dask_worker: Any) -> list[list[tuple[str, str]]]:
        sent = dask_worker.batched_stream.recent_message_log
        return [
            [(m["op"], m.get("key") or m["msg"][0]) for m in batch if m["op"] in ops]
            for batch in sent
        ]

    ops = ("log-event", "task-finished")
    found = [batch for sent in foreign.run(messages).values() for batch in sent]
    for msg_id in result.msg_ids:
        (batch,) = [batch for batch in found if any(key == msg_id for _, key in batch)]
        assert [op for op, key in batch if key == msg_id] == list(ops)


# ----------------------------------------------------------------- what Dask is told of each task


def scheduling_of(keys: list[str], dask_scheduler: Any = None) -> list[tuple[Any, ...]]:
    tasks = [dask_scheduler.tasks[key] for key in keys]
    return [(t.retries, -t.priority[0], t.resource_restrictions) for t in tasks]


def test_retries_priority_and_resources_are_passed_on(
    client: DaskClient, foreign: distributed.Client, new_gate: NewGate
) -> None:
    gate = new_gate("scheduling")
    view = client.load_balanced_view(retries=3, priority=7, resources={"GPU": 1})
    single = view.apply_async(gate.wait)
    several = view.map_async(lambda _: gate.wait(), range(2), chunksize=1)
    plain = client.load_balanced_view().apply_async(gate.wait)
    client.wait_until_kept(SOON)  # then the scheduler knows the tasks
    found = foreign.run_on_scheduler(scheduling_of, single.msg_ids + several.msg_ids)
    assert found == [(3, 7, {"GPU": 1})] * 3
    assert foreign.run_on_scheduler(scheduling_of, plain.msg_ids) == [(0, 0, None)]
    gate.open()
    several.get(SOON)
    gpu = number_of(client, foreign, "second")
    assert [single.engine_id, *several.engine_id] == [gpu] * 3


def test_bad_scheduling_is_refused_when_it_is_set(client: DaskClient) -> None:
    for priority in ("high", None, True):
        with pytest.raises(TypeError, match="priority must be a number, not"):
            client.load_balanced_view(priority=priority)
    for resources in ("GPU", {"GPU": "one"}, {1: 1}):
        with pytest.raises(TypeError, match="resources must be numbers by name"):
            client.load_balanced_view(resources=resources)


def test_clients_that_are_of_no_use_are_refused(address: str) -> None:
    async def connect_to_asynchronous() -> None:
        async with distributed.Client(address, asynchronous=True) as foreign:
            with pytest.raises(ValueError, match="target must not be asynchronous"):
                ipar.connect(foreign)

    asyncio.run(connect_to_asynchronous())
    foreign = distributed.Client(address, set_as_default=False)
    foreign.close()
    with pytest.raises(HubError, match="the Dask client is closed"):
        ipar.connect(foreign)


def test_what_no_worker_can_run_waits_and_is_taken_back(client: DaskClient) -> None:
    result = client.load_balanced_view(resources={"TPU": 1}).apply_async(abs, -1)
    assert client.load_balanced_view().apply_async(abs, -2).get(SOON) == 2
    assert result.status == "pending"
    assert result.abort() == {result.msg_ids[0]: "aborted"}
    with pytest.raises(ipar.TaskAborted):
        result.get(SOON)


def known_keys(dask_worker: Any) -> list[str]:
    return list(dask_worker.state.tasks)


def test_higher_priority_runs_first(
    client: DaskClient, foreign: distributed.Client, new_gate: NewGate
) -> None:
    gate = new_gate("priority")
    order = gate.path.with_name("order")

    def note(x: int) -> None:
        with order.open("a") as file:
            file.write(f"{x}\n")

    def view(priority: int) -> LoadBalancedView:
        # There is one GPU: one task at a time.
        return client.load_balanced_view(resources={"GPU": 1}, priority=priority)

    blocked = view(0).apply_async(gate.wait)
    low = view(-1).map_async(note, range(3), chunksize=1)
    high = view(1).map_async(note, range(9, 12), chunksize=1)
    sent = {*low.msg_ids, *high.msg_ids}
    while not sent <= {key for keys in foreign.run(known_keys).values() for key in keys}:
        threading.Event().wait(0.02)
    gate.open()
    for result in (blocked, low, high):
        result.get(SOON)
    assert [int(line) > 5 for line in order.read_text().split()] == [True] * 3 + [False] * 3


def test_what_it_cannot_do_is_refused(client: DaskClient) -> None:
    result = client.load_balanced_view().apply_async(abs, -1)
    with pytest.raises(CapabilityError, match=r"Dask cannot give an interrupt.*abort"):
        result.interrupt()
    with pytest.raises(CapabilityError, match="Dask cannot signal"):
        client.send_signal("SIGINT")
    view = client.load_balanced_view()
    view.timeout = 1.0
    with pytest.raises(CapabilityError, match="Dask cannot give time limits"):
        view.apply_async(abs, -1)


def test_threads_of_this_process_run_calls_and_no_cells(
    run_cell: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    local_cluster: Any = distributed.LocalCluster
    with (
        local_cluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        ipar.connect(cluster) as client,
    ):
        assert client.load_balanced_view().map_sync(abs, [-1, 2], chunksize=1) == [1, 2]
        client.activate()
        with pytest.raises(CapabilityError, match="Dask cannot give an IPython shell"):
            client[0].execute("1")
        with pytest.raises(CapabilityError, match="Dask cannot give an IPython shell"):
            run_cell("%px 1")
    # A cluster that is closed neither says that it loses what it kept, nor computes it again.
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == []


STOPPED = """
    import sys
    import threading
    import time
    from pathlib import Path

    import ipyasyncresult as ipar
    from distributed import LocalCluster
    from tests.conftest import waits_for_a_result

    def work(begun, gate):
        begun.touch()
        while not gate.exists():
            time.sleep(0.01)
        return "done"

    def say_when_all_wait(main, begun, wait):
        while not (begun.exists() and waits_for_a_result(main)):
            time.sleep(0.01)
        wait.touch()

    if __name__ == "__main__":
        begun, wait, gate = map(Path, sys.argv[1:])
        with (
            LocalCluster(
                n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"
            ) as cluster,
            ipar.connect(cluster) as client,
        ):
            result = client.load_balanced_view().apply_async(work, begun, gate)
            main = threading.get_ident()
            threading.Thread(target=say_when_all_wait, args=(main, begun, wait)).start()
            try:
                result.get()
            except KeyboardInterrupt as interrupt:
                print(*interrupt.__notes__)
            gate.touch()
            print(result.get(30))
"""


def test_the_stop_button_ends_the_wait_and_not_the_workers_of_this_process(
    new_gate: NewGate, tmp_path: Path
) -> None:
    """It signals the whole group of processes, to which those of a LocalCluster belong."""
    begun, wait, gate = new_gate("begun"), new_gate("wait"), new_gate("end")
    script = tmp_path / "stopped.py"
    script.write_text(textwrap.dedent(STOPPED))
    running = subprocess.Popen(
        [sys.executable, script, begun.path, wait.path, gate.path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    wait.wait()
    os.killpg(running.pid, signal.SIGINT)
    said, complaints = running.communicate(timeout=2 * SOON)
    # Dask logs what takes it long at the end.
    assert [line for line in complaints.splitlines() if " - distributed." not in line] == []
    assert said.splitlines() == [
        "0 of 1 done; the rest goes on: abort() takes back what is queued",
        "done",
    ]


# ------------------------------------------------------------------------- what goes wrong there


def test_futures_that_somebody_cancels_are_aborted_tasks(
    client: DaskClient, foreign: distributed.Client, new_gate: NewGate, until: Until
) -> None:
    gate = new_gate("cancelled")
    result = client.load_balanced_view().map_async(lambda _: gate.wait(), range(6), chunksize=1)
    client.wait_until_kept(SOON)  # then the scheduler knows the tasks
    future: Any = distributed.Future
    foreign.cancel([future(key, client=foreign) for key in result.msg_ids[-2:]], force=True)
    until(result, lambda: result.counts().failed == 2)
    gate.open()
    result.wait(SOON)
    assert [str(task.status) for task in result.tasks()] == ["ok"] * 4 + ["aborted"] * 2
    assert all(isinstance(error, ipar.TaskAborted) for error in result.failed)


def test_a_result_that_cannot_be_unpickled_comes_to_its_end(client: DaskClient) -> None:
    def unreadable() -> Any:
        class Unreadable:
            def __reduce__(self) -> Any:
                return eval, ("1 / 0",)

        return Unreadable()

    with pytest.raises(ResultDecodeError, match="division by zero"):
        client.load_balanced_view().apply_async(unreadable).get(SOON)


def allow_failures(number: int, dask_scheduler: Any = None) -> None:
    dask_scheduler.allowed_failures = number


def test_the_death_of_a_worker_ends_what_it_ran_and_what_waited_for_it(
    cluster: Processes, client: DaskClient, foreign: distributed.Client
) -> None:
    doomed = cluster.add_worker("doomed", "--resources", "DOOMED=1")
    foreign.wait_for_workers(3, timeout=SOON)
    # Any worker with the resource may run it: Dask gives it up after so many deaths.
    foreign.run_on_scheduler(allow_failures, 0)
    killed = client.load_balanced_view(resources={"DOOMED": 1}).apply_async(
        lambda: os.kill(os.getpid(), signal.SIGKILL)
    )
    with pytest.raises(ipar.EngineError, match="the worker died under task") as caught:
        killed.get(2 * SOON)
    assert isinstance(caught.value.__cause__, distributed.KilledWorker)
    assert doomed.wait(SOON) == -signal.SIGKILL
    doomed = cluster.add_worker("doomed", "--resources", "DOOMED=1")
    tracked = ipar.track(
        foreign.submit(os.kill, doomed.pid, signal.SIGKILL, resources={"DOOMED": 1}, pure=False)
    )
    with pytest.raises(ipar.EngineError, match="the worker died under task") as caught:
        tracked.get(2 * SOON)
    assert isinstance(caught.value.__cause__, distributed.KilledWorker)
    doomed.wait(SOON)
    foreign.run_on_scheduler(allow_failures, 3)

    again = cluster.add_worker("doomed again")
    foreign.wait_for_workers(3, timeout=SOON)
    assert len(client.ids) == 3
    engine = client[number_of(client, foreign, "doomed again")]
    running, waiting = engine.apply_async(wait_for_ever), engine.apply_async(os.getpid)
    again.kill()
    for result in (running, waiting):
        with pytest.raises(ipar.EngineError, match=r"worker tcp://.* left under task"):
            result.get(2 * SOON)
    assert len(client.ids) == 2
    assert client.load_balanced_view().apply_async(abs, -3).get(SOON) == 3


def wait_for_ever() -> None:
    while True:
        threading.Event().wait(1)


HIDES_THE_PACKAGE = """
import sys

class Hides:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ipyasyncresult":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hides())
"""


def test_a_worker_without_the_package_is_an_error_that_says_so(
    cluster: Processes,
    client: DaskClient,
    foreign: distributed.Client,
    address: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDES_THE_PACKAGE)
    bare = cluster.add_worker("bare", environment={"PYTHONPATH": str(tmp_path)})
    foreign.wait_for_workers(3, timeout=SOON)
    with pytest.raises(StartError, match=r"must be installed there.*No module named 'ipyasync"):
        ipar.connect(address)
    client.ids  # noqa: B018  looks for workers
    result = client[number_of(client, foreign, "bare")].apply_async(abs, -1)
    with pytest.raises(ipar.EngineError, match="ipyasyncresult must be installed there, too"):
        result.get(SOON)
    bare.kill()
    bare.wait()


def test_no_scheduler_is_an_error_that_says_so() -> None:
    with pytest.raises(StartError, match="no Dask scheduler answers at 'tcp://127"):
        ipar.connect("tcp://127.0.0.1:1", timeout=1)
    with pytest.raises(ValueError, match="target must have host and port"):
        ipar.connect("tcp://127.0.0.1")


def test_what_listens_and_says_nothing_is_no_scheduler() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(StartError, match="no answer within 1 s"):
            ipar.connect(address, timeout=1)


def test_the_death_of_the_scheduler_ends_every_result(tmp_path: Path) -> None:
    with ExitStack() as stack:
        alone = Processes(tmp_path, stack)
        with alone.connect() as foreign, ipar.connect(foreign) as client:
            view = client.load_balanced_view()
            with pytest.warns(UserWarning, match="no engine is up: the tasks wait$") as warned:
                result = view.map_async(abs, range(3), chunksize=1)
            assert warned[0].filename == __file__
            assert result.progress == 0
            alone.scheduler.kill()
            result.wait(SOON)
            assert len(result.failed) == 3
            for error in result.failed:
                assert isinstance(error, HubError)
                assert isinstance(error.__cause__, FutureCancelledError)
            # Dask tries to find the scheduler again; until it gives up, or we do.
            with pytest.warns(UserWarning, match="no engine is up"):
                late = view.apply_async(abs, -1)
            foreign.close()
            with (
                pytest.warns(UserWarning, match="no engine is up"),
                pytest.raises(HubError, match="the Dask client was closed"),
            ):
                view.apply_async(abs, -1)
            assert client.ids == []
            with pytest.raises(HubError, match="closed"):
                late.get(SOON)


# -------------------------------------------------------------------- results that are kept there


FIRST_SESSION = """
    import sys
    import ipyasyncresult as ipar

    assert "IPython" not in sys.modules
    client = ipar.connect(sys.argv[1])
    engine = client[client.ids[0]]
    engine.push({"pushed": 20}, block=True)
    assert engine.execute("pushed + 1", block=True).text == "21"

    def speak(x):
        print("speaking", x)
        return 6 / x

    view = client.load_balanced_view()
    view.label = "spoken"
    print(view.map_async(speak, [1, 2, 0, 3], chunksize=2).msg_ids[0])
    client.wait_until_kept(30)
"""


def test_results_come_back_after_a_restart(client: DaskClient, address: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(FIRST_SESSION), address]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    first = ran.stdout.strip()
    result = client.get_result("spoken")
    assert isinstance(result, AsyncHubMapResult)
    result.wait(SOON)
    assert result.ok == [6.0, 3.0, 2.0]
    assert isinstance(result.exception(), ZeroDivisionError)
    assert result.stdout == ["speaking 1\nspeaking 2\n", "speaking 0\nspeaking 3\n"]
    one = client.get_result([first])
    assert isinstance(one, AsyncHubResult)
    assert one.msg_ids == [first]
    with ipar.connect(address) as fresh:  # as in a notebook that was restarted
        assert set(fresh.get_result(-1).msg_ids) == set(result.msg_ids)
        with pytest.raises(UnknownTaskError, match="0 calls are remembered here: no number -2"):
            fresh.get_result(-2)


def test_what_was_taken_back_is_told_to_other_sessions_too(
    client: DaskClient, address: str, new_gate: NewGate, until: Until
) -> None:
    gate = new_gate("taken back")
    mine = client.load_balanced_view().map_async(lambda _: gate.wait(), range(4), chunksize=1)
    until(mine, lambda: mine.counts().running == 2)
    client.wait_until_kept(SOON)  # it keeps what did not run in the end
    fate = mine.abort()
    assert sorted(fate.values()) == ["aborted"] * 2 + ["running"] * 2
    with ipar.connect(address) as other:
        theirs = other.get_result(mine.msg_ids)
        gate.open()
        theirs.wait(SOON)
        mine.wait(SOON)
        assert [task.status for task in theirs.tasks()] == [task.status for task in mine.tasks()]
        assert [type(error) for error in theirs.failed] == [ipar.TaskAborted] * 2


def test_what_is_purged_while_it_is_fetched_is_told_so(
    client: DaskClient, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ipar.connect(address) as first:
        kept = first.load_balanced_view().apply_async(abs, -1)
        assert kept.get(SOON) == 1
        first.wait_until_kept(SOON)
    with ipar.connect(address) as other:
        ask = other.dask.run_on_scheduler

        def ask_and_purge(*question: Any) -> Any:
            answer = ask(*question)
            client.purge_results()
            return answer

        monkeypatch.setattr(other.dask, "run_on_scheduler", ask_and_purge)
        theirs = other.get_result(kept.msg_ids)
        with pytest.raises(ipar.TaskAborted):
            theirs.get(SOON)


def greet_with_more(times: int, dask_scheduler: Any) -> None:
    """The next clients hear of cancelled tasks in the message of their greeting."""
    left = [times]

    class Interrupts(distributed.SchedulerPlugin):
        def add_client(self, scheduler: Any, client: str) -> None:
            if left[0]:
                left[0] -= 1
                told: dict[str, Any] = {
                    "op": "cancelled-keys",
                    "keys": [],
                    "reason": None,
                    "msg": None,
                }
                scheduler.loop.add_callback(scheduler.report, told)

    dask_scheduler.add_plugin(Interrupts(), name="interrupts")


def test_somebody_may_cancel_at_the_moment_of_connecting(
    foreign: distributed.Client, address: str
) -> None:
    foreign.run_on_scheduler(greet_with_more, 2)
    with ipar.connect(address, keep=0) as client:
        assert client.load_balanced_view().apply_sync(abs, -1) == 1
    foreign.run_on_scheduler(greet_with_more, 100)
    with pytest.raises(StartError, match="says something else first"):
        ipar.connect(address)
    foreign.run_on_scheduler(greet_with_more, 0)


def test_the_scheduler_keeps_so_many_and_lets_go_of_the_oldest(
    client: DaskClient, address: str
) -> None:
    client.purge_results()
    with ipar.connect(address, keep=3) as few, ipar.connect(address, keep=0) as none:
        submitted = []
        for x in range(5):
            submitted += few.load_balanced_view().apply_async(abs, -x).msg_ids
            few.wait_until_kept(SOON)
        unkept = none.load_balanced_view().apply_async(abs, -1)
        none.wait_until_kept(SOON)
        assert client.hub_history() == submitted[-3:]  # oldest first
        assert client.get_result(submitted[-1]).get(SOON) == 4
        for gone in (submitted[0], unkept.msg_ids[0]):
            with pytest.raises(UnknownTaskError, match="the Dask scheduler keeps no task"):
                client.get_result(gone)
    with pytest.raises(ValueError, match="keep must be a number of results"):
        ipar.connect(address, keep=-1)
    assert client.purge_results() == 3
    assert client.hub_history() == []
