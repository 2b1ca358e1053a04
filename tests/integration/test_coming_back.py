"""Results outlive the process that asked for them, and the hub: found by id, label, number."""

from __future__ import annotations

import asyncio
import os
import pickle
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ipyasyncresult as ipar
from ipyasyncresult.client.clusters import (
    forget_stored,
    list_clusters,
    stop_cluster,
    stored_clusters,
)
from ipyasyncresult.errors import EngineError, HubError, StartError
from ipyasyncresult.wire.runtime import cluster_folder, state_folder
from tests.conftest import eventually
from tests.integration.conftest import hub_of
from tests.integration.test_hub_death import end, kill_everything, persistent, stored

if TYPE_CHECKING:
    from tests.integration.conftest import Gate, NewGate, StartPython


@pytest.fixture
def lasting() -> Iterator[ipar.Client]:
    client = persistent()
    yield client
    client.close()
    end(client.cluster_id)


def test_what_a_killed_client_left_is_found_by_another_process(
    lasting: ipar.Client, new_gate: NewGate, start_python: StartPython
) -> None:
    gate = new_gate("gate")
    script = """
        import sys, time
        import ipyasyncresult as ipar

        def slow(x, path):
            import os, time
            print("item", x)
            while x >= 4 and not os.path.exists(path):
                time.sleep(0.005)
            return x * x

        client = ipar.connect(cluster_id=sys.argv[1])
        view = client.load_balanced_view()
        result = view.map_async(slow, range(12), [sys.argv[2]] * 12, chunksize=2)
        while len(result.ok) < 2:
            time.sleep(0.01)
        print(*result.msg_ids, flush=True)
        time.sleep(60)
    """
    first = start_python(script, lasting.cluster_id, gate.path)
    assert first.stdout is not None
    ids = first.stdout.readline().split()
    first.kill()
    first.wait()

    again = lasting.get_result(ids)
    assert type(again).__name__ == "AsyncHubMapResult"
    assert again.progress >= 2  # items, though two of them travel together
    assert not again.ready()
    items = iter(again)
    assert next(items) == 0  # as they come
    gate.open()
    assert list(items) == [x * x for x in range(1, 12)]
    assert again.get() == [x * x for x in range(12)]
    assert "".join(again.stdout) == "".join(f"item {x}\n" for x in range(12))
    assert again.serial_time > 0
    assert again.elapsed > 0
    assert {md["status"] for md in again.metadata} == {"ok"}
    assert lasting.get_result(-1).msg_ids == ids
    assert pickle.loads(pickle.dumps(again)).get() == again.get()


def test_what_is_found_by_its_label_is_awaited_shown_and_taken_back_as_the_original(
    lasting: ipar.Client,
    new_gate: NewGate,
    start_python: StartPython,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gate = new_gate("gate")
    script = """
        import sys, time
        import ipyasyncresult as ipar

        def slow(x, path):
            import os, time
            print("item", x)
            while not os.path.exists(path):
                time.sleep(0.005)
            return x * x

        client = ipar.connect(cluster_id=sys.argv[1])
        view = client.load_balanced_view()
        for label in ("wanted", "unwanted"):
            view.label = label
            result = view.map_async(slow, range(3), [sys.argv[2]] * 3)
        client.hub_status()
        print("sent", flush=True)
        time.sleep(60)
    """
    first = start_python(script, lasting.cluster_id, gate.path)
    assert first.stdout is not None
    assert first.stdout.readline() == "sent\n"
    first.kill()
    first.wait()

    unwanted = lasting.get_result("unwanted")
    assert set(unwanted.abort().values()) == {"aborted"}
    with pytest.raises(ipar.CompositeError, match="3 of 3 failed"):
        unwanted.get(timeout=10)
    wanted = lasting.get_result("wanted")
    gate.open()
    wanted.wait_interactive(timeout=30)

    async def awaited() -> list[int]:
        values: list[int] = await lasting.get_result("wanted")
        return values

    assert asyncio.run(awaited()) == [0, 1, 4]
    capsys.readouterr()
    wanted.display_outputs(groupby="order")
    assert [line.split("] ")[1] for line in capsys.readouterr().out.splitlines()] == [
        f"item {x}" for x in range(3)
    ]
    assert wanted["label"] == ["wanted"] * 3


def test_acknowledged_results_are_there_after_client_hub_and_engines_were_killed(
    new_gate: NewGate,
) -> None:
    def square(x: int) -> int:
        print("item", x)
        return x * x

    def hold(started: Gate, gate: Gate) -> None:
        started.open()
        gate.wait()

    client = persistent(2, cluster_id="row43")
    started, gate = new_gate("started"), new_gate("gate")
    done = client.load_balanced_view().map_async(square, range(20))
    done.get()
    running = client[0].apply_async(hold, started, gate)
    started.wait()
    queued = client[0].apply_async(square, 7)
    stored(client)
    kill_everything(client)
    for lost in (running, queued):
        with pytest.raises(HubError):
            lost.get(timeout=30)
    client.close()
    with pytest.raises(HubError, match="starts it again"):
        ipar.Client("row43")
    assert "row43" in [one.cluster_id for one in stored_clusters()]

    later = persistent(2, cluster_id="row43")
    again = later.get_result(done.msg_ids)
    assert again.get(timeout=30) == [x * x for x in range(20)]
    assert again.stdout == [f"item {x}\n" for x in range(20)]
    assert later.get_result(queued.msg_ids).get(timeout=30) == [49]  # it had not begun
    with pytest.raises(EngineError, match="together with the cluster"):
        later.get_result(running.msg_ids[0]).get(timeout=30)
    later.close()
    end("row43")


def test_queries_know_operators_and_purging_forgets(lasting: ipar.Client) -> None:
    view = lasting.load_balanced_view()
    good = view.map_async(abs, range(6))
    bad = view.apply_async(divmod, 1, 0)
    good.get()
    bad.wait()
    assert len(lasting.db_query({"status": "ok"})) == 6
    assert len(lasting.db_query({"status": {"$in": ["ok", "error"]}})) == 7
    assert [row["msg_id"] for row in lasting.db_query({"status": {"$ne": "ok"}})] == bad.msg_ids
    some = lasting.db_query({"duration": {"$gte": 0}, "engine_id": {"$lt": 1}}, keys=["engine_id"])
    assert {row["engine_id"] for row in some} <= {0}
    with pytest.raises(ValueError, match=r"\$near"):
        lasting.db_query({"status": {"$near": 1}})
    assert lasting.result_status(good.msg_ids)["pending"] == []
    assert lasting.purge_results(good) == 6
    assert lasting.hub_history() == bad.msg_ids
    again = lasting.resubmit(bad.msg_ids)
    again.wait()
    assert isinstance(again.exception(), ZeroDivisionError)
    lasting.purge_everything()
    assert lasting.hub_history() == []
    assert eventually(lambda: rows_of(lasting.cluster_id) == 0, 10)


def rows_of(cluster_id: str) -> int:
    """Rows about tasks that are still on disk."""
    path = state_folder(cluster_id) / "store.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        [count] = database.execute("SELECT count(*) FROM journal WHERE kind IN (1, 2)").fetchone()
    database.close()
    return int(count)


def test_an_idle_cluster_stops_itself() -> None:
    client = persistent(1, idle=0.1)
    hub = hub_of(client)
    client.close()
    assert hub.wait(10) == 0
    assert not cluster_folder(client.cluster_id).exists()
    forget_stored(client.cluster_id)


def test_a_second_hub_refuses_the_store_of_a_living_one(tmp_path: Path) -> None:
    client = persistent(1)
    there = os.environ["XDG_RUNTIME_DIR"]
    (tmp_path / "r").mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "r"))  # another one does not see its sockets
        with pytest.raises(StartError, match="another hub"):
            persistent(1, cluster_id=client.cluster_id)
    assert os.environ["XDG_RUNTIME_DIR"] == there
    client.close()
    end(client.cluster_id)


def test_a_store_that_others_may_read_is_refused(lasting: ipar.Client) -> None:
    cluster_id = lasting.cluster_id
    lasting.close()
    stop_cluster(cluster_id)
    path = state_folder(cluster_id) / "store.db"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(StartError, match="chmod 600"):
        persistent(1, cluster_id=cluster_id)


def test_a_damaged_store_is_moved_aside_and_everybody_is_told(
    lasting: ipar.Client, caplog: pytest.LogCaptureFixture
) -> None:
    cluster_id = lasting.cluster_id
    lasting[0].apply_sync(abs, 1)
    lasting.close()
    stop_cluster(cluster_id)
    path = state_folder(cluster_id) / "store.db"
    with path.open("r+b") as file:
        file.write(b"not a database at all")
    later = persistent(1, cluster_id=cluster_id)
    assert later[0].apply_sync(abs, -1) == 1
    assert "moved to" in caplog.text
    assert len(list(path.parent.glob("store.db.2*"))) == 1
    later.close()


def test_a_full_disk_costs_no_result_and_writing_resumes(caplog: pytest.LogCaptureFixture) -> None:
    client = persistent(1, store_max_bytes=400_000)
    view = client.load_balanced_view()
    large = [view.apply_async(os.urandom, 100_000) for _ in range(12)]
    assert [len(one.get(timeout=30)) for one in large] == [100_000] * 12
    assert eventually(lambda: "cannot store" in caplog.text, 10)
    assert client.hub_status()["store"]["problem"]
    assert not all(row["stored"] for row in client.db_query())
    client.purge_results([one.msg_ids[0] for one in large])
    assert eventually(lambda: not client.hub_status()["store"]["problem"], 20)
    assert view.apply_sync(abs, -3) == 3
    stored(client)
    client.close()
    end(client.cluster_id)


def test_nothing_of_an_ephemeral_cluster_with_a_store_stays_on_disk() -> None:
    with ipar.Cluster(1, durability="store") as client:
        folder = state_folder(client.cluster_id)
        client[0].apply_sync(abs, 1)
        assert (folder / "store.db").exists()
    assert not folder.exists()
    assert client.cluster_id not in [one.cluster_id for one in list_clusters()]


def test_results_leave_the_memory_of_the_hub_and_are_read_again() -> None:
    cluster = ipar.Cluster(1, persist=True)
    cluster._options["memory_bytes"] = 200_000
    client = cluster.start_and_connect_sync()
    hub = hub_of(client)
    view = client.load_balanced_view()
    results = [view.apply_async(bytes, 50_000) for _ in range(40)]
    assert all(one.get(timeout=30) == bytes(50_000) for one in results)
    stored(client)
    assert eventually(lambda: client.hub_status()["memory_bytes"] <= 200_000, 10)
    ids = [one.msg_ids[0] for one in results]
    assert client.get_result(ids).get(timeout=30) == [bytes(50_000)] * 40
    assert hub.is_running()
    client.close()
    end(client.cluster_id)


def test_no_task_begins_while_the_disk_is_far_behind_and_all_do_in_the_end() -> None:
    cluster = ipar.Cluster(1, persist=True, arrays_limit=0)
    cluster._options["behind_bytes"] = 100_000
    client = cluster.start_and_connect_sync()
    view = client.load_balanced_view()
    assert len(view.apply_sync(bytes, 200_000)) == 200_000
    stored(client)
    other = sqlite3.connect(state_folder(client.cluster_id) / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # nobody else writes, for less than the 5 s that SQLite waits
    assert len(view.apply_sync(bytes, 200_000)) == 200_000
    held_back = [view.apply_async(bytes, 200_000) for _ in range(20)]
    status = client.hub_status()
    assert status["store"]["behind"] >= 200_000
    assert not status["store"]["problem"]
    assert client.queue_status()["unassigned"] == 20
    other.execute("ROLLBACK")
    other.close()
    assert [len(one.get(timeout=30)) for one in held_back] == [200_000] * 20
    stored(client)
    assert eventually(lambda: client.hub_status()["store"]["behind"] == 0, 10)
    client.close()
    end(client.cluster_id)


def test_when_every_task_waits_for_the_disk_all_of_them_run() -> None:
    cluster = ipar.Cluster(2, persist=True)
    cluster._options["behind_bytes"] = 0
    client = cluster.start_and_connect_sync()
    view = client.load_balanced_view()
    assert view.map_sync(abs, range(-200, 0)) == [*range(200, 0, -1)]
    assert client[:].apply_sync(abs, -3) == [3, 3]
    client.close()
    end(client.cluster_id)


def test_delivered_results_go_first_when_there_are_too_many() -> None:
    client = persistent(1, keep_bytes=300_000)
    view = client.load_balanced_view()
    results = [view.apply_async(bytes, 50_000) for _ in range(20)]
    ids = [one.msg_ids[0] for one in results]
    assert all(len(one.get(timeout=30)) == 50_000 for one in results)
    assert eventually(lambda: len(client.hub_history()) <= 6, 10)
    kept = client.hub_history()
    assert kept == ids[-len(kept) :]
    client.close()
    end(client.cluster_id)
