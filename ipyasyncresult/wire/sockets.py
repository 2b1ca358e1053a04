"""ZeroMQ sockets as this package uses them: one header frame, then frames without copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import zmq

__all__ = ["COPY_BELOW", "make_socket", "receive", "receive_from", "send"]

COPY_BELOW = 65_536
"""Bytes; smaller frames are copied, which is cheaper than keeping track of them."""


def make_socket(context: zmq.Context[Any], kind: int, identity: bytes | None = None) -> Any:
    """A ROUTER or DEALER that never drops silently and never keeps a process from ending."""
    socket = context.socket(kind)
    socket.linger = 0
    socket.sndhwm = socket.rcvhwm = 0
    socket.copy_threshold = COPY_BELOW
    if identity is not None:
        socket.identity = identity
    if kind == zmq.ROUTER:
        socket.router_mandatory = True
    else:
        socket.reconnect_ivl = 5  # ms; the other side is on this machine
        socket.reconnect_ivl_max = 500
    return socket


def receive(socket: Any) -> tuple[bytes, list[Any]] | None:
    """Header and further frames of the next message of a DEALER, None when there is none.

    Frames come as zmq.Frame, uncopied.
    """
    try:
        header = socket.recv(zmq.NOBLOCK)
    except zmq.Again:
        return None
    return header, _rest(socket)


def receive_from(socket: Any) -> tuple[bytes, bytes, list[Any]] | None:
    """As :func:`receive` for a ROUTER: who sent it, header, frames."""
    try:
        identity = socket.recv(zmq.NOBLOCK)
    except zmq.Again:
        return None
    header = socket.recv(zmq.NOBLOCK) if socket.rcvmore else b""
    return identity, header, _rest(socket)


def _rest(socket: Any) -> list[Any]:
    frames = []
    while socket.rcvmore:
        frames.append(socket.recv(zmq.NOBLOCK, copy=False))
    return frames


def send(socket: Any, parts: Sequence[Any], *, track: bool = False) -> Any:
    """Send the parts as one message; large ones without a copy.

    Returns a ``zmq.MessageTracker`` with `track`: until it is done, the buffers must not change.
    """
    return socket.send_multipart(parts, copy=False, track=track)
