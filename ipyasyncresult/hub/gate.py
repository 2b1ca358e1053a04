"""Who may connect over TCP: the hub's keys, the keys that it knows, and what it turned away."""

from __future__ import annotations

import logging
import struct
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

from ipyasyncresult.hub.settings import HubSettings
from ipyasyncresult.wire.tcpsockets import TcpDoor, waiting
from ipyasyncresult.wire.transport import (
    MAX_FRAME,
    ROLES,
    Doors,
    make_keys,
    read_doors,
    serve_with_keys,
    write_doors,
)

__all__ = ["Gate", "open_gate"]

_log = logging.getLogger(__name__)

_LOGGED = 10
"""How many of those that were turned away stand in the log; the others are counted only."""
_ENVELOPE = 1 << 20
"""Bytes that a frame may be larger than the result in it."""
_ZAP = "inproc://zeromq.zap.01"  # https://rfc.zeromq.org/spec/27/
_HANDSHAKES = int(zmq.EVENT_ACCEPTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
_FAILED = int(
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)


class Gate:
    """Opens sockets of the hub on TCP and decides who comes in.  The hub's thread only.

    Parameters
    ----------
    context : zmq.Context
        Of the sockets: libzmq asks within one context.
    folder : Path
        Of the cluster; its keys are made here.
    interface : str
        Where to listen.
    max_frame : int
        Bytes; who sends more is cut off.

    Attributes
    ----------
    accepted, admitted : int
        How many connected, and how many of these have shown the right key.
    """

    def __init__(
        self, context: zmq.Context[Any], folder: Path, interface: str, max_frame: int = MAX_FRAME
    ) -> None:
        self._context = context
        self.accepted = self.admitted = 0
        self._logged = 0
        self._folder = folder
        self._interface = interface
        self._max_frame = max_frame
        self._keys = make_keys(folder, "hub")
        self._allowed = {
            name.encode(): z85.decode(make_keys(folder, role).public)
            for name, role in ROLES.items()
        }
        # Bound before anything listens: who comes while nobody can be asked would be let in.
        self._zap = context.socket(zmq.REP)
        self._zap.linger = 0
        self._zap.bind(_ZAP)
        self._monitors: list[Any] = []

    def open(self, clients: TcpDoor, engines: TcpDoor) -> None:
        """Let both sockets listen, where a hub before this one did if there was one."""
        before = read_doors(self._folder)
        urls = {}
        for name, door in (("clients", clients), ("engines", engines)):
            socket = door.socket
            serve_with_keys(socket, self._keys, name, self._max_frame)
            self._monitors.append(socket.get_monitor_socket(_FAILED | _HANDSHAKES))
            socket.bind(getattr(before, name, f"tcp://{self._interface}:*"))
            urls[name] = socket.last_endpoint.decode().rstrip("\0")
        write_doors(self._folder, Doors(hub_key=self._keys.public.decode(), **urls))

    def handles(self) -> list[Any]:
        """To be polled: there is somebody to decide about."""
        return [self._zap, *self._monitors]

    def take_in(self) -> None:
        """Answer who may come in, and count who may not."""
        while waiting(self._zap):
            self._decide(self._zap.recv_multipart())
        for monitor in self._monitors:
            while waiting(monitor):
                self._note(monitor.recv_multipart())

    def _decide(self, request: list[bytes]) -> None:
        version, number, domain, address, _, mechanism, *credentials = request
        known = mechanism == b"CURVE" and credentials == [self._allowed.get(domain)]
        if not known:
            self._log("%s: a key that does not open %s", address.decode(), domain.decode())
        status = [b"200", b"OK", domain] if known else [b"400", b"no such key", b""]
        self._zap.send_multipart([version, number, *status, b""])

    def _note(self, event: list[bytes]) -> None:
        kind, _ = struct.unpack("=HI", event[0])
        if kind == zmq.EVENT_ACCEPTED:
            self.accepted += 1
        elif kind == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.admitted += 1
        elif kind != zmq.EVENT_HANDSHAKE_FAILED_AUTH:  # of that `_decide` has told
            self._log("somebody who shook no hands at %s", event[1].decode(errors="replace"))

    @property
    def refused(self) -> int:
        """Connections that were turned away, and those that are not through yet.

        They had no key, a wrong one, one of another role, or made noise only.
        """
        return self.accepted - self.admitted

    def _log(self, text: str, *about: object) -> None:
        self._logged += 1
        if self._logged <= _LOGGED:
            _log.warning("turned away " + text, *about)

    def close(self) -> None:
        """Close what is not the hub's own; the doors are closed already."""
        for socket in self.handles():
            socket.close(linger=0)
        self._context.term()


def open_gate(settings: HubSettings, folder: Path) -> tuple[TcpDoor, TcpDoor, Gate]:
    """The hub's doors for clients and for engines, and who decides what comes in."""
    context: zmq.Context[Any] = zmq.Context()
    clients, engines = TcpDoor(context), TcpDoor(context)
    most = settings.engine_settings.get("result_limit", 0) + _ENVELOPE
    gate = Gate(context, folder, settings.interface, max(MAX_FRAME, most))
    gate.open(clients, engines)
    return clients, engines, gate
