"""Fixtures for pytest: real engines, started once for the whole run, when a test first asks.

pytest loads this in every run of an environment that has the package: until a fixture is used it
imports nothing and does nothing.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ipyasyncresult.client.client import Client

__all__ = ["ipar_client", "ipar_cluster", "pytest_addoption"]

_ENGINES = "ipyasyncresult_engines"
_END = 10.0  # seconds that what a test left running has, to end after an interrupt


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting to pytest's own."""
    parser.addini(_ENGINES, "how many engines the fixtures of ipyasyncresult share", default="2")


@pytest.fixture(scope="session")
def ipar_cluster(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of the engines that all tests share; for fixtures of a wider scope than a test."""
    from ipyasyncresult.client.cluster import Cluster

    wanted = str(request.config.getini(_ENGINES))
    if not wanted.isdigit() or int(wanted) < 1:
        raise pytest.UsageError(f"{_ENGINES} must be a number of engines >= 1, not {wanted!r}")
    with Cluster(n=int(wanted)) as client:
        client[:].apply_sync(list)  # now every socket is open: later ones would look like a leak
        yield client


@pytest.fixture
def ipar_client(request: pytest.FixtureRequest, ipar_cluster: Client) -> Iterator[Client]:
    """A client of the shared engines: no variables, nothing under way, all engines up."""
    with _travelling_by_value(request.module):
        yield ipar_cluster
        _tidy(ipar_cluster, ipar_cluster.ids)


@contextlib.contextmanager
def _travelling_by_value(module: object) -> Iterator[None]:
    """Engines cannot import test modules, nor should they need pytest."""
    import cloudpickle

    name = getattr(module, "__name__", None)
    travels = name in sys.modules and name not in cloudpickle.list_registry_pickle_by_value()
    if travels:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        if travels:
            cloudpickle.unregister_pickle_by_value(module)


def _tidy(client: Client, engines: list[int]) -> None:
    """Stop what a test left, and give the next one empty engines."""
    client.abort()
    if not client.wait(timeout=0):
        client.interrupt()
        if not client.wait(timeout=_END):
            pytest.fail(
                f"the test left tasks running that do not end: {sorted(client.outstanding)}",
                pytrace=False,
            )
    client.wait_for_engines(len(engines))
    client.clear()
