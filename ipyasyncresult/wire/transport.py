"""How the hub is reached: Unix sockets by default, TCP with CURVE (by ZeroMQ) on request.

::

    ipc   <folder>/clients, <folder>/engines        whoever may enter the folder: this user
    tcp   tcp.json (addresses, the hub's public key), hub.key, client.key, engine.key, all 0600

A TCP port can be reached by everybody on the machine (and, with another interface than the
loopback, by other machines), so there every connection is encrypted and each side proves who it is.
A key has one role: a client's does not open the engines' door.  Secret keys are in those files and
in libzmq, nowhere else: not in settings, arguments, the environment, logs or messages.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ipyasyncresult.wire.localsockets import LocalLine
from ipyasyncresult.wire.runtime import RuntimeFolderError, check_private
from ipyasyncresult.wire.sockets import Line

__all__ = [
    "MAX_FRAME",
    "ROLES",
    "Doors",
    "KeyPair",
    "check_transport",
    "connect_to_hub",
    "make_keys",
    "read_doors",
    "read_keys",
    "serve_with_keys",
    "write_doors",
]

ROLES = {"clients": "client", "engines": "engine"}
"""Which key opens which of the hub's sockets."""

MAX_FRAME = (1 << 31) + (1 << 26)
"""Bytes that a frame may have over TCP: whoever sends a larger one is cut off.  A bit more than a
result may have by default."""
HANDSHAKE_SECONDS = 10
"""Seconds that a peer has to prove who it is."""

_LISTENS_SECONDS = 10.0
"""Seconds that a hub of this machine may take to listen."""
_LOOK = 0.005
"""Seconds between two looks whether it does."""

_DOORS = "tcp.json"
_EVERYWHERE = frozenset({"", "*", "0", "0.0.0.0", "::", "[::]"})  # noqa: S104  these are refused


class Doors(msgspec.Struct, kw_only=True, frozen=True):
    """Where a hub listens on TCP.  Holds no secret."""

    hub_key: str
    clients: str
    engines: str


class KeyPair:
    """A CURVE key pair; shows no more than its public half."""

    __slots__ = ("public", "secret")

    def __init__(self, public: bytes, secret: bytes) -> None:
        self.public: bytes = public
        self.secret: bytes = secret

    def __repr__(self) -> str:
        return f"<KeyPair {self.public.decode()}>"

    def __reduce__(self) -> Any:
        raise TypeError("keys are not pickled")


def check_transport(transport: str, interface: str) -> str:
    """The interface to listen on, if these may be had.

    Raises
    ------
    ValueError
        When `transport` is neither ``'ipc'`` nor ``'tcp'``, or libzmq was built without CURVE, or
        `interface` stands for all there are.
    """
    if transport not in ("ipc", "tcp"):
        raise ValueError(f"transport must be 'ipc' or 'tcp', not {transport!r}")
    if type(interface) is not str or interface in _EVERYWHERE:
        raise ValueError(
            "interface must be the name or the address of one interface, as '127.0.0.1' or 'eth0', "
            f"not {interface!r}"
        )
    if transport == "tcp":
        import zmq  # who stays on this machine does without it

        if not zmq.has("curve"):
            raise ValueError("transport='tcp' needs a libzmq with CURVE, and this one has none")
    return "127.0.0.1" if interface == "localhost" else interface


# -- keys ------------------------------------------------------------------------------------------


def make_keys(folder: Path, role: str) -> KeyPair:
    """The key pair of a role; what was there before is kept, so that who is connected stays so."""
    path = _key_file(folder, role)
    if path.exists():
        return read_keys(folder, role)
    import zmq

    public, secret = zmq.curve_keypair()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(public + b"\n" + secret + b"\n")
    return KeyPair(public, secret)


def read_keys(folder: Path, role: str) -> KeyPair:
    """The key pair of a role.

    Raises
    ------
    RuntimeFolderError
        When others may read it, or there is none.
    """
    path = _key_file(folder, role)
    try:
        check_private(path, file=True)
        public, secret = path.read_bytes().split()
    except FileNotFoundError:
        raise RuntimeFolderError(f"there is no key for a {role} in {folder}") from None
    except ValueError:
        raise RuntimeFolderError(f"{path} holds no key") from None
    return KeyPair(public, secret)


def _key_file(folder: Path, role: str) -> Path:
    return folder / f"{role}.key"


# -- doors -----------------------------------------------------------------------------------------


def write_doors(folder: Path, doors: Doors) -> None:
    """Tell clients and engines where the hub listens."""
    made = folder / f"{_DOORS}.new"
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(doors))
    made.replace(folder / _DOORS)


def read_doors(folder: Path) -> Doors | None:
    """Where the hub listens on TCP, None when it does not.

    Raises
    ------
    RuntimeFolderError
        When others may have written it.
    """
    path = folder / _DOORS
    try:
        check_private(path, file=True)
        return msgspec.json.decode(path.read_bytes(), type=Doors)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def connect_to_hub(
    folder: Path, name: str, identity: bytes, lives: Callable[[], bool] = lambda: True
) -> Line:
    """A line to the hub's door ``clients`` or ``engines``.

    As long as the hub `lives`, it has some time to begin to listen.

    Raises
    ------
    RuntimeFolderError
        When the files of a cluster on TCP are not private, or the key is not there.
    ConnectionRefusedError
        When nobody listens there.
    """
    doors = read_doors(folder)
    if doors is None:
        local = LocalLine(folder / name, identity)
        deadline = time.monotonic() + _LISTENS_SECONDS
        while not local.connect():
            if not lives() or time.monotonic() > deadline:
                raise ConnectionRefusedError(f"no hub listens in {folder}")
            time.sleep(_LOOK)
        return local
    from ipyasyncresult.wire.tcpsockets import TcpLine

    keys = read_keys(folder, ROLES[name])
    line = TcpLine(identity)
    socket = line.socket
    socket.curve_serverkey = doors.hub_key.encode()
    socket.curve_publickey, socket.curve_secretkey = keys.public, keys.secret
    socket.handshake_ivl = HANDSHAKE_SECONDS * 1000
    socket.connect(getattr(doors, name))
    return line


def serve_with_keys(socket: Any, keys: KeyPair, name: str, max_frame: int = MAX_FRAME) -> None:
    """Let a socket of the hub, not yet bound, take in only who has the right key."""
    socket.curve_server = True
    socket.curve_publickey, socket.curve_secretkey = keys.public, keys.secret
    socket.zap_domain = name.encode()
    socket.handshake_ivl = HANDSHAKE_SECONDS * 1000
    socket.maxmsgsize = max_frame
