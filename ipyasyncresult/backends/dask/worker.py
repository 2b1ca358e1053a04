"""What runs on a Dask worker."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Sequence
from typing import Any

from distributed import WorkerPlugin

from ipyasyncresult.worker.guest import Work
from ipyasyncresult.worker.live import run_live

__all__ = ["Job", "OutOfReach", "Parcel", "executing_keys", "run_on_worker"]


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
    def pack(cls, value: tuple[Any, ...], buffers: Sequence[Any]) -> bytes | Parcel:
        """`value` and its buffers as one thing to send."""
        data = pickle.dumps(value, 5)
        if not buffers:
            return data
        return cls(data, [pickle.PickleBuffer(buffer) for buffer in buffers])

    @staticmethod
    def unpack(sent: bytes | Parcel) -> tuple[Any, Sequence[Any]]:
        """Value and buffers again."""
        if isinstance(sent, Parcel):
            return pickle.loads(sent.data), sent.buffers
        return pickle.loads(sent), ()


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
    from distributed import get_worker

    worker = get_worker()

    def publish(number: int, piece: Any) -> None:
        worker.log_event(topic, (msg_id, number, piece, worker.address))

    done = run_live(Work(*work), publish, worker.address)
    return Parcel.pack(tuple(done._replace(buffers=())), done.buffers)


def executing_keys(dask_worker: Any) -> list[str]:
    """What a worker runs right now."""
    return [task.key for task in dask_worker.state.executing]
