"""What a frontend receives from a real kernel: which cell each message belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel
from jupyter_core.utils import ensure_event_loop

pytestmark = pytest.mark.timeout(120)

TASKS = """
import sys, threading
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.capabilities import OWN_ENGINES
from ipyasyncresult.core.ledger import Ledger
from ipyasyncresult.core.outputs import Output
from ipyasyncresult.core.task import Status

def live_views():
    "Without what watches, for one more turn of the thread, the lines of an earlier cell."
    from ipyasyncresult.core.presenter import presenter
    from ipyasyncresult.display.background import LiveShow
    return [show for show, _ in presenter()._background._shows if isinstance(show, LiveShow)]

class Engines:
    "Tasks whose outputs the test makes up, fed from a thread as a client would."
    def __init__(self, count=2):
        self.ledger = Ledger(None)
        records = [self.ledger.submit(f"id-{n}", target=n) for n in range(count)]
        self.result = AsyncResult.over(self, records, "work")
    capabilities = OWN_ENGINES
    def engine_count(self):
        return 2
    def feed(self, task, *outputs, end=False):
        def feed():
            with self.ledger.batch() as batch:
                batch.output(f"id-{task}", outputs)
                if end:
                    batch.finish(f"id-{task}", Status.DONE)
        thread = threading.Thread(target=feed)
        thread.start()
        thread.join()

def out(text): return Output("stdout", 0, text)
def err(text): return Output("stderr", 0, text)
def shown(data, kind="display_data", id=None):
    data = {"text/plain": data} if isinstance(data, str) else data
    return Output(kind, 0, data=data, display_id=id, metadata={"from": "engine"})
"""


class Kernel:
    """A kernel and the messages that its cells lead to."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client

    def run(self, code: str) -> tuple[str, list[dict[str, Any]]]:
        """The cell's id, and what was published until it was done, of whatever cell."""
        cell: str = self._client.execute(code)
        seen: list[dict[str, Any]] = []
        while True:
            message = self._client.get_iopub_msg(timeout=60)
            kind, content = message["msg_type"], message["content"]
            assert kind != "error", "\n".join(content["traceback"])
            if kind not in ("status", "execute_input"):
                seen.append(message)
            of_this_cell = message["parent_header"].get("msg_id") == cell
            if of_this_cell and content.get("execution_state") == "idle":
                return cell, seen


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        kernel = Kernel(client)
        kernel.run(TASKS)
        yield kernel
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        ensure_event_loop().close()  # the one that jupyter_client made for this thread
        asyncio.set_event_loop(None)


def text_of(messages: list[dict[str, Any]], cell: str, stream: str = "stdout") -> str:
    return "".join(
        message["content"]["text"]
        for message in messages
        if message["msg_type"] == "stream"
        and message["content"]["name"] == stream
        and message["parent_header"]["msg_id"] == cell
    )


def displays_of(
    messages: list[dict[str, Any]], cell: str, kind: str = "display_data"
) -> list[dict[str, Any]]:
    return [
        message["content"]
        for message in messages
        if message["msg_type"] == kind and message["parent_header"]["msg_id"] == cell
    ]


def test_live_output_goes_to_the_cell_that_asked_while_other_cells_run(kernel: Kernel) -> None:
    asking, first = kernel.run("""
engines = Engines()
engines.feed(0, out("early\\n"))
streaming = engines.result.stream_output()
streaming.__enter__()
""")
    assert text_of(first, asking) == "[stdout:0] early\n"

    later, seen = kernel.run("""
print("mine, before")
engines.feed(0, out("live\\n"), err("problem\\n"), shown("picture", id="x"))
engines.feed(1, shown({"text/plain": "<Figure>", "image/png": "iVBO"}, id="x"))
print("mine, after")
display({"text/plain": "my display"}, raw=True)
""")
    assert text_of(seen, later) == "mine, before\nmine, after\n"
    assert text_of(seen, asking) == "[stdout:0] live\n"
    assert text_of(seen, asking, "stderr") == "[stderr:0] problem\n"
    assert [d["data"]["text/plain"] for d in displays_of(seen, later)] == ["my display"]
    text, prefix, figure = displays_of(seen, asking)
    assert text["data"] == {"text/plain": "[output:0] picture"}
    assert prefix["data"] == {"text/plain": "[output:1]"}
    assert figure["data"] == {"text/plain": "<Figure>", "image/png": "iVBO"}
    assert figure["metadata"] == {"from": "engine"}

    later, seen = kernel.run("""
engines.feed(0, shown("updated", "update_display_data", "x"), err("\\r 10%"))
engines.feed(0, err("\\r100%\\n"), end=True)
print("mine")
""")
    ids = [d["transient"]["display_id"] for d in displays_of(seen, asking, "update_display_data")]
    updates = [d["data"]["text/plain"] for d in displays_of(seen, asking, "update_display_data")]
    assert updates == ["[output:0] updated", "\x1b[31m[stderr:0]\x1b[0m 100%"]
    assert ids[0] == text["transient"]["display_id"] != figure["transient"]["display_id"]
    assert text_of(seen, later) == "mine\n"

    ending, seen = kernel.run("""
engines.feed(1, out("no end"))
streaming.__exit__(None, None, None)
engines.feed(1, out("nobody sees this\\n"))
print("mine")
""")
    assert text_of(seen, asking) == "[stdout:1] no end\n"
    assert text_of(seen, ending) == "mine\n"


def test_a_thread_of_the_cell_streams_to_its_cell_after_the_cell_is_done(kernel: Kernel) -> None:
    asking, _ = kernel.run("""
engines, go_on = Engines(), threading.Event()
def work():
    with engines.result.stream_output():
        started.set()
        go_on.wait()
started = threading.Event()
thread = threading.Thread(target=work)
thread.start()
started.wait();
""")
    later, seen = kernel.run("""
engines.feed(0, out("from the engine\\n"))
go_on.set()
thread.join()
print("mine")
""")
    assert text_of(seen, asking) == "[stdout:0] from the engine\n"
    assert text_of(seen, later) == "mine\n"


def test_many_short_prints_are_few_messages(kernel: Kernel) -> None:
    """A notebook server drops what comes faster than 1,000 messages a second."""
    cell, seen = kernel.run("""
engines = Engines(500)
with engines.result.stream_output():
    for task in range(500):
        with engines.ledger.batch() as batch:
            batch.output(f"id-{task}", [out(f"line {task}\\n")])
""")
    assert text_of(seen, cell).count("\n") == 500
    assert len(seen) < 100


def test_captured_live_output_stays_captured(kernel: Kernel) -> None:
    cell, seen = kernel.run("""
from IPython.utils.capture import capture_output
engines = Engines()
with capture_output() as captured, engines.result.stream_output():
    engines.feed(0, out("hello\\n"), shown("picture"))
print(repr(captured.stdout), [o.data["text/plain"] for o in captured.outputs])
""")
    assert text_of(seen, cell) == r"'[stdout:0] hello\n' ['[output:0] picture']" + "\n"
    assert displays_of(seen, cell) == []


def test_outputs_are_republished_as_streams_and_displays(kernel: Kernel) -> None:
    cell, seen = kernel.run("""
engines = Engines(2)
colour = "\\x1b[31mred\\x1b[0m\\n"
engines.feed(0, out("a\\n"), err(colour), shown({"text/plain": "t", "text/html": "<b>t</b>"}))
engines.feed(1, out("b\\n"), Output("execute_result", 0, data={"text/plain": "42"},
                                    execution_count=7), end=True)
engines.result.display_outputs(timeout=0)
""")
    order = [
        message["content"].get("text") or message["content"]["data"]["text/plain"]
        for message in seen
    ]
    assert order == [
        "[stdout:0] a\n[stdout:1] b\n",
        "[stderr:0] \x1b[31mred\x1b[0m\n",
        "[output:0]\n",
        "t",
        "Out[1:7]: 42",
    ]
    assert seen[1]["content"]["name"] == "stderr"
    assert displays_of(seen, cell)[0]["data"]["text/html"] == "<b>t</b>"


def test_a_wait_shows_a_widget_and_leaves_html_and_text(kernel: Kernel) -> None:
    cell, seen = kernel.run("""
engines = Engines(2)
class Presenting:  # long enough to be shown, without sleeping
    def __init__(self, result): self.result, self.waits = result, 0
    def __getattr__(self, name): return getattr(self.result, name)
    def wait(self, timeout):
        self.waits += 1
        if self.waits > 1:
            engines.feed(self.waits - 2, end=True)
from ipyasyncresult.core.presenter import presenter
assert presenter().wait_interactive(Presenting(engines.result), 1.0, None)
""")
    (first,) = displays_of(seen, cell)
    assert "application/vnd.jupyter.widget-view+json" in first["data"]
    assert first["data"]["text/plain"].startswith("work: 0/2")
    last = displays_of(seen, cell, "update_display_data")[-1]
    assert set(last["data"]) == {"text/plain", "text/html"}
    assert last["data"]["text/plain"].startswith("work: 2/2 done")
    assert last["transient"]["display_id"] == first["transient"]["display_id"]
    comms = [m for m in seen if m["msg_type"] in ("comm_open", "comm_close")]
    opened = {m["content"]["comm_id"] for m in comms if m["msg_type"] == "comm_open"}
    closed = {m["content"]["comm_id"] for m in comms if m["msg_type"] == "comm_close"}
    assert opened == closed


WIDGET = "application/vnd.jupyter.widget-view+json"


def test_a_pending_result_is_live_under_its_cell_until_the_work_ends(kernel: Kernel) -> None:
    asking, seen = kernel.run("engines = Engines(3); engines.result")
    (first,) = displays_of(seen, asking)
    assert displays_of(seen, asking, "execute_result") == []
    assert "0/3" in first["data"]["text/html"]
    assert WIDGET not in first["data"]
    later, since = kernel.run("""
(live,) = [t for t in threading.enumerate() if t.name == "ipyasyncresult-live"]
(show,) = live_views()
while show._model is None: live.join(0.01)
for task in range(3): engines.feed(task, end=True)
live.join()
assert _ is not None and not engines.result._tally.followers
print("mine")
""")
    # From the cell that runs: nbclient would not hear of them otherwise.  The widget comes after a
    # moment, which may be over before the next cell begins.
    before = displays_of([*seen, *since], asking, "update_display_data")
    updates = [*before, *(now := displays_of(since, later, "update_display_data"))]
    assert [WIDGET in update["data"] for update in updates] == [True, False]
    assert now[-1]["data"]["text/plain"].startswith("work: 3/3 done")
    ids = {shown["transient"]["display_id"] for shown in [first, *updates]}
    assert len(ids) == 1
    assert text_of(since, later) == "mine\n"


def test_a_finished_result_shows_itself(kernel: Kernel) -> None:
    kernel.run("engines = Engines(3)\nfor task in range(3): engines.feed(task, end=True)")
    cell, seen = kernel.run("engines.result")
    (shown,) = displays_of(seen, cell, "execute_result")
    assert "3/3" in shown["data"]["text/html"]
    cell, seen = kernel.run("engines.result.timeline()")
    (shown,) = displays_of(seen, cell, "execute_result")
    assert shown["data"]["image/svg+xml"].startswith("<svg")


def test_progress_goes_on_while_the_cell_does_other_things(kernel: Kernel) -> None:
    cell, seen = kernel.run("""
engines = Engines(2)
with engines.result.show_live():
    (show,) = live_views()
    while show._model is None: threading.Event().wait(0.01)
    for task in range(2): engines.feed(task, end=True)
""")
    (first,) = displays_of(seen, cell)
    last = displays_of(seen, cell, "update_display_data")[-1]
    assert WIDGET in first["data"]
    assert set(last["data"]) == {"text/plain", "text/html"}
    assert last["data"]["text/plain"].startswith("work: 2/2 done")


def test_one_setting_turns_widgets_off(kernel: Kernel) -> None:
    kernel.run("from ipyasyncresult.display import settings; settings.widgets = False")
    asking, seen = kernel.run("engines = Engines(1); engines.result")
    ending, later = kernel.run("""
(live,) = [t for t in threading.enumerate() if t.name == "ipyasyncresult-live"]
engines.feed(0, end=True)
live.join()
settings.widgets = None
""")
    shown = [*displays_of(seen, asking), *displays_of(later, ending, "update_display_data")]
    assert [set(one["data"]) for one in shown] == [{"text/plain", "text/html"}] * len(shown)
    assert shown[-1]["data"]["text/plain"].startswith("work: 1/1 done")
    assert [m for m in [*seen, *later] if m["msg_type"] == "comm_open"] == []


def test_threads_of_the_kernel_print_and_display_to_their_tasks(kernel: Kernel) -> None:
    cell, seen = kernel.run("""
from concurrent.futures import ThreadPoolExecutor
import ipyasyncresult as ipar

shared = []
def task(number):
    shared.append(number)
    print("task", number)
    display({"text/plain": f"picture {number}"}, raw=True)
    return shared

with ThreadPoolExecutor(2) as pool, ipar.connect(pool) as client:
    print("mine, before")
    of_threads = client.load_balanced_view().map_async(task, range(3), chunksize=1)
    results = of_threads.get()
    display({"text/plain": "my display"}, raw=True)
print("mine, after", sorted(shared), all(one is shared for one in results))
""")
    assert text_of(seen, cell) == "mine, before\nmine, after [0, 1, 2] True\n"
    assert [d["data"]["text/plain"] for d in displays_of(seen, cell)] == ["my display"]

    cell, seen = kernel.run("of_threads.display_outputs(groupby='order')")
    pictures = [d["data"]["text/plain"] for d in displays_of(seen, cell)]
    assert [one.partition("] ")[2] for one in pictures] == [f"picture {n}" for n in range(3)]
    lines = text_of(seen, cell).splitlines()
    assert [line.partition("] ")[2] for line in lines] == [f"task {n}" for n in range(3)]
