"""The file of a store: private, ours, not damaged, and nobody else's at the same time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
import stat
import time
from pathlib import Path

from ipyasyncresult.wire.runtime import process_start

__all__ = ["StoreError", "StoreLock", "file_system", "is_network", "open_database"]

_log = logging.getLogger(__name__)

_APPLICATION_ID = 0x69706172  # "ipar": what tells our files from other programs'

_MIGRATIONS = (
    # 1: rows are messages as they came, with their out-of-band frames beside them, in parts that
    # SQLite can hold.
    """
    CREATE TABLE journal (
        seq INTEGER PRIMARY KEY,
        kind INTEGER NOT NULL,
        who TEXT NOT NULL,
        number INTEGER NOT NULL,
        time REAL NOT NULL,
        body BLOB NOT NULL
    );
    CREATE TABLE frames (
        seq INTEGER NOT NULL,
        position INTEGER NOT NULL,
        part INTEGER NOT NULL,
        data BLOB NOT NULL
    );
    CREATE INDEX frames_of ON frames (seq, position, part);
    """,
    # 2: a frame may be a reference; what it refers to is kept once, in a file of that name.
    """
    ALTER TABLE frames ADD COLUMN segment TEXT;
    CREATE INDEX frames_in ON frames (segment) WHERE segment IS NOT NULL;
    CREATE TABLE segments (name TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;
    """,
)
"""What makes each version of the schema of the one before; ``PRAGMA user_version`` counts them."""

_NETWORK = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.glusterfs", "fuse.s3fs"}
    | {"fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs"}
    | {"pvfs2", "smb3", "smbfs", "virtiofs"}
)
"""File systems over which the shared memory of WAL does not work, or only by luck."""


class StoreError(OSError):
    """The store cannot be used, and says what to do about it."""


class StoreLock:
    """One hub at a time.  The kernel gives the lock back when the process ends, however it ends.

    Parameters
    ----------
    path : Path
        A file that tells who has it: pid and start time.

    Raises
    ------
    StoreError
        When another process has it.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except OSError as error:
            # A file system without locks: what the file says must do.
            without = error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
            free = without and not self._holder_lives()
        if not free:
            holder = self._holder()
            os.close(self._file)
            raise StoreError(
                f"another hub (pid {holder[0]}) uses the store in {path.parent}: "
                "give this cluster another cluster_id, or stop that one"
            )
        me = os.getpid()
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{me} {process_start(me) or 0}\n".encode(), 0)

    def _holder(self) -> tuple[int, int]:
        try:
            pid, start = os.pread(self._file, 64, 0).split()
            return int(pid), int(start)
        except ValueError:
            return 0, 0

    def _holder_lives(self) -> bool:
        pid, start = self._holder()
        return pid > 0 and process_start(pid) == start

    def close(self) -> None:
        """Give it back."""
        os.close(self._file)


def open_database(path: Path, *, survive: bool) -> tuple[sqlite3.Connection, list[str]]:
    """A connection to the store's database, made when there is none; and what is to be told.

    A damaged or foreign file is moved aside with a timestamp and a new one is started.

    Parameters
    ----------
    path : Path
    survive : bool
        It shall be readable after a crash of the machine, too.

    Raises
    ------
    StoreError
        When the file is not ours alone: it holds what will be unpickled.
    """
    notices = []
    if _exists_privately(path):
        problem = _problem_with(path)
        if problem:
            aside = _move_aside(path)
            notices.append(f"the store {path} {problem}: it was moved to {aside}, a new one begins")
            _log.error("%s", notices[-1])
    if not path.exists():
        # SQLite would make it with the umask's mode; its helper files take the mode of this one.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    _prepare(connection, path, survive=survive)
    return connection, notices


def _exists_privately(path: Path) -> bool:
    try:
        info = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(info.st_mode):
        raise StoreError(f"{path} must be a file of its own, not a link or a folder: remove it")
    if info.st_uid != os.getuid():
        raise StoreError(f"{path} belongs to user {info.st_uid}, not to you: remove it")
    if info.st_mode & 0o077:
        raise StoreError(f"others may read {path} or write to it: run  chmod 600 {path}")
    return True


def _problem_with(path: Path) -> str:
    """What is wrong with a file; empty when nothing is."""
    connection = None
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        [application] = connection.execute("PRAGMA application_id").fetchone()
        [version] = connection.execute("PRAGMA user_version").fetchone()
        [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != _APPLICATION_ID:
            return "belongs to another program"
        if version > len(_MIGRATIONS):
            return f"was written by a newer version of this package (schema {version})"
        [found] = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        return f"is damaged ({error})"
    finally:
        if connection is not None:
            connection.close()
    return "" if found == "ok" else f"is damaged ({found})"


def _move_aside(path: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%S")
    aside = path.with_name(f"{path.name}.{stamp}")
    count = 0
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.{stamp}-{count}")
    path.rename(aside)
    for helper in ("-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{helper}").rename(f"{aside}{helper}")
    return aside


def _prepare(connection: sqlite3.Connection, path: Path, *, survive: bool) -> None:
    execute = connection.execute
    execute("PRAGMA auto_vacuum = INCREMENTAL")
    execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    wal = not is_network(path)
    execute(f"PRAGMA journal_mode = {'WAL' if wal else 'TRUNCATE'}")
    # NORMAL with WAL: nothing is lost when a process dies, and the file stays whole when the
    # machine does.
    execute(f"PRAGMA synchronous = {'NORMAL' if survive else 'OFF'}")
    execute("PRAGMA busy_timeout = 5000")
    [version] = execute("PRAGMA user_version").fetchone()
    for number, migration in enumerate(_MIGRATIONS[version:], version + 1):
        connection.executescript(f"BEGIN; {migration} PRAGMA user_version = {number}; COMMIT;")


def is_network(path: Path) -> bool:
    """Whether a file lies on another machine."""
    return file_system(path) in _NETWORK


def file_system(path: Path, mounts: str | None = None) -> str:
    """The kind of file system that a path lies on, ``''`` where the kernel does not tell.

    Parameters
    ----------
    path : Path
    mounts : str, optional
        Text of ``/proc/self/mountinfo`` (proc(5)).
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(errors="replace")
        except OSError:
            return ""
    wanted = Path(os.path.realpath(path))
    found, depth = "", -1
    for line in mounts.splitlines():
        where, _, what = line.partition(" - ")
        place = Path(where.split(" ")[4].encode().decode("unicode_escape"))
        # The last of several mounts on one place is the one that is seen.
        if wanted.is_relative_to(place) and len(place.parts) >= depth:
            found, depth = what.split(" ")[0], len(place.parts)
    return found
