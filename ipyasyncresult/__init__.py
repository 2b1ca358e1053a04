"""Parallel work from a notebook, and one object that tells everything about it.

>>> import ipyasyncresult as ipar
>>> with ipar.Cluster(n=4) as client:
...     ar = client.load_balanced_view().map_async(measure, files)
...     ar.wait_interactive()
...     ar.display_outputs()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ipyasyncresult._version import __version__
from ipyasyncresult.core.presenter import Presenter, install_presenter

if TYPE_CHECKING:
    from ipyasyncresult.backends.connecting import connect
    from ipyasyncresult.backends.joblib import register_joblib_backend
    from ipyasyncresult.backends.tracking import track
    from ipyasyncresult.client.client import Client
    from ipyasyncresult.client.cluster import Cluster
    from ipyasyncresult.client.directview import DirectView
    from ipyasyncresult.client.executor import EngineExecutor
    from ipyasyncresult.client.loadbalanced import LoadBalancedView
    from ipyasyncresult.core.asyncresult import AsyncResult, check_ready
    from ipyasyncresult.core.hubresult import AsyncHubResult
    from ipyasyncresult.core.mapresult import AsyncMapResult
    from ipyasyncresult.errors import (
        CompositeError,
        EngineError,
        RemoteError,
        ResultNotReady,
        TaskAborted,
        TaskTimeout,
        TimeoutError,
    )
    from ipyasyncresult.worker.functions import Reference, require

__all__ = [
    "AsyncHubResult",
    "AsyncMapResult",
    "AsyncResult",
    "Client",
    "Cluster",
    "CompositeError",
    "DirectView",
    "EngineError",
    "EngineExecutor",
    "LoadBalancedView",
    "Reference",
    "RemoteError",
    "ResultNotReady",
    "TaskAborted",
    "TaskTimeout",
    "TimeoutError",
    "__version__",
    "check_ready",
    "connect",
    "load_ipython_extension",
    "register_joblib_backend",
    "require",
    "track",
    "unload_ipython_extension",
]

# Where the public names live: they are loaded when they are asked for, so that the hub and the
# engines, which import this package too, load only what they use.
_HOMES = {
    "AsyncHubResult": "core.hubresult",
    "AsyncMapResult": "core.mapresult",
    "AsyncResult": "core.asyncresult",
    "Client": "client.client",
    "Cluster": "client.cluster",
    "CompositeError": "errors",
    "DirectView": "client.directview",
    "EngineError": "errors",
    "EngineExecutor": "client.executor",
    "LoadBalancedView": "client.loadbalanced",
    "Reference": "worker.functions",
    "RemoteError": "errors",
    "ResultNotReady": "errors",
    "TaskAborted": "errors",
    "TaskTimeout": "errors",
    "TimeoutError": "errors",
    "check_ready": "core.asyncresult",
    "connect": "backends.connecting",
    "register_joblib_backend": "backends.joblib",
    "require": "worker.functions",
    "track": "backends.tracking",
}


if not TYPE_CHECKING:  # a type checker would take any name for one that is here

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _make_presenter() -> Presenter:
    from ipyasyncresult.display.presenter import DisplayPresenter

    return DisplayPresenter()


install_presenter(_make_presenter)


def load_ipython_extension(ipython: Any) -> None:
    """``%load_ext ipyasyncresult`` gives the shell `ipython` the magics; the first ``%%px`` starts
    engines."""
    from ipyasyncresult.magics import load

    load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """``%unload_ext ipyasyncresult`` takes them from the shell `ipython`."""
    from ipyasyncresult.magics import unload

    unload(ipython)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Jupyter's server asks: what is to be loaded."""
    return [{"module": "ipyasyncresult.server"}]
