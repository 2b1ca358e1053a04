"""What the store's thread does: rows and deletions, one transaction after the other."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ipyasyncresult.hub.arrayfiles import ArrayFiles
from ipyasyncresult.wire.buffers import bytes_behind, reference_of

__all__ = ["Entry", "Row", "StoreWriter"]

_log = logging.getLogger(__name__)

_INTERVAL = 0.02
"""Seconds between two transactions, at least: what came meanwhile shares one."""
_RETRY = 0.25
"""Seconds until the next try when the disk was full."""
_REST = 10.0
"""Seconds without work after which files that nobody needs are removed."""
_PART_BYTES = 256 << 20
"""SQLite holds up to 1 GB in one value."""
_BATCH_BYTES = 64 << 20
"""Of one transaction: what waits in memory is written bit by bit."""
_VACUUM_PAGES = 2000
"""Given back to the file system after a deletion: 8 MB."""

Statement = tuple[str, tuple[int, ...]]


class Row(NamedTuple):
    """One message."""

    seq: int
    kind: int
    who: str
    number: int
    time: float
    body: bytes


class Entry:
    """A row and its frames, on the way to the disk."""

    __slots__ = ("dropped", "frames", "inline", "row")

    def __init__(self, row: Row, frames: Sequence[Any]) -> None:
        self.row = row
        self.frames = frames
        self.inline = len(row.body) + sum(map(len, frames))  # bytes in this process
        self.dropped: set[int] = set()  # positions that nobody needs; the hub's thread adds

    def refers(self) -> bool:
        """Whether a frame is in shared memory."""
        return any(reference_of(frame) is not None for frame in self.frames)

    def size(self) -> int:
        """Bytes to write."""
        return sum([bytes_behind(frame) for frame in self.frames]) + len(self.row.body)


class StoreWriter:
    """The thread that writes.

    Parameters
    ----------
    connection : sqlite3.Connection
        Its own from now on.
    files : ArrayFiles
        Its own, too.
    last : int
        The last row on disk.

    Attributes
    ----------
    stored, problem, wake
        As the store's.
    written : int
        Bytes that waited in memory and do so no more.
    max_bytes : int or None
        Database and arrays together take no more.
    """

    def __init__(self, connection: sqlite3.Connection, files: ArrayFiles, last: int) -> None:
        self._connection = connection
        self._files = files
        self.stored = last  # written by this thread, and read by the hub's
        self.problem = ""  # as above
        self.written = self._taken = 0  # as above; this thread only
        self.max_bytes: int | None = None  # written by the hub's thread
        self.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        [self._page_size] = connection.execute("PRAGMA page_size").fetchone()
        # Appended to by the hub's thread, emptied by this one.
        self._waiting: deque[Entry] = deque()
        self._deletions: deque[Statement] = deque()
        self._later: deque[tuple[int, Statement]] = deque()  # once that row is stored
        self._cancelled: set[int] = set()  # written by the hub's thread
        self._unwritten: list[Entry] = []  # this thread only
        self._asleep = False  # written by this thread: it waits for the event
        self._event = threading.Event()
        self._closing = False  # written by the hub's thread
        self._thread = threading.Thread(target=self._serve, name="store", daemon=True)
        self._thread.start()

    # -- the hub's thread ------------------------------------------------------------------------

    def append(self, entry: Entry) -> None:
        """Write this, behind all that came before."""
        self._waiting.append(entry)
        if self._asleep:
            self._event.set()

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

    def delete_later(self, last: int, statement: Statement) -> None:
        """Carry out a deletion once everything up to the row `last` is stored."""
        self._later.append((last, statement))

    def close(self, patience: float) -> None:
        """Write what waits, within `patience` seconds."""
        self._closing = True
        self._event.set()
        self._thread.join(patience)
        if not self._thread.is_alive():
            self._connection.close()
        os.close(self.wake)

    # -- the writer's thread ---------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            self._asleep = True
            # Whoever appends after this look sees `_asleep` and sets the event.
            if not (self._waiting or self._deletions or self._closing):
                self._sleep()
            self._asleep = False
            self._event.clear()
            began = time.monotonic()
            self._write()
            if self._closing and (self.problem or not self._waiting):
                return
            pause = _RETRY if self.problem else _INTERVAL - (time.monotonic() - began)
            if pause > 0 and not self._closing:
                time.sleep(pause)

    def _sleep(self) -> None:
        if self._unwritten:
            self._event.wait(_RETRY)
        elif not self._files.has_spare():
            self._event.wait()
        elif not self._event.wait(_REST):
            self._files.drop_spare()

    def _write(self) -> None:
        self._take(_BATCH_BYTES)
        try:
            self._delete()
            self._insert_what_comes_before_arrays()
            last = self._unwritten[-1].row.seq if self._unwritten else 0
            last = self._keep_arrays() or last
            self._insert(self._unwritten)
        except Exception as error:  # noqa: BLE001  without this thread tasks would wait for ever
            self._failed(error)
            return
        if last:
            self.stored = last
            self._unwritten = []
            self.written = self._taken
        for seq in [one for one in tuple(self._cancelled) if one <= self.stored]:
            self._cancelled.discard(seq)
        if self.problem:
            _log.warning("the store is written again")
            self.problem = ""
        with contextlib.suppress(OSError):  # closed without this thread's having ended
            os.eventfd_write(self.wake, 1)

    def _take(self, limit: int | None = None) -> list[Entry]:
        """Take what waits, up to so many bytes."""
        taken: list[Entry] = []
        size = 0
        while self._waiting and (limit is None or size < limit):
            taken.append(self._waiting.popleft())
            size += taken[-1].size()
            self._taken += taken[-1].inline
        self._unwritten += taken
        return taken

    def _insert_what_comes_before_arrays(self) -> None:
        """Copies may take long, or not fit; that a task was given out must be known before."""
        first = next((i for i, entry in enumerate(self._unwritten) if entry.refers()), 0)
        if first:
            head = self._unwritten[:first]
            self._insert([entry for entry in head if entry.row.seq not in self._cancelled])
            self._unwritten = self._unwritten[first:]
            self.stored = head[-1].row.seq

    def _keep_arrays(self) -> int:
        """Copy what references lead to; the last row that must be written together with others.

        Arguments of a task that ended meanwhile are left out.  Then its end, which has come by now,
        is written in the same transaction: nobody may find the task without both.
        """
        last = 0
        entries = self._unwritten
        while [entry for entry in entries if not self._keep(entry)]:
            entries = self._take()
            last = entries[-1].row.seq if entries else last
        if self._cancelled:
            self._unwritten = [e for e in self._unwritten if e.row.seq not in self._cancelled]
        return last

    def _keep(self, entry: Entry) -> bool:
        """False when something was left out."""
        complete = True
        if entry.row.seq in self._cancelled:
            return complete
        for position, frame in enumerate(entry.frames):
            reference = reference_of(frame)
            if reference is not None:
                wanted = _not_in(entry.dropped, position)
                complete &= wanted() and self._files.keep(reference, wanted, self._room())
        return complete

    def _room(self) -> int | None:
        if self.max_bytes is None:
            return None
        [pages] = self._connection.execute("PRAGMA page_count").fetchone()
        return max(0, self.max_bytes - int(pages) * int(self._page_size))

    def _set_limit(self) -> None:
        """How many pages the database may have."""
        pages = 0xFFFFFFFE
        if self.max_bytes is not None:
            pages = max(1, (self.max_bytes - self._files.size) // self._page_size)
        self._connection.execute(f"PRAGMA max_page_count = {pages}")

    def _insert(self, entries: Sequence[Entry]) -> None:
        self._set_limit()
        if not entries:
            return
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?)", [entry.row for entry in entries]
            )
            for entry in entries:
                if entry.frames:
                    connection.executemany(
                        "INSERT INTO frames VALUES (?, ?, ?, ?, ?)", _parts(entry)
                    )
            if self._files.fresh:
                connection.executemany(
                    "INSERT OR REPLACE INTO segments VALUES (?, ?)", self._files.fresh
                )
        self._files.fresh.clear()

    def _delete(self) -> None:
        while self._later and self._later[0][0] <= self.stored:
            self._deletions.append(self._later.popleft()[1])
        if not self._deletions:
            return
        due = [self._deletions.popleft() for _ in range(len(self._deletions))]
        try:
            with self._transaction() as connection:
                for statement, about in due:
                    connection.execute(statement, about)
                free = _delete_unused_segments(connection) if self._files.kept else []
        except sqlite3.Error:
            self._deletions.extendleft(reversed(due))
            raise
        self._files.forget(free)
        self._connection.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLite rolls back by itself when the disk is full
                self._connection.execute("ROLLBACK")
            raise

    def _failed(self, error: Exception) -> None:
        """What could not be written waits in memory and is tried again."""
        problem = (error.strerror if isinstance(error, OSError) else None) or str(error)
        if problem != self.problem:
            _log.error("the store cannot be written: %s", problem)
            self.problem = problem
            os.eventfd_write(self.wake, 1)


def _not_in(dropped: set[int], position: int) -> Callable[[], bool]:
    return lambda: position not in dropped


def _parts(entry: Entry) -> Iterator[tuple[int, int, int, Any, str | None]]:
    for position, frame in enumerate(entry.frames):
        data = memoryview(getattr(frame, "buffer", frame)).cast("B")
        reference = reference_of(frame)
        segment = None if reference is None else reference.name
        for part in range(max(1, -(-len(data) // _PART_BYTES))):
            piece = data[part * _PART_BYTES : (part + 1) * _PART_BYTES]
            yield entry.row.seq, position, part, piece, segment


def _delete_unused_segments(connection: sqlite3.Connection) -> list[str]:
    """Names of arrays to which no frame refers any more."""
    names = connection.execute(
        "SELECT name FROM segments"
        " WHERE NOT EXISTS (SELECT 1 FROM frames WHERE frames.segment = segments.name)"
    ).fetchall()
    connection.executemany("DELETE FROM segments WHERE name = ?", names)
    return [name for (name,) in names]
