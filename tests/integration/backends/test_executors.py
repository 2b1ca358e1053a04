"""Executors that others make: Dask's own, Parsl's, that of mpi4py; and pools that break."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
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
from ipyasyncresult.errors import HubError

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


def test_the_executor_of_parsl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_gate: NewGate
) -> None:
    parsl = pytest.importorskip("parsl.concurrent")
    # It starts programs that are installed beside this Python.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor

    config = Config(
        executors=[
            HighThroughputExecutor(max_workers_per_node=2, address="127.0.0.1", encrypted=False)
        ],
        run_dir=str(tmp_path),
        usage_tracking=0,
    )
    with parsl.ParslPoolExecutor(config) as pool:
        check(pool)
        with ipar.connect(pool, n=1) as client:  # its futures cannot be cancelled
            held = client.load_balanced_view().apply_async(new_gate("held").wait)
            assert client.abort() in ({held.msg_ids[0]: "running"}, {held.msg_ids[0]: "aborted"})
        with pytest.raises(HubError, match="the client was closed"):
            held.get(SOON)
        new_gate.open_all()


OVER_MPI = """
    import ipyasyncresult as ipar
    from mpi4py.futures import MPIPoolExecutor

    def speak(x):
        print("speaking", x)
        return 6 / x

    if __name__ == "__main__":
        with MPIPoolExecutor() as pool, ipar.connect(pool) as client:
            result = client.load_balanced_view().map_async(speak, [1, 2, 0, 3], chunksize=1)
            result.wait(30)
            print(client.engine_count(), result.ok, result.failed, result.stdout)
"""


def test_the_executor_of_mpi4py(tmp_path: Path) -> None:
    pytest.importorskip("mpi4py")
    start = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if start is None:
        pytest.skip("no mpiexec")
    script = tmp_path / "over_mpi.py"
    script.write_text(textwrap.dedent(OVER_MPI))
    ran = subprocess.run(
        [start, "-n", "3", sys.executable, "-m", "mpi4py.futures", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert ran.returncode == 0, ran.stderr
    said = [f"speaking {x}\n" for x in (1, 2, 0, 3)]
    error = "<RemoteError[0]: ZeroDivisionError(division by zero)>"
    told = ran.stdout.replace("RemoteError[1]", "RemoteError[0]")
    assert told == f"2 [6.0, 3.0, 2.0] [{error}] {said}\n"


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
