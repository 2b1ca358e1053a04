"""Where a cluster keeps large arrays: a private folder in memory, made and removed with it.

``/dev/shm/ipyasyncresult-UID-CLUSTER-xxxxxxxx``, or ``shared`` in the cluster's own folder where
there is no such file system.  The two know each other: a file ``arrays`` in the cluster's folder
names this one, and ``cluster`` in it says whose it is, so that one that was left is recognised.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

__all__ = [
    "bytes_in_use",
    "clean_stale_arrays",
    "find_arrays_folder",
    "make_arrays_folder",
    "read_limit",
    "remove_arrays_folder",
]

_MEMORY = Path("/dev/shm")  # noqa: S108  a folder of our own in it, as mkdtemp makes it
_PLACE = "IPYASYNCRESULT_ARRAYS"  # environment: another folder than /dev/shm
_NAMED, _OWNER, _LIMIT = "arrays", "cluster", "limit"
_STARTING = 120.0  # seconds that may pass between making the folder and naming it


def make_arrays_folder(cluster: Path, limit: int | None = None) -> Path:
    """The folder for the arrays of a cluster whose folder is there.

    Parameters
    ----------
    cluster : Path
    limit : int, optional
        Bytes that it may take; by default half of what the file system holds.  0: nothing.
    """
    place = _place()
    if place is None:
        folder = cluster / "shared"
        folder.mkdir(mode=0o700)
    else:
        folder = Path(tempfile.mkdtemp(prefix=f"{_prefix()}{cluster.name}-", dir=place))
    _write(cluster / _NAMED, str(folder))
    if limit is None:
        about = os.statvfs(folder)
        limit = about.f_blocks * about.f_frsize // 2
    _write(folder / _LIMIT, str(limit))
    _write(folder / _OWNER, str(cluster))
    return folder


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _place() -> Path | None:
    place = Path(os.environ.get(_PLACE) or _MEMORY)
    return place if place.is_dir() and os.access(place, os.W_OK | os.X_OK) else None


def _prefix() -> str:
    return f"ipyasyncresult-{os.getuid()}-"


def find_arrays_folder(cluster: Path) -> Path | None:
    """The folder of a running cluster, None where it has none that is ours alone."""
    try:
        folder = Path((cluster / _NAMED).read_text())
        info = folder.lstat()
    except (OSError, ValueError):
        return None
    private = stat.S_ISDIR(info.st_mode) and not info.st_mode & 0o077
    return folder if private and info.st_uid == os.getuid() else None


def read_limit(folder: Path) -> int:
    """Bytes that the arrays of this cluster may take."""
    try:
        return int((folder / _LIMIT).read_text())
    except (OSError, ValueError):
        return 0


def bytes_in_use(folder: Path) -> int:
    """Bytes of memory that the folder takes."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def remove_arrays_folder(cluster: Path) -> None:
    """Give the memory back; before the cluster's own folder is removed."""
    folder = find_arrays_folder(cluster)
    if folder is not None and _owner(folder) == str(cluster):
        shutil.rmtree(folder, ignore_errors=True)


def _owner(folder: Path) -> str | None:
    try:
        return (folder / _OWNER).read_text()
    except OSError:
        return None


def clean_stale_arrays() -> None:
    """Remove folders whose clusters are gone, also such of runtime folders that are gone."""
    place = _place()
    if place is None:
        return
    for folder in place.glob(f"{_prefix()}*"):
        with contextlib.suppress(OSError):
            info = folder.lstat()
            if info.st_uid != os.getuid() or time.time() - info.st_mtime < _STARTING:
                continue
            owner = _owner(folder)
            if owner is None or find_arrays_folder(Path(owner)) != folder:
                shutil.rmtree(folder, ignore_errors=True)
