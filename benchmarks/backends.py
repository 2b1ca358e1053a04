"""What this costs over the libraries that it stands on: pairs of the same work, in turn.

    python benchmarks/backends.py [processes threads dask ipyparallel] [--tasks 300] [--pairs 5]

Per backend and kind of work the median of the ratios of interleaved pairs: ours / bare.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ipyasyncresult

WORKERS = 2


def nothing(x: int) -> int:
    return x


def millisecond(x: int) -> int:
    import time  # ipyparallel sends the code alone

    end = time.perf_counter() + 0.001
    while time.perf_counter() < end:
        pass
    return x


Bare = Callable[[Callable[[int], int], int], object]


@contextmanager
def processes() -> Iterator[tuple[Any, Bare]]:
    with concurrent.futures.ProcessPoolExecutor(WORKERS) as pool:
        yield pool, lambda f, n: [x.result() for x in [pool.submit(f, i) for i in range(n)]]


@contextmanager
def threads() -> Iterator[tuple[Any, Bare]]:
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        yield pool, lambda f, n: [x.result() for x in [pool.submit(f, i) for i in range(n)]]


@contextmanager
def dask() -> Iterator[tuple[Any, Bare]]:
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client, lambda f, n: client.gather(client.map(f, range(n), pure=False))


@contextmanager
def ipyparallel() -> Iterator[tuple[Any, Bare]]:
    import ipyparallel as ipp

    with ipp.Cluster(n=WORKERS, delay=0, log_level=40) as client:
        view = client.load_balanced_view()
        yield client, lambda f, n: view.map_sync(f, range(n), chunksize=1)


KINDS = {kind.__name__: kind for kind in (processes, threads, dask, ipyparallel)}


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(name: str, tasks: int, pairs: int) -> None:
    with KINDS[name]() as (target, bare), ipyasyncresult.connect(target) as client:
        view = client.load_balanced_view()
        for function in (nothing, millisecond):
            ours, theirs = [], []
            for number in range(pairs + 1):
                mine = timed(lambda f=function: view.map_sync(f, range(tasks), chunksize=1))
                other = timed(lambda f=function: bare(f, tasks))
                if number:  # the first pair warms both up
                    ours.append(mine)
                    theirs.append(other)
            ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
            each = [statistics.median(one) / tasks * 1e6 for one in (ours, theirs)]
            print(
                f"{name:12} {function.__name__:12} ours {each[0]:7.0f} us  bare {each[1]:7.0f} us  "
                f"ratio {ratio:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    for kind in arguments.kinds:
        measure(kind, arguments.tasks, arguments.pairs)
