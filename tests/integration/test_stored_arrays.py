"""Large arrays of clusters with a store: in shared memory and on disk, whoever dies."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

import ipyasyncresult as ipar
from ipyasyncresult.client.clusters import (
    forget_stored,
    list_clusters,
    stop_cluster,
    stored_clusters,
)
from ipyasyncresult.errors import EngineError, UnknownTaskError
from ipyasyncresult.wire.runtime import cluster_folder, state_folder
from ipyasyncresult.wire.sharedfolder import find_arrays_folder
from tests.conftest import eventually
from tests.integration.conftest import hub_of
from tests.integration.test_hub_death import kill_everything, kill_hub

if TYPE_CHECKING:
    from tests.integration.conftest import Gate, NewGate, StartPython

MB = 1 << 20
NAME = "stored-arrays"
ROUNDS = 6
SOON = 30.0
ROOM = 30 * MB
"""What a small store may take: two arrays of ten megabytes and the rows."""


@pytest.fixture
def start() -> Iterator[Callable[..., ipar.Client]]:
    """Starts the cluster of this test, again under the same id if need be; nothing is left."""
    clients: list[ipar.Client] = []
    folders: set[Path] = set()

    def make(n: int = 2, **options: Any) -> ipar.Client:
        made = ipar.Cluster(n, cluster_id=NAME, persist=True, **options)
        clients.append(made.start_and_connect_sync())
        folders.add(shared(clients[-1]))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
    if NAME in [one.cluster_id for one in list_clusters()]:
        stop_cluster(NAME)
    forget_stored(NAME)
    assert not [folder for folder in folders if folder.exists()]


def array(value: int, megabytes: int = 10) -> Any:
    return np.full(megabytes * MB, value, dtype=np.uint8)


def is_all(x: Any, value: int, megabytes: int = 10) -> bool:
    one = x[0] if isinstance(x, list) else x
    return one.nbytes == megabytes * MB and bool((one == value).all())


def identity(x: Any) -> Any:
    return x


def make(value: int, megabytes: int = 10) -> Any:
    import numpy as np

    return np.full(megabytes * (1 << 20), value, dtype=np.uint8)


def two_of(value: int) -> Any:
    return {"a": make(value), "b": [make(value + 1), b"z" * MB]}


def hold(x: Any, started: Gate, gate: Gate) -> Any:
    started.open()
    gate.wait()
    return x


def hold_and_make(value: int, started: Gate, gate: Gate) -> Any:
    hold(None, started, gate)
    return make(value)


def fail(x: Any) -> None:
    raise ZeroDivisionError(len(x))


def store_of(client: ipar.Client) -> dict[str, Any]:
    about: dict[str, Any] = client.hub_status()["store"]
    return about


def stored(client: ipar.Client) -> None:
    assert eventually(lambda: store_of(client)["not_stored"] == 0, SOON), store_of(client)


def is_stored(client: ipar.Client, msg_id: str) -> bool:
    [about] = client.db_query({"msg_id": msg_id}, keys=["msg_id", "stored"])
    return bool(about["stored"])


def shared(client: ipar.Client) -> Path:
    folder = find_arrays_folder(cluster_folder(client.cluster_id))
    assert folder is not None
    return folder


def segments_of(client: ipar.Client) -> set[str]:
    return {file.name for file in shared(client).glob("*.*.*")}


def in_use(client: ipar.Client) -> list[str]:
    gc.collect()
    names: list[str] = client._connection.ask("segments")
    return names


def copies() -> list[Path]:
    """Files of arrays in the store."""
    return list((state_folder(NAME) / "arrays").glob("*"))


def fill(client: ipar.Client) -> str:
    """Let the store have no room for a further array; the id of the task to purge for some."""
    result = client[0].apply_async(make, 1, 20)
    assert is_all(result.get(SOON), 1, 20)
    stored(client)
    return str(result.msg_ids[0])


def full(client: ipar.Client) -> None:
    assert eventually(lambda: "full" in store_of(client)["problem"], SOON), store_of(client)


# ----------------------------------------------------------------------------------- nobody dies


def test_arrays_go_through_shared_memory_and_can_be_had_again_from_the_store(
    start: Callable[..., ipar.Client],
) -> None:
    client = start(1)
    echoed = client[0].apply_async(identity, array(1))
    made = client[0].apply_async(two_of, 2)
    assert is_all(echoed.get(SOON), 1)
    assert is_all(made.get(SOON)["a"], 2)
    assert segments_of(client)
    ids = [*echoed.msg_ids, *made.msg_ids]
    del echoed, made
    stored(client)
    assert eventually(lambda: not in_use(client), SOON), in_use(client)
    again, both = client.get_result(ids[0]).get(SOON), client.get_result(ids[1]).get(SOON)
    assert is_all(again, 1)
    both = both[0] if isinstance(both, list) else both
    assert is_all(both["a"], 2)
    assert is_all(both["b"][0], 3)
    assert both["b"][1] == b"z" * MB


def test_memory_is_used_again_and_what_is_held_never_changes(
    start: Callable[..., ipar.Client],
) -> None:
    client = start()
    view = client.load_balanced_view()
    held = [view.apply_sync(identity, array(value)) for value in range(4)]
    made = [view.apply_sync(make, value) for value in range(4)]
    client[:].push({"kept": array(77)}, block=True)
    for value in range(30):
        if value % 10 == 0:  # the store has what came so far, and gives its memory back
            stored(client)
            assert eventually(lambda: len(in_use(client)) < 12, SOON), in_use(client)
        assert is_all(view.apply_sync(identity, array(100 + value)), 100 + value)
        assert is_all(view.apply_sync(make, 100 + value), 100 + value)
    for value in range(4):
        assert is_all(held[value], value)
        assert is_all(made[value], value)
    assert client[:].pull("int(kept.min()), int(kept.max())", block=True) == [(77, 77)] * 2
    assert len(segments_of(client)) < 60  # of 69 arrays


def test_one_array_for_all_engines_is_stored_once_and_not_when_all_have_used_it(
    start: Callable[..., ipar.Client], new_gate: NewGate
) -> None:
    client = start(3)
    started, gate = new_gate("started"), new_gate("gate")
    held = client[:].apply_async(hold, array(5), started, gate)
    stored(client)
    assert [file.stat().st_size for file in copies()] == [10 * MB]
    assert store_of(client)["bytes"] < 12 * MB
    gate.open()
    assert all(is_all(one, 5) for one in held.get(SOON))
    stored(client)
    assert len(copies()) == 1  # the results are the same memory
    client.purge_hub_results("all")
    assert eventually(lambda: not copies(), 2 * SOON)


def test_results_beyond_the_limit_on_disk_go_with_their_arrays(
    start: Callable[..., ipar.Client],
) -> None:
    client = start(1, keep_bytes=25 * MB)
    for value in range(6):
        assert is_all(client[0].apply_sync(make, value), value)
    stored(client)
    assert eventually(lambda: len(client.hub_history()) <= 3, SOON)
    assert eventually(lambda: store_of(client)["bytes"] < 25 * MB, 2 * SOON), store_of(client)
    assert is_all(client.get_result(-1).get(SOON), 5)


def test_a_failed_task_runs_again_with_the_array_that_the_store_has(
    start: Callable[..., ipar.Client],
) -> None:
    client = start(1)
    failed = client[0].apply_async(fail, array(3))
    with pytest.raises(ZeroDivisionError):
        failed.get(SOON)
    stored(client)
    assert eventually(lambda: not in_use(client), SOON), in_use(client)
    with pytest.raises(ZeroDivisionError, match=str(10 * MB)):
        failed.retry_failed().get(SOON)


@pytest.mark.parametrize("limit", [0, 25 * MB])
def test_a_full_disk_costs_no_result_and_no_more_memory_than_the_limit(
    start: Callable[..., ipar.Client], limit: int
) -> None:
    client = start(1, arrays_limit=limit, store_max_bytes=5 * MB)
    results = [client[0].apply_async(make, value) for value in range(5)]
    assert all(is_all(result.get(SOON), value) for value, result in enumerate(results))
    full(client)
    assert len(segments_of(client)) == (2 if limit else 0)
    assert not is_stored(client, results[0].msg_ids[0])
    with ipar.Client(NAME) as other:
        assert is_all(other.get_result(results[0].msg_ids).get(SOON), 0)
        assert is_all(other.get_result(results[4].msg_ids).get(SOON), 4)
    ids = [msg_id for result in results for msg_id in result.msg_ids]
    del results
    client.purge_hub_results(ids)
    stored(client)
    assert eventually(lambda: not in_use(client), SOON)


@pytest.mark.usefixtures("small_shared_memory")
def test_a_full_file_system_in_memory_degrades_to_frames_in_messages(
    start: Callable[..., ipar.Client],
) -> None:
    client = start(2, arrays_limit=1 << 40)
    held = [client[0].apply_sync(identity, array(value)) for value in range(5)]
    held += [client[1].apply_sync(make, value) for value in range(5, 10)]
    assert all(is_all(one, value) for value, one in enumerate(held))
    assert 1 <= len(segments_of(client)) <= 2
    stored(client)
    assert is_all(client.get_result(-10).get(SOON), 0)
    assert is_all(client.get_result(-1).get(SOON), 9)


# ------------------------------------------------------------------------- the store is behind


def test_an_engine_that_dies_before_the_store_has_its_result_costs_nothing(
    start: Callable[..., ipar.Client],
) -> None:
    client = start(1, store_max_bytes=ROOM)
    first = fill(client)
    result = client[0].apply_async(make, 2)
    assert is_all(result.get(SOON), 2)
    [msg_id] = result.msg_ids
    del result
    full(client)
    engine = psutil.Process(client.engines[0]["pid"])
    engine.kill()
    assert eventually(lambda: client.engines.get(0, {}).get("pid") not in (None, engine.pid), SOON)
    assert is_all(client.get_result(msg_id).get(SOON), 2)
    assert not is_stored(client, msg_id)
    client.purge_hub_results([first])
    assert eventually(lambda: is_stored(client, msg_id), SOON), store_of(client)
    assert eventually(lambda: not in_use(client), SOON)
    kill_everything(client)
    client.close()
    again = start(1)
    assert is_all(again.get_result(msg_id).get(SOON), 2)


def test_a_client_that_dies_before_the_store_has_its_array_costs_nothing(
    start: Callable[..., ipar.Client], start_python: StartPython, new_gate: NewGate
) -> None:
    client = start(1, store_max_bytes=ROOM)
    fill(client)
    started, gate = new_gate("started"), new_gate("gate")
    script = """
        import pathlib, sys, time
        import numpy, ipyasyncresult as ipar

        def hold(x, started, gate):
            pathlib.Path(started).touch()
            while not pathlib.Path(gate).exists():
                time.sleep(0.005)
            return x

        client = ipar.Client(sys.argv[1])
        array = numpy.full(10 << 20, 9, dtype=numpy.uint8)
        running = client[0].apply_async(hold, array, *sys.argv[2:])
        waiting = client[0].apply_async(hold, array + 1, *sys.argv[2:])
        print(running.msg_ids[0], waiting.msg_ids[0], flush=True)
        sys.stdin.read()
    """
    process = start_python(script, NAME, started.path, gate.path)
    assert process.stdout is not None
    running, waiting = process.stdout.readline().split()
    started.wait()
    full(client)
    process.kill()
    process.wait()
    assert eventually(lambda: client.hub_status()["clients"] == 1, SOON)
    gate.open()
    assert is_all(client.get_result(running).get(SOON), 9)
    assert is_all(client.get_result(waiting).get(SOON), 10)
    client.purge_hub_results("all")
    stored(client)
    assert eventually(lambda: not in_use(client), SOON)


def test_the_hub_dies_before_the_store_has_anything(
    start: Callable[..., ipar.Client], new_gate: NewGate
) -> None:
    client = start(2, store_max_bytes=ROOM)
    fill(client)
    started, gate = new_gate("started"), new_gate("gate")
    running = client[0].apply_async(hold, array(4), started, gate)
    waiting = client[0].apply_async(identity, array(5))
    ended = client[1].apply_async(make, 6)
    assert is_all(ended.get(SOON), 6)
    started.wait()
    full(client)
    kill_hub(client)
    gate.open()
    assert is_all(running.get(SOON), 4)
    assert is_all(waiting.get(SOON), 5)
    client[1].apply_sync(os.getpid)
    assert is_all(client.get_result(ended.msg_ids).get(SOON), 6)
    for value in range(5):  # what is held is not written over
        client[1].apply_sync(identity, array(50 + value))
    assert is_all(running.get(), 4)
    assert is_all(ended.get(), 6)


def test_memory_that_only_the_dead_hub_knew_is_given_back_in_the_end(
    start: Callable[..., ipar.Client],
) -> None:
    client = start(1)
    held = client[0].apply_sync(make, 1)
    client[0].push({"kept": array(2)}, block=True)
    stored(client)
    known = segments_of(client)
    assert len(known) == 2
    kill_hub(client)
    client[0].apply_sync(os.getpid)
    assert is_all(held, 1)
    assert eventually(lambda: not segments_of(client) & known, 2 * SOON), segments_of(client)
    assert not list(shared(client).glob("*~*")) or eventually(
        lambda: not list(shared(client).glob("*~*")), SOON
    )
    assert is_all(held, 1)  # who has it mapped keeps it
    assert is_all(client[0].pull("kept", block=True), 2)  # and sends it on as a copy
    assert is_all(client[0].apply_sync(identity, held), 1)


def test_everything_dies_before_and_after_the_store_has_an_array(
    start: Callable[..., ipar.Client],
) -> None:
    client = start(1, store_max_bytes=ROOM)
    safe = fill(client)
    lost = client[0].apply_async(make, 2)
    assert is_all(lost.get(SOON), 2)
    full(client)
    before = shared(client)
    kill_everything(client)
    client.close()
    again = start(1)
    assert not before.exists()
    assert is_all(again.get_result(safe).get(SOON), 1, 20)
    with pytest.raises((UnknownTaskError, EngineError)):
        again.get_result(lost.msg_ids[0]).get(SOON)
    assert is_all(again[0].apply_sync(identity, array(3)), 3)


# ------------------------------------------------------------------------------ the store has it


def test_the_hub_dies_and_what_waits_has_its_arrays_from_the_store(
    start: Callable[..., ipar.Client], new_gate: NewGate
) -> None:
    client = start(1)
    started, gate = new_gate("started"), new_gate("gate")
    running = client[0].apply_async(hold, array(4), started, gate)
    waiting = [client[0].apply_async(identity, [array(value), array(7)]) for value in range(3)]
    ended = client[0].apply_async(identity, array(8))
    started.wait()
    stored(client)
    kill_hub(client)
    gate.open()
    assert is_all(running.get(SOON), 4)
    for value, result in enumerate(waiting):
        first, second = result.get(SOON)
        assert is_all(first, value)
        assert is_all(second, 7)
    assert is_all(ended.get(SOON), 8)
    stored(client)
    kill_hub(client)
    assert is_all(client.get_result(running.msg_ids).get(SOON), 4)
    assert is_all(client.get_result(ended.msg_ids).get(SOON), 8)


def test_everything_dies_and_what_waited_runs_with_its_arrays_under_the_same_id(
    start: Callable[..., ipar.Client], new_gate: NewGate
) -> None:
    client = start(1)
    started, gate = new_gate("started"), new_gate("gate")
    done = client[0].apply_async(make, 1)
    assert is_all(done.get(SOON), 1)
    running = client[0].apply_async(hold, array(4), started, gate)
    started.wait()
    queued = client[0].apply_async(identity, array(5))
    client.queue_status()  # answered: the hub has it
    stored(client)
    kill_everything(client)
    client.close()
    gate.open()
    [left] = [one.bytes for one in stored_clusters() if one.cluster_id == NAME]
    assert left >= 30 * MB
    again = start(1)
    assert is_all(again.get_result(done.msg_ids[0]).get(SOON), 1)
    assert is_all(again.get_result(queued.msg_ids[0]).get(SOON), 5)
    with pytest.raises(EngineError):
        again.get_result(running.msg_ids[0]).get(SOON)


def test_a_client_that_lives_on_gives_its_arrays_to_the_cluster_that_is_started_again(
    start: Callable[..., ipar.Client], new_gate: NewGate
) -> None:
    client = start(1, store_max_bytes=ROOM)
    fill(client)
    started, gate = new_gate("started"), new_gate("gate")
    running = client[0].apply_async(hold, array(3), started, gate)
    queued = client[0].apply_async(identity, [array(5), array(6)])
    started.wait()
    full(client)
    kill_everything(client)
    gate.open()
    start(1)
    first, second = queued.get(SOON)
    assert is_all(first, 5)
    assert is_all(second, 6)
    assert is_all(running.get(SOON), 3)  # the new cluster has never heard that it began
    assert is_all(client[0].apply_sync(identity, array(7)), 7)


def test_what_an_engine_that_stands_still_has_to_send_again_is_waited_for(
    start: Callable[..., ipar.Client], new_gate: NewGate
) -> None:
    """Longer than memory that nobody speaks of is kept."""
    client = start(2)
    client[:].apply_sync(os.getpid)
    started, gate = new_gate("started"), new_gate("gate")
    running = client[1].apply_async(hold_and_make, 4, started, gate)
    started.wait()
    hub = hub_of(client)
    before = segments_of(client)
    hub.suspend()  # what the engine sends is not taken in any more
    gate.open()
    assert eventually(lambda: segments_of(client) - before, SOON)
    names = segments_of(client) - before
    engine = psutil.Process(client.engines[1]["pid"])
    engine.suspend()
    hub.kill()
    hub.wait(SOON)
    assert client[0].apply_async(os.getpid).get(SOON)
    forgotten = client[0].apply_async(make, 1).get(SOON)
    del forgotten
    assert not eventually(lambda: not names & segments_of(client), 22)
    engine.resume()
    assert is_all(running.get(SOON), 4)


def lose_the_hub(client: ipar.Client, first: int, moment: int | None) -> dict[str, Any]:
    """Send arrays, kill the hub when that many results are there, or None at once; all values."""
    view = client.load_balanced_view()
    results = []
    for value in range(first, first + 12, 2):
        results.append(view.apply_async(identity, array(value % 256, 4)))
        results.append(view.apply_async(make, (value + 1) % 256, 4))
    if moment is not None:
        results[moment].wait(SOON)
    kill_hub(client)
    return {result.msg_ids[0]: result.get(SOON) for result in results}


def test_values_are_right_whenever_the_hub_is_killed(start: Callable[..., ipar.Client]) -> None:
    moments = random.Random(4)  # the same in every run
    client = start(2, restart_limit=10_000, keep_bytes=1 << 40)
    ids: list[str] = []
    held: dict[str, Any] = {}
    for turn in range(ROUNDS):
        seen = lose_the_hub(client, 12 * turn, moments.randrange(12) if turn % 2 else None)
        assert all(is_all(one, (12 * turn + n) % 256, 4) for n, one in enumerate(seen.values()))
        ids += seen
        held |= list(seen.items())[3:5]
        seen.clear()
        assert all(is_all(held[one], ids.index(one) % 256, 4) for one in held)
    stored(client)
    kill_hub(client)
    for value, msg_id in enumerate(ids):
        assert is_all(client.get_result(msg_id).get(SOON), value % 256, 4)
    assert all(is_all(held[one], ids.index(one) % 256, 4) for one in held)
    held.clear()
    client.purge_hub_results("all")
    assert eventually(lambda: not in_use(client), SOON), in_use(client)
