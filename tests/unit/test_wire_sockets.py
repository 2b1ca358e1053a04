"""Sockets as this package uses them, within one process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from ipyasyncresult.wire.sockets import (
    COPY_BELOW,
    make_socket,
    receive,
    receive_from,
    send,
    send_to,
    waiting,
)


@pytest.fixture
def pair() -> Iterator[tuple[Any, Any]]:
    """A DEALER called ``me``, connected to a ROUTER."""
    context: zmq.Context[Any] = zmq.Context()
    router = make_socket(context, zmq.ROUTER)
    dealer = make_socket(context, zmq.DEALER, b"me")
    router.bind("inproc://here")
    dealer.connect("inproc://here")
    yield dealer, router
    context.destroy(linger=0)


def test_a_message_arrives_with_its_sender_header_and_frames(pair: tuple[Any, Any]) -> None:
    dealer, router = pair
    assert not waiting(router)
    send(dealer, b"header", [b"one", memoryview(b"two")])
    assert router.poll(10_000)
    identity, header, frames = receive_from(router)
    assert (identity, header) == (b"me", b"header")
    assert [bytes(frame.buffer) for frame in frames] == [b"one", b"two"]
    send_to(router, identity, b"answer")
    send_to(router, identity, b"answer", [b"frame"])
    assert dealer.poll(10_000)
    assert receive(dealer) == (b"answer", [])
    header, frames = receive(dealer)
    assert [header, *(frame.bytes for frame in frames)] == [b"answer", b"frame"]
    assert not waiting(dealer)


def test_a_message_without_a_header_has_an_empty_one(pair: tuple[Any, Any]) -> None:
    dealer, router = pair
    dealer.send(b"")
    assert router.poll(10_000)
    assert receive_from(router) == (b"me", b"", [])


def test_large_frames_are_tracked_until_they_left(pair: tuple[Any, Any]) -> None:
    dealer, router = pair
    assert send(dealer, b"small") is None
    tracker = send(dealer, b"large", [bytearray(2 * COPY_BELOW)], track=True)
    assert not tracker.done
    assert router.poll(10_000)
    receive_from(router)
    assert router.poll(10_000)
    frames = receive_from(router)[2]
    assert [len(frame) for frame in frames] == [2 * COPY_BELOW]
    del frames[:]
    tracker.wait(10)
    assert tracker.done


def test_nothing_is_dropped_silently(pair: tuple[Any, Any]) -> None:
    _, router = pair
    for frames in ([], [b"frame"]):
        with pytest.raises(zmq.ZMQError) as caught:
            send_to(router, b"nobody", b"header", frames)
        assert caught.value.errno == zmq.EHOSTUNREACH
