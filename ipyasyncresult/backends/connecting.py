"""``connect``: a client for whatever the user has, engines of this machine by default."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, overload

from ipyasyncresult.backends.protocol import Backend, backend_for, known_backends

if TYPE_CHECKING:
    from ipyasyncresult.backends.client import BackendClient
    from ipyasyncresult.client.client import Client

__all__ = ["connect"]


@overload
def connect(
    target: None = None, *, n: int | None = None, cluster_id: str | None = None, **options: Any
) -> Client: ...
@overload
def connect(target: Any, *, n: int | None = None, **options: Any) -> Any: ...
def connect(
    target: Any = None, *, n: int | None = None, cluster_id: str | None = None, **options: Any
) -> Client | BackendClient:
    """A client: of engines on this machine, or over a cluster that you have already.

    Parameters
    ----------
    target : optional
        A cluster id; or an ``ipyparallel.Client`` or ``Cluster``; a ``distributed.Client``, its
        cluster, or the address of its scheduler (``'tcp://host:8786'``); any
        ``concurrent.futures.Executor``; or what another backend knows
        (:mod:`ipyasyncresult.backends`).
    n : int, optional
        Start so many engines of your own.  With neither `n` nor a target: the engines that this
        process already uses, else the user's persistent cluster, else new engines, as many as
        usable CPUs.
    cluster_id : str, optional
        Join this cluster.
    **options
        For :class:`Cluster`, or for the backend.

    Raises
    ------
    StartError
        When engines do not start, or those of the target cannot be used.
    HubError
        When the cluster to join does not live.
    TypeError
        When `target` is nothing that can be connected to.
    """
    from ipyasyncresult.client.connect import connect as connect_own

    if target is None:
        return connect_own(n=n, cluster_id=cluster_id, **options)
    backend = backend_for(target)
    if backend is not None:
        if cluster_id is not None:
            raise ValueError("give a target or cluster_id, not both")
        if n is not None:
            options["n"] = n
        _check_options(backend, options)
        return backend.connect(target, **options)
    if not isinstance(target, str):
        raise TypeError(
            f"target must be a cluster id, None, or what one of the backends knows "
            f"({', '.join(known_backends())}), not {type(target).__name__} {target!r}"
        )
    if ":" in target:
        raise ValueError(
            f"target must be a cluster id, or the address of a Dask scheduler such as "
            f"'tcp://host:8786', not {target!r}"
        )
    return connect_own(target, n=n, cluster_id=cluster_id, **options)


def _check_options(backend: Backend, options: dict[str, Any]) -> None:
    """Whether a backend knows these options.

    Raises
    ------
    TypeError
        When it does not; names those that it knows.
    """
    known = inspect.signature(backend.connect).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in known):
        return
    names = [one.name for one in known if one.kind is one.KEYWORD_ONLY]
    for name in options:
        if name not in names:
            raise TypeError(
                f"the options of connect() over {backend.CAPABILITIES.backend} are {names}, "
                f"not {name!r}"
            )
