"""Those who speak to a hub without being a client or an engine."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ipyasyncresult._version import __version__
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.runtime import cluster_folder
from ipyasyncresult.wire.sockets import make_poll
from ipyasyncresult.wire.transport import connect_to_hub
from ipyasyncresult.wire.versions import python_version

__all__ = ["Intruder", "Peer", "intruder", "puppets_of"]


class Peer:
    """One connection to a hub: what may be sent there is anything."""

    def __init__(self, folder: Path, name: str, identity: bytes) -> None:
        self.line = connect_to_hub(folder, name, identity)
        self._poll = make_poll([self.line.handle])
        self._heard: deque[tuple[bytes, Sequence[Any]]] = deque()

    def send(self, header: bytes, frames: Sequence[Any] = ()) -> None:
        """Send a message, and wait until the hub has it."""
        self.line.send(header, frames)
        while not self.line.flush():
            self.line.wait_for_room()

    def answer(self, timeout: float = 30.0) -> tuple[bytes, Sequence[Any]]:
        """The next message that comes."""
        deadline = time.monotonic() + timeout
        while not self._heard:
            assert self._poll(max(0, int((deadline - time.monotonic()) * 1000))), "no answer came"
            self._heard += self.line.take()
            assert not self.line.lost, "it was turned away"
        return self._heard.popleft()

    def heard(self) -> bool:
        """Whether something came."""
        self._heard += self.line.take()
        return bool(self._heard)

    def swallow(self) -> None:
        """Take in what is there, and forget it."""
        while self.heard():
            self._heard.clear()


class Intruder:
    """Connects to a hub as often as it likes."""

    def __init__(self, cluster_id: str) -> None:
        self._folder = cluster_folder(cluster_id)
        self._peers: list[Peer] = []
        self.session = secrets.token_hex(6)

    def open(self, name: str, identity: bytes) -> Peer:
        """A connection to where the hub listens: for ``clients`` or for ``engines``."""
        self._peers.append(Peer(self._folder, name, identity))
        return self._peers[-1]

    def hello(self, **other: Any) -> m.Hello:
        told = {
            "session": self.session,
            "protocol": m.PROTOCOL,
            "package": __version__,
            "python": python_version(),
            "pid": os.getpid(),
        }
        return m.Hello(**{**told, **other})

    def introduce(self, **other: Any) -> tuple[Peer, Any]:
        """Say hello as a client does; the connection and the hub's answer."""
        peer = self.open("clients", b"C" + self.session.encode())
        peer.send(m.encode(self.hello(**other)))
        return peer, m.decode_from_hub(peer.answer()[0])

    def close(self) -> None:
        for peer in self._peers:
            peer.line.close(linger=2000)


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
