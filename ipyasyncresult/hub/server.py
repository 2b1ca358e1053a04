"""The hub's sockets and clock around :class:`~ipyasyncresult.hub.state.HubState`.

One thread, one loop: wait for messages, hand them to the state, carry out what it decided.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ipyasyncresult._version import __version__
from ipyasyncresult.hub.arrays import ArraysKeeper
from ipyasyncresult.hub.clients import ClientLine
from ipyasyncresult.hub.doors import open_doors
from ipyasyncresult.hub.durability import Durability
from ipyasyncresult.hub.engines import EngineKeeper
from ipyasyncresult.hub.journal import STREAM, SUBMIT, engine_name
from ipyasyncresult.hub.nanny import Nanny
from ipyasyncresult.hub.questions import Questions
from ipyasyncresult.hub.records import EngineState, HubTask, run_message
from ipyasyncresult.hub.settings import HubSettings
from ipyasyncresult.hub.sources import Sources
from ipyasyncresult.hub.state import HubState
from ipyasyncresult.hub.watching import Watching
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.runtime import (
    ClusterFile,
    process_start,
    remove_folder,
    write_cluster_file,
)
from ipyasyncresult.wire.sharedfolder import find_arrays_folder
from ipyasyncresult.wire.sockets import Door
from ipyasyncresult.wire.versions import python_version

__all__ = ["HubServer"]

_log = logging.getLogger(__name__)

_TICK = 0.5
"""Seconds between two looks at the clock and at the owner."""
_ADOPTING = 0.01
"""Seconds between two tries to reach the engines of the last hub."""
_LOOKS = 64
"""Times that one door is looked at before the other one gets its turn."""


class HubServer:
    """The hub of one cluster.

    Parameters
    ----------
    settings : HubSettings
    folder : Path
        The cluster's private folder; removed at the end.
    nanny : Nanny
        Started already.

    Raises
    ------
    StoreError
        When the store cannot be used.
    """

    def __init__(self, settings: HubSettings, folder: Path, nanny: Nanny) -> None:
        self.settings = settings
        self.folder = folder
        self.durability = Durability(settings, find_arrays_folder(folder))
        self.journal = self.durability.journal
        self.state = HubState(self.durability.archive)
        self._dropped = 0  # malformed messages
        self.started = time.time()
        self._running = True
        self._owner = os.getppid()
        self._clients, self._engines, self.gate = open_doors(settings, folder)
        self.clients = ClientLine(self._clients, settings, self.state, self.journal)
        self.keeper = EngineKeeper(self.state, settings, nanny, self.clients.tell)
        self.durability.take_over(self.state, self.keeper, nanny)
        self.watching = Watching(self)
        self.clients.saw = self.watching.saw
        self.questions = Questions(self)
        self._by_identity: dict[bytes, EngineState] = self.keeper.by_identity
        self.arrays = ArraysKeeper(self)
        wakes = [] if self.durability.store is None else [self.durability.store.wake]
        # Engines first: who hears of a death, or asks, has heard of the results before it.
        self._sources = Sources(
            self._engines.handle, self._clients.handle, *self.gate.handles(), *wakes
        )

    # -- the loop --------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until told to stop or until the owner is gone."""
        self.keeper.start()
        sources, keeper = self._sources, self.keeper
        engines, clients = self._engines.handle, self._clients.handle
        now = time.monotonic()
        next_tick = now + _TICK
        while self._running:
            if keeper.nanny.line is not sources.line:  # the first, or one after a death
                if sources.line is not None:
                    write_cluster_file(self.folder, self.cluster_file())
                sources.follow(keeper.nanny.line)
            ready = sources.poll(self._patience(next_tick - now, now))
            special = False
            for source, _ in ready:
                if source == engines:
                    self._drain(self._engines, self._from_engine)
                elif source == clients:
                    self._drain(self._clients, self._from_client)
                else:
                    special = True
            now = time.monotonic()
            if special:
                self._take_special([source for source, _ in ready], now)
            if keeper.verdicts or keeper.signaller.has_open:
                keeper.settle(now)
            self._carry_out()
            if self.watching.watchers:
                self.watching.settle(now)
            if now >= next_tick:
                self._tick(now)
                next_tick = now + _TICK
        self._close()

    def _patience(self, wait: float, now: float) -> int:
        """Milliseconds that the poll may take."""
        # Nearly always there is nothing of this; a task comes by here twice.
        keeper = self.keeper
        if keeper.verdicts or keeper.signaller.has_open or self.watching.watchers:
            wait = min(wait, keeper.next_event() - now, self.watching.next_event(now) - now)
        if self.durability.taking_over:
            wait = min(wait, _ADOPTING)
            self.durability.adopt(now, self.send_to_engine)
        return max(0, int(wait * 1000) + 1)

    def _take_special(self, ready: list[Any], now: float) -> None:
        """What is not about a task."""
        self.gate.take_in()
        if self._sources.watched in ready:
            # Results that the dead engine sent are in the socket already, or come within the
            # keeper's grace.
            self.keeper.take_notices(now)
        if self.durability.store is not None and self.durability.store.wake in ready:
            self.durability.tell(self.clients, self._by_identity, self.send_to_engine)

    def stop(self) -> None:
        """End the loop after this turn."""
        self._running = False

    def _drain(self, door: Door, handle: Callable[[bytes, bytes, Sequence[Any]], None]) -> None:
        """Take in what is there."""
        for _ in range(_LOOKS):
            for identity, header, frames in door.take():
                try:
                    handle(identity, header, frames)
                except (*m.MALFORMED, IndexError, KeyError) as error:
                    self._dropped += 1
                    if self._dropped < 10:
                        _log.warning("dropped a malformed message: %r", error)
            if door.quiet or not self.keeper.verdicts:
                return  # else no verdict before all is read that an engine sent

    def _tick(self, now: float) -> None:
        self.arrays.tick(now)
        self.durability.adopt(now, self.send_to_engine)
        if not self.settings.persist and os.getppid() != self._owner:
            _log.info("the owner is gone")
            self.stop()
        self.clients.look(now)
        self.durability.tick(self.clients)
        if self.settings.idle is not None and now - self.clients.busy > self.settings.idle:
            _log.info("idle for %g s", self.settings.idle)
            self.stop()

    # -- messages in -----------------------------------------------------------------------------

    def _from_engine(self, identity: bytes, header: bytes, frames: Sequence[Any]) -> None:
        engine = self._by_identity.get(identity)
        if engine is None:
            self._dropped += 1
            return
        message = m.decode_from_engine(header)
        if isinstance(message, m.Register):
            self.keeper.registered(engine, message)
            return
        if not engine.ready:
            return  # meant for the last hub; it comes again after the registration
        journal = self.journal
        if journal is not None and not journal.begin(
            STREAM, engine_name(engine), message.number, header, frames
        ):
            engine.finished += sum(type(item) is m.Finished for item in message.items)
            return
        position, state = 0, self.state
        for item in message.items:
            if type(item) is m.Finished:
                count = item.frames
                mine = frames[position : position + count] if count else ()
                position += count
                state.finished(engine, item, mine)
            elif type(item) is m.OutputPiece:
                state.output(engine, item)
            elif type(item) is m.Started:
                state.started(engine, item)
            elif type(item) is m.Released:
                self.arrays.released_by_engine(engine, item)
            elif type(item) is m.Returned:
                state.returned(engine, item)
            elif type(item) is m.EngineReply:
                self.questions.relay(engine, item)
        if journal is not None:
            journal.end()

    def _from_client(self, identity: bytes, header: bytes, frames: Sequence[Any]) -> None:
        message = m.decode_from_client(header)
        session = self.clients.speakers.get(identity)
        if isinstance(message, m.Hello):
            self.clients.hello(identity, message)
        elif session is None:
            self._dropped += 1
        elif isinstance(message, m.Submit):
            self._submit(session, message, header, frames)
        elif isinstance(message, m.Abort):
            self.state.abort(session, message.request, message.msg_ids)
        elif isinstance(message, m.Interrupt):
            self.keeper.signaller.interrupt(session, message)
        elif isinstance(message, m.Released):
            self.arrays.segments.give_back(session, message.segments)
        elif isinstance(message, m.Ask):
            self.questions.answer(session, message)
        elif isinstance(message, m.Received):
            if self.journal is not None:
                self.journal.confirmed(session, message.number)
        elif isinstance(message, m.Shutdown):
            self.stop()
        else:
            self.clients.gone(session)

    def _submit(
        self, session: str, message: m.Submit, header: bytes, frames: Sequence[Any]
    ) -> None:
        journal = self.journal
        if journal is not None and not journal.begin(
            SUBMIT, session, message.number, header, frames
        ):
            return
        self.state.submit(
            session, message.functions, message.tasks, frames, message.group, time.time()
        )
        if journal is not None:
            journal.end()
        if self.keeper.gave_up:
            self.keeper.fail_waiting()

    # -- decisions out ---------------------------------------------------------------------------

    def _carry_out(self) -> None:
        state = self.state
        if not self.durability.holds_back:
            state.scheduler.assign()
        if self.journal is not None:
            self.journal.release_arrays()
        self.arrays.carry_out()  # first: who is sent work, or asked, may use it
        for engine, batch in state.runs:
            self._send_run(engine, batch)
        state.runs.clear()
        for engine, msg_ids in state.recalls:
            self.send_to_engine(engine, m.encode(m.Recall(msg_ids)))
        state.recalls.clear()
        if state.news:
            self.clients.send_news()
        if state.answers:
            for session, answer in state.answers:
                self.clients.send(session, answer)
            state.answers.clear()
        if self.journal is not None:
            self.journal.end_of_turn()

    def _send_run(self, engine: EngineState, batch: list[HubTask]) -> None:
        if self.journal is not None:
            self.journal.assigned(engine, batch)
        header, frames = run_message(batch)
        if frames:
            self.state.archive.segments.lend(engine.uuid, frames)
        self.send_to_engine(engine, header, frames)

    def send_to_engine(
        self, engine: EngineState, header: bytes, frames: Sequence[Any] = ()
    ) -> bool:
        """Send to an engine; when it is gone (False), the nursery tells what happened to it."""
        return self._engines.send(engine.identity, header, frames)

    # -- the end ---------------------------------------------------------------------------------

    def _close(self) -> None:
        """Tell everybody, end the engines, remove the files."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for engine in self.state.engines.values():
            self.send_to_engine(engine, m.encode(m.Stop()))
        self.clients.tell(m.Closing("the cluster was stopped"))
        self.keeper.close()
        self._clients.close(linger=500)
        self._engines.close(linger=0)
        self.gate.close()
        self.durability.close()
        remove_folder(self.folder)

    def send_now(self, session: str, message: Any) -> None:
        """Send what must leave before the news of this turn, after the news of the turn so far."""
        self.clients.send_news()
        self.clients.send(session, message)

    @property
    def dropped(self) -> int:
        """How many messages were malformed, or of nobody who is known."""
        return self._dropped + self._clients.malformed + self._engines.malformed

    def cluster_file(self) -> ClusterFile:
        """What clients need to find this cluster."""
        return _describe(self)


def _describe(server: HubServer) -> ClusterFile:
    return ClusterFile(
        cluster_id=server.settings.cluster_id,
        pid=os.getpid(),
        started=server.started,
        package=__version__,
        python=python_version(),
        persist=server.settings.persist,
        pid_start=process_start(os.getpid()) or 0,
        nursery=server.keeper.nanny.pid if server.settings.persist else 0,
        nursery_start=process_start(server.keeper.nanny.pid) or 0,
    )
