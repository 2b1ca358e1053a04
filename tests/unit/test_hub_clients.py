"""What the hub knows of clients that leave, over real sockets within one process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipyasyncresult._version import __version__
from ipyasyncresult.hub.archive import Archive
from ipyasyncresult.hub.clients import ClientLine
from ipyasyncresult.hub.settings import HubSettings
from ipyasyncresult.hub.state import HubState
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.localsockets import LocalDoor, LocalLine
from ipyasyncresult.wire.sockets import make_poll
from ipyasyncresult.wire.versions import python_version

SESSION = "0123456789ab"
LONG = 10_000
"""Milliseconds; never reached, but a broken test ends."""
NOBODY = 1 << 30
"""No process has this number: the kernel gives none above 2 ** 22."""


class Peer:
    """A client's two lines, and the hub's side of them."""

    def __init__(self, path: Path) -> None:
        self.door = LocalDoor(path)
        settings = HubSettings(cluster_id="c", engines=0)
        self.clients = ClientLine(self.door, settings, HubState(Archive()), None)
        self.speaks, self.hears = [
            LocalLine(path, kind + SESSION.encode()) for kind in (b"S", b"C")
        ]
        assert self.speaks.connect()
        assert self.hears.connect()

    def introduce(self, pid: int) -> None:
        self.hears.send(b"hello")
        assert self.taken() == [b"hello"]
        hello = m.Hello(SESSION, m.PROTOCOL, __version__, python_version(), pid)
        self.clients.hello(b"C" + SESSION.encode(), hello)
        assert SESSION in self.clients.sessions

    def taken(self) -> list[bytes]:
        """The next messages that the hub takes in, or none if a line ends."""
        taken: list[bytes] = []
        lines = len(self.clients.speakers)
        while not taken and len(self.clients.speakers) == lines:
            assert make_poll([self.door.handle])(LONG)
            for identity, header, _ in self.door.take():
                assert not lines or self.clients.speakers[identity] == SESSION
                taken.append(header)
        return taken

    def close(self) -> None:
        self.speaks.close()
        self.hears.close()
        self.door.close()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    made = Peer(tmp_path / "door")
    yield made
    made.close()


def test_who_cannot_be_told_anything_any_more_is_heard_to_the_end(peer: Peer) -> None:
    peer.introduce(os.getpid())
    peer.speaks.send(b"last words")
    peer.speaks.close()
    peer.hears.close()
    for _ in range(3):
        peer.clients.tell(m.Notice("nobody hears this"))
    assert peer.taken() == [b"last words"]
    assert peer.taken() == []
    assert not peer.clients.sessions
    assert not peer.clients.speakers


def test_whose_process_died_is_heard_to_the_end(peer: Peer) -> None:
    peer.introduce(NOBODY)
    peer.speaks.send(b"last words")
    peer.clients.look(0.0)
    assert peer.taken() == [b"last words"]
    assert SESSION in peer.clients.sessions
    peer.clients.look(0.0)  # a child that it forked may hold the lines open
    assert not peer.clients.sessions
    assert not peer.clients.speakers
