"""Engines that run nothing: to see what a hub does with very many of them on a small machine.

>>> with StubCluster(n=128) as client:
...     client.load_balanced_view().map_sync(abs, range(1000))
[None, None, ...]

The hub and the client are the real ones.  In place of the process that forks engines, one process
with one thread speaks for all of them: a socket each, the same messages, and ``None`` as the result
of every task.
"""

from __future__ import annotations

import json
import pickle
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ipyasyncresult._version import __version__
from ipyasyncresult.client.cluster import Cluster
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.sockets import Line, make_poll
from ipyasyncresult.wire.transport import connect_to_hub
from ipyasyncresult.wire.versions import python_version

__all__ = ["StubCluster", "StubEngines"]

_TOOK = 10e-6
"""Seconds that a task is said to have taken."""
_NONE = pickle.dumps(None, protocol=5)


class StubCluster(Cluster):
    """A :class:`~ipyasyncresult.Cluster` whose engines answer without working."""

    hub_module = "ipyasyncresult.testing.stubhub"


class StubEngines:
    """Speaks to the hub as the nursery does, and as each engine that it asks for.

    Parameters
    ----------
    hub : socket.socket
        The hub's end of the line.
    """

    def __init__(self, hub: socket.socket) -> None:
        self._hub = hub
        self._engines: dict[Any, tuple[Line, int, str]] = {}  # by handle: line, number and uuid
        self._poll = make_poll([hub.fileno()])
        self._folder = Path()
        self._unread = b""

    def run(self) -> None:
        """Serve until the hub is gone."""
        while True:
            for source, _ in self._poll(-1):
                if source in self._engines:
                    self._answer(self._engines[source][0])
                elif source == self._hub.fileno() and not self._listen():
                    for line, _, _ in self._engines.values():
                        line.close()
                    return

    # -- as the nursery --------------------------------------------------------------------------

    def _listen(self) -> bool:
        data = self._hub.recv(1 << 16)
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            wish = json.loads(line)
            if "settings" in wish:
                self._folder = Path(wish["settings"]["folder"])
            elif "fork" in wish:
                self._start(wish["fork"], wish["uuid"])
            elif "signal" in wish:
                self._kill(wish["uuid"])
        return bool(data)

    def _tell(self, event: str, engine_id: int, uuid: str, **more: Any) -> None:
        notice = {"event": event, "engine_id": engine_id, "uuid": uuid, **more}
        self._hub.sendall(json.dumps(notice).encode() + b"\n")

    def _start(self, engine_id: int, uuid: str) -> None:
        line = connect_to_hub(self._folder, "engines", uuid.encode())
        self._engines[line.handle] = line, engine_id, uuid
        self._note_sources()
        self._tell("forked", engine_id, uuid, pid=0)
        hello = m.Register(engine_id, uuid, 0, m.PROTOCOL, __version__, python_version())
        line.send(m.encode(hello))

    def _note_sources(self) -> None:
        self._poll = make_poll([self._hub.fileno(), *self._engines])

    def _kill(self, uuid: str) -> None:
        """Whatever the signal: there is no process that could take it in another way."""
        for handle, (line, engine_id, name) in list(self._engines.items()):
            if name == uuid:
                del self._engines[handle]
                self._note_sources()
                line.close()
                self._tell("exited", engine_id, uuid, begun=1 << 62, stderr="", signal="SIGKILL")

    # -- as an engine ----------------------------------------------------------------------------

    def _answer(self, line: Line) -> None:
        items: list[Any] = []
        for header, _ in line.take():
            message = m.decode_to_engine(header)
            if isinstance(message, m.Run):
                items += _results(message)
            elif isinstance(message, m.Recall):  # everything was done when it came
                items.append(m.Returned([], message.msg_ids or []))
        if items:
            line.send(m.encode(m.Stream(items)))
        while not line.flush():
            line.wait_for_room()


def _results(message: m.Run) -> Iterator[m.Finished]:
    now = time.time()
    for task in message.tasks:
        body = _NONE
        if task.kind in (m.CHUNK, m.STAR_CHUNK):
            body = pickle.dumps([None] * task.items, protocol=5)
        yield m.Finished(task.msg_id, m.OK, body, 0, now, now + _TOOK, _TOOK)


if __name__ == "__main__":
    StubEngines(socket.socket(fileno=int(sys.argv[1]))).run()
