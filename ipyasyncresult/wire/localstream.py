"""Whole messages over one Unix socket, both ways.

A message on its way::

    bytes of the header, number of frames     two numbers of eight bytes
    bytes of each frame                       eight bytes for each
    header, frames
"""

from __future__ import annotations

import contextlib
import mmap
import socket
import struct
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

from ipyasyncresult.wire.sockets import MAX_FRAMES

__all__ = ["AT_ONCE", "GONE", "MAX_BYTES", "MalformedError", "Message", "Stream"]

AT_ONCE = 32_768
"""Bytes: of so much the kernel takes all or nothing, so that nothing can come in between."""
MAX_BYTES = 1 << 40
"""Bytes that a message may have.  Memory is taken as they come, whatever was announced."""
GONE = (BrokenPipeError, ConnectionResetError)
"""What sending raises when the peer is gone."""

_READ = 65_536
"""Bytes read at once; larger messages are received into the memory in which they stay."""
_TURNS = 16
"""Times that a part of a large message is received before others get their turn."""
_BUFFER = 425_984
"""Bytes that a socket is asked to hold; the system may have set a limit below."""
_MAPPED = 262_144
"""Bytes from which on a frame gets memory of its own from the kernel, which need not be cleared."""
_VECTOR = 64
"""Pieces given to the kernel in one call."""
_NUMBERS = struct.Struct("=QQ")
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL

Message = tuple[bytes, Sequence[Any]]
"""Header and frames."""


class MalformedError(Exception):
    """A peer sends what is no message."""


class _Large:
    """A message that comes in many pieces: each frame in memory of its own."""

    def __init__(self, sizes: Sequence[int], start: memoryview) -> None:
        self._buffers = [_room(size) for size in sizes]
        self._open = deque(one for one in self._buffers if len(one))
        while self._open and len(start):
            part = min(len(start), len(self._open[0]))
            self._open[0][:part] = start[:part]
            start = start[part:]
            _advance(self._open, part)

    def read(self, channel: socket.socket) -> Message | None:
        """Receive a few times; the message when it is whole."""
        for turn in range(_TURNS):
            try:
                count = channel.recvmsg_into(list(islice(self._open, _VECTOR)), 0, _FLAGS)[0]
            except BlockingIOError:
                if turn:
                    break
                raise
            if not count:
                raise EOFError
            _advance(self._open, count)
            if not self._open:
                break
        if self._open:
            return None
        header, *frames = self._buffers
        return bytes(header), [frame.toreadonly() for frame in frames]


def _advance(pieces: deque[memoryview], count: int) -> None:
    """Leave out so many bytes at the front."""
    while count:
        first = pieces[0]
        if count < len(first):
            pieces[0] = first[count:]
            return
        count -= len(first)
        pieces.popleft()


def _room(size: int) -> memoryview:
    if size < _MAPPED:
        return memoryview(bytearray(size))
    try:
        return memoryview(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    except OSError as error:
        raise MalformedError(f"a frame of {size} bytes: {error}") from error


class Stream:
    """One connection, both ways.  One thread at a time."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        channel.setblocking(False)
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self.unsent: deque[memoryview] = deque()
        self.queued = 0  # how many of them there have ever been
        self._rest = bytearray()  # the start of a message, as long as there are not ...
        self._needed = 0  # ... so many bytes of it
        self.large: _Large | None = None
        # Methods of C, bound once: a task meets them eight times.
        self._recv = channel.recv
        self._send = channel.send

    # -- in --------------------------------------------------------------------------------------

    def read(self) -> Sequence[Message]:
        """Receive once; the messages that are whole now.

        Raises
        ------
        BlockingIOError
            When nothing is there.
        EOFError, ConnectionResetError
            When the peer is gone.
        MalformedError
            When it is no peer of ours.
        """
        if self.large is not None:
            message = self.large.read(self.channel)
            if message is None:
                return ()
            self.large = None
            return (message,)
        data = self._recv(_READ, _FLAGS)
        if not data:
            raise EOFError
        if not self._rest and len(data) >= 16:
            size, count = _NUMBERS.unpack_from(data)
            if not count and len(data) == size + 16 <= MAX_BYTES:  # nearly always
                return ((data[16:], ()),)
        return self._split(data)

    def _split(self, data: bytes) -> list[Message]:
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        messages: list[Message] = []
        position, end = 0, len(data)
        while position < end:
            self._needed = _NUMBERS.size
            start = position + _NUMBERS.size
            if start > end:
                break
            size, count = _NUMBERS.unpack_from(data, position)
            if count > MAX_FRAMES:
                raise MalformedError(f"a message of {count} frames")
            self._needed += 8 * count
            body = start + 8 * count
            if body > end:
                break
            sizes = struct.unpack_from(f"={count}Q", data, start)
            self._needed += size + sum(sizes)
            if self._needed > MAX_BYTES:
                raise MalformedError(f"a message of {self._needed} bytes")
            after = position + self._needed
            if after > end:
                if self._needed <= _READ:
                    break
                self.large = _Large((size, *sizes), memoryview(data)[body:])
                return messages
            frames = []
            place = body + size
            for length in sizes:
                frames.append(memoryview(data[place : place + length]))
                place += length
            messages.append((data[body : body + size], frames))
            position = after
        self._rest += data[position:]
        return messages

    # -- out -------------------------------------------------------------------------------------

    def write(self, header: bytes, frames: Sequence[Any] = ()) -> None:
        """Send as much as the kernel takes; the rest is `unsent`.

        Raises
        ------
        BrokenPipeError, ConnectionResetError
            When the peer is gone.
        """
        if frames:
            views = [memoryview(getattr(one, "buffer", one)).cast("B") for one in frames]
            sizes = [len(view) for view in views]
            start = _NUMBERS.pack(len(header), len(views)) + struct.pack(f"={len(sizes)}Q", *sizes)
            views.insert(0, memoryview(start + header))
            views = [view for view in views if len(view)]
            self.unsent += views
            self.queued += len(views)
            self.flush()
            return
        data = _NUMBERS.pack(len(header), 0) + header
        if self.unsent:
            self.unsent.append(memoryview(data))
            self.queued += 1
            self.flush()
            return
        try:
            count = self._send(data, _FLAGS)
        except BlockingIOError:
            count = 0
        if count < len(data):
            self.unsent.append(memoryview(data)[count:])
            self.queued += 1

    def flush(self) -> bool:
        """Send as much as the kernel takes of what is unsent; whether that was all."""
        unsent = self.unsent
        while unsent:
            try:
                count = self.channel.sendmsg(list(islice(unsent, _VECTOR)), (), _FLAGS)
            except BlockingIOError:
                return False
            _advance(unsent, count)
        return True

    def close(self, *, mine: bool = True) -> None:
        """Close it for both sides, unless it is `mine` only by a fork."""
        if mine:
            with contextlib.suppress(OSError):  # the peer did
                self.channel.shutdown(socket.SHUT_RDWR)
        self.channel.close()
        self.unsent.clear()
