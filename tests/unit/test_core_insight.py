"""Metadata, timing and outputs of results."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from ipyasyncresult import AsyncResult, TimeoutError
from ipyasyncresult.core import presenter as door
from ipyasyncresult.core.metadata import METADATA_KEYS, value_of
from ipyasyncresult.core.presenter import OutputQuery, check_query, install_presenter, presenter
from ipyasyncresult.core.task import Status, TaskOutputs
from ipyasyncresult.core.timing import format_seconds, serial_time, timedelta, wall_time
from ipyasyncresult.testing import FakeClient


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


# --------------------------------------------------------------------------------------- metadata


def played(client: FakeClient) -> AsyncResult:
    """A single task that went through everything a task can go through, a second at a time."""
    ar = client.submit("f", targets=1, label="night run")
    msg_id = ar.msg_ids[0]
    client.clock.advance(1)
    client.start(msg_id)
    client.output(msg_id, "stdout", "one ")
    client.output(msg_id, "stderr", "warning\n")
    client.output(msg_id, "display_data", {"text/plain": "<Figure>"}, metadata={"width": 3})
    client.output(msg_id, "stdout", "two\n")
    client.output(msg_id, "execute_result", {"text/plain": "4"}, execution_count=7)
    client.clock.advance(1)
    client.finish(msg_id, 4, duration=0.75)
    return ar


def test_metadata_has_all_keys_with_the_types_they_are_known_for(client: FakeClient) -> None:
    metadata: Any = played(client).metadata
    assert tuple(metadata) == METADATA_KEYS
    submitted = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    second = dt.timedelta(seconds=1)
    assert metadata == {
        "msg_id": metadata.msg_id,
        "submitted": submitted,
        "started": submitted + second,
        "completed": submitted + 2 * second,
        "received": submitted + 2 * second,
        "engine_id": 1,
        "engine_uuid": metadata["engine_uuid"],
        "status": "ok",
        "stdout": "one two\n",
        "stderr": "warning\n",
        "outputs": [{"data": {"text/plain": "<Figure>"}, "metadata": {"width": 3}}],
        "execute_input": None,
        "execute_result": {"execution_count": 7, "data": {"text/plain": "4"}, "metadata": {}},
        "error": None,
        "follow": [],
        "after": [],
        "label": "night run",
        "data": {},
    }
    assert isinstance(metadata.engine_uuid, str)
    for key in ("submitted", "started", "completed", "received"):
        assert metadata[key].tzinfo is not None


def test_metadata_of_a_pending_task_is_there_too(client: FakeClient) -> None:
    metadata: Any = client.submit("f").metadata
    assert metadata.status == "pending"
    assert metadata.submitted is not None
    for key in ("started", "completed", "received", "engine_id", "engine_uuid", "error"):
        assert metadata[key] is None
    assert (metadata.stdout, metadata.outputs, metadata.execute_result) == ("", [], None)


def test_metadata_is_one_or_a_list_as_the_result(client: FakeClient) -> None:
    several = client.submit("f", targets=[0, 1])
    assert [entry["engine_id"] for entry in several.metadata] == [0, 1]
    assert several.engine_id == several["engine_id"] == [0, 1]
    single = client.submit("f", targets=1)
    assert single.engine_id == single["engine_id"] == single.metadata["engine_id"] == 1


def test_metadata_is_a_snapshot_with_attributes(client: FakeClient) -> None:
    ar = client.submit("f")
    before: Any = ar.metadata
    client.start(ar.msg_ids[0])
    assert (before.status, ar.status) == ("pending", "running")
    assert {"stdout", "keys"} <= set(dir(before))
    with pytest.raises(AttributeError, match="nothing"):
        _ = before.nothing


def test_the_error_of_a_failed_task_is_in_its_metadata_before_anybody_called_get(
    client: FakeClient,
) -> None:
    ar = client.submit("f", 2)
    client.fail(ar.msg_ids[1], KeyError("k"))
    for errors in (
        ar.error,
        ar["error"],
        [entry["error"] for entry in ar.metadata],
        [row["error"] for row in ar.to_records()],
    ):
        assert errors[0] is None
        assert isinstance(errors[1], KeyError)


def test_every_key_is_an_attribute_and_an_index(client: FakeClient) -> None:
    ar = played(client)
    for key in METADATA_KEYS:
        assert ar[key] == ar.metadata[key]
        if key != "follow":  # the subscription has that name, too
            assert getattr(ar, key) == ar[key]
    assert set(METADATA_KEYS) < set(dir(ar))
    with pytest.raises(KeyError, match="'engine' is not one of msg_id, submitted"):
        ar["engine"]
    with pytest.raises(KeyError):
        value_of(ar.records[0], "engine")


@pytest.mark.parametrize(
    "name",
    ["_repr_png_", "_repr_mimebundle_", "_ipython_key_", "__array__", "_outputs", "engine"],
)
def test_other_attributes_are_refused_at_once(client: FakeClient, name: str) -> None:
    ar = client.submit("f", 3)
    ar.records = []  # nothing to look through
    with pytest.raises(AttributeError, match=f"'AsyncResult' object has no attribute '{name}'"):
        getattr(ar, name)


def test_attributes_never_wait(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    ar = client.submit("f", 2)

    class NobodyWaits:
        def wait(self, *_: object) -> bool:
            raise AssertionError("waited")

        notify = wait

    monkeypatch.setattr(client.ledger, "waits", NobodyWaits())
    assert ar.stdout == ["", ""]
    assert ar["completed"] == [None, None]
    assert ar.metadata
    assert dir(ar)
    assert ar.progress == 0
    assert "pending" in str(ar.to_records())


def test_records_are_flat_and_have_durations(client: FakeClient) -> None:
    amr = client.submit_map([3, 2])
    client.finish(amr.msg_ids[1], [1, 2], duration=0.5)
    rows = amr.to_records()
    assert [row["index"] for row in rows] == [0, 1]
    assert [row["items"] for row in rows] == [3, 2]
    assert [row["duration"] for row in rows] == [None, 0.5]
    assert [row["status"] for row in rows] == ["pending", "ok"]


def test_tasks_are_frozen_looks_in_order(client: FakeClient) -> None:
    ar = client.submit("f", targets=[1, 0], label="l")
    client.output(ar.msg_ids[1], "stdout", "x")
    before = ar.tasks()
    client.output(ar.msg_ids[1], "stdout", "y")
    client.lose(ar.msg_ids[0])
    assert [(task.index, task.engine_id, task.label, task.status) for task in before] == [
        (0, 1, "l", Status.PENDING),
        (1, 0, "l", Status.PENDING),
    ]
    assert [len(task.outputs) for task in before] == [0, 1]
    assert [task.status for task in ar.tasks()] == [Status.LOST, Status.PENDING]


# ----------------------------------------------------------------------------------------- timing


def test_elapsed_runs_from_the_first_submission_and_stands_still_at_the_end(
    client: FakeClient,
) -> None:
    early = client.submit("f")
    client.clock.advance(2)
    late = client.submit("f")
    both = AsyncResult.join(late, early)
    client.clock.advance(1)
    assert (both.elapsed, late.elapsed) == (3, 1)
    assert both.wall_time is None
    for ar in (early, late):
        client.finish(ar.msg_ids[0])
    client.clock.advance(100)
    assert both.elapsed == both.wall_time == 3
    assert client.submit("f", 0).elapsed == client.submit("f", 0).wall_time == 0


def test_serial_time_is_the_sum_of_the_engines_own_durations(client: FakeClient) -> None:
    ar = client.submit("f", 3)
    assert ar.serial_time == 0.0
    assert isinstance(ar.serial_time, float)
    for msg_id, seconds in zip(ar.msg_ids, (1.5, 2.0, 0.25), strict=True):
        client.finish(msg_id, duration=seconds)
    assert ar.serial_time == 3.75


def test_timing_is_safe_where_nothing_is_known(client: FakeClient) -> None:
    ar = client.submit("f", 2)
    ar.abort()
    assert (serial_time(ar.records), wall_time(ar.records)) == (0.0, 0.0)
    ar.records[0].submitted = ar.records[1].submitted = None
    assert wall_time(ar.records) is None
    assert ar.elapsed == 0.0
    assert "2 failed" in ar.summary()


def test_timedelta_takes_the_earliest_of_the_first_and_the_latest_of_the_second(
    client: FakeClient,
) -> None:
    ar = client.submit("f", 2)
    client.clock.advance(1)
    client.finish(ar.msg_ids[0])
    client.clock.advance(2)
    client.finish(ar.msg_ids[1])
    assert ar.timedelta(ar.submitted, ar.received) == 3.0
    assert ar.timedelta(ar.submitted, ar.received, end_key=min) == 1.0
    assert ar.timedelta(ar.received, ar.received, max, min) == -2.0
    single = ar.split()[0]
    assert ar.timedelta(single.submitted, single.received) == 1.0


def test_timedelta_leaves_out_what_is_not_known_and_says_when_nothing_is(
    client: FakeClient,
) -> None:
    now = dt.datetime.now(dt.UTC)
    assert timedelta([None, now], [now, None]) == 0.0
    ar = client.submit("f", 2)
    nothing: tuple[Any, ...] = (ar.started, None, [])
    for stamps in nothing:
        with pytest.raises(ValueError, match="end has no time stamp yet"):
            ar.timedelta(ar.submitted, stamps)
    with pytest.raises(ValueError, match="start has no time stamp yet"):
        ar.timedelta(ar.started, ar.submitted)


def test_a_summary_is_one_honest_line(client: FakeClient) -> None:
    ar = client.submit("f", 3, label="size 7")
    client.clock.advance(4)
    for number, msg_id in enumerate(ar.msg_ids):
        client.finish(msg_id, engine=number % 2, duration=1.0 + number)
    assert ar.summary() == (
        "3 tasks, 4 s wall, 6 s compute, 1.5x on 2 engines, 75 % busy, "
        "slowest: task 2 (size 7) (3 s)"
    )


def test_a_summary_before_the_end_and_after_failures_says_so(client: FakeClient) -> None:
    ar = client.submit("f", 3)
    client.clock.advance(2)
    client.fail(ar.msg_ids[1], KeyError("k"), duration=1)
    assert ar.summary() == (
        "3 tasks (2 not finished), 2 s wall, 1 s compute, 0.5x on 1 engine, 50 % busy, 1 failed, "
        "slowest: task 1 (1 s)"
    )
    assert client.submit("f").summary() == "1 task (1 not finished), 0 ms wall, 0 ms compute"
    assert client.submit("f", 0).summary() == "nothing to do"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.00012, "0.12 ms"),
        (0.0831, "83.1 ms"),
        (0.25, "0.25 s"),
        (4.1, "4.1 s"),
        (99.9, "99.9 s"),
        (119.7, "2 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_seconds_are_shown_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_failures_are_listed_in_one_line_each_up_to_a_limit(client: FakeClient) -> None:
    ar = client.submit("f", 4)
    client.finish(ar.msg_ids[0])
    for msg_id in ar.msg_ids[1:]:
        client.fail(msg_id, ValueError("first line\nsecond line"))
    assert ar.failures(limit=2) == [(1, "ValueError: first line"), (2, "ValueError: first line")]
    assert len(ar.failures()) == 3


# ------------------------------------------------------------------------------ outputs, presenter


class Screen:
    """A presenter that notes what it is asked for."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.in_time = True

    def display_outputs(self, tasks: Sequence[TaskOutputs], query: OutputQuery) -> None:
        self.log.append(("outputs", [task.index for task in tasks], query))

    def stream_output(self, result: AsyncResult) -> AbstractContextManager[None]:
        self.log.append(("stream", result))
        return nullcontext()

    def wait_interactive(self, result: AsyncResult, interval: float, timeout: float | None) -> bool:
        self.log.append(("wait", result, interval, timeout))
        return self.in_time

    def show(self, result: AsyncResult) -> bool:
        self.log.append(("show", result))
        return result.fname != "text"

    def show_live(self, result: AsyncResult) -> AbstractContextManager[None]:
        self.log.append(("live", result))
        return nullcontext()

    def timeline(self, result: AsyncResult) -> str:
        return f"picture of {result.fname}"

    def html(self, result: AsyncResult) -> str:
        return f"<b>{result.fname}</b>"


@pytest.fixture
def made() -> Iterator[list[Screen]]:
    """The screens that were made; the package's own presenter is back afterwards."""
    screens: list[Screen] = []

    def make() -> Screen:
        screens.append(Screen())
        return screens[-1]

    before = door._make
    install_presenter(make)
    yield screens
    install_presenter(before)


def test_a_result_shows_itself_through_the_installed_presenter(
    client: FakeClient, made: list[Screen]
) -> None:
    ar = client.submit("f", 2)
    assert made == []  # made at first use
    ar.display_outputs("engine", only="failed", engine=1, grep="x+", timeout=0)
    ar.wait_interactive(0.5, timeout=3)
    ar.wait_interactive()
    with ar.stream_output():
        pass
    assert ar.timeline() == "picture of f"
    assert ar._repr_html_() == "<b>f</b>"
    ar._ipython_display_()
    with ar.show_live():
        pass
    [screen] = made
    assert presenter() is screen
    assert screen.log == [
        ("outputs", [0, 1], OutputQuery("engine", "failed", frozenset({1}), "x+")),
        ("wait", ar, 0.5, 3.0),
        ("wait", ar, 1.0, None),
        ("stream", ar),
        ("show", ar),
        ("live", ar),
    ]
    with pytest.raises(NotImplementedError):  # IPython shows the text then
        client.submit("text")._ipython_display_()


def test_an_interactive_wait_that_runs_out_of_time_raises(
    client: FakeClient, made: list[Screen]
) -> None:
    ar = client.submit("f", 2)
    client.finish(ar.msg_ids[0])
    presenter()
    made[0].in_time = False
    with pytest.raises(TimeoutError, match=r"1 of 2 done after .*; the rest goes on"):
        ar.wait_interactive(timeout=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groupby": "kind"}, r"groupby must be one of 'type', 'engine', 'order', .*, not 'kind'"),
        ({"groupby": None}, r"groupby must be one of .*, not None"),
        ({"only": "ok"}, r"only must be 'failed' or None, not 'ok'"),
        ({"engine": "1"}, r"engine must be an engine id or a collection of them, not '1'"),
        ({"engine": [0, True]}, r"engine must be .*, not \[0, True\]"),
        ({"engine": 1.5}, r"engine must be .*, not 1.5"),
        ({"grep": "("}, r"grep must be a regular expression, not '\('"),
        ({"grep": 3}, r"grep must be a regular expression, not 3"),
    ],
)
def test_wrong_arguments_of_display_outputs_are_refused_at_once_by_name(
    client: FakeClient, arguments: dict[str, Any], message: str
) -> None:
    pending = client.submit("f")  # waiting for it would last for ever
    with pytest.raises((ValueError, TypeError), match=message):
        pending.display_outputs(**arguments)


def test_engines_are_one_or_several() -> None:
    assert check_query("type", None, 2, None).engine == frozenset({2})
    assert check_query("type", None, {0, 2}, None).engine == frozenset({0, 2})
    assert check_query("type", None, (), None).engine == frozenset()


def test_without_a_presenter_outputs_are_plain_text(
    client: FakeClient, capsys: pytest.CaptureFixture[str], made: list[Screen]
) -> None:
    install_presenter(door.PlainPresenter)
    ar = client.submit("f", targets=[0, 1], label=None)
    client.output(ar.msg_ids[0], "stdout", "foo\n")
    client.output(ar.msg_ids[1], "stderr", "no newline")
    for msg_id in ar.msg_ids:
        client.finish(msg_id)
    ar.display_outputs()
    assert capsys.readouterr().out == "[stdout:0] foo\n[stderr:1] no newline\n"
    ar.wait_interactive()
    with ar.stream_output():
        assert ar.timeline() is None
    assert ar._repr_html_() is None


def test_without_a_presenter_an_interactive_wait_prints_how_far_it_is(
    client: FakeClient, capsys: pytest.CaptureFixture[str], made: list[Screen]
) -> None:
    install_presenter(door.PlainPresenter)
    ar = client.submit("f", 2)
    client.finish(ar.msg_ids[0])
    with pytest.raises(TimeoutError):
        ar.wait_interactive(0.002, timeout=0.01)
    assert "1/2 f\n" in capsys.readouterr().out


# ------------------------------------------------------------------------------ for people to read


class Printer:
    """IPython's, as far as it is used."""

    def __init__(self) -> None:
        self.said = ""

    def text(self, text: str) -> None:
        self.said += text


def test_metadata_shows_what_is_known_and_nothing_else(client: FakeClient) -> None:
    ar = client.submit("f", label="fit")
    client.start(ar.msg_ids[0], 1)
    printer = Printer()
    ar.metadata._repr_pretty_(printer, False)
    lines = dict(line.split(None, 1) for line in printer.said.splitlines())
    assert lines["label"] == "fit"
    assert lines["engine_id"] == "1"
    assert "completed" not in lines
    assert "fit" in ar.metadata._repr_html_()


def test_the_metadata_of_many_tasks_is_a_table(client: FakeClient) -> None:
    ar = client.submit("f", 25)
    client.finish(ar.msg_ids[0], engine=1)
    printer = Printer()
    ar.metadata._repr_pretty_(printer, False)
    lines = printer.said.splitlines()
    assert lines[0].split()[:3] == ["label", "status", "engine_id"]
    assert lines[1].split()[:3] == ["0", "ok", "1"]
    assert lines[-1] == "5 more"
    assert "5 more" in ar.metadata._repr_html_()


def test_a_result_is_a_table_of_pandas(client: FakeClient) -> None:
    ar = client.submit("f", 3)
    client.finish(ar.msg_ids[1], engine=1, duration=2.0)
    frame = ar.to_dataframe()
    assert list(frame["status"]) == ["pending", "ok", "pending"]
    assert frame.loc[1, "duration"] == 2.0
    assert client.submit("f", 0).to_dataframe().empty


def test_without_pandas_the_extra_is_named(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'ipyasyncresult\[pandas\]'"):
        client.submit("f", 1).to_dataframe()
