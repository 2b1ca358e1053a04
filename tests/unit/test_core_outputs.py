"""Output records: as bytes and back, and what a viewer would see of them."""

from __future__ import annotations

import typing

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipyasyncresult.core.failure import Failure, decode_failure, encode_failure
from ipyasyncresult.core.outputs import (
    Output,
    OutputKind,
    apply_carriage_returns,
    decode_outputs,
    encode_outputs,
    execute_result,
    rich_outputs,
    stream_text,
    visible,
)

bounded = settings(max_examples=25, deadline=None, derandomize=True)
text = st.text(max_size=20)
bundle = st.dictionaries(text, st.one_of(text, st.integers(-(2**40), 2**40), st.lists(text)))
outputs = st.builds(
    Output,
    st.sampled_from(typing.get_args(OutputKind)),
    st.floats(0, 1e10),
    text,
    st.none() | bundle,
    st.none() | bundle,
    st.none() | text,
    st.none() | st.integers(0, 2**31),
    st.booleans(),
)


@given(st.lists(outputs, max_size=4))
@bounded
def test_outputs_travel_unchanged(some: list[Output]) -> None:
    assert decode_outputs(encode_outputs(some)) == some


def test_objects_in_a_display_travel_as_their_text() -> None:
    shown = Output("display_data", 0.0, data={"application/json": {"when": range(3)}})
    [arrived] = decode_outputs(encode_outputs([shown]))
    assert arrived.data == {"application/json": {"when": "range(0, 3)"}}


@given(st.binary(max_size=60))
@bounded
def test_bytes_that_are_no_outputs_are_refused(data: bytes) -> None:
    for decode in (decode_outputs, decode_failure):
        try:
            decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass


@given(st.builds(Failure, ename=text, evalue=text, traceback=text, pickled=st.binary()))
@bounded
def test_failures_travel_unchanged(failure: Failure) -> None:
    assert decode_failure(encode_failure(failure)) == failure


def show(content: str, display_id: str | None = None) -> Output:
    return Output("display_data", 0.0, data={"text/plain": content}, display_id=display_id)


def update(content: str, display_id: str) -> Output:
    return Output("update_display_data", 0.0, data={"text/plain": content}, display_id=display_id)


def seen(some: list[Output]) -> list[str]:
    return [output.text or (output.data or {})["text/plain"] for output in visible(some)]


def clear(*, wait: bool = False) -> Output:
    return Output("clear_output", 0.0, wait=wait)


def printed(content: str) -> Output:
    return Output("stdout", 0.0, content)


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ([printed("a"), clear(), show("b")], ["b"]),
        ([printed("a"), clear(wait=True)], ["a"]),
        ([printed("a"), clear(wait=True), printed("b"), printed("c")], ["b", "c"]),
        ([printed("a"), clear(wait=True), clear()], []),
        ([show("a", "x"), show("b"), update("c", "x")], ["c", "b"]),
        ([show("a", "x"), show("b", "x"), update("c", "x")], ["c", "c"]),
        ([update("c", "x"), update("d", "y")], ["c", "d"]),
        ([update("c", "x"), update("d", "x")], ["d"]),
    ],
)
def test_a_viewer_sees_what_was_not_cleared_and_the_last_update(
    written: list[Output], left: list[str]
) -> None:
    assert seen(written) == left


def test_streams_are_joined_by_kind_and_keep_what_was_cleared() -> None:
    some = [printed("a"), Output("stderr", 0.0, "!"), clear(), printed("b")]
    assert stream_text(some, "stdout") == "ab"
    assert stream_text(some, "stderr") == "!"


def test_displays_and_the_last_result_of_a_cell_are_dicts() -> None:
    some = [
        show("figure"),
        Output("execute_result", 0.0, data={"text/plain": "1"}, execution_count=1),
        Output("execute_result", 0.0, execution_count=2),
    ]
    assert rich_outputs(some) == [{"data": {"text/plain": "figure"}, "metadata": {}}]
    assert execute_result(some) == {"execution_count": 2, "data": {}, "metadata": {}}
    assert execute_result([]) is None


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("plain\ntext\n", "plain\ntext\n"),
        ("10 %\r50 %\r100 %\n", "100 %\n"),
        ("long line\rlo", "long line"),
        ("dos\r\nline", "dos\nline"),
        ("a\rb\nc\rd", "b\nd"),
        ("\r", ""),
    ],
)
def test_carriage_returns_do_what_a_terminal_does(written: str, shown: str) -> None:
    assert apply_carriage_returns(written) == shown
