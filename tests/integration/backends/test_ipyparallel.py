"""What is special to clusters of ipyparallel: real controllers, schedulers and engines."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import ipyparallel
import ipyparallel.engine.app
import psutil
import pytest

import ipyasyncresult as ipar
from ipyasyncresult.backends.ipyparallel.client import IpyparallelClient
from ipyasyncresult.core.hubresult import AsyncHubMapResult, AsyncHubResult
from ipyasyncresult.errors import (
    CapabilityError,
    HubError,
    ResultDecodeError,
    UnknownTaskError,
)
from tests.conftest import kinds_in_a_row

if TYPE_CHECKING:
    from tests.integration.conftest import Gate, NewGate

pytestmark = pytest.mark.library_connections

HEARS_WHILE_BUSY = hasattr(ipyparallel.engine.app, "ControlThread")
"""Before 9.0 an engine that runs something hears of an abort when that has ended."""

SOON = 30.0
"""Seconds after which waiting is given up."""

DISPLAYS = "from IPython.display import HTML\nprint('hi')\ndisplay(HTML('<b>1</b>'))"

Until = Callable[[ipar.AsyncResult, Callable[[], object]], None]


@pytest.fixture(scope="module")
def cluster() -> Iterator[ipyparallel.Cluster]:
    made = ipyparallel.Cluster(
        n=2,
        delay=0,
        log_level=40,
        controller_args=["--HeartMonitor.period=500", "--IPController.log_level=40"],
    )
    made.start_cluster_sync()
    yield made
    made.stop_cluster_sync()


@pytest.fixture(scope="module")
def client(cluster: ipyparallel.Cluster) -> Iterator[IpyparallelClient]:
    with ipar.connect(cluster) as made:
        made.wait_for_engines(2, timeout=SOON)
        yield made


# ----------------------------------------------------------------------------------- direct views


def test_variables_and_parts_of_sequences_go_there_and_back(client: IpyparallelClient) -> None:
    engines = client[:]
    assert engines.push({"a": 5, "b": "text"}, block=True) is None
    assert engines["a"] == [5, 5]
    assert engines.pull(["a", "b"], block=True) == [[5, "text"]] * 2
    engines.scatter("part", range(5), block=True)
    assert engines.apply_sync(lambda: len(part)) == [3, 2]  # type: ignore[name-defined]  # noqa: F821
    assert engines.gather("part", block=True) == list(range(5))
    assert engines.map_sync(lambda x: x + a, range(4)) == [5, 6, 7, 8]  # type: ignore[name-defined]  # noqa: F821
    assert client[1].apply_sync(os.getpid) == engines.apply_sync(os.getpid)[1]
    with pytest.raises(ipar.RemoteError, match="nothing_there"):
        client[0].pull("nothing_there", block=True)


def test_cells_share_the_namespace_and_keep_their_displays(client: IpyparallelClient) -> None:
    code = f"{DISPLAYS}\nz = 6\nz + 1"
    result = client[:].execute(code, block=False)
    assert [reply.text for reply in result.get(SOON)] == ["7", "7"]
    for task in result.tasks():
        assert kinds_in_a_row(task.outputs) == ["stdout", "display_data", "execute_result"]
        assert task.outputs[-2].data["text/html"] == "<b>1</b>"
    assert client[:]["z"] == [6, 6]
    failed = client[:].execute("1 / 0", block=False)
    with pytest.raises(ipar.CompositeError, match="2 x ZeroDivisionError"):
        failed.get(SOON)


def test_px_runs_cells_there_and_shows_what_they_write(
    client: IpyparallelClient,
    run_cell: Callable[[str], Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    client.activate()
    run_cell("%%px\nname = 'engine'\nprint('said by', name)")
    shown = capsys.readouterr().out
    assert shown.count("said by engine") == 2
    run_cell("%%px --targets 1\nprint('one alone')")
    assert capsys.readouterr().out.count("one alone") == 1
    with pytest.raises(ipar.CompositeError, match="2 x ZeroDivisionError"):
        run_cell("%px 1 / 0")


# ------------------------------------------------------------------------- outputs, interrupts


def speak(gate: Gate) -> None:
    print("first")
    gate.wait()
    print("second")


def test_output_is_seen_while_the_task_runs(
    client: IpyparallelClient, new_gate: NewGate, until: Until
) -> None:
    view = client.load_balanced_view()
    for number, call in enumerate([client[0].apply_async, view.apply_async]):
        gate = new_gate(f"live-{number}")
        result = call(speak, gate)
        until(result, lambda result=result: result.stdout == "first\n")  # type: ignore[misc]
        assert (result.ready(), result.counts().running) == (False, 1)
        gate.open()
        result.get(SOON)
        assert result.stdout == "first\nsecond\n"


def rest() -> None:
    print("resting")
    time.sleep(600)


@pytest.mark.parametrize("kind", ["call", "cell"])
def test_what_runs_is_interrupted_and_the_engine_goes_on(
    client: IpyparallelClient, until: Until, kind: str
) -> None:
    pid = client[0].apply_sync(os.getpid)
    if kind == "call":
        result = client[0].apply_async(rest)
    else:
        client[0].push({"rest": rest}, block=True)
        result = client[0].execute("rest()", block=False)
    # Its own code runs: ipyparallel's engines lose a signal that comes earlier.
    until(result, lambda: result.stdout == "resting\n")
    assert list(result.interrupt().values()) == ["interrupting"]
    with pytest.raises(ipar.RemoteError) as caught:
        result.get(SOON)
    assert caught.value.ename == "KeyboardInterrupt"
    assert result.interrupt() == {}
    assert client[0].apply_sync(os.getpid) == pid


def test_an_interrupt_says_what_it_could_not_reach(
    client: IpyparallelClient, new_gate: NewGate, until: Until
) -> None:
    gate = new_gate("busy")
    running = client[0].apply_async(gate.wait)
    queued = client[0].apply_async(os.getpid)
    until(running, lambda: running.counts().running == 1)
    assert client.interrupt(queued) == {queued.msg_ids[0]: "queued"}
    assert client.interrupt(["nobody"]) == {"nobody": "unknown"}
    assert queued.abort() == {queued.msg_ids[0]: "aborted"}
    assert running.abort() == {running.msg_ids[0]: "running"}
    with pytest.raises(ipar.TaskAborted):
        queued.get(SOON)
    gate.open()
    running.get(SOON)
    assert client.interrupt(running.msg_ids) == {running.msg_ids[0]: "finished"}
    assert client.abort(running) == {running.msg_ids[0]: "finished"}


def test_signals_reach_the_engines_that_are_meant(client: IpyparallelClient) -> None:
    client[:].execute(
        "import signal\nsignalled = 0\n"
        "def note(number, frame):\n    global signalled\n    signalled = number\n"
        "_ = signal.signal(signal.SIGUSR1, note)",
        block=True,
    )
    assert client.send_signal("SIGUSR1", 1) == {"1": "signalled"}
    assert client[:]["signalled"] == [0, int(signal.SIGUSR1)]
    with pytest.raises((KeyError, ValueError)):
        client.send_signal("SIGNONE")


# ------------------------------------------------------------------- results: unreadable, stored


def unreadable() -> Any:
    class Unreadable:
        def __reduce__(self) -> Any:
            return eval, ("1 / 0",)

    return Unreadable()


def test_a_result_that_cannot_be_unpickled_comes_to_its_end(client: IpyparallelClient) -> None:
    view = client.load_balanced_view()
    for result in (view.apply_async(unreadable), client[0].apply_async(unreadable)):
        with pytest.raises(ResultDecodeError, match="division by zero"):
            result.get(SOON)
    assert view.apply_async(os.getpid).get(SOON)


def test_the_hub_gives_results_to_others_by_label_and_id(
    client: IpyparallelClient, cluster: ipyparallel.Cluster, new_gate: NewGate
) -> None:
    gate = new_gate("stored")

    def work(x: float) -> float:
        gate.wait()
        print("working on", x)
        return 1 / x

    view = client.load_balanced_view()
    view.label = "kept"
    mine = view.map_async(work, [1, 2, 0, 4], chunksize=2)
    client.wait_until_kept(SOON)
    with ipar.connect(cluster) as other:
        theirs = other.get_result("kept")
        assert isinstance(theirs, AsyncHubMapResult)
        assert not theirs.ready()
        gate.open()
        theirs.wait(SOON)
        mine.wait(SOON)
        assert theirs.ok == mine.ok == [1.0, 0.5, 0.25]
        assert isinstance(theirs.exception(), ZeroDivisionError)
        assert theirs.stdout == mine.stdout
        assert set(theirs.metadata[0]) == set(mine.metadata[0])
        assert other.get_result(-1).msg_ids == mine.msg_ids
        one = other.get_result(mine.msg_ids[0])
        assert isinstance(one, AsyncHubResult)
        assert set(mine.msg_ids) <= set(other.hub_history())
        with pytest.raises(UnknownTaskError, match="keeps 1,024"):
            other.get_result("nobody-1")
        other.purge_results("all")
        assert not set(mine.msg_ids) & set(other.hub_history())


@pytest.mark.parametrize("addressed", [True, False])
def test_what_has_ended_and_is_not_yet_with_the_hub_is_waited_for(
    client: IpyparallelClient, cluster: ipyparallel.Cluster, addressed: bool
) -> None:
    hub = psutil.Process(cluster.controller.pid)
    view = client[0] if addressed else client.load_balanced_view()
    with ThreadPoolExecutor() as threads, ipar.connect(cluster) as other:
        hub.suspend()
        try:
            mine = view.map_async(abs, [-1, -2])
            assert mine.get(SOON) == [1, 2]  # past the hub
            kept = threads.submit(client.wait_until_kept, SOON)
            with pytest.raises(TimeoutError):
                kept.result(0.2)
        finally:
            hub.resume()
        assert kept.result(SOON) is None
        theirs = other.get_result(mine.msg_ids)
        assert isinstance(theirs, AsyncHubMapResult)
        assert theirs.get(SOON) == [1, 2]
        other.purge_results("all")
        client.wait_until_kept(SOON)


def test_results_of_its_own_are_tracked(client: IpyparallelClient, new_gate: NewGate) -> None:
    gate = new_gate("tracked")
    own = client.ipyparallel.load_balanced_view()
    submitted = [own.apply_async(invert, x) for x in (1, 0, 2)]
    result = ipar.track(submitted)
    result.wait(SOON)
    assert isinstance(result, ipar.AsyncMapResult)
    assert result.ok == [6.0, 3.0]
    assert result.stdout == ["inverting 1\n", "", "inverting 2\n"]
    assert set(result.engine_id) <= {0, 1}
    (error,) = result.failed
    assert isinstance(error, ipar.RemoteError)
    assert isinstance(error.__cause__, ipyparallel.RemoteError)
    assert error.__cause__.ename == "ZeroDivisionError"
    assert (result.progress, result.counts().failed) == (3, 1)

    held = client.ipyparallel[0].apply_async(wait_for, str(gate.path))
    waiting = client.ipyparallel[0].apply_async(os.getpid)
    result = ipar.track([held, waiting])
    if HEARS_WHILE_BUSY:
        client.ipyparallel.abort(waiting, targets=[0], block=True)  # by somebody else
    gate.open()
    result.wait(SOON)
    if HEARS_WHILE_BUSY:
        assert [str(task.status) for task in result.tasks()] == ["ok", "aborted"]
        assert isinstance(result.exception(), ipar.TaskAborted)


def test_tracked_results_that_it_would_leave_open_come_to_an_end(
    client: IpyparallelClient, cluster: ipyparallel.Cluster, new_gate: NewGate
) -> None:
    gate = new_gate("tracked")
    own = client.ipyparallel.load_balanced_view()
    with pytest.raises(ipar.EngineError, match="its result cannot be unpickled here"):
        ipar.track(own.apply_async(unreadable)).get(SOON)
    second = cluster.connect_client_sync()
    held = ipar.track(second[0].apply_async(wait_for, str(gate.path)))
    second.close()
    with pytest.raises(HubError, match="the ipyparallel client was closed"):
        held.get(SOON)
    gate.open()


def invert(x: float) -> float:
    """It brings nothing along: ipyparallel sends the code alone."""
    print("inverting", x)
    return 6 / x


def wait_for(path: str) -> None:
    import os
    import time

    while not os.path.exists(path):  # noqa: PTH110
        time.sleep(0.01)


def test_what_it_cannot_do_is_refused(client: IpyparallelClient) -> None:
    with pytest.raises(CapabilityError, match="ipyparallel"):
        client.shutdown(restart=True)
    view = client.load_balanced_view()
    view.timeout = 1.0
    with pytest.raises(CapabilityError, match="ipyparallel cannot give time limits"):
        view.apply_async(abs, -1)


# -------------------------------------------------------------------------------------- deaths


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_dead_engines_and_a_dead_controller_end_every_result(
    cluster: ipyparallel.Cluster, client: IpyparallelClient, new_gate: NewGate, until: Until
) -> None:
    """The last of this module: it takes the cluster apart."""
    gate, both_are_there = new_gate("never"), new_gate("both are there")

    def die() -> None:
        both_are_there.wait()
        os.kill(os.getpid(), signal.SIGKILL)

    # The engine dies: under what runs there, and what waits for it there.
    busy = client[0].apply_async(gate.wait)
    lost, behind = client[1].apply_async(die), client[1].apply_async(os.getpid)
    both_are_there.open()
    for result in (lost, behind):
        with pytest.raises(ipar.EngineError, match="died"):
            result.get(2 * SOON)
    assert client.ids == [0]
    # Nothing but the controller's own process: its schedulers live on, and hold its socket.
    until(busy, lambda: busy.counts().running == 1)
    queued = client.load_balanced_view().apply_async(os.getpid)
    foreign = cluster.connect_client_sync()
    tracked = ipar.track(foreign.load_balanced_view().apply_async(os.getpid))
    controller = psutil.Process(cluster.controller.pid)
    schedulers = controller.children(recursive=True)
    try:
        controller.kill()
        for result in (busy, queued, tracked):
            with pytest.raises(HubError, match="controller does not answer"):
                result.get(2 * SOON)
    finally:
        foreign.close()
        for process in schedulers:
            process.kill()
    assert client.closed
    with pytest.raises(HubError, match="controller does not answer"):
        client.load_balanced_view().apply_async(os.getpid)
