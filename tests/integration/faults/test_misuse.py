"""Calls that ask for what cannot be, limits that are reached, and tasks that call back."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

import ipyasyncresult as ipar
from ipyasyncresult.errors import NestedWaitError, ResultTooLarge
from tests.integration.faults.conftest import SOON

if TYPE_CHECKING:
    from tests.integration.conftest import NewGate, StartPython
    from tests.integration.faults.conftest import Mortal

# --------------------------------------------------------------------------------------- limits


def test_a_result_above_the_limit_fails_its_task_and_names_the_limit() -> None:
    with ipar.Cluster(n=1, result_limit=1_000_000) as client:
        view = client[0]
        assert len(view.apply_async(bytes, 900_000).get(SOON)) == 900_000
        with pytest.raises(ResultTooLarge, match="result_limit") as caught:
            view.apply_async(bytes, 2_000_000).get(SOON)
        assert isinstance(caught.value, ipar.RemoteError)
        assert "1,000,000" in str(caught.value)
        with pytest.raises(ResultTooLarge):
            view.apply_async(lambda: ["x" * 10_000] + [str(n) for n in range(300_000)]).get(SOON)
        assert view.apply_async(abs, -1).get(SOON) == 1
    with pytest.raises(ValueError, match="result_limit must be"):
        ipar.Cluster(n=1, result_limit=0)


def test_a_start_without_enough_file_descriptors_names_that_limit_and_leaves_nothing(
    start_python: StartPython,
) -> None:
    script = start_python(
        """
        import resource
        import ipyasyncresult as ipar
        from ipyasyncresult.errors import StartError

        import ipyasyncresult.client.cluster
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        cluster = ipar.Cluster(n=20)
        try:
            cluster.start_and_connect_sync()
        except (StartError, OSError) as error:
            print(str(error).replace(chr(10), " "))
        cluster.stop_cluster_sync()
        """
    )
    printed, errors = script.communicate(timeout=2 * SOON)
    assert script.returncode == 0, errors
    assert "Too many open files" in printed or "ulimit -n" in printed, printed + errors


# ----------------------------------------------------------------------------- nested, called back


def test_a_task_that_would_wait_for_its_own_engines_is_told_so(mortal: Mortal) -> None:
    def ask_again(cluster_id: str, timeout: float | None) -> Any:
        with ipar.Client(cluster_id) as client:
            inner = client.load_balanced_view().apply_async(abs, -3)
            return inner.get(timeout)

    def await_again(cluster_id: str) -> Any:
        async def ask() -> Any:
            with ipar.Client(cluster_id) as client:
                return await client.load_balanced_view().apply_async(abs, -3)

        return asyncio.run(ask())

    view = mortal.client.load_balanced_view()
    both = [view.apply_async(ask_again, mortal.client.cluster_id, None) for _ in range(2)]
    both += [view.apply_async(await_again, mortal.client.cluster_id) for _ in range(2)]
    for result in both:
        with pytest.raises(NestedWaitError, match="runs on") as caught:
            result.get(SOON)
        told = str(caught.value)
        assert "return inner.get(timeout)" in told or "return await client" in told
        assert "waitable.py" not in told
    # With an end it may wait: here another engine has time.
    assert mortal.client[0].apply_async(ask_again, mortal.client.cluster_id, SOON).get(SOON) == 3


def test_a_task_may_submit_to_its_own_engines_and_start_some(mortal: Mortal) -> None:
    def submit(cluster_id: str) -> str:
        with ipar.Client(cluster_id) as client:
            msg_id: str = client.load_balanced_view().apply_async(abs, -4).msg_ids[0]
            client._connection.ask("status")  # it has left
            return msg_id

    def start() -> Any:
        with ipar.Cluster(n=1) as client:
            return client[0].apply_sync(abs, -5)

    msg_id = mortal.client[0].apply_async(submit, mortal.client.cluster_id).get(SOON)
    assert mortal.client.get_result(msg_id).get(SOON) == 4
    assert mortal.client[0].apply_async(start).get(SOON) == 5


def test_callbacks_may_submit_and_wait_and_one_that_raises_stops_nobody(
    mortal: Mortal, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []
    called = threading.Event()
    view = mortal.client.load_balanced_view()

    def submit_and_get(result: ipar.AsyncResult) -> None:
        seen.append(view.apply_async(abs, -result.get()).get(SOON))
        if len(seen) == 20:
            called.set()

    def fail(result: ipar.AsyncResult) -> None:
        raise ValueError("of the callback")

    def leave(result: ipar.AsyncResult) -> None:
        raise SystemExit

    results = [view.apply_async(abs, -n) for n in range(20)]
    for result in results:
        for callback in (fail, leave, submit_and_get):
            result.add_done_callback(callback)
    assert called.wait(SOON)
    assert sorted(seen) == list(range(20))
    assert "of the callback" in caplog.text


# ------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        (math.nan, ValueError),
        (-2, ValueError),
        (-math.inf, ValueError),
        ("1", TypeError),
        (True, TypeError),
        ([1], TypeError),
    ],
    ids=str,
)
def test_a_timeout_that_is_none_is_refused_by_name(
    mortal: Mortal, timeout: Any, error: type[Exception]
) -> None:
    done = mortal.client[0].apply_async(abs, -1)
    for ask in (done.get, done.wait, done.wait_interactive, mortal.client.wait):
        with pytest.raises(error, match="timeout"):
            ask(timeout=timeout)
    for for_ever in (-1, None, math.inf):
        assert done.get(for_ever) == 1


def test_engines_that_are_not_there_are_refused_by_number(mortal: Mortal) -> None:
    for targets, error in (
        (99, IndexError),
        ("x", TypeError),
        ([0, 0], ValueError),
        (-3, IndexError),
        (1.0, TypeError),
        (True, TypeError),
    ):
        with pytest.raises(error):
            mortal.client[targets].apply_async(abs, -1)  # type: ignore[index]
    assert mortal.client[-1].apply_sync(abs, -2) == 2


@pytest.mark.parametrize("chunksize", [0, -1, "2", 1.5, True])
def test_a_wrong_chunk_size_is_refused_at_the_call(mortal: Mortal, chunksize: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="chunksize"):
        mortal.client.load_balanced_view().map_async(abs, [1], chunksize=chunksize)


def test_a_wrong_grouping_is_refused_with_those_that_there_are(mortal: Mortal) -> None:
    result = mortal.client[0].apply_async(abs, -1)
    result.get(SOON)
    with pytest.raises(ValueError, match=r"groupby.*'?engine'?.*'?order'?"):
        result.display_outputs(groupby="colour")


# ------------------------------------------------------------------------------------------ maps


def test_what_is_no_result_is_refused_by_name_where_results_are_wanted(mortal: Mortal) -> None:
    client: Any = mortal.client
    with pytest.raises(TypeError, match="must be results or ids of tasks, not float"):
        client.wait(0.5)  # meant as a time-out
    with pytest.raises(TypeError, match="jobs must be results or ids of tasks, not int 3"):
        client.abort(3)
    with pytest.raises(TypeError, match=r"jobs must be .* not int 3"):
        client.wait([3])


def test_a_map_over_nothing_is_finished_and_empty(mortal: Mortal) -> None:
    for view in (mortal.client[:], mortal.client.load_balanced_view()):
        result = view.map_async(abs, [])
        assert result.ready()
        assert result.successful()
        assert result.get() == []
        assert (len(result), result.progress, list(result)) == (0, 0, [])


def test_an_endless_map_takes_only_what_may_be_under_way(mortal: Mortal) -> None:
    taken = itertools.count()
    results = mortal.client.load_balanced_view().imap(
        abs, (-next(taken) for _ in itertools.count()), max_outstanding=10
    )
    assert list(itertools.islice(results, 100)) == list(range(100))
    assert next(taken) <= 111
    results.cancel()


def test_an_iterable_that_raises_half_way_loses_nothing_of_what_was_submitted(
    mortal: Mortal,
) -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise LookupError("of the iterable")

    view = mortal.client.load_balanced_view()
    results = view.imap(abs, items(), max_outstanding=3)
    assert [next(results) for _ in range(5)] == list(range(5))
    with pytest.raises(LookupError) as caught:
        next(results)
    under_way: ipar.AsyncResult = caught.value.async_result  # type: ignore[attr-defined]
    assert under_way.get(SOON) == [3, 4][-len(under_way) :] or under_way.get(SOON) == [2, 3, 4]
    # A map that is sent as a whole is not sent at all then.
    before = len(mortal.client.history)
    with pytest.raises(LookupError):
        view.map_async(abs, items())
    assert len(mortal.client.history) == before


def test_what_is_asked_of_ended_running_and_queued_tasks_is_answered_for_each(
    mortal: Mortal, new_gate: NewGate
) -> None:
    started, go = new_gate("started"), new_gate("go")

    def hold() -> str:
        started.open()
        go.wait()
        return "held"

    ended = mortal.client[0].apply_async(abs, -1)
    ended.get(SOON)
    running = mortal.client[0].apply_async(hold)
    queued = mortal.client[0].apply_async(abs, -2)
    started.wait()
    mortal.wait_until(lambda: running.status == "running")
    ids = [result.msg_ids[0] for result in (ended, running, queued)]
    outcome = mortal.client.abort([*ids, "unknown"])
    assert outcome == {
        ids[0]: "finished",
        ids[1]: "running",
        ids[2]: "aborted",
        "unknown": "unknown",
    }
    with pytest.raises(ipar.TaskAborted):
        queued.get(SOON)
    go.open()
    assert running.get(SOON) == "held"


def test_without_engines_direct_calls_are_refused_and_others_say_that_they_wait() -> None:
    with ipar.Cluster(n=0) as client:
        with pytest.raises((IndexError, ValueError, RuntimeError)):
            client[:].apply_async(abs, -1)
        with pytest.warns(UserWarning, match="add_engines"):
            waiting = client.load_balanced_view().apply_async(abs, -1)
        with pytest.raises(ipar.TimeoutError):
            waiting.get(0.05)
        client.add_engines(1)
        assert waiting.get(SOON) == 1


# ----------------------------------------------------------------------------------------- clocks


def test_a_clock_that_jumps_changes_neither_waits_nor_durations(
    mortal: Mortal, monkeypatch: pytest.MonkeyPatch, new_gate: NewGate
) -> None:
    """An hour back on both sides: what is shown may be odd, what is waited for is not."""
    go = new_gate("go")

    def back(seconds: float) -> None:
        real = time.time
        import builtins

        builtins.real_time = getattr(builtins, "real_time", real)  # type: ignore[attr-defined]
        time.time = lambda: builtins.real_time() - seconds  # type: ignore[attr-defined]

    def talk() -> str:
        print("seen while it runs", flush=True)
        back(7200)
        go.wait()
        return "done"

    try:
        mortal.client[0].apply_async(back, 3600).get(SOON)
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() - 3600)
        talking = mortal.client[0].apply_async(talk)
        behind = mortal.client[0].apply_async(time.sleep, 0.01)
        mortal.wait_until(lambda: talking.status == "running" and "seen" in talking.stdout)
        began = time.monotonic()
        with pytest.raises(ipar.TimeoutError):
            behind.get(0.2)
        assert time.monotonic() - began < SOON
        go.open()
        assert talking.get(SOON) == "done"
        behind.get(SOON)
        assert 0 < talking.serial_time < 2 * SOON
        assert 0.005 < behind.serial_time < SOON
    finally:
        go.open()
        mortal.client[0].apply_async(back, 0).get(SOON)


# ------------------------------------------------------------------------------------ for asyncio


async def test_what_is_awaited_ends_with_its_engine_too(mortal: Mortal, new_gate: NewGate) -> None:
    started, never = new_gate("started"), new_gate("never")

    def hold() -> None:
        started.open()
        never.wait()

    running = mortal.client[0].apply_async(hold)
    await asyncio.to_thread(started.wait)
    mortal.kill(0)
    with pytest.raises(ipar.EngineError):
        await asyncio.wait_for(running._get_async(), SOON)
