"""``connect``: a client for whatever the user has, engines of this machine by default."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from ipyasyncresult.client.cluster import Cluster
from ipyasyncresult.client.reattach import client_for, newest_client
from ipyasyncresult.wire.runtime import read_cluster_file, runtime_folder

if TYPE_CHECKING:
    from ipyasyncresult.client.anyclient import AnyClient
    from ipyasyncresult.client.client import Client

__all__ = ["connect", "default_client"]

_lock = threading.Lock()
_default: Client | None = None  # guarded by _lock


def connect(
    target: Any = None, *, n: int | None = None, cluster_id: str | None = None, **options: Any
) -> Client:
    """A client.

    Parameters
    ----------
    target : str, optional
        A cluster id.
    n : int, optional
        Start so many engines of your own.  With neither `n` nor an id: the engines that this
        process already uses, else the user's persistent cluster, else new engines, as many as
        usable CPUs.
    cluster_id : str, optional
        Join this cluster.
    **options
        For :class:`Cluster`.

    Raises
    ------
    StartError
        When engines do not start.
    HubError
        When the cluster to join does not live.
    TypeError
        When `target` is nothing that can be connected to.
    """
    if target is not None and not isinstance(target, str):
        raise TypeError(
            f"target must be a cluster id or None, not {type(target).__name__} {target!r}"
        )
    if target is not None or cluster_id is not None:
        if n is not None:
            raise ValueError("give n to start engines or cluster_id to join some, not both")
        return cast("Client", client_for(str(target if target is not None else cluster_id)))
    if n is not None or options:
        return Cluster(n, **options).start_and_connect_sync()
    return cast("Client", default_client())


def default_client(starting: Callable[[Cluster], None] | None = None) -> AnyClient:
    """The client that the magics and :func:`connect` share in this process.

    `starting` is called before engines are started for it.
    """
    global _default
    with _lock:
        client = newest_client() or _join_persistent()
        if client is None:
            # Kept here: nobody else may hold it, and it ends with this process.
            cluster = Cluster()
            if starting is not None:
                starting(cluster)
            client = _default = cluster.start_and_connect_sync()
        return client


def has_default_client() -> bool:
    """Whether :func:`default_client` would start nothing new."""
    return newest_client() is not None


def _join_persistent() -> AnyClient | None:
    """The user's only persistent cluster; with several, the newest."""
    found = []
    for folder in runtime_folder().iterdir():
        described = read_cluster_file(folder)
        if described is not None and described.persist:
            found.append(described)
    for described in sorted(found, key=lambda one: one.started, reverse=True):
        try:
            return client_for(described.cluster_id)
        except ConnectionError:  # its hub is dead
            continue
    return None
