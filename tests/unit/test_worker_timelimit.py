"""The clock of a call: which call a signal is for, and what an error is turned into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from ipyasyncresult import TaskTimeout
from ipyasyncresult.core.failure import decode_failure
from ipyasyncresult.worker import timelimit
from ipyasyncresult.worker.functions import apply_chunk, dump_function
from ipyasyncresult.worker.timelimit import GRACE, TimedOut, TimeLimit, task_timeout


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timelimit, "monotonic", clock)
    return clock


@pytest.fixture
def deadlines() -> list[float]:
    return []


@pytest.fixture
def limit(clock: Clock, deadlines: list[float]) -> TimeLimit:
    return TimeLimit(2.0, deadlines.append)


def test_a_call_is_over_once_and_when_its_time_is_up(limit: TimeLimit, clock: Clock) -> None:
    assert not limit.is_over()  # nothing runs
    limit.start()
    clock.now += 1.9
    assert not limit.is_over()
    clock.now += 0.2
    assert limit.is_over()
    assert not limit.is_over()
    due = limit.take_due()
    assert isinstance(due, TimedOut)
    assert due.seconds == 2.0
    assert limit.take_due() is False
    assert not limit.is_over()  # it is told once, also when it does not listen


def test_a_signal_that_comes_late_is_for_nobody(limit: TimeLimit, clock: Clock) -> None:
    for ends in (limit.stop, limit.start):  # the call ended, or the next item began
        limit.start()
        clock.now += 3
        assert limit.is_over()
        ends()
        assert limit.take_due() is True
        assert limit.take_due() is False
        assert not limit.is_over()


def test_a_signal_of_somebody_else_is_not_taken_for_the_clock_s(limit: TimeLimit) -> None:
    limit.start()
    assert limit.take_due() is False


def test_the_engine_may_be_killed_a_grace_after_the_time(
    limit: TimeLimit, clock: Clock, deadlines: list[float]
) -> None:
    limit.start()
    clock.now += 1
    limit.start()
    limit.stop()
    assert deadlines == [102 + GRACE, 103 + GRACE, 0.0]


def raised(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def time_out() -> None:
    raise TimedOut(1.5)


def time_out_hidden() -> None:
    try:
        time_out()
    except KeyboardInterrupt:
        raise OSError("gave up") from None


def test_an_error_that_comes_of_a_time_out_is_one() -> None:
    plain = task_timeout(raised(time_out))
    assert isinstance(plain, TaskTimeout)
    assert "1.5 s" in str(plain)
    assert plain.__traceback__ is not None
    hidden = task_timeout(raised(time_out_hidden))
    assert isinstance(hidden, TaskTimeout)
    assert isinstance(hidden.__cause__, OSError)


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), TimeoutError()])
def test_other_errors_stay_as_they_are(error: BaseException) -> None:
    assert task_timeout(error) is error


def test_a_ring_of_contexts_ends() -> None:
    one, two = ValueError(), ValueError()
    one.__context__, two.__context__ = two, one
    assert task_timeout(one) is one


_current: dict[str, Callable[..., Any]] = {}


def call_current(*args: Any) -> Any:
    """Travels by name, so that what it calls is no copy."""
    return _current["work"](*args)


@pytest.mark.parametrize("star", [False, True])
def test_every_item_of_a_chunk_has_the_whole_time(
    limit: TimeLimit, clock: Clock, star: bool
) -> None:
    def work(x: int) -> int:
        clock.now += 3 if x == 1 else 1
        if limit.is_over():  # what pump and handler do
            raise limit.take_due()  # type: ignore[misc]
        return x

    items: Any = [(0,), (1,), (2,)] if star else [0, 1, 2]
    _current["work"] = work
    result = apply_chunk(dump_function(call_current), items, star, limit)
    assert result.values == [0, None, 2]
    assert list(result.failures) == [1]
    assert decode_failure(result.failures[1]).ename == "TaskTimeout"


def test_an_interrupt_of_the_user_ends_the_chunk_also_with_a_limit(limit: TimeLimit) -> None:
    def work(x: int) -> int:
        if x == 1:
            raise KeyboardInterrupt
        return x

    result = apply_chunk(dump_function(work), [0, 1, 2, 3], limit=limit)
    assert result.values == [0, None, None, None]
    names = [decode_failure(result.failures[i]).ename for i in (1, 2, 3)]
    assert names == ["KeyboardInterrupt", "TaskAborted", "TaskAborted"]


def test_a_time_out_that_comes_after_the_value_changes_nothing() -> None:
    class Late:
        """The signal comes in the midst of the first item's ``stop``."""

        signals: ClassVar = [TimedOut(1.0)]

        def start(self) -> None:
            pass

        def stop(self) -> None:
            if self.signals:
                raise self.signals.pop()

    late: Any = Late()
    result = apply_chunk(dump_function(abs), [-5, -6], limit=late)
    assert (result.values, result.failures) == ([5, 6], {})
