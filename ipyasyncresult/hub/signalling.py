"""Signals on request: per task, what became of each."""

from __future__ import annotations

import itertools
import math
import signal
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

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
_ARRIVAL = 5.0
"""Seconds that a signal which may end an engine waits at most for the results of earlier tasks,
which may still be on their way out of the process."""


_LOOK = 0.02
"""Seconds between two looks whether an engine that shall end is at the task that may be lost."""


class _Wish(NamedTuple):
    """One task that a client wants signalled; without a client: its engine shall end."""

    wanted: AbortRequest | None
    held: HubTask
    engine: EngineState
    signal: int


class _Leaving:
    """An engine that shall end."""

    __slots__ = ("engine", "next_look", "until")

    def __init__(self, engine: EngineState, now: float) -> None:
        self.engine = engine
        self.next_look = now
        self.until = now + _ARRIVAL


class Signaller:
    """Passes signals on to engines, and tells what happened.  The hub's thread only.

    Whether an engine runs a certain task at this very moment only the nursery can tell, so a
    request stays open until it has said so for each.  What may end the engine is sent only when the
    results of earlier tasks are here: the nursery is asked first (signal 0) whether the task runs.
    An engine that shall end whatever it runs gets no more tasks, and is killed at the first that is
    not reported, or when there is none.
    """

    def __init__(self, state: HubState, keeper: EngineKeeper) -> None:
        self._state = state
        self._keeper = keeper
        self._numbers = itertools.count(1)
        self._open: dict[int, _Wish] = {}
        self._asked: dict[int, _Wish] = {}  # whether it runs
        self.waiting: deque[tuple[float, _Wish]] = deque()  # it runs; until when to wait
        self.leaving: dict[str, _Leaving] = {}  # by uuid

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
                wanted.outcome[msg_id] = ""  # in the order in which it was asked
                wanted.open += 1
                self._begin(_Wish(wanted, held, held.engine, wish.signal))
        self._close(wanted)

    def _begin(self, wish: _Wish) -> None:
        if wish.signal == signal.SIGINT or _is_first(wish):
            self._send(wish)
        else:
            self._ask_nursery(wish, self._asked, 0)

    def _send(self, wish: _Wish) -> None:
        self._ask_nursery(wish, self._open, wish.signal)

    def _ask_nursery(self, wish: _Wish, among: dict[int, _Wish], number: int) -> None:
        request = next(self._numbers)
        among[request] = wish
        self._keeper.nanny.signal_task(wish.engine.uuid, wish.held.task.msg_id, number, request)

    def end(self, engine: EngineState) -> None:
        """Kill an engine, whatever it does; no result that it has gets lost."""
        now = time.monotonic()
        self._state.scheduler.hold_back(engine)
        self.leaving.setdefault(engine.uuid, _Leaving(engine, now))
        self.settle(now)

    @property
    def has_open(self) -> bool:
        """Whether :meth:`settle` may have something to do."""
        return bool(self.waiting or self.leaving)

    def next_event(self) -> float:
        """When :meth:`settle` has something to do at the latest; monotonic seconds."""
        looks = [min(one.next_look, one.until) for one in self.leaving.values()]
        return min([*looks, self.waiting[0][0] if self.waiting else math.inf])

    def settle(self, now: float) -> None:
        """Send what has waited for results to arrive."""
        for one in list(self.leaving.values()):
            self._let_go(one, now)
        for _ in range(len(self.waiting)):
            until, wish = self.waiting.popleft()
            if now >= until or _is_first(wish):
                self._send(wish)
            else:
                self.waiting.append((until, wish))

    def _let_go(self, leaving: _Leaving, now: float) -> None:
        engine = leaving.engine
        first = next(iter(engine.assigned.values()), None)
        if first is None or engine.stopped or now >= leaving.until:
            del self.leaving[engine.uuid]
            self._keeper.nanny.signal(engine.uuid, signal.SIGKILL, group=True)
        elif now >= leaving.next_look:
            leaving.next_look = now + _LOOK
            self._send(_Wish(None, first, engine, signal.SIGKILL))

    def answered(self, notice: dict[str, Any]) -> None:
        """What the nursery says about one task."""
        wish = self._asked.pop(notice["request"], None)
        if wish is not None and notice["hit"]:
            self.waiting.append((time.monotonic() + _ARRIVAL, wish))
            return
        wish = wish or self._open.pop(notice["request"], None)
        if wish is None:
            return
        wanted, held, engine, number = wish
        if wanted is None:
            if notice["hit"]:
                self.leaving.pop(engine.uuid, None)
            return
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
        """Nobody will answer any more, and the engines are dead."""
        self.leaving.clear()
        self.settle(math.inf)
        for number in [*self._open, *self._asked]:
            self.answered({"request": number, "hit": False, "begun": 0})

    def _close(self, wanted: AbortRequest) -> None:
        if not wanted.open:
            self._state.answers.append((wanted.session, Answer(wanted.request, wanted.outcome)))


def _is_first(wish: _Wish) -> bool:
    """Whether all that its engine ran before it is here (also if it is not there any more)."""
    return next(iter(wish.engine.assigned), wish.held.task.msg_id) == wish.held.task.msg_id
