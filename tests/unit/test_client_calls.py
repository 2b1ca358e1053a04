"""Rows of tasks, gathered by the call that made them."""

from __future__ import annotations

from typing import Any

from ipyasyncresult.client.calls import gather_calls


def row(msg_id: str, status: str = "ok", **about: Any) -> dict[str, Any]:
    ended = status in ("ok", "error")
    return {
        "msg_id": msg_id,
        "group": None,
        "label": None,
        "submitted": 100.0,
        "completed": 101.5 if ended else None,
        "engine_id": 0 if ended else None,
        "status": status,
        **about,
    }


def test_the_newest_call_comes_first_with_the_numbers_that_get_result_takes() -> None:
    calls = gather_calls([row("a"), row("b", group="g"), row("c", group="g")])
    assert [(call.number, call.call_id, call.msg_ids) for call in calls] == [
        (-1, "g", ["b", "c"]),
        (-2, "a", ["a"]),
    ]


def test_a_call_takes_from_its_first_submission_to_its_last_end() -> None:
    (call,) = gather_calls(
        [row("a", group="g"), row("b", group="g", submitted=100.5, completed=103.0, engine_id=2)]
    )
    assert (call.submitted, call.took, call.engines) == (100.0, 3.0, [0, 2])


def test_a_call_that_goes_on_took_nothing_yet() -> None:
    (call,) = gather_calls([row("a", group="g"), row("b", "running", group="g")])
    assert call.took is None
    assert call.counts == {"ok": 1, "running": 1}


def test_a_call_whose_engine_died_has_no_end_of_its_own() -> None:
    (call,) = gather_calls([row("a", "lost", engine_id=-1)])
    assert (call.took, call.engines, call.failed) == (None, [], 1)


def test_the_first_label_is_the_calls() -> None:
    (call,) = gather_calls([row("a", group="g", label="fit"), row("b", group="g")])
    assert call.label == "fit"
