"""Clusters from start to end: nothing is left behind, whoever dies first."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import ipyasyncresult as ipar
from ipyasyncresult.errors import HubError, StartError
from ipyasyncresult.wire.runtime import cluster_folder, ends_within
from tests.conftest import eventually
from tests.integration.conftest import hub_of, processes_of

if TYPE_CHECKING:
    from tests.integration.conftest import Gate, NewGate, StartPython

SOON = 5.0
"""Seconds within which a cluster promises to be gone."""


def square(x: int) -> int:
    return x * x


def are_gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=SOON)
    return not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


# -------------------------------------------------------------------------------------- the end


def test_leaving_the_with_leaves_nothing() -> None:
    with ipar.Cluster(n=2) as client:
        folder = cluster_folder(client.cluster_id)
        processes = processes_of(client)
        names = sorted(process.name() for process in processes)
        assert names == ["ipar-engine-0", "ipar-engine-1", "ipar-hub", "ipar-nursery"]
        assert client[:].apply_sync(square, 2) == [4, 4]
        assert folder.stat().st_mode & 0o777 == 0o700
    assert are_gone(processes)
    assert not folder.exists()
    assert client.closed


def test_leaving_the_with_ends_tasks_that_do_not_want_to_end(new_gate: NewGate) -> None:
    started, started_too = new_gate("started"), new_gate("started too")

    def stay(started: Gate) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        subprocess.Popen(["sleep", "300"])  # a child of its own
        started.open()
        threading.Event().wait()

    with ipar.Cluster(n=2) as client:
        running = [client[0].apply_async(stay, started), client[1].apply_async(stay, started_too)]
        started.wait()
        started_too.wait()
        processes = processes_of(client)
        assert "sleep" in [process.name() for process in processes]
        os.kill(client.engines[1]["pid"], signal.SIGSTOP)
    assert are_gone(processes)
    for result in running:
        with pytest.raises(HubError):
            result.get(timeout=0)


def test_an_error_in_the_with_ends_the_cluster() -> None:
    processes = []

    def use() -> None:
        with ipar.Cluster(n=1) as client:
            processes.extend(processes_of(client))
            client[0].apply_sync(divmod, 1, 0)

    with pytest.raises(ZeroDivisionError):
        use()
    assert are_gone(processes)


def test_an_interrupted_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def press_stop(_name: str) -> None:
        raise KeyboardInterrupt

    cluster = ipar.Cluster(n=1)
    monkeypatch.setattr("importlib.import_module", press_stop)  # called when the hub has begun
    with pytest.raises(KeyboardInterrupt):
        cluster.start_and_connect_sync()
    assert not cluster_folder(cluster.cluster_id).exists()


def test_closing_the_client_ends_a_cluster_that_was_started_for_it() -> None:
    client = ipar.connect(n=1)
    processes = processes_of(client)
    client.close()
    client.close()
    assert are_gone(processes)
    with pytest.raises(HubError, match="closed"):
        client.load_balanced_view().apply_async(square, 1)


def test_shutdown_ends_the_cluster_for_everybody() -> None:
    with ipar.Cluster(n=1) as client:
        processes = processes_of(client)
        with ipar.Client(client.cluster_id) as other:
            pending = other[0].apply_async(time.sleep, 300)
            client.shutdown(hub=True)
            with pytest.raises(HubError):
                pending.get(timeout=30)
        assert are_gone(processes)
        assert not cluster_folder(client.cluster_id).exists()


def test_a_forgotten_cluster_ends() -> None:
    cluster = ipar.Cluster(n=1)
    processes = processes_of(cluster.start_and_connect_sync())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del cluster
        gc.collect()
        assert are_gone(processes)


def test_a_killed_client_takes_its_cluster_with_it(
    start_python: StartPython, new_gate: NewGate
) -> None:
    script = start_python(
        """
        import time
        import ipyasyncresult as ipar
        client = ipar.connect(n=2)
        client[:].apply_async(time.sleep, 300)
        print(client.cluster_id, flush=True)
        input()
        """
    )
    assert script.stdout is not None
    folder = cluster_folder(script.stdout.readline().strip())
    processes = psutil.Process(script.pid).children(recursive=True)
    assert len(processes) == 1 + 1 + 2
    script.kill()
    assert are_gone(processes)
    assert not folder.exists()


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(3)", "1 / 0"])
def test_an_interpreter_that_ends_with_tasks_under_way_ends_soon(
    start_python: StartPython, end: str
) -> None:
    script = start_python(
        f"""
        import sys, time
        import ipyasyncresult as ipar
        client = ipar.connect(n=1)
        waiting = client[0].apply_async(time.sleep, 300)
        waiting.add_done_callback(print)
        print(client.cluster_id, flush=True)
        sys.stdin.readline()
        {end}
        """
    )
    assert script.stdin is not None
    assert script.stdout is not None
    folder = cluster_folder(script.stdout.readline().strip())
    processes = psutil.Process(script.pid).children(recursive=True)
    _, errors = script.communicate("go\n", timeout=2 * SOON)
    assert are_gone(processes)
    assert not folder.exists()
    assert script.returncode == {"pass": 0, "1 / 0": 1}.get(end, 3)
    assert ("ZeroDivisionError" in errors) == (end == "1 / 0")
    assert "Exception ignored" not in errors


def test_a_persistent_cluster_outlives_its_process_and_is_joined_again(
    run_python: Callable[..., str],
) -> None:
    printed = run_python(
        """
        import ipyasyncresult as ipar
        client = ipar.Cluster(n=1, persist=True).start_and_connect_sync()
        client[0]["x"] = 5
        print(client.cluster_id, client[0].apply_async(lambda: x + 1).msg_ids[0])
        """
    )
    cluster_id, msg_id = printed.split()
    with ipar.connect(cluster_id=cluster_id) as client:
        assert client.get_result(msg_id).get(timeout=30) == 6
        processes = processes_of(client)
        client.shutdown()
    assert are_gone(processes)
    with pytest.raises(HubError, match=cluster_id):
        ipar.connect(cluster_id=cluster_id)


# ------------------------------------------------------------------------------ a hub that dies


def test_a_killed_hub_resolves_everything_and_is_named(new_gate: NewGate) -> None:
    with ipar.Cluster(n=2) as client:
        done = client[0].apply_async(square, 3)
        done.get()
        held = new_gate("never")
        running = client[:].apply_async(held.wait)
        queued = client.load_balanced_view().map_async(square, range(100))
        future = running.as_future()
        called = threading.Event()
        queued.add_done_callback(lambda _: called.set())
        processes = processes_of(client)
        processes[0].kill()
        for result in (running, queued):
            with pytest.raises(HubError, match=str(processes[0].pid)):
                result.get(timeout=SOON)
        assert called.wait(SOON)
        assert isinstance(future.exception(SOON), HubError)
        assert done.get() == 9
        for ask in (client.hub_history, client[0].clear, client.queue_status):
            with pytest.raises(HubError, match="died"):
                ask()
        assert are_gone(processes)


def test_a_hub_that_dies_wakes_a_thread_that_waits(new_gate: NewGate) -> None:
    with ipar.Cluster(n=1) as client:
        pending = client[0].apply_async(new_gate("never").wait)
        waiting = threading.Event()
        raised: list[BaseException] = []

        def wait() -> None:
            waiting.set()
            try:
                pending.get()
            except HubError as error:
                raised.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        waiting.wait()
        hub_of(client).kill()
        thread.join(SOON)
        assert len(raised) == 1


def test_a_hub_that_stands_still_stops_nobody_from_submitting(new_gate: NewGate) -> None:
    with ipar.Cluster(n=1) as client:
        hub = hub_of(client)
        hub.suspend()
        try:
            results = [client[0].apply_async(square, n) for n in range(100)]
            with pytest.raises(TimeoutError):
                results[0].get(timeout=0.01)
        finally:
            hub.resume()
        assert [result.get(timeout=30) for result in results] == [n * n for n in range(100)]


# --------------------------------------------------------------------------- clients that leave


def test_who_asks_after_a_client_that_just_came_and_left_finds_its_tasks() -> None:
    with ipar.Cluster(n=1) as client, ThreadPoolExecutor() as threads:
        hub = hub_of(client)
        other = ipar.Client(client.cluster_id)
        hub.suspend()
        try:
            sent = other[0].apply_async(square, 3)
            other.close()
            found = threads.submit(client.get_result, sent.msg_ids[0])
            assert eventually(lambda: client._connection._asked, SOON)
        finally:
            hub.resume()
        assert found.result(SOON).get(timeout=30) == 9


def test_a_client_that_leaves_waits_until_the_hub_has_what_it_submitted() -> None:
    with ipar.Cluster(n=1) as client:
        other = ipar.Client(client.cluster_id)
        hub = hub_of(client)
        hub.suspend()
        try:
            text = "x" * 60_000  # part of the message: much more than a socket holds
            sent = [other[0].apply_async(len, text) for _ in range(2_000)]
        finally:
            hub.resume()
        other.close()
        ids = [one.msg_ids[0] for one in sent]
        assert client.get_result(ids).get(timeout=30) == [60_000] * 2_000


# ---------------------------------------------------------------------------------------- forks


def test_a_forked_child_is_told_to_connect_again_and_harms_nobody() -> None:
    with ipar.Cluster(n=1) as client:
        pending = client[0].apply_async(square, 2)
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                client[0].apply_async(square, 3)
            except BaseException as error:
                os.write(write, f"{type(error).__name__}: {error}".encode())
            finally:
                client.close()
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as said:
            assert "connect again" in said.read()
        os.waitpid(child, 0)
        assert pending.get(timeout=30) == 4
        assert client[0].apply_sync(square, 5) == 25


def test_a_forked_child_may_connect_for_itself(run_python: Callable[..., str]) -> None:
    printed = run_python(
        """
        import os
        import ipyasyncresult as ipar
        with ipar.Cluster(n=1) as client:
            if not (child := os.fork()):
                with ipar.Client(client.cluster_id) as own:
                    print("child", own[0].apply_sync(pow, 2, 3), flush=True)
                os._exit(0)
            os.waitpid(child, 0)
            print("parent", client[0].apply_sync(pow, 2, 4))
        """
    )
    assert printed.splitlines() == ["child 8", "parent 16"]


# ------------------------------------------------------------------------------------ the start


def test_clusters_live_side_by_side() -> None:
    with ipar.Cluster(n=1, cluster_id="one") as one, ipar.Cluster(n=2) as two:
        assert one.cluster_id == "one"
        one[:]["x"], two[:]["x"] = 1, 2
        assert (one[:]["x"], two[:]["x"]) == ([1], [2, 2])
        with ipar.Client("one") as again:
            assert again[0]["x"] == 1


def test_a_taken_name_is_refused_and_the_cluster_of_that_name_lives_on() -> None:
    with ipar.Cluster(n=1, cluster_id="taken") as client:
        with pytest.raises(StartError, match="'taken' is there already"):
            ipar.Cluster(n=1, cluster_id="taken").start_and_connect_sync()
        assert client[0].apply_sync(square, 2) == 4


@pytest.mark.parametrize("name", ["../up", "a b", "-x", "x" * 33, 5])
def test_a_wrong_name_is_refused(name: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="cluster_id"):
        ipar.Cluster(n=1, cluster_id=name)


@pytest.mark.parametrize(
    ("n", "error"), [(-1, ValueError), ("2", TypeError), (1.0, TypeError), (True, TypeError)]
)
def test_a_wrong_number_of_engines_is_refused(n: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="n must be"):
        ipar.Cluster(n=n)


def test_what_cannot_be_joined_is_named() -> None:
    with pytest.raises(HubError, match="nobody"):
        ipar.connect(cluster_id="nobody")
    with pytest.raises(TypeError, match="target"):
        ipar.connect(3)
    with pytest.raises(ValueError, match="not both"):
        ipar.connect(n=1, cluster_id="x")
    with pytest.raises(TypeError, match="colour"):
        ipar.connect(n=1, colour="red")


def test_a_stale_folder_of_a_dead_hub_is_not_joined() -> None:
    with ipar.Cluster(n=1) as client:
        hub_of(client).kill()
        with pytest.raises(HubError, match="dead"):
            ipar.Client(client.cluster_id)


def test_a_hub_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    cluster = ipar.Cluster(n=1)
    with pytest.raises(StartError, match="exit code 1"):
        cluster.start_and_connect_sync()
    assert not cluster_folder(cluster.cluster_id).exists()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises((StartError, FileNotFoundError), match="/nowhere/python"):
        cluster.start_and_connect_sync()
    assert not cluster_folder(cluster.cluster_id).exists()


def test_engines_that_cannot_start_say_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # What every engine needs cannot be imported.
    broken = tmp_path / "IPython"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('this IPython is broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    cluster = ipar.Cluster(n=2)
    with pytest.raises(StartError, match="this IPython is broken"):
        cluster.start_and_connect_sync()
    assert not cluster_folder(cluster.cluster_id).exists()


def test_engines_are_added_and_waited_for(new_gate: NewGate) -> None:
    with ipar.Cluster(n=1) as client:
        with pytest.raises(ipar.TimeoutError, match="1 of 3"):
            client.wait_for_engines(3, timeout=0.05)
        go = new_gate("go")
        busy = client[0].apply_async(go.wait)
        waiting = client.load_balanced_view().apply_async(square, 3)
        assert client.add_engines(2) == [1, 2]
        client.wait_for_engines(3, timeout=30)
        assert client.ids == [0, 1, 2]
        assert waiting.get(timeout=30) == 9  # not behind the one that is busy
        assert client[1:].apply_sync(square, 2) == [4, 4]
        for wrong, error in (
            (0, ValueError),
            (-1, ValueError),
            ("2", TypeError),
            (True, TypeError),
        ):
            with pytest.raises(error, match="n must be"):
                client.add_engines(wrong)  # type: ignore[arg-type]
        go.open()
        busy.get(timeout=30)


async def test_clusters_are_started_and_stopped_from_asyncio() -> None:
    async with ipar.Cluster(n=1) as client:
        processes = processes_of(client)
        assert await client[0].apply_async(square, 4) == 16
    assert are_gone(processes)
    cluster = ipar.Cluster()
    client = await cluster.start_and_connect(n=2)
    results = await asyncio.gather(*(client[i].apply_async(square, i)._get_async() for i in (0, 1)))
    assert results == [0, 1]
    processes = processes_of(client)
    await cluster.stop_cluster()
    await cluster.stop_cluster()
    assert are_gone(processes)


def test_engines_see_what_the_client_may_import_and_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("value = 12")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("FOR_ENGINES", "yes")

    def look() -> Any:
        import only_here  # type: ignore[import-not-found]

        return only_here.value, os.environ["FOR_ENGINES"], str(Path.cwd())

    with ipar.Cluster(n=1) as client:
        assert client[0].apply_sync(look) == (12, "yes", str(Path.cwd()))


def test_every_client_of_a_cluster_hears_of_its_engines() -> None:
    with ipar.Cluster(n=1) as client, ipar.Client(client.cluster_id) as other:
        client.add_engines(1)
        other.wait_for_engines(2, timeout=30)
        assert other.ids == client.ids == [0, 1]
        assert other.engines[1]["pid"] == client.engines[1]["pid"]


# -------------------------------------------------------------------------------------- the start


def test_what_kept_the_parent_of_engines_from_starting_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lamehub.py").write_text(
        """
from ipyasyncresult.hub import nurseryprocess
from ipyasyncresult.hub.__main__ import main

if __name__ == "__main__":
    nurseryprocess.NURSERY = "lamenursery"
    main()
"""
    )
    (tmp_path / "lamenursery.py").write_text("raise OSError('no nursery today')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    cluster = ipar.Cluster(n=1)
    cluster.hub_module = "lamehub"
    with pytest.raises(StartError, match="no nursery today"):
        cluster.start_and_connect_sync()
    assert not cluster_folder(cluster.cluster_id).exists()


def test_the_end_of_a_process_is_seen_whoever_its_parent_is() -> None:
    with subprocess.Popen(["sleep", "300"]) as process:
        assert not ends_within(process.pid, 0)
        process.kill()
        assert ends_within(process.pid)  # a zombie has ended
        process.wait()
        assert ends_within(process.pid, 0)
