"""Segments: files in memory that one process writes and others map, used again and again.

The first touch of a new page costs twenty times the copy itself, so what counts is to write where
was written before.  A segment belongs to who made it (a client or an engine), for good.  The hub
knows who uses what, and tells the owner when nobody does::

    owner: write ──reference──▶ hub ──reference──▶ others: map, use, release ──▶ hub ──free──▶ owner

Nothing is written into a segment that anybody may still look at.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import weakref
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from mmap import MAP_POPULATE, MAP_SHARED, PROT_READ, PROT_WRITE
from pathlib import Path
from typing import Any

from ipyasyncresult.wire.buffers import KEPT_APART, READ, LostBuffers, Reference, next_name
from ipyasyncresult.wire.sharedfolder import bytes_in_use, read_limit

__all__ = ["Mappings", "SegmentPool"]

_ALIGN = 64  # bytes: what vector instructions like
_PIECE = 1 << 24  # bytes copied without giving others a chance to run
_WORTH_ASKING = 1 << 20  # bytes; from here on a question to the hub is cheaper than new pages
_SPARE = 16  # this part of the file system stays free for others
_FAILED = ctypes.c_void_p(-1).value

# Not Python's mmap: that keeps a file descriptor for each mapping.
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def _map(descriptor: int, size: int, protection: int, flags: int = 0) -> Any:
    """The first `size` bytes of a file as a ctypes array; raises OSError."""
    address = _libc.mmap(None, size, protection, MAP_SHARED | flags, descriptor, 0)
    if address in (None, _FAILED):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return (ctypes.c_ubyte * size).from_address(address)


class _PyBuffer(ctypes.Structure):
    """``Py_buffer``, as the stable interface of CPython has it."""

    _fields_ = (
        ("buf", ctypes.c_void_p), ("obj", ctypes.py_object), ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t), ("readonly", ctypes.c_int), ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p), ("shape", ctypes.c_void_p), ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p), ("internal", ctypes.c_void_p),
    )  # fmt: skip


def _address_of(buffer: memoryview) -> int:
    info = _PyBuffer()
    api = ctypes.pythonapi
    api.PyObject_GetBuffer(ctypes.py_object(buffer), ctypes.byref(info), 0)
    address = info.buf or 0
    api.PyBuffer_Release(ctypes.byref(info))
    return address


# ------------------------------------------------------------------------------------- writing


class _Segment:
    """One file of ours."""

    __slots__ = ("block", "capacity", "folder", "name", "written")

    def __init__(self, folder: Path, name: str, capacity: int) -> None:
        self.folder = folder
        self.name = name
        self.capacity = capacity
        self.written = 0  # so many bytes have pages
        self.block: Any = None  # the mapping, once there are pages

    def write(self, buffers: Sequence[memoryview], spans: Sequence[tuple[int, int]]) -> bool:
        """Copy; False when the file system is full."""
        end = spans[-1][0] + spans[-1][1]
        try:
            if end <= self.written:
                self._copy(buffers, spans)
            else:
                self._write_file(buffers, spans, end)
        except OSError:
            return False
        return True

    def _copy(self, buffers: Sequence[memoryview], spans: Sequence[tuple[int, int]]) -> None:
        target = memoryview(self.block).cast("B")
        for buffer, (start, length) in zip(buffers, spans, strict=True):
            for offset in range(0, length, _PIECE):
                piece = buffer[offset : offset + _PIECE]
                target[start + offset : start + offset + len(piece)] = piece

    def _write_file(
        self, buffers: Sequence[memoryview], spans: Sequence[tuple[int, int]], end: int
    ) -> None:
        """Never through a mapping: a page that cannot be had would end the process."""
        self._unmap()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.folder / self.name, flags, 0o600)
        try:
            for buffer, (start, length) in zip(buffers, spans, strict=True):
                offset = 0
                while offset < length:
                    piece = buffer[offset : offset + _PIECE]
                    offset += os.pwrite(descriptor, piece, start + offset)
            self.written = end
            # All at once: page by page, at the next use, takes as long as writing them again.
            self.block = _map(descriptor, end, PROT_READ | PROT_WRITE, MAP_POPULATE)
        finally:
            os.close(descriptor)

    def _unmap(self) -> None:
        block, self.block = self.block, None
        if block is not None:
            _libc.munmap(ctypes.addressof(block), ctypes.sizeof(block))

    def remove(self) -> None:
        """Give the memory back."""
        self._unmap()
        with contextlib.suppress(OSError):
            (self.folder / self.name).unlink()


class SegmentPool:
    """The segments of one owner: those under way, and those that may be written again.  Any thread.

    Parameters
    ----------
    folder : Path
    owner : str
    reclaim : callable
        Called without a lock before new memory is taken for more than a megabyte; may lead to
        :meth:`recycle`.
    """

    def __init__(self, folder: Path, owner: str, reclaim: Callable[[], None]) -> None:
        self._folder = folder
        self._owner = owner
        self._reclaim = reclaim
        self._limit = read_limit(folder)
        self._lock = threading.Lock()  # guards everything below
        self._count = 0
        self._free: list[_Segment] = []
        self._used: dict[str, _Segment] = {}
        self._closed = False

    def write(self, buffers: Sequence[memoryview]) -> Reference | None:
        """Copy the buffers into one segment; None when there is no room."""
        spans = []
        end = 0
        for buffer in buffers:
            spans.append((end, buffer.nbytes))
            end += -(-buffer.nbytes // _ALIGN) * _ALIGN
        segment = self._take(end)
        if segment is None:
            return None
        if not segment.write(buffers, spans):
            segment.remove()
            return None
        with self._lock:
            if self._closed:
                segment.remove()
                return None
            self._used[segment.name] = segment
        return Reference(segment.name, segment.written, spans)

    def _take(self, size: int) -> _Segment | None:
        segment = self._take_free(size)
        if segment is None and size >= _WORTH_ASKING and self._used:
            self._reclaim()
            segment = self._take_free(size)
        return segment if segment is not None else self._new(size)

    def _take_free(self, size: int) -> _Segment | None:
        """The smallest that is large enough; one twice as large would waste too much."""
        with self._lock:
            while True:
                fit = [s for s in self._free if size <= s.capacity <= 2 * size]
                if not fit:
                    return None
                segment = min(fit, key=lambda s: s.capacity)
                self._free.remove(segment)
                if (self._folder / segment.name).exists():
                    return segment
                segment.remove()

    def _new(self, size: int) -> _Segment | None:
        capacity = _round_up(size)
        if not self._has_room(capacity):
            with self._lock:
                free, self._free = self._free, []
            for segment in free:
                segment.remove()
            if not self._has_room(capacity):
                return None
        with self._lock:
            self._count += 1
            return _Segment(self._folder, f"{self._owner}.{self._count}.0", capacity)

    def _has_room(self, size: int) -> bool:
        try:
            about = os.statvfs(self._folder)
        except OSError:
            return False
        left = (about.f_bavail - about.f_blocks // _SPARE) * about.f_frsize
        return size <= left and bytes_in_use(self._folder) + size <= self._limit

    def read(self, reference: Reference) -> list[bytes] | None:
        """What was written there, whatever became of the file; None for one of others."""
        with self._lock:
            segment = self._used.get(reference.name)
            if segment is None:
                return None
            memory = memoryview(segment.block).cast("B")
            return [bytes(memory[start : start + length]) for start, length in reference.spans]

    def recycle(self, names: Sequence[str]) -> None:
        """Nobody looks at these any more; their files have the next name already."""
        with self._lock:
            for name in names:
                segment = self._used.pop(name, None)
                if segment is not None:
                    segment.name = next_name(name)
                    self._free.append(segment)

    def drop(self, lost: Sequence[str], resting: Sequence[str]) -> None:
        """Give memory back: of those that never come back, and of free ones that are not needed."""
        with self._lock:
            chosen = [s for s in self._free if s.name in resting]
            self._free = [s for s in self._free if s.name not in resting]
            chosen += [self._used.pop(name) for name in lost if name in self._used]
        for segment in chosen:
            segment.remove()

    def close(self) -> None:
        """Forget everything; the hub removes the files when they are not used any more."""
        with self._lock:
            self._closed = True
            segments = [*self._free, *self._used.values()]
            self._free = []
            self._used = {}
        for segment in segments:
            segment._unmap()


def _read(descriptor: int, spans: Sequence[tuple[int, int]]) -> list[memoryview]:
    return [memoryview(os.pread(descriptor, length, start)) for start, length in spans]


def _round_up(size: int) -> int:
    """Up to an eighth more, so that sizes that differ a little share a segment."""
    step = max(1 << 16, 1 << max(0, size.bit_length() - 4))
    return -(-size // step) * step


# ------------------------------------------------------------------------------------- reading


class Mapped:
    """The buffers of one reference that came with a message; read-only.

    The memory stays as long as this object or anything made of its buffers does.
    """

    __slots__ = ("_block", "_spans", "_state")

    def __init__(self, block: Any, spans: Sequence[tuple[int, int]], state: list[int]) -> None:
        self._block = block
        self._spans = spans
        self._state = state

    def __iter__(self) -> Iterator[memoryview]:
        self._state[0] |= READ
        whole = memoryview(self._block).cast("B").toreadonly()
        for start, length in self._spans:
            yield whole[start : start + length]


_everything: weakref.WeakSet[Mappings] = weakref.WeakSet()


def _after_fork_in_parent() -> None:
    for mappings in _everything:
        mappings.keep_apart()


def _after_fork_in_child() -> None:
    for mappings in _everything:
        mappings.silent = True


os.register_at_fork(after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


class Mappings:
    """Everything of others that is mapped here.  Any thread.

    Parameters
    ----------
    folder : Path
    released : callable
        As for ``Buffers``.
    """

    def __init__(self, folder: Path, released: Callable[[str, int], None]) -> None:
        self._folder = folder
        self._released = released
        self.silent = False  # nobody wants to hear what is released: closed, or a forked child
        self._lock = threading.Lock()  # guards the next three
        self._starts: list[int] = []  # sorted addresses
        self._known: dict[int, tuple[int, Reference, list[int]]] = {}  # by address
        # Appended by finalizers, which may run anywhere and so take no lock.
        self._dead: deque[tuple[int, list[int]]] = deque()
        _everything.add(self)

    def map(self, reference: Reference) -> Mapped | LostBuffers | list[memoryview]:
        """The memory of a reference."""
        size = max((start + length for start, length in reference.spans), default=0)
        state = [0]
        try:
            descriptor = os.open(self._folder / reference.name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._released(reference.name, 0)
            return LostBuffers(reference)
        try:
            block = _map(descriptor, size, PROT_READ)
        except OSError:  # the kernel's limit of mappings
            self._released(reference.name, READ)
            return _read(descriptor, reference.spans)
        finally:
            os.close(descriptor)
        address = ctypes.addressof(block)
        with self._lock:
            self._bury()
            insort(self._starts, address)
            self._known[address] = (size, reference, state)
        end = weakref.finalize(block, self._end, address, size, reference.name, state)
        end.atexit = False
        return Mapped(block, reference.spans, state)

    def _end(self, address: int, size: int, name: str, state: list[int]) -> None:
        """The last view is gone.  Any thread, at any moment: no lock."""
        # First this: who finds the address later, in memory of somebody else's, looks here.
        self._dead.append((address, state))
        _libc.munmap(address, size)
        if not self.silent:
            self._released(name, state[0])

    def _bury(self) -> None:
        while self._dead:
            address, state = self._dead.popleft()
            known = self._known.get(address)
            if known is not None and known[2] is state:
                del self._known[address]
                del self._starts[bisect_right(self._starts, address) - 1]

    def find(self, buffer: memoryview) -> Reference | None:
        """A reference to a buffer that lies in mapped memory."""
        start = _address_of(buffer)
        with self._lock:
            self._bury()
            index = bisect_right(self._starts, start) - 1
            if index < 0:
                return None
            base = self._starts[index]
            size, reference, _ = self._known[base]
            if start + buffer.nbytes > base + size:
                return None
        if not (self._folder / reference.name).exists():  # a hub that took over forgot it
            return None
        return Reference(reference.name, reference.size, [(start - base, buffer.nbytes)])

    def keep_apart(self) -> None:
        """This process forked: its child sees all that is mapped now, for as long as it likes."""
        with self._lock:
            for _, _, state in self._known.values():
                state[0] |= KEPT_APART
