"""What the record of a backend says is so, over the real thing.

A *yes* works.  A *no* is refused by name, or what the record's own text says of it is so.  A new
field of ``Capabilities`` needs its entry in ``TRIALS``.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import ipyasyncresult as ipar
from ipyasyncresult.core.capabilities import Capabilities
from ipyasyncresult.display.model import LiveModel
from ipyasyncresult.errors import CapabilityError, TaskTimeout
from tests.conftest import forget_shell
from tests.contract.conftest import BACKENDS, Gate, param

if TYPE_CHECKING:
    from tests.contract.conftest import Backend

SOON = 30.0
"""Seconds after which waiting is given up."""

FIELDS = [field.name for field in fields(Capabilities) if field.name != "backend"]
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "own-backend.md"


class Trial(NamedTuple):
    """How one field of the record is tried."""

    works: Callable[[Backend, Gate], None]
    """Passes where the record says yes."""
    asks: tuple[Callable[[Any], object], ...] = ()
    """Ways to ask a client for it: refused where the record says no."""
    lacks: Callable[[Backend, Gate], None] | None = None
    """Passes where the record says no and there is nothing to refuse."""
    button: str = ""
    """Of the widget: grey, with the reason, where the record says no."""


# ------------------------------------------------------------------------------------- outputs


def speak() -> None:
    print("said")
    print("warned", file=sys.stderr)


def outputs_are_kept(backend: Backend, gate: Gate) -> None:
    result = backend.map(lambda _: speak(), range(2))
    result.get(SOON)
    assert result.stdout == ["said\n"] * 2
    assert result.stderr == ["warned\n"] * 2


def outputs_are_not_known(backend: Backend, gate: Gate) -> None:
    result = backend.call(speak)
    result.wait(SOON)
    assert result.successful()
    assert "".join(result.stdout) == ""
    assert [list(task.outputs) for task in result.tasks()] == [[]]


def show() -> None:
    from IPython.display import HTML, display

    display(HTML("<b>shown</b>"))


def displays_are_kept(backend: Backend, gate: Gate) -> None:
    result = backend.call(show)
    result.get(SOON)
    (output,) = result.tasks()[0].outputs
    assert output.kind == "display_data"
    assert dict(output.data or {})["text/html"] == "<b>shown</b>"


def speak_before_and_after(backend: Backend, gate: Gate) -> tuple[ipar.AsyncResult, Gate]:
    """What waits at the gate between two prints, and the gate that it opens after the first."""
    spoke = Gate(gate.path.with_name("spoke"))

    def work() -> None:
        print("before")
        sys.stdout.flush()
        spoke.open()
        gate.wait()
        print("after")

    return backend.call(work), spoke


def wait_until(result: ipar.AsyncResult, condition: Callable[[], object]) -> None:
    """Wait until something is true of a result."""
    seen = threading.Event()
    stop = result.follow(lambda _: seen.set() if condition() else None)
    if condition():  # before anybody followed
        seen.set()
    assert seen.wait(SOON), f"it did not come to that: {result!r}"
    stop()


def outputs_come_while_it_runs(backend: Backend, gate: Gate) -> None:
    result, _ = speak_before_and_after(backend, gate)
    wait_until(result, lambda: result.stdout == "before\n")
    assert not result.ready()
    gate.open()
    result.get(SOON)
    assert result.stdout == "before\nafter\n"


def outputs_come_at_the_end(backend: Backend, gate: Gate) -> None:
    result, spoke = speak_before_and_after(backend, gate)
    spoke.wait()
    assert "".join(result.stdout) == ""
    gate.open()
    result.wait(SOON)
    kept = backend.client.capabilities.outputs
    assert "".join(result.stdout) == ("before\nafter\n" if kept else "")


# ------------------------------------------------------------------------------------- engines


def cells_share_a_namespace(backend: Backend, gate: Gate) -> None:
    engines = backend.client[:]
    engines.push({"a": 5}, block=True)
    engines.execute("b = a + 1", block=True)
    assert engines.pull("b", block=True) == [6, 6]
    backend.client.activate()
    shell = InteractiveShell.instance()
    ran = shell.run_cell("%%px\nc = b + 1\nimport os\nos.path.exists('/')")
    ran.raise_error()
    shell.run_cell("%px c += 1").raise_error()
    assert engines["c"] == [8, 8]
    with pytest.raises(ipar.CompositeError, match="2 x NameError"):
        engines.execute("nobody", block=True)


def a_task_runs_where_it_is_sent(backend: Backend, gate: Gate) -> None:
    client = backend.client
    found = {}
    for engine in client.ids:
        result = client[engine].apply_async(os.getpid)
        found[engine] = result.get(SOON)
        assert result.engine_id == engine
    assert len(set(found.values())) == len(client.ids) == 2
    again = client[:].apply_sync(os.getpid)
    assert again == [found[engine] for engine in client.ids]


# -------------------------------------------------------------------------------------- control


def what_waits_is_taken_back(backend: Backend, gate: Gate) -> None:
    running = backend.map(lambda _: gate.wait(), range(2))
    waiting = backend.call(abs, -3)
    assert waiting.abort() == {waiting.msg_ids[0]: "aborted"}
    with pytest.raises(ipar.TaskAborted):
        waiting.get(SOON)
    gate.open()
    running.get(SOON)


def what_runs_is_interrupted(backend: Backend, gate: Gate) -> None:
    result, spoke = speak_before_and_after(backend, gate)
    spoke.wait()
    # What the client has not heard to run it takes for queued.
    wait_until(result, lambda: result.counts().running == 1)
    assert list(result.interrupt().values()) == ["interrupting"]
    with pytest.raises(ipar.RemoteError) as caught:
        result.get(SOON)
    assert caught.value.ename == "KeyboardInterrupt"
    assert backend.call(abs, -2).get(SOON) == 2


def what_failed_runs_again(backend: Backend, gate: Gate) -> None:
    def fragile(x: int) -> int:
        if x and not gate.path.exists():
            raise OSError("not yet")
        return x

    result = backend.map(fragile, range(3))
    result.wait(SOON)
    gate.open()
    assert result.retry_failed().get(SOON) == [0, 1, 2]


def what_takes_too_long_is_ended(backend: Backend, gate: Gate) -> None:
    limited = backend.client.load_balanced_view(timeout=0.5)
    patient = backend.client.load_balanced_view(timeout=SOON)
    late, in_time = limited.apply_async(gate.wait), patient.apply_async(abs, -2)
    with pytest.raises(TaskTimeout):
        late.get(SOON)
    assert in_time.get(SOON) == 2


def ask_for_a_time_limit(client: Any) -> object:
    return client.load_balanced_view(timeout=1.0).apply_async(abs, -1)


# -------------------------------------------------------------------------------------- objects


def append_and_return(x: list[int]) -> list[int]:
    x.append(1)
    return x


def objects_are_shared(backend: Backend, gate: Gate) -> None:
    mine: list[int] = []
    assert backend.call(append_and_return, mine).get(SOON) is mine
    result = backend.map(lambda x: append_and_return(x) is mine, [mine, mine])
    assert result.get(SOON) == [True, True]
    assert mine == [1, 1, 1]
    lock = threading.Lock()
    assert backend.call(lambda: lock).get(SOON) is lock


def objects_are_copied(backend: Backend, gate: Gate) -> None:
    if isinstance(backend, Tracked):
        return  # of what pool the futures are is not known to the record
    mine: list[int] = []
    assert backend.call(append_and_return, mine).get(SOON) == [1]
    assert backend.map(append_and_return, [mine, mine]).get(SOON) == [[1], [1]]
    assert mine == []


# ------------------------------------------------------------------------- results of other days

YESTERDAY = """
import ipyasyncresult as ipar

def work(x):
    print("working on", x)
    return 6 / x

if __name__ == "__main__":
    client = {client}
    result = client.load_balanced_view().map_async(work, [1, 2, 0], chunksize=1)
    result.wait(30)
    client.close()
    print(*result.msg_ids)
"""


def another_process_left_results(backend: Backend, gate: Gate) -> None:
    script = gate.path.with_name("yesterday.py")
    script.write_text(YESTERDAY.format(client=backend.client_elsewhere()))
    ran = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=SOON, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    ids = ran.stdout.split()
    result = backend.client.get_result(ids)
    assert isinstance(result, ipar.AsyncMapResult)
    result.wait(SOON)
    assert (result.ok, len(result.failed)) == ([6.0, 3.0], 1), result.failed
    assert result.stdout == [f"working on {x}\n" for x in (1, 2, 0)]
    assert isinstance(result.exception(), ZeroDivisionError)
    assert set(ids) <= set(backend.client.hub_history())


# ------------------------------------------------------------------------------------ the trials

TRIALS = {
    "outputs": Trial(outputs_are_kept, lacks=outputs_are_not_known),
    "rich_outputs": Trial(displays_are_kept, lacks=outputs_are_not_known),
    "live_outputs": Trial(outputs_come_while_it_runs, lacks=outputs_come_at_the_end),
    "cells": Trial(
        cells_share_a_namespace,
        (
            lambda client: client[:].execute("1"),
            lambda client: client[:].push({"a": 1}),
            lambda client: client[:].pull("a"),
            lambda client: client.activate(),
        ),
    ),
    "addressed_engines": Trial(
        a_task_runs_where_it_is_sent,
        (
            lambda client: client[0],
            lambda client: client[:],
            lambda client: client[[0, 1]],
            lambda client: client.direct_view("all"),
        ),
    ),
    "abort_queued": Trial(
        what_waits_is_taken_back,
        (lambda client: client.abort(), lambda client: client.abort(["nobody-1"])),
        button="stop",
    ),
    "interrupt_running": Trial(
        what_runs_is_interrupted,
        (lambda client: client.interrupt(), lambda client: client.send_signal("SIGINT")),
        button="interrupt",
    ),
    "stored_results": Trial(
        another_process_left_results,
        (
            lambda client: client.get_result("nobody-1"),
            lambda client: client.hub_history(),
            lambda client: client.purge_results(),
            lambda client: client.purge_everything(),
        ),
    ),
    "retry": Trial(
        what_failed_runs_again,
        (lambda client: client.resubmit_records(()),),
        button="retry",
    ),
    "time_limits": Trial(what_takes_too_long_is_ended, (ask_for_a_time_limit,)),
    "shared_memory": Trial(objects_are_shared, lacks=objects_are_copied),
}


def test_every_field_is_tried() -> None:
    assert list(TRIALS) == FIELDS
    assert all(trial.asks or trial.lacks for trial in TRIALS.values())


# ---------------------------------------------------------------------- backends without a map


class Tracked:
    """Futures of a pool that somebody else submitted."""

    def __init__(self) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(2)
        both = threading.Barrier(2)  # from now on every thread is there
        concurrent.futures.wait([self._pool.submit(both.wait) for _ in range(2)])
        self.client: Any = self.call(abs, -1)._client

    def call(self, f: Callable[..., Any], *args: Any) -> ipar.AsyncResult:
        return ipar.track(self._pool.submit(f, *args))

    def map(self, f: Callable[..., Any], items: Any) -> ipar.AsyncResult:
        return ipar.track([self._pool.submit(f, item) for item in items])

    def close(self) -> None:
        self.client.close()
        self._pool.shutdown()


class OfThePage:
    """The backend of the how-to: it runs each task where it is submitted, and can do the least."""

    def __init__(self) -> None:
        block = PAGE.read_text().split("```python\n", 1)[1].split("```", 1)[0]
        module: dict[str, Any] = {"__name__": "here_engines"}
        exec(block, module)
        self.client: Any = module["connect"]("here:")

    def call(self, f: Callable[..., Any], *args: Any) -> ipar.AsyncResult:
        result: ipar.AsyncResult = self.client.load_balanced_view().apply_async(f, *args)
        return result

    def map(self, f: Callable[..., Any], items: Any) -> ipar.AsyncMapResult:
        view = self.client.load_balanced_view()
        result: ipar.AsyncMapResult = view.map_async(f, items, chunksize=1)
        return result

    def close(self) -> None:
        self.client.close()


# All whose records people see; the fake client's is made up by who plays it.
RECORDED: dict[str, Callable[[], Any]] = {
    **{name: make for name, make in BACKENDS.items() if name != "least"},
    "tracked": Tracked,
    "page": OfThePage,
}


@pytest.fixture(scope="module", params=[param(name) for name in sorted(RECORDED)])
def recorded(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = RECORDED[request.param]()
    yield made
    made.close()


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """Displays need IPython, as a notebook has it; with our magics."""
    config = Config({"HistoryManager": {"enabled": False}})
    made = InteractiveShell.instance(user_module=types.ModuleType("user"), config=config)
    made.run_line_magic("load_ext", "ipyasyncresult")
    yield made
    made.run_line_magic("unload_ext", "ipyasyncresult")
    InteractiveShell.clear_instance()
    forget_shell(made)


@pytest.mark.parametrize("name", FIELDS)
def test_a_yes_works_and_a_no_is_refused_by_name(
    recorded: Any, name: str, gate: Gate, shell: InteractiveShell
) -> None:
    trial, record = TRIALS[name], recorded.client.capabilities
    if getattr(record, name):
        trial.works(recorded, gate)
        return
    for ask in trial.asks:
        with pytest.raises(CapabilityError, match=re.escape(record.backend)):
            ask(recorded.client)
    if trial.lacks is not None and not isinstance(recorded, OfThePage):
        trial.lacks(recorded, gate)


def test_buttons_of_the_widget_are_grey_where_the_record_says_no(recorded: Any, gate: Gate) -> None:
    def work(x: int) -> None:
        if x == 0:
            raise OSError("at once")
        gate.wait()

    if isinstance(recorded, OfThePage):
        gate.open()  # whoever submits waits for the task
        result = recorded.call(work, 0)
    else:
        result = recorded.map(work, range(6))
        result.wait(SOON, return_when="FIRST_EXCEPTION")
        assert result.counts().failed == 1
    model = LiveModel(result)
    cannot = model.look().cannot
    model.close()
    gate.open()
    record = recorded.client.capabilities
    for name, trial in TRIALS.items():
        if trial.button and not getattr(record, name):
            assert cannot[trial.button].startswith(f"{record.backend} cannot")
        elif trial.button and not isinstance(recorded, OfThePage):
            assert trial.button not in cannot
    result.wait(SOON)
