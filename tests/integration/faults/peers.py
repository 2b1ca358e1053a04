"""Those who speak to a hub without being a client or an engine."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq

from ipyasyncresult._version import __version__
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.runtime import cluster_folder, socket_url
from ipyasyncresult.wire.sockets import make_socket, receive, send, waiting
from ipyasyncresult.wire.versions import python_version

__all__ = ["Intruder", "answer_of", "intruder", "puppets_of", "swallow"]


class Intruder:
    """Raw sockets of a hub: what may be sent there is anything."""

    def __init__(self, cluster_id: str) -> None:
        self._folder = cluster_folder(cluster_id)
        self._context: zmq.Context[Any] = zmq.Context()
        self.session = secrets.token_hex(6)

    def open(self, name: str, identity: bytes) -> Any:
        """A socket to where the hub listens: for ``clients`` or for ``engines``."""
        socket = make_socket(self._context, zmq.DEALER, identity)
        socket.connect(socket_url(self._folder, name))
        return socket

    def hello(self, **other: Any) -> m.Hello:
        told = {
            "session": self.session,
            "protocol": m.PROTOCOL,
            "package": __version__,
            "python": python_version(),
            "pid": os.getpid(),
        }
        return m.Hello(**{**told, **other})

    def introduce(self, **other: Any) -> tuple[Any, Any]:
        """Say hello as a client does; the socket and the hub's answer."""
        socket = self.open("clients", b"C" + self.session.encode())
        send(socket, m.encode(self.hello(**other)))
        return socket, m.decode_from_hub(answer_of(socket)[0])

    def close(self) -> None:
        self._context.destroy(linger=2000)


def answer_of(socket: Any, timeout: float = 30.0) -> tuple[bytes, list[Any]]:
    """The next message that comes."""
    assert socket.poll(int(timeout * 1000)), "no answer came"
    return receive(socket)


def swallow(socket: Any) -> None:
    """Take in what is there, and forget it."""
    while waiting(socket):
        receive(socket)


@contextlib.contextmanager
def intruder(cluster_id: str) -> Iterator[Intruder]:
    """An intruder, gone at the end."""
    made = Intruder(cluster_id)
    try:
        yield made
    finally:
        made.close()


def puppets_of(path: Path, count: int) -> list[str]:
    """The names of the engines that a hub wanted to start."""
    deadline = time.monotonic() + 30
    while not path.exists() or len(path.read_text().splitlines()) < count:
        assert time.monotonic() < deadline, "the hub asked for no engines"
        time.sleep(0.01)
    return path.read_text().splitlines()
