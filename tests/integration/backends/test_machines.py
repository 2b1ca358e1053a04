"""Clusters of several machines: hosts of their own, made of network namespaces, and one cut off.

Who is not root, or has no ``ip`` (Debian's iproute2), has these tests skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ipyasyncresult as ipar
from ipyasyncresult.errors import HubError

if TYPE_CHECKING:
    from tests.integration.conftest import NewGate

pytestmark = [pytest.mark.library_connections, pytest.mark.slow, pytest.mark.timeout(120)]

SOON = 60.0
"""Seconds after which waiting is given up."""

Until = Callable[[ipar.AsyncResult, Callable[[], object]], None]

SUBNET = f"10.{128 + os.getpid() // 250 % 100}.{os.getpid() % 250}"
"""Other runs of these tests on the same machine have others."""

BIN = Path(sys.executable).parent


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Network:
    """A switch, and hosts at it: each has an address of its own and sees nothing else."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._prefix = f"ip{os.getpid()}"
        self._switch = f"{self._prefix}s"
        self._cables: dict[str, str] = {}
        self._begin(("link", "add", self._switch, "type", "bridge"), ("link", "del", self._switch))
        ip("addr", "add", f"{SUBNET}.1/24", "dev", self._switch)
        ip("link", "set", self._switch, "up")

    def _begin(self, command: tuple[str, ...], undo: tuple[str, ...]) -> None:
        ip(*command)
        self._stack.callback(ip, *undo)

    def add_host(self, name: str) -> str:
        """Its address."""
        number = len(self._cables) + 2
        space, outer, inner = (f"{self._prefix}{kind}{number}" for kind in "hab")
        self._begin(("netns", "add", space), ("netns", "del", space))
        # Not left to the end of the namespace, which the kernel sees to later.
        self._begin(
            ("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", space),
            ("link", "del", outer),
        )
        ip("link", "set", outer, "master", self._switch)
        ip("link", "set", outer, "up")
        self._cables[name] = outer
        address = f"{SUBNET}.{number}"
        for words in (
            ("addr", "add", f"{address}/24", "dev", inner),
            ("link", "set", inner, "up"),
            ("link", "set", "lo", "up"),
        ):
            ip("-n", space, *words)
        return address

    def cut(self, name: str) -> None:
        """Nothing comes from there any more, and nobody is told."""
        ip("link", "set", self._cables[name], "nomaster")

    def start(self, name: str, *command: object, **environment: str) -> subprocess.Popen[bytes]:
        """Run a program at a host, until the test ends."""
        space = self._cables[name].replace("a", "h")
        log = self._stack.enter_context((self._folder / f"{name}.log").open("ab"))
        process = subprocess.Popen(
            ["ip", "netns", "exec", space, *map(str, command)],
            stdout=log,
            stderr=log,
            cwd=self._folder,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        self._stack.callback(process.wait)
        self._stack.callback(os.killpg, process.pid, signal.SIGKILL)  # with what it started
        return process


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("needs root and ip, to make hosts")
    with ExitStack() as stack:
        try:
            made = Network(stack, tmp_path)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network can be made here: {error.stderr.decode()}")
        yield made


def wait_for_file(path: Path) -> str:
    while not path.exists() or not (text := path.read_text()):
        threading.Event().wait(0.05)
    return text


def work_on(x: int, gate: Any) -> int:
    """Say something and wait: the gate is a file, and files are the same at all these hosts."""
    print("working on", x)
    gate.wait()
    return x


def start_dask(network: Network, folder: Path) -> str:
    """A scheduler and two workers, each at a host of its own; the scheduler's address."""
    address = network.add_host("scheduler")
    # The least that it takes; by default 30 s.
    soon = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s"}
    file = folder / "scheduler.json"
    dask = BIN / "dask"
    network.start(
        "scheduler",
        *(dask, "scheduler", "--host", address, "--no-dashboard", "--scheduler-file", file),
        **soon,
    )
    for name in ("near", "far"):
        host = network.add_host(name)
        network.start(
            name,
            *(dask, "worker", "--scheduler-file", file, "--host", host, "--name", name),
            *("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", folder),
            **soon,
        )
    found: str = json.loads(wait_for_file(file))["address"]
    return found


def test_dask_on_several_machines_of_which_one_is_cut_off(
    network: Network, tmp_path: Path, new_gate: NewGate, until: Until
) -> None:
    address = start_dask(network, tmp_path)
    assert address.startswith(f"tcp://{SUBNET}.2:")
    with ipar.connect(address) as client:
        client.wait_for_engines(2, timeout=SOON)
        hosts = {about["uuid"].rpartition(":")[0] for about in client.engines.values()}
        assert hosts == {f"tcp://{SUBNET}.3", f"tcp://{SUBNET}.4"}
        gate = new_gate("open")
        result = client.load_balanced_view().map_async(work_on, range(6), [gate] * 6, chunksize=1)
        until(result, lambda: result.counts().running == 2)
        (far,) = [n for n, about in client.engines.items() if f"{SUBNET}.4" in about["uuid"]]
        addressed = client[far].apply_async(gate.wait)
        network.cut("far")
        gate.open()
        result.wait(SOON)
        addressed.wait(SOON)
        # What ran there is run again elsewhere, as Dask does; what must run there is lost.
        assert result.get(0) == list(range(6))
        assert result.stdout == [f"working on {x}\n" for x in range(6)]
        assert isinstance(addressed.exception(), ipar.EngineError)
        assert client.load_balanced_view().apply_async(abs, -1).get(SOON) == 1


def start_ipyparallel(network: Network, folder: Path) -> Path:
    """A controller and two engines, each at a host of its own; the client's connection file."""
    address = network.add_host("controller")
    network.start(
        "controller",
        *(BIN / "ipcontroller", f"--ip={address}", f"--location={address}"),
        *(f"--profile-dir={folder}", "--ping=500", "--HeartMonitor.max_heartmonitor_misses=4"),
        "--IPController.use_threads=False",
    )
    file = folder / "security" / "ipcontroller-engine.json"
    wait_for_file(file)
    for name in ("near", "far"):
        network.add_host(name)
        network.start(name, BIN / "ipengine", f"--file={file}", f"--profile-dir={folder}")
    return file.with_name("ipcontroller-client.json")


def test_ipyparallel_on_several_machines_of_which_one_is_cut_off(
    network: Network, tmp_path: Path, new_gate: NewGate, until: Until
) -> None:
    import ipyparallel

    file = start_ipyparallel(network, tmp_path)
    wait_for_file(file)
    with ipyparallel.Client(connection_info=str(file)) as own, ipar.connect(own) as client:
        client.wait_for_engines(2, timeout=SOON)
        gate = new_gate("open")
        running = client[:].apply_async(work_on, 1, gate)
        until(running, lambda: running.counts().running == 2)
        behind = client[:].apply_async(abs, -2)
        network.cut("far")
        gate.open()
        for result in (running, behind):
            result.wait(SOON)
            assert len(result.ok) == 1
            (lost,) = result.failed
            assert isinstance(lost, ipar.EngineError)
        assert "working on 1\n" in running.stdout
        assert client.load_balanced_view().apply_async(abs, -1).get(SOON) == 1
        network.cut("controller")
        unanswered = client.load_balanced_view().apply_async(abs, -1)
        with pytest.raises(HubError, match="controller does not answer"):
            unanswered.get(SOON)
