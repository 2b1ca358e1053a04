"""Tools and frontends that are not JupyterLab: what works there, and that nothing hangs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pexpect
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel
from jupyter_core.utils import ensure_event_loop
from nbclient import NotebookClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

DISPLAYS = ("display_data", "update_display_data")
WIDGET = "application/vnd.jupyter.widget-view+json"

# ----------------------------------------------------------------------------- without a person

CELLS = [
    "count = 1",
    "%load_ext ipyasyncresult\n%px print('hello')",
    """
import ipyasyncresult as ipar

def step(number):
    import time
    time.sleep(0.5)
    print("did", number)
    if number == 2:
        raise ValueError("two is too much")
    return number

result = ipar.connect().load_balanced_view().map_async(step, range(count))
result.wait_interactive(interval=0.01)
""",
    "result",
    "result.display_outputs(groupby='order')",
    "print(result.ok)",
    "%%px --targets 0\nfrom IPython.display import HTML\ndisplay(HTML('<b>bold</b>'))",
]


def printed_in(outputs: list[dict[str, Any]]) -> str:
    """What stands on stdout; in as many pieces as it came, between which others may stand."""
    return "".join(one["text"] for one in outputs if one.get("name") == "stdout")


def test_papermill_runs_a_notebook_and_its_outputs_can_be_read(tmp_path: Path) -> None:
    given, ran = tmp_path / "given.ipynb", tmp_path / "ran.ipynb"
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    cells[0].metadata["tags"] = ["parameters"]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), given)
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "-p", "count", "4"]
    ended = subprocess.run([*command, given, ran], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    notebook = nbformat.read(ran, as_version=4)
    by_source = {
        cell.source.strip(): [dict(output) for output in cell.outputs] for cell in notebook.cells
    }
    assert "[stdout:0] hello" in printed_in(by_source[CELLS[1]])
    # Nothing, should the machine have stood still until all was done.
    for waited in next(outputs for source, outputs in by_source.items() if "def step" in source):
        assert set(waited["data"]) == {"text/plain", "text/html"}
        assert waited["data"]["text/plain"].startswith("step: 4/4 done")
        assert "ValueError: two is too much" in waited["data"]["text/plain"]
    (shown,) = by_source["result"]
    assert shown["data"]["text/plain"] == "<AsyncMapResult(step): finished, 1 failed>"
    assert "4/4" in shown["data"]["text/html"]
    lines = printed_in(by_source[CELLS[4]]).splitlines()
    assert sorted(line.partition("] ")[2] for line in lines) == [
        f"did {number}" for number in range(4)
    ]
    assert printed_in(by_source[CELLS[5]]) == "[0, 1, 3]\n"
    assert any(one.get("data", {}).get("text/html") == "<b>bold</b>" for one in by_source[CELLS[6]])


# nbclient's own, where it finds no date in a message.
@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
def test_a_view_is_at_its_end_when_the_last_cell_is(tmp_path: Path) -> None:
    """Right behind it the kernel ends."""
    start = """
import ipyasyncresult as ipar

def step(gate):
    import os
    while not os.path.exists(gate):
        pass

view = ipar.connect(n=1).load_balanced_view()
result = view.map_async(step, [gate] * 3)
result"""
    appear = """
import gc
from ipyasyncresult.display.background import LiveShow

(show,) = [one for one in gc.get_objects() if type(one) is LiveShow]
while show._model is None:
    pass"""
    cells = [
        f"gate = {str(tmp_path / 'gate')!r}{start}",
        appear,
        "open(gate, 'w').close(); result.wait()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in cells])
    client = NotebookClient(notebook, kernel_name="python3", timeout=60, store_widget_state=False)
    asyncio.run(client.async_execute())  # not execute(): it leaves an event loop open
    (shown,) = notebook.cells[0].outputs
    assert set(shown["data"]) == {"text/plain", "text/html"}
    assert shown["data"]["text/plain"].startswith("step: 3/3 done")
    assert "widgets" not in notebook.metadata


# --------------------------------------------------------------------------------- in a terminal


def test_jupyter_console_shows_results_as_text(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "TERM": "dumb",
        "NO_COLOR": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    command = ["-m", "jupyter_console", "--simple-prompt"]
    command += ["--ZMQTerminalInteractiveShell.confirm_exit=False"]
    console = pexpect.spawn(
        sys.executable, command, encoding="utf-8", timeout=60, env=environment, dimensions=(50, 200)
    )

    def run(line: str) -> str:
        """What the console says to a line, up to the next prompt."""
        console.sendline(line)
        console.expect_exact(line)  # the echo
        console.expect(r"In \[\d+\]: $")
        said: str = console.before
        return said

    try:
        console.expect(r"In \[\d+\]: $")
        run("import ipyasyncresult as ipar; client = ipar.connect(n=2)")
        run("step = lambda number: (print('did', number), number)[1]")
        run("result = client.load_balanced_view().map_async(step, range(4))")
        assert "step" not in run("result.wait_interactive(interval=0.01)").replace("<lambda>", "")
        assert "did 3" in run("result.display_outputs()")
        assert "<AsyncMapResult(<lambda>): finished>" in run("result")
        assert "Error" not in run("%load_ext ipyasyncresult")
        said = run("%px print('hello')")
        assert "[stdout:0] hello" in said
        assert "[stdout:1] hello" in said
        console.sendline("exit")
        console.expect(pexpect.EOF)
    finally:
        console.close(force=True)


# ----------------------------------------------------- frontends without widgets and subshells


class PlainFrontend:
    """As VS Code without its widgets, or Colab: it refuses comms, and asks for no subshell."""

    def __init__(self, client: BlockingKernelClient, manager: KernelManager) -> None:
        self.client = client
        self.manager = manager

    def run(
        self, code: str, seen: Callable[[dict[str, Any]], None] | None = None
    ) -> list[dict[str, Any]]:
        """What the cell shows; `seen` looks at each message as it comes."""
        # Else a kernel may drop what comes right behind a cell that failed.
        cell = self.client.execute(code, stop_on_error=False)
        messages: list[dict[str, Any]] = []
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            messages.append(message)
            if seen is not None:
                seen(message)
            if message["msg_type"] == "comm_open":
                self._refuse(message["content"]["comm_id"])
            idle = message["content"].get("execution_state") == "idle"
            if idle and message["parent_header"].get("msg_id") == cell:
                return messages

    def _refuse(self, comm_id: str) -> None:
        """A frontend that does not know the target closes the comm: so says the protocol."""
        content = {"comm_id": comm_id, "data": {}}
        session = self.client.session
        self.client.shell_channel.send(session.msg("comm_close", content))


def bundles(messages: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    wanted = kinds or (*DISPLAYS, "execute_result")
    return [one["content"]["data"] for one in messages if one["msg_type"] in wanted]


def opens(gate: Path) -> Callable[[dict[str, Any]], None]:
    """Opens the gate when something is displayed."""

    def look(message: dict[str, Any]) -> None:
        if message["msg_type"] == "display_data":
            gate.touch()

    return look


def errors(messages: list[dict[str, Any]]) -> list[str]:
    return [one["content"]["ename"] for one in messages if one["msg_type"] == "error"]


@pytest.fixture(scope="module")
def plain() -> Iterator[PlainFrontend]:
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        frontend = PlainFrontend(client, manager)
        started = frontend.run(
            "import threading, ipyasyncresult as ipar\nfrom pathlib import Path\n"
            "client = ipar.connect(n=2)\nview = client.load_balanced_view()\n"
            "def wait(gate):\n    import time\n"
            "    while not Path(gate).exists(): time.sleep(0.002)\n    print('through')\n"
        )
        assert errors(started) == []
        yield frontend
        frontend.run("client.close()")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        ensure_event_loop().close()  # the one that jupyter_client made for this thread
        asyncio.set_event_loop(None)


def test_without_widgets_there_is_text_and_html_and_the_cell_ends(
    plain: PlainFrontend, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    cell = f"result = view.map_async(wait, [{str(gate)!r}] * 3)\nresult.wait_interactive()"
    messages = plain.run(cell, opens(gate))
    assert errors(messages) == []
    first, *_, last = bundles(messages)
    assert WIDGET in first
    assert first["text/plain"].startswith("wait: 0/3")
    assert set(last) == {"text/plain", "text/html"}
    assert last["text/plain"].startswith("wait: 3/3 done")
    after = plain.run("result.display_outputs()")
    assert errors(after) == []
    said = "".join(one["content"]["text"] for one in after if one["msg_type"] == "stream")
    assert said.count("through") == 3


def test_without_widgets_an_interrupt_ends_the_wait_and_nothing_else(
    plain: PlainFrontend, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"

    def interrupt_when_shown(message: dict[str, Any]) -> None:
        if message["msg_type"] == "display_data":
            plain.manager.interrupt_kernel()

    cell = f"result = view.map_async(wait, [{str(gate)!r}])\nresult.wait_interactive()"
    assert errors(plain.run(cell, interrupt_when_shown)) == ["KeyboardInterrupt"]
    gate.touch()
    again = plain.run("result.get()")
    assert errors(again) == []
    assert bundles(again, "execute_result")[0]["text/plain"] == "[None]"


def test_a_pending_result_is_shown_and_brought_up_to_date_without_widgets(
    plain: PlainFrontend, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    shown = plain.run(f"result = view.map_async(wait, [{str(gate)!r}] * 2)\nresult")
    # The view comes from a thread: within this cell, or a moment later.
    ended = plain.run(
        "live = [t for t in threading.enumerate() if t.name == 'ipyasyncresult-live']\n"
        f"Path({str(gate)!r}).touch()\n"
        "for thread in live: thread.join()\n"
        "result.get()"
    )
    assert errors(shown + ended) == []
    texts = [one["text/plain"] for one in bundles(shown + ended, *DISPLAYS)]
    assert any(text.startswith("wait: 2/2 done") for text in texts)


def test_where_widgets_are_not_installed_text_takes_their_place(
    plain: PlainFrontend, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    messages = plain.run(
        "import sys\n"
        "hidden = {name: sys.modules.get(name) for name in ('anywidget', 'ipywidgets')}\n"
        "sys.modules.update(dict.fromkeys(hidden))\n"
        f"view.map_async(wait, [{str(gate)!r}] * 2).wait_interactive()\n"
        "sys.modules.update(hidden)",
        opens(gate),
    )
    assert errors(messages) == []
    assert [one["msg_type"] for one in messages if one["msg_type"].startswith("comm")] == []
    assert all(set(one) == {"text/plain", "text/html"} for one in bundles(messages))
    assert bundles(messages)[-1]["text/plain"].startswith("wait: 2/2 done")
