"""Files in memory that take the place of file descriptors 1 and 2.

Not pipes: a pipe fills up, and then C code that holds the GIL and writes to it waits for ever for
a reader that needs the GIL.  A file also outlives its writer, so that the parent of an engine that
crashed can read what it said last.
"""

from __future__ import annotations

import codecs
import ctypes
import fcntl
import os
import sys
import tempfile
from collections.abc import Callable

from ipyasyncresult.core.outputs import OutputKind
from ipyasyncresult.worker.recorder import Recorder

__all__ = ["CaptureFile", "create_capture_file", "read_tail"]

_PROBE = 4096  # bytes of the first read: most writes are short
_BLOCK = 1024 * 1024  # bytes read at once, and freed at once
_BACKLOG = 8 * _BLOCK  # more unread bytes than this are skipped: the writer is faster than we are
_KEPT_FOR_PARENT = 64 * 1024  # bytes before the end that are never freed
_KEEP_SIZE_PUNCH_HOLE = 0x01 | 0x02  # of fallocate(2)


def create_capture_file(name: str) -> int:
    """A file descriptor of a new file in memory, which every writer appends to.

    The caller owns it.  `name` shows in ``/proc/<pid>/fd``.
    """
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create(name)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    return fd


def read_tail(fd: int, limit: int = 8192) -> str:
    """The end of such a file as text: at most `limit` bytes.  For the parent of a dead engine."""
    start = max(0, os.fstat(fd).st_size - limit)
    return os.pread(fd, limit, start).lstrip(b"\0").decode("utf-8", "replace")


def _load_fallocate() -> Callable[[int, int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    fallocate = ctypes.CDLL(None).fallocate
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return fallocate


_fallocate = _load_fallocate()


class CaptureFile:
    """The reading side of one such file.  Not thread-safe: the capture's lock guards it."""

    def __init__(self, kind: OutputKind, fd: int) -> None:
        self.kind: OutputKind = kind
        self.fd = fd
        self.offset: int = 0  # bytes before it are read
        self._freed = 0  # bytes before it are given back
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def drain(self, recorder: Recorder, end: int) -> None:
        """Give the recorder what was written since the last call, up to the file size `end`."""
        if end < self.offset:  # somebody opened /dev/stdout anew, which truncates it
            self.offset = self._freed = 0
        size = _PROBE
        while self.offset < end and (data := os.pread(self.fd, size, self.offset)):
            self.offset += len(data)
            if text := self._decode(data):
                recorder.write(self.kind, text)
            if self.offset - self._freed > _BLOCK + _KEPT_FOR_PARENT:
                self._free()
            unread, size = end - self.offset, _BLOCK
            if unread > _BACKLOG:
                recorder.skip(self.kind, unread - _BLOCK)
                self.offset += unread - _BLOCK
                self._free()

    def _free(self) -> None:
        """Give back the memory of what was read."""
        end = self.offset - _KEPT_FOR_PARENT
        if _fallocate is not None:
            _fallocate(self.fd, _KEEP_SIZE_PUNCH_HOLE, self._freed, end - self._freed)
        self._freed = end
