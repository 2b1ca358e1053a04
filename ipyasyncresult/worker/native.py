"""Tasks in an engine that captures outputs by itself: ipyparallel's."""

from __future__ import annotations

import pickle
import sys
from typing import Any

from ipyasyncresult.worker.capture import Capture
from ipyasyncresult.worker.guest import CALL, STAR_CHUNK
from ipyasyncresult.worker.namespace import use_namespace
from ipyasyncresult.worker.recorder import Recorder
from ipyasyncresult.worker.runner import Runner

__all__ = ["pack_native", "run_native"]


class _NoCapture(Capture):
    """The engine's streams stay as they are."""

    def begin(self, recorder: Recorder) -> Any:
        return None

    def end(self, recorder: Recorder, token: Any) -> None:
        """Nothing was begun."""


_nothing = Recorder()
"""It is never written to."""

_runner: Runner | None = None


def _find_runner() -> Runner:
    global _runner
    if _runner is None:
        from IPython.core.getipython import get_ipython

        _runner = Runner(_NoCapture(redirect_fds=False))
        shell: Any = get_ipython()
        if shell is not None:
            use_namespace(shell.user_ns, lambda: shell.reset(new_session=False))
    return _runner


def pack_native(kind: int, function: bytes, arguments: bytes) -> bytes:
    """A task for :data:`run_native`, whose buffers travel beside it."""
    return pickle.dumps((kind, function, arguments), 5)


class _RunNative:
    """A function that travels by its name: ipyparallel sends the code of functions.

    It returns the pickled (ok, body, started, duration, failed_items), and with them the large
    buffers where there are some: nothing costs ipyparallel less than bytes alone.
    """

    def __call__(self, data: bytes, *buffers: Any) -> bytes | tuple[bytes, list[bytes]]:
        kind, function, arguments = pickle.loads(data)
        runner = _find_runner()
        if kind == CALL:
            outcome = runner.run_call(function, arguments, buffers, recorder=_nothing)
        else:
            star = kind == STAR_CHUNK
            outcome = runner.run_chunk(function, arguments, buffers, star=star, recorder=_nothing)
        _flush_figures()
        said = pickle.dumps(
            (
                outcome.ok,
                outcome.body,
                outcome.started,
                outcome.duration,
                outcome.failed_items,
            ),
            5,
        )
        return (said, [bytes(buffer) for buffer in outcome.buffers]) if outcome.buffers else said

    def __reduce__(self) -> str:
        return "run_native"


run_native = _RunNative()


def _flush_figures() -> None:
    """Show what the task drew, as the end of a cell does."""
    backend = sys.modules.get("matplotlib_inline.backend_inline")
    if backend is not None:
        backend.flush_figures()
