"""Care for engines: restart them, look inside them."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from ipyasyncresult.client.connection import Connection
from ipyasyncresult.client.targets import Targets, resolve_targets
from ipyasyncresult.core.waiting import check_timeout
from ipyasyncresult.errors import StartError, TimeoutError
from ipyasyncresult.wire import messages as m

__all__ = ["EngineCare", "signal_number", "start_failure"]


class EngineCare:
    """What a client can do about its engines.  Any thread."""

    _connection: Connection
    events: list[m.EngineNews]

    if TYPE_CHECKING:

        @property
        def ids(self) -> list[int]: ...
        @property
        def engines(self) -> dict[int, dict[str, Any]]: ...
        @property
        def closed(self) -> bool: ...

    def restart(
        self, targets: Targets = None, *, block: bool = True, timeout: float | None = 60.0
    ) -> dict[int, str]:
        """End engines, whatever they do, and start new ones under their numbers.

        What they run fails with ``EngineError`` (and is not tried again); what waits goes on.
        Without targets also engines that were given up, as they had died too often, come again.

        Returns
        -------
        dict
            Per engine: ``'restarted'``, or ``'restarting'`` without `block`.

        Raises
        ------
        TimeoutError
            When the new engines are not up within `timeout` seconds.
        StartError
            When they do not start.
        """
        seconds = check_timeout(timeout)
        chosen = None if targets is None else resolve_targets(targets, self.ids)
        before = {about.get("uuid") for about in self.engines.values()}
        seen = len(self.events)
        answer = self._connection.ask("restart", engines=chosen)
        ids = [int(engine_id) for engine_id in answer]
        if not block:
            return dict.fromkeys(ids, "restarting")
        self._await_successors(ids, before, seen, seconds)
        return dict.fromkeys(ids, "restarted")

    def _await_successors(
        self, ids: list[int], before: set[Any], seen: int, seconds: float | None
    ) -> None:
        engines = self._connection.engines

        def is_new(engine_id: int) -> bool:
            about = engines.get(engine_id, {"up": False})
            return bool(about.get("up", True)) and about["uuid"] not in before

        def failed() -> list[m.EngineNews]:
            return [news for news in self.events[seen:] if news.event == "gave_up"]

        def settled() -> bool:
            return all(map(is_new, ids)) or bool(failed()) or self.closed

        if not self._connection.wait(settled, seconds):
            raise TimeoutError(f"the new engines were not up after {seconds:g} s")
        if not all(map(is_new, ids)):
            about = failed()[-1].details if failed() else {"reason": self._connection.closed}
            raise StartError(start_failure(about))


def signal_number(sig: int | str) -> signal.Signals:
    """A signal by number or name.

    Raises
    ------
    ValueError
        When there is none such.
    """
    try:
        return signal.Signals[sig] if isinstance(sig, str) else signal.Signals(sig)
    except (KeyError, ValueError):
        raise ValueError(
            f"sig must be a signal, as 'SIGINT', 'SIGTERM' or 'SIGKILL', not {sig!r}"
        ) from None


def start_failure(about: dict[str, Any]) -> str:
    """Why engines do not start."""
    return f"{about.get('reason')}; the last one printed:\n{about.get('stderr', '')}".rstrip()
