"""What comes from an ipyparallel cluster about tasks that are under way."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from ipyasyncresult.backends.ipyparallel.hubdb import ReadsHub
from ipyasyncresult.backends.ipyparallel.translation import (
    delivery_of_call,
    delivery_of_cell,
    failed_delivery,
    output_of,
    translate,
)
from ipyasyncresult.core.ledger import Batch
from ipyasyncresult.errors import EngineError
from ipyasyncresult.worker.guest import Delivery

__all__ = ["Flight", "TakesReplies"]

_log = logging.getLogger(__name__)


class Flight:
    """A task that is under way, and what has come of it.

    ipyparallel's own thread calls :meth:`take_iopub`, :meth:`take_reply` and :meth:`take_idle`.
    """

    __slots__ = (
        "_client",
        "about",
        "engine",
        "idle",
        "is_cell",
        "msg_id",
        "replied",
        "reply",
        "shown",
        "started",
    )

    def __init__(self, client: TakesReplies, msg_id: str, is_cell: bool) -> None:
        self._client = client
        self.msg_id: str = msg_id
        self.is_cell: bool = is_cell
        self.engine: str | None = None
        self.started: float = 0.0
        self.reply: Any = None
        self.about: Mapping[str, Any] = {}  # what ipyparallel knows of the task
        self.replied: float = 0.0  # monotonic seconds; 0 before the reply is here
        self.idle: bool = False
        self.shown: Mapping[str, Any] | None = None  # the value of a cell

    def take_iopub(self, msg: Mapping[str, Any]) -> None:
        try:
            self._client._take_iopub(self, msg)
        except Exception:  # noqa: BLE001  ipyparallel would stop to listen
            _log.exception("a message about task %s could not be entered", self.msg_id)

    def take_reply(self, future: Any) -> None:
        try:
            self.reply = future.result()
        except BaseException as error:  # noqa: BLE001  a cancelled future, for one
            self.reply = error
        known = getattr(future, "output", None)
        if known is not None:
            self.about = known.metadata
        self.replied = time.monotonic()
        self._client._take_reply(self)

    def take_idle(self, _: Any) -> None:
        self.idle = True
        self._client._take_reply(self)


class TakesReplies(ReadsHub):
    """The part of an ipyparallel client that receives.

    What comes is entered at once, in ipyparallel's thread: another one would have to be woken for
    each event, and the two would take the interpreter from each other.
    """

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self._flights: dict[str, Flight] = {}

    def _take_iopub(self, flight: Flight, msg: Mapping[str, Any]) -> None:
        kind, content = msg["header"]["msg_type"], msg["content"]
        if kind == "status":
            if content["execution_state"] == "busy":
                engine = flight.engine = msg["metadata"].get("engine")
                when = flight.started = _seconds(msg["header"].get("date"))
                with self.ledger.batch() as batch:
                    batch.started(flight.msg_id, self.ipyparallel._engines.get(engine), when)
            return
        output = output_of(kind, content, _seconds(msg["header"].get("date")))
        if output is not None:
            if kind == "execute_result":
                flight.shown = content
            with self.ledger.batch() as batch:
                batch.output(flight.msg_id, [output])

    def _take_reply(self, flight: Flight) -> None:
        """The reply has come, or the *idle*: the last of the two ends the task."""
        if not flight.replied:
            return
        reply = flight.reply
        lost = translate(reply, flight.msg_id) if isinstance(reply, BaseException) else None
        if lost is None and not flight.idle:
            return
        with self.ledger.batch() as batch:
            self._end_flight(batch, flight, lost)

    def _end_flight(self, batch: Batch, flight: Flight, lost: BaseException | None) -> None:
        msg_id = flight.msg_id
        if self._flights.pop(msg_id, None) is None:
            return
        if lost is not None:
            self._lose(batch, msg_id, lost)
            return
        try:
            delivery = _delivery_of(flight)
        except Exception as error:  # noqa: BLE001  whatever it is, the result must come to its end
            self._lose(batch, msg_id, EngineError(f"the reply to {msg_id} cannot be read: {error}"))
            return
        engine = flight.about.get("engine_uuid") or flight.engine
        self._deliver(batch, msg_id, delivery, engine)

    def _deliver(self, batch: Batch, msg_id: str, delivery: Delivery, engine: str | None) -> None:
        number = self.ipyparallel._engines.get(engine)
        place = engine or "?"
        if number is not None:
            self._places[place] = number
        self._finish(batch, msg_id, delivery._replace(place=place))


def _delivery_of(flight: Flight) -> Delivery:
    reply = flight.reply
    failed = isinstance(reply, BaseException)
    if not failed and not flight.is_cell:
        return delivery_of_call(reply)
    began = flight.about.get("started")
    started, ended = _seconds(began) if began else flight.started, time.time()
    if failed:
        return failed_delivery(reply, started, ended)
    return delivery_of_cell(reply, flight.shown, started, ended)


def _seconds(when: Any) -> float:
    return when.timestamp() if hasattr(when, "timestamp") else time.time()
