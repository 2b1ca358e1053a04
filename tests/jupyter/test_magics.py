"""``%%px`` in a real kernel and in IPython's terminal, with real engines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pexpect
import pytest
from jupyter_client.manager import KernelManager
from jupyter_core.utils import ensure_event_loop

from ipyasyncresult.client.cluster import Cluster, usable_cpus

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ENGINES = usable_cpus()
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Ran:
    """What a cell led to."""

    status: str = ""
    ename: str = ""
    traceback: str = ""
    text: str = ""
    outputs: list[dict[str, Any]] = field(default_factory=list)

    def take(self, message: dict[str, Any]) -> None:
        content = message["content"]
        match message["msg_type"]:
            case "stream":
                self.text += content["text"]
            case "display_data" | "execute_result":
                self.outputs.append(content["data"])
            case "error":
                self.traceback += COLOURS.sub("", "\n".join(content["traceback"]))


class Kernel:
    """A notebook kernel, without the notebook."""

    def __init__(self, manager: KernelManager) -> None:
        self._manager = manager
        self._client = manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)

    def run(self, cell: str, interrupt_at: str | None = None) -> Ran:
        """Run a cell; press the stop button when it has written `interrupt_at`."""
        ran = Ran()
        # ipykernel 6 aborts what comes soon after a cell that failed.
        request = self._client.execute(cell, allow_stdin=False, stop_on_error=False)
        state = "busy"
        while state != "idle":
            message = self._client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != request:
                continue
            state = message["content"].get("execution_state", state)
            ran.take(message)
            if interrupt_at is not None and interrupt_at in ran.text:
                interrupt_at = None
                self._manager.interrupt_kernel()
        reply = self._client.get_shell_msg(timeout=60)
        while reply["parent_header"].get("msg_id") != request:  # a late answer to wait_for_ready
            reply = self._client.get_shell_msg(timeout=60)
        ran.status = reply["content"]["status"]
        ran.ename = reply["content"].get("ename", "")
        return ran

    def close(self) -> None:
        self._client.stop_channels()


@pytest.fixture(scope="module", autouse=True)
def event_loop_of_jupyter_client() -> Iterator[None]:
    """It makes one for its blocking calls and never closes it."""
    loop = ensure_event_loop()
    yield
    loop.close()
    asyncio.set_event_loop(None)


@contextlib.contextmanager
def a_kernel() -> Iterator[Kernel]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    try:
        kernel = Kernel(manager)
        yield kernel
        kernel.close()
    finally:
        manager.shutdown_kernel()
        manager.cleanup_resources()


@pytest.fixture(scope="module")
def kernel(runtime_dir: Path) -> Iterator[Kernel]:
    """A kernel whose engines are up."""
    with a_kernel() as made:
        made.run("%load_ext ipyasyncresult")
        made.run("%px import os, time")
        yield made


# ------------------------------------------------------------------------------------ beginning


def test_loading_starts_nothing_and_the_first_cell_starts_engines_and_says_so(
    runtime_dir: Path,
) -> None:
    with a_kernel() as kernel:
        before = set(runtime_dir.glob("ipyasyncresult/*"))
        loaded = kernel.run("%load_ext ipyasyncresult")
        assert (loaded.status, loaded.text) == ("ok", "")
        assert set(runtime_dir.glob("ipyasyncresult/*")) == before

        first = kernel.run("%%px\nprint('here')")
        (folder,) = set(runtime_dir.glob("ipyasyncresult/*")) - before
        line, *rest = first.text.splitlines()
        engines = "1 engine" if ENGINES == 1 else f"{ENGINES} engines"
        assert line == (
            f"ipyasyncresult: starting {engines} on this machine (cluster {folder.name})"
        )
        assert sorted(rest) == [f"[stdout:{i}] here" for i in range(ENGINES)]
        assert "starting" not in kernel.run("%px print(1)").text


def test_a_persistent_cluster_is_joined(runtime_dir: Path) -> None:
    cluster = Cluster(n=1, persist=True)
    cluster.start_and_connect_sync()
    try:
        with a_kernel() as kernel:
            kernel.run("%load_ext ipyasyncresult")
            said = kernel.run("%px print('here')").text.splitlines()
        assert said == [
            f"ipyasyncresult: joined your cluster {cluster.cluster_id} with 1 engine",
            "[stdout:0] here",
        ]
    finally:
        cluster.stop_cluster_sync()


# --------------------------------------------------------------------------- outputs and errors


@pytest.mark.parametrize("flags", ["", "--no-stream", "--group-outputs engine", "-r"])
def test_outputs_and_values_are_shown_once(kernel: Kernel, flags: str) -> None:
    ran = kernel.run(f"%%px -t 0 {flags}\nprint('printed')\n'val' + 'ue'")
    assert ran.status == "ok"
    assert ran.text.count("[stdout:0] printed") == 1
    assert (ran.text + str(ran.outputs)).count("'value'") == 1


def test_a_failing_cell_fails_with_the_traceback_of_the_engine(kernel: Kernel) -> None:
    ran = kernel.run("%%px -t 0\nprint('so far')\nzero = 0\n1 / zero")
    assert (ran.status, ran.ename) == ("error", "RemoteZeroDivisionError")
    assert "[stdout:0] so far" in ran.text
    assert "zero" in ran.traceback
    assert "enginemagics" not in ran.traceback


def test_a_result_is_shown_again(kernel: Kernel) -> None:
    kernel.run("%px -t 0 print('again')")
    assert kernel.run("%pxresult").text == "[stdout:0] again\n"
    assert "print('again')" in kernel.run("%pxresult --list").text.splitlines()[-1]


def test_a_cell_in_the_background_gives_its_result(kernel: Kernel, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    waits = f"import os\nwhile not os.path.exists({str(gate)!r}): pass"
    ran = kernel.run(f"%%px -a -o kept\n{waits}\n6 * 7")
    assert ran.outputs[0]["text/plain"].startswith("execute: ")
    gate.touch()
    assert kernel.run("kept.wait(); print(kept.successful())").text == "True\n"


def test_a_cell_runs_here_too(kernel: Kernel) -> None:
    ran = kernel.run("%%px -t 0 --local\nvalue = 3\nprint('value', value)\nvalue")
    assert ran.status == "ok"
    lines = ran.text.splitlines()
    assert "value 3" in lines
    assert "[stdout:0] value 3" in lines
    failed = kernel.run("%%px -t 0 --local\ndef look():\n    {}['missing']\nlook()")
    assert (failed.status, failed.ename) == ("error", "RemoteKeyError")
    assert failed.traceback.count("----> 4 look()") == 2  # here and there
    assert failed.traceback.count("----> 3     {}['missing']") == 2
    assert "enginemagics" not in failed.traceback
    awaits = kernel.run("%%px -t 0 --local\nawait nothing")
    assert "SyntaxError: 'await' outside function" in awaits.traceback
    assert "NameError: name 'nothing' is not defined" in awaits.traceback


# --------------------------------------------------------------------------------- interrupting


WORK = (
    "%%px -t 0 {}\nprint('begun')\nwhile not os.path.exists({!r}): time.sleep(0.01)\nprint('done')"
)


@pytest.mark.parametrize("flags", ["", "--progress-after 0", "--signal-on-interrupt KILL"])
def test_the_stop_button_stops_the_engines_and_fails_the_cell(kernel: Kernel, flags: str) -> None:
    kernel.run("%px import os, time")
    ran = kernel.run(WORK.format(flags, "/nowhere"), interrupt_at="begun")
    assert (ran.status, ran.ename) == ("error", "KeyboardInterrupt")
    assert "go on" not in ran.text
    after = kernel.run("%px print('free')")
    assert (after.status, after.text.count("free")) == ("ok", ENGINES)


def test_without_a_signal_the_work_goes_on_and_can_be_waited_for(
    kernel: Kernel, tmp_path: Path
) -> None:
    kernel.run("%px import os, time")
    go = tmp_path / "go"
    ran = kernel.run(WORK.format("--signal-on-interrupt 0", str(go)), interrupt_at="begun")
    assert (ran.status, ran.ename) == ("error", "KeyboardInterrupt")
    assert "1 of 1 tasks go on; %pxresult waits for them" in ran.text
    go.touch()
    waited = kernel.run("%pxresult")
    assert waited.status == "ok"
    assert waited.text.endswith("begun\ndone\n")


WAITS = {
    "get": "view.map_async(wait, range(9)).get()",
    "map_sync": "view.map_sync(wait, range(9))",
    "iteration": "list(view.map_async(wait, range(9)))",
    "wait_interactive": "view.map_async(wait, range(9)).wait_interactive()",
    "await": "await view.map_async(wait, range(9))",
}
OTHER_WAITS = {
    "client.wait": "view.apply_async(wait, 1); client.wait()",
    "imap": "next(view.imap(wait, range(9)))",
    "imap as they come": "next(view.imap(wait, range(9), ordered=False))",
}


@pytest.mark.parametrize("how", [*WAITS, *OTHER_WAITS])
def test_an_interrupted_wait_shows_the_users_line_and_says_what_goes_on(
    kernel: Kernel, how: str
) -> None:
    kernel.run(VIEW + NOTICE)
    code = {**WAITS, **OTHER_WAITS}[how]
    ran = kernel.run(f"notice()\n{code}", interrupt_at="begun")
    assert ran.status == "error"
    assert f"----> 2 {code}" in ran.traceback
    assert "ipyasyncresult" not in ran.traceback
    if how in WAITS:
        assert "0 of 9 done; the rest goes on: abort() takes back" in ran.traceback
    assert kernel.run("client.abort(); client.interrupt(); client.wait()").status == "ok"


NOTICE = """
import asyncio, sys, threading
main = threading.get_ident()
def waits():
    frame = sys._current_frames()[main]
    while frame is not None and frame.f_code.co_name != "_receive":
        frame = frame.f_back
    return frame is not None
def say():
    print("begun", flush=True)
def watch():
    while not over.wait(0.01):
        if waits():
            return say()
def notice():
    "Say so when the main thread waits, or when the cell's coroutine lets the event loop go on."
    asyncio.get_running_loop().call_soon(over.set)
    asyncio.get_running_loop().call_soon(say)
    over.clear()
    threading.Thread(target=watch).start()
over = threading.Event()
"""
VIEW = """
import ipyasyncresult as ipar
client = ipar.connect()
view = client.load_balanced_view()
def wait(i):
    import time
    while True:
        time.sleep(0.01)
def divide(x):
    return 1 / x
"""


def test_errors_show_lines_of_the_user_and_none_of_ours(kernel: Kernel) -> None:
    kernel.run(VIEW)
    failed = kernel.run("view.map_sync(divide, [1, 0])")
    assert re.search(r'File "Cell In\[\d+\]", line 9, in divide\n +return 1 / x', failed.traceback)
    kernel.run("client[0].push({'divide': divide}, block=True)")
    in_a_cell = kernel.run("%px -t 0 divide(0)")
    assert re.search(r"Cell In\[\d+\], line 9, in divide\(x\)", in_a_cell.traceback)
    assert "----> 9     return 1 / x" in in_a_cell.traceback

    died = kernel.run("import os\nview.apply_async(os._exit, 3).get()")
    assert "exit code 3" in died.traceback
    late = kernel.run("task = view.apply_async(wait, 0)\ntask.get(timeout=0)")
    assert "TimeoutError: 0 of 1 done" in late.traceback
    no_hub = kernel.run("1\nipar.connect(cluster_id='nowhere')")
    assert "HubError: no cluster lives in" in no_hub.traceback
    for ran in (died, late, no_hub):
        assert "----> 2 " in ran.traceback
        assert "ipyasyncresult/" not in ran.traceback.replace("ipyasyncresult/nowhere", "")
    # It may not have begun: then there is nothing to interrupt, and it is taken back.
    assert kernel.run("client.abort(); client.interrupt(); client.wait()").status == "ok"


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        ("%%px -t 0\n\nx = 0\n1 / x", 4),
        ("%px x = 0\n\n%px -t 0 1 / x", 3),
        ("%px x = 0\nfor t in '01':\n    %px -t 0 1 / x", 3),
        ("%%px -t 0\n1 / / x", 2),
        ("%%px -t 0\nraise ExceptionGroup('some', [ValueError(1)])", 2),
    ],
)
def test_tracebacks_of_engines_have_the_number_and_lines_of_the_notebooks_cell(
    kernel: Kernel, cell: str, line: int
) -> None:
    number = int(kernel.run("print(len(In))").text)
    failed = kernel.run(cell)
    shown = failed.traceback + failed.text  # ipykernel prints exception groups
    assert re.search(rf'Cell In\[{number}\]"?, line {line}\b', shown)
    assert "ipyasyncresult/" not in shown


def test_what_was_typed_nowhere_has_the_number_of_the_engine(kernel: Kernel) -> None:
    kernel.run("import ipyasyncresult as ipar")
    failed = kernel.run("ipar.connect()[0].execute('1 / 0', block=True)")
    assert re.search(r"Engine In\[\d+\], line 1\n----> 1 1 / 0", failed.traceback)


def test_what_cannot_be_pickled_is_named_without_our_frames(kernel: Kernel) -> None:
    kernel.run(VIEW)
    sent = kernel.run("import threading\nview.apply_async(divide, {'a': threading.Lock()})")
    assert "SerializationError: argument 1['a']: cannot pickle" in sent.traceback
    back = kernel.run("view.apply_sync(lambda: {'a': threading.Lock()})")
    assert "result['a']: cannot pickle" in back.traceback
    for ran in (sent, back):
        assert "pickling.py" not in ran.traceback
        assert "cloudpickle" not in ran.traceback


# -------------------------------------------------------------------------------------- %autopx


def test_autopx_sends_cells_to_the_engines_until_it_comes_again(kernel: Kernel) -> None:
    assert kernel.run("%autopx").text == "%autopx enabled\n"
    try:
        kernel.run("where = os.getpid()")
        assert re.search(r"Cell In\[\d+\], line 2\n", kernel.run("x = 0\n1 / x").traceback)
        assert kernel.run("print('remote')").text.count("remote") == ENGINES
    finally:
        assert kernel.run("%autopx").text == "%autopx disabled\n"
    assert kernel.run("where").ename == "NameError"
    assert kernel.run("print('local')").text == "local\n"


# -------------------------------------------------------------------------------- two notebooks

JOIN = (
    "import ipyasyncresult as ipar, os\nclient = ipar.connect()\nview = client.load_balanced_view()"
)
HOLD = """
def hold(i, gate):
    import os, time
    print("at", i, flush=True)
    while not os.path.exists(gate):
        time.sleep(0.01)
    return i
result = view.map_async(hold, range(6), [{0!r}] * 6)
while sum(bool(text) for text in result.stdout) < 2:
    pass
"""


def test_two_notebooks_share_engines_and_leave_each_others_work_alone(
    runtime_dir: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    cluster = Cluster(n=2, persist=True)
    cluster.start_and_connect_sync()
    try:
        with a_kernel() as first, a_kernel() as second:
            for kernel in (first, second):
                assert kernel.run(JOIN).status == "ok"
            second.run("%load_ext ipyasyncresult")
            assert first.run(HOLD.format(str(gate))).status == "ok"
            seen = second.run("print(client.outstanding, client.history)")
            assert seen.text == "set() []\n"
            second.run("mine = view.apply_async(abs, -1)")
            said = second.run("print(client.abort(), mine.aborted(), client.interrupt())").text
            assert said.count("aborted") == 1
            assert said.endswith(" True {}\n")
            stopped = second.run("print('waits', flush=True)\n%px 1", interrupt_at="waits")
            assert stopped.status == "error"
            counts = first.run("print(result.counts())").text
            assert counts == "Counts(total=6, finished=0, failed=0, running=2)\n"
        # Both kernels have ended, and none of them has closed its client.
        gate.touch()
        with a_kernel() as again:
            again.run(JOIN)
            found = again.run(
                "first = client.hub_history()[:6]\n"
                "print(client.get_result(first).get(30), client.ids)"
            )
            assert found.text == "[0, 1, 2, 3, 4, 5] [0, 1]\n"
    finally:
        cluster.stop_cluster_sync()


# -------------------------------------------------------------------------------- in a terminal


@contextlib.contextmanager
def a_terminal(runtime_dir: Path) -> Iterator[Any]:
    """IPython in a terminal, with the magics loaded."""
    ipython = pexpect.spawn(
        sys.executable,
        ["-m", "IPython", "--simple-prompt", "--colors=nocolor", "--no-banner"],
        env={**os.environ, "TERM": "dumb"},
        encoding="utf-8",
        timeout=60,
        echo=False,
    )
    try:
        ipython.expect_exact("In [1]: ")
        yield ipython
        ipython.sendline("exit()")
        ipython.expect(pexpect.EOF)
    finally:
        ipython.close(force=True)


def test_cells_run_and_are_interrupted_in_a_terminal(runtime_dir: Path) -> None:
    with a_terminal(runtime_dir) as ipython:
        for cell, said in [
            ("%load_ext ipyasyncresult", None),
            ("%px import time; print('here')", "[stdout:0] here"),
            ("%autopx", "%autopx enabled"),
            ("sum(range(10))", "45"),
            ("%autopx", "%autopx disabled"),
            ("%px -t 0 print('begun'); time.sleep(60)", "[stdout:0] begun"),
        ]:
            ipython.sendline(cell)
            if said is not None:
                ipython.expect_exact(said)
            if "sleep" not in cell:
                ipython.expect("In .[0-9]+.: ")
        ipython.sendintr()
        ipython.expect_exact("KeyboardInterrupt")
        ipython.expect("In .[0-9]+.: ")
        ipython.sendline("%px print('free')")
        ipython.expect_exact("[stdout:0] free")
        ipython.expect("In .[0-9]+.: ")
