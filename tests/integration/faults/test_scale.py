"""Very many engines, very many tasks.  Engines are stubs where a small machine has no room."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import ipyasyncresult as ipar
from ipyasyncresult.testing.stubengines import StubCluster
from tests.integration.conftest import hub_of, processes_of
from tests.integration.faults.conftest import SOON

if TYPE_CHECKING:
    from tests.integration.conftest import NewGate

pytestmark = pytest.mark.slow

QUEUED = 100_000


def test_128_engines_cost_few_descriptors_each_and_share_the_work() -> None:
    with StubCluster(n=8) as client:
        few = psutil.Process().num_fds() + hub_of(client).num_fds()
    with StubCluster(n=128) as client:
        assert client.ids == list(range(128))
        many = psutil.Process().num_fds() + hub_of(client).num_fds()
        assert many - few <= 2 * 120  # in the hub; an engine's own are counted below
        results = client.load_balanced_view().map_async(abs, range(12_800), chunksize=1)
        assert results.get(SOON) == [None] * 12_800
        everywhere = client[:].apply_async(abs, 1)
        assert everywhere.get(SOON) == [None] * 128
        assert sorted(everywhere.engine_id) == list(range(128))
        killed = client.send_signal(9, targets=[5, 100])
        assert set(killed.values()) == {"signalled"}
        client._connection.wait(lambda: len(replaced(client)) == 2, SOON)
        assert replaced(client) == {5, 100}
        client.wait_for_engines(128, timeout=SOON)
        assert client[100].apply_sync(abs, 1) is None


def replaced(client: ipar.Client) -> set[int]:
    return {news.engine_id for news in client.events if news.event == "replaced"}


def test_descriptors_grow_by_at_most_six_for_each_engine() -> None:
    """In all processes together that are not engines; and an engine has few of its own."""
    with ipar.Cluster(n=2) as client:
        assert client[:].apply_sync(abs, -1) == [1, 1]
        before = open_outside_engines(client)
        client.add_engines(6)
        assert client[:].apply_sync(abs, -1) == [1] * 8
        assert open_outside_engines(client) - before <= 6 * 6
        for about in client.engines.values():
            assert psutil.Process(about["pid"]).num_fds() < 40


def open_outside_engines(client: ipar.Client) -> int:
    engines = {about["pid"] for about in client.engines.values()}
    others = [psutil.Process(), *processes_of(client)]
    return sum(process.num_fds() for process in others if process.pid not in engines)


def test_a_hundred_thousand_queued_tasks_are_small_and_never_hold_up_who_submits(
    new_gate: NewGate,
) -> None:
    """At most 2 KB each in the hub and in the client; they all end."""
    with ipar.Cluster(n=1) as client:
        started, go = new_gate("started"), new_gate("go")

        def hold() -> None:
            started.open()
            go.wait(120)

        held = client[0].apply_async(hold)
        started.wait()
        hub = hub_of(client)
        view = client.load_balanced_view()
        view.apply_async(abs, 0)
        client._connection.ask("status")
        gc.collect()
        before = [process.memory_info().rss for process in (hub, psutil.Process())]
        slowest = 0.0
        results: list[Any] = []
        for n in range(QUEUED):
            began = time.perf_counter()
            results.append(view.apply_async(abs, -n))
            slowest = max(slowest, time.perf_counter() - began)
        assert client._connection.ask("status")["unfinished"] >= QUEUED
        after = [process.memory_info().rss for process in (hub, psutil.Process())]
        for grown in (now - then for now, then in zip(after, before, strict=True)):
            assert grown < 2000 * QUEUED
        assert slowest < SOON / 10, "a single call took seconds: it waited for the hub"
        assert not results[0].ready()
        go.open()
        held.get(SOON)
        assert [result.get(120) for result in results] == list(range(QUEUED))
