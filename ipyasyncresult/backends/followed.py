"""What becomes of futures that somebody else submitted: ``concurrent.futures``, and what is common.

Other libraries' are followed by a class like this one, in the folder of their backend.
"""

from __future__ import annotations

import concurrent.futures
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from ipyasyncresult.core.outputs import Output
from ipyasyncresult.errors import EngineError, TaskAborted

__all__ = ["FollowedFutures", "kind_of"]


class FollowedFutures:
    """How futures of one library end, in our terms."""

    may_never_end = False
    """Whether :meth:`look_for_lost` must be asked once a second."""

    def call_at_end(self, future: Any, take: Callable[[], None]) -> None:
        """`future` ended: call `take` when all that it brings is here.  It may be called twice."""
        take()

    def lost(self, future: Any, error: BaseException, msg_id: str) -> BaseException | None:
        """The error of a task that did not come to an end of its own; None for what it raised."""
        made: BaseException
        if isinstance(error, concurrent.futures.CancelledError):
            made = TaskAborted(msg_id)
        elif isinstance(error, concurrent.futures.BrokenExecutor):
            made = EngineError(f"the pool broke under task {msg_id}: {error}")
        else:
            return None
        made.__cause__ = error
        return made

    def engine(self, future: Any) -> int | None:
        """Where it ran, as far as its library knows."""
        return None

    def outputs(self, future: Any, clock: Callable[[], float]) -> list[Output]:
        """What the task wrote, as far as its library knows."""
        return []

    def look_for_lost(self, futures: Mapping[str, Any]) -> dict[str, BaseException]:
        """Those of these unfinished futures that will never end, by id, and why."""
        return {}

    def rest(self) -> None:
        """There are none left to look for."""


_OTHERS = {
    "distributed": "ipyasyncresult.backends.dask.followed",
    "ipyparallel": "ipyasyncresult.backends.ipyparallel.followed",
}


def kind_of(future: Any) -> type[FollowedFutures]:
    """The class that follows futures like this one."""
    for base in type(future).__mro__:
        module = _OTHERS.get(base.__module__.partition(".")[0])
        if module is not None:
            found: type[FollowedFutures] = importlib.import_module(module).Followed
            return found
    return FollowedFutures
