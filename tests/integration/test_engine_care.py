"""Engines that are interrupted, ended, restarted, that die: what is said, and what goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import ipyasyncresult as ipar
from tests.conftest import eventually
from tests.integration.conftest import hub_of

if TYPE_CHECKING:
    from tests.integration.conftest import Gate, NewGate, StartPython

SOON = 30.0


@pytest.fixture(scope="module")
def mortal() -> Iterator[ipar.Client]:
    """Two engines that are ended and replaced."""
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


def hold(started: Gate, go: Gate) -> str:
    started.open()
    go.wait()
    return "held"


def hold_deaf(started: Gate, go: Gate) -> str:
    """Listens to no interrupt."""
    started.open()
    while not go.is_open():
        try:
            time.sleep(0.01)
        except KeyboardInterrupt:
            continue
    return "held"


def events_of(client: ipar.Client) -> list[str]:
    return [news.event for news in client.events]


# ---------------------------------------------------------------------- interrupt and abort


def test_each_task_is_told_what_became_of_it(client: ipar.Client, new_gate: NewGate) -> None:
    started, never = new_gate("started"), new_gate("never")
    finished = client[0].apply_async(abs, -1)
    finished.get(SOON)
    running = client[0].apply_async(hold, started, never)
    queued = client[0].apply_async(abs, -2)
    started.wait()
    ids = [one.msg_ids[0] for one in (finished, running, queued)]
    told = client.interrupt([*ids, "never-heard-of"])
    assert list(told.values()) == ["finished", "interrupting", "queued", "unknown"]
    assert list(told) == [*ids, "never-heard-of"]
    with pytest.raises(ipar.RemoteError, match="KeyboardInterrupt"):
        running.get(SOON)
    assert queued.get(SOON) == 2
    assert events_of(client) == []


@pytest.mark.parametrize(("sig", "told"), [("SIGTERM", "terminating"), (signal.SIGKILL, "killed")])
def test_a_task_that_does_not_listen_is_ended_on_request(
    client: ipar.Client, new_gate: NewGate, sig: Any, told: str
) -> None:
    started, never = new_gate("started"), new_gate("never")
    view = client[0]
    view.retries = 3  # not for what was wanted
    running = view.apply_async(hold_deaf, started, never)
    queued = client[0].apply_async(abs, -2)
    started.wait()
    assert running.interrupt() == {running.msg_ids[0]: "interrupting"}
    assert not running.ready()
    assert running.interrupt(signal=sig) == {running.msg_ids[0]: told}
    with pytest.raises(ipar.EngineError, match="on request") as caught:
        running.get(SOON)
    assert caught.value.signal == signal.Signals[sig].name if isinstance(sig, str) else "SIGKILL"
    assert queued.get(SOON) == 2
    assert queued.interrupt(signal="SIGKILL") == {}  # it has ended


def test_a_wrong_signal_is_refused(client: ipar.Client) -> None:
    for act in (client.interrupt, client.send_signal):
        with pytest.raises(ValueError, match="SIGINT"):
            act(sig="SIGNOTHING")
    with pytest.raises(ValueError, match="SIGINT"):
        client.interrupt([], sig=12345)


def test_a_kill_lets_the_results_of_earlier_tasks_arrive_first(
    client: ipar.Client, new_gate: NewGate
) -> None:
    """The engine runs the next task while what the last one returned is still on its way."""
    started, never = new_gate("started"), new_gate("never")

    def step(size: int, started: Gate | None = None, never: Gate | None = None) -> str:
        if started and never:
            started.open()
            never.wait()
        return "x" * size

    view = client[0]
    assert view.map_sync(step, [0] * 10) == [""] * 10  # short, so that two travel together
    hub, engine = hub_of(client), psutil.Process(view.apply_sync(os.getpid))
    engine.suspend()
    before = view.apply_async(step, 50_000_000)
    running = view.apply_async(step, 0, started, never)
    assert eventually(lambda: client.queue_status()[0]["tasks"] == 2, SOON)
    hub.suspend()
    try:
        engine.resume()
        started.wait()
        with ThreadPoolExecutor(1) as pool:
            told = pool.submit(running.interrupt, "SIGKILL")
            time.sleep(0.1)  # the wish shall wait at the hub's door beside the result
            hub.resume()
            assert told.result(SOON) == {running.msg_ids[0]: "killed"}
    finally:
        hub.resume()
    assert isinstance(running.exception(SOON), ipar.EngineError)
    assert len(before.get(SOON)) == 50_000_000


@pytest.mark.parametrize("sig", ["SIGINT", "SIGKILL"])
def test_no_signal_hits_a_task_that_it_is_not_for(client: ipar.Client, sig: str) -> None:
    """Short tasks, and signals for each at about its end: those that nobody asked about are well,
    and a task that is said to have ended was not hit."""
    view = client[0]
    outcomes: list[tuple[str, BaseException | None]] = []
    bystanders = []

    def spin(seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass

    for n in range(40):
        aimed_at = view.apply_async(spin, 0.0005 * (n % 8))
        bystanders += [view.apply_async(spin, 0.0005) for _ in range(3)]
        told = aimed_at.interrupt(sig)
        outcomes.append((next(iter(told.values()), "finished"), aimed_at.exception(SOON)))
    assert [one.exception(SOON) for one in bystanders] == [None] * len(bystanders)
    hit = {"SIGINT": "interrupting", "SIGKILL": "killed"}[sig]
    assert {said for said, _ in outcomes} <= {hit, "finished", "queued"}
    for said, error in outcomes:
        if said != hit:
            assert error is None, said
        elif sig == "SIGKILL":
            assert isinstance(error, ipar.EngineError)


def test_abort_and_interrupt_of_a_whole_result(client: ipar.Client, new_gate: NewGate) -> None:
    never = new_gate("never")
    gates = [new_gate(name) for name in "abcd"]
    result = client.load_balanced_view().map_async(hold, gates, [never] * 4)
    assert client._connection.wait(lambda: result.counts().running == 2, SOON)
    assert sorted(result.abort().values()) == ["aborted", "aborted", "running", "running"]
    assert sorted(result.interrupt().values()) == ["interrupting", "interrupting"]
    kinds = [type(error).__name__ for error in result.get(SOON, return_exceptions=True)]
    assert sorted(kinds) == ["RemoteError", "RemoteError", "TaskAborted", "TaskAborted"]


# ------------------------------------------------------------------------------------ restart


def test_an_engine_can_be_restarted(client: ipar.Client, new_gate: NewGate) -> None:
    started, never = new_gate("started"), new_gate("never")
    view = client[0]
    view.retries = 2
    before = client[:].apply_sync(os.getpid)
    running = view.apply_async(hold_deaf, started, never)
    queued = [client[0].apply_async(abs, -n) for n in range(5)]
    started.wait()
    assert client.restart(0) == {0: "restarted"}
    with pytest.raises(ipar.EngineError, match="restarted on request") as caught:
        running.get(SOON)
    assert caught.value.on_request == "restarted on request"
    assert caught.value.pid == before[0]
    assert [one.get(SOON) for one in queued] == list(range(5))
    after = client[:].apply_sync(os.getpid)
    assert after[0] != before[0]
    assert after[1] == before[1]
    assert client.ids == [0, 1]


def test_a_restart_loses_what_the_engine_runs_and_no_result_that_it_has(
    client: ipar.Client,
) -> None:
    """Short tasks, whose results leave the engine together and a moment later."""
    view = client.load_balanced_view()
    for _ in range(5):
        results = [view.apply_async(abs, -n) for n in range(2000)]
        client.wait(results[:200])
        client.restart()
        errors = [one.exception(SOON) for one in results]
        lost = [error for error in errors if error is not None]
        assert len(lost) <= 2, [str(error) for error in lost]  # one for each engine
        assert all("restarted on request" in str(error) for error in lost)


def test_all_engines_can_be_restarted_also_stopped_ones(client: ipar.Client) -> None:
    before = client[:].apply_sync(os.getpid)
    os.kill(before[1], signal.SIGSTOP)
    assert client.restart() == {0: "restarted", 1: "restarted"}
    after = client[:].apply_sync(os.getpid)
    assert not set(before) & set(after)
    with pytest.raises(IndexError):
        client.restart(7)


def test_engines_that_were_given_up_come_again() -> None:
    def die() -> None:
        os._exit(3)

    with ipar.Cluster(n=1, restart_limit=0) as client:
        with pytest.raises(ipar.EngineError, match="exit code 3"):
            client[0].apply_async(die).get(SOON)
        assert client._connection.wait(lambda: not client.ids, SOON)
        assert client.restart() == {0: "restarted"}
        assert client[0].apply_sync(abs, -1) == 1


# ------------------------------------------------------------------------- what an error tells


def test_an_engine_error_tells_all_there_is(client: ipar.Client, new_gate: NewGate) -> None:
    go = new_gate("go")

    def crash() -> None:
        import ctypes

        print("my last words")
        go.wait()
        ctypes.string_at(0)

    view = client[1]
    view.label = "the crash"
    pid = client.engines[1]["pid"]
    result = view.apply_async(crash)
    assert client._connection.wait(lambda: result.stdout, SOON)
    go.open()
    with pytest.raises(ipar.EngineError, match="SIGSEGV") as caught:
        result.get(SOON)
    error = caught.value
    assert (error.engine_id, error.pid, error.signal, error.exit_code) == (1, pid, "SIGSEGV", None)
    assert error.host == os.uname().nodename
    assert (error.msg_id, error.label) == (result.msg_ids[0], "the crash")
    assert error.last_output == "my last words"
    assert "Segmentation fault" in error.stderr
    for told in (str(pid), error.msg_id, "the crash", "my last words", "in crash"):
        assert told in str(error)
    assert not error.oom


def own_memory_group() -> Path | None:
    """A control group that may hold 400 MB, where this user may make one."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            parent = Path("/sys/fs/cgroup/memory") / path.lstrip("/")
            group = (
                parent if parent.is_dir() else Path("/sys/fs/cgroup/memory")
            ) / f"ipar-test-{os.getpid()}"
            try:
                group.mkdir(exist_ok=True)
                (group / "memory.limit_in_bytes").write_text(str(400 << 20))
            except OSError:
                return None
            return group
    return None


@pytest.mark.slow
def test_an_engine_that_ran_out_of_memory_says_so_and_tries_once_more(
    start_python: StartPython, tmp_path: Path
) -> None:
    group = own_memory_group()
    if group is None:
        pytest.skip("this user may make no control group with a limit")
    script = start_python(
        """
        import os, pathlib, sys
        import ipyasyncresult as ipar

        group, tries = map(pathlib.Path, sys.argv[1:])
        (group / "cgroup.procs").write_text(str(os.getpid()))

        def grow(tries):
            with tries.open("a") as file:
                file.write("tried ")
            return len(b"x" * (1 << 30))

        with ipar.Cluster(n=1) as client:
            view = client[0]
            view.retries = 5
            error = view.apply_async(grow, tries).exception(60)
            print(type(error).__name__, error.oom, "memory ran out" in str(error))
            print(tries.read_text())
            print(client[0].apply_sync(abs, -1))
        """,
        group,
        tmp_path / "tries",
    )
    printed, errors = script.communicate(timeout=50)
    group.rmdir()
    assert printed.splitlines() == ["EngineError True True", "tried tried ", "1"], errors


# ------------------------------------------------------------------ stopped, forked, left behind


def test_a_stopped_engine_shows_and_can_be_told_to_go_on(client: ipar.Client) -> None:
    client.send_signal("SIGSTOP", targets=1)
    assert client._connection.wait(lambda: client.engines[1].get("stopped"), 5.0)
    assert client.send_signal(signal.SIGCONT, targets=1) == {"1": "signalled"}
    assert client._connection.wait(lambda: not client.engines[1]["stopped"], 5.0)
    assert events_of(client) == ["stopped", "continued"]


def test_a_task_may_fork_and_its_child_speaks_for_nobody(
    client: ipar.Client, new_gate: NewGate
) -> None:
    """The child runs on, returns as its parent does, and is heard of no more."""

    def fork(go: Gate) -> tuple[int, int]:
        child = os.fork()
        if not child:
            go.wait()
            return -1, -1
        return os.getpid(), child

    go = new_gate("go")
    engine, child = client[0].apply_async(fork, go).get(SOON)
    assert engine == client.engines[0]["pid"]
    assert client[0].apply_sync(abs, -5) == 5
    process = psutil.Process(child)
    go.open()
    deadline = time.monotonic() + SOON
    while process.status() != psutil.STATUS_ZOMBIE:  # its parent does not wait for it
        assert time.monotonic() < deadline, "the child goes on"
        time.sleep(0.01)
    assert client[0].apply_sync(os.getpid) == engine
    assert events_of(client) == []


def test_what_tasks_leave_running_ends_with_the_cluster(new_gate: NewGate) -> None:
    def leave_behind() -> list[int]:
        import subprocess
        import sys

        deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(99)"
        start = (
            "import subprocess, sys\n"
            f"command = [sys.executable, '-c', {deaf!r}]\n"
            "print(subprocess.Popen(command, stdout=subprocess.DEVNULL).pid)"
        )
        grandchild = subprocess.check_output([sys.executable, "-c", start])
        return [subprocess.Popen(["sleep", "99"]).pid, int(grandchild)]

    with ipar.Cluster(n=1) as client:
        left = [psutil.Process(pid) for pid in client[0].apply_async(leave_behind).get(SOON)]
    assert psutil.wait_procs(left, 5.0)[1] == []


# ---------------------------------------------------------------------------- starting, limits


def test_engines_cost_few_file_descriptors() -> None:
    """In the hub, and in the process that watches them: so many for each, and no more."""

    def count(process: psutil.Process) -> int:
        return process.num_fds()

    with ipar.Cluster(n=1) as client:
        client[:].apply_sync(abs, 1)
        hub = hub_of(client)
        (nursery,) = hub.children()
        before = count(hub), count(nursery)
        client.add_engines(6)
        client[:].apply_sync(abs, 1)
        grown = count(hub) - before[0], count(nursery) - before[1]
    assert 0 <= grown[0] <= 6 * 6
    assert 0 <= grown[1] <= 6 * 6
    assert sum(grown) <= 6 * 6


BROKEN_START = """
import os, pathlib, sys
import ipyasyncresult as ipar
from ipyasyncresult.errors import StartError

folder = pathlib.Path(sys.argv[1], "IPython")
folder.mkdir()
(folder / "__init__.py").write_text("raise ImportError('this IPython is broken')")
os.environ["PYTHONPATH"] = str(folder.parent)
cluster = ipar.Cluster(n=1, restart_limit=1)
try:
    cluster.start_and_connect_sync()
except StartError as error:
    print("this IPython is broken" in str(error), "no more are started" in str(error))
"""

FEW_FILES = """
import resource
import ipyasyncresult as ipar
from ipyasyncresult.errors import StartError

resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
try:
    ipar.Cluster(n=20, restart_limit=0).start_and_connect_sync()
except StartError as error:
    print("ulimit -n" in str(error), " is 40" in str(error))
"""


@pytest.mark.slow
@pytest.mark.parametrize("script", [BROKEN_START, FEW_FILES], ids=["bad import", "few files"])
def test_engines_that_cannot_start_say_why_and_leave_nothing(
    start_python: StartPython, tmp_path: Path, script: str
) -> None:
    """The leak guard sees what they leave."""
    printed, errors = start_python(script, tmp_path).communicate(timeout=50)
    assert printed == "True True\n", errors


def test_a_limit_of_open_files_is_raised_for_us_and_kept_for_tasks(
    start_python: StartPython,
) -> None:
    printed, errors = start_python(
        """
        import resource
        import ipyasyncresult as ipar

        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 4096))
        with ipar.Cluster(n=16) as client:
            get = lambda: __import__("resource").getrlimit(7)
            print(len(client), set(client[:].apply_sync(get)))
        """
    ).communicate(timeout=50)
    assert printed == "16 {(40, 4096)}\n", errors


def test_without_engines_as_many_tasks_wait_as_may() -> None:
    with ipar.Cluster(n=0) as client:
        view = client.load_balanced_view()
        view.waiting_limit = 3
        with pytest.warns(UserWarning, match="no engine is up"):
            waiting = view.map_async(abs, [-1, -2])
        with pytest.raises(ipar.errors.NoEnginesError, match="at most 3"):
            view.map_async(abs, [-3, -4])
        with pytest.warns(UserWarning, match="no engine is up"):
            one = view.apply_async(abs, -3)
        with pytest.raises(ipar.errors.NoEnginesError, match="at most 3"):
            view.apply_async(abs, -4)
        client.add_engines(1)
        assert waiting.get(SOON) == [1, 2]
        assert one.get(SOON) == 3
        assert view.map_sync(abs, range(-9, 0)) == list(range(9, 0, -1))
