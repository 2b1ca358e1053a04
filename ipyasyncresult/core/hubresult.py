"""``AsyncHubResult``: results known to the hub and not (or no longer) to this client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.clientprotocol import ClientProtocol
from ipyasyncresult.core.mapresult import AsyncMapResult

__all__ = ["AsyncHubMapResult", "AsyncHubResult"]


class AsyncHubResult(AsyncResult):
    """A result that must be requested from the hub: another client's, or from before a restart.

    One request tells the hub which tasks are of interest; from then on it sends what it has and
    what comes, so waiting here is waiting as anywhere else, and nothing is polled.

    Parameters
    ----------
    client : ClientProtocol
    msg_ids : str or list of str
    fname : str
    targets : optional
    tracker : optional

    Raises
    ------
    UnknownTaskError
        When the hub does not know an id (either).
    """

    __slots__ = ()

    def __init__(
        self,
        client: ClientProtocol,
        msg_ids: str | Sequence[str],
        fname: str = "unknown",
        targets: Any = None,
        tracker: Any = None,
    ) -> None:
        ids = [msg_ids] if isinstance(msg_ids, str) else list(msg_ids)
        records = client.fetch_records(ids)
        self._set_up(client, records, fname, targets, tracker, isinstance(msg_ids, str))


class AsyncHubMapResult(AsyncMapResult, AsyncHubResult):
    """A map that is requested from the hub; it keeps its shape, order and chunks."""

    __slots__ = ()
