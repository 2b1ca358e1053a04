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

import zmq

from ipyasyncresult._version import __version__
from ipyasyncresult.hub.archive import Archive
from ipyasyncresult.hub.arrays import ArraysKeeper
from ipyasyncresult.hub.engines import EngineKeeper
from ipyasyncresult.hub.nanny import Nanny
from ipyasyncresult.hub.questions import Questions
from ipyasyncresult.hub.records import EngineState, HubTask
from ipyasyncresult.hub.settings import HubSettings
from ipyasyncresult.hub.state import HubState
from ipyasyncresult.hub.watching import Watching
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.runtime import ClusterFile, process_start, remove_folder, socket_url
from ipyasyncresult.wire.sockets import make_socket, receive_from, send_to, waiting
from ipyasyncresult.wire.versions import python_version, refusal

__all__ = ["HubServer"]

_log = logging.getLogger(__name__)

_TICK = 0.5
"""Seconds between two looks at the clock and at the owner."""
_MESSAGES_PER_TURN = 64
"""Messages taken from one socket before the other one gets its turn."""


class HubServer:
    """The hub of one cluster.

    Parameters
    ----------
    settings : HubSettings
    folder : Path
        The cluster's private folder; removed at the end.
    nanny : Nanny
        Started already.
    """

    def __init__(self, settings: HubSettings, folder: Path, nanny: Nanny) -> None:
        self.settings = settings
        self.folder = folder
        self.state = HubState(Archive(settings.archive_bytes))
        self.dropped = 0  # malformed messages
        self.sessions: dict[str, int] = {}  # session -> pid of the client
        self.started = time.time()
        self._running = True
        self._owner = os.getppid()
        self._context: zmq.Context[Any] = zmq.Context()
        self._clients = make_socket(self._context, zmq.ROUTER)
        self._engines = make_socket(self._context, zmq.ROUTER)
        self._clients.bind(socket_url(folder, "clients"))
        self._engines.bind(socket_url(folder, "engines"))
        self.keeper = EngineKeeper(self.state, settings, nanny, self._tell_engine_news)
        self.watching = Watching(self)
        self.questions = Questions(self)
        self._by_identity: dict[bytes, EngineState] = self.keeper.by_identity
        self.arrays = ArraysKeeper(self)

    # -- the loop --------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until told to stop or until the owner is gone."""
        self.keeper.start()
        poller = zmq.Poller()
        poller.register(self._clients, zmq.POLLIN)
        poller.register(self._engines, zmq.POLLIN)
        watched = -1
        next_tick = time.monotonic() + _TICK
        while self._running:
            if self.keeper.nanny.fileno() != watched:  # the first one, or a new one after its death
                if watched >= 0:
                    poller.unregister(watched)
                watched = self.keeper.nanny.fileno()
                poller.register(watched, zmq.POLLIN)
            now = time.monotonic()
            if now >= next_tick:
                self._tick(now)
                next_tick = now + _TICK
            wait = min(next_tick, self.keeper.next_event(), self.watching.next_event(now)) - now
            ready = dict(poller.poll(max(0, int(wait * 1000) + 1)))
            if self._engines in ready:
                self._drain(self._engines, self._from_engine)
            if self._clients in ready:
                self._drain(self._clients, self._from_client)
            if watched in ready:
                # Results that the dead engine sent are in the socket already, or come within
                # the keeper's grace.
                self.keeper.take_notices(time.monotonic())
            self.keeper.settle(time.monotonic())
            self._carry_out()
            self.watching.settle(time.monotonic())
        self._close()

    def stop(self) -> None:
        """End the loop after this turn."""
        self._running = False

    def _drain(self, socket: Any, handle: Callable[[bytes, bytes, list[Any]], None]) -> None:
        for _ in range(_MESSAGES_PER_TURN):
            if not waiting(socket):
                return
            try:
                handle(*receive_from(socket))
            except (*m.MALFORMED, IndexError, KeyError) as error:
                self.dropped += 1
                if self.dropped < 10:
                    _log.warning("dropped a malformed message: %r", error)

    def _tick(self, now: float) -> None:
        self.arrays.tick(now)
        if not self.settings.persist and os.getppid() != self._owner:
            _log.info("the owner is gone")
            self.stop()

    # -- messages in -----------------------------------------------------------------------------

    def _from_engine(self, identity: bytes, header: bytes, frames: list[Any]) -> None:
        engine = self._by_identity.get(identity)
        if engine is None:
            self.dropped += 1
            return
        message = m.decode_from_engine(header)
        if isinstance(message, m.Register):
            self.keeper.registered(engine, message)
            return
        position = 0
        state = self.state
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
            else:
                self._relay(engine, item)

    def _relay(self, engine: EngineState, reply: m.EngineReply) -> None:
        if (reply.session, reply.request) in engine.asked:
            engine.asked.discard((reply.session, reply.request))
            self.state.answers.append((reply.session, m.Answer(reply.request, reply.content)))

    def _from_client(self, identity: bytes, header: bytes, frames: list[Any]) -> None:
        session = identity[1:].decode()
        message = m.decode_from_client(header)
        if isinstance(message, m.Hello):
            self._hello(identity, session, message)
        elif session not in self.sessions:
            self.dropped += 1
        elif isinstance(message, m.Submit):
            state = self.state
            state.submit(
                session, message.functions, message.tasks, frames, message.group, time.time()
            )
            if self.keeper.gave_up:
                self.keeper.fail_waiting()
        elif isinstance(message, m.Abort):
            self.state.abort(session, message.request, message.msg_ids)
        elif isinstance(message, m.Interrupt):
            self.keeper.signaller.interrupt(session, message)
        elif isinstance(message, m.Released):
            self.arrays.segments.give_back(session, message.segments)
        elif isinstance(message, m.Ask):
            self.questions.answer(session, message)
        elif isinstance(message, m.Shutdown):
            self.stop()
        else:
            self.sessions.pop(session, None)
            self.state.session_gone(session)

    def _hello(self, identity: bytes, session: str, hello: m.Hello) -> None:
        reason = refusal(hello, force=self.settings.force_versions)
        if reason is not None:
            self._send(session, m.Refused(reason))
            return
        self.sessions[session] = hello.pid
        engines = {i: engine.describe() for i, engine in self.state.engines.items()}
        self._send(session, m.Welcome(self.settings.cluster_id, os.getpid(), engines))

    # -- decisions out ---------------------------------------------------------------------------

    def _carry_out(self) -> None:
        state = self.state
        state.assign()
        self.arrays.carry_out()  # first: who is sent work, or asked, may use it
        for engine, batch in state.runs:
            self._send_run(engine, batch)
        state.runs.clear()
        for engine, msg_ids in state.recalls:
            self.send_to_engine(engine, m.encode(m.Recall(msg_ids)))
        state.recalls.clear()
        if state.news:
            self._send_news()
        if state.answers:
            for session, answer in state.answers:
                self._send(session, answer)
            state.answers.clear()

    def _send_run(self, engine: EngineState, batch: list[HubTask]) -> None:
        functions: dict[bytes, int] = {}
        tasks = []
        frames: list[Any] = []
        for held in batch:
            task = held.task
            task.function = functions.setdefault(held.function, len(functions))
            tasks.append(task)
            if held.frames:
                frames.extend(held.frames)
        self.arrays.segments.lend(engine.uuid, frames)
        header = m.encode(m.Run(list(functions), tasks))
        self.send_to_engine(engine, header, frames)

    def send_to_engine(
        self, engine: EngineState, header: bytes, frames: Sequence[Any] = ()
    ) -> None:
        """Send to an engine; when it is gone, the nursery tells what happened to it."""
        try:
            send_to(self._engines, engine.identity, header, frames)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise

    def _send_news(self) -> None:
        news = self.state.news
        self.state.news = {}
        self.watching.saw(news)
        for session, entries in news.items():
            if session not in self.sessions:
                continue  # it went away: the archive has it
            items = [item for item, _ in entries]
            frames = [frame for _, some in entries for frame in some]
            self.arrays.segments.lend(session, frames)
            self._send(session, m.News(items), frames)

    def _send(self, session: str, message: Any, frames: Sequence[Any] = ()) -> None:
        try:
            send_to(self._clients, b"C" + session.encode(), m.encode(message), frames)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self.sessions.pop(session, None)
            self.state.session_gone(session)

    def _tell_engine_news(self, news: m.EngineNews) -> None:
        # Behind the news of tasks: a client must not hear of a death before the results.
        self._send_news()
        for session in list(self.sessions):
            self._send(session, news)

    # -- the end ---------------------------------------------------------------------------------

    def _close(self) -> None:
        """Tell everybody, end the engines, remove the files."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for engine in self.state.engines.values():
            self.send_to_engine(engine, m.encode(m.Stop()))
        for session in list(self.sessions):
            self._send(session, m.Closing("the cluster was stopped"))
        self.keeper.close()
        self._clients.close(linger=500)
        self._engines.close(linger=0)
        self._context.term()
        remove_folder(self.folder)

    def send_to_owner(self, owner: str, message: m.Segments) -> bool:
        """Send to the session or engine of that name; False when there is none."""
        engine = self._by_identity.get(owner.encode())
        if engine is not None:
            self.send_to_engine(engine, m.encode(message))
        elif owner in self.sessions:
            self._send(owner, message)
        return engine is not None or owner in self.sessions

    def send_now(self, session: str, message: Any) -> None:
        """Send what must leave before the news of this turn, after the news of the turn so far."""
        self._send_news()
        self._send(session, message)

    @staticmethod
    def clock() -> float:
        """Seconds since the epoch."""
        return time.time()

    def cluster_file(self) -> ClusterFile:
        """What clients need to find this cluster."""
        return ClusterFile(
            cluster_id=self.settings.cluster_id,
            pid=os.getpid(),
            started=self.started,
            package=__version__,
            python=python_version(),
            persist=self.settings.persist,
            pid_start=process_start(os.getpid()) or 0,
        )
