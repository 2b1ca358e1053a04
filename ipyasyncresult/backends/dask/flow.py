"""What comes from Dask: futures that end, results, live outputs, workers that leave."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from ipyasyncresult.backends.dask.errors import CLOSED, closed_client, translate
from ipyasyncresult.backends.dask.kept import KeepsResults
from ipyasyncresult.backends.dask.worker import ENDED, Parcel
from ipyasyncresult.backends.news import NewsThread
from ipyasyncresult.core.ledger import Batch
from ipyasyncresult.core.outputs import decode_outputs
from ipyasyncresult.errors import EngineError
from ipyasyncresult.worker.live import STARTED

__all__ = ["TakesDeliveries"]

_LOOK = 0.5
"""Seconds between two looks at scheduler and workers, while something is outstanding."""
_SOON = 0.01
"""Seconds until an event is looked at again that came before its task was entered."""
_MOMENT = 0.01
"""Seconds between two times that the other thread is woken, while most tasks have not finished."""
_PATIENCE = 0.25
"""Seconds for which finished results wait for those that are being gathered."""
_PACE = 0.1
"""Seconds between the beginnings of two gathers, as long as most tasks have not finished: what ends
meanwhile comes together.  A gather costs scheduler and workers as much as some tasks do."""


class TakesDeliveries(KeepsResults):
    """The part of a Dask client that receives.

    Dask's event loop watches futures and gathers; a thread of our own enters what comes into the
    ledger, and runs callbacks, which may ask Dask again.
    """

    def __init__(self, dask: Any, keep: int) -> None:
        super().__init__(dask, keep)
        self._shown: dict[str, int] = {}  # pieces of output that came live
        self._aims: dict[str, str] = {}  # addresses that unfinished tasks must run at
        self._threads: dict[str, int] = {}  # worker addresses and their threads, as last seen
        self._news = NewsThread(self.ledger, self._look_around, _LOOK, "ipyasyncresult-dask")
        # The following belong to Dask's event loop.
        self._arrived: list[tuple[str, bytes | Parcel]] = []  # results of which nobody knows yet
        self._handing_over: asyncio.TimerHandle | None = None  # due
        self._handed_over = 0.0  # when that was done last, by the loop's clock
        self._watched: set[str] = set()  # keys of futures whose end is waited for, or fetched
        self._finished: list[Any] = []  # futures to gather
        self._gathering = False
        self._pause: asyncio.TimerHandle | asyncio.Handle | None = None  # before the next gather
        self._gathered = 0.0  # when the last gather began, by the loop's clock

    def _look_at_workers(self) -> None:
        raise NotImplementedError

    # -- in Dask's event loop --------------------------------------------------------------------

    def _watch_futures(self, futures: list[Any]) -> None:
        self.dask.loop.add_callback(self._watch, futures)

    def _listen_to(self, sessions: set[str]) -> None:
        for session in sessions:
            self.dask.subscribe_topic(session, self._take_event)

    def _watch(self, futures: list[Any]) -> None:
        for future in futures:
            if future.key not in self._watched:
                self._watched.add(future.key)
                asyncio.ensure_future(self._watch_one(future))  # noqa: RUF006  the loop holds waiters

    async def _watch_one(self, future: Any) -> None:
        try:
            await future.exception()
            if future.status == "finished":
                self._finished.append(future)
                self._gather_soon()
                return
            await future.result()
            error: BaseException = EngineError(f"Dask calls its state {future.status!r}")
        except (asyncio.CancelledError, Exception) as caught:  # noqa: BLE001  Dask's or its loop's
            # Its frames hold the future, which Dask would go on asking the scheduler for.
            error = caught.with_traceback(None)
        self._news.put(lambda batch: self._take_losses(batch, [future.key], error))

    def _gather_soon(self) -> None:
        """Gather at once if that is half of all, or if the last gather was long ago."""
        loop = asyncio.get_running_loop()
        is_half = 2 * len(self._finished) >= len(self._futures)
        if not self._gathering:
            self._gathering = True
            due = 0.0 if is_half else self._gathered + _PACE
            self._pause = loop.call_at(max(loop.time(), due), self._gather_next)
        elif is_half and self._pause is not None:
            self._pause.cancel()
            self._pause = loop.call_soon(self._gather_next)

    def _gather_next(self) -> None:
        """Gather what has finished since the last time; while that is under way, more finishes,
        and is gathered together."""
        loop = asyncio.get_running_loop()
        self._pause = None
        futures, self._finished = self._finished, []
        self._gathered = loop.time()
        gathered = asyncio.ensure_future(self._gather(futures))
        # One that takes long (its data is computed again) must not hold the others up.
        waited = asyncio.ensure_future(asyncio.wait({gathered}, timeout=_PATIENCE))
        waited.add_done_callback(lambda _: self._gather_again())

    def _gather_again(self) -> None:
        self._gathering = False
        if self._finished:
            self._gather_soon()

    async def _gather(self, futures: list[Any]) -> None:
        by_key = {future.key: future for future in futures}
        try:
            found = await self.dask.gather(by_key, errors="skip")
        except (asyncio.CancelledError, Exception) as error:  # noqa: BLE001
            lost = error
            self._news.put(lambda batch: self._take_losses(batch, list(by_key), lost))
            return
        # What was lost between its end and now is computed again, or has failed.
        for key, future in by_key.items():
            if found.get(key) is None:
                asyncio.ensure_future(self._watch_one(future))  # noqa: RUF006
        arrived = [(key, value) for key, value in found.items() if value is not None]
        self._news.put(lambda batch: self._take_results(batch, arrived))

    def _take_event(self, event: tuple[float, Any]) -> None:
        msg_id, number, piece, address = event[1]
        if number != ENDED:
            self._news.put(lambda batch: self._take_piece(batch, msg_id, number, piece, address))
        elif piece is not None:
            self._arrived.append((msg_id, piece))
            self._hand_over_soon()
        elif msg_id in self._futures:
            self._watch([self._futures[msg_id]])
        elif msg_id in self._entries:  # its future has not been entered yet
            asyncio.get_running_loop().call_later(_SOON, self._take_event, event)

    def _hand_over_soon(self) -> None:
        """Wake the other thread at once; if many are outstanding, a moment after the last time."""
        loop = asyncio.get_running_loop()
        due = 0.0 if 8 * len(self._arrived) >= len(self._futures) else self._handed_over + _MOMENT
        if due <= loop.time():
            self._hand_over()
        elif self._handing_over is None:
            self._handing_over = loop.call_at(due, self._hand_over)

    def _hand_over(self) -> None:
        if self._handing_over is not None:
            self._handing_over.cancel()
            self._handing_over = None
        self._handed_over = asyncio.get_running_loop().time()
        arrived, self._arrived = self._arrived, []
        self._news.put(lambda batch: self._take_results(batch, arrived))

    # -- in the thread of our own ----------------------------------------------------------------

    def _take_results(self, batch: Batch, arrived: list[tuple[str, bytes | Parcel]]) -> None:
        for msg_id, sent in arrived:
            self._finish(batch, msg_id, Parcel.unpack(sent), self._shown.get(msg_id, 0))
            self._let_go(msg_id)

    def _take_piece(self, batch: Batch, msg_id: str, number: int, piece: Any, address: str) -> None:
        if number == STARTED:
            batch.started(msg_id, self._engine_at(address), piece)
        elif number == self._shown.get(msg_id, 0) and msg_id in self._futures:
            self._shown[msg_id] = number + 1
            batch.output(msg_id, decode_outputs(piece))

    def _take_losses(self, batch: Batch, msg_ids: list[str], error: BaseException) -> None:
        closed = self.dask.status in CLOSED  # then Dask gives no reason
        for msg_id in msg_ids:
            lost = closed_client(error, msg_id) if closed else translate(error, msg_id)
            self._lose(batch, msg_id, lost)
            self._let_go(msg_id)

    def _let_go(self, msg_id: str) -> None:
        self._futures.pop(msg_id, None)
        self._aims.pop(msg_id, None)
        self._shown.pop(msg_id, None)
        self._watched.discard(msg_id)

    def _look_around(self) -> None:
        """Nobody else tells of a closed client, or of a task whose worker will not come back."""
        if self.dask.status in CLOSED:
            self._end("the Dask client was closed")
            return
        if not self._futures:
            return
        ended = [
            future
            for future in list(self._futures.values())
            if future.status != "pending" and future.key not in self._watched
        ]
        if ended:  # lost, or nobody said so; seen to after the news that are here already
            self._news.put(lambda batch: self._look_closer(batch, ended))
            return
        if self.dask.status != "running":  # it would only answer when it has connected again
            return
        try:
            self._look_at_workers()
        except Exception:  # noqa: BLE001  no answer: Dask tries to connect again, and gives up in time
            return
        missing = {i: a for i, a in list(self._aims.items()) if a not in self._threads}
        if missing:
            self._lose_missing(missing)

    def _look_closer(self, batch: Batch, ended: list[Any]) -> None:
        late = []
        for future in ended:
            if batch.get(future.key) is not None:
                late.append(future)
            else:  # its result came before its future was entered
                self._let_go(future.key)
        self._watch_futures(late)

    def _lose_missing(self, missing: dict[str, str]) -> None:
        with self.ledger.batch() as batch:
            for msg_id, address in missing.items():
                self._lose(batch, msg_id, EngineError(f"worker {address} left under task {msg_id}"))
        futures = [self._futures[msg_id] for msg_id in missing if msg_id in self._futures]
        for msg_id in missing:
            self._let_go(msg_id)
        with contextlib.suppress(Exception):
            self.dask.cancel(futures, force=True)
