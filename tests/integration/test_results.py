"""AsyncResult and its family over real engines: values, errors, waiting, metadata, the hub."""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime as dt
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ipyasyncresult as ipar
from ipyasyncresult.core.metadata import METADATA_KEYS
from ipyasyncresult.core.partition import Map
from ipyasyncresult.errors import UnknownTaskError
from tests.integration.conftest import hub_of

if TYPE_CHECKING:
    from tests.integration.conftest import Gate, NewGate


def square(x: int) -> int:
    return x * x


def invert(x: float) -> float:
    print(f"inverting {x}")
    return 1 / x


def hold(started: Gate, go: Gate, value: Any = None) -> Any:
    """A task that says that it runs, and ends when it is let."""
    started.open()
    go.wait()
    return value


# ------------------------------------------------------------------------------ waiting for it


def test_asking_too_early_says_so_and_does_no_harm(client: ipar.Client, new_gate: NewGate) -> None:
    go = new_gate("go")
    result = client[0].apply_async(go.wait)
    for ask in (lambda: result.get(timeout=0), lambda: result.r, lambda: result.result_dict):
        with pytest.raises(ipar.TimeoutError) as caught:
            ask()
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, multiprocessing.TimeoutError)
    assert not result.ready()
    assert result.wait(timeout=0.01) is None
    with pytest.raises(ipar.ResultNotReady) as early:
        result.successful()
    assert isinstance(early.value, AssertionError)
    assert isinstance(early.value, ValueError)
    assert result.progress == 0
    go.open()
    assert result.get(timeout=30) is None
    assert result.ready()
    assert result.successful()
    assert result.progress == len(result) == 1


@pytest.mark.parametrize("forever", [-1, None, float("inf"), 30, 30.0])
def test_timeouts_that_wait(client: ipar.Client, forever: float | None) -> None:
    assert client[0].apply_async(square, 3).get(forever) == 9


@pytest.mark.parametrize(
    ("timeout", "error"),
    [("1", TypeError), (True, TypeError), (float("nan"), ValueError), (-2, ValueError)],
)
def test_wrong_timeouts_are_refused_by_name(
    client: ipar.Client, timeout: Any, error: type[Exception]
) -> None:
    result = client[0].apply_async(square, 3)
    asks: list[Callable[..., Any]] = [
        result.get, result.wait, result.get_dict, result.wait_for_send, client.wait
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(error, match="timeout"):
            ask(timeout=timeout)
    assert result.get() == 9


def test_first_completed_and_first_exception(client: ipar.Client, new_gate: NewGate) -> None:
    go = new_gate("go")

    def work(kind: str) -> str:
        if kind == "slow":
            go.wait()
        return str(1 / len(kind))

    result = client.load_balanced_view().map_async(work, ["slow", "fast"])
    done, pending = result.wait(return_when="FIRST_COMPLETED")
    assert (len(done), len(pending)) == (1, 1)
    assert result.get(return_when="FIRST_COMPLETED") == ["0.25"]

    failing = client.load_balanced_view().map_async(work, ["slow", ""])
    with pytest.raises(ZeroDivisionError):
        failing.get(return_when="FIRST_EXCEPTION")
    assert not failing.ready()
    assert len(failing.failed) == 1
    go.open()
    with pytest.raises(ZeroDivisionError):
        failing.get()
    with pytest.raises(ValueError, match="return_when"):
        failing.wait(return_when="SOME")  # type: ignore[call-overload]


def test_a_result_is_a_future_for_those_who_want_one(
    client: ipar.Client, new_gate: NewGate
) -> None:
    go = new_gate("go")
    slow = client[0].apply_async(go.wait).as_future()
    fast = client[1].apply_async(square, 2).as_future()
    failing = client[2].apply_async(invert, 0).as_future()
    done, pending = concurrent.futures.wait([slow, fast], return_when="FIRST_COMPLETED")
    assert (done, pending) == ({fast}, {slow})
    assert isinstance(failing.exception(30), ZeroDivisionError)
    with pytest.raises(TimeoutError):
        slow.result(timeout=0)
    go.open()
    assert {f.result() for f in concurrent.futures.as_completed([slow, fast])} == {None, 4}


async def test_results_are_awaited(client: ipar.Client, new_gate: NewGate) -> None:
    view = client.load_balanced_view()
    go = new_gate("go")
    slow = client[0].apply_async(go.wait)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(slow._get_async(), 0.01)
    go.open()
    assert await slow is None
    assert await client[:].apply_async(square, 2) == [4, 4, 4]
    assert await asyncio.gather(*(view.apply_async(square, n)._get_async() for n in (1, 2))) == [
        1,
        4,
    ]
    assert [item async for item in view.map_async(square, range(5))] == [0, 1, 4, 9, 16]
    with pytest.raises(ZeroDivisionError):
        await view.apply_async(invert, 0)


def test_callbacks_come_once_and_may_use_the_client(
    client: ipar.Client, caplog: pytest.LogCaptureFixture
) -> None:
    seen: queue.Queue[Any] = queue.Queue()

    def broken(result: ipar.AsyncResult) -> None:
        raise OSError("of a callback")

    def more(result: ipar.AsyncResult) -> None:
        seen.put((result.get(), client[1].apply_sync(square, 5)))

    result = client[0].apply_async(square, 3)
    result.add_done_callback(broken)
    result.add_done_callback(more)
    assert seen.get(timeout=30) == (9, 25)
    result.add_done_callback(more)  # it is done: called at once
    assert seen.get(timeout=30) == (9, 25)
    assert seen.empty()
    assert "of a callback" in caplog.text


def test_many_threads_may_wait_for_one_result_and_for_their_own(
    client: ipar.Client, new_gate: NewGate
) -> None:
    go = new_gate("go")
    shared = client[0].apply_async(go.wait)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(shared.get, 30) for _ in range(3)]
        own = [threads.submit(client[1].apply_sync, square, n) for n in range(20)]
        assert [one.result(30) for one in own] == [n * n for n in range(20)]
        go.open()
        assert [one.result(30) for one in waiting] == [None] * 3


def test_a_result_that_nobody_holds_runs_all_the_same(client: ipar.Client, tmp_path: Path) -> None:
    client[0].apply_async((tmp_path / "made").touch)
    assert client.wait(timeout=30)
    assert (tmp_path / "made").exists()
    assert client.outstanding == set()


# ------------------------------------------------------------------------------- looking at it


def test_results_by_engine(client: ipar.Client) -> None:
    result = client[:].apply_async(os.getpid)
    by_engine = result.get_dict()
    assert by_engine == {i: about["pid"] for i, about in client.engines.items()}
    assert result.result_dict == by_engine
    twice = ipar.AsyncResult.join(
        client[1].apply_async(square, 2), client[1].apply_async(square, 3)
    )
    with pytest.raises(ValueError, match="multi=True"):
        twice.get_dict()
    assert twice.get_dict(multi=True) == {1: [4, 9]}


def test_a_result_is_a_sequence_of_values_and_of_metadata(client: ipar.Client) -> None:
    result = client.load_balanced_view().map_async(invert, [1, 2, 4], chunksize=1)
    result.wait()
    assert (len(result), result[1], result[-1], result[:2]) == (3, 0.5, 0.25, [1.0, 0.5])
    assert list(result) == [1.0, 0.5, 0.25]
    assert result.stdout == result["stdout"] == [f"inverting {x}\n" for x in (1, 2, 4)]
    assert set(result.engine_id) <= {0, 1, 2}
    assert set(METADATA_KEYS) <= set(dir(result))
    with pytest.raises(KeyError, match="colour"):
        _ = result["colour"]
    with pytest.raises(IndexError):
        _ = result[3]
    with pytest.raises(AttributeError, match="colour"):
        _ = result.colour


def test_metadata_tell_when_and_where(client: ipar.Client) -> None:
    result = client[1].apply_async(invert, 2)
    assert result.get() == 0.5
    about: Any = result.metadata
    assert issubclass(type(about), dict)
    assert set(about) == set(METADATA_KEYS)
    times = [about[key] for key in ("submitted", "started", "completed", "received")]
    assert all(isinstance(t, dt.datetime) and t.tzinfo is not None for t in times)
    assert times == sorted(times)
    assert about.engine_id == 1
    assert about.engine_uuid == client.engines[1]["uuid"]
    assert (about.status, about.stdout, about.msg_id) == ("ok", "inverting 2\n", result.msg_ids[0])


def test_timing_adds_up(client: ipar.Client, new_gate: NewGate) -> None:
    go = new_gate("go")
    result = client[:].apply_async(go.wait)
    assert result.wall_time is None
    assert result.elapsed >= 0
    go.open()
    result.get()
    assert result.wall_time == result.elapsed
    assert 0 < result.serial_time <= 3 * result.wall_time + 0.01
    assert result.timedelta(result.submitted, result.received) == pytest.approx(
        result.wall_time, abs=1e-5
    )
    assert "3 tasks" in result.summary()
    rows = result.to_records()
    assert [row["engine_id"] for row in rows] == [0, 1, 2]
    assert sum(row["duration"] for row in rows) == pytest.approx(result.serial_time)


def test_results_are_split_and_joined(client: ipar.Client) -> None:
    whole = client[:].apply_async(lambda: 7)
    parts = whole.split()
    assert [part.get() for part in parts] == [7, 7, 7]
    assert [part.engine_id for part in parts] == [0, 1, 2]
    assert ipar.AsyncResult.join(*parts).get() == [7, 7, 7]
    assert ipar.AsyncResult.join(whole, client[0].apply_async(square, 3)).get() == [7, 7, 7, 9]


def test_results_are_made_from_ids_while_they_are_outstanding(
    client: ipar.Client, new_gate: NewGate
) -> None:
    go = new_gate("go")
    calls = [client[i].apply_async(hold, new_gate(f"started{i}"), go, i) for i in (0, 1)]
    ids = [call.msg_ids[0] for call in calls]
    single = ipar.AsyncResult(client, ids[0], fname="hold", targets=0)
    several = ipar.AsyncResult(client, ids)
    hub = ipar.AsyncHubResult(client, ids)
    go.open()
    assert (single.get(), several.get(), hub.get()) == (0, [0, 1], [0, 1])
    with pytest.raises(UnknownTaskError, match="get_result"):
        ipar.AsyncResult(client, ids)
    assert ipar.AsyncHubResult(client, ids).get() == [0, 1]


def test_a_map_is_iterated_while_it_is_made(client: ipar.Client, new_gate: NewGate) -> None:
    gates = [new_gate(str(n)) for n in range(3)]
    view = client.load_balanced_view()

    def work(n: int) -> int:
        gates[n].wait()
        return n

    ordered = view.map_async(work, range(3))
    unordered = ipar.AsyncMapResult(client, ordered.msg_ids, Map(), ordered=False)
    in_order, as_they_come = iter(ordered), iter(unordered)
    gates[2].open()
    assert next(as_they_come) == 2
    gates[0].open()
    assert (next(as_they_come), next(in_order)) == (0, 0)
    gates[1].open()
    assert (list(as_they_come), list(in_order)) == ([1], [1, 2])
    assert unordered.get() == [0, 1, 2]


# -------------------------------------------------------------------------------------- errors


class OddError(Exception):
    """Of a module that engines cannot import, with a state of its own."""

    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(code)
        self.hint = hint


def test_a_failure_is_of_the_type_that_was_raised(client: ipar.Client) -> None:
    view = client[2]
    view_with_label = client[2]
    view_with_label.label = "mine"
    result = view_with_label.apply_async(invert, 0)
    with pytest.raises(ZeroDivisionError) as caught:
        result.get()
    error = caught.value
    assert isinstance(error, ipar.RemoteError)
    assert (error.ename, error.evalue) == ("ZeroDivisionError", "division by zero")
    assert (error.engine_id, error.msg_id, error.label) == (2, result.msg_ids[0], "mine")
    assert error.inputs == "invert(0)"
    assert error.last_output == "inverting 0"
    assert "return 1 / x" in error.traceback or "in invert" in error.traceback
    assert not result.successful()
    assert isinstance(result.exception(), ZeroDivisionError)

    def fail() -> None:
        raise OddError(3, hint="more")

    with pytest.raises(OddError) as odd:
        view.apply_sync(fail)
    assert (odd.value.args, odd.value.hint) == ((3,), "more")


def test_several_failures_are_grouped(client: ipar.Client) -> None:
    result = client.load_balanced_view().map_async(invert, [0, 1, 0, "x", 0])
    with pytest.raises(ipar.CompositeError) as caught:
        result.get()
    (three, zero), (one, wrong) = caught.value.groups()
    assert (three, isinstance(zero, ZeroDivisionError)) == (3, True)
    assert (one, isinstance(wrong, TypeError)) == (1, True)
    assert "4 of 5 failed" in str(caught.value)
    assert result.ok == [1.0]
    assert len(result.failed) == 4


def test_failed_tasks_are_tried_again_and_good_ones_stay(client: ipar.Client) -> None:
    view = client.load_balanced_view()
    client[:]["fixed"] = False

    def fragile(x: int) -> tuple[int, int]:
        if x % 2 and not fixed:  # type: ignore[name-defined]  # noqa: F821
            raise OSError("flaky")
        return x, time.monotonic_ns()

    result = view.map_async(fragile, range(5), chunksize=1)
    result.wait()
    good = result.ok
    client[:]["fixed"] = True
    again = result.retry_failed()
    values = again.get()
    assert [x for x, _ in values] == list(range(5))
    assert [values[i] for i in (0, 2, 4)] == good
    assert isinstance(again, ipar.AsyncMapResult)
    assert again.retry_failed().get() == values


# --------------------------------------------------------------------------- aborting, signals


def test_queued_tasks_are_taken_back_and_each_is_answered_for(
    client: ipar.Client, new_gate: NewGate
) -> None:
    started, go = new_gate("started"), new_gate("go")
    finished = client[0].apply_async(square, 2)
    finished.get()
    running = client[0].apply_async(hold, started, go)
    started.wait()
    queued = client[0].map_async(square, range(5))
    elsewhere = client[1].apply_async(square, 6)
    everything = [*finished.msg_ids, *running.msg_ids, *queued.msg_ids, "nobody-0"]
    answer = client.abort(everything)
    assert answer == {
        finished.msg_ids[0]: "finished",
        running.msg_ids[0]: "running",
        queued.msg_ids[0]: "aborted",
        "nobody-0": "unknown",
    }
    with pytest.raises(ipar.TaskAborted) as caught:
        queued.get(timeout=30)
    assert isinstance(caught.value, concurrent.futures.CancelledError)
    assert queued.aborted()
    assert queued.status == ["aborted"]
    go.open()
    running.get(timeout=30)
    assert elsewhere.get() == 36
    assert running.abort() == {}


def test_a_result_takes_back_its_own_tasks_only(client: ipar.Client, new_gate: NewGate) -> None:
    go = new_gate("go")
    blocked = client[:].apply_async(go.wait)
    view = client.load_balanced_view()
    mine, others = view.map_async(square, range(50)), view.map_async(square, range(50))
    assert set(mine.abort().values()) == {"aborted"}
    go.open()
    assert others.get(timeout=30) == [x * x for x in range(50)]
    assert blocked.get(timeout=30) == [None] * 3
    assert mine.status == ["aborted"] * 50
    assert len(mine.failed) == 50


def test_running_tasks_are_interrupted_and_queued_ones_are_not(
    client: ipar.Client, new_gate: NewGate
) -> None:
    started, never = new_gate("started"), new_gate("never")
    running = client[0].apply_async(hold, started, never)
    started.wait()
    queued = client[0].apply_async(square, 3)
    assert queued.interrupt() == {queued.msg_ids[0]: "queued"}
    assert running.interrupt() == {running.msg_ids[0]: "interrupting"}
    with pytest.raises(ipar.RemoteError) as caught:
        running.get(timeout=30)
    assert caught.value.ename == "KeyboardInterrupt"
    assert not isinstance(caught.value, KeyboardInterrupt)
    assert queued.get(timeout=30) == 9
    assert running.interrupt() == {}


def test_a_view_interrupts_its_engines(client: ipar.Client, new_gate: NewGate) -> None:
    started, never, go = new_gate("started"), new_gate("never"), new_gate("go")
    one, other = client[0].apply_async(hold, started, never), client[1].apply_async(go.wait)
    started.wait()
    assert client[0].interrupt() == {"0": "signalled"}
    with pytest.raises(ipar.RemoteError, match="KeyboardInterrupt"):
        one.get(timeout=30)
    go.open()
    assert other.get(timeout=30) is None


def test_an_interrupt_of_an_idle_engine_is_no_harm(client: ipar.Client) -> None:
    pids = client[:].apply_sync(os.getpid)
    assert client.send_signal(signal.SIGINT) == {
        "0": "signalled",
        "1": "signalled",
        "2": "signalled",
    }
    assert client[:].apply_sync(os.getpid) == pids


def test_any_signal_can_be_sent(client: ipar.Client, new_gate: NewGate) -> None:
    ready, seen = new_gate("ready"), new_gate("seen")

    def listen() -> None:
        signal.signal(signal.SIGUSR1, lambda *_: seen.open())
        ready.open()
        seen.wait()

    result = client[1].apply_async(listen)
    ready.wait()
    client.send_signal(signal.SIGUSR1, targets=1)
    result.get(timeout=30)
    with pytest.raises(ValueError, match="999"):
        client.send_signal(999)
    with pytest.raises(IndexError, match="9"):
        client.send_signal(targets=9)


# ---------------------------------------------------------------------- what the hub remembers


@pytest.fixture
def second(client: ipar.Client) -> Any:
    """Another session with the same hub, as from another notebook."""
    with ipar.Client(client.cluster_id) as other:
        yield other


def test_another_client_gets_results_outputs_and_shape(
    client: ipar.Client, second: ipar.Client
) -> None:
    mine = client[:].map_async(invert, [1, 2, 4, 8], dist="r")
    mine.get()
    theirs = second.get_result(mine.msg_ids)
    assert isinstance(theirs, ipar.AsyncHubResult)
    assert isinstance(theirs, ipar.AsyncMapResult)
    assert theirs.get(timeout=30) == [1.0, 0.5, 0.25, 0.125]
    assert theirs.stdout == mine.stdout
    assert theirs.engine_id == mine.engine_id
    assert theirs.serial_time == mine.serial_time
    assert (theirs.fname, len(theirs), theirs[1]) == ("invert", 4, 0.5)
    assert second.get_result(mine.msg_ids[1:]).get() == [[0.5], [0.25]]


def test_another_client_waits_with_one_request(
    client: ipar.Client,
    second: ipar.Client,
    new_gate: NewGate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started, go = new_gate("started"), new_gate("go")
    mine = client[0].apply_async(hold, started, go, 5)
    started.wait()
    said = []
    request = second._connection.request

    def listen(*args: Any, **options: Any) -> Any:
        said.append(args)
        return request(*args, **options)

    monkeypatch.setattr(second._connection, "request", listen)
    theirs = ipar.AsyncHubResult(second, mine.msg_ids[0])
    assert not theirs.ready()
    with pytest.raises(TimeoutError):
        theirs.get(timeout=0.05)
    threading.Timer(0.05, go.open).start()
    assert theirs.get(timeout=30) == 5
    assert len(said) == 1


def test_errors_and_aborts_are_seen_by_other_clients_too(
    client: ipar.Client, second: ipar.Client, new_gate: NewGate
) -> None:
    failed = client[1].apply_async(invert, 0)
    failed.wait()
    go = new_gate("go")
    blocking = client[0].apply_async(go.wait)
    aborted = client[0].apply_async(square, 1)
    client.queue_status()  # behind the tasks: when it is answered, the hub knows them
    pending = second.get_result(aborted.msg_ids[0])
    aborted.abort()
    with pytest.raises(ipar.TaskAborted):
        pending.get(timeout=30)
    with pytest.raises(ZeroDivisionError) as caught:
        second.get_result(failed.msg_ids[0]).get(timeout=30)
    assert caught.value.engine_id == 1  # type: ignore[attr-defined]
    go.open()
    blocking.get(timeout=30)


def test_the_tasks_of_a_client_that_left_go_on(client: ipar.Client, new_gate: NewGate) -> None:
    started, go = new_gate("started"), new_gate("go")
    with ipar.Client(client.cluster_id) as other:
        left = other[0].apply_async(hold, started, go, 11)
        ids = left.msg_ids[0]
    started.wait()  # so the hub knows it; what two clients say has no order
    with pytest.raises(ConnectionError):
        left.get(timeout=30)
    found = client.get_result(ids)
    go.open()
    assert found.get(timeout=30) == 11


def test_results_are_found_by_number_label_and_id(client: ipar.Client) -> None:
    view = client.load_balanced_view()
    first = view.apply_async(square, 2)
    first.get()
    with view.temp_flags(label="a map"):
        view.map_async(square, range(3)).get()
    last = client[:].apply_async(square, 4)
    last.get()
    assert client.get_result(-1).get() == [16, 16, 16]
    assert client.get_result().get() == [16, 16, 16]
    assert client.get_result(-2).get() == [0, 1, 4]
    labelled = client.get_result("a map")
    assert isinstance(labelled, ipar.AsyncMapResult)
    assert labelled.get() == [0, 1, 4]
    assert client.get_result(first.msg_ids[0]).get() == 4
    assert client.get_result([first.msg_ids[0], last.msg_ids[0]]).get() == [4, 16]
    assert client.get_result(last).get() == [16, 16, 16]
    number = client.hub_history().index(first.msg_ids[0])
    assert client.get_result(number).get() == 4


@pytest.mark.parametrize(
    ("which", "error"),
    [
        ("no such label", UnknownTaskError),
        (["no-1", "no-2"], UnknownTaskError),
        (10**9, UnknownTaskError),
        (-(10**9), UnknownTaskError),
        (1.5, TypeError),
        (True, TypeError),
    ],
)
def test_unknown_results_are_refused(
    client: ipar.Client, which: Any, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        client.get_result(which)
    assert "ValueError" not in str(caught.value)


def test_the_hub_tells_what_it_knows_of_tasks(client: ipar.Client, new_gate: NewGate) -> None:
    started, go = new_gate("started"), new_gate("go")
    good, bad = client[0].apply_async(square, 2), client[1].apply_async(invert, 0)
    client.wait([good, bad])
    pending = client[2].apply_async(hold, started, go)
    started.wait()
    ids = [result.msg_ids[0] for result in (good, bad, pending)]
    assert client.hub_history()[-3:] == client.history[-3:] == ids
    status = client.result_status(ids)
    assert status == {"pending": ids[2:], "completed": ids[:2]}
    assert client.result_status(ids, status_only=False)[ids[0]] == 4
    (row,) = client.db_query({"msg_id": ids[1]})
    assert (row["status"], row["engine_id"]) == ("error", 1)
    assert client.db_query({"status": "error", "msg_id": ids[1]}, keys=["target"]) == [
        {"target": 1}
    ]
    with pytest.raises(UnknownTaskError):
        client.result_status("no-1")
    go.open()
    pending.get(timeout=30)


def test_queues_are_counted(client: ipar.Client, new_gate: NewGate) -> None:
    go = new_gate("go")
    gates = [new_gate(f"started{i}") for i in range(3)]
    running = [client[i].apply_async(hold, gates[i], go) for i in range(3)]
    for gate in gates:
        gate.wait()
    direct = [client[1].apply_async(square, n) for n in range(4)]
    shared = client.load_balanced_view().map_async(square, range(6), chunksize=1)
    status = client.queue_status()
    assert set(status) == {0, 1, 2, "unassigned"}
    queued = [status[i]["queue"] + status[i]["tasks"] for i in range(3)]
    assert sum(queued) + status["unassigned"] == 3 + 4 + 6
    assert queued[1] >= 1 + 4
    go.open()
    client.wait([*running, *direct, shared], timeout=30)


def test_finished_tasks_are_forgotten_on_request(client: ipar.Client, new_gate: NewGate) -> None:
    go = new_gate("go")
    pending = client[0].apply_async(go.wait)
    done = client[1].map_async(square, range(3))
    other = client[1].apply_async(square, 3)
    client.wait([done, other])
    assert client.purge_results(done) == 1
    with pytest.raises(UnknownTaskError):
        client.get_result(done.msg_ids)
    assert client.get_result(other.msg_ids[0]).get() == 9
    client.purge_everything()
    assert client.hub_history() == pending.msg_ids
    assert done.get() == [0, 1, 4]  # what is here stays
    go.open()
    assert pending.get(timeout=30) is None


def test_failed_tasks_are_submitted_again_by_id(client: ipar.Client, second: ipar.Client) -> None:
    client[0]["x"] = 0
    failed = client[0].apply_async(invert, ipar.Reference("x"))
    failed.wait()
    client[0]["x"] = 4
    assert second.resubmit(failed.msg_ids[0]).get(timeout=30) == 0.25
    with pytest.raises(ZeroDivisionError):
        failed.get()


def test_a_pickled_result_is_had_in_another_process(
    client: ipar.Client, new_gate: NewGate, tmp_path: Path, run_python: Callable[..., str]
) -> None:
    go = new_gate("go")
    gated = client[0].apply_async(hold, new_gate("started"), go, "late")
    mapped = client.load_balanced_view().map_async(invert, [1, 2])
    several = client[1:].apply_async(square, 2)
    data = pickle.dumps([mapped, several, gated])
    assert len(data) < 1000
    assert pickle.loads(data)[0].get() == [1.0, 0.5]
    (tmp_path / "results.pickle").write_bytes(data)
    printed = run_python(
        """
        import pathlib, pickle, sys
        mapped, several, gated = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
        print(mapped.get(), several.get(), mapped.stdout, gated.ready())
        pathlib.Path(sys.argv[2]).touch()
        print(gated.get(), type(mapped).__name__)
        """,
        tmp_path / "results.pickle",
        go.path,
    )
    assert printed.splitlines() == [
        "[1.0, 0.5] [4, 4] ['inverting 1\\n', 'inverting 2\\n'] False",
        "late AsyncHubMapResult",
    ]


# ------------------------------------------------------------------------------- large buffers


@pytest.mark.parametrize(
    "value",
    [
        np.arange(500_000.0),
        np.arange(500_000).reshape(500, 1000)[::2, ::3],
        np.asfortranarray(np.arange(90_000.0).reshape(300, 300)),
        np.zeros(20_000, dtype=[("a", "i4"), ("b", "f8")]),
        np.zeros((0, 5)),
        np.array(3.5),
        np.array(["a", None], dtype=object),
    ],
    ids=["large", "strided", "fortran", "records", "empty", "scalar", "objects"],
)
def test_arrays_come_back_as_they_went(client: ipar.Client, value: Any) -> None:
    came = client[0].apply_sync(lambda array: array, value)
    assert (came.dtype, came.shape) == (value.dtype, value.shape)
    assert np.array_equal(came, value)
    nested = client.load_balanced_view().apply_sync(lambda d: [d["x"], d], {"x": value})
    assert np.array_equal(nested[0], value)
    assert nested[0] is nested[1]["x"]


def test_large_bytes_come_back_as_they_went(client: ipar.Client) -> None:
    data = os.urandom(300_000)
    for value in (data, bytearray(data)):
        came = client[0].apply_sync(lambda x: x, value)
        assert type(came) is type(value)
        assert came == value


def test_arrays_reach_every_engine_and_every_item(client: ipar.Client) -> None:
    array = np.arange(100_000.0)
    assert client[:].apply_sync(np.sum, array) == [array.sum()] * 3
    parts = client.load_balanced_view().map_sync(np.sum, [array, array + 1], chunksize=1)
    assert parts == [array.sum(), (array + 1).sum()]
    client[:].push({"pushed": array}, block=True)
    assert client[:].apply_sync(lambda: float(pushed[-1])) == [99_999.0] * 3  # type: ignore[name-defined]  # noqa: F821


def test_what_was_sent_may_be_changed(client: ipar.Client, new_gate: NewGate) -> None:
    go = new_gate("go")
    array = np.ones(2_000_000)

    def total(array: Any) -> float:
        go.wait()
        return float(array.sum())

    result = client[0].apply_async(total, array)
    result.wait_for_send(timeout=30)
    assert result.sent
    array[:] = 0
    go.open()
    assert result.get(timeout=30) == 2_000_000


def test_what_was_written_to_shared_memory_is_sent_and_may_be_changed() -> None:
    with ipar.Cluster(n=1) as client:
        hub = hub_of(client)
        hub.suspend()
        try:
            numbers = np.ones(4_000_000)
            large = client[0].apply_async(np.sum, numbers)
            assert large.sent
            numbers[:] = 0
        finally:
            hub.resume()
        assert large.get(timeout=30) == 4_000_000


def test_sent_is_true_only_when_the_messages_have_left() -> None:
    with ipar.Cluster(n=1, arrays_limit=0) as client:
        hub = hub_of(client)
        assert client[0].apply_async(square, 2).sent  # small: copied at once
        hub.suspend()
        try:
            large = client[0].apply_async(np.sum, np.ones(4_000_000))
            assert not large.sent
            with pytest.raises(ipar.TimeoutError):
                large.wait_for_send(timeout=0.01)
        finally:
            hub.resume()
        large.wait_for_send(timeout=30)
        assert large.sent
        assert large.get(timeout=30) == 4_000_000
