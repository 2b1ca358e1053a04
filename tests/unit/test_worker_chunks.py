"""The chunks of a map: one task, many calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ipyasyncresult.core.failure import Failure, decode_failure
from ipyasyncresult.worker.functions import apply_chunk, dump_function


def run(function: Any, chunk: Sequence[Any], *, star: bool = False) -> tuple[list[Any], Any]:
    result = apply_chunk(dump_function(function), chunk, star)
    return result.values, {i: decode_failure(f) for i, f in result.failures.items()}


def test_every_item_is_called_in_order() -> None:
    assert run(lambda x: x * x, range(5)) == ([0, 1, 4, 9, 16], {})
    assert run(pow, [(2, 3), (3, 2)], star=True) == ([8, 9], {})
    assert run(pow, []) == ([], {})


def test_failing_items_do_not_lose_their_siblings_and_each_item_runs_once() -> None:
    def divide(x: int, seen: list[int] = []) -> Any:  # noqa: B006  kept between the calls
        seen.append(x)
        return 12 // x, list(seen)

    values, failures = run(divide, [1, 0, 2, 3, 0])
    assert [value and value[0] for value in values] == [12, None, 6, 4, None]
    assert values[3][1] == [1, 0, 2, 3]
    assert list(failures) == [1, 4]
    assert failures[1].ename == "ZeroDivisionError"
    assert failures[1].inputs == "divide(0)"


def test_stop_iteration_is_a_failure_of_its_item() -> None:
    def take(x: int) -> int:
        return x or next(iter([]))

    values, failures = run(take, [1, 0, 2])
    assert values == [1, None, 2]
    assert "StopIteration" in failures[1].evalue


def test_sys_exit_in_an_item_is_a_failure_of_that_item() -> None:
    def leave(x: int) -> int:
        if x == 1:
            raise SystemExit(3)
        return x

    values, failures = run(leave, [0, 1, 2])
    assert values == [0, None, 2]
    assert failures[1].ename == "SystemExit"


def test_an_interrupt_keeps_what_is_done_and_leaves_the_rest() -> None:
    def work(x: int) -> int:
        if x == 2:
            raise KeyboardInterrupt
        return x

    values, failures = run(work, range(5))
    assert values == [0, 1, None, None, None]
    assert [failures[i].ename for i in (2, 3, 4)] == [
        "KeyboardInterrupt",
        "TaskAborted",
        "TaskAborted",
    ]


def test_coroutine_functions_are_awaited_item_by_item() -> None:
    async def work(x: int) -> float:
        await asyncio.sleep(0)
        return 1 / x

    # In a thread: its event loop ends with it.
    with ThreadPoolExecutor(1) as pool:
        values, failures = pool.submit(run, work, [1, 0, 2]).result()
    assert values == [1, None, 0.5]
    assert failures[1].ename == "ZeroDivisionError"


@pytest.mark.parametrize("item", [5, None])
def test_an_item_that_cannot_be_spread_fails_alone(item: Any) -> None:
    values, failures = run(max, [(1, 2), item, (3, 4)], star=True)
    assert values == [2, None, 4]
    assert isinstance(failures[1], Failure)
