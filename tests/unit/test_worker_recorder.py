"""What a task wrote: ordered, bounded, taken while it runs."""

from __future__ import annotations

import pytest

from ipyasyncresult.core.outputs import decode_outputs, encode_outputs, stream_text
from ipyasyncresult.worker import recorder as module
from ipyasyncresult.worker.recorder import LogRecorder, Recorder


def kinds_and_texts(recorder: Recorder) -> list[tuple[str, str]]:
    return [(output.kind, output.text) for output in recorder.take()]


def test_neighbouring_text_of_a_stream_is_one_output() -> None:
    recorder = Recorder()
    for text in ("a", "\n", "b"):
        recorder.write("stdout", text)
    recorder.write("stderr", "e")
    recorder.write("stdout", "c")
    assert kinds_and_texts(recorder) == [("stdout", "a\nb"), ("stderr", "e"), ("stdout", "c")]


def test_take_gives_each_output_once() -> None:
    recorder = Recorder()
    assert recorder.take() == []
    recorder.write("stdout", "a")
    assert kinds_and_texts(recorder) == [("stdout", "a")]
    recorder.write("stdout", "b")
    assert kinds_and_texts(recorder) == [("stdout", "b")]
    recorder.write("stdout", "")
    assert recorder.take() == []


def test_text_and_displays_keep_their_order() -> None:
    recorder = Recorder()
    recorder.write("stdout", "before")
    recorder.display("display_data", {"text/plain": "x"}, display_id="d")
    recorder.write("stdout", "after")
    recorder.clear(wait=True)
    assert [o.kind for o in recorder.take()] == [
        "stdout",
        "display_data",
        "stdout",
        "clear_output",
    ]


def test_a_flood_keeps_head_and_tail_and_says_what_was_dropped() -> None:
    recorder = Recorder.limited(16_000)
    lines = [f"line {number}\n" for number in range(100_000)]
    for line in lines:
        recorder.write("stdout", line)
    live = stream_text(recorder.take(), "stdout")
    recorder.finish()
    rest = stream_text(recorder.take(), "stdout")
    assert live == "".join(lines)[:8000]
    assert rest.endswith("line 99998\nline 99999\n")
    mark = rest.splitlines()[1]
    assert mark.startswith("... 98,")
    assert mark.endswith(" characters) dropped ...")
    assert len(rest) < 8_200
    assert recorder.take() == []


def test_nothing_is_dropped_below_the_limit() -> None:
    recorder = Recorder.limited(1000)
    text = "x" * 990
    recorder.write("stdout", text)
    recorder.finish()
    assert stream_text(recorder.take(), "stdout") == text


def test_one_text_that_is_too_long_keeps_its_head_and_tail() -> None:
    recorder = Recorder.limited(1600)
    recorder.write("stderr", "head" + "x" * 100_000 + "tail")
    recorder.finish()
    text = stream_text(recorder.take(), "stderr")
    assert text.startswith("headxxx")
    assert text.endswith("xxxtail")
    assert "characters) dropped" in text
    assert len(text) < 1700


def test_displays_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "_displays_left", 3)
    recorder = Recorder()
    for number in range(200):
        recorder.display("display_data", {"text/plain": str(number)})
    assert len(recorder.take()) == 3
    recorder.finish()
    mark, *last = recorder.take()
    assert mark.text.strip().startswith("... 97 displays (")
    assert [output.data for output in last][-1] == {"text/plain": "199"}


def test_displays_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "_display_bytes_left", 2_000)
    monkeypatch.setattr(module, "DISPLAY_BYTES", 8_000)
    recorder = Recorder()
    for _ in range(10):
        recorder.display("display_data", {"image/png": "x" * 900})
    recorder.finish()
    outputs = recorder.take()
    assert sum(output.kind == "display_data" for output in outputs) == 3


def test_updates_that_nobody_saw_are_replaced_by_the_next() -> None:
    recorder = Recorder()
    recorder.display("display_data", {"text/plain": "0"}, display_id="bar")
    for number in range(1, 1000):
        recorder.display("update_display_data", {"text/plain": str(number)}, display_id="bar")
    first, last = recorder.take()
    assert (first.data, last.data) == ({"text/plain": "0"}, {"text/plain": "999"})


def test_the_last_update_comes_through_however_many_there_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Recorder, "_display_bytes_left", 500)
    recorder = Recorder()
    for number in range(1000):
        recorder.display("update_display_data", {"text/plain": str(number)}, display_id="bar")
        recorder.take()
    recorder.finish()
    assert [output.data for output in recorder.take()] == [{"text/plain": "999"}]


def test_what_json_does_not_know_becomes_text() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    recorder = Recorder()
    data = {"image/png": b"\x89PNG", "text/plain": "\udc80", "x/y": {"o": Odd(), "n": [1, None]}}
    recorder.display("display_data", data)
    outputs = recorder.take()
    assert decode_outputs(encode_outputs(outputs)) == outputs
    assert outputs[0].data == {
        "image/png": "iVBORw==",
        "text/plain": "\\udc80",
        "x/y": {"o": "<Odd>", "n": [1, None]},
    }


def test_lone_surrogates_in_text_do_not_break_the_encoding() -> None:
    recorder = Recorder()
    recorder.write("stdout", "a\udc80ü")
    assert decode_outputs(encode_outputs(recorder.take()))[0].text == "a\\udc80ü"


def test_output_after_the_end_is_announced_once_per_take() -> None:
    recorder, announced = Recorder(), list[Recorder]()
    recorder.finish(announced.append)
    recorder.write("stdout", "late")
    recorder.write("stdout", "r")
    assert announced == [recorder]
    assert kinds_and_texts(recorder) == [("stdout", "later")]
    recorder.write("stdout", "again")
    assert announced == [recorder, recorder]


def test_output_after_the_end_is_bounded_too() -> None:
    recorder = Recorder.limited(4000)
    recorder.finish(lambda _: None)
    for _ in range(10_000):
        recorder.write("stdout", "x" * 100)
    text = stream_text(recorder.take(), "stdout")
    assert len(text) < 2200
    assert text.endswith("... more output after the end of the task dropped ...\n")


def test_the_log_of_an_idle_process_has_its_limit_anew_for_each_take() -> None:
    recorder = LogRecorder.limited(100)
    for _ in range(3):
        recorder.write("stdout", "x" * 80)
        assert stream_text(recorder.take(), "stdout") == "x" * 80
    assert recorder.take() == []
