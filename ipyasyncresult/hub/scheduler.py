"""Which engine gets which task next.  Pure: no socket, process or clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable

from ipyasyncresult.hub.records import RESTART, EngineState, HubTask

__all__ = ["LONG", "LOOK_AHEAD", "Scheduler"]

LOOK_AHEAD = 0.010
"""Seconds of work that an engine may hold beyond what it runs; longer tasks come one by one."""
ONE_AHEAD = 0.020
"""Seconds; of tasks up to this long an engine may hold one more while many wait: the way to the hub
and back would be felt.  There, nobody is idle meanwhile."""
SHORTEST = 20e-6
"""Seconds that the shortest task is taken for: what an engine needs around it."""
LONG = 1.0
"""Seconds that a task is taken for when an engine says that it is still at it."""
MANY_FUNCTIONS = 4096
_LEARNING_RATE = 0.2


class Scheduler:
    """The queues, and what is known about how long calls of a function take.

    An engine is given tasks as long as what it holds is estimated at less than ``LOOK_AHEAD``
    seconds, so that short tasks travel in batches and long ones never wait behind each other.  A
    function that was not seen before goes alone.

    Attributes
    ----------
    shared : deque of HubTask
        For any engine.
    direct : dict of deque
        By engine id; empty queues are not kept.
    runs : list of (EngineState, list of HubTask)
        Decided, and for the server to send.
    """

    def __init__(self) -> None:
        self.shared: deque[HubTask] = deque()
        self.direct: dict[int, deque[HubTask]] = {}
        self.runs: list[tuple[EngineState, list[HubTask]]] = []
        # Seconds, by the hash of the function or cell: the bytes themselves may be large.
        self.estimates: dict[int, float] = {}
        self._hungry: dict[int, EngineState] = {}  # ready engines with room
        self._ready = 0  # engines

    def enqueue(self, held: HubTask) -> None:
        """At the end of its queue."""
        target = held.task.target
        if target < 0:
            self.shared.append(held)
        else:
            self._queue_of(target).append(held)

    def requeue(self, held: HubTask) -> None:
        """Back to the front of its queue."""
        held.started = 0.0
        target = held.task.target
        if target < 0:
            self.shared.appendleft(held)
        else:
            self._queue_of(target).appendleft(held)

    def take_out(self, held: HubTask) -> None:
        """Out of its queue: an engine has it."""
        target = held.task.target
        queue = self.shared if target < 0 else self.direct.get(target, deque())
        if held in queue:
            queue.remove(held)

    def drain(self, targets: Iterable[int] | None) -> list[HubTask]:
        """Take out what waits for these engines; None: everything that waits."""
        queues = [self.shared, *self.direct.values()] if targets is None else []
        queues += [self.direct[target] for target in targets or () if target in self.direct]
        waiting = [held for queue in queues for held in queue if held.final is None]
        for queue in queues:
            queue.clear()
        for target in [target for target, queue in self.direct.items() if not queue]:
            del self.direct[target]  # the same dict is the state's
        return waiting

    def drop_direct(self, target: int, *, known: Container[str]) -> list[HubTask]:
        """Take tasks of unknown ids out of an engine's queue.

        Such are those that every engine runs first: its successor gets some of its own.
        """
        queue = self.direct.get(target, ())
        unknown = [held for held in queue if held.task.msg_id not in known]
        for held in unknown:
            self.direct[target].remove(held)
        return unknown

    def _queue_of(self, target: int) -> deque[HubTask]:
        queue = self.direct.get(target)
        if queue is None:
            queue = self.direct[target] = deque()
        return queue

    # -- giving ----------------------------------------------------------------------------------

    def assign(self) -> None:
        """Give work to every engine that has room; fills ``runs``."""
        if not self._hungry or not (self.shared or self.direct):
            return
        still_hungry: dict[int, EngineState] = {}
        count = max(1, len(self._hungry))
        for engine_id, engine in self._hungry.items():
            batch: list[HubTask] = []
            direct = self.direct.get(engine_id)
            if direct:
                self._take(engine, direct, len(direct), batch, plenty=0)
            if direct is not None and not direct:
                del self.direct[engine_id]
            if self.shared:
                # Not more than its share: the next idle engine wants some, too.
                share = -(-len(self.shared) // count)
                self._take(engine, self.shared, share, batch, plenty=4 * self._ready)
            if batch:
                self.runs.append((engine, batch))
            if _has_room(engine):
                still_hungry[engine_id] = engine
            count -= count > 1
        self._hungry = still_hungry

    def _take(
        self,
        engine: EngineState,
        queue: deque[HubTask],
        share: int,
        batch: list[HubTask],
        *,
        plenty: int,
    ) -> None:
        load = engine.load
        estimates = self.estimates
        assigned = engine.assigned
        while queue and share > 0:
            held = queue[0]
            if held.final is not None:  # aborted while it waited
                queue.popleft()
                continue
            estimate = estimates.get(hash(held.function), LONG)
            if assigned and load + estimate > LOOK_AHEAD:
                one_more = len(assigned) == 1 and load + estimate <= 2 * ONE_AHEAD
                if not (one_more and len(queue) > plenty):
                    break
            queue.popleft()
            share -= 1
            held.estimate = estimate
            held.engine = engine
            load += estimate
            assigned[held.task.msg_id] = held
            batch.append(held)
        engine.load = load

    # -- learning --------------------------------------------------------------------------------

    def turned_out_long(self, engine: EngineState, held: HubTask) -> None:
        """The engine is busy with it for an unknown time."""
        engine.load += LONG - held.estimate
        held.estimate = LONG
        self._hungry.pop(engine.engine_id, None)
        key = hash(held.function)
        self._learn(key, max(self.estimates.get(key, 0.0), LOOK_AHEAD))

    def took(self, function: bytes, duration: float) -> None:
        """A call of the function ended after so many seconds."""
        key = hash(function)
        known = self.estimates.get(key)
        if known is None:
            self._learn(key, max(duration, SHORTEST))
        else:
            mean = known + _LEARNING_RATE * (duration - known)
            self.estimates[key] = max(mean, SHORTEST)

    def _learn(self, key: int, seconds: float) -> None:
        if len(self.estimates) >= MANY_FUNCTIONS:
            self.estimates.clear()
        self.estimates[key] = seconds

    # -- engines ---------------------------------------------------------------------------------

    def release(self, engine: EngineState, held: HubTask) -> None:
        """The engine no longer holds the task (which is out of ``assigned`` already)."""
        held.engine = None
        load = engine.load = engine.load - held.estimate if engine.assigned else 0.0
        if (
            engine.ready
            and engine.ending != RESTART
            and (load < LOOK_AHEAD / 2 or _has_room(engine))
        ):
            self._hungry[engine.engine_id] = engine

    def engine_ready(self, engine: EngineState) -> None:
        """It can be given work."""
        self._ready += 1
        self._hungry[engine.engine_id] = engine

    def hold_back(self, engine: EngineState) -> None:
        """It shall end, and gets no more."""
        if self._hungry.get(engine.engine_id) is engine:
            del self._hungry[engine.engine_id]

    def engine_gone(self, engine: EngineState) -> None:
        """It cannot any more."""
        self._ready -= 1
        self.hold_back(engine)


def _has_room(engine: EngineState) -> bool:
    load = engine.load
    return load < LOOK_AHEAD / 2 or (load <= ONE_AHEAD and len(engine.assigned) < 2)
