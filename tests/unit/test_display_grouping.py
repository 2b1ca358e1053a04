from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipyasyncresult.core.outputs import Output
from ipyasyncresult.core.presenter import GROUPINGS, OutputQuery
from ipyasyncresult.core.task import Status, TaskOutputs
from ipyasyncresult.display.frontend import Outlet
from ipyasyncresult.display.grouping import group, in_time_order
from ipyasyncresult.display.republish import republish


def out(text: str, time: float = 0) -> Output:
    return Output("stdout", time, text)


def err(text: str, time: float = 0) -> Output:
    return Output("stderr", time, text)


def shown(text: str, time: float = 0, display_id: str | None = None) -> Output:
    return Output("display_data", time, data={"text/plain": text}, display_id=display_id)


def update(text: str, display_id: str) -> Output:
    data = {"text/plain": text}
    return Output("update_display_data", 0, data=data, display_id=display_id)


def value(text: str, count: int = 5) -> Output:
    return Output("execute_result", 0, data={"text/plain": text}, execution_count=count)


def task(
    index: int,
    engine: int | None,
    *outputs: Output,
    status: Status = Status.DONE,
    label: str | None = None,
) -> TaskOutputs:
    return TaskOutputs(index, f"id-{index}", engine, label, status, outputs)


def text_of(tasks: Sequence[TaskOutputs], groupby: str = "type", **query: Any) -> str:
    """What a terminal shows, stdout and stderr together."""
    screen = io.StringIO()
    republish(group(tasks, OutputQuery(groupby, **query)), Outlet(screen, screen))
    return screen.getvalue()


TWO_ENGINES = [
    task(0, 1, out("foo\n"), err("bar\n"), shown("plot 1a"), shown("plot 1b"), value("11")),
    task(1, 2, out("foo\n"), shown("plot 2a"), err("bar\n"), value("22")),
]


# ------------------------------------------------------------------------------------ the orders


def test_by_type_shows_all_stdout_then_all_stderr_then_displays_then_results() -> None:
    assert text_of(TWO_ENGINES, "type") == (
        "[stdout:1] foo\n"
        "[stdout:2] foo\n"
        "[stderr:1] bar\n"
        "[stderr:2] bar\n"
        "[output:1] plot 1a\n"
        "[output:1] plot 1b\n"
        "[output:2] plot 2a\n"
        "Out[1:5]: 11\n"
        "Out[2:5]: 22\n"
    )


def test_by_engine_shows_everything_of_one_before_the_next() -> None:
    assert text_of(TWO_ENGINES, "engine") == (
        "[stdout:1] foo\n"
        "[stderr:1] bar\n"
        "[output:1] plot 1a\n"
        "[output:1] plot 1b\n"
        "Out[1:5]: 11\n"
        "[stdout:2] foo\n"
        "[stderr:2] bar\n"
        "[output:2] plot 2a\n"
        "Out[2:5]: 22\n"
    )


def test_by_order_collates_first_displays_and_engines_with_fewer_run_out() -> None:
    three = [
        task(0, 0, shown("0a"), shown("0b"), shown("0c"), out("x\n"), value("v")),
        task(1, 1, shown("1a")),
        task(2, 2, shown("2a"), shown("2b")),
    ]
    assert text_of(three, "order") == (
        "[stdout:0] x\n"
        "[output:0] 0a\n"
        "[output:1] 1a\n"
        "[output:2] 2a\n"
        "[output:0] 0b\n"
        "[output:2] 2b\n"
        "[output:0] 0c\n"
        "Out[0:5]: v\n"
    )


def test_by_order_collates_per_engine_also_when_its_displays_come_from_two_tasks() -> None:
    tasks = [task(0, 0, shown("first")), task(1, 1, shown("other")), task(2, 0, shown("second"))]
    assert text_of(tasks, "order") == ("[output:0] first\n[output:1] other\n[output:0] second\n")


def test_by_time_interleaves_tasks_as_it_happened() -> None:
    tasks = [
        task(0, 0, out("a1\n", 1), out("a2\n", 4), shown("A", 6)),
        task(1, 1, out("b1\n", 2), out("b2\n", 3), err("b3\n", 5)),
    ]
    assert text_of(tasks, "time") == (
        "[stdout:0] a1\n[stdout:1]\nb1\nb2\n[stdout:0] a2\n[stderr:1] b3\n[output:0] A\n"
    )


def test_by_time_keeps_a_line_whole_that_came_in_two_pieces() -> None:
    tasks = [task(0, 0, out("hel", 1), out("lo\n", 3)), task(1, 1, out("mine\n", 2))]
    assert text_of(tasks, "time") == "[stdout:1] mine\n[stdout:0] hello\n"


def test_by_time_never_changes_the_order_within_a_task_when_its_clock_was_set_back() -> None:
    tasks = [task(0, 0, out("first\n", 10), err("second\n", 1)), task(1, 1, out("other\n", 5))]
    assert text_of(tasks, "time") == "[stdout:1] other\n[stdout:0] first\n[stderr:0] second\n"


def test_by_task_has_headings_with_index_label_engine_and_state() -> None:
    tasks = [
        task(0, 1, out("a\n"), shown("A"), out("b\n"), label="fit"),
        task(1, 0),
        task(2, 0, err("oops\n"), status=Status.FAILED),
        task(3, None, out("early\n"), status=Status.RUNNING),
    ]
    assert text_of(tasks, "task") == (
        "task 0 (fit) on engine 1\n"
        "[stdout:1] a\n[output:1] A\n[stdout:1] b\n"
        "task 2 on engine 0: error\n"
        "[stderr:0] oops\n"
        "task 3: running\n"
        "[stdout:-] early\n"
    )


def test_by_task_needs_no_heading_for_a_single_task() -> None:
    assert text_of([task(0, 1, out("a\n"))], "task") == "[stdout:1] a\n"


@pytest.mark.parametrize("groupby", GROUPINGS)
def test_two_tasks_of_one_engine_are_both_shown(groupby: str) -> None:
    tasks = [task(0, 0, out("first\n"), value("1", 1)), task(1, 0, out("second\n"), value("2", 2))]
    said = text_of(tasks, groupby)
    assert all(part in said for part in ("first", "second", "Out[0:1]: 1", "Out[0:2]: 2"))


def test_engines_come_in_the_order_of_their_ids_and_unknown_ones_last() -> None:
    tasks = [task(0, None, out("?\n")), task(1, 10, out("ten\n")), task(2, 9, out("nine\n"))]
    assert text_of(tasks, "engine") == "[stdout:9] nine\n[stdout:10] ten\n[stdout:-] ?\n"


# --------------------------------------------------------------------------------------- the text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("foo", "[stdout:1] foo\n"),
        ("foo\n", "[stdout:1] foo\n"),
        ("foo\nbar\n", "[stdout:1]\nfoo\nbar\n"),
        ("foo\nbar", "[stdout:1]\nfoo\nbar\n"),
        ("foo\n\n", "[stdout:1]\nfoo\n\n"),
        ("\n", "[stdout:1]\n"),
        ("", ""),
        ("\r", ""),
        ("  0%|    |\r 50%|##  |\r100%|####|\n", "[stdout:1] 100%|####|\n"),
        ("a\r\nb\r\n", "[stdout:1]\na\nb\n"),
        ("\x1b[31mred\x1b[0m\n", "[stdout:1] \x1b[31mred\x1b[0m\n"),
    ],
)
def test_the_prefix_stands_before_one_line_and_above_more(text: str, expected: str) -> None:
    assert text_of([task(0, 1, out(text))]) == expected


def test_a_stream_in_pieces_is_one_text() -> None:
    assert text_of([task(0, 1, out("a"), err("!\n"), out("b\n"))]) == (
        "[stdout:1] ab\n[stderr:1] !\n"
    )


def test_a_display_without_text_names_what_it_is() -> None:
    picture = Output("display_data", 0, data={"image/png": "iVBO"})
    assert text_of([task(0, 1, picture)]) == "[output:1] <image/png>\n"


def test_a_result_without_a_number_has_none() -> None:
    result = Output("execute_result", 0, data={"text/plain": "1\n2"})
    assert text_of([task(0, 1, result)]) == "Out[1]:\n1\n2\n"


def test_cleared_output_is_gone_and_updates_are_applied() -> None:
    outputs = (
        out("old\n"),
        Output("clear_output", 0, wait=True),
        shown("at first", display_id="x"),
        update("at last", "x"),
    )
    assert text_of([task(0, 1, *outputs)]) == "[output:1] at last\n"


# ------------------------------------------------------------------------------------ the filters


def test_only_failed_shows_tasks_that_ended_badly() -> None:
    tasks = [
        task(index, index, out(f"{status}\n"), status=status) for index, status in enumerate(Status)
    ]
    assert text_of(tasks, only="failed") == (
        "[stdout:3] error\n[stdout:4] lost\n[stdout:5] aborted\n"
    )


def test_engine_shows_only_these_engines() -> None:
    assert text_of(TWO_ENGINES, "order", engine=frozenset({2})) == (
        "[stdout:2] foo\n[stderr:2] bar\n[output:2] plot 2a\nOut[2:5]: 22\n"
    )


@pytest.mark.parametrize("groupby", GROUPINGS)
def test_grep_keeps_matching_lines_and_displays(groupby: str) -> None:
    tasks = [task(0, 0, out("loss 3\nnoise\nloss 2\n"), shown("noise"), shown("a loss"))]
    assert text_of(tasks, groupby, grep=r"^loss|a l") == (
        "[stdout:0]\nloss 3\nloss 2\n[output:0] a loss\n"
    )


def test_grep_looks_at_lines_as_they_ended() -> None:
    assert text_of([task(0, 0, out("10%\r20%\n"))], grep="10") == ""


@pytest.mark.parametrize("groupby", GROUPINGS)
def test_result_only_shows_nothing_else(groupby: str) -> None:
    assert text_of(TWO_ENGINES[:1], groupby, result_only=True) == "Out[1:5]: 11\n"


# -------------------------------------------------------------------------------------- properties

OUTPUTS = st.lists(
    st.builds(
        Output,
        st.sampled_from(["stdout", "stderr"]),
        st.floats(0, 10),
        st.text("ab\n", max_size=5),
    ),
    max_size=8,
)


@given(st.lists(OUTPUTS, max_size=4))
def test_time_order_keeps_every_output_and_every_sequence_in_order(
    sequences: list[list[Output]],
) -> None:
    ordered = in_time_order(sequences)
    for index, outputs in enumerate(sequences):
        assert [output for i, output in ordered if i == index] == outputs


@given(st.lists(OUTPUTS, max_size=4), st.sampled_from(GROUPINGS))
def test_no_grouping_loses_or_repeats_text(sequences: list[list[Output]], groupby: str) -> None:
    tasks = [task(i, i, *outputs) for i, outputs in enumerate(sequences)]
    blocks = group(tasks, OutputQuery(groupby))
    for i, outputs in enumerate(sequences):
        for kind in ("stdout", "stderr"):
            written = "".join(output.text for output in outputs if output.kind == kind)
            assert written == "".join(
                block.text for block in blocks if block.engine_id == i and block.kind == kind
            )
