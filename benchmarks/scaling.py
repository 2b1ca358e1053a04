"""How far the hub goes: many tasks that wait, and many engines that take them.

    python benchmarks/scaling.py [--queued 100000 1000000] [--engines 1 8 32 128] [--tasks 50000]
        [--persist]

Hub, client and store are the real ones; the engines are stubs, which answer without working, as 128
real ones would measure the machine.  First so many tasks are queued while no engine is up, and the
client is asked what a user asks; then other tasks are worked off by so many engines.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from operator import pos

import psutil

from ipyasyncresult.testing.stubengines import StubCluster


def hub_process() -> psutil.Process:
    """The hub of the one cluster that this process has."""
    for process in psutil.Process().children(recursive=True):
        if any("hub" in word for word in process.cmdline()):
            return process
    raise RuntimeError("no hub")


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def queue(count: int, persist: bool) -> None:
    with StubCluster(n=0, persist=persist) as client:
        hub, me = hub_process(), psutil.Process()
        rss, own, used, mine = hub.memory_info().rss, me.memory_info().rss, cpu(hub), cpu(me)
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = client.load_balanced_view().map_async(pos, range(count), chunksize=1)
        submitted = time.perf_counter() - began
        waiting = client.queue_status()["unassigned"]  # answered behind the tasks
        taken = time.perf_counter() - began
        each = [(cpu(me) - mine) / count * 1e6, (cpu(hub) - used) / count * 1e6]
        print(
            f"queued {count:9,}: {waiting:9,} wait; submit {submitted / count * 1e6:5.1f} us, "
            f"until the hub has it {taken / count * 1e6:5.1f} us a task; CPU {each[0]:4.1f} us "
            f"client, {each[1]:4.1f} us hub; memory "
            f"{(hub.memory_info().rss - rss) / count:5.0f} B hub, "
            f"{(me.memory_info().rss - own) / count:5.0f} B client",
            flush=True,
        )
        began = time.perf_counter()
        client.add_engines(8)
        result.wait(timeout=600)
        assert result.ready()
        seconds = time.perf_counter() - began
        print(f"                  worked off by 8: {count / seconds:7,.0f} tasks/s", flush=True)
        if persist:
            client.shutdown()


def work_off(engines: int, count: int) -> None:
    with StubCluster(n=engines) as client:
        hub = hub_process()
        view = client.load_balanced_view()
        view.map_sync(pos, range(1000), chunksize=1)
        used, began = cpu(hub), time.perf_counter()
        view.map_sync(pos, range(count), chunksize=1)
        seconds = time.perf_counter() - began
        print(
            f"engines {engines:4}: {count / seconds:7,.0f} tasks/s, "
            f"hub {(cpu(hub) - used) / count * 1e6:5.1f} us CPU a task",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queued", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--engines", type=int, nargs="*", default=[1, 8, 32, 128])
    parser.add_argument("--tasks", type=int, default=50_000)
    parser.add_argument("--persist", action="store_true", help="keep what is queued on disk")
    arguments = parser.parse_args()
    for number in arguments.queued:
        queue(number, arguments.persist)
    for number in arguments.engines:
        work_off(number, arguments.tasks)
    print(f"largest client: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")
