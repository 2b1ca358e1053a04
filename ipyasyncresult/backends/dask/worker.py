"""What runs on a Dask worker."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
from collections.abc import Sequence
from typing import Any

from distributed import WorkerPlugin, get_worker

from ipyasyncresult.worker.guest import Delivery, Work, version
from ipyasyncresult.worker.live import run_live

__all__ = [
    "ENDED",
    "Job",
    "OutOfReach",
    "Outbox",
    "Parcel",
    "about_worker",
    "executing_keys",
    "run_on_worker",
]

ENDED = -2
"""In the place of a piece's number: the task has ended.  The piece is what it delivers, or None if
that is for workers to keep and for the client to fetch."""

_SMALL = 4_000
"""Bytes that a delivery has at most to go through the scheduler, which remembers the last 1,000
events of each topic."""


class Job:
    """A task that runs where it is unpickled.

    So Dask only has to know ``pickle.loads``: a worker without this package fails with an error
    that says so, where it would die of a function that it cannot import.

    Parameters
    ----------
    msg_id : str
    topic : str
        Of the events with which it tells of itself.
    work : tuple
        A :class:`~ipyasyncresult.worker.guest.Work`.
    """

    def __init__(self, msg_id: str, topic: str, work: tuple[Any, ...]) -> None:
        self._told = msg_id, topic, work

    def __reduce__(self) -> tuple[Any, ...]:
        return run_on_worker, self._told


class Parcel:
    """A delivery with large buffers, which Dask sends without copies.

    Those without are plain bytes: Dask looks into tuples and lists, which takes longer than the
    rest of a short task.
    """

    def __init__(self, data: bytes, buffers: Sequence[Any]) -> None:
        self.data = data
        self.buffers = buffers

    @classmethod
    def pack(cls, done: Delivery) -> bytes | Parcel:
        """As one thing to send."""
        if not done.buffers:
            return pickle.dumps(tuple(done), 5)
        data = pickle.dumps(tuple(done._replace(buffers=())), 5)
        return cls(data, [pickle.PickleBuffer(buffer) for buffer in done.buffers])

    @staticmethod
    def unpack(sent: bytes | Parcel) -> Delivery:
        """The delivery again."""
        if isinstance(sent, Parcel):
            return Delivery(*pickle.loads(sent.data))._replace(buffers=sent.buffers)
        return Delivery(*pickle.loads(sent))


class Outbox(WorkerPlugin):
    """Has the news of a task's end travel in the message in which Dask tells of it.

    An event from the thread of the task wakes the worker's loop, and leaves at once and alone; what
    Dask says of the task then waits for the next message (2 ms), and with it the task behind.
    """

    name = "ipyasyncresult-outbox"

    def __init__(self) -> None:
        self._events: dict[str, tuple[str, bytes | None]] = {}  # by key: topic and delivery

    def setup(self, worker: Any) -> None:
        self._worker = worker

    def put(self, key: str, topic: str, delivery: bytes | None) -> None:
        """Tell of this when the task has ended.  The thread of the task."""
        self._events[key] = topic, delivery

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        """A task of this worker is in another state; in the worker's loop."""
        del start
        if key not in self._events:
            return
        if finish == "memory":
            topic, delivery = self._events.pop(key)
            self._worker.log_event(topic, (key, ENDED, delivery, None))
        elif finish in ("released", "forgotten"):  # nobody wants it any more
            del self._events[key]


async def _install(worker: Any) -> None:
    if Outbox.name not in worker.plugins:
        await worker.plugin_add(Outbox(), Outbox.name)


class OutOfReach(WorkerPlugin):
    """Workers that this process started are not hit by its interrupts.

    The stop button of a notebook signals the kernel's whole group of processes.  A worker of a
    ``LocalCluster`` is one of them, and ends at such a signal with all that it runs.
    """

    name = "ipyasyncresult-out-of-reach"

    def __init__(self) -> None:
        self._group = socket.gethostname(), os.getpgrp()

    def setup(self, worker: Any) -> None:
        """Called by Dask, in each worker that there is or will be."""
        del worker
        if (socket.gethostname(), os.getpgrp()) == self._group and os.getpid() != os.getpgrp():
            os.setpgid(0, 0)


def run_on_worker(msg_id: str, topic: str, work: tuple[Any, ...]) -> bytes | Parcel:
    """Run one task on a Dask worker; never raises."""
    worker = get_worker()
    address = worker.address

    def publish(number: int, piece: Any) -> None:
        worker.log_event(topic, (msg_id, number, piece, address))

    sent = Parcel.pack(run_live(Work(*work), publish, address))
    small = sent if type(sent) is bytes and len(sent) <= _SMALL else None
    outbox: Any = worker.plugins.get(Outbox.name)
    if outbox is not None:
        outbox.put(msg_id, topic, small)
        return sent
    with contextlib.suppress(Exception):  # the client looks for what has ended, too
        worker.loop.add_callback(_install, worker)
        publish(ENDED, small)
    return sent


def about_worker() -> tuple[tuple[str, str], tuple[str, int]]:
    """Versions, and which process it is: to be compared with the client's."""
    return version(), (socket.gethostname(), os.getpid())


def executing_keys(dask_worker: Any) -> list[str]:
    """What a worker runs right now."""
    return [task.key for task in dask_worker.state.executing]
