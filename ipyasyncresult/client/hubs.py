"""Finding the hub of a cluster, and introducing oneself to it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ipyasyncresult._version import __version__
from ipyasyncresult.errors import HubError, VersionMismatch
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.runtime import (
    ClusterFile,
    ends_within,
    is_alive,
    living_cluster,
    read_cluster_file,
    state_root,
)
from ipyasyncresult.wire.sockets import Line, make_poll
from ipyasyncresult.wire.versions import python_version

__all__ = ["fate_of", "find_hub", "introduce", "next_hub"]

_HELLO_TIMEOUT = 10.0  # seconds
_PATIENCE = 5.0  # seconds
_LOOK = 0.02  # seconds
_LAST_MOMENTS = 0.2  # seconds between the end of a process's connections and its own, at most


def find_hub(folder: Path, patience: float = _PATIENCE) -> ClusterFile:
    """The living hub of a cluster; waits for the next one if it died and one will follow.

    Parameters
    ----------
    folder : Path
        Of the cluster.
    patience : float
        Seconds.

    Raises
    ------
    HubError
        When none lives there.
    """
    deadline = time.monotonic() + patience
    while True:
        described = read_cluster_file(folder)
        if described is None:
            raise HubError(f"no cluster lives in {folder}{_hint(folder)}")
        if is_alive(described.pid, described.pid_start):
            return described
        if not living_cluster(described) or time.monotonic() > deadline:
            raise HubError(f"the hub (pid {described.pid}) is dead{_hint(folder)}")
        time.sleep(_LOOK)


def _hint(folder: Path) -> str:
    if not (state_root() / folder.name / "store.db").exists():
        return ""
    start = f"Cluster(cluster_id={folder.name!r}, persist=True)"
    return f"; its results are on disk: {start} starts it again"


def next_hub(folder: Path) -> ClusterFile | None:
    """Who took the place of a dead hub; the dead one itself as long as another may come; None when
    none will."""
    described = read_cluster_file(folder)
    if described is None or not living_cluster(described):
        return None
    return described


def fate_of(hub_pid: int) -> str:
    """What became of a hub that is not connected any more."""
    if ends_within(hub_pid, _LAST_MOMENTS):
        return "died"
    return "broke off the connection: its log says why"


def introduce(
    line: Line, session: str, hub_pid: int
) -> tuple[m.Welcome, Sequence[tuple[bytes, Sequence[Any]]]]:
    """Say hello; the hub's answer, and messages that came with it.

    Raises
    ------
    HubError
        When the hub dies or does not answer.
    VersionMismatch
        When it does not fit to this client.
    """
    hello = m.Hello(session, m.PROTOCOL, __version__, python_version(), os.getpid())
    line.send(m.encode(hello))
    poll = make_poll([line.handle])
    deadline = time.monotonic() + _HELLO_TIMEOUT
    while not (poll(50) and (messages := line.take())):
        if line.lost or not is_alive(hub_pid):
            raise HubError(f"the hub (pid {hub_pid}) is dead")
        if time.monotonic() > deadline:
            raise HubError(f"the hub did not answer within {_HELLO_TIMEOUT:g} s")
    answer = m.decode_from_hub(messages[0][0])
    if isinstance(answer, m.Refused):
        raise VersionMismatch(answer.reason)
    if not isinstance(answer, m.Welcome):
        raise HubError(f"the hub answered {type(answer).__name__} instead of Welcome")
    return answer, messages[1:]
