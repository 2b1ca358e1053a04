"""Looking on: what a hub does, for those who show it.  Nobody has to poll.

``watch`` is answered when something has changed since the last answer to that session, and at most
a few times a second; what is not asked for costs nothing.  ``calls`` and ``read`` are answered at
once.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from ipyasyncresult.hub.archive import Archive, GroupEntry
from ipyasyncresult.hub.records import EngineState, HubTask
from ipyasyncresult.wire.messages import OK, Answer, Finished, LostTask, OutputPiece, Started

if TYPE_CHECKING:
    from ipyasyncresult.hub.server import HubServer

__all__ = ["Watching"]

_PERIOD = 0.15
"""Seconds between two answers to one session, at least."""
_LONGEST = 10.0
"""Seconds after which an answer comes although nothing changed: its asker learns that we live."""
_MOST_ENDS = 300
"""Ends of tasks that one answer tells one by one; more are only counted."""
_FAILED = frozenset({"error", "lost", "aborted"})
_LATELY = 60.0  # seconds
_READABLE = 4 << 20
"""Bytes of a failed chunk's result, in which its failures are, that are sent to a reader."""


class Watching:
    """The questions of those who look on.  The hub's thread only."""

    def __init__(self, server: HubServer) -> None:
        self._server = server
        self._state = server.state
        self.watchers: dict[str, _Watcher] = {}
        self._counts: dict[str, _CallCounts] = {}  # of calls that changed while somebody watches

    # -- watch -----------------------------------------------------------------------------------

    def watch(self, session: str, request: int, first: bool = False) -> None:
        """What changed since the last answer; with `first`, how everything is now, at once."""
        watcher = self.watchers.get(session)
        if watcher is None or first:
            watcher = self.watchers[session] = _Watcher()
            watcher.ends.extend(self._lately_ended())
        watcher.request = request
        watcher.asked = math.nan  # the next turn knows the time

    def _lately_ended(self) -> list[HubTask]:
        """The last minute, for a picture that does not begin empty."""
        since = time.time() - _LATELY
        ended = [
            held
            for held in islice(reversed(self._state.tasks.values()), _MOST_ENDS)
            if isinstance(held.final, Finished) and held.final.completed > since
        ]
        return ended[::-1]

    def saw(self, news: dict[str, list[tuple[Any, Sequence[Any]]]]) -> None:
        """What the clients are told in this turn: starts and ends of tasks."""
        if not self.watchers:
            return
        told: set[int] = set()  # several clients may hear of one thing
        for item in [item for entries in news.values() for item, _ in entries]:
            if id(item) in told or not isinstance(item, Started | Finished | LostTask):
                continue
            told.add(id(item))
            held = self._state.tasks.get(item.msg_id)
            if held is not None:
                self._saw(held, ended=not isinstance(item, Started))

    def _saw(self, held: HubTask, *, ended: bool) -> None:
        call = _call_id(held)
        if ended and (known := self._counts.get(call)) is not None:
            known.add(held)
        for watcher in self.watchers.values():
            watcher.changed = True
            watcher.calls[call] = None
            if ended:
                watcher.ends.append(held)
                watcher.ended += 1

    def next_event(self, now: float) -> float:
        """When :meth:`settle` has something to do; monotonic seconds."""
        return min((watcher.due(now) for watcher in self.watchers.values()), default=math.inf)

    def settle(self, now: float) -> None:
        """Answer those who wait and for whom there is something new."""
        for session, watcher in list(self.watchers.items()):
            if math.isnan(watcher.asked):
                watcher.asked = now
            if session not in self._server.clients.sessions:
                self._forget(session)
            elif not watcher.request:
                if now - watcher.asked > 2 * _LONGEST:
                    self._forget(session)  # it does not look any more
            elif now >= watcher.answer_at:
                self._settle_one(session, watcher, now)

    def _settle_one(self, session: str, watcher: _Watcher, now: float) -> None:
        looks = self._fingerprint()
        if watcher.changed or watcher.fingerprint != looks or watcher.due(now) <= now:
            answer = Answer(watcher.request, self._news(watcher))
            watcher.answered(now, looks)
            self._server.send_now(session, answer)

    def _forget(self, session: str) -> None:
        del self.watchers[session]
        if not self.watchers:
            self._counts.clear()

    def _fingerprint(self) -> tuple[Any, ...]:
        """What may change without the start or the end of a task."""
        state = self._state
        return (
            state.unfinished,
            *(
                (engine.engine_id, engine.pid, engine.ready, engine.stopped, _current(engine))
                for engine in self._engines()
            ),
        )

    def _news(self, watcher: _Watcher) -> dict[str, Any]:
        state = self._state
        held = sum(len(engine.assigned) for engine in self._engines())
        return {
            "now": time.time(),
            "unfinished": state.unfinished,
            "waiting": max(0, state.unfinished - held),
            "engines": [self._describe_engine(engine) for engine in self._engines()],
            "ended": watcher.ended,
            "ends": [held.describe() | held.times() for held in watcher.ends],
            "calls": [call for call_id in watcher.calls if (call := self._call(call_id))],
        }

    def _engines(self) -> list[EngineState]:
        """Those that start, too."""
        engines = self._server.keeper.by_identity.values()
        return sorted(engines, key=lambda engine: engine.engine_id)

    def _describe_engine(self, engine: EngineState) -> dict[str, Any]:
        current = next(iter(engine.assigned.values()), None)
        return {
            **engine.describe(),
            "engine_id": engine.engine_id,
            "up": engine.ready,
            "finished": engine.finished,
            "holds": len(engine.assigned),
            "waiting": len(self._state.direct.get(engine.engine_id, ())),
            "task": None if current is None else _describe_running(current),
        }

    # -- calls -----------------------------------------------------------------------------------

    def calls(
        self, session: str, request: int, limit: int = 50, skip: int = 0
    ) -> list[dict[str, Any]]:
        """The latest calls, newest first, each with its tasks counted by their states."""
        del session, request
        if limit < 1 or skip < 0:
            raise ValueError(f"limit must be >= 1 and skip >= 0, not {limit} and {skip}")
        chosen = islice(enumerate(self._newest(), start=1), skip, skip + limit)
        found = ((number, self._call(call_id)) for number, call_id in chosen)
        return [call | {"number": -number} for number, call in found if call is not None]

    def _newest(self) -> Iterator[str]:
        """Ids of calls: of a map's group, or of a single task."""
        seen: set[str] = set()
        for held in reversed(self._state.tasks.values()):
            if held.group is None:
                yield held.task.msg_id
            elif (call := held.group.group.group_id) not in seen:
                seen.add(call)
                yield call

    def _call(self, call_id: str) -> dict[str, Any] | None:
        entry = self._state.archive.groups.get(call_id)
        if entry is None:
            held = self._state.tasks.get(call_id)
            return None if held is None else _describe_single(held)
        counted = self._counts.get(call_id)
        if counted is None:
            counted = _CallCounts()
            for msg_id in entry.msg_ids:
                one = self._state.tasks.get(msg_id)
                if one is not None and one.final is not None:
                    counted.add(one)
            if self.watchers:
                self._counts[call_id] = counted
        return _describe_group(entry, counted, self._label(entry))

    def _label(self, entry: GroupEntry) -> str | None:
        held = self._state.tasks.get(entry.msg_ids[0]) if entry.msg_ids else None
        return held.task.label if held is not None else None

    def call_tasks(
        self,
        session: str,
        request: int,
        which: str | int,
        limit: int = 50,
        skip: int = 0,
        failed: bool = False,
    ) -> dict[str, Any]:
        """States and times of tasks of a call; with `failed`, of those that did not end well."""
        del session, request
        found = self._state.archive.find(which)
        if found is None:
            raise ValueError(f"the hub knows no task or call {which!r}")
        tasks = self._state.tasks
        held = [
            (index, one)
            for index, msg_id in enumerate(found["msg_ids"])
            if (one := tasks.get(msg_id)) is not None and (not failed or one.status in _FAILED)
        ]
        rows = [
            {"index": index, **one.describe(), **one.times()}
            for index, one in held[skip : skip + limit]
        ]
        return {"total": len(held), "tasks": rows}

    # -- read ------------------------------------------------------------------------------------

    def read(self, session: str, request: int, msg_ids: list[str]) -> list[dict[str, Any]]:
        """Tasks with their outputs and failures, and without their results."""
        del session, request
        tasks = self._state.tasks
        archive = self._state.archive
        return [_contents(archive, tasks[msg_id]) for msg_id in msg_ids if msg_id in tasks]


class _Watcher:
    """One session that looks on."""

    __slots__ = (
        "answer_at",
        "asked",
        "calls",
        "changed",
        "ended",
        "ends",
        "fingerprint",
        "request",
    )

    def __init__(self) -> None:
        self.request = 0  # 0: it has its answer and does not wait
        self.asked = 0.0
        self.answer_at = 0.0  # not before
        self.changed = True
        self.fingerprint: tuple[Any, ...] = ()
        self.ends: deque[HubTask] = deque(maxlen=_MOST_ENDS)
        self.ended = 0
        self.calls: dict[str, None] = {}

    def due(self, now: float) -> float:
        """When it is to be answered."""
        if not self.request:
            return math.inf
        return max(self.answer_at, now if self.changed else self.asked + _LONGEST)

    def answered(self, now: float, looks: tuple[Any, ...]) -> None:
        """Begin anew."""
        self.fingerprint = looks
        self.request = 0
        self.answer_at = now + _PERIOD
        self.changed = False
        self.ends.clear()
        self.ended = 0
        self.calls = {}


class _CallCounts:
    """How the tasks of a call ended so far."""

    __slots__ = ("completed", "states")

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        self.completed = 0.0  # the latest end

    def add(self, held: HubTask) -> None:
        self.states[held.status] += 1
        if isinstance(held.final, Finished):
            self.completed = max(self.completed, held.final.completed)


def _call_id(held: HubTask) -> str:
    return held.task.msg_id if held.group is None else held.group.group.group_id


def _current(engine: EngineState) -> str | None:
    return next(iter(engine.assigned), None)


def _describe_running(held: HubTask) -> dict[str, Any]:
    return {
        "msg_id": held.task.msg_id,
        "call_id": _call_id(held),
        "name": held.task.label or (held.group.group.fname if held.group is not None else None),
        "submitted": held.submitted,
        "started": held.started or None,
    }


def _describe_single(held: HubTask) -> dict[str, Any]:
    return {
        "call_id": held.task.msg_id,
        "label": held.task.label,
        "fname": None,
        "submitted": held.submitted,
        "completed": held.times()["completed"],
        "tasks": 1,
        "counts": {held.status: 1},
    }


def _describe_group(entry: GroupEntry, counted: _CallCounts, label: str | None) -> dict[str, Any]:
    total = len(entry.msg_ids)
    unfinished = total - counted.states.total()
    counts = dict(counted.states)
    if unfinished > 0:
        counts["pending"] = unfinished
    return {
        "call_id": entry.group.group_id,
        "label": label,
        "fname": entry.group.fname,
        "submitted": entry.submitted,
        "completed": None if unfinished > 0 else counted.completed or None,
        "tasks": total,
        "counts": counts,
    }


def _contents(archive: Archive, held: HubTask) -> dict[str, Any]:
    """The replay of a task without its good results."""
    outputs: list[bytes] = []
    found: dict[str, Any] = {**held.describe(), **held.times(), "outputs": outputs}
    for item, frames in archive.replay(held):
        if isinstance(item, OutputPiece):
            outputs.append(item.outputs)
        elif isinstance(item, LostTask):
            found["lost"] = {"reason": item.reason, "details": item.details}
        elif isinstance(item, Finished) and item.status != OK:
            found["failed_items"] = item.failed_items
            if len(item.body) + sum(len(frame) for frame in frames) <= _READABLE:
                found["failure"] = (item.status, item.body, [bytes(frame) for frame in frames])
    return found
