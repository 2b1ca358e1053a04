"""Engines from the hub's side: started, watched, replaced, signalled."""

from __future__ import annotations

import logging
import math
import secrets
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ipyasyncresult.hub.handover import engine_back
from ipyasyncresult.hub.nanny import Nanny
from ipyasyncresult.hub.records import RESTART, EngineState
from ipyasyncresult.hub.settings import HubSettings
from ipyasyncresult.hub.signalling import Signaller
from ipyasyncresult.hub.state import HubState
from ipyasyncresult.wire.messages import Answer, EngineNews, Register
from ipyasyncresult.wire.versions import refusal

__all__ = ["EngineKeeper"]

_log = logging.getLogger(__name__)

_GRACE = 0.03
"""Seconds between an engine's death and the verdict: results that it sent may be under way."""


class EngineKeeper:
    """Keeps as many engines as were asked for.  The hub's thread only.

    A dead engine is replaced at once; when too many died within a short time no more are started
    and what waits for them fails, so that no result waits for ever.
    """

    def __init__(
        self,
        state: HubState,
        settings: HubSettings,
        nanny: Nanny,
        tell: Callable[[EngineNews], None],
    ) -> None:
        self._state = state
        self._settings = settings
        self._tell = tell
        self.by_identity: dict[bytes, EngineState] = {}  # every engine that may still speak
        self.gave_up = ""  # why no more engines are started
        self.nanny = nanny
        self.signaller = Signaller(state, self)
        self._by_uuid: dict[str, EngineState] = {}
        self.verdicts: deque[tuple[float, EngineState, dict[str, Any]]] = deque()
        self._deaths: deque[float] = deque()
        self._wanted = settings.engines
        self._closing = False

    def start(self) -> None:
        """Start the engines."""
        adopted = bool(self._state.engines)
        for engine_id in range(self._wanted):
            if engine_id not in self._state.engines:
                self._fork(engine_id, replaced=adopted)

    def adopt(self, engine: EngineState) -> None:
        """An engine that the last hub started; it registers again."""
        self._wanted = max(self._wanted, engine.engine_id + 1)
        self.by_identity[engine.identity] = engine
        self._by_uuid[engine.uuid] = engine
        self._state.engines[engine.engine_id] = engine

    def add(self, count: int) -> list[int]:
        """Start more engines; their ids."""
        added = list(range(self._wanted, self._wanted + count))
        self._wanted += count
        for engine_id in added:
            self._fork(engine_id)
        return added

    def _fork(self, engine_id: int, *, replaced: bool = False) -> None:
        if not self.nanny.alive:
            self.nanny = Nanny(self._settings.engine_settings, self.nanny.successor)
        engine = EngineState(engine_id, secrets.token_hex(8), time.time())
        if replaced:  # clients know it by number
            self._state.replaced[engine_id] = engine
        self.by_identity[engine.identity] = engine
        self._by_uuid[engine.uuid] = engine
        self.nanny.fork(engine_id, engine.uuid)

    def registered(self, engine: EngineState, message: Register) -> None:
        """An engine speaks for the first time."""
        if message.engine_uuid != engine.uuid or engine.ready:
            _log.warning("refused a second registration as engine %s", engine.engine_id)
            return
        engine.pid = message.pid
        reason = refusal(message, force=self._settings.force_versions)
        if reason is not None:
            _log.error("engine %s does not fit: %s", engine.engine_id, reason)
            self.nanny.signal(engine.uuid, signal.SIGKILL, group=True)
            return
        if message.again:
            engine_back(self._state, engine, message, known=self._settings.durable)
            engine.ready = True
            self._state.scheduler.engine_ready(engine)
        else:
            self._state.engine_ready(engine)
        self._state.replaced.pop(engine.engine_id, None)
        self._tell(EngineNews(engine.engine_id, "ready", engine.describe()))

    # -- what the nursery says -------------------------------------------------------------------

    def take_notices(self, now: float) -> None:
        """Read what the nursery says."""
        for notice in self.nanny.read():
            event = notice["event"]
            if event == "gone":
                self._nursery_gone(notice["stderr"], now)
                return
            if event == "signalled":
                self.signaller.answered(notice)
                continue
            engine = self._by_uuid.get(notice["uuid"])
            if engine is None:
                continue
            if event == "forked":
                engine.pid = notice["pid"]
            elif event == "exited":
                self.verdicts.append((now + _GRACE, engine, notice))
            elif event in ("stopped", "continued"):
                engine.stopped = event == "stopped"
                self._tell(EngineNews(engine.engine_id, event, engine.describe()))

    def next_event(self) -> float:
        """When :meth:`settle` has something to do; monotonic seconds."""
        verdict = self.verdicts[0][0] if self.verdicts else math.inf
        return min(verdict, self.signaller.next_event())

    def settle(self, now: float) -> None:
        """Give the verdict on engines that died a moment ago, and replace them; signal others."""
        self.signaller.settle(now)
        while self.verdicts and self.verdicts[0][0] <= now:
            _, engine, notice = self.verdicts.popleft()
            self._buried(engine, notice, now)

    def _buried(self, engine: EngineState, notice: dict[str, Any], now: float) -> None:
        self.by_identity.pop(engine.identity, None)
        self._by_uuid.pop(engine.uuid, None)
        self.signaller.leaving.pop(engine.uuid, None)
        was_ready = engine.ready
        details = {
            "pid": engine.pid,
            "uuid": engine.uuid,
            "exit_code": notice.get("exit_code"),
            "signal": notice.get("signal"),
            "stderr": notice.get("stderr", ""),
            "before_ready": not was_ready,
            "host": socket.gethostname(),
        }
        if notice.get("oom"):
            details["oom"] = True
        if notice.get("overdue"):
            details["overdue"] = True
        elif engine.ending == RESTART:
            details["on_request"] = "restarted on request"
        elif engine.ending and engine.ending == details["signal"]:
            details["on_request"] = f"{engine.ending} was sent on request"
        _log.info("engine %s died: %s", engine.engine_id, details)
        self._state.engine_lost(engine, notice.get("begun", 0), details)
        for session, request in engine.asked:
            error = {"error": f"engine {engine.engine_id} died before it answered"}
            self._state.answers.append((session, Answer(request, error)))
        self._replace(engine, details, now)

    def _replace(self, engine: EngineState, details: dict[str, Any], now: float) -> None:
        if "overdue" not in details and "on_request" not in details:
            self._deaths.append(now)
        while self._deaths and self._deaths[0] < now - self._settings.restart_window:
            self._deaths.popleft()
        # An engine that was killed or crashed in a task is one thing, engines that do not even
        # start are another: these would die for ever.
        limit = self._settings.restart_limit * (1 if details["before_ready"] else self._wanted)
        if len(self._deaths) <= limit and not self.gave_up:
            self._fork(engine.engine_id, replaced=True)
            self._tell(EngineNews(engine.engine_id, "replaced", details))
            return
        self.gave_up = (
            f"{len(self._deaths)} engines died within {self._settings.restart_window:g} s: "
            "no more are started"
        )
        self._state.replaced.pop(engine.engine_id, None)
        self._tell(EngineNews(engine.engine_id, "gave_up", {**details, "reason": self.gave_up}))
        self.fail_waiting(engine.engine_id, details)

    def fail_waiting(self, lost: int | None = None, details: dict[str, Any] | None = None) -> None:
        """Fail what no engine is left to run, and what waits for the engine `lost`."""
        about = {**(details or {}), "reason": self.gave_up}
        gone = [target for target in self._state.direct if target not in self._state.engines]
        self._state.fail_queued(gone if lost is None else [*gone, lost], about)
        if not self._state.engines:
            self._state.fail_queued(None, about)

    def _nursery_gone(self, printed: str, now: float) -> None:
        """The nursery died, and its engines with it.  Another one is started with the first engine
        that takes a dead one's place: where none does, it would die for ever, too."""
        text = f"the process that watches engines died\n{printed}".rstrip()
        _log.error("%s", text)
        details = {"signal": "SIGKILL", "stderr": text}
        for engine in list(self._by_uuid.values()):
            self.verdicts.append((now + _GRACE, engine, {**details, "begun": 1 << 62}))
        self.signaller.nursery_gone()

    # -- on request ------------------------------------------------------------------------------

    def restart(self, engine_ids: list[int] | None) -> dict[str, str]:
        """End these engines (None: all) and start new ones in their places.

        Engines that were given up after many deaths are started again, too.
        """
        outcome: dict[str, str] = {}
        running = {engine.engine_id: engine for engine in self._by_uuid.values()}
        for engine_id in range(self._wanted) if engine_ids is None else engine_ids:
            engine = running.get(engine_id)
            if engine is not None:
                engine.ending = RESTART
                self.signaller.end(engine)
            elif 0 <= engine_id < self._wanted:
                self.gave_up = ""
                self._deaths.clear()
                self._fork(engine_id)
            known = 0 <= engine_id < self._wanted
            outcome[str(engine_id)] = "restarting" if known else "no such engine"
        return outcome

    def close(self) -> None:
        """End all engines; waits at most a few seconds."""
        self._closing = True
        self.nanny.close()
