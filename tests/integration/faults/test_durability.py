"""The client dies, the hub dies, the disk is full or damaged: what was acknowledged is there."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import ipyasyncresult as ipar
from ipyasyncresult.client.clusters import forget_stored, list_clusters, stop_cluster
from ipyasyncresult.errors import HubError, StartError
from ipyasyncresult.hub.storefile import file_system
from tests.conftest import eventually
from tests.integration.conftest import hub_of, processes_of
from tests.integration.faults.conftest import SOON

if TYPE_CHECKING:
    from tests.integration.conftest import NewGate, StartPython

NAME = f"fs-{os.getpid()}"  # of this run alone: what has it in its command line is killed


@pytest.fixture
def name() -> Iterator[str]:
    """The id of a cluster that is ended, and forgotten, after the test."""
    yield NAME
    if NAME in [one.cluster_id for one in list_clusters()]:
        stop_cluster(NAME)
    forget_stored(NAME)


def start(name: str, n: int = 1, **options: Any) -> ipar.Client:
    return ipar.Cluster(n, cluster_id=name, persist=True, **options).start_and_connect_sync()


def store_of(client: ipar.Client) -> dict[str, Any]:
    about: dict[str, Any] = client.hub_status()["store"]
    return about


def all_stored(client: ipar.Client) -> None:
    assert eventually(lambda: store_of(client)["not_stored"] == 0, SOON), store_of(client)


def kill_everything(client: ipar.Client) -> None:
    """Hub, the process that would start another one, and engines: as when the machine goes off."""
    processes = processes_of(client)
    for process in psutil.process_iter(["pid"]):  # what a hub did not start itself
        if any(str(client.cluster_id) in part for part in command_of(process)):
            processes.append(process)
    me = os.getpid()
    for process in processes:
        if process.pid != me:
            process.suspend()
    for process in processes:
        if process.pid != me:
            process.kill()
    psutil.wait_procs(processes, timeout=SOON)


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def square(x: int) -> int:
    print("item", x)
    return x * x


# ------------------------------------------------------------------------------ client and hub die


def test_everything_can_be_had_again_after_the_client_was_killed(
    name: str, start_python: StartPython, new_gate: NewGate
) -> None:
    """By id, by label, or as the last call; also what still waited; with outputs and shape."""
    go = new_gate("go")
    script = start_python(
        """
        import os, pathlib, sys, time
        import ipyasyncresult as ipar

        name, gate = sys.argv[1:]
        client = ipar.Cluster(1, cluster_id=name, persist=True).start_and_connect_sync()
        view = client.load_balanced_view()

        def square(x):
            print("item", x)
            return x * x

        def wait(x):
            while not pathlib.Path(gate).exists():
                time.sleep(0.005)
            return square(x)

        done = view.map_async(square, range(20))
        done.get()
        view.label = "the night"
        view.map_async(wait, range(5), chunksize=2)
        client.queue_status()  # answered: the hub has what was sent before
        print(done.msg_ids[0], flush=True)
        os.kill(os.getpid(), 9)
        """,
        name,
        go.path,
    )
    printed, errors = script.communicate(timeout=2 * SOON)
    assert printed.strip(), errors
    with ipar.connect(cluster_id=name) as client:
        night = client.get_result("the night")
        assert not night.ready()
        go.open()
        assert night.get(SOON) == [0, 1, 4, 9, 16]
        assert client.get_result(-1).get(SOON) == [0, 1, 4, 9, 16]
        done = client.get_result(-2)
        assert done.get(SOON) == [x * x for x in range(20)]
        assert "item 19" in str(done.stdout)
        assert client.get_result(printed.strip()).get(SOON) in (0, [0])


def test_acknowledged_results_are_there_after_client_hub_and_engines_were_killed(name: str) -> None:
    client = start(name, 2)
    view = client.load_balanced_view()
    done = view.map_async(square, range(50))
    assert done.get(SOON) == [x * x for x in range(50)]
    failed = view.apply_async(divmod, 1, 0)
    failed.wait(SOON)
    ids, failed_id = done.msg_ids, failed.msg_ids[0]
    all_stored(client)
    kill_everything(client)
    client.close()
    with start(name, 2) as again:
        assert again.get_result(ids).get(SOON) == [x * x for x in range(50)]
        with pytest.raises(ZeroDivisionError):
            again.get_result(failed_id).get(SOON)
        assert again.load_balanced_view().apply_async(square, 3).get(SOON) == 9


def test_a_killed_hub_is_followed_by_another_one_and_nobody_notices(
    name: str, new_gate: NewGate
) -> None:
    started, go = new_gate("started"), new_gate("go")

    def hold() -> int:
        print("before")
        started.open()
        go.wait()
        print("after")
        return os.getpid()

    client = start(name)
    [engine] = client[:].apply_sync(os.getpid)
    running = client[0].apply_async(hold)
    queued = client.load_balanced_view().map_async(square, range(20))
    started.wait()
    hub = hub_of(client)
    began = time.monotonic()
    hub.kill()
    hub.wait(SOON)
    go.open()
    assert running.get(SOON) == engine
    assert running.stdout == "before\nafter\n"
    assert queued.get(SOON) == [x * x for x in range(20)]
    assert time.monotonic() - began < SOON
    assert hub_of(client).pid != hub.pid
    client.close()


def test_without_a_store_a_killed_hub_answers_everybody_with_an_error(new_gate: NewGate) -> None:
    started, never = new_gate("started"), new_gate("never")

    def hold() -> None:
        started.open()
        never.wait()

    with ipar.Cluster(n=1) as client:
        running = client[0].apply_async(hold)
        queued = client[0].apply_async(square, 2)
        started.wait()
        hub_of(client).kill()
        for result in (running, queued):
            with pytest.raises(HubError):
                result.get(SOON)


# --------------------------------------------------------------------------------------- the file


def test_a_full_disk_costs_no_result_and_writing_goes_on_when_there_is_room(name: str) -> None:
    client = start(name, store_max_bytes=3_000_000)
    view = client.load_balanced_view()
    results = [view.apply_async(bytes, 60_000) for _ in range(60)]
    assert [len(result.get(SOON)) for result in results] == [60_000] * 60
    about = client.hub_status()["store"]
    assert eventually(lambda: "full" in store_of(client)["problem"], SOON), about
    assert store_of(client)["not_stored"] > 0
    assert Path(about["path"]).stat().st_size <= 3_000_000
    # From memory, as long as the hub lives:
    with ipar.Client(name) as other:
        assert len(other.get_result(results[-1].msg_ids[0]).get(SOON)) == 60_000
    client.purge_results("all")
    assert view.apply_async(square, 5).get(SOON) == 25
    assert eventually(lambda: store_of(client)["not_stored"] == 0, SOON), store_of(client)
    assert store_of(client)["problem"] == ""
    client.close()


@pytest.mark.parametrize(
    ("damage", "told"),
    [(b"this is no database, " * 100, "damaged"), (None, "another program")],
    ids=["header", "foreign"],
)
def test_a_file_that_is_no_store_is_moved_aside_and_said(
    name: str, damage: bytes | None, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = start(name)
    client[0].apply_async(square, 2).get(SOON)
    path = Path(store_of(client)["path"])
    client.shutdown()
    assert eventually(lambda: name not in [one.cluster_id for one in list_clusters()], SOON)
    for file in path.parent.glob(f"{path.name}-*"):
        file.unlink()
    if damage is not None:
        path.write_bytes(damage)
    else:
        path.unlink()
        with sqlite3.connect(path) as foreign:
            foreign.execute("CREATE TABLE of_somebody (else_ TEXT)")
        foreign.close()
        path.chmod(0o600)
    with start(name) as again:
        assert again[0].apply_async(square, 4).get(SOON) == 16
        assert eventually(lambda: told in caplog.text, SOON), caplog.text
        aside = [file for file in path.parent.iterdir() if file.name.startswith(f"{path.name}.2")]
        assert len(aside) == 1
        if damage is not None:
            assert aside[0].read_bytes() == damage


def test_a_second_hub_is_refused_the_store_of_the_first_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it cannot see the first one: from another runtime folder."""
    client = start(name)
    pid = hub_of(client).pid
    # The states of both are in one place, which is what sets this apart from another user.
    state = Path(store_of(client)["path"]).parents[1]
    monkeypatch.setenv("XDG_STATE_HOME", str(state.parent))
    (tmp_path / "run").mkdir(mode=0o700)
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
        with pytest.raises(StartError, match=f"another hub.*{pid}"):
            start(name)
    assert client[0].apply_async(square, 3).get(SOON) == 9
    client.close()


def test_a_file_that_lies_on_another_machine_is_recognised() -> None:
    """Over a network, WAL works by luck at best: it is not used there."""
    mounts = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
40 22 0:50 / /srv rw - nfs4 server:/srv rw
41 40 0:51 / /srv/me/with\\040space rw - tmpfs tmpfs rw
"""
    assert file_system(Path("/var/x"), mounts) == "ext4"
    assert file_system(Path("/srv/me/x"), mounts) == "nfs4"
    assert file_system(Path("/srv/me/with space/x"), mounts) == "tmpfs"


def test_the_file_is_the_users_alone_and_one_that_is_not_is_refused(name: str) -> None:
    before = os.umask(0)
    try:
        client = start(name)
        assert client[0].apply_async(square, 2).get(SOON) == 4
        all_stored(client)
    finally:
        os.umask(before)
    path = Path(store_of(client)["path"])
    for file in [path.parent, *path.parent.iterdir()]:
        assert file.stat().st_mode & 0o077 == 0, file
    client.shutdown()
    assert eventually(lambda: name not in [one.cluster_id for one in list_clusters()], SOON)
    path.chmod(0o644)
    try:
        with pytest.raises(StartError, match="chmod 600"):
            start(name)
    finally:
        path.chmod(0o600)
