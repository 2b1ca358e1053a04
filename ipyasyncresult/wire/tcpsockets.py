"""Messages over TCP: ZeroMQ sockets with CURVE, one header frame, then frames without copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import zmq

from ipyasyncresult.wire.sockets import MAX_FRAMES

__all__ = ["COPY_BELOW", "TcpDoor", "TcpLine"]

# Plain numbers: arithmetic on the enums costs more than the calls that they are for.
_NOBLOCK, _SNDMORE = int(zmq.NOBLOCK), int(zmq.SNDMORE)
_POLLIN = int(zmq.POLLIN)
# What is under the Python of pyzmq's Socket and Poller: after each wake-up a call of a Python
# function costs two microseconds.
_send: Any = zmq.backend.Socket.send
_poll = zmq.zmq_poll

_AT_ONCE = 64
"""Messages taken from one door before the other one gets its turn."""
COPY_BELOW = 65_536
"""Bytes; smaller frames are copied, which is cheaper than keeping track of them."""


def waiting(socket: Any) -> bool:
    """Whether a message is there.

    A ``recv`` that raises costs eight times as much, asking for the option ``EVENTS`` twice.
    """
    return bool(_poll([(socket, _POLLIN)], 0))


def _prepare(socket: Any) -> None:
    """Never drop silently, and never keep a process from ending."""
    socket.linger = 0
    socket.sndhwm = socket.rcvhwm = 0
    socket.copy_threshold = COPY_BELOW


class TcpLine:
    """One end of a connection: a client's or an engine's, to the hub.  One thread at a time.

    See :class:`~ipyasyncresult.wire.sockets.Line`.

    Parameters
    ----------
    identity : bytes
        Which of the hub's peers this is.

    Attributes
    ----------
    socket : zmq.Socket
        Still to be given its keys, and connected.
    """

    over_tcp = True
    lost = False  # ZeroMQ connects again by itself
    unsent: Sequence[Any] = ()  # and queues what does not fit

    def __init__(self, identity: bytes) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self.socket = self.handle = self._context.socket(zmq.DEALER)
        _prepare(self.socket)
        self.socket.identity = identity
        self.socket.reconnect_ivl = 5  # ms; the other side is near
        self.socket.reconnect_ivl_max = 500

    def connect(self) -> bool:
        """Is under way already."""
        return True

    def take(self) -> list[tuple[bytes, list[Any]]]:
        """Messages that are there; frames come as zmq.Frame, uncopied."""
        taken = []
        while waiting(self.socket):
            header = self.socket.recv(_NOBLOCK, copy=False)  # it knows whether there are more
            taken.append((header.bytes, _rest(self.socket) if header.more else []))
        return taken

    def send(self, header: bytes, frames: Sequence[Any] = ()) -> Any:
        """Send a header and its frames as one message; large frames without a copy.

        Returns a ``zmq.MessageTracker`` with frames: until it is done, they must not change.
        """
        if not frames:
            _send(self.socket, header)
            return None
        return self.socket.send_multipart([header, *frames], copy=False, track=True)

    def wait_for_room(self, milliseconds: int = -1) -> bool:
        """There always is."""
        return True

    def flush(self) -> bool:
        """Nothing is unsent."""
        return True

    def close(self, linger: int = 0) -> None:
        """Close it; what was sent may take so many milliseconds to leave."""
        self.socket.close(linger=linger)
        self._context.term()


class TcpDoor:
    """Where the hub listens, and those who came.  The hub's thread only.

    See :class:`~ipyasyncresult.wire.sockets.Door`.

    Parameters
    ----------
    context : zmq.Context
        Of the hub.
    """

    def __init__(self, context: zmq.Context[Any]) -> None:
        self.socket = self.handle = context.socket(zmq.ROUTER)
        _prepare(self.socket)
        self.socket.router_mandatory = True
        self.malformed = 0
        self.quiet = True
        self.on_end: Callable[[bytes], None]  # never: its peers connect again by themselves

    def take(self) -> list[tuple[bytes, bytes, Sequence[Any]]]:
        """Messages that are there, so many at most: who sent it, header, frames."""
        taken: list[tuple[bytes, bytes, Sequence[Any]]] = []
        socket = self.socket
        while len(taken) < _AT_ONCE and waiting(socket):
            identity = socket.recv(_NOBLOCK)
            header = socket.recv(_NOBLOCK, copy=False)  # no peer can send less than a frame
            frames = _rest(socket) if header.more else []
            if len(frames) > MAX_FRAMES:
                self.malformed += 1
            else:
                taken.append((identity, header.bytes, frames))
        self.quiet = not taken
        return taken

    def send(self, identity: bytes, header: bytes, frames: Sequence[Any] = ()) -> bool:
        """Send to a peer; False when nobody of that identity is connected."""
        try:
            if frames:
                self.socket.send_multipart([identity, header, *frames], copy=False)
            else:
                _send(self.socket, identity, _SNDMORE)
                _send(self.socket, header)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return False
        return True

    def has_more(self, identity: bytes) -> bool:
        """Whether anybody sent what is still to be taken: ZeroMQ does not say who."""
        return waiting(self.socket)

    def end(self, identity: bytes) -> None:
        """Not over TCP."""

    def close(self, linger: int = 0) -> None:
        """Close it; what was sent may take so many milliseconds to leave."""
        self.socket.close(linger=linger)


def _rest(socket: Any) -> list[Any]:
    frames: list[Any] = []
    more = True
    while more:
        frame = socket.recv(_NOBLOCK, copy=False)
        if len(frames) <= MAX_FRAMES:  # the rest is read and dropped
            frames.append(frame)
        more = frame.more
    return frames
