"""ipyparallel: its engines, load balancing, signals and its hub's database.

::

    client ── apply_request(run_native) / execute_request ──▶ schedulers ──▶ engine
      ▲ ▲                                                                      │
      │ └── IOPub: busy, stdout, displays, idle, in their order ◀──────────────┤
      └──── reply ◀────────────────────────────────────────────────────────────┘

A task has ended when its reply and its *idle* are both here: then all its outputs are.  Results
come as bytes that are decoded by who asks, so none is lost for not being readable; and the
controller is looked at, which ipyparallel's own client does not do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipyasyncresult.backends.protocol import needs
from ipyasyncresult.core.capabilities import Capabilities
from ipyasyncresult.errors import StartError

if TYPE_CHECKING:
    from ipyasyncresult.backends.ipyparallel.client import IpyparallelClient

__all__ = ["CAPABILITIES", "connect", "recognizes"]

CAPABILITIES = Capabilities("ipyparallel", time_limits=False)


def recognizes(target: object) -> bool:
    """Whether this backend is for `target`: a client or a cluster of ipyparallel's."""
    kinds = {kind.__module__.partition(".")[0] for kind in type(target).__mro__}
    return "ipyparallel" in kinds and type(target).__name__ in {"Client", "Cluster"}


def connect(target: Any) -> IpyparallelClient:
    """A client over ipyparallel.

    Parameters
    ----------
    target : ipyparallel.Client or ipyparallel.Cluster
        A client is used and left open; of a cluster one is made.  A cluster that is not running is
        started first, with all its engines.

    Raises
    ------
    StartError
        When its client is closed.
    """
    try:
        import ipyparallel
    except ImportError as error:
        raise needs("ipyparallel", error) from error
    from ipyasyncresult.backends.ipyparallel.client import IpyparallelClient

    if isinstance(target, ipyparallel.Client):
        if target._closed:
            raise StartError("this ipyparallel client is closed")
        return IpyparallelClient(target, owns=False)
    engines = 1
    if target.controller is None:
        target.start_cluster_sync()
        engines = sum(launcher.n for launcher in target.engines.values())
    client: Any = target.connect_client_sync()
    client.wait_for_engines(engines, interactive=False)
    return IpyparallelClient(client, owns=True)
