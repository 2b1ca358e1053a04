"""The hub's hands on the shared memory: tells owners what is free, removes files."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from ipyasyncresult.hub.inheritance import Inheritance
from ipyasyncresult.hub.records import EngineState
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.buffers import READ, next_name

if TYPE_CHECKING:
    from ipyasyncresult.hub.server import HubServer

__all__ = ["ArraysKeeper"]

_REST = 10.0
"""Seconds; memory that was free for so long, or up to twice as long, is given back."""


class ArraysKeeper:
    """Carries out what :class:`~ipyasyncresult.hub.segments.Segments` decided.

    The hub's thread only.
    """

    def __init__(self, server: HubServer) -> None:
        self.segments = server.state.archive.segments
        self._server = server
        self._folder = folder = server.durability.arrays
        self._next_rest = 0.0
        self._inheritance: Inheritance | None = None
        if folder is not None and server.settings.nursery_fd is not None:
            self._inheritance = Inheritance(folder, self.segments.inherited)
            self.segments.revive = self._inheritance.revive

    def released_by_engine(self, engine: EngineState, message: m.Released) -> None:
        """That an engine read its arguments says nothing about results."""
        released = [(name, bits & ~READ) for name, bits in message.segments]
        self.segments.give_back(engine.uuid, released)

    def carry_out(self) -> None:
        """After each turn."""
        segments = self.segments
        if segments.free or segments.drops or segments.rests:
            free, segments.free = segments.free, {}
            drops, segments.drops = segments.drops, {}
            rests, segments.rests = segments.rests, {}
            for owner in free.keys() | drops.keys() | rests.keys():
                message = m.Segments(*(names.get(owner, []) for names in (free, drops, rests)))
                # Files first: who asks for a result that is not kept must not find it.
                self._rename(message.free)
                if not self._send(owner, message):
                    self._remove([*map(next_name, message.free), *message.drop, *message.rest])
        if segments.departed:
            departed, segments.departed = segments.departed, []
            for owner in departed:
                if self._inheritance is None:
                    self._clean(owner)
                else:  # what somebody is about to send again may lie there
                    self._inheritance.departed(owner, time.monotonic())

    def _send(self, owner: str, message: m.Segments) -> bool:
        """Send to the session or engine of that name; False when there is none."""
        server = self._server
        engine = server.keeper.by_identity.get(owner.encode())
        if engine is not None:
            server.send_to_engine(engine, m.encode(message))
        else:
            server.clients.send(owner, message)
        return self._is_here(owner)

    def _is_here(self, owner: str) -> bool:
        """Whether it may still write."""
        server = self._server
        return owner.encode() in server.keeper.by_identity or owner in server.clients.sessions

    def _inherit(self, inheritance: Inheritance, now: float) -> None:
        """What the last hub left; once all engines have sent again what they have to."""
        if not all(engine.ready for engine in self._server.keeper.by_identity.values()):
            return
        drops = inheritance.look(now, self.segments.in_use(), self._is_here)
        for owner, names in drops.items():
            self.segments.drops.setdefault(owner, []).extend(names)
        for owner in inheritance.take_departed(now):
            self._clean(owner)

    def tick(self, now: float) -> None:
        """Now and then; `now` is in monotonic seconds."""
        if now >= self._next_rest:
            self._next_rest = now + _REST
            self.segments.rest()
        if self._inheritance is not None:
            self._inherit(self._inheritance, now)

    def _clean(self, owner: str) -> None:
        """What it never told of, or did not use any more."""
        if self._folder is None:
            return
        in_use = self.segments.in_use()
        with contextlib.suppress(OSError):
            left = [file.name for file in self._folder.glob(f"{owner}.*")]
            self._remove([name for name in left if name not in in_use])

    def _rename(self, names: list[str]) -> None:
        if self._folder is not None:
            for name in names:
                with contextlib.suppress(OSError):
                    (self._folder / name).rename(self._folder / next_name(name))

    def _remove(self, names: list[str]) -> None:
        if self._folder is not None:
            for name in names:
                with contextlib.suppress(OSError):
                    (self._folder / name).unlink()
