"""Cells and calls on an engine's shell, in a process of its own."""

from __future__ import annotations

import base64
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ipyasyncresult.core.failure import Failure, decode_failure
from ipyasyncresult.core.outputs import Output, decode_outputs, stream_text
from ipyasyncresult.worker.functions import dump_arguments, dump_function, load_result
from tests.integration.conftest import NewGate

HOST = """
import base64, json, os, signal, sys
from ipyasyncresult.core.outputs import encode_outputs
from ipyasyncresult.worker.capture import Capture
from ipyasyncresult.worker.recorder import Recorder
from ipyasyncresult.worker.runner import Runner
from ipyasyncresult.worker.shell import EngineShell

shell = EngineShell.instance()
if "fork" in sys.argv and os.fork():
    os.wait()
    sys.exit()
requests, answers = os.fdopen(int(sys.argv[1])), os.fdopen(int(sys.argv[2]), "w")
capture = Capture()
capture.install()
runner = Runner(capture, shell)

def interrupt(*_):
    if runner.running:
        raise KeyboardInterrupt

signal.signal(signal.SIGINT, interrupt)
for line in requests:
    kind, options, *parts = json.loads(line)
    recorder = Recorder()
    if kind == "cell":
        outcome = runner.run_cell(parts[0], recorder=recorder, **options)
    else:
        function, arguments = map(base64.b64decode, parts)
        outcome = runner.run_call(function, arguments, recorder=recorder)
    data = [outcome.body, encode_outputs(recorder.take())]
    print(json.dumps([outcome.ok, *(base64.b64encode(d).decode() for d in data)]),
          file=answers, flush=True)
"""


@dataclass
class Ran:
    ok: bool
    body: bytes
    outputs: list[Output]

    @property
    def value(self) -> Any:
        assert self.ok, self.failure
        return load_result(self.body)

    @property
    def failure(self) -> Failure:
        assert not self.ok
        return decode_failure(self.body)

    def text(self, kind: Any = "stdout") -> str:
        return stream_text(self.outputs, kind)

    @property
    def kinds(self) -> list[str]:
        return [output.kind for output in self.outputs]


class Host:
    """A process with a shell, asked over two pipes."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOST, str(theirs_in), str(theirs_out), *arguments],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env={name: v for name, v in os.environ.items() if name != "MPLBACKEND"},
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.requests = os.fdopen(ours_out, "w")
        self.answers = os.fdopen(ours_in)

    def send(self, kind: str, options: dict[str, Any], *parts: str) -> None:
        print(json.dumps([kind, options, *parts]), file=self.requests, flush=True)

    def receive(self) -> Ran:
        ok, body, outputs = json.loads(self.answers.readline())
        return Ran(ok, base64.b64decode(body), decode_outputs(base64.b64decode(outputs)))

    def cell(self, code: str, **options: Any) -> Ran:
        self.send("cell", options, code)
        return self.receive()

    def call(self, function: Any, *args: Any) -> Ran:
        parts = dump_function(function), dump_arguments(args, {})[0]
        self.send("call", {}, *(base64.b64encode(part).decode() for part in parts))
        return self.receive()

    def close(self) -> None:
        self.requests.close()
        self.answers.close()
        assert self.process.wait(20) == 0


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(tmp_path_factory.mktemp("engine"))
    yield host
    host.close()


# ----------------------------------------------------------------------------------- results


def test_the_last_expression_is_the_result_of_a_cell(host: Host) -> None:
    ran = host.cell("x = 40\nx + 2")
    [output] = ran.outputs
    assert output.kind == "execute_result"
    assert output.data == {"text/plain": "42"}
    assert output.execution_count == ran.value.execution_count
    assert repr(ran.value) == f"<ExecuteReply[{ran.value.execution_count}]: 42>"
    assert host.cell("_ + 1").value.text == "43"


def test_a_semicolon_silences_the_result_also_without_history(host: Host) -> None:
    assert host.cell("1 + 1;").outputs == []
    assert host.cell("1 + 1;", store_history=False).outputs == []
    assert host.cell("2 + 2", store_history=False).value.text == "4"


def test_a_silent_cell_shows_no_result_and_counts_no_cell(host: Host) -> None:
    before = host.cell("0").value.execution_count
    assert host.cell("5", silent=True).outputs == []
    assert host.cell("0").value.execution_count == before + 1


def test_calls_and_cells_share_the_namespace(host: Host) -> None:
    host.cell("base = 30")
    assert host.call(eval("lambda x: base + x", {"__name__": "__main__"}), 12).value == 42


def test_top_level_await_works_and_shares_its_loop_with_calls(host: Host) -> None:
    host.cell("import asyncio\nqueue = asyncio.Queue()\nawait queue.put(1)\nprint('put')")
    assert host.cell("loop = asyncio.get_running_loop()\nawait queue.get()").value.text == "1"

    async def same_loop() -> bool:
        import asyncio

        return asyncio.get_running_loop() is loop  # type: ignore[name-defined]  # noqa: F821

    assert host.call(same_loop).value is True


# ---------------------------------------------------------------------------------- displays


def test_displays_updates_and_clears_keep_their_order(host: Host) -> None:
    ran = host.cell(
        "from IPython.display import HTML, clear_output\n"
        "print('before')\n"
        "handle = display(HTML('<b>1</b>'), display_id='here')\n"
        "print('between')\n"
        "handle.update(HTML('<b>2</b>'))\n"
        "clear_output(wait=True)\n"
        "import os; _ = os.system('echo system')\n"
        "'end'"
    )
    assert ran.kinds == [
        "stdout",
        "display_data",
        "stdout",
        "update_display_data",
        "clear_output",
        "stdout",
        "execute_result",
    ]
    assert ran.outputs[1].display_id == ran.outputs[3].display_id == "here"
    assert ran.outputs[3].data is not None
    assert ran.outputs[3].data["text/html"] == "<b>2</b>"
    assert ran.outputs[4].wait


def test_figures_of_a_call_appear_without_a_magic(host: Host) -> None:
    def draw() -> None:
        import matplotlib.pyplot as plt

        plt.plot([1, 2])
        print("drawn")

    ran = host.call(draw)
    assert ran.value is None
    assert ran.kinds == ["stdout", "display_data"]
    assert ran.outputs[1].data is not None
    assert ran.outputs[1].data["image/png"].startswith("iVBOR")
    assert host.call(len, "abc").outputs == []


def test_figures_of_a_call_that_fails_do_not_wait_for_the_next_task(host: Host) -> None:
    def draw() -> None:
        import matplotlib.pyplot as plt

        plt.plot([1, 2])
        raise ValueError("after drawing")

    assert host.call(draw).kinds == ["display_data"]
    assert host.cell("%matplotlib inline\nimport matplotlib.pyplot as plt").outputs == []
    assert host.cell("plt.plot([2, 1]);").kinds == ["display_data"]


def test_the_pager_shows_its_text(host: Host) -> None:
    [output] = host.cell("len?").outputs
    assert output.data is not None
    assert "Return the number of items" in output.data["text/plain"]


def test_a_widget_is_text_as_no_page_can_have_its_model(host: Host) -> None:
    [slider] = host.cell("import ipywidgets\nipywidgets.IntSlider()").outputs
    assert slider.data is not None
    assert set(slider.data) == {"text/plain"}
    assert slider.data["text/plain"].startswith("IntSlider(")
    assert slider.data["text/plain"].endswith("(a widget of an engine is shown as text)")


# ------------------------------------------------------------------------- commands and magics


def test_shell_commands_and_script_magics_are_heard(host: Host) -> None:
    assert host.cell("!echo hi").text().split() == ["hi"]
    ran = host.cell("%%bash\necho out\necho err >&2")
    assert (ran.text(), ran.text("stderr")) == ("out\n", "err\n")
    assert host.cell("names = !echo a b\nnames").value.text == "['a b']"
    assert "hidden" not in host.cell("%%capture kept\nprint('hidden')").text()
    assert host.cell("kept.stdout").value.text == r"'hidden\n'"


@pytest.mark.parametrize("code", ["exit", "quit()", "import sys; sys.exit(3)", "input('? ')"])
def test_a_cell_can_neither_end_nor_stop_the_engine(host: Host, code: str) -> None:
    failure = host.cell(code).failure
    assert failure.ename in {"UsageError", "SystemExit", "StdinNotAvailable"}
    if failure.ename == "StdinNotAvailable":  # raised by us, shown where it was asked
        assert "ipyasyncresult/" not in failure.traceback + failure.traceback_ansi
    assert host.cell("'alive'").value.text == "'alive'"


def test_gui_event_loops_are_refused(host: Host) -> None:
    assert "no screen for gui 'qt'" in host.cell("%gui qt").text("stderr")


# -------------------------------------------------------------------------------------- errors


def test_an_error_is_the_outcome_of_the_cell_and_no_output(host: Host) -> None:
    ran = host.cell("print('before')\ndef f():\n    return 1 / 0\nf()")
    assert ran.kinds == ["stdout"]
    failure = ran.failure
    assert (failure.ename, failure.evalue) == ("ZeroDivisionError", "division by zero")
    assert "\x1b[" in failure.traceback_ansi
    assert "1 / 0" in failure.traceback
    assert "IPython" not in failure.traceback
    assert pickle.loads(failure.pickled)[0] is ZeroDivisionError


def test_a_syntax_error_shows_the_line(host: Host) -> None:
    failure = host.cell("def f(:").failure
    assert failure.ename == "SyntaxError"
    assert "def f(:" in failure.traceback
    assert "def f(:" in failure.traceback_ansi


def test_an_exception_group_shows_its_members_once(host: Host) -> None:
    ran = host.cell("raise ExceptionGroup('both', [ValueError('one'), KeyError('two')])")
    assert ran.outputs == []
    assert "ValueError: one" in ran.failure.traceback_ansi
    assert "interactiveshell" not in ran.failure.traceback_ansi


def test_errors_that_are_not_the_cells_own_are_printed(host: Host) -> None:
    ran = host.cell("get_ipython().run_cell('1/0')\nprint('after')\nNone")
    assert ran.ok
    assert ran.kinds == ["stderr", "stdout"]
    assert "ZeroDivisionError" in ran.text("stderr")


def test_a_repr_that_raises_is_printed_and_the_cell_goes_on(host: Host) -> None:
    ran = host.cell("class A:\n    def _repr_html_(self): raise ValueError('repr')\nA()")
    assert ran.ok
    assert "ValueError" in ran.text("stderr")


def test_a_million_lines_in_a_cell_are_not_kept_by_the_shell(host: Host) -> None:
    host.cell("import sys\nfor _ in range(100): print('x' * 10_000)")
    kept = host.cell("len(getattr(get_ipython().history_manager, 'outputs', ()))")
    assert kept.value.text == "0"


# ---------------------------------------------------------------------------------- interrupts

WAITS = {
    "cell": "import time\nwhile True: time.sleep(0.01)",
    "await": "import asyncio\nawait asyncio.sleep(60)",
}


@pytest.mark.parametrize("code", WAITS.values(), ids=list(WAITS))
def test_an_interrupt_ends_a_cell_and_only_it(host: Host, new_gate: NewGate, code: str) -> None:
    up = new_gate("up")
    host.send("cell", {}, f"open({str(up.path)!r}, 'w').close()\n{code}")
    up.wait()
    os.kill(host.process.pid, signal.SIGINT)
    assert host.receive().failure.ename == "KeyboardInterrupt"
    left = host.cell("import asyncio\nawait asyncio.sleep(0)\nlen(asyncio.all_tasks())")
    assert left.value.text == "1"


def test_interrupts_between_tasks_are_ignored(host: Host) -> None:
    for number in range(50):
        os.kill(host.process.pid, signal.SIGINT)
        ran = host.cell(f"{number}")
        assert ran.ok or ran.failure.ename == "KeyboardInterrupt"
    assert host.cell("'alive'").value.text == "'alive'"


# ---------------------------------------------------------------------------------------- forks


def test_a_shell_made_before_a_fork_works_after_it(tmp_path: Path) -> None:
    host = Host(tmp_path, "fork")
    try:
        code = "import threading, asyncio\nawait asyncio.sleep(0)\nthreading.active_count()"
        assert host.cell(code).value.text == "1"
        assert host.cell("display(1)").kinds == ["display_data"]
    finally:
        host.close()
