"""The ledger: one end per task, counters that are always right, events in any order."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from ipyasyncresult import AsyncResult
from ipyasyncresult.core.ledger import Ledger
from ipyasyncresult.core.outputs import Output
from ipyasyncresult.core.tally import Tally
from ipyasyncresult.core.task import FINAL, TRANSITIONS, UNSET, Status, TaskRecord
from ipyasyncresult.errors import HubError, TaskAborted, UnknownTaskError
from ipyasyncresult.testing import FakeClient, ManualClock


class NoCodec:
    def decode(self, record: TaskRecord) -> None:
        raise AssertionError("nobody asked for a value")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(100.0)


@pytest.fixture
def ledger(clock: ManualClock) -> Ledger:
    return Ledger(NoCodec(), clock=clock)


# ------------------------------------------------------------------------------ the written table


def event(ledger: Ledger, status: Status) -> None:
    """What leads to the status."""
    with ledger.batch() as batch:
        if status is Status.RUNNING:
            batch.started("a", 1, 1.0)
        elif status is Status.PENDING:
            batch.requeued("a")
        else:
            batch.finish("a", status)


@pytest.mark.parametrize("after", Status)
@pytest.mark.parametrize("before", Status)
def test_a_status_changes_as_the_table_says_and_not_otherwise(
    ledger: Ledger, before: Status, after: Status
) -> None:
    record = ledger.submit("a")
    if before is not Status.PENDING:
        event(ledger, before)
    assert record.status is before
    event(ledger, after)
    allowed = after in TRANSITIONS[before]
    assert record.status is (after if allowed else before)
    assert ledger.late == (before in FINAL)


def test_final_states_are_those_that_nothing_leads_out_of() -> None:
    assert {status for status, following in TRANSITIONS.items() if not following} == FINAL
    assert set(TRANSITIONS) == set(Status)


# ---------------------------------------------------------------------------------------- records


def test_a_task_that_ended_is_forgotten_and_its_record_is_whoevers_holds_it(
    ledger: Ledger, clock: ManualClock
) -> None:
    record = ledger.submit("a", target=3)
    assert (record.engine_id, record.submitted, ledger.outstanding) == (3, 100.0, {"a"})
    assert ledger.has_outstanding()
    clock.advance(1)
    with ledger.batch() as batch:
        assert batch.finish("a", Status.DONE, raw="raw") is record
        assert batch.finish("a", Status.FAILED) is None
    assert (record.received, record.raw, record.value) == (101.0, "raw", UNSET)
    assert not ledger.has_outstanding()
    with pytest.raises(UnknownTaskError, match="'a' is not outstanding"):
        ledger.pending(["a"])
    assert repr(record) == "<TaskRecord a ok>"


def test_a_submission_that_failed_is_taken_back(ledger: Ledger) -> None:
    ledger.submit_many([TaskRecord("a", None), TaskRecord("b", None)])
    ledger.forget(["a", "unknown"])
    assert ledger.outstanding == {"b"}


def test_an_event_for_an_unknown_task_is_counted_and_changes_nothing(ledger: Ledger) -> None:
    with ledger.batch() as batch:
        assert batch.get("x") is None
        batch.started("x", 0, 1.0)
        batch.output("x", [Output("stdout", 0.0, "?")])
        batch.requeued("x")
        assert batch.finish("x", Status.DONE) is None
    assert ledger.late == 5


def test_outputs_are_kept_in_order_and_through_a_retry(ledger: Ledger) -> None:
    record = ledger.submit("a", target=None)
    first, second = Output("stdout", 0.0, "1"), Output("stdout", 0.0, "2")
    with ledger.batch() as batch:
        batch.output("a", [])
        assert record.outputs is None
        batch.started("a", 1, 1.0)
        batch.output("a", [first])
        batch.requeued("a")
        batch.output("a", [second])
    assert record.outputs == [first, second]
    assert (record.engine_id, record.started) == (None, None)


def test_what_is_outstanding_when_the_hub_is_gone_ends(ledger: Ledger) -> None:
    records = [ledger.submit(name) for name in "ab"]
    with ledger.batch() as batch:
        batch.finish("a", Status.DONE)
    with ledger.batch() as batch:
        batch.finish_all(Status.LOST, lambda record: HubError(record.msg_id))
    assert [record.status for record in records] == [Status.DONE, Status.LOST]
    assert str(records[1].error) == "b"
    assert not ledger.outstanding


def test_a_batch_that_fails_half_way_keeps_and_tells_what_it_applied(ledger: Ledger) -> None:
    record = ledger.submit("a")
    tally = Tally()
    ledger.count(tally, [record])
    done = []
    ledger.when_done(tally, lambda: done.append(True))

    def feed() -> None:
        with ledger.batch() as batch:
            batch.finish("a", Status.DONE)
            raise ValueError("a bad message")

    with pytest.raises(ValueError, match="bad message"):
        feed()
    assert done == [True]
    with ledger.batch():
        pass  # the lock is free


def test_whoever_sees_the_end_sees_everything_that_belongs_to_it(ledger: Ledger) -> None:
    """Readers take no lock: `received` and a tally's `left` are written last."""
    seen = []

    class Watched(TaskRecord):
        armed: bool = False

        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if self.armed and self.received is not None:
                seen.append((name, self.status, self.raw, self.error, self.failed_items))

    record = Watched("a", 1.0)
    ledger.submit_many([record])
    tally = Tally()
    ledger.count(tally, [record])
    record.armed = True
    error = TaskAborted("a")
    with ledger.batch() as batch:
        batch.finish("a", Status.ABORTED, raw="raw", error=error)
    assert seen[0] == ("received", Status.ABORTED, "raw", error, 1)


def test_callbacks_can_be_left_to_another_thread() -> None:
    due = []
    ledger = Ledger(NoCodec(), callbacks_due=lambda: due.append(True))
    tally = Tally()
    ledger.count(tally, [ledger.submit("a")])
    called = []
    ledger.when_done(tally, lambda: called.append(threading.current_thread().name))
    with ledger.batch() as batch:
        batch.finish("a", Status.DONE)
    assert (due, called) == ([True], [])
    with ThreadPoolExecutor(1, "other") as pool:
        pool.submit(ledger.run_callbacks).result()
    assert called == ["other_0"]
    ledger.when_done(tally, list)
    assert due == [True, True]


def test_an_interrupt_in_a_callback_goes_through_and_costs_no_other_callback(
    ledger: Ledger,
) -> None:
    tally = Tally()
    called = []

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.when_done(tally, interrupted)
    ledger.when_done(tally, lambda: called.append(True))
    assert called == [True]


def test_arrivals_are_in_order_from_whenever_they_are_tracked(
    ledger: Ledger, clock: ManualClock
) -> None:
    records = [ledger.submit(name) for name in "abcd"]
    tally = Tally()
    ledger.count(tally, records)

    def finish(name: str) -> None:
        clock.advance(1)
        with ledger.batch() as batch:
            batch.finish(name, Status.DONE)

    finish("c")
    finish("a")
    arrivals = ledger.track_arrivals(tally, records)
    assert [record.msg_id for record in arrivals] == ["c", "a"]
    finish("d")
    finish("b")
    assert [record.msg_id for record in arrivals] == ["c", "a", "d", "b"]
    assert ledger.track_arrivals(tally, records) is arrivals


# ----------------------------------------------------------------------------- any order of events


class AnyOrder(RuleBasedStateMachine):
    """Tasks, results over any of them, and any events in any order."""

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.client = FakeClient()
        self.results: list[AsyncResult] = []
        self.done: list[AsyncResult] = []
        self.ends: dict[str, Status] = {}

    @rule(target=tasks, items=st.integers(1, 3))
    def submit(self, items: int) -> TaskRecord:
        return self.client.submit_map([items]).records[0]

    @rule(chosen=st.lists(tasks, max_size=4))
    def look_at(self, chosen: list[TaskRecord]) -> None:
        ar = AsyncResult.over(self.client, chosen)
        self.results.append(ar)
        ar.add_done_callback(self.done.append)

    @rule(task=tasks, kind=st.sampled_from(["start", "requeue", "output"]))
    def go_on(self, task: TaskRecord, kind: str) -> None:
        before = task.status
        if kind == "output":
            self.client.output(task.msg_id, "stdout", "x")
        else:
            getattr(self.client, kind)(task.msg_id)
        assert task.status is before or task.status in TRANSITIONS[before]

    @rule(task=tasks, end=st.sampled_from(["finish", "partly", "fail", "lose", "abort"]))
    def end(self, task: TaskRecord, end: str) -> None:
        before = task.status
        late = self.client.ledger.late
        if end == "partly":
            self.client.finish(task.msg_id, [1] * task.items, failures={0: ValueError("x")})
        elif end == "finish":
            self.client.finish(task.msg_id, [1] * task.items)
        elif end == "fail":
            self.client.fail(task.msg_id, ValueError("x"))
        elif end == "lose":
            self.client.lose(task.msg_id)
        else:
            self.client.abort([task.msg_id])
        if before in FINAL:
            assert task.status is before
            assert self.client.ledger.late == late + (end != "abort")
        elif task.status in FINAL:
            self.ends[task.msg_id] = task.status

    @rule()
    def close(self) -> None:
        for msg_id in self.client.ledger.outstanding:
            self.ends[msg_id] = Status.LOST
        self.client.close()

    @invariant()
    def every_task_has_at_most_one_end_and_keeps_it(self) -> None:
        outstanding = self.client.ledger.outstanding
        for record in (record for ar in self.results for record in ar.records):
            ended = record.msg_id in self.ends
            assert ended == (record.status in FINAL) == (record.received is not None)
            assert ended == (record.msg_id not in outstanding)
            if ended:
                assert record.status is self.ends[record.msg_id]

    @invariant()
    def counters_are_what_counting_would_give(self) -> None:
        for ar in self.results:
            records = ar.records
            ended = [record for record in records if record.status in FINAL]
            running = [record for record in records if record.status is Status.RUNNING]
            assert ar.counts() == (
                sum(record.items for record in records),
                sum(record.items for record in ended),
                sum(record.failed_items for record in ended),
                sum(record.items for record in running),
            )
            assert ar.ready() == (len(ended) == len(records))
            if ar.ready():
                assert ar.successful() == all(r.status is Status.DONE for r in records)

    @invariant()
    def a_result_that_is_ready_was_announced_once(self) -> None:
        assert sorted(map(id, self.done)) == sorted(id(ar) for ar in self.results if ar.ready())


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, derandomize=True
)
