"""Outputs of running tasks, sent while they run, from a process that is somebody else's.

A task that takes longer than a moment is announced, and what it writes is cut into numbered pieces.
All pieces also travel with its result, so that one that is lost or late on the way costs nothing:
whoever receives takes the next number only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from ipyasyncresult.core.outputs import encode_outputs
from ipyasyncresult.worker.guest import Delivery, Work, deliver, guest
from ipyasyncresult.worker.recorder import Recorder

__all__ = ["STARTED", "Publish", "run_live"]

STARTED = -1
"""In the place of a piece's number: the task runs."""

Publish = Callable[[int, Any], object]
"""Takes the number of a piece and the piece."""

_INTERVAL = 0.05  # seconds between two looks; shorter tasks are not announced
_IDLE = 2.0  # seconds without tasks, after which the thread ends


class _Task:
    __slots__ = ("began", "pieces", "publish", "recorder")

    def __init__(self, recorder: Recorder, publish: Publish) -> None:
        self.recorder = recorder
        self.publish: Publish | None = publish
        self.pieces: list[bytes] = []
        self.began = time.time()

    def look(self, now: float) -> None:
        """Send what is new.  The thread that looks, with the lock held."""
        publish = self.publish
        if publish is None:
            return
        if not self.pieces and self.began >= 0:
            if now - self.began < _INTERVAL:
                return
            publish(STARTED, self.began)
            self.began = -1.0
        outputs = self.recorder.take()
        if outputs:
            piece = encode_outputs(outputs)
            publish(len(self.pieces), piece)
            self.pieces.append(piece)


class _Pump:
    """Looks at the running tasks of this process, from a thread that ends when there are none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: set[_Task] = set()  # guarded by _lock
        self._thread: threading.Thread | None = None  # likewise

    def watch(self, task: _Task) -> None:
        with self._lock:
            self._tasks.add(task)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="ipyasyncresult-outputs", daemon=True
                )
                self._thread.start()

    def leave(self, task: _Task) -> None:
        with self._lock:
            self._tasks.discard(task)

    def _run(self) -> None:
        idle_since = time.monotonic()
        while True:
            time.sleep(_INTERVAL)
            with self._lock:
                now = time.time()
                for task in self._tasks:
                    try:
                        task.look(now)
                    except Exception:  # noqa: BLE001  the way is closed: all comes with the result
                        task.publish = None
                if self._tasks:
                    idle_since = time.monotonic()
                elif time.monotonic() - idle_since > _IDLE:
                    self._thread = None
                    return


_pump = _Pump()


def run_live(work: Work, publish: Publish, place: str) -> Delivery:
    """Run one task, its outputs published as they come.  Any thread; never raises.

    Parameters
    ----------
    work : Work
    publish : callable
        Called from another thread.
    place : str
        What this worker is called.
    """
    recorder = Recorder()
    task = _Task(recorder, publish)
    _pump.watch(task)
    try:
        outcome = guest().run(work, recorder)
    finally:
        _pump.leave(task)
    rest = recorder.take()
    if rest:
        task.pieces.append(encode_outputs(rest))
    return deliver(outcome, task.pieces, place)
