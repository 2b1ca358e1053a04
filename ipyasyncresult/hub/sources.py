"""What a hub waits for."""

from __future__ import annotations

from socket import socket
from typing import Any

import zmq

__all__ = ["Sources"]


class Sources:
    """For :func:`~ipyasyncresult.wire.sockets.poll`.

    Parameters
    ----------
    *sockets : zmq.Socket or int
        Always waited for, in the order in which they get their turn.

    Attributes
    ----------
    line : socket or None
        To the nursery, waited for, too.
    watched : int
        Its file descriptor.
    polled : list
        All of them, as the poll wants them.
    """

    def __init__(self, *sockets: Any) -> None:
        self.line: socket | None = None
        self.watched = -1
        self._always = [(one, int(zmq.POLLIN)) for one in sockets]
        self.polled = self._always

    def follow(self, line: socket) -> None:
        """There is another nursery, or for now none: this is the line to it."""
        self.line = line
        self.watched = line.fileno()
        self.polled = [*self._always, (self.watched, int(zmq.POLLIN))]
