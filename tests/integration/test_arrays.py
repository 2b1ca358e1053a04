"""Large arrays through shared memory: fast, right, and nothing left behind."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from ipyasyncresult import Client, Cluster
from ipyasyncresult.errors import ResultDecodeError
from ipyasyncresult.wire.runtime import cluster_folder, living_cluster, read_cluster_file
from ipyasyncresult.wire.sharedfolder import find_arrays_folder
from tests.conftest import eventually
from tests.integration.conftest import StartPython, hub_of

MB = 1 << 20


def in_use(client: Client) -> list[str]:
    """Segments that the hub knows as used, after everything that this client said."""
    gc.collect()
    names: list[str] = client._connection.ask("segments")
    return names


def folder_of(client: Client) -> Path:
    folder = find_arrays_folder(cluster_folder(client.cluster_id))
    assert folder is not None
    return folder


def files_of(client: Client) -> set[str]:
    return {file.name for file in folder_of(client).glob("*.*.*")}


def array(value: int, megabytes: int = 8) -> Any:
    return np.full(megabytes * MB, value, dtype=np.uint8)


def identity(x: Any) -> Any:
    return x


def make(value: int, megabytes: int) -> Any:
    import numpy as np

    return np.full(megabytes * (1 << 20), value, dtype=np.uint8)


def total(x: Any) -> int:
    return int(x.sum(dtype="int64"))


@pytest.fixture
def settled(client: Client) -> Iterator[Client]:
    """Nothing is in use before the test, and nothing after it."""
    assert eventually(lambda: not in_use(client), 10)
    yield client
    client.clear()
    client.purge_hub_results("all")  # small ones are remembered
    assert eventually(lambda: not in_use(client), 10), in_use(client)


def test_arrays_arrive_read_only_and_as_they_were(settled: Client) -> None:
    view = settled.load_balanced_view()
    sent = np.arange(3 * MB, dtype=np.float64)
    back = view.apply_sync(identity, sent)
    assert (back == sent).all()
    assert not back.flags.writeable
    nested = view.apply_sync(identity, {"a": [sent[: 2 * MB]], "b": b"x" * MB})
    assert (nested["a"][0] == sent[: 2 * MB]).all()
    assert nested["b"] == b"x" * MB


def test_the_same_memory_is_used_again_and_again(settled: Client) -> None:
    view = settled.load_balanced_view()
    before = files_of(settled)
    for value in range(10):
        back = view.apply_sync(identity, array(value, 80))
        assert (back == value).all()
        del back
    assert len(files_of(settled) - before) <= 2


def test_results_made_on_engines_use_the_same_memory_again(settled: Client) -> None:
    view = settled[0]
    before = files_of(settled)
    result = None
    for value in range(8):
        result = view.apply_sync(make, value, 80)
        assert (result[:: 1 << 12] == value).all()
    del result
    assert len(files_of(settled) - before) <= 3


def test_an_array_that_is_held_never_changes(settled: Client) -> None:
    view = settled.load_balanced_view()
    held = [view.apply_sync(identity, array(value)) for value in range(5)]
    made = [view.apply_sync(make, value, 8) for value in range(5)]
    part = held[3][100:200]
    del held[3]
    for value in range(20):
        view.apply_sync(identity, array(100 + value))
        view.apply_sync(make, 100 + value, 8)
    assert [int(one[0]) for one in held] == [0, 1, 2, 4]
    assert all((one == one[0]).all() for one in held)
    assert all((one == value).all() for value, one in enumerate(made))
    assert (part == 3).all()


def test_a_variable_on_an_engine_never_changes(settled: Client) -> None:
    everywhere = settled[:]
    everywhere.push({"kept": array(7)}, block=True)
    for value in range(10):
        everywhere.push({"other": array(value)}, block=True)
    assert everywhere.pull("int(kept.min()), int(kept.max())", block=True) == [(7, 7)] * 3
    # It can be sent on from there: the memory is the same.
    (first, *_) = everywhere.pull("kept", block=True)
    assert (first == 7).all()


def test_one_array_for_all_engines_is_written_once(settled: Client) -> None:
    before = files_of(settled)
    result = settled[:].apply_async(total, array(2))
    assert result.get() == [2 * 8 * MB] * 3
    assert result.sent
    assert len(files_of(settled) - before) <= 1


def test_what_is_received_outlives_the_client_and_the_cluster() -> None:
    with Cluster(n=1) as client:
        held = client[0].apply_sync(make, 5, 8)
        unread = client[0].apply_async(make, 6, 8)
        unread.wait()
    assert (held == 5).all()
    assert (unread.get() == 6).all()


def test_a_closed_clients_arrays_are_not_written_over() -> None:
    with Cluster(n=1) as owner:
        second = Client(owner.cluster_id)
        held = second[0].apply_sync(make, 5, 8)
        second.close()
        for value in range(5):
            owner[0].apply_sync(make, 100 + value, 8)
        assert (held == 5).all()


def test_an_array_can_be_had_again_after_its_client_was_lost(
    settled: Client, start_python: StartPython
) -> None:
    script = """
        import sys
        from ipyasyncresult import Client
        client = Client(sys.argv[1])
        result = client[0].apply_async(__import__("numpy").ones, 20_000_000)
        held = result.get()
        print(result.msg_ids[0], flush=True)
        sys.stdin.read()
    """
    process = start_python(script, settled.cluster_id)
    assert process.stdout is not None
    msg_id = process.stdout.readline().strip()
    process.kill()
    process.wait()
    again = settled.get_result(msg_id).get()
    again = again[0] if isinstance(again, list) else again
    assert again.shape == (20_000_000,)
    assert (again == 1).all()


def test_a_large_result_that_was_let_go_is_not_kept(settled: Client) -> None:
    result = settled[0].apply_async(make, 1, 100)
    result.get()
    (msg_id,) = result.msg_ids
    del result
    assert eventually(lambda: not in_use(settled), 10)
    again = settled.get_result(msg_id)
    with pytest.raises(ResultDecodeError, match="not kept any more"):
        again.get()


def test_engines_that_die_leave_no_memory(client: Client) -> None:
    view = client.load_balanced_view()
    view.apply_sync(identity, array(1))

    def keep_and_die(x: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    failed = view.apply_async(keep_and_die, array(2))
    assert failed.exception() is not None
    assert (client[:].apply_sync(identity, array(3))[2] == 3).all()
    client.purge_hub_results("all")
    assert eventually(lambda: not in_use(client), 10), in_use(client)


@pytest.mark.usefixtures("small_shared_memory")
def test_a_full_file_system_degrades_to_frames_in_messages() -> None:
    with Cluster(n=2, arrays_limit=1 << 40) as client:
        held = [client[0].apply_sync(identity, array(value)) for value in range(6)]
        held += [client[1].apply_sync(make, value, 8) for value in range(6, 12)]
        assert all((one == value).all() for value, one in enumerate(held))
        assert 1 <= len(files_of(client)) <= 2


@pytest.mark.parametrize("limit", [0, 12 * MB])
def test_the_limit_of_a_cluster_is_kept(limit: int) -> None:
    with Cluster(n=1, arrays_limit=limit) as client:
        held = [client[0].apply_sync(identity, array(value)) for value in range(3)]
        assert all((one == value).all() for value, one in enumerate(held))
        assert len(files_of(client)) == (1 if limit else 0)


def test_nothing_is_left_when_everybody_is_killed(start_python: StartPython) -> None:
    script = """
        import numpy, sys
        from ipyasyncresult import Cluster
        client = Cluster(n=2).start_and_connect_sync()
        held = client[:].apply_sync(lambda x: x + 1, numpy.ones(3_000_000))
        print(client.cluster_id, flush=True)
        sys.stdin.read()
    """
    process = start_python(script)
    assert process.stdout is not None
    cluster_id = process.stdout.readline().strip()
    folder = find_arrays_folder(cluster_folder(cluster_id))
    assert folder is not None
    hub = psutil.Process(process.pid).children()[0]
    for victim in [psutil.Process(process.pid), hub, *hub.children(recursive=True)]:
        victim.kill()
    process.wait()
    described = read_cluster_file(cluster_folder(cluster_id))
    assert described is not None
    assert eventually(lambda: not living_cluster(described), 10)
    assert folder.exists()
    with Cluster(n=0):  # the next start removes what it finds
        assert not folder.exists()


def test_memory_is_given_back_when_the_hub_ends() -> None:
    with Cluster(n=1) as client:
        folder = folder_of(client)
        held = client[0].apply_sync(make, 1, 8)
        hub = hub_of(client)
    psutil.wait_procs([hub], timeout=10)
    assert not folder.exists()
    assert held[0] == 1
