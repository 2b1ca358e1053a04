"""Executors that others make: Dask's own, Parsl's, that of mpi4py; and pools that break."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ipyasyncresult as ipar

if TYPE_CHECKING:
    from tests.integration.conftest import NewGate

pytestmark = pytest.mark.library_connections

SOON = 30.0
"""Seconds after which waiting is given up."""


def speak(x: float) -> float:
    print("speaking", x)
    return 6 / x


def check(pool: concurrent.futures.Executor) -> None:
    """What every executor must be able to do."""
    with ipar.connect(pool, n=2) as client:
        result = client.load_balanced_view().map_async(speak, [1, 2, 0, 3], chunksize=1)
        result.wait(SOON)
        assert result.ok == [6.0, 3.0, 2.0]
        assert isinstance(result.exception(), ZeroDivisionError)
        assert result.stdout == [f"speaking {x}\n" for x in (1, 2, 0, 3)]
        assert set(result.engine_id) <= {0, 1}


# --------------------------------------------------------------------------- of other libraries


def test_the_executor_of_dask() -> None:
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as foreign,
        foreign.get_executor() as pool,
    ):
        client = ipar.connect(pool)
        assert client.capabilities.backend == "an executor"
        client.close()
        check(pool)


BEGINNING = """
    import sys
    import time
    from pathlib import Path

    import ipyasyncresult as ipar

    def speak(x):
        print("speaking", x)
        return 6 / x

    def check(client):
        result = client.load_balanced_view().map_async(speak, [1, 2, 0, 3], chunksize=1)
        result.wait(30)
        print(client.engine_count(), result.ok, result.failed, result.stdout)
"""

SAID = (
    "2 [6.0, 3.0, 2.0] [<RemoteError[n]: ZeroDivisionError(division by zero)>] "
    f"{[f'speaking {x}' + chr(10) for x in (1, 2, 0, 3)]}"
)


def run_script(folder: Path, script: str, *command: str) -> list[str]:
    """The lines that it prints."""
    program = folder / "program.py"
    program.write_text(textwrap.dedent(BEGINNING) + textwrap.dedent(script))
    # Parsl starts programs that are installed beside this Python.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        [*(command or [sys.executable]), program],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        cwd=folder,
        env={**os.environ, "PATH": path},
    )
    assert ran.returncode == 0, ran.stderr
    return re.sub(r"Error\[\d\]", "Error[n]", ran.stdout).splitlines()


OVER_PARSL = """
    from parsl.concurrent import ParslPoolExecutor
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor

    gate = Path("gate").absolute()

    def hold():
        while not gate.exists():
            time.sleep(0.01)

    engines = HighThroughputExecutor(max_workers_per_node=2, address="127.0.0.1", encrypted=False)
    config = Config(executors=[engines], run_dir="runs", usage_tracking=0)
    with ParslPoolExecutor(config) as pool:
        pool.submit(abs, -1).result()  # three programs of Parsl's have started each other
        with ipar.connect(pool, n=2) as client:
            check(client)
        with ipar.connect(pool, n=1) as client:  # its futures cannot be cancelled
            held = client.load_balanced_view().apply_async(hold)
            print(*client.abort().values())
        print(repr(held.exception(30)))
        gate.touch()
"""


@pytest.mark.timeout(120)
def test_the_executor_of_parsl(tmp_path: Path) -> None:
    # In a process of its own: with typeguard Parsl rewrites itself when it is imported, which takes
    # minutes where `executing` has looked at a large file, as it does for IPython's tracebacks.
    pytest.importorskip("parsl")
    checked, fate, error = run_script(tmp_path, OVER_PARSL)
    assert checked == SAID
    assert (fate, error.partition("(")[0]) in (("running", "HubError"), ("aborted", "TaskAborted"))


OVER_MPI = """
    from mpi4py.futures import MPIPoolExecutor

    if __name__ == "__main__":
        with MPIPoolExecutor() as pool, ipar.connect(pool) as client:
            check(client)
"""


@pytest.mark.timeout(120)
def test_the_executor_of_mpi4py(tmp_path: Path) -> None:
    pytest.importorskip("mpi4py")
    start = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if start is None:
        pytest.skip("no mpiexec")
    command = start, "-n", "3", sys.executable, "-m", "mpi4py.futures"
    assert run_script(tmp_path, OVER_MPI, *command) == [SAID]


# -------------------------------------------------------------------------------- pools that break


@contextmanager
def pool_of_the_library() -> Iterator[concurrent.futures.Executor]:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        yield pool


@contextmanager
def pool_of_loky() -> Iterator[concurrent.futures.Executor]:
    import loky

    pool = loky.ProcessPoolExecutor(2)
    yield pool
    pool.shutdown(kill_workers=True)


def test_a_pool_that_breaks_with_its_own_lock_held_ends_every_result(
    new_gate: NewGate,
) -> None:
    """So do threads whose start fails, and from Python 3.12 on processes that die."""
    gate = new_gate("all are submitted")

    def fail_later() -> None:
        gate.wait()
        raise RuntimeError("no start")

    pool = concurrent.futures.ThreadPoolExecutor(1, initializer=fail_later)
    with pool, ipar.connect(pool) as client:
        result = client.load_balanced_view().map_async(abs, range(3), chunksize=1)
        gate.open()
        result.wait(SOON)
        assert [type(error) for error in result.failed] == [ipar.EngineError] * 3


@pytest.mark.parametrize("make", [pool_of_the_library, pool_of_loky])
def test_a_worker_that_dies_breaks_the_pool_and_ends_every_result(
    make: Callable[[], Any], new_gate: NewGate
) -> None:
    gate = new_gate("first")

    def work(x: int) -> None:
        if x == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        gate.wait()

    with make() as pool, ipar.connect(pool) as client:
        view = client.load_balanced_view()
        result = view.map_async(work, range(5), chunksize=1)
        result.wait(SOON)
        assert len(result.failed) == 5  # what ran beside, and what waited here
        for error in result.failed:
            assert isinstance(error, ipar.EngineError)
            assert isinstance(error.__cause__, concurrent.futures.process.BrokenProcessPool)
        late = view.apply_async(abs, -1)
        with pytest.raises(ipar.EngineError):
            late.get(SOON)
        gate.open()
