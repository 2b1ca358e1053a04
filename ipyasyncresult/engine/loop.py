"""One engine: receive tasks, run them one after the other, send what they print and return.

Two threads share one socket, and whoever holds ``_turn`` may use it::

    main thread   holds the turn while it waits, receives and sends;
                  gives it away while user code runs
    pump thread   gets it then, 50 times a second at most: sends the outputs so far, says that the
                  task runs, takes in further messages (a recall, more work)

So a short task costs no thread switch, outputs and results leave in one ordered stream, and a long
task is seen live.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from mmap import mmap
from pathlib import Path
from typing import Any

from ipyasyncresult._version import __version__
from ipyasyncresult.engine.binding import Console
from ipyasyncresult.engine.outgoing import Outgoing, TaskRecorder
from ipyasyncresult.engine.running import Running
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.buffers import BufferList, Buffers
from ipyasyncresult.wire.sockets import make_poll
from ipyasyncresult.wire.transport import connect_to_hub
from ipyasyncresult.wire.versions import python_version
from ipyasyncresult.worker.capture import Capture
from ipyasyncresult.worker.pickling import limit_results
from ipyasyncresult.worker.recorder import Recorder
from ipyasyncresult.worker.runner import Outcome, Runner
from ipyasyncresult.worker.shell import EngineShell

__all__ = ["EngineLoop", "EngineSettings", "run_engine"]

_PUMP_INTERVAL = 0.02
"""Seconds between two looks of the pump at a running task."""
_IDLE_LOOK = 1000
"""Milliseconds between two looks of an idle engine at what background processes printed."""

_LOST_LOOK = 20
"""Milliseconds between two looks whether there is another hub."""

_OWN_THREADS = 2  # the main thread and the pump


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What every engine of a cluster starts with.

    Attributes
    ----------
    folder : str
        The cluster's, where it says how the hub is reached.
    import_path : list of str
        ``sys.path`` of the client, so that what it can import can be imported here.
    output_limit : int
        Characters of stream text kept per task.
    arrays : str
        Folder of the cluster's shared memory; empty: there is none.
    result_limit : int
        Bytes of a result; above, its task fails.
    keep : bool
        Keep what was sent until the hub says that it is stored.
    """

    folder: str
    import_path: list[str] = field(default_factory=list)
    output_limit: int = 1_000_000
    arrays: str = ""
    result_limit: int = 1 << 31
    keep: bool = False


def run_engine(
    settings: EngineSettings, engine_id: int, uuid: str, page: mmap, files: tuple[int, int]
) -> None:
    """Be an engine until the hub says stop.  The main thread of a process of its own."""
    sys.path[:] = settings.import_path or sys.path
    capture = Capture(*files)
    capture.install()
    faulthandler.enable(2)  # the nursery reads there what a crash was about
    limit_results(settings.result_limit)
    runner = Runner(capture, EngineShell.instance())
    loop = EngineLoop(settings, runner, capture, page)
    loop.running.install()
    loop.run(engine_id, uuid)


class EngineLoop:
    """The engine's socket, its queue and its two threads.

    Parameters
    ----------
    settings : EngineSettings
    runner : Runner
    capture : Capture
    page : mmap
        Shared with the parent (see ``engine/page.py``): what runs here, and how many tasks were
        begun, which after a death tells which of the tasks sent here had run.
    """

    def __init__(
        self, settings: EngineSettings, runner: Runner, capture: Capture, page: mmap
    ) -> None:
        self._settings = settings
        self._runner = runner
        self._capture = capture
        self.running = Running(page, runner)
        self._turn = threading.Lock()
        # Everything below is touched only by who holds the turn.
        self._queue: deque[tuple[m.Task, bytes, Iterable[Any]]] = deque()
        self._current: m.Task | None = None
        self._recorder: TaskRecorder | None = None
        self._began = 0.0  # epoch seconds of the current task
        self._began_monotonic = 0.0
        self._announced = False
        self._kernel = Console()
        self._stopping = False
        self.dropped = 0  # malformed messages
        self._pid = os.getpid()

    def run(self, engine_id: int, uuid: str) -> None:
        """Serve until told to stop."""
        self._line = connect_to_hub(Path(self._settings.folder), "engines", uuid.encode())
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._out = Outgoing(self._line, self._wake, keep=self._settings.keep)
        folder = Path(self._settings.arrays) if self._settings.arrays else None
        self._arrays = Buffers(folder, uuid, self._out.note_released, self._take_in)
        self._note_sources()
        self._capture.on_late = self._out.note_late
        self._turn.acquire()
        self._hello = m.Register(
            engine_id, uuid, self._pid, m.PROTOCOL, __version__, python_version()
        )
        self._line.send(m.encode(self._hello))
        threading.Thread(target=self._pump_forever, name="engine-pump", daemon=True).start()
        while not self._stopping:
            if self._queue:
                self._run_next()
                if self._queue:
                    self._out.flush_if_due()
            else:
                self._out.flush(wait=True)
                self._wait()
        self._out.flush(wait=True)
        self._arrays.close()
        self._line.close(linger=200)

    # -- the main thread -------------------------------------------------------------------------

    def _wait(self) -> None:
        ready = self._poll(_LOST_LOOK if self._line.lost else _IDLE_LOOK)
        if len(ready) == 1 and ready[0][0] == self._line.handle:
            self._take_in()  # a task: what was printed before it is fetched as it begins
            return
        if ready and ready[-1][0] == self._wake:
            os.eventfd_read(self._wake)
        self._out.take_late()
        self._capture.drain()
        self._take_in()

    def _run_next(self) -> None:
        task, function, buffers = self._queue.popleft()
        if task.timeout:
            self._out.flush(wait=True)  # it may end with this engine: finished work must not
        self._current = task
        self._announced = False
        self._began = time.time()
        self._began_monotonic = time.monotonic()  # the other one may jump
        self.running.begin(task.msg_id, task.timeout)
        recorder = self._recorder = TaskRecorder.limited(self._settings.output_limit)
        recorder.msg_id = task.msg_id
        self._turn.release()
        try:
            outcome = self._execute(task, function, buffers, recorder)
        finally:
            if os.getpid() != self._pid:
                # A task forked, and its child must not speak for this engine.  Nor may it ask for
                # the turn: the pump, which is not in the child, may have had it.
                os._exit(0)
            self._turn.acquire()
        self.running.end()
        self._current = None
        self._out.take_outputs(recorder)
        self._add_outcome(task, outcome)

    def _execute(
        self, task: m.Task, function: bytes, buffers: Iterable[Any], recorder: Recorder
    ) -> Outcome:
        runner, limit = self._runner, self.running.limit
        if task.kind == m.CALL:
            return runner.run_call(
                function, task.arguments, buffers, recorder=recorder, limit=limit
            )
        if task.kind == m.CELL:
            return runner.run_cell(
                function.decode(errors="replace"),
                silent=bool(task.options & m.SILENT),
                store_history=not task.options & m.NO_HISTORY,
                typed=task.arguments,
                recorder=recorder,
                limit=limit,
            )
        star = task.kind == m.STAR_CHUNK
        return runner.run_chunk(
            function, task.arguments, buffers, star=star, recorder=recorder, limit=limit
        )

    def _add_outcome(self, task: m.Task, outcome: Outcome) -> None:
        status = (m.PARTIAL if outcome.failed_items else m.OK) if outcome.ok else m.ERROR
        frames = self._arrays.pack(outcome.buffers) if outcome.buffers else ()
        self._out.add_end(
            m.Finished(
                task.msg_id,
                status,
                outcome.body,
                len(frames),
                outcome.started,
                outcome.completed,
                outcome.duration,
                failed_items=outcome.failed_items if outcome.ok else task.items,
                lingers=self._capture.threads
                and threading.active_count() > _OWN_THREADS + self._kernel.threads,
            ),
            frames,
        )

    # -- the pump --------------------------------------------------------------------------------

    def _pump_forever(self) -> None:
        while True:
            if self._line.unsent:  # a large result leaves while the next task runs
                self._line.wait_for_room(int(_PUMP_INTERVAL * 1000))
            else:
                time.sleep(_PUMP_INTERVAL)
            with self._turn:
                if self._stopping:
                    return
                self._pump()

    def _pump(self) -> None:
        self.running.look_at_clock()
        task = self._current
        if task is not None and time.monotonic() - self._began_monotonic >= _PUMP_INTERVAL:
            self._capture.drain()
            if self._recorder is not None:
                self._out.take_outputs(self._recorder)
            if not self._announced:
                self._announced = True
                self._out.add(m.Started(task.msg_id, -1, self._began))
        self._out.take_late()
        self._take_in()
        self._out.flush()

    # -- what both do, with the turn -------------------------------------------------------------

    def _take_in(self) -> None:
        """Take in the messages that are there."""
        line = self._line
        if line.lost:
            if not line.connect():
                return
            self._note_sources()
        for header, frames in line.take():
            try:
                message = m.decode_to_engine(header)
                if isinstance(message, m.Run):
                    self._enqueue(message, frames)
                elif isinstance(message, m.Recall):
                    self._give_back(message.msg_ids)
                elif isinstance(message, m.Stored):
                    self._out.unsaved.stored(message.number)
                elif isinstance(message, m.Introduce):
                    self._register_again()
                elif isinstance(message, m.Segments):
                    self._arrays.heed(message)
                elif isinstance(message, m.BindKernel):
                    self._kernel.bind(message, self._out.note_reply)
                else:
                    self._stopping = True
            except (*m.MALFORMED, IndexError):
                self.dropped += 1

        if line.lost:
            self._note_sources()

    def _note_sources(self) -> None:
        known = [self._wake] if self._line.lost else [self._line.handle, self._wake]
        self._poll = make_poll(known)

    def _register_again(self) -> None:
        """Another hub took the place of the one that died."""
        running = [] if self._current is None else [self._current.msg_id]
        held = [*running, *(task.msg_id for task, _, _ in self._queue)]
        self._out.send_again(self._hello, held)

    def _enqueue(self, message: m.Run, frames: Sequence[Any]) -> None:
        functions = message.functions
        position = 0
        entries: list[tuple[m.Task, bytes, Iterable[Any]]] = []
        for task in message.tasks:
            buffers: Iterable[Any] = ()
            if task.frames:
                mine = frames[position : position + task.frames]
                buffers = BufferList(self._arrays.unpack(mine))
                position += task.frames
            entries.append((task, functions[task.function], buffers))
        self._queue += entries  # all of a message or nothing

    def _give_back(self, msg_ids: list[str] | None) -> None:
        wanted = None if msg_ids is None else set(msg_ids)
        given: list[str] = []
        kept = deque[tuple[m.Task, bytes, Iterable[Any]]]()
        for entry in self._queue:
            if wanted is None or entry[0].msg_id in wanted:
                given.append(entry[0].msg_id)
            else:
                kept.append(entry)
        self._queue = kept
        left = [] if wanted is None else [i for i in msg_ids or () if i not in set(given)]
        self._out.add(m.Returned(given, left))
        # At once: should it die under a later task, the hub must not blame what it gave back.
        self._out.flush()
