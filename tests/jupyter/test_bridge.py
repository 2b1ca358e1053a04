"""What stands between Jupyter's server and the clusters: nobody is left without news for good."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from ipyasyncresult import Client, Cluster
from ipyasyncresult.client.reading import watch
from ipyasyncresult.config import ServerOptions
from ipyasyncresult.server import bridge as module
from ipyasyncresult.server.bridge import Bridge, Reader
from tests.conftest import eventually
from tests.integration.conftest import hub_of

pytestmark = [pytest.mark.slow]


@pytest.fixture
async def bridge(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bridge]:
    monkeypatch.setattr(module, "_LOOK", 0.05)
    monkeypatch.setattr(module, "_REST", 0.05)
    made = Bridge(ServerOptions())
    yield made
    for reader in [*made._readers]:
        reader.close()
    made._pool.shutdown(wait=False, cancel_futures=True)

    def is_over() -> bool:
        for client in [*made._clients.values()]:  # a thread may be about to make one
            client.close()
        return not any(thread.is_alive() for thread in made._pool._threads)

    assert eventually(is_over, 30)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Client]:
    with Cluster(n=1, cluster_id="bridged") as client:
        client[:].apply_sync(list)  # from now on every socket is open
        yield client


async def until(reader: Reader, *kinds: str) -> dict[str, Any]:
    """The next event of one of these kinds."""
    while (event := await reader.get()) is not None:
        if event[0] in kinds:
            data: dict[str, Any] = event[1]
            return data
    raise AssertionError("the events ended")


async def test_news_go_on_when_a_hub_was_silent(
    bridge: Bridge, cluster: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SILENCE", 0.2)
    reader = bridge.subscribe("bridged")
    assert (await until(reader, "news"))["engines"]
    hub = hub_of(cluster)
    hub.suspend()
    try:
        assert "did not answer" in (await until(reader, "ended"))["reason"]
    finally:
        hub.resume()
    monkeypatch.setattr(module, "_SILENCE", 30.0)
    assert (await until(reader, "news"))["engines"]


async def test_news_go_on_after_an_error_that_nobody_thought_of(
    bridge: Bridge, cluster: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = iter([KeyError("surprise")])

    def watch_or_fail(client: Client, **about: Any) -> dict[str, Any]:
        for error in wrong:
            raise error
        return watch(client, **about)

    monkeypatch.setattr(module, "watch", watch_or_fail)
    first = bridge.subscribe("bridged")
    assert "surprise" in (await until(first, "ended"))["reason"]
    assert (await until(first, "news"))["engines"]
    second = bridge.subscribe("bridged")
    assert (await until(second, "news"))["engines"]


async def test_clusters_are_told_after_an_error_that_nobody_thought_of(
    bridge: Bridge, cluster: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe, wrong = module._describe_clusters, iter([KeyError("surprise")])

    def describe_or_fail() -> list[dict[str, Any]]:
        for error in wrong:
            raise error
        return describe()

    monkeypatch.setattr(module, "_describe_clusters", describe_or_fail)
    reader = bridge.subscribe(None)
    told: Any = await until(reader, "clusters")  # of other tests, too
    assert "bridged" in [one["cluster_id"] for one in told]


async def test_who_asks_for_a_cluster_before_it_is_there_hears_of_it(bridge: Bridge) -> None:
    reader = bridge.subscribe("later")
    assert "no cluster" in (await until(reader, "ended"))["reason"]
    assert await bridge.run(eventually, lambda: not bridge._silent, 20)  # a look did not find it
    with Cluster(n=0, cluster_id="later"):
        assert (await until(reader, "news"))["unfinished"] == 0


async def test_who_comes_while_clusters_are_listed_gets_a_list_made_after_that(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    old, new = [{"cluster_id": "old"}], [{"cluster_id": "new"}]

    def listed() -> list[dict[str, str]]:
        if begun.is_set():
            return new
        begun.set()
        assert go_on.wait(30)
        return old

    monkeypatch.setattr(module, "_describe_clusters", listed)
    first = bridge.subscribe(None)
    assert await bridge.run(begun.wait, 30)
    second = bridge.subscribe(None)
    go_on.set()
    assert await first.get() == ("clusters", old)
    assert await second.get() == ("clusters", new)


async def test_a_hub_that_does_not_answer_holds_up_no_other(
    bridge: Bridge, cluster: Client
) -> None:
    with Cluster(n=0, cluster_id="stopped") as stopped:
        hub = hub_of(stopped)
        os.kill(hub.pid, signal.SIGSTOP)
        try:
            hangs = asyncio.create_task(bridge.ask("stopped", Client.hub_status))
            answers = asyncio.create_task(bridge.ask("bridged", Client.hub_status))
            done, _ = await asyncio.wait([hangs, answers], return_when="FIRST_COMPLETED")
            assert done == {answers}
        finally:
            os.kill(hub.pid, signal.SIGCONT)
        assert (await hangs)["cluster_id"] == "stopped"


async def test_a_cluster_that_ended_leaves_no_connection_behind(bridge: Bridge) -> None:
    with Cluster(n=0, cluster_id="brief"):
        await bridge.ask("brief", Client.hub_status)
        (client,) = bridge._clients.values()
    assert await bridge.run(eventually, lambda: client.closed, 20)  # it hears of the end
    await bridge.clusters()
    assert bridge._clients == {}
