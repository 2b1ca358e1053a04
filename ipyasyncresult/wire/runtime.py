"""The folder of a cluster: where its sockets and its description live, and who may look in.

Only sockets in a folder that belongs to this user and that nobody else may enter: no TCP port, no
abstract socket, nothing that another user of the machine could connect to.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import shutil
import stat
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from ipyasyncresult.wire.sharedfolder import clean_stale_arrays, remove_arrays_folder

__all__ = [
    "ClusterFile",
    "RuntimeFolderError",
    "check_private",
    "clean_stale_folders",
    "cluster_folder",
    "ends_within",
    "is_alive",
    "living_cluster",
    "name_process",
    "new_cluster_id",
    "process_start",
    "read_cluster_file",
    "remove_folder",
    "runtime_folder",
    "state_folder",
    "state_root",
    "write_cluster_file",
]

_MAX_SOCKET_PATH = 107  # bytes, of sockaddr_un.sun_path without its NUL (unix(7)); macOS: 103
_STARTING = 120.0  # seconds that a hub may take to write its file
_CLUSTER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


class RuntimeFolderError(OSError):
    """The folder for sockets is not private, or its path is too long."""


class ClusterFile(msgspec.Struct, kw_only=True):
    """``cluster.json``: what a client needs to find a running cluster.  Holds no secret."""

    cluster_id: str
    pid: int
    started: float
    """Start time of the hub, epoch seconds."""
    package: str
    python: str
    persist: bool = False
    pid_start: int = 0
    """When the kernel started the hub, in its own ticks: numbers of processes are used again."""
    nursery: int = 0
    """Of a persistent cluster: the process that starts the hub again when it dies."""
    nursery_start: int = 0


def runtime_folder() -> Path:
    """The user's private folder for clusters, made when it is not there.

    ``$XDG_RUNTIME_DIR/ipyasyncresult``, or ``ipyasyncresult-UID`` where temporary files go.

    Raises
    ------
    RuntimeFolderError
        When it is a symbolic link, belongs to somebody else, or others may enter it.
    """
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if base and Path(base).is_dir():
        folder = Path(base) / "ipyasyncresult"
    else:
        folder = Path(tempfile.gettempdir()) / f"ipyasyncresult-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass  # looked at next, whatever it is
    check_private(folder)
    return folder


def check_private(path: Path, *, file: bool = False) -> None:
    """Refuse a folder, or a `file`, that is not ours alone, as ssh does.

    Raises
    ------
    RuntimeFolderError
        With the command that mends it.
    """
    info = path.lstat()
    fits = stat.S_ISREG(info.st_mode) if file else stat.S_ISDIR(info.st_mode)
    if not fits:
        wanted, other = ("file", "folder") if file else ("folder", "file")
        raise RuntimeFolderError(f"{path} must be a {wanted}, not a link or a {other}: remove it")
    if info.st_uid != os.getuid():
        raise RuntimeFolderError(f"{path} belongs to user {info.st_uid}, not to you: remove it")
    if info.st_mode & 0o077:
        does, mode = ("read", "600") if file else ("enter", "700")
        raise RuntimeFolderError(f"others may {does} {path}: run  chmod {mode} {path}")


def new_cluster_id() -> str:
    """Short, random, fit for a file name."""
    return secrets.token_hex(4)


def cluster_folder(cluster_id: str, *, create: bool = False) -> Path:
    """The folder of one cluster.

    Raises
    ------
    ValueError
        When the id is not fit for a file name.
    RuntimeFolderError
        When the path is too long for a socket, or not private.
    """
    folder = runtime_folder() / _checked(cluster_id)
    limit = _MAX_SOCKET_PATH if sys.platform == "linux" else 103
    if len(os.fsencode(folder / "engines")) > limit:
        raise RuntimeFolderError(
            f"{folder} is too long for a socket ({limit} bytes): "
            "set XDG_RUNTIME_DIR to a shorter one"
        )
    if create:
        folder.mkdir(mode=0o700)
    if folder.exists():
        check_private(folder)
    return folder


def _checked(cluster_id: str) -> str:
    if type(cluster_id) is not str or not _CLUSTER_ID.fullmatch(cluster_id):
        raise ValueError(
            "cluster_id must be 1 to 32 letters, digits, '-', '_' or '.', "
            f"starting with a letter or digit, not {cluster_id!r}"
        )
    return cluster_id


def state_root() -> Path:
    """Where clusters keep what outlives them: ``$XDG_STATE_HOME/ipyasyncresult``.

    Without that variable: ``~/.local/state/ipyasyncresult``.  A disk, not memory.
    """
    base = os.environ.get("XDG_STATE_HOME", "")
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state"
    return root / "ipyasyncresult"


def state_folder(cluster_id: str, *, create: bool = False) -> Path:
    """The folder of one cluster's store.

    Raises
    ------
    ValueError
        When the id is not fit for a file name.
    RuntimeFolderError
        When the folder is not private.
    """
    folder = state_root() / _checked(cluster_id)
    if create:
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        for level in (folder.parent, folder):
            with contextlib.suppress(FileExistsError):
                level.mkdir(mode=0o700)
            check_private(level)
    elif folder.exists():
        check_private(folder)
    return folder


def write_cluster_file(folder: Path, described: ClusterFile) -> None:
    """Write ``cluster.json`` at once or not at all, readable by the user only."""
    made = folder / "cluster.json.new"
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(described))
    made.replace(folder / "cluster.json")


def read_cluster_file(folder: Path) -> ClusterFile | None:
    """The description of a cluster, None when there is none (any more)."""
    try:
        return msgspec.json.decode((folder / "cluster.json").read_bytes(), type=ClusterFile)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def clean_stale_folders() -> None:
    """Remove what hubs left that were killed."""
    for folder in runtime_folder().iterdir():
        described = read_cluster_file(folder)
        if described is None:
            # A hub that is starting has not written its file yet.
            with contextlib.suppress(OSError):
                if time.time() - folder.stat().st_mtime > _STARTING:
                    remove_folder(folder)
        elif not living_cluster(described):
            remove_folder(folder)
    clean_stale_arrays()


def living_cluster(described: ClusterFile) -> bool:
    """Whether its hub lives, or who would start it again does."""
    return is_alive(described.pid, described.pid_start) or (
        described.nursery > 0 and is_alive(described.nursery, described.nursery_start)
    )


def is_alive(pid: int, start: int = 0) -> bool:
    """Whether there is a process of this number (that started then).  A zombie is none."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return not start
    now = process_start(pid)
    return now is None or (now > 0 and start in (0, now))


def ends_within(pid: int, seconds: float | None = None) -> bool:
    """Whether a process ends within that time (None: wait until it does).  A zombie has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except (AttributeError, OSError):  # not Linux, too old, out of descriptors: look now and then
        deadline = time.monotonic() + (float("inf") if seconds is None else seconds)
        while is_alive(pid):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        return bool(poller.poll(None if seconds is None else 1000 * seconds))
    finally:
        os.close(pidfd)


def name_process(name: str) -> None:
    """What ``top`` calls this process, at most 15 characters: all of a cluster have one command
    line.  Linux."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name)


def process_start(pid: int) -> int | None:
    """When a process started, in the kernel's ticks; 0 when it is dead, None without /proc."""
    try:
        # After the name, which may hold anything: state is field 3, the start field 22 (proc(5)).
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0 if Path("/proc/self/stat").exists() else None
    return 0 if fields[0] in "ZX" else int(fields[19])


def remove_folder(folder: Path) -> None:
    """Remove what a cluster left, its shared memory included."""
    remove_arrays_folder(folder)
    shutil.rmtree(folder, ignore_errors=True)
