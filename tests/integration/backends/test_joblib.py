"""joblib's ``Parallel`` on engines: what its users rely on; errors and interrupts."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import joblib
import pytest

import ipyasyncresult as ipar
from ipyasyncresult.backends.joblib import joblib_results

if TYPE_CHECKING:
    from tests.integration.conftest import NewGate

SOON = 30.0
"""Seconds after which waiting is given up."""


@pytest.fixture(scope="module")
def client() -> Iterator[ipar.Client]:
    ipar.register_joblib_backend()
    with ipar.Cluster(n=2) as made:
        yield made


@pytest.fixture(autouse=True)
def _on_engines(client: ipar.Client) -> Iterator[None]:
    with joblib.parallel_config(backend="ipyasyncresult", client=client):
        yield


def where(x: int) -> int:
    print("at", x)
    return os.getpid()


def test_all_engines_work_and_outputs_are_kept(client: ipar.Client) -> None:
    engines = set(client[:].apply_sync(os.getpid))
    for jobs in (-1, None, 2):
        found = joblib.Parallel(n_jobs=jobs)(joblib.delayed(where)(x) for x in range(6))
        assert set(found) <= engines
        assert "".join(joblib_results()[-1].stdout) == "".join(f"at {x}\n" for x in range(6))


def test_one_engine_alone_does_what_several_would_do() -> None:
    """joblib does by itself what is one job: then it would run in this process."""
    with (
        ipar.Cluster(n=1) as single,
        joblib.parallel_config(backend="ipyasyncresult", client=single),
    ):
        engine = single[0].apply_sync(os.getpid)
        for jobs in (2, -1):
            found = joblib.Parallel(n_jobs=jobs)(joblib.delayed(where)(x) for x in range(3))
            assert set(found) == {engine}


def test_a_client_of_another_library_is_refused_by_name() -> None:
    with pytest.raises(
        TypeError, match=r"client must be one that ipyasyncresult.connect\(x\) gives"
    ):
        joblib.parallel_config(backend="ipyasyncresult", client=object())


def test_results_come_as_a_generator(new_gate: NewGate) -> None:
    gate = new_gate("second")

    def work(x: int) -> int:
        if x:
            gate.wait()
        return x

    parallel = joblib.Parallel(n_jobs=2, return_as="generator")
    arrived = parallel(joblib.delayed(work)(x) for x in range(4))
    assert next(arrived) == 0
    gate.open()
    assert list(arrived) == [1, 2, 3]
    unordered = joblib.Parallel(n_jobs=2, return_as="generator_unordered")
    assert set(unordered(joblib.delayed(work)(x) for x in range(4))) == set(range(4))


def test_an_error_is_of_its_type_and_the_next_call_works() -> None:
    def fail(x: int) -> float:
        return 1 / (x - 2)

    with pytest.raises(ZeroDivisionError) as caught:
        joblib.Parallel(n_jobs=2)(joblib.delayed(fail)(x) for x in range(5))
    assert isinstance(caught.value, ipar.RemoteError)
    assert "in fail" in caught.value.traceback
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-x) for x in range(3)) == [0, 1, 2]


def test_an_engine_that_dies_is_told_and_the_next_call_works(client: ipar.Client) -> None:
    def die(x: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ipar.EngineError, match="SIGKILL"):
        joblib.Parallel(n_jobs=2)(joblib.delayed(die)(x) for x in range(1))
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(where)(x) for x in range(3))
    assert os.getpid() not in found
    client.wait_for_engines(2, timeout=SOON)


def test_an_interrupt_ends_the_wait_and_takes_back_what_waits(new_gate: NewGate) -> None:
    gate = new_gate("held")

    def work(x: int) -> int:
        gate.wait()
        return x

    def all_are_there() -> bool:
        counts = [result.counts() for result in joblib_results()[-1:]]
        return [(one.total, one.running) for one in counts] == [(20, 2)]

    def interrupt() -> None:
        while not all_are_there():
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        joblib.Parallel(n_jobs=2, pre_dispatch="all")(joblib.delayed(work)(x) for x in range(20))
    thread.join()
    gate.open()
    result = joblib_results()[-1]
    result.wait(SOON)
    assert {str(task.status) for task in result.tasks()} == {"ok", "aborted"}
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-x) for x in range(3)) == [0, 1, 2]


def test_a_task_may_be_parallel_itself() -> None:
    def outer(x: int) -> Any:
        return sum(joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-i) for i in range(x)))

    found = joblib.Parallel(n_jobs=2)(joblib.delayed(outer)(x) for x in range(4))
    assert found == [0, 0, 1, 3]
