"""What a task costs, in calls: a guard that does not depend on how fast or busy the machine is.

Calls of Python and C functions are counted.  The bounds are about half as much again as was counted
when they were written (behind each): who needs more says why, here.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from ipyasyncresult import Client, Cluster
from ipyasyncresult.hub.archive import Archive
from ipyasyncresult.hub.records import EngineState
from ipyasyncresult.hub.state import HubState
from ipyasyncresult.wire import messages as m

ROUNDS = 200


def count_calls(run: Callable[[], object]) -> int:
    """How many calls of functions this thread makes in `run`."""
    counted = Counter[str]()

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        counted[event] += 1

    # The collector may end objects of other tests at any moment, with calls of their own.
    gc.collect()
    gc.disable()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
        gc.enable()
    return counted["call"] + counted["c_call"]


def nothing() -> None:
    return None


@pytest.fixture(scope="module")
def alone() -> Iterator[Client]:
    """One engine, which knows the function."""
    with Cluster(n=1) as client:
        view = client.load_balanced_view()
        for _ in range(50):
            view.apply_sync(divmod, 7, 2)
        yield client


def test_a_round_trip_in_the_client(alone: Client) -> None:
    view = alone.load_balanced_view()

    def run() -> None:
        for _ in range(ROUNDS):
            view.apply_async(divmod, 7, 2).get()

    assert count_calls(run) / ROUNDS < 150  # 100


def test_a_task_of_many_in_the_client(alone: Client) -> None:
    view = alone.load_balanced_view()
    results: list[Any] = []

    def submit() -> None:
        results.extend(view.apply_async(divmod, 7, 2) for _ in range(5 * ROUNDS))

    assert count_calls(submit) / (5 * ROUNDS) < 50  # 29
    alone.wait()

    def get() -> None:
        for result in results:
            result.get()

    assert count_calls(get) / (5 * ROUNDS) < 12  # 6


def test_asking_does_not_depend_on_how_many_tasks_there_are(alone: Client) -> None:
    view = alone.load_balanced_view()
    few = view.map_async(divmod, [7] * 10, [2] * 10, chunksize=1)
    many = view.map_async(divmod, [7] * 3000, [2] * 3000, chunksize=1)
    few.wait()
    many.wait()
    for ask in (
        lambda result: result.ready(),
        lambda result: result.progress,
        lambda result: result.counts(),
        lambda result: result.successful(),
    ):
        assert count_calls(lambda ask=ask: ask(many)) == count_calls(lambda ask=ask: ask(few))  # type: ignore[misc]


def test_a_task_in_an_engine(alone: Client) -> None:
    """Counted in the engine itself, from within a task: the profile stays when it has ended."""
    engine = alone[0]
    engine.execute(
        """
        import sys
        calls = [0]
        def note(frame, event, argument):
            if event in ("call", "c_call"):
                calls[0] += 1
        """,
        block=True,
    )
    engine.execute("sys.setprofile(note); calls[0] = 0", block=True)
    results = [engine.apply_async(divmod, 7, 2) for _ in range(ROUNDS)]
    for result in results:
        result.get()
    engine.execute("sys.setprofile(None); counted = calls[0]", block=True)
    # The cell that starts the count and the one that ends it are in it: a few thousand calls.
    cells = 5_000
    assert (engine.pull("counted", block=True) - cells) / ROUNDS < 90  # 59


def test_a_task_in_the_hub() -> None:
    state = HubState(Archive())
    engine = EngineState(0, "e", 0.0)
    state.engine_ready(engine)

    def run() -> None:
        for turn in range(ROUNDS // 10):
            ids = [f"c-{turn}-{i}" for i in range(10)]
            submit = m.encode(m.Submit([b"function"], [m.Task(i, 0, b"arguments") for i in ids]))
            message: Any = m.decode_from_client(submit)
            state.submit("c", message.functions, message.tasks, (), message.group, 0.0)
            while engine.assigned or state.shared:
                state.assign()
                for _, batch in state.runs:
                    m.encode(m.Run([b"function"], [held.task for held in batch]))
                state.runs.clear()
                ends = [m.Finished(i, m.OK, b"r", 0, 0.0, 0.0, 1e-5) for i in engine.assigned]
                stream: Any = m.decode_from_engine(m.encode(m.Stream(list(ends))))
                for item in stream.items:
                    state.finished(engine, item, ())
                news = [item for item, _ in state.news.pop("c")]
                m.encode(m.News(news))

    assert count_calls(run) / ROUNDS < 50  # 29
    assert state.unfinished == 0


def test_what_is_not_needed_at_once_is_not_imported_at_once() -> None:
    """Start-up time is what is imported: that can be counted."""
    script = """
import sys
import ipyasyncresult
print(*sys.modules)
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
before = set(sys.modules)
shell.run_line_magic("load_ext", "ipyasyncresult")
print(*(set(sys.modules) - before))
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    bare, extension = ([*line.split()] for line in ran.stdout.splitlines()[-2:])
    slow = {"zmq", "numpy", "cloudpickle", "ipywidgets", "anywidget", "msgspec", "multiprocessing"}
    assert not (slow | {"IPython", "tqdm", "ctypes"}) & set(bare)
    assert not (slow | {"ipykernel"}) & set(extension)
    assert len(extension) < 60  # 34


IPYTHON = """
import sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
print(*sys.modules)
"""
HUB = """
import sys
import ipyasyncresult.hub.__main__ as start
for name in (*start.SHARED, "ipyasyncresult.hub.server", "ipyasyncresult.hub.settings"):
    __import__(name)
print(*sys.modules)
"""
SHARED = """
import sys
import ipyasyncresult.hub.__main__ as start
for name in start.SHARED:
    __import__(name)
print(*sys.modules)
"""
NURSERY = """
import sys
import ipyasyncresult.engine.nursery
print(*sys.modules)
"""


def modules_after(script: str) -> set[str]:
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_an_engine_starts_with_little_more_than_ipython_needs() -> None:
    with Cluster(n=1) as client:
        ours = set(client[0].apply_sync(eval, "list(__import__('sys').modules)"))
    more = ours - modules_after(IPYTHON)
    later = {"asyncio", "ssl", "http", "email", "sqlite3", "jedi", "prompt_toolkit", "stack_data"}
    assert not later & more
    assert not {"ipykernel", "ipywidgets", "tqdm", "numpy", "matplotlib", "jupyter_core"} & ours
    assert (
        not {"ipyasyncresult.hub.server", "ipyasyncresult.client", "ipyasyncresult.magics"} & ours
    )
    assert len(more) < 190  # 127


def test_a_hub_starts_without_what_only_others_need() -> None:
    """Without a store, and before its first message."""
    hub = modules_after(HUB)
    others = {"asyncio", "ssl", "http", "email", "sqlite3", "IPython", "traitlets", "ctypes"}
    assert not others & hub
    assert not {"ipyasyncresult.engine", "ipyasyncresult.worker", "ipyasyncresult.client"} & hub
    assert len(hub) < 330  # 225


def test_what_hub_and_nursery_both_need_is_imported_before_they_part() -> None:
    shared = modules_after(SHARED)
    both = modules_after(HUB) & modules_after(NURSERY)
    assert "msgspec" in shared
    assert "zmq" not in both  # it is for TCP
    assert {name for name in both if name.startswith("ipyasyncresult.")} <= shared
