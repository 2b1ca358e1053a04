"""The hub's hands on the shared memory: tells owners what is free, removes files."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ipyasyncresult.hub.records import EngineState
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.buffers import READ, next_name
from ipyasyncresult.wire.sharedfolder import find_arrays_folder

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
        self._folder = find_arrays_folder(server.folder)
        self._next_rest = 0.0

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
                self._clean(owner)

    def _send(self, owner: str, message: m.Segments) -> bool:
        """Send to the session or engine of that name; False when there is none."""
        server = self._server
        engine = server.keeper.by_identity.get(owner.encode())
        if engine is not None:
            server.send_to_engine(engine, m.encode(message))
        else:
            server.clients.send(owner, message)
        return engine is not None or owner in server.clients.sessions

    def tick(self, now: float) -> None:
        """Now and then; `now` is in monotonic seconds."""
        if now >= self._next_rest:
            self._next_rest = now + _REST
            self.segments.rest()

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
