"""Messages between processes of one machine: Unix sockets, no library and no thread in between.

::

    client, engine   LocalLine ─────connect─────▶ LocalDoor   hub
                        who it is, as the first message
                        ◀──────── whole messages ─────────▶

A door never waits for anybody: what a peer does not take stays in that peer's queue.  A line does
not wait either when it sends; what does not fit is sent by whoever waits for room
(:meth:`LocalLine.wait_for_room`, :func:`~ipyasyncresult.wire.sockets.make_poll`).  As the hub
always reads, that ends.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ipyasyncresult.wire.localstream import GONE, MalformedError, Message, Stream

__all__ = ["LocalDoor", "LocalLine", "Tracker"]

_MAX_IDENTITY = 255  # bytes
_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_ROOT = 0  # may do anything anyway
_BACKLOG = 4096
_LOOK = 0.002
"""Seconds between two looks of who waits until a message has left."""
_IN = select.EPOLLIN
_FULL = (errno.EMFILE, errno.ENFILE)

_log = logging.getLogger(__name__)


class Tracker:
    """As a ``zmq.MessageTracker``: of everything that a line has been given so far.  Any thread."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._number = stream.queued

    @property
    def done(self) -> bool:
        """Whether the buffers may be changed."""
        return self._stream.queued - len(self._stream.unsent) >= self._number

    def wait(self, timeout: float = -1) -> None:
        """Wait until `done`, or so many seconds (-1: for ever)."""
        deadline = None if timeout < 0 else time.monotonic() + timeout
        while not self.done and (deadline is None or time.monotonic() < deadline):
            time.sleep(_LOOK)


class LocalLine:
    """See :class:`~ipyasyncresult.wire.sockets.Line`.

    Parameters
    ----------
    path : Path
        Where the hub listens.
    identity : bytes
        Which of its peers this is.
    """

    over_tcp = False

    def __init__(self, path: Path, identity: bytes) -> None:
        self._path = os.fspath(path)
        self._identity = identity
        self._pid = os.getpid()
        self._stream: Stream | None = None
        self.handle = -1
        self.lost = True
        self.unsent: Sequence[memoryview] = ()

    def connect(self) -> bool:
        """Try once to reach the hub; whether it listens."""
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            channel.setblocking(False)  # for ever, when very many want to connect
            channel.connect(self._path)
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            channel.close()
            return False
        except BaseException:
            channel.close()
            raise
        self.close()
        self._stream = Stream(channel)
        self.handle, self.unsent, self.lost = channel.fileno(), self._stream.unsent, False
        self.send(self._identity)
        return True

    def take(self) -> Sequence[Message]:
        """Messages that are there, as many as one look brings: none does not mean that none is."""
        try:
            return self._stream.read()  # type: ignore[union-attr]
        except BlockingIOError:
            return ()
        except (EOFError, ConnectionResetError, MalformedError):
            self.lost = True
            return ()

    def send(self, header: bytes, frames: Sequence[Any] = ()) -> Tracker | None:
        """Send a message; what does not fit is `unsent`.  Nobody hears it when the hub is gone.

        A tracker of its frames as long as some of them are unsent.
        """
        stream = self._stream
        assert stream is not None
        try:
            stream.write(header, frames)
        except GONE:
            stream.unsent.clear()
        return Tracker(stream) if frames and stream.unsent else None

    def wait_for_room(self, milliseconds: int = -1) -> bool:
        """Wait until the hub takes more of what is unsent, or so long at most; whether it does."""
        poller = select.poll()
        poller.register(self.handle, select.POLLOUT)
        return bool(poller.poll(milliseconds))

    def flush(self) -> bool:
        """Send what is unsent, as much as fits now; whether that was all."""
        try:
            return self._stream is None or self._stream.flush()
        except GONE:
            self._stream.unsent.clear()  # type: ignore[union-attr]
            return True

    def close(self, linger: int = 0) -> None:
        """Close it; what is unsent leaves before, unless nothing does for so many milliseconds."""
        if self._stream is None:
            return
        while not self.flush() and self.wait_for_room(linger):
            pass
        stream, self._stream = self._stream, None
        self.handle, self.lost, self.unsent = -1, True, ()
        stream.close(mine=os.getpid() == self._pid)


class LocalDoor:
    """See :class:`~ipyasyncresult.wire.sockets.Door`.

    Parameters
    ----------
    path : Path
        Where to listen, in a folder that nobody else may enter.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)  # of a hub that died
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        self._listener.bind(os.fspath(path))
        self._listener.listen(_BACKLOG)
        self._epoll = select.epoll()
        self._poll = self._epoll.poll
        self.handle = self._epoll.fileno()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._listening = True
        self._strangers: dict[int, Stream] = {}  # by descriptor: who did not say who it is
        self._peers: dict[int, tuple[bytes, Stream]] = {}  # by descriptor
        self._streams: dict[bytes, Stream] = {}  # by identity
        self.malformed = 0
        self.quiet = True
        self.on_end: Callable[[bytes], None] = lambda _: None

    def take(self) -> list[tuple[bytes, bytes, Sequence[Any]]]:
        """Messages that are there, a few of each peer: who sent it, header, frames."""
        taken: list[tuple[bytes, bytes, Sequence[Any]]] = []
        ready = self._poll(0)
        self.quiet = not ready
        for number, event in ready:
            try:
                identity, stream = self._peers[number]
                if event != _IN and event & select.EPOLLOUT:
                    self._push(identity, stream)
                for header, frames in stream.read():
                    taken.append((identity, header, frames))
            except BlockingIOError:
                continue
            except KeyError:
                taken += self._look_at(number)
            except (EOFError, *GONE):
                self._drop(number)
            except MalformedError as error:
                self._turn_away(number, str(error))
        return taken

    def _look_at(self, number: int) -> Iterator[tuple[bytes, bytes, Sequence[Any]]]:
        """What is of no peer yet."""
        if number == self._listener.fileno():
            self._accept()
            return
        stream = self._strangers.get(number)
        if stream is None:
            return
        try:
            messages = stream.read()
        except BlockingIOError:
            return
        except (EOFError, *GONE):
            self._drop(number)
            return
        except MalformedError as error:
            self._turn_away(number, str(error))
            return
        if not messages:
            if stream.large is not None:
                self._turn_away(number, "somebody who does not say who it is")
            return
        (identity, nothing), *rest = messages
        if not 0 < len(identity) <= _MAX_IDENTITY or nothing:
            self._turn_away(number, "somebody who does not say who it is")
        elif identity in self._streams:
            self._turn_away(number, f"another one of the name {identity!r}")
        else:
            del self._strangers[number]
            self._peers[number] = identity, stream
            self._streams[identity] = stream
            for header, frames in rest:
                yield identity, header, frames

    def _accept(self) -> None:
        try:
            channel, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in _FULL:
                raise
            _log.warning("nobody can connect: %s", error)
            self._listening = False  # until somebody leaves
            self._epoll.modify(self._listener, 0)
            return
        uid = _CREDENTIALS.unpack(
            channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )[1]
        if uid not in (_ROOT, os.geteuid()):
            _log.warning("turned away a process of the user %d", uid)
            channel.close()
            return
        self._strangers[channel.fileno()] = Stream(channel)
        self._epoll.register(channel, _IN)

    def _turn_away(self, number: int, why: str) -> None:
        self.malformed += 1
        if self.malformed < 10:
            _log.warning("turned away a peer: %s", why)
        self._drop(number)

    def _drop(self, number: int) -> None:
        stream = self._strangers.pop(number, None)
        if stream is None:
            identity, stream = self._peers.pop(number)
            if self._streams.get(identity) is stream:
                del self._streams[identity]
            self.on_end(identity)
        stream.close()
        if not self._listening:
            self._listening = True
            self._epoll.modify(self._listener, _IN)

    def send(self, identity: bytes, header: bytes, frames: Sequence[Any] = ()) -> bool:
        """Send to a peer, sooner or later; False when nobody of that identity is connected."""
        stream = self._streams.get(identity)
        if stream is None:
            return False
        try:
            stream.write(header, frames)
        except GONE:
            self._give_up(identity, stream)
            return False
        if stream.unsent:
            self._epoll.modify(stream.channel, _IN | select.EPOLLOUT)
        return True

    def _push(self, identity: bytes, stream: Stream) -> None:
        try:
            if stream.flush():
                self._epoll.modify(stream.channel, _IN)
        except GONE:
            self._give_up(identity, stream)

    def _give_up(self, identity: bytes, stream: Stream) -> None:
        """Nobody hears it any more; what it said before is still to be read."""
        del self._streams[identity]
        stream.unsent.clear()
        self._epoll.modify(stream.channel, _IN)

    def has_more(self, identity: bytes) -> bool:
        """Whether something of a peer, or its end, is still to be taken."""
        stream = self._streams.get(identity)
        if stream is None:
            return False
        poller = select.poll()
        poller.register(stream.channel, select.POLLIN)
        return bool(poller.poll(0))

    def end(self, identity: bytes) -> None:
        """Break off the connection of a peer, which so knows that it is not heard."""
        stream = self._streams.get(identity)
        if stream is not None:
            self._drop(stream.channel.fileno())

    def close(self, linger: int = 0) -> None:
        """Close it; what is unsent may take so many milliseconds to leave."""
        deadline = time.monotonic() + linger / 1000
        streams = [*(stream for _, stream in self._peers.values()), *self._strangers.values()]
        for stream in streams:
            with contextlib.suppress(*GONE):
                while not stream.flush() and (left := deadline - time.monotonic()) > 0:
                    poller = select.poll()
                    poller.register(stream.channel, select.POLLOUT)
                    poller.poll(int(left * 1000) + 1)
            stream.close()
        self._epoll.close()
        self._listener.close()
        self._path.unlink(missing_ok=True)
