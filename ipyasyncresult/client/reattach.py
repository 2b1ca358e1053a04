"""Pickled results find their cluster again."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipyasyncresult.client.anyclient import AnyClient
    from ipyasyncresult.core.asyncresult import AsyncResult

__all__ = [
    "client_for",
    "forget_client",
    "known_client",
    "newest_client",
    "reattach",
    "register_client",
]

_clients: weakref.WeakValueDictionary[str, AnyClient] = weakref.WeakValueDictionary()


def register_client(client: AnyClient) -> None:
    """Let the magics, :func:`connect` and pickled results find this client."""
    _clients.pop(client.cluster_id, None)  # to the end
    _clients[client.cluster_id] = client


def forget_client(client: AnyClient) -> None:
    """It serves one purpose only, and is not for others to find."""
    if _clients.get(client.cluster_id) is client:
        del _clients[client.cluster_id]


def newest_client() -> AnyClient | None:
    """The last one that was made, is open and runs cells: a pool is nobody's engines."""
    clients = reversed(list(_clients.values()))
    return next((one for one in clients if not one.closed and one.capabilities.cells), None)


def client_for(cluster_id: str) -> AnyClient:
    """The client of this process for a cluster, made when there is none.

    Raises
    ------
    HubError
        When the cluster is gone.
    """
    client = _clients.get(cluster_id)
    if client is None or client.closed:
        from ipyasyncresult.client.client import Client

        client = Client(cluster_id)
        register_client(client)
    return client


def reattach(cluster_id: str, msg_ids: Any) -> AsyncResult:
    """The result that was pickled: asked for at the hub of its cluster."""
    return client_for(cluster_id).get_result(msg_ids)


def known_client(cluster_id: str) -> AnyClient | None:
    """The open client of this process for a cluster, or None."""
    client = _clients.get(cluster_id)
    return None if client is None or client.closed else client
