"""What the hub remembers, how it is found again, and what it forgets."""

from __future__ import annotations

from typing import Any

import pytest

from ipyasyncresult.hub.archive import Archive
from ipyasyncresult.hub.records import EngineState, HubTask
from ipyasyncresult.hub.state import HubState
from ipyasyncresult.wire.messages import ERROR, OK, Finished, Group, LostTask, OutputPiece, Task

NOW = 1000.0
SMALL = 400  # bytes that the hub counts for the objects of one task


class Hub:
    """A state with an archive of limited size and one engine that does what it is told."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.archive = Archive(limit)
        self.state = HubState(self.archive)
        self.engine = EngineState(0, "uuid", NOW)
        self.state.engine_ready(self.engine)

    def submit(self, *names: str, group: Group | None = None, label: str | None = None) -> None:
        made = [Task(name, 0, b"a" * 100, frames=1, label=label) for name in names]
        frames = [b"f" * 50] * len(names)
        self.state.submit("me", [b"function"], made, frames, group, NOW)

    def finish(self, *names: str, body: bytes = b"", status: int = OK) -> None:
        waiting = set(names)
        while waiting:
            self.state.assign()
            self.state.runs.clear()
            [name] = self.engine.assigned
            self.state.finished(self.engine, Finished(name, status, body, 0, NOW, NOW, 5.0), ())
            waiting.remove(name)


def a_map(group_id: str = "g") -> Group:
    return Group(group_id, "square", "map", "r", ordered=False)


# ------------------------------------------------------------------------------------ what is kept


def test_work_that_may_run_again_is_kept_and_all_other_arguments_are_not() -> None:
    hub = Hub()
    hub.submit("good", "bad")
    hub.finish("good", body=b"b" * 10)
    assert hub.archive.bytes == SMALL + 10
    good = hub.archive.tasks["good"]
    assert (good.function, good.task.arguments, list(good.frames)) == (b"", b"", [])
    hub.finish("bad", status=ERROR, body=b"b" * 10)
    assert hub.archive.bytes == 2 * (SMALL + 10) + 150
    bad = hub.archive.tasks["bad"]
    assert (bad.function, len(bad.task.arguments), len(bad.frames)) == (b"function", 100, 1)


def test_outputs_count_also_those_that_come_after_the_end() -> None:
    hub = Hub()
    hub.submit("a")
    hub.state.assign()
    hub.state.output(hub.engine, OutputPiece("a", b"o" * 30))
    hub.finish("a")
    hub.state.output(hub.engine, OutputPiece("a", b"o" * 20))
    assert hub.archive.bytes == SMALL + 50
    assert hub.archive.forget(["a"]) == 1
    assert hub.archive.bytes == 0


def test_above_the_limit_the_oldest_finished_tasks_go_and_unfinished_ones_stay() -> None:
    hub = Hub(limit=2 * SMALL + 100)
    hub.submit("a", "b", "c", "d")
    hub.finish("a", "b")
    assert list(hub.archive.tasks) == ["a", "b", "c", "d"]
    hub.finish("c")
    assert list(hub.archive.tasks) == ["b", "c", "d"]
    hub.state.news.clear()
    hub.finish("d", body=b"b" * 5000)  # too large to be kept, not too large to be delivered
    assert hub.archive.tasks == {}
    assert hub.archive.bytes == 0
    [(item, _)] = hub.state.news["me"]
    assert (item.msg_id, len(item.body)) == ("d", 5000)


def test_forgetting_on_request_takes_finished_tasks_only() -> None:
    hub = Hub()
    hub.submit("a", "b", "c")
    hub.finish("a", "b")
    assert hub.archive.forget(["b", "c", "unknown"]) == 1
    assert list(hub.archive.tasks) == ["a", "c"]
    assert hub.archive.forget(None) == 1
    assert hub.archive.forget(None) == 0
    assert list(hub.archive.tasks) == ["c"]
    hub.finish("c")
    assert hub.archive.bytes == SMALL


# ------------------------------------------------------------------------------------ what is found


CALL = {
    "msg_ids": ["a", "b"],
    "single": False,
    "kind": "map",
    "fname": "square",
    "partition": "r",
    "ordered": False,
}


@pytest.mark.parametrize("which", ["g", "night", -1, ["a", "b"]])
def test_a_call_is_found_with_its_shape_by_group_label_number_or_ids(which: Any) -> None:
    hub = Hub()
    hub.submit("x")
    hub.submit("a", "b", group=a_map(), label="night")
    assert hub.archive.find(which) == CALL


def test_calls_are_counted_from_the_end() -> None:
    hub = Hub()
    hub.submit("x")
    hub.submit("a", "b", group=a_map())
    hub.submit("y")
    assert hub.archive.find(-1) == {"msg_ids": ["y"], "single": True}
    assert hub.archive.find(-2) == CALL
    assert hub.archive.find(-3) == {"msg_ids": ["x"], "single": True}
    for number in (-4, 0, 1):
        assert hub.archive.find(number) is None


def test_a_task_is_found_alone_by_its_id_and_a_part_of_a_call_as_a_list() -> None:
    hub = Hub()
    hub.submit("a", "b", group=a_map())
    assert hub.archive.find("b") == {"msg_ids": ["b"], "single": True}
    assert hub.archive.find(["b"]) == {"msg_ids": ["b"], "single": False}
    assert hub.archive.find(["b", "a"]) == {"msg_ids": ["b", "a"], "single": False}
    assert hub.archive.find([]) == {"msg_ids": [], "single": False}
    assert hub.archive.find("unknown") is None


def test_a_label_of_several_calls_finds_all_their_tasks() -> None:
    hub = Hub()
    hub.submit("x", label="night")
    assert hub.archive.find("night") == {"msg_ids": ["x"], "single": True}
    hub.submit("a", "b", group=a_map(), label="night")
    assert hub.archive.find("night") == {"msg_ids": ["x", "a", "b"], "single": False}


def test_a_call_that_grows_stays_one_call() -> None:
    hub = Hub()
    hub.submit("a", group=a_map())
    hub.finish("a")
    hub.submit("b", group=a_map())
    assert hub.archive.find("g") == CALL


def test_a_call_is_known_until_its_last_task_is_forgotten() -> None:
    hub = Hub()
    hub.submit("a", "b", group=a_map())
    hub.finish("a", "b")
    for forgotten in ("b", "a"):
        assert hub.archive.find("g") == CALL
        hub.archive.forget([forgotten])
    assert hub.archive.find("g") is None
    assert hub.archive.groups == {}


# ------------------------------------------------------------------------------- what is told of it


def held_task(final: Finished | LostTask | None = None, *, started: float = 0.0) -> HubTask:
    held = HubTask(Task("a", 0, b""), b"f", (), "me", NOW)
    held.final = final
    held.started = started
    return held


@pytest.mark.parametrize(
    ("held", "status"),
    [
        (held_task(), "pending"),
        (held_task(started=NOW), "running"),
        (held_task(Finished("a", OK, b"", 0, 1.0, 2.0, 0.5, 3)), "ok"),
        (held_task(Finished("a", ERROR, b"", 0, 1.0, 2.0, 0.5, 3)), "error"),
        (held_task(LostTask("a", "engine", {}, 3)), "lost"),
        (held_task(LostTask("a", "aborted", {})), "aborted"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_status_is_that_of_the_clients_metadata(held: HubTask, status: str) -> None:
    assert held.status == held.describe()["status"] == status


def test_times_are_told_where_they_are_known() -> None:
    finished = held_task(Finished("a", OK, b"", 0, 1.0, 2.0, 0.5, 3))
    assert finished.times() == {"started": 1.0, "completed": 2.0, "duration": 0.5, "engine_id": 3}
    lost = held_task(LostTask("a", "engine", {}, 3)).times()
    assert lost == {"started": None, "completed": None, "duration": None, "engine_id": 3}
    assert set(held_task().times().values()) == {None}
