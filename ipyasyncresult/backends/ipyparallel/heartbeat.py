"""Whether an ipyparallel controller still lives, which its own client does not ask."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from typing import Any
from urllib.parse import urlsplit

__all__ = ["ControllerWatch", "endpoint"]

_REFUSALS = 2  # connections in a row that were refused: it is gone
_PATIENCE = 5.0  # seconds for which a connection may stay without a greeting


class ControllerWatch:
    """Connects to the controller now and then; waits for nothing.

    A connection alone says little: the schedulers, processes of their own that outlive a killed
    controller, have inherited the socket it listened at, and the kernel goes on accepting there.
    But who speaks ZeroMQ greets whoever connects, and does so however busy his Python is.

    Parameters
    ----------
    address : str
        As ZeroMQ has it; one that is not of TCP is never called dead.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        known = parts.scheme == "tcp" and parts.hostname and parts.port
        self._address = (parts.hostname, parts.port) if known else None
        self._socket: socket.socket | None = None
        self._asked = 0.0  # monotonic seconds
        self._refusals = 0

    def is_dead(self) -> bool:
        """Whether it is by now; to be called again and again."""
        if self._address is None:
            return False
        if self._socket is None:
            self._connect()
        elif select.select([self._socket], [], [], 0)[0]:
            self._take_greeting(self._socket)
        elif time.monotonic() - self._asked > _PATIENCE:
            return True
        return self._refusals >= _REFUSALS

    def _connect(self) -> None:
        host, port = self._address  # type: ignore[misc]
        try:
            family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except OSError:
            self._refusals += 1
            return
        self._socket, self._asked = socket.socket(family, kind), time.monotonic()
        self._socket.setblocking(False)
        self._socket.connect_ex(address)  # how that goes is read at the next look

    def _take_greeting(self, connection: socket.socket) -> None:
        greeting = b""
        with contextlib.suppress(OSError):
            greeting = connection.recv(1)
        self.forget()
        self._refusals = 0 if greeting else self._refusals + 1

    def forget(self) -> None:
        """Nothing is of interest for now: a question that is open is taken back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def endpoint(client: Any) -> str:
    """Where a client is connected to the hub; through a tunnel that is not the hub's address."""
    import zmq

    address = client._query_socket.getsockopt(zmq.LAST_ENDPOINT)
    return address.rstrip(b"\0").decode()  # type: ignore[no-any-return]
