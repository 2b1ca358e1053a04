"""Engines that people run already: ipyparallel, Dask, executors, joblib.

``ipyasyncresult.connect(x)`` gives a client over them; :func:`capabilities` says what each can do.
Third parties add one through the entry-point group ``ipyasyncresult.backends``: see
:class:`~ipyasyncresult.backends.protocol.Backend`.
"""

from __future__ import annotations

from ipyasyncresult.backends.table import CapabilityTable, capabilities

__all__ = ["CapabilityTable", "capabilities"]
