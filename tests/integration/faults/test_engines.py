"""Faults: every result resolves, only what ran on a dead engine fails, and the cluster heals."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import ipyasyncresult as ipar
from ipyasyncresult.errors import StartError
from tests.integration.conftest import hub_of

if TYPE_CHECKING:
    from tests.integration.conftest import Gate, NewGate, StartPython

SOON = 30.0
"""Seconds after which waiting for what should have happened at once is given up."""


def square(x: int) -> int:
    return x * x


def hold(started: Gate, go: Gate) -> str:
    started.open()
    go.wait()
    return "held"


def kill_engine(client: ipar.Client, engine_id: int, number: int = signal.SIGKILL) -> int:
    pid: int = client.engines[engine_id]["pid"]
    os.kill(pid, number)
    return pid


def events_of(client: ipar.Client, engine_id: int) -> list[str]:
    return [news.event for news in client.events if news.engine_id == engine_id]


def wait_until(client: ipar.Client, condition: Callable[[], bool]) -> None:
    """Wait until what the client hears makes it true."""
    assert client._connection.wait(condition, SOON)


def wait_for_event(client: ipar.Client, engine_id: int, event: str) -> None:
    """Wait until the client heard of it."""
    wait_until(client, lambda: event in events_of(client, engine_id))


@pytest.fixture(scope="module")
def mortal() -> Iterator[ipar.Client]:
    """Two engines that are killed and replaced."""
    with ipar.Cluster(n=2, restart_limit=1000) as client:
        client[:].apply_sync(list)
        yield client


@pytest.fixture
def client(mortal: ipar.Client, new_gate: NewGate) -> Iterator[ipar.Client]:
    mortal.events.clear()
    yield mortal
    new_gate.open_all()
    mortal.wait_for_engines(2, timeout=SOON)
    assert mortal.wait(timeout=SOON)
    assert mortal[:].apply_sync(square, 3) == [9, 9]


# ----------------------------------------------------------------------------- dying engines


def test_an_engine_killed_within_a_map_costs_one_task(
    client: ipar.Client, new_gate: NewGate
) -> None:
    never = new_gate("never")

    def work(n: int) -> int:
        if n == 500:
            never.wait()
        return n * n

    result = client.load_balanced_view().map_async(work, range(1000))
    assert len(result.msg_ids) == 1000
    wait_until(client, lambda: result.status[500] == "running")
    killed = kill_engine(client, result.engine_id[500])
    with pytest.raises(ipar.EngineError, match="SIGKILL") as caught:
        result.get(timeout=SOON)
    assert str(killed) in str(caught.value)
    assert len(result.failed) == 1
    assert result.ok == [n * n for n in range(1000) if n != 500]
    client.wait_for_engines(2, timeout=SOON)
    assert killed not in client[:].apply_sync(os.getpid)


def test_an_engine_killed_at_any_moment_costs_what_it_ran_and_what_was_just_leaving(
    client: ipar.Client,
) -> None:
    def work(n: int) -> int:
        time.sleep(0.002)
        return n * n

    result = client.load_balanced_view().map_async(work, range(1000))
    for progress in (100, 400, 700):
        wait_until(client, lambda progress=progress: result.progress >= progress)  # type: ignore[misc]
        client.wait_for_engines(2, timeout=SOON)
        kill_engine(client, 0)
    result.wait(timeout=SOON)
    # Each time the task that ran, and perhaps a result that had not left the process.
    assert len(result.failed) <= 2 * 3
    lost = {n for n, one in enumerate(result.get(return_exceptions=True)) if one != n * n}
    assert len(lost) == len(result.failed)
    assert all(isinstance(error, ipar.EngineError) for error in result.failed)


def test_the_one_lost_task_is_run_again_on_request(client: ipar.Client, new_gate: NewGate) -> None:
    started, never = new_gate("started"), new_gate("never")
    before = client[0].apply_async(hold, started, never)
    started.wait()
    kill_engine(client, 0)
    with pytest.raises(ipar.EngineError):
        before.get(timeout=SOON)
    never.open()
    assert before.retry_failed().get(timeout=SOON) == "held"


def test_killing_an_idle_engine_costs_nothing(client: ipar.Client) -> None:
    pid = kill_engine(client, 1)
    results = client.load_balanced_view().map_async(square, range(100))
    assert results.get(timeout=SOON) == [n * n for n in range(100)]
    wait_for_event(client, 1, "ready")
    assert events_of(client, 1) == ["replaced", "ready"]
    assert client.ids == [0, 1]
    assert client[1].apply_sync(os.getpid) != pid


def test_queued_tasks_of_a_killed_engine_go_on(client: ipar.Client, new_gate: NewGate) -> None:
    started, never = new_gate("started"), new_gate("never")
    running = client[0].apply_async(hold, started, never)
    started.wait()
    direct = [client[0].apply_async(square, n) for n in range(50)]
    kill_engine(client, 0)
    with pytest.raises(ipar.EngineError):
        running.get(timeout=SOON)
    assert [result.get(timeout=SOON) for result in direct] == [n * n for n in range(50)]


def test_all_engines_killed_at_once_are_replaced(client: ipar.Client, new_gate: NewGate) -> None:
    never = new_gate("never")
    gates = [new_gate("a"), new_gate("b")]
    running = [client[i].apply_async(hold, gates[i], never) for i in (0, 1)]
    for gate in gates:
        gate.wait()
    queued = client.load_balanced_view().map_async(square, range(100), chunksize=1)
    for engine_id in (0, 1):
        kill_engine(client, engine_id)
    for result in running:
        with pytest.raises(ipar.EngineError):
            result.get(timeout=SOON)
    assert queued.get(timeout=SOON) == [n * n for n in range(100)]


def test_retries_run_a_task_again_when_its_engine_died(
    client: ipar.Client, new_gate: NewGate
) -> None:
    first = new_gate("first try")

    def die_once() -> int:
        if not first.is_open():
            first.open()
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    for view in (client[0], client.load_balanced_view()):
        first.path.unlink(missing_ok=True)
        view.retries = 1
        assert view.apply_async(die_once).get(timeout=SOON) in [
            about["pid"] for about in client.engines.values()
        ]
        with pytest.raises(ipar.EngineError):
            view.apply_async(die).get(timeout=SOON)


def test_a_result_that_was_sent_survives_its_engine(client: ipar.Client, new_gate: NewGate) -> None:
    """The last thing that an engine says before it dies is heard."""
    done = client[0].map_async(square, range(20))
    done.get(timeout=SOON)
    started, never = new_gate("started"), new_gate("never")
    large = client[1].apply_async(bytes, 50_000_000)
    killing = client[1].apply_async(hold, started, never)
    started.wait()  # so the large result was handed to the socket
    kill_engine(client, 1)
    with pytest.raises(ipar.EngineError):
        killing.get(timeout=SOON)
    # Whole or lost, but answered.
    error = large.exception(timeout=SOON)
    assert error is None or isinstance(error, ipar.EngineError)
    if error is None:
        assert len(large.get()) == 50_000_000


def test_what_an_engine_started_ends_with_it(client: ipar.Client, new_gate: NewGate) -> None:
    started, never = new_gate("started"), new_gate("never")

    def start_child() -> None:
        import subprocess

        child = subprocess.Popen(["sleep", "300"])
        (started.path.parent / "child").write_text(str(child.pid))
        hold(started, never)

    running = client[0].apply_async(start_child)
    started.wait()
    child = psutil.Process(int((started.path.parent / "child").read_text()))
    kill_engine(client, 0)
    with pytest.raises(ipar.EngineError):
        running.get(timeout=SOON)
    assert child.wait(SOON) is None


def test_another_client_hears_of_a_lost_task_too(client: ipar.Client, new_gate: NewGate) -> None:
    started, never = new_gate("started"), new_gate("never")
    mine = client[0].apply_async(hold, started, never)
    started.wait()
    with ipar.Client(client.cluster_id) as other:
        theirs = other.get_result(mine.msg_ids[0])
        kill_engine(client, 0)
        with pytest.raises(ipar.EngineError, match="SIGKILL"):
            theirs.get(timeout=SOON)
        other.wait_for_engines(2, timeout=SOON)


# ------------------------------------------------------------- stopped engines, busy engines


def test_a_stopped_engine_is_reported_and_goes_on_when_it_may(client: ipar.Client) -> None:
    kill_engine(client, 0, signal.SIGSTOP)
    wait_for_event(client, 0, "stopped")
    assert client.engines[0]["stopped"]
    waiting = client[0].apply_async(square, 7)
    assert client.load_balanced_view().apply_async(square, 3).get(timeout=SOON) == 9
    assert not waiting.ready()
    kill_engine(client, 0, signal.SIGCONT)
    assert waiting.get(timeout=SOON) == 49
    wait_for_event(client, 0, "continued")
    assert not client.engines[0]["stopped"]


def test_a_stopped_engine_can_be_killed(client: ipar.Client, new_gate: NewGate) -> None:
    started, never = new_gate("started"), new_gate("never")
    running = client[0].apply_async(hold, started, never)
    started.wait()
    kill_engine(client, 0, signal.SIGSTOP)
    kill_engine(client, 0)
    with pytest.raises(ipar.EngineError, match="SIGKILL"):
        running.get(timeout=SOON)


def test_c_code_that_holds_the_interpreter_is_not_taken_for_dead(client: ipar.Client) -> None:
    def compute() -> int:
        import ctypes

        ctypes.PyDLL(None).usleep(700_000)  # with the GIL: nothing of the engine can answer
        return os.getpid()

    pid = client.engines[0]["pid"]
    assert client[0].apply_async(compute).get(timeout=SOON) == pid
    assert events_of(client, 0) == []


def test_a_short_task_does_not_wait_behind_a_long_one(
    client: ipar.Client, new_gate: NewGate
) -> None:
    """Work that an engine had taken ahead is given back when the task before it is long."""
    view = client.load_balanced_view()
    view.map_sync(square, range(200), chunksize=1)  # known to be short: taken in batches
    go = new_gate("go")

    def work(n: int) -> int:
        if n == 0:
            go.wait()
        return n

    result = view.map_async(work, range(100), chunksize=1)
    wait_until(client, lambda: result.progress == 99)
    go.open()
    assert result.get(timeout=SOON) == list(range(100))


# ------------------------------------------------------------------------------ crash loops


def test_engines_that_die_again_and_again_are_given_up(new_gate: NewGate) -> None:
    def die() -> None:
        os._exit(3)

    with ipar.Cluster(n=1, restart_limit=2) as client:
        dying = [client[0].apply_async(die) for _ in range(3)]
        for result in dying:
            with pytest.raises(ipar.EngineError, match="exit code 3"):
                result.get(timeout=SOON)
        waiting = client.load_balanced_view().apply_async(square, 2)
        with pytest.raises(ipar.EngineError, match="no more are started"):
            waiting.get(timeout=SOON)
        with pytest.raises(StartError, match="no more are started"):
            client.wait_for_engines(1, timeout=SOON)


def test_the_process_that_watches_engines_is_replaced_with_them(new_gate: NewGate) -> None:
    with ipar.Cluster(n=2) as client:
        started, never = new_gate("started"), new_gate("never")
        running = client[0].apply_async(hold, started, never)
        started.wait()
        queued = [client[0].apply_async(square, n) for n in range(5)]
        (nursery,) = hub_of(client).children()
        nursery.kill()
        with pytest.raises(ipar.EngineError):
            running.get(timeout=SOON)
        outcomes = [result.exception(timeout=SOON) for result in queued]
        assert all(error is None or isinstance(error, ipar.EngineError) for error in outcomes)
        client.wait_for_engines(2, timeout=SOON)
        assert client[:].apply_sync(square, 4) == [16, 16]


# ---------------------------------------------------------------------------------- Ctrl-C


def interrupt_when_it_says_so(script: Any) -> str:
    """Press Ctrl-C once the script said that it waits; what it printed then."""
    assert script.stdout.readline() == "waiting\n"
    script.send_signal(signal.SIGINT)
    printed, errors = script.communicate(timeout=SOON)
    assert script.returncode == 0, errors
    return str(printed)


@pytest.mark.parametrize(
    "wait",
    [
        "held.get()",
        "held.wait()",
        "client.wait()",
        "next(iter(view.map_async(gate.wait_for, [1, 2])))",
        "held.as_future().result()",
        "held.wait_interactive()",
        "view.apply_sync(gate.wait_for, 1)",
    ],
)
def test_ctrl_c_ends_waiting_and_nothing_else(
    start_python: StartPython, new_gate: NewGate, wait: str
) -> None:
    go = new_gate("go")
    script = start_python(
        f"""
        import pathlib, sys, threading, time
        import ipyasyncresult as ipar

        class Gate:
            path = pathlib.Path(sys.argv[1])
            def wait_for(self, value):
                while not self.path.exists():
                    time.sleep(0.005)
                return value

        gate = Gate()
        with ipar.Cluster(n=1) as client:
            view = client.load_balanced_view()
            held = client[0].apply_async(gate.wait_for, 5)
            try:
                # Said a moment after the wait began, or before: both must work.
                threading.Timer(0.05, print, ["waiting"], {{"flush": True}}).start()
                {wait}
            except KeyboardInterrupt:
                print("interrupted", held.ready())
            gate.path.touch()
            print(held.get(), client[0].apply_sync(pow, 2, 3), view.map_sync(abs, [-1]))
        """,
        go.path,
    )
    assert interrupt_when_it_says_so(script).splitlines() == ["interrupted False", "5 8 [1]"]


def test_ctrl_c_while_submitting_leaves_the_client_usable(start_python: StartPython) -> None:
    script = start_python(
        """
        import ipyasyncresult as ipar
        import numpy as np

        array = np.arange(20_000.0)  # out of band: messages of several parts
        with ipar.Cluster(n=1) as client:
            view = client.load_balanced_view()
            results = []
            try:
                print("waiting", flush=True)
                for n in range(10**9):
                    results.append(view.apply_async(abs, -n))
                    if n % 10 == 0:
                        results.append(view.apply_async(np.max, array))
            except KeyboardInterrupt:
                print("interrupted")
            values = [result.get(timeout=30) for result in results]
            print(len(values) == len(results), view.apply_sync(pow, 2, 3))
            print(client.wait(timeout=30), len(client.outstanding))
        """
    )
    assert script.stdout is not None
    printed = interrupt_when_it_says_so(script)
    assert printed.splitlines() == ["interrupted", "True 8", "True 0"]


def test_ctrl_c_reaches_no_engine(start_python: StartPython, new_gate: NewGate) -> None:
    """In a terminal every process of the foreground group gets the signal."""
    go = new_gate("go")
    script = start_python(
        """
        import os, pathlib, signal, sys, time
        import ipyasyncresult as ipar

        path = sys.argv[1]

        def wait():
            while not pathlib.Path(path).exists():
                time.sleep(0.005)
            return "not interrupted"

        os.setpgid(0, 0)
        with ipar.Cluster(n=1) as client:
            held = client[0].apply_async(wait)
            try:
                os.killpg(0, signal.SIGINT)
                held.get()
            except KeyboardInterrupt:
                print("interrupted")
            pathlib.Path(path).touch()
            print(held.get())
        """,
        go.path,
    )
    printed, errors = script.communicate(timeout=SOON)
    assert printed.splitlines() == ["interrupted", "not interrupted"], errors


def test_interrupts_within_tasks_stay_within_tasks(client: ipar.Client, new_gate: NewGate) -> None:
    """A hundred interrupts at any moment end tasks at most, never an engine."""
    view = client[0]
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            client.send_signal(signal.SIGINT, targets=0)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        results = [view.apply_async(sum, range(20_000)) for _ in range(200)]
        outcomes = [result.exception(timeout=SOON) for result in results]
    finally:
        stop.set()
        thread.join()
    assert {type(error).__name__ for error in outcomes} <= {"NoneType", "RemoteError"}
    assert "replaced" not in events_of(client, 0)


def test_time_goes_by_without_anybody_asking(client: ipar.Client, new_gate: NewGate) -> None:
    """Results are taken in, and callbacks called, while nobody waits."""
    called = threading.Event()
    client[0].apply_async(time.sleep, 0.05).add_done_callback(lambda _: called.set())
    assert called.wait(SOON)
