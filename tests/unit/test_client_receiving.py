"""Who receives: callers that wait, or else the I/O thread.  No process, a socket pair only."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import pytest

from ipyasyncresult.client import receiving
from ipyasyncresult.client.interrupts import HeldInterrupts
from ipyasyncresult.client.receiving import Receiver

LONG = 30.0
"""Seconds; never reached, but a broken test ends."""


class Line:
    """A socket pair with a receiver at one end, which notes what came and in which thread."""

    def __init__(self) -> None:
        self.far, self.near = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.near.setblocking(False)
        self.handle = self.near.fileno()
        self.lost = False
        self.got: list[bytes] = []
        self.threads: list[str] = []
        self.on_message: Callable[[bytes], object] = lambda _: None
        self.ended: list[bool] = []
        self.receiver = Receiver(cast("Any", self), self.take_in, os.getpid())

    def take_in(self, _there: bool) -> bool:
        self.ended.append(self.receiver.hub_gone)
        while select.select([self.near], [], [], 0)[0]:
            data = self.near.recv(1000)
            if not data:
                self.lost = True
                break
            self.got.append(data)
            self.threads.append(threading.current_thread().name)
            self.receiver.notify()
            self.on_message(data)
        return b"closing" not in self.got

    def has(self, data: bytes) -> Callable[[], bool]:
        return lambda: data in self.got

    def end_receiver(self) -> None:
        """Once."""
        if self.receiver._thread.ident is None:
            self.receiver.start()  # only a thread that ran can be ended
        if not self.receiver._closed:
            assert self.receiver.close()

    def close(self) -> None:
        self.end_receiver()
        self.near.close()
        self.far.close()


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


@pytest.fixture
def served(line: Line) -> Line:
    """With its I/O thread running."""
    line.receiver.start()
    return line


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4, "caller") as pool:
        yield pool


def asleep(line: Line, pool: ThreadPoolExecutor, data: bytes) -> Future[bool]:
    """A thread that waits for `data`, and does so when this returns."""
    looked = threading.Semaphore(0)

    def there() -> bool:
        looked.release()
        return data in line.got

    waiting = pool.submit(line.receiver.wait, there, LONG)
    for _ in range(2):  # before it enters, and again before it sleeps
        assert looked.acquire(timeout=LONG)
    return waiting


# --------------------------------------------------------------------------------- callers receive


def test_a_caller_that_waits_receives_by_itself(line: Line) -> None:
    line.far.send(b"a")
    assert line.receiver.wait(line.has(b"a"), LONG)
    assert line.threads == ["MainThread"]


def test_what_is_true_already_is_not_waited_for(line: Line) -> None:
    assert line.receiver.wait(lambda: True, None)
    assert line.ended == []


@pytest.mark.parametrize("timeout", [0, -1.0, 0.001])
def test_a_wait_gives_up_in_time(line: Line, timeout: float) -> None:
    assert not line.receiver.wait(lambda: False, timeout)


def test_a_poll_takes_in_what_is_there(line: Line) -> None:
    line.far.send(b"a")
    line.far.send(b"b")
    assert line.receiver.wait(line.has(b"b"), 0)
    assert line.got == [b"a", b"b"]


def test_a_poll_leaves_receiving_to_who_is_at_it(line: Line, threads: ThreadPoolExecutor) -> None:
    waiting = asleep(line, threads, b"a")
    assert not line.receiver.wait(lambda: False, 0)
    line.far.send(b"a")
    assert waiting.result(LONG)
    assert line.threads == ["caller_0"]


def test_one_of_many_callers_receives_for_all(line: Line, threads: ThreadPoolExecutor) -> None:
    first = asleep(line, threads, b"last")
    others = [asleep(line, threads, name) for name in (b"b", b"c")]
    for name in (b"b", b"c"):
        line.far.send(name)
    assert [other.result(LONG) for other in others] == [True, True]
    assert not first.done()
    line.far.send(b"last")
    assert first.result(LONG)
    assert set(line.threads) == {"caller_0"}


def test_a_caller_that_is_done_hands_over_to_the_next(
    line: Line, threads: ThreadPoolExecutor
) -> None:
    first = asleep(line, threads, b"a")
    second = asleep(line, threads, b"b")
    line.far.send(b"a")
    assert first.result(LONG)
    line.far.send(b"b")
    assert second.result(LONG)
    assert line.threads == ["caller_0", "caller_1"]


def test_what_waits_to_be_sent_leaves_before_anybody_sleeps(line: Line) -> None:

    def flush() -> None:
        line.far.send(b"answer")

    line.receiver.flush = flush
    assert line.receiver.wait(line.has(b"answer"), LONG)


# ------------------------------------------------------------------------------- the I/O thread


def test_without_callers_the_io_thread_receives(served: Line) -> None:
    arrived = threading.Event()
    served.on_message = lambda _: arrived.set()
    served.far.send(b"a")
    assert arrived.wait(LONG)
    assert served.threads == ["ipyasyncresult-io"]


def test_a_caller_takes_over_from_the_io_thread(served: Line) -> None:
    arrived = threading.Event()
    served.on_message = lambda _: arrived.set()
    served.far.send(b"a")
    assert arrived.wait(LONG)  # the I/O thread has the token
    waiting = threading.Event()

    def there() -> bool:
        waiting.set()
        return b"b" in served.got

    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(lambda: waiting.wait(LONG) and served.far.send(b"b"))
        assert served.receiver.wait(there, LONG)
        sent.result(LONG)


def test_callbacks_run_on_the_io_thread_also_while_a_caller_receives(
    served: Line, threads: ThreadPoolExecutor
) -> None:
    waiting = asleep(served, threads, b"b")
    ran: Future[str] = Future()

    def callback() -> None:
        ran.set_result(threading.current_thread().name)

    def handle(data: bytes) -> None:
        if data == b"a":
            served.receiver.callbacks_due(callback)

    served.on_message = handle
    served.far.send(b"a")
    assert ran.result(LONG) == "ipyasyncresult-io"
    assert not waiting.done()
    served.far.send(b"b")
    assert waiting.result(LONG)


def test_a_callback_may_wait_for_what_comes_next(served: Line) -> None:
    found: Future[bool] = Future()
    served.receiver.callbacks_due(
        lambda: found.set_result(served.receiver.wait(served.has(b"a"), LONG))
    )
    served.far.send(b"a")
    assert found.result(LONG)


def test_the_io_thread_outlives_an_error(served: Line, caplog: pytest.LogCaptureFixture) -> None:
    arrived = threading.Event()

    def handle(data: bytes) -> None:
        if data == b"bad":
            raise ValueError("cannot be applied")
        arrived.set()

    served.on_message = handle
    with caplog.at_level(logging.ERROR):
        served.far.send(b"bad")
        served.far.send(b"good")
        assert arrived.wait(LONG)
    assert "should not meet" in caplog.text
    assert set(served.threads) == {"ipyasyncresult-io"}


def test_whoever_sleeps_in_poll_comes_round_when_woken(line: Line) -> None:
    came_round = threading.Semaphore(0)

    def flush_old() -> tuple[float | None, Any]:
        came_round.release()
        return None, None

    line.receiver.flush_old = flush_old
    line.receiver.start()
    assert came_round.acquire(timeout=LONG)
    line.receiver.wake()
    assert came_round.acquire(timeout=LONG)


# ------------------------------------------------------------------------------------- the end


class DyingHub(Line):
    """Its hub's death is a pipe that closes: a process is not needed to see what follows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        death, self.life = os.pipe()
        monkeypatch.setattr(receiving, "_open_pidfd", lambda _: death)
        super().__init__()

    def die(self) -> None:
        os.write(self.life, b"x")

    def close(self) -> None:
        super().close()
        os.close(self.life)


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Iterator[DyingHub]:
    made = DyingHub(monkeypatch)
    yield made
    made.close()


def test_the_death_of_the_hub_is_told_to_who_takes_in_also_when_nobody_waits(
    dying: DyingHub,
) -> None:
    told = threading.Event()
    take_in = dying.receiver._take_in

    def taking_in(there: bool) -> bool:
        if dying.receiver.hub_gone:
            told.set()
        return take_in(there)

    dying.receiver._take_in = taking_in
    dying.receiver.start()
    dying.die()
    assert told.wait(LONG)


def test_what_the_hub_sent_before_its_death_is_taken_in_first(dying: DyingHub) -> None:
    dying.far.send(b"last words")
    dying.die()
    assert dying.receiver.wait(lambda: dying.receiver.hub_gone, LONG)
    assert dying.got == [b"last words"]
    assert dying.ended[-1]


def test_without_a_pidfd_the_hub_is_looked_for_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receiving, "_open_pidfd", lambda _: None)
    monkeypatch.setattr(receiving, "_LIVENESS", 0.001)
    looked = []

    def kill(pid: int, number: int) -> None:
        looked.append((pid, number))
        if len(looked) == 3:
            raise ProcessLookupError

    monkeypatch.setattr(os, "kill", kill)
    line = Line()
    try:
        assert line.receiver.wait(lambda: line.receiver.hub_gone, LONG)
        assert looked == [(os.getpid(), 0)] * 3
    finally:
        line.close()


def test_a_hub_that_says_that_it_closes_is_gone(line: Line) -> None:
    line.far.send(b"closing")
    assert line.receiver.wait(lambda: line.receiver.hub_gone, LONG)


def test_closing_wakes_everybody_and_ends_the_thread(
    served: Line, threads: ThreadPoolExecutor
) -> None:
    waiting = [asleep(served, threads, b"never") for _ in range(3)]
    served.end_receiver()
    assert [one.result(LONG) for one in waiting] == [False] * 3
    assert not served.receiver._thread.is_alive()
    assert not served.receiver.wait(lambda: False, None)
    assert not served.receiver.wait(lambda: False, 0)


# ------------------------------------------------------------------------------------ interrupts


def test_an_interrupt_waits_until_nothing_can_be_left_half_done() -> None:
    log = []

    def half_done() -> None:
        with HeldInterrupts():
            signal.raise_signal(signal.SIGINT)
            log.append("done")
        log.append("not reached")

    with pytest.raises(KeyboardInterrupt):
        half_done()
    assert log == ["done"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_comes_at_once_while_it_may() -> None:
    with HeldInterrupts() as interrupts:
        interrupts.open = True
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        interrupts.open = False
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        interrupts.check()  # once


def test_an_error_goes_before_an_interrupt_that_waits() -> None:
    def fails() -> None:
        with HeldInterrupts():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        fails()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_and_ignored_interrupts_are_left_alone(threads: ThreadPoolExecutor) -> None:
    def handler() -> object:
        with HeldInterrupts():
            return signal.getsignal(signal.SIGINT)

    assert threads.submit(handler).result(LONG) is signal.default_int_handler
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert handler() is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupted_wait_leaves_the_line_usable(line: Line) -> None:
    interrupted = []

    def interrupt(_: bytes) -> None:
        interrupted.append(True)
        signal.raise_signal(signal.SIGINT)  # while a message is being applied

    line.on_message = interrupt
    line.far.send(b"a")
    with pytest.raises(KeyboardInterrupt):
        line.receiver.wait(lambda: False, LONG)
    assert line.got == [b"a"]
    line.on_message = lambda _: None
    line.far.send(b"b")
    assert line.receiver.wait(line.has(b"b"), LONG)
