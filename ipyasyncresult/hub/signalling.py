"""Signals on request: per task, what became of each."""

from __future__ import annotations

import itertools
import signal
from typing import TYPE_CHECKING, Any

from ipyasyncresult.hub.abort import AbortRequest
from ipyasyncresult.hub.records import EngineState, HubTask
from ipyasyncresult.wire.messages import Answer, Interrupt

if TYPE_CHECKING:
    from ipyasyncresult.hub.engines import EngineKeeper
    from ipyasyncresult.hub.state import HubState

__all__ = ["Signaller"]

_DONE = {
    signal.SIGINT: "interrupting",
    signal.SIGTERM: "terminating",
    signal.SIGKILL: "killed",
}


class Signaller:
    """Passes signals on to engines, and tells what happened.  The hub's thread only.

    Whether an engine runs a certain task at this very moment only the nursery can tell, so a
    request stays open until it has said so for each.
    """

    def __init__(self, state: HubState, keeper: EngineKeeper) -> None:
        self._state = state
        self._keeper = keeper
        self._numbers = itertools.count(1)
        self._open: dict[int, tuple[AbortRequest, HubTask, EngineState, int]] = {}

    def interrupt(self, session: str, wish: Interrupt) -> None:
        """Signal the engines that run these tasks, or these engines; answered when all is known."""
        wanted = AbortRequest(session, wish.request)
        nanny = self._keeper.nanny
        for engine_id in wish.engines or ():
            engine = self._state.engines.get(engine_id)
            wanted.outcome[str(engine_id)] = "signalled" if engine else "no such engine"
            if engine is not None:
                nanny.signal(engine.uuid, wish.signal)
        for msg_id in dict.fromkeys(wish.msg_ids or ()):
            held = self._state.tasks.get(msg_id)
            if held is None:
                wanted.outcome[msg_id] = "unknown"
            elif held.final is not None:
                wanted.outcome[msg_id] = "finished"
            elif held.engine is None:
                wanted.outcome[msg_id] = "queued"
            else:
                number = next(self._numbers)
                wanted.outcome[msg_id] = ""  # in the order in which it was asked
                wanted.open += 1
                self._open[number] = (wanted, held, held.engine, wish.signal)
                nanny.signal_task(held.engine.uuid, msg_id, wish.signal, number)
        self._close(wanted)

    def answered(self, notice: dict[str, Any]) -> None:
        """What the nursery says about one task."""
        found = self._open.pop(notice["request"], None)
        if found is None:
            return
        wanted, held, engine, number = found
        msg_id = held.task.msg_id
        if notice["hit"]:
            wanted.outcome[msg_id] = _DONE.get(signal.Signals(number), "signalled")
            if number != signal.SIGINT:
                engine.ending = signal.Signals(number).name
        elif held.final is not None or self._has_run(held, engine, notice["begun"]):
            wanted.outcome[msg_id] = "finished"
        else:
            wanted.outcome[msg_id] = "queued"
        wanted.open -= 1
        self._close(wanted)

    @staticmethod
    def _has_run(held: HubTask, engine: EngineState, begun: int) -> bool:
        """Whether the engine has begun it, and is through, and has not got round to saying so."""
        if held.engine is not engine:
            return False
        return list(engine.assigned).index(held.task.msg_id) < begun - engine.finished

    def nursery_gone(self) -> None:
        """Nobody will answer any more."""
        for number in list(self._open):
            self.answered({"request": number, "hit": False, "begun": 0})

    def _close(self, wanted: AbortRequest) -> None:
        if not wanted.open:
            self._state.answers.append((wanted.session, Answer(wanted.request, wanted.outcome)))
