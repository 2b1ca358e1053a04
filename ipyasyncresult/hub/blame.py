"""What becomes of a task that a dead engine had begun.  Pure."""

from __future__ import annotations

from typing import Any

from ipyasyncresult.hub.records import EngineState, HubTask
from ipyasyncresult.wire.messages import LostTask, Requeued

__all__ = ["verdict"]

_BLAME = frozenset({"overdue", "on_request", "oom"})


def verdict(
    held: HubTask, engine: EngineState, details: dict[str, Any], *, guilty: bool | None
) -> LostTask | Requeued:
    """Its end, or that it is run again, as long as it may be.

    Parameters
    ----------
    held : HubTask
    engine : EngineState
    details : dict
        How the engine died.
    guilty : bool or None
        The engine ran this task when it died.  Others had ended, and their results died with it.
        None: nobody knows.
    """
    about = details if guilty else {key: details[key] for key in details if key not in _BLAME}
    if guilty is False:
        about["ended"] = True
    if about.get("oom"):
        held.killed_by_oom += 1
    # Not what somebody wanted to end, nor what took all memory twice.
    wanted = about.get("overdue") or about.get("on_request") or held.aborts
    if held.retries_left > 0 and not wanted and held.killed_by_oom < 2:
        held.retries_left -= 1
        return Requeued(held.task.msg_id)
    reason = "engine"
    if about.get("overdue"):
        reason, about = "timeout", {**about, "timeout": held.task.timeout}
    return LostTask(held.task.msg_id, reason, about, engine.engine_id)
