"""What need not be said when a cluster of this process ends whose scheduler keeps results.

The workers of Dask's ``LocalCluster`` go first.  So its scheduler, in this process, warns of all
that it keeps, by name: that it is lost, and "will be recomputed elsewhere".  It will not.
"""

from __future__ import annotations

import logging
import weakref
from typing import Any

__all__ = ["quiet_at_its_end"]


class _EndOfClusters(logging.Filter):
    """Lets everything through but that."""

    def __init__(self) -> None:
        super().__init__()
        self.clusters: weakref.WeakSet[Any] = weakref.WeakSet()

    def filter(self, record: logging.LogRecord) -> bool:
        ending = any(cluster.status.name == "closing" for cluster in list(self.clusters))
        return not (ending and "lose already computed" in record.getMessage())


_ends = _EndOfClusters()


def quiet_at_its_end(cluster: Any) -> None:
    """Have no warnings of what this cluster of Dask's loses by being closed."""
    _ends.clusters.add(cluster)
    logging.getLogger("distributed.scheduler").addFilter(_ends)
