"""What the hub knows and decides.  Pure: messages in, decisions out; no socket, process or clock.

A task is in exactly one place: the shared queue, the queue of the engine that was asked for, the
look-ahead of an engine (``assigned``), or ``final``.  Decisions are collected in ``runs``,
``recalls`` and ``news`` and taken out by the server after each turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from ipyasyncresult.hub.abort import AbortRequest
from ipyasyncresult.hub.archive import Archive
from ipyasyncresult.hub.blame import verdict
from ipyasyncresult.hub.first import FirstTasks
from ipyasyncresult.hub.listening import subscribe
from ipyasyncresult.hub.records import EngineState, HubTask
from ipyasyncresult.hub.scheduler import Scheduler
from ipyasyncresult.wire.messages import (
    FIRST,
    OK,
    Answer,
    Finished,
    Group,
    LostTask,
    OutputPiece,
    Requeued,
    Returned,
    Started,
    Task,
)

__all__ = ["HubState"]


class HubState:
    """Tasks, engines and what to do next.  One thread."""

    def __init__(self, archive: Archive) -> None:
        self.engines: dict[int, EngineState] = {}
        self.replaced: dict[int, EngineState] = {}  # they are on their way
        self.scheduler = Scheduler()
        self.shared = self.scheduler.shared
        self.direct = self.scheduler.direct
        self.archive = archive
        self.tasks = archive.tasks  # all known tasks by id, in the order of their submission
        self.unfinished = 0
        self.first = FirstTasks(archive.segments)
        # Decisions for the server to carry out:
        self.runs = self.scheduler.runs
        self.recalls: list[tuple[EngineState, list[str] | None]] = []
        self.news: dict[str, list[tuple[Any, Sequence[Any]]]] = {}
        self.answers: list[tuple[str, Answer]] = []

    # -- tasks come ------------------------------------------------------------------------------

    def submit(
        self,
        session: str,
        functions: list[bytes],
        tasks: list[Task],
        frames: Sequence[Any],
        group: Group | None,
        now: float,
    ) -> None:
        """Enter the tasks of one message.  `frames` are its out-of-band frames, in order."""
        archive = self.archive
        entry = archive.add_group(group, session, now) if group is not None else None
        position = 0
        known = self.tasks
        share = sum(map(len, functions)) // len(tasks) if tasks else 0
        for task in tasks:
            mine: Sequence[Any] = ()
            if task.frames:
                mine = frames[position : position + task.frames]
                position += task.frames
            held = HubTask(task, functions[task.function], mine, session, now)
            held.first_frame = position - task.frames
            held.size = share
            before = known.get(task.msg_id)
            if before is None:
                archive.accept(held, entry)
            elif before.submitted:
                continue  # the message came twice
            else:
                before.learn(held)
                archive.accept(before, entry)
                continue
            self.unfinished += 1
            self.scheduler.enqueue(held)
            if task.options & FIRST:
                self.first.remember(held)

    def assign(self) -> None:
        """Give work to every engine that has room; fills ``runs``."""
        self.scheduler.assign()

    # -- what engines say ------------------------------------------------------------------------

    def started(self, engine: EngineState, item: Started) -> None:
        """A task turned out to be long: nothing may wait behind it."""
        held = engine.assigned.get(item.msg_id)
        if held is None or held.started:
            return
        held.started = item.started
        self.scheduler.turned_out_long(engine, held)
        item.engine_id = engine.engine_id
        self._tell(held, item)
        if len(engine.assigned) > 1 and not engine.recalling:
            engine.recalling = True
            self.recalls.append((engine, None))

    def output(self, engine: EngineState, item: OutputPiece) -> None:
        """More output of a task, also after its end (a thread that it started)."""
        held = engine.assigned.get(item.msg_id) or self.tasks.get(item.msg_id)
        if held is None:
            return
        self.archive.add_output(held, item.outputs)
        self._tell(held, item)

    def finished(self, engine: EngineState, item: Finished, frames: Sequence[Any]) -> None:
        """A task ended on its engine.  The first end wins."""
        held = engine.assigned.pop(item.msg_id, None)
        engine.finished += 1
        if held is None:
            return
        self.scheduler.took(held.function, item.duration)
        self.scheduler.release(engine, held)
        item.engine_id = engine.engine_id
        self._end(held, item, frames)

    def returned(self, engine: EngineState, item: Returned) -> None:
        """Recalled tasks: back to the front of their queues, or aborted if that was the wish."""
        engine.recalling = False
        for msg_id in reversed(item.msg_ids):
            held = engine.assigned.pop(msg_id, None)
            if held is None:
                continue
            self.scheduler.release(engine, held)
            if held.aborts:
                self._abort_now(held)
            else:
                self.scheduler.requeue(held)
        for msg_id in item.kept:
            held = engine.assigned.get(msg_id)
            if held is not None and held.aborts:
                self._answer_abort(held, "running")

    # -- ends ------------------------------------------------------------------------------------

    def _end(self, held: HubTask, item: Finished | LostTask, frames: Sequence[Any] = ()) -> None:
        self.unfinished -= 1
        held.final = item
        if held.aborts:
            aborted = isinstance(item, LostTask) and item.reason == "aborted"
            self._answer_abort(held, "aborted" if aborted else "finished")
        keeps_work = not isinstance(item, Finished) or item.status != OK
        self.archive.finish(held, frames, keep_work=keeps_work)
        self._tell(held, item, frames)
        held.listeners = None

    def lose(self, held: HubTask, details: dict[str, Any]) -> None:
        """End a task that no engine holds and that cannot run."""
        self._end(held, LostTask(held.task.msg_id, "engine", details))

    def _tell(self, held: HubTask, item: Any, frames: Sequence[Any] = ()) -> None:
        news = self.news
        # As `audience`, which every task would have to call.
        for session in (held.session, *held.listeners) if held.listeners else (held.session,):
            entries = news.get(session)
            if entries is None:
                entries = news[session] = []
            entries.append((item, frames))

    # -- engines come and go ---------------------------------------------------------------------

    def engine_ready(self, engine: EngineState) -> None:
        """An engine registered."""
        engine.ready = True
        self.engines[engine.engine_id] = engine
        self.scheduler.engine_ready(engine)
        for dropped in self.scheduler.drop_direct(engine.engine_id, known=self.tasks):
            self.unfinished -= 1
            self.archive.segments.end_work(dropped.frames)
        for held in self.first.make(engine):
            self.unfinished += 1
            self.scheduler.requeue(held)

    def engine_lost(self, engine: EngineState, begun: int, details: dict[str, Any]) -> None:
        """An engine died.  What it had begun is lost (or retried); what it had not goes on.

        Parameters
        ----------
        engine : EngineState
        begun : int
            How many tasks it ever began, as its own counter says.
        details : dict
            How it died, for the error.
        """
        if engine.ready:
            engine.ready = False
            self.scheduler.engine_gone(engine)
        if self.engines.get(engine.engine_id) is engine:
            del self.engines[engine.engine_id]
        self.archive.segments.gone(engine.uuid)
        held_tasks = list(engine.assigned.values())
        engine.assigned.clear()
        ran = max(begun - engine.finished, 0)
        guilty = held_tasks[ran - 1] if 0 < ran <= len(held_tasks) else None  # what it ran last
        for held in reversed(held_tasks[ran:]):
            held.engine = None
            if held.aborts:
                self._abort_now(held)
            else:
                self.scheduler.requeue(held)
        for held in held_tasks[:ran]:
            held.engine = None
            known = None if guilty is None else held is guilty
            fate = verdict(held, engine, details, guilty=known)
            if isinstance(fate, Requeued):
                self.scheduler.requeue(held)
                self._tell(held, fate)
                if self.archive.pager is not None:
                    self.archive.retried.append(held.task.msg_id)
            else:
                self._end(held, fate)

    def fail_queued(self, targets: Iterable[int] | None, details: dict[str, Any]) -> None:
        """End what waits for engines that will not come; None: everything that waits."""
        for held in self.scheduler.drain(targets):
            self._end(held, LostTask(held.task.msg_id, "engine", details))

    # -- aborting --------------------------------------------------------------------------------

    def abort(self, session: str, request: int, msg_ids: list[str] | None) -> None:
        """Take back what has not started; the answer tells per task, when all is known."""
        if msg_ids is None:
            msg_ids = [
                msg_id
                for msg_id, held in self.tasks.items()
                if held.final is None and held.session == session
            ]
        wanted = AbortRequest(session, request)
        recalls: dict[int, list[str]] = {}
        for msg_id in dict.fromkeys(msg_ids):
            held = self.tasks.get(msg_id)
            if held is None:
                wanted.outcome[msg_id] = "unknown"
            elif held.final is not None:
                wanted.outcome[msg_id] = "finished"
            elif held.started:
                wanted.outcome[msg_id] = "running"
            elif held.engine is None:
                wanted.outcome[msg_id] = "aborted"
                self._abort_now(held)
            else:
                wanted.open += 1
                held.aborts = (*held.aborts, wanted)
                recalls.setdefault(held.engine.engine_id, []).append(msg_id)
        for engine_id, asked in recalls.items():
            self.recalls.append((self.engines[engine_id], asked))
        self._close_abort(wanted)

    def _abort_now(self, held: HubTask) -> None:
        self._end(held, LostTask(held.task.msg_id, "aborted", {}))

    def _answer_abort(self, held: HubTask, outcome: str) -> None:
        aborts, held.aborts = held.aborts, ()
        for wanted in aborts:
            wanted.outcome[held.task.msg_id] = outcome
            wanted.open -= 1
            self._close_abort(wanted)

    def _close_abort(self, wanted: AbortRequest) -> None:
        if not wanted.open:
            self.answers.append((wanted.session, Answer(wanted.request, wanted.outcome)))

    def resubmit(self, session: str, again: dict[str, str], now: float) -> list[str]:
        """Run ended tasks again; `again` maps old to new ids.  Returns those that cannot."""
        missing = []
        for msg_id, new_id in again.items():
            old = self.tasks.get(msg_id)
            if new_id in self.tasks:
                continue  # the question came twice
            if old is None or old.final is None or not self.archive.load_work(old):
                missing.append(msg_id)
                continue
            task = msgspec.structs.replace(old.task, msg_id=new_id)
            held = HubTask(task, old.function, old.frames, session, now)
            self.archive.accept(held)
            if self.archive.pager is not None:
                self.archive.resubmitted.append(held)
            self.unfinished += 1
            self.scheduler.enqueue(held)
        return missing

    # -- other clients ---------------------------------------------------------------------------

    def subscribe(
        self, session: str, msg_ids: list[str], *, anew: bool = False
    ) -> tuple[list[Any], Callable[[], None]]:
        """What is known about tasks, and what to call to send everything else.

        The caller sends the description first, so that the client has records to put the news in.
        """
        return subscribe(self, session, msg_ids, anew=anew)

    def session_gone(self, session: str) -> None:
        """Nobody listens there any more; its tasks go on.

        What this turn has in store for it stays: those who look on are told from there.
        """
        self.archive.segments.gone(session)
        self.first.session_gone(session)
