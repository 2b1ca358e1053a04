"""``%pxresult --list``: rows of the hub as a table."""

from __future__ import annotations

from typing import Any

from ipyasyncresult.magics.listing import list_calls


def row(msg_id: str, status: str = "ok", **about: Any) -> dict[str, Any]:
    ended = status in ("ok", "error")
    return {
        "msg_id": msg_id,
        "group": None,
        "label": None,
        "submitted": 1_767_225_600.0,
        "completed": 1_767_225_601.5 if ended else None,
        "status": status,
        **about,
    }


def test_the_tasks_of_a_call_are_one_line_with_their_states_counted() -> None:
    head, line = list_calls(
        [row("a", group="g", label="x = 1"), row("b", "error", group="g"), row("c", group="g")]
    ).splitlines()
    assert head.split() == ["number", "submitted", "took", "tasks", "status", "label"]
    assert line.split()[0] == "-1"
    assert line.split()[3:] == ["1.5", "s", "3", "2", "ok,", "1", "error", "x", "=", "1"]


def test_a_call_that_still_runs_has_no_duration() -> None:
    _, line = list_calls([row("a", "running")]).splitlines()
    assert line.split()[3:] == ["1", "1", "running"]


def test_the_latest_come_last_with_the_numbers_that_get_result_takes() -> None:
    shown = list_calls([row(str(i), label=f"call{i}") for i in range(30)], most=3).splitlines()[1:]
    assert [(line.split()[0], line.split()[-1]) for line in shown] == [
        ("-3", "call27"),
        ("-2", "call28"),
        ("-1", "call29"),
    ]


def test_a_cluster_without_tasks_says_so() -> None:
    assert list_calls([]) == "the cluster remembers no tasks"
