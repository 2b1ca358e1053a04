"""The store: a journal in SQLite of what came to the hub, written by a thread of its own.

::

    hub's thread     append(row) ─▶ deque                         read(seq) ─▶ second connection
    writer's thread            └─▶ one transaction per 20 ms ─▶ SQLite ─▶ ``stored``, ``wake``

A row is a message as it came, bytes that nobody has to encode, and its out-of-band frames.  SQLite
gives the interpreter's lock away while it works, so the hub goes on meanwhile.  What the rows mean
is the journal's business (:mod:`ipyasyncresult.hub.journal`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ipyasyncresult.hub.storefile import StoreError, StoreLock, open_database

__all__ = ["Row", "Store", "StoreError"]

_log = logging.getLogger(__name__)

_INTERVAL = 0.02
"""Seconds between two transactions, at least: what came meanwhile shares one."""
_RETRY = 0.25
"""Seconds until the next try when the disk was full."""
_PART_BYTES = 256 << 20
"""SQLite holds up to 1 GB in one value."""
_BATCH_BYTES = 64 << 20
"""Of one transaction: what waits in memory is written bit by bit."""
_VACUUM_PAGES = 2000
"""Given back to the file system after a deletion: 8 MB."""


class Row(NamedTuple):
    """One message."""

    seq: int
    kind: int
    who: str
    number: int
    time: float
    body: bytes


class Store:
    """A journal on disk.

    Parameters
    ----------
    folder : Path
        Private; holds ``store.db`` and ``store.lock``.
    survive : bool
        The file shall outlive a crash of the machine.
    max_bytes : int, optional
        The file grows no larger.  What does not fit waits in memory until there is room.

    Attributes
    ----------
    stored : int
        Every row up to this number is on disk.
    wake : int
        An eventfd that is readable when ``stored`` or ``problem`` changed.
    problem : str
        Why nothing is written now; empty when all is well.
    notices : list of str
        What happened when the file was opened, for people.

    Raises
    ------
    StoreError
        When another hub uses it, or others than this user may.
    """

    def __init__(self, folder: Path, *, survive: bool = True, max_bytes: int | None = None) -> None:
        self.path = folder / "store.db"
        self._lock = StoreLock(folder / "store.lock")
        try:
            self._writer, self.notices = open_database(self.path, survive=survive)
            self._reader = sqlite3.connect(self.path, isolation_level=None)
            [last] = self._reader.execute("SELECT ifnull(max(seq), 0) FROM journal").fetchone()
        except BaseException:
            self._lock.close()
            raise
        self.set_limit(max_bytes)
        self.stored: int = last  # written by the writer's thread, and read by the hub's
        self.problem = ""  # as above
        self.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._next: int = last + 1
        # Appended to by the hub's thread, emptied by the writer's.
        self._waiting: deque[tuple[Row, Sequence[Any]]] = deque()
        self._deletions: deque[tuple[str, tuple[int, ...]]] = deque()
        self._later: deque[tuple[int, str, tuple[int, ...]]] = deque()  # once that row is stored
        self._cancelled: set[int] = set()  # written by the hub's thread
        self._unwritten: list[tuple[Row, Sequence[Any]]] = []  # the writer's thread only
        self._asleep = False  # written by the writer's thread: it waits for the event
        self._event = threading.Event()
        self._closing = False  # written by the hub's thread
        self._thread = threading.Thread(target=self._serve, name="store", daemon=True)
        self._thread.start()

    # -- the hub's thread ------------------------------------------------------------------------

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
        self._waiting.append((Row(seq, kind, who, number, now, body), frames))
        if self._asleep:
            self._event.set()
        return seq

    def set_limit(self, max_bytes: int | None) -> None:
        """How large the file may grow.  Before anything is written, or in a test."""
        [size] = self._writer.execute("PRAGMA page_size").fetchone()
        pages = 0xFFFFFFFE if max_bytes is None else max(1, max_bytes // size)
        self._writer.execute(f"PRAGMA max_page_count = {pages}")

    def delete(self, seqs: Iterable[int]) -> None:
        """Remove rows and their frames; those that are not written yet never will be."""
        for seq in seqs:
            if seq > self.stored:
                self._cancelled.add(seq)
            self._deletions.append(("DELETE FROM journal WHERE seq = ?", (seq,)))
            self._deletions.append(("DELETE FROM frames WHERE seq = ?", (seq,)))
        self._event.set()

    def delete_before(self, seq: int) -> None:
        """Remove every row before this one."""
        self._deletions.append(("DELETE FROM journal WHERE seq < ?", (seq,)))
        self._deletions.append(("DELETE FROM frames WHERE seq < ?", (seq,)))
        self._event.set()

    def delete_frames(self, seq: int, first: int, count: int) -> None:
        """Remove some frames of a row, once everything that came so far is stored."""
        statement = "DELETE FROM frames WHERE seq = ? AND position BETWEEN ? AND ?"
        self._later.append((self._next - 1, statement, (seq, first, first + count - 1)))

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

    def read_frames(self, seq: int, first: int, count: int) -> list[bytes]:
        """Some frames of a row that is stored."""
        found = self._reader.execute(
            "SELECT position, data FROM frames WHERE seq = ? AND position BETWEEN ? AND ?"
            " ORDER BY position, part",
            (seq, first, first + count - 1),
        )
        parts: list[list[bytes]] = [[] for _ in range(count)]
        for position, data in found:
            parts[position - first].append(data)
        if not all(parts):
            raise KeyError(seq)
        return [part[0] if len(part) == 1 else b"".join(part) for part in parts]

    def frame_bytes(self) -> dict[int, int]:
        """Size of all frames by row."""
        found = self._reader.execute("SELECT seq, sum(length(data)) FROM frames GROUP BY seq")
        return dict(found.fetchall())

    def take_wake(self) -> None:
        """Make ``wake`` quiet until something changes again."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.wake)

    def describe(self) -> dict[str, Any]:
        """Plain data, for people."""
        return {
            "path": str(self.path),
            "bytes": self.path.stat().st_size if self.path.exists() else 0,
            "problem": self.problem,
            "not_stored": self._next - 1 - self.stored,
        }

    def close(self, patience: float = 2.0) -> None:
        """Write what waits, within `patience` seconds; idempotent."""
        if self._closing:
            return
        self._closing = True
        self._event.set()
        self._thread.join(patience)
        if not self._thread.is_alive():
            self._writer.close()
        self._reader.close()
        os.close(self.wake)
        self._lock.close()

    # -- the writer's thread ---------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            self._asleep = True
            # Whoever appends after this look sees `_asleep` and sets the event.
            if not (self._waiting or self._deletions or self._closing):
                self._event.wait(_RETRY if self._unwritten else None)
            self._asleep = False
            self._event.clear()
            began = time.monotonic()
            self._write()
            if self._closing and (self.problem or not self._waiting):
                return
            pause = _RETRY if self.problem else _INTERVAL - (time.monotonic() - began)
            if pause > 0 and not self._closing:
                time.sleep(pause)

    def _write(self) -> None:
        rows = self._unwritten
        size = 0
        while self._waiting and size < _BATCH_BYTES:
            rows.append(self._waiting.popleft())
            size += sum([len(frame) for frame in rows[-1][1]]) + len(rows[-1][0].body)
        last = rows[-1][0].seq if rows else 0
        if self._cancelled:
            rows = [entry for entry in rows if entry[0].seq not in self._cancelled]
            self._unwritten = rows
        try:
            self._delete()
            if rows:
                self._insert(rows)
        except sqlite3.Error as error:
            self._failed(error)
            return
        if last:
            self.stored = last
            self._unwritten = []
        if self.problem:
            _log.warning("the store is written again")
            self.problem = ""
        os.eventfd_write(self.wake, 1)

    def _insert(self, rows: Sequence[tuple[Row, Sequence[Any]]]) -> None:
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?)", [row for row, _ in rows]
            )
            for row, frames in rows:
                if frames:
                    connection.executemany(
                        "INSERT INTO frames VALUES (?, ?, ?, ?)", _parts(row.seq, frames)
                    )

    def _delete(self) -> None:
        while self._later and self._later[0][0] <= self.stored:
            self._deletions.append(self._later.popleft()[1:])
        if not self._deletions:
            return
        due = [self._deletions.popleft() for _ in range(len(self._deletions))]
        try:
            with self._transaction() as connection:
                for statement, about in due:
                    connection.execute(statement, about)
        except sqlite3.Error:
            self._deletions.extendleft(reversed(due))
            raise
        self._writer.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield self._writer
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:  # SQLite rolls back by itself when the disk is full
                self._writer.execute("ROLLBACK")
            raise

    def _failed(self, error: sqlite3.Error) -> None:
        """What could not be written waits in memory and is tried again."""
        if str(error) != self.problem:
            _log.error("the store cannot be written: %s", error)
            self.problem = str(error)
            os.eventfd_write(self.wake, 1)


def _parts(seq: int, frames: Sequence[Any]) -> Iterator[tuple[int, int, int, Any]]:
    for position, frame in enumerate(frames):
        data = memoryview(getattr(frame, "buffer", frame)).cast("B")
        for part in range(max(1, -(-len(data) // _PART_BYTES))):
            yield seq, position, part, data[part * _PART_BYTES : (part + 1) * _PART_BYTES]
