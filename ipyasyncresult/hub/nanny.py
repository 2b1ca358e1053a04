"""The hub's hold on the nursery: the process that forks engines and watches them die.

Engines are forked from one warm, single-threaded process, so a new one costs milliseconds, and
their parent learns of each death at once, with exit code or signal.  The two talk in JSON lines
over a socket pair that nobody else holds: when either side is gone the other one reads the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import tempfile
from typing import Any, Self

from ipyasyncresult.hub.nurseryprocess import NurseryProcess

__all__ = ["Nanny"]

_READ_BYTES = 1 << 16
_LAST_WORDS = 2000  # characters


class Nanny:
    """Starts the nursery and turns its lines into notices.  The hub's thread only.

    Parameters
    ----------
    settings : dict
        Sent to the nursery first: what engines need to start.
    successor : dict, optional
        What a new hub is told that the nursery starts when this one dies.
    fork : bool
        This process has one thread, no store and no peers yet: a copy of it becomes the nursery.

    Attributes
    ----------
    line : socket
        To it; readable when it says something.  Another one when it died.
    living : dict or None
        Of a nursery that outlived another hub: its ``engines``, and those that ``exited``.
    """

    _silent: socket.socket | None = None  # the other end, when the nursery is gone

    def __init__(
        self,
        settings: dict[str, Any],
        successor: dict[str, Any] | None = None,
        *,
        fork: bool = False,
    ) -> None:
        self.living: dict[str, Any] | None = None
        self.successor = successor
        self.line, theirs = socket.socketpair()
        self.line.setblocking(False)
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115  what the nursery itself prints
        start = NurseryProcess.fork if fork else NurseryProcess.spawn
        self._process = start(theirs, self.line, self._printed)
        self._unread = b""
        self.alive = True
        self._say({"settings": settings, "successor": successor})

    @classmethod
    def attach(cls, fileno: int) -> Self:
        """The nursery that started this hub: it and its engines outlived another one."""
        self = cls.__new__(cls)
        self.line = socket.socket(fileno=fileno)
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115  it prints elsewhere
        self._process = NurseryProcess.parent()
        self._unread = b""
        self.living = json.loads(self._first_line())
        assert self.living is not None
        self.successor = self.living["successor"]
        self.line.setblocking(False)
        self.alive = True
        return self

    def _first_line(self) -> bytes:
        """Not a byte more is read: what follows must wake who waits for the socket."""
        line = b""
        while not line.endswith(b"\n"):
            seen = self.line.recv(_READ_BYTES, socket.MSG_PEEK)
            if not seen:
                raise ConnectionError("the nursery that started this hub is gone")
            line += self.line.recv(seen.find(b"\n") + 1 or len(seen))
        return line

    @property
    def pid(self) -> int:
        """Of the nursery."""
        return self._process.pid

    def fork(self, engine_id: int, uuid: str) -> None:
        """Ask for an engine; it registers by itself."""
        self._say({"fork": engine_id, "uuid": uuid})

    def signal(self, uuid: str, number: int, *, group: bool = False) -> None:
        """Ask to send a signal to an engine, or to its whole process group."""
        self._say({"signal": number, "uuid": uuid, "group": group})

    def signal_task(self, uuid: str, msg_id: str, number: int, request: int) -> None:
        """Ask to signal an engine if it runs that task; answered with ``signalled``."""
        self._say({"signal": number, "uuid": uuid, "task": msg_id, "request": request})

    def _say(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it died: the next read says so
            self.line.setblocking(True)
            self.line.sendall(json.dumps(message).encode() + b"\n")
            self.line.setblocking(False)

    def read(self) -> list[dict[str, Any]]:
        """What happened: ``forked``, ``exited``, ``stopped``, ``continued``, ``signalled``; at the
        end ``gone``."""
        notices: list[dict[str, Any]] = []
        while self.alive:
            try:
                data = self.line.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.alive = False
                notices.append({"event": "gone", "stderr": self._last_words()})
                # A line that has ended would wake whoever polls it, again and again.
                self.line.close()
                self.line, self._silent = socket.socketpair()
                break
            *lines, self._unread = (self._unread + data).split(b"\n")
            notices += [json.loads(line) for line in lines]
        return notices

    def _last_words(self) -> str:
        """What the nursery printed before it died."""
        self._process.wait()
        self._printed.seek(0)
        return self._printed.read().decode(errors="replace")[-_LAST_WORDS:]

    def close(self, patience: float = 3.0) -> None:
        """End all engines and the nursery, within `patience` seconds; idempotent."""
        if self.alive:
            self._say({"farewell": True})  # else it would start another hub
        self.alive = False
        self.line.close()
        if self._silent is not None:
            self._silent.close()
        self._printed.close()
        if not self._process.wait(patience):
            # Engines have the kernel kill them when the nursery dies.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._process.wait(patience)
