"""What this costs over the libraries that it stands on: pairs of the same work, in turn.

    python benchmarks/backends.py [processes threads dask ipyparallel] [--tasks 300] [--pairs 5]

Per backend, kind of work and way of submitting (a map, or single calls with a result object each)
the medians of the ratios of interleaved pairs: ours / bare, on the clock and in processor time of
all processes together.

Both sides call the same functions with the same items, have every value in their hands at the end
(which is compared once), take turns in being the first of a pair, and start without garbage of the
other's.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psutil

import ipyasyncresult

WORKERS = 2

nothing = abs
"""Found by its name on the other side, as bare pools demand it."""


def millisecond(x: int) -> int:
    import time  # ipyparallel sends the code alone

    # Of processor time: what else runs on the machine makes it no less work.
    end = time.thread_time() + 0.001
    while time.thread_time() < end:
        pass
    return x


class Ways(NamedTuple):
    """To have a function called for so many items; each gives the list of values."""

    map: Callable[[Callable[[int], int], int], list[int]]
    singles: Callable[[Callable[[int], int], int], list[int]]


class BareThreads(concurrent.futures.ThreadPoolExecutor):
    """With the library's own `submit`, also while a client is open: that one replaces it, so that
    what is printed in a pool that a task uses is the task's."""

    submit = concurrent.futures.ThreadPoolExecutor.submit


def of_executor(pool: concurrent.futures.Executor) -> Ways:
    return Ways(
        lambda f, n: list(pool.map(f, range(n))),
        lambda f, n: [x.result() for x in [pool.submit(f, i) for i in range(n)]],
    )


@contextmanager
def processes() -> Iterator[tuple[Any, Ways]]:
    with concurrent.futures.ProcessPoolExecutor(WORKERS) as pool:
        yield pool, of_executor(pool)


@contextmanager
def threads() -> Iterator[tuple[Any, Ways]]:
    with BareThreads(WORKERS) as pool:
        yield pool, of_executor(pool)


@contextmanager
def dask() -> Iterator[tuple[Any, Ways]]:
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield (
            client,
            Ways(
                lambda f, n: client.gather(client.map(f, range(n), pure=False)),
                # Faster than `result()` of one after the other.
                lambda f, n: client.gather([client.submit(f, i, pure=False) for i in range(n)]),
            ),
        )


@contextmanager
def ipyparallel() -> Iterator[tuple[Any, Ways]]:
    import ipyparallel as ipp

    with ipp.Cluster(n=WORKERS, delay=0, log_level=40) as client:
        view = client.load_balanced_view()
        yield (
            client,
            Ways(
                lambda f, n: view.map_sync(f, range(n), chunksize=1),
                lambda f, n: [x.get() for x in [view.apply_async(f, i) for i in range(n)]],
            ),
        )


KINDS = {kind.__name__: kind for kind in (processes, threads, dask, ipyparallel)}


class Cost(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float


def clocks() -> list[int]:
    """Of the processor time of this process and all below it, as clock_getcpuclockid(3) has them:
    what `ps` shows counts hundredths of a second."""
    me = psutil.Process()
    return [~one.pid << 3 | 2 for one in (me, *me.children(recursive=True))]


def cost_of(work: Callable[[], object]) -> Cost:
    gc.collect()
    used = clocks()
    cpu, began = sum(map(time.clock_gettime, used)), time.perf_counter()
    work()
    wall = time.perf_counter() - began
    return Cost(wall, sum(map(time.clock_gettime, used)) - cpu)


def compare(ours: Callable[[], object], bare: Callable[[], object], tasks: int, pairs: int) -> str:
    """The medians of pairs in turn, in microseconds a task, and of their ratios."""
    assert ours() == bare()  # and both are warm
    rows = []
    for number in range(pairs):
        if number % 2:
            other = cost_of(bare)
            rows.append((cost_of(ours), other))
        else:
            mine = cost_of(ours)
            rows.append((mine, cost_of(bare)))
    said = []
    for field in Cost._fields:
        mine, other = ([getattr(pair[side], field) for pair in rows] for side in (0, 1))
        each = [statistics.median(one) / tasks * 1e6 for one in (mine, other)]
        ratio = statistics.median(a / b for a, b in zip(mine, other, strict=True))
        said.append(f"{field}: ours {each[0]:6.0f} us  bare {each[1]:6.0f} us  ratio {ratio:.2f}")
    return "   ".join(said)


def measure(name: str, tasks: int, pairs: int) -> None:
    with KINDS[name]() as (target, bare), ipyasyncresult.connect(target) as client:
        view = client.load_balanced_view()
        ours = Ways(
            lambda f, n: view.map_sync(f, range(n), chunksize=1),
            lambda f, n: [x.get() for x in [view.apply_async(f, i) for i in range(n)]],
        )
        for function, kind in ((nothing, "nothing"), (millisecond, "millisecond")):
            for way, mine, other in zip(Ways._fields, ours, bare, strict=True):
                found = compare(
                    lambda f=function, run=mine: run(f, tasks),
                    lambda f=function, run=other: run(f, tasks),
                    tasks,
                    pairs,
                )
                print(f"{name:11} {kind:11} {way:7}  {found}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="of: " + ", ".join(KINDS))
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    for kind in arguments.kinds or KINDS:
        measure(kind, arguments.tasks, arguments.pairs)
