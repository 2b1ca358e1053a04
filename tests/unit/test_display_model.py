"""The live view without a screen: what happens to tasks in, a small dict out."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from ipyasyncresult.core.capabilities import Capabilities
from ipyasyncresult.core.outputs import Output
from ipyasyncresult.core.task import TaskRecord
from ipyasyncresult.display.lanes import BINS, Lanes, Tail, plain_text
from ipyasyncresult.display.model import LaneLook, LiveModel, Look, state_of
from ipyasyncresult.display.reach import Reach
from ipyasyncresult.display.shown import ShownResult
from ipyasyncresult.testing import FakeClient


class Engines(FakeClient):
    """A client that knows its engines."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.known: dict[int, dict[str, Any]] = {
            engine: {"up": True, "uuid": f"first {engine}"} for engine in range(count)
        }
        self.engines = self.known  # type: ignore[assignment]

    def engine_count(self) -> int:
        return len(self.known)


def lane(look: Look, engine_id: int) -> LaneLook:
    return next(lane for lane in look.lanes if lane.engine_id == engine_id)


# ------------------------------------------------------------------------------------------ lanes


def test_every_known_engine_has_a_lane_that_says_what_it_runs_and_how_long() -> None:
    client = Engines(3)
    result = client.submit_map([1] * 9, describe_item=lambda item: f"'run-{item}.csv'")
    model = LiveModel(result)
    client.start(result.msg_ids[4], 1)
    client.clock.advance(2.5)
    look = model.look()
    assert [lane.engine_id for lane in look.lanes] == [0, 1, 2]
    assert [(one.state, one.what, one.seconds) for one in look.lanes] == [
        ("idle", "", None),
        ("busy", "item 4: 'run-4.csv'", pytest.approx(2.5)),
        ("idle", "", None),
    ]
    client.finish(result.msg_ids[4], 1)
    client.clock.advance(5)
    look = model.look()
    assert (lane(look, 1).state, lane(look, 1).what, lane(look, 1).done) == ("idle", "", 1)


def test_dead_stopped_and_replaced_engines_are_told_apart() -> None:
    client = Engines(4)
    model = LiveModel(client.submit("f", 2))
    model.look()
    client.known[1] = {"up": False, "uuid": "first 1"}
    client.known[2]["stopped"] = True
    del client.known[3]
    states = [one.state for one in model.look().lanes]
    assert states == ["idle", "starting", "stopped", "gone"]
    client.known[1] = {"up": True, "uuid": "second 1"}
    look = model.look()
    assert (lane(look, 1).state, lane(look, 1).replaced) == ("idle", 1)


def test_a_task_that_is_given_back_runs_nowhere() -> None:
    client = FakeClient()
    result = client.submit("f", 1)
    model = LiveModel(result)
    client.start(result.msg_ids[0], 1)
    assert lane(model.look(), 1).what == "task 0"
    client.requeue(result.msg_ids[0])
    assert lane(model.look(), 1).what == ""
    client.start(result.msg_ids[0], 0)
    assert [(one.engine_id, one.what) for one in model.look().lanes] == [(0, "task 0"), (1, "")]


def test_a_strip_shows_when_an_engine_was_busy_and_where_it_failed() -> None:
    client = FakeClient()
    result = client.submit("f", 3)
    model = LiveModel(result)
    model.look()
    client.clock.advance(0.4)
    client.finish(result.msg_ids[0], engine=0, duration=0.2)  # from 0.2 s to 0.4 s
    client.clock.advance(0.4)
    client.fail(result.msg_ids[1], ValueError(), engine=0, duration=0.1)  # from 0.7 s to 0.8 s
    client.clock.advance(0.19)
    strip = lane(model.look(), 0).strip
    assert strip[:2] == "00"
    assert set(strip[2:4]) == {"8"}
    assert strip[4:7] == "000"
    assert any(code in "abcdefghi" for code in strip[7:9])


def test_a_strip_never_gets_longer_and_forgets_nothing() -> None:
    client = FakeClient()
    result = client.submit("f", 200)
    model = LiveModel(result)
    for number, msg_id in enumerate(result.msg_ids):
        client.clock.advance(1.0)
        if number == 3:
            client.fail(msg_id, ValueError(), engine=0, duration=0.9)
        else:
            client.finish(msg_id, engine=0, duration=0.9)
        assert len(lane(model.look(), 0).strip) <= BINS
    look = model.look()
    strip = lane(look, 0).strip
    assert look.bin_seconds == pytest.approx(0.1 * 2**6)
    assert sum(code in "abcdefghi" for code in strip) == 1
    assert set(strip) <= {"7", "8", "h", "i", *"123456"}


def test_all_tasks_of_a_flood_are_counted_and_a_sample_is_looked_at() -> None:
    client = FakeClient(4)
    result = client.submit("f", 20_000)
    model = LiveModel(result)
    client.clock.advance(10)
    for number, msg_id in enumerate(result.msg_ids):
        client.finish(msg_id, engine=number % 4, duration=0.002)
    look = model.look()
    assert look.progress.done == 20_000
    for one in look.lanes:
        assert one.done == pytest.approx(5000, rel=0.2)


# ----------------------------------------------------------------------------------------- output


def tail(*texts: str, kind: Any = "stdout") -> list[str]:
    kept = Tail()
    for text in texts:
        kept.write([Output(kind, 0.0, text)])
    return [line for _, line in kept.lines(6)]


def test_the_last_lines_are_kept_as_a_terminal_would_show_them() -> None:
    assert tail("a\nb", "c\n", "d") == ["a", "bc", "d"]
    assert tail("".join(f"{n}\n" for n in range(100))) == [str(n) for n in range(94, 100)]
    assert tail("10%\r", "50%\r", "100%") == ["100%"]
    assert tail("10%\r50%\r100%\ndone") == ["100%", "done"]
    assert tail("\x1b[31mred\x1b[0m plain\x00\n") == ["red plain\N{REPLACEMENT CHARACTER}"]
    assert len(tail("x" * 100_000)[0]) == 200


def test_displays_are_named_in_the_tail() -> None:
    kept = Tail()
    figure = {"text/plain": "<Figure size 640x480>", "image/png": "iVBO"}
    kept.write([Output("display_data", 0.0, data=figure)])
    kept.write([Output("display_data", 0.0, data={"image/png": "iVBO"})])
    assert kept.lines(6) == [("display", "<Figure size 640x480>"), ("display", "<image/png>")]


def test_an_endless_bar_in_a_task_takes_no_memory() -> None:
    kept = Tail()
    for percent in range(10_000):
        kept.write([Output("stderr", 0.0, f"\r{percent}% " + "#" * 50)])
    assert kept.lines(6)[0][1].startswith("9999% ")
    assert len(kept._open["stderr"]) < 200


def test_output_of_running_and_of_short_tasks_comes_once() -> None:
    client = FakeClient()
    result = client.submit("f", 2)
    long, short = result.msg_ids
    model = LiveModel(result)
    client.start(long, 0)
    client.output(long, "stdout", "one\n")
    model.look()
    client.output(long, "stderr", "two\n")
    client.finish(long)
    client.output(short, "stdout", "unseen, as nobody knows where")
    client.finish(short, engine=0)
    model.look()
    lines = lane(model.look(), 0).lines
    assert lines[:2] == [("stdout", "one"), ("stderr", "two")]
    assert len(lines) == 3


def test_one_line_of_plain_text() -> None:
    assert plain_text("a\x1b]0;title\x07b\x1b[1;31mc") == "abc"
    assert plain_text("x" * 50, 10) == "xxxxxxxxx…"
    assert "\ud800" not in plain_text("\ud800")


# -------------------------------------------------------------------------- failures and buttons


def test_failures_are_grouped_as_they_come_with_the_first_of_each() -> None:
    client = FakeClient()
    result = client.submit_map([2] * 20)
    model = LiveModel(result)
    for msg_id in result.msg_ids[:10]:
        client.finish(msg_id, [1, 2], failures={1: ZeroDivisionError("division by zero")})
    client.fail(result.msg_ids[12], ValueError("two\nlines"), engine=1, inputs="f(24)")
    groups = model.look().failures
    assert [(group.count, group.title, group.place) for group in groups] == [
        (10, "ZeroDivisionError: division by zero", "item 1"),
        (1, "ValueError: two", "item 24"),
    ]
    assert groups[1].inputs == "f(24)"
    assert groups[1].traceback.endswith("ValueError: two\nlines")


def test_what_was_taken_back_is_shown_apart() -> None:
    client = FakeClient()
    result = client.submit("f", 4)
    model = LiveModel(result)
    client.start(result.msg_ids[0])
    result.abort()
    look = model.look()
    assert (look.failed, look.aborted, look.failures) == (0, 3, [])


def test_a_button_that_cannot_do_anything_says_why() -> None:
    client = FakeClient()
    result = client.submit("f", 2)
    model = LiveModel(result)
    assert model.look().cannot == {"retry": "nothing has failed"}
    client.capabilities = Capabilities(
        "a pool", abort_queued=False, interrupt_running=False, retry=False
    )
    assert model.look().cannot == {
        "stop": "a pool cannot take queued tasks back",
        "interrupt": "a pool cannot interrupt running tasks",
        "retry": "a pool cannot run failed tasks again",
    }


def test_failed_tasks_run_again_in_the_same_view() -> None:
    client = FakeClient()
    result = client.submit_map([1] * 4)
    model = LiveModel(result)
    client.fail(result.msg_ids[1], ValueError("x"))
    assert model.look().failed == 1
    result.retry_failed(in_place=True)
    model.retried()
    look = model.look()
    assert (look.failed, look.failures, look.progress.done, look.progress.total) == (0, [], 0, 4)
    client.start(result.msg_ids[1], 1)
    assert lane(model.look(), 1).what == "item 1"
    for msg_id in result.msg_ids:
        client.finish(msg_id, ["value"])
    assert model.look().progress.done == 4
    assert result.get() == ["value"] * 4


# ------------------------------------------------------------------------------------------- size


@pytest.mark.parametrize(("engines", "tasks", "limit"), [(4, 100, 12_000), (128, 3000, 28_000)])
def test_the_state_stays_some_kilobytes(engines: int, tasks: int, limit: int) -> None:
    client = Engines(engines)
    result = client.submit("work", tasks, label="x" * 1000)
    model = LiveModel(result)
    for number, msg_id in enumerate(result.msg_ids):
        engine = number % engines
        if number >= tasks - engines:
            client.start(msg_id, engine)
        client.output(msg_id, "stdout", f"{number} " + "long line " * 100 + "\n")
        if number < tasks - engines:
            error = ValueError(f"{number % 50}" + "x" * 5000)
            client.fail(msg_id, error, engine=engine, inputs="y" * 5000)
        client.clock.advance(0.01)
    state = state_of(model.look())
    assert len(json.dumps(state)) < limit
    assert len(state["lanes"]) == engines


def test_lanes_are_in_the_order_of_their_numbers() -> None:
    lanes = Lanes(0.0)
    lanes.engines({3: {}, 1: {}, 2: {}}, 0.0)
    assert [one.engine_id for one in lanes] == [1, 2, 3]


def test_a_model_that_is_closed_follows_no_more() -> None:
    client = FakeClient()
    result = client.submit("f", 2)
    model = LiveModel(result)
    model.close()
    client.start(result.msg_ids[0])
    assert model.look().lanes == []


# --------------------------------------------------------------------- the way round the kernel


class Ids:
    """A result of which only the ids are known."""

    def __init__(self, cluster_id: str | None, *msg_ids: str) -> None:
        self.cluster_id = cluster_id
        self.records = [TaskRecord(msg_id, 0.0) for msg_id in msg_ids]


def reach(*msg_ids: str, cluster_id: str | None = "grid") -> dict[str, Any] | None:
    return Reach(cast("ShownResult", Ids(cluster_id, *msg_ids))).look()


def test_ids_that_follow_each_other_are_a_range() -> None:
    ids = [f"c0ffee-{number}" for number in range(100_000)]
    assert reach(*ids, "c0ffee-7", "ab-cd-0", "ab-cd-1") == {
        "cluster": "grid",
        "tasks": [["c0ffee", 0, 99_999], ["c0ffee", 7, 7], ["ab-cd", 0, 1]],
    }


def test_ids_of_other_kinds_are_not_passed_on() -> None:
    assert reach("a-1", "<b>") == {"cluster": "grid", "tasks": []}
    assert reach("a-\N{SUPERSCRIPT TWO}") == {"cluster": "grid", "tasks": []}
    assert reach(*(f"a-{2 * number}" for number in range(100))) == {"cluster": "grid", "tasks": []}
    assert reach("a-1", cluster_id=None) is None


def test_tasks_that_come_later_are_reached_and_those_that_were_replaced_are_not() -> None:
    work = Ids("grid", "a-0")
    follows = Reach(cast("ShownResult", work))
    assert follows.look() == {"cluster": "grid", "tasks": [["a", 0, 0]]}
    work.records += [TaskRecord("a-1", 0.0), TaskRecord("a-2", 0.0)]
    assert follows.look() == {"cluster": "grid", "tasks": [["a", 0, 2]]}
    work.records[1] = TaskRecord("a-9", 0.0)
    follows.again()
    assert follows.look() == {"cluster": "grid", "tasks": [["a", 0, 0], ["a", 9, 9], ["a", 2, 2]]}
