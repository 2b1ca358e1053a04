"""The store: a journal in SQLite of what came to the hub, written by a thread of its own.

::

    hub's thread     append(row) ─▶ deque                         read(seq) ─▶ second connection
    writer's thread            └─▶ one transaction per 20 ms ─▶ SQLite ─▶ ``stored``, ``wake``
                               └─▶ segments of shared memory ─▶ files beside it

A row is a message as it came, bytes that nobody has to encode, and its out-of-band frames.  SQLite
gives the interpreter's lock away while it works, so the hub goes on meanwhile.  What the rows mean
is the journal's business (:mod:`ipyasyncresult.hub.journal`).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ipyasyncresult.hub.arrayfiles import ArrayFiles
from ipyasyncresult.hub.storefile import StoreError, StoreLock, open_database
from ipyasyncresult.hub.storewriter import Entry, Row, StoreWriter
from ipyasyncresult.wire.buffers import Reference, reference_of

__all__ = ["Row", "Store", "StoreError"]


class Store:
    """A journal on disk.

    Parameters
    ----------
    folder : Path
        Private; holds ``store.db``, ``store.lock`` and, in ``arrays``, copies of large arrays.
    survive : bool
        The file shall outlive a crash of the machine.
    max_bytes : int, optional
        It all takes no more.  What does not fit waits in memory until there is room.
    shared : Path, optional
        Of the shared memory to which references lead.

    Attributes
    ----------
    notices : list of str
        What happened when the file was opened, for people.

    Raises
    ------
    StoreError
        When another hub uses it, or others than this user may.
    """

    def __init__(
        self,
        folder: Path,
        *,
        survive: bool = True,
        max_bytes: int | None = None,
        shared: Path | None = None,
    ) -> None:
        self.path = folder / "store.db"
        self._lock = StoreLock(folder / "store.lock")
        try:
            connection, self.notices = open_database(self.path, survive=survive)
            self._reader = sqlite3.connect(self.path, isolation_level=None)
            [last] = self._reader.execute("SELECT ifnull(max(seq), 0) FROM journal").fetchone()
            self._files = ArrayFiles(folder / "arrays", shared, survive=survive)
            self._files.adopt(dict(self._reader.execute("SELECT name, size FROM segments")))
        except BaseException:
            self._lock.close()
            raise
        self._next: int = last + 1
        self._appended = 0  # bytes, in memory
        # Rows with references that are not known to be stored, oldest first.
        self._copying: dict[int, Entry] = {}
        self._closed = False
        self._writer = StoreWriter(connection, self._files, last)
        self.wake = self._writer.wake
        self.set_limit(max_bytes)

    @property
    def stored(self) -> int:
        """Every row up to this number is on disk, with the arrays to which it refers."""
        return self._writer.stored

    @property
    def last(self) -> int:
        """The number of the last row, wherever it is."""
        return self._next - 1

    @property
    def behind(self) -> int:
        """Bytes that wait in memory until they are written."""
        return self._appended - self._writer.written

    @property
    def problem(self) -> str:
        """Why nothing is written now; empty when all is well."""
        return self._writer.problem

    def append(
        self,
        kind: int,
        who: str,
        number: int,
        now: float,
        body: bytes,
        frames: Sequence[Any] = (),
    ) -> int:
        """Keep a message; its number in the journal.  Returns at once."""
        seq = self._next
        self._next = seq + 1
        entry = Entry(Row(seq, kind, who, number, now, body), frames)
        self._appended += entry.inline
        if frames and any(reference_of(frame) for frame in frames):
            self._copying[seq] = entry
        self._writer.append(entry)
        return seq

    def take_copied(self, last: int) -> Iterator[Sequence[Any]]:
        """Frames of rows up to `last` that are stored now and have references among them."""
        last = min(last, self.stored)
        while self._copying and next(iter(self._copying)) <= last:
            yield self._copying.pop(next(iter(self._copying))).frames

    def set_limit(self, max_bytes: int | None) -> None:
        """How much it may take."""
        self._writer.max_bytes = max_bytes

    def delete(self, seqs: Iterable[int]) -> None:
        """Remove rows and their frames; those that are not written yet never will be."""
        self._writer.delete(seqs)

    def delete_before(self, seq: int) -> None:
        """Remove every row before this one."""
        self._writer.delete_before(seq)

    def delete_frames(self, seq: int, first: int, count: int) -> None:
        """Remove some frames of a row, once everything that came so far is stored.

        To copy what they refer to is not worth while any more.
        """
        if seq in self._copying:
            self._copying[seq].dropped.update(range(first, first + count))
        statement = "DELETE FROM frames WHERE seq = ? AND position BETWEEN ? AND ?"
        self._writer.delete_later(self._next - 1, (statement, (seq, first, first + count - 1)))

    def rows(self) -> Iterator[Row]:
        """Everything on disk, oldest first."""
        found = self._reader.execute(
            "SELECT seq, kind, who, number, time, body FROM journal ORDER BY seq"
        )
        return map(Row._make, found)

    def read(self, seq: int) -> bytes:
        """The message of a row that is stored.

        Raises
        ------
        KeyError
            When it is not there (any more).
        sqlite3.Error
            When it cannot be read.
        """
        found = self._reader.execute("SELECT body FROM journal WHERE seq = ?", (seq,)).fetchone()
        if found is None:
            raise KeyError(seq)
        body: bytes = found[0]
        return body

    def read_frames(self, seq: int, first: int, count: int, *, shared: bool = False) -> list[bytes]:
        """Some frames of a row that is stored; in the place of references, their buffers.

        With `shared`, references to shared memory that is as it was stay what they are.

        Raises
        ------
        KeyError
            When one of them is not there (any more).
        """
        found = self._reader.execute(
            "SELECT position, data, segment FROM frames"
            " WHERE seq = ? AND position BETWEEN ? AND ? ORDER BY position, part",
            (seq, first, first + count - 1),
        )
        parts: list[list[bytes]] = [[] for _ in range(count)]
        references: dict[int, Reference | None] = {}
        for position, data, segment in found:
            parts[position - first].append(data)
            if segment is not None:
                references[position - first] = reference_of(data)
        if not all(parts):
            raise KeyError(seq)
        frames: list[bytes] = []
        for position, part in enumerate(parts):
            reference = references.get(position)
            if reference is not None and not (shared and self._files.is_shared(reference)):
                frames += self._files.read(reference)
            else:
                frames.append(part[0] if len(part) == 1 else b"".join(part))
        return frames

    def frame_bytes(self) -> dict[int, int]:
        """Size of all frames by row, with the arrays to which they refer."""
        found = self._reader.execute(
            "SELECT seq, sum(CASE WHEN segment IS NULL THEN length(data) ELSE ifnull(size, 0) END)"
            " FROM frames LEFT JOIN segments ON name = segment GROUP BY seq"
        )
        return dict(found.fetchall())

    def take_wake(self) -> None:
        """Make ``wake``, an eventfd that is readable when ``stored`` or ``problem`` changed, quiet
        until something changes again."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.wake)

    def describe(self) -> dict[str, Any]:
        """Plain data, for people."""
        size = self.path.stat().st_size if self.path.exists() else 0
        return {
            "path": str(self.path),
            "bytes": size + self._files.size,
            "problem": self.problem,
            "not_stored": self._next - 1 - self.stored,
            "behind": self.behind,
        }

    def close(self, patience: float = 2.0) -> None:
        """Write what waits, within `patience` seconds; idempotent."""
        if self._closed:
            return
        self._closed = True
        self._writer.close(patience)
        self._reader.close()
        self._lock.close()
