"""``IpyparallelClient``: the engines of an ipyparallel cluster."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

from ipyasyncresult.backends.client import BackendClient
from ipyasyncresult.backends.ipyparallel import CAPABILITIES
from ipyasyncresult.backends.ipyparallel.flights import Flight, TakesReplies
from ipyasyncresult.backends.ipyparallel.heartbeat import ControllerWatch, endpoint
from ipyasyncresult.backends.ipyparallel.sidethread import SideThread
from ipyasyncresult.backends.recall import Entry
from ipyasyncresult.client.anyclient import ids_of
from ipyasyncresult.client.targets import Targets, resolve_targets
from ipyasyncresult.core.arguments import check_count
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.task import Status
from ipyasyncresult.core.waiting import check_timeout
from ipyasyncresult.errors import HubError, TimeoutError
from ipyasyncresult.wire import messages as m
from ipyasyncresult.worker.native import pack_native, run_native

__all__ = ["IpyparallelClient"]

_LOOK = 0.5  # seconds between two looks at the controller, while something is outstanding
_ANSWER = 5.0  # seconds that an engine's control channel gets to answer
_LATE_OUTPUTS = 5.0  # seconds after a reply in which the rest of the outputs must come
_BUSY_LAG = 0.03  # seconds that "busy" may be behind the task, and an answer of the control channel


class IpyparallelClient(TakesReplies):
    """Tasks through an ``ipyparallel.Client``.

    Attributes
    ----------
    ipyparallel : ipyparallel.Client
    """

    _ends_single_engines = True

    def __init__(self, client: Any, *, owns: bool) -> None:
        from ipyparallel.serialize import PrePickled

        BackendClient.__init__(self, CAPABILITIES, "ipyparallel", callbacks_due=self._callbacks_due)
        super().__init__(client)
        self._owns = owns
        self._runner: Any = PrePickled(run_native)
        self._controller = ControllerWatch(endpoint(client))
        self._side = SideThread(
            self.ledger.run_callbacks, self._look, _LOOK, "ipyasyncresult-ipyparallel"
        )
        self._side.start()

    # -- engines ---------------------------------------------------------------------------------

    @property
    def ids(self) -> list[int]:
        return sorted(self.ipyparallel.ids)

    def __len__(self) -> int:
        return len(self.ipyparallel._ids)

    def engine_count(self) -> int:
        return len(self)

    @property
    def engines(self) -> dict[int, dict[str, Any]]:
        """What is known of each engine."""
        known = self.ipyparallel._engines
        return {engine_id: {"uuid": known.get(engine_id)} for engine_id in self.ids}

    def wait_for_engines(
        self, n: int | None = None, *, timeout: float | None = -1, block: bool = True
    ) -> None:
        """Wait until `n` engines are there; TimeoutError when they are not in time."""
        del block
        seconds = check_timeout(timeout)
        wanted = 1 if n is None else check_count(n, "n", what="a number of engines")
        try:
            self.ipyparallel.wait_for_engines(
                wanted, timeout=-1 if seconds is None else seconds, interactive=False
            )
        except Exception as error:
            raise TimeoutError(f"{len(self)} of {wanted} engines are up: {error}") from error

    # -- submitting ------------------------------------------------------------------------------

    def _send(self, entries: list[Entry]) -> None:
        sent: list[Entry] = []
        try:
            for entry in entries:
                self._send_one(entry)
                sent.append(entry)
        except BaseException:
            self._forget(sent)
            raise

    def _send_one(self, entry: Entry) -> None:
        client, task = self.ipyparallel, entry.task
        addressed = task.target >= 0

        def note(future: Any) -> None:
            # Before it is sent: the id is ipyparallel's, and no output may be missed.
            msg_id = entry.record.msg_id = future.msg_id
            flight = self._flights[msg_id] = Flight(self, msg_id, task.kind == m.CELL)
            self._last[addressed] = msg_id
            self._enter([entry])
            future.iopub_callbacks.append(flight.take_iopub)
            future.add_done_callback(flight.take_reply)
            # Not as a message: when it comes last, ipyparallel forgets the callbacks first.
            future.output.add_done_callback(flight.take_idle)

        options: dict[str, Any] = {
            "metadata": _metadata(entry, retries=task.retries),
            "message_future_hook": note,
        }
        if addressed:
            options["ident"] = client._engines[task.target].encode()
        if task.kind == m.CELL:
            silent = bool(task.options & m.SILENT)
            code = entry.function.decode()
            client.send_execute_request(client._mux_stream, code, silent=silent, **options)
            return
        work = pack_native(task.kind, entry.function, task.arguments)
        stream = client._mux_stream if addressed else client._task_stream
        client.send_apply_request(stream, self._runner, (work, *entry.buffers), **options)

    def _callbacks_due(self) -> None:
        if threading.current_thread() is self.ipyparallel._io_thread:
            self._side.wake()
        else:
            self.ledger.run_callbacks()

    def _look(self) -> None:
        """ipyparallel does not tell of a dead controller, nor of outputs that never come."""
        if self.ipyparallel._closed:
            self._end("the ipyparallel client was closed")
            return
        if not self.ledger.has_outstanding():
            self._controller.forget()
            return
        if self._controller.is_dead():
            self._end("the ipyparallel controller does not answer: it is dead")
            return
        now = time.monotonic()
        for flight in list(self._flights.values()):
            if flight.replied and now - flight.replied > _LATE_OUTPUTS:
                flight.take_idle(None)
        self._ask_for_results()

    # -- control -----------------------------------------------------------------------------------

    def _abort(self, msg_ids: list[str]) -> None:
        self._control(lambda: self.ipyparallel.abort(msg_ids, targets="all", block=False))
        threading.Event().wait(_BUSY_LAG)  # what had begun says so by now
        # Of tasks of other sessions, their hub knows what became of them.
        ours = [self._entries[i].record for i in msg_ids if i in self._entries]
        self._take_back([record.msg_id for record in ours if record.status is Status.PENDING])

    def _control(self, ask: Any) -> None:
        """Ask engines, and wait for their answers for a bounded time."""
        try:
            future = ask()
        except Exception as error:
            if len(self) == 0:
                return  # nobody runs anything
            raise HubError(f"ipyparallel does not take requests: {error}") from error
        answered = threading.Event()
        future.add_done_callback(lambda _: answered.set())
        answered.wait(_ANSWER)

    def interrupt(
        self,
        msg_ids: AsyncResult | str | Sequence[str] | None = None,
        sig: int | str = signal.SIGINT,
    ) -> dict[str, str]:
        """Signal the engines that run these tasks; says per task what happened."""
        ids = list(self.outstanding) if msg_ids is None else ids_of(msg_ids)
        if any(self._entries[i].record.status is Status.PENDING for i in ids if i in self._entries):
            threading.Event().wait(_BUSY_LAG)  # what has begun says so by now
        fate, engines = {}, set()
        for msg_id in ids:
            entry = self._entries.get(msg_id)
            if entry is None:
                fate[msg_id] = "finished" if msg_id in self._known else "unknown"
            elif entry.record.status is Status.RUNNING and entry.record.engine_id is not None:
                fate[msg_id] = "interrupting"
                engines.add(entry.record.engine_id)
            else:
                fate[msg_id] = "queued"
        if engines:
            self.send_signal(sig, sorted(engines))
        return fate

    def send_signal(
        self, sig: int | str = signal.SIGINT, targets: Targets = None, block: bool = True
    ) -> dict[str, str]:
        """Send a signal to engine processes; per engine ``'signalled'``."""
        del block
        number = signal.Signals[sig] if isinstance(sig, str) else signal.Signals(sig)
        chosen = self.ids if targets is None else resolve_targets(targets, self.ids)
        self._control(
            lambda: self.ipyparallel.send_signal(int(number), targets=chosen, block=False)
        )
        return {str(engine_id): "signalled" for engine_id in chosen}

    def _shut_down(self, targets: Any, hub: bool, block: bool) -> None:
        del block
        if not self.closed:
            everything = targets == "all"
            self.ipyparallel.shutdown(targets=targets, hub=hub and everything, block=False)

    def _release(self) -> None:
        self._side.stop()
        self._controller.forget()
        self._flights.clear()
        if self._owns and not self.ipyparallel._closed:
            self.ipyparallel.close()


def _metadata(entry: Entry, retries: int) -> dict[str, Any]:
    """What the schedulers read, and the shape of the call, which the hub's database keeps."""
    group = entry.group
    return {
        "after": [],
        "follow": [],
        "timeout": None,
        "targets": [],
        "retries": retries,
        "label": entry.record.label,
        "ipyasyncresult": {
            "items": entry.record.items,
            "kind": entry.task.kind,
            "group": None
            if group is None
            else [group.group_id, group.fname, group.kind, group.partition, group.ordered],
        },
    }
