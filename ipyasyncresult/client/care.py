"""Care for engines: restart them, look inside them."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ipyasyncresult.client.connection import Connection
from ipyasyncresult.client.targets import Targets, is_one, resolve_targets
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

        Parameters
        ----------
        targets : int, list of int, slice or 'all', optional
            Engines; by default all.
        block : bool
            Wait until the new ones are up.
        timeout : float or None
            Seconds to wait for them.

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

    def bind_kernel(self, targets: Targets = None, *, timeout: float | None = 60.0) -> Any:
        """Turn engines into Jupyter kernels, too, so that one can look inside.

        ``jupyter console --existing FILE`` then works in the engine's namespace, also while a task
        runs: the kernel has a thread of its own.  Only this user can connect.

        Parameters
        ----------
        targets : int, list of int, ...
            By default all engines.
        timeout : float, optional
            Seconds.

        Returns
        -------
        str or list of str
            The connection file of the engine, or of each.

        Raises
        ------
        RuntimeError
            When an engine cannot be a kernel; says why.
        TimeoutError
            When an engine has not answered in time: C code that it runs may hold the interpreter.
        """
        seconds = check_timeout(timeout)
        chosen = resolve_targets(targets, self.ids)
        with ThreadPoolExecutor(max(1, len(chosen)), "ipyasyncresult-bind") as pool:
            files = list(pool.map(lambda engine_id: self._bind(engine_id, seconds), chosen))
        return files[0] if is_one(targets) else files

    def _bind(self, engine_id: int, seconds: float | None) -> str:
        try:
            file: str = self._connection.ask("bind_kernel", seconds, engine=engine_id)
        except ValueError as error:
            raise RuntimeError(f"engine {engine_id}: {error}") from None
        return file

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
