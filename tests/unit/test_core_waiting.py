"""Waiting for results: time-outs, threads, callbacks, Futures, ``await``."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytest

from ipyasyncresult import AsyncResult, RemoteError, TimeoutError
from ipyasyncresult.core.task import TaskRecord
from ipyasyncresult.core.waiting import ConditionWaits, check_timeout
from ipyasyncresult.testing import FakeClient

LONG = 30.0
"""Seconds; never reached, but a broken test ends."""


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def threads() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        yield pool


# -------------------------------------------------------------------------------------- time-outs


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (None, None),
        (-1, None),
        (-1.0, None),
        (math.inf, None),
        (1e300, None),
        (10**400, None),
        (0, 0.0),
        (0.0, 0.0),
        (2, 2.0),
        (0.25, 0.25),
    ],
)
def test_a_timeout_is_seconds_or_for_ever(given: float | None, seconds: float | None) -> None:
    assert check_timeout(given) == seconds


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (math.nan, ValueError),
        (-2, ValueError),
        (-0.5, ValueError),
        (-math.inf, ValueError),
        ("1", TypeError),
        (True, TypeError),
        (False, TypeError),
        ([1], TypeError),
        (1j, TypeError),
    ],
)
def test_any_other_timeout_is_refused_by_name(
    client: FakeClient, given: Any, error: type[Exception]
) -> None:
    ar = client.submit("f")
    asks: list[Callable[[Any], object]] = [
        ar.get,
        ar.wait,
        ar.get_dict,
        ar.exception,
        ar.wait_for_send,
        ar.wait_for_output,
        lambda timeout: ar.display_outputs(timeout=timeout),
        lambda timeout: ar.wait_interactive(timeout=timeout),
    ]
    for ask in asks:
        with pytest.raises(error, match="timeout must be seconds"):
            ask(given)


@pytest.mark.parametrize("given", [0, -1, -3, math.inf, math.nan, "1", True, None])
def test_an_interval_must_be_more_than_nothing(client: FakeClient, given: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="interval must be seconds"):
        client.submit("f").wait_interactive(given)


# ------------------------------------------------------------------------------------------- wait


def test_wait_returns_none_in_every_case(client: FakeClient) -> None:
    ar = client.submit("f")
    assert ar.wait(0) is None
    assert ar.wait(0.001) is None
    client.finish(ar.msg_ids[0])
    assert ar.wait() is None
    assert ar.wait_for_output()


def test_wait_with_return_when_gives_single_results_done_and_pending(client: FakeClient) -> None:
    ar = client.submit("f", 3)
    assert [len(part) for part in ar.wait(0, return_when="FIRST_COMPLETED")] == [0, 3]
    client.finish(ar.msg_ids[1], "b")
    done, pending = ar.wait(return_when="FIRST_COMPLETED")
    assert [part.get() for part in done] == ["b"]
    assert {part.msg_ids[0] for part in pending} == {ar.msg_ids[0], ar.msg_ids[2]}
    assert [len(part) for part in ar.wait(0, return_when="FIRST_EXCEPTION")] == [1, 2]
    client.fail(ar.msg_ids[0], KeyError("k"))
    assert [len(part) for part in ar.wait(return_when="FIRST_EXCEPTION")] == [2, 1]
    assert [len(part) for part in ar.wait(0, return_when="ALL_COMPLETED")] == [2, 1]
    client.finish(ar.msg_ids[2])
    assert [len(part) for part in ar.wait(return_when="ALL_COMPLETED")] == [3, 0]


@pytest.mark.parametrize("return_when", [None, "FIRST_COMPLETED", "FIRST_EXCEPTION"])
def test_a_sleeping_thread_is_woken_by_what_it_waits_for(
    client: FakeClient, threads: concurrent.futures.Executor, return_when: Any
) -> None:
    ar = client.submit("f", 2)
    waiting = threads.submit(ar._wait, LONG, return_when)
    client.fail(ar.msg_ids[0], KeyError("k"))
    if return_when is None:
        client.finish(ar.msg_ids[1])
    assert waiting.result(LONG)


def test_many_threads_wait_for_one_result(
    client: FakeClient, threads: concurrent.futures.Executor
) -> None:
    ar = client.submit("f")
    waiting = [threads.submit(ar.get, LONG) for _ in range(4)]
    client.finish(ar.msg_ids[0], 7)
    assert [one.result(LONG) for one in waiting] == [7] * 4


def test_a_waiter_sleeps_until_who_tells_it_sees_that_it_is_time() -> None:
    waits = ConditionWaits()
    looks: list[int] = []
    asleep = threading.Semaphore(0)
    is_time = False

    def predicate() -> bool:
        looks.append(threading.get_ident())
        asleep.release()
        return is_time

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(waits.wait, predicate, LONG)
        for _ in range(2):  # it looks once without the lock, then with it, and sleeps
            assert asleep.acquire(timeout=LONG)
        waits.notify()
        waits.notify()
        me = threading.get_ident()
        assert looks[2:] == [me, me]
        is_time = True
        waits.notify()
        assert waiting.result(LONG)
        assert looks[4:] == [me, looks[0]]


def test_a_waiter_that_is_never_told_gives_up_in_time() -> None:
    assert not ConditionWaits().wait(lambda: False, 0.001)
    assert not ConditionWaits().wait(lambda: False, 0)


# -------------------------------------------------------------------------------------- callbacks


def test_a_callback_is_called_once_with_the_result_at_the_end(client: FakeClient) -> None:
    ar = client.submit("f", 2)
    seen: list[AsyncResult] = []
    ar.add_done_callback(seen.append)
    client.finish(ar.msg_ids[0])
    assert seen == []
    client.finish(ar.msg_ids[1])
    client.finish(ar.msg_ids[1])
    assert seen == [ar]


def test_a_late_callback_is_called_at_once(client: FakeClient) -> None:
    ar = client.submit("f", 0)
    seen: list[AsyncResult] = []
    ar.add_done_callback(seen.append)
    assert seen == [ar]


@pytest.mark.parametrize("error", [ValueError("wrong"), SystemExit(1), GeneratorExit()])
def test_a_callback_that_raises_is_logged_and_stops_nobody(
    client: FakeClient, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    ar = client.submit("f")
    seen: list[object] = []

    def wrong(_: AsyncResult) -> None:
        raise error

    ar.add_done_callback(wrong)
    ar.add_done_callback(seen.append)
    with caplog.at_level(logging.ERROR):
        client.finish(ar.msg_ids[0], 1)
    assert seen == [ar]
    assert ar.get() == 1
    [logged] = caplog.records
    assert logged.exc_info is not None
    assert logged.exc_info[1] is error


def test_a_callback_may_submit_and_get_and_chain(client: FakeClient) -> None:
    results: list[Any] = []

    def go_on(ar: AsyncResult) -> None:
        following = client.submit("g")
        following.add_done_callback(lambda last: results.append(last.get()))
        client.finish(following.msg_ids[0], ar.get() + 1)
        results.append(following.get())

    ar = client.submit("f")
    ar.add_done_callback(go_on)
    client.finish(ar.msg_ids[0], 1)
    assert results == [2, 2]


def test_callbacks_of_many_feeding_threads_run_one_at_a_time(
    client: FakeClient, threads: concurrent.futures.Executor
) -> None:
    results = [client.submit("f") for _ in range(40)]
    running = threading.Lock()
    overlapped = []

    def callback(_: AsyncResult) -> None:
        overlapped.append(not running.acquire(blocking=False))
        running.release()

    for ar in results:
        ar.add_done_callback(callback)
    concurrent.futures.wait([threads.submit(client.finish, ar.msg_ids[0]) for ar in results])
    assert overlapped == [False] * 40


# ----------------------------------------------------------------------------------------- follow


def test_a_follower_hears_of_every_change_and_then_nothing(client: FakeClient) -> None:
    ar = client.submit("f", 2)
    other = client.submit("f")
    heard: list[Sequence[TaskRecord]] = []
    stop = ar.follow(heard.append)
    first = ar.records[0]
    client.start(first.msg_id)
    client.output(first.msg_id, "stdout", "x")
    client.requeue(first.msg_id)
    client.finish(first.msg_id)
    client.finish(other.msg_ids[0])
    assert heard == [[first]] * 4
    stop()
    stop()
    client.finish(ar.msg_ids[1])
    assert heard == [[first]] * 4


def test_one_follower_of_several_can_stop_itself(client: FakeClient) -> None:
    ar = client.submit("f", 2)
    heard = {"once": 0, "always": 0}

    def once(_: Sequence[TaskRecord]) -> None:
        heard["once"] += 1
        stop()

    def always(_: Sequence[TaskRecord]) -> None:
        heard["always"] += 1

    stop = ar.follow(once)
    ar.follow(always)
    for msg_id in ar.msg_ids:
        client.finish(msg_id)
    assert heard == {"once": 1, "always": 2}


def test_after_stop_returned_no_call_is_under_way(
    client: FakeClient, threads: concurrent.futures.Executor
) -> None:
    ar = client.submit("f")
    inside, go_on = threading.Event(), threading.Event()
    log = []

    def slow(_: Sequence[TaskRecord]) -> None:
        inside.set()
        assert go_on.wait(LONG)
        log.append("heard")

    stop = ar.follow(slow)
    feeding = threads.submit(client.finish, ar.msg_ids[0])
    assert inside.wait(LONG)
    stopping = threads.submit(stop)
    stopping.add_done_callback(lambda _: log.append("stopped"))
    go_on.set()
    concurrent.futures.wait([feeding, stopping])
    assert log == ["heard", "stopped"]


def test_followers_see_the_last_change_before_done_callbacks_run(client: FakeClient) -> None:
    ar = client.submit("f")
    log = []
    ar.add_done_callback(lambda _: log.append("done"))
    ar.follow(lambda _: log.append("changed"))
    client.finish(ar.msg_ids[0])
    assert log == ["changed", "done"]


# ---------------------------------------------------------------------------------------- Futures


def test_a_future_has_the_value_or_the_error(client: FakeClient) -> None:
    good, bad = client.submit("f"), client.submit("f")
    futures = [good.as_future(), bad.as_future()]
    with pytest.raises(concurrent.futures.TimeoutError):
        futures[0].result(0)
    with pytest.raises(concurrent.futures.TimeoutError):
        futures[0].exception(0.001)
    assert not futures[0].done()
    client.finish(good.msg_ids[0], 5)
    client.fail(bad.msg_ids[0], ZeroDivisionError("division by zero"))
    assert [future.done() for future in futures] == [True, True]
    assert futures[0].result() == 5
    assert futures[0].exception() is None
    assert isinstance(futures[1].exception(), ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        futures[1].result()


def test_futures_work_with_wait_and_as_completed(
    client: FakeClient, threads: concurrent.futures.Executor
) -> None:
    results = [client.submit("f") for _ in range(3)]
    futures = [ar.as_future() for ar in results]
    client.finish(results[2].msg_ids[0], "c")
    done, pending = concurrent.futures.wait(futures, LONG, concurrent.futures.FIRST_COMPLETED)
    assert (done, pending) == ({futures[2]}, set(futures[:2]))
    collected = threads.submit(
        lambda: [f.result() for f in concurrent.futures.as_completed(futures)]
    )
    client.finish(results[1].msg_ids[0], "b")
    client.finish(results[0].msg_ids[0], "a")
    assert sorted(collected.result(LONG)) == ["a", "b", "c"]


def test_a_future_is_cancelled_as_long_as_its_task_is_queued(client: FakeClient) -> None:
    queued, running = client.submit("f"), client.submit("f")
    client.start(running.msg_ids[0])
    assert queued.as_future().cancel()
    assert queued.aborted()
    future = running.as_future()
    assert not future.cancel()
    assert not future.cancelled()
    client.finish(running.msg_ids[0], 1)
    assert not future.cancel()
    assert future.result() == 1
    with pytest.raises(concurrent.futures.CancelledError):
        queued.as_future().result()


async def test_a_future_is_wrapped_by_asyncio(client: FakeClient) -> None:
    good, bad, taken_back = (client.submit("f") for _ in range(3))
    wrapped = [asyncio.wrap_future(ar.as_future()) for ar in (good, bad, taken_back)]
    client.finish(good.msg_ids[0], 5)
    client.fail(bad.msg_ids[0], KeyError("k"))
    assert await wrapped[0] == 5
    with pytest.raises(KeyError):
        await wrapped[1]
    assert wrapped[2].cancel()
    with pytest.raises(asyncio.CancelledError):
        await wrapped[2]
    await asyncio.sleep(0)  # one turn of the loop, in which the source hears of it
    assert taken_back.aborted()


async def test_an_empty_result_is_a_finished_future(client: FakeClient) -> None:
    assert await asyncio.wrap_future(client.submit("f", 0).as_future()) == []


# ------------------------------------------------------------------------------------------ await


async def test_await_gives_the_value_and_leaves_the_loop_free(client: FakeClient) -> None:
    ar = client.submit("f", 2)

    async def feed() -> None:
        for msg_id in ar.msg_ids:
            client.finish(msg_id, msg_id)

    values, _ = await asyncio.gather(ar, feed())
    assert values == ar.msg_ids
    assert await ar == ar.msg_ids


async def test_await_is_woken_from_another_thread(client: FakeClient) -> None:
    ar = client.submit("f")
    feeding = asyncio.get_running_loop().run_in_executor(None, client.finish, ar.msg_ids[0], 5)
    assert await ar == 5
    await feeding


async def test_await_raises_what_get_raises(client: FakeClient) -> None:
    ar = client.submit("f")
    client.fail(ar.msg_ids[0], KeyError("k"))
    with pytest.raises(KeyError):
        await ar


async def test_a_cancelled_await_leaves_the_task_alone(client: FakeClient) -> None:
    ar = client.submit("f")
    started = asyncio.Event()

    async def wait() -> object:
        started.set()
        return await ar

    waiting = asyncio.ensure_future(wait())
    await started.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not ar.ready()
    client.finish(ar.msg_ids[0], 5)
    assert await ar == 5


async def test_a_result_is_iterated_asynchronously(client: FakeClient) -> None:
    ar = client.submit("f", 3)
    client.finish(ar.msg_ids[0], "a")
    seen = []
    async for value in ar:
        seen.append(value)
        client.finish(ar.msg_ids[len(seen) % 3], "abc"[len(seen) % 3])
    assert seen == ["a", "b", "c"]
    with pytest.raises(TypeError, match="use await"):
        async for _ in client.submit("f"):
            pass


# ------------------------------------------------------------------------------------------- cost


class Untouchable(list[TaskRecord]):
    """Records that nobody may look through."""

    def __iter__(self) -> Iterator[TaskRecord]:
        raise AssertionError("looked through all records")

    def __getitem__(self, key: object) -> Any:
        raise AssertionError("looked at a record")

    def __len__(self) -> int:
        raise AssertionError("counted the records")


def test_asking_how_far_it_is_looks_at_no_record(client: FakeClient) -> None:
    ar = client.submit("f", 3)
    client.fail(ar.msg_ids[0], KeyError("k"))
    ids = ar.msg_ids[1:]
    ar.records = Untouchable()
    client.clock.advance(2)
    assert (ar.progress, ar.ready(), ar.done()) == (1, False, False)
    assert ar.counts() == (3, 1, 1, 0)
    assert ar.elapsed == 2
    assert repr(ar) == "<AsyncResult(f): 1/3, 1 failed>"
    ar.wait(0)
    with pytest.raises(TimeoutError):
        ar.get(0)
    for msg_id in ids:
        client.finish(msg_id)
    assert (ar.progress, ar.ready()) == (3, True)
    assert not ar.successful()


def test_a_map_counts_without_looking_too(client: FakeClient) -> None:
    amr = client.submit_map([5, 5])
    amr.records = Untouchable()
    assert (len(amr), amr.progress, amr.ready()) == (10, 0, False)


def test_an_error_is_one_object_for_all_who_ask(client: FakeClient) -> None:
    ar = client.submit("f")
    client.fail(ar.msg_ids[0], KeyError("k"))
    error = cast("RemoteError", ar.exception())
    assert ar.exception() is error
    assert ar.error is error
    assert ar.failed == [error]
