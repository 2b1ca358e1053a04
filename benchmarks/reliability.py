"""What a killed worker costs: here, and with peers, in the same way.

    python benchmarks/reliability.py --repeat 5
    python benchmarks/reliability.py --peers ipyasyncresult,loky,ray --json out.json

Peers that are not installed are left out.  Each run of each peer is a fresh process.  Two workers;
one runs a task that never ends, the other one a task of two seconds, and eight more tasks wait.
The first worker is killed (SIGKILL).  Then:

``notice``       seconds until the caller who waits for the lost task has an answer
``answer``       what it is: an error, a silent second run, or nothing within 20 s
``others``       how many of the nine other tasks gave their results
``replacement``  an idle worker is killed then: seconds until two workers answer again
``ports``        TCP ports on which a process of the peer listens (before the kill)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import psutil

NEVER = 20.0
"""Seconds after which an answer is not waited for any longer."""
WAITING = 8


def mark_and_sleep(path: str) -> int:
    """Write down who runs this; the second time, return."""
    import os  # here, as some peers run it where this module's names are not known
    import time

    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")
    with open(path) as file:
        attempt = len(file.readlines())
    if attempt == 1:
        time.sleep(3600)
    return attempt


def nap(seconds: float, value: int) -> int:
    """Take a while."""
    import time

    time.sleep(seconds)
    return value


def whoami(seconds: float) -> int:
    """Which process runs this."""
    import os
    import time

    time.sleep(seconds)
    return os.getpid()


class Peer:
    """Two workers; how to submit to them and wait."""

    name: ClassVar[str]
    package: ClassVar[str | None] = None

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """A handle."""
        raise NotImplementedError

    def result(self, handle: Any, timeout: float) -> Any:
        """Its value; raises what the task raised, or a time-out."""
        return handle.result(timeout)

    def close(self) -> None:
        """End it, within reason."""


class IpyAsyncResult(Peer):
    """This project."""

    name = package = "ipyasyncresult"

    def __init__(self) -> None:
        import ipyasyncresult

        self.cluster = ipyasyncresult.Cluster(n=2)
        self.client = self.cluster.start_and_connect_sync()
        self.view = self.client.load_balanced_view()

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.view.apply_async(function, *args)

    def result(self, handle: Any, timeout: float) -> Any:
        return handle.get(timeout)

    def close(self) -> None:
        self.cluster.stop_cluster_sync()


class Executor(Peer):
    """A process pool of the standard library."""

    name = "ProcessPoolExecutor"

    def __init__(self) -> None:
        self.executor = self.make()

    def make(self) -> Any:
        """The executor."""
        from concurrent.futures import ProcessPoolExecutor

        return ProcessPoolExecutor(2)

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.executor.submit(function, *args)


class Loky(Executor):
    """As joblib uses it."""

    name = package = "loky"

    def make(self) -> Any:
        from loky import ProcessPoolExecutor  # type: ignore[import-not-found]

        return ProcessPoolExecutor(2)


class Pool(Peer):
    """``multiprocessing.Pool``."""

    name = "multiprocessing.Pool"

    def __init__(self) -> None:
        import multiprocessing

        self.pool = multiprocessing.Pool(2)

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.pool.apply_async(function, args)

    def result(self, handle: Any, timeout: float) -> Any:
        return handle.get(timeout)


class Dask(Peer):
    """``distributed`` with a local cluster."""

    name = package = "distributed"

    def __init__(self) -> None:
        from distributed import Client, LocalCluster  # type: ignore[import-not-found]

        self.cluster = LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        )
        self.client = Client(self.cluster)

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.client.submit(function, *args, pure=False)


class IPyParallel(Peer):
    """Load-balanced."""

    name = package = "ipyparallel"

    def __init__(self) -> None:
        import ipyparallel  # type: ignore[import-not-found]

        self.cluster = ipyparallel.Cluster(n=2, log_level=50)
        self.client = self.cluster.start_and_connect_sync()
        self.view = self.client.load_balanced_view()

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.view.apply_async(function, *args)

    def result(self, handle: Any, timeout: float) -> Any:
        return handle.get(timeout)

    def close(self) -> None:
        self.cluster.stop_cluster_sync()


class Ray(Peer):
    """Two CPUs, without dashboard."""

    name = package = "ray"

    def __init__(self) -> None:
        os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
        import ray  # type: ignore[import-not-found]

        self.ray = ray
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.ray.remote(function).remote(*args)

    def result(self, handle: Any, timeout: float) -> Any:
        return self.ray.get(handle, timeout=timeout)

    def close(self) -> None:
        self.ray.shutdown()


PEERS: dict[str, type[Peer]] = {
    kind.name: kind for kind in (IpyAsyncResult, IPyParallel, Dask, Ray, Loky, Executor, Pool)
}


# ------------------------------------------------------------------------------------- one run


def measure(peer: Peer) -> dict[str, Any]:
    """Kill a worker of a peer that has just started."""
    pids = workers(peer, time.monotonic() + 60)
    assert len(pids) == 2, "two workers answer"
    measured: dict[str, Any] = {"ports": len(listening())}
    marks = Path(tempfile.mkdtemp()) / "marks"
    lost = peer.submit(mark_and_sleep, str(marks))
    while not marks.exists() or not marks.read_text().endswith("\n"):
        time.sleep(0.005)
    others = [peer.submit(nap, 2.0, 0)]
    time.sleep(0.3)
    others += [peer.submit(nap, 0.01, n) for n in range(1, WAITING + 1)]
    time.sleep(0.3)
    victim = int(marks.read_text())
    answer: list[tuple[float, str]] = []

    def wait() -> None:
        try:
            attempt = peer.result(lost, NEVER)
            told = f"run again in silence ({attempt} times)"
        except BaseException as error:  # noqa: BLE001  that is the answer
            told = type(error).__name__
        answer.append((time.perf_counter(), told))

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    time.sleep(0.2)
    os.kill(victim, 9)
    killed = time.perf_counter()
    waiter.join(NEVER + 1)
    if not answer or answer[0][0] - killed > NEVER - 1:
        measured["answer"] = f"none within {NEVER:g} s"
    else:
        measured["notice"] = answer[0][0] - killed
        measured["answer"] = answer[0][1]
    good = 0
    for n, handle in enumerate(others):
        with contextlib.suppress(BaseException):
            good += peer.result(handle, 5) == n
    measured["others"] = good
    left = workers(peer, time.monotonic() + 15) - {victim}
    measured["left"] = len(left)
    if len(left) == 2:  # once more, idle, so that the replacement can be timed by itself
        os.kill(min(left), 9)
        killed = time.perf_counter()
        again = workers(peer, time.monotonic() + 15, without=min(left))
        if len(again) == 2:
            measured["replacement"] = time.perf_counter() - killed
    return measured


def workers(peer: Peer, deadline: float, without: int = 0) -> set[int]:
    """The processes that answer, until two do."""
    seen: set[int] = set()
    while len(seen) < 2 and time.monotonic() < deadline:
        try:
            handles = [peer.submit(whoami, 0.02) for _ in range(4)]
            seen = {peer.result(handle, 5) for handle in handles} - {without}
        except BaseException:  # noqa: BLE001  a broken pool, or one that does not answer
            time.sleep(0.05)
    return seen


def listening() -> set[int]:
    """TCP ports of this process and of all that it started."""
    me = psutil.Process()
    ports = set()
    for process in [me, *me.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            for one in process.net_connections("tcp"):
                if one.status == psutil.CONN_LISTEN:
                    ports.add(one.laddr.port)
    return ports


# ------------------------------------------------------------------------------------ all runs


def main() -> None:
    """Run, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", choices=PEERS, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.one:
        peer = PEERS[wanted.one]()
        print("measured:", json.dumps(measure(peer)), flush=True)
        with contextlib.suppress(BaseException):
            threading.Timer(5, os._exit, [0]).start()
            peer.close()
        end_children()
        os._exit(0)
    found: dict[str, list[dict[str, Any]]] = {}
    for number in range(wanted.repeat):
        for name in wanted.peers.split(","):
            measured = run_one(name)
            if measured is not None:
                found.setdefault(name, []).append(measured)
                print(f"{number + 1}/{wanted.repeat} {name}: {measured}", file=sys.stderr)
    print(f"\nload average {os.getloadavg()[0]:.1f}, {os.cpu_count()} CPUs; median (min-max)\n")
    print(
        "| peer | notice, s | answer | others | replacement, s | ports |\n|---|---|---|---|---|---|"
    )
    for name, runs in found.items():
        print("| " + " | ".join([name, *row(runs)]) + " |")
    if wanted.json:
        wanted.json.write_text(json.dumps(found, indent=1))


def run_one(name: str) -> dict[str, Any] | None:
    """A fresh process; None where the peer is not installed."""
    script = [sys.executable, __file__, "--one", name]
    try:
        ran = subprocess.run(script, capture_output=True, text=True, timeout=180, check=False)
    except subprocess.TimeoutExpired:
        return {"answer": "the run did not end", "others": 0, "ports": -1, "left": 0}
    lines = [line for line in ran.stdout.splitlines() if line.startswith("measured:")]
    if not lines:
        print(f"{name}: {ran.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    measured: dict[str, Any] = json.loads(lines[0].partition(" ")[2])
    return measured


def row(runs: list[dict[str, Any]]) -> list[str]:
    """The cells of a line."""
    answers = {run["answer"] for run in runs}
    left = sorted({run.get("left", 0) for run in runs})
    others = sorted(run["others"] for run in runs)
    return [
        spread([run["notice"] for run in runs if "notice" in run]),
        " / ".join(sorted(answers)),
        f"{statistics.median(others):g} of {WAITING + 1}",
        spread([run["replacement"] for run in runs if "replacement" in run])
        or ("none within 15 s" if left[-1] == 2 else f"none: {left[-1]} of 2 workers are left"),
        f"{statistics.median(run['ports'] for run in runs):g}",
    ]


def spread(values: list[float]) -> str:
    """Median, and least to most."""
    if not values:
        return ""
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


def end_children() -> None:
    """Whatever a peer left."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()


if __name__ == "__main__":
    main()
