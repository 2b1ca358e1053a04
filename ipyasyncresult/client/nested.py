"""Tasks that are clients of the cluster they run on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ipyasyncresult.core.waiting import Waits
from ipyasyncresult.errors import NestedWaitError

__all__ = ["NestedWaits", "runs_on"]


def runs_on(engines: Mapping[int, Mapping[str, Any]]) -> bool:
    """Whether this process is one of these engines, or was started by one.

    Every engine is the leader of a session of its own, which its children stay in.
    """
    leader = os.getsid(0)
    return any(about.get("pid") == leader for about in engines.values())


class NestedWaits:
    """Waits that must end: an engine that waits does nothing else, so all of them could wait.

    Parameters
    ----------
    waits : Waits
        Those of the connection.
    """

    def __init__(self, waits: Waits) -> None:
        self._waits = waits

    def wait(self, predicate: Callable[[], bool], timeout: float | None) -> bool:
        if timeout is None and not predicate():
            self.check_endless()
        return self._waits.wait(predicate, timeout)

    def check_endless(self) -> None:
        raise NestedWaitError(
            "this is a task, and it would wait for tasks of the engines that it runs on itself: "
            "when all of them wait, no result ever comes. Return the AsyncResult or the data and "
            "submit from outside, wait with a timeout (get, wait), or start engines of your own "
            "with Cluster(n=...)"
        )

    def notify(self) -> None:
        self._waits.notify()
