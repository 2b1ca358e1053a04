"""What hub, engines and clients send messages with, whichever way these travel.

On one machine over Unix sockets (``wire/localsockets.py``), over TCP by ZeroMQ
(``wire/tcpsockets.py``).
"""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from typing import Any, Protocol

__all__ = ["MAX_FRAMES", "Door", "Line", "make_poll"]

MAX_FRAMES = 1 << 20
"""Frames that a message may have: a hundred times what a large map of arrays needs."""


class Line(Protocol):
    """One end of a connection: a client's or an engine's, to the hub.  One thread at a time.

    Attributes
    ----------
    handle : int or zmq.Socket
        For :func:`make_poll`; another one after each `connect`.
    lost : bool
        The hub is gone: to `connect` again is up to the owner.
    unsent : sequence
        What was sent and did not fit.
    over_tcp : bool
    """

    over_tcp: bool
    lost: bool
    handle: Any
    unsent: Sequence[Any]

    def connect(self) -> bool:
        """Try once to reach the hub; whether it listens."""

    def take(self) -> Sequence[tuple[bytes, Sequence[Any]]]:
        """Header and frames of the messages that are there, as many as one look brings."""

    def send(self, header: bytes, frames: Sequence[Any] = ()) -> Any:
        """Send a message, never waiting.

        Returns None when its buffers may change already, else a ``zmq.MessageTracker`` or the
        like.
        """

    def wait_for_room(self, milliseconds: int = -1) -> bool:
        """Wait until more can be sent, or so long at most; whether it can."""

    def flush(self) -> bool:
        """Send what is unsent, as much as fits now; whether that was all."""

    def close(self, linger: int = 0) -> None:
        """Close it; what is unsent leaves before, unless nothing does for so many milliseconds.

        Over TCP it has so long altogether.
        """


class Door(Protocol):
    """Where the hub listens, and those who came.  The hub's thread only.

    Attributes
    ----------
    handle : int or zmq.Socket
        For :func:`make_poll`.
    malformed : int
        How often somebody sent what is no message.
    quiet : bool
        At the last look nothing was there, also no part of a message.
    on_end : callable
        Told the identity of a peer whose connection has ended, when all that it sent was taken.
    """

    handle: Any
    malformed: int
    quiet: bool
    on_end: Callable[[bytes], None]

    def take(self) -> Sequence[tuple[bytes, bytes, Sequence[Any]]]:
        """Messages that are there, as many as one look brings: who sent it, header, frames."""

    def send(self, identity: bytes, header: bytes, frames: Sequence[Any] = ()) -> bool:
        """Send to a peer, never waiting; False when nobody of that identity is connected."""

    def has_more(self, identity: bytes) -> bool:
        """Whether a peer sent what is still to be taken, as far as that can be told."""

    def end(self, identity: bytes) -> None:
        """Break off the connection of a peer, which so knows that it is not heard."""

    def close(self, linger: int = 0) -> None:
        """Close it; what is unsent may take so many milliseconds to leave."""


def make_poll(
    handles: Sequence[Any], room: int | None = None
) -> Callable[[int], list[tuple[Any, int]]]:
    """A function that waits so many milliseconds at most (-1: for ever), and tells which are ready.

    Parameters
    ----------
    handles : sequence
        Of lines and doors, and file descriptors.
    room : int, optional
        Of a line that has something unsent: ready as soon as it can send more.
    """
    if all(type(one) is int for one in handles):
        poller = select.poll()
        for one in handles:
            poller.register(one, select.POLLIN)
        if room is not None:
            poller.register(room, select.POLLOUT)
        return poller.poll
    import zmq

    sources = [(one, int(zmq.POLLIN)) for one in handles]
    return lambda milliseconds: zmq.zmq_poll(sources, milliseconds)
