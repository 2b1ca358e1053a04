"""``AsyncResult``: values, errors, parts and control, played over a fake client."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from ipyasyncresult import AsyncHubResult, AsyncMapResult, AsyncResult, TimeoutError, check_ready
from ipyasyncresult.core.hubresult import AsyncHubMapResult
from ipyasyncresult.core.task import Status, TaskRecord
from ipyasyncresult.errors import (
    CapabilityError,
    CompositeError,
    EngineError,
    HubError,
    RemoteError,
    ResultDecodeError,
    ResultNotReady,
    TaskAborted,
    UnknownTaskError,
)
from ipyasyncresult.testing import FakeClient


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


def finished(client: FakeClient, *values: Any) -> AsyncResult:
    """A result over tasks of which each has returned one of the values, on engines in turn."""
    ar = client.submit("f", len(values))
    for number, (msg_id, value) in enumerate(zip(ar.msg_ids, values, strict=True)):
        client.finish(msg_id, value, engine=number % client.engines)
    return ar


# ------------------------------------------------------------------------------------------ get


@pytest.mark.parametrize("value", [0, None, [], {"a": 1}, ValueError("returned, not raised")])
def test_a_single_result_gives_the_value_itself(client: FakeClient, value: object) -> None:
    ar = client.submit("f")
    client.finish(ar.msg_ids[0], value)
    assert ar.get() is value
    assert ar.r is ar.result is value
    assert len(ar) == 1
    assert ar[0] is value


def test_a_list_result_gives_a_list_in_the_order_of_submission(client: FakeClient) -> None:
    ar = client.submit("f", 3)
    first, second, third = ar.msg_ids
    for msg_id, value in ((third, "c"), (first, "a"), (second, "b")):
        client.finish(msg_id, value)
    assert ar.get() == ["a", "b", "c"]
    assert len(ar) == 3


def test_one_target_in_a_list_gives_a_list(client: FakeClient) -> None:
    ar = client.submit("f", targets=[1])
    client.finish(ar.msg_ids[0], 5)
    assert ar.get() == [5]
    assert ar.get_dict() == {1: 5}
    single = client.submit("f", targets=1)
    client.finish(single.msg_ids[0], 5)
    assert single.get() == 5
    assert single.get_dict() == single.result_dict == {1: 5}


def test_get_before_the_end_raises_a_timeout_that_says_how_far_it_is(client: FakeClient) -> None:
    ar = client.submit("f", 3)
    client.finish(ar.msg_ids[1])
    for ask in (lambda: ar.get(0), lambda: ar.r, lambda: ar.result_dict, lambda: ar.get(0.001)):
        with pytest.raises(TimeoutError, match="1 of 3 done; the rest goes on"):
            ask()


def test_a_dict_by_engine_refuses_an_engine_that_ran_several_tasks(client: FakeClient) -> None:
    ar = finished(client, "a", "b", "c")
    with pytest.raises(ValueError, match=r"engine 0 ran 2 of the tasks: get_dict\(multi=True\)"):
        ar.get_dict()
    assert ar.get_dict(multi=True) == {0: ["a", "c"], 1: ["b"]}


def test_a_failed_task_raises_its_error_and_several_raise_them_grouped(client: FakeClient) -> None:
    ar = client.submit("f", 3)
    first, second, third = ar.msg_ids
    client.finish(first, 1)
    client.fail(second, KeyError("k"), engine=1)
    client.fail(third, ZeroDivisionError("division by zero"))
    with pytest.raises(CompositeError, match="2 of 3 failed") as caught:
        ar.get()
    assert isinstance(caught.value.errors[0], KeyError)
    assert isinstance(caught.value.errors[1], ZeroDivisionError)
    with pytest.raises(KeyError):
        ar[1]
    with pytest.raises(CompositeError):
        ar.get_dict()
    with pytest.raises(RemoteError, match="division by zero"):
        AsyncResult.join(ar.split()[0], ar.split()[2]).get()


def test_return_exceptions_puts_errors_in_the_places_of_values(client: FakeClient) -> None:
    ar = client.submit("f", 3)
    client.finish(ar.msg_ids[0], 1)
    client.fail(ar.msg_ids[1], KeyError("k"))
    client.lose(ar.msg_ids[2])
    value, error, lost = ar.get(return_exceptions=True)
    assert value == 1
    assert isinstance(error, KeyError)
    assert isinstance(lost, EngineError)
    single = client.submit("f")
    client.fail(single.msg_ids[0], KeyError("k"))
    assert isinstance(single.get(return_exceptions=True), KeyError)


def test_get_with_first_exception_raises_before_the_others_end(client: FakeClient) -> None:
    ar = client.submit("f", 3)
    client.finish(ar.msg_ids[2], 3)
    with pytest.raises(TimeoutError):
        ar.get(0, return_when="FIRST_EXCEPTION")
    client.fail(ar.msg_ids[1], OSError(2, "no such thing"))
    with pytest.raises(OSError, match="no such thing"):
        ar.get(0, return_when="FIRST_EXCEPTION")
    assert not ar.ready()


def test_get_with_first_completed_gives_what_is_there(client: FakeClient) -> None:
    ar = client.submit("f", 3)
    with pytest.raises(TimeoutError):
        ar.get(0, return_when="FIRST_COMPLETED")
    client.finish(ar.msg_ids[2], 3)
    assert ar.get(0, return_when="FIRST_COMPLETED") == [3]
    client.finish(ar.msg_ids[0], 1)
    client.finish(ar.msg_ids[1], 2)
    assert ar.get(return_when="FIRST_COMPLETED") == ar.get(return_when="ALL_COMPLETED") == [1, 2, 3]


def test_an_unknown_return_when_is_refused_with_the_names_there_are(client: FakeClient) -> None:
    ar = client.submit("f")
    asks: tuple[Any, ...] = (ar.get, ar.wait)
    for ask in asks:
        with pytest.raises(
            ValueError, match=r"return_when must be one of .*FIRST_COMPLETED.*'any'"
        ):
            ask(0, return_when="any")


def test_an_error_raised_twice_does_not_grow(client: FakeClient) -> None:
    ar = client.submit("f")
    client.fail(ar.msg_ids[0], KeyError("k"))
    lengths = set()
    for _ in range(3):
        with pytest.raises(KeyError) as caught:
            ar.get()
        lengths.add(len(caught.traceback))
    assert len(lengths) == 1


# ----------------------------------------------------------------------------- ok, failed, error


def test_ok_and_failed_tell_what_is_there_without_waiting(client: FakeClient) -> None:
    ar = client.submit("f", 4)
    assert (ar.ok, ar.failed) == ([], [])
    client.finish(ar.msg_ids[3], "d")
    client.fail(ar.msg_ids[0], KeyError("k"))
    client.finish(ar.msg_ids[1], "b")
    assert ar.ok == ["b", "d"]
    assert [error.args for error in ar.failed] == [("k",)]


def test_a_returned_exception_counts_as_a_value(client: FakeClient) -> None:
    error = ValueError("just a value")
    ar = finished(client, 1, error)
    assert ar.successful()
    assert ar.ok == ar.get() == [1, error]
    assert ar.failed == []
    assert ar.exception() is None


def test_exception_is_what_get_would_raise(client: FakeClient) -> None:
    assert finished(client, 1).exception() is None
    ar = client.submit("f", 2)
    with pytest.raises(TimeoutError):
        ar.exception(0)
    client.fail(ar.msg_ids[0], TimeoutError("the task's own"))
    client.finish(ar.msg_ids[1])
    error = ar.exception()
    assert isinstance(error, RemoteError)
    assert isinstance(error, TimeoutError)
    client.fail((both := client.submit("f", 2)).msg_ids[0], KeyError("k"))
    client.lose(both.msg_ids[1])
    assert isinstance(both.exception(0), CompositeError)


def test_successful_is_known_at_the_end_only(client: FakeClient) -> None:
    ar = client.submit("f", 2)
    client.fail(ar.msg_ids[0], KeyError("k"))
    for expected in (ResultNotReady, AssertionError, ValueError, RuntimeError):
        with pytest.raises(expected):
            ar.successful()
    client.finish(ar.msg_ids[1])
    assert not ar.successful()
    assert finished(client, 1, 2).successful()


def test_check_ready_lets_nobody_in_before_the_end(client: FakeClient) -> None:
    class Summed(AsyncResult):
        @check_ready
        def total(self, start: int = 0) -> int:
            """The sum."""
            return int(sum(self.get(), start))

    ids = client.submit("f", 2).msg_ids
    ar = Summed(client, ids)
    with pytest.raises(TimeoutError, match=r"<Summed\(unknown\): 0/2> is not ready"):
        ar.total()
    for msg_id in ids:
        client.finish(msg_id, 2)
    assert ar.total(start=1) == 5


class StubbornCodec:
    """Cannot decode before it is told how."""

    def __init__(self) -> None:
        self.module_imported = False

    def decode(self, record: TaskRecord) -> None:
        if not self.module_imported:
            record.error = ResultDecodeError("no module named 'somewhere'")
        else:
            _, record.value = record.raw
            record.raw = None


def test_a_result_that_cannot_be_decoded_is_tried_again_each_time(client: FakeClient) -> None:
    codec = client.ledger.codec = StubbornCodec()
    ar = finished(client, "a", "b")
    with pytest.raises(CompositeError):
        ar.get()
    with pytest.raises(ResultDecodeError, match="somewhere"):
        ar[0]
    assert [type(error) for error in ar.failed] == [ResultDecodeError] * 2
    codec.module_imported = True
    assert ar.get() == ["a", "b"]
    assert ar.failed == []


# -------------------------------------------------------------------------- as a sequence, lookups


def test_a_list_result_is_indexed_sliced_and_iterated(client: FakeClient) -> None:
    ar = finished(client, "a", "b", "c", "d")
    assert (ar[0], ar[-1]) == ("a", "d")
    assert ar[1:3] == ["b", "c"]
    assert ar[::-1] == ["d", "c", "b", "a"]
    assert ar[4:] == []
    assert list(ar) == ["a", "b", "c", "d"]
    with pytest.raises(IndexError):
        ar[4]


def test_an_index_before_the_end_does_not_wait(client: FakeClient) -> None:
    ar = client.submit("f", 2)
    client.finish(ar.msg_ids[0], 1)
    for key in (0, slice(0, 1)):
        with pytest.raises(TimeoutError, match="not ready"):
            ar[key]


def test_a_slice_raises_only_what_failed_in_it(client: FakeClient) -> None:
    ar = client.submit("f", 3)
    client.finish(ar.msg_ids[0], 1)
    client.finish(ar.msg_ids[1], 2)
    client.fail(ar.msg_ids[2], KeyError("k"))
    assert ar[:2] == [1, 2]
    with pytest.raises(KeyError):
        ar[1:]


@pytest.mark.parametrize("key", [True, 1.0, None, (0, 1)])
def test_a_wrong_index_is_refused(client: FakeClient, key: Any) -> None:
    with pytest.raises(TypeError, match="an index must be int, slice or str"):
        finished(client, 1)[key]


def test_iteration_gives_each_value_as_soon_as_it_is_there(client: FakeClient) -> None:
    ar = client.submit("f", 3)
    values = iter(ar)
    client.finish(ar.msg_ids[0], "a")
    assert next(values) == "a"
    client.finish(ar.msg_ids[2], "c")
    client.fail(ar.msg_ids[1], KeyError("k"))
    with pytest.raises(KeyError):
        next(values)


def test_a_single_result_is_not_iterable(client: FakeClient) -> None:
    with pytest.raises(TypeError, match=r"use get\(\)"):
        list(client.submit("f"))


def test_every_result_is_true_even_an_empty_one(client: FakeClient) -> None:
    empty = client.submit("f", 0)
    assert empty
    assert len(empty) == 0
    assert empty.ready()
    assert empty.successful()
    assert empty.get() == list(empty) == empty.ok == empty.failed == []
    assert not empty.aborted()
    assert empty.wait(0) is None


# ------------------------------------------------------------------------------ parts and control


def test_split_gives_a_single_result_per_task_with_its_target(client: FakeClient) -> None:
    ar = client.submit("f", targets=[1, 0])
    parts = ar.split()
    assert [part.msg_ids for part in parts] == [[msg_id] for msg_id in ar.msg_ids]
    assert [part.targets for part in parts] == [1, 0]
    client.finish(ar.msg_ids[1], "b")
    assert [part.ready() for part in parts] == [False, True]
    assert parts[1].get() == "b"


def test_join_gives_one_result_over_the_tasks_of_several(client: FakeClient) -> None:
    first, second = client.submit("f", 2), client.submit("g")
    both = AsyncResult.join(first, second)
    assert (both.fname, len(both), both.progress) == ("f", 3, 0)
    for msg_id in [*first.msg_ids, *second.msg_ids]:
        client.finish(msg_id, msg_id)
    assert both.get() == [*first.get(), second.get()]


def test_join_refuses_nothing_and_results_of_two_clients(client: FakeClient) -> None:
    with pytest.raises(ValueError, match="at least one result"):
        AsyncResult.join()
    with pytest.raises(ValueError, match="results of one client"):
        AsyncResult.join(client.submit("f"), FakeClient().submit("f"))


def test_abort_says_per_task_what_happened(client: FakeClient) -> None:
    ar = client.submit("f", 4)
    queued, running, ended, _ = ar.msg_ids
    client.start(running)
    client.finish(ended)
    assert ar.abort() == {queued: "aborted", running: "running", ar.msg_ids[3]: "aborted"}
    assert not ar.aborted()
    with pytest.raises(TaskAborted, match=queued):
        ar.split()[0].get()
    assert ar.split()[0].aborted()
    assert ar.progress == 3
    assert client.abort([ended, "nobody"]) == {ended: "finished", "nobody": "unknown"}


def test_an_aborted_result_is_ready_failed_and_says_so(client: FakeClient) -> None:
    ar = client.submit("f", 2)
    assert set(ar.abort().values()) == {"aborted"}
    assert ar.ready()
    assert ar.aborted()
    assert not ar.successful()
    assert ar.status == ["aborted", "aborted"]
    assert ar.abort() == {}


def test_interrupt_ends_running_tasks_but_never_raises_a_bare_interrupt(
    client: FakeClient,
) -> None:
    ar = client.submit("f", 2)
    running, queued = ar.msg_ids
    client.start(running)
    assert ar.interrupt() == {running: "interrupting", queued: "queued"}
    with pytest.raises(RemoteError, match="KeyboardInterrupt"):
        ar.split()[0].get()


def test_retry_runs_what_failed_and_keeps_what_is_good(client: FakeClient) -> None:
    ar = client.submit("f", targets=[0, 1, 2])
    good, bad, lost = ar.msg_ids
    client.finish(good, 1)
    client.fail(bad, KeyError("k"))
    client.lose(lost)
    again = ar.retry_failed()
    assert again.msg_ids[0] == good
    assert set(again.msg_ids).isdisjoint({bad, lost})
    assert (again.progress, len(again), again.fname, again.targets) == (1, 3, "f", [0, 1, 2])
    for number, msg_id in enumerate(again.msg_ids[1:]):
        client.finish(msg_id, number)
    assert again.get() == [1, 0, 1]
    assert not ar.successful()


def test_a_retry_in_place_lets_those_who_wait_have_the_new_values(client: FakeClient) -> None:
    ar = client.submit("f", 3)
    first, second, third = ar.msg_ids
    done: list[AsyncResult] = []
    ar.add_done_callback(done.append)
    client.fail(first, ValueError("x"))
    client.finish(second, 2)
    assert ar.retry_failed(in_place=True) is ar
    assert ar.counts() == (3, 1, 0, 0)
    assert ar.msg_ids[1:] == [second, third]
    client.finish(third, 3)
    assert not ar.ready()
    assert done == []
    client.finish(ar.msg_ids[0], 1)
    assert ar.get() == [1, 2, 3]
    assert ar.successful()
    assert done == [ar]


def test_a_retry_in_place_keeps_an_unordered_iteration_whole(client: FakeClient) -> None:
    ar = client.submit_map([1] * 3, ordered=False)
    values = iter(ar)
    client.finish(ar.msg_ids[2], ["third"])
    assert next(values) == "third"
    client.fail(ar.msg_ids[0], ValueError("x"))
    ar.retry_failed(in_place=True)
    client.finish(ar.msg_ids[1], ["second"])
    client.finish(ar.msg_ids[0], ["first"])
    assert list(values) == ["second", "first"]


def test_a_result_that_has_ended_is_not_retried_in_place(client: FakeClient) -> None:
    ar = client.submit("f", 1)
    client.fail(ar.msg_ids[0], ValueError("x"))
    with pytest.raises(ValueError, match="in_place needs a result that has not ended"):
        ar.retry_failed(in_place=True)


def test_a_retry_that_the_client_refuses_leaves_the_result_as_it_was(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ar = client.submit("f", 2)
    client.fail(ar.msg_ids[0], ValueError("x"))
    done: list[AsyncResult] = []
    ar.add_done_callback(done.append)

    def refuse(records: object) -> list[Any]:
        client.finish(ar.msg_ids[1], 2)  # the last one ends meanwhile
        raise CapabilityError("no work is kept")

    monkeypatch.setattr(client, "resubmit_records", refuse)
    with pytest.raises(CapabilityError):
        ar.retry_failed(in_place=True)
    assert ar.ready()
    assert done == [ar]
    assert ar.ok == [2]


def test_retry_of_a_good_result_gives_its_values_again(client: FakeClient) -> None:
    assert finished(client, 1, 2).retry_failed().get() == [1, 2]


def test_engines_are_counted_by_target_or_asked_of_the_client(client: FakeClient) -> None:
    assert client.submit("f", 5).engine_count() == 2
    assert client.submit("f", targets=[0, 1, 2]).engine_count() == 3
    assert client.submit("f", targets=1).engine_count() == 1


def test_losing_the_cluster_resolves_everything(client: FakeClient) -> None:
    ar = client.submit("f", 2)
    client.finish(ar.msg_ids[0], 1)
    client.close()
    assert ar.ok == [1]
    with pytest.raises(HubError, match=ar.msg_ids[1]):
        ar.get()


# --------------------------------------------------------------------------- pickling and the hub


def test_a_pickled_result_is_its_ids_and_finds_its_client_again(client: FakeClient) -> None:
    secret = "not in the pickle"
    ar = client.submit("f", 2)
    client.finish(ar.msg_ids[0], secret)
    data = pickle.dumps(ar)
    assert secret.encode() not in data
    copy = pickle.loads(data)
    assert type(copy) is AsyncHubResult
    assert copy.msg_ids == ar.msg_ids
    client.finish(ar.msg_ids[1], 2)
    assert copy.get() == [secret, 2]
    single = pickle.loads(pickle.dumps(client.submit("f")))
    client.finish(single.msg_ids[0], 3)
    assert single.get() == 3


def test_a_pickled_map_keeps_its_shape(client: FakeClient) -> None:
    amr = client.submit_map([2, 1], ordered=False)
    copy = pickle.loads(pickle.dumps(amr))
    assert type(copy) is AsyncHubMapResult
    assert isinstance(copy, AsyncMapResult)
    client.finish(amr.msg_ids[1], ["c"])
    client.clock.advance(1)
    client.finish(amr.msg_ids[0], ["a", "b"])
    assert list(copy) == list(amr) == ["c", "a", "b"]
    assert copy.get() == ["a", "b", "c"]


def test_a_pickled_result_of_a_client_that_is_gone_says_so() -> None:
    data = pickle.dumps(FakeClient().submit("f"))
    with pytest.raises(HubError, match="is gone"):
        pickle.loads(data)


def test_a_hub_result_finds_ended_tasks_and_refuses_unknown_ones(client: FakeClient) -> None:
    ids = finished(client, 1, 2).msg_ids
    assert AsyncHubResult(client, ids).get() == [1, 2]
    assert AsyncHubResult(client, ids[1]).get() == 2
    with pytest.raises(UnknownTaskError, match="nobody"):
        AsyncHubResult(client, [ids[0], "nobody"])


# -------------------------------------------------------------------------------- sends, and looks


class Tracker:
    """As zmq's MessageTracker: done when told."""

    def __init__(self) -> None:
        self.done = False
        self.asked: list[float] = []

    def wait(self, timeout: float) -> None:
        import zmq

        self.asked.append(timeout)
        if not self.done:
            raise zmq.NotDone


def test_sent_is_true_when_nothing_has_to_be_tracked(client: FakeClient) -> None:
    ar = client.submit("f")
    assert ar.sent
    ar.wait_for_send()


def test_wait_for_send_waits_for_the_tracker(client: FakeClient) -> None:
    tracker = Tracker()
    ar = AsyncResult(client, client.submit("f").msg_ids, tracker=tracker)
    assert not ar.sent
    with pytest.raises(TimeoutError, match="not sent within 2 s"):
        ar.wait_for_send(2)
    tracker.done = True
    ar.wait_for_send()
    assert ar.sent
    assert tracker.asked == [2, -1]


def test_a_repr_tells_kind_name_and_state(client: FakeClient) -> None:
    ar = client.submit("f", 3)
    assert repr(ar) == "<AsyncResult(f): 0/3>"
    client.fail(ar.msg_ids[0], KeyError("k"))
    assert repr(ar) == "<AsyncResult(f): 1/3, 1 failed>"
    for msg_id in ar.msg_ids[1:]:
        client.finish(msg_id)
    assert repr(ar) == "<AsyncResult(f): finished, 1 failed>"


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (lambda client, msg_id: client.finish(msg_id), Status.DONE),
        (lambda client, msg_id: client.fail(msg_id, KeyError()), Status.FAILED),
        (lambda client, msg_id: client.lose(msg_id), Status.LOST),
        (lambda client, msg_id: client.abort([msg_id]), Status.ABORTED),
    ],
)
def test_the_first_end_wins_and_later_events_are_counted(
    client: FakeClient, end: Callable[[FakeClient, str], object], status: Status
) -> None:
    ar = client.submit("f")
    msg_id = ar.msg_ids[0]
    end(client, msg_id)
    before = repr(ar.metadata)
    client.clock.advance(1)
    client.start(msg_id)
    client.output(msg_id, "stdout", "too late")
    client.finish(msg_id, "too late")
    client.fail(msg_id, ValueError("too late"))
    client.lose(msg_id)
    client.requeue(msg_id)
    assert ar.status == status.value
    assert repr(ar.metadata) == before
    assert client.ledger.late == 6


def test_events_for_tasks_that_never_were_are_mistakes_of_the_test(client: FakeClient) -> None:
    with pytest.raises(UnknownTaskError, match="no task 'x' was submitted"):
        client.finish("x")
    with pytest.raises(ValueError, match="n must be None with a sequence of targets"):
        client.submit("f", 2, targets=[0, 1])
