"""For tests of code that uses results: a client whose engines are you, and a clock wound by hand.

No process, no socket, no thread, no waiting:

>>> from ipyasyncresult.testing import FakeClient
>>> client = FakeClient()
>>> ar = client.submit("square", targets=[0, 1])
>>> client.finish(ar.msg_ids[0], 4)
>>> ar.progress, ar.ready()
(1, False)

Real engines for tests are fixtures of the pytest plugin, ``ipyasyncresult.testing.plugin``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipyasyncresult.testing.clock import ManualClock
    from ipyasyncresult.testing.fakeclient import FakeClient

__all__ = ["FakeClient", "ManualClock"]

# Loaded when they are asked for: pytest loads this package in every run, for its plugin.
_HOMES = {"FakeClient": "fakeclient", "ManualClock": "clock"}


if not TYPE_CHECKING:  # a type checker would take any name for one that is here

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
