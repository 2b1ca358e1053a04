"""What the tests with real hubs and engines share."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cloudpickle
import psutil
import pytest

from ipyasyncresult import Client, Cluster
from ipyasyncresult.wire.runtime import cluster_folder, read_cluster_file

ENGINES = 3


class Gate:
    """An event that processes share: a file that comes into being."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> None:
        """Let everybody through who waits, or will wait."""
        self.path.touch()

    def is_open(self) -> bool:
        return self.path.exists()

    def wait(self, timeout: float = 30.0) -> None:
        """Wait until it is open, in whatever process."""
        deadline = time.monotonic() + timeout
        while not self.path.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody opened {self.path.name} within {timeout} s")
            time.sleep(0.002)


class NewGate:
    """Makes gates in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Gate] = []

    def __call__(self, name: str) -> Gate:
        self._made.append(Gate(self._folder / f"{name}.gate"))
        return self._made[-1]

    def open_all(self) -> None:
        """Let everybody through who still waits."""
        for gate in self._made:
            gate.open()


StartPython = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def new_gate(tmp_path: Path) -> Iterator[NewGate]:
    """Makes gates by name; they are open when the test has ended."""
    made = NewGate(tmp_path)
    yield made
    made.open_all()


@pytest.fixture(scope="module", autouse=True)
def _test_code_travels_by_value(request: pytest.FixtureRequest) -> Iterator[None]:
    """Engines cannot import test modules, nor should they need pytest."""
    modules = [request.module, sys.modules[Gate.__module__]]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    yield
    for module in modules:
        cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(scope="module")
def shared_client() -> Iterator[Client]:
    """Engines for all tests of a module that leave them as they were."""
    with Cluster(n=ENGINES) as client:
        client[:].apply_sync(list)  # from now on every socket is open
        yield client


@pytest.fixture
def client(shared_client: Client, new_gate: NewGate) -> Iterator[Client]:
    """The engines of the module, with empty namespaces and nothing to do."""
    yield shared_client
    new_gate.open_all()
    shared_client.abort()
    assert shared_client.wait(timeout=30), f"still under way: {shared_client.outstanding}"
    assert shared_client.ids == list(range(ENGINES))
    shared_client.clear()


@pytest.fixture
def start_python() -> Iterator[StartPython]:
    """Starts a script in a process of its own, as its ``__main__``; ended after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:  # closes the pipes
            if process.poll() is None:
                process.kill()


@pytest.fixture
def run_python(start_python: StartPython) -> Callable[..., str]:
    """Runs a script to its end, which must be a good one; what it printed."""

    def run(script: str, *arguments: object) -> str:
        process = start_python(script, *arguments)
        printed, errors = process.communicate()
        assert process.returncode == 0, printed + errors
        return printed

    return run


def hub_of(client: Client) -> psutil.Process:
    """The hub process of a cluster."""
    described = read_cluster_file(cluster_folder(client.cluster_id))
    assert described is not None
    return psutil.Process(described.pid)


def processes_of(client: Client) -> list[psutil.Process]:
    """Every process of a cluster: hub, nursery, engines."""
    hub = hub_of(client)
    return [hub, *hub.children(recursive=True)]


@pytest.fixture
def small_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """24 MB for large arrays, in a file system of their own; before whatever starts clusters."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)]
    if os.getuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("may not mount a small tmpfs")
    monkeypatch.setenv("IPYASYNCRESULT_ARRAYS", str(small))
    yield
    subprocess.run(["umount", "-l", str(small)], check=True)
