"""Clusters of this user from outside: which there are, how to stop one, what dead ones left.

For the command line, the server's page, and people::

    list_clusters()           those that live
    stop_cluster(cluster_id)  ends one, also when its hub does not answer
    stored_clusters()         dead ones whose results are still on disk
    forget_stored(cluster_id) removes these
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from ipyasyncresult.errors import HubError, TimeoutError
from ipyasyncresult.wire.runtime import (
    ClusterFile,
    RuntimeFolderError,
    cluster_folder,
    is_alive,
    living_cluster,
    read_cluster_file,
    remove_folder,
    runtime_folder,
    state_folder,
    state_root,
)

__all__ = [
    "LOG",
    "ClusterInfo",
    "StoredCluster",
    "forget_stored",
    "list_clusters",
    "newest_persistent",
    "read_log",
    "stop_cluster",
    "stored_clusters",
]

_STOP_TIMEOUT = 5.0  # seconds
_STORE = "store.db"
LOG = "hub.log"
"""In a cluster's folder: what its hub wrote."""


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """A cluster that lives.

    Attributes
    ----------
    cluster_id : str
    pid : int
        Of its hub.
    started : float
        When the hub started, seconds since the epoch.
    persist : bool
        It outlives its clients.
    package, python : str
        Versions; a client must have the same.
    folder : Path
        Its sockets and ``hub.log``.
    """

    cluster_id: str
    pid: int
    started: float
    persist: bool
    package: str
    python: str
    folder: Path


@dataclass(frozen=True, slots=True)
class StoredCluster:
    """Results of a cluster that does not live; ``Cluster(cluster_id=..., persist=True)`` with this
    id finds them.

    Attributes
    ----------
    cluster_id : str
    bytes : int
        On disk.
    changed : float
        When it was last written, seconds since the epoch.
    """

    cluster_id: str
    bytes: int
    changed: float


def list_clusters() -> list[ClusterInfo]:
    """This user's living clusters, oldest first."""
    found = []
    for folder in runtime_folder().iterdir():
        described = read_cluster_file(folder)
        if described is not None and living_cluster(described):
            found.append(
                ClusterInfo(
                    described.cluster_id,
                    described.pid,
                    described.started,
                    described.persist,
                    described.package,
                    described.python,
                    folder,
                )
            )
    return sorted(found, key=lambda one: one.started)


def newest_persistent() -> str:
    """The id of this user's persistent cluster; with several, of the newest.

    Raises
    ------
    HubError
        When there is none.
    """
    found = [one.cluster_id for one in list_clusters() if one.persist]
    if not found:
        raise HubError(
            "no persistent cluster of yours lives: connect() starts engines, "
            "Cluster(persist=True) starts a cluster to join"
        )
    return found[-1]


def stop_cluster(cluster_id: str, *, timeout: float = _STOP_TIMEOUT) -> None:
    """End a cluster: hub, engines, sockets.  What it stored stays on disk.

    Asks first; what is left after `timeout` seconds is killed.

    Raises
    ------
    HubError
        When there is no such cluster.
    TimeoutError
        When it could not even be killed.
    """
    folder = cluster_folder(cluster_id)
    described = read_cluster_file(folder)
    if described is None or not living_cluster(described):
        raise HubError(f"no cluster {cluster_id!r} lives")
    _signal(described.pid, described.pid_start, signal.SIGTERM)
    if _gone(folder, timeout):
        return
    described = read_cluster_file(folder) or described  # its hub may be a new one
    # The nursery first, or it would start the hub again; its engines die with it.
    _signal(described.nursery, described.nursery_start, signal.SIGKILL)
    _signal(described.pid, described.pid_start, signal.SIGKILL)
    if not _dead(described, timeout):
        raise TimeoutError(f"cluster {cluster_id!r} (hub pid {described.pid}) does not end")
    remove_folder(folder)


def _signal(pid: int, start: int, number: int) -> None:
    if pid > 0 and is_alive(pid, start):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _gone(folder: Path, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while folder.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _dead(described: ClusterFile, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while living_cluster(described):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def read_log(cluster_id: str, lines: int) -> tuple[list[str], int]:
    """The last `lines` lines that the hub of a living cluster wrote, and where the file ends.

    Raises
    ------
    HubError
        When there is no such cluster, or it has no log.
    """
    if cluster_id not in {one.cluster_id for one in list_clusters()}:
        raise HubError(f"no cluster {cluster_id!r} is running")
    try:
        with (cluster_folder(cluster_id) / LOG).open(errors="replace") as file:
            last = deque(file, maxlen=lines)
            return [line.rstrip("\n") for line in last], file.tell()
    except FileNotFoundError:
        raise HubError(f"cluster {cluster_id} has no log") from None


def stored_clusters() -> list[StoredCluster]:
    """Dead clusters whose results are on disk, the one written last at the end."""
    living = {one.cluster_id for one in list_clusters()}
    found = []
    with contextlib.suppress(FileNotFoundError):
        for folder in state_root().iterdir():
            if folder.name not in living and (folder / _STORE).exists():
                files = [file.stat() for file in folder.rglob("*") if file.is_file()]
                size = sum(info.st_size for info in files)
                changed = max(info.st_mtime for info in files)
                found.append(StoredCluster(folder.name, size, changed))
    return sorted(found, key=lambda one: one.changed)


def forget_stored(cluster_id: str) -> None:
    """Remove from disk what a dead cluster stored.

    Raises
    ------
    HubError
        When the cluster lives, or stored nothing.
    """
    if any(one.cluster_id == cluster_id for one in list_clusters()):
        raise HubError(f"cluster {cluster_id!r} lives: stop it first")
    try:
        folder = state_folder(cluster_id)
    except RuntimeFolderError as error:
        raise HubError(str(error)) from None
    if not folder.exists():
        raise HubError(f"no cluster {cluster_id!r} has stored anything")
    remove_folder(folder)
