"""What a whole process writes: C code, child processes and forks included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from ipyasyncresult.worker.capture import create_capture_file, read_tail

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="file descriptors are POSIX's")

PRELUDE = """
import ctypes, json, os, resource, subprocess, sys, threading
from ipyasyncresult.worker.capture import Capture, create_capture_file, current_recorder
from ipyasyncresult.worker.recorder import Recorder

libc = ctypes.CDLL(None)
capture = Capture()
capture.install()

def outputs_of(recorder):
    return [(output.kind, output.text) for output in recorder.take()]

def task(function, *args):
    with capture.task(Recorder()) as recorder:
        function(*args)
    return outputs_of(recorder)

def answer(value):
    with open(os.environ["ANSWER"], "w") as file:
        json.dump(value, file)
"""


@pytest.fixture
def process(tmp_path: Path) -> Any:
    """Runs a script in a process with a capture installed; gives what it answered."""

    def run(script: str) -> Any:
        answer = tmp_path / "answer"
        subprocess.run(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(script)],
            env={**os.environ, "ANSWER": str(answer)},
            check=True,
            timeout=50,
        )
        return json.loads(answer.read_text())

    return run


def test_c_code_children_and_python_keep_their_order(process: Any) -> None:
    outputs = process("""
        def speak():
            print("python 1")
            libc.puts(b"c 1")
            sys.stderr.write("error 1\\n")
            os.system("echo child 1; echo child error >&2")
            print("python 2")
            subprocess.run(["echo", "child 2"], stdout=sys.stdout)
            libc.printf(b"no line end")
        answer(task(speak))
    """)
    assert outputs == [
        ["stdout", "python 1\nc 1\n"],
        ["stderr", "error 1\n"],
        ["stdout", "child 1\n"],
        ["stderr", "child error\n"],
        ["stdout", "python 2\nchild 2\nno line end"],
    ]


def test_output_between_tasks_belongs_to_none_of_them(process: Any) -> None:
    answers = process("""
        first = task(os.write, 1, b"first\\n")
        print("python between")
        os.write(1, b"between\\n")
        capture.drain()
        second = task(os.write, 2, b"second\\n")
        answer([first, outputs_of(capture.idle), second])
    """)
    assert answers == [
        [["stdout", "first\n"]],
        [["stdout", "python between\nbetween\n"]],
        [["stderr", "second\n"]],
    ]


def test_bytes_that_are_no_text_are_replaced_and_split_characters_survive(process: Any) -> None:
    outputs = process("""
        def speak():
            os.write(1, b"a\\xffb ")
            euro = "\\u20ac".encode()
            os.write(1, euro[:1])
            capture.drain()
            os.write(1, euro[1:])
        answer(task(speak))
    """)
    assert outputs == [["stdout", "a\ufffdb \u20ac"]]


def test_a_child_that_opens_the_stream_anew_is_heard(process: Any) -> None:
    """``> /dev/stderr`` in a shell truncates the file."""
    outputs = process("""
        task(os.write, 2, b"x" * 1000)
        answer(task(os.system, "echo anew > /dev/stderr; echo more >&2"))
    """)
    assert outputs == [["stderr", "anew\nmore\n"]]


def test_a_forked_child_writes_to_the_task(process: Any) -> None:
    outputs = process("""
        def speak():
            print("parent")
            pid = os.fork()
            if pid == 0:
                print("child")
                sys.stderr.write("child error\\n")
                os._exit(0)
            os.waitpid(pid, 0)
            print("parent again")
        answer(task(speak))
    """)
    assert outputs == [
        ["stdout", "parent\nchild\n"],
        ["stderr", "child error\n"],
        ["stdout", "parent again\n"],
    ]


def test_a_flood_from_a_child_keeps_memory_flat(process: Any) -> None:
    size, text, rss = process("""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        command = "echo head; head -c 300000000 /dev/zero | tr '\\\\0' '\\\\n'; echo tail"
        with capture.task(Recorder()) as recorder:
            child = subprocess.Popen(command, shell=True)
            while child.poll() is None:
                capture.drain()
        text = "".join(output.text for output in recorder.take())
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer([len(text), text[:5] + text[-5:], after - before])
    """)
    assert size < 1_010_000
    assert text == "head\ntail\n"
    assert rss < 120_000  # KiB


def test_ten_million_lines_of_python_keep_memory_flat(process: Any) -> None:
    size, mark, rss = process("""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with capture.task(Recorder()) as recorder:
            for number in range(100):
                sys.stdout.write("line\\n" * 100_000)
        text = "".join(output.text for output in recorder.take())
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        mark = next(line for line in text.splitlines() if line.startswith("..."))
        answer([len(text), mark, after - before])
    """)
    assert size < 1_001_000
    assert mark.startswith("... 9,8")
    assert mark.endswith("characters) dropped ...")
    assert rss < 30_000  # KiB


def test_consumed_output_is_given_back_to_the_system(process: Any) -> None:
    blocks = process("""
        fd = capture._files[0].fd
        for _ in range(50):
            task(os.write, 1, b"x" * 1_000_000)
        answer(os.fstat(fd).st_blocks * 512)
    """)
    assert blocks < 3_000_000


def test_input_is_refused_at_once(process: Any) -> None:
    assert (
        process("""
        errors = []
        def ask(question):
            try:
                question()
            except EOFError as error:
                errors.append(type(error).__name__)
        task(ask, lambda: input("who? "))
        task(ask, sys.stdin.read)
        task(ask, lambda: list(sys.stdin))
        answer(errors)
    """)
        == ["StdinNotAvailable"] * 3
    )


def test_the_streams_come_back(process: Any) -> None:
    assert process("""
        os.write(1, b"captured\\n")
        capture.uninstall()
        answer([outputs_of(capture.idle), sys.stdout is sys.__stdout__, sys.stdin is sys.__stdin__])
    """) == [[["stdout", "captured\n"]], True, True]


def test_the_parent_reads_the_last_words_of_a_crash() -> None:
    files = create_capture_file("stdout"), create_capture_file("stderr")
    script = (
        "import faulthandler\n"
        f"capture = Capture({files[0]}, {files[1]})\n"
        "capture.install()\n"
        "faulthandler.enable(2)\n"
        "task(lambda: (libc.printf(b'last words\\n'), ctypes.string_at(0)))\n"
    )
    prelude = PRELUDE.replace("capture = Capture()\ncapture.install()\n", "")
    died = subprocess.run(
        [sys.executable, "-c", prelude + script], pass_fds=files, check=False, timeout=50
    )
    try:
        assert died.returncode < 0
        assert read_tail(files[0]) == "last words\n"
        assert "Segmentation fault" in read_tail(files[1])
        assert len(read_tail(files[1], limit=20)) <= 20
    finally:
        for fd in files:
            os.close(fd)
