"""Tasks that may take so long and no longer: an error in their place, and nothing else lost."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

import ipyasyncresult as ipar

if TYPE_CHECKING:
    from tests.integration.conftest import Gate, NewGate

SOON = 30.0
SHORT = 1.0  # seconds; a stall of the machine that is shorter hits no sibling


@pytest.fixture(scope="module")
def mortal() -> Iterator[ipar.Client]:
    """Two engines that may be killed."""
    with ipar.Cluster(n=2) as client:
        client[:].apply_sync(list)
        yield client


@pytest.fixture
def client(mortal: ipar.Client, new_gate: NewGate) -> Iterator[ipar.Client]:
    mortal.events.clear()
    yield mortal
    new_gate.open_all()
    assert mortal.wait(timeout=SOON)
    mortal.wait_for_engines(2, timeout=SOON)


def events_of(client: ipar.Client) -> list[str]:
    return [news.event for news in client.events]


def slow_at(place: int) -> Any:
    def work(n: int) -> int:
        if n == place:
            time.sleep(SOON)
        return n * n

    return work


def check(outcomes: list[Any], place: int, total: int) -> BaseException:
    """Everything but one item is there; gives that one's error."""
    assert [one for n, one in enumerate(outcomes) if n != place] == [
        n * n for n in range(total) if n != place
    ]
    error = outcomes[place]
    assert isinstance(error, ipar.TaskTimeout)
    return error


def test_a_call_that_takes_too_long_fails_with_an_error_of_its_own(client: ipar.Client) -> None:
    view = client.load_balanced_view()
    with view.temp_flags(timeout=SHORT):
        late = view.apply_async(time.sleep, SOON)
        quick = view.apply_async(abs, -3)
    assert quick.get(SOON) == 3
    with pytest.raises(ipar.TaskTimeout, match=r"time-out of 1 s") as caught:
        late.get(timeout=SOON)
    assert isinstance(caught.value, TimeoutError)
    assert not isinstance(caught.value, ipar.TimeoutError)  # that one says: wait again
    assert "sleep(30.0)" in str(caught.value)
    assert late.status == "error"
    assert events_of(client) == []


def test_the_traceback_says_where_it_was(client: ipar.Client) -> None:
    def outer() -> None:
        def inner() -> None:
            time.sleep(SOON)

        inner()

    view = client[0]
    view.timeout = SHORT
    error = view.apply_async(outer).exception(SOON)
    assert isinstance(error, ipar.RemoteError)
    assert "in inner" in error.traceback
    assert "take_due" not in error.traceback


@pytest.mark.parametrize("direct", [False, True])
def test_an_item_that_takes_too_long_leaves_its_siblings_alone(
    client: ipar.Client, direct: bool
) -> None:
    """One item per task, and many in a chunk: the time is that of an item."""
    view: Any = client[0] if direct else client.load_balanced_view()
    outcomes = view.map_async(slow_at(3), range(6), timeout=SHORT).get(SOON, return_exceptions=True)
    check(outcomes, 3, 6)
    assert events_of(client) == []


def test_a_chunk_may_take_longer_than_its_items(client: ipar.Client) -> None:
    result = client[0].map_async(lambda _: time.sleep(SHORT / 10), range(12), timeout=SHORT)
    assert result.get(SOON) == [None] * 12


def test_the_time_in_the_queue_does_not_count(client: ipar.Client, new_gate: NewGate) -> None:
    go = new_gate("go")
    running = client[0].apply_async(go.wait)
    view = client[0]
    view.timeout = SHORT
    queued = view.apply_async(abs, -1)
    with pytest.raises(ipar.TimeoutError):
        queued.get(timeout=3 * SHORT)
    go.open()
    running.get(SOON)
    assert queued.get(SOON) == 1


def test_cells_and_coroutines_have_a_time_too(client: ipar.Client) -> None:
    async def rest(n: int) -> int:
        await asyncio.sleep(SOON if n == 1 else 0)
        return n * n

    view = client[1]
    view.timeout = SHORT
    check(view.map_async(rest, range(3)).get(SOON, return_exceptions=True), 1, 3)
    for code in ("import time; time.sleep(30)", "import asyncio; await asyncio.sleep(30)"):
        with pytest.raises(ipar.TaskTimeout):
            view.execute(code, block=False).get(SOON)
    view.timeout = None
    assert view.apply_sync(rest, 0) == 0
    assert events_of(client) == []


def test_a_task_that_turns_the_interrupt_into_its_own_error_has_timed_out(
    client: ipar.Client,
) -> None:
    def work() -> None:
        try:
            time.sleep(SOON)
        except KeyboardInterrupt:
            raise ValueError("my own") from None

    view = client[0]
    view.timeout = SHORT
    error = view.apply_async(work).exception(SOON)
    assert isinstance(error, ipar.TaskTimeout)
    assert "my own" in str(error)


@pytest.mark.slow
def test_a_task_that_does_not_listen_ends_with_its_engine_and_nothing_else(
    client: ipar.Client, new_gate: NewGate
) -> None:
    """One swallows the interrupt, one holds the GIL: neither can be interrupted."""

    def deaf(n: int, started: Gate) -> int:
        while n == 2:
            started.open()
            try:
                time.sleep(SOON)
            except KeyboardInterrupt:
                continue
        return n * n

    def hold_the_interpreter(n: int, started: Gate) -> int:
        import ctypes

        if n == 2:
            started.open()
            ctypes.PyDLL(None).sleep(int(SOON))
        return n * n

    view = client.load_balanced_view()
    view.retries = 3  # not for this
    maps = []
    for function in (deaf, hold_the_interpreter):
        started = new_gate(function.__name__)
        maps.append(view.map_async(function, range(5), [started] * 5, timeout=SHORT))
        started.wait()
    for result in maps:
        error = check(result.get(SOON, return_exceptions=True), 2, 5)
        assert "was killed with engine" in str(error)
    client.wait_for_engines(2, timeout=SOON)
    assert sorted(events_of(client)) == ["ready", "ready", "replaced", "replaced"]


def test_no_other_task_is_hit(client: ipar.Client) -> None:
    """Calls that end at about their time: each gives its value, or has timed out; no engine dies,
    and what runs without a limit right behind is never interrupted."""

    def work(seconds: float) -> str:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        return "in time"

    limited, free = client[0], client[0]
    limited.timeout = 0.03
    results = []
    for n in range(60):
        results.append(limited.apply_async(work, 0.01 + n / 1000))
        results.append(free.apply_async(work, 0.001))
    # On a busy machine any of these may end before somebody finds the time to look at the clock.
    surely = limited.apply_async(work, SOON)
    outcomes = [result.exception(SOON) for result in results]
    assert all(error is None or isinstance(error, ipar.TaskTimeout) for error in outcomes)
    assert outcomes[1::2] == [None] * 60
    assert isinstance(surely.exception(SOON), ipar.TaskTimeout)
    assert client[0].apply_sync(os.getpid) == client.engines[0]["pid"]
    assert events_of(client) == []


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(0, ValueError), (-5, ValueError), (float("nan"), ValueError), ("1", TypeError),
     (True, TypeError), (False, TypeError)],
)  # fmt: skip
def test_a_bad_time_out_is_refused_by_name(
    client: ipar.Client, timeout: Any, error: type[Exception]
) -> None:
    for view in (client.load_balanced_view(), client[0]):
        with pytest.raises(error, match="timeout"):
            view.timeout = timeout
        assert view.timeout is None
        with pytest.raises(error, match="timeout"):
            view.map_async(abs, [1], timeout=timeout)


@pytest.mark.parametrize("timeout", [None, -1, float("inf"), 1e300])
def test_no_limit_can_be_said_in_several_ways(client: ipar.Client, timeout: Any) -> None:
    view = client[0]
    view.timeout = timeout
    assert view.apply_sync(abs, -1) == 1


def test_a_result_from_the_hub_has_timed_out_too(client: ipar.Client) -> None:
    view = client[0]
    view.timeout = SHORT
    late = view.apply_async(time.sleep, SOON)
    late.wait(SOON)
    with ipar.Client(client.cluster_id) as other:
        assert isinstance(other.get_result(late.msg_ids).exception(SOON), ipar.TaskTimeout)
