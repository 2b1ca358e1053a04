"""How soon this project notices, heals and ends: medians, and the worst of many.

    python benchmarks/reliability_figures.py --kills 100

``reliability.py`` beside this file compares with peers.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

import ipyasyncresult as ipar
from ipyasyncresult.wire.runtime import cluster_folder, read_cluster_file

LONG = 30.0  # seconds that nothing here should come near to


def hold(path: str) -> None:
    """Say that it runs, and never end."""
    import pathlib
    import signal
    import time

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pathlib.Path(path).touch()
    time.sleep(3600)


class Undecodable:
    """Raises when it is unpickled."""

    def __reduce__(self) -> Any:
        return int, ("not a number",)


def started(view: Any, path: Path) -> Any:
    """A task that runs now, and will not end."""
    path.unlink(missing_ok=True)
    running = view.apply_async(hold, str(path))
    while not path.exists():
        time.sleep(0.001)
    return running


def kills(client: ipar.Client, path: Path, count: int) -> Iterator[tuple[float, float, float]]:
    """Seconds until the caller knows, until the replacement answers, and until a stop is known."""
    for _ in range(count):
        running = started(client[0], path)
        pid = client.engines[0]["pid"]
        client.events.clear()
        began = time.perf_counter()
        os.kill(pid, signal.SIGSTOP)
        client._connection.wait(lambda: any(e.event == "stopped" for e in client.events), LONG)
        stopped = time.perf_counter() - began
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ipar.EngineError):
            running.get(LONG)
        noticed = time.perf_counter() - began
        assert client[0].apply_async(os.getpid).get(LONG) != pid
        yield noticed, time.perf_counter() - began, stopped


def decodes(client: ipar.Client, count: int) -> Iterator[float]:
    """Seconds until a result that cannot be unpickled is answered."""
    for _ in range(count):
        began = time.perf_counter()
        with contextlib.suppress(ipar.errors.ResultDecodeError):
            client[1].apply_async(Undecodable).get(LONG)
        yield time.perf_counter() - began


def ends(path: Path, count: int) -> Iterator[tuple[float, float]]:
    """Seconds until nothing is left of a cluster with a stopped engine and a task that ignores
    SIGTERM; and, of another one, until the callers know that the hub was killed."""
    for _ in range(count):
        cluster = ipar.Cluster(n=3)
        client = cluster.start_and_connect_sync()
        folder = cluster_folder(client.cluster_id)
        processes = processes_of(client)
        started(client[0], path)
        os.kill(client.engines[1]["pid"], signal.SIGSTOP)
        began = time.perf_counter()
        cluster.stop_cluster_sync()
        psutil.wait_procs(processes, timeout=LONG)
        assert not folder.exists()
        ended = time.perf_counter() - began
        with ipar.Cluster(n=1) as client:
            running = started(client[0], path)
            began = time.perf_counter()
            processes_of(client)[0].kill()
            with contextlib.suppress(ipar.errors.HubError):
                running.get(LONG)
            yield ended, time.perf_counter() - began


def processes_of(client: ipar.Client) -> list[psutil.Process]:
    """The hub first."""
    described = read_cluster_file(cluster_folder(client.cluster_id))
    assert described is not None
    hub = psutil.Process(described.pid)
    return [hub, *hub.children(recursive=True)]


def say(what: str, seconds: list[float]) -> None:
    """One line of the table."""
    ordered = sorted(seconds)
    high = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(
        f"| {what} | {statistics.median(ordered) * 1e3:.0f} | {high * 1e3:.0f} "
        f"| {ordered[-1] * 1e3:.0f} | {len(ordered)} |"
    )


def main() -> None:
    """Run, and print a table in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    wanted = parser.parse_args()
    path = Path(tempfile.mkdtemp()) / "runs"
    with ipar.Cluster(n=2, restart_limit=10_000) as client:
        client[:].apply_sync(os.getpid)
        killed = list(kills(client, path, wanted.kills))
        decoded = list(decodes(client, wanted.kills))
    ended = list(ends(path, max(1, wanted.kills // 10)))
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} CPUs; milliseconds\n")
    print("| what | median | p99 | most | runs |\n|---|---|---|---|---|")
    say("engine killed: the caller has the error", [one[0] for one in killed])
    say("engine killed: another one answers under its number", [one[1] for one in killed])
    say("engine stopped: said to be stopped", [one[2] for one in killed])
    say("result that cannot be unpickled: the caller has the error", decoded)
    say("hub killed: the caller has the error", [one[1] for one in ended])
    say("shutdown with a stopped engine and one that ignores SIGTERM", [one[0] for one in ended])


if __name__ == "__main__":
    main()
