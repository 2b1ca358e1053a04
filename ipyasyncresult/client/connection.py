"""A client's line to the hub: messages out from any thread, events into the ledger.

Two lines, so that sending and receiving never wait for each other::

    any thread ──(lock)──▶ tx ──▶ hub           hub ──▶ rx ──▶ Receiver's holder
                           ▲                                     ├─▶ ledger.batch() ...
                           └──────────── what did not fit ───────┘
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import secrets
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ipyasyncresult.client.codec import WireCodec
from ipyasyncresult.client.confirming import Confirming
from ipyasyncresult.client.hubs import fate_of, find_hub
from ipyasyncresult.client.nested import NestedWaits, runs_on
from ipyasyncresult.client.news import Repeats, apply_news
from ipyasyncresult.client.outbox import Outbox
from ipyasyncresult.client.receiving import Receiver
from ipyasyncresult.client.succession import Succession
from ipyasyncresult.core.ledger import Ledger
from ipyasyncresult.core.tally import Tally
from ipyasyncresult.core.task import Status, TaskRecord
from ipyasyncresult.errors import HubError, SerializationError, TimeoutError
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.buffers import Buffers
from ipyasyncresult.wire.sharedfolder import find_arrays_folder
from ipyasyncresult.wire.transport import MAX_FRAME

__all__ = ["Connection"]

_log = logging.getLogger(__name__)

_ANSWER_TIMEOUT = 30.0  # seconds
_FORKED = (
    "this client belongs to the process that forked this one: "
    "connect again with connect(cluster_id=...)"
)
_RECLAIM_TIMEOUT = 0.5  # seconds
_all: weakref.WeakSet[Connection] = weakref.WeakSet()


def _after_fork() -> None:
    for connection in _all:
        connection._forked = True


os.register_at_fork(after_in_child=_after_fork)


class Connection(Succession):
    """One session with a hub.

    Parameters
    ----------
    folder : Path
        The cluster's folder.
    on_engine : callable, optional
        Called with each ``EngineNews``, on the thread that received it.

    Raises
    ------
    HubError
        When no hub lives there, or it does not answer.
    VersionMismatch
        When it does not fit to this client.
    """

    def __init__(
        self, folder: Path, on_engine: Callable[[m.EngineNews], None] | None = None
    ) -> None:
        described = find_hub(folder)
        self.session: str = secrets.token_hex(6)
        self.folder = folder
        self.hub_pid: int = described.pid
        self.engines: dict[int, dict[str, Any]] = {}  # written by who receives
        self.closed: str = ""  # why; empty while open
        self._pid = os.getpid()
        self._forked = False
        _all.add(self)
        self._numbers = itertools.count()
        self._requests = itertools.count(1)
        self._answers: dict[int, Callable[[Any], None]] = {}
        self._asked: dict[int, m.FromClient] = {}  # what these answers are to
        self._sockets = itertools.count()
        # Written by who receives:
        self._repeats: Repeats | None = None
        self._on_engine = on_engine
        self._rx, tx, welcome = self._open(described.pid)
        self.engines = welcome.engines
        self._receiver = Receiver(self._rx, self._take_in, self.hub_pid)
        self._outbox = Outbox(tx, self._receiver.wake)
        self._outbox.keep = welcome.durable and welcome.persist
        self._confirming = Confirming(self._outbox.say, wanted=welcome.durable)
        self._arrays = Buffers(
            find_arrays_folder(folder), self.session, self._outbox.release, self._reclaim
        )
        self._receiver.flush = self._outbox.flush
        self._receiver.flush_old = self._look_around
        if welcome.persist:
            self._receiver.revive = self._revive
        self.ledger: Ledger = Ledger(
            WireCodec(),
            waits=NestedWaits(self._receiver) if runs_on(self.engines) else self._receiver,
            callbacks_due=lambda: self._receiver.callbacks_due(self.ledger.run_callbacks),
        )
        self._take_early()
        self._receiver.start()

    # -- out -------------------------------------------------------------------------------------

    def new_msg_id(self) -> str:
        """An id that no other task has.  Any thread."""
        return f"{self.session}-{next(self._numbers)}"

    def sent_ids(self) -> list[str]:
        """Ids of everything that this session submitted, oldest first."""
        count = int(repr(self._numbers)[6:-1])  # itertools.count tells where it is only so
        return [f"{self.session}-{number}" for number in range(count)]

    def submit(
        self,
        functions: list[bytes],
        tasks: list[m.Task],
        frames: Sequence[Any] = (),
        group: m.Group | None = None,
    ) -> tuple[list[TaskRecord], Any]:
        """Send tasks; their records and, as long as frames are unsent, a tracker.  Any thread.

        Raises
        ------
        HubError
            When the connection is closed or the hub is dead.
        """
        self.check_open()
        now = self.ledger.clock()
        records = []
        for task in tasks:
            target = task.target if task.target >= 0 else None
            records.append(TaskRecord(task.msg_id, now, target, target, task.label, task.items))
        self.ledger.submit_many(records)
        try:
            packed = self._pack(tasks, frames) if frames else frames
            if self._over_tcp:
                _check_frames(packed)
            tracker = self._outbox.say(m.Submit(functions, tasks, group), packed)
        except BaseException:
            self.ledger.forget([task.msg_id for task in tasks])
            raise
        if self.closed:  # it closed between the check and the send
            self._fail_outstanding()
        return records, tracker

    def _pack(self, tasks: list[m.Task], frames: Sequence[Any]) -> list[Any]:
        """The frames that travel; what several tasks share is written once."""
        packed: list[Any] = []
        known: dict[tuple[int, ...], Sequence[Any]] = {}
        position = 0
        for task in tasks:
            if task.frames:
                mine = frames[position : position + task.frames]
                position += task.frames
                key = tuple([id(buffer) for buffer in mine])
                if key not in known:
                    known[key] = self._arrays.pack(mine)
                task.frames = len(known[key])
                packed += known[key]
        return packed

    def _reclaim(self) -> None:
        """Before new memory is taken: some of ours may have come back to the hub, or is about to.

        A question costs less than the first touch of new memory.
        """
        with contextlib.suppress(HubError, TimeoutError):
            self.ask("segments", timeout=_RECLAIM_TIMEOUT)

    def submit_one(self, function: bytes, task: m.Task) -> tuple[TaskRecord, Tally]:
        """Send one task without frames, together with others if many come.  Any thread.

        Raises
        ------
        HubError
            When the connection is closed or the hub is dead.
        """
        if self.closed or self._forked:
            self.check_open()
        made = self.ledger.submit_counted(task.msg_id, task.label)
        try:
            self._outbox.add(function, task)
        except BaseException:
            self.ledger.forget([task.msg_id])
            raise
        if self.closed:  # it closed between the check and now
            self._fail_outstanding()
        return made

    def check_open(self) -> None:
        """Raise HubError when nothing can be sent."""
        if self.closed:
            raise HubError(self.closed)
        if self._forked:
            raise HubError(_FORKED)

    def ask(self, question: str, timeout: float | None = _ANSWER_TIMEOUT, **about: Any) -> Any:
        """The hub's answer, plain data.  Any thread.

        Raises
        ------
        ValueError
            When the hub refuses the question.
        HubError
            When it does not answer.
        """
        return self.request(lambda number: m.Ask(number, question, about), timeout)

    def request(
        self,
        make: Callable[[int], m.FromClient],
        timeout: float | None = _ANSWER_TIMEOUT,
        on_answer: Callable[[Any], None] | None = None,
    ) -> Any:
        """Send the message made for a new request number and wait for its answer.

        `on_answer` is called with it in the thread that receives, before any later message.
        """
        self.check_open()
        number = next(self._requests)
        box: list[Any] = []

        def take(content: Any) -> None:
            if on_answer is not None:
                on_answer(content)
            box.append(content)

        message = make(number)
        self._answers[number] = take
        self._asked[number] = message
        try:
            self._outbox.say(message)
            self._receiver.wait(lambda: box or self.closed, timeout)
        finally:
            self._answers.pop(number, None)
            self._asked.pop(number, None)
        if not box:
            raise (
                HubError(self.closed)
                if self.closed
                else TimeoutError(f"the hub did not answer within {timeout} s")
            )
        content = box[0]
        if isinstance(content, HubError):
            raise content
        if isinstance(content, dict) and set(content) == {"error"}:
            raise ValueError(content["error"])
        return content

    def tell(self, message: m.FromClient) -> None:
        """Send something that has no answer.  Any thread."""
        self.check_open()
        self._outbox.say(message)

    # -- in: only who holds the receiver's token -------------------------------------------------

    def _take_in(self, there: bool) -> bool:
        """Apply the messages that are there; False when the hub said that it closes.

        `there`: one is, for sure.  When it leaves nothing outstanding, no other is looked for.
        """
        while messages := self._rx.take():
            for header, frames in messages:
                try:
                    self._apply(m.decode_from_hub(header), frames)
                except m.MALFORMED:
                    _log.exception("dropped a malformed message of the hub")
            if there and not self.ledger.has_outstanding():
                break
        if self._receiver.hub_gone and not self.closed:
            self.closed = f"the hub (pid {self.hub_pid}) {fate_of(self.hub_pid)}"
        if self.closed:
            self._fail_outstanding()
            return False
        self._confirming.look()
        return True

    def _take_early(self) -> None:
        """What came together with the hub's welcome."""
        early, self._early = self._early, ()
        for header, frames in early:
            self._apply(m.decode_from_hub(header), frames)

    def _look_around(self) -> tuple[float | None, Any]:
        """What the I/O thread does between messages; seconds until the next time, and what to wait
        for as well, until more can be sent."""
        waits = [self._outbox.flush_old(), self._confirming.look()]
        return min((wait for wait in waits if wait is not None), default=None), self._outbox.push()

    def _apply(self, message: m.FromHub, frames: Sequence[Any]) -> None:
        if isinstance(message, m.News):
            self._confirming.came()
            with self.ledger.batch() as batch:
                unpacked = self._arrays.unpack(frames) if frames else ()
                apply_news(batch, message, unpacked, self.engines, self._repeats)
        elif isinstance(message, m.Answer):
            take = self._answers.pop(message.request, None)
            if take is not None:
                take(message.content)
                self._receiver.notify()
        elif isinstance(message, m.EngineNews):
            self._apply_engine(message)
        elif isinstance(message, m.Safe):
            self._outbox.safe(message.number)
        elif isinstance(message, m.Notice):
            _log.warning("%s", message.text)
        elif isinstance(message, m.Segments):
            self._arrays.heed(message)
        elif isinstance(message, m.Closing):
            self.closed = message.reason

    def _apply_engine(self, news: m.EngineNews) -> None:
        if news.event == "gave_up":
            self.engines.pop(news.engine_id, None)
        else:
            # A replaced engine keeps its number: tasks for it wait until it is up.
            up = news.event != "replaced"
            self.engines[news.engine_id] = {**news.details, "up": up}
        if self._on_engine is not None:
            self._on_engine(news)
        self._receiver.notify()

    def _fail_outstanding(self, reason: str = "") -> None:
        # One for all: a result of many tasks raises just that.
        error = HubError(reason or self.closed)
        with self.ledger.batch() as batch:
            batch.finish_all(Status.LOST, lambda _: error)

    # -- the end ---------------------------------------------------------------------------------

    def wait(self, predicate: Callable[[], object], timeout: float | None) -> bool:
        """As ``ledger.waits.wait``, for things that are not in the ledger."""
        return self._receiver.wait(predicate, timeout)

    def close(self, reason: str = "the client was closed") -> None:
        """Say good-bye, end the I/O thread, resolve what is outstanding; idempotent."""
        if os.getpid() != self._pid:
            return  # a forked child: the sockets are not its own
        if not self.closed:
            self._confirming.look(now=True)
        if not self._outbox.close(None if self.closed else m.Goodbye()):
            return
        self.closed = self.closed or reason
        self._fail_outstanding()
        self._arrays.close()
        if self._receiver.close():
            self._rx.close(linger=0)


def _check_frames(frames: Sequence[Any]) -> None:
    """The hub cuts off who sends more, and nobody would hear of the task again."""
    for frame in frames:
        size = memoryview(getattr(frame, "buffer", frame)).nbytes
        if size > MAX_FRAME:
            raise SerializationError(
                f"an argument has a buffer of {size:,} bytes: over TCP at most {MAX_FRAME:,} travel"
            )
