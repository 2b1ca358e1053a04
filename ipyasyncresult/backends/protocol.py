"""What a backend is, and where all of them are found.

A backend is a module (or any object) with a few names.  Ours are listed here; those of others come
through the entry-point group ``ipyasyncresult.backends``::

    [project.entry-points."ipyasyncresult.backends"]
    slurm = "my_package.slurm_backend"

Its client is best made from :class:`~ipyasyncresult.backends.client.BackendClient`, which needs to
be told how tasks are sent and taken back; results, views, outputs, errors and widget follow.
"""

from __future__ import annotations

import importlib
import logging
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from ipyasyncresult.core.capabilities import Capabilities

if TYPE_CHECKING:
    from ipyasyncresult.backends.client import BackendClient

__all__ = ["GROUP", "Backend", "backend_for", "known_backends", "load_backend", "needs"]

GROUP = "ipyasyncresult.backends"

_log = logging.getLogger(__name__)

# In the order in which they are asked: an executor of Dask's is Dask's own first, and a thread pool
# is an executor, too.
_OURS = {
    "ipyparallel": "ipyasyncresult.backends.ipyparallel",
    "dask": "ipyasyncresult.backends.dask",
    "threads": "ipyasyncresult.backends.threads",
    "executor": "ipyasyncresult.backends.futures",
}


class Backend(Protocol):
    """One kind of engines.  Its foreign library is imported on first use."""

    CAPABILITIES: Capabilities
    """What its clients can do; what is False is refused with an error that says so."""

    def recognizes(self, target: object) -> bool:
        """Whether `target` is one of its own.  It must not import its library to say no."""

    def connect(self, target: Any, **options: Any) -> BackendClient:
        """A client over `target`."""


@cache
def known_backends() -> dict[str, str]:
    """Where each backend lives, by name; those of others come first."""
    found = {one.name: one.value for one in entry_points(group=GROUP) if one.name not in _OURS}
    return found | _OURS


def load_backend(name: str) -> Backend:
    """The backend of that name.

    Raises
    ------
    KeyError
        When there is none.
    """
    module, _, attribute = known_backends()[name].partition(":")
    loaded: Any = importlib.import_module(module)
    return getattr(loaded, attribute) if attribute else loaded  # type: ignore[no-any-return]


def backend_for(target: object) -> Backend | None:
    """The first backend that knows `target`.  One that fails is logged and left out."""
    for name in known_backends():
        try:
            backend = load_backend(name)
            if backend.recognizes(target):
                return backend
        except Exception:
            if name in _OURS:
                raise
            _log.exception("backend %r cannot be used", name)
    return None


def needs(extra: str, error: ImportError) -> ImportError:
    """The error for a library that is not installed."""
    return ImportError(
        f"{error}; it comes with: pip install 'ipyasyncresult[{extra}]'", name=error.name
    )
