"""ZeroMQ sockets as this package uses them: one header frame, then frames without copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import zmq

__all__ = [
    "COPY_BELOW",
    "MAX_FRAMES",
    "make_socket",
    "poll",
    "receive",
    "receive_from",
    "send",
    "send_to",
    "waiting",
]

# Plain numbers: arithmetic on the enums costs more than the calls that they are for.
_NOBLOCK, _SNDMORE = int(zmq.NOBLOCK), int(zmq.SNDMORE)
_POLLIN = int(zmq.POLLIN)
# What is under the Python of pyzmq's Socket and Poller: a task meets it eight times on its way, and
# after each wake-up a call of a Python function costs two microseconds.
_send: Any = zmq.backend.Socket.send

MAX_FRAMES = 1 << 20
"""Frames that a message may have: a hundred times what a large map of arrays needs."""
COPY_BELOW = 65_536
"""Bytes; smaller frames are copied, which is cheaper than keeping track of them."""


def make_socket(context: zmq.Context[Any], kind: int, identity: bytes | None = None) -> Any:
    """A ROUTER or DEALER that never drops silently and never keeps a process from ending."""
    socket = context.socket(kind)
    socket.linger = 0
    socket.sndhwm = socket.rcvhwm = 0
    socket.copy_threshold = COPY_BELOW
    if identity is not None:
        socket.identity = identity
    if kind == zmq.ROUTER:
        socket.router_mandatory = True
    else:
        socket.reconnect_ivl = 5  # ms; the other side is on this machine
        socket.reconnect_ivl_max = 500
    return socket


poll: Callable[[list[tuple[Any, int]], int], list[tuple[Any, int]]] = zmq.zmq_poll
"""Those of the sockets and file descriptors on which something is there, in the order given.

Waits so many milliseconds at most; -1: for ever.
"""


def waiting(socket: Any) -> bool:
    """Whether a message is there.

    A ``recv`` that raises costs eight times as much, asking for the option ``EVENTS`` twice.
    """
    return bool(poll([(socket, _POLLIN)], 0))


def receive(socket: Any) -> tuple[bytes, list[Any]]:
    """Header and further frames of the next message of a DEALER that has one.

    Frames come as zmq.Frame, uncopied.
    """
    header = socket.recv(_NOBLOCK, copy=False)  # it knows whether there are more
    return header.bytes, _rest(socket) if header.more else []


def receive_from(socket: Any) -> tuple[bytes, bytes, list[Any]]:
    """As :func:`receive` for a ROUTER: who sent it, header, frames.

    Raises
    ------
    IndexError
        When there are too many frames; they are gone then.
    """
    identity = socket.recv(_NOBLOCK)
    header = socket.recv(_NOBLOCK, copy=False)  # always there: no peer can send less than a frame
    if not header.more:
        return identity, header.bytes, []
    frames = _rest(socket)
    if len(frames) > MAX_FRAMES:
        raise IndexError(f"a message of more than {MAX_FRAMES} frames")
    return identity, header.bytes, frames


def _rest(socket: Any) -> list[Any]:
    frames: list[Any] = []
    more = True
    while more:
        frame = socket.recv(_NOBLOCK, copy=False)
        if len(frames) <= MAX_FRAMES:  # the rest is read and dropped
            frames.append(frame)
        more = frame.more
    return frames


def send(socket: Any, header: bytes, frames: Sequence[Any] = (), *, track: bool = False) -> Any:
    """Send a header and its frames as one message; large frames without a copy.

    Returns a ``zmq.MessageTracker`` with `track`: until it is done, the buffers must not change.
    """
    if not frames:
        _send(socket, header)
        return None
    return socket.send_multipart([header, *frames], copy=False, track=track)


def send_to(socket: Any, identity: bytes, header: bytes, frames: Sequence[Any] = ()) -> None:
    """As :func:`send` for a ROUTER.

    Raises
    ------
    zmq.ZMQError
        With EHOSTUNREACH when nobody of that identity is connected.
    """
    if frames:
        socket.send_multipart([identity, header, *frames], copy=False)
    else:
        _send(socket, identity, _SNDMORE)
        _send(socket, header)
