"""An engine as a Jupyter kernel: a console looks inside, and the engine goes on with tasks."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_core.utils import ensure_event_loop

import ipyasyncresult as ipar
from tests.integration.conftest import hub_of

if TYPE_CHECKING:
    from tests.integration.conftest import Gate, NewGate

SOON = 30.0


@pytest.fixture(scope="module", autouse=True)
def _loop_of_the_frontends() -> Iterator[None]:
    """jupyter_client keeps one per thread, with its sockets."""
    loop = ensure_event_loop()
    yield
    loop.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[ipar.Client]:
    with ipar.Cluster(n=2) as client:
        client[:].apply_sync(list)
        client.bind_kernel()  # from now on every socket and file is there
        yield client


@pytest.fixture
def client(shared: ipar.Client, new_gate: NewGate) -> Iterator[ipar.Client]:
    yield shared
    new_gate.open_all()
    shared.wait_for_engines(2, timeout=SOON)
    assert shared.wait(timeout=SOON)


class Console:
    """A frontend, without the person."""

    def __init__(self, file: str) -> None:
        self.kernel = BlockingKernelClient(connection_file=file)
        self.kernel.load_connection_file()
        self.kernel.start_channels()
        self.kernel.wait_for_ready(timeout=SOON)

    def run(self, code: str) -> tuple[str, str]:
        """How it ended, and what it printed or showed, without the trailing line end."""
        shown = []

        def show(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                shown.append(content["text"])
            elif message["msg_type"] in ("execute_result", "display_data"):
                shown.append(content["data"]["text/plain"])
            elif message["msg_type"] == "error":
                shown.append(content["ename"])

        reply = self.kernel.execute_interactive(code, timeout=SOON, output_hook=show)
        return reply["content"]["status"], "".join(shown).rstrip()

    def close(self) -> None:
        self.kernel.stop_channels()
        self.kernel.context.destroy(linger=0)


@pytest.fixture
def open_console() -> Iterator[Callable[[str], Console]]:
    opened: list[Console] = []

    def connect(file: str) -> Console:
        opened.append(Console(file))
        return opened[-1]

    yield connect
    for console in opened:
        console.close()


def hold(started: Gate, go: Gate) -> str:
    started.open()
    go.wait()
    print("from the task")
    return "held"


def test_a_console_works_in_the_namespace_while_a_task_runs(
    client: ipar.Client, new_gate: NewGate, open_console: Callable[[str], Console]
) -> None:
    started, go = new_gate("started"), new_gate("go")
    client[0].push({"x": 41}, block=True)
    running = client[0].apply_async(hold, started, go)
    started.wait()
    file = client.bind_kernel(0)  # the engine is busy
    console = open_console(file)
    assert console.run("x + 1") == ("ok", "42")
    assert console.run("y = x * 2; print('seen'); import os; os.getpid()") == (
        "ok",
        f"seen\n{client.engines[0]['pid']}",
    )
    assert console.run("1 / 0") == ("error", "ZeroDivisionError")
    assert console.run("import asyncio; await asyncio.sleep(0.01); 'awaited'") == (
        "ok",
        "'awaited'",
    )
    assert console.run("%who int")[1].split() == ["x", "y"]
    assert console.run("!echo from a shell") == ("ok", "from a shell")
    assert not running.ready()
    go.open()
    assert running.get(SOON) == "held"
    assert running.stdout == "from the task\n"  # and nothing of the console's
    assert client[0].pull("y", block=True) == 82
    assert client.bind_kernel(0) == file
    cell = client[0].execute("print('cell'); y + 1")
    assert cell.get(SOON).execute_result["data"]["text/plain"] == "83"
    assert cell.stdout == "cell\n"


def test_only_this_user_can_connect(client: ipar.Client) -> None:
    file = Path(client[1].bind_kernel())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    for process in (hub_of(client), *hub_of(client).children(recursive=True)):
        assert process.net_connections("inet") == []


def test_a_console_is_interrupted_without_the_task(
    client: ipar.Client, new_gate: NewGate, open_console: Callable[[str], Console]
) -> None:
    started, go = new_gate("started"), new_gate("go")
    running = client[1].apply_async(hold, started, go)
    started.wait()
    console = open_console(client.bind_kernel(1))
    busy = console.kernel.execute("import time\nprint(1)\nwhile True: time.sleep(0.01)")
    while console.kernel.get_iopub_msg(timeout=SOON)["msg_type"] != "stream":
        pass
    control = console.kernel.control_channel
    control.send(console.kernel.session.msg("interrupt_request", {}))
    reply = console.kernel.get_shell_msg(timeout=SOON)
    assert reply["parent_header"]["msg_id"] == busy
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert not running.ready()
    go.open()
    assert running.get(SOON) == "held"


def test_a_console_that_shuts_down_leaves_the_engine_alone(
    client: ipar.Client, open_console: Callable[[str], Console]
) -> None:
    def start_child() -> int:
        import subprocess

        return subprocess.Popen(["sleep", "99"]).pid

    child = client[0].apply_sync(start_child)
    file = client.bind_kernel(0)
    pid = client.engines[0]["pid"]
    open_console(file).kernel.shutdown()
    deadline = time.monotonic() + SOON
    while Path(file).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert client[0].apply_sync(os.getpid) == pid
    os.kill(child, 0)  # what tasks started lives, too
    again = client.bind_kernel(0)
    assert open_console(again).run("6 * 7") == ("ok", "42")


def test_an_engine_that_took_over_a_number_can_be_looked_into(
    client: ipar.Client, open_console: Callable[[str], Console]
) -> None:
    client.bind_kernel(1)
    client.restart(1)
    console = open_console(client.bind_kernel(1))
    assert console.run("import os; os.getpid()") == ("ok", str(client.engines[1]["pid"]))


def test_an_engine_that_dies_meanwhile_is_said_to(client: ipar.Client, new_gate: NewGate) -> None:
    client.restart(0)
    client.send_signal("SIGSTOP", targets=0)
    assert client._connection.wait(lambda: client.engines[0]["stopped"], SOON)
    with pytest.raises(ipar.TimeoutError):
        client.bind_kernel(0, timeout=0.2)
    with pytest.raises(IndexError):
        client.bind_kernel(9)
    client.restart(0)
    assert isinstance(client.bind_kernel(), list)
