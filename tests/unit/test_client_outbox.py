"""What leaves a client, and what an interrupt does to it."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ipyasyncresult.client.outbox import Outbox
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.localsockets import LocalDoor, LocalLine
from ipyasyncresult.wire.sockets import make_poll


class Wire:
    """A line that notes what is sent; `interrupt` says whether Ctrl-C comes, and when."""

    over_tcp = lost = False
    unsent = ()

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.interrupt = ""

    def send(self, header: bytes, frames: Sequence[Any] = ()) -> None:
        del frames
        interrupt, self.interrupt = self.interrupt, ""
        if interrupt == "before":
            raise KeyboardInterrupt
        self.sent.append(m.decode_from_client(header))
        if interrupt == "behind":
            raise KeyboardInterrupt


@pytest.fixture
def wire() -> Any:
    return Wire()


def ids(message: m.Submit) -> list[tuple[str, bytes]]:
    return [(task.msg_id, message.functions[task.function]) for task in message.tasks]


@pytest.mark.parametrize("interrupt", ["before", "behind"])
def test_an_interrupt_at_a_send_loses_no_task(wire: Any, interrupt: str) -> None:
    outbox = Outbox(wire, lambda: None)
    wire.interrupt = interrupt
    with pytest.raises(KeyboardInterrupt):
        outbox.add(b"f", m.Task("a", 0, b""))
    outbox.add(b"g", m.Task("b", 0, b""))
    outbox.flush()
    # What is sent once more the hub takes once (tests/unit/test_hub_state.py).
    assert ids(wire.sent[-1]) == [("a", b"f"), ("b", b"g")]
    outbox.flush()
    assert len(wire.sent) == (2 if interrupt == "behind" else 1)


def test_the_first_task_leaves_at_once_and_those_right_behind_it_together(wire: Any) -> None:
    outbox = Outbox(wire, lambda: None)
    outbox.add(b"f", m.Task("a", 0, b""))
    assert [ids(message) for message in wire.sent] == [[("a", b"f")]]
    outbox._last = float("inf")  # as if it had been this moment
    for name in "bcd":
        outbox.add(b"f", m.Task(name, 0, b""))
    assert len(wire.sent) == 1
    outbox.flush()
    assert ids(wire.sent[1]) == [("b", b"f"), ("c", b"f"), ("d", b"f")]


# ---------------------------------------------------------------------------- a hub that is behind


class Interrupted(LocalLine):
    """A line at which Ctrl-C comes whenever something is sent or pushed, if told to."""

    armed = False

    def send(self, header: bytes, frames: Sequence[Any] = ()) -> Any:
        tracker = super().send(header, frames)
        if self.armed:
            signal.raise_signal(signal.SIGINT)
        return tracker

    def flush(self) -> bool:
        all_left = super().flush()
        if self.armed:
            signal.raise_signal(signal.SIGINT)
        return all_left


@pytest.fixture
def door(tmp_path: Path) -> Iterator[LocalDoor]:
    made = LocalDoor(tmp_path / "clients")
    yield made
    made.close()


@pytest.fixture
def line(tmp_path: Path, door: LocalDoor) -> Iterator[Interrupted]:
    made = Interrupted(tmp_path / "clients", b"S")
    assert made.connect()
    door.take()  # it is accepted, and nothing is read
    yield made
    made.close()


def all_tasks(door: LocalDoor, outbox: Outbox, count: int) -> list[str]:
    """Ids of the tasks that come, in order."""
    taken: list[str] = []
    poll = make_poll([door.handle])
    while len(taken) < count:
        outbox.push()
        assert poll(10_000), f"{len(taken)} of {count} tasks came"
        for _, header, _ in door.take():
            message = m.decode_from_client(header)
            assert isinstance(message, m.Submit)
            taken += [task.msg_id for task in message.tasks]
    return taken


@pytest.mark.parametrize("size", [10, 3_000, 1_000_000])
def test_who_submits_does_not_wait_and_who_receives_sends_the_rest(
    door: LocalDoor, line: Interrupted, size: int
) -> None:
    woken: list[bool] = []
    outbox = Outbox(line, lambda: woken.append(True))
    names: list[str] = []
    while not woken or len(names) < 10:
        names.append(str(len(names)))
        outbox.say(m.Submit([b"f"], [m.Task(names[-1], 0, b"x" * size)]))
    assert outbox.flush() == line.handle  # what to wait for
    assert all_tasks(door, outbox, len(names)) == names
    assert outbox.flush() is None


def test_the_same_with_single_tasks(door: LocalDoor, line: Interrupted) -> None:
    outbox = Outbox(line, lambda: None)
    names = [str(number) for number in range(2_000)]
    for name in names:
        outbox.add(b"f", m.Task(name, 0, b"x" * 3_000))
    assert line.unsent
    outbox.flush()
    assert all_tasks(door, outbox, len(names)) == names


def test_buffers_must_not_change_before_they_have_left(door: LocalDoor, line: Interrupted) -> None:
    outbox = Outbox(line, lambda: None)
    submit = m.Submit([b"f"], [m.Task("a", 0, b"", frames=1)])
    assert outbox.say(submit, [b"small"]) is None
    trackers = [outbox.say(submit, [bytes(3_000_000)]) for _ in range(3)]
    assert [tracker.done for tracker in trackers] == [False] * 3
    trackers[0].wait(0.001)
    all_tasks(door, outbox, 2)
    assert trackers[0].done
    assert not trackers[2].done
    all_tasks(door, outbox, 2)
    trackers[2].wait()
    assert trackers[2].done


@pytest.mark.parametrize("size", [3_000, 50_000, 1_000_000])
def test_ctrl_c_cuts_no_message(door: LocalDoor, line: Interrupted, size: int) -> None:
    """Half of one would spoil all that follow."""
    outbox = Outbox(line, lambda: None)
    names: list[str] = []
    while not line.unsent:  # from now on each send has several parts
        names.append(str(len(names)))
        outbox.say(m.Submit([b"f"], [m.Task(names[-1], 0, b"x" * size)]))
    line.armed = True
    for _ in range(5):
        names.append(str(len(names)))
        with pytest.raises(KeyboardInterrupt):
            outbox.say(m.Submit([b"f"], [m.Task(names[-1], 0, b"x" * size)]))
        with pytest.raises(KeyboardInterrupt):
            outbox.push()
    line.armed = False
    assert all_tasks(door, outbox, len(names)) == names


def test_a_hub_that_dies_takes_what_is_unsent_along(door: LocalDoor, line: Interrupted) -> None:
    outbox = Outbox(line, lambda: None)
    submit = m.Submit([b"f"], [m.Task("a", 0, b"x" * 50_000, frames=1)])
    trackers = [outbox.say(submit, [bytes(100_000)]) for _ in range(20)]
    assert line.unsent
    door.close()
    assert outbox.push() is None
    assert all(tracker is None or tracker.done for tracker in trackers)
    assert outbox.close(m.Goodbye())
    assert outbox.say(submit) is None
