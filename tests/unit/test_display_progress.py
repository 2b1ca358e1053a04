from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipyasyncresult.core.task import Counts
from ipyasyncresult.display.progress import Progress, ProgressModel, countdown


class Clock:
    """A clock wound by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def simulate(
    total: int, engines: int, duration: float, step: float = 0.1, stagger: float = 0.0
) -> Iterator[tuple[float, Progress]]:
    """Yields (seconds really left, progress) while every engine runs one task after the other."""
    clock = Clock()
    model = ProgressModel(clock)
    offsets = [stagger * engine for engine in range(engines)]
    tasks_of = [len(range(engine, total, engines)) for engine in range(engines)]
    end = max(o + n * duration for o, n in zip(offsets, tasks_of, strict=True))
    for tick in range(int(end / step) + 2):
        at = tick * step
        clock.now = 1000.0 + at
        ended = [
            min(n, max(0, int((at - o) / duration + 1e-9)))
            for o, n in zip(offsets, tasks_of, strict=True)
        ]
        running = sum(at >= o and k < n for o, k, n in zip(offsets, ended, tasks_of, strict=True))
        yield end - at, model.update(Counts(total, sum(ended), 0, running), engines)


def test_nothing_is_said_before_the_first_item_ended() -> None:
    clock = Clock()
    model = ProgressModel(clock)
    model.update(Counts(10, 0, 0, 2), 2)
    clock.now += 5
    progress = model.update(Counts(10, 0, 0, 2), 2)
    assert (progress.rate, progress.remaining) == (None, None)
    assert progress.describe() == "0/10, 2 running"
    assert progress.elapsed == 5


def test_counts_are_passed_on() -> None:
    progress = ProgressModel(Clock()).update(Counts(10, 4, 1, 2), 3)
    assert (progress.total, progress.done, progress.running) == (10, 4, 2)
    assert (progress.queued, progress.failed, progress.engines) == (4, 1, 3)


def test_the_rate_is_items_per_second_of_all_engines() -> None:
    *_, (_, progress) = simulate(total=200, engines=4, duration=0.5)
    assert progress.rate == pytest.approx(8, rel=0.05)


def test_the_rate_follows_a_change_of_pace() -> None:
    clock = Clock()
    model = ProgressModel(clock)
    done, rates = 0, []
    for second in range(120):
        done += 10 if second < 60 else 1
        clock.now += 1
        rates.append(model.update(Counts(10_000, done, 0, 1), 1).rate or 0.0)
    assert rates[58] == pytest.approx(10, rel=0.05)
    assert rates[-1] < 4


def test_the_remaining_time_is_right_with_many_engines() -> None:
    for left, progress in simulate(total=400, engines=8, duration=2.0, stagger=0.25):
        if progress.elapsed > 10 and left > 5:
            assert progress.remaining == pytest.approx(left, rel=0.25)


def test_the_remaining_time_counts_running_tasks_in_part() -> None:
    # Long tasks that all end together: the first estimate would be four times too long if only
    # the one that happened to be first were counted.
    estimates = [
        (left, progress.remaining)
        for left, progress in simulate(total=40, engines=4, duration=10.0, stagger=0.1)
        if progress.remaining is not None and left > 15
    ]
    assert all(left / 2 < estimate < 2 * left for left, estimate in estimates)


def test_the_remaining_time_of_the_last_task_is_not_divided_by_idle_engines() -> None:
    clock = Clock()
    model = ProgressModel(clock)
    for done in range(31):  # three times ten tasks of ten seconds each, and one more
        clock.now += 1
        ended = 10 * (done // 10)
        model.update(Counts(31, ended, 0, min(10, 31 - ended)), 10)
    progress = model.update(Counts(31, 30, 0, 1), 10)
    assert progress.remaining is not None
    assert 5 < progress.remaining < 12


def test_the_remaining_time_does_not_jump() -> None:
    before: float | None = None
    for _, progress in simulate(total=100, engines=4, duration=10.0, stagger=0.05):
        now = progress.remaining
        if before and now and progress.elapsed > 15:
            assert abs(now - before) < 0.1 * max(before, 10)
        before = now


def test_work_that_went_on_before_somebody_looked_counts() -> None:
    progress = ProgressModel(Clock(), elapsed=10).update(Counts(100, 50, 0, 1), 1)
    assert progress.rate == pytest.approx(5)
    assert progress.remaining == pytest.approx(10, rel=0.05)


def test_no_engines_means_no_estimate() -> None:
    progress = ProgressModel(Clock(), elapsed=10).update(Counts(100, 50, 0, 0), 0)
    assert progress.remaining is None
    assert "no engines" in progress.describe()


def test_the_end_and_an_empty_result_leave_nothing() -> None:
    done = ProgressModel(Clock(), elapsed=2).update(Counts(10, 10, 3, 0), 2)
    assert done.remaining == 0
    assert done.describe() == "10/10, 3 failed, 5/s"
    empty = ProgressModel(Clock()).update(Counts(0, 0, 0, 0), 2)
    assert (empty.remaining, empty.describe()) == (0.0, "0/0")


def test_a_running_item_of_slow_work_is_said_per_minute() -> None:
    progress = ProgressModel(Clock(), elapsed=60).update(Counts(10_000, 2, 0, 1), 1)
    assert progress.describe().startswith("2/10,000, 1 running, 2/min, ")


def test_a_clock_that_stands_still_is_no_trouble() -> None:
    model = ProgressModel(Clock())
    model.update(Counts(10, 0, 0, 1), 1)
    assert model.update(Counts(10, 5, 0, 1), 1).rate is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (8.2, "0:09"), (60, "1:00"), (3599.5, "1:00:00"), (3661, "1:01:01")],
)
def test_a_countdown_reads_like_a_clock(seconds: float, text: str) -> None:
    assert countdown(seconds) == text


@given(
    st.lists(
        st.tuples(st.floats(0, 1000), st.integers(0, 50), st.integers(0, 50), st.integers(0, 8)),
        max_size=20,
    )
)
def test_estimates_are_never_negative_nor_infinite(
    steps: list[tuple[float, int, int, int]],
) -> None:
    clock = Clock()
    model = ProgressModel(clock)
    finished = 0
    for passed, ended, running, engines in steps:
        clock.now += passed
        finished = min(500, finished + ended)
        counts = Counts(500, finished, 0, min(running, 500 - finished))
        progress = model.update(counts, engines)
        assert progress.remaining is None or 0 <= progress.remaining < 1e9
        assert progress.rate is None or 0 < progress.rate < float("inf")
        assert progress.describe()


def test_short_tasks_between_two_looks_do_not_look_like_long_ones() -> None:
    clock = Clock()
    model = ProgressModel(clock)
    looks = []
    for second in range(1, 5):  # 200 items a second; the two that run began a moment ago
        clock.now += 1.0
        looks.append(model.update(Counts(2000, 200 * second, 0, 2), 2))
    assert looks[-1].remaining is not None
    assert 4 < looks[-1].remaining < 8  # 1,200 are left
