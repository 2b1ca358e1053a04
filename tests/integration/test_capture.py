"""What tasks print and draw arrives: per task, in order, live, and bounded."""

from __future__ import annotations

import queue
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

import ipyasyncresult as ipar
from ipyasyncresult.core.outputs import Output
from ipyasyncresult.core.task import TaskRecord
from tests.conftest import kinds_in_a_row

if TYPE_CHECKING:
    from tests.integration.conftest import Gate, NewGate


def recorded(result: ipar.AsyncResult) -> Sequence[Output]:
    """Everything that a single task put out, in order."""
    result.get(timeout=30)
    return result.tasks()[0].outputs


def texts(result: ipar.AsyncResult) -> list[tuple[str, str]]:
    """Kind and text of a single task's outputs; of a display, its plain text.

    Text of one stream in a row is one: in how many pieces it came is chance.
    """
    found: list[tuple[str, str]] = []
    for output in recorded(result):
        text = output.text or str((output.data or {}).get("text/plain", ""))
        if found and found[-1][0] == output.kind in ("stdout", "stderr"):
            text = found.pop()[1] + text
        found.append((output.kind, text))
    return found


# --------------------------------------------------------------------------------- Python code


def test_both_streams_and_displays_arrive_in_order(client: ipar.Client) -> None:
    def speak() -> None:
        from IPython.display import display

        print("one")
        print("two", file=sys.stderr)
        display("shown")
        print("three", end="")
        print(" and four", flush=True)

    result = client[0].apply_async(speak)
    assert texts(result) == [
        ("stdout", "one\n"),
        ("stderr", "two\n"),
        ("display_data", "'shown'"),
        ("stdout", "three and four\n"),
    ]
    assert result.stdout == "one\nthree and four\n"
    assert result.stderr == "two\n"
    assert result.outputs[0]["data"]["text/plain"] == "'shown'"


def test_each_task_has_its_own_outputs(client: ipar.Client) -> None:
    result = client.load_balanced_view().map_async(
        lambda n: print("task", n), range(30), chunksize=1
    )
    result.get()
    assert result.stdout == [f"task {n}\n" for n in range(30)]


def test_no_line_of_many_is_lost(client: ipar.Client) -> None:
    def chatter() -> None:
        for n in range(20_000):
            print(n)

    result = client[0].apply_async(chatter)
    result.get()
    assert result.stdout.split() == [str(n) for n in range(20_000)]


def test_what_a_failed_task_said_is_kept(client: ipar.Client) -> None:
    def fail() -> None:
        print("going well")
        sys.stderr.write("going wrong\n")
        raise OSError("gone")

    result = client[0].apply_async(fail)
    with pytest.raises(OSError, match="gone") as caught:
        result.get()
    assert (result.stdout, result.stderr) == ("going well\n", "going wrong\n")
    assert caught.value.last_output == "going well"  # type: ignore[attr-defined]


def test_warnings_and_logs_go_to_stderr(client: ipar.Client) -> None:
    def complain() -> None:
        import logging
        import warnings

        warnings.warn("careful", stacklevel=1)
        logging.getLogger("job").warning("watch out")

    result = client[0].apply_async(complain)
    result.get()
    assert "careful" in result.stderr
    assert "watch out" in result.stderr


def test_a_coroutine_prints_into_its_task(client: ipar.Client) -> None:
    async def speak() -> None:
        import asyncio

        async def say(text: str) -> None:
            await asyncio.sleep(0)
            print(text)

        await asyncio.gather(say("a"), asyncio.create_task(say("b")))

    result = client[0].apply_async(speak)
    result.get()
    assert sorted(result.stdout.split()) == ["a", "b"]


def test_asking_for_input_fails_at_once(client: ipar.Client) -> None:
    result = client[0].apply_async(input, "name? ")
    with pytest.raises(EOFError, match="input"):
        result.get(timeout=30)


def test_a_task_that_closes_its_streams_does_not_silence_the_next_one(client: ipar.Client) -> None:
    def close() -> None:
        sys.stdout.close()
        sys.stderr.close()

    client[0].apply_sync(close)
    result = client[0].apply_async(print, "still here")
    result.get()
    assert result.stdout == "still here\n"


# ------------------------------------------------------------------------------------ displays


def test_displays_are_updated_and_cleared(client: ipar.Client) -> None:
    def draw() -> None:
        from IPython.display import HTML, clear_output, display, update_display

        display("cleared")
        clear_output()
        display("first", display_id="it")
        display(HTML("<b>rich</b>"))
        update_display("second", display_id="it")

    result = client[0].apply_async(draw)
    kinds = [output.kind for output in recorded(result)]
    assert kinds == [
        "display_data", "clear_output", "display_data", "display_data", "update_display_data"
    ]  # fmt: skip
    shown = [output["data"] for output in result.outputs]
    assert shown[0]["text/plain"] == "'second'"
    assert shown[1]["text/html"] == "<b>rich</b>"
    assert len(shown) == 2


def test_the_value_of_a_cell_is_its_execute_result(client: ipar.Client) -> None:
    result = client[1].execute("print('before')\n'value'")
    assert texts(result) == [("stdout", "before\n"), ("execute_result", "'value'")]
    assert result.execute_result["data"]["text/plain"] == "'value'"
    quiet = client[1].execute("'value';")
    assert texts(quiet) == []


def test_figures_are_shown_by_cells_and_by_calls(client: ipar.Client) -> None:
    cell = client[0].execute(
        "%matplotlib inline\n"
        "import matplotlib.pyplot as plt\n"
        "for n in range(2):\n"
        "    plt.figure(figsize=(1, 1)); plt.plot([n, 1])\n"
        "print('drawn')"
    )
    cell.get(timeout=60)
    assert ["image/png" in output["data"] for output in cell.outputs] == [True, True]

    def draw() -> None:
        import matplotlib.pyplot as plt

        plt.figure(figsize=(1, 1))
        plt.plot([1, 2])
        print("called")

    call = client[0].apply_async(draw)
    call.get(timeout=60)
    assert kinds_in_a_row(recorded(call)) == ["stdout", "display_data"]
    assert call.outputs[0]["data"]["image/png"].startswith("iVBOR")  # PNG in base64


# ------------------------------------------------- C code, child processes, threads of a task


def test_what_c_code_and_children_write_keeps_its_place(client: ipar.Client) -> None:
    def write() -> None:
        import ctypes
        import os
        import subprocess

        print("python")
        os.write(1, b"descriptor\n")
        ctypes.CDLL(None).printf(b"%s\n", b"printf")
        subprocess.run(["echo", "child"], check=True)
        subprocess.run("echo oops >&2", shell=True, check=True)
        print("python again")
        os.write(2, b"and stderr\n")

    result = client[0].apply_async(write)
    result.get()
    assert result.stdout.split("\n") == [
        "python",
        "descriptor",
        "printf",
        "child",
        "python again",
        "",
    ]
    assert result.stderr == "oops\nand stderr\n"
    following = client[0].apply_async(print, "next")
    following.get()
    assert (following.stdout, following.stderr) == ("next\n", "")


def test_c_output_without_a_newline_belongs_to_its_task(client: ipar.Client) -> None:
    def write() -> None:
        import ctypes

        ctypes.CDLL(None).printf(b"unfinished")

    first, second = client[0].apply_async(write), client[0].apply_async(print, "next")
    assert (first.get(), second.get()) == (None, None)
    assert (first.stdout, second.stdout) == ("unfinished", "next\n")


def test_bytes_that_are_no_text_arrive_as_text(client: ipar.Client) -> None:
    def write() -> None:
        import os

        os.write(1, "grüße ".encode() + b"\xff\xfe|")
        sys.stdout.buffer.write("größe\n".encode())
        print("\ud800")  # half a character

    result = client[0].apply_async(write)
    result.get()
    assert result.stdout.startswith("grüße \ufffd\ufffd|größe\n")


def test_forked_children_print_into_the_task(client: ipar.Client) -> None:
    def fork() -> None:
        import multiprocessing

        children = [
            multiprocessing.get_context("fork").Process(target=print, args=("child", n))
            for n in range(2)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join()
        print("parent")

    result = client[0].apply_async(fork)
    result.get(timeout=30)
    *children, parent = result.stdout.splitlines()
    assert (sorted(children), parent) == (["child 0", "child 1"], "parent")


def test_threads_print_into_the_task_that_started_them(
    client: ipar.Client, new_gate: NewGate
) -> None:
    """Also after its end, and never into the task that runs then."""
    go, said = new_gate("go"), new_gate("said")

    def start() -> None:
        import threading

        def speak() -> None:
            print("early")
            early.set()
            go.wait()
            print("late")
            said.open()

        early = threading.Event()
        threading.Thread(target=speak).start()
        early.wait()

    def run_meanwhile(go: Gate, said: Gate) -> None:
        print("other")
        go.open()
        said.wait()

    first = client[0].apply_async(start)
    first.get(timeout=30)
    assert first.stdout == "early\n"
    second = client[0].apply_async(run_meanwhile, go, said)
    second.get(timeout=30)
    assert second.stdout == "other\n"
    assert client._connection.wait(lambda: first.stdout == "early\nlate\n", 30)
    again = client.get_result(first.msg_ids[0])
    assert again.get(timeout=30) is None
    assert again.stdout == "early\nlate\n"


# ---------------------------------------------------------------------------- live and bounded


def follow(result: ipar.AsyncResult) -> tuple[queue.Queue[str], Callable[[], None]]:
    """Every new text of a single task, as it comes, and what stops it."""
    seen: queue.Queue[str] = queue.Queue()
    length = 0

    def look(_changed: Sequence[TaskRecord]) -> None:
        nonlocal length
        text = result.stdout
        if len(text) > length:
            seen.put(text[length:])
            length = len(text)

    return seen, result.follow(look)


def read(seen: queue.Queue[str], size: int) -> str:
    """So many characters, at least, in however many pieces they come."""
    text = ""
    while len(text) < size:
        text += seen.get(timeout=30)
    return text


def test_output_is_seen_while_the_task_runs(client: ipar.Client, new_gate: NewGate) -> None:
    go_on, end = new_gate("go on"), new_gate("end")

    def work() -> None:
        import os

        go_on.wait()
        print("printed")
        end.wait()
        os.write(1, b"written\n")

    result = client[0].apply_async(work)
    seen, stop = follow(result)
    go_on.open()
    assert read(seen, len("printed\n")) == "printed\n"
    assert not result.ready()
    end.open()
    assert read(seen, len("written\n")) == "written\n"
    result.get(timeout=30)
    stop()
    assert seen.empty()


def test_what_c_code_writes_is_seen_while_it_runs(client: ipar.Client, new_gate: NewGate) -> None:
    go_on, end = new_gate("go on"), new_gate("end")

    def work() -> None:
        import os

        go_on.wait()
        os.write(1, b"written\n")
        end.wait()

    result = client[0].apply_async(work)
    seen, stop = follow(result)
    go_on.open()
    assert seen.get(timeout=30) == "written\n"
    end.open()
    result.get(timeout=30)
    stop()


def test_another_client_sees_output_while_the_task_runs(
    client: ipar.Client, new_gate: NewGate
) -> None:
    started, go_on, end = new_gate("started"), new_gate("go on"), new_gate("end")

    def work() -> None:
        print("before")
        started.open()
        go_on.wait()
        print("printed")
        end.wait()

    mine = client[0].apply_async(work)
    started.wait()
    with ipar.Client(client.cluster_id) as other:
        theirs = other.get_result(mine.msg_ids[0])
        seen, stop = follow(theirs)
        go_on.open()
        assert read(seen, len("before\nprinted\n")) == "before\nprinted\n"
        assert not theirs.ready()
        end.open()
        assert theirs.get(timeout=30) is None
        stop()
        assert theirs.stdout == mine.stdout


def test_endless_output_is_cut_in_the_middle_and_says_so() -> None:
    with ipar.Cluster(n=1, output_limit=10_000) as client:

        def chatter() -> None:
            for n in range(100_000):
                print(f"line {n}")

        def flood() -> None:
            import subprocess

            subprocess.run(["seq", "1000000"], check=True)

        for task, first, last in ((chatter, "line 0", "line 99999"), (flood, "1", "1000000")):
            result = client[0].apply_async(task)
            result.get(timeout=30)
            lines = result.stdout.splitlines()
            assert (lines[0], lines[-1]) == (first, last)
            assert len(result.stdout) < 11_000
            (note,) = [line for line in lines if "dropped" in line]
            assert re.search(r"[\d,]+ lines", note)


def test_outputs_are_shown_engine_by_engine(
    client: ipar.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    def speak() -> None:
        print("hello")
        print("wrong", file=sys.stderr)

    result = client[:].apply_async(speak)
    result.display_outputs("engine")
    shown = capsys.readouterr()
    assert re.findall(r"\[(\w+:\d)\]", shown.out + shown.err).count("stdout:1") == 1
    assert shown.out.index("[stdout:0] hello") < shown.out.index("[stdout:2] hello")
