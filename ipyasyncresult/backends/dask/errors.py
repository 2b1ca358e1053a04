"""Errors of Dask's as ours."""

from __future__ import annotations

import asyncio

from ipyasyncresult.errors import EngineError, HubError, TaskAborted

__all__ = ["CLOSED", "closed_client", "translate"]

CLOSED = ("closed", "closing")
"""States of a client of Dask's that is of no use any more."""


def closed_client(error: BaseException | None, msg_id: str) -> BaseException:
    """The error of a task whose Dask client was closed, or has given its scheduler up."""
    made = HubError(f"the Dask client was closed; task {msg_id}")
    made.__cause__ = error
    return made


def translate(error: BaseException, msg_id: str) -> BaseException:
    """Dask's own error as one of ours; the cause is kept."""
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    made: BaseException
    if isinstance(error, KilledWorker):
        made = EngineError(f"the worker died under task {msg_id}: {error}")
    elif isinstance(error, FutureCancelledError | asyncio.CancelledError):
        reason = str(getattr(error, "reason", None) or error)
        if "scheduler" in reason or isinstance(error, asyncio.CancelledError):
            made = HubError(f"the Dask scheduler is gone ({reason or 'closed'}); task {msg_id}")
        else:
            made = TaskAborted(msg_id)
    elif isinstance(error, ImportError):
        made = EngineError(
            f"a worker or the scheduler cannot import what task {msg_id} needs; ipyasyncresult "
            f"must be installed there, too: {error}"
        )
    else:
        made = EngineError(f"Dask could not run task {msg_id}: {type(error).__name__}: {error}")
    made.__cause__ = error
    return made
