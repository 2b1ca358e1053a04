"""Thread pools: objects are shared, and a pool is used as its own users know it."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import joblib
import pytest

import ipyasyncresult as ipar
from ipyasyncresult import LoadBalancedView, Reference, require
from tests.conftest import interrupted_when_it_waits

if TYPE_CHECKING:
    from tests.integration.conftest import NewGate

SOON = 30.0
"""Seconds after which waiting is given up."""


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


@pytest.fixture
def view(pool: ThreadPoolExecutor) -> Iterator[LoadBalancedView]:
    with ipar.connect(pool) as client:
        yield client.load_balanced_view()


class Failure(Exception):
    """Not to be pickled, and not to be made again from its arguments."""

    __slots__ = ("lock", "place")

    def __init__(self, place: int, lock: Any) -> None:
        super().__init__(f"at {place}")
        self.place = place
        self.lock = lock


class Watched:
    """Whose end can be seen."""


# ------------------------------------------------------------------------- the objects themselves


def test_a_closure_changes_what_it_closes_over(view: LoadBalancedView) -> None:
    seen: list[int] = []
    result = view.map_async(seen.append, range(3000))
    assert result.get(SOON) == [None] * 3000
    assert sorted(seen) == [*range(3000)]


def test_what_cannot_be_copied_goes_both_ways(view: LoadBalancedView) -> None:
    lock = threading.Lock()
    assert view.apply_async(lambda x, *, y: (x, y), lock, y=view).get(SOON) == (lock, view)
    first, second = view.map_sync(iter, [[1], [2]])
    assert (next(first), next(second)) == (1, 2)
    assert list(view.imap(lambda x: x, [lock])) == [lock]
    generator = view.apply_sync(lambda: (x for x in range(3)))
    assert list(generator) == [0, 1, 2]


def test_parts_of_a_sequence_are_shared_too(view: LoadBalancedView) -> None:
    things = [Watched() for _ in range(5)]

    @view.parallel(block=True)
    def same(part: list[Watched]) -> list[Watched]:
        return part

    assert all(a is b for a, b in zip(same(things), things, strict=True))
    assert all(a is b for a, b in zip(same.map(things), things, strict=True))


def test_coroutines_are_awaited(view: LoadBalancedView) -> None:
    async def double(x: int) -> int:
        return 2 * x

    assert view.apply_sync(double, 1) == 2
    assert view.map_sync(double, range(3), chunksize=2) == [0, 2, 4]


def test_references_are_looked_up_where_the_user_works(
    view: LoadBalancedView, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = __import__("__main__")
    thing = Watched()
    monkeypatch.setattr(main, "of_the_test", thing, raising=False)
    name = Reference("of_the_test")
    mine = (thing,)
    assert view.apply_sync(lambda x, y: (x, y), name, y=name) == (thing, thing)
    assert view.map_sync(lambda x: x, [name, mine])[1] is mine
    assert view.map_sync(lambda x, y: x is y, [name, 1], [thing, 2]) == [True, False]
    kind: Any = Reference("of_the_test.__class__")
    assert view.apply_sync(kind).__class__ is Watched
    with pytest.raises(NameError, match="nobody"):
        view.apply_sync(abs, Reference("nobody"))


def test_what_a_function_requires_is_there(view: LoadBalancedView) -> None:
    @require("colorsys", helper=abs)  # type: ignore[untyped-decorator]
    def use(x: int) -> Any:
        return colorsys.__name__, helper(x)  # type: ignore[name-defined]  # noqa: F821

    assert view.apply_sync(use, -1) == ("colorsys", 1)
    assert view.map_sync(use, [-2]) == [("colorsys", 2)]


def test_joblib_may_ask_for_shared_memory(view: LoadBalancedView) -> None:
    ipar.register_joblib_backend()
    seen: list[str] = []
    with joblib.parallel_config(backend="ipyasyncresult", client=view.client):
        joblib.Parallel(n_jobs=2, require="sharedmem")(
            joblib.delayed(seen.append)(x) for x in "abc"
        )
    assert sorted(seen) == ["a", "b", "c"]
    assert len(view.client.history) > 0


# ---------------------------------------------------------------------------------------- errors


def test_an_error_has_what_the_exception_has(view: LoadBalancedView) -> None:
    lock = threading.Lock()

    def fail(x: int) -> None:
        print("before")
        raise Failure(x, lock)

    result = view.apply_async(fail, 3)
    with pytest.raises(Failure, match="at 3") as caught:
        result.get(SOON)
    assert isinstance(caught.value, ipar.RemoteError)
    error: Any = caught.value
    assert (error.place, error.lock) == (3, lock)
    assert (error.inputs, error.last_output) == ("fail(3)", "before")
    assert "raise Failure(x, lock)" in error.traceback
    assert type(error.__cause__) is Failure
    assert error.__cause__.lock is lock
    frames: Any = error.__cause__.__traceback__
    assert frames.tb_frame.f_code.co_name == "fail"  # none of ours before it
    items = view.map_async(fail, [1, 2], chunksize=2)
    items.wait(SOON)
    assert [one.__cause__.place for one in items.failed] == [1, 2]  # type: ignore[union-attr]


def test_an_error_travels_on_as_far_as_it_can(view: LoadBalancedView) -> None:
    for error, kind in (
        (OSError(2, "gone", "a.txt"), OSError),
        (Failure(1, threading.Lock()), None),
    ):

        def fail(error: Exception = error) -> None:
            raise error

        found = view.apply_async(fail).exception(SOON)
        again = pickle.loads(pickle.dumps(found))
        assert isinstance(again, ipar.RemoteError)
        assert again.traceback == found.traceback  # type: ignore[union-attr]
        if kind is not None:
            assert isinstance(again, kind)
            assert again.filename == "a.txt"


@pytest.mark.parametrize("again", [False, True])
def test_nothing_is_held_when_results_are_gone(view: LoadBalancedView, again: bool) -> None:
    """Arguments go at the end of the task, or with a failed one that may be tried again."""

    def fail_if(fails: bool, _: Watched) -> Watched:
        if fails:
            raise ValueError
        return Watched()

    argument = Watched()
    alive = weakref.ref(argument)
    result = view.apply_async(fail_if, again, argument)
    del argument
    result.wait(SOON)
    value = None if again else weakref.ref(result.get())
    if again:
        assert isinstance(result.retry_failed().exception(SOON), ValueError)
    del result
    both = threading.Barrier(2)
    view.map_sync(lambda _: both.wait(SOON), range(2), chunksize=1)  # no thread is where it was
    gc.collect()
    assert alive() is None
    assert value is None or value() is None


# --------------------------------------------------------------------------------------- the pool


def test_a_pool_that_is_closed_does_first_what_waits() -> None:
    with ThreadPoolExecutor(2) as pool:
        client = ipar.connect(pool)
        result = client.load_balanced_view().map_async(lambda x: -x, range(500), chunksize=1)
        pairs = client.load_balanced_view().map_async(threading.Event().wait, [0.001] * 50)
    assert result.get(SOON) == [-x for x in range(500)]
    assert pairs.get(SOON) == [False] * 50
    client.close()


def test_a_pool_that_is_cancelled_takes_back_what_waits(new_gate: NewGate) -> None:
    gate = new_gate("go on")
    pool = ThreadPoolExecutor(2)
    with ipar.connect(pool) as client:
        view = client.load_balanced_view()
        running = view.map_async(lambda _: gate.wait(), range(2), chunksize=1)
        waiting = view.map_async(abs, range(5), chunksize=1)
        assert client.ledger.waits.wait(lambda: running.counts().running == 2, SOON)
        pool.shutdown(wait=False, cancel_futures=True)
        waiting.wait(SOON)
        assert [type(error) for error in waiting.failed] == [ipar.TaskAborted] * 5
        gate.open()
        running.get(SOON)
        with pytest.raises(ipar.EngineError, match="cannot schedule new futures"):
            view.apply_async(abs, 1).get(SOON)


def test_all_threads_work_and_others_get_their_turn(
    pool: ThreadPoolExecutor, view: LoadBalancedView
) -> None:
    together = threading.Barrier(2)
    view.map_async(lambda _: together.wait(SOON), range(2), chunksize=1).get(SOON)
    stop = threading.Event()

    def go_on(_: int) -> bool:
        return stop.wait(0.01)

    long = view.map_async(go_on, range(10_000), chunksize=1)
    assert pool.submit(abs, -1).result(SOON) == 1  # not behind all of these
    assert not long.ready()
    stop.set()
    long.get(SOON)


def test_a_task_that_runs_for_long_hides_no_result_and_is_said_to_run(
    pool: ThreadPoolExecutor, new_gate: NewGate
) -> None:
    gate = new_gate("go on")
    with ipar.connect(pool, n=1) as client:
        result = client.load_balanced_view().map_async(
            lambda x: gate.wait() if x == 2 else x, range(4), chunksize=1, ordered=False
        )
        arrived = iter(result)
        assert {next(arrived), next(arrived)} == {0, 1}
        client.ledger.waits.wait(lambda: result.counts().running, SOON)
        assert (result.counts().running, result.tasks()[2].engine_id) == (1, 0)
        gate.open()
        assert result.get(SOON) == [0, 1, None, 3]


def test_what_waits_is_taken_back_and_the_rest_goes_on(
    view: LoadBalancedView, new_gate: NewGate
) -> None:
    gate = new_gate("go on")
    running = view.map_async(lambda _: gate.wait(), range(2), chunksize=1)
    waiting = [view.apply_async(abs, -x) for x in range(6)]
    assert set(view.abort(waiting[2]).values()) == {"aborted"}
    gate.open()
    running.get(SOON)
    assert [one.get(SOON) for one in waiting if one is not waiting[2]] == [0, 1, 3, 4, 5]
    assert waiting[2].aborted()


def test_an_interrupt_ends_the_wait_and_no_task(view: LoadBalancedView, new_gate: NewGate) -> None:
    gate = new_gate("go on")
    result = view.apply_async(gate.wait)
    with pytest.raises(KeyboardInterrupt), interrupted_when_it_waits():
        result.get(SOON)
    gate.open()
    assert result.get(SOON) is None


INTERRUPTED = """
import contextlib, os, signal, threading
from concurrent.futures import ThreadPoolExecutor
import ipyasyncresult as ipar

with ThreadPoolExecutor(2) as pool, ipar.connect(pool) as client:
    view = client.load_balanced_view()
    for after in range(1, 40):
        results = []
        timer = threading.Timer(after * 0.0001, os.kill, (os.getpid(), signal.SIGINT))
        with contextlib.suppress(KeyboardInterrupt):
            timer.start()
            while timer.is_alive():
                results.append(view.apply_async(abs, -1))
        with contextlib.suppress(KeyboardInterrupt):
            timer.join()
        assert [one.get(30) for one in results] == [1] * len(results)
        assert view.apply_async(abs, -2).get(30) == 2
"""


def test_interrupts_while_tasks_are_submitted_lose_none_that_was_taken() -> None:
    """Whenever it comes: what has a result object ends, and so do further tasks.

    In a process of its own: here a signal may come while the garbage of other tests is collected.
    """
    ran = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_threads_that_a_task_starts_print_into_it(view: LoadBalancedView) -> None:
    def work(x: int) -> None:
        inner = threading.Thread(target=print, args=("inner", x))
        inner.start()
        inner.join()
        print("outer", x)

    result = view.map_async(work, range(3), chunksize=1)
    result.get(SOON)
    assert result.stdout == [f"inner {x}\nouter {x}\n" for x in range(3)]


def test_many_threads_may_submit_at_once(view: LoadBalancedView) -> None:
    def submit(start: int) -> list[int]:
        return [view.apply_async(abs, -x).get(SOON) for x in range(start, start + 200)]

    with ThreadPoolExecutor(4) as others:
        found = others.map(submit, range(0, 800, 200))
    assert [x for part in found for x in part] == [*range(800)]
