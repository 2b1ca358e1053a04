"""What a result does is the same over every kind of engines."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import ipyasyncresult as ipar
from ipyasyncresult.core.capabilities import OWN_ENGINES, Capabilities
from ipyasyncresult.core.metadata import METADATA_KEYS
from ipyasyncresult.errors import HubError
from tests.conftest import kinds_in_a_row

if TYPE_CHECKING:
    from tests.contract.conftest import Backend, Gate

SOON = 30.0
"""Seconds after which waiting is given up."""


def square(x: int) -> int:
    return x * x


def invert(x: float) -> float:
    print(f"inverting {x}")
    return 1 / x


# ------------------------------------------------------------------------------- good results


def test_a_call_gives_a_value(backend: Backend) -> None:
    result = backend.call(square, 3)
    assert result.get(SOON) == result.r == 9
    assert result.ready()
    assert result.successful()
    assert (len(result), result.progress, result.fname) == (1, 1, "square")


def test_lambdas_and_closures_travel(backend: Backend) -> None:
    base = {"of": 40}
    assert backend.call(lambda x: base["of"] + x, 2).get(SOON) == 42


def test_a_map_gives_a_list_in_order(backend: Backend) -> None:
    result = backend.map(square, range(20))
    assert isinstance(result, ipar.AsyncMapResult)
    assert result.get(SOON) == [x * x for x in range(20)]
    assert (result[3], result[-1], result[2:5], len(result)) == (9, 361, [4, 9, 16], 20)
    assert backend.map(square, []).get(SOON) == []


def test_a_map_is_iterated_as_items_come(backend: Backend, gate: Gate) -> None:
    def work(x: int) -> int:
        if x == 0:
            gate.wait()
        return x

    unordered = iter(backend.map(work, range(3), ordered=False))
    assert {next(unordered), next(unordered)} == {1, 2}
    gate.open()
    assert list(unordered) == [0]
    assert list(backend.map(work, range(3))) == [0, 1, 2]


async def test_results_are_awaited(backend: Backend) -> None:
    assert await backend.call(square, 3) == 9
    assert [item async for item in backend.map(square, range(4))] == [0, 1, 4, 9]
    with pytest.raises(ZeroDivisionError):
        await backend.call(invert, 0)
    assert (
        await asyncio.wait_for(asyncio.wrap_future(backend.call(square, 2).as_future()), SOON) == 4
    )


# ------------------------------------------------------------------------------------- waiting


def test_nothing_waits_longer_than_it_was_told(backend: Backend, gate: Gate) -> None:
    result = backend.call(gate.wait)
    with pytest.raises(TimeoutError):
        result.get(timeout=0)
    with pytest.raises(ipar.TimeoutError):
        result.get(timeout=0.01)
    assert result.wait(0.01) is None
    assert not result.ready()
    with pytest.raises(ipar.ResultNotReady):
        result.successful()
    gate.open()
    assert result.get(SOON) is None


def test_the_first_failure_can_be_waited_for(backend: Backend, gate: Gate) -> None:
    def work(x: int) -> float:
        if x:
            gate.wait()
        return 1 / x

    result = backend.map(work, [1, 0])
    with pytest.raises(ZeroDivisionError):
        result.get(SOON, return_when="FIRST_EXCEPTION")
    done, pending = result.wait(SOON, return_when="FIRST_COMPLETED")
    assert (len(done), len(pending)) == (1, 1)
    gate.open()
    result.wait(SOON)
    assert result.ok == [1.0]


def test_callbacks_come_at_the_end(backend: Backend, gate: Gate) -> None:
    called = threading.Event()
    result = backend.call(gate.wait)
    result.add_done_callback(lambda ended: called.set() if ended.ready() else None)
    assert not called.is_set()
    gate.open()
    assert called.wait(SOON)


def test_a_result_is_a_future(backend: Backend) -> None:
    futures = [backend.call(square, x).as_future() for x in range(4)]
    done, pending = concurrent.futures.wait(futures, SOON)
    assert not pending
    assert sorted(future.result() for future in done) == [0, 1, 4, 9]
    failed = backend.call(invert, 0).as_future()
    assert isinstance(failed.exception(SOON), ZeroDivisionError)


# -------------------------------------------------------------------------------------- errors


def test_a_failure_is_of_the_type_that_was_raised(backend: Backend) -> None:
    result = backend.call(invert, 0)
    with pytest.raises(ZeroDivisionError) as caught:
        result.get(SOON)
    error = caught.value
    assert isinstance(error, ipar.RemoteError)
    assert (error.ename, error.evalue) == ("ZeroDivisionError", "division by zero")
    assert error.inputs == "invert(0)"
    assert error.last_output == "inverting 0"
    assert "in invert" in error.traceback
    assert not result.successful()
    assert result.status == "error"


def test_several_failures_are_grouped_and_good_items_are_kept(backend: Backend) -> None:
    result = backend.map(invert, [0, 1, 0, 2])
    with pytest.raises(ipar.CompositeError, match="2 x ZeroDivisionError"):
        result.get(SOON)
    assert result.ok == [1.0, 0.5]
    assert len(result.failed) == 2


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(1)], ids=repr
)
def test_nothing_that_a_task_raises_ends_the_client(backend: Backend, error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(ipar.RemoteError) as caught:
        backend.call(fail).get(SOON)
    assert caught.value.ename == type(error).__name__
    assert type(caught.value) is ipar.RemoteError
    assert backend.call(square, 2).get(SOON) == 4


def shares_memory(backend: Backend) -> bool:
    capabilities: Capabilities = getattr(backend.client, "capabilities", OWN_ENGINES)
    return capabilities.shared_memory


def test_a_result_that_cannot_be_copied_says_so(backend: Backend) -> None:
    result = backend.call(threading.Lock)
    if shares_memory(backend):
        assert result.get(SOON).acquire(blocking=False)
    else:
        with pytest.raises(TypeError, match="lock"):
            result.get(SOON)


def test_failed_tasks_are_tried_again(backend: Backend, gate: Gate) -> None:
    def fragile(x: int) -> int:
        if x and not gate.path.exists():
            raise OSError("not yet")
        return x

    result = backend.map(fragile, range(3))
    result.wait(SOON)
    assert result.ok == [0]
    gate.open()
    assert result.retry_failed().get(SOON) == [0, 1, 2]


# ------------------------------------------------------------------------- outputs, metadata


def sends_each_stream_by_itself(backend: Backend) -> bool:
    """Engines of ipyparallel send what a stream has when its clock says so, maybe between the
    words of a `print`: so in several pieces, and not in the order of writing."""
    capabilities: Capabilities = getattr(backend.client, "capabilities", OWN_ENGINES)
    return capabilities.backend == "ipyparallel"


def test_outputs_belong_to_their_task(backend: Backend) -> None:
    def speak(x: int) -> None:
        print("out", x)
        print("err", x, file=sys.stderr)

    result = backend.map(speak, range(5))
    result.get(SOON)
    assert result.stdout == [f"out {x}\n" for x in range(5)]
    assert result.stderr == [f"err {x}\n" for x in range(5)]
    kinds = [kinds_in_a_row(task.outputs) for task in result.tasks()]
    if sends_each_stream_by_itself(backend):
        kinds = [sorted(set(of_task), reverse=True) for of_task in kinds]
    assert kinds == [["stdout", "stderr"]] * 5


def test_outputs_are_shown_of_failed_tasks_too(
    backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    result = backend.call(invert, 0)
    result.display_outputs()
    assert "inverting 0" in capsys.readouterr().out


def test_metadata_tell_when_and_where(backend: Backend) -> None:
    result = backend.map(square, range(3))
    result.get(SOON)
    for about in result.metadata:
        assert isinstance(about, dict)
        assert set(about) == set(METADATA_KEYS)
        assert about["engine_id"] in range(2)
        assert about["status"] == "ok"
        times = [about[key] for key in ("submitted", "started", "completed", "received")]
        assert all(time.tzinfo is not None for time in times)
        assert times == sorted(times)
    assert result.wall_time is not None
    assert result.serial_time >= 0
    assert "3 tasks" in result.summary()


# ------------------------------------------------------------------- taking back, other sessions


def test_what_has_not_started_is_taken_back(backend: Backend, gate: Gate) -> None:
    running = backend.map(lambda _: gate.wait(), range(2))
    waiting = backend.call(square, 3)
    assert waiting.abort() == {waiting.msg_ids[0]: "aborted"}
    with pytest.raises(ipar.TaskAborted):
        waiting.get(SOON)
    assert waiting.aborted()
    assert waiting.status == "aborted"
    gate.open()
    running.get(SOON)
    assert running.abort() == {}


@pytest.mark.parametrize("ended", [True, False])
def test_others_see_the_same_result(backend: Backend, gate: Gate, ended: bool) -> None:
    def work(x: float) -> float:
        gate.wait()
        return invert(x)

    mine = backend.map(work, [1, 2, 0])
    if ended:
        gate.open()
        mine.wait(SOON)
    theirs = backend.seen_by_others(mine)
    assert isinstance(theirs, ipar.AsyncMapResult)
    gate.open()
    theirs.wait(SOON)
    mine.wait(SOON)
    assert theirs.ok == mine.ok == [1.0, 0.5]
    assert theirs.stdout == mine.stdout
    assert theirs.engine_id == mine.engine_id
    assert isinstance(theirs.exception(), ZeroDivisionError)
    single = backend.call(square, 5)
    assert backend.seen_by_others(single).get(SOON) == 25


def test_a_pickled_result_is_a_few_ids(backend: Backend) -> None:
    result = backend.map(square, range(3))
    data = pickle.dumps(result)
    assert len(data) < 500
    assert pickle.loads(data).get(SOON) == [0, 1, 4]


def test_progress_counts_what_has_ended(backend: Backend, gate: Gate) -> None:
    def work(x: int) -> int:
        if x == 2:
            gate.wait()
        return x

    result = backend.map(work, range(3), ordered=False)
    arrived = iter(result)
    assert {next(arrived), next(arrived)} == {0, 1}
    assert (result.progress, result.counts().total, result.ready()) == (2, 3, False)
    gate.open()
    result.get(SOON)
    assert (result.progress, result.counts().failed) == (3, 0)


@pytest.mark.parametrize("groupby", ["type", "engine", "order", "time", "task"])
def test_outputs_are_shown_in_every_grouping(
    backend: Backend, capsys: pytest.CaptureFixture[str], groupby: str
) -> None:
    result = backend.map(invert, [1, 2])
    result.wait(SOON)
    capsys.readouterr()
    result.display_outputs(groupby=groupby)
    shown = capsys.readouterr().out
    assert shown.count("inverting") == 2
    assert "inverting 1" in shown


@pytest.mark.timeout(120)
def test_the_death_of_a_worker_is_told(make_backend: Callable[[], Any], gate: Gate) -> None:
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    backend = make_backend()
    try:
        if getattr(backend, "workers_are_threads", False):
            pytest.skip("a thread does not die alone")
        done = backend.call(square, 3)
        assert done.get(SOON) == 9
        beside, lost = backend.call(gate.wait), backend.call(die)
        with pytest.raises(ipar.EngineError):
            lost.get(4 * SOON)
        assert lost.status == "lost"
        assert done.get() == 9
        gate.open()
        if getattr(backend, "workers_end_together", False):
            with pytest.raises(ipar.EngineError):
                beside.get(SOON)
            assert beside.status == "lost"
        else:
            assert beside.get(SOON) is None
    finally:
        backend.close()


def test_closing_resolves_what_is_under_way(make_backend: Callable[[], Any], gate: Gate) -> None:
    backend = make_backend()
    done, pending = backend.call(square, 3), backend.call(gate.wait)
    assert done.get(SOON) == 9
    backend.close()
    with pytest.raises(HubError):
        pending.get(SOON)
    assert done.get() == 9
