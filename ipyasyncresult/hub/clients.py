"""The hub's clients: who they are, and what goes to them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ipyasyncresult.hub.settings import HubSettings
from ipyasyncresult.hub.state import HubState
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.runtime import is_alive
from ipyasyncresult.wire.sockets import Door
from ipyasyncresult.wire.versions import refusal

if TYPE_CHECKING:
    from ipyasyncresult.hub.journal import Journal

__all__ = ["ClientLine"]

_SESSION = 12  # characters

News = dict[str, list[tuple[Any, Sequence[Any]]]]
"""By session: what happened to tasks, with the out-of-band frames."""


def _session_of(identity: bytes) -> str:
    """Who speaks: behind the session's name stands which of its connections it is."""
    return identity[1 : 1 + _SESSION].decode()


class ClientLine:
    """The way to the clients.  The hub's thread only.

    Parameters
    ----------
    door : Door
    settings : HubSettings
    state : HubState
        Its news are sent.
    journal : Journal or None
        Told what was sent.

    Attributes
    ----------
    sessions : dict
        Pid by session, of the clients that are here.
    speakers : dict
        Session by identity, of the two sockets of each connection on which a session introduced
        itself.  A client that lost its hub may have sent something before it noticed, which over
        TCP ZeroMQ then brings to the next hub.  Taken in, it would hide what was sent before it and
        got lost.
    busy : float
        When there last was a client or work; monotonic seconds.
    """

    def __init__(
        self, door: Door, settings: HubSettings, state: HubState, journal: Journal | None
    ) -> None:
        self._door = door
        door.on_end = self._line_ended
        self._settings = settings
        self._state = state
        self._journal = journal
        self.sessions: dict[str, int] = {}
        self._routes: dict[str, bytes] = {}
        self.speakers: dict[bytes, str] = {}
        self.busy = time.monotonic()
        self.saw: Callable[[News], None] = _nothing  # told what is sent, before it is

    def hello(self, identity: bytes, hello: m.Hello) -> None:
        """A client introduces itself, for the first time or to the next hub."""
        session = _session_of(identity)
        self._routes[session] = identity
        settings = self._settings
        reason = refusal(hello, force=settings.force_versions)
        if reason is not None:
            self.send(session, m.Refused(reason))
            return
        self.sessions[session] = hello.pid
        self._forget_speakers(session)
        for kind in (b"C", b"S"):
            self.speakers[kind + identity[1:]] = session
        state = self._state
        engines = {i: {**one.describe(), "up": False} for i, one in state.replaced.items()}
        engines |= {i: one.describe() for i, one in state.engines.items()}
        durable = self._journal is not None
        welcome = m.Welcome(settings.cluster_id, os.getpid(), engines, settings.persist, durable)
        self.send(session, welcome)
        for text in self._journal.store.notices if self._journal is not None else ():
            self.send(session, m.Notice(text))

    def _forget_speakers(self, session: str) -> None:
        for identity in [one for one, whose in self.speakers.items() if whose == session]:
            del self.speakers[identity]

    def gone(self, session: str) -> None:
        """It left, or was left."""
        self.sessions.pop(session, None)
        self._routes.pop(session, None)
        self._forget_speakers(session)
        self._state.session_gone(session)
        if self._journal is not None:
            self._journal.session_gone(session)

    def _line_ended(self, identity: bytes) -> None:
        """A connection is over, by whoever's doing.

        A client that cannot be heard must not go on waiting for results: what it receives from
        ends, too.
        """
        session = self.speakers.get(identity)
        if session is not None and identity.startswith(b"S"):
            route = self._routes.get(session)
            self.gone(session)
            if route is not None:
                self._door.end(route)

    def look(self, now: float) -> None:
        """Notice those that died without a word, and whether anybody is here."""
        for session, pid in list(self.sessions.items()):
            if not is_alive(pid) and not self._has_said_more(session):
                self.gone(session)
        if self.sessions or self._state.unfinished:
            self.busy = now

    def _has_said_more(self, session: str) -> bool:
        return any(
            self._door.has_more(identity)
            for identity, whose in self.speakers.items()
            if whose == session
        )

    def send(self, session: str, message: Any, frames: Sequence[Any] = ()) -> None:
        """Send to one; nobody hears it when it is not there.

        It is not gone by that: what it said before it left is still to be read.
        """
        route = self._routes.get(session)
        if route is not None:
            self._door.send(route, m.encode(message), frames)

    def send_news(self, *, replayed: bool = False) -> None:
        """Send what happened to tasks; what is told again to one who was not there is not new."""
        news = self._state.news
        self._state.news = {}
        if not replayed:
            self.saw(news)
        for session, entries in news.items():
            if session not in self.sessions:
                continue  # it went away: the archive has it
            if len(entries) == 1:
                ((item, frames),) = entries
                items = [item]
            else:
                items = [item for item, _ in entries]
                frames = [frame for _, some in entries if some for frame in some]
            if frames:
                self._state.archive.segments.lend(session, frames)
            if self._journal is not None:
                self._journal.sent(session, items)
            self.send(session, m.News(items), frames)

    def tell(self, message: Any) -> None:
        """Send to all, behind the news of tasks: nobody hears of a death before the results."""
        self.send_news()
        for session in list(self.sessions):
            self.send(session, message)


def _nothing(_news: News) -> None:
    """Nobody looks on."""
