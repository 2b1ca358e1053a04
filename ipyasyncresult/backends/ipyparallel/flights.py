"""What comes from an ipyparallel cluster about tasks that are under way."""

from __future__ import annotations

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
from ipyasyncresult.backends.news import NewsThread
from ipyasyncresult.core.ledger import Batch
from ipyasyncresult.core.outputs import Output
from ipyasyncresult.errors import EngineError
from ipyasyncresult.worker.guest import Delivery

__all__ = ["Flight", "TakesReplies"]


class Flight:
    """A task that is under way: what has come of it.  The thread of news only."""

    __slots__ = ("engine", "idle", "is_cell", "replied", "reply", "shown", "started")

    def __init__(self, is_cell: bool) -> None:
        self.is_cell: bool = is_cell
        self.engine: str | None = None
        self.started: float = 0.0
        self.reply: Any = None
        self.replied: float = 0.0  # monotonic seconds
        self.idle: bool = False
        self.shown: Mapping[str, Any] | None = None  # the value of a cell


class TakesReplies(ReadsHub):
    """The part of an ipyparallel client that receives."""

    _news: NewsThread

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self._flights: dict[str, Flight] = {}

    # -- ipyparallel's thread --------------------------------------------------------------------

    def _take_iopub(self, msg_id: str, msg: Mapping[str, Any]) -> None:
        kind, content = msg["header"]["msg_type"], msg["content"]
        when = _seconds(msg["header"].get("date"))
        engine = msg["metadata"].get("engine")
        if kind == "status":
            if content["execution_state"] == "busy":
                self._news.put(lambda batch: self._note_start(batch, msg_id, engine, when))
            return
        output = output_of(kind, content, when)
        if output is not None:
            shown = content if kind == "execute_result" else None
            self._news.put(lambda batch: self._note_output(batch, msg_id, output, shown))

    def _take_idle(self, msg_id: str) -> None:
        when = time.time()
        self._news.put(lambda batch: self._note_idle(batch, msg_id, when))

    def _take_reply(self, msg_id: str, future: Any) -> None:
        try:
            reply = future.result()
        except BaseException as error:  # noqa: BLE001  a cancelled future, for one
            reply = error
        known = getattr(future, "output", None)
        about = dict(known.metadata) if known is not None else {}
        self._news.put(lambda batch: self._note_reply(batch, msg_id, reply, about))

    # -- the thread of news ----------------------------------------------------------------------

    def _note_start(self, batch: Batch, msg_id: str, engine: str | None, when: float) -> None:
        flight = self._flights.get(msg_id)
        if flight is not None:
            flight.engine, flight.started = engine, when
            batch.started(msg_id, self.ipyparallel._engines.get(engine), when)

    def _note_idle(self, batch: Batch, msg_id: str, when: float) -> None:
        flight = self._flights.get(msg_id)
        if flight is not None:
            flight.idle = True
            self._end_flight(batch, msg_id, flight, when)

    def _note_output(
        self, batch: Batch, msg_id: str, output: Output, shown: Mapping[str, Any] | None
    ) -> None:
        flight = self._flights.get(msg_id)
        if flight is not None and shown is not None:
            flight.shown = shown
        batch.output(msg_id, [output])

    def _note_reply(self, batch: Batch, msg_id: str, reply: Any, about: Mapping[str, Any]) -> None:
        flight = self._flights.get(msg_id)
        if flight is None:
            return
        flight.reply = (reply, about)
        flight.replied = time.monotonic()
        ours = translate(reply, msg_id) if isinstance(reply, BaseException) else None
        if ours is not None:
            del self._flights[msg_id]
            self._lose(batch, msg_id, ours)
        else:
            self._end_flight(batch, msg_id, flight, time.time())

    def _end_flight(self, batch: Batch, msg_id: str, flight: Flight, when: float) -> None:
        if flight.reply is None or not flight.idle:
            return
        del self._flights[msg_id]
        reply, about = flight.reply
        started = _seconds(about.get("started")) if about.get("started") else flight.started
        try:
            if isinstance(reply, BaseException):
                delivery = failed_delivery(reply, started)
            elif flight.is_cell:
                delivery = delivery_of_cell(reply, flight.shown, started)
            else:
                delivery = delivery_of_call(reply)
        except Exception as error:  # noqa: BLE001  whatever it is, the result must come to its end
            self._lose(batch, msg_id, EngineError(f"the reply to {msg_id} cannot be read: {error}"))
            return
        if not delivery.place:
            delivery = delivery._replace(duration=max(0.0, when - started))
        self._deliver(batch, msg_id, delivery, about.get("engine_uuid") or flight.engine)

    def _deliver(self, batch: Batch, msg_id: str, delivery: Delivery, engine: str | None) -> None:
        number = self.ipyparallel._engines.get(engine)
        place = engine or "?"
        if number is not None:
            self._places[place] = number
        self._finish(batch, msg_id, delivery._replace(place=place))


def _seconds(when: Any) -> float:
    return when.timestamp() if hasattr(when, "timestamp") else time.time()
