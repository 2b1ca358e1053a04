"""What an engine holds, when it is a new hub that it tells."""

from __future__ import annotations

from ipyasyncresult.hub.records import EngineState, HubTask
from ipyasyncresult.hub.scheduler import LOOK_AHEAD
from ipyasyncresult.hub.state import HubState
from ipyasyncresult.wire import messages as m

__all__ = ["engine_back", "give", "unknown_task"]


def unknown_task(msg_id: str) -> HubTask:
    """A task that only an engine speaks of; the client's message with its work is to come."""
    return HubTask(m.Task(msg_id, 0, b""), b"", (), msg_id.rpartition("-")[0], 0.0)


def give(engine: EngineState, held: HubTask) -> None:
    """It has the task; of unknown length, so that it is not given more."""
    held.engine = engine
    held.estimate = LOOK_AHEAD
    engine.load += LOOK_AHEAD
    engine.assigned[held.task.msg_id] = held


def engine_back(state: HubState, engine: EngineState, message: m.Register, *, known: bool) -> None:
    """An engine of the last hub says what it holds.

    Parameters
    ----------
    state : HubState
    engine : EngineState
    message : Register
    known : bool
        Whether tasks outlive a hub here; else what the engine holds is of no interest any more.
    """
    believed, engine.assigned = engine.assigned, {}
    engine.load = 0.0
    engine.finished = message.finished
    for msg_id in [*message.unsaved, *message.held]:
        held = believed.pop(msg_id, None) or state.tasks.get(msg_id)
        if held is None:
            held = unknown_task(msg_id)
            if known and "@" not in msg_id:
                state.tasks[msg_id] = held
                state.unfinished += 1
        elif held.final is not None:
            continue
        elif held.engine is None:
            state.scheduler.take_out(held)
        give(engine, held)
    for held in reversed(believed.values()):  # the last hub died before they arrived there
        held.engine = None
        state.scheduler.requeue(held)
