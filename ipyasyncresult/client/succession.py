"""The hub of a persistent cluster died: go on with the one that takes its place.

All on the I/O thread, with the receiver's token.  Other threads submit and wait meanwhile; what
they submit is kept by the outbox.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ipyasyncresult.client.confirming import Confirming
from ipyasyncresult.client.hubs import fate_of, introduce, next_hub
from ipyasyncresult.client.news import Repeats
from ipyasyncresult.client.outbox import Outbox
from ipyasyncresult.client.receiving import Receiver
from ipyasyncresult.core.ledger import Ledger
from ipyasyncresult.core.task import Status
from ipyasyncresult.errors import HubError
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.buffers import Buffers
from ipyasyncresult.wire.runtime import is_alive
from ipyasyncresult.wire.sharedfolder import find_arrays_folder
from ipyasyncresult.wire.sockets import Line
from ipyasyncresult.wire.transport import connect_to_hub

__all__ = ["Succession"]

_log = logging.getLogger(__name__)

_REVIVAL = 5.0
"""Seconds that another hub may take to come after one died."""
_LONG = 1.0
"""Seconds after which people are told what is waited for."""
_LOOK = 0.02
"""Seconds between two looks for it."""
_DOUBT = 2.0
"""Seconds after which a task that the new hub has not heard of is lost."""


class Succession:
    """The part of a connection that survives its hub."""

    folder: Path
    hub_pid: int
    session: str
    engines: dict[int, dict[str, Any]]
    ledger: Ledger
    _arrays: Buffers
    _repeats: Repeats | None
    _answers: dict[int, Callable[[Any], None]]
    _asked: dict[int, m.FromClient]
    _confirming: Confirming
    _outbox: Outbox
    _receiver: Receiver
    _requests: itertools.count[int]
    _over_tcp: bool
    _rx: Line
    _early: Sequence[tuple[bytes, Sequence[Any]]]
    _sockets: itertools.count[int]

    def _fail_outstanding(self, reason: str = "") -> None:
        raise NotImplementedError

    def _take_early(self) -> None:
        raise NotImplementedError

    def _open(self, hub_pid: int) -> tuple[Line, Line, m.Welcome]:
        """Lines to receive and to send, and the hub's answer to the introduction."""
        # A number behind the name: a hub may still know lines that are closed here.
        name = f"{self.session}{next(self._sockets)}".encode()
        # The sending one first: who is welcome is heard, and what it says is no later than what
        # others say when it has left.
        with contextlib.ExitStack() as opened:
            tx = self._connect(b"S" + name, hub_pid)
            opened.callback(tx.close)
            rx = self._connect(b"C" + name, hub_pid)
            opened.callback(rx.close)
            self._over_tcp = rx.over_tcp
            welcome, self._early = introduce(rx, self.session, hub_pid)
            opened.pop_all()
        return rx, tx, welcome

    def _connect(self, identity: bytes, hub_pid: int) -> Line:
        try:
            return connect_to_hub(self.folder, "clients", identity, lambda: is_alive(hub_pid))
        except ConnectionRefusedError as error:
            state = "does not listen" if is_alive(hub_pid) else "is dead"
            raise HubError(f"the hub (pid {hub_pid}) {state}") from error

    def _revive(self) -> bool:
        """The hub of a persistent cluster died: go on with the next one; False if there is none."""
        died = self.hub_pid
        self._outbox.detach()
        began = time.monotonic()
        told = False
        while not self._receiver.closing and (waited := time.monotonic() - began) < _REVIVAL:
            if waited > _LONG and not told:
                told = True
                _log.warning(
                    "the hub (pid %d) %s; another one may follow, which is waited for %g s",
                    *(died, fate_of(died), _REVIVAL),
                )
            described = next_hub(self.folder)
            if described is None:
                return False
            if described.pid != died:
                with contextlib.suppress(HubError):  # it died, too: wait for the one after it
                    self._join(described.pid, died)
                    return True
            time.sleep(_LOOK)
        return False

    def _join(self, hub_pid: int, died: int) -> None:
        rx, tx, welcome = self._open(hub_pid)
        self._receiver.renew(rx, hub_pid)
        self._rx.close(linger=0)
        self._rx, self.hub_pid = rx, hub_pid
        self.engines = welcome.engines
        self._confirming.start_again()
        arrays = find_arrays_folder(self.folder)
        self._outbox.attach(tx, None if self._arrays.is_in(arrays) else self._arrays.spell_out)
        self._arrays.move(arrays)
        _log.warning("the hub (pid %d) died; another one (pid %d) goes on", died, hub_pid)
        self._take_early()
        self._ask_again()

    def _ask_again(self) -> None:
        """Everything that the last hub would have sent."""
        for number, message in list(self._asked.items()):
            if isinstance(message, m.Interrupt) or (
                isinstance(message, m.Ask) and message.question == "add_engines"
            ):  # it may have been done: twice is not what was wanted
                self._answers.get(number, _ignore)(HubError("the hub died before it answered"))
            else:
                self._outbox.say(message)
        if not self._outbox.keep:
            self._fail_outstanding("the hub died, and it kept results in memory only")
            return
        pending = self.ledger.unfinished()
        self._repeats = Repeats(pending)
        self._subscribe([record.msg_id for record in pending], patient=True)

    def _subscribe(self, msg_ids: list[str], *, patient: bool) -> None:
        if not msg_ids:
            return
        number = next(self._requests)
        self._answers[number] = lambda described: self._resubscribed(msg_ids, described, patient)
        self._outbox.say(m.Ask(number, "subscribe", {"msg_ids": msg_ids, "anew": True}))

    def _resubscribed(self, msg_ids: list[str], described: Any, patient: bool) -> None:
        if self._repeats is not None:
            self._repeats.awaited.clear()
        unknown = [i for i, about in zip(msg_ids, described, strict=True) if about is None]
        if not unknown:
            return
        if patient:  # a thread may be about to submit some of them
            timer = threading.Timer(_DOUBT, self._subscribe, (unknown,), {"patient": False})
            timer.daemon = True
            timer.start()
            return
        with self.ledger.batch() as batch:
            for msg_id in unknown:
                error = HubError(f"the hub died before it had stored task {msg_id}")
                batch.finish(msg_id, Status.LOST, error=error)


def _ignore(_answer: object) -> None:
    """Nobody waits for it any more."""
