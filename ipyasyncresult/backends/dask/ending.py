"""Results that a scheduler of this process keeps are let go before its cluster ends.

When a ``LocalCluster`` closes, its workers go first, one after the other.  What is kept at one of
them Dask would compute again at the next one, for nobody: code of the user's would run once more,
and the scheduler warns of each result by name.
"""

from __future__ import annotations

import weakref
from typing import Any

from ipyasyncresult.backends.dask.kept import HELD

__all__ = ["forget_at_its_end"]

_known: weakref.WeakSet[Any] = weakref.WeakSet()


def forget_at_its_end(cluster: Any) -> None:
    """Have a cluster that is closed let go of all results that are kept.

    Dask has no hook for that, so what closes this one object gets another beginning.
    """
    scheduler = getattr(cluster, "scheduler", None)
    close = getattr(cluster, "_close", None)
    if cluster in _known or close is None or not hasattr(scheduler, "client_releases_keys"):
        return
    _known.add(cluster)

    async def forget_and_close(*args: Any, **options: Any) -> None:
        _forget(scheduler)
        await close(*args, **options)

    cluster._close = forget_and_close


def _forget(scheduler: Any) -> None:
    """In the scheduler's event loop."""
    for name, client in list(scheduler.clients.items()):
        if name.startswith(f"published-{HELD}"):
            scheduler.client_releases_keys([task.key for task in client.wants_what], name)
