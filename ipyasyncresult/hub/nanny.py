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
import subprocess
import sys
import tempfile
from typing import Any

__all__ = ["NURSERY", "Nanny"]

NURSERY = "ipyasyncresult.engine"
"""The module that is run."""
_READ_BYTES = 1 << 16
_LAST_WORDS = 2000  # characters


class Nanny:
    """Starts the nursery and turns its lines into notices.  The hub's thread only.

    Parameters
    ----------
    settings : dict
        Sent to the nursery first: what engines need to start.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._mine, theirs = socket.socketpair()
        self._mine.setblocking(False)
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115  what the nursery itself prints
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", NURSERY, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stderr=self._printed,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._unread = b""
        self.alive = True
        self._say({"settings": settings})

    def fileno(self) -> int:
        """For a poller."""
        return self._mine.fileno()

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
            self._mine.setblocking(True)
            self._mine.sendall(json.dumps(message).encode() + b"\n")
            self._mine.setblocking(False)

    def read(self) -> list[dict[str, Any]]:
        """What happened: ``forked``, ``exited``, ``stopped``, ``continued``, ``signalled``; at the
        end ``gone``."""
        notices: list[dict[str, Any]] = []
        while self.alive:
            try:
                data = self._mine.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.alive = False
                notices.append({"event": "gone", "stderr": self._last_words()})
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
        self.alive = False
        self._mine.close()
        self._printed.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            # Engines have the kernel kill them when the nursery dies.
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
