"""Engines that may die, and what the tests of faults share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cloudpickle
import pytest

import ipyasyncresult as ipar
from tests.integration.conftest import NewGate

SOON = 30.0
"""Seconds after which waiting for what should have happened at once is given up."""


@dataclass
class Mortal:
    """Two engines that may be killed, and how to see what becomes of them."""

    client: ipar.Client

    def pid(self, engine_id: int = 0) -> int:
        pid: int = self.client.engines[engine_id]["pid"]
        return pid

    def kill(self, engine_id: int = 0, number: int = signal.SIGKILL) -> int:
        """Send a signal to an engine from outside; its pid."""
        pid = self.pid(engine_id)
        os.kill(pid, number)
        return pid

    def events(self, engine_id: int = 0) -> list[str]:
        return [news.event for news in self.client.events if news.engine_id == engine_id]

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until what the client hears makes it true."""
        assert self.client._connection.wait(condition, SOON)

    def wait_for_event(self, engine_id: int, event: str) -> None:
        self.wait_until(lambda: event in self.events(engine_id))


@pytest.fixture(scope="session")
def mortal_cluster() -> Iterator[ipar.Client]:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with ipar.Cluster(n=2, restart_limit=1000) as client:
        client[:].apply_sync(list)
        yield client


@pytest.fixture
def mortal(mortal_cluster: ipar.Client, new_gate: NewGate) -> Iterator[Mortal]:
    """Two engines; both are there, idle and well when the test has ended."""
    mortal_cluster.events.clear()
    yield Mortal(mortal_cluster)
    new_gate.open_all()
    mortal_cluster.wait_for_engines(2, timeout=SOON)
    assert mortal_cluster.wait(timeout=SOON)
    assert mortal_cluster[:].apply_sync(abs, -3) == [3, 3]
