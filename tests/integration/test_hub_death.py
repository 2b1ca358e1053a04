"""The hub of a persistent cluster is killed: another one takes its place and nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

import ipyasyncresult as ipar
from ipyasyncresult.client.clusters import forget_stored, list_clusters, stop_cluster
from ipyasyncresult.client.hubs import next_hub
from ipyasyncresult.errors import EngineError, HubError
from ipyasyncresult.wire.runtime import cluster_folder, is_alive, read_cluster_file
from tests.conftest import eventually
from tests.integration.conftest import hub_of

if TYPE_CHECKING:
    from tests.integration.conftest import Gate, NewGate

ROUNDS = int(os.environ.get("IPYASYNCRESULT_HUB_KILLS", "10"))
"""How often the hub is killed at a random moment; ``make soak`` says 100."""


def persistent(n: int = 2, **options: object) -> ipar.Client:
    return ipar.Cluster(n, persist=True, **options).start_and_connect_sync()  # type: ignore[arg-type]


def end(cluster_id: str) -> None:
    """Stop what lives of a cluster and remove what it stored."""
    if cluster_id in [one.cluster_id for one in list_clusters()]:
        stop_cluster(cluster_id)
    forget_stored(cluster_id)


@pytest.fixture(params=["ipc", "tcp"])
def lasting(request: pytest.FixtureRequest) -> Iterator[ipar.Client]:
    client = persistent(transport=request.param)
    yield client
    client.close()
    end(client.cluster_id)


def has_hub(client: ipar.Client) -> bool:
    described = read_cluster_file(cluster_folder(client.cluster_id))
    return described is not None and is_alive(described.pid, described.pid_start)


def kill_hub(client: ipar.Client) -> psutil.Process:
    """Kill it and wait until the kernel has; another one may come at any moment."""
    assert eventually(lambda: has_hub(client), 10)
    hub = hub_of(client)
    hub.kill()
    hub.wait(10)
    return hub


def kill_everything(client: ipar.Client) -> None:
    """Hub, nursery and engines, as a power cut does."""
    described = read_cluster_file(cluster_folder(client.cluster_id))
    assert described is not None
    nursery, hub = psutil.Process(described.nursery), psutil.Process(described.pid)
    os.kill(nursery.pid, signal.SIGSTOP)  # it must not start another hub
    for process in [*nursery.children(), hub, nursery]:
        process.kill()
    psutil.wait_procs([hub, nursery], timeout=10)


def square(x: int) -> int:
    return x * x


def noted(x: int, ran: Path) -> int:
    """Leaves a line per run, so that a second run is seen."""
    print("item", x)
    with ran.open("a") as file:
        file.write(f"{x}\n")
    return x * x


def hold(started: Gate, gate: Gate) -> str:
    print("before")
    started.open()
    gate.wait()
    print("after")
    return "done"


# ----------------------------------------------------------------------------- what the client sees


def test_a_running_task_ends_as_if_nothing_had_happened(
    lasting: ipar.Client, new_gate: NewGate
) -> None:
    started, gate = new_gate("started"), new_gate("gate")
    before = lasting[:].apply_async(os.getpid).get()
    running = lasting[0].apply_async(hold, started, gate)
    queued = lasting[0].map_async(square, range(50))
    started.wait()
    killed = kill_hub(lasting)
    gate.open()
    assert running.get(timeout=30) == "done"
    assert running.stdout == "before\nafter\n"
    assert queued.get(timeout=30) == [x * x for x in range(50)]
    assert hub_of(lasting).pid != killed.pid
    assert lasting[:].apply_sync(os.getpid) == before  # the same engines, with what they know
    assert not lasting.closed


def test_what_is_asked_of_a_dead_hub_the_next_one_answers(lasting: ipar.Client) -> None:
    killed = kill_hub(lasting)
    assert lasting.load_balanced_view().apply_async(square, 3).get(timeout=30) == 9
    assert hub_of(lasting).pid != killed.pid


def test_results_from_before_are_there(lasting: ipar.Client) -> None:
    done = lasting.load_balanced_view().map_async(noted_print, range(30))
    assert done.get() == list(range(30))
    stored(lasting)
    kill_hub(lasting)
    again = lasting.get_result(done.msg_ids)
    assert again.get(timeout=30) == list(range(30))
    assert again.stdout == [f"{x}\n" for x in range(30)]


def noted_print(x: int) -> int:
    print(x)
    return x


def stored(client: ipar.Client) -> None:
    """Wait until everything that the hub has is on disk."""
    assert eventually(lambda: client.hub_status()["store"]["not_stored"] == 0, 10), (
        client.hub_status()
    )


def test_what_is_submitted_while_there_is_no_hub_runs_once(
    lasting: ipar.Client, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    view = lasting.load_balanced_view()
    view.apply_sync(square, 1)
    described = read_cluster_file(cluster_folder(lasting.cluster_id))
    assert described is not None
    os.kill(described.nursery, signal.SIGSTOP)  # no other hub for now
    kill_hub(lasting)
    results = [view.apply_async(noted, x, ran) for x in range(20)]
    assert not any(result.ready() for result in results)
    os.kill(described.nursery, signal.SIGCONT)
    assert [result.get(timeout=30) for result in results] == [x * x for x in range(20)]
    assert sorted(map(int, ran.read_text().split())) == list(range(20))


def test_an_engine_that_died_meanwhile_fails_its_task_only(
    lasting: ipar.Client, new_gate: NewGate
) -> None:
    started, gate = new_gate("started"), new_gate("gate")
    held = lasting[0].apply_async(hold, started, gate)
    other_started, other = new_gate("other started"), new_gate("other")
    goes_on = lasting[1].apply_async(hold, other_started, other)
    started.wait()
    other_started.wait()
    stored(lasting)
    engine = psutil.Process(lasting.engines[0]["pid"])
    hub_of(lasting).suspend()  # it does not see the death
    engine.kill()
    assert psutil.wait_procs([engine], timeout=30)[0]  # buried by its parent
    kill_hub(lasting)
    other.open()
    with pytest.raises(EngineError, match="SIGKILL"):
        held.get(timeout=30)
    assert goes_on.get(timeout=30) == "done"
    assert lasting[0].apply_sync(square, 2) == 4  # by the engine that took the place


def test_a_cluster_without_a_store_answers_with_an_error_and_goes_on(new_gate: NewGate) -> None:
    client = persistent(durability="memory")
    started, gate = new_gate("started"), new_gate("gate")
    running = client[0].apply_async(hold, started, gate)
    started.wait()
    kill_hub(client)
    with pytest.raises(HubError, match="memory"):
        running.get(timeout=30)
    gate.open()
    assert client[:].apply_sync(square, 3) == [9, 9]
    client.close()
    stop_cluster(client.cluster_id)


def test_hubs_that_die_again_and_again_are_given_up() -> None:
    client = persistent(1)
    folder = cluster_folder(client.cluster_id)
    for _ in range(6):
        kill_hub(client)
        assert eventually(lambda: has_hub(client) or next_hub(folder) is None, 30)
        if not has_hub(client):
            break
    else:
        pytest.fail("a seventh hub was started")
    pending_error(client)
    client.close()
    forget_stored(client.cluster_id)


def pending_error(client: ipar.Client) -> None:
    with pytest.raises(HubError):
        client.load_balanced_view().apply_async(square, 1).get(timeout=30)


@pytest.mark.timeout(60 + 5 * ROUNDS)
def test_nothing_acknowledged_is_lost_when_the_hub_is_killed_at_random_moments(
    tmp_path: Path,
) -> None:
    """Every task ends once with the right value, and every result that was seen is found again."""
    moments = random.Random(4)  # the same in every run
    ran = tmp_path / "ran"
    lasting = persistent(restart_limit=10_000)
    view = lasting.load_balanced_view()
    seen: dict[str, int] = {}
    expected = 0
    for _ in range(ROUNDS):
        count = moments.choice([3, 60, 400])
        singles = [view.apply_async(noted, expected + i, ran) for i in range(count)]
        several = view.map_async(noted, range(expected + count, expected + count + 40), [ran] * 40)
        time.sleep(moments.random() * 0.15)
        kill_hub(lasting)
        for i, result in enumerate(singles):
            assert result.get(timeout=30) == (expected + i) ** 2
            assert result.stdout == f"item {expected + i}\n"
            seen[result.msg_ids[0]] = (expected + i) ** 2
        assert several.get(timeout=30) == [
            x * x for x in range(expected + count, expected + count + 40)
        ]
        expected += count + 40
    lines = ran.read_text().split()
    assert len(lines) == len(set(lines)) == expected  # nothing ran twice
    stored(lasting)
    kill_hub(lasting)
    again = lasting.get_result(list(seen))
    assert again.get(timeout=60) == list(seen.values())
    lasting.close()
    end(lasting.cluster_id)
