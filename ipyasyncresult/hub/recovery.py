"""A new hub takes over: what the store tells, and the engines that outlived the last hub.

::

    read_journal ─▶ tasks, ends, who had been given what          (the store)
    Adoption     ─▶ living engines are asked to register again    (the nursery knows them)
    engine_back  ─▶ what an engine really holds                   (the engine knows best)

A task that nobody had been given waits again.  One that an engine of a dead cluster had been given
is lost, as it may have run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ipyasyncresult.hub import journal as j
from ipyasyncresult.hub.engines import EngineKeeper
from ipyasyncresult.hub.handover import give, unknown_task
from ipyasyncresult.hub.records import EngineState, HubTask
from ipyasyncresult.hub.state import HubState
from ipyasyncresult.wire import messages as m

if TYPE_CHECKING:
    from ipyasyncresult.hub.store import Row

__all__ = ["Adoption", "Recovered", "read_journal"]

_PATIENCE = 5.0
"""Seconds that engines have to say what they hold before others are given work."""
_GONE = "its engine ended together with the cluster"


class Recovered:
    """What the journal says of tasks that had not ended.

    Attributes
    ----------
    given : dict
        By id of the task: uuid of the engine that was given it last.
    finished : dict
        By uuid: how many ends the engine had reported.
    """

    def __init__(self) -> None:
        self.given: dict[str, str] = {}
        self.finished: dict[str, int] = {}


def read_journal(journal: j.Journal, state: HubState) -> Recovered:
    """Fill the state from the store.  Before anything else is in it."""
    recovered = Recovered()
    reader = _Reader(journal, state, recovered)
    for row in journal.store.rows():
        reader.read(row)
    # What was forgotten while reading is written down already.
    state.archive.forgotten.clear()
    state.first.drop_those_with_frames()
    unfinished = [held for held in state.tasks.values() if held.final is None]
    state.shared.clear()
    state.direct.clear()
    pager = state.archive.pager
    assert pager is not None
    for held in unfinished:
        if held.task.frames:
            held.frames = ()
            pager.load_work(held, shared=True)
            state.archive.segments.add_work(held.frames)
        if not held.submitted or len(held.frames) != held.task.frames:
            state.lose(held, {"reason": "the store does not hold its arguments"})
        elif held.task.msg_id not in recovered.given:
            state.scheduler.enqueue(held)
    return recovered


class _Reader:
    """Applies rows in the order in which they were written; the first end of a task wins."""

    def __init__(self, journal: j.Journal, state: HubState, recovered: Recovered) -> None:
        self._journal = journal
        self._state = state
        self._archive = state.archive
        self._recovered = recovered
        self._frame_bytes = journal.store.frame_bytes()
        self._apply: Mapping[int, Callable[[Row], None]] = {
            j.SUBMIT: self._submit,
            j.STREAM: self._stream,
            j.VERDICT: self._verdict,
            j.ASSIGNED: self._assigned,
            j.DELIVERED: self._delivered,
            j.FORGOTTEN: self._forgotten,
        }

    def read(self, row: Row) -> None:
        apply = self._apply.get(row.kind)
        if apply is None:
            return
        self._archive.row = row.seq
        try:
            apply(row)
        except m.MALFORMED:
            return  # not one of ours: nothing refers to it
        finally:
            self._journal.end()
        if row.number > self._journal.numbers.get(row.who, 0):
            self._journal.numbers[row.who] = row.number

    def _submit(self, row: Row) -> None:
        message = m.decode_from_client(row.body)
        if isinstance(message, m.Submit):
            frames = [b""] * sum(task.frames for task in message.tasks)
            self._state.submit(
                row.who, message.functions, message.tasks, frames, message.group, row.time
            )

    def _stream(self, row: Row) -> None:
        message = m.decode_from_engine(row.body)
        if not isinstance(message, m.Stream):
            return
        number, _, uuid = row.who.partition(":")
        frame_bytes = self._frame_bytes.get(row.seq, 0)
        frames = sum(i.frames for i in message.items if type(i) is m.Finished) or 1
        for item in message.items:
            if type(item) is m.Finished:
                self._recovered.finished[uuid] = self._recovered.finished.get(uuid, 0) + 1
                item.engine_id = int(number)
                size = len(item.body) + frame_bytes * item.frames // frames
                item.body = b""
                self._end(item, size)
            elif type(item) is m.OutputPiece:
                self._output(item)
            elif type(item) is m.Returned:
                for msg_id in item.msg_ids:
                    self._recovered.given.pop(msg_id, None)

    def _output(self, item: m.OutputPiece) -> None:
        held = self._known(item.msg_id)
        if held is None:
            return
        # Only where it is: contents of finished tasks stay in the store.
        if held.final is None:
            self._archive.add_output(held, item.outputs)
        else:
            held.output_rows = [*(held.output_rows or ()), self._archive.row]
            self._archive.refs += 1

    def _known(self, msg_id: str) -> HubTask | None:
        """The task; one whose submission was not stored is made up, None for a copy of FIRST."""
        held = self._state.tasks.get(msg_id)
        if held is None and "@" not in msg_id:
            held = unknown_task(msg_id)
            self._state.tasks[msg_id] = held
            self._state.unfinished += 1
        return held

    def _end(self, item: m.Finished | m.LostTask, size: int) -> None:
        held = self._known(item.msg_id)
        if held is None or held.final is not None:
            return
        self._recovered.given.pop(item.msg_id, None)
        held.final = item
        self._state.unfinished -= 1
        self._archive.bytes -= held.loaded
        held.loaded = 0
        held.outputs = None
        self._archive.recovered(held, size)

    def _verdict(self, row: Row) -> None:
        message = m.decode_from_hub(row.body)
        for item in message.items if isinstance(message, m.News) else ():
            if type(item) is m.LostTask:
                self._end(item, 0)
            elif type(item) is m.Requeued:
                self._recovered.given.pop(item.msg_id, None)
                held = self._state.tasks.get(item.msg_id)
                if held is not None:
                    held.retries_left -= 1

    def _assigned(self, row: Row) -> None:
        uuid = row.who.partition(":")[2]
        for msg_id in j.decode_ids(row.body):
            held = self._state.tasks.get(msg_id)
            if held is not None and held.final is None:
                self._recovered.given.pop(msg_id, None)  # to the end: engines run them in order
                self._recovered.given[msg_id] = uuid

    def _delivered(self, row: Row) -> None:
        for msg_id in j.decode_ids(row.body):
            held = self._state.tasks.get(msg_id)
            if held is not None:
                self._archive.delivered(held)

    def _forgotten(self, row: Row) -> None:
        self._archive.forget(j.decode_ids(row.body))


class Adoption:
    """Engines of the last hub that have to say what they hold before anybody is given work.

    Parameters
    ----------
    keeper : EngineKeeper
    state : HubState
    recovered : Recovered
    living : dict
        The nursery's word: ``engines`` that live and ``exited`` ones.
    """

    def __init__(
        self,
        keeper: EngineKeeper,
        state: HubState,
        recovered: Recovered,
        living: Mapping[str, Any],
    ) -> None:
        self._state = state
        self._keeper = keeper
        self._deadline = time.monotonic() + _PATIENCE
        given: dict[str, list[HubTask]] = {}
        for msg_id, uuid in recovered.given.items():
            given.setdefault(uuid, []).append(state.tasks[msg_id])
        self.silent: list[EngineState] = []  # that were not asked yet
        self._waiting: list[EngineState] = []  # that have not answered
        for about in living["engines"]:
            engine = _engine(about, given.pop(about["uuid"], ()), recovered)
            engine.pid, engine.stopped = about["pid"], about["stopped"]
            keeper.adopt(engine)
            self.silent.append(engine)
            self._waiting.append(engine)
        for notice in living["exited"]:
            tasks = given.pop(notice["uuid"], ())
            if tasks:
                state.engine_lost(_engine(notice, tasks, recovered), notice["begun"], notice)
        for tasks in given.values():
            self._lost_with_cluster(tasks)

    def _lost_with_cluster(self, tasks: Iterable[HubTask]) -> None:
        for held in tasks:
            if held.retries_left > 0:
                held.retries_left -= 1
                self._state.archive.retried.append(held.task.msg_id)
                self._state.scheduler.enqueue(held)
            else:
                self._state.lose(held, {"reason": _GONE})

    def is_over(self, now: float) -> bool:
        """Whether work may be given out."""
        alive = self._keeper.by_identity
        self._waiting = [
            engine
            for engine in self._waiting
            if not engine.ready and not engine.stopped and engine.identity in alive
        ]
        return not self._waiting or now > self._deadline

    def introduce(self, ask: Callable[[EngineState], bool]) -> None:
        """Ask those that are reached now."""
        alive = self._keeper.by_identity
        self.silent = [
            engine for engine in self.silent if engine.identity in alive and not ask(engine)
        ]


def _engine(
    about: Mapping[str, Any], tasks: Iterable[HubTask], recovered: Recovered
) -> EngineState:
    engine = EngineState(about["engine_id"], about["uuid"], time.time())
    engine.finished = recovered.finished.get(engine.uuid, 0)
    for held in tasks:
        give(engine, held)
    return engine
