"""An engine dies, stops or seems to: only what it ran is lost, and another takes its place."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import ipyasyncresult as ipar
from tests.integration.conftest import hub_of
from tests.integration.faults.conftest import SOON

if TYPE_CHECKING:
    from tests.integration.conftest import Gate, NewGate
    from tests.integration.faults.conftest import Mortal


def hold(started: Gate, go: Gate) -> str:
    started.open()
    go.wait()
    return "held"


# -------------------------------------------------------------------------------------- killed


def test_a_killed_engine_costs_the_task_that_it_ran_and_is_replaced(
    mortal: Mortal, new_gate: NewGate
) -> None:
    started, never = new_gate("started"), new_gate("never")
    there, go = new_gate("there"), new_gate("go")
    running = mortal.client[0].apply_async(hold, started, never)
    sibling = mortal.client[1].apply_async(hold, there, go)
    started.wait()
    there.wait()
    behind = mortal.client[0].apply_async(abs, -5)
    killed = mortal.kill(0)
    with pytest.raises(ipar.EngineError, match="SIGKILL") as caught:
        running.get(SOON)
    error: Any = caught.value
    assert (error.engine_id, error.pid, error.signal) == (0, killed, "SIGKILL")
    assert error.msg_id == running.msg_ids[0]
    assert behind.get(SOON) == 5  # by the engine that took its place
    go.open()
    assert sibling.get(SOON) == "held"
    assert mortal.pid(0) != killed


def test_an_engine_killed_while_idle_costs_nothing_and_is_replaced(mortal: Mortal) -> None:
    killed = mortal.kill(1)
    mortal.wait_for_event(1, "ready")
    assert mortal.events(1) == ["replaced", "ready"]
    assert mortal.pid(1) != killed
    assert mortal.client[1].apply_sync(os.getpid) == mortal.pid(1)


def test_an_engine_killed_while_it_sends_a_large_result_costs_that_result_at_most(
    mortal: Mortal, new_gate: NewGate
) -> None:
    """Its result stays half-way, as the hub stands still and does not take it in."""
    started, done = new_gate("started"), new_gate("done")

    def large() -> bytes:
        made = bytes(150_000_000)
        started.open()
        done.wait()
        return made

    result = mortal.client[0].apply_async(large)
    started.wait()
    hub = hub_of(mortal.client)
    engine = psutil.Process(mortal.pid(0))
    hub.suspend()
    try:
        done.open()
        # It has nothing else to do: once it no longer computes, it sends.
        used = -1.0
        while used != (now := sum(engine.cpu_times()[:2])):
            used = now
            time.sleep(0.1)
        engine.kill()
    finally:
        hub.resume()
    # Whole or lost, but answered.
    error = result.exception(SOON)
    assert error is None or isinstance(error, ipar.EngineError)
    if error is None:
        assert len(result.get()) == 150_000_000


def test_a_result_that_had_left_its_engine_counts_although_the_engine_died(
    mortal: Mortal, new_gate: NewGate
) -> None:
    """The first end wins, everywhere, and never changes."""
    started, done, left = new_gate("started"), new_gate("done"), new_gate("left")

    def work() -> int:
        import sys
        import threading

        main = threading.get_ident()

        def waits_for_work() -> bool:
            """As it does when everything has left."""
            frame = sys._current_frames()[main]
            while frame.f_code.co_name != "_wait" and frame.f_back is not None:
                frame = frame.f_back
            return frame.f_code.co_name == "_wait"

        def say_when_it_left() -> None:
            while not waits_for_work():
                time.sleep(0.002)
            left.open()

        started.open()
        done.wait()
        threading.Thread(target=say_when_it_left).start()
        return os.getpid()

    result = mortal.client[0].apply_async(work)
    started.wait()
    hub = hub_of(mortal.client)
    hub.suspend()
    try:
        done.open()
        left.wait()
        killed = mortal.kill(0)
    finally:
        hub.resume()
    assert result.get(SOON) == killed
    mortal.wait_for_event(0, "ready")
    assert result.status == "ok"
    with ipar.Client(mortal.client.cluster_id) as other:
        assert other.get_result(result.msg_ids[0]).get(SOON) == killed


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda: os._exit(7), "exit code 7"),
        (lambda: __import__("ctypes").string_at(0), "SIGSEGV"),
        (os.abort, "SIGABRT"),
    ],
    ids=["os._exit", "segfault", "abort"],
)
def test_a_task_that_ends_its_process_is_lost_alone_and_says_how(
    mortal: Mortal, new_gate: NewGate, end: Any, reason: str
) -> None:
    heard = new_gate("heard")

    def speak_and_end() -> None:
        print("last words", flush=True)
        heard.wait()
        end()

    ended = mortal.client[0].apply_async(speak_and_end)
    behind = mortal.client[0].apply_async(abs, -5)
    mortal.wait_until(lambda: ended.stdout == "last words\n")
    heard.open()
    with pytest.raises(ipar.EngineError, match=reason) as caught:
        ended.get(SOON)
    assert "last words" in str(caught.value)
    if reason == "SIGSEGV":
        assert "Segmentation fault" in str(caught.value)
        assert "speak_and_end" in str(caught.value)
    assert behind.get(SOON) == 5


def test_retries_run_a_task_again_when_its_engine_died_and_nothing_else_does(
    mortal: Mortal, new_gate: NewGate
) -> None:
    tries = new_gate("tries").path

    def die_twice() -> int:
        with tries.open("a") as file:
            file.write("x")
        if len(tries.read_text()) <= 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return len(tries.read_text())

    view = mortal.client.load_balanced_view()
    view.retries = 2
    assert view.apply_async(die_twice).get(SOON) == 3
    tries.unlink()
    view.retries = 0
    with pytest.raises(ipar.EngineError):
        view.apply_async(die_twice).get(SOON)
    assert tries.read_text() == "x"


# ------------------------------------------------------- raised what would end another process


class OwnKind(BaseException):
    pass


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, OwnKind, GeneratorExit])
def test_a_task_that_raises_no_exception_but_a_base_exception_fails_and_ends_nobody(
    mortal: Mortal, kind: type[BaseException]
) -> None:
    def fail() -> None:
        raise kind("of the task")

    pid = mortal.pid(0)
    with pytest.raises(ipar.RemoteError) as caught:
        mortal.client[0].apply_async(fail).get(SOON)
    assert caught.value.ename == kind.__name__
    assert not isinstance(caught.value, SystemExit | KeyboardInterrupt | GeneratorExit)
    assert mortal.client[0].apply_sync(os.getpid) == pid


# -------------------------------------------------------------------------------------- memory


def test_a_task_out_of_memory_fails_with_its_error_and_the_engine_goes_on(mortal: Mortal) -> None:
    """Also telling about it must not need much: all memory is still held then."""

    def fill() -> None:
        import resource

        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: PTH123, SIM115
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
        held = []
        while True:
            held.append(bytearray(1 << 14))

    def lift() -> int:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        return os.getpid()

    pid = mortal.pid(0)
    result = mortal.client[0].apply_async(fill)
    lifted = mortal.client[0].apply_async(lift)
    with pytest.raises(MemoryError) as caught:
        result.get(SOON)
    assert isinstance(caught.value, ipar.RemoteError)
    assert "fill" in caught.value.traceback
    assert lifted.get(SOON) == pid


# ------------------------------------------------------------------------- stopped, and busy


def test_a_stopped_engine_is_said_to_be_stopped_and_goes_on_when_it_may(
    mortal: Mortal, new_gate: NewGate
) -> None:
    started, go = new_gate("started"), new_gate("go")
    running = mortal.client[0].apply_async(hold, started, go)
    started.wait()
    pid = mortal.kill(0, signal.SIGSTOP)
    mortal.wait_for_event(0, "stopped")
    assert mortal.client.engines[0]["stopped"]
    go.open()
    assert mortal.client.load_balanced_view().apply_async(abs, -3).get(SOON) == 3
    assert not running.ready()
    mortal.kill(0, signal.SIGCONT)
    assert running.get(SOON) == "held"
    mortal.wait_for_event(0, "continued")
    assert mortal.pid(0) == pid


def test_a_stopped_engine_that_is_killed_loses_its_task_only(
    mortal: Mortal, new_gate: NewGate
) -> None:
    started, never = new_gate("started"), new_gate("never")
    running = mortal.client[0].apply_async(hold, started, never)
    started.wait()
    mortal.kill(0, signal.SIGSTOP)
    mortal.wait_for_event(0, "stopped")
    mortal.kill(0)
    with pytest.raises(ipar.EngineError, match="SIGKILL"):
        running.get(SOON)


def test_an_engine_whose_c_code_holds_the_interpreter_is_not_taken_for_dead(
    mortal: Mortal,
) -> None:
    """Nothing of it can answer meanwhile, and nobody asks: its process is watched."""

    def compute() -> int:
        import ctypes

        ctypes.PyDLL(None).usleep(900_000)
        ctypes.PyDLL(None).usleep(900_000)
        return os.getpid()

    pid = mortal.pid(0)
    result = mortal.client[0].apply_async(compute)
    behind = mortal.client[0].apply_async(abs, -1)
    assert result.get(SOON) == pid
    assert behind.get(SOON) == 1
    assert mortal.events(0) == []


# --------------------------------------------------------------------------- forks and children


def test_a_child_that_a_task_forks_never_speaks_for_its_engine(
    mortal: Mortal, new_gate: NewGate
) -> None:
    """Neither by returning from the task, nor by raising, nor by living on."""
    go = new_gate("go")

    def fork(then: str) -> tuple[int, int]:
        if child := os.fork():
            return os.getpid(), child
        if then == "raise":
            raise ValueError("of the child")
        if then == "stay":
            go.wait()
        return 0, 0

    pid = mortal.pid(0)
    for then in ("return", "raise") * 10:
        engine, child = mortal.client[0].apply_async(fork, then).get(SOON)
        assert engine == pid
        wait_for_end(child)
    engine, child = mortal.client[0].apply_async(fork, "stay").get(SOON)
    assert mortal.client[0].apply_sync(abs, -2) == 2
    go.open()
    wait_for_end(child)
    assert mortal.client[0].apply_sync(os.getpid) == pid


def wait_for_end(pid: int) -> None:
    """Until it is gone, or is a zombie of the engine that never asks for it."""
    deadline = time.monotonic() + SOON
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"{pid} lives on"
        time.sleep(0.01)


def test_what_an_engine_started_ends_with_it(mortal: Mortal, new_gate: NewGate) -> None:
    started, never = new_gate("started"), new_gate("never")
    told = started.path.parent / "children"

    def start_children() -> None:
        import subprocess

        shell = subprocess.Popen(["sh", "-c", "sleep 300 & echo $!; wait"], stdout=subprocess.PIPE)
        assert shell.stdout is not None
        told.write_text(f"{shell.pid} {shell.stdout.readline().decode()}")
        hold(started, never)

    running = mortal.client[0].apply_async(start_children)
    started.wait()
    children = [psutil.Process(int(pid)) for pid in told.read_text().split()]
    assert len(children) == 2
    mortal.kill(0)
    with pytest.raises(ipar.EngineError):
        running.get(SOON)
    _, alive = psutil.wait_procs(children, timeout=SOON)
    assert alive == []
