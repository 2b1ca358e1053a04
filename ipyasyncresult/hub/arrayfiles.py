"""The store's copies of segments: one file each, beside the database.

SQLite would copy a large array four times, and write it to the disk twice.  The kernel copies it
once; where a file is written over that nobody needs any more, into pages that are there already.

A file has the name that its segment had: that name never stands for anything else.  It counts from
the transaction on that says that it is there; a file of which no transaction tells is removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ipyasyncresult.wire.buffers import Reference

__all__ = ["ArrayFiles"]

_PIECE = 1 << 24  # bytes copied until the next look whether they are still wanted
_SPARE_BYTES = 512 << 20  # of files that are kept to be written over
_LARGEST_READ = 1 << 30  # bytes; the kernel gives at most 2 GiB at once


class ArrayFiles:
    """Files of arrays.  The store's writing thread only, unless a method says something else.

    Parameters
    ----------
    folder : Path
        Private; made when there is something to keep.
    source : Path or None
        Of the cluster's shared memory.
    survive : bool
        What is kept shall outlive a crash of the machine.

    Attributes
    ----------
    kept : dict
        Bytes by name, of what is complete.
    fresh : list
        Name and size of what the database does not know of yet.
    """

    def __init__(self, folder: Path, source: Path | None, *, survive: bool) -> None:
        self._folder = folder
        self._source = source
        self._survive = survive
        self.kept: dict[str, int] = {}
        self.fresh: list[tuple[str, int]] = []
        self._sizes: dict[str, int] = {}  # of all files
        self._spare: list[str] = []  # files that may be written over
        self._begun = ("", 0)  # a copy that was given up half way: name, bytes

    def adopt(self, known: dict[str, int]) -> None:
        """What the database tells of, after a start; everything else is removed."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                self._sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
        self.kept = {name: size for name, size in known.items() if name in self._sizes}
        for name in self._sizes.keys() - self.kept.keys():
            self._remove(name)

    @property
    def size(self) -> int:
        """What all files take.  Any thread."""
        return sum(list(self._sizes.values()))

    def has_spare(self) -> bool:
        """Whether there are files that nobody needs."""
        return bool(self._spare or self._begun[0])

    def keep(self, reference: Reference, wanted: Callable[[], bool], room: int | None) -> bool:
        """Copy a segment; False when it was not `wanted` any more before that was done.

        One that is gone is passed over: who wants to read it finds out.

        Raises
        ------
        OSError
            When it does not fit on the disk, or into `room` bytes for all files.
        """
        name = reference.name
        if name in self.kept or self._source is None:
            return True
        try:
            source = os.open(self._source / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return True
        try:
            size = min(reference.size, os.fstat(source).st_size)
            done = self._begin(name, size, room)
            return self._copy(source, name, done, size, wanted)
        finally:
            os.close(source)

    def _begin(self, name: str, size: int, room: int | None) -> int:
        """Have a file of that name; how much of it is there already."""
        begun, done = self._begun
        self._begun = ("", 0)
        if begun == name:
            return done
        if begun:
            self._put_aside(begun)
        fit = [spare for spare in self._spare if size <= self._sizes[spare] <= 2 * size]
        if fit:
            spare = min(fit, key=lambda one: self._sizes[one])
            self._spare.remove(spare)
            self._rename(spare, name)
            return 0
        if room is not None and self.size + size > room:
            self.drop_spare()
            if self.size + size > room:
                raise OSError(errno.ENOSPC, "database or disk is full")
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._sizes[name] = size
        return 0

    def _rename(self, spare: str, name: str) -> None:
        (self._folder / spare).rename(self._folder / name)
        self._sizes[name] = self._sizes.pop(spare)
        if self._survive:
            # Before it is written over: a crash of the machine may bring back the row of what was
            # there, but then not under its name.
            folder = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _copy(
        self, source: int, name: str, done: int, size: int, wanted: Callable[[], bool]
    ) -> bool:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        target = os.open(self._folder / name, flags, 0o600)
        try:
            os.lseek(target, done, os.SEEK_SET)
            while done < size:
                if not wanted():
                    return False
                sent = os.sendfile(target, source, done, min(_PIECE, size - done))
                if not sent:
                    _raise(errno.EIO, f"{name} became shorter")
                done += sent
            if self._survive:
                os.fdatasync(target)  # before a row says that it is there
        except OSError:  # the disk is full: what others need is more than a part of this
            done = 0
            self._remove(name)
            self.drop_spare()
            raise
        finally:
            os.close(target)
            if done < size:
                self._begun = (name, done) if name in self._sizes else ("", 0)
        self.kept[name] = size
        self.fresh.append((name, size))
        return True

    def forget(self, names: list[str]) -> None:
        """The database does not know them any more."""
        for name in names:
            if self.kept.pop(name, None) is not None:
                self._put_aside(name)

    def _put_aside(self, name: str) -> None:
        self._spare.append(name)
        while sum(self._sizes[spare] for spare in self._spare) > _SPARE_BYTES:
            self._remove(self._spare.pop(0))

    def drop_spare(self) -> None:
        """Give the disk back what is kept to be written over."""
        spare, self._spare = [*self._spare, self._begun[0]], []
        self._begun = ("", 0)
        for name in filter(None, spare):
            self._remove(name)

    def _remove(self, name: str) -> None:
        self._sizes.pop(name, None)
        with contextlib.suppress(OSError):
            (self._folder / name).unlink()

    def read(self, reference: Reference) -> list[bytes]:
        """The buffers of a reference.  The hub's thread.

        Raises
        ------
        KeyError
            When they are not there.
        """
        path = self._folder / reference.name
        buffers: list[bytes] = []
        try:
            with path.open("rb", buffering=0) as file:
                buffers = [_read(file.fileno(), start, length) for start, length in reference.spans]
                # It gets another name before it is written over.
                same = os.path.samestat(os.fstat(file.fileno()), path.stat())
        except (OSError, EOFError):
            same = False
        if not same:
            raise KeyError(reference.name)
        return buffers

    def is_shared(self, reference: Reference) -> bool:
        """Whether the segment itself is there still, as it was.  The hub's thread."""
        return self._source is not None and (self._source / reference.name).exists()


def _raise(number: int, why: str) -> NoReturn:
    raise OSError(number, why)


def _read(file: int, start: int, length: int) -> bytes:
    pieces = []
    while length:
        piece = os.pread(file, min(length, _LARGEST_READ), start)
        if not piece:
            raise EOFError
        pieces.append(piece)
        start += len(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
