"""What a hub waits for."""

from __future__ import annotations

from socket import socket
from typing import Any

from ipyasyncresult.wire.sockets import make_poll

__all__ = ["Sources"]


class Sources:
    """Doors, descriptors, and the line to the nursery, which may change.

    Parameters
    ----------
    *handles : int or zmq.Socket
        Always waited for, in the order in which they get their turn.

    Attributes
    ----------
    line : socket or None
        To the nursery, waited for, too.
    watched : int
        Its file descriptor.
    poll : callable
        Waits so many milliseconds for any of them, and tells which are ready.
    """

    def __init__(self, *handles: Any) -> None:
        self.line: socket | None = None
        self.watched = -1
        self._always = handles
        self.poll = make_poll(handles)

    def follow(self, line: socket) -> None:
        """There is another nursery, or for now none: this is the line to it."""
        self.line = line
        self.watched = line.fileno()
        self.poll = make_poll([*self._always, self.watched])
