"""Futures of Dask that somebody else submitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ipyasyncresult.backends.dask.errors import CLOSED, closed_client, translate
from ipyasyncresult.backends.followed import FollowedFutures

__all__ = ["Followed"]


class Followed(FollowedFutures):
    """How they end."""

    may_never_end = True  # a client that closes takes the callbacks of its futures along

    def lost(self, future: Any, error: BaseException, msg_id: str) -> BaseException | None:
        from distributed import KilledWorker

        if future.client.status in CLOSED:
            return closed_client(error, msg_id)
        if future.status == "error" and not isinstance(error, KilledWorker):
            return None
        reason = getattr(future._state, "exception", None)  # says more than that it was cancelled
        return translate(reason if future.status == "cancelled" and reason else error, msg_id)

    def look_for_lost(self, futures: Mapping[str, Any]) -> dict[str, BaseException]:
        return {
            msg_id: closed_client(None, msg_id)
            for msg_id, future in futures.items()
            if future.client.status in CLOSED
        }
