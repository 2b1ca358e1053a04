"""Dask distributed: its workers as engines, its scheduler as the one who keeps results.

::

    client ── client.map(pickle.loads, jobs, key=ids) ──▶ scheduler ──▶ worker
      ▲ ▲                                                                    run_live
      │ └── events of a topic: started, pieces of output, what a task delivers ◀─┤
      └──── gather, many at once: large deliveries ◀─────────────────────────────┘

A task's key is its id.  What was submitted is published as a data set of the scheduler, so that it
outlives this client and is found again by id or label.

Events of ended tasks leave in the message in which the worker tells the scheduler of the end
(``worker.Outbox``).  So futures need not be waited for one by one: twice a second somebody looks at
their states, for what was lost, and for what ended without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ipyasyncresult.backends.protocol import needs
from ipyasyncresult.core.arguments import check_count
from ipyasyncresult.core.capabilities import Capabilities
from ipyasyncresult.core.waiting import check_timeout
from ipyasyncresult.errors import HubError, StartError

if TYPE_CHECKING:
    from ipyasyncresult.backends.dask.client import DaskClient

__all__ = ["CAPABILITIES", "connect", "recognizes"]

CAPABILITIES = Capabilities("Dask", interrupt_running=False, time_limits=False)

_ADDRESSES = ("tcp://", "tls://", "ws://", "wss://", "ucx://", "inproc://")

_GREETINGS = 5
"""How often to connect at most: when somebody cancels tasks at the moment of the scheduler's
greeting, it tells so in the same message, which Dask's client does not expect and gives up."""


def recognizes(target: object) -> bool:
    """Whether this backend is for `target`: a client, a cluster, a scheduler's address."""
    if isinstance(target, str):
        return target.startswith(_ADDRESSES)
    kinds = {kind.__module__.partition(".")[0] for kind in type(target).__mro__}
    if "concurrent" in kinds:  # Dask's own executor is an executor
        return False
    if kinds & {"distributed", "dask"}:
        return True
    # Clusters of dask_jobqueue, dask_kubernetes and their like.
    return hasattr(target, "scheduler_address") and hasattr(target, "get_client")


def connect(target: Any, *, keep: int = 10_000, timeout: float | None = 10.0) -> DaskClient:
    """A client over Dask.

    Parameters
    ----------
    target : distributed.Client, cluster, or str
        A client is used and left open; for a cluster or an address one is made.
    keep : int
        How many of the latest results the scheduler keeps for later sessions; 0 for none.
    timeout : float, optional
        Seconds in which the scheduler must answer; None and -1: as long as Dask itself waits.

    Raises
    ------
    ValueError
        When the address has no port, the client or cluster is asynchronous, or an option is none of
        those that are allowed.
    HubError
        When the client is closed.
    StartError
        When the workers cannot import this package, or no scheduler answers.
    VersionMismatch
        When they have another version of it or of Python.
    """
    try:
        import distributed
    except ImportError as error:
        raise needs("dask", error) from error
    from ipyasyncresult.backends.dask.client import DaskClient

    keep = check_count(keep, "keep", 0, what="a number of results")
    if getattr(target, "asynchronous", False):
        raise ValueError(
            f"target must not be asynchronous ({target!r}): its event loop would wait for itself. "
            "A Client or cluster without asynchronous=True, or an address, can be used here, too"
        )
    if isinstance(target, distributed.Client):
        if target.status != "running":
            raise HubError(f"the Dask client is {target.status}: {target!r}")
        return DaskClient(target, owns=False, keep=keep)
    return DaskClient(_client_of(target, check_timeout(timeout)), owns=True, keep=keep)


def _client_of(target: Any, seconds: float | None) -> Any:
    """A client of Dask's own for a cluster or an address."""
    import asyncio

    import distributed

    if isinstance(target, str) and not target.startswith("inproc:"):
        try:
            has_port = urlsplit(target).port is not None
        except ValueError:
            has_port = False
        if not has_port:
            raise ValueError(
                f"target must have host and port, such as 'tcp://host:8786', not {target!r}"
            )
    base: Any = distributed.Client

    class Client(base):  # type: ignore[misc]
        """One that does not wait for ever, and leaves no thread behind when nobody answers."""

        async def _ensure_connected(self, **options: Any) -> None:
            # Dask does wait for ever for the first words of what listens there, if it has none.
            await asyncio.wait_for(super()._ensure_connected(**options), seconds)

        def start(self, **options: Any) -> None:
            try:
                super().start(**options)
            except BaseException:
                self._loop_runner.stop()
                self.status = "closed"
                raise

    cause: Exception | None = None
    for _ in range(_GREETINGS):
        try:
            return Client(target, set_as_default=False, timeout=seconds)
        except AssertionError as error:
            cause = error
        except (OSError, ValueError, RuntimeError) as error:  # the last: a cluster that was closed
            said = str(error) or f"no answer within {seconds:g} s"
            raise StartError(f"no Dask scheduler answers at {target!r}: {said}") from error
    raise StartError(f"the Dask scheduler at {target!r} says something else first") from cause
