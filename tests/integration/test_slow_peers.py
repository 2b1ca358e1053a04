"""Hubs, engines and clients that stop, fall behind, or die with half a message on its way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

import ipyasyncresult as ipar
from ipyasyncresult.errors import HubError
from tests.conftest import eventually
from tests.integration.conftest import hub_of
from tests.integration.test_hub_death import end, kill_hub, persistent

if TYPE_CHECKING:
    from tests.integration.conftest import Gate, NewGate, StartPython

SOON = 30.0
LARGE = 60_000_000
"""Bytes: far more than a socket holds."""


@pytest.fixture
def lasting() -> Iterator[ipar.Client]:
    """With a store, and without shared memory: everything travels inside of messages."""
    client = persistent(1, arrays_limit=0)
    yield client
    client.close()
    end(client.cluster_id)


@pytest.fixture
def inline() -> Iterator[ipar.Client]:
    """The same without a store."""
    with ipar.Cluster(n=1, arrays_limit=0) as client:
        yield client


def large(opened: Gate | None = None) -> np.ndarray:
    if opened is not None:
        opened.open()
    return np.arange(LARGE // 8)


def same(array: np.ndarray) -> np.ndarray:
    return array


@pytest.mark.parametrize("cluster", ["inline", "lasting"])
def test_large_arrays_come_back_as_they_were(cluster: str, request: pytest.FixtureRequest) -> None:
    client: ipar.Client = request.getfixturevalue(cluster)
    # Of "lasting" the store keeps it four times: more would be a test of the disk.
    array = np.random.default_rng(0).integers(0, 255, LARGE, dtype=np.uint8)
    result = client[0].apply_async(same, array)
    assert np.array_equal(result.get(SOON), array)
    assert not result.get().flags.writeable
    view = client.load_balanced_view()
    both = view.map_async(same, [array[: LARGE // 5], array[LARGE // 5 :]], chunksize=2)
    assert [len(one) for one in both.get(SOON)] == [LARGE // 5, LARGE - LARGE // 5]


def test_a_large_text_comes_back_as_it_was(inline: ipar.Client) -> None:
    """It is no buffer of its own, but part of the message."""
    text = "0123456789" * (LARGE // 10)
    assert inline[0].apply_async(str.upper, text).get(SOON) == text


def test_the_hub_dies_with_half_of_what_a_client_sends(lasting: ipar.Client) -> None:
    array = np.arange(LARGE // 8)
    assert lasting[0].apply_sync(np.sum, array[:10]) == 45
    hub = hub_of(lasting)
    hub.suspend()
    result = lasting[0].apply_async(np.sum, array)
    behind = lasting[0].apply_async(abs, -3)
    assert not result.sent
    kill_hub(lasting)
    assert result.get(SOON) == array.sum()
    assert behind.get(SOON) == 3
    assert hub_of(lasting).pid != hub.pid


def test_the_hub_dies_with_half_of_what_an_engine_sends(
    lasting: ipar.Client, new_gate: NewGate
) -> None:
    opened = new_gate("opened")
    engine = psutil.Process(lasting[0].apply_sync(os.getpid))
    engine.suspend()
    result = lasting[0].apply_async(large, opened)
    assert eventually(lambda: lasting.queue_status()[0]["tasks"] == 1, SOON)
    hub = hub_of(lasting)
    hub.suspend()
    engine.resume()
    opened.wait()  # and now it sends to a hub that reads nothing
    assert eventually(lambda: engine.status() == psutil.STATUS_SLEEPING, SOON)
    kill_hub(lasting)
    assert np.array_equal(result.get(SOON), np.arange(LARGE // 8))


def test_an_engine_that_dies_with_half_a_result_loses_that_task_only(
    inline: ipar.Client, new_gate: NewGate
) -> None:
    opened = new_gate("opened")
    engine = psutil.Process(inline[0].apply_sync(os.getpid))
    engine.suspend()
    result = inline[0].apply_async(large, opened)
    assert eventually(lambda: inline.queue_status()[0]["tasks"] == 1, SOON)
    hub = hub_of(inline)
    hub.suspend()
    try:
        engine.resume()
        opened.wait()
        assert eventually(lambda: engine.status() == psutil.STATUS_SLEEPING, SOON)
        engine.kill()
    finally:
        hub.resume()
    with pytest.raises(ipar.EngineError):
        result.get(SOON)
    assert inline[0].apply_async(abs, -3).get(SOON) == 3


STOPPED = """
import sys
import numpy as np
import ipyasyncresult as ipar
from ipyasyncresult.errors import HubError

with ipar.connect(cluster_id=sys.argv[1]) as client:
    result = client.load_balanced_view().map_async(np.zeros, [1_000_000] * 20, chunksize=1)
    print("submitted", flush=True)
    sys.stdin.readline()
    print(sum(len(one) for one in result.get(30)), flush=True)
"""


def test_a_client_that_stopped_holds_up_nobody_and_finds_everything_later(
    inline: ipar.Client, start_python: StartPython
) -> None:
    script = start_python(STOPPED, inline.cluster_id)
    assert script.stdout is not None
    assert script.stdin is not None
    assert script.stdout.readline() == "submitted\n"
    other = psutil.Process(script.pid)
    other.suspend()
    try:
        for number in range(200):
            assert inline[0].apply_async(abs, -number).get(SOON) == number
        assert eventually(lambda: inline.queue_status()[0]["tasks"] == 0, SOON)
    finally:
        other.resume()
    script.stdin.write("\n")
    script.stdin.flush()
    assert script.stdout.readline() == "20000000\n"
    assert script.wait(SOON) == 0


CTRL_C = """
import os, signal, sys, threading, time
import psutil
import ipyasyncresult as ipar
from ipyasyncresult.errors import HubError

with ipar.Cluster(n=1) as client:
    view = client.load_balanced_view()
    view.apply_sync(abs, -1)
    hub = psutil.Process(client._connection.hub_pid)
    hub.suspend()
    results = []
    try:
        threading.Timer(float(sys.argv[1]), os.kill, (os.getpid(), signal.SIGINT)).start()
        while True:
            results.append(view.apply_async(len, b"x" * 60_000))
    except KeyboardInterrupt:
        pass
    hub.resume()
    assert [one.get(30) for one in results] == [60_000] * len(results)
    assert view.apply_async(abs, -3).get(30) == 3
    print("well")
"""


@pytest.mark.parametrize("after", [0.05, 0.2])
def test_ctrl_c_while_the_hub_takes_nothing_loses_nothing(
    start_python: StartPython, after: float
) -> None:
    script = start_python(CTRL_C, after)
    printed, errors = script.communicate(timeout=60)
    assert printed == "well\n", errors


@pytest.mark.parametrize("cluster", ["inline", "lasting"])
def test_a_client_that_cannot_be_heard_any_more_is_told(
    cluster: str,
    request: pytest.FixtureRequest,
    new_gate: NewGate,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its line to the hub breaks, the one from the hub would go on."""
    client: ipar.Client = request.getfixturevalue(cluster)
    opened = new_gate("opened")
    result = client[0].apply_async(opened.wait)
    client._connection._outbox._line._stream.channel.sendall(b"\xff" * 16)  # type: ignore[union-attr]
    with pytest.raises(HubError, match="broke off the connection"):
        result.get(SOON)
    said = "another one may follow, which is waited for 5 s"
    assert (said in caplog.text) == (cluster == "lasting")  # only there one may
    opened.open()
