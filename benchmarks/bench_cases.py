"""What is measured: one function per case, one number or more each."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import workloads
from sides import Side

__all__ = ["CASES"]

Figures = dict[str, float]
Make = type[Side]
WORKERS = 2
MEGABYTES = 100


def _clock(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    value = call()
    return time.perf_counter() - began, value


def start(make: Make) -> Figures:
    """Nothing runs; until every engine gave a result.  The library is imported."""
    figures = {}
    make.load()
    for n in (WORKERS, 16):
        began = time.perf_counter()
        side = make(n)
        side.warm()
        figures[f"start_{n}"] = time.perf_counter() - began
        side.close()
    return figures


def latency(make: Make, rounds: int = 1000) -> Figures:
    """One task after the other."""
    side = make(WORKERS)
    side.warm()
    took = sorted(
        _clock(lambda: side.get(side.submit(workloads.nothing)))[0] for _ in range(rounds)
    )
    side.close()
    return {"p50": 1e6 * statistics.median(took), "p99": 1e6 * took[int(0.99 * rounds)]}


def flood(make: Make, count: int = 10_000) -> Figures:
    """Single tasks, all in flight at once, one result object each."""
    side = make(WORKERS)
    side.warm()

    def run() -> None:
        for handle in [side.submit(workloads.nothing) for _ in range(count)]:
            side.get(handle)

    rate = count / min(_clock(run)[0] for _ in range(3))
    side.close()
    return {"flood": rate}


def map_(make: Make, count: int = 100_000) -> Figures:
    """``x + 1`` over many items, default chunks."""
    side = make(WORKERS)
    side.warm()
    items = list(range(count))
    side.map(workloads.increment, items[:5000])
    took = []
    for _ in range(7):
        seconds, values = _clock(lambda: side.map(workloads.increment, items))
        assert values == list(range(1, count + 1))
        took.append(seconds)
    side.close()
    return {"map": count / statistics.median(took) / 1e6}


def _array(offset: int) -> Any:
    import numpy as np

    return np.arange(MEGABYTES * 125_000, dtype=np.float64) + offset


def echo(make: Make) -> Figures:
    """An array to one engine and back, after two rounds; bytes counted both ways."""
    side = make(WORKERS)
    side.warm()
    array = _array(0)
    took = []
    for _ in range(7):
        seconds, back = _clock(lambda: side.get(side.submit(workloads.identity, array)))
        assert back.shape == array.shape
        assert back[-1] == array[-1]
        del back
        took.append(seconds)
    side.close()
    return {
        "echo_first": 2 * MEGABYTES / took[0],
        "echo": 2 * MEGABYTES / statistics.median(took[2:]),
    }


def broadcast(make: Make) -> Figures:
    """A new array to all engines; bytes counted once per engine."""
    side = make(WORKERS)
    side.warm()
    took = []
    for turn in range(7):
        array = _array(turn)
        took.append(_clock(lambda array=array: side.broadcast(array))[0])
    side.close()
    return {"broadcast": WORKERS * MEGABYTES / statistics.median(took[2:])}


def balance(make: Make) -> Figures:
    """200 tasks of 10 ms, in parts of the ideal time; and a mixture of 1 ms and 1 s."""
    side = make(WORKERS)
    side.warm()
    seconds, _ = _clock(
        lambda: [side.get(one) for one in [side.submit(workloads.nap, 0.01) for _ in range(200)]]
    )
    # The long ones stand where the short ones after them can fill the gap.
    naps = [1.0 if i % 100 == 0 else 0.001 for i in range(800)] + [0.001] * 200
    mixed, _ = _clock(
        lambda: [side.get(one) for one in [side.submit(workloads.nap, nap) for nap in naps]]
    )
    side.close()
    return {"balance": 200 * 0.01 / WORKERS / seconds, "mixture": sum(naps) / WORKERS / mixed}


def memory(make: Make, count: int = 20_000) -> Figures:
    """Growth of this process per finished task: results held, then released."""
    trim = ctypes.CDLL(None).malloc_trim

    def resident() -> int:
        gc.collect()
        trim(0)
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    side = make(WORKERS)
    side.warm()
    handles = [side.submit(workloads.nothing) for _ in range(2000)]
    for handle in handles:
        side.get(handle)
    before = resident()
    handles = [side.submit(workloads.nothing) for _ in range(count)]
    for handle in handles:
        side.get(handle)
    held = resident() - before
    del handles, handle
    released = resident() - before
    side.close()
    return {"held": held / count, "released": released / count}


# ------------------------------------------------------------------- what only this project has


def asking(make: Make, count: int = 1_000_000) -> Figures:
    """What it costs to ask a result of a million tasks that wait."""
    from ipyasyncresult.core.asyncresult import AsyncResult
    from ipyasyncresult.core.task import TaskRecord

    side: Any = make(WORKERS)
    records = [TaskRecord(f"t{i}", 0.0) for i in range(count)]
    side.client.ledger.submit_many(records)
    result = AsyncResult.over(side.client, records, "f")
    figures = {}
    for name, ask in (("progress", lambda: result.progress), ("ready", result.ready)):
        took = [_clock(ask)[0] for _ in range(2000)]
        figures[f"{name}_1M"] = 1e6 * statistics.median(took)
    side.client.ledger._pending.clear()
    side.close()
    return figures


def interactive(make: Make) -> Figures:
    """``wait_interactive`` against ``wait``, for one second of work."""
    side: Any = make(WORKERS)
    side.warm()
    took: dict[str, list[float]] = {"wait": [], "wait_interactive": []}
    for _ in range(5):
        for name, seconds in took.items():
            began = time.perf_counter()
            result = side.view.map_async(workloads.nap, [0.002] * 1000)
            with contextlib.redirect_stderr(io.StringIO()):
                getattr(result, name)()
            seconds.append(time.perf_counter() - began)
    side.close()
    return {"interactive": min(took["wait_interactive"]) / min(took["wait"])}


def printing(make: Make, count: int = 1000) -> Figures:
    """Tasks that print a line each, against none that print; and a burst of lines."""
    side: Any = make(WORKERS)
    side.warm()
    took: dict[str, list[float]] = {"increment": [], "print_line": []}
    lost = 0
    for _ in range(5):
        for name, seconds in took.items():
            began = time.perf_counter()
            results = [side.submit(getattr(workloads, name), i) for i in range(count)]
            for one in results:
                one.get()
            seconds.append(time.perf_counter() - began)
        lost += sum(one.stdout != f"line {i}\n" for i, one in enumerate(results))
    side.close()
    return {"printing": min(took["print_line"]) / min(took["increment"]), "lines_lost": lost}


def killed(make: Make, rounds: int = 10) -> Figures:
    """From ``kill -9`` of the engine to the error in the caller's hands."""
    side: Any = make(WORKERS)
    side.warm()
    took = []
    folder = tempfile.mkdtemp(dir=".")
    for turn in range(rounds):
        path = f"{folder}/{turn}"
        result = side.submit(workloads.wait_for, path)
        while not (os.path.exists(f"{path}.pid") and os.path.getsize(f"{path}.pid")):
            time.sleep(0.001)
        with open(f"{path}.pid") as file:
            pid = int(file.read())
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        assert result.exception() is not None
        took.append(time.perf_counter() - began)
        side.client.wait_for_engines(WORKERS)
        time.sleep(0.2)
    side.close()
    return {"killed_p50": statistics.median(took), "killed_worst": max(took)}


def importing(make: Make) -> Figures:
    """``import ipyasyncresult``, and the extension when IPython is imported."""
    del make
    script = """
import time
began = time.perf_counter()
import ipyasyncresult
bare = time.perf_counter() - began
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
began = time.perf_counter()
shell.run_line_magic("load_ext", "ipyasyncresult")
print(bare, time.perf_counter() - began)
"""
    took = []
    for _ in range(7):
        ran = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        took.append([float(word) for word in ran.stdout.split()[-2:]])
    bare, extension = (statistics.median(column) for column in zip(*took, strict=True))
    return {"import": 1e3 * bare, "load_ext": 1e3 * extension}


CASES: dict[str, Callable[[Make], Figures]] = {
    "start": start,
    "latency": latency,
    "flood": flood,
    "map": map_,
    "echo": echo,
    "broadcast": broadcast,
    "balance": balance,
    "memory": memory,
    "asking": asking,
    "interactive": interactive,
    "printing": printing,
    "killed": killed,
    "importing": importing,
}
ONLY_HERE = {"asking", "interactive", "printing", "killed", "importing"}
