"""What is left of finished results when those die who had them: here, and with peers.

    python benchmarks/reliability_kept.py --repeat 3

A client submits ten tasks, takes their results, and is killed (SIGKILL).  A new process asks for
them by what the first one wrote down: ids or keys.  Then the hub (controller, scheduler) is killed
and the same is asked again, for half a minute.  Clusters are started so that they outlive their
client; everything else is as it comes.  Pools have nothing that could be asked.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

TASKS = 10
PATIENCE = 30.0
"""Seconds for which a new client may try."""

FIRST_CLIENTS = {
    "ipyasyncresult": """
import sys
import ipyasyncresult as ipar
client = ipar.Cluster(2, cluster_id=sys.argv[1], persist=True).start_and_connect_sync()
result = client.load_balanced_view().map_async(lambda x: x * x, range(10), chunksize=1)
result.get()
told(result.msg_ids)
""",
    "ipyparallel": """
import sys
import ipyparallel as ipp
cluster = ipp.Cluster(n=2, cluster_id=sys.argv[1], shutdown_atexit=False, log_level=50)
client = cluster.start_and_connect_sync()
view = client.load_balanced_view()
results = [view.apply_async(pow, x, 2) for x in range(10)]
[result.get() for result in results]
told([result.msg_ids[0] for result in results])
""",
    "distributed": """
import sys
from distributed import Client
client = Client(sys.argv[2])
futures = [client.submit(pow, x, 2, pure=False) for x in range(10)]
client.gather(futures)
told([future.key for future in futures])
""",
}
TOLD = """
import json, os, signal
def told(ids):
    print("told:", json.dumps(ids), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""

AGAIN = {
    "ipyasyncresult": """
import ipyasyncresult as ipar
client = ipar.connect(cluster_id=name)
for one in ids:
    take(client.get_result(one).get(10))
""",
    "ipyparallel": """
import ipyparallel as ipp
client = ipp.Cluster.from_file(cluster_id=name).connect_client_sync()
for one in ids:
    take(client.get_result(one).get(10))
""",
    "distributed": """
from distributed import Client, Future
client = Client(address, timeout=10)
for one in ids:
    take(Future(one, client).result(3))
""",
}
ASK = """
import contextlib, json, os, sys
name, address, ids = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
found = set()
def take(value):
    found.add(repr(value))
    print("found:", len(found), flush=True)
"""


def run(code: str, *arguments: str, timeout: float) -> str:
    """What a script printed, however it ended."""
    started = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        printed, _ = started.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        started.kill()
        printed, _ = started.communicate()
    return printed


def first_client(peer: str, name: str, address: str) -> list[str]:
    """Ids of ten tasks whose client is dead."""
    printed = run(TOLD + FIRST_CLIENTS[peer], name, address, timeout=90)
    line = next(line for line in printed.splitlines() if line.startswith("told:"))
    ids: list[str] = json.loads(line.partition(" ")[2])
    return ids


def found_again(peer: str, name: str, address: str, ids: list[str]) -> int:
    """How many of the results a new process gets."""
    printed = run(ASK + AGAIN[peer], name, address, json.dumps(ids), timeout=PATIENCE)
    counts = [int(line.split()[1]) for line in printed.splitlines() if line.startswith("found:")]
    return max(counts, default=0)


def measure(peer: str) -> dict[str, int]:
    """Found after the client's death, and after the hub's."""
    name = f"kept-{secrets.token_hex(3)}"
    home = tempfile.mkdtemp(prefix="kept-")
    os.environ["IPYTHONDIR"] = home
    before = set(psutil.pids())
    address = ""
    scheduler = None
    if peer == "distributed":
        scheduler, address = start_dask()
    try:
        ids = first_client(peer, name, address)
        time.sleep(1)
        after_client = found_again(peer, name, address, ids)
        hub = scheduler or HUBS[peer](name, home)
        hub.kill()
        time.sleep(1)
        after_hub = found_again(peer, name, address, ids)
        return {"after client": after_client, "after hub": after_hub}
    finally:
        if peer == "ipyasyncresult":
            from ipyasyncresult.client import clusters

            clusters.stop_cluster(name)
            clusters.forget_stored(name)
        end_new_processes(before)


def start_dask() -> tuple[psutil.Process, str]:
    """A scheduler and two workers, as people start them."""
    port = 18786
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    scheduler = subprocess.Popen([*dask, "--port", str(port), "--no-dashboard"], **quiet)
    address = f"tcp://127.0.0.1:{port}"
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nworkers", "2"]
    subprocess.Popen(worker, **quiet)
    time.sleep(5)
    return psutil.Process(scheduler.pid), address


def hub_of_ours(name: str, _home: str) -> psutil.Process:
    """The hub."""
    from ipyasyncresult.wire.runtime import cluster_folder, read_cluster_file

    described = read_cluster_file(cluster_folder(name))
    assert described is not None
    return psutil.Process(described.pid)


def hub_of_ipyparallel(_name: str, home: str) -> psutil.Process:
    """The controller."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.info["cmdline"] or ())
            if "controller" in command and process.environ().get("IPYTHONDIR") == home:
                found.append(process)
    return min(found, key=lambda process: process.pid)  # the others are its children


HUBS: dict[str, Callable[[str, str], psutil.Process]] = {
    "ipyasyncresult": hub_of_ours,
    "ipyparallel": hub_of_ipyparallel,
}


def end_new_processes(before: set[int]) -> None:
    """Those that were started for the measurement: by their place in the environment."""
    for pid in set(psutil.pids()) - before:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.environ().get("IPYTHONDIR") == os.environ["IPYTHONDIR"]:
                process.send_signal(signal.SIGKILL)


def main() -> None:
    """Run, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--peers", default=",".join(FIRST_CLIENTS))
    wanted = parser.parse_args()
    print(f"of {TASKS} results, in {wanted.repeat} runs\n")
    print("| peer | client killed | client and hub killed |\n|---|---|---|")
    for peer in wanted.peers.split(","):
        if importlib.util.find_spec(peer) is None:
            continue
        runs = [measure(peer) for _ in range(wanted.repeat)]
        cells = [
            " / ".join(str(count) for count in sorted({run[what] for run in runs}))
            for what in ("after client", "after hub")
        ]
        print(f"| {peer} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
