"""How cost grows: ``make bench-growth`` records it, ``make bench-plots`` draws it.

Tasks, engines, lines of output, bytes of arrays, chunks of a map: each from few to many.  Engines
are stubs, as 128 real ones would measure the machine: what is timed is the hub.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import workloads

Point = dict[str, float]


def clock(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    value = call()
    return time.perf_counter() - began, value


def asking(call: Callable[[], Any]) -> float:
    """Microseconds."""
    return 1e6 * statistics.median(clock(call)[0] for _ in range(500))


def resident() -> int:
    gc.collect()
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def start(n: int = 2) -> Any:
    from ipyasyncresult import Cluster

    client = Cluster(n=n).start_and_connect_sync()
    client[:].apply_sync(workloads.nothing)
    return client


def tasks(count: int) -> Point:
    """One result over so many single tasks."""
    client = start()
    view = client.load_balanced_view()
    before = resident()
    submit, result = clock(lambda: view.map_async(workloads.increment, range(count), chunksize=1))
    pending = asking(lambda: result.progress)
    ready = asking(result.ready)
    wait, _ = clock(result.wait)
    held = resident() - before
    iterate, values = clock(lambda: list(result))
    assert values[-1] == count
    point = {
        "submit, us per task": 1e6 * submit / count,
        "wait, us per task": 1e6 * wait / count,
        "iterate, us per task": 1e6 * iterate / count,
        "progress, us": pending,
        "ready(), us": ready,
        "memory, bytes per task": held / count,
    }
    client.close()
    return point


def lines(count: int) -> Point:
    """One task that prints so many lines; what the client keeps is bounded."""
    client = start(1)
    before = resident()
    began = time.perf_counter()
    result = client[0].apply_async(workloads.print_lines, count)
    result.get()
    seconds = time.perf_counter() - began
    point = {
        "seconds": seconds,
        "us per line": 1e6 * seconds / max(1, count),
        "client memory, MB": (resident() - before) / 1e6,
    }
    client.close()
    return point


def arrays(kilobytes: int) -> Point:
    """There and back, in memory that was used before."""
    import numpy as np

    client = start(1)
    view = client[0]
    array = np.ones(kilobytes * 125)
    took = []
    for _ in range(6):
        seconds, back = clock(lambda: view.apply_sync(workloads.identity, array))
        assert back[-1] == 1
        del back
        took.append(seconds)
    client.close()
    best = statistics.median(took[2:])
    return {"ms": 1e3 * best, "MB/s": 2 * kilobytes / 1e3 / best, "first, ms": 1e3 * took[0]}


def chunks(count: int) -> Point:
    """A map of 100,000 tiny items in so many tasks."""
    client = start()
    view = client.load_balanced_view()
    size = -(-100_000 // count)
    view.map_sync(workloads.increment, range(1000), chunksize=100)
    seconds, result = clock(
        lambda: view.map_async(workloads.increment, range(100_000), chunksize=size)
    )
    seconds += clock(result.get)[0]
    point = {"seconds": seconds, "us per chunk": 1e6 * seconds / len(result.msg_ids)}
    client.close()
    return point


def engines(count: int) -> Point:
    """The hub's work for one task with so many engines, by its own state and no process."""
    from ipyasyncresult.hub.archive import Archive
    from ipyasyncresult.hub.records import EngineState
    from ipyasyncresult.hub.state import HubState
    from ipyasyncresult.wire import messages as m

    state = HubState(Archive())
    stubs = [EngineState(i, f"{i:016x}", 0.0) for i in range(count)]
    for stub in stubs:
        state.engine_ready(stub)
    total = 20_000
    everything = [m.Task(f"t{i}", 0, b"arguments") for i in range(total)]

    def run() -> None:
        for first in range(0, total, 100):
            state.submit("c", [b"function"], everything[first : first + 100], (), None, 0.0)
            while state.unfinished:
                state.assign()
                runs, state.runs[:] = list(state.runs), []
                for stub, batch in runs:
                    for held in batch:
                        end = m.Finished(held.task.msg_id, m.OK, b"r", 0, 0.0, 0.0, 1e-4)
                        state.finished(stub, end, ())
            state.news.clear()

    seconds, _ = clock(run)
    return {"us per task": 1e6 * seconds / total}


AXES: dict[str, tuple[Callable[[int], Point], list[int]]] = {
    "tasks": (tasks, [10, 100, 1000, 10_000, 100_000, 1_000_000]),
    "engines": (engines, [1, 2, 4, 8, 16, 32, 64, 128]),
    "lines": (lines, [0, 100, 10_000, 100_000, 1_000_000, 10_000_000]),
    "arrays": (arrays, [1, 10, 100, 1000, 10_000, 100_000, 1_000_000]),
    "chunks": (chunks, [1, 10, 100, 1000, 10_000, 100_000]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--axes", default=",".join(AXES))
    parser.add_argument("--most", type=int, default=10**9, help="leave out larger points")
    parser.add_argument("--out", type=Path, default=HERE / "data" / "growth.json")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        axis, at = options.one
        print("POINT " + json.dumps(AXES[axis][0](int(at))), flush=True)
        os._exit(0)
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    for axis in options.axes.split(","):
        points: dict[str, Point] = {}
        for at in AXES[axis][1]:
            if at > options.most:
                continue
            command = [sys.executable, __file__, "--one", axis, str(at)]
            ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
            line = [one for one in ran.stdout.splitlines() if one.startswith("POINT ")]
            if line:
                points[str(at)] = json.loads(line[0].removeprefix("POINT "))
                print(axis, at, points[str(at)], file=sys.stderr)
            else:
                print(axis, at, "failed:", ran.stderr[-500:], file=sys.stderr)
        load = os.getloadavg()[0]
        found[axis] = {"date": time.strftime("%Y-%m-%d"), "load": round(load, 1), "points": points}
        options.out.parent.mkdir(exist_ok=True)
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
