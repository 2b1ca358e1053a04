"""What the hub writes down, and whom it tells that something is safe.

A row is a message as it came (``SUBMIT``, ``STREAM``) or a short note of what the hub decided.
Who sent a message keeps it until the hub says ``Stored(number)``: then it is on disk, and all that
came before it.

========= ================== =================================================================
kind      who                body
========= ================== =================================================================
SUBMIT    session            the client's ``Submit``
STREAM    engine             the engine's ``Stream``
VERDICT   -                  ``News`` with ``LostTask`` and ``Requeued``: ends without an engine
ASSIGNED  engine             ids of tasks that it was given
DELIVERED session            ids of tasks whose end it has
FORGOTTEN -                  ids of tasks that are no longer kept
========= ================== =================================================================
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ipyasyncresult.hub.archive import Archive
from ipyasyncresult.hub.records import EngineState, HubTask
from ipyasyncresult.wire import messages as m

if TYPE_CHECKING:
    from ipyasyncresult.hub.store import Store

__all__ = [
    "ASSIGNED",
    "DELIVERED",
    "FORGOTTEN",
    "STREAM",
    "SUBMIT",
    "VERDICT",
    "Journal",
    "decode_ids",
    "engine_name",
]

SUBMIT, STREAM, VERDICT, ASSIGNED, DELIVERED, FORGOTTEN = range(1, 7)

decode_ids = msgspec.msgpack.Decoder(list[str]).decode


def engine_name(engine: EngineState) -> str:
    """How an engine is called in the journal."""
    return f"{engine.engine_id}:{engine.uuid}"


class Journal:
    """Between the hub's messages and its store.  The hub's thread only.

    Parameters
    ----------
    store : Store
    archive : Archive
    keep_bytes : int
        Above this, delivered tasks are forgotten, the oldest first.
    keep_seconds : float
        Delivered tasks that ended longer ago are forgotten.
    """

    def __init__(
        self, store: Store, archive: Archive, keep_bytes: int, keep_seconds: float
    ) -> None:
        self.store = store
        self.numbers: dict[str, int] = {}  # by sender: the last message of its that is known
        self._archive = archive
        self._keep_bytes = keep_bytes
        self._keep_seconds = keep_seconds
        # By sender: rows and the numbers of its messages that it was not yet told are stored.
        self._unsafe: dict[str, deque[tuple[int, int]]] = {}
        # By session: what was sent there and not yet confirmed.
        self._undelivered: dict[str, deque[tuple[int, list[Any]]]] = {}
        self._sent: dict[str, int] = {}
        self._forgot = False  # something, since the last tick
        self._passed_on = 0  # everything up to this row
        self._assigned: list[tuple[EngineState, list[str]]] = []

    # -- messages in: between begin and end the archive notes who needs the row --------------------

    def begin(self, kind: int, who: str, number: int, header: bytes, frames: Sequence[Any]) -> bool:
        """Write a message down before it is handled; False when it is known already."""
        if number:
            if number <= self.numbers.get(who, 0):
                return False
            self.numbers[who] = number
        row = self._append(kind, who, number, time.time(), header, frames)
        self._archive.row = row
        if number:
            unsafe = self._unsafe.get(who)
            if unsafe is None:
                unsafe = self._unsafe[who] = deque()
            unsafe.append((row, number))
        return True

    def _append(
        self, kind: int, who: str, number: int, now: float, body: bytes, frames: Sequence[Any]
    ) -> int:
        if frames:
            self._archive.segments.add_unstored(frames)
        return self.store.append(kind, who, number, now, body, frames)

    def end(self) -> None:
        """The message was handled."""
        archive = self._archive
        if archive.refs:
            archive.rows[archive.row] = archive.refs
        archive.row = archive.refs = 0

    # -- what the hub decided ----------------------------------------------------------------------

    def assigned(self, engine: EngineState, batch: Sequence[HubTask]) -> None:
        """An engine is about to be given these tasks."""
        ids = [held.task.msg_id for held in batch]
        self.store.append(ASSIGNED, engine_name(engine), 0, 0.0, m.encode(ids))

    def release_arrays(self) -> None:
        """The store has copies.  This turn's messages do not count: they are to be passed on."""
        for frames in self.store.take_copied(self._passed_on):
            self._archive.segments.end_unstored(frames)

    def end_of_turn(self) -> None:
        """Write down what was decided without a message."""
        archive = self._archive
        self._passed_on = self.store.last
        if archive.retried or archive.unwritten:
            self._write_verdicts()
        if archive.resubmitted:
            self._write_resubmitted()
        if archive.forgotten:
            ids, archive.forgotten = archive.forgotten, []
            self._forgot = True
            self.store.append(FORGOTTEN, "", 0, 0.0, m.encode(ids))
        if archive.free_rows:
            rows, archive.free_rows = archive.free_rows, []
            self.store.delete(rows)

    def _write_verdicts(self) -> None:
        archive = self._archive
        ended, archive.unwritten = archive.unwritten, []
        retried, archive.retried = archive.retried, []
        items = [*map(m.Requeued, retried), *(held.final for held in ended)]
        row = self.store.append(VERDICT, "", 0, time.time(), m.encode(m.News(items)))  # type: ignore[arg-type]
        for held in ended:
            held.final_row = row
        if ended:
            archive.rows[row] = len(ended)

    def _write_resubmitted(self) -> None:
        archive = self._archive
        again, archive.resubmitted = archive.resubmitted, []
        for held in again:
            task = msgspec.structs.replace(held.task, function=0)
            message = m.encode(m.Submit([held.function], [task]))
            held.submit_row = self._append(
                SUBMIT, held.session, 0, held.submitted, message, held.frames
            )
            held.first_frame, held.frame_count = 0, task.frames
            archive.rows[held.submit_row] = 1

    # -- what clients have -------------------------------------------------------------------------

    def sent(self, session: str, items: list[Any]) -> None:
        """News that a client is being sent; it confirms by their number, from 1."""
        number = self._sent[session] = self._sent.get(session, 0) + 1
        self._undelivered.setdefault(session, deque()).append((number, items))

    def confirmed(self, session: str, number: int) -> None:
        """A client has all news up to this number."""
        waiting = self._undelivered.get(session)
        tasks = self._archive.tasks
        ids = []
        while waiting and waiting[0][0] <= number:
            for item in waiting.popleft()[1]:
                if type(item) is m.Finished or type(item) is m.LostTask:
                    held = tasks.get(item.msg_id)
                    if held is not None and not held.delivered:
                        self._archive.delivered(held)
                        ids.append(item.msg_id)
        if ids:
            self.store.append(DELIVERED, session, 0, 0.0, m.encode(ids))

    def session_gone(self, session: str) -> None:
        """What it did not confirm counts as not delivered."""
        for known in (self._undelivered, self._sent, self._unsafe):
            known.pop(session, None)

    # -- time --------------------------------------------------------------------------------------

    def safe(self) -> list[tuple[str, int]]:
        """Who may be told what: sender and the number of its last message that is stored."""
        self.store.take_wake()
        stored = self.store.stored
        told = []
        for who, waiting in self._unsafe.items():
            number = 0
            while waiting and waiting[0][0] <= stored:
                number = waiting.popleft()[1]
            if number:
                told.append((who, number))
        self._archive.shrink()
        return told

    def engine_gone(self, engine: EngineState) -> None:
        """It needs no word any more."""
        self._unsafe.pop(engine_name(engine), None)

    def tick(self) -> None:
        """Retention."""
        archive = self._archive
        archive.retire(self._keep_bytes, time.time() - self._keep_seconds)
        self.end_of_turn()
        if self._forgot:
            self._forgot = False
            # Short notes are about tasks whose rows are older than they are.
            self.store.delete_before(next(iter(archive.rows), self.store.stored + 1))
