"""Turns an engine into a Jupyter kernel on demand; ipykernel is imported only then."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from ipyasyncresult.wire.messages import BindKernel, EngineReply
from ipyasyncresult.worker.shell import EngineShell

__all__ = ["Console"]


class Console:
    """The kernel of this engine, if it has one.

    Attributes
    ----------
    threads : int
        How many threads it has.
    """

    def __init__(self) -> None:
        self.threads = 0
        self._lock = threading.Lock()  # guards everything below
        self._file = ""  # of the kernel that serves
        self._waiting: list[Callable[[object], None]] | None = None  # while one starts

    def bind(self, wish: BindKernel, reply: Callable[[EngineReply], None]) -> None:
        """Start the kernel, or tell where it is; answered from another thread, as it takes a while.

        Whoever receives messages.
        """

        def answer(content: object) -> None:
            reply(EngineReply(wish.session, wish.request, content))

        with self._lock:
            if self._file:
                answer(self._file)
                return
            if self._waiting is not None:
                self._waiting.append(answer)
                return
            self._waiting = [answer]
        threading.Thread(
            target=self._serve, args=(wish,), name="engine-kernel", daemon=True
        ).start()

    def _serve(self, wish: BindKernel) -> None:
        before = threading.active_count() - 1
        try:
            from ipyasyncresult.engine.console import serve_kernel

            def ready() -> None:
                self.threads = threading.active_count() - before
                self._settle(wish.file, wish.file)

            serve_kernel(Path(wish.file), Path(wish.sockets), EngineShell.instance(), ready)
        except BaseException:  # noqa: BLE001  whoever asked wants to know
            self._settle("", {"error": f"no kernel could be started:\n{traceback.format_exc()}"})
        finally:
            self.threads = 0
            with self._lock:
                self._file = ""

    def _settle(self, file: str, content: object) -> None:
        with self._lock:
            self._file = file
            waiting, self._waiting = self._waiting, None
        for answer in waiting or ():
            answer(content)
