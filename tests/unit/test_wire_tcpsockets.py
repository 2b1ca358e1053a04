"""Lines and doors over ZeroMQ, within one process and without keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from ipyasyncresult.wire import tcpsockets
from ipyasyncresult.wire.sockets import make_poll
from ipyasyncresult.wire.tcpsockets import COPY_BELOW, TcpDoor, TcpLine

LONG = 10_000
"""Milliseconds; never reached, but a broken test ends."""


@pytest.fixture
def pair(tmp_path: Any) -> Iterator[tuple[TcpLine, TcpDoor]]:
    """A line called ``me``, connected to a door."""
    context: zmq.Context[Any] = zmq.Context()
    door, line = TcpDoor(context), TcpLine(b"me")
    door.socket.bind(f"ipc://{tmp_path}/here")
    line.socket.connect(f"ipc://{tmp_path}/here")
    yield line, door
    line.close()
    door.close()
    context.term()


def test_a_message_arrives_with_its_sender_header_and_frames(pair: tuple[TcpLine, TcpDoor]) -> None:
    line, door = pair
    assert door.take() == []
    line.send(b"header", [b"one", memoryview(b"two")])
    line.send(b"")
    taken: list[Any] = []
    while len(taken) < 2:
        assert make_poll([door.handle])(LONG)
        taken += door.take()
    (identity, header, frames), empty = taken
    assert (identity, header) == (b"me", b"header")
    assert [bytes(frame.buffer) for frame in frames] == [b"one", b"two"]
    assert empty == (b"me", b"", [])
    assert door.send(identity, b"answer")
    assert door.send(identity, b"answer", [b"frame"])
    heard: list[Any] = []
    while len(heard) < 2:
        assert make_poll([line.handle])(LONG)
        heard += line.take()
    assert heard[0] == (b"answer", [])
    assert [heard[1][0], *(frame.bytes for frame in heard[1][1])] == [b"answer", b"frame"]
    assert line.take() == []


def test_large_frames_are_tracked_until_they_left(pair: tuple[TcpLine, TcpDoor]) -> None:
    line, door = pair
    assert line.send(b"small") is None
    tracker = line.send(b"large", [bytearray(2 * COPY_BELOW)])
    taken: list[Any] = []
    while len(taken) < 2:
        assert make_poll([door.handle])(LONG)
        taken += door.take()
    assert [len(frame) for frame in taken[1][2]] == [2 * COPY_BELOW]
    tracker.wait(10)
    assert tracker.done


def test_nothing_is_dropped_silently(pair: tuple[TcpLine, TcpDoor]) -> None:
    _, door = pair
    assert not door.send(b"nobody", b"header")
    assert not door.send(b"nobody", b"header", [b"frame"])


def test_too_many_frames_are_dropped_and_counted(
    pair: tuple[TcpLine, TcpDoor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcpsockets, "MAX_FRAMES", 3)
    line, door = pair
    line.send(b"many", [b"frame"] * 4)
    line.send(b"few", [b"frame"] * 3)
    taken: list[Any] = []
    while not taken:
        assert make_poll([door.handle])(LONG)
        taken += door.take()
    assert [header for _, header, _ in taken] == [b"few"]
    assert door.malformed == 1
