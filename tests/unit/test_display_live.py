from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher

from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.capabilities import Capabilities
from ipyasyncresult.core.clientprotocol import ClientProtocol
from ipyasyncresult.core.ledger import Codec, Ledger
from ipyasyncresult.core.outputs import Output
from ipyasyncresult.core.task import Status, TaskRecord
from ipyasyncresult.display.background import Background, Show
from ipyasyncresult.display.bar import TerminalBar
from ipyasyncresult.display.frontend import Outlet
from ipyasyncresult.display.live import LiveOutputs, stream_output
from ipyasyncresult.display.model import LiveModel


class Screen(io.StringIO):
    """A terminal that keeps what was written to it."""

    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Engines:
    """Tasks whose outputs a test makes up; runs callbacks in the thread that feeds."""

    def __init__(self, count: int = 2) -> None:
        self.ledger = Ledger(cast(Codec, None))
        records = [self.ledger.submit(f"id-{n}", target=n) for n in range(count)]
        client = cast(ClientProtocol, self)
        self.result = AsyncResult.over(client, records, "work")

    capabilities = Capabilities("made-up engines")

    def engine_count(self) -> int:
        return 2

    def write(self, task: int, *outputs: Output) -> None:
        with self.ledger.batch() as batch:
            batch.output(f"id-{task}", outputs)

    def end(self, task: int) -> None:
        with self.ledger.batch() as batch:
            batch.finish(f"id-{task}", Status.DONE)


class Notebook:
    """What a frontend would show of what was published: displays with an id are replaced."""

    def __init__(self) -> None:
        self.text = io.StringIO()
        self.publisher = CapturingDisplayPublisher()
        self.outlet = Outlet(self.text, self.text, self.publisher)

    @property
    def updates(self) -> int:
        return sum(bool(one["update"]) for one in self.publisher.outputs)

    @property
    def displays(self) -> list[str]:
        shown: dict[str, str] = {}
        for one in self.publisher.outputs:
            own_id = one["transient"]["display_id"]
            assert one["update"] == (own_id in shown)
            shown[own_id] = one["data"]["text/plain"]
        return list(shown.values())


def out(text: str, time: float = 0) -> Output:
    return Output("stdout", time, text)


def err(text: str, time: float = 0) -> Output:
    return Output("stderr", time, text)


def shown(text: str, display_id: str | None = None) -> Output:
    return Output("display_data", 0, data={"text/plain": text}, display_id=display_id)


def update(text: str, display_id: str) -> Output:
    data = {"text/plain": text}
    return Output("update_display_data", 0, data=data, display_id=display_id)


def record(outputs: list[Output], task: int = 0, status: Status = Status.RUNNING) -> TaskRecord:
    made = TaskRecord(f"id-{task}", 0.0, target=task, engine_id=task)
    made.outputs = outputs
    made.status = status
    return made


def never(_show: Show) -> None:
    """Nobody comes to look for unfinished lines."""


def interrupted_after(action: Callable[[], None]) -> None:
    action()
    raise KeyboardInterrupt


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def clock() -> Clock:
    return Clock()


# ------------------------------------------------------------------------------ replay, then follow


def test_what_is_there_comes_first_and_then_what_follows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    engines = Engines()
    engines.write(0, out("early\n"))
    with stream_output(engines.result, never):
        assert capsys.readouterr().out == "[stdout:0] early\n"
        engines.write(1, out("live\n"))
        assert capsys.readouterr().out == "[stdout:1] live\n"
        engines.write(0, err("problem\n"))
        assert capsys.readouterr().err == "[stderr:0] problem\n"
    engines.write(0, out("too late\n"))
    assert capsys.readouterr() == ("", "")


def test_replay_is_in_the_order_of_time(capsys: pytest.CaptureFixture[str]) -> None:
    engines = Engines()
    engines.write(0, out("1\n", 1), out("3\n", 3))
    engines.write(1, out("2\n", 2), out("4\n", 4))
    with stream_output(engines.result, never):
        pass
    assert capsys.readouterr().out == "[stdout:0] 1\n[stdout:1] 2\n[stdout:0] 3\n[stdout:1] 4\n"


def test_nothing_is_lost_and_nothing_comes_twice_while_engines_write(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines, engines = 300, Engines(3)
    half_way = threading.Event()

    def feed() -> None:
        for line in range(lines):
            for task in range(3):
                engines.write(task, out(f"{line:03}"), out("\n"))
            if line == lines // 2:
                half_way.set()
        for task in range(3):
            engines.end(task)

    feeder = threading.Thread(target=feed)
    feeder.start()
    half_way.wait()  # the feeder goes on during the replay
    with stream_output(engines.result, never):
        engines.result.wait()
    feeder.join()
    said = capsys.readouterr().out.splitlines()
    for task in range(3):
        expected = [f"[stdout:{task}] {line:03}" for line in range(lines)]
        assert [line for line in said if line.startswith(f"[stdout:{task}]")] == expected
    assert len(said) == 3 * lines


def test_what_the_client_did_not_tell_of_yet_is_shown_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    engines = Engines()
    with stream_output(engines.result, never):
        engines.result.records[0].outputs = [out("no call came for this\n")]
    assert capsys.readouterr().out == "[stdout:0] no call came for this\n"


def test_an_error_in_the_context_goes_on_after_the_rest_was_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    engines = Engines()
    streaming = stream_output(engines.result, never)
    with pytest.raises(KeyboardInterrupt), streaming:
        interrupted_after(lambda: engines.write(0, out("half a line")))
    assert capsys.readouterr().out == "[stdout:0] half a line\n"
    engines.write(0, out("unseen\n"))
    assert capsys.readouterr().out == ""


def test_output_goes_where_stdout_pointed_when_streaming_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engines, first, second = Engines(), io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", first)
    with stream_output(engines.result, never):
        monkeypatch.setattr(sys, "stdout", second)
        engines.write(0, out("mine\n"))
    assert (first.getvalue(), second.getvalue()) == ("[stdout:0] mine\n", "")


# -------------------------------------------------------------------------------------------- lines


def test_lines_are_whole_when_engines_write_in_pieces() -> None:
    screen = io.StringIO()
    live = LiveOutputs(Outlet(screen, screen), never)
    a, b = record([out("one ")], 0), record([out("two ")], 1)
    live.show_new([a, b])
    assert screen.getvalue() == ""
    a.outputs = [*(a.outputs or ()), out("half\n")]
    b.outputs = [*(b.outputs or ()), out("half\nand more\n")]
    live.show_new([a, b])
    assert screen.getvalue() == ("[stdout:0] one half\n[stdout:1] two half\n[stdout:1] and more\n")


def test_a_line_without_an_end_is_shown_when_its_task_has_ended() -> None:
    screen = io.StringIO()
    live = LiveOutputs(Outlet(screen, screen), never)
    one = record([out("no end")])
    live.show_new([one])
    assert screen.getvalue() == ""
    one.status = Status.DONE
    live.show_new([one])
    assert screen.getvalue() == "[stdout:0] no end\n"


def test_what_a_task_began_to_print_stands_before_its_display() -> None:
    screen = io.StringIO()
    LiveOutputs(Outlet(screen, screen), never).show_new([record([out("see: "), shown("picture")])])
    assert screen.getvalue() == "[stdout:0] see: \n[output:0] picture\n"


def test_a_log_gets_only_the_last_state_of_a_bar() -> None:
    log = io.StringIO()
    live = LiveOutputs(Outlet(log, log), never)
    one = record([])
    for percent in range(0, 101, 10):
        one.outputs = [*(one.outputs or ()), err(f"\r{percent}%")]
        live.show_new([one])
    one.outputs = [*(one.outputs or ()), err("\n")]
    live.show_new([one])
    assert log.getvalue() == "[stderr:0] 100%\n"


def test_shorter_text_leaves_the_rest_of_what_it_overwrites() -> None:
    log = io.StringIO()
    live = LiveOutputs(Outlet(log, log), never)
    live.show_new([record([out("abc\r"), out("x"), out("\r"), out("\nnext\r"), out("\n")])])
    assert log.getvalue() == "[stdout:0] xbc\n[stdout:0] next\n"


def test_in_a_terminal_the_bar_that_moved_last_is_at_the_bottom() -> None:
    screen = Screen()
    live = LiveOutputs(Outlet(screen, screen), never)
    a, b = record([err("\r10%")], 0), record([err("\r20%")], 1)
    live.show_new([a])
    assert screen.getvalue() == "\r\x1b[K[stderr:0] 10%\x1b[0m"
    live.show_new([b])
    b.outputs = [*(b.outputs or ()), out("whole\n")]
    live.show_new([b])
    # Rewritten, wiped for the whole line, and drawn again below it.
    assert screen.getvalue().endswith(
        "\r\x1b[K[stderr:1] 20%\x1b[0m\r\x1b[K[stdout:1] whole\n\r\x1b[K[stderr:1] 20%\x1b[0m"
    )
    live.finish([a, b])
    assert screen.getvalue().endswith("\r\x1b[K[stderr:0] 10%\n[stderr:1] 20%\n")


def test_text_does_not_break_a_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    result = Engines().result
    bar = TerminalBar(result)
    bar.show(LiveModel(result))
    live = LiveOutputs(Outlet(screen, screen), never)
    live.show_new([record([out("hello\nunfinished")])])
    bar.close("done")
    before, _, after = screen.getvalue().partition("[stdout:0] hello\n")
    assert before.rstrip("\r").endswith(" ")  # the bar was wiped
    assert "work:" in after  # and drawn again
    assert "unfinished" not in after


# ------------------------------------------------------------------------------------ in a notebook


def test_a_bar_in_a_task_is_one_display_that_is_rewritten(notebook: Notebook, clock: Clock) -> None:
    live = LiveOutputs(notebook.outlet, never, clock)
    one = record([])
    for percent in range(100):
        one.outputs = [*(one.outputs or ()), err(f"\r{percent}%")]
        clock.now += 1 / 32
        live.show_new([one])
        assert notebook.displays == [f"\x1b[31m[stderr:0]\x1b[0m {percent}%"]  # no more may come
    one.outputs = [*(one.outputs or ()), err("\r100%\ndone\n")]
    live.show_new([one])
    assert notebook.displays == ["\x1b[31m[stderr:0]\x1b[0m 100%"]
    assert notebook.text.getvalue() == "[stderr:0] done\n"


def test_the_last_piece_of_a_bar_is_seen_however_soon_it_comes(
    notebook: Notebook, clock: Clock
) -> None:
    live = LiveOutputs(notebook.outlet, never, clock)
    one = record([err("\r0%")])
    live.show_new([one])
    one.outputs = [*(one.outputs or ()), err("\r50%")]
    live.show_new([one])
    assert notebook.displays == ["\x1b[31m[stderr:0]\x1b[0m 50%"]


def test_every_engine_has_its_own_bar(notebook: Notebook, clock: Clock) -> None:
    live = LiveOutputs(notebook.outlet, never, clock)
    records = [record([err(f"\r{n}%")], n) for n in range(3)]
    live.show_new(records)
    records[1].outputs = [*(records[1].outputs or ()), err("\r50%")]
    clock.now += 1
    live.show_new(records)
    assert notebook.displays == [
        "\x1b[31m[stderr:0]\x1b[0m 0%",
        "\x1b[31m[stderr:1]\x1b[0m 50%",
        "\x1b[31m[stderr:2]\x1b[0m 2%",
    ]


def test_dots_are_seen_when_the_line_takes_its_time(notebook: Notebook, clock: Clock) -> None:
    live = LiveOutputs(notebook.outlet, never, clock)
    one = record([out(".")])
    live.show_new([one])
    assert notebook.displays == []  # the rest of the line may just be under way
    clock.now += 1
    one.outputs = [out("."), out(".")]
    live.show_new([one])
    assert notebook.displays == ["[stdout:0] .."]
    one.status = Status.DONE
    live.show_new([one])
    assert notebook.text.getvalue() == ""


def test_an_unfinished_line_is_shown_after_a_while_when_nothing_more_comes(
    notebook: Notebook, clock: Clock
) -> None:
    later: list[Show] = []
    live = LiveOutputs(notebook.outlet, later.append, clock)
    outputs = [out("working...")]
    task = record(outputs)
    live.show_new([task])
    outputs.append(err("a warn"))
    live.show_new([task])
    (show,) = later  # one for all lines
    assert (show.tick(), notebook.displays) == (True, [])
    clock.now = 0.6
    assert show.tick() is False
    assert notebook.displays == ["[stdout:0] working...", "\x1b[31m[stderr:0]\x1b[0m a warn"]

    outputs.append(out("done\nnext..."))
    live.show_new([task])
    assert notebook.displays[0] == "[stdout:0] working...done"
    assert len(later) == 2  # asked for anew


def test_a_line_that_is_finished_in_time_is_not_waited_for(
    notebook: Notebook, clock: Clock
) -> None:
    later: list[Show] = []
    live = LiveOutputs(notebook.outlet, later.append, clock)
    outputs = [out("half a ")]
    task = record(outputs)
    live.show_new([task])
    outputs.append(out("line\n"))
    live.show_new([task])
    assert [show.tick() for show in later] == [False]
    assert (notebook.text.getvalue(), notebook.displays) == ("[stdout:0] half a line\n", [])


def test_the_thread_of_live_views_shows_unfinished_lines(notebook: Notebook) -> None:
    background = Background()
    live = LiveOutputs(notebook.outlet, background.keep)
    task = record([out("working...")])
    is_shown = threading.Event()
    publisher: Any = notebook.publisher
    publish = publisher.publish

    def notice(**options: Any) -> None:
        publish(**options)
        is_shown.set()

    publisher.publish = notice
    live.show_new([task])
    assert is_shown.wait(30)
    assert notebook.displays == ["[stdout:0] working..."]
    live.finish([task])


def test_the_same_display_id_on_two_engines_is_two_displays(notebook: Notebook) -> None:
    live = LiveOutputs(notebook.outlet, never)
    a, b = (record([shown(f"{n} at first", "x")], n) for n in range(2))
    live.show_new([a, b])
    a.outputs = [*(a.outputs or ()), update("0 updated", "x")]
    live.show_new([a, b])
    assert notebook.displays == ["[output:0] 0 updated", "[output:1] 1 at first"]


def test_an_id_shown_twice_is_updated_in_both_places(notebook: Notebook) -> None:
    outputs = [shown("a", "x"), shown("b", "x"), update("c", "x")]
    LiveOutputs(notebook.outlet, never).show_new([record(outputs)])
    assert notebook.displays == ["[output:0] c", "[output:0] c"]


def test_an_update_of_nothing_is_a_display_of_its_own(notebook: Notebook) -> None:
    LiveOutputs(notebook.outlet, never).show_new([record([update("a", "x"), update("b", "x")])])
    assert notebook.displays == ["[output:0] b"]


def test_an_animation_runs_in_place(notebook: Notebook) -> None:
    live = LiveOutputs(notebook.outlet, never)
    one = record([])
    for frame in range(5):
        clear = Output("clear_output", 0, wait=True)
        one.outputs = [*(one.outputs or ()), clear, shown(f"frame {frame}"), shown("legend")]
        live.show_new([one])
    assert notebook.displays == ["[output:0] frame 4", "[output:0] legend"]
    one.outputs = [*(one.outputs or ()), Output("clear_output", 0, wait=True), shown("the end")]
    live.show_new([one])
    assert notebook.displays == ["[output:0] the end", ""]


def test_a_clear_that_waits_leaves_displays_until_more_comes(notebook: Notebook) -> None:
    live = LiveOutputs(notebook.outlet, never)
    one = record([shown("a"), Output("clear_output", 0, wait=True)])
    live.show_new([one])
    assert notebook.displays == ["[output:0] a"]
    one.outputs = [*(one.outputs or ()), out("text\n")]
    live.show_new([one])
    assert notebook.displays == ["[stdout:0] text"]


def test_text_of_a_task_that_clears_is_cleared_as_well(notebook: Notebook) -> None:
    live = LiveOutputs(notebook.outlet, never)
    one = record([])
    seen = []
    for frame in ("one\n", "two\nlines\n", "50%", "\r99%", ""):
        clear = Output("clear_output", 0, wait=bool(frame))
        new = [out(frame)] if frame.startswith("\r") else [clear, out(frame), err("careful\n")]
        one.outputs = [*(one.outputs or ()), *new]
        live.show_new([one])
        seen.append([text for text in notebook.displays if text])
    assert seen == [
        ["[stdout:0] one", "\x1b[31m[stderr:0]\x1b[0m careful"],
        ["[stdout:0]\ntwo\nlines", "\x1b[31m[stderr:0]\x1b[0m careful"],
        ["[stdout:0] 50%", "\x1b[31m[stderr:0]\x1b[0m careful"],
        ["[stdout:0] 50%", "\x1b[31m[stderr:0]\x1b[0m careful", "[stdout:0] 99%"],
        ["\x1b[31m[stderr:0]\x1b[0m careful"],
    ]
    assert notebook.text.getvalue() == ""


def test_long_text_of_a_task_that_clears_is_sent_once(notebook: Notebook) -> None:
    live = LiveOutputs(notebook.outlet, never)
    lines = [f"line {number}\n" for number in range(2000)]
    one = record([Output("clear_output", 0)])
    for start in range(0, 2000, 100):
        one.outputs = [*(one.outputs or ()), out("".join(lines[start : start + 100]))]
        live.show_new([one])
    shown = [text.removeprefix("[stdout:0]\n") for text in notebook.displays]
    assert "\n".join(shown) + "\n" == "".join(lines)
    assert max(len(text) for text in shown) <= 4000
    assert notebook.updates < 40


def test_frames_that_came_together_are_one(notebook: Notebook) -> None:
    value = Output("execute_result", 0, data={"text/plain": "7"}, execution_count=1)
    frames = [out("first\n"), shown("a", "x"), value, Output("clear_output", 0, wait=True)]
    live = LiveOutputs(notebook.outlet, never)
    one = record([*frames, out("second\n"), Output("clear_output", 0, wait=True)])
    live.show_new([one])
    assert notebook.displays == ["[stdout:0] second"]
    live.finish([one])
    assert notebook.displays == ["Out[0:1]: 7"]
    assert notebook.text.getvalue() == ""


def test_a_clear_of_one_engine_leaves_the_others(notebook: Notebook) -> None:
    a, b = record([shown("a")], 0), record([shown("b")], 1)
    live = LiveOutputs(notebook.outlet, never)
    live.show_new([a, b])
    a.outputs = [*(a.outputs or ()), Output("clear_output", 0)]
    live.show_new([a, b])
    assert notebook.displays == ["", "[output:1] b"]


def test_a_rich_display_has_its_prefix_above_and_keeps_its_metadata(notebook: Notebook) -> None:
    data = {"text/plain": "<Figure>", "image/png": "iVBO"}
    picture = Output("display_data", 0, data=data, metadata={"image/png": {"width": 9}})
    LiveOutputs(notebook.outlet, never).show_new([record([picture])])
    prefix, published = notebook.publisher.outputs
    assert prefix["data"] == {"text/plain": "[output:0]"}
    assert published["data"] == data
    assert published["metadata"] == {"image/png": {"width": 9}}


def test_a_rich_display_goes_with_its_prefix(notebook: Notebook) -> None:
    data = {"text/plain": "<Figure>", "image/png": "iVBO"}
    one = record([Output("display_data", 0, data=data)])
    live = LiveOutputs(notebook.outlet, never)
    live.show_new([one])
    one.outputs = [*(one.outputs or ()), Output("clear_output", 0)]
    live.show_new([one])
    assert notebook.displays == ["", ""]


def test_a_terminal_prints_updates_anew_and_clears_nothing() -> None:
    screen = io.StringIO()
    outputs = [shown("a", "x"), Output("clear_output", 0), update("b", "x")]
    LiveOutputs(Outlet(screen, screen), never).show_new([record(outputs)])
    assert screen.getvalue() == "[output:0] a\n[output:0] b\n"
