"""``EngineExecutor`` takes the place of ``ProcessPoolExecutor``; CPython's tests are the model."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import itertools
import operator
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

import pytest

import ipyasyncresult as ipar

if TYPE_CHECKING:
    from tests.integration.conftest import Gate, NewGate


prepared: int  # set by initializers, on engines


def square(x: int) -> int:
    return x * x


def hold(started: Gate, go: Gate) -> str:
    started.open()
    go.wait()
    return "held"


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def shared_executor() -> Iterator[ipar.EngineExecutor]:
    with ipar.EngineExecutor(max_workers=2) as executor:
        executor.submit(square, 1).result()
        yield executor


@pytest.fixture
def executor(
    shared_executor: ipar.EngineExecutor, new_gate: NewGate
) -> Iterator[ipar.EngineExecutor]:
    yield shared_executor
    new_gate.open_all()
    cf.wait([result.as_future() for result in shared_executor.results()], timeout=30)


# -------------------------------------------------------------------------------------- submit


def test_it_is_an_executor_of_futures(executor: ipar.EngineExecutor) -> None:
    assert isinstance(executor, cf.Executor)
    future = executor.submit(pow, 2, 8)
    assert isinstance(future, cf.Future)
    assert future.result() == 256
    assert future.done()
    assert future.exception() is None
    assert not future.cancelled()


def test_no_keyword_is_taken(executor: ipar.EngineExecutor) -> None:
    def capture(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    future = executor.submit(capture, 1, self=2, fn=3, f=4, timeout=5)
    assert future.result() == ((1,), {"self": 2, "fn": 3, "f": 4, "timeout": 5})


def test_errors_are_of_their_own_type(executor: ipar.EngineExecutor) -> None:
    empty: dict[str, int] = {}
    future = executor.submit(lambda: operator.getitem(empty, "gone"))
    with pytest.raises(KeyError) as caught:
        future.result()
    assert caught.value.args == ("gone",)
    assert isinstance(future.exception(), KeyError)


def test_what_cannot_be_pickled_is_refused_when_it_is_submitted(
    executor: ipar.EngineExecutor,
) -> None:
    with pytest.raises(TypeError, match="argument 1"):
        executor.submit(repr, threading.Lock())


def test_waiting_for_a_future_takes_a_timeout(
    executor: ipar.EngineExecutor, new_gate: NewGate
) -> None:
    go = new_gate("go")
    future = executor.submit(go.wait)
    with pytest.raises(cf.TimeoutError):
        future.result(timeout=0.01)
    with pytest.raises(cf.TimeoutError):
        future.exception(timeout=0)
    assert not future.done()
    go.open()
    assert future.result(timeout=30) is None


def test_done_callbacks_get_the_future(executor: ipar.EngineExecutor) -> None:
    got: list[cf.Future[int]] = []
    called = threading.Event()

    def callback(future: cf.Future[int]) -> None:
        assert executor.submit(square, 4).result(30) == 16
        got.append(future)
        called.set()

    future = executor.submit(square, 3)
    future.add_done_callback(callback)
    assert called.wait(30)
    assert got == [future]
    assert got[0].result() == 9


def test_wait_and_as_completed_see_what_ends_first(
    executor: ipar.EngineExecutor, new_gate: NewGate
) -> None:
    go = new_gate("go")
    slow: cf.Future[Any] = executor.submit(go.wait)
    fast: cf.Future[Any] = executor.submit(square, 2)
    wrong: cf.Future[Any] = executor.submit(int, "x")
    done, pending = cf.wait([slow, fast, wrong], return_when=cf.FIRST_EXCEPTION, timeout=30)
    assert wrong in done
    assert slow in pending
    with pytest.raises(cf.TimeoutError):
        list(cf.as_completed([slow], timeout=0.01))
    go.open()
    assert set(cf.as_completed([slow, fast, wrong], timeout=30)) == {slow, fast, wrong}


async def test_asyncio_runs_functions_in_it(executor: ipar.EngineExecutor) -> None:
    loop = asyncio.get_running_loop()
    results = await asyncio.gather(*(loop.run_in_executor(executor, square, n) for n in range(5)))
    assert results == [0, 1, 4, 9, 16]
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(executor, lambda: 1 / 0)


# ----------------------------------------------------------------------------------------- map


@pytest.mark.parametrize("chunksize", [1, 3, 100])
@pytest.mark.parametrize("buffersize", [None, 1, 4])
def test_map_gives_what_the_builtin_gives(
    executor: ipar.EngineExecutor, chunksize: int, buffersize: int | None
) -> None:
    options: dict[str, Any] = {"chunksize": chunksize, "buffersize": buffersize}
    assert list(executor.map(square, range(10), **options)) == [x * x for x in range(10)]
    assert list(executor.map(pow, [2, 3], [4, 5, 6], **options)) == [16, 243]
    assert list(executor.map(square, [], **options)) == []


def test_map_raises_an_error_in_its_turn(executor: ipar.EngineExecutor) -> None:
    values = executor.map(divmod, [5, 5, 5], [2, 0, 1])
    assert next(values) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        next(values)
    with pytest.raises(StopIteration):
        next(values)


def test_map_times_out_as_a_whole(executor: ipar.EngineExecutor, new_gate: NewGate) -> None:
    go = new_gate("go")

    def work(wait: bool) -> int:
        if wait:
            go.wait()
        return 1

    values = executor.map(work, [False, True], timeout=0.5)
    [whole] = executor.results()
    whole.wait(30, return_when="FIRST_COMPLETED")
    assert next(values) == 1  # also when it came too late: it is there
    with pytest.raises(cf.TimeoutError):
        next(values)
    go.open()


def test_map_submits_at_once_and_with_a_buffer_as_results_are_taken(
    executor: ipar.EngineExecutor,
) -> None:
    taken: list[int] = []

    def numbers(count: int | None) -> Iterator[int]:
        for n in itertools.count() if count is None else range(count):
            taken.append(n)
            yield n

    executor.map(square, numbers(5))
    assert taken == [0, 1, 2, 3, 4]
    taken.clear()
    values = executor.map(square, numbers(None), buffersize=3)
    assert len(taken) == 3
    assert list(itertools.islice(values, 4)) == [0, 1, 4, 9]
    assert len(taken) <= 3 + 4
    values.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"chunksize": 0}, ValueError),
        ({"chunksize": -1}, ValueError),
        ({"chunksize": "2"}, TypeError),
        ({"buffersize": 0}, ValueError),
        ({"buffersize": "2"}, (TypeError, ValueError)),
        ({"timeout": "soon"}, TypeError),
    ],
    ids=str,
)
def test_wrong_options_of_map_are_refused_by_name(
    executor: ipar.EngineExecutor, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(options))):
        executor.map(square, [1], **options)


def test_leaving_a_map_half_way_takes_back_the_rest(
    executor: ipar.EngineExecutor, new_gate: NewGate
) -> None:
    go = new_gate("go")
    gates = [new_gate(str(n)) for n in range(200)]

    def work(n: int) -> int:
        gates[n].open()
        if n > 1:
            go.wait()
        return n

    values = executor.map(work, range(200))
    assert next(values) == 0
    values.close()  # type: ignore[attr-defined]
    go.open()
    cf.wait([result.as_future() for result in executor.results()], timeout=30)
    assert sum(gate.is_open() for gate in gates) < 100


# -------------------------------------------------------------------------------------- cancel


def test_only_what_has_not_started_is_cancelled(
    executor: ipar.EngineExecutor, new_gate: NewGate
) -> None:
    go = new_gate("go")
    gates = [new_gate(f"started{n}") for n in range(2)]
    running = [executor.submit(hold, gate, go) for gate in gates]
    for gate in gates:
        gate.wait()
    queued = executor.submit(square, 2)
    assert queued.cancel()
    assert queued.cancelled()
    assert queued.done()
    assert not running[0].cancel()
    with pytest.raises(cf.CancelledError):
        queued.result(timeout=30)
    with pytest.raises(cf.CancelledError):
        queued.exception(timeout=30)
    done, _ = cf.wait([queued], timeout=30)
    assert done == {queued}
    go.open()
    assert [future.result(timeout=30) for future in running] == ["held", "held"]
    assert not running[0].cancelled()


# ------------------------------------------------------------------------ engines that die


def test_a_killed_engine_breaks_only_the_future_that_ran_on_it(
    new_gate: NewGate,
) -> None:
    started, go = new_gate("started"), new_gate("go")
    with ipar.EngineExecutor(max_workers=2) as executor:
        other = executor.submit(hold, started, go)
        started.wait()
        killed = executor.submit(die)
        with pytest.raises(BrokenProcessPool, match="SIGKILL"):
            killed.result(timeout=30)
        go.open()
        assert other.result(timeout=30) == "held"
        assert list(executor.map(square, range(20))) == [x * x for x in range(20)]


# --------------------------------------------------------------- initializer, sharing, the end


def test_the_initializer_runs_on_every_engine(new_gate: NewGate) -> None:
    def prepare(value: int) -> None:
        global prepared
        prepared = value

    with ipar.EngineExecutor(2, initializer=prepare, initargs=(7,)) as executor:
        meet = [new_gate("a"), new_gate("b")]

        def look(mine: int) -> tuple[int, int]:
            meet[mine].open()
            meet[1 - mine].wait()  # so each runs on an engine of its own
            return prepared, os.getpid()

        (one, first), (two, second) = executor.map(look, [0, 1])
        assert (one, two) == (7, 7)
        assert first != second


def test_an_engine_that_takes_the_place_of_a_dead_one_is_initialized_too() -> None:
    def prepare() -> None:
        global prepared
        prepared = 5

    with ipar.EngineExecutor(1, initializer=prepare) as executor:
        assert isinstance(executor.submit(die).exception(30), BrokenProcessPool)
        assert executor.submit(lambda: prepared).result(timeout=30) == 5


def test_an_initializer_that_fails_says_so_and_leaves_nothing() -> None:
    with pytest.raises((ZeroDivisionError, ipar.CompositeError), match="ZeroDivisionError"):
        ipar.EngineExecutor(1, initializer=divmod, initargs=(1, 0))
    with pytest.raises(TypeError, match="initializer"):
        ipar.EngineExecutor(1, initializer=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2", True])
def test_wrong_numbers_of_workers_are_refused(workers: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="max_workers must be an integer >= 1"):
        ipar.EngineExecutor(workers)


def test_an_executor_over_a_client_leaves_its_engines_alone() -> None:
    with ipar.Cluster(n=1) as client:
        with client.executor() as executor:
            assert executor.submit(square, 3).result() == 9
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(square, 3)
        assert client[0].apply_sync(square, 4) == 16


def test_leaving_the_with_waits_for_what_is_under_way(new_gate: NewGate) -> None:
    go = new_gate("go")
    with ipar.EngineExecutor(1) as executor:
        futures: list[cf.Future[Any]] = [executor.submit(go.wait), executor.submit(square, 2)]
        threading.Timer(0.05, go.open).start()
    assert [future.result() for future in futures] == [None, 4]


def test_shutdown_refuses_new_work_and_may_be_repeated() -> None:
    executor = ipar.EngineExecutor(1)
    future = executor.submit(square, 2)
    executor.shutdown()
    executor.shutdown()
    assert future.result() == 4
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 2)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.map(square, [1])


def test_shutdown_without_waiting_lets_work_end(new_gate: NewGate) -> None:
    go = new_gate("go")
    executor = ipar.EngineExecutor(1)
    futures: list[cf.Future[Any]] = [executor.submit(go.wait), executor.submit(square, 2)]
    executor.shutdown(wait=False)
    assert not futures[0].done()
    go.open()
    assert [future.result(timeout=30) for future in futures] == [None, 4]


def test_shutdown_can_take_back_what_has_not_started(new_gate: NewGate) -> None:
    started, go = new_gate("started"), new_gate("go")
    executor = ipar.EngineExecutor(1)
    running = executor.submit(hold, started, go)
    started.wait()
    queued = [executor.submit(square, n) for n in range(10)]

    def let_go_when_all_are_cancelled() -> None:
        cf.wait(queued, timeout=30)
        go.open()

    waiting = threading.Thread(target=let_go_when_all_are_cancelled)
    waiting.start()
    executor.shutdown(wait=True, cancel_futures=True)
    waiting.join()
    assert running.result() == "held"
    assert all(future.cancelled() for future in queued)


def test_a_forgotten_executor_ends_with_its_process(run_python: Callable[..., str]) -> None:
    printed = run_python(
        """
        import ipyasyncresult as ipar
        executor = ipar.EngineExecutor(1)
        print(executor.submit(pow, 2, 5).result())
        """
    )
    assert printed == "32\n"
