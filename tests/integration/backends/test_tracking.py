"""``track``: one result over futures that somebody else submitted, of each kind."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import distributed
import pytest

import ipyasyncresult as ipar
from ipyasyncresult.errors import CapabilityError, EngineError, HubError

if TYPE_CHECKING:
    from tests.integration.conftest import NewGate

pytestmark = pytest.mark.library_connections

SOON = 30.0
"""Seconds after which waiting is given up."""

Submit = Callable[..., Any]


def invert(x: float) -> float:
    return 6 / x


def follow(submit: Submit, cancelled: type[BaseException]) -> None:
    """Good ones, bad ones, and one that is taken back while another runs."""
    result = ipar.track([submit(invert, x) for x in (1, 0, 2)], fname="inverted")
    result.wait(SOON)
    assert isinstance(result, ipar.AsyncMapResult)
    assert result.ok == [6.0, 3.0]
    (error,) = result.failed
    assert isinstance(error, ipar.RemoteError)
    assert error.ename == "ZeroDivisionError"
    assert isinstance(error.__cause__, cancelled)
    assert repr(error) == "<RemoteError: ZeroDivisionError(division by zero)>"
    assert "in invert" in error.traceback
    assert "_take_now" not in error.traceback
    assert (result.progress, result.counts().failed, result.fname) == (3, 1, "inverted")
    assert "3 tasks" in result.summary()
    with pytest.raises(ipar.RemoteError):
        result.get(SOON)
    one = ipar.track(submit(invert, 3))
    assert one.get(SOON) == [2.0]


def test_futures_of_an_executor_with_the_widget(new_gate: NewGate) -> None:
    from ipyasyncresult.display.model import LiveModel

    gate = new_gate("tracked")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        follow(pool.submit, ZeroDivisionError)
        began = threading.Event()

        def hold() -> str:
            began.set()
            gate.wait()
            return "held"

        result = ipar.track([pool.submit(hold), *(pool.submit(invert, x) for x in (1, 2))])
        assert began.wait(SOON)
        model = LiveModel(result)
        look = model.look()
        assert look.progress.total == 3
        assert "interrupt" in look.cannot  # greyed
        model.close()
        fate = result.abort()
        assert list(fate.values()) == ["running", "aborted", "aborted"]
        gate.open()
        result.wait(SOON)
        assert [str(task.status) for task in result.tasks()] == ["ok", "aborted", "aborted"]
        assert result.ok == ["held"]
        with pytest.raises(CapabilityError, match="tracked futures cannot give an interrupt"):
            ipar.track(pool.submit(invert, 1)).interrupt()
        failed = ipar.track(pool.submit(invert, 0))
        failed.wait(SOON)
        with pytest.raises(CapabilityError, match="tracked futures cannot give another try"):
            failed.retry_failed()


def hold(gate: Any) -> None:
    gate.path.with_name(f"at-{os.getpid()}").touch()
    gate.wait()


def test_a_pool_whose_worker_is_killed_ends_what_is_tracked(new_gate: NewGate) -> None:
    gate = new_gate("held")
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        result = ipar.track([pool.submit(hold, gate) for _ in range(2)])
        while len(list(gate.path.parent.glob("at-*"))) < 2:
            threading.Event().wait(0.02)
        # The one that the pool itself may not have noticed yet.
        os.kill(list(pool._processes)[-1], signal.SIGKILL)
        result.wait(SOON)
        assert len(result.failed) == 2
        for error in result.failed:
            assert isinstance(error, EngineError)
            assert isinstance(error.__cause__, concurrent.futures.process.BrokenProcessPool)


def test_futures_of_dask(new_gate: NewGate) -> None:
    gate = new_gate("tracked")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as foreign,
    ):
        follow(lambda f, x: foreign.submit(f, x, pure=False), ZeroDivisionError)
        held = foreign.submit(gate.wait, pure=False)
        waiting = foreign.submit(invert, 1, pure=False)
        result = ipar.track([held, waiting])
        foreign.cancel(waiting, force=True)  # by somebody else
        result.wait(SOON, return_when="FIRST_COMPLETED")
        gate.open()
        result.wait(SOON)
        assert [str(task.status) for task in result.tasks()] == ["ok", "aborted"]
        assert isinstance(result.exception(), ipar.TaskAborted)
        gate = new_gate("late")
        late = ipar.track(foreign.submit(gate.wait, pure=False))
        foreign.close()
        with pytest.raises(HubError, match="the Dask client was closed"):
            late.get(SOON)
        gate.open()
